//! The one volume that every Pod has: the projected service account token, and the root
//! certificate beside it. One TokenRequest per Pod; one LIST of ConfigMaps per namespace and node.
//! Source: kubernetes v1.26.5 `pkg/kubelet/volumemanager/volume_manager.go:58-83,416-419`,
//! `pkg/kubelet/token/token_manager.go:67-77`, `pkg/kubelet/util/manager/watch_based_manager.go:248-314`.

use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::event::NodeToken;
use crate::ids::PodUid;
use crate::node::{Node, Signal};
use crate::observation::PodStage;
use crate::request::Request;

use super::pod_worker::Step;

/// ConfigMaps of one namespace, listed and then watched.
#[derive(Debug)]
pub(crate) struct RootCa {
    namespace: Rc<str>,
    ticket: u32,
    synced: bool,
    waiting: Vec<PodUid>,
}

impl Node {
    /// A Pod of a namespace is here: its ConfigMaps are needed.
    pub(crate) fn need_root_ca(&mut self, namespace: &Rc<str>, context: &mut Context<'_>) {
        if self
            .kubelet
            .root_ca
            .iter()
            .any(|known| known.namespace == *namespace)
        {
            return;
        }
        let namespace = Rc::clone(namespace);
        let number = self.kubelet.root_ca.len() as u32;
        let waiting = Vec::new();
        self.kubelet.root_ca.push(RootCa {
            namespace,
            ticket: 0,
            synced: false,
            waiting,
        });
        self.list_root_ca(number, context);
    }

    fn list_root_ca(&mut self, number: u32, context: &mut Context<'_>) {
        let ticket = self.ticket();
        self.kubelet.root_ca[number as usize].ticket = ticket;
        let token = NodeToken::RootCa {
            namespace: number,
            ticket,
        };
        self.call(Request::ListConfigMaps, token, context);
    }

    /// The list arrived, or failed, or its pause is over.
    pub(crate) fn root_ca_resume(
        &mut self,
        number: u32,
        ticket: u32,
        signal: &Signal,
        context: &mut Context<'_>,
    ) {
        let known = self.kubelet.root_ca.get_mut(number as usize);
        let Some(known) = known.filter(|known| known.ticket == ticket) else {
            return;
        };
        match signal {
            Signal::Api(Ok(_)) => {
                known.synced = true;
                for pod in std::mem::take(&mut known.waiting) {
                    self.root_ca_synced(pod, context);
                }
            }
            Signal::Go => self.list_root_ca(number, context),
            Signal::Api(Err(_)) | Signal::Cri(_) => {
                let span = self.node_side(context).kubelet.list_retry;
                let delay = self.stream.duration(span.min..=span.max);
                self.wait(
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
    pub(crate) fn volumes_begin(&mut self, pod: PodUid, context: &mut Context<'_>) {
        let span = self.node_side(context).kubelet.volume_start;
        let object = Rc::clone(&self.kubelet.workers[&pod].pod);
        let delay = self.draw(&object, span, context);
        self.worker_mut(pod).volumes_since = context.now();
        let token = self.worker_enter(pod, Step::VolumeStart);
        self.stage(pod, PodStage::Volumes, context);
        self.wait(delay, token, context);
    }

    /// The loops have picked the Pod up: its token is requested.
    pub(crate) fn volumes_request(&mut self, pod: PodUid, context: &mut Context<'_>) {
        if self.worker_mut(pod).has_token {
            return self.volumes_certificate(pod, context);
        }
        let token = self.worker_enter(pod, Step::Token);
        let limited_ns = self.call(Request::CreateToken, token, context);
        self.stage(pod, PodStage::Request { limited_ns }, context);
    }

    /// The token arrived, or failed.
    pub(crate) fn volumes_token(&mut self, pod: PodUid, ok: bool, context: &mut Context<'_>) {
        if ok {
            self.worker_mut(pod).has_token = true;
            self.volumes_certificate(pod, context);
        } else {
            self.volumes_retry(pod, context);
        }
    }

    /// The certificate is there, or is waited for.
    fn volumes_certificate(&mut self, pod: PodUid, context: &mut Context<'_>) {
        let limit = self.node_side(context).kubelet.configmap_wait;
        let namespace = Rc::clone(&self.kubelet.workers[&pod].pod.namespace);
        let known = self
            .kubelet
            .root_ca
            .iter_mut()
            .find(|known| known.namespace == namespace);
        let known = known.expect("a Pod's namespace is listed when the Pod is added");
        if known.synced {
            return self.volumes_mounted(pod, context);
        }
        known.waiting.push(pod);
        self.stage(pod, PodStage::Volumes, context);
        let token = self.worker_enter(pod, Step::Certificate);
        self.wait(limit, token, context);
    }

    /// The certificate arrived while a Pod waited, or after it gave up.
    fn root_ca_synced(&mut self, pod: PodUid, context: &mut Context<'_>) {
        if self
            .kubelet
            .workers
            .get(&pod)
            .is_some_and(|w| w.step == Step::Certificate)
        {
            self.volumes_mounted(pod, context);
        }
    }

    /// A mount failed: its back-off doubles.
    pub(crate) fn volumes_retry(&mut self, pod: PodUid, context: &mut Context<'_>) {
        let parameters = &self.node_side(context).kubelet;
        let worker = self.worker_mut(pod);
        let delay = if worker.mount_backoff.is_zero() {
            parameters.volume_retry_min
        } else {
            (worker.mount_backoff * 2).min(parameters.volume_retry_max)
        };
        worker.mount_backoff = delay;
        let token = self.worker_enter(pod, Step::VolumeStart);
        self.stage(pod, PodStage::Volumes, context);
        self.wait(delay, token, context);
    }

    /// Mounted: the sync notices at its next look.
    fn volumes_mounted(&mut self, pod: PodUid, context: &mut Context<'_>) {
        let poll = self.node_side(context).kubelet.volume_poll.as_nanos() as u64;
        let now = context.now();
        let since = (now - self.worker_mut(pod).volumes_since).as_nanos() as u64;
        let worker = self.worker_mut(pod);
        worker.mounted = true;
        worker.mount_backoff = Duration::ZERO;
        let delay = Duration::from_nanos(since.div_ceil(poll) * poll - since);
        let token = self.worker_enter(pod, Step::VolumePoll);
        self.stage(pod, PodStage::Volumes, context);
        self.wait(delay, token, context);
    }
}
