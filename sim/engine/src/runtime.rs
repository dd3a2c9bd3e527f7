//! The madsim runtime of a run: a fresh thread, seeded sources of time and hash keys, and the hosts
//! that carry tasks. Nothing outside this file and `tasks` names madsim; events never pass by it.

use std::{
    future::Future,
    panic,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::{queue::TieBreak, tasks::Tasks};

/// The inside of a run, given to the closure of [`run`].
pub struct Runtime {
    seed: u64,
    tasks: Arc<Mutex<Vec<Tasks>>>,
}

impl Runtime {
    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A set of hosts for tasks, which wake in that order.
    pub fn tasks(&self, order: TieBreak) -> Tasks {
        let tasks = Tasks::new(order);
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(tasks.clone());
        tasks
    }
}

/// Runs a future to its end inside a simulation of its own, in a fresh thread.
///
/// The thread is fresh because madsim seeds the keys of std's hash maps once per thread. When the
/// future is done, all tasks are dropped, in the order of their hosts and of their start.
///
/// Panics: with the panic of the run.
pub fn run<F, R>(seed: u64, body: impl FnOnce(Runtime) -> F + Send) -> R
where
    F: Future<Output = R>,
    R: Send,
{
    thread::scope(|scope| scope.spawn(|| run_here(seed, body)).join())
        .unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// [`run`] in the present thread, which must never have run a simulation or used a hash map.
pub(crate) fn run_here<F, R>(seed: u64, body: impl FnOnce(Runtime) -> F) -> R
where
    F: Future<Output = R>,
{
    let simulation =
        madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
    simulation.block_on(async {
        let opened = Arc::new(Mutex::new(Vec::new()));
        let result = body(Runtime {
            seed,
            tasks: opened.clone(),
        })
        .await;
        let opened = std::mem::take(&mut *opened.lock().unwrap_or_else(PoisonError::into_inner));
        for tasks in opened {
            tasks.shut_down().await;
        }
        result
    })
}

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

    use super::{clock_elapsed, run, sleep};

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

    #[test]
    fn a_run_hands_back_its_result_and_its_panic() {
        assert_eq!(run(1, async |runtime| runtime.seed()), 1);
        let panic = std::panic::catch_unwind(|| {
            run(1, async |_| assert!(std::hint::black_box(false), "named"));
        });
        let panic = panic.unwrap_err();
        assert!(panic.downcast_ref::<&str>().unwrap().contains("named"));
    }
}
