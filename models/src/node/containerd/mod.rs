//! containerd 1.7.2's CRI server: its sandboxes, its calls in flight, its names. One container per
//! Pod; images are present. Source: facts of `pkg/cri/server` at v1.7.2, cited per file.

mod call;
mod containers;
mod name_reservation;
mod restart;
mod run_pod_sandbox;
mod store;
mod teardown;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::cni::{CniError, Verb};
use crate::context::Context;
use crate::event::{NodeEvent, NodeToken};
use crate::ids::{ContainerId, PodUid};
use crate::observation::{Observation, PodStage};

use super::cri::{CriError, CriRequest, CriResult, CriVerb};
use super::desk::{CniResult, Desk, Execution, Next, Signal, killed, node_side};

use self::call::{CriCall, CriKind, CriStep};
use self::name_reservation::Names;
use self::store::Sandbox;

/// containerd on one machine.
#[derive(Debug)]
pub(crate) struct Runtime {
    up: bool,
    life: u32,
    sandboxes: BTreeMap<ContainerId, Sandbox>,
    /// Listed sandboxes by Pod, oldest first.
    by_pod: BTreeMap<PodUid, Vec<ContainerId>>,
    names: Names,
    /// So many teardowns to come ask no plugin.
    silent_teardowns: u32,
    calls: BTreeMap<u32, CriCall>,
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

    /// The next teardown of a sandbox asks no plugin.
    pub(crate) fn skip_del(&mut self) {
        self.silent_teardowns += 1;
    }

    /// Makes a CRI call.
    pub(crate) fn ask(&mut self, request: &CriRequest, desk: &mut Desk, context: &mut Context<'_>) {
        let nothing = Duration::ZERO;
        let (kind, container, grace) = match request.verb {
            CriVerb::Run { ref pod, attempt } => {
                let pod = Rc::clone(pod);
                return self.run_pod_sandbox(pod, attempt, request, desk, context);
            }
            CriVerb::Create(container) => (CriKind::Create, container, nothing),
            CriVerb::Start(container) => (CriKind::Start, container, nothing),
            CriVerb::StopContainer { container, grace } => {
                (CriKind::StopContainer, container, grace)
            }
            CriVerb::Stop(container) => (CriKind::Stop, container, nothing),
            CriVerb::Remove(container) => (CriKind::Remove, container, nothing),
        };
        let Some(sandbox) = self.sandboxes.get(&container) else {
            // Stop and Remove of what is not there succeed.
            return desk.resume(request.caller, Signal::Cri(Ok(container)));
        };
        let call = CriCall {
            kind,
            step: CriStep::Container,
            ticket: 0,
            caller: Some(request.caller),
            canceled: false,
            deadline: context.now() + request.timeout,
            container,
            pod: Rc::clone(&sandbox.pod),
            attempt: sandbox.attempt,
            netns: sandbox.netns,
            addresses: Vec::new(),
            process: None,
            grace,
            failure: None,
        };
        self.begin(call, desk, context);
    }

    /// A wait of a call is over; that of a call that ended, or waits for something else, is stale.
    pub(crate) fn resume(
        &mut self,
        call: u32,
        ticket: u32,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        if self.calls.get(&call).is_some_and(|c| c.ticket == ticket) {
            self.cri_resume(call, desk, context);
        }
    }

    /// Registers a call and takes its first step.
    fn begin(&mut self, call: CriCall, desk: &mut Desk, context: &mut Context<'_>) {
        let (kind, caller) = (call.kind, call.caller);
        if !self.up {
            if let Some(caller) = caller {
                desk.resume(caller, Signal::Cri(Err(CriError("runtime unavailable"))));
            }
            return;
        }
        let id = desk.ticket();
        let before = self.calls.insert(id, call);
        assert!(before.is_none(), "a call has a number of its own");
        match kind {
            CriKind::Run => self.run_begin(id, desk, context),
            CriKind::Create | CriKind::Start => self.container_begin(id, desk, context),
            CriKind::StopContainer => self.stop_container_begin(id, desk, context),
            CriKind::Stop | CriKind::Remove => self.stop_begin(id, desk, context),
        }
    }

    /// A step of a call ended.
    fn cri_resume(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        match self.calls[&id].kind {
            CriKind::Run => self.run_step(id, desk, context),
            CriKind::Create | CriKind::Start => self.container_step(id, desk, context),
            CriKind::StopContainer => self.stop_container_step(id, desk, context),
            CriKind::Stop | CriKind::Remove => self.stop_step(id, desk, context),
        }
    }

