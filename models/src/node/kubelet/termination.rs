//! Stopping a Pod: containers, then every listed sandbox (CNI DEL each; an error is retried after
//! the back-off), then volumes; only then may the status goroutine delete the object. So "gone from
//! the API" means that the first DEL succeeded, unless the Pod was force-deleted.
//! Source: kubernetes v1.26.5 `pkg/kubelet/kubelet.go:1857-1990`,
//! `pkg/kubelet/kubelet_pods.go:949-980`.

use std::rc::Rc;

use crate::context::Context;
use crate::ids::PodUid;
use crate::node::cri::{ContainerState, CriResult, CriVerb};
use crate::node::desk::{KubeletDesk, node_side};

use super::pod_worker::Step;
use super::{Kubelet, ask};

impl Kubelet {
    /// The terminating sync begins with the container.
    pub(super) fn terminate_begin(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let running = desk
            .cri
            .ready(pod)
            .filter(|(_, sandbox)| sandbox.workload == ContainerState::Running)
            .map(|(container, _)| container);
        let Some(container) = running else {
            return self.stop_sandboxes(pod, desk, context);
        };
        let object = &self.worker_mut(pod).pod;
        let grace = object
            .deletion
            .map_or(object.spec.grace, |(_, grace)| grace);
        self.record_event(desk, context);
        let token = self.worker_enter(pod, Step::StopContainer, desk);
        let verb = CriVerb::StopContainer { container, grace };
        ask(verb, token, desk, context);
    }

    /// StopContainer ended.
    pub(super) fn container_stopped(
        &mut self,
        pod: PodUid,
        result: CriResult,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        match result {
            Ok(_) => self.stop_sandboxes(pod, desk, context),
            Err(_) => self.sync_done(pod, false, desk, context),
        }
    }

    fn stop_sandboxes(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        assert!(
            self.worker_mut(pod).to_stop.is_empty(),
            "one round of stops at a time"
        );
        self.worker_mut(pod).to_stop = desk.cri.list(pod).to_vec();
        self.stop_next(pod, desk, context);
    }

    fn stop_next(&mut self, pod: PodUid, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        if let Some(container) = self.worker_mut(pod).to_stop.pop() {
            let token = self.worker_enter(pod, Step::StopSandbox, desk);
            return ask(CriVerb::Stop(container), token, desk, context);
        }
        let mut status = self.status_of(pod, desk.cri);
        status.ready = false;
        status.pod_ips.clear();
        self.set_status(pod, status, desk, context);
        let span = node_side(context).kubelet.unmount;
        let object = Rc::clone(&self.worker_mut(pod).pod);
        let delay = desk.draw(&object, span);
        let token = self.worker_enter(pod, Step::Unmount, desk);
        desk.wait(delay, token, context);
    }

    /// StopPodSandbox ended; a failure is retried after the back-off.
    pub(super) fn sandbox_stopped_for(
        &mut self,
        pod: PodUid,
        result: CriResult,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if result.is_ok() {
            return self.stop_next(pod, desk, context);
        }
        self.worker_mut(pod).to_stop.clear();
        self.record_event(desk, context);
        self.sync_done(pod, false, desk, context);
    }

    /// Nothing of the Pod is left here but records.
    pub(super) fn pod_over(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let _ = self.worker_enter(pod, Step::Over, desk);
        assert!(self.active_count > 0, "a Pod that ends was counted");
        self.active_count -= 1;
        if self.worker_mut(pod).gone {
            self.let_go(pod, desk);
        } else {
            self.status_poke(pod, desk, context);
        }
    }
}
