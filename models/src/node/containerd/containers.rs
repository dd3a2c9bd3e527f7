//! CreateContainer, StartContainer and StopContainer for the Pod's one container.
//! Source: containerd v1.7.2 `pkg/cri/server/container_{create,start,stop}.go`.

use std::time::Duration;

use crate::event::NodeEvent;
use crate::ids::ContainerId;
use crate::node::cri::{ContainerState, CriError, CriResult};
use crate::node::desk::Next;

use super::Containerd;
use super::call::{Call, Work};
use super::store::SandboxState;

impl Work {
    /// CreateContainer.
    pub(super) async fn create_container(&self) -> CriResult {
        let parameters = &self.containerd.parameters.containerd;
        self.work(parameters.cpu_create).await;
        self.record(parameters.container_commits).await;
        self.containerd
            .set_workload(&self.call, ContainerState::Created)?;
        Ok(self.call.container)
    }

    /// StartContainer.
    pub(super) async fn start_container(&self) -> CriResult {
        let parameters = &self.containerd.parameters.containerd;
        self.work(parameters.cpu_start).await;
        self.containerd
            .set_workload(&self.call, ContainerState::Running)?;
        if let Some(time) = self.call.pod.spec.run {
            self.with(move |containerd, call, context| {
                let container = call.container;
                let ends = NodeEvent::WorkloadEnds { container };
                containerd.desk.later(time, ends, context);
            })
            .await;
        }
        Ok(self.call.container)
    }

    /// StopContainer: SIGTERM; the workload ends at once, or is killed after its grace period.
    pub(super) async fn stop_container(&self, grace: Duration) -> CriResult {
        let parameters = &self.containerd.parameters;
        if !parameters.kubelet.stops_on_sigterm {
            self.port.sleep(grace).await;
        }
        self.port
            .cpu(parameters.containerd.cpu_stop_container)
            .await;
        let ended = ContainerState::Exited { completed: false };
        self.containerd.workload_ended(self.call.container, ended);
        Ok(self.call.container)
    }
}

impl Containerd {
    /// The container of a sandbox that is ready has another state.
    fn set_workload(&self, call: &Call, state: ContainerState) -> Result<(), CriError> {
        let mut store = self.store.borrow_mut();
        let sandbox = (store.sandboxes.get_mut(&call.container))
            .filter(|sandbox| sandbox.state == SandboxState::Ready)
            .ok_or(CriError("sandbox is not ready"))?;
        sandbox.workload = state;
        if state == ContainerState::Running {
            self.desk.follow(Next::Changed(call.pod.uid));
        }
        Ok(())
    }

    /// The workload of a sandbox ended, if it ran.
    pub(super) fn workload_ended(&self, container: ContainerId, state: ContainerState) {
        let mut store = self.store.borrow_mut();
        if let Some(sandbox) = store.sandboxes.get_mut(&container)
            && sandbox.workload == ContainerState::Running
        {
            sandbox.workload = state;
            self.desk.follow(Next::Changed(sandbox.pod.uid));
        }
    }
}
