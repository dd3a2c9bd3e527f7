//! The agent's API rate limiter with auto-adjustment: a weighted semaphore for parallel requests,
//! then a token bucket, both waited for within one limit; the mean processing time of the last
//! successful requests moves rate, burst and parallelism, always from their base values.
//! Source: cilium pkg/rate/api_limiter.go@314ca7ba (order fixed by PR 13450).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::process::Port;
use crate::process::queueing::{Held, Semaphore};

/// Units of the semaphore: its resolution.
const UNITS: u64 = 10_000_000;
/// One, in parts per billion.
const ONE: u128 = 1_000_000_000;
/// One token, in the unit of the count: a nanosecond at a nanotoken per second.
const TOKEN: i128 = 1_000_000_000_000_000_000;

/// How one kind of request is limited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) estimate: Duration,
    /// Thousandths of a request per second.
    pub(super) milli_per_s: Option<u64>,
    pub(super) burst: u64,
    pub(super) parallel: u64,
    pub(super) parallel_min: u64,
    pub(super) skip: u64,
    pub(super) wait_max: Option<Duration>,
    pub(super) auto_adjust: bool,
    pub(super) mean_over: u64,
    pub(super) delayed_percent: u64,
    pub(super) factor_max: u64,
}

/// golang.org/x/time/rate with a rate and burst that change, in integers.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    nano_per_s: u64,
    burst: u64,
    tokens: i128,
    updated: SimInstant,
    /// When the latest reservation may act.
    last_event: SimInstant,
}

impl Bucket {
    fn advance(&mut self, now: SimInstant) {
        let elapsed = i128::from(now.saturating_since(self.updated).as_nanos() as u64);
        let full = i128::from(self.burst) * TOKEN;
        self.tokens = (self.tokens + elapsed * i128::from(self.nano_per_s)).min(full);
        self.updated = now;
    }

    fn reserve(&mut self, now: SimInstant) -> SimInstant {
        self.advance(now);
        self.tokens -= TOKEN;
        let missing = (-self.tokens).max(0).unsigned_abs();
        let wait = missing.div_ceil(u128::from(self.nano_per_s.max(1)));
        self.last_event = now + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX / 4));
        self.last_event
    }

    /// Gives a reservation back, less what later ones already counted on.
    fn cancel(&mut self, acts_at: SimInstant, now: SimInstant) {
        if acts_at <= now {
            return;
        }
        let later = self.last_event.saturating_since(acts_at).as_nanos() as i128;
        let restored = TOKEN - later * i128::from(self.nano_per_s);
        if restored > 0 {
            self.advance(now);
            self.tokens += restored;
        }
    }
}

/// What moves.
#[derive(Debug)]
struct State {
    settings: Settings,
    scheduled: u64,
    durations: VecDeque<Duration>,
    parallel: u64,
    bucket: Option<Bucket>,
}

impl State {
    fn new(settings: Settings) -> Self {
        let bucket = settings.milli_per_s.map(|milli| Bucket {
            nano_per_s: milli * 1_000_000,
            burst: settings.burst,
            tokens: i128::from(settings.burst) * TOKEN,
            updated: SimInstant::ZERO,
            last_event: SimInstant::ZERO,
        });
        Self {
            settings,
            scheduled: 0,
            durations: VecDeque::new(),
            parallel: settings.parallel,
            bucket,
        }
    }

    fn mean(&self) -> Duration {
        let count = self.durations.len() as u32;
        let sum: Duration = self.durations.iter().sum();
        sum.checked_div(count).unwrap_or(self.settings.estimate)
    }

    /// A request succeeded: the limits follow the mean.
    fn learn(&mut self, took: Duration, now: SimInstant) {
        self.durations.push_back(took);
        if self.durations.len() as u64 > self.settings.mean_over {
            self.durations.pop_front();
        }
        if !self.settings.auto_adjust {
            return;
        }
        let mean = self.mean().as_nanos().max(1);
        let limit = u128::from(self.settings.factor_max);
        let factor =
            (self.settings.estimate.as_nanos() * ONE / mean).clamp(ONE / limit, ONE * limit);
        let delayed = |base: u64, least: u64| {
            let base = u128::from(base) * ONE;
            let share = u128::from(self.settings.delayed_percent);
            let target = base * factor / ONE;
            let moved = if target >= base {
                base + (target - base) * share / 100
            } else {
                base - (base - target) * share / 100
            };
            moved.max(u128::from(least) * ONE)
        };
        let least = self.settings.parallel_min;
        self.parallel = (delayed(self.settings.parallel, least) / ONE) as u64;
        let burst = ((delayed(self.settings.burst, least) + ONE / 2) / ONE) as u64;
        if let Some(bucket) = &mut self.bucket {
            bucket.advance(now);
            let base = u128::from(self.settings.milli_per_s.unwrap_or(0)) * 1_000_000;
            bucket.nano_per_s = (base * factor / ONE) as u64;
            bucket.burst = burst;
        }
    }
}

