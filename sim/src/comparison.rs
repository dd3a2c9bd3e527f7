//! A comparison: every cell of the allocators asked for, under every profile, on the same seeds.
//! What it shows is decided in `drydock-reports`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drydock_reports::compare::{CellKey, CellRuns, Comparison, Figures, ProfileRuns, SCHEMA};
use drydock_traces::run_record::RunRecord;
use drydock_traces::seed::Seed;
use drydock_traces::workload::Stack;

use crate::parameters::RunParameters;
use crate::progress::bar;
use crate::runner::RunError;
use crate::scenario::{Scenario, ScenarioError};
use crate::subject::{Addresses, Allocator};
use crate::sweep::each;

/// One run of a comparison, before it is made.
#[derive(Clone, Debug)]
struct Planned {
    profile: usize,
    cell: usize,
    seed: Seed,
}

/// A cell, with what the command line knows of it.
#[derive(Clone, Copy, Debug)]
struct Cell {
    allocator: Allocator,
    addresses: Addresses,
    stack: Stack,
}

/// What a comparison is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Profiles, in the order of the report.
    pub profiles: Vec<String>,
    /// Allocators, in the order of the report.
    pub allocators: Vec<Allocator>,
    /// Stacks, in the order of the report.
    pub stacks: Vec<Stack>,
    /// Seeds of each cell, from 1 on.
    pub seeds: u64,
    /// Runs at a time.
    pub jobs: u32,
}

/// What the runs of a comparison have brought so far.
struct Gathered {
    profiles: Vec<ProfileRuns>,
    errors: Vec<String>,
    done: u64,
}

impl Gathered {
    /// A run has ended; the cell that it is of.
    fn take(&mut self, planned: &Planned, result: Result<RunRecord, RunError>) -> CellKey {
        let cell = &mut self.profiles[planned.profile].cells[planned.cell];
        match result {
            Ok(record) => {
                cell.runs.push(Figures::of(&record));
                if planned.seed == Seed(1) {
                    cell.example = Some(Box::new(record));
                }
                self.done += 1;
            }
            Err(error) => {
                let line = format!("{}, seed {}: {error}", cell.key, planned.seed);
                self.errors.push(line);
            }
        }
        cell.key.clone()
    }
}

/// Makes all runs of a request, and says whether it was interrupted.
/// Errors: an unknown profile.
pub fn run(
    request: &Request,
    interrupt: &Arc<AtomicBool>,
) -> Result<(Comparison, bool), ScenarioError> {
    let cells = cells(request);
    let profiles = request
        .profiles
        .iter()
        .map(|name| empty(name, &cells))
        .collect::<Result<Vec<_>, _>>()?;
    let planned = plan(request, &cells);
    let bar = bar(planned.len() as u64, "{pos}/{len} runs, {eta} left, {msg}");
    let gathered = Mutex::new(Gathered {
        profiles,
        errors: Vec::new(),
        done: 0,
    });
    let make = |index: u64| {
        let planned = &planned[index as usize];
        scenario(
            &request.profiles[planned.profile],
            cells[planned.cell],
            planned.seed,
        )
    };
    each(
        planned.len() as u64,
        request.jobs,
        interrupt,
        make,
        |index, result| {
            let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
            let cell = gathered.take(&planned[index as usize], result);
            drop(gathered);
            bar.set_message(cell.to_string());
            bar.inc(1);
        },
    );
    bar.finish_and_clear();
    let Gathered {
        mut profiles,
        mut errors,
        done,
    } = gathered
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    for cell in profiles.iter_mut().flat_map(|profile| &mut profile.cells) {
        cell.runs.sort_by_key(|run| run.seed);
    }
    errors.sort_unstable();
    let interrupted = interrupt.load(Ordering::Relaxed);
    assert!(
        interrupted || done + errors.len() as u64 == planned.len() as u64,
        "without an interrupt every run is made or has failed"
    );
    let comparison = Comparison {
        schema: SCHEMA.to_owned(),
        seeds: (1..=request.seeds).map(Seed).collect(),
        wanted: planned.len() as u64,
        done,
        errors,
        profiles,
    };
    Ok((comparison, interrupted))
}

/// All cells, in the order of the report.
fn cells(request: &Request) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &allocator in &request.allocators {
        for addresses in [Addresses::Equal, Addresses::Ample] {
            for &stack in &request.stacks {
                cells.push(Cell {
                    allocator,
                    addresses,
                    stack,
                });
            }
        }
    }
    cells
}

/// Seed by seed, so that what an interrupt leaves is whole seeds of every cell.
fn plan(request: &Request, cells: &[Cell]) -> Vec<Planned> {
    let mut planned = Vec::new();
    for seed in 1..=request.seeds {
        for profile in 0..request.profiles.len() {
            for cell in 0..cells.len() {
                planned.push(Planned {
                    profile,
                    cell,
                    seed: Seed(seed),
                });
            }
        }
    }
    planned
}

fn empty(profile: &str, cells: &[Cell]) -> Result<ProfileRuns, ScenarioError> {
    let parameters = RunParameters::load(profile, &[])?;
    let fitted = parameters.table.fitted().next().map(|key| {
        let entry = &parameters.table.entries[key];
        format!("{key} = {} {}", entry.text(), entry.unit)
    });
    let cells = cells.iter().map(|cell| CellRuns {
        key: CellKey::new(
            cell.allocator.name(),
            &cell.addresses.to_string(),
            cell.stack,
        ),
        runs: Vec::new(),
        example: None,
    });
    Ok(ProfileRuns {
        profile: profile.to_owned(),
        fitted,
        cells: cells.collect(),
    })
}

fn scenario(profile: &str, cell: Cell, seed: Seed) -> Result<Scenario, ScenarioError> {
    Scenario::of_benchmark(
        cell.allocator,
        cell.addresses,
        cell.stack,
        seed,
        RunParameters::load(profile, &[])?,
    )
}
