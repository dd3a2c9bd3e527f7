//! From a world that has ended to the record of its run: what is written down, and in which order.
//! It measures nothing and judges nothing; who did is asked.

use std::collections::{BTreeMap, BTreeSet};

use drydock_engine::{EventLog, SimInstant};
use drydock_models::ids::PodUid;
use drydock_traces::run_record::{
    Attribution, Checkpoint, Digest, EndReason, ExitClass, Host, Outcome, PodPath, PodTimes,
    Recreation, ResourceUse, RunRecord, SCHEMA, Seconds, Stage, Violation, WaitingPod, Which,
    WorkloadSummary,
};

use crate::faults::inject::Injector;
use crate::host::certificate;
use crate::oracle::leaked;
use crate::recorder::{self, Recorder};
use crate::scenario::{Scenario, ScenarioError};
use crate::world::World;

/// The record of a run that ended this way, at this time, without what the host adds.
/// Errors: no Pod has the name whose start is to be explained.
pub fn record(
    scenario: &Scenario,
    world: &World,
    (reason, at): (EndReason, SimInstant),
    explain: Option<&str>,
    log: &mut EventLog,
) -> Result<RunRecord, ScenarioError> {
    // Times count from the first creation, as the published ones do.
    let started = world.workload_started().as_nanos();
    let attribution = attribution(world, started, at, explain)?;
    let listeners = world.listeners();
    let recorder = &listeners.recorder;
    let pods_total = scenario.workload.pod_count();
    let digest = log.digest();
    let checkpoints = log.checkpoints().iter().map(|checkpoint| Checkpoint {
        event_count: checkpoint.count,
        at_ns: checkpoint.second * 1_000_000_000,
        hash: Digest(checkpoint.digest.0),
    });
    Ok(RunRecord {
        schema: SCHEMA.to_owned(),
        seed: scenario.seed,
        certificate: certificate(Digest(digest.0), log.count(), checkpoints.collect()),
        scenario: what_ran(scenario),
        outcome: outcome(world, reason, at, pods_total),
        pods: first_pods(recorder)
            .map(|(pod, times)| pod_times(world, *pod, times, started))
            .collect(),
        running_curve_ns: since(&recorder.running_curve_ns, started),
        api: recorder.recreated.as_ref().map_or_else(
            || recorder.requests(pods_total),
            |half| half.api_before.clone(),
        ),
        attribution,
        recreation: recreation(recorder, started, pods_total),
        answered_without_apiserver: recorder.answered_at_once(),
        add_latency: recorder.add_latency(),
        resources: resources(world, at),
        violations: violations(world),
        probes: probes(world),
        faults: world.injector().map(Injector::counts).unwrap_or_default(),
        host: Host {
            wall_ns: 0,
            memory_peak_bytes: None,
        },
    })
}

fn what_ran(scenario: &Scenario) -> drydock_traces::run_record::Scenario {
    let overrides = scenario.set.iter().filter_map(|set| set.split_once('='));
    let allocator = scenario.allocator.name();
    drydock_traces::run_record::Scenario {
        allocator: match &scenario.mutant {
            Some(mutant) => format!("{allocator}+{mutant}"),
            None => allocator.to_owned(),
        },
        profile: scenario.parameters.profile.clone(),
        overrides: overrides
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
            pod_count: scenario.workload.pod_count(),
        },
        not_simulated: scenario.workload.not_simulated_groups(),
    }
}

fn outcome(world: &World, reason: EndReason, at: SimInstant, pods_total: u64) -> Outcome {
    let listeners = world.listeners();
    let started = world.workload_started().as_nanos();
    let curve = &listeners.recorder.running_curve_ns;
    let is_clean = listeners.ledger.violations().is_empty();
    assert!(
        !is_clean || reason != EndReason::Violated,
        "a run ends as violated by a violation in the ledger"
    );
    let exit_class = match (is_clean, reason) {
        (false, _) => ExitClass::Violation,
        (true, EndReason::Interrupted) => ExitClass::Interrupted,
        (true, _) => ExitClass::Ok,
    };
    let all_running = curve.get(pods_total.saturating_sub(1) as usize);
    Outcome {
        reason,
        exit_class,
        all_running_s: all_running.map(|at| Seconds { ns: at - started }),
        ended_at_ns: at.as_nanos() - started,
        pods_total,
        pods_running: (curve.len() as u64).min(pods_total),
        waiting: waiting(world),
    }
}

fn since(instants_ns: &[u64], start_ns: u64) -> Vec<u64> {
    instants_ns.iter().map(|at| at - start_ns).collect()
}

/// Pods of the workload's first start, without the replacements of a re-creation.
fn first_pods(recorder: &Recorder) -> impl Iterator<Item = (&PodUid, &recorder::PodTimes)> {
    let until = recorder.recreated.as_ref().map(|half| half.began_ns);
    recorder
        .pods
        .iter()
        .filter(move |(_, times)| until.is_none_or(|until| times.created_ns < Some(until)))
}

