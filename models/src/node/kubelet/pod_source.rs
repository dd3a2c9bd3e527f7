//! How a kubelet hears of its Pods: a list, then a watch, like any reflector. A Pod that is new,
//! has changed or is gone is up to its worker from here on.
//! Source: kubernetes v1.26.5 `pkg/kubelet/config/config.go`.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::context::Context;
use crate::event::{NodeEvent, NodeToken};
use crate::ids::{PodUid, WatchId};
use crate::node::desk::{Errand, KubeletDesk, Next, Signal, node_side};
use crate::objects::{Phase, Pod, PodStatus};
use crate::request::{Answer, Change, Consistency, Request, WatchOwner, WatchTarget};

use super::Kubelet;
use super::pod_worker::Worker;

impl Kubelet {
    /// Lists the node's Pods, as a reflector does first.
    pub(super) fn list_pods(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let ticket = desk.ticket();
        self.list_ticket = ticket;
        let request = Request::ListPods {
            node_name: Some(Rc::clone(&desk.name)),
            consistency: Consistency::Cache,
        };
        self.call(request, NodeToken::PodList { ticket }, desk, context);
    }

    /// The pause after a failure is over.
    pub(super) fn list_again(
        &mut self,
        ticket: u32,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if self.running && self.list_ticket == ticket {
            self.list_pods(desk, context);
        }
    }

    /// The list arrived, or failed.
    pub(super) fn pods_listed(
        &mut self,
        signal: Signal,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let Signal::Api(Ok(Answer::Pods(pods, revision))) = signal else {
            return self.list_later(desk, context);
        };
        let seen: BTreeSet<PodUid> = pods.iter().map(|pod| pod.uid).collect();
        let missing: Vec<PodUid> = self
            .workers
            .keys()
            .filter(|uid| !seen.contains(uid))
            .copied()
            .collect();
        let target = WatchTarget::Pods {
            node_name: Some(Rc::clone(&desk.name)),
        };
        let client = self.client.expect("a running kubelet has its client");
        let owner = WatchOwner::Kubelet(desk.index);
        self.watch = Some(context.watch(client, target, revision, owner));
        for pod in pods {
            desk.follow(Next::Kubelet(Errand::Listed(pod)));
        }
        for uid in missing {
            desk.follow(Next::Kubelet(Errand::Missing(uid)));
        }
        desk.follow(Next::Kubelet(Errand::Synced));
    }

    fn list_later(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let span = node_side(context).kubelet.list_retry;
        let delay = desk.stream().duration(span.min..=span.max);
        let ticket = desk.ticket();
        self.list_ticket = ticket;
        desk.later(delay, NodeEvent::ListAgain { ticket }, context);
    }

    /// The watch delivered.
    pub(crate) fn watch_delivered(
        &mut self,
        watch: WatchId,
        change: Change,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if self.watch != Some(watch) {
            return;
        }
        match change {
            Change::Pod(pod) => self.pod_changed(pod, desk, context),
            Change::PodGone(pod) => self.pod_gone(pod.uid, desk, context),
            Change::Closed(_) => {
                self.watch = None;
                self.list_later(desk, context);
            }
            Change::Bookmark(_) | Change::Custom(_) | Change::CustomGone(_) => {}
        }
    }

    /// A Pod was added or changed. Only a change that means something to the kubelet syncs it: its
    /// own status updates come back here and do not.
    /// Source: pkg/kubelet/config/config.go:417-450.
    pub(super) fn pod_changed(
        &mut self,
        pod: Rc<Pod>,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let uid = pod.uid;
        let Some(worker) = self.workers.get_mut(&uid) else {
            return self.pod_added(pod, desk, context);
        };
        if pod.resource_version < worker.pod.resource_version {
            return;
        }
        let annotated = pod.network_status != worker.pod.network_status
            || pod.annotations != worker.pod.annotations;
        let deleting = pod.deletion.is_some() && worker.pod.deletion.is_none();
        worker.pod = pod;
        if deleting {
            self.worker_stop(uid, desk, context);
        } else if annotated {
            self.worker_update(uid, desk, context);
        }
    }

    /// A Pod is new here. A Pod that is over already needs no worker, unless it must be deleted.
    fn pod_added(&mut self, pod: Rc<Pod>, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let uid = pod.uid;
        let over = pod.is_terminal() && desk.cri.ready(uid).is_none();
        if over && pod.deletion.is_none() {
            self.take_on(uid, Worker::over(pod), desk);
            return;
        }
        let parameters = &node_side(context).kubelet;
        let room = parameters.max_pods.saturating_sub(parameters.system_pods);
        let fresh = pod.deletion.is_none() && desk.cri.list(uid).is_empty();
        if fresh && self.active_count >= room {
            let status = PodStatus {
                phase: Phase::Failed,
                ready: false,
                seen_by_kubelet: true,
                pod_ips: Vec::new(),
            };
            self.take_on(uid, Worker::over(pod), desk);
            return self.set_status(uid, status, desk, context);
        }
        let namespace = Rc::clone(&pod.namespace);
        let deleting = pod.deletion.is_some();
        self.active_count += 1;
        self.take_on(uid, Worker::new(pod), desk);
        self.need_root_ca(&namespace, desk, context);
        if deleting {
            self.worker_stop(uid, desk, context);
        } else {
            self.worker_update(uid, desk, context);
        }
    }

    /// The Pod's object is gone: what still runs of it is killed.
    pub(super) fn pod_gone(
        &mut self,
        uid: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        self.status_forget(uid);
        let Some(worker) = self.workers.get_mut(&uid) else {
            return;
        };
        worker.gone = true;
        if worker.is_over() {
            self.let_go(uid, desk);
        } else {
            self.worker_stop(uid, desk, context);
        }
    }
}
