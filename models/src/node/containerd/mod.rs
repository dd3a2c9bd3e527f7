//! containerd 1.7.2's CRI server: its sandboxes, its calls in flight, its names. One container per
//! Pod; images are present. Source: facts of `pkg/cri/server` at v1.7.2, cited per file.

pub mod containers;
pub mod name_reservation;
pub mod restart;
pub mod run_pod_sandbox;
pub mod teardown;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::cni::{CniError, Verb};
use crate::context::Context;
use crate::event::Event;
use crate::event::{NodeEvent, NodeToken};
use crate::ids::{ContainerId, NetnsId, PodUid};
use crate::machine::ListedSandbox;
use crate::node::{Node, Signal, killed};
use crate::objects::Pod;
use crate::observation::PodStage;

use self::name_reservation::Names;

/// Why a CRI call failed, short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CriError(pub(crate) &'static str);

/// Result of a CRI call; the sandbox that it concerned.
pub(crate) type CriResult = Result<ContainerId, CriError>;

/// What a CRI call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CriKind {
    /// RunPodSandbox.
    Run,
    /// CreateContainer.
    Create,
    /// StartContainer.
    Start,
    /// StopContainer.
    StopContainer,
    /// StopPodSandbox.
    Stop,
    /// RemovePodSandbox.
    Remove,
}

/// Where a CRI call stands; each step ends with one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CriStep {
    /// Spec, snapshot, directories.
    Prepare,
    /// Records before the network.
    Record,
    /// The namespace is being made.
    Netns,
    /// The namespace's path is being recorded.
    RecordNetns,
    /// CNI ADD runs.
    Add,
    /// Its result is being recorded.
    RecordResult,
    /// Shim and runc.
    Task,
    /// The DEL after a failure runs.
    Cleanup,
    /// The records of the failed sandbox are being deleted.
    Forget,
    /// CreateContainer or StartContainer: CPU.
    Container,
    /// CreateContainer: records.
    RecordContainer,
    /// StopContainer: SIGTERM was sent, the grace period runs.
    Grace,
    /// StopContainer or StopPodSandbox: the task is being stopped.
    StopTask,
    /// CNI DEL runs.
    Del,
    /// RemovePodSandbox: CPU.
    Remove,
    /// RemovePodSandbox: records.
    RemoveRecord,
}

/// A CRI call in flight.
#[derive(Debug)]
pub(crate) struct CriCall {
    pub(crate) kind: CriKind,
    pub(crate) step: CriStep,
    pub(crate) ticket: u32,
    /// Who gets the result; nobody once the client gave up.
    pub(crate) caller: Option<NodeToken>,
    /// The client's context is done: the next step fails.
    pub(crate) canceled: bool,
    /// When the client gives up.
    pub(crate) deadline: SimInstant,
    pub(crate) container: ContainerId,
    pub(crate) pod: Rc<Pod>,
    pub(crate) attempt: u32,
    pub(crate) netns: Option<NetnsId>,
    pub(crate) addresses: Vec<IpAddr>,
    /// The CNI process that it waits for.
    pub(crate) process: Option<u32>,
    /// Grace period of StopContainer.
    pub(crate) grace: Duration,
    /// Why it failed, while it cleans up.
    pub(crate) failure: Option<CriError>,
}

/// State of a sandbox in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SandboxState {
    /// Its task runs.
    Ready,
    /// Stopped, or Unknown: CRI prints NOTREADY for both.
    NotReady,
}

/// State of the Pod's container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerState {
    /// Not created.
    None,
    /// Created.
    Created,
    /// Running.
    Running,
    /// Ended; whether by itself and with success.
    Exited {
        /// It ended by itself.
        completed: bool,
    },
}

