//! The life of one call: limiter, way there, flow control, CPU, etcd, way back, retries and
//! deadlines. A call lives until both sides are done with it: a client that gave up does not stop
//! a write that etcd already has.

mod cancel;
mod deadlines;

use std::collections::VecDeque;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::core::Core;
use crate::event::{ApiEvent, CpuToken, Event};
use crate::ids::{CallId, ClientId, NodeIndex};
use crate::observation::{ApiCallKind, Observation};
use crate::request::{Answer, ApiError, ClientClass, ReplyTo, Request, Response, matches};

use super::cost::{self, describe};
use super::fault::CallEffect;
use super::flow_control::{Admission, Level};
use super::{ApiServers, Delivery};

/// Where a call is on the server's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before its server.
    Travelling,
    /// In a queue of flow control.
    Queued,
    /// On the master's cores, or waiting beside them.
    Cpu,
    /// Held, or in etcd's log.
    Etcd,
    /// Nothing more will happen to it.
    Done,
}

/// One call.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about the two sides; no state machine hides in them"
)]
pub(super) struct Call {
    pub(super) client: ClientId,
    pub(super) node: NodeIndex,
    class: ClientClass,
    level: Level,
    reply: ReplyTo,
    request: Request,
    what: ApiCallKind,
    pub(super) write: bool,
    pub(super) server: usize,
    pub(super) stage: Stage,
    departed: SimInstant,
    sent_back: SimInstant,
    attempt: u32,
    seats: u32,
    new_connection: bool,
    effect: Option<CallEffect>,
    /// What the client will be told.
    verdict: Option<Response>,
    /// The client finds out by itself: no link is needed.
    local: bool,
    /// The connection broke, so a GET is sent again.
    reset: bool,
    client_done: bool,
    committed: bool,
    /// When the server learns that the client gave up.
    canceled: Option<SimInstant>,
    deadline: SimInstant,
    /// Under which instant it stands in the set of deadlines.
    indexed: Option<SimInstant>,
    way_back: Duration,
}

impl Call {
    /// When it left its client's limiter, or will.
    pub(super) fn departed(&self) -> SimInstant {
        self.departed
    }

    fn is_canceled(&self, now: SimInstant) -> bool {
        self.canceled.is_some_and(|at| at <= now)
    }
}

/// Calls by number. Numbers are never used twice, so an event of an old call finds nothing.
#[derive(Debug, Default)]
pub(super) struct Calls {
    first: u32,
    slots: VecDeque<Option<Box<Call>>>,
    live: usize,
}

impl Calls {
    fn add(&mut self, call: Call) -> CallId {
        self.slots.push_back(Some(Box::new(call)));
        self.live += 1;
        CallId(self.first + self.slots.len() as u32 - 1)
    }

    pub(super) fn get(&mut self, call: CallId) -> Option<&mut Call> {
        let index = call.0.checked_sub(self.first)? as usize;
        self.slots.get_mut(index)?.as_deref_mut()
    }

    fn remove(&mut self, call: CallId) -> Option<Box<Call>> {
        let index = call.0.checked_sub(self.first)? as usize;
        let removed = self.slots.get_mut(index)?.take();
        if removed.is_some() {
            self.live -= 1;
        }
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        removed
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Numbers of the calls that satisfy a condition, in order.
    pub(super) fn matching(&self, wanted: impl Fn(&Call) -> bool) -> Vec<CallId> {
        (self.first..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.as_deref().is_some_and(&wanted))
            .map(|(number, _)| CallId(number))
            .collect()
    }
}

impl ApiServers {
    /// Makes a call; see [`crate::context::Context::call`].
    pub fn call(
        &mut self,
        client: ClientId,
        request: Request,
        reply: ReplyTo,
        core: &mut Core<'_>,
    ) -> CallId {
        let spec = self.clients[client.index()]
            .as_mut()
            .map(|client| {
                client.waiting += 1;
                client.spec
            })
            .expect("a call is made by a client that exists");
        let (what, write) = describe(&request);
        let id = self.calls.add(Call {
            client,
            node: spec.node,
            class: spec.class,
            level: Level::of(spec.class, what.resource),
            reply,
            request,
            what,
            write,
            server: 0,
            stage: Stage::Travelling,
            departed: core.now,
            sent_back: core.now,
            attempt: 0,
            seats: 0,
            new_connection: false,
            effect: None,
            verdict: None,
            local: false,
            reset: false,
            client_done: false,
            committed: false,
            canceled: None,
            deadline: SimInstant::MAX,
            indexed: None,
            way_back: core.parameters.net.one_way,
        });
        self.depart(id, core.now, core);
        id
    }

