//! multus v3.9.3, thin: one process per CNI call with a client of its own. ADD reads the Pod and
//! the attachment, writes its cache file, runs the delegate, writes network-status; a failed
//! delegate gets a DEL. DEL works from the cache file, or from the Pod and attachment as they are
//! now; with neither it succeeds without calling anyone. The delegate is macvlan, and behind it the
//! plugin that the IPAM chains, if it has one: a configuration list, of which a DEL goes backwards.
//! Source: k8snetworkplumbingwg/multus-cni v3.9.3 `pkg/multus/multus.go:494-852`,
//! `pkg/k8sclient/k8sclient.go:118,250,414-418`.

use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::cni::{CniError, IpamAnswer, IpamCall, Verb};
use crate::context::Context;
use crate::event::Event;
use crate::event::NodeToken;
use crate::ids::{ClientId, IpamCallId};
use crate::node::cni_exec::{CniResult, Execution, Parent};
use crate::node::{Node, Signal};
use crate::observation::PodStage;
use crate::request::{
    Answer, ApiError, ClientClass, ClientSpec, Consistency, ReplyTo, Request, Response,
};

/// CNI code of a plugin's own failure.
const PLUGIN_ERROR: u32 = 999;

/// What a multus process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
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
pub(crate) struct Multus {
    /// The CRI call that waits for it.
    pub(crate) call: Option<u32>,
    pub(crate) execution: Execution,
    pub(crate) ticket: u32,
    pub(crate) client: ClientId,
    /// The macvlan process that it waits for.
    pub(crate) delegate: Option<u32>,
    /// The chained plugin's execution that it waits for.
    chained: Option<IpamCallId>,
    step: Step,
    /// Until when it reads a Pod that it does not get.
    read_until: Option<SimInstant>,
    writes: u64,
    result: Option<CniResult>,
}

