//! StopPodSandbox and RemovePodSandbox: stop the task, CNI DEL, then the namespace. Each call runs
//! DEL again; RemovePodSandbox stops first. The first DEL that fails keeps the namespace.
//! Source: containerd v1.7.2 `pkg/cri/server/sandbox_stop.go:90-107`, `sandbox_remove.go:50-117`.

use crate::cni::Verb;
use crate::context::Context;
use crate::ids::ContainerId;
use crate::node::Node;

use super::{CriError, CriKind, CriStep, SandboxState};

impl Node {
    /// Stops the task, if it runs.
    pub(crate) fn stop_begin(&mut self, id: u32, context: &mut Context<'_>) {
        self.arm_deadline(id, context);
        let container = self.runtime.calls[&id].container;
        let runs = self
            .runtime
            .sandboxes
            .get(&container)
            .is_some_and(|sandbox| sandbox.state == SandboxState::Ready);
        let parameters = self.node_side(context);
        let demand = if runs {
            parameters.containerd.cpu_stop_sandbox
        } else {
            std::time::Duration::ZERO
        };
        let token = self.cri_enter(id, CriStep::StopTask);
        self.compute(demand, token, context);
    }

    /// A step ended.
    pub(crate) fn stop_step(&mut self, id: u32, context: &mut Context<'_>) {
        let call = &self.runtime.calls[&id];
        let (step, container) = (call.step, call.container);
        if call.canceled {
            return self.cri_end(id, Err(CriError("context canceled")), context);
        }
        match step {
            CriStep::StopTask => {
                self.sandbox_stopped(container, context);
                let Some(sandbox) = self.runtime.sandboxes.get(&container) else {
                    return self.cri_end(id, Ok(container), context);
                };
                // A sandbox whose namespace went earlier has had its DEL.
                if sandbox.netns.is_some() && self.runtime.silent_teardowns > 0 {
                    self.runtime.silent_teardowns -= 1;
                    if let Some(sandbox) = self.runtime.sandboxes.get_mut(&container) {
                        sandbox.network = false;
                    }
                    self.stop_network_done(id, true, context);
                } else if sandbox.network {
                    // Another stop may have removed the namespace meanwhile.
                    let netns = sandbox.netns;
                    self.runtime
                        .calls
                        .get_mut(&id)
                        .expect("it is in flight")
                        .netns = netns;
                    self.cri_cni(id, Verb::Del, CriStep::Del, context);
                } else {
                    self.stopped(id, context);
                }
            }
            CriStep::Remove => {
                let commits = self.node_side(context).containerd.remove_commits;
                let token = self.cri_enter(id, CriStep::RemoveRecord);
                self.commit(commits, token, context);
            }
            CriStep::RemoveRecord => {
                let call = &self.runtime.calls[&id];
                let (pod, attempt) = (call.pod.uid, call.attempt);
                self.unlist_sandbox(container, context);
                self.runtime.names.release(pod, attempt, container);
                self.cri_end(id, Ok(container), context);
            }
            step => unreachable!("StopPodSandbox has no wait in {step:?}"),
        }
    }

    /// The DEL ended.
    pub(crate) fn stop_network_done(&mut self, id: u32, ok: bool, context: &mut Context<'_>) {
        if !ok {
            return self.cri_end(id, Err(CriError("network teardown failed")), context);
        }
        let container = self.runtime.calls[&id].container;
        // Another removal may have taken the sandbox meanwhile.
        if let Some(sandbox) = self.runtime.sandboxes.get_mut(&container) {
            let mut change = context.core.change(self.index);
            if let Some(netns) = sandbox.netns.take() {
                change.remove_netns(netns);
            }
            change.sandbox_without_netns(container);
        }
        self.stopped(id, context);
    }

    /// A sandbox vanishes: its processes, its namespace and its record at once, without a DEL.
    pub(crate) fn sandbox_lost(&mut self, pick: u64, context: &mut Context<'_>) -> bool {
        let at_work = |container: &ContainerId| {
            let mut calls = self.runtime.calls.values();
            calls.any(|call| call.container == *container)
        };
        let ready: Vec<ContainerId> = (self.runtime.sandboxes.iter())
            .filter(|(_, sandbox)| sandbox.state == SandboxState::Ready && sandbox.network)
            .map(|(container, _)| *container)
            .filter(|container| !at_work(container))
            .collect();
        if ready.is_empty() {
            return false;
        }
        let container = ready[(pick % ready.len() as u64) as usize];
        let sandbox = &self.runtime.sandboxes[&container];
        let (pod, attempt, netns) = (sandbox.pod.uid, sandbox.attempt, sandbox.netns);
        self.sandbox_stopped(container, context);
        if let Some(netns) = netns {
            context.core.change(self.index).remove_netns(netns);
        }
        self.unlist_sandbox(container, context);
        self.runtime.names.release(pod, attempt, container);
        true
    }

    /// Stopped: the end of a stop, the middle of a removal.
    fn stopped(&mut self, id: u32, context: &mut Context<'_>) {
        let call = &self.runtime.calls[&id];
        let container = call.container;
        if call.kind == CriKind::Stop {
            return self.cri_end(id, Ok(container), context);
        }
        let demand = self.node_side(context).containerd.cpu_remove;
        let token = self.cri_enter(id, CriStep::Remove);
        self.compute(demand, token, context);
    }
}
