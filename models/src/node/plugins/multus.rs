//! multus v3.9.3, thin: one process per CNI call with a client of its own. ADD reads the Pod and
//! the attachment, writes its cache file, runs the delegate, writes network-status; a failed
//! delegate gets a DEL. DEL works from the cache file, or from the Pod and attachment as they are
//! now; with neither it succeeds without calling anyone. The delegate is macvlan, and behind it the
//! plugin that the IPAM chains, if it has one: a configuration list, of which a DEL goes backwards.
//! Source: k8snetworkplumbingwg/multus-cni v3.9.3 `pkg/multus/multus.go:494-852`,
//! `pkg/k8sclient/k8sclient.go:118,250,414-418`.

use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::cni::{CniError, Verb};
use crate::context::Context;
use crate::event::NodeToken;
use crate::ids::{ClientId, IpamCallId};
use crate::node::desk::{CniResult, Desk, Execution, Signal, node_side};
use crate::observation::PodStage;
use crate::request::{
    Answer, ApiError, ClientClass, ClientSpec, Consistency, ReplyTo, Request, Response,
};

use super::Plugins;

/// CNI code of a plugin's own failure.
const PLUGIN_ERROR: u32 = 999;

/// What a multus process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its own start.
    Exec,
    /// GET Pod.
    Pod,
    /// Before it reads the Pod again.
    PodPause,
    /// GET net-attach-def.
    Attachment,
    /// DEL: the second GET Pod, if the namespace exists.
    PodAgain,
    /// The delegate.
    Delegate,
    /// The delegate's DEL after its ADD failed.
    DelegateUndo,
    /// The plugin that the IPAM chains behind macvlan, in an ADD.
    Chained,
    /// First GET Pod of the status.
    StatusPod,
    /// GET Pod inside the retry loop.
    StatusRead,
    /// PUT pods/status.
    StatusWrite,
    /// Pause after a conflict.
    StatusPause,
    /// What is left of its CPU.
    Finish,
}

/// A multus process.
#[derive(Debug)]
pub(super) struct Multus {
    /// The CRI call that waits for it.
    pub(super) call: Option<u32>,
    pub(super) execution: Execution,
    pub(super) ticket: u32,
    pub(super) client: ClientId,
    /// The macvlan process that it waits for.
    pub(super) delegate: Option<u32>,
    /// The chained plugin's execution that it waits for.
    pub(super) chained: Option<IpamCallId>,
    pub(super) step: Step,
    /// Until when it reads a Pod that it does not get.
    read_until: Option<SimInstant>,
    writes: u64,
    pub(super) result: Option<CniResult>,
}

impl Plugins {
    /// A wait of a process is over; that of one that ended, or waits for something else, is stale.
    pub(crate) fn multus_woken(
        &mut self,
        process: u32,
        ticket: u32,
        signal: Signal,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        if self
            .multus
            .get(&process)
            .is_some_and(|p| p.ticket == ticket)
        {
            self.multus_resume(process, signal, desk, context);
        }
    }

    /// A multus process starts.
    pub(super) fn multus_exec(
        &mut self,
        process: u32,
        call: u32,
        execution: Execution,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let parameters = &node_side(context).multus;
        let client = context.client(ClientSpec {
            node: desk.index,
            class: ClientClass::Multus,
            limiter: Some((parameters.qps.milli_per_s, parameters.burst)),
            timeout: Some(parameters.client_timeout),
            fresh_connection: true,
        });
        let demand = match execution.verb {
            Verb::Add => parameters.cpu_add / 3 * 2,
            Verb::Del => parameters.cpu_del,
        };
        let state = Multus {
            call: Some(call),
            execution,
            ticket: 0,
            client,
            delegate: None,
            chained: None,
            step: Step::Exec,
            read_until: None,
            writes: 0,
            result: None,
        };
        let before = self.multus.insert(process, state);
        assert!(before.is_none(), "a process has a number of its own");
        let token = self.multus_enter(process, Step::Exec, desk);
        let work_ns = demand.as_nanos() as u64;
        self.multus_stage(process, PodStage::Multus { work_ns }, desk, context);
        desk.compute(demand, token, context);
    }

