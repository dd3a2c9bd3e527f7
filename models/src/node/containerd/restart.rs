//! containerd dies, or the machine under it: what its disk says afterwards. Sandboxes whose record
//! holds a namespace come back as not ready; plugins outlive containerd (`KillMode=process`), not
//! the machine. Source: containerd v1.7.2 `containerd.service:28`, `pkg/cri/server/restart.go:392-433`.

use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::event::NodeEvent;
use crate::node::{Node, Signal};

use super::{ContainerState, CriCall, CriError, CriKind, CriStep, Sandbox, SandboxState};

impl Node {
    /// containerd dies, for a while or for the drawn time of a restart: calls fail, plugins become
    /// orphans, unfinished sandboxes stay on disk.
    pub(crate) fn runtime_stop(&mut self, down: Option<Duration>, context: &mut Context<'_>) {
        self.set_runtime_up(false, context);
        self.runtime.life += 1;
        let calls = std::mem::take(&mut self.runtime.calls);
        let mut callers = Vec::new();
        for (_, call) in calls {
            if let Some(process) = call.process {
                self.cni_orphan(process);
            }
            callers.extend(call.caller);
            self.keep_record(&call, context);
        }
        let span = self.node_side(context).containerd.restart;
        let delay = down.unwrap_or_else(|| self.stream.duration(span.min..=span.max));
        self.later(
            delay,
            NodeEvent::RuntimeStart {
                life: self.runtime.life,
            },
            context,
        );
        for caller in callers {
            self.resume(
                caller,
                Signal::Cri(Err(CriError("runtime unavailable"))),
                context,
            );
        }
    }

    /// containerd answers again.
    pub(crate) fn runtime_started(&mut self, life: u32, context: &mut Context<'_>) {
        if life == self.runtime.life && context.core.machine(self.index).up {
            self.set_runtime_up(true, context);
        }
    }

    fn set_runtime_up(&mut self, up: bool, context: &mut Context<'_>) {
        self.runtime.up = up;
        context.core.change(self.index).set_runtime_up(up);
    }

    /// The machine lost power: what was in flight is gone but for its record.
    pub(crate) fn runtime_lose_power(&mut self, context: &mut Context<'_>) {
        self.set_runtime_up(false, context);
        self.runtime.life += 1;
        for (_, call) in std::mem::take(&mut self.runtime.calls) {
            self.keep_record(&call, context);
        }
        let containers: Vec<_> = self.runtime.sandboxes.keys().copied().collect();
        for container in containers {
            self.sandbox_stopped(container, context);
            // /run is memory: the namespace's file is gone, and DEL gets an empty path.
            if let Some(sandbox) = self.runtime.sandboxes.get_mut(&container) {
                sandbox.netns = None;
                sandbox.addresses.clear();
            }
            let mut change = context.core.change(self.index);
            change.sandbox_without_netns(container);
        }
    }

    /// containerd starts after boot: names are those of the sandboxes on disk.
    pub(crate) fn runtime_recover(&mut self, context: &mut Context<'_>) {
        self.set_runtime_up(true, context);
        self.runtime.names.clear();
        for (container, sandbox) in &self.runtime.sandboxes {
            let reserved = self
                .runtime
                .names
                .reserve(sandbox.pod.uid, sandbox.attempt, *container);
            debug_assert!(reserved.is_ok(), "two records on disk never share a name");
        }
    }

    /// A RunPodSandbox that died after it had recorded its namespace leaves a sandbox behind.
    fn keep_record(&mut self, call: &CriCall, context: &mut Context<'_>) {
        if call.kind != CriKind::Run {
            return;
        }
        let recorded = call.netns.is_some() && call.step != CriStep::RecordNetns;
        if !recorded {
            if let Some(netns) = call.netns {
                context.core.change(self.index).remove_netns(netns);
            }
            self.runtime
                .names
                .release(call.pod.uid, call.attempt, call.container);
            return;
        }
        let sandbox = Sandbox {
            pod: Rc::clone(&call.pod),
            attempt: call.attempt,
            state: SandboxState::NotReady,
            netns: call.netns,
            network: true,
            addresses: Vec::new(),
            workload: ContainerState::None,
        };
        self.list_sandbox(call.container, sandbox, context);
    }
}
