//! kubelet 1.26 on one machine: its watch of its Pods, one worker per Pod with no limit on their
//! number, and the serial goroutines beside them (status, relist, event recorder, garbage
//! collector). Line numbers: kubernetes v1.26.5.

mod events;
mod gc;
mod housekeeping;
mod pleg;
mod pod_source;
mod pod_worker;
mod status_manager;
mod sync_runtime;
mod termination;
mod volumes;

use std::collections::BTreeMap;
use std::time::Duration;

use drydock_engine::server::FifoServer;
use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::event::{NodeEvent, NodeToken};
use crate::ids::{ClientId, PodUid, WatchId};
use crate::request::{ApiError, ClientClass, ClientSpec, ReplyTo, Request};

use super::cri::{CriRequest, CriVerb};
use super::desk::{Desk, Errand, KubeletDesk, Next, Signal, node_side};

use self::events::Recorder;
use self::gc::Collector;
use self::pleg::Pleg;
use self::pod_worker::Worker;
use self::status_manager::StatusManager;
use self::volumes::RootCa;

/// A kubelet process.
#[derive(Default)]
pub(crate) struct Kubelet {
    running: bool,
    /// Counts the processes; timers of an old one are stale.
    life: u32,
    client: Option<ClientId>,
    event_client: Option<ClientId>,
    watch: Option<WatchId>,
    list_ticket: u32,
    /// The ticks that pick up due syncs count from here.
    ticks_from: SimInstant,
    workers: BTreeMap<PodUid, Worker>,
    /// Workers whose Pod has not ended, for max_pods.
    active_count: u64,
    status: StatusManager,
    pleg: Pleg,
    recorder: Recorder,
    collector: Collector,
    root_ca: Vec<RootCa>,
    pulls: Option<FifoServer>,
}

impl Kubelet {
    /// The kubelet process starts: clients, tickers, then the list of its Pods.
    pub(crate) fn start(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let node = desk.index;
        let parameters = &node_side(context).kubelet;
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
        assert!(!self.running, "one kubelet runs at a time");
        let life = self.life + 1;
        *self = Kubelet {
            running: true,
            life,
            client: Some(main),
            event_client: Some(events),
            pulls: Some(FifoServer::new(1)),
            ..Kubelet::default()
        };
        // Tickers of different kubelets have different phases.
        let phase = |period: Duration| desk.stream().duration(Duration::ZERO..=period);
        let (tick, relist) = (phase(parameters.sync_tick), phase(parameters.pleg_period));
        let collect = phase(parameters.gc_period);
        let first_tick = parameters.status_phase;
        let status = desk.stream().duration(first_tick.min..=first_tick.max);
        self.ticks_from = context.now() + tick;
        desk.later(status, NodeEvent::StatusTick { life }, context);
        desk.later(collect, NodeEvent::GarbageCollection { life }, context);
        self.pleg_sleep(relist, desk, context);
        self.list_pods(desk, context);
    }

    /// Counts the processes; a timer of an earlier one is stale.
    pub(crate) fn life(&self) -> u32 {
        self.life
    }

    /// Statuses that this process has sent.
    #[cfg(test)]
    pub(crate) fn status_patch_count(&self) -> u64 {
        self.status.patch_count
    }

    /// Relists that this process has finished.
    #[cfg(test)]
    pub(crate) fn relist_count(&self) -> u64 {
        self.pleg.relist_count
    }

    /// Something about a Pod's containers changed in the runtime.
    pub(crate) fn containers_changed(&mut self, pod: PodUid) {
        self.pleg.containers_changed(pod);
    }

    /// An event of the kubelet; one of an earlier process is stale.
    pub(crate) fn handle(
        &mut self,
        event: NodeEvent,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        match event {
            NodeEvent::ListAgain { ticket } => self.list_again(ticket, desk, context),
            NodeEvent::KubeletStart { life } if life == self.life && !self.running => {
                self.start(desk, context);
            }
            NodeEvent::StatusTick { life } if self.is(life) => self.status_tick(desk, context),
            NodeEvent::GarbageCollection { life } if self.is(life) => {
                self.collect_garbage(desk, context);
            }
            NodeEvent::Housekeeping { life } if self.is(life) => self.housekeep(desk),
            _ => {}
        }
    }

    /// Whether this process runs and is the one that set the timer.
    fn is(&self, life: u32) -> bool {
        self.running && self.life == life
    }

