//! Simulated time: integer nanoseconds since the start of the run; it never reads a clock.

use std::{
    fmt,
    ops::{Add, AddAssign, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// An instant of the simulated run.
///
/// Units: nanoseconds since the start, so a run may last 584 years.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SimInstant(u64);

impl SimInstant {
    /// The start of the run.
    pub const ZERO: Self = Self(0);
    /// Later than every event.
    pub const MAX: Self = Self(u64::MAX);

    /// The instant that many nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole simulated seconds since the start.
    pub const fn whole_seconds(self) -> u64 {
        self.0 / NANOS_PER_SECOND
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self + duration`, or `None` past the end of representable time.
    pub const fn checked_add(self, duration: Duration) -> Option<Self> {
        let nanos = duration.as_nanos();
        if nanos > u64::MAX as u128 {
            return None;
        }
        match self.0.checked_add(nanos as u64) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

pub(crate) const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds of a duration that must fit simulated time.
///
/// Panics: when the duration exceeds 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a duration fits simulated time: under 584 years")
}

impl Add<Duration> for SimInstant {
    type Output = Self;

    /// Panics: when the sum passes the end of simulated time, which only a wrong delay can cause.
    fn add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or_else(|| {
            panic!("{self} + {duration:?} passes the end of simulated time (2^64 ns)")
        })
    }
}

impl AddAssign<Duration> for SimInstant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for SimInstant {
    type Output = Duration;

    /// Panics: when `earlier` is later, which means that the caller has its events in disorder.
    fn sub(self, earlier: Self) -> Duration {
        assert!(earlier <= self, "{earlier} is not before {self}");
        Duration::from_nanos(self.0 - earlier.0)
    }
}

impl fmt::Display for SimInstant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0 / NANOS_PER_SECOND, self.0 % NANOS_PER_SECOND);
        write!(formatter, "{seconds}.{nanos:09} s")
    }
}

#[cfg(test)]
mod tests {
    use std::{panic::catch_unwind, time::Duration};

    use super::SimInstant;

    #[test]
    fn sums_are_exact_and_overflow_says_why() {
        let at = SimInstant::from_nanos(5) + Duration::from_secs(1);
        assert_eq!(at.as_nanos(), 1_000_000_005);
        assert_eq!(at.to_string(), "1.000000005 s");
        assert_eq!(at.checked_add(Duration::MAX), None);
        let panic = catch_unwind(|| SimInstant::MAX + Duration::from_nanos(1)).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("passes the end of simulated time"), "{text}");
    }

    #[test]
    fn instants_serialize_as_bare_integers() {
        assert_eq!(
            serde_json::to_string(&SimInstant::from_nanos(7)).unwrap(),
            "7"
        );
    }

    #[test]
    fn since_saturates_at_zero() {
        let (early, late) = (SimInstant::from_nanos(1), SimInstant::from_nanos(4));
        assert_eq!(late.saturating_since(early), Duration::from_nanos(3));
        assert_eq!(early.saturating_since(late), Duration::ZERO);
    }
}
