//! CreateContainer, StartContainer and StopContainer for the Pod's one container.
//! Source: containerd v1.7.2 `pkg/cri/server/container_{create,start,stop}.go`.

use crate::context::Context;
use crate::event::NodeEvent;
use crate::ids::ContainerId;
use crate::node::cri::{ContainerState, CriError};
use crate::node::desk::{Desk, Next, node_side};
use crate::observation::PodStage;

use super::Runtime;
use super::call::{CriKind, CriStep};
use super::store::SandboxState;

impl Runtime {
    /// CPU of CreateContainer or StartContainer.
    pub(super) fn container_begin(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let parameters = node_side(context);
        let demand = match self.calls[&id].kind {
            CriKind::Create => parameters.containerd.cpu_create,
            _ => parameters.containerd.cpu_start,
        };
        let token = self.cri_enter(id, CriStep::Container, desk);
        let work_ns = demand.as_nanos() as u64;
        self.cri_stage(id, PodStage::Sandbox { work_ns }, desk, context);
        desk.compute(demand, token, context);
    }

    /// A step of CreateContainer or StartContainer ended.
    pub(super) fn container_step(&mut self, id: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let call = &self.calls[&id];
        let (kind, step, container, pod) = (call.kind, call.step, call.container, call.pod.uid);
        if kind == CriKind::Create && step == CriStep::Container {
            let commits = node_side(context).containerd.container_commits;
            let token = self.cri_enter(id, CriStep::RecordContainer, desk);
            self.cri_stage(id, PodStage::Disk, desk, context);
            return desk.commit(commits, token, context);
        }
        let run = call.pod.spec.run;
        let ready = self
            .sandboxes
            .get_mut(&container)
            .filter(|sandbox| sandbox.state == SandboxState::Ready);
        let Some(sandbox) = ready else {
            return self.cri_end(id, Err(CriError("sandbox is not ready")), desk);
        };
        if kind == CriKind::Create {
            sandbox.workload = ContainerState::Created;
        } else {
            sandbox.workload = ContainerState::Running;
            desk.follow(Next::Changed(pod));
            if let Some(run) = run {
                desk.later(run, NodeEvent::WorkloadEnds { container }, context);
            }
        }
        self.cri_end(id, Ok(container), desk);
    }

    /// The workload of a sandbox ended by itself.
    pub(crate) fn workload_ended(&mut self, container: ContainerId, desk: &mut Desk) {
        let Some(sandbox) = self.sandboxes.get_mut(&container) else {
            return;
        };
        if sandbox.workload == ContainerState::Running {
            sandbox.workload = ContainerState::Exited { completed: true };
            let pod = sandbox.pod.uid;
            desk.follow(Next::Changed(pod));
        }
    }

    /// SIGTERM; the workload ends at once, or is killed after its grace period.
    pub(super) fn stop_container_begin(
        &mut self,
        id: u32,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let at_once = node_side(context).kubelet.stops_on_sigterm;
        let grace = if at_once {
            std::time::Duration::ZERO
        } else {
            self.calls[&id].grace
        };
        let token = self.cri_enter(id, CriStep::Grace, desk);
        desk.wait(grace, token, context);
    }

    /// A step of StopContainer ended.
    pub(super) fn stop_container_step(
        &mut self,
        id: u32,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let call = &self.calls[&id];
        let container = call.container;
        if call.step == CriStep::Grace {
            let demand = node_side(context).containerd.cpu_stop_container;
            let token = self.cri_enter(id, CriStep::StopTask, desk);
            return desk.compute(demand, token, context);
        }
        let pod = call.pod.uid;
        if let Some(sandbox) = self.sandboxes.get_mut(&container)
            && sandbox.workload == ContainerState::Running
        {
            sandbox.workload = ContainerState::Exited { completed: false };
            desk.follow(Next::Changed(pod));
        }
        self.cri_end(id, Ok(container), desk);
    }
}