fn recreation(recorder: &Recorder, started: u64, pods_total: u64) -> Option<Recreation> {
    let half = recorder.recreated.as_ref()?;
    let running_curve_ns = since(&half.running_curve_ns, half.began_ns);
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
    started: u64,
    ended: SimInstant,
    explain: Option<&str>,
) -> Result<Attribution, ScenarioError> {
    let listeners = world.listeners();
    let recorder = &listeners.recorder;
    let segments = |pod: PodUid| recorder.starts.segments(pod, started, ended.as_nanos());
    let mut ran: Vec<(u64, PodUid)> = first_pods(recorder)
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
        let found = first_pods(recorder).map(|(pod, _)| *pod).find(named);
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

fn pod_times(world: &World, pod: PodUid, times: &recorder::PodTimes, started: u64) -> PodTimes {
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

/// Breaches. Shape: in order of time.
fn violations(world: &World) -> Vec<Violation> {
    let listeners = world.listeners();
    let first_event = listeners
        .first_violation_event
        .unwrap_or(listeners.log_ordinal);
    let recorded = |violation: &crate::oracle::Violation| Violation {
        invariant: violation.invariant,
        at_ns: violation.at.as_nanos(),
        subject: violation.subject.clone(),
        text: violation.text.clone(),
        first_event,
    };
    listeners.ledger.violations().iter().map(recorded).collect()
}

/// Pods that wait, with why. Shape: sorted by namespace and name.
fn waiting(world: &World) -> Vec<WaitingPod> {
    let waiting = world.cluster().waiting().into_iter().map(|waiting| {
        let (namespace, name) = waiting
            .name
            .split_once('/')
            .unwrap_or(("default", &waiting.name));
        WaitingPod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            why: waiting.reason.clone(),
        }
    });
    let mut waiting: Vec<WaitingPod> = waiting.collect();
    waiting.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    waiting
}

/// How busy each machine was. Shape: sorted by name.
fn resources(world: &World, now: SimInstant) -> Vec<ResourceUse> {
    let mut uses = Vec::new();
    for machine in world.cluster().machines() {
        let name = &machine.node_name;
        let elapsed = now.as_nanos().max(1);
        let node = &world.cluster().parameters().node_side.node;
        let millicores = u128::from(node.cores.0.max(1));
        let cpu = &machine.cpu;
        uses.push(ResourceUse {
            name: format!("node/{name}/cpu"),
            busy_ppm: (u128::from(cpu.busy_core_nanos(now)) * 1_000_000_000
                / u128::from(elapsed)
                / millicores) as u64,
            queue_peak: cpu.peak() as u64,
        });
        let busy = machine.bbolt.busy_nanos();
        uses.push(ResourceUse {
            name: format!("node/{name}/bbolt"),
            busy_ppm: (u128::from(busy) * 1_000_000 / u128::from(elapsed)) as u64,
            queue_peak: machine.bbolt.peak() as u64,
        });
    }
    uses.sort_by(|one, other| one.name.cmp(&other.name));
    uses.dedup_by(|one, other| one.name == other.name);
    uses
}

/// Probes: what a storm or a run came upon.
fn probes(world: &World) -> BTreeMap<String, u64> {
    let listeners = world.listeners();
    let cluster = world.cluster();
    let mut probes: BTreeMap<String, u64> = listeners
        .recorder
        .reported
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect();
    for (name, total) in cluster.ipam_counters() {
        probes.insert(name.to_owned(), total);
    }
    let truth = listeners.ledger.truth();
    let records = cluster.ipam().allocated(cluster.api());
    let leaked = leaked::leaked(truth, world.names(), &records).len() as u64;
    let recorded: BTreeSet<_> = records.iter().map(|record| record.address).collect();
    let unrecorded = truth.by_address.keys();
    let unrecorded = unrecorded.filter(|address| !recorded.contains(*address));
    let longest = listeners.ledger.longest_release().as_nanos() as u64;
    let mut set = |name: &str, count: u64| probes.insert(name.to_owned(), count);
    set("addresses_unrecorded", unrecorded.count() as u64);
    set("addresses_allocated", records.len() as u64);
    set("addresses_leaked", leaked);
    let kept = leaked::kept(truth, world.names(), &records) as u64;
    if kept > 0 {
        set("addresses_kept", kept);
    }
    set("longest-release-ns", longest);
    set("peak-addresses-in-use", truth.peak_in_use as u64);
    set("two-sandboxes-of-one-pod", truth.same_pod_overlaps);
    if let Some(injector) = world.injector() {
        set("fault-inside-cni", u64::from(injector.struck_inside_cni));
    }
    probes
}
