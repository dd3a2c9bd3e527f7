//! A comparison as one HTML file that loads nothing: tables, and the Running curves of each
//! allocator with the published points drawn in.

use std::fmt::Write as _;

use drydock_traces::run_record::RunRecord;

use super::judge::PUBLISHED_STACK;
use super::tables::{parts, verdict};
use super::{CellKey, Comparison, ProfileRuns};
use crate::plot::{Mark, RunningPlot};
use crate::reference::{CELLS, WAYPOINTS};
use crate::table::escape_html;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:1180px;margin:2rem auto;\
padding:0 1rem;color:#14181d;background:#fff}h1{font-size:1.5rem}h2{font-size:1.1rem;\
margin-top:2rem}table{border-collapse:collapse;display:block;overflow-x:auto}td,th{padding:.2rem \
.6rem;border-bottom:1px solid #e6e9ed;white-space:nowrap}.r{text-align:right;\
font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}@media \
(prefers-color-scheme:dark){body{color:#f2f5f8;background:#14181d}td,th{border-color:#2a3038}}";

/// A plot with the name of its file.
#[derive(Clone, Debug)]
pub struct NamedPlot {
    /// A name that a file can have, without an ending.
    pub name: String,
    /// SVG.
    pub svg: String,
}

/// The Running curves of each allocator, both shapes in one plot. Shape: by profile, then in the
/// order of the allocators.
pub fn plots(comparison: &Comparison) -> Vec<NamedPlot> {
    let mut plots = Vec::new();
    for runs in &comparison.profiles {
        for allocator in runs.allocators() {
            plots.extend(plot(runs, allocator));
        }
    }
    plots
}

/// The Running curves of one allocator, both shapes in one plot; none without a run.
pub fn plot(runs: &ProfileRuns, allocator: &str) -> Option<NamedPlot> {
    let records: Vec<&RunRecord> = ["equal", "ample"]
        .iter()
        .filter_map(|addresses| {
            let key = CellKey::new(allocator, addresses, PUBLISHED_STACK);
            runs.cell(&key)?.example.as_deref()
        })
        .collect();
    if records.is_empty() {
        return None;
    }
    let cells = CELLS.iter().filter(|cell| cell.allocator == allocator);
    let points = WAYPOINTS
        .iter()
        .filter(|point| point.allocator == allocator);
    let marks: Vec<Mark> = cells
        .filter_map(Mark::of_cell)
        .chain(points.filter_map(Mark::of_waypoint))
        .collect();
    let plot = RunningPlot {
        title: &format!(
            "{allocator}: Pods Running over time, profile {}",
            runs.profile
        ),
        records: &records,
        measured: &[],
        marks: &marks,
    };
    Some(NamedPlot {
        name: format!("{}-{allocator}", runs.profile.replace('/', "_")),
        svg: plot.svg(),
    })
}

/// The page.
pub fn page(comparison: &Comparison) -> String {
    let mut body = String::new();
    let verdict = escape_html(&verdict(comparison));
    let _ = writeln!(
        body,
        "<h1>Drydock: allocators beside the published benchmark</h1>"
    );
    let _ = writeln!(body, "<pre>{verdict}</pre>");
    for part in parts(comparison) {
        let title = escape_html(&part.title);
        let _ = writeln!(body, "<h2>{title}</h2>\n{}", part.table.html());
    }
    for plot in plots(comparison) {
        let _ = writeln!(body, "{}", plot.svg);
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>Drydock comparison</title><style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )
}
