//! The stored runs whose certificates are committed: which ones there are, and how they are made
//! again. The list itself, and the comparison, are data of `drydock-traces`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Parser as _, ValueEnum as _};
use drydock_traces::corpus::certificates::{Certificates, Certified};
use drydock_traces::seed::Seed;
use drydock_traces::workload::Stack;

use crate::cli::{Addresses, Allocator, Cli, Command};
use crate::runner::RunError;
use crate::scenario::{Scenario, ScenarioError};
use crate::sweep::{Subject, each, planned, stormy};

/// The list, from the project's root.
pub const LIST: &str = "traces/corpus/certificates/runs.toml";
/// Its changelog, from the project's root.
pub const CHANGELOG: &str = "traces/corpus/certificates/CHANGES.md";
/// Manifests with StatefulSets and Jobs.
const MANIFESTS: &str = "traces/corpus/mixed";
/// Plans of failures that were found once.
const REGRESSIONS: &str = "traces/corpus/regressions";
/// Storms of Berth.
const BERTH_STORMS: u64 = 20;
/// Storms of each modelled peer.
const PEER_STORMS: u64 = 2;

/// A stored run, before it is made.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Name in the list.
    pub name: String,
    /// The command line that makes it, from the project's root.
    pub command: String,
    scenario: Scenario,
}

/// All stored runs of a project: the benchmark for every allocator, in both shapes and both
/// stacks; each manifest with StatefulSets and Jobs; storms; each plan of a regression. A new
/// allocator, manifest or plan is among them without being named here.
/// Errors: a file of the corpus that cannot be read or run.
pub fn stored(root: &Path) -> Result<Vec<Stored>, ScenarioError> {
    let mut lines = benchmark();
    for (stem, file) in files(root, MANIFESTS, "yaml")? {
        lines.push((format!("manifest-{stem}"), format!("run {file} --seed 1")));
    }
    lines.extend(storms());
    for (stem, file) in files(root, REGRESSIONS, "toml")? {
        lines.push((format!("regression-{stem}"), format!("replay {file}")));
    }
    let runs = lines.into_iter().map(|(name, arguments)| {
        Ok(Stored {
            name,
            scenario: scenario(root, &arguments)?,
            command: format!("cargo sim {arguments}"),
        })
    });
    runs.collect()
}

/// Names and arguments of the published benchmark.
fn benchmark() -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for allocator in Allocator::value_variants().iter().map(|each| each.name()) {
        for addresses in [Addresses::Equal, Addresses::Ample] {
            for stack in [Stack::Ipv4, Stack::Dual] {
                lines.push((
                    format!("benchmark-{allocator}-{addresses}-{stack}"),
                    format!(
                        "run --allocator {allocator} --addresses {addresses} --stack {stack} \
                         --seed 1"
                    ),
                ));
            }
        }
    }
    lines
}

/// Names and arguments of the storms. The free answer has no process that a storm could strike.
fn storms() -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for allocator in Allocator::value_variants() {
        let count = match allocator {
            Allocator::Berth => BERTH_STORMS,
            Allocator::Instant => 0,
            _ => PEER_STORMS,
        };
        for seed in 0..count {
            let allocator = allocator.name();
            lines.push((
                format!("storm-{allocator}-{seed:02}"),
                format!("hunt --allocator {allocator} --seeds {seed}"),
            ));
        }
    }
    lines
}

/// Files of a folder with this ending: stem, and path from the root. Shape: sorted.
fn files(
    root: &Path,
    folder: &str,
    ending: &str,
) -> Result<BTreeMap<String, String>, ScenarioError> {
    let path = root.join(folder);
    let failed = |error| ScenarioError::File {
        path: path.clone(),
        error,
    };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&path).map_err(failed)? {
        let name = PathBuf::from(entry.map_err(failed)?.file_name());
        if name.extension().is_some_and(|is| is == ending)
            && let Some(stem) = name.file_stem()
        {
            let file = format!("{folder}/{}", name.display());
            found.insert(stem.display().to_string(), file);
        }
    }
    Ok(found)
}

/// The scenario of a command line that people can type in the project's root.
fn scenario(root: &Path, arguments: &str) -> Result<Scenario, ScenarioError> {
    let words = std::iter::once("cargo-sim").chain(arguments.split_whitespace());
    let cli = Cli::try_parse_from(words).expect("the lines above are well formed");
    match cli.command {
        Command::Run(mut run) => {
            for file in &mut run.scenario.files {
                *file = root.join(&*file);
            }
            Scenario::from_args(&run.scenario)
        }
        Command::Hunt(hunt) => {
            let subject = Subject {
                allocator: hunt.allocator,
                mutant: hunt.mutant,
            };
            stormy(&subject, Seed(hunt.seeds.first))
        }
        Command::Replay(replay) => {
            let path = root.join(&replay.plan);
            let text = std::fs::read_to_string(&path).map_err(|error| ScenarioError::File {
                path: path.clone(),
                error,
            })?;
            Ok(planned(&path.display().to_string(), &text)?.1)
        }
        other => unreachable!("stored runs are of run, hunt and replay: {other:?}"),
    }
}

/// Makes stored runs, several at a time, and says what they come to. After an interrupt, runs that
/// were not made are not in the list.
/// Errors: the first run, in order, in which the testbed itself failed, with its name.
pub fn certify(
    runs: &[Stored],
    jobs: u32,
    interrupt: &Arc<AtomicBool>,
    on_done: impl Fn(u64) + Sync,
) -> Result<Certificates, (String, RunError)> {
    let done = AtomicU64::new(0);
    let results: Mutex<BTreeMap<u64, Result<Certified, RunError>>> = Mutex::default();
    let make = |index: u64| Ok(runs[index as usize].scenario.clone());
    let keep = |index: u64, result: Result<drydock_traces::run_record::RunRecord, RunError>| {
        let certified = result.map(|record| Certified {
            event_count: record.certificate.event_count,
            event_log_hash: record.certificate.event_log_hash,
            command: runs[index as usize].command.clone(),
        });
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        results.insert(index, certified);
        drop(results);
        on_done(done.fetch_add(1, Ordering::Relaxed) + 1);
    };
    each(runs.len() as u64, jobs, interrupt, make, keep);
    let mut list = Certificates::default();
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (index, result) in results {
        let name = runs[index as usize].name.clone();
        match result {
            Ok(certified) => list.runs.insert(name, certified),
            Err(error) => return Err((name, error)),
        };
    }
    Ok(list)
}
