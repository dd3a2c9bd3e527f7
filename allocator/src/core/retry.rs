//! When to retry: growing pauses with jitter, so that losers of a race do not collide again.

use core::time::Duration;

use super::hash::mix;

/// A growing pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause is at most this.
    pub first: Duration,
    /// No pause is longer.
    pub longest: Duration,
}

impl Backoff {
    /// The pause before try `attempt` (0 = the first repetition): between half of the step and the
    /// whole, by `entropy`.
    pub fn pause(&self, attempt: u32, entropy: u64) -> Duration {
        let step = self
            .first
            .saturating_mul(1 << attempt.min(16))
            .min(self.longest);
        let half = (step / 2).as_nanos() as u64;
        Duration::from_nanos(half + mix(entropy, u64::from(attempt)) % (half + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_their_bounds() {
        let backoff = Backoff {
            first: Duration::from_millis(10),
            longest: Duration::from_secs(1),
        };
        for entropy in 0..50 {
            assert!(backoff.pause(0, entropy) >= Duration::from_millis(5));
            assert!(backoff.pause(0, entropy) <= Duration::from_millis(10));
            assert!(backoff.pause(30, entropy) >= Duration::from_millis(500));
            assert!(backoff.pause(30, entropy) <= Duration::from_secs(1));
        }
    }
}
