//! The runtime part of a sync: what is listed decides what is made. Old sandboxes are stopped
//! first, then one sandbox, its image, its container.
//! Source: kubernetes v1.26.5 `pkg/kubelet/kuberuntime/kuberuntime_manager.go:678-970`.

use std::rc::Rc;

use crate::context::Context;
use crate::ids::{ContainerId, PodUid};
use crate::node::cri::{ContainerState, CriResult, CriVerb};
use crate::node::desk::{KubeletDesk, node_side};
use crate::observation::PodStage;

use super::pod_worker::Step;
use super::{Kubelet, ask};

impl Kubelet {
    /// The runtime part: what is listed decides what is made.
    pub(super) fn sync_runtime(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if let Some((container, sandbox)) = desk.cri.ready(pod) {
            return match sandbox.workload {
                ContainerState::None => self.ensure_image(pod, container, desk, context),
                ContainerState::Created => self.start_container(pod, container, desk, context),
                ContainerState::Running | ContainerState::Exited { .. } => {
                    self.sync_done(pod, true, desk, context);
                }
            };
        }
        let listed = desk.cri.list(pod).to_vec();
        if listed.is_empty() {
            self.run_sandbox(pod, 0, desk, context);
        } else {
            // Newest last in the list, so newest stopped first.
            assert!(
                self.worker_mut(pod).to_stop.is_empty(),
                "one round of stops at a time"
            );
            self.worker_mut(pod).to_stop = listed;
            desk.stage(pod, PodStage::Cleanup, context);
            self.stop_old(pod, desk, context);
        }
    }

    /// Stops one old sandbox after another; then a new one gets the next attempt.
    fn stop_old(&mut self, pod: PodUid, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        if let Some(container) = self.worker_mut(pod).to_stop.pop() {
            let token = self.worker_enter(pod, Step::StopOld, desk);
            return ask(CriVerb::Stop(container), token, desk, context);
        }
        let (cri, listed) = (desk.cri, desk.cri.list(pod));
        let newest = listed.iter().map(|id| cri.status(*id).attempt).max();
        self.run_sandbox(pod, newest.map_or(0, |attempt| attempt + 1), desk, context);
    }

    pub(super) fn old_stopped(
        &mut self,
        pod: PodUid,
        result: CriResult,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        match result {
            Ok(_) => self.stop_old(pod, desk, context),
            Err(error) => {
                self.worker_mut(pod).to_stop.clear();
                self.sync_failed(pod, error.0, desk, context);
            }
        }
    }

    fn run_sandbox(
        &mut self,
        pod: PodUid,
        attempt: u32,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let object = Rc::clone(&self.worker_mut(pod).pod);
        let token = self.worker_enter(pod, Step::Sandbox, desk);
        let verb = CriVerb::Run {
            pod: object,
            attempt,
        };
        ask(verb, token, desk, context);
    }

    pub(super) fn sandbox_made(
        &mut self,
        pod: PodUid,
        result: CriResult,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        match result {
            Ok(container) => self.ensure_image(pod, container, desk, context),
            Err(error) => self.sync_failed(pod, error.0, desk, context),
        }
    }

    /// A present image costs nothing; a policy of Always asks the registry, one Pod at a time.
    fn ensure_image(
        &mut self,
        pod: PodUid,
        container: ContainerId,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let parameters = &node_side(context).kubelet;
        let always = parameters.pull_always || self.worker_mut(pod).pod.spec.pull_always;
        if !always {
            return self.create_container(pod, container, desk, context);
        }
        let now = context.now();
        let pulls = self
            .pulls
            .as_mut()
            .expect("a running kubelet has its puller");
        let done = pulls.submit(now, parameters.image_pull);
        let token = self.worker_enter(pod, Step::Pull(container), desk);
        desk.stage(pod, PodStage::ImagePull, context);
        desk.wait(done - now, token, context);
    }

    pub(super) fn create_container(
        &mut self,
        pod: PodUid,
        container: ContainerId,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        self.record_event(desk, context);
        let token = self.worker_enter(pod, Step::Create, desk);
        ask(CriVerb::Create(container), token, desk, context);
    }

    pub(super) fn container_created(
        &mut self,
        pod: PodUid,
        result: CriResult,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        match result {
            Ok(container) => {
                self.record_event(desk, context);
                self.start_container(pod, container, desk, context);
            }
            Err(error) => self.sync_failed(pod, error.0, desk, context),
        }
    }

    fn start_container(
        &mut self,
        pod: PodUid,
        container: ContainerId,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let token = self.worker_enter(pod, Step::Start, desk);
        ask(CriVerb::Start(container), token, desk, context);
    }

    pub(super) fn container_started(
        &mut self,
        pod: PodUid,
        result: CriResult,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        match result {
            Ok(_) => {
                self.record_event(desk, context);
                desk.stage(pod, PodStage::Relist, context);
                desk.starts_no_more(pod);
                self.sync_done(pod, true, desk, context);
            }
            Err(error) => self.sync_failed(pod, error.0, desk, context),
        }
    }
}
