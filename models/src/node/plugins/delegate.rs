//! The delegate of multus: macvlan, and behind it the plugin that the IPAM chains, if it has one.
//! An ADD goes through them in order, a DEL backwards, and the first that fails ends either.
//! Source: k8snetworkplumbingwg/multus-cni v3.9.3 `pkg/multus/multus.go:494-852`.

use crate::cni::{IpamAnswer, IpamCall, Verb};
use crate::context::Context;
use crate::event::Event;
use crate::ids::IpamCallId;
use crate::node::desk::{CniResult, Desk, Execution};
use crate::observation::PodStage;

use super::multus::Step;
use super::{Parent, Plugins};

impl Plugins {
    /// Runs the delegate: its plugins in order, or backwards for a DEL.
    pub(super) fn multus_delegate(
        &mut self,
        process: u32,
        verb: Verb,
        step: Step,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let state = self
            .multus
            .get_mut(&process)
            .expect("a live process is in the table");
        state.step = step;
        state.ticket = 0;
        // A DEL goes through the delegate's plugins in reverse.
        if verb == Verb::Del && self.network.ipam_is_chained {
            self.multus_chained(process, verb, desk, context);
        } else {
            self.multus_macvlan(process, verb, desk, context);
        }
    }

    /// Executes the plugin that the IPAM chains behind macvlan.
    fn multus_chained(
        &mut self,
        process: u32,
        verb: Verb,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let (node, id) = (desk.index, desk.next_ipam_call());
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
        let before = self.chained.insert(id, process);
        assert!(before.is_none(), "an execution has one parent");
        context.core.queue.soon(Event::IpamChained(call));
    }

    /// The chained plugin exited; false when the execution is another's.
    pub(super) fn chained_exited(
        &mut self,
        call: IpamCallId,
        answer: &IpamAnswer,
        desk: &mut Desk,
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
            (Step::Chained, Ok(_)) => self.multus_get_pod(process, Step::StatusPod, desk, context),
            (Step::Chained, Err(error)) => {
                state.result = Some(Err(error.clone()));
                self.multus_delegate(process, Verb::Del, Step::DelegateUndo, desk, context);
            }
            (_, Ok(_)) => self.multus_macvlan(process, Verb::Del, desk, context),
            // The first plugin that fails ends the DEL.
            (_, Err(error)) => self.delegate_exited(process, Err(error.clone()), desk, context),
        }
        true
    }

    fn multus_macvlan(
        &mut self,
        process: u32,
        verb: Verb,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let delegate = desk.ticket();
        let state = self.multus.get_mut(&process).expect("it is live");
        state.delegate = Some(delegate);
        let execution = Execution {
            verb,
            ..state.execution.clone()
        };
        self.macvlan_exec(delegate, Parent::Multus(process), execution, desk, context);
    }

    /// The delegate exited.
    pub(super) fn delegate_exited(
        &mut self,
        process: u32,
        result: CniResult,
        desk: &mut Desk,
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
                self.multus_finish(process, result, desk, context);
            }
            (_, Verb::Add) if result.is_ok() && self.network.ipam_is_chained => {
                state.result = Some(result);
                state.step = Step::Chained;
                self.multus_chained(process, Verb::Add, desk, context);
            }
            (_, Verb::Add) if result.is_ok() => {
                state.result = Some(result);
                self.multus_stage(process, PodStage::MultusApi, desk, context);
                self.multus_get_pod(process, Step::StatusPod, desk, context);
            }
            (_, Verb::Add) => {
                state.result = Some(result);
                self.multus_stage(process, PodStage::Cleanup, desk, context);
                self.multus_delegate(process, Verb::Del, Step::DelegateUndo, desk, context);
            }
            (_, Verb::Del) => {
                // The cache file goes even if the delegate failed.
                let container = state.execution.container;
                self.multus_cache.remove(&container);
                self.multus_finish(process, result, desk, context);
            }
        }
    }
}