    /// How long a call that was just made is held back by its client's limiter.
    pub fn limited(&mut self, id: CallId, now: SimInstant) -> Duration {
        let departs = self.calls.get(id).map_or(now, |call| call.departed);
        departs.saturating_since(now)
    }

    /// Sends a call, not before an instant, when its limiter lets it.
    fn depart(&mut self, id: CallId, not_before: SimInstant, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let client = call.client;
        let Some(mut start) = self.clients[client.index()]
            .as_ref()
            .map(|client| client.server)
        else {
            return self.forget(id);
        };
        let serving = self.serving_from(start);
        start = serving.unwrap_or(start);
        let Some(client) = self.clients[client.index()].as_mut() else {
            return;
        };
        let departs = client
            .limiter
            .as_mut()
            .map_or(core.now, |bucket| bucket.reserve(core.now));
        let departs = departs.max(not_before);
        if client.server != start {
            client.server = start;
            client.connected = false;
        }
        let new_connection = !std::mem::replace(&mut client.connected, true);
        let one_way = core.parameters.net.one_way;
        let api = &core.parameters.api;
        // TCP and TLS 1.3 take two round trips before the request.
        let (way, back) = match &mut client.latency {
            Some(draws) => {
                let whole = draws.duration(api.fixed_call.min..=api.fixed_call.max);
                {
                    let way = whole / 2;
                    (way, whole.saturating_sub(way))
                }
            }
            None if new_connection => (one_way * 5, one_way),
            None => (one_way, one_way),
        };
        let timeout = client.spec.timeout.unwrap_or(Duration::MAX);
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let limit = if call.write {
            api.handler_timeout + way + back
        } else {
            api.request_timeout
        };
        call.server = start;
        call.stage = Stage::Travelling;
        call.departed = departs;
        call.new_connection = new_connection;
        call.way_back = back;
        call.verdict = None;
        call.local = false;
        call.reset = false;
        call.effect = None;
        call.deadline = departs + limit.min(timeout);
        let deadline = call.deadline;
        if serving.is_none() {
            call.stage = Stage::Done;
            self.tell(
                id,
                Err(ApiError::Unavailable { unknown: false }),
                core,
                departs + back,
            );
            return;
        }
        self.index_deadline(id, deadline, core);
        core.queue
            .at(departs + way, Event::Api(ApiEvent::Arrive { call: id }));
    }

    /// A request reaches its server, unless something on the way prevents it.
    pub(super) fn arrive(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let (node, server, departed) = (call.node, call.server, call.departed);
        let (class, what, write) = (call.class, call.what, call.write);
        if self.was_cut(node, departed) {
            return self.lose(id, core);
        }
        if !self.servers[server].up {
            return self.redirect(id, core);
        }
        let effect = self.armed.arrived(id, core.now, |selector| {
            selector.matches(class, node, what, write)
        });
        let Some(call) = self.calls.get(id) else {
            return;
        };
        call.effect = effect;
        match effect {
            Some(CallEffect::LoseRequest) => return self.lose(id, core),
            Some(CallEffect::ResetBefore) => return self.reset(id, core),
            Some(CallEffect::Answer(error)) => return self.finish(id, Err(error), core),
            _ => {}
        }
        if core.parameters.api.fixed_latency {
            return self.carry_out(id, core);
        }
        self.admit(id, core);
    }

    fn admit(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let listed = match &call.request {
            Request::ListPods { .. } => self.store.pod_count(),
            Request::List { kind, .. } => self.store.custom_count(*kind),
            _ => 0,
        };
        let per_seat = core.parameters.api.list_seat_objects;
        let seats = (listed as u64).div_ceil(per_seat).clamp(1, 10) as u32;
        let Some(call) = self.calls.get(id) else {
            return;
        };
        call.seats = seats;
        let (server, level) = (call.server, call.level);
        match self.servers[server].flow.admit(level, seats, id) {
            Admission::Run => self.begin(id, core),
            Admission::Wait => {
                let limit = core.now + core.parameters.api.queue_wait;
                let Some(call) = self.calls.get(id) else {
                    return;
                };
                call.stage = Stage::Queued;
                let limit = limit.min(call.deadline);
                self.index_deadline(id, limit, core);
            }
            Admission::Reject => {
                if let Some(call) = self.calls.get(id) {
                    call.seats = 0;
                }
                self.too_many(id, core);
            }
        }
    }

