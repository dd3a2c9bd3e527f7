//! containerd dies, or the machine under it: what its disk says afterwards. Sandboxes whose record
//! holds a namespace come back as not ready; plugins outlive containerd (`KillMode=process`), not
//! the machine. Source: containerd v1.7.2 `containerd.service:28`,
//! `pkg/cri/server/restart.go:392-433`.

use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::event::NodeEvent;
use crate::node::cri::{CriError, CriVerb};
use crate::node::desk::{Signal, node_side};
use crate::process::Processes;

use super::call::Call;
use super::store::{Sandbox, SandboxState};
use super::{Containerd, Runtime};

impl Runtime {
    /// containerd dies, for a while or for the drawn time of a restart: calls fail, plugins become
    /// orphans, unfinished sandboxes stay on disk.
    /// `false`: it is down already.
    pub(crate) fn stop(
        &mut self,
        down: Option<Duration>,
        processes: &mut Processes,
        context: &mut Context<'_>,
    ) -> bool {
        let own = &self.containerd;
        if !own.is_up() {
            return false;
        }
        own.set_up(false, context);
        self.life += 1;
        let calls = own.calls.take();
        processes.kill_all(calls.values().filter_map(|call| call.script.get()), context);
        for call in calls.values() {
            own.keep_record(call, context);
        }
        let span = node_side(context).containerd.restart;
        let delay = down.unwrap_or_else(|| own.desk.stream().duration(span.min..=span.max));
        let start = NodeEvent::RuntimeStart { life: self.life };
        own.desk.later(delay, start, context);
        for caller in calls.values().filter_map(|call| call.caller.take()) {
            let error = CriError("runtime unavailable");
            own.desk.resume(caller, Signal::Cri(Err(error)));
        }
        true
    }

    /// containerd answers again.
    pub(crate) fn started(&mut self, life: u32, context: &mut Context<'_>) {
        let own = &self.containerd;
        if life == self.life && context.core.machine(own.desk.index).up {
            own.set_up(true, context);
        }
    }

    /// The machine lost power, and every process on it is dead: what was in flight is gone but for
    /// its record.
    pub(crate) fn lose_power(&mut self, context: &mut Context<'_>) {
        let own = &self.containerd;
        own.set_up(false, context);
        self.life += 1;
        for call in own.calls.take().values() {
            own.keep_record(call, context);
        }
        let containers: Vec<_> = own.store.borrow().sandboxes.keys().copied().collect();
        for container in containers {
            own.sandbox_stopped(container, context);
            // /run is memory: the namespace's file is gone, and DEL gets an empty path.
            if let Some(sandbox) = own.store.borrow_mut().sandboxes.get_mut(&container) {
                sandbox.netns = None;
                sandbox.addresses.clear();
            }
            let mut change = context.core.change(own.desk.index);
            change.sandbox_without_netns(container);
        }
    }

    /// containerd starts after boot: names are those of the sandboxes on disk.
    pub(crate) fn recover(&mut self, context: &mut Context<'_>) {
        let own = &self.containerd;
        own.set_up(true, context);
        let mut names = own.names.borrow_mut();
        names.clear();
        for (container, sandbox) in &own.store.borrow().sandboxes {
            let reserved = names.reserve(sandbox.pod.uid, sandbox.attempt, *container);
            assert!(reserved.is_ok(), "two records on disk never share a name");
        }
    }
}

impl Containerd {
    fn set_up(&self, up: bool, context: &mut Context<'_>) {
        self.store.borrow_mut().up = up;
        context.core.change(self.desk.index).set_runtime_up(up);
    }

    /// A RunPodSandbox that died after it had recorded its namespace leaves a sandbox behind.
    fn keep_record(&self, call: &Rc<Call>, context: &mut Context<'_>) {
        let CriVerb::Run { .. } = call.verb else {
            return;
        };
        match call.netns.get() {
            Some(_) if call.recorded.get() => {
                let sandbox = Sandbox::new(call, SandboxState::NotReady, Vec::new());
                self.list_sandbox(call.container, sandbox, context);
            }
            unrecorded => {
                if let Some(netns) = unrecorded {
                    context.core.change(self.desk.index).remove_netns(netns);
                }
                self.release_name(call);
            }
        }
    }
}
