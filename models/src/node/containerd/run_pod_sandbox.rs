//! RunPodSandbox: reserve the name, record, namespace, CNI ADD, record, task, list. After a failure
//! with a namespace: CNI DEL within a budget of its own; if that fails, the sandbox stays listed as
//! not ready and its name stays reserved.
//! Source: containerd v1.7.2 `pkg/cri/server/sandbox_run.go:63-507`.

use std::net::IpAddr;
use std::rc::Rc;

use crate::cni::{CniError, Verb};
use crate::context::Context;
use crate::event::{NodeEvent, NodeToken};
use crate::node::{Node, Signal};
use crate::objects::Pod;
use crate::observation::PodStage;

use super::{ContainerState, CriCall, CriError, CriKind, CriStep, Sandbox, SandboxState};

impl Node {
    /// RunPodSandbox for a Pod.
    pub(crate) fn run_pod_sandbox(
        &mut self,
        pod: Rc<Pod>,
        attempt: u32,
        caller: NodeToken,
        context: &mut Context<'_>,
    ) {
        let container = self.next_container();
        let call = CriCall {
            kind: CriKind::Run,
            step: CriStep::Prepare,
            ticket: 0,
            caller: Some(caller),
            canceled: false,
            deadline: context.now() + self.node_side(context).kubelet.run_timeout,
            container,
            pod,
            attempt,
            netns: None,
            addresses: Vec::new(),
            process: None,
            grace: std::time::Duration::ZERO,
            failure: None,
        };
        self.cri_begin(call, context);
    }

    /// Step 1 and 2.
    pub(crate) fn run_begin(&mut self, id: u32, context: &mut Context<'_>) {
        let call = &self.runtime.calls[&id];
        let (pod, attempt, container) = (call.pod.uid, call.attempt, call.container);
        if self.runtime.names.reserve(pod, attempt, container).is_err() {
            let call = self
                .runtime
                .calls
                .remove(&id)
                .expect("the call was just registered");
            if let Some(caller) = call.caller {
                self.resume(
                    caller,
                    Signal::Cri(Err(CriError("name is reserved"))),
                    context,
                );
            }
            return;
        }
        self.arm_deadline(id, context);
        let parameters = self.node_side(context);
        let demand = parameters.containerd.cpu_prepare;
        let token = self.cri_enter(id, CriStep::Prepare);
        let work_ns = demand.as_nanos() as u64;
        self.cri_stage(id, PodStage::Sandbox { work_ns }, context);
        self.compute(demand, token, context);
    }

    /// The wait of a step ended.
    pub(crate) fn run_step(&mut self, id: u32, context: &mut Context<'_>) {
        let parameters = self.node_side(context);
        let call = &self.runtime.calls[&id];
        let (canceled, host_network) = (call.canceled, call.pod.spec.host_network);
        let done = call.step;
        if canceled && !matches!(done, CriStep::Cleanup | CriStep::Forget) {
            return self.run_failed(id, CriError("context canceled"), context);
        }
        match done {
            CriStep::Prepare => {
                let token = self.cri_enter(id, CriStep::Record);
                self.cri_stage(id, PodStage::Disk, context);
                self.commit(parameters.containerd.sandbox_commits, token, context);
            }
            CriStep::Record if host_network => self.run_task(id, context),
            CriStep::Record => {
                let now = context.now();
                let lock = &mut context.core.machine(self.index).network_lock;
                let made = lock.submit(now, parameters.containerd.netns);
                let token = self.cri_enter(id, CriStep::Netns);
                self.cri_stage(id, PodStage::NetworkLock, context);
                self.wait(made - now, token, context);
            }
            CriStep::Netns => {
                let call = &self.runtime.calls[&id];
                let (container, pod) = (call.container, call.pod.uid);
                let netns = self.make_netns(container, pod, context);
                self.call_mut(id).netns = Some(netns);
                let token = self.cri_enter(id, CriStep::RecordNetns);
                self.cri_stage(id, PodStage::Disk, context);
                self.commit(parameters.containerd.update_commits, token, context);
            }
            CriStep::RecordNetns => self.cri_cni(id, Verb::Add, CriStep::Add, context),
            CriStep::RecordResult => self.run_task(id, context),
            CriStep::Task => self.run_ready(id, context),
            CriStep::Forget => {
                let call = &self.runtime.calls[&id];
                let (pod, attempt, container) = (call.pod.uid, call.attempt, call.container);
                let failure = call.failure.unwrap_or(CriError("failed"));
                self.runtime.names.release(pod, attempt, container);
                self.cri_end(id, Err(failure), context);
            }
            step => unreachable!("RunPodSandbox has no wait in {step:?}"),
        }
    }