/// A limiter of one kind of request in one agent.
#[derive(Clone)]
pub(super) struct Limiter {
    state: Rc<RefCell<State>>,
    slots: Semaphore,
}

/// Leave to run, until it is finished or dropped.
pub(super) struct Pass {
    limiter: Limiter,
    since: SimInstant,
    _slot: Option<Held>,
}

/// 429.
#[derive(Debug)]
pub(super) struct Rejected;

impl Limiter {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            state: Rc::new(RefCell::new(State::new(settings))),
            slots: Semaphore::new(UNITS),
        }
    }

    /// Waits for leave to run.
    pub(super) async fn wait(&self, port: &Port) -> Result<Pass, Rejected> {
        let begun = port.now();
        let pass = |slot| Pass {
            limiter: self.clone(),
            since: port.now(),
            _slot: slot,
        };
        let (skips, weight, wait_max) = {
            let mut state = self.state.borrow_mut();
            state.scheduled += 1;
            let skips = state.scheduled <= state.settings.skip;
            (
                skips,
                UNITS / state.parallel.max(1),
                state.settings.wait_max,
            )
        };
        if skips {
            return Ok(pass(None));
        }
        let limit = wait_max.map_or(SimInstant::MAX, |wait| begun + wait);
        let Some(slot) = self.slots.acquire_within(port, weight, limit).await else {
            return Err(Rejected);
        };
        let reserved = {
            let mut state = self.state.borrow_mut();
            state
                .bucket
                .as_mut()
                .map(|bucket| bucket.reserve(port.now()))
        };
        if let Some(acts_at) = reserved {
            if acts_at > limit {
                let mean = {
                    let mut state = self.state.borrow_mut();
                    if let Some(bucket) = &mut state.bucket {
                        bucket.cancel(acts_at, port.now());
                    }
                    state.mean()
                };
                // The slot is kept that long, so that rejections do not come in a burst.
                port.sleep(mean).await;
                return Err(Rejected);
            }
            port.sleep(acts_at.saturating_since(port.now())).await;
        }
        Ok(pass(Some(slot)))
    }
}

impl Pass {
    /// The request succeeded; one that failed is dropped instead, and teaches nothing.
    pub(super) fn finish(self, now: SimInstant) -> Duration {
        let took = now.saturating_since(self.since);
        self.limiter.state.borrow_mut().learn(took, now);
        took
    }
}

#[cfg(test)]
mod tests {
    use super::{Settings, State};
    use crate::peers::cilium::tests::settings;
    use drydock_engine::time::SimInstant;
    use std::time::Duration;

    fn after(seconds_ms: u64) -> (u64, u64, u64) {
        let mut state = State::new(settings());
        for _ in 0..12 {
            state.learn(Duration::from_millis(seconds_ms), SimInstant::ZERO);
        }
        let bucket = state.bucket.unwrap();
        (bucket.nano_per_s / 1_000_000, bucket.burst, state.parallel)
    }

    #[test]
    fn the_rate_is_the_inverse_of_the_mean_and_parallelism_follows_by_half() {
        // Mean 2 s = the estimate: everything at its base. r = 1/m, parallel = int(2 + 2 f) >= 2.
        assert_eq!(after(2000), (500, 4, 4));
        assert_eq!(after(1000), (1000, 6, 6));
        assert_eq!(after(4000), (250, 3, 3));
        assert_eq!(after(400), (2500, 12, 12));
        // The documentation's sample: 2.87 s, f = 0.696, 0.348/s.
        assert_eq!(after(2870), (348, 3, 3));
        // A report of 2026: 0.386 s, f = 5.18.
        assert_eq!(after(386), (2590, 12, 12));
    }

    #[test]
    fn the_mean_is_that_of_the_last_ten_and_the_factor_ends_at_a_hundred() {
        let mut state = State::new(settings());
        for seconds in 0..20 {
            state.learn(Duration::from_secs(seconds), SimInstant::ZERO);
        }
        assert_eq!(state.mean(), Duration::from_millis(14_500));
        assert_eq!(after(1), (50_000, 202, 202));
        assert_eq!(after(10_000_000), (5, 2, 2));
    }

    #[test]
    fn without_adjustment_the_limits_stay() {
        let mut state = State::new(Settings {
            auto_adjust: false,
            ..settings()
        });
        state.learn(Duration::from_millis(10), SimInstant::ZERO);
        assert_eq!(state.bucket.unwrap().nano_per_s, 500_000_000);
    }
}