    /// A wait other than for the delegate ended.
    pub(super) fn multus_resume(
        &mut self,
        process: u32,
        signal: Signal,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let step = self.multus[&process].step;
        let Signal::Api(response) = signal else {
            return match step {
                Step::Exec | Step::PodPause => {
                    self.multus_stage(process, PodStage::MultusApi, desk, context);
                    self.multus_get_pod(process, Step::Pod, desk, context);
                }
                Step::StatusPause => self.multus_get_pod(process, Step::StatusRead, desk, context),
                Step::Finish => self.multus_exit(process, desk, context),
                step => unreachable!("multus has no pause in {step:?}"),
            };
        };
        match (step, self.multus[&process].execution.verb) {
            (Step::Pod, Verb::Add) => self.multus_add_pod(process, response, desk, context),
            (Step::Pod, Verb::Del) => self.multus_del_pod(process, &response, desk, context),
            (Step::Attachment, Verb::Add) => match response {
                Ok(_) => {
                    let execution = &self.multus[&process].execution;
                    let (container, pod) = (execution.container, Rc::clone(&execution.pod));
                    self.multus_cache.insert(container, pod);
                    self.multus_delegate(process, Verb::Add, Step::Delegate, desk, context);
                }
                Err(_) => self.multus_fail(process, "cannot get net-attach-def", desk, context),
            },
            (Step::Attachment, Verb::Del) => match response {
                Ok(_) => self.multus_delegate(process, Verb::Del, Step::Delegate, desk, context),
                Err(_) => self.multus_fail(process, "cannot get net-attach-def", desk, context),
            },
            (Step::PodAgain, _) => {
                self.multus_delegate(process, Verb::Del, Step::Delegate, desk, context);
            }
            (Step::StatusPod, _) => match response {
                Ok(_) => self.multus_get_pod(process, Step::StatusRead, desk, context),
                Err(_) => self.multus_fail(process, "cannot get Pod for its status", desk, context),
            },
            (Step::StatusRead, _) => self.multus_write_status(process, response, desk, context),
            (Step::StatusWrite, _) => self.multus_status_written(process, &response, desk, context),
            (step, _) => unreachable!("multus makes no request in {step:?}"),
        }
    }

    /// ADD: the Pod was read, or not.
    fn multus_add_pod(
        &mut self,
        process: u32,
        response: Response,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let wanted = self.multus[&process].execution.pod.uid;
        match response {
            Ok(Answer::Pod(pod)) if pod.uid == wanted => {
                self.multus_request(
                    process,
                    Step::Attachment,
                    Request::GetNetworkAttachment,
                    desk,
                    context,
                );
            }
            Err(ApiError::Unavailable { .. }) => self.multus_read_again(process, desk, context),
            _ => self.multus_fail(process, "cannot get Pod", desk, context),
        }
    }

    /// The apiserver is unavailable: read again for a while.
    fn multus_read_again(&mut self, process: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let (now, parameters) = (context.now(), &node_side(context).multus);
        let state = self
            .multus
            .get_mut(&process)
            .expect("a live process is in the table");
        let until = *state
            .read_until
            .get_or_insert(now + parameters.pod_poll_limit);
        if now + parameters.pod_poll > until {
            return self.multus_fail(process, "cannot get Pod", desk, context);
        }
        let token = self.multus_enter(process, Step::PodPause, desk);
        desk.wait(parameters.pod_poll, token, context);
    }

    /// DEL: the Pod was read, or not. The cache file decides first.
    fn multus_del_pod(
        &mut self,
        process: u32,
        response: &Response,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let execution = &self.multus[&process].execution;
        let (container, wanted) = (execution.container, execution.pod.uid);
        let cached = self.multus_cache.contains_key(&container);
        let namespaces = &context.core.machine(desk.index).namespaces;
        let netns_exists = execution
            .netns
            .is_some_and(|netns| namespaces.contains_key(&netns));
        let known = matches!(response, Ok(Answer::Pod(pod)) if pod.uid == wanted);
        if cached && netns_exists && known {
            self.multus_get_pod(process, Step::PodAgain, desk, context);
        } else if cached {
            self.multus_delegate(process, Verb::Del, Step::Delegate, desk, context);
        } else if known {
            let request = Request::GetNetworkAttachment;
            self.multus_request(process, Step::Attachment, request, desk, context);
        } else {
            // Nobody knows the delegates any more: success, and the IPAM is never called.
            self.multus_finish(process, Ok(Vec::new()), desk, context);
        }
    }

