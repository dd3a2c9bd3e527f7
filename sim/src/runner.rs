//! One run from a scenario to a record: starts the engine, drives the world, says how it ended.
//! Phases and limits are here; what happens in them is the world's.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use drydock_engine::{
    EventLog, Limits, Progress, Queue, SimInstant, Snapshot, Stalled, StopReason, TieBreak, Watch,
    drive, run_watched,
};
use drydock_models::ids::PodUid;
use drydock_traces::run_record::{
    Attribution, Checkpoint, Digest, EndReason, ExitClass, Host, Outcome, PodPath, PodTimes,
    Recreation, ResourceUse, RunRecord, SCHEMA, Seconds, Stage, Violation as RecordedViolation,
    WaitingPod, Which, WorkloadSummary,
};

use crate::host::{Stopwatch, certificate, memory_peak_bytes};
use crate::recorder::Recorder;
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

/// Gauge of Pods that run.
pub const GAUGE_RUNNING: usize = 0;
/// Gauge of Pods wanted.
pub const GAUGE_WANTED: usize = 1;

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
    let mut record = record(scenario, &world, reason, &queue, &mut log);
    let ended_ns = queue.now().as_nanos();
    record.attribution = attribution(&world, ended_ns, options.explain.as_deref())?;
    Ok(record)
}

fn record(
    scenario: &Scenario,
    world: &World,
    reason: EndReason,
    queue: &Queue<drydock_models::event::Event>,
    log: &mut EventLog,
) -> RunRecord {
    let recorder = world.recorder();
    let digest = log.digest();
    let checkpoints = log.checkpoints().iter().map(|checkpoint| Checkpoint {
        event_count: checkpoint.count,
        at_ns: checkpoint.second * 1_000_000_000,
        hash: Digest(checkpoint.digest.0),
    });
    let pods_total = scenario.workload.pod_count();
    let pods_running = recorder.running_curve_ns.len() as u64;
    let violations: Vec<RecordedViolation> = world.violations();
    let exit_class = if violations.is_empty() {
        if reason == EndReason::Interrupted {
            ExitClass::Interrupted
        } else {
            ExitClass::Ok
        }
    } else {
        ExitClass::Violation
    };
    let all_running = recorder
        .running_curve_ns
        .get(pods_total.saturating_sub(1) as usize);
    // Times count from the first creation, as the published ones do.
    let started = world.workload_started().as_nanos();
    RunRecord {
        schema: SCHEMA.to_owned(),
        seed: scenario.seed,
        certificate: certificate(Digest(digest.0), log.count(), checkpoints.collect()),
        scenario: drydock_traces::run_record::Scenario {
            allocator: world.allocator_name(),
            profile: scenario.parameters.profile.clone(),
            overrides: scenario
                .set
                .iter()
                .filter_map(|set| set.split_once('='))
                .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
                .collect(),
            stack: scenario.stack,
            addresses: scenario.addresses.clone(),
            address_count: scenario.address_count(),
            node_count: scenario.nodes,
            master_count: scenario.masters(),
            until_ns: scenario.until.as_nanos() as u64,
            workload: WorkloadSummary {
                sources: scenario.workload.sources.clone(),
                documents: scenario.workload.documents(),
                pod_count: pods_total,
            },
            not_simulated: scenario.workload.not_simulated_groups(),
        },
        outcome: Outcome {
            reason,
            exit_class,
            all_running_s: all_running.map(|at| Seconds { ns: at - started }),
            ended_at_ns: queue.now().as_nanos() - started,
            pods_total,
            pods_running: pods_running.min(pods_total),
            waiting: world.waiting(),
        },
        pods: first_pods(&recorder)
            .map(|(pod, times)| pod_times(world, *pod, times, started))
            .collect(),
        running_curve_ns: recorder
            .running_curve_ns
            .iter()
            .map(|at| at - started)
            .collect(),
        api: recorder.recreated.as_ref().map_or_else(
            || recorder.requests(pods_total),
            |half| half.api_before.clone(),
        ),
        attribution: Attribution {
            pod_count: 0,
            total_ns: BTreeMap::new(),
            paths: Vec::new(),
        },
        recreation: recreation(&recorder, started, pods_total),
        answered_without_apiserver: recorder.answered_at_once(),
        add_latency: recorder.add_latency(),
        resources: world.resources(queue.now()),
        violations,
        probes: world.probes(),
        faults: world.fault_counts(),
        host: Host {
            wall_ns: 0,
            memory_peak_bytes: None,
        },
    }
}