    fn too_many(&mut self, id: CallId, core: &mut Core<'_>) {
        let retry_after_s = core.parameters.api.retry_after.as_secs() as u32;
        self.finish(id, Err(ApiError::TooManyRequests { retry_after_s }), core);
    }

    /// A request has its seats: its CPU is asked for.
    fn begin(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        if call.is_canceled(core.now) {
            self.give_back_seats(id, core);
            return self.forget(id);
        }
        let was_queued = call.stage == Stage::Queued;
        call.stage = Stage::Cpu;
        let (server, write, deadline) = (call.server, call.write, call.deadline);
        let new_connection = std::mem::take(&mut call.new_connection);
        let costs = &core.parameters.cost;
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let mut demand = costs.demand(&call.request, &self.store);
        if new_connection {
            demand = demand.plus(costs.connection());
        }
        if was_queued {
            self.index_deadline(id, deadline, core);
        }
        core.cpu(
            self.servers[server].node,
            demand.foreground,
            CpuToken::Api(id),
        );
        self.spend_beside(server, demand.background, core);
        if write {
            let replica = core.parameters.etcd.replica_cpu;
            for other in (0..self.servers.len()).filter(|other| *other != server) {
                self.spend_beside(other, replica, core);
            }
        }
    }

    /// CPU that delays nobody's answer by itself, spent in lumps to keep events few.
    fn spend_beside(&mut self, server: usize, demand: Duration, core: &mut Core<'_>) {
        let server = &mut self.servers[server];
        server.background += demand;
        if server.background >= core.parameters.cost.background_lump && server.up {
            let lump = std::mem::take(&mut server.background);
            core.cpu(server.node, lump, CpuToken::Nobody);
        }
    }

    /// CPU of a call was served.
    pub fn cpu_done(&mut self, id: CallId, core: &mut Core<'_>) {
        if self
            .calls
            .get(id)
            .is_some_and(|call| call.stage == Stage::Cpu)
        {
            let latency = core.parameters.api.latency;
            if latency.is_zero() {
                self.served(id, core);
            } else {
                core.after(latency, Event::Api(ApiEvent::Served { call: id }));
            }
        }
    }

    /// A request had its CPU, and what it waits for beside it: it is carried out.
    pub(super) fn served(&mut self, id: CallId, core: &mut Core<'_>) {
        if self
            .calls
            .get(id)
            .is_some_and(|call| call.stage == Stage::Cpu)
        {
            self.carry_out(id, core);
        }
    }

    fn carry_out(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        if !call.write {
            let server = call.server;
            let Some(call) = self.calls.get(id) else {
                return;
            };
            let request = call.request.clone();
            let response = self.read(&request, server, core.now);
            return self.finish(id, response, core);
        }
        if call.is_canceled(core.now) {
            self.give_back_seats(id, core);
            return self.forget(id);
        }
        if let Err(error) = self.store.check(&call.request) {
            return self.finish(id, Err(error), core);
        }
        if call.effect.is_none() && self.store.is_idle(&call.request) {
            return self.commit(id, core);
        }
        call.stage = Stage::Etcd;
        if let Some(CallEffect::Hold(delay)) = call.effect {
            core.after(delay, Event::Api(ApiEvent::Release { call: id }));
            return;
        }
        let api = &core.parameters.api;
        if api.fixed_latency && !api.fixed_write.is_zero() {
            core.after(api.fixed_write, Event::Api(ApiEvent::Release { call: id }));
            return;
        }
        self.submit_to_etcd(id, core);
    }

    pub(super) fn submit_to_etcd(&mut self, id: CallId, core: &mut Core<'_>) {
        if core.parameters.api.fixed_latency {
            return self.commit(id, core);
        }
        if self.etcd.stalled.is_some() {
            self.await_quorum(id, core);
        }
        if let Some(batch) = self.etcd.submit(core.now, id) {
            self.sync(batch.generation, core);
        }
    }

    fn sync(&mut self, generation: u64, core: &mut Core<'_>) {
        let time = self.etcd.batch_time(core.now, core.parameters);
        core.after(time, Event::Api(ApiEvent::Fsync { generation }));
    }

