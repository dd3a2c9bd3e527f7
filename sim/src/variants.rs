//! The same cell on the same seeds under many sets of overrides: what ablation, sensitivity and
//! fitting have in common. It runs; what the differences mean is said elsewhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drydock_reports::compare::Figures;
use drydock_traces::seed::Seed;

use crate::parameters::RunParameters;
use crate::progress::bar;
use crate::runner::RunError;
use crate::scenario::Scenario;
use crate::subject::{Allocator, CellName};
use crate::sweep::each;

/// A cell under a parameter set.
#[derive(Clone, Debug)]
pub struct Base {
    /// Whose runs.
    pub allocator: Allocator,
    /// Addresses and stack.
    pub cell: CellName,
    /// The parameter set to start from.
    pub parameters: String,
    /// Seeds, from 1 on.
    pub seeds: u64,
    /// Runs at a time.
    pub jobs: u32,
}

impl Base {
    /// The headline of a report on what is varied.
    pub fn title(&self, what: &str) -> String {
        format!(
            "{what} of {}, {}, profile {}, {} seeds",
            self.allocator.name(),
            self.cell,
            self.parameters,
            self.seeds
        )
    }
}

/// What came of the variants.
#[derive(Debug)]
pub struct Varied {
    /// Runs of each variant that was begun and ended. Shape: as the variants, each by seed.
    pub runs: Vec<Vec<Figures>>,
    /// It was interrupted.
    pub interrupted: bool,
}

/// Runs each variant (a list of overrides) on every seed; seed by seed, so that an interrupt
/// leaves whole seeds.
/// Errors: the first run, in order, that could not be made.
pub fn run(
    base: &Base,
    variants: &[Vec<String>],
    interrupt: &Arc<AtomicBool>,
) -> Result<Varied, RunError> {
    let count = variants.len() as u64;
    let bar = bar(count * base.seeds, "{pos}/{len} runs, {eta} left");
    let seed_of = |index: u64| Seed(1 + index / count.max(1));
    let variant_of = |index: u64| (index % count.max(1)) as usize;
    let done: Mutex<BTreeMap<u64, Result<Figures, RunError>>> = Mutex::default();
    let make = |index: u64| {
        let set = &variants[variant_of(index)];
        let mut scenario = Scenario::of_benchmark(
            base.allocator,
            base.cell.addresses,
            base.cell.stack,
            seed_of(index),
            RunParameters::load(&base.parameters, set)?,
        )?;
        scenario.set.clone_from(set);
        Ok(scenario)
    };
    each(
        count * base.seeds,
        base.jobs,
        interrupt,
        make,
        |index, result| {
            let figures = result.map(|record| Figures::of(&record));
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.insert(index, figures);
            drop(done);
            bar.inc(1);
        },
    );
    bar.finish_and_clear();
    let mut runs = vec![Vec::new(); variants.len()];
    for (index, figures) in done.into_inner().unwrap_or_else(PoisonError::into_inner) {
        runs[variant_of(index)].push(figures?);
    }
    let interrupted = interrupt.load(Ordering::Relaxed);
    let all = |runs: &Vec<Figures>| runs.len() as u64 == base.seeds;
    assert!(
        interrupted || runs.iter().all(all),
        "without an interrupt every variant has a run of every seed"
    );
    Ok(Varied { runs, interrupted })
}
