//! kubelet 1.26 on one machine: its watch of its Pods, one worker per Pod with no limit on their
//! number, and the serial goroutines beside them (status, relist, event recorder, garbage
//! collector). Line numbers: kubernetes v1.26.5.

pub mod events;
pub mod gc;
pub mod housekeeping;
pub mod pleg;
pub mod pod_worker;
pub mod status_manager;
pub mod termination;
pub mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::server::FifoServer;
use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::event::{NodeEvent, NodeToken};
use crate::ids::{ClientId, PodUid, WatchId};
use crate::node::{Node, Signal};
use crate::objects::{Phase, Pod, PodStatus};
use crate::request::{
    Answer, ApiError, Change, ClientClass, ClientSpec, Consistency, Request, WatchOwner,
    WatchTarget,
};

use self::events::Recorder;
use self::gc::Collector;
use self::pleg::Pleg;
use self::pod_worker::Worker;
use self::status_manager::StatusManager;
use self::volumes::RootCa;

/// A kubelet process.
#[derive(Default)]
pub(crate) struct Kubelet {
    pub(crate) running: bool,
    /// Counts the processes; timers of an old one are stale.
    pub(crate) life: u32,
    pub(crate) client: Option<ClientId>,
    pub(crate) event_client: Option<ClientId>,
    pub(crate) watch: Option<WatchId>,
    pub(crate) list_ticket: u32,
    /// The ticks at which due syncs are picked up count from here.
    pub(crate) ticks_from: SimInstant,
    pub(crate) workers: BTreeMap<PodUid, Worker>,
    /// Workers whose Pod is not over, for max_pods.
    pub(crate) active_count: u64,
    pub(crate) status: StatusManager,
    pub(crate) pleg: Pleg,
    pub(crate) recorder: Recorder,
    pub(crate) collector: Collector,
    pub(crate) root_ca: Vec<RootCa>,
    pub(crate) pulls: Option<FifoServer>,
}

impl Node {
    /// The kubelet process starts: clients, tickers, then the list of its Pods.
    pub(crate) fn kubelet_start(&mut self, context: &mut Context<'_>) {
        let node = self.index;
        let parameters = &self.node_side(context).kubelet;
        let mut client = |class, limiter| {
            context.client(ClientSpec {
                node,
                class,
                limiter: Some(limiter),
                timeout: None,
                fresh_connection: false,
            })
        };
        let main = client(
            ClientClass::Kubelet,
            (parameters.qps.milli_per_s, parameters.burst),
        );
        let events = client(
            ClientClass::KubeletEvents,
            (parameters.event_qps.milli_per_s, parameters.event_burst),
        );
        let life = self.kubelet.life + 1;
        self.kubelet = Kubelet {
            running: true,
            life,
            client: Some(main),
            event_client: Some(events),
            pulls: Some(FifoServer::new(1)),
            ..Kubelet::default()
        };
        // Tickers of different kubelets have different phases.
        let mut phase = |period: Duration| self.stream.duration(Duration::ZERO..=period);
        let (tick, relist) = (phase(parameters.sync_tick), phase(parameters.pleg_period));
        let collect = phase(parameters.gc_period);
        let first_tick = parameters.status_phase;
        let status = self.stream.duration(first_tick.min..=first_tick.max);
        self.kubelet.ticks_from = context.now() + tick;
        self.later(status, NodeEvent::StatusTick { life }, context);
        self.later(collect, NodeEvent::GarbageCollection { life }, context);
        self.pleg_sleep(relist, context);
        self.list_pods(context);
    }

    /// The kubelet process is gone. Calls of its clients go on at the server.
    pub(crate) fn kubelet_stop(&mut self, context: &mut Context<'_>) {
        let life = self.kubelet.life;
        let old = std::mem::take(&mut self.kubelet);
        for client in [old.client, old.event_client].into_iter().flatten() {
            context.drop_client(client);
        }
        if let Some(watch) = old.watch {
            context.close_watch(watch);
        }
        self.kubelet.life = life + 1;
    }

    /// Lists the node's Pods, as a reflector does first.
    fn list_pods(&mut self, context: &mut Context<'_>) {
        let ticket = self.ticket();
        self.kubelet.list_ticket = ticket;
        let request = Request::ListPods {
            node_name: Some(Rc::clone(&self.name)),
            consistency: Consistency::Cache,
        };
        self.call(request, NodeToken::PodList { ticket }, context);
    }

    /// The pause after a failure is over.
    pub(crate) fn list_again(&mut self, ticket: u32, context: &mut Context<'_>) {
        if self.kubelet.running && self.kubelet.list_ticket == ticket {
            self.list_pods(context);
        }
    }

