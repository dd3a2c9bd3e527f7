//! madsim's own clock: read, waited for and moved forward. No event is ever timed by it.

use std::{pin::pin, time::Duration};

/// Sleeps by madsim's clock without its floor of one millisecond.
///
/// Models schedule events instead: this is for measuring madsim and for code that has no queue.
pub async fn sleep(duration: Duration) {
    let clock = madsim::time::TimeHandle::current();
    let mut sleep = pin!(clock.sleep(duration));
    // A fresh `Sleep` has its deadline clamped; one that is reset has not.
    sleep.as_mut().reset(clock.now_instant() + duration);
    sleep.await;
}

/// Time by madsim's clock since the run began. It drifts by 50 to 100 ns per poll, so no event is
/// ever timed by it.
pub fn clock_elapsed() -> Duration {
    madsim::time::TimeHandle::current().elapsed()
}

/// Moves madsim's clock forward to at least `elapsed`.
pub(crate) fn advance_clock(elapsed: Duration) {
    let clock = madsim::time::TimeHandle::current();
    let behind = elapsed.saturating_sub(clock.elapsed());
    if !behind.is_zero() {
        clock.advance(behind);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{clock_elapsed, sleep};
    use crate::runtime::run;

    #[test]
    fn short_sleeps_are_not_rounded_up_to_a_millisecond() {
        let elapsed = run(1, async |_| {
            for _ in 0..1000 {
                sleep(Duration::from_micros(10)).await;
            }
            clock_elapsed()
        });
        let expected = Duration::from_millis(10)..Duration::from_millis(11);
        assert!(
            expected.contains(&elapsed),
            "1000 sleeps of 10 us took {elapsed:?}"
        );
    }
}
