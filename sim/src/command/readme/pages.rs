//! The pages of the peers: which files they are, their blocks and their plots.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use drydock_reports::compare::page::page;
use drydock_reports::compare::{Comparison, chosen, html};
use drydock_reports::gap::Gap;
use drydock_traces::workload::Stack;

use super::Results;
use crate::ablations::effects;
use crate::adapters;
use crate::command::{UsageError, interrupt_flag};
use crate::host::cores;
use crate::search::check;
use crate::subject::{Addresses, Allocator, CellName};
use crate::variants::Base;

/// Where the pages are, from the project's root.
const PAGES: &str = "reports/peers";
/// Where `cargo sim gap --json` left its searches: `ALLOCATOR-ADDRESSES.json`.
const GAPS: &str = "reports/gaps";
/// Seeds of each ablation on a page.
const ABLATION_SEEDS: u64 = 2;
/// Ablations on a page: those with the largest effect.
const ABLATIONS_MAX: usize = 10;

/// The pages, by name.
/// Errors: the folder cannot be read.
pub(super) fn files() -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(PAGES).with_context(|| {
        format!("cannot read {PAGES}: run this in the project's root, or name the files")
    })?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {PAGES}"))?
            .path();
        if path.extension().is_some_and(|end| end == "md") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A block by its name: `cells-X`, `ablation-X` or `gap-X`, of an allocator X.
/// Errors: nobody makes a block of that name; a run or a stored search failed.
pub(super) fn block(name: &str, results: &mut Results) -> anyhow::Result<String> {
    let unknown = || {
        UsageError(format!(
            "no block is called {name}: allowed are benchmark, burst, peers, real-node, and \
             cells-X, ablation-X, gap-X of an allocator X"
        ))
    };
    let (kind, of) = name.split_once('-').ok_or_else(unknown)?;
    let allocator = adapters::named(of).ok_or_else(unknown)?;
    match kind {
        "cells" => {
            let comparison = results.comparison()?;
            page(comparison, of).with_context(|| format!("no run of {of}"))
        }
        "ablation" => {
            let profile = profile(results.comparison()?)?;
            ablation(allocator, profile)
        }
        "gap" => {
            let profile = profile(results.comparison()?)?;
            gaps(allocator, &profile, results)
        }
        _ => Err(unknown().into()),
    }
}

/// The profile that the pages look into.
fn profile(comparison: &Comparison) -> anyhow::Result<String> {
    let runs = chosen(comparison).context("a comparison without runs")?;
    Ok(runs.profile.clone())
}

/// What each mechanism costs, the largest effects first.
fn ablation(allocator: Allocator, parameters: String) -> anyhow::Result<String> {
    let base = Base {
        allocator,
        cell: CellName {
            addresses: Addresses::Ample,
            stack: Stack::Dual,
        },
        parameters,
        seeds: ABLATION_SEEDS,
        jobs: cores(),
    };
    let (mut effects, _) = effects(&base, &interrupt_flag())?;
    effects.effects.truncate(ABLATIONS_MAX);
    Ok(effects.markdown())
}

/// What would close the gaps of the allocator's cells, from the stored searches; each is held
/// against runs.
fn gaps(allocator: Allocator, profile: &str, results: &mut Results) -> anyhow::Result<String> {
    let mut texts = Vec::new();
    for addresses in ["equal", "ample"] {
        let path = Path::new(GAPS).join(format!("{}-{addresses}.json", allocator.name()));
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let gap = Gap::from_json(&text)
            .map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
        if gap.profile != profile {
            let (is, path) = (&gap.profile, path.display());
            results.stale_gaps.push(format!(
                "{path}: of profile {is}, and {profile} is the best now"
            ));
        }
        results
            .stale_gaps
            .extend(check(&gap, cores(), &interrupt_flag())?);
        texts.push(gap.markdown());
    }
    Ok(texts.join("\n"))
}

/// The Running curves of the allocators whose pages are among these files.
pub(super) fn plots(comparison: &Comparison, paths: &[PathBuf]) -> Vec<(PathBuf, String)> {
    let Some(runs) = chosen(comparison) else {
        return Vec::new();
    };
    let mut plots = Vec::new();
    for path in paths.iter().filter(|path| path.starts_with(PAGES)) {
        let allocator = path.file_stem().and_then(std::ffi::OsStr::to_str);
        let plot = allocator.and_then(|allocator| html::plot(runs, allocator));
        plots.extend(plot.map(|plot| (path.with_extension("svg"), plot.svg)));
    }
    plots
}
