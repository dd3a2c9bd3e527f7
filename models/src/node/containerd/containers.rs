//! CreateContainer, StartContainer and StopContainer for the Pod's one container.
//! Source: containerd v1.7.2 `pkg/cri/server/container_{create,start,stop}.go`.

use crate::context::Context;
use crate::event::NodeEvent;
use crate::ids::ContainerId;
use crate::node::Node;
use crate::observation::PodStage;

use super::{ContainerState, CriError, CriKind, CriStep, SandboxState};

impl Node {
    /// CPU of CreateContainer or StartContainer.
    pub(crate) fn container_begin(&mut self, id: u32, context: &mut Context<'_>) {
        let parameters = self.node_side(context);
        let demand = match self.runtime.calls[&id].kind {
            CriKind::Create => parameters.containerd.cpu_create,
            _ => parameters.containerd.cpu_start,
        };
        let token = self.cri_enter(id, CriStep::Container);
        let work_ns = demand.as_nanos() as u64;
        self.cri_stage(id, PodStage::Sandbox { work_ns }, context);
        self.compute(demand, token, context);
    }

    /// A step of CreateContainer or StartContainer ended.
    pub(crate) fn container_step(&mut self, id: u32, context: &mut Context<'_>) {
        let call = &self.runtime.calls[&id];
        let (kind, step, container, pod) = (call.kind, call.step, call.container, call.pod.uid);
        if kind == CriKind::Create && step == CriStep::Container {
            let commits = self.node_side(context).containerd.container_commits;
            let token = self.cri_enter(id, CriStep::RecordContainer);
            self.cri_stage(id, PodStage::Disk, context);
            return self.commit(commits, token, context);
        }
        let run = call.pod.spec.run;
        let ready = self
            .runtime
            .sandboxes
            .get_mut(&container)
            .filter(|sandbox| sandbox.state == SandboxState::Ready);
        let Some(sandbox) = ready else {
            return self.cri_end(id, Err(CriError("sandbox is not ready")), context);
        };
        if kind == CriKind::Create {
            sandbox.workload = ContainerState::Created;
        } else {
            sandbox.workload = ContainerState::Running;
            self.pleg_mark(pod);
            if let Some(run) = run {
                self.later(run, NodeEvent::WorkloadEnds { container }, context);
            }
        }
        self.cri_end(id, Ok(container), context);
    }

    /// The workload of a sandbox ended by itself.
    pub(crate) fn workload_ended(&mut self, container: ContainerId) {
        let Some(sandbox) = self.runtime.sandboxes.get_mut(&container) else {
            return;
        };
        if sandbox.workload == ContainerState::Running {
            sandbox.workload = ContainerState::Exited { completed: true };
            let pod = sandbox.pod.uid;
            self.pleg_mark(pod);
        }
    }

    /// SIGTERM; the workload ends at once, or is killed after its grace period.
    pub(crate) fn stop_container_begin(&mut self, id: u32, context: &mut Context<'_>) {
        let at_once = self.node_side(context).kubelet.stops_on_sigterm;
        let grace = if at_once {
            std::time::Duration::ZERO
        } else {
            self.runtime.calls[&id].grace
        };
        let token = self.cri_enter(id, CriStep::Grace);
        self.wait(grace, token, context);
    }

    /// A step of StopContainer ended.
    pub(crate) fn stop_container_step(&mut self, id: u32, context: &mut Context<'_>) {
        let call = &self.runtime.calls[&id];
        let container = call.container;
        if call.step == CriStep::Grace {
            let demand = self.node_side(context).containerd.cpu_stop_container;
            let token = self.cri_enter(id, CriStep::StopTask);
            return self.compute(demand, token, context);
        }
        let pod = call.pod.uid;
        if let Some(sandbox) = self.runtime.sandboxes.get_mut(&container)
            && sandbox.workload == ContainerState::Running
        {
            sandbox.workload = ContainerState::Exited { completed: false };
            self.pleg_mark(pod);
        }
        self.cri_end(id, Ok(container), context);
    }
}
