//! StopPodSandbox and RemovePodSandbox: stop the task, CNI DEL, then the namespace. Each call runs
//! DEL again; RemovePodSandbox stops first. The first DEL that fails keeps the namespace.
//! Source: containerd v1.7.2 `pkg/cri/server/sandbox_stop.go:90-107`, `sandbox_remove.go:50-117`.

use crate::cni::Verb;
use crate::context::Context;
use crate::ids::ContainerId;
use crate::node::cri::CriError;
use crate::node::desk::{Desk, node_side};

use super::Runtime;
use super::call::{CriKind, CriStep};
use super::store::SandboxState;

impl Runtime {
    /// Stops the task, if it runs.
    pub(super) fn stop_begin(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        self.arm_deadline(id, desk, context);
        let container = self.calls[&id].container;
        let runs = self
            .sandboxes
            .get(&container)
            .is_some_and(|sandbox| sandbox.state == SandboxState::Ready);
        let parameters = node_side(context);
        let demand = if runs {
            parameters.containerd.cpu_stop_sandbox
        } else {
            std::time::Duration::ZERO
        };
        let token = self.cri_enter(id, CriStep::StopTask, desk);
        desk.compute(demand, token, context);
    }

    /// A step ended.
    pub(super) fn stop_step(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let call = &self.calls[&id];
        let (step, container) = (call.step, call.container);
        if call.canceled {
            return self.cri_end(id, Err(CriError("context canceled")), desk);
        }
        match step {
            CriStep::StopTask => {
                self.sandbox_stopped(container, desk, context);
                let Some(sandbox) = self.sandboxes.get(&container) else {
                    return self.cri_end(id, Ok(container), desk);
                };
                // A sandbox whose namespace went earlier has had its DEL.
                if sandbox.netns.is_some() && self.silent_teardowns > 0 {
                    self.silent_teardowns -= 1;
                    if let Some(sandbox) = self.sandboxes.get_mut(&container) {
                        sandbox.network = false;
                    }
                    self.stop_network_done(id, true, desk, context);
                } else if sandbox.network {
                    // Another stop may have removed the namespace meanwhile.
                    let netns = sandbox.netns;
                    self.call_mut(id).netns = netns;
                    self.cri_cni(id, Verb::Del, CriStep::Del, desk, context);
                } else {
                    self.stopped(id, desk, context);
                }
            }
            CriStep::Remove => {
                let commits = node_side(context).containerd.remove_commits;
                let token = self.cri_enter(id, CriStep::RemoveRecord, desk);
                desk.commit(commits, token, context);
            }
            CriStep::RemoveRecord => {
                let call = &self.calls[&id];
                let (pod, attempt) = (call.pod.uid, call.attempt);
                self.unlist_sandbox(container, desk, context);
                self.names.release(pod, attempt, container);
                self.cri_end(id, Ok(container), desk);
            }
            step => unreachable!("StopPodSandbox has no wait in {step:?}"),
        }
    }

    /// The DEL ended.
    pub(super) fn stop_network_done(
        &mut self,
        id: u32,
        ok: bool,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        if !ok {
            return self.cri_end(id, Err(CriError("network teardown failed")), desk);
        }
        let container = self.calls[&id].container;
        // Another removal may have taken the sandbox meanwhile.
        if let Some(sandbox) = self.sandboxes.get_mut(&container) {
            let mut change = context.core.change(desk.index);
            if let Some(netns) = sandbox.netns.take() {
                change.remove_netns(netns);
            }
            change.sandbox_without_netns(container);
        }
        self.stopped(id, desk, context);
    }

    /// A sandbox vanishes: its processes, its namespace and its record at once, without a DEL.
    pub(crate) fn sandbox_lost(
        &mut self,
        pick: u64,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) -> bool {
        let at_work = |container: &ContainerId| {
            let mut calls = self.calls.values();
            calls.any(|call| call.container == *container)
        };
        let ready: Vec<ContainerId> = (self.sandboxes.iter())
            .filter(|(_, sandbox)| sandbox.state == SandboxState::Ready && sandbox.network)
            .map(|(container, _)| *container)
            .filter(|container| !at_work(container))
            .collect();
        if ready.is_empty() {
            return false;
        }
        let container = ready[(pick % ready.len() as u64) as usize];
        let sandbox = &self.sandboxes[&container];
        let (pod, attempt, netns) = (sandbox.pod.uid, sandbox.attempt, sandbox.netns);
        self.sandbox_stopped(container, desk, context);
        if let Some(netns) = netns {
            context.core.change(desk.index).remove_netns(netns);
        }
        self.unlist_sandbox(container, desk, context);
        self.names.release(pod, attempt, container);
        true
    }

    /// Stopped: the end of a stop, the middle of a removal.
    fn stopped(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let call = &self.calls[&id];
        let container = call.container;
        if call.kind == CriKind::Stop {
            return self.cri_end(id, Ok(container), desk);
        }
        let demand = node_side(context).containerd.cpu_remove;
        let token = self.cri_enter(id, CriStep::Remove, desk);
        desk.compute(demand, token, context);
    }
}
