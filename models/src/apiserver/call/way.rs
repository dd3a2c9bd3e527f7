//! The way of a call between its client and a server, there and back, and what can befall it: a
//! cut, a broken connection, a server that is down, an answer after which the client tries again.

use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::apiserver::{ApiServers, Delivery, serving_from};
use crate::client_go::call::silence;
use crate::core::Core;
use crate::event::{ApiEvent, Event};
use crate::ids::CallId;
use crate::observation::Observation;
use crate::request::{ApiError, ReplyTo, Response};

use super::Stage;

/// No server is there that could do anything.
const REFUSED: Response = Err(ApiError::Unavailable { unknown: false });

impl ApiServers {
    /// When a call leaves, or left, the limiter of its client; `None` when it has ended.
    pub fn departure(&mut self, call: CallId) -> Option<SimInstant> {
        self.calls.get(call).map(|call| call.client.departed)
    }

    /// How long a call that was just made is held back by its client's limiter.
    pub fn limited(&mut self, call: CallId, now: SimInstant) -> Duration {
        let departs = self.departure(call).unwrap_or(now);
        departs.saturating_since(now)
    }

    /// Sends a call, not before an instant, when its limiter lets it.
    pub(super) fn depart(&mut self, id: CallId, not_before: SimInstant, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let Some(client) = self.clients.get(call.client.id) else {
            return self.forget(id);
        };
        let serving = serving_from(&self.servers, client.server);
        let server = serving.unwrap_or(client.server);
        let departure = client.depart(server, not_before, core);
        call.client
            .depart(&departure, call.write, &core.parameters.api);
        call.server = server;
        call.stage = Stage::Travelling;
        call.new_connection = departure.new_connection;
        call.effect = None;
        if serving.is_none() {
            call.stage = Stage::Done;
            let at = departure.at + departure.back;
            return call.client.tell(id, REFUSED, at, core);
        }
        let deadline = call.client.deadline;
        self.deadlines.set(id, &mut call.client, deadline, core);
        core.queue.at(
            departure.at + departure.way,
            Event::Api(ApiEvent::Arrive { call: id }),
        );
    }

    /// The client will hear nothing: it waits for its deadline or for a dead connection.
    pub(super) fn lose(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        call.stage = Stage::Done;
        call.client.verdict = None;
        let dead = core.now + core.parameters.client.h2_dead;
        let limit = call.client.deadline.min(dead);
        self.deadlines.set(id, &mut call.client, limit, core);
    }

    /// The connection breaks; what the server had not yet given to etcd is not done.
    pub(in crate::apiserver) fn reset(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        if call.stage != Stage::Etcd {
            call.stage = Stage::Done;
        }
        call.seats = 0;
        call.sent_back = core.now;
        call.client.reset = true;
        if call.client.verdict.is_none() && !call.client.done {
            let at = core.now + call.client.way_back;
            call.client.tell(id, silence(call.write), at, core);
        } else if call.client.done && call.stage == Stage::Done {
            self.forget(id);
        }
    }

    /// The server of a traveling request is down: another one takes it, or the dial is refused.
    pub(super) fn redirect(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let back = call.client.way_back;
        if let Some(other) = serving_from(&self.servers, call.server) {
            call.server = other;
            call.new_connection = true;
            if let Some(client) = self.clients.get(call.client.id) {
                client.server = other;
            }
            core.after(back, Event::Api(ApiEvent::Arrive { call: id }));
            return;
        }
        call.stage = Stage::Done;
        if call.client.done {
            return self.forget(id);
        }
        call.client.tell(id, REFUSED, core.now + back, core);
    }

    /// The client learns the outcome, or tries again.
    pub(in crate::apiserver) fn answer(&mut self, id: CallId, core: &mut Core<'_>) -> Delivery {
        let Some(call) = self.calls.get(id).filter(|call| !call.client.done) else {
            return Delivery::Nothing;
        };
        let side = &mut call.client;
        if !side.local && self.links.was_cut(side.node, call.sent_back) {
            side.verdict = None;
            if call.stage == Stage::Done {
                self.lose(id, core);
            }
            return Delivery::Nothing;
        }
        let Some(response) = side.verdict.take() else {
            return Delivery::Nothing;
        };
        core.observed.push(Observation::ApiCall {
            class: side.class,
            what: call.what,
            result: match &response {
                Ok(_) => Ok(()),
                Err(error) => Err(*error),
            },
            committed: call.committed,
        });
        let retries_max = core.parameters.client.max_retries;
        if let Some(wait) = side.try_again(call.what.verb, &response, retries_max) {
            self.depart(id, core.now + wait, core);
            return Delivery::Nothing;
        }
        side.done = true;
        let (reply, stage) = (side.reply, call.stage);
        self.deadlines.unset(id, side);
        if let Some(client) = self.clients.get(side.id) {
            client.waiting -= 1;
        }
        if stage == Stage::Done {
            self.calls.remove(id);
        }
        match reply {
            ReplyTo::Nobody => Delivery::Nothing,
            reply => Delivery::Response(reply, response),
        }
    }

    /// Both sides are done with a call.
    pub(super) fn forget(&mut self, id: CallId) {
        if let Some(mut call) = self.calls.remove(id) {
            self.deadlines.unset(id, &mut call.client);
        }
    }
}
