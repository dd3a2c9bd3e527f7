//! Many small worlds at a time, one per seed, each in a thread of its own. The result does not
//! depend on how many run at once: the lowest failing seed is the one that is reported.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drydock_traces::plan::{Plan, PlanError};
use drydock_traces::run_record::{EndReason, ExitClass, FaultCount, RunRecord};
use drydock_traces::seed::Seed;

use crate::adapters;
use crate::faults::storm::storm;
use crate::runner::{RunError, RunOptions, run};
use crate::scenario::{Scenario, ScenarioError};
use crate::seed_range::SeedRange;
use crate::subject::{Allocator, Subject};

/// A plan from the text of a file, and its scenario: what `replay` runs.
/// Errors: a plan that is wrong, or that names an allocator which does not exist.
pub fn planned(file: &str, text: &str) -> Result<(Plan, Scenario), ScenarioError> {
    let wrong = |error| ScenarioError::Plan {
        file: file.to_owned(),
        error,
    };
    let plan = Plan::from_toml(text).map_err(wrong)?;
    let subject = adapters::subject(&plan.allocator).ok_or_else(|| {
        let known = adapters::allocators().map(Allocator::name);
        wrong(PlanError::Value {
            key: "allocator".to_owned(),
            found: plan.allocator.clone(),
            allowed: known.collect::<Vec<_>>().join(", "),
        })
    })?;
    let scenario = Scenario::from_plan(&plan, &subject)?;
    Ok((plan, scenario))
}

/// Something that a released version is known for, and that no allocator should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Seeds in which it was seen.
    pub seeds: u64,
    /// The lowest of them.
    pub first: Seed,
    /// How many in all: addresses, Pods.
    pub total: u64,
}

/// The findings in a record of a healed world, with how many each counts.
pub fn findings(record: &RunRecord) -> Vec<(&'static str, u64)> {
    let probe = |name: &str| record.probes.get(name).copied().unwrap_or_default();
    let stuck = match record.outcome.reason {
        EndReason::NotConverged => record.outcome.waiting.len() as u64,
        _ => 0,
    };
    let kept = probe("addresses_kept");
    let all = [
        ("addresses leaked after healing", probe("addresses_leaked")),
        (
            "addresses in use without a record",
            probe("addresses_unrecorded"),
        ),
        (
            "addresses kept to the end of a Pod, for want of a journal",
            kept,
        ),
        (
            match kept {
                0 => "Pods that wait 20 min after healing",
                _ => "Pods that wait for an address that is kept so",
            },
            stuck,
        ),
    ];
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// What all seeds of a sweep came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Seeds that ran to their end.
    pub seeds: u64,
    /// Seeds in which a fault fired inside an ADD or a DEL.
    pub struck_inside_cni: u64,
    /// Faults by kind.
    pub faults: BTreeMap<String, FaultCount>,
    /// Probes by name.
    pub probes: BTreeMap<String, u64>,
    /// Events of all runs.
    pub events: u64,
    /// What was seen that is not a violation, by name.
    pub findings: BTreeMap<&'static str, Finding>,
    /// Longest time from the end of a namespace to the free record. Units: simulated ns.
    pub longest_release_ns: u64,
}

impl Tally {
    fn add(&mut self, record: &RunRecord) {
        self.seeds += 1;
        for (name, count) in findings(record) {
            let found = self.findings.entry(name).or_insert(Finding {
                seeds: 0,
                first: record.seed,
                total: 0,
            });
            found.seeds += 1;
            found.first = found.first.min(record.seed);
            found.total += count;
        }
        self.events += record.certificate.event_count;
        for (kind, count) in &record.faults {
            assert!(count.fired <= count.drawn, "a fault fires once at most");
            let sum = self
                .faults
                .entry(kind.clone())
                .or_insert(FaultCount { drawn: 0, fired: 0 });
            sum.drawn += count.drawn;
            sum.fired += count.fired;
        }
        for (probe, count) in &record.probes {
            if probe == "longest-release-ns" {
                self.longest_release_ns = self.longest_release_ns.max(*count);
            } else {
                *self.probes.entry(probe.clone()).or_default() += count;
            }
        }
        if record
            .probes
            .get("fault-inside-cni")
            .is_some_and(|count| *count > 0)
        {
            self.struck_inside_cni += 1;
        }
    }
}

/// Results by seed, or by place in a list.
type Results = BTreeMap<u64, Result<RunRecord, RunError>>;

