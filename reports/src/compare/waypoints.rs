//! Points on the way that were published beside the final times: what the runs count there.

use super::judge::PUBLISHED_STACK;
use super::{CellKey, ProfileRuns, Spread};
use crate::quantity::deviation;
use crate::reference::{Counted, Verdict, WAYPOINTS, Waypoint};
use crate::table::{Align, Table};

/// The median count of a cell at each published point on the way.
fn counts_on_the_way(runs: &ProfileRuns) -> Vec<(&'static Waypoint, Spread, Verdict)> {
    let mut counts = Vec::new();
    for (index, point) in WAYPOINTS.iter().enumerate() {
        let key = CellKey::new(point.allocator, point.spare.as_str(), PUBLISHED_STACK);
        let Some(cell) = runs.cell(&key).filter(|cell| !cell.runs.is_empty()) else {
            continue;
        };
        let at_point = cell
            .runs
            .iter()
            .map(|run| run.waypoint_counts.get(index).copied());
        let spread = Spread::of(at_point);
        let verdict = point.judge(spread.median.unwrap_or_default());
        counts.push((point, spread, verdict));
    }
    counts
}

/// Whereabouts' published points beside the runs. Shape: a row for each point.
pub(super) fn waypoints(runs: &ProfileRuns) -> Table {
    let mut table = Table::new(&[
        ("addresses", Align::Left),
        ("at", Align::Right),
        ("counted", Align::Left),
        ("published", Align::Right),
        ("median", Align::Right),
        ("p5 - p95", Align::Right),
        ("error", Align::Right),
        ("within", Align::Left),
    ]);
    for (point, spread, verdict) in counts_on_the_way(runs) {
        let shown = |value: Option<u64>| value.unwrap_or_default().to_string();
        let (ppm, within) = match verdict {
            Verdict::Within(ppm) => (ppm, "yes"),
            Verdict::Outside(ppm) => (ppm, "NO"),
            Verdict::NotJudged => (None, "-"),
        };
        table.row([
            point.spare.as_str().to_owned(),
            format!("{} s", point.at_s),
            counted(point).to_owned(),
            point.count.to_string(),
            shown(spread.median),
            format!("{} - {}", shown(spread.p5), shown(spread.p95)),
            ppm.map_or_else(|| "-".to_owned(), deviation),
            within.to_owned(),
        ]);
    }
    table
}

fn counted(point: &Waypoint) -> &'static str {
    match point.counted {
        Counted::PodsRunning => "Pods Running",
        Counted::AddressesAllocated => "addresses allocated",
    }
}

/// Published points on the way that a profile misses, in words.
pub(super) fn missed_waypoints(runs: &ProfileRuns) -> Vec<String> {
    let points = counts_on_the_way(runs).into_iter();
    let missed = points.filter(|(_, _, verdict)| matches!(verdict, Verdict::Outside(_)));
    let words = missed.map(|(point, _, _)| {
        let (allocator, what, at_s) = (point.allocator, counted(point), point.at_s);
        format!("{allocator}, {what} at {at_s} s, profile {}", runs.profile)
    });
    words.collect()
}
