//! kube-apiserver (up to three) with etcd behind it, as clients see them over a network.
//!
//! A call is four events at most: it arrives ([`ApiEvent::Arrive`]), its CPU is served by the cores
//! of the master, a write waits for a batch of the disk ([`ApiEvent::Fsync`]), and the answer
//! reaches the client ([`ApiEvent::Answer`]). A lost answer leaves a write committed and the client
//! with [`ApiError::Unavailable`](crate::request::ApiError::Unavailable)`{ unknown: true }` at its
//! deadline. What a client does with a call (limiter, deadline, retries) is in
//! [`crate::client_go`].
//!
//! Modeled: [`store`] (versions, conflicts, finalizers), [`cost`] (CPU by shape and size),
//! [`flow_control`] (seats, 429), [`watch`] (caches, replay, 410), [`fault`] (faults on single
//! calls), handler deadlines, restarts, partitions, loss of the etcd quorum, slow disks.
//!
//! etcd: an apiserver asks the member on its own machine, as kubeadm sets it up, so the measured
//! CPU of etcd is paid there; each other member pays `etcd.replica_cpu` per write. A write is
//! durable once the leader and the faster follower have synced. Not modeled: leader elections,
//! compaction, NOSPACE.
//!
//! Source: kubernetes v1.26.5 apiserver/pkg/{storage,endpoints/handlers,server}; etcd v3.5.9
//! server/etcdserver/v3_server.go.

mod call;
mod cost;
mod etcd;
mod fault;
mod flow_control;
mod links;
mod outage;
mod store;
mod watch;
mod watching;

use std::collections::BTreeMap;
use std::rc::Rc;

use drydock_engine::stream::{Stream, Streams};
use drydock_engine::time::SimInstant;

use crate::client_go::client::Clients;
use crate::client_go::deadlines::Deadlines;
use crate::core::Core;
use crate::event::{ApiEvent, Event};
use crate::ids::{ClientId, NodeIndex, PodUid, WatchId};
use crate::objects::{Pod, ResourceVersion};
use crate::request::{
    Change, ClientSpec, Custom, CustomKind, ReplyTo, Request, Response, WatchOwner,
};

pub use self::fault::{CallEffect, CallFault, CallSelector, FaultId, FiredFault};

use self::call::Calls;
use self::etcd::Etcd;
use self::fault::ArmedFaults;
use self::flow_control::{FlowControl, Size};
use self::links::Links;
use self::store::{Limits, SERVERS_MAX, Store};
use self::watch::Watches;

/// What an event of the API path brings to a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing yet.
    Nothing,
    /// A call ended.
    Response(ReplyTo, Response),
    /// A watch brought changes, in order.
    Changes(WatchOwner, WatchId, Vec<Change>),
}

/// One apiserver process.
#[derive(Debug)]
struct Server {
    node: NodeIndex,
    up: bool,
    /// Counts outages, so that the end of an older one does not end a newer one.
    outage: u32,
    flow: FlowControl,
    /// Watches from before this revision must list again: the cache was rebuilt at it.
    floor: ResourceVersion,
    last_visible: SimInstant,
    frozen_until: SimInstant,
    cache_delays: Stream,
    background: std::time::Duration,
}

/// All apiservers, etcd, and what clients have under way.
pub struct ApiServers {
    store: Store,
    watches: Watches,
    servers: Vec<Server>,
    clients: Clients,
    calls: Calls,
    etcd: Etcd,
    links: Links,
    nodes: BTreeMap<Rc<str>, NodeIndex>,
    armed: ArmedFaults,
    deadlines: Deadlines,
    /// Scratch space.
    wake: Vec<(WatchId, SimInstant)>,
}

impl std::fmt::Debug for ApiServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServers")
            .field("revision", &self.store.revision())
            .field("calls", &self.calls.len())
            .finish_non_exhaustive()
    }
}

impl ApiServers {
    /// One apiserver and etcd member on each of the given machines.
    ///
    /// Panics: with no machine, or more than three.
    pub fn new(
        masters: &[NodeIndex],
        parameters: &crate::parameters::Parameters,
        streams: &Streams,
    ) -> Self {
        assert!(
            (1..=SERVERS_MAX).contains(&masters.len()),
            "a cluster has 1 to {SERVERS_MAX} apiservers"
        );
        let api = &parameters.api;
        let size = |seats: u64, queue: u64| Size {
            seats: seats as u32,
            queue: queue as usize,
        };
        let servers = masters
            .iter()
            .enumerate()
            .map(|(index, node)| Server {
                node: *node,
                up: true,
                outage: 0,
                flow: FlowControl::new(
                    size(api.system_seats, api.queue_length),
                    size(api.leader_election_seats, api.leader_election_queue),
                    size(api.workload_high_seats, api.queue_length),
                ),
                floor: 0,
                last_visible: SimInstant::ZERO,
                frozen_until: SimInstant::ZERO,
                cache_delays: streams.stream("apiserver", index as u64, "cache delay"),
                background: std::time::Duration::ZERO,
            })
            .collect();
        let store = Store::new(Limits {
            history_age: api.history_age,
            history_min: api.history_min as usize,
            history_max: api.history_max as usize,
            body_bytes_max: parameters.etcd.max_request as usize,
        });
        Self {
            store,
            watches: Watches::default(),
            servers,
            clients: Clients::default(),
            calls: Calls::default(),
            etcd: Etcd::new(masters.len(), streams),
            links: Links::default(),
            nodes: BTreeMap::new(),
            armed: ArmedFaults::default(),
            deadlines: Deadlines::default(),
            wake: Vec::new(),
        }
    }

