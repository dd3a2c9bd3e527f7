//! containerd dies, or the machine under it: what its disk says afterwards. Sandboxes whose record
//! holds a namespace come back as not ready; plugins outlive containerd (`KillMode=process`), not
//! the machine. Source: containerd v1.7.2 `containerd.service:28`,
//! `pkg/cri/server/restart.go:392-433`.

use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::event::NodeEvent;
use crate::node::cri::{ContainerState, CriError};
use crate::node::desk::{Desk, Next, Signal, node_side};

use super::Runtime;
use super::call::{CriCall, CriKind, CriStep};
use super::store::{Sandbox, SandboxState};

impl Runtime {
    /// containerd dies, for a while or for the drawn time of a restart: calls fail, plugins become
    /// orphans, unfinished sandboxes stay on disk.
    /// `false`: it is down already.
    pub(crate) fn stop(
        &mut self,
        down: Option<Duration>,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) -> bool {
        if !self.up {
            return false;
        }
        self.set_runtime_up(false, desk, context);
        self.life += 1;
        let calls = std::mem::take(&mut self.calls);
        let mut callers = Vec::new();
        for (_, call) in calls {
            if let Some(process) = call.process {
                desk.follow(Next::Orphan(process));
            }
            callers.extend(call.caller);
            self.keep_record(&call, desk, context);
        }
        let span = node_side(context).containerd.restart;
        let delay = down.unwrap_or_else(|| desk.stream.duration(span.min..=span.max));
        desk.later(delay, NodeEvent::RuntimeStart { life: self.life }, context);
        for caller in callers {
            desk.resume(caller, Signal::Cri(Err(CriError("runtime unavailable"))));
        }
        true
    }

    /// containerd answers again.
    pub(crate) fn started(&mut self, life: u32, desk: &mut Desk, context: &mut Context<'_>) {
        if life == self.life && context.core.machine(desk.index).up {
            self.set_runtime_up(true, desk, context);
        }
    }

    fn set_runtime_up(&mut self, up: bool, desk: &Desk, context: &mut Context<'_>) {
        self.up = up;
        context.core.change(desk.index).set_runtime_up(up);
    }

    /// The machine lost power: what was in flight is gone but for its record.
    pub(crate) fn lose_power(&mut self, desk: &mut Desk, context: &mut Context<'_>) {
        self.set_runtime_up(false, desk, context);
        self.life += 1;
        for (_, call) in std::mem::take(&mut self.calls) {
            self.keep_record(&call, desk, context);
        }
        let containers: Vec<_> = self.sandboxes.keys().copied().collect();
        for container in containers {
            self.sandbox_stopped(container, desk, context);
            // /run is memory: the namespace's file is gone, and DEL gets an empty path.
            if let Some(sandbox) = self.sandboxes.get_mut(&container) {
                sandbox.netns = None;
                sandbox.addresses.clear();
            }
            let mut change = context.core.change(desk.index);
            change.sandbox_without_netns(container);
        }
    }

    /// containerd starts after boot: names are those of the sandboxes on disk.
    pub(crate) fn recover(&mut self, desk: &Desk, context: &mut Context<'_>) {
        self.set_runtime_up(true, desk, context);
        self.names.clear();
        for (container, sandbox) in &self.sandboxes {
            let reserved = self
                .names
                .reserve(sandbox.pod.uid, sandbox.attempt, *container);
            assert!(reserved.is_ok(), "two records on disk never share a name");
        }
    }

    /// A RunPodSandbox that died after it had recorded its namespace leaves a sandbox behind.
    fn keep_record(&mut self, call: &CriCall, desk: &mut Desk, context: &mut Context<'_>) {
        if call.kind != CriKind::Run {
            return;
        }
        let recorded = call.netns.is_some() && call.step != CriStep::RecordNetns;
        if !recorded {
            if let Some(netns) = call.netns {
                context.core.change(desk.index).remove_netns(netns);
            }
            self.names
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
        self.list_sandbox(call.container, sandbox, desk, context);
    }
}
