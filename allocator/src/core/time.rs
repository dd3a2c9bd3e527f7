//! Time as the cores see it: a value handed in with each input, never a clock that is read.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Time since the machine booted, on a clock that goes on while the machine sleeps
/// (`CLOCK_BOOTTIME`), so that a suspended node cannot believe an old answer to be fresh.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BootTime(Duration);

impl BootTime {
    /// The moment of boot.
    pub const ZERO: Self = Self(Duration::ZERO);
    /// A moment that never comes.
    pub const NEVER: Self = Self(Duration::MAX);

    /// The moment `since_boot` after boot.
    pub const fn new(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// The moment `nanoseconds` after boot.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(Duration::from_nanos(nanoseconds))
    }

    /// How long after boot this is.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

impl fmt::Display for BootTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0.as_secs(), self.0.subsec_nanos())
    }
}

/// Microseconds since 1970 on the wall clock. Written for people to read (a Lease's times); no
/// decision depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub u64);

impl WallTime {
    /// The time as Kubernetes writes a `Time`: `2026-01-02T03:04:05Z`.
    pub fn rfc3339(self) -> String {
        let mut text = self.rfc3339_micro();
        text.truncate(text.find('.').unwrap_or(text.len()));
        text.push('Z');
        text
    }

    /// The time as Kubernetes writes a `MicroTime`: `2026-01-02T03:04:05.000006Z`.
    pub fn rfc3339_micro(self) -> String {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let (days, second_of_day) = ((seconds / 86_400) as i64, seconds % 86_400);
        // Days to civil date, by Howard Hinnant's algorithm: exact for the proleptic calendar.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
        let month = if month_shifted < 10 {
            month_shifted + 3
        } else {
            month_shifted - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z",
            second_of_day / 3_600,
            second_of_day / 60 % 60,
            second_of_day % 60,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_prints_as_kubernetes_micro_time() {
        assert_eq!(WallTime(0).rfc3339_micro(), "1970-01-01T00:00:00.000000Z");
        // 2000-02-29 is day 11016.
        let leap_day = WallTime(11_016 * 86_400_000_000 + 3_661_000_007);
        assert_eq!(leap_day.rfc3339_micro(), "2000-02-29T01:01:01.000007Z");
        assert_eq!(leap_day.rfc3339(), "2000-02-29T01:01:01Z");
    }

    #[test]
    fn time_differences_saturate() {
        let (early, late) = (BootTime::from_nanos(5), BootTime::from_nanos(9));
        assert_eq!(late.since(early), Duration::from_nanos(4));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(BootTime::NEVER + Duration::from_secs(1), BootTime::NEVER);
    }
}