/// A sandbox in the store.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    pub(crate) pod: Rc<Pod>,
    pub(crate) attempt: u32,
    pub(crate) state: SandboxState,
    /// Its namespace; `None` once removed (and with the host's network).
    pub(crate) netns: Option<NetnsId>,
    /// It has a network of its own: each stop calls CNI DEL, again and again.
    pub(crate) network: bool,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) workload: ContainerState,
}

/// containerd on one machine.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) up: bool,
    pub(crate) life: u32,
    pub(crate) sandboxes: BTreeMap<ContainerId, Sandbox>,
    /// Listed sandboxes by Pod, oldest first.
    pub(crate) by_pod: BTreeMap<PodUid, Vec<ContainerId>>,
    pub(crate) names: Names,
    /// So many teardowns to come ask no plugin.
    pub(crate) silent_teardowns: u32,
    pub(crate) calls: BTreeMap<u32, CriCall>,
}

impl Runtime {
    /// An empty, serving runtime.
    pub(crate) fn new() -> Self {
        Self {
            up: true,
            life: 0,
            sandboxes: BTreeMap::new(),
            by_pod: BTreeMap::new(),
            names: Names::default(),
            silent_teardowns: 0,
            calls: BTreeMap::new(),
        }
    }

    /// Listed sandboxes of a Pod, oldest first.
    pub(crate) fn listed(&self, pod: PodUid) -> &[ContainerId] {
        self.by_pod.get(&pod).map_or(&[], Vec::as_slice)
    }

    /// The ready sandbox of a Pod.
    pub(crate) fn ready(&self, pod: PodUid) -> Option<(ContainerId, &Sandbox)> {
        self.listed(pod)
            .iter()
            .rev()
            .map(|id| (*id, &self.sandboxes[id]))
            .find(|(_, sandbox)| sandbox.state == SandboxState::Ready)
    }
}

impl Node {
    /// Makes a CRI call on an existing sandbox.
    pub(crate) fn cri(
        &mut self,
        kind: CriKind,
        container: ContainerId,
        grace: Duration,
        caller: NodeToken,
        context: &mut Context<'_>,
    ) {
        let Some(sandbox) = self.runtime.sandboxes.get(&container) else {
            // Stop and Remove of what is not there succeed.
            return self.resume(caller, Signal::Cri(Ok(container)), context);
        };
        let call = CriCall {
            kind,
            step: CriStep::Container,
            ticket: 0,
            caller: Some(caller),
            canceled: false,
            deadline: context.now() + self.node_side(context).kubelet.stop_timeout,
            container,
            pod: Rc::clone(&sandbox.pod),
            attempt: sandbox.attempt,
            netns: sandbox.netns,
            addresses: Vec::new(),
            process: None,
            grace,
            failure: None,
        };
        self.cri_begin(call, context);
    }

    /// Registers a call and takes its first step.
    pub(crate) fn cri_begin(&mut self, call: CriCall, context: &mut Context<'_>) {
        let (kind, caller) = (call.kind, call.caller);
        if !self.runtime.up {
            if let Some(caller) = caller {
                self.resume(
                    caller,
                    Signal::Cri(Err(CriError("runtime unavailable"))),
                    context,
                );
            }
            return;
        }
        let id = self.ticket();
        self.runtime.calls.insert(id, call);
        match kind {
            CriKind::Run => self.run_begin(id, context),
            CriKind::Create | CriKind::Start => self.container_begin(id, context),
            CriKind::StopContainer => self.stop_container_begin(id, context),
            CriKind::Stop | CriKind::Remove => self.stop_begin(id, context),
        }
    }

    /// A step of a call ended.
    pub(crate) fn cri_resume(&mut self, id: u32, context: &mut Context<'_>) {
        match self.runtime.calls[&id].kind {
            CriKind::Run => self.run_step(id, context),
            CriKind::Create | CriKind::Start => self.container_step(id, context),
            CriKind::StopContainer => self.stop_container_step(id, context),
            CriKind::Stop | CriKind::Remove => self.stop_step(id, context),
        }
    }

