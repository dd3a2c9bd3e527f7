//! One run from a scenario to a record: starts the engine, drives the world, says how it ended.
//! Phases and limits are here; what happens in them is the world's.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use drydock_engine::{
    EventLog, Limits, Progress, SimInstant, Snapshot, Stalled, StopReason, TieBreak, Watch, drive,
    run_watched,
};
use drydock_models::parameters::ParameterError;
use drydock_traces::run_record::{EndReason, Host, RunRecord};

use crate::host::{Stopwatch, memory_peak_bytes};
use crate::record::record;
use crate::scenario::{Scenario, ScenarioError};
use crate::world::World;

/// Events that no run needs: a world that takes more is looping.
const EVENTS_MAX: u64 = 2_000_000_000;
/// Polls of tasks that no instant needs.
const POLLS_MAX: u64 = 1_000_000;
/// The watchdog looks ten times a second and gives a run half a minute at one instant.
const WATCH: Watch = Watch {
    tick: std::time::Duration::from_millis(100),
    patience_ticks: 300,
};

/// How a run is watched and what is kept of it.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// Every event as a JSON line.
    pub trace: Option<File>,
    /// Where the run tells how far it is.
    pub progress: Arc<Progress>,
    /// Set to end the run early.
    pub interrupt: Arc<AtomicBool>,
    /// The Pod whose start is recorded beside the median and the last: `name` or
    /// `namespace/name`.
    pub explain: Option<String>,
}

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The scenario cannot be run.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The run stood still.
    #[error(transparent)]
    Stalled(#[from] Stalled),
    /// The testbed itself failed.
    #[error("{0}")]
    Internal(String),
}

impl From<ParameterError> for RunError {
    fn from(error: ParameterError) -> Self {
        RunError::Scenario(error.into())
    }
}

/// Runs a scenario. `on_tick` is called ten times a second from the calling thread.
/// Errors: a scenario that cannot be run, a stall, an exhausted budget.
pub fn run(
    scenario: Scenario,
    options: RunOptions,
    on_tick: impl FnMut(Snapshot),
) -> Result<RunRecord, RunError> {
    let seed = scenario.seed.0;
    let progress = options.progress.clone();
    let stopwatch = Stopwatch::start();
    let mut record = run_watched(seed, &progress, WATCH, on_tick, async move |runtime| {
        simulate(&scenario, options, &runtime).await
    })??;
    record.host = Host {
        wall_ns: stopwatch.elapsed().as_nanos() as u64,
        memory_peak_bytes: memory_peak_bytes(),
    };
    Ok(record)
}

/// Runs a scenario inside an engine that is already running.
/// Errors: as for [`run`].
pub async fn simulate(
    scenario: &Scenario,
    options: RunOptions,
    runtime: &drydock_engine::Runtime,
) -> Result<RunRecord, RunError> {
    // In a hunt, what happens at one instant may happen in any order.
    let order = match scenario.plan {
        Some(_) => TieBreak::Keyed {
            seed: scenario.seed.0,
        },
        None => TieBreak::Fifo,
    };
    let tasks = runtime.tasks(order);
    let mut log = match options.trace {
        Some(file) => EventLog::with_sink(Box::new(file)),
        None => EventLog::new(),
    };
    let (mut world, mut queue) =
        World::new(scenario, &tasks, options.progress.clone(), order, &mut log)?;
    let limits = Limits {
        until: SimInstant::ZERO + scenario.until,
        events: EVENTS_MAX,
        polls: POLLS_MAX,
        interrupt: options.interrupt,
        progress: options.progress,
    };
    let reason = drive(&mut world, &mut queue, &mut log, &tasks, &limits).await;
    log.flush_sink();
    if let Some(error) = log.take_sink_error() {
        tracing::warn!(%error, "the trace is incomplete");
    }
    let reason = match reason {
        StopReason::Finished => world.end_reason(),
        StopReason::Until | StopReason::QueueEmpty => EndReason::TimeLimit,
        StopReason::Interrupted => EndReason::Interrupted,
        StopReason::EventBudget => {
            return Err(RunError::Internal(format!("more than {EVENTS_MAX} events")));
        }
        StopReason::PollBudget(spin) => return Err(RunError::Internal(spin.to_string())),
    };
    world.close(queue.now());
    let explain = options.explain.as_deref();
    Ok(record(
        scenario,
        &world,
        (reason, queue.now()),
        explain,
        &mut log,
    )?)
}