    /// Step 7 ended.
    pub(crate) fn run_added(
        &mut self,
        id: u32,
        result: Result<Vec<IpAddr>, CniError>,
        context: &mut Context<'_>,
    ) {
        match result {
            Ok(addresses) => {
                self.call_mut(id).addresses = addresses;
                let commits = self.node_side(context).containerd.update_commits;
                let token = self.cri_enter(id, CriStep::RecordResult);
                self.cri_stage(id, PodStage::Disk, context);
                self.commit(commits, token, context);
            }
            Err(error) => {
                let reason = if error.code == 11 {
                    "no address"
                } else {
                    "network failed"
                };
                self.run_failed(id, CriError(reason), context);
            }
        }
    }

    fn call_mut(&mut self, id: u32) -> &mut CriCall {
        self.runtime
            .calls
            .get_mut(&id)
            .expect("a call in flight is in the table")
    }

    /// Steps 9 and 10.
    fn run_task(&mut self, id: u32, context: &mut Context<'_>) {
        let parameters = self.node_side(context);
        let demand = parameters.containerd.cpu_task + parameters.node.cpu_per_pod;
        let token = self.cri_enter(id, CriStep::Task);
        let work_ns = demand.as_nanos() as u64;
        self.cri_stage(id, PodStage::Sandbox { work_ns }, context);
        self.compute(demand, token, context);
    }

    fn run_ready(&mut self, id: u32, context: &mut Context<'_>) {
        let call = self.call_mut(id);
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
        self.list_sandbox(container, sandbox, context);
        self.cri_end(id, Ok(container), context);
    }

    /// A step failed: with a namespace, its network is torn down first.
    fn run_failed(&mut self, id: u32, error: CriError, context: &mut Context<'_>) {
        self.cri_stage(id, PodStage::Cleanup, context);
        let call = self.call_mut(id);
        call.failure = Some(error);
        if call.netns.is_some() {
            let budget = self.node_side(context).containerd.cleanup_timeout;
            self.later(budget, NodeEvent::CleanupDeadline { call: id }, context);
            self.cri_cni(id, Verb::Del, CriStep::Cleanup, context);
        } else {
            self.run_forget(id, context);
        }
    }

    /// The DEL after a failure took longer than its budget.
    pub(crate) fn cleanup_deadline(&mut self, id: u32, context: &mut Context<'_>) {
        let Some(call) = self.runtime.calls.get(&id) else {
            return;
        };
        if call.step != CriStep::Cleanup {
            return;
        }
        if let Some(process) = call.process {
            self.cni_kill(process, context);
        }
        self.run_cleaned(id, false, context);
    }

    /// The DEL after a failure ended.
    pub(crate) fn run_cleaned(&mut self, id: u32, ok: bool, context: &mut Context<'_>) {
        if ok {
            if let Some(netns) = self.call_mut(id).netns.take() {
                context.core.change(self.index).remove_netns(netns);
            }
            return self.run_forget(id, context);
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
        self.list_sandbox(container, sandbox, context);
        self.cri_end(id, Err(failure), context);
    }

    fn run_forget(&mut self, id: u32, context: &mut Context<'_>) {
        let commits = self.node_side(context).containerd.remove_commits;
        let token = self.cri_enter(id, CriStep::Forget);
        self.commit(commits, token, context);
    }
}
