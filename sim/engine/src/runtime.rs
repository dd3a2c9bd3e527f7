//! The madsim runtime of a run: a fresh thread, seeded sources of time and hash keys, and the hosts
//! that carry tasks. Nothing outside this file, `clock` and `tasks` names madsim; events never pass
//! by it.

use std::{
    future::Future,
    panic,
    sync::{Arc, Mutex, PoisonError},
    thread,
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

#[cfg(test)]
mod tests {
    use super::run;

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
