//! The clients' deadlines, and how long a queue keeps a call: one armed timer for all calls.

use drydock_engine::time::SimInstant;

use super::Stage;
use crate::apiserver::ApiServers;
use crate::core::Core;
use crate::event::{ApiEvent, Event};
use crate::ids::CallId;

impl ApiServers {
    /// Deadlines that have passed.
    pub(in crate::apiserver) fn sweep(&mut self, core: &mut Core<'_>) {
        if self.sweep_at.is_some_and(|at| at <= core.now) {
            self.sweep_at = None;
        }
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > core.now {
                break;
            }
            self.deadlines.pop_first();
            self.expire(id, core);
        }
        self.arm_sweep(core);
    }

    fn expire(&mut self, id: CallId, core: &mut Core<'_>) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        call.indexed = None;
        if call.client_done || call.local {
            return;
        }
        let (server, level, stage) = (call.server, call.level, call.stage);
        let waited_out = stage == Stage::Queued && core.now < call.deadline;
        if stage == Stage::Queued {
            call.seats = 0;
            call.stage = Stage::Done;
            self.servers[server].flow.give_up(level, id);
        }
        if waited_out {
            return self.too_many(id, core);
        }
        let Some(call) = self.calls.get(id) else {
            return;
        };
        call.local = true;
        let write = call.write;
        self.tell(id, Self::silence(write), core, core.now);
    }

    pub(super) fn index_deadline(&mut self, id: CallId, at: SimInstant, core: &mut Core<'_>) {
        self.unindex(id);
        if let Some(call) = self.calls.get(id) {
            call.indexed = Some(at);
            self.deadlines.insert((at, id));
            self.arm_sweep(core);
        }
    }

    pub(super) fn unindex(&mut self, id: CallId) {
        if let Some(call) = self.calls.get(id)
            && let Some(old) = call.indexed.take()
        {
            self.deadlines.remove(&(old, id));
        }
    }

    fn arm_sweep(&mut self, core: &mut Core<'_>) {
        let Some((at, _)) = self.deadlines.first().copied() else {
            return;
        };
        if self.sweep_at.is_none_or(|armed| at < armed) {
            self.sweep_at = Some(at);
            core.queue.at(at.max(core.now), Event::Api(ApiEvent::Sweep));
        }
    }
}
