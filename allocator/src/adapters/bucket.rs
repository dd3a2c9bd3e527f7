//! A token bucket: how many requests this process sends at most, whatever the cores ask for. The
//! apiserver's own fairness is not relied on.

use core::time::Duration;
use std::sync::{Mutex, PoisonError};

use tokio::time::{Instant, sleep_until};

/// A rate and a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units: tokens per second; at least one.
    pub per_second: u32,
    /// Units: tokens; at least one.
    pub burst: u32,
}

/// The bucket.
pub struct TokenBucket {
    interval: Duration,
    /// How long an idle bucket takes to fill.
    filling: Duration,
    /// When the next token drops, if the bucket is empty.
    next: Mutex<Instant>,
}

impl TokenBucket {
    /// A full bucket. Within a tokio runtime.
    pub fn new(rate: Rate) -> Self {
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        let filling = interval * rate.burst.max(1).saturating_sub(1);
        Self::full(interval, filling, Instant::now())
    }

    fn full(interval: Duration, filling: Duration, now: Instant) -> Self {
        Self {
            interval,
            filling,
            next: Mutex::new(now.checked_sub(filling).unwrap_or(now)),
        }
    }

    /// Takes the next token if it drops within `bound` from now: how long that is.
    ///
    /// Errors: how long it would take.
    fn slot(&self, now: Instant, bound: Duration) -> Result<Duration, Duration> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let full = now.checked_sub(self.filling).unwrap_or(now);
        let slot = (*next).max(full);
        let wait = slot.saturating_duration_since(now);
        if wait > bound {
            return Err(wait);
        }
        *next = slot + self.interval;
        Ok(wait)
    }

    /// Waits for a token, at most `bound`.
    ///
    /// Errors: it would take longer; the error says how long, and nothing was taken.
    pub async fn take(&self, bound: Duration) -> Result<(), Duration> {
        let now = Instant::now();
        let wait = self.slot(now, bound)?;
        if !wait.is_zero() {
            sleep_until(now + wait).await;
        }
        Ok(())
    }

    /// Takes a token if one is there.
    pub fn try_take(&self) -> bool {
        self.slot(Instant::now(), Duration::ZERO).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Ten a second, three at once, and the moment it is full.
    fn bucket() -> (TokenBucket, Instant) {
        let bucket = TokenBucket::new(Rate {
            per_second: 10,
            burst: 3,
        });
        (bucket, Instant::now() + SECOND)
    }

    #[test]
    fn a_burst_passes_and_the_rest_is_paced() {
        let (bucket, now) = bucket();
        let waits: Vec<_> = (0..6)
            .map(|_| bucket.slot(now, SECOND).unwrap().as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
    }

    #[test]
    fn who_cannot_wait_takes_nothing() {
        let (bucket, now) = bucket();
        while bucket.slot(now, Duration::ZERO).is_ok() {}
        let refused = bucket.slot(now, Duration::from_millis(50));
        assert_eq!(refused.map_err(|wait| wait.as_millis()), Err(100));
        let later = now + Duration::from_millis(100);
        assert!(bucket.slot(later, Duration::ZERO).is_ok(), "it was left");
        assert!(bucket.slot(later, Duration::ZERO).is_err());
    }

    #[test]
    fn an_idle_bucket_holds_no_more_than_its_burst() {
        let (bucket, now) = bucket();
        let later = now + SECOND * 60;
        let taken = (0..10).filter(|_| bucket.slot(later, Duration::ZERO).is_ok());
        assert_eq!(taken.count(), 3);
    }

    #[tokio::test]
    async fn waiting_is_real() {
        let (bucket, _) = bucket();
        let begin = Instant::now();
        for _ in 0..4 {
            bucket.take(SECOND).await.unwrap();
        }
        assert!(begin.elapsed() >= Duration::from_millis(95));
    }
}
