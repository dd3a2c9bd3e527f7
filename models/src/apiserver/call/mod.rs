//! The servers' half of a call: from its arrival through flow control, CPU and etcd until it is
//! finished. A call lives until both sides are done with it: a client that gave up does not stop a
//! write that etcd already has. The client's half is in [`crate::client_go`]; `way` hands calls
//! over between the two.

mod cancel;
mod read;
mod way;

use std::collections::VecDeque;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::client_go::call::{ClientSide, silence};
use crate::core::Core;
use crate::event::{ApiEvent, CpuToken, Event};
use crate::ids::{CallId, ClientId};
use crate::observation::ApiCallKind;
use crate::request::{ApiError, ReplyTo, Request, Response};

use super::ApiServers;
use super::cost::describe;
use super::fault::CallEffect;
use super::flow_control::{Admission, Level};

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
pub(super) struct Call {
    pub(super) client: ClientSide,
    level: Level,
    request: Request,
    what: ApiCallKind,
    pub(super) write: bool,
    pub(super) server: usize,
    pub(super) stage: Stage,
    sent_back: SimInstant,
    seats: u32,
    /// The server pays for TLS.
    new_connection: bool,
    effect: Option<CallEffect>,
    committed: bool,
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
        let caller = self
            .clients
            .get(client)
            .expect("a call is made by a client that exists");
        caller.waiting += 1;
        let side = ClientSide::new(client, &caller.spec, reply, core);
        let (what, write) = describe(&request);
        let id = self.calls.add(Call {
            level: Level::of(side.class, what.resource),
            client: side,
            request,
            what,
            write,
            server: 0,
            stage: Stage::Travelling,
            sent_back: core.now,
            seats: 0,
            new_connection: false,
            effect: None,
            committed: false,
        });
        self.depart(id, core.now, core);
        id
    }

    /// A request reaches its server, unless something on the way prevents it.
    pub(super) fn arrive(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let (class, node) = (call.client.class, call.client.node);
        if self.links.was_cut(node, call.client.departed) {
            return self.lose(id, core);
        }
        if !self.servers[call.server].up {
            return self.redirect(id, core);
        }
        call.effect = self.armed.arrived(id, core.now, |selector| {
            selector.matches(class, node, call.what, call.write)
        });
        match call.effect {
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
        call.seats = (listed as u64).div_ceil(per_seat).clamp(1, 10) as u32;
        let flow = &mut self.servers[call.server].flow;
        match flow.admit(call.level, call.seats, id) {
            Admission::Run => self.begin(id, core),
            Admission::Wait => {
                call.stage = Stage::Queued;
                let limit = core.now + core.parameters.api.queue_wait;
                let limit = limit.min(call.client.deadline);
                self.deadlines.set(id, &mut call.client, limit, core);
            }
            Admission::Reject => {
                call.seats = 0;
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
        if call.client.is_canceled(core.now) {
            self.give_back_seats(id, core);
            return self.forget(id);
        }
        let was_queued = std::mem::replace(&mut call.stage, Stage::Cpu) == Stage::Queued;
        let costs = &core.parameters.cost;
        let mut demand = costs.demand(&call.request, &self.store);
        if std::mem::take(&mut call.new_connection) {
            demand = demand.plus(costs.connection());
        }
        if was_queued {
            let deadline = call.client.deadline;
            self.deadlines.set(id, &mut call.client, deadline, core);
        }
        let (server, write) = (call.server, call.write);
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

    /// CPU that delays no answer by itself, spent in lumps to keep events few.
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
        let latency = core.parameters.api.latency;
        if latency.is_zero() {
            self.served(id, core);
        } else if self.is_at(id, Stage::Cpu) {
            core.after(latency, Event::Api(ApiEvent::Served { call: id }));
        }
    }

    /// A request has had its CPU and its other waits: it is carried out.
    pub(super) fn served(&mut self, id: CallId, core: &mut Core<'_>) {
        if self.is_at(id, Stage::Cpu) {
            self.carry_out(id, core);
        }
    }

    fn is_at(&mut self, id: CallId, stage: Stage) -> bool {
        self.calls.get(id).is_some_and(|call| call.stage == stage)
    }

    /// Whether a write is in etcd's hands, so that nothing can stop it.
    pub fn is_committing(&mut self, call: CallId) -> bool {
        self.is_at(call, Stage::Etcd)
    }

    fn carry_out(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        if !call.write {
            let response = read::response(&self.store, &call.request, call.server, core.now);
            return self.finish(id, response, core);
        }
        if call.client.is_canceled(core.now) {
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
            && !call.client.done
        {
            let limit = limit.min(call.client.deadline);
            self.deadlines.set(id, &mut call.client, limit, core);
        }
    }

    fn commit(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let late = call.client.done || call.client.verdict.is_some();
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
    fn finish(&mut self, id: CallId, response: Response, core: &mut Core<'_>) {
        self.give_back_seats(id, core);
        let Some(call) = self.calls.get(id) else {
            return;
        };
        call.stage = Stage::Done;
        call.sent_back = core.now;
        if call.client.done {
            return self.forget(id);
        }
        if call.client.verdict.is_some() {
            return;
        }
        let at = core.now + call.client.way_back;
        match call.effect {
            Some(CallEffect::LoseResponse) => self.lose(id, core),
            Some(CallEffect::ResetAfterCommit) => {
                call.client.reset = true;
                call.client.tell(id, silence(call.write), at, core);
            }
            _ => call.client.tell(id, response, at, core),
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
        let mut next = Vec::new();
        let flow = &mut self.servers[call.server].flow;
        flow.release(call.level, seats, &mut next);
        for call in next {
            self.begin(call, core);
        }
    }
}
