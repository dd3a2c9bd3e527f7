//! RunPodSandbox: reserve the name, record, namespace, CNI ADD, record, task, list. After a failure
//! with a namespace: CNI DEL within a budget of its own; if that fails, the sandbox stays listed as
//! not ready and its name stays reserved.
//! Source: containerd v1.7.2 `pkg/cri/server/sandbox_run.go:63-507`.

use std::rc::Rc;

use crate::cni::Verb;
use crate::context::Context;
use crate::event::NodeEvent;
use crate::node::cri::{ContainerState, CriError, CriRequest};
use crate::node::desk::{CniResult, Desk, Next, Signal, node_side};
use crate::objects::Pod;
use crate::observation::PodStage;

use super::Runtime;
use super::call::{CriCall, CriKind, CriStep};
use super::store::{Sandbox, SandboxState};

impl Runtime {
    /// RunPodSandbox for a Pod.
    pub(super) fn run_pod_sandbox(
        &mut self,
        pod: Rc<Pod>,
        attempt: u32,
        request: &CriRequest,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let container = desk.next_container();
        let call = CriCall {
            kind: CriKind::Run,
            step: CriStep::Prepare,
            ticket: 0,
            caller: Some(request.caller),
            canceled: false,
            deadline: context.now() + request.timeout,
            container,
            pod,
            attempt,
            netns: None,
            addresses: Vec::new(),
            process: None,
            grace: std::time::Duration::ZERO,
            failure: None,
        };
        self.begin(call, desk, context);
    }

    /// Step 1 and 2.
    pub(super) fn run_begin(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let call = &self.calls[&id];
        let (pod, attempt, container) = (call.pod.uid, call.attempt, call.container);
        if self.names.reserve(pod, attempt, container).is_err() {
            let call = self
                .calls
                .remove(&id)
                .expect("the call was just registered");
            if let Some(caller) = call.caller {
                desk.resume(caller, Signal::Cri(Err(CriError("name is reserved"))));
            }
            return;
        }
        self.arm_deadline(id, desk, context);
        let parameters = node_side(context);
        let demand = parameters.containerd.cpu_prepare;
        let token = self.cri_enter(id, CriStep::Prepare, desk);
        let work_ns = demand.as_nanos() as u64;
        self.cri_stage(id, PodStage::Sandbox { work_ns }, desk, context);
        desk.compute(demand, token, context);
    }

    /// The wait of a step ended.
    pub(super) fn run_step(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let parameters = node_side(context);
        let call = &self.calls[&id];
        let (canceled, host_network) = (call.canceled, call.pod.spec.host_network);
        let done = call.step;
        if canceled && !matches!(done, CriStep::Cleanup | CriStep::Forget) {
            return self.run_failed(id, CriError("context canceled"), desk, context);
        }
        match done {
            CriStep::Prepare => {
                let token = self.cri_enter(id, CriStep::Record, desk);
                self.cri_stage(id, PodStage::Disk, desk, context);
                desk.commit(parameters.containerd.sandbox_commits, token, context);
            }
            CriStep::Record if host_network => self.run_task(id, desk, context),
            CriStep::Record => {
                let now = context.now();
                let lock = &mut context.core.machine(desk.index).network_lock;
                let made = lock.submit(now, parameters.containerd.netns);
                let token = self.cri_enter(id, CriStep::Netns, desk);
                self.cri_stage(id, PodStage::NetworkLock, desk, context);
                desk.wait(made - now, token, context);
            }
            CriStep::Netns => {
                let call = &self.calls[&id];
                let (container, pod) = (call.container, call.pod.uid);
                let netns = self.make_netns(container, pod, desk, context);
                self.call_mut(id).netns = Some(netns);
                let token = self.cri_enter(id, CriStep::RecordNetns, desk);
                self.cri_stage(id, PodStage::Disk, desk, context);
                desk.commit(parameters.containerd.update_commits, token, context);
            }
            CriStep::RecordNetns => self.cri_cni(id, Verb::Add, CriStep::Add, desk, context),
            CriStep::RecordResult => self.run_task(id, desk, context),
            CriStep::Task => self.run_ready(id, desk, context),
            CriStep::Forget => {
                let call = &self.calls[&id];
                let (pod, attempt, container) = (call.pod.uid, call.attempt, call.container);
                let failure = call.failure.unwrap_or(CriError("failed"));
                self.names.release(pod, attempt, container);
                self.cri_end(id, Err(failure), desk);
            }
            step => unreachable!("RunPodSandbox has no wait in {step:?}"),
        }
    }

