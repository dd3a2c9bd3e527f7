//! How a client leaves a call before its answer: by its context, or by its death.

use crate::core::Core;
use crate::ids::{CallId, ClientId};
use crate::observation::Observation;
use crate::request::{ApiError, ReplyTo};

use super::super::ApiServers;
use super::Stage;

impl ApiServers {
    /// The client's context of a call is canceled: it learns nothing, and the server stops unless
    /// etcd has the write already.
    /// Source: client-go rest/request.go (the request carries the context), net/http2 (RST_STREAM
    /// cancels the handler's context), etcd clientv3 (a canceled Txn is not sent).
    pub fn cancel(&mut self, id: CallId, core: &mut Core<'_>) {
        self.unindex(id);
        let one_way = core.parameters.net.one_way;
        let Some(call) = self.calls.get(id).filter(|call| !call.client_done) else {
            return;
        };
        if let Some(client) = self.clients[call.client.index()].as_mut() {
            client.waiting -= 1;
        }
        call.client_done = true;
        call.reply = ReplyTo::Nobody;
        call.canceled = Some(core.now + one_way);
        let unsent = call.departed > core.now;
        let (server, level, stage) = (call.server, call.level, call.stage);
        if !unsent {
            core.observed.push(Observation::ApiCall {
                class: call.class,
                what: call.what,
                result: Err(ApiError::Unavailable {
                    unknown: call.write,
                }),
                committed: call.committed,
            });
        }
        if stage == Stage::Queued {
            call.seats = 0;
            self.servers[server].flow.give_up(level, id);
        }
        if unsent || matches!(stage, Stage::Queued | Stage::Done) {
            self.forget(id);
        }
    }

    /// Nobody waits for the calls of a client any more; what has left the client goes on.
    pub(in super::super) fn abandon_calls(&mut self, client: ClientId, core: &mut Core<'_>) {
        for id in self
            .calls
            .matching(|call| call.client == client && !call.client_done)
        {
            self.unindex(id);
            let Some(call) = self.calls.get(id) else {
                continue;
            };
            call.client_done = true;
            call.reply = ReplyTo::Nobody;
            if call.stage == Stage::Done || call.departed > core.now {
                self.forget(id);
            }
        }
    }
}