    /// The kubelet process is gone. Calls of its clients continue on the server. `false`: none ran.
    pub(crate) fn stop(&mut self, desk: &mut Desk, context: &mut Context<'_>) -> bool {
        if !self.running {
            return false;
        }
        let life = self.life;
        let old = std::mem::take(self);
        for client in [old.client, old.event_client].into_iter().flatten() {
            context.drop_client(client);
        }
        if let Some(watch) = old.watch {
            context.close_watch(watch);
        }
        desk.nothing_starts();
        self.life = life + 1;
        true
    }

    /// The machine lost power; a restart under way is lost too.
    pub(crate) fn lose_power(&mut self, desk: &mut Desk, context: &mut Context<'_>) {
        if !self.stop(desk, context) {
            self.life += 1;
        }
    }

    /// Does one of several things that follow each other.
    pub(crate) fn errand(
        &mut self,
        errand: Errand,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        assert!(
            self.running,
            "no event ends the kubelet between two errands"
        );
        match errand {
            Errand::Listed(pod) => self.pod_changed(pod, desk, context),
            Errand::Missing(pod) => self.pod_gone(pod, desk, context),
            Errand::Synced => self.housekeeping_due(desk, context),
            Errand::Update(pod) => self.worker_update(pod, desk, context),
            Errand::Snapshot(pod) => self.worker_snapshot(pod, desk, context),
            Errand::Relisted => self.relisted(desk, context),
            Errand::Unknown(uid, pod) => self.end_unknown(uid, pod, desk, context),
            Errand::Certificate(pod) => self.root_ca_synced(pod, desk, context),
        }
    }

    /// Hands a continuation to the goroutine that waits for it; a stale one does nothing.
    pub(crate) fn resume(
        &mut self,
        token: NodeToken,
        signal: Signal,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        match token {
            NodeToken::Worker { pod, ticket }
                if self.workers.get(&pod).is_some_and(|w| w.ticket == ticket) =>
            {
                self.worker_resume(pod, signal, desk, context);
            }
            NodeToken::Status { ticket } if self.status.ticket == ticket => {
                self.status_resume(signal, desk, context);
            }
            NodeToken::Recorder { ticket } if self.recorder.ticket == ticket => {
                self.event_recorded(desk, context);
            }
            NodeToken::Pleg { ticket } if self.pleg.ticket == ticket => {
                self.pleg_resume(desk, context);
            }
            NodeToken::Collector { ticket } if self.collector.ticket == ticket => {
                self.collector_resume(&signal, desk, context);
            }
            NodeToken::PodList { ticket } if self.list_ticket == ticket => {
                self.pods_listed(signal, desk, context);
            }
            NodeToken::RootCa { namespace, ticket } => {
                self.root_ca_resume(namespace, ticket, &signal, desk, context);
            }
            _ => {}
        }
    }

    /// Makes an API call with the kubelet's main client.
    /// Units: the result is the time at the kubelet's limiter, in ns.
    fn call(
        &mut self,
        request: Request,
        token: NodeToken,
        desk: &Desk,
        context: &mut Context<'_>,
    ) -> u64 {
        let client = self.client.expect("a running kubelet has its client");
        let node = desk.index;
        let call = context.call(client, request, ReplyTo::Node { node, token });
        let now = context.now();
        context.api.limited(call, now).as_nanos() as u64
    }

    /// The first tick of the sync loop at or after an instant.
    fn tick_after(&self, at: SimInstant, context: &Context<'_>) -> SimInstant {
        let period = node_side(context).kubelet.sync_tick.as_nanos() as u64;
        let since = at.saturating_since(self.ticks_from).as_nanos() as u64;
        self.ticks_from + Duration::from_nanos(since.div_ceil(period) * period)
    }
}

/// Makes a CRI call; its result comes back to the token.
fn ask(verb: CriVerb, caller: NodeToken, desk: &mut Desk, context: &Context<'_>) {
    let parameters = &node_side(context).kubelet;
    let timeout = match verb {
        CriVerb::Run { .. } => parameters.run_timeout,
        _ => parameters.stop_timeout,
    };
    desk.follow(Next::Cri(CriRequest {
        verb,
        timeout,
        caller,
    }));
}

/// An API error that a kubelet takes to mean that the object does not exist.
fn is_not_found(error: ApiError) -> bool {
    matches!(error, ApiError::NotFound)
}