/// Pods of the workload's first start, without the replacements of a re-creation.
fn first_pods(recorder: &Recorder) -> impl Iterator<Item = (&PodUid, &crate::recorder::PodTimes)> {
    let until = recorder.recreated.as_ref().map(|half| half.began_ns);
    recorder
        .pods
        .iter()
        .filter(move |(_, times)| until.is_none_or(|until| times.created_ns < Some(until)))
}

fn recreation(recorder: &Recorder, started: u64, pods_total: u64) -> Option<Recreation> {
    let half = recorder.recreated.as_ref()?;
    let since = |at: &u64| at - half.began_ns;
    let running_curve_ns: Vec<u64> = half.running_curve_ns.iter().map(since).collect();
    let last = running_curve_ns.get(pods_total.saturating_sub(1) as usize);
    Some(Recreation {
        started_ns: half.began_ns - started,
        all_running_s: last.map(|ns| Seconds { ns: *ns }),
        running_curve_ns,
        api: recorder.requests(pods_total),
    })
}

/// Sums over all Pods that ran, and the starts of the median, the last and the one asked for.
/// Errors: a name that no Pod has.
fn attribution(
    world: &World,
    ended_ns: u64,
    explain: Option<&str>,
) -> Result<Attribution, RunError> {
    let recorder = world.recorder();
    let started = world.workload_started().as_nanos();
    let segments = |pod: PodUid| recorder.starts.segments(pod, started, ended_ns);
    let mut ran: Vec<(u64, PodUid)> = first_pods(&recorder)
        .filter_map(|(pod, times)| times.running_ns.map(|at| (at, *pod)))
        .collect();
    ran.sort_unstable();
    let mut total_ns: BTreeMap<Stage, u64> = BTreeMap::new();
    for (_, pod) in &ran {
        for segment in segments(*pod) {
            *total_ns.entry(segment.stage).or_default() += segment.end_ns - segment.start_ns;
        }
    }
    let median = ran.get(ran.len().saturating_sub(1) / 2);
    let mut chosen: Vec<(Which, PodUid)> = Vec::new();
    chosen.extend(median.map(|(_, pod)| (Which::Median, *pod)));
    chosen.extend(ran.last().map(|(_, pod)| (Which::Last, *pod)));
    if let Some(wanted) = explain {
        let named = |pod: &PodUid| {
            let (namespace, name) = world.pod_name(*pod);
            name == wanted || format!("{namespace}/{name}") == wanted
        };
        let found = first_pods(&recorder).map(|(pod, _)| *pod).find(named);
        let found = found.ok_or_else(|| ScenarioError::Explain {
            name: wanted.to_owned(),
        })?;
        chosen.push((Which::Asked, found));
    }
    let paths = chosen.into_iter().map(|(which, pod)| {
        let (namespace, name) = world.pod_name(pod);
        PodPath {
            which,
            namespace,
            name,
            segments: segments(pod),
        }
    });
    Ok(Attribution {
        pod_count: ran.len() as u64,
        total_ns,
        paths: paths.collect(),
    })
}

fn pod_times(
    world: &World,
    pod: PodUid,
    times: &crate::recorder::PodTimes,
    started: u64,
) -> PodTimes {
    let since = |at: Option<u64>| at.map(|at| at - started);
    let (namespace, name) = world.pod_name(pod);
    PodTimes {
        namespace,
        name,
        node: times.node.map(|node| world.node_name(node)),
        created_ns: since(times.created_ns),
        bound_ns: since(times.bound_ns),
        add_start_ns: since(times.add_start_ns),
        add_end_ns: since(times.add_end_ns),
        running_ns: since(times.running_ns),
        add_count: times.add_count,
    }
}

/// Sorted by name, as records want them.
pub fn sorted(mut resources: Vec<ResourceUse>) -> Vec<ResourceUse> {
    resources.sort_by(|one, other| one.name.cmp(&other.name));
    resources
}

/// Sorted by namespace and name, as records want them.
pub fn sorted_waiting(mut waiting: Vec<WaitingPod>) -> Vec<WaitingPod> {
    waiting.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    waiting
}