    /// Moves a call to a step that a token ends.
    pub(crate) fn cri_enter(&mut self, id: u32, step: CriStep) -> NodeToken {
        let ticket = self.ticket();
        let call = self
            .runtime
            .calls
            .get_mut(&id)
            .expect("a call in flight is in the table");
        call.step = step;
        call.ticket = ticket;
        NodeToken::Cri { call: id, ticket }
    }

    /// The start of a Pod waits for a step of its call, unless its client gave up.
    pub(crate) fn cri_stage(&self, id: u32, stage: PodStage, context: &mut Context<'_>) {
        let call = &self.runtime.calls[&id];
        if call.caller.is_some()
            && matches!(call.kind, CriKind::Run | CriKind::Create | CriKind::Start)
        {
            self.stage(call.pod.uid, stage, context);
        }
    }

    /// Ends a call and tells its client, if there still is one.
    pub(crate) fn cri_end(&mut self, id: u32, result: CriResult, context: &mut Context<'_>) {
        let call = self.runtime.calls.remove(&id).expect("a call ends once");
        if let Some(caller) = call.caller {
            self.resume(caller, Signal::Cri(result), context);
        }
    }

    /// Starts CNI for a call, with the client's deadline.
    pub(crate) fn cri_cni(
        &mut self,
        id: u32,
        verb: Verb,
        step: CriStep,
        context: &mut Context<'_>,
    ) {
        let call = self
            .runtime
            .calls
            .get_mut(&id)
            .expect("a call in flight is in the table");
        call.step = step;
        // No token ends this step: the process' exit does.
        call.ticket = 0;
        let (container, netns, pod) = (call.container, call.netns, Rc::clone(&call.pod));
        let deadline = match step {
            CriStep::Cleanup => context.now() + self.node_side(context).containerd.cleanup_timeout,
            _ => self.runtime.calls[&id].deadline,
        };
        self.cni_exec(id, verb, container, netns, pod, deadline, context);
    }

    /// The CNI chain of a call ended (or was killed, as an error).
    pub(crate) fn cri_network_done(
        &mut self,
        id: u32,
        result: Result<Vec<IpAddr>, CniError>,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.runtime.calls.get_mut(&id) else {
            return;
        };
        call.process = None;
        match (call.kind, call.step) {
            (CriKind::Run, CriStep::Add) => self.run_added(id, result, context),
            (CriKind::Run, CriStep::Cleanup) => {
                let ok = swallow_not_found(result.map(|_| ()), call.netns.is_none()).is_ok();
                self.run_cleaned(id, ok, context);
            }
            _ => {
                let ok = swallow_not_found(result.map(|_| ()), call.netns.is_none()).is_ok();
                self.stop_network_done(id, ok, context);
            }
        }
    }

    /// The client's deadline of a call passed.
    pub(crate) fn cri_deadline(&mut self, id: u32, context: &mut Context<'_>) {
        self.cri_cancel(id, CriError("DeadlineExceeded"), context);
    }

    /// The client of a call is gone (deadline, or its process died): it gets its error at once,
    /// the plugin is killed, and the call fails at its next step.
    pub(crate) fn cri_cancel(&mut self, id: u32, error: CriError, context: &mut Context<'_>) {
        let Some(call) = self.runtime.calls.get_mut(&id) else {
            return;
        };
        if call.canceled {
            return;
        }
        call.canceled = true;
        let caller = call.caller.take();
        let killable = matches!(call.step, CriStep::Add | CriStep::Del);
        let process = if killable { call.process } else { None };
        if let Some(process) = process {
            self.cni_kill(process, context);
            self.cri_network_done(id, Err(killed()), context);
        }
        if let Some(caller) = caller {
            self.resume(caller, Signal::Cri(Err(error)), context);
        }
    }

    /// The kubelet died: all its calls are canceled.
    pub(crate) fn cancel_cri_calls(&mut self, context: &mut Context<'_>) {
        let calls: Vec<u32> = self.runtime.calls.keys().copied().collect();
        for id in calls {
            self.cri_cancel(id, CriError("Canceled"), context);
        }
    }

