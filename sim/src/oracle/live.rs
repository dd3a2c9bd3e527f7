//! L. Claim: with room and no fault, every Pod gets its address within the published bound.
//! Watches: the end of a run. Suspended: while faults are on, and where no address is free for
//! the Pods that wait.

use std::time::Duration;

use drydock_engine::time::SimInstant;
use drydock_models::ids::PodUid;

use super::{Breach, Invariant, Truth};

/// Checks that nobody waits for a free address.
pub fn check(
    truth: &Truth,
    at: SimInstant,
    bound: Duration,
    waiting: &[PodUid],
    free: usize,
) -> Option<Breach> {
    let since = truth.healed?;
    if free == 0 || at.saturating_since(since) < bound {
        return None;
    }
    let first = waiting.first()?;
    let text = format!(
        "{} Pods, Pod {first} first, still wait {} s after the last fault, with {free} addresses \
         free",
        waiting.len(),
        at.saturating_since(since).as_secs()
    );
    Some((Invariant::L, first.to_string(), text))
}
