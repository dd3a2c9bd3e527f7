//! The one volume that every Pod has: the projected service account token, and the root
//! certificate beside it. One TokenRequest per Pod; one LIST of ConfigMaps per namespace and node.
//! Source: kubernetes v1.26.5 `pkg/kubelet/volumemanager/volume_manager.go:58-83,416-419`,
//! `pkg/kubelet/token/token_manager.go:67-77`,
//! `pkg/kubelet/util/manager/watch_based_manager.go:248-314`.

use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::event::NodeToken;
use crate::ids::PodUid;
use crate::node::desk::{Errand, KubeletDesk, Next, Signal, node_side};
use crate::observation::PodStage;
use crate::request::Request;

use super::Kubelet;
use super::pod_worker::Step;

/// ConfigMaps of one namespace, listed and then watched.
#[derive(Debug)]
pub(super) struct RootCa {
    namespace: Rc<str>,
    ticket: u32,
    synced: bool,
    waiting: Vec<PodUid>,
}

impl Kubelet {
    /// A Pod of a namespace is here: its ConfigMaps are needed.
    pub(super) fn need_root_ca(
        &mut self,
        namespace: &Rc<str>,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if self
            .root_ca
            .iter()
            .any(|known| known.namespace == *namespace)
        {
            return;
        }
        let namespace = Rc::clone(namespace);
        let number = self.root_ca.len() as u32;
        let waiting = Vec::new();
        self.root_ca.push(RootCa {
            namespace,
            ticket: 0,
            synced: false,
            waiting,
        });
        self.list_root_ca(number, desk, context);
    }

    fn list_root_ca(&mut self, number: u32, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let ticket = desk.ticket();
        self.root_ca[number as usize].ticket = ticket;
        let token = NodeToken::RootCa {
            namespace: number,
            ticket,
        };
        self.call(Request::ListConfigMaps, token, desk, context);
    }

    /// The list arrived, or failed, or its pause is over.
    pub(super) fn root_ca_resume(
        &mut self,
        number: u32,
        ticket: u32,
        signal: &Signal,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let known = self.root_ca.get_mut(number as usize);
        let Some(known) = known.filter(|known| known.ticket == ticket) else {
            return;
        };
        match signal {
            Signal::Api(Ok(_)) => {
                known.synced = true;
                for pod in std::mem::take(&mut known.waiting) {
                    desk.follow(Next::Kubelet(Errand::Certificate(pod)));
                }
            }
            Signal::Go => self.list_root_ca(number, desk, context),
            Signal::Api(Err(_)) | Signal::Cri(_) => {
                let span = node_side(context).kubelet.list_retry;
                let delay = desk.stream().duration(span.min..=span.max);
                desk.wait(
                    delay,
                    NodeToken::RootCa {
                        namespace: number,
                        ticket,
                    },
                    context,
                );
            }
        }
    }

    /// The sync of a Pod begins to wait for its volumes; a later sync finds them mounted.
    pub(super) fn volumes_begin(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let span = node_side(context).kubelet.volume_start;
        let object = Rc::clone(&self.workers[&pod].pod);
        let delay = desk.draw(&object, span);
        self.worker_mut(pod).volumes_since = context.now();
        let token = self.worker_enter(pod, Step::VolumeStart, desk);
        desk.stage(pod, PodStage::Volumes, context);
        desk.wait(delay, token, context);
    }

    /// The loops have picked the Pod up: its token is requested.
    pub(super) fn volumes_request(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if self.worker_mut(pod).has_token {
            return self.volumes_certificate(pod, desk, context);
        }
        let token = self.worker_enter(pod, Step::Token, desk);
        let limited_ns = self.call(Request::CreateToken, token, desk, context);
        desk.stage(pod, PodStage::Request { limited_ns }, context);
    }

    /// The token arrived, or failed.
    pub(super) fn volumes_token(
        &mut self,
        pod: PodUid,
        ok: bool,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if ok {
            self.worker_mut(pod).has_token = true;
            self.volumes_certificate(pod, desk, context);
        } else {
            self.volumes_retry(pod, desk, context);
        }
    }

    /// The certificate is there, or is waited for.
    fn volumes_certificate(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let limit = node_side(context).kubelet.configmap_wait;
        let namespace = Rc::clone(&self.workers[&pod].pod.namespace);
        let known = self
            .root_ca
            .iter_mut()
            .find(|known| known.namespace == namespace);
        let known = known.expect("a Pod's namespace is listed when the Pod is added");
        if known.synced {
            return self.volumes_mounted(pod, desk, context);
        }
        known.waiting.push(pod);
        desk.stage(pod, PodStage::Volumes, context);
        let token = self.worker_enter(pod, Step::Certificate, desk);
        desk.wait(limit, token, context);
    }

    /// The certificate arrived while a Pod waited, or after it gave up.
    pub(super) fn root_ca_synced(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if self
            .workers
            .get(&pod)
            .is_some_and(|w| w.step == Step::Certificate)
        {
            self.volumes_mounted(pod, desk, context);
        }
    }

    /// A mount failed: its back-off doubles.
    pub(super) fn volumes_retry(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let parameters = &node_side(context).kubelet;
        let worker = self.worker_mut(pod);
        let delay = if worker.mount_backoff.is_zero() {
            parameters.volume_retry_min
        } else {
            (worker.mount_backoff * 2).min(parameters.volume_retry_max)
        };
        worker.mount_backoff = delay;
        let token = self.worker_enter(pod, Step::VolumeStart, desk);
        desk.stage(pod, PodStage::Volumes, context);
        desk.wait(delay, token, context);
    }

    /// Mounted: the sync notices at its next look.
    fn volumes_mounted(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let poll = node_side(context).kubelet.volume_poll.as_nanos() as u64;
        let now = context.now();
        let since = (now - self.worker_mut(pod).volumes_since).as_nanos() as u64;
        let worker = self.worker_mut(pod);
        assert!(worker.has_token, "what is mounted has its token");
        worker.mounted = true;
        worker.mount_backoff = Duration::ZERO;
        let delay = Duration::from_nanos(since.div_ceil(poll) * poll - since);
        let token = self.worker_enter(pod, Step::VolumePoll, desk);
        desk.stage(pod, PodStage::Volumes, context);
        desk.wait(delay, token, context);
    }
}