impl Node {
    /// A multus process starts.
    pub(crate) fn multus_exec(
        &mut self,
        process: u32,
        call: u32,
        execution: Execution,
        context: &mut Context<'_>,
    ) {
        let parameters = &self.node_side(context).multus;
        let client = context.client(ClientSpec {
            node: self.index,
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
        self.multus.insert(process, state);
        let token = self.multus_enter(process, Step::Exec);
        let work_ns = demand.as_nanos() as u64;
        self.multus_stage(process, PodStage::Multus { work_ns }, context);
        self.compute(demand, token, context);
    }

    /// A wait other than for the delegate ended.
    pub(crate) fn multus_resume(
        &mut self,
        process: u32,
        signal: Signal,
        context: &mut Context<'_>,
    ) {
        let step = self.multus[&process].step;
        let Signal::Api(response) = signal else {
            return match step {
                Step::Exec | Step::PodPause => {
                    self.multus_stage(process, PodStage::MultusApi, context);
                    self.multus_get_pod(process, Step::Pod, context);
                }
                Step::StatusPause => self.multus_get_pod(process, Step::StatusRead, context),
                Step::Finish => self.multus_exit(process, context),
                step => unreachable!("multus has no pause in {step:?}"),
            };
        };
        match (step, self.multus[&process].execution.verb) {
            (Step::Pod, Verb::Add) => self.multus_add_pod(process, response, context),
            (Step::Pod, Verb::Del) => self.multus_del_pod(process, &response, context),
            (Step::Attachment, Verb::Add) => match response {
                Ok(_) => {
                    let execution = &self.multus[&process].execution;
                    let (container, pod) = (execution.container, Rc::clone(&execution.pod));
                    self.multus_cache.insert(container, pod);
                    self.multus_delegate(process, Verb::Add, Step::Delegate, context);
                }
                Err(_) => self.multus_fail(process, "cannot get net-attach-def", context),
            },
            (Step::Attachment, Verb::Del) => match response {
                Ok(_) => self.multus_delegate(process, Verb::Del, Step::Delegate, context),
                Err(_) => self.multus_fail(process, "cannot get net-attach-def", context),
            },
            (Step::PodAgain, _) => {
                self.multus_delegate(process, Verb::Del, Step::Delegate, context);
            }
            (Step::StatusPod, _) => match response {
                Ok(_) => self.multus_get_pod(process, Step::StatusRead, context),
                Err(_) => self.multus_fail(process, "cannot get Pod for its status", context),
            },
            (Step::StatusRead, _) => self.multus_write_status(process, response, context),
            (Step::StatusWrite, _) => self.multus_status_written(process, &response, context),
            (step, _) => unreachable!("multus makes no request in {step:?}"),
        }
    }

    /// ADD: the Pod was read, or not.
    fn multus_add_pod(&mut self, process: u32, response: Response, context: &mut Context<'_>) {
        let wanted = self.multus[&process].execution.pod.uid;
        match response {
            Ok(Answer::Pod(pod)) if pod.uid == wanted => {
                self.multus_request(
                    process,
                    Step::Attachment,
                    Request::GetNetworkAttachment,
                    context,
                );
            }
            Err(ApiError::Unavailable { .. }) => self.multus_read_again(process, context),
            _ => self.multus_fail(process, "cannot get Pod", context),
        }
    }

    /// The apiserver is unavailable: read again for a while.
    fn multus_read_again(&mut self, process: u32, context: &mut Context<'_>) {
        let (now, parameters) = (context.now(), &self.node_side(context).multus);
        let state = self
            .multus
            .get_mut(&process)
            .expect("a live process is in the table");
        let until = *state
            .read_until
            .get_or_insert(now + parameters.pod_poll_limit);
        if now + parameters.pod_poll > until {
            return self.multus_fail(process, "cannot get Pod", context);
        }
        let token = self.multus_enter(process, Step::PodPause);
        self.wait(parameters.pod_poll, token, context);
    }

    /// DEL: the Pod was read, or not. The cache file decides first.
    fn multus_del_pod(&mut self, process: u32, response: &Response, context: &mut Context<'_>) {
        let execution = &self.multus[&process].execution;
        let (container, wanted) = (execution.container, execution.pod.uid);
        let cached = self.multus_cache.contains_key(&container);
        let namespaces = &context.core.machine(self.index).namespaces;
        let netns_exists = execution
            .netns
            .is_some_and(|netns| namespaces.contains_key(&netns));
        let known = matches!(response, Ok(Answer::Pod(pod)) if pod.uid == wanted);
        if cached && netns_exists && known {
            self.multus_get_pod(process, Step::PodAgain, context);
        } else if cached {
            self.multus_delegate(process, Verb::Del, Step::Delegate, context);
        } else if known {
            let request = Request::GetNetworkAttachment;
            self.multus_request(process, Step::Attachment, request, context);
        } else {
            // Nobody knows the delegates any more: success, and the IPAM is never called.
            self.multus_finish(process, Ok(Vec::new()), context);
        }
    }

    fn multus_delegate(&mut self, process: u32, verb: Verb, step: Step, context: &mut Context<'_>) {
        let state = self
            .multus
            .get_mut(&process)
            .expect("a live process is in the table");
        state.step = step;
        state.ticket = 0;
        // A DEL goes through the delegate's plugins in reverse.
        if verb == Verb::Del && self.ipam_is_chained {
            self.multus_chained(process, verb, context);
        } else {
            self.multus_macvlan(process, verb, context);
        }
    }

    /// Executes the plugin that the IPAM chains behind macvlan.
    fn multus_chained(&mut self, process: u32, verb: Verb, context: &mut Context<'_>) {
        let (node, id) = (self.index, self.next_ipam_call());
        let state = self.multus.get_mut(&process).expect("it is live");
        state.ticket = 0;
        state.chained = Some(id);
        let execution = &state.execution;
        let call = IpamCall {
            id,
            node,
            verb,
            container: execution.container,
            netns: execution.netns,
            pod_namespace: execution.pod.namespace.clone(),
            pod_name: execution.pod.name.clone(),
            pod: execution.pod.uid,
            deadline: execution.deadline,
        };
        self.chained.insert(id, process);
        context.core.queue.soon(Event::IpamChained(call));
    }

    /// The chained plugin exited; false when the execution is another's.
    pub(crate) fn chained_exited(
        &mut self,
        call: IpamCallId,
        answer: &IpamAnswer,
        context: &mut Context<'_>,
    ) -> bool {
        let Some(process) = self.chained.remove(&call) else {
            return false;
        };
        let Some(state) = self
            .multus
            .get_mut(&process)
            .filter(|state| state.chained == Some(call))
        else {
            return true;
        };
        state.chained = None;
        match (state.step, answer) {
            (Step::Chained, Ok(_)) => self.multus_get_pod(process, Step::StatusPod, context),
            (Step::Chained, Err(error)) => {
                state.result = Some(Err(error.clone()));
                self.multus_delegate(process, Verb::Del, Step::DelegateUndo, context);
            }
            (_, Ok(_)) => self.multus_macvlan(process, Verb::Del, context),
            // The first plugin that fails ends the DEL.
            (_, Err(error)) => self.delegate_exited(process, Err(error.clone()), context),
        }
        true
    }

    fn multus_macvlan(&mut self, process: u32, verb: Verb, context: &mut Context<'_>) {
        let delegate = self.ticket();
        let state = self.multus.get_mut(&process).expect("it is live");
        state.delegate = Some(delegate);
        let execution = Execution {
            verb,
            ..state.execution.clone()
        };
        self.macvlan_exec(delegate, Parent::Multus(process), execution, context);
    }

    /// The delegate exited.
    pub(crate) fn delegate_exited(
        &mut self,
        process: u32,
        result: CniResult,
        context: &mut Context<'_>,
    ) {
        let Some(state) = self.multus.get_mut(&process) else {
            return;
        };
        state.delegate = None;
        match (state.step, state.execution.verb) {
            (Step::DelegateUndo, _) => {
                // Its error is ignored; that of the ADD counts.
                let result = state.result.take().expect("the ADD failed before");
                self.multus_finish(process, result, context);
            }
            (_, Verb::Add) if result.is_ok() && self.ipam_is_chained => {
                state.result = Some(result);
                state.step = Step::Chained;
                self.multus_chained(process, Verb::Add, context);
            }
            (_, Verb::Add) if result.is_ok() => {
                state.result = Some(result);
                self.multus_stage(process, PodStage::MultusApi, context);
                self.multus_get_pod(process, Step::StatusPod, context);
            }
            (_, Verb::Add) => {
                state.result = Some(result);
                self.multus_stage(process, PodStage::Cleanup, context);
                self.multus_delegate(process, Verb::Del, Step::DelegateUndo, context);
            }
            (_, Verb::Del) => {
                // The cache file goes even if the delegate failed.
                let container = state.execution.container;
                self.multus_cache.remove(&container);
                self.multus_finish(process, result, context);
            }
        }
    }

    fn multus_write_status(&mut self, process: u32, response: Response, context: &mut Context<'_>) {
        let wanted = self.multus[&process].execution.pod.uid;
        match response {
            Ok(Answer::Pod(pod)) if pod.uid == wanted => {
                let state = self.multus.get_mut(&process).expect("it is live");
                state.writes += 1;
                let request = Request::PutNetworkStatus {
                    pod: wanted,
                    resource_version: pod.resource_version,
                };
                self.multus_request(process, Step::StatusWrite, request, context);
            }
            _ => self.multus_fail(process, "cannot get Pod for its status", context),
        }
    }

    fn multus_status_written(
        &mut self,
        process: u32,
        response: &Response,
        context: &mut Context<'_>,
    ) {
        let parameters = &self.node_side(context).multus;
        match response {
            Ok(_) => {
                let state = self.multus.get_mut(&process).expect("it is live");
                let result = state.result.take().expect("the delegate answered before");
                self.multus_finish(process, result, context);
            }
            Err(ApiError::Conflict) if self.multus[&process].writes < parameters.conflict_tries => {
                let pod = Rc::clone(&self.multus[&process].execution.pod);
                let delay = self.draw(&pod, parameters.conflict_wait, context);
                let token = self.multus_enter(process, Step::StatusPause);
                self.wait(delay, token, context);
            }
            Err(_) => self.multus_fail(process, "cannot set network status", context),
        }
    }

    fn multus_get_pod(&mut self, process: u32, step: Step, context: &mut Context<'_>) {
        let pod = &self.multus[&process].execution.pod;
        let request = Request::GetPod {
            namespace: Rc::clone(&pod.namespace),
            name: Rc::clone(&pod.name),
            consistency: Consistency::Quorum,
        };
        self.multus_request(process, step, request, context);
    }

    fn multus_request(
        &mut self,
        process: u32,
        step: Step,
        request: Request,
        context: &mut Context<'_>,
    ) {
        let token = self.multus_enter(process, step);
        let client = self.multus[&process].client;
        context.call(
            client,
            request,
            ReplyTo::Node {
                node: self.index,
                token,
            },
        );
    }

    fn multus_fail(&mut self, process: u32, message: &str, context: &mut Context<'_>) {
        let error = CniError {
            code: PLUGIN_ERROR,
            message: message.to_owned(),
        };
        self.multus_finish(process, Err(error), context);
    }

    /// The outcome is known; what is left is CPU.
    fn multus_finish(&mut self, process: u32, result: CniResult, context: &mut Context<'_>) {
        let parameters = &self.node_side(context).multus;
        let state = self
            .multus
            .get_mut(&process)
            .expect("a live process is in the table");
        let spend = state.execution.verb == Verb::Add && result.is_ok();
        state.result = Some(result);
        let token = self.multus_enter(process, Step::Finish);
        let demand = if spend {
            parameters.cpu_add / 3
        } else {
            std::time::Duration::ZERO
        };
        let work_ns = demand.as_nanos() as u64;
        self.multus_stage(process, PodStage::Multus { work_ns }, context);
        self.compute(demand, token, context);
    }

    /// The start of a Pod waits for a step of this process, if anybody still waits for it.
    fn multus_stage(&self, process: u32, stage: PodStage, context: &mut Context<'_>) {
        let state = &self.multus[&process];
        if state.call.is_some() && state.execution.verb == Verb::Add {
            self.stage(state.execution.pod.uid, stage, context);
        }
    }

    fn multus_exit(&mut self, process: u32, context: &mut Context<'_>) {
        let state = self.multus.remove(&process).expect("a process exits once");
        context.drop_client(state.client);
        let result = state.result.expect("a process exits with a result");
        if let Some(call) = state.call {
            self.cni_exited(call, &state.execution, result, context);
        }
    }

    fn multus_enter(&mut self, process: u32, step: Step) -> NodeToken {
        let ticket = self.ticket();
        let state = self
            .multus
            .get_mut(&process)
            .expect("a live process is in the table");
        state.step = step;
        state.ticket = ticket;
        NodeToken::Multus { process, ticket }
    }
}