    fn multus_write_status(
        &mut self,
        process: u32,
        response: Response,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let wanted = self.multus[&process].execution.pod.uid;
        match response {
            Ok(Answer::Pod(pod)) if pod.uid == wanted => {
                let state = self.multus.get_mut(&process).expect("it is live");
                state.writes += 1;
                let request = Request::PutNetworkStatus {
                    pod: wanted,
                    resource_version: pod.resource_version,
                };
                self.multus_request(process, Step::StatusWrite, request, desk, context);
            }
            _ => self.multus_fail(process, "cannot get Pod for its status", desk, context),
        }
    }

    fn multus_status_written(
        &mut self,
        process: u32,
        response: &Response,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let parameters = &node_side(context).multus;
        match response {
            Ok(_) => {
                let state = self.multus.get_mut(&process).expect("it is live");
                let result = state.result.take().expect("the delegate answered before");
                self.multus_finish(process, result, desk, context);
            }
            Err(ApiError::Conflict) if self.multus[&process].writes < parameters.conflict_tries => {
                let pod = Rc::clone(&self.multus[&process].execution.pod);
                let delay = desk.draw(&pod, parameters.conflict_wait, context);
                let token = self.multus_enter(process, Step::StatusPause, desk);
                desk.wait(delay, token, context);
            }
            Err(_) => self.multus_fail(process, "cannot set network status", desk, context),
        }
    }

    pub(super) fn multus_get_pod(
        &mut self,
        process: u32,
        step: Step,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let pod = &self.multus[&process].execution.pod;
        let request = Request::GetPod {
            namespace: Rc::clone(&pod.namespace),
            name: Rc::clone(&pod.name),
            consistency: Consistency::Quorum,
        };
        self.multus_request(process, step, request, desk, context);
    }

    fn multus_request(
        &mut self,
        process: u32,
        step: Step,
        request: Request,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let token = self.multus_enter(process, step, desk);
        let client = self.multus[&process].client;
        context.call(
            client,
            request,
            ReplyTo::Node {
                node: desk.index,
                token,
            },
        );
    }

    fn multus_fail(
        &mut self,
        process: u32,
        message: &str,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let error = CniError {
            code: PLUGIN_ERROR,
            message: message.to_owned(),
        };
        self.multus_finish(process, Err(error), desk, context);
    }

    /// The outcome is known; what is left is CPU.
    pub(super) fn multus_finish(
        &mut self,
        process: u32,
        result: CniResult,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let parameters = &node_side(context).multus;
        let state = self
            .multus
            .get_mut(&process)
            .expect("a live process is in the table");
        let spend = state.execution.verb == Verb::Add && result.is_ok();
        state.result = Some(result);
        let token = self.multus_enter(process, Step::Finish, desk);
        let demand = if spend {
            parameters.cpu_add / 3
        } else {
            std::time::Duration::ZERO
        };
        let work_ns = demand.as_nanos() as u64;
        self.multus_stage(process, PodStage::Multus { work_ns }, desk, context);
        desk.compute(demand, token, context);
    }

    /// The start of a Pod waits for a step of this process, if anybody still waits for it.
    pub(super) fn multus_stage(
        &self,
        process: u32,
        stage: PodStage,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let state = &self.multus[&process];
        if state.call.is_some() && state.execution.verb == Verb::Add {
            desk.stage(state.execution.pod.uid, stage, context);
        }
    }

    fn multus_exit(&mut self, process: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let state = self.multus.remove(&process).expect("a process exits once");
        context.drop_client(state.client);
        assert!(
            state.delegate.is_none() && state.chained.is_none(),
            "multus outlives what it runs"
        );
        let result = state.result.expect("a process exits with a result");
        if let Some(call) = state.call {
            self.cni_exited(call, &state.execution, result, desk, context);
        }
    }

    fn multus_enter(&mut self, process: u32, step: Step, desk: &mut Desk) -> NodeToken {
        let ticket = desk.ticket();
        let state = self
            .multus
            .get_mut(&process)
            .expect("a live process is in the table");
        state.step = step;
        state.ticket = ticket;
        NodeToken::Multus { process, ticket }
    }
}
