//! Stopping a Pod: containers, then every listed sandbox (CNI DEL each; an error is retried after
//! the back-off), then volumes; only then may the status goroutine delete the object. So "gone from
//! the API" means that the first DEL succeeded, unless the Pod was force-deleted.
//! Source: kubernetes v1.26.5 `pkg/kubelet/kubelet.go:1857-1990`, `pkg/kubelet/kubelet_pods.go:949-980`.

use std::rc::Rc;

use crate::context::Context;
use crate::ids::PodUid;
use crate::node::Node;
use crate::node::containerd::{ContainerState, CriKind, CriResult};

use super::pod_worker::Step;

impl Node {
    /// The terminating sync begins with the container.
    pub(crate) fn terminate_begin(&mut self, pod: PodUid, context: &mut Context<'_>) {
        let running = self
            .runtime
            .ready(pod)
            .filter(|(_, sandbox)| sandbox.workload == ContainerState::Running)
            .map(|(container, _)| container);
        let Some(container) = running else {
            return self.stop_sandboxes(pod, context);
        };
        let object = &self.worker_mut(pod).pod;
        let grace = object
            .deletion
            .map_or(object.spec.grace, |(_, grace)| grace);
        self.record_event(context);
        let token = self.worker_enter(pod, Step::StopContainer);
        self.cri(CriKind::StopContainer, container, grace, token, context);
    }

    /// StopContainer ended.
    pub(crate) fn container_stopped(
        &mut self,
        pod: PodUid,
        result: CriResult,
        context: &mut Context<'_>,
    ) {
        match result {
            Ok(_) => self.stop_sandboxes(pod, context),
            Err(_) => self.sync_done(pod, false, context),
        }
    }

    fn stop_sandboxes(&mut self, pod: PodUid, context: &mut Context<'_>) {
        self.worker_mut(pod).to_stop = self.runtime.listed(pod).to_vec();
        self.stop_next(pod, context);
    }

    fn stop_next(&mut self, pod: PodUid, context: &mut Context<'_>) {
        if let Some(container) = self.worker_mut(pod).to_stop.pop() {
            let token = self.worker_enter(pod, Step::StopSandbox);
            return self.cri(
                CriKind::Stop,
                container,
                std::time::Duration::ZERO,
                token,
                context,
            );
        }
        let mut status = self.status_of(pod);
        status.ready = false;
        status.pod_ips.clear();
        self.set_status(pod, status, context);
        let span = self.node_side(context).kubelet.unmount;
        let object = Rc::clone(&self.worker_mut(pod).pod);
        let delay = self.draw(&object, span, context);
        let token = self.worker_enter(pod, Step::Unmount);
        self.wait(delay, token, context);
    }

    /// StopPodSandbox ended; a failure is retried after the back-off.
    pub(crate) fn sandbox_stopped_for(
        &mut self,
        pod: PodUid,
        result: CriResult,
        context: &mut Context<'_>,
    ) {
        if result.is_ok() {
            return self.stop_next(pod, context);
        }
        self.worker_mut(pod).to_stop.clear();
        self.record_event(context);
        self.sync_done(pod, false, context);
    }

    /// Nothing of the Pod is left here but records.
    pub(crate) fn pod_over(&mut self, pod: PodUid, context: &mut Context<'_>) {
        let _ = self.worker_enter(pod, Step::Over);
        self.kubelet.active_count -= 1;
        if self.worker_mut(pod).gone {
            self.kubelet.workers.remove(&pod);
            self.forget_streams(pod);
        } else {
            self.status_poke(pod, context);
        }
    }
}
