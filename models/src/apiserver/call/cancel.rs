//! How a client leaves a call before its answer: by its deadline, by its context, or by its death.

use crate::apiserver::ApiServers;
use crate::client_go::call::{ClientSide, silence};
use crate::core::Core;
use crate::ids::{CallId, ClientId};
use crate::observation::Observation;
use crate::request::{ApiError, ReplyTo};

use super::Stage;

impl ApiServers {
    /// Deadlines that have passed.
    pub(in crate::apiserver) fn sweep(&mut self, core: &mut Core<'_>) {
        self.deadlines.fired(core.now);
        while let Some(id) = self.deadlines.due(core.now) {
            self.expire(id, core);
        }
        self.deadlines.arm(core);
    }

    fn expire(&mut self, id: CallId, core: &mut Core<'_>) {
        let call = self.calls.get(id).expect("a call that is due is there");
        self.deadlines.unset(id, &mut call.client);
        if call.client.done || call.client.local {
            return;
        }
        if call.stage == Stage::Queued {
            call.seats = 0;
            call.stage = Stage::Done;
            self.servers[call.server].flow.give_up(call.level, id);
            if core.now < call.client.deadline {
                return self.too_many(id, core);
            }
        }
        call.client.local = true;
        call.client.tell(id, silence(call.write), core.now, core);
    }

    /// The client's context of a call is canceled: it learns nothing, and the server stops unless
    /// etcd has the write already.
    /// Source: client-go rest/request.go (the request carries the context), net/http2 (RST_STREAM
    /// cancels the handler's context), etcd clientv3 (a canceled Txn is not sent).
    pub fn cancel(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let side = &mut call.client;
        self.deadlines.unset(id, side);
        if side.done {
            return;
        }
        if let Some(client) = self.clients.get(side.id) {
            client.waiting -= 1;
        }
        side.done = true;
        side.reply = ReplyTo::Nobody;
        side.canceled = Some(core.now + core.parameters.net.one_way);
        let unsent = side.departed > core.now;
        if !unsent {
            core.observed.push(Observation::ApiCall {
                class: side.class,
                what: call.what,
                result: Err(ApiError::Unavailable {
                    unknown: call.write,
                }),
                committed: call.committed,
            });
        }
        let stage = call.stage;
        if stage == Stage::Queued {
            call.seats = 0;
            self.servers[call.server].flow.give_up(call.level, id);
        }
        if unsent || matches!(stage, Stage::Queued | Stage::Done) {
            self.forget(id);
        }
    }

    /// Nobody waits for the calls of a client any more; what has left the client goes on.
    pub(in crate::apiserver) fn abandon_calls(&mut self, client: ClientId, core: &mut Core<'_>) {
        let is_waited_for = |side: &ClientSide| side.id == client && !side.done;
        for id in self.calls.matching(|call| is_waited_for(&call.client)) {
            let call = self.calls.get(id).expect("a call that matches is there");
            self.deadlines.unset(id, &mut call.client);
            call.client.done = true;
            call.client.reply = ReplyTo::Nobody;
            if call.stage == Stage::Done || call.client.departed > core.now {
                self.forget(id);
            }
        }
    }
}
