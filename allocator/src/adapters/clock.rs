//! The host's clocks: `CLOCK_BOOTTIME`, which counts sleep, and the wall clock for people.

use core::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::core::time::{BootTime, WallTime};

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    // Neither clock is negative: one starts at boot, the other in 1970.
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

/// Time since boot, sleep included.
pub fn boot_time() -> BootTime {
    BootTime::new(read(ClockId::Boottime))
}

/// The wall clock.
pub fn wall_time() -> WallTime {
    WallTime(read(ClockId::Realtime).as_micros() as u64)
}

/// The host's clocks as a port.
#[cfg(feature = "agent")]
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock;

#[cfg(feature = "agent")]
impl crate::ports::Clock for HostClock {
    fn now(&self) -> BootTime {
        boot_time()
    }

    fn wall(&self) -> WallTime {
        wall_time()
    }

    async fn sleep_until(&self, at: BootTime) {
        // The runtime's timers stand still while the machine sleeps: look again after each step.
        const STEP: Duration = Duration::from_secs(1);
        loop {
            let left = at.since(boot_time());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(STEP)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_does_not_go_back_and_is_not_the_wall_clock() {
        let (first, second) = (boot_time(), boot_time());
        assert!(BootTime::ZERO < first && first <= second);
        let wall = Duration::from_micros(wall_time().0);
        assert!(wall > Duration::from_secs(1_600_000_000), "{wall:?}");
        assert!(second.since_boot() < wall);
    }
}
