//! The CPU limit of a container: so much CPU time per period, then nothing until the next one.
//! A job whose period is used up starts in the first period with time left; one that runs is not
//! interrupted in the middle.
//! Source: Linux Documentation/scheduler/sched-bwc.rst.

use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::parameters::Millicores;

/// Accounting of one container.
#[derive(Clone, Debug, Default)]
pub(super) struct Quota {
    /// Period up to which use is accounted.
    period: u128,
    /// Use in it, and what reaches beyond it. Units: ns of CPU.
    used: u128,
}

impl Quota {
    /// Accounts for a job; how long it has to wait before it starts.
    pub(super) fn take(
        &mut self,
        now: SimInstant,
        demand: Duration,
        limit: Millicores,
        period: Duration,
    ) -> Duration {
        let length = period.as_nanos().max(1);
        let per_period = (length * u128::from(limit.0) / 1000).max(1);
        let now = u128::from(now.as_nanos());
        let current = now / length;
        if current > self.period {
            self.used = self
                .used
                .saturating_sub(per_period * (current - self.period));
            self.period = current;
        }
        let start = (self.period + self.used / per_period) * length;
        self.used += demand.as_nanos();
        let wait = start.saturating_sub(now);
        Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_gets_its_share_of_each_period() {
        let ms = Duration::from_millis;
        let at = |millis| SimInstant::ZERO + ms(millis);
        let mut quota = Quota::default();
        let mut take = |now, demand| quota.take(at(now), ms(demand), Millicores(500), ms(100));
        assert_eq!(take(1010, 30), ms(0));
        assert_eq!(take(1020, 40), ms(0), "the period has 20 ms left");
        assert_eq!(take(1030, 10), ms(70), "50 ms are used: the next period");
        assert_eq!(take(1110, 30), ms(0), "30 of its 50 ms are used");
        assert_eq!(take(1120, 10), ms(80));
        assert_eq!(take(5000, 60), ms(0), "an idle container saves nothing up");
        assert_eq!(take(5001, 1), ms(99));
    }
}