    /// A batch is durable on the leader; without a quorum it stays open.
    pub(super) fn synced(&mut self, generation: u64, core: &mut Core<'_>) {
        if !self.etcd.has_quorum() {
            self.etcd.stalled = Some(generation);
            for id in self.calls.matching(|call| call.stage == Stage::Etcd) {
                self.await_quorum(id, core);
            }
            return;
        }
        let mut done = Vec::new();
        let next = self.etcd.finished(core.now, generation, &mut done);
        for id in done {
            self.commit(id, core);
        }
        if let Some(batch) = next {
            self.sync(batch.generation, core);
        }
    }

    fn await_quorum(&mut self, id: CallId, core: &mut Core<'_>) {
        let limit = core.now + core.parameters.etcd.request_timeout;
        if let Some(call) = self.calls.get(id)
            && !call.client_done
        {
            let limit = limit.min(call.deadline);
            self.index_deadline(id, limit, core);
        }
    }

    fn commit(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let late = call.client_done || call.verdict.is_some();
        let before = self.store.revision();
        let response = self
            .store
            .write(&call.request, core.now, &self.nodes, core.observed);
        call.committed = response.is_ok();
        if call.committed && call.effect.is_some() {
            self.armed.committed(id, late);
        }
        self.publish_from(before, core);
        self.finish(id, response, core);
    }

    /// The server is done with a call; the answer goes back.
    pub(super) fn finish(&mut self, id: CallId, response: Response, core: &mut Core<'_>) {
        self.give_back_seats(id, core);
        let Some(call) = self.calls.get(id) else {
            return;
        };
        call.stage = Stage::Done;
        call.sent_back = core.now;
        if call.client_done {
            return self.forget(id);
        }
        if call.verdict.is_some() {
            return;
        }
        let (write, at) = (call.write, core.now + call.way_back);
        match call.effect {
            Some(CallEffect::LoseResponse) => self.lose(id, core),
            Some(CallEffect::ResetAfterCommit) => {
                call.reset = true;
                self.tell(id, Self::silence(write), core, at);
            }
            _ => self.tell(id, response, core, at),
        }
    }

    fn give_back_seats(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let seats = std::mem::take(&mut call.seats);
        if seats == 0 {
            return;
        }
        let (server, level) = (call.server, call.level);
        let mut next = Vec::new();
        self.servers[server].flow.release(level, seats, &mut next);
        for call in next {
            self.begin(call, core);
        }
    }

    /// The client will hear nothing: it waits for its deadline or for a dead connection.
    fn lose(&mut self, id: CallId, core: &mut Core<'_>) {
        let dead = core.now + core.parameters.client.h2_dead;
        let Some(call) = self.calls.get(id) else {
            return;
        };
        call.stage = Stage::Done;
        call.verdict = None;
        let limit = call.deadline.min(dead);
        self.index_deadline(id, limit, core);
    }

    /// The connection breaks; what the server had not yet given to etcd is not done.
    pub(super) fn reset(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        if call.stage != Stage::Etcd {
            call.stage = Stage::Done;
        }
        call.seats = 0;
        call.reset = true;
        call.sent_back = core.now;
        let (write, at) = (call.write, core.now + call.way_back);
        if call.verdict.is_none() && !call.client_done {
            self.tell(id, Self::silence(write), core, at);
        } else if call.client_done && call.stage == Stage::Done {
            self.forget(id);
        }
    }

    /// The server of a travelling request is down: another one takes it, or the dial is refused.
    fn redirect(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let (server, client, back) = (call.server, call.client, call.way_back);
        let serving = self.serving_from(server);
        let Some(call) = self.calls.get(id) else {
            return;
        };
        if let Some(other) = serving {
            call.server = other;
            call.new_connection = true;
            if let Some(client) = self.clients[client.index()].as_mut() {
                client.server = other;
            }
            core.after(back, Event::Api(ApiEvent::Arrive { call: id }));
            return;
        }
        call.stage = Stage::Done;
        if call.client_done {
            return self.forget(id);
        }
        self.tell(
            id,
            Err(ApiError::Unavailable { unknown: false }),
            core,
            core.now + back,
        );
    }

    fn tell(&mut self, id: CallId, response: Response, core: &mut Core<'_>, at: SimInstant) {
        if let Some(call) = self.calls.get(id) {
            call.verdict = Some(response);
            core.queue.at(at, Event::Api(ApiEvent::Answer { call: id }));
        }
    }