    /// The list arrived, or failed.
    pub(crate) fn pods_listed(&mut self, signal: Signal, context: &mut Context<'_>) {
        let Signal::Api(Ok(Answer::Pods(pods, revision))) = signal else {
            return self.list_later(context);
        };
        let seen: BTreeSet<PodUid> = pods.iter().map(|pod| pod.uid).collect();
        let missing: Vec<PodUid> = self
            .kubelet
            .workers
            .keys()
            .filter(|uid| !seen.contains(uid))
            .copied()
            .collect();
        let target = WatchTarget::Pods {
            node_name: Some(Rc::clone(&self.name)),
        };
        let client = self
            .kubelet
            .client
            .expect("a running kubelet has its client");
        let owner = WatchOwner::Kubelet(self.index);
        self.kubelet.watch = Some(context.watch(client, target, revision, owner));
        for pod in pods {
            self.pod_changed(pod, context);
        }
        for uid in missing {
            self.pod_gone(uid, context);
        }
        self.housekeeping_due(context);
    }

    fn list_later(&mut self, context: &mut Context<'_>) {
        let span = self.node_side(context).kubelet.list_retry;
        let delay = self.stream.duration(span.min..=span.max);
        let ticket = self.ticket();
        self.kubelet.list_ticket = ticket;
        self.later(delay, NodeEvent::ListAgain { ticket }, context);
    }

    /// The watch delivered.
    pub(crate) fn watch_delivered(
        &mut self,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        if self.kubelet.watch != Some(watch) {
            return;
        }
        match change {
            Change::Pod(pod) => self.pod_changed(pod, context),
            Change::PodGone(pod) => self.pod_gone(pod.uid, context),
            Change::Closed(_) => {
                self.kubelet.watch = None;
                self.list_later(context);
            }
            Change::Bookmark(_) | Change::Custom(_) | Change::CustomGone(_) => {}
        }
    }

    /// A Pod was added or changed. Only a change that means something to the kubelet syncs it: its
    /// own status updates come back here and do not.
    /// Source: pkg/kubelet/config/config.go:417-450.
    fn pod_changed(&mut self, pod: Rc<Pod>, context: &mut Context<'_>) {
        let uid = pod.uid;
        let Some(worker) = self.kubelet.workers.get_mut(&uid) else {
            return self.pod_added(pod, context);
        };
        if pod.resource_version < worker.pod.resource_version {
            return;
        }
        let annotated = pod.network_status != worker.pod.network_status
            || pod.annotations != worker.pod.annotations;
        let deleting = pod.deletion.is_some() && worker.pod.deletion.is_none();
        worker.pod = pod;
        if deleting {
            self.worker_stop(uid, context);
        } else if annotated {
            self.worker_update(uid, context);
        }
    }

    /// A Pod is new here. A Pod that is over already needs no worker, unless it must be deleted.
    fn pod_added(&mut self, pod: Rc<Pod>, context: &mut Context<'_>) {
        let uid = pod.uid;
        let over = pod.is_terminal() && self.runtime.ready(uid).is_none();
        if over && pod.deletion.is_none() {
            self.kubelet.workers.insert(uid, Worker::over(pod));
            return;
        }
        let parameters = &self.node_side(context).kubelet;
        let room = parameters.max_pods.saturating_sub(parameters.system_pods);
        let fresh = pod.deletion.is_none() && self.runtime.listed(uid).is_empty();
        if fresh && self.kubelet.active_count >= room {
            let status = PodStatus {
                phase: Phase::Failed,
                ready: false,
                seen_by_kubelet: true,
                pod_ips: Vec::new(),
            };
            self.kubelet.workers.insert(uid, Worker::over(pod));
            return self.set_status(uid, status, context);
        }
        let namespace = Rc::clone(&pod.namespace);
        let deleting = pod.deletion.is_some();
        self.kubelet.active_count += 1;
        self.kubelet.workers.insert(uid, Worker::new(pod));
        self.need_root_ca(&namespace, context);
        if deleting {
            self.worker_stop(uid, context);
        } else {
            self.worker_update(uid, context);
        }
    }

    /// The Pod's object is gone: what still runs of it is killed.
    fn pod_gone(&mut self, uid: PodUid, context: &mut Context<'_>) {
        self.status_forget(uid);
        let Some(worker) = self.kubelet.workers.get_mut(&uid) else {
            return;
        };
        worker.gone = true;
        if worker.is_over() {
            self.kubelet.workers.remove(&uid);
            self.forget_streams(uid);
        } else {
            self.worker_stop(uid, context);
        }
    }

    /// The first tick of the sync loop at or after an instant.
    pub(crate) fn tick_after(&self, at: SimInstant, context: &Context<'_>) -> SimInstant {
        let period = self.node_side(context).kubelet.sync_tick.as_nanos() as u64;
        let since = at.saturating_since(self.kubelet.ticks_from).as_nanos() as u64;
        self.kubelet.ticks_from + Duration::from_nanos(since.div_ceil(period) * period)
    }
}

/// An API error that a kubelet takes for "the object is not there".
pub(crate) fn is_not_found(error: ApiError) -> bool {
    matches!(error, ApiError::NotFound)
}
