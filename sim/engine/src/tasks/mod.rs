//! Asynchronous code on the event queue: tasks run as madsim tasks, but the engine decides which
//! one is polled next. No timer and no channel to the outside lives here; see `completion`.
//!
//! Each task is spawned on a madsim node inside a [`gate`], which polls it only while it holds the
//! baton. A wake-up puts the task into the engine's ready list instead of madsim's;
//! [`Tasks::settle`] hands the baton to ready tasks one after another, in the engine's order, until
//! none is ready. At any moment madsim has at most one task with the baton to run, so its random
//! pick decides nothing.
//!
//! A killed host's tasks are dropped with the same baton, in the order in which they were spawned,
//! before any other task runs. Then its madsim node is killed too, in case a task bypassed this
//! module to spawn something. A later incarnation is a new madsim node.

mod gate;
mod state;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use self::{gate::Gate, state::State};
use crate::{
    clock::advance_clock,
    queue::{Lane, TieBreak},
    stream::Streams,
    time::SimInstant,
};

/// Polls granted between two calls of [`Tasks::advance`], unless set otherwise.
pub const DEFAULT_POLL_BUDGET: u64 = 1_000_000;

/// All hosts of a run that have tasks. Clones are handles to the same set.
#[derive(Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

/// One incarnation of a host: the process that its tasks form until they are killed.
#[derive(Clone)]
pub struct HostTasks {
    shared: Arc<Shared>,
    host: u32,
    incarnation: u32,
}

/// Tasks kept waking each other without letting time pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tasks were polled {polls} times at {at} without coming to rest; next was host {host}")]
pub struct Spin {
    /// The host of the task that was next.
    pub host: String,
    /// When.
    pub at: SimInstant,
    /// The budget that was spent.
    pub polls: u64,
}

pub(crate) struct Shared {
    /// Set while a task is ready or a host must be dropped; read after every event.
    ready: AtomicBool,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the run; what follows is only the unwinding of its tasks.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Hands the baton to the next task, or back to the driver when none is ready.
    fn pass_baton(&self) {
        let waker = {
            let mut state = self.lock();
            let waker = state.next_turn();
            self.ready.store(state.has_work(), Ordering::Relaxed);
            waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Tasks {
    pub(crate) fn new(order: TieBreak) -> Self {
        let state = Mutex::new(State::new(order, DEFAULT_POLL_BUDGET));
        Self {
            shared: Arc::new(Shared {
                ready: AtomicBool::new(false),
                state,
            }),
        }
    }

    /// Adds a host. A hunt may permute the ready tasks of different hosts, by name.
    pub fn add_host(&self, name: &str) -> HostTasks {
        let node = new_node(name);
        let lane = Lane::new("tasks", Streams::entity(name));
        let host = self.shared.lock().add_host(name, lane, node);
        HostTasks {
            shared: self.shared.clone(),
            host,
            incarnation: 0,
        }
    }

    /// See [`HostTasks::spawn`].
    pub fn spawn(&self, host: &HostTasks, task: impl Future<Output = ()> + Send + 'static) -> bool {
        host.spawn(task)
    }

    /// See [`HostTasks::kill`].
    pub fn kill(&self, host: &HostTasks) {
        host.kill();
    }

    /// Whether [`Tasks::settle`] has anything to do. Costs one load.
    pub fn ready(&self) -> bool {
        self.shared.ready.load(Ordering::Relaxed)
    }

    /// Moves to a later instant: refills the poll budget, and brings madsim's clock up to it so
    /// that a clock read by a task is near the time of its event.
    pub fn advance(&self, now: SimInstant) {
        self.shared.lock().advance(now);
    }

    /// Sets how many polls one instant may take.
    pub fn set_poll_budget(&self, polls: u64) {
        self.shared.lock().set_budget(polls);
    }

    /// Polls granted so far.
    pub fn polls(&self) -> u64 {
        self.shared.lock().polls()
    }

    /// Tasks that are neither done nor dropped.
    pub fn live(&self) -> usize {
        self.shared.lock().live()
    }

    /// Drops the tasks of killed hosts, then polls ready tasks one at a time until none is ready.
    ///
    /// # Errors
    ///
    /// [`Spin`] when the polls of this instant exceed the budget.
    pub async fn settle(&self) -> Result<(), Spin> {
        if !self.ready() {
            return Ok(());
        }
        let now = self.shared.lock().now();
        advance_clock(Duration::from_nanos(now.as_nanos()));
        let mut started = false;
        let settled = std::future::poll_fn(|context| {
            if !started {
                started = true;
                self.shared.lock().begin_settle(context.waker().clone());
                self.shared.pass_baton();
            }
            self.shared.lock().settled()
        });
        settled.await
    }

    /// Drops every task, so that no future outlives the run.
    pub(crate) async fn shut_down(&self) {
        self.shared.lock().doom_all();
        self.shared.raise();
        while self.ready() {
            // A spin does not matter here: killed tasks are dropped before anything is polled, and
            // then no task is left.
            let _ = self.settle().await;
        }
    }
}

impl HostTasks {
    /// Starts a task of this incarnation; it is first polled by the next settling. Returns whether
    /// it was started: a killed incarnation drops it instead.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let admitted = self.shared.lock().admit(self.host, self.incarnation);
        let Some((index, generation, node)) = admitted else {
            return false;
        };
        let gate = Gate::new(self.shared.clone(), index, generation, Box::pin(task));
        drop(node.spawn(gate));
        self.shared.lock().wake(index, generation);
        self.shared.raise();
        true
    }

    /// Kills this incarnation. Its tasks are never polled again; they are dropped, in the order in
    /// which they were spawned, at the start of the next [`Tasks::settle`].
    pub fn kill(&self) {
        let node = self.shared.lock().kill(self.host, self.incarnation);
        if node.is_some() {
            self.shared.raise();
        }
    }

    /// Whether this incarnation was killed.
    pub fn is_killed(&self) -> bool {
        self.shared.lock().is_killed(self.host, self.incarnation)
    }

    /// A fresh incarnation of the host, after this one was killed.
    ///
    /// Panics: when the host is alive, or was started again already.
    pub fn restart(&self) -> Self {
        let name = self.shared.lock().host_name(self.host).to_owned();
        let node = new_node(&name);
        let incarnation = self
            .shared
            .lock()
            .restart(self.host, self.incarnation, node);
        Self {
            incarnation,
            ..self.clone()
        }
    }

    /// The name of the host.
    pub fn name(&self) -> String {
        self.shared.lock().host_name(self.host).to_owned()
    }
}

impl fmt::Debug for HostTasks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}#{}", self.name(), self.incarnation)
    }
}

fn new_node(name: &str) -> madsim::runtime::NodeHandle {
    madsim::runtime::Handle::current()
        .create_node()
        .name(name)
        .build()
}

fn kill_node(node: &madsim::runtime::NodeHandle) {
    madsim::runtime::Handle::current().kill(node.id());
}

#[cfg(test)]
mod tests;