    /// Moves a call to a step that a token ends.
    fn cri_enter(&mut self, id: u32, step: CriStep, desk: &mut Desk) -> NodeToken {
        let ticket = desk.ticket();
        let call = self.call_mut(id);
        call.step = step;
        call.ticket = ticket;
        NodeToken::Cri { call: id, ticket }
    }

    /// The start of a Pod waits for a step of its call, unless its client gave up.
    fn cri_stage(&self, id: u32, stage: PodStage, desk: &mut Desk, context: &mut Context<'_>) {
        let call = &self.calls[&id];
        if call.caller.is_some()
            && matches!(call.kind, CriKind::Run | CriKind::Create | CriKind::Start)
        {
            desk.stage(call.pod.uid, stage, context);
        }
    }

    /// Ends a call and tells its client, if there still is one.
    fn cri_end(&mut self, id: u32, result: CriResult, desk: &mut Desk) {
        let call = self.calls.remove(&id).expect("a call ends once");
        if let Some(caller) = call.caller {
            desk.resume(caller, Signal::Cri(result));
        }
    }

    /// Starts CNI for a call, with the client's deadline.
    fn cri_cni(
        &mut self,
        id: u32,
        verb: Verb,
        step: CriStep,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let call = self.call_mut(id);
        call.step = step;
        // No token ends this step: the process' exit does.
        call.ticket = 0;
        let (container, netns, pod) = (call.container, call.netns, Rc::clone(&call.pod));
        let deadline = match step {
            CriStep::Cleanup => context.now() + node_side(context).containerd.cleanup_timeout,
            _ => self.calls[&id].deadline,
        };
        if verb == Verb::Add {
            context.core.observe(Observation::AddStarted {
                node: desk.index,
                container,
                pod: pod.uid,
            });
        }
        let process = desk.ticket();
        let before = self.call_mut(id).process.replace(process);
        assert!(before.is_none(), "a call waits for one process at a time");
        desk.follow(Next::Execute {
            process,
            call: id,
            execution: Execution {
                verb,
                container,
                netns,
                pod,
                deadline,
            },
        });
    }

    /// The CNI chain of a call ended (or was killed, as an error).
    pub(crate) fn network_done(
        &mut self,
        id: u32,
        result: CniResult,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let process = call.process.take();
        assert!(
            process.is_some(),
            "a call hears of the one process it started"
        );
        match (call.kind, call.step) {
            (CriKind::Run, CriStep::Add) => self.run_added(id, result, desk, context),
            (CriKind::Run, CriStep::Cleanup) => {
                let ok = swallow_not_found(result.map(|_| ()), call.netns.is_none()).is_ok();
                self.run_cleaned(id, ok, desk, context);
            }
            _ => {
                let ok = swallow_not_found(result.map(|_| ()), call.netns.is_none()).is_ok();
                self.stop_network_done(id, ok, desk, context);
            }
        }
    }

    /// The client's deadline of a call passed.
    pub(crate) fn deadline_passed(&mut self, id: u32, desk: &mut Desk) {
        self.cri_cancel(id, CriError("DeadlineExceeded"), desk);
    }

    /// The client of a call is gone (deadline, or its process died): it gets its error at once,
    /// the plugin is killed, and the call fails at its next step.
    fn cri_cancel(&mut self, id: u32, error: CriError, desk: &mut Desk) {
        let Some(call) = self.calls.get_mut(&id) else {
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
            desk.follow(Next::Kill(process));
            desk.follow(Next::Network {
                call: id,
                result: Err(killed()),
            });
        }
        if let Some(caller) = caller {
            desk.resume(caller, Signal::Cri(Err(error)));
        }
    }

    /// The kubelet died: all its calls are canceled.
    pub(crate) fn cancel_calls(&mut self, desk: &mut Desk) {
        let calls: Vec<u32> = self.calls.keys().copied().collect();
        for id in calls {
            self.cri_cancel(id, CriError("Canceled"), desk);
        }
    }

    /// Arms the client's deadline of a call.
    fn arm_deadline(&self, id: u32, desk: &Desk, context: &mut Context<'_>) {
        let deadline = self.calls[&id].deadline;
        desk.at(deadline, NodeEvent::CriDeadline { call: id }, context);
    }

    /// A call that is known to be in flight.
    fn call_mut(&mut self, id: u32) -> &mut CriCall {
        self.calls
            .get_mut(&id)
            .expect("a call in flight is in the table")
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
