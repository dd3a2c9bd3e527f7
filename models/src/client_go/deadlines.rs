//! The instants at which calls are given up, or have waited long enough in a queue: one armed timer
//! for all of them. What then becomes of a call is decided where it is.

use std::collections::BTreeSet;

use drydock_engine::time::SimInstant;

use crate::core::Core;
use crate::event::{ApiEvent, Event};
use crate::ids::CallId;

use super::call::ClientSide;

/// At most one instant for each call.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    set: BTreeSet<(SimInstant, CallId)>,
    /// For when the timer is armed.
    armed: Option<SimInstant>,
}

impl Deadlines {
    /// The call is due at an instant, and at no other.
    pub(crate) fn set(
        &mut self,
        call: CallId,
        side: &mut ClientSide,
        at: SimInstant,
        core: &mut Core<'_>,
    ) {
        self.unset(call, side);
        side.indexed = Some(at);
        self.set.insert((at, call));
        self.arm(core);
    }

    /// The call is never due.
    pub(crate) fn unset(&mut self, call: CallId, side: &mut ClientSide) {
        if let Some(old) = side.indexed.take() {
            self.set.remove(&(old, call));
        }
    }

    /// The timer fired.
    pub(crate) fn fired(&mut self, now: SimInstant) {
        if self.armed.is_some_and(|at| at <= now) {
            self.armed = None;
        }
    }

    /// The first call that is due.
    pub(crate) fn due(&self, now: SimInstant) -> Option<CallId> {
        let (at, call) = self.set.first()?;
        (*at <= now).then_some(*call)
    }

    /// Arms the timer for the first deadline, unless it is armed for an earlier instant.
    pub(crate) fn arm(&mut self, core: &mut Core<'_>) {
        let Some((at, _)) = self.set.first().copied() else {
            return;
        };
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            core.queue.at(at.max(core.now), Event::Api(ApiEvent::Sweep));
        }
    }
}