    /// Arms the client's deadline of a call.
    pub(crate) fn arm_deadline(&mut self, id: u32, context: &mut Context<'_>) {
        let deadline = self.runtime.calls[&id].deadline;
        let event = NodeEvent::CriDeadline { call: id };
        context.core.queue.at(
            deadline,
            Event::Node {
                node: self.index,
                event,
            },
        );
    }

    /// Puts a sandbox into the store: from now on it is listed.
    pub(crate) fn list_sandbox(
        &mut self,
        container: ContainerId,
        sandbox: Sandbox,
        context: &mut Context<'_>,
    ) {
        let pod = sandbox.pod.uid;
        let listed = ListedSandbox {
            pod,
            netns: sandbox.netns,
            ready: sandbox.state == SandboxState::Ready,
        };
        context
            .core
            .change(self.index)
            .list_sandbox(container, listed);
        self.runtime.by_pod.entry(pod).or_default().push(container);
        self.runtime.sandboxes.insert(container, sandbox);
        self.pleg_mark(pod);
    }

    /// Removes a sandbox from the store.
    pub(crate) fn unlist_sandbox(&mut self, container: ContainerId, context: &mut Context<'_>) {
        let Some(sandbox) = self.runtime.sandboxes.remove(&container) else {
            return;
        };
        let pod = sandbox.pod.uid;
        if let Some(list) = self.runtime.by_pod.get_mut(&pod) {
            list.retain(|id| *id != container);
            if list.is_empty() {
                self.runtime.by_pod.remove(&pod);
            }
        }
        context.core.change(self.index).unlist_sandbox(container);
        self.pleg_mark(pod);
    }

    /// A sandbox is no longer ready.
    pub(crate) fn sandbox_stopped(&mut self, container: ContainerId, context: &mut Context<'_>) {
        let Some(sandbox) = self.runtime.sandboxes.get_mut(&container) else {
            return;
        };
        if sandbox.state == SandboxState::NotReady {
            return;
        }
        sandbox.state = SandboxState::NotReady;
        if matches!(
            sandbox.workload,
            ContainerState::Created | ContainerState::Running
        ) {
            sandbox.workload = ContainerState::Exited { completed: false };
        }
        let pod = sandbox.pod.uid;
        context.core.change(self.index).sandbox_stopped(container);
        self.pleg_mark(pod);
    }

    /// Makes a namespace for a sandbox.
    pub(crate) fn make_netns(
        &mut self,
        container: ContainerId,
        pod: PodUid,
        context: &mut Context<'_>,
    ) -> NetnsId {
        let (node, netns) = (self.index, self.next_netns());
        context.core.change(node).add_netns(netns, container, pod);
        netns
    }
}

/// go-cni takes some errors of a DEL for success by their wording.
/// Source: containerd/go-cni v1.1.9 cni.go:242-257.
fn swallow_not_found(result: Result<(), CniError>, netns_empty: bool) -> Result<(), CniError> {
    result.or_else(|error| {
        let missing = error.message.contains("not found")
            || netns_empty && error.message.contains("no such file or directory");
        if missing { Ok(()) } else { Err(error) }
    })
}

#[cfg(test)]
mod tests {
    use super::swallow_not_found;
    use crate::cni::CniError;

    #[test]
    fn errors_worded_not_found_count_as_success() {
        let error = |text: &str| {
            Err(CniError {
                code: 11,
                message: text.to_owned(),
            })
        };
        assert!(swallow_not_found(error("pool not found"), false).is_ok());
        assert!(swallow_not_found(error("no such file or directory"), true).is_ok());
        assert!(swallow_not_found(error("no such file or directory"), false).is_err());
        assert!(swallow_not_found(error("store unavailable"), true).is_err());
    }
}
