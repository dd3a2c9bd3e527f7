//! The page of one allocator: its cells under every profile, and what its runs under the best one
//! are made of. It never starts a run.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use drydock_traces::run_record::RunRecord;

use super::judge::PUBLISHED_STACK;
use super::outside::chosen;
use super::tables::{cells, failures};
use super::{CellKey, CellRuns, Comparison, ProfileRuns, Spread};
use crate::explain::{busiest, causes};
use crate::quantity::{deviation, seconds};
use crate::reference::{Cell, Published, Spare, Verdict};
use crate::table::{Align, Table};

/// Resources that a page shows: the busiest.
const RESOURCES_MAX: usize = 6;

/// The page as Markdown; none without a run of the allocator.
pub fn page(comparison: &Comparison, allocator: &str) -> Option<String> {
    let runs = chosen(comparison)?;
    let own = ProfileRuns {
        cells: runs
            .cells
            .iter()
            .filter(|cell| cell.key.allocator == allocator)
            .cloned()
            .collect(),
        ..runs.clone()
    };
    if own.cells.iter().all(|cell| cell.runs.is_empty()) {
        return None;
    }
    let mut text = format!(
        "Under every profile, median of {} seeds:\n\n{}\n",
        comparison.seeds.len(),
        everywhere(comparison, allocator).markdown()
    );
    let _ = writeln!(
        text,
        "Under `{}` ({}):\n\n{}",
        runs.profile,
        runs.fitted.as_deref().unwrap_or("nothing fitted"),
        cells(&own).markdown()
    );
    let example = |spare: Spare| {
        let key = CellKey::new(allocator, spare.as_str(), PUBLISHED_STACK);
        own.cell(&key).and_then(|cell| cell.example.as_deref())
    };
    let counted = counters(&[example(Spare::Equal), example(Spare::Ample)]);
    if counted.row_count() > 0 {
        let _ = writeln!(
            text,
            "What was counted in one run of each:\n\n{}",
            counted.markdown()
        );
    }
    if let Some(record) = example(Spare::Ample) {
        let _ = writeln!(
            text,
            "Where the time of a start went, ample addresses, seed {}:\n\n{}",
            record.seed,
            causes(&record.attribution).markdown()
        );
        let _ = writeln!(
            text,
            "The busiest resources of that run:\n\n{}",
            busiest(record, RESOURCES_MAX).markdown()
        );
    }
    Some(text)
}

/// What runs counted, zeros left out. Shape: a row for each name, a column for each run.
fn counters(records: &[Option<&RunRecord>; 2]) -> Table {
    let mut table = Table::new(&[
        ("counted", Align::Left),
        ("equal", Align::Right),
        ("ample", Align::Right),
    ]);
    let count = |record: Option<&RunRecord>, name: &String| {
        let count = record.and_then(|record| record.probes.get(name));
        count.copied().unwrap_or_default()
    };
    // The ledger's own probes are named with hyphens, what an allocator counts with underscores.
    let names: BTreeSet<&String> = records
        .iter()
        .flatten()
        .flat_map(|record| record.probes.keys())
        .filter(|name| name.contains('_'))
        .collect();
    for name in names {
        let counts = records.map(|record| count(record, name));
        if counts != [0, 0] {
            let counts = counts.map(|count| count.to_string());
            table.row(std::iter::once(name.replace('_', " ")).chain(counts));
        }
    }
    table
}

/// Shape: a row for each profile, two columns for each cell that was published as a time or a
/// failure; a column for each cell of an allocator of which nothing was published.
fn everywhere(comparison: &Comparison, allocator: &str) -> Table {
    let cells: Vec<(Spare, Option<&Cell>)> = [Spare::Equal, Spare::Ample]
        .map(|spare| (spare, Cell::find(allocator, spare)))
        .into_iter()
        .filter(|(_, cell)| {
            cell.is_none_or(|cell| !matches!(cell.published, Published::NotApplicable))
        })
        .collect();
    let titles: Vec<String> = cells
        .iter()
        .map(|(spare, cell)| match cell.map(|cell| cell.published) {
            Some(Published::Seconds(at_s)) => format!("{}, published {at_s} s", spare.as_str()),
            Some(_) => format!("{}, published: failure", spare.as_str()),
            None => spare.as_str().to_owned(),
        })
        .collect();
    let mut columns = vec![("profile", Align::Left)];
    for (title, (_, cell)) in titles.iter().zip(&cells) {
        columns.push((&**title, Align::Right));
        columns.extend(cell.map(|_| ("error", Align::Right)));
    }
    let mut table = Table::new(&columns);
    for runs in &comparison.profiles {
        let mut row = vec![runs.profile.clone()];
        for (spare, cell) in &cells {
            let key = CellKey::new(allocator, spare.as_str(), PUBLISHED_STACK);
            let found = runs
                .cell(&key)
                .map(CellRuns::all_running)
                .unwrap_or_default();
            row.push(found.median.map_or_else(|| "never".to_owned(), seconds));
            row.extend(cell.map(|cell| error(cell, found)));
        }
        table.row(row);
    }
    table
}

fn error(cell: &Cell, found: Spread) -> String {
    match cell.judge(found.median) {
        Verdict::Within(Some(ppm)) | Verdict::Outside(Some(ppm)) => deviation(ppm),
        Verdict::Within(None) => "as published".to_owned(),
        Verdict::Outside(None) if cell.published == Published::Failure => failures(found),
        Verdict::Outside(None) | Verdict::NotJudged => "-".to_owned(),
    }
}
