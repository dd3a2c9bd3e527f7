//! How far a run is, and the watchdog over it: both live in the main thread and read atomics only,
//! so watching a run cannot change it. Wall-clock time is used here and never enters a run.

use std::{
    fmt,
    future::Future,
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    runtime::{Runtime, run_here},
    time::SimInstant,
};

/// Gauges that a world may set for a progress bar, such as Pods that run.
pub const GAUGES: usize = 4;

/// How far a run is. Written by the run, read by anybody.
#[derive(Debug, Default)]
pub struct Progress {
    sim_nanos: AtomicU64,
    events: AtomicU64,
    gauges: [AtomicU64; GAUGES],
}

/// A reading of [`Progress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Simulated time.
    pub at: SimInstant,
    /// Events taken.
    pub events: u64,
    /// What the world set.
    pub gauges: [u64; GAUGES],
}

impl Progress {
    /// Tells how far the run is.
    pub fn report(&self, at: SimInstant, events: u64) {
        self.sim_nanos.store(at.as_nanos(), Ordering::Relaxed);
        self.events.store(events, Ordering::Relaxed);
    }

    /// Sets a gauge.
    ///
    /// Panics: when there is no such gauge.
    pub fn set_gauge(&self, gauge: usize, value: u64) {
        self.gauges[gauge].store(value, Ordering::Relaxed);
    }

    /// Reads all.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            at: SimInstant::from_nanos(self.sim_nanos.load(Ordering::Relaxed)),
            events: self.events.load(Ordering::Relaxed),
            gauges: std::array::from_fn(|gauge| self.gauges[gauge].load(Ordering::Relaxed)),
        }
    }
}

/// How to watch a run.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Time between two looks. Units: wall clock.
    pub tick: Duration,
    /// Looks without any advance of simulated time or events after which the run counts as stuck.
    pub patience_ticks: u32,
}

/// A run that stood still for too long. Its thread still runs: all that is left is to exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Where it stands.
    pub at: Snapshot,
    /// For how long. Units: wall clock.
    pub stood_still: Duration,
}

impl fmt::Display for Stalled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the run stands still at {} after {} events: neither advanced for {} s of wall clock",
            self.at.at,
            self.at.events,
            self.stood_still.as_secs()
        )
    }
}

impl std::error::Error for Stalled {}

/// Runs like [`run`](crate::run), while the calling thread looks after it and calls `on_tick`.
///
/// # Errors
///
/// [`Stalled`] when the run stands still; its thread is left behind.
///
/// Panics: with the panic of the run.
#[expect(
    clippy::disallowed_methods,
    reason = "the watching thread is outside the simulation"
)]
pub fn run_watched<F, R>(
    seed: u64,
    progress: &Arc<Progress>,
    watch: Watch,
    mut on_tick: impl FnMut(Snapshot),
    body: impl FnOnce(Runtime) -> F + Send + 'static,
) -> Result<R, Stalled>
where
    F: Future<Output = R>,
    R: Send + 'static,
{
    let watcher = thread::current();
    // Set before the wake-up: the thread itself is still ending when the watcher looks.
    let done = Arc::new(AtomicBool::new(false));
    let is_done = done.clone();
    let run = thread::spawn(move || {
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| run_here(seed, body)));
        done.store(true, Ordering::Release);
        watcher.unpark();
        result
    });
    let mut last = progress.snapshot();
    let mut still_ticks = 0;
    while !is_done.load(Ordering::Acquire) {
        thread::park_timeout(watch.tick);
        let present = progress.snapshot();
        on_tick(present);
        still_ticks = if (present.at, present.events) == (last.at, last.events) {
            still_ticks + 1
        } else {
            0
        };
        last = present;
        if still_ticks >= watch.patience_ticks && !is_done.load(Ordering::Acquire) {
            return Err(Stalled {
                at: present,
                stood_still: watch.tick * still_ticks,
            });
        }
    }
    match run.join() {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(panic)) | Err(panic) => panic::resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use super::{Progress, Watch, run_watched};
    use crate::time::SimInstant;

    const TICK: Duration = Duration::from_millis(1);
    /// For runs that must not count as stuck however slow the machine is.
    const PATIENT: Watch = Watch {
        tick: TICK,
        patience_ticks: u32::MAX,
    };
    const STRICT: Watch = Watch {
        tick: TICK,
        patience_ticks: 20,
    };

    #[test]
    fn a_run_that_ends_hands_back_its_result() {
        let progress = Arc::new(Progress::default());
        let seed = run_watched(
            7,
            &progress,
            PATIENT,
            |_| (),
            async |runtime| runtime.seed(),
        );
        assert_eq!(seed, Ok(7));
    }

    #[test]
    fn a_run_that_stands_still_is_reported_where_it_stands() {
        let progress = Arc::new(Progress::default());
        let release = Arc::new(AtomicBool::new(false));
        let (inside, until) = (progress.clone(), release.clone());
        let stalled = run_watched(
            7,
            &progress,
            STRICT,
            |_| (),
            async move |_| {
                inside.report(SimInstant::from_nanos(5), 3);
                while !until.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            },
        );
        release.store(true, Ordering::Relaxed);
        let stalled = stalled.unwrap_err();
        assert_eq!((stalled.at.at.as_nanos(), stalled.at.events), (5, 3));
        assert!(
            stalled.to_string().contains("0.000000005 s after 3 events"),
            "{stalled}"
        );
    }

    #[test]
    fn a_panic_of_the_run_is_the_callers() {
        let progress = Arc::new(Progress::default());
        let panic = std::panic::catch_unwind(|| {
            run_watched(
                7,
                &progress,
                PATIENT,
                |_| (),
                async |_| {
                    assert!(std::hint::black_box(false), "named");
                },
            )
        });
        assert!(
            panic
                .unwrap_err()
                .downcast_ref::<&str>()
                .unwrap()
                .contains("named")
        );
    }
}
