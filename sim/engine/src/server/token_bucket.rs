//! The token bucket of golang.org/x/time/rate in integers, as client-go uses it; no priorities.
//!
//! Units: tokens are counted in 10^-12, so that a nanosecond at `qps_milli` adds exactly
//! `qps_milli` of them and no rounding accumulates (the original counts in `float64`).
//!
//! Source: golang.org/x/time/rate `reserveN`, `advance`, `WaitN`; k8s.io/client-go
//! util/flowcontrol/throttle.go, where `Accept` reserves, `Wait` honors the deadline of its context
//! and `TryAccept` is `AllowN(now, 1)`.

use std::time::Duration;

use crate::time::SimInstant;

/// One token, in the unit of the count.
const TOKEN: i128 = 1_000_000_000_000;

/// A rate limiter.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    qps_milli: u64,
    burst: u64,
    tokens: i128,
    updated_at: SimInstant,
}

impl TokenBucket {
    /// A full bucket. Units: thousandths of a token per second; whole tokens.
    ///
    /// Panics: when the rate or the burst is 0.
    pub fn new(qps_milli: u64, burst: u64) -> Self {
        assert!(
            qps_milli > 0 && burst > 0,
            "a bucket with no rate or no burst passes nothing"
        );
        Self {
            qps_milli,
            burst,
            tokens: i128::from(burst) * TOKEN,
            updated_at: SimInstant::ZERO,
        }
    }

    /// Takes a token, on credit if need be; returns when the call may start. First come, first
    /// served.
    pub fn reserve(&mut self, now: SimInstant) -> SimInstant {
        self.reserve_within(now, SimInstant::MAX)
            .expect("no wait passes the end of time")
    }

    /// Like [`TokenBucket::reserve`], unless the wait would pass the deadline: then it fails at
    /// once and takes no token.
    pub fn reserve_within(&mut self, now: SimInstant, deadline: SimInstant) -> Option<SimInstant> {
        let left = self.available(now) - TOKEN;
        let wait = u64::try_from(
            (-left)
                .max(0)
                .unsigned_abs()
                .div_ceil(u128::from(self.qps_milli)),
        );
        let starts_at = now.checked_add(Duration::from_nanos(wait.ok()?))?;
        // The original compares the wait with the time left, so a deadline that has passed
        // already refuses whatever has to wait, and also what has not.
        if starts_at > deadline {
            return None;
        }
        self.tokens = left;
        self.updated_at = now;
        Some(starts_at)
    }

    /// Takes a token if one is there now.
    pub fn try_take(&mut self, now: SimInstant) -> bool {
        self.reserve_within(now, now).is_some()
    }

    fn available(&self, now: SimInstant) -> i128 {
        assert!(
            now >= self.updated_at,
            "{now} is before {}",
            self.updated_at
        );
        let elapsed = i128::from(now.as_nanos() - self.updated_at.as_nanos());
        let full = i128::from(self.burst) * TOKEN;
        (self.tokens + elapsed * i128::from(self.qps_milli)).min(full)
    }
}