    /// Starts what runs by itself: bookmarks.
    pub fn start(&mut self, core: &mut Core<'_>) {
        let period = core.parameters.api.bookmark_period;
        core.after(period, Event::Api(ApiEvent::Bookmark));
    }

    /// Says which machine's kubelet registers a node name.
    pub fn set_node(&mut self, node_name: Rc<str>, node: NodeIndex) {
        self.nodes.insert(node_name, node);
    }

    /// The machine that runs under a node name.
    pub fn node(&self, node_name: &str) -> Option<NodeIndex> {
        self.nodes.get(node_name).copied()
    }

    /// Registers an API client; see [`crate::context::Context::client`].
    pub fn client(&mut self, spec: ClientSpec, core: &mut Core<'_>) -> ClientId {
        self.clients.add(spec, self.servers.len(), core)
    }

    /// Forgets a client; see [`crate::context::Context::drop_client`].
    pub fn drop_client(&mut self, client: ClientId, core: &mut Core<'_>) {
        let waiting = self.clients.remove(client).map_or(0, |ended| ended.waiting);
        for watch in self.watches.matching(|watcher| watcher.client == client) {
            self.watches.remove(watch);
        }
        // Searching all calls is expensive, and most processes end with none.
        if waiting > 0 {
            self.abandon_calls(client, core);
        }
    }

    /// An event of the API path.
    pub fn handle(&mut self, event: ApiEvent, core: &mut Core<'_>) -> Delivery {
        match event {
            ApiEvent::Arrive { call } => self.arrive(call, core),
            ApiEvent::Served { call } => self.served(call, core),
            ApiEvent::Release { call } => self.submit_to_etcd(call, core),
            ApiEvent::Fsync { generation } => self.synced(generation, core),
            ApiEvent::Answer { call } => return self.answer(call, core),
            ApiEvent::Watch { watch } => return self.deliver(watch, core),
            ApiEvent::Sweep => self.sweep(core),
            ApiEvent::Bookmark => self.bookmark(core),
            ApiEvent::Ready { server, outage } => self.ready(server as usize, outage, core),
            ApiEvent::ConnectionsDead { node, cut } => self.connections_dead(node, cut, core),
        }
        Delivery::Nothing
    }

    /// Puts an object into the store without a call: the state of the world before the run.
    /// Errors: as the write itself.
    pub fn install(&mut self, request: &Request, core: &mut Core<'_>) -> Response {
        let before = self.store.revision();
        let response = self
            .store
            .write(request, core.now, &self.nodes, core.observed);
        self.publish_from(before, core);
        response
    }

    /// Arms a fault on a coming call.
    pub fn arm(&mut self, fault: CallFault) -> FaultId {
        self.armed.arm(fault)
    }

    /// Disarms a fault that has not fired; returns whether it had not.
    pub fn disarm(&mut self, fault: FaultId) -> bool {
        self.armed.disarm(fault)
    }

    /// Faults that found their call, in order.
    pub fn fired(&self) -> &[FiredFault] {
        &self.armed.fired
    }

    /// A Pod as stored now. For the outside only: components read through calls.
    pub fn pod(&self, pod: PodUid) -> Option<&Rc<Pod>> {
        self.store.pod(pod)
    }

    /// Every stored Pod, by UID. For the outside only.
    pub fn pods(&self) -> impl Iterator<Item = &Rc<Pod>> {
        self.store.pods()
    }

    /// A custom object as stored now. For the outside only.
    pub fn custom(&self, kind: CustomKind, name: &str) -> Option<&Rc<Custom>> {
        self.store.custom(kind, name)
    }

    /// Every custom object of a kind as stored now, by name. For the outside only.
    pub fn customs(&self, kind: CustomKind) -> Vec<Rc<Custom>> {
        self.store.customs_at(kind, &[], self.store.revision())
    }

    /// The latest revision.
    pub fn revision(&self) -> ResourceVersion {
        self.store.revision()
    }

    /// Calls that a client waits for or a server works on.
    pub fn calls_in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Requests that flow control turned away.
    pub fn rejected(&self) -> u64 {
        self.servers
            .iter()
            .map(|server| server.flow.rejected())
            .sum()
    }

    /// Batches that etcd has begun.
    pub fn fsync_batches(&self) -> u64 {
        self.etcd.batches()
    }

    /// Number of apiservers.
    pub fn server_count(&self) -> usize {
        self.servers.len()
    }

    /// The machine of an apiserver.
    pub fn server_node(&self, server: usize) -> NodeIndex {
        self.servers[server].node
    }
}

/// The first apiserver that serves, counted from the given one: where the load-balanced address
/// leads.
fn serving_from(servers: &[Server], from: usize) -> Option<usize> {
    let count = servers.len();
    (0..count)
        .map(|step| (from + step) % count)
        .find(|index| servers[*index].up)
}

#[cfg(test)]
mod tests;
