//! `compare`: every allocator, both shapes and both stacks, on the same seeds, beside the published
//! table. What a comparison shows is decided in `drydock-reports`.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use clap::ValueEnum as _;
use drydock_models::parameters::RIVALS;
use drydock_reports::compare::{
    CellKey, CellRuns, Comparison, Expectation, Figures, ProfileRuns, SCHEMA, html, outside, tables,
};
use drydock_traces::run_record::ExitClass;
use drydock_traces::seed::Seed;
use drydock_traces::workload::Stack;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{Addresses, Allocator, CompareArgs};
use crate::command::{UsageError, has_terminal, interrupt_flag, print, write};
use crate::host::cores;
use crate::parameters::RunParameters;
use crate::scenario::{Scenario, ScenarioError};
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

/// Runs the command.
/// Errors: usage, files, or the testbed's own.
pub fn main(args: &CompareArgs) -> anyhow::Result<ExitClass> {
    let profiles = match &*args.profile {
        "all" => RIVALS.map(str::to_owned).to_vec(),
        one => vec![one.to_owned()],
    };
    let expected = args.expect.as_deref().map(|path| {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Expectation::from_json(&text)
            .map_err(|error| UsageError(format!("{}: {error}", path.display())).into())
    });
    let expected = expected.transpose().map_err(|error: anyhow::Error| error)?;
    if let Some(folder) = &args.svg {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let allocators = if args.allocators.is_empty() {
        Allocator::value_variants().to_vec()
    } else {
        args.allocators.clone()
    };
    let request = Request {
        profiles,
        allocators,
        stacks: vec![Stack::Ipv4, Stack::Dual],
        seeds: args.seeds,
        jobs: args.jobs.unwrap_or_else(cores),
    };
    let (comparison, interrupted) = run(&request)?;
    show(args, &comparison)?;
    if interrupted {
        return Ok(ExitClass::Interrupted);
    }
    if !comparison.errors.is_empty() {
        return Ok(ExitClass::Internal);
    }
    let Some(expected) = expected else {
        let all_within = outside(&comparison).is_empty();
        return Ok(if all_within {
            ExitClass::Ok
        } else {
            ExitClass::OutsideReference
        });
    };
    let drift = expected.drift(&Expectation::of(&comparison));
    for line in &drift {
        eprintln!("DRIFT {line}");
    }
    if drift.is_empty() {
        eprintln!("as expected");
        return Ok(ExitClass::Ok);
    }
    eprintln!("if the change is meant: --write-expectation, and say in the commit what moved");
    Ok(ExitClass::OutsideReference)
}

/// Writes every form that was asked for; the text goes to standard output.
fn show(args: &CompareArgs, comparison: &Comparison) -> anyhow::Result<()> {
    if let Some(path) = &args.json {
        write(path, &comparison.to_json())?;
    }
    if let Some(path) = &args.html {
        write(path, &html::page(comparison))?;
    }
    if let Some(path) = &args.markdown {
        write(path, &tables::markdown(comparison))?;
    }
    if let Some(folder) = &args.svg {
        for plot in html::plots(comparison) {
            write(&folder.join(format!("{}.svg", plot.name)), &plot.svg)?;
        }
    }
    if let Some(path) = &args.write_expectation {
        write(path, &Expectation::of(comparison).to_json())?;
    }
    if args.json.as_deref() == Some(std::path::Path::new("-")) {
        return Ok(());
    }
    print(&tables::plain(comparison))
}

/// Makes all runs of a request, and says whether it was interrupted.
/// Errors: an unknown profile.
pub fn run(request: &Request) -> anyhow::Result<(Comparison, bool)> {
    let cells = cells(request);
    let profiles = request
        .profiles
        .iter()
        .map(|name| empty(name, &cells))
        .collect::<Result<Vec<_>, _>>()?;
    let planned = plan(request, &cells);
    let interrupt = interrupt_flag();
    let bar = if has_terminal() {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {eta} left, {msg}")
            .expect("the template is constant and well formed");
        ProgressBar::new(planned.len() as u64).with_style(style)
    } else {
        ProgressBar::hidden()
    };
    let gathered = Mutex::new((profiles, Vec::<String>::new(), 0_u64));
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
        &interrupt,
        make,
        |index, result| {
            let planned = &planned[index as usize];
            let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
            let cell = &mut gathered.0[planned.profile].cells[planned.cell];
            bar.set_message(cell.key.to_string());
            match result {
                Ok(record) => {
                    cell.runs.push(Figures::of(&record));
                    if planned.seed == Seed(1) {
                        cell.example = Some(Box::new(record));
                    }
                    gathered.2 += 1;
                }
                Err(error) => {
                    let line = format!("{}, seed {}: {error}", cell.key, planned.seed);
                    gathered.1.push(line);
                }
            }
            drop(gathered);
            bar.inc(1);
        },
    );
    bar.finish_and_clear();
    let (mut profiles, mut errors, done) = gathered
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    for cell in profiles.iter_mut().flat_map(|profile| &mut profile.cells) {
        cell.runs.sort_by_key(|run| run.seed);
    }
    errors.sort_unstable();
    let comparison = Comparison {
        schema: SCHEMA.to_owned(),
        seeds: (1..=request.seeds).map(Seed).collect(),
        wanted: planned.len() as u64,
        done,
        errors,
        profiles,
    };
    Ok((comparison, interrupt.load(Ordering::Relaxed)))
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