/// How a sweep ended.
#[derive(Debug)]
pub struct Swept {
    /// Sums over the seeds that ran.
    pub tally: Tally,
    /// The lowest seed that violated an invariant.
    pub failure: Option<(Seed, RunRecord)>,
    /// The lowest seed in which the testbed itself failed.
    pub broken: Option<(Seed, RunError)>,
    /// The record of the seed, when one alone was asked for and it violated nothing.
    pub only: Option<RunRecord>,
    /// It was interrupted.
    pub interrupted: bool,
}

/// Runs the storms of a range of seeds.
pub fn sweep(
    subject: &Subject,
    seeds: SeedRange,
    jobs: u32,
    interrupt: &Arc<AtomicBool>,
    on_done: impl Fn(u64) + Sync,
) -> Swept {
    assert!(seeds.first < seeds.end, "a range of seeds has one or more");
    let next = AtomicU64::new(seeds.first);
    // Seeds from here on need not be run: a lower one has failed.
    let bound = AtomicU64::new(seeds.end);
    let results: Mutex<(Tally, Results, Option<RunRecord>)> = Mutex::default();
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= bound.load(Ordering::Relaxed) || interrupt.load(Ordering::Relaxed) {
                        break;
                    }
                    let result = one(subject, Seed(seed), interrupt);
                    let failed = match &result {
                        Ok(record) => record.outcome.exit_class == ExitClass::Violation,
                        Err(_) => true,
                    };
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    if failed {
                        bound.fetch_min(seed, Ordering::Relaxed);
                        results.1.insert(seed, result);
                    } else if let Ok(record) = result
                        && record.outcome.exit_class != ExitClass::Interrupted
                    {
                        // A storm that was cut short has shown nothing.
                        results.0.add(&record);
                        results.2 = (seeds.count() == 1).then_some(record);
                    }
                    drop(results);
                    on_done(done.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    let (tally, mut failed, only) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (mut failure, mut broken) = (None, None);
    match failed.pop_first() {
        Some((seed, Ok(record))) => failure = Some((Seed(seed), record)),
        Some((seed, Err(error))) => broken = Some((Seed(seed), error)),
        None => {}
    }
    Swept {
        tally,
        failure,
        broken,
        only,
        interrupted: interrupt.load(Ordering::Relaxed),
    }
}

/// The scenario of one seed's storm.
/// Errors: none for a storm as it is drawn.
pub fn stormy(subject: &Subject, seed: Seed) -> Result<Scenario, ScenarioError> {
    Scenario::from_plan(&storm(seed, subject), subject)
}

/// Runs the storm of one seed.
/// Errors: the testbed's own.
pub fn one(
    subject: &Subject,
    seed: Seed,
    interrupt: &Arc<AtomicBool>,
) -> Result<RunRecord, RunError> {
    let scenario = stormy(subject, seed)?;
    let options = RunOptions {
        interrupt: interrupt.clone(),
        ..RunOptions::default()
    };
    run(scenario, options, |_| ())
}

/// Runs scenarios, several at a time. Shape: records in the order of the scenarios.
/// Errors: the first one, in that order.
pub fn run_all(
    scenarios: &[Scenario],
    jobs: u32,
    on_done: impl Fn(u64) + Sync,
) -> Result<Vec<RunRecord>, RunError> {
    let done = AtomicU64::new(0);
    let results: Mutex<Results> = Mutex::default();
    each(
        scenarios.len() as u64,
        jobs,
        &Arc::default(),
        |index| Ok(scenarios[index as usize].clone()),
        |index, result| {
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.insert(index, result);
            drop(results);
            on_done(done.fetch_add(1, Ordering::Relaxed) + 1);
        },
    );
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(
        results.len(),
        scenarios.len(),
        "nothing interrupts these runs"
    );
    results.into_values().collect()
}

/// Makes and runs scenarios by their place in a list, several at a time; `on_result` is told of
/// each one as it ends, in any order, from the thread that ran it. After an interrupt nothing new
/// begins, and what was cut short is not told.
pub fn each(
    count: u64,
    jobs: u32,
    interrupt: &Arc<AtomicBool>,
    make: impl Fn(u64) -> Result<Scenario, ScenarioError> + Sync,
    on_result: impl Fn(u64, Result<RunRecord, RunError>) + Sync,
) {
    let next = AtomicU64::new(0);
    let work = || {
        while !interrupt.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            let options = RunOptions {
                interrupt: interrupt.clone(),
                ..RunOptions::default()
            };
            let result = make(index)
                .map_err(RunError::from)
                .and_then(|scenario| run(scenario, options, |_| ()));
            let cut = matches!(&result, Ok(record)
                if record.outcome.exit_class == ExitClass::Interrupted);
            if !cut {
                on_result(index, result);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(work);
        }
    });
}