    /// The client learns the outcome, or tries again.
    pub(super) fn answer(&mut self, id: CallId, core: &mut Core<'_>) -> Delivery {
        let Some(call) = self.calls.get(id) else {
            return Delivery::Nothing;
        };
        if call.client_done {
            return Delivery::Nothing;
        }
        let (node, sent_back, local) = (call.node, call.sent_back, call.local);
        if !local && self.was_cut(node, sent_back) {
            if let Some(call) = self.calls.get(id) {
                call.verdict = None;
                if call.stage == Stage::Done {
                    self.lose(id, core);
                }
            }
            return Delivery::Nothing;
        }
        let Some(call) = self.calls.get(id) else {
            return Delivery::Nothing;
        };
        let Some(response) = call.verdict.take() else {
            return Delivery::Nothing;
        };
        let result = match &response {
            Ok(_) => Ok(()),
            Err(error) => Err(*error),
        };
        let (class, what, committed) = (call.class, call.what, call.committed);
        core.observed.push(Observation::ApiCall {
            class,
            what,
            result,
            committed,
        });
        if let Some(wait) = retry(call, &response)
            && u64::from(call.attempt) < core.parameters.client.max_retries
        {
            call.attempt += 1;
            self.depart(id, core.now + wait, core);
            return Delivery::Nothing;
        }
        let (reply, stage, client) = (call.reply, call.stage, call.client);
        call.client_done = true;
        if let Some(client) = self.clients[client.index()].as_mut() {
            client.waiting -= 1;
        }
        self.unindex(id);
        if stage == Stage::Done {
            self.calls.remove(id);
        }
        match reply {
            ReplyTo::Nobody => Delivery::Nothing,
            reply => Delivery::Response(reply, response),
        }
    }

    fn forget(&mut self, id: CallId) {
        self.unindex(id);
        self.calls.remove(id);
    }

    /// Carries out a read.
    fn read(&self, request: &Request, server: usize, now: SimInstant) -> Response {
        let at = if cost::from_cache(request) {
            self.store.visible_revision(server, now)
        } else {
            self.store.revision()
        };
        match request {
            Request::GetPod {
                namespace, name, ..
            } => self
                .store
                .pod_at(namespace, name, at)
                .map(Answer::Pod)
                .ok_or(ApiError::NotFound),
            Request::ListPods { node_name, .. } => {
                Ok(Answer::Pods(self.store.pods_at(node_name.as_ref(), at), at))
            }
            Request::Get { kind, name, .. } => self
                .store
                .custom_at(*kind, name, at)
                .map(Answer::Custom)
                .ok_or(ApiError::NotFound),
            Request::List {
                kind,
                selectors,
                limit,
                after,
                ..
            } => {
                let (at, after) = match after {
                    None => (at, None),
                    Some(token) => {
                        let (revision, name) = token.split_once(' ').ok_or(ApiError::Invalid)?;
                        let revision = revision.parse().map_err(|_| ApiError::Invalid)?;
                        if revision + 1 < self.store.first() {
                            return Err(ApiError::Gone);
                        }
                        (revision, Some(name))
                    }
                };
                let mut found = self.store.customs_at(*kind, &[], at);
                if let Some(after) = after {
                    found.retain(|object| *object.name > *after);
                }
                // A full page has a token while anything follows, whatever selects it.
                let last = found.last().map(|object| object.name.clone());
                found.retain(|object| matches(selectors, object));
                let mut next = None;
                if *limit > 0 && found.len() >= *limit as usize {
                    found.truncate(*limit as usize);
                    let end = found.last().map(|object| object.name.clone());
                    if end != last {
                        next = end.map(|name| format!("{at} {name}").into());
                    }
                }
                Ok(Answer::Customs(found, at, next))
            }
            _ => Ok(Answer::Done),
        }
    }
}

/// Whether client-go sends a call again by itself, and after how long.
fn retry(call: &Call, response: &Response) -> Option<Duration> {
    match response {
        Err(ApiError::TooManyRequests { retry_after_s }) => {
            Some(Duration::from_secs(u64::from(*retry_after_s)))
        }
        Err(ApiError::Unavailable { .. })
            if call.reset && matches!(call.what.verb, "GET" | "LIST") =>
        {
            Some(Duration::ZERO)
        }
        _ => None,
    }
}
