//! API clients: one clientset of one process each, with its limiter and the apiserver that it is
//! connected to. Which servers serve is not known here.
//!
//! A limiter is a token bucket by reservation, first come first served
//! (client-go/util/flowcontrol/throttle.go:125-131).

use std::collections::BTreeMap;
use std::time::Duration;

use drydock_engine::server::TokenBucket;
use drydock_engine::stream::Stream;
use drydock_engine::time::SimInstant;

use crate::core::Core;
use crate::ids::{ClientId, NodeIndex};
use crate::request::{ClientClass, ClientSpec};

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) spec: ClientSpec,
    limiter: Option<TokenBucket>,
    /// The apiserver that it is connected to, or was last.
    pub(crate) server: usize,
    connected: bool,
    /// Calls that it waits for.
    pub(crate) waiting: u32,
    /// The entity of its streams.
    pub(crate) entity: u64,
    latency: Option<Stream>,
}

/// How a call leaves its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    /// When its limiter lets it.
    pub(crate) at: SimInstant,
    /// From there to the server.
    pub(crate) way: Duration,
    /// And back.
    pub(crate) back: Duration,
    /// The server pays for TLS.
    pub(crate) new_connection: bool,
    /// How long the client waits from the departure on.
    pub(crate) timeout: Duration,
}

impl Client {
    /// Sends a call to a server, not before an instant, when the limiter lets it.
    pub(crate) fn depart(
        &mut self,
        server: usize,
        not_before: SimInstant,
        core: &Core<'_>,
    ) -> Departure {
        let reserved = self
            .limiter
            .as_mut()
            .map_or(core.now, |bucket| bucket.reserve(core.now));
        if self.server != server {
            self.server = server;
            self.connected = false;
        }
        let new_connection = !std::mem::replace(&mut self.connected, true);
        let one_way = core.parameters.net.one_way;
        // TCP and TLS 1.3 take two round trips before the request.
        let (way, back) = match &mut self.latency {
            Some(draws) => {
                let span = &core.parameters.api.fixed_call;
                let whole = draws.duration(span.min..=span.max);
                let way = whole / 2;
                (way, whole.saturating_sub(way))
            }
            None if new_connection => (one_way * 5, one_way),
            None => (one_way, one_way),
        };
        Departure {
            at: reserved.max(not_before),
            way,
            back,
            new_connection,
            timeout: self.spec.timeout.unwrap_or(Duration::MAX),
        }
    }
}

/// All clients, by number. A number is never used twice.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    slots: Vec<Option<Client>>,
    ordinals: BTreeMap<(NodeIndex, ClientClass), u64>,
}

impl Clients {
    /// A new client, connected to one of this many apiservers.
    pub(crate) fn add(&mut self, spec: ClientSpec, servers: usize, core: &Core<'_>) -> ClientId {
        let ordinal = self.ordinals.entry((spec.node, spec.class)).or_insert(0);
        let entity = u64::from(spec.node.0) << 40 | (spec.class as u64) << 32 | *ordinal;
        *ordinal += 1;
        // A kubelet on a master would ask its own apiserver; here all go through one balanced
        // address, which the draw stands for.
        let server = if servers == 1 {
            0
        } else {
            core.streams
                .stream("client", entity, "apiserver")
                .below(servers as u64) as usize
        };
        let latency = core
            .parameters
            .api
            .fixed_latency
            .then(|| core.streams.stream("client", entity, "latency"));
        let id = ClientId(self.slots.len() as u32);
        self.slots.push(Some(Client {
            spec,
            limiter: spec
                .limiter
                .map(|(rate, burst)| TokenBucket::new(rate, burst)),
            server,
            connected: !spec.fresh_connection,
            waiting: 0,
            entity,
            latency,
        }));
        id
    }

    /// A client, if it has not ended.
    pub(crate) fn get(&mut self, client: ClientId) -> Option<&mut Client> {
        self.slots[client.index()].as_mut()
    }

    /// A client ends: its process has, or was killed.
    pub(crate) fn remove(&mut self, client: ClientId) -> Option<Client> {
        self.slots.get_mut(client.index()).and_then(Option::take)
    }
}