    /// Step 7 ended.
    pub(super) fn run_added(
        &mut self,
        id: u32,
        result: CniResult,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        match result {
            Ok(addresses) => {
                self.call_mut(id).addresses = addresses;
                let commits = node_side(context).containerd.update_commits;
                let token = self.cri_enter(id, CriStep::RecordResult, desk);
                self.cri_stage(id, PodStage::Disk, desk, context);
                desk.commit(commits, token, context);
            }
            Err(error) => {
                let reason = if error.code == 11 {
                    "no address"
                } else {
                    "network failed"
                };
                self.run_failed(id, CriError(reason), desk, context);
            }
        }
    }

    /// Steps 9 and 10.
    fn run_task(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let parameters = node_side(context);
        let demand = parameters.containerd.cpu_task + parameters.node.cpu_per_pod;
        let token = self.cri_enter(id, CriStep::Task, desk);
        let work_ns = demand.as_nanos() as u64;
        self.cri_stage(id, PodStage::Sandbox { work_ns }, desk, context);
        desk.compute(demand, token, context);
    }

    fn run_ready(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let call = self.call_mut(id);
        assert!(!call.canceled, "a canceled call makes no ready sandbox");
        assert_eq!(
            call.netns.is_none(),
            call.pod.spec.host_network,
            "a sandbox has a namespace, or the host's"
        );
        let container = call.container;
        let sandbox = Sandbox {
            pod: Rc::clone(&call.pod),
            attempt: call.attempt,
            state: SandboxState::Ready,
            netns: call.netns,
            network: !call.pod.spec.host_network,
            addresses: call.addresses.clone(),
            workload: ContainerState::None,
        };
        self.list_sandbox(container, sandbox, desk, context);
        self.cri_end(id, Ok(container), desk);
    }

    /// A step failed: with a namespace, its network is torn down first.
    fn run_failed(&mut self, id: u32, error: CriError, desk: &mut Desk, context: &mut Context<'_>) {
        self.cri_stage(id, PodStage::Cleanup, desk, context);
        let call = self.call_mut(id);
        call.failure = Some(error);
        if call.netns.is_some() {
            let budget = node_side(context).containerd.cleanup_timeout;
            desk.later(budget, NodeEvent::CleanupDeadline { call: id }, context);
            self.cri_cni(id, Verb::Del, CriStep::Cleanup, desk, context);
        } else {
            self.run_forget(id, desk, context);
        }
    }

    /// The DEL after a failure took longer than its budget.
    pub(crate) fn cleanup_deadline(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        if call.step != CriStep::Cleanup {
            return;
        }
        if let Some(process) = call.process {
            desk.follow(Next::Kill(process));
        }
        self.run_cleaned(id, false, desk, context);
    }

    /// The DEL after a failure ended.
    pub(super) fn run_cleaned(
        &mut self,
        id: u32,
        ok: bool,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        if ok {
            if let Some(netns) = self.call_mut(id).netns.take() {
                context.core.change(desk.index).remove_netns(netns);
            }
            return self.run_forget(id, desk, context);
        }
        let call = self.call_mut(id);
        let container = call.container;
        let failure = call.failure.unwrap_or(CriError("failed"));
        let sandbox = Sandbox {
            pod: Rc::clone(&call.pod),
            attempt: call.attempt,
            state: SandboxState::NotReady,
            netns: call.netns,
            network: true,
            addresses: Vec::new(),
            workload: ContainerState::None,
        };
        self.list_sandbox(container, sandbox, desk, context);
        self.cri_end(id, Err(failure), desk);
    }

    fn run_forget(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let commits = node_side(context).containerd.remove_commits;
        let token = self.cri_enter(id, CriStep::Forget, desk);
        desk.commit(commits, token, context);
    }
}
