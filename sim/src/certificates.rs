//! The stored runs whose certificates are committed: which ones there are, and how they are made
//! again. The list itself, and the comparison, are data of `drydock-traces`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drydock_traces::corpus::certificates::{Certificates, Certified};
use drydock_traces::seed::Seed;
use drydock_traces::workload::Stack;

use crate::adapters::{self, BERTH};
use crate::runner::RunError;
use crate::scenario::{Scenario, ScenarioError, Spec};
use crate::subject::{Addresses, Subject};
use crate::sweep::{each, planned, stormy};

/// The list, from the project's root.
pub const LIST: &str = "traces/corpus/certificates/runs.toml";
/// Its changelog, from the project's root.
pub const CHANGELOG: &str = "traces/corpus/certificates/CHANGES.md";
/// Manifests with StatefulSets and Jobs.
const MANIFESTS: &str = "traces/corpus/mixed";
/// Plans of failures that were found once.
const REGRESSIONS: &str = "traces/corpus/regressions";

/// What a stored run is a run of, with paths from the project's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredKind {
    /// `run`.
    Run(Box<Spec>),
    /// `hunt` over one seed.
    Storm(Subject, Seed),
    /// `replay` of a plan.
    Plan(PathBuf),
}

/// A stored run, before it is made.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Name in the list.
    pub name: String,
    /// The command line that makes it, from the project's root.
    pub command: String,
    /// What it is, as data: what the command line says.
    pub kind: StoredKind,
    scenario: Scenario,
}

/// All stored runs of a project: the benchmark for every allocator, in both shapes and both
/// stacks; each manifest with StatefulSets and Jobs; storms; each plan of a regression. A new
/// allocator, manifest or plan is among them without being named here.
/// Errors: a file of the corpus that cannot be read or run.
pub fn stored(root: &Path) -> Result<Vec<Stored>, ScenarioError> {
    let mut entries = benchmark();
    for (stem, file) in files(root, MANIFESTS, "yaml")? {
        let spec = Spec {
            files: vec![PathBuf::from(&file)],
            ..Spec::benchmark(BERTH, Seed(1))
        };
        entries.push(Entry {
            name: format!("manifest-{stem}"),
            arguments: format!("run {file} --seed 1"),
            kind: StoredKind::Run(Box::new(spec)),
        });
    }
    entries.extend(storms());
    for (stem, file) in files(root, REGRESSIONS, "toml")? {
        entries.push(Entry {
            name: format!("regression-{stem}"),
            arguments: format!("replay {file}"),
            kind: StoredKind::Plan(PathBuf::from(file)),
        });
    }
    let runs = entries.into_iter().map(|entry| {
        Ok(Stored {
            name: entry.name,
            command: format!("cargo sim {}", entry.arguments),
            scenario: scenario(root, &entry.kind)?,
            kind: entry.kind,
        })
    });
    runs.collect()
}

/// A stored run, before its files are read.
struct Entry {
    name: String,
    arguments: String,
    kind: StoredKind,
}

/// The published benchmark.
fn benchmark() -> Vec<Entry> {
    let mut entries = Vec::new();
    for allocator in adapters::allocators() {
        for addresses in [Addresses::Equal, Addresses::Ample] {
            for stack in [Stack::Ipv4, Stack::Dual] {
                let spec = Spec {
                    addresses: Some(addresses),
                    stack: Some(stack),
                    ..Spec::benchmark(allocator, Seed(1))
                };
                let allocator = allocator.name();
                entries.push(Entry {
                    name: format!("benchmark-{allocator}-{addresses}-{stack}"),
                    arguments: format!(
                        "run --allocator {allocator} --addresses {addresses} --stack {stack} \
                         --seed 1"
                    ),
                    kind: StoredKind::Run(Box::new(spec)),
                });
            }
        }
    }
    entries
}

/// The storms of every allocator.
fn storms() -> Vec<Entry> {
    let mut entries = Vec::new();
    for adapter in adapters::all() {
        for seed in 0..adapter.stored_storms() {
            let allocator = adapter.allocator().name();
            entries.push(Entry {
                name: format!("storm-{allocator}-{seed:02}"),
                arguments: format!("hunt --allocator {allocator} --seeds {seed}"),
                kind: StoredKind::Storm(adapter.allocator().into(), Seed(seed)),
            });
        }
    }
    entries
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

/// The scenario of a stored run.
fn scenario(root: &Path, kind: &StoredKind) -> Result<Scenario, ScenarioError> {
    match kind {
        StoredKind::Run(spec) => {
            let files = spec.files.iter().map(|file| root.join(file)).collect();
            Scenario::from_spec(&Spec {
                files,
                ..Spec::clone(spec)
            })
        }
        StoredKind::Storm(subject, seed) => stormy(subject, *seed),
        StoredKind::Plan(plan) => {
            let path = root.join(plan);
            let text = std::fs::read_to_string(&path).map_err(|error| ScenarioError::File {
                path: path.clone(),
                error,
            })?;
            Ok(planned(&path.display().to_string(), &text)?.1)
        }
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
            Ok(certified) => {
                let other = list.runs.insert(name, certified);
                assert!(other.is_none(), "each stored run has a name of its own");
            }
            Err(error) => return Err((name, error)),
        }
    }
    Ok(list)
}
