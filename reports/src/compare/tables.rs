//! A comparison as tables, and all of them as one text or one Markdown page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use drydock_traces::run_record::{Attribution, Which};
use drydock_traces::seed::Seed;

use super::judge::{Judgement, PUBLISHED_STACK, best, leave_one_out};
use super::outside::{chosen, outside};
use super::waypoints::waypoints;
use super::{CellKey, CellRuns, Comparison, Figures, ProfileRuns, Spread};
use crate::explain::causes_side_by_side;
use crate::quantity::{deviation, deviation_ppm, milli, percent, ratio, ratio_ppm, seconds};
use crate::reference::{CELLS, Cell, EXCHANGED, Exchanged, Published, Spare, Verdict};
use crate::table::{Align, Table};

/// The allocator that the others are compared with.
const SUBJECT: &str = "berth";
/// The free answer: the floor.
const FLOOR: &str = "instant";

/// A table with its heading.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it shows.
    pub title: String,
    /// The table.
    pub table: Table,
}

/// All tables of a comparison, in the order of reading.
pub fn parts(comparison: &Comparison) -> Vec<Part> {
    let judgements: Vec<Judgement> = comparison.profiles.iter().map(Judgement::of).collect();
    let mut parts = Vec::new();
    let mut part = |title: String, table: Table| {
        if table.row_count() > 0 {
            parts.push(Part { title, table });
        }
    };
    for runs in &comparison.profiles {
        let (profile, fitted) = (&runs.profile, &runs.fitted);
        let fitted = fitted.as_deref().unwrap_or("nothing fitted");
        let titled = |what: &str| format!("{what}, profile {profile} ({fitted})");
        part(titled("Time until all Pods run"), cells(runs));
        part(titled("Whereabouts on the way"), waypoints(runs));
        part(
            titled("Berth against each other allocator"),
            subject_against(runs),
        );
        for (which, what) in [
            (None, "Where the time of the mean Pod went"),
            (Some(Which::Last), "Where the time of the last Pod went"),
        ] {
            for addresses in ["ample", "equal"] {
                let what = format!("{what}, {addresses} addresses");
                part(titled(&what), causes(runs, addresses, which));
            }
        }
    }
    part(
        "Profiles beside the published table".to_owned(),
        profiles(&judgements),
    );
    part(
        "Cilium and Calico in the table and in the figure published later".to_owned(),
        exchanged(comparison),
    );
    if judgements.len() > 1 {
        let title = "Each timed cell left out: what the profile chosen by the others says of it";
        part(title.to_owned(), left_out(&judgements));
    }
    parts
}

/// The comparison as plain text.
pub fn plain(comparison: &Comparison) -> String {
    let mut text = String::new();
    for part in parts(comparison) {
        let _ = writeln!(text, "{}\n\n{}", part.title, part.table.plain());
    }
    text + &verdict(comparison)
}

/// The comparison as Markdown.
pub fn markdown(comparison: &Comparison) -> String {
    let mut text = String::new();
    for part in parts(comparison) {
        let _ = writeln!(text, "### {}\n\n{}", part.title, part.table.markdown());
    }
    text + &verdict(comparison)
}

/// What a README shows: the profiles, and the cells of the best one. Each allocator's page shows
/// where the time goes.
pub fn readme(comparison: &Comparison) -> String {
    let judgements: Vec<Judgement> = comparison.profiles.iter().map(Judgement::of).collect();
    let mut text = String::new();
    let mut part = |title: &str, table: &Table| {
        if table.row_count() > 0 {
            let _ = writeln!(text, "{title}:\n\n{}", table.markdown());
        }
    };
    part(
        "Error of each profile in each published cell (in brackets: the cell that it was fitted on)",
        &profiles(&judgements),
    );
    part(
        "Cilium and Calico, whose numbers the table and a figure published later exchange",
        &exchanged(comparison),
    );
    if let Some(runs) = chosen(comparison) {
        let fitted = runs.fitted.as_deref().unwrap_or("nothing fitted");
        let titled = |what: &str| format!("{what}, profile `{}` ({fitted})", runs.profile);
        part(&titled("Every allocator"), &cells(runs));
        part(&titled("Whereabouts on the way"), &waypoints(runs));
    }
    let seeds = comparison.seeds.len();
    let _ = writeln!(
        text,
        "{seeds} seeds a cell; `cargo sim compare` runs twenty."
    );
    text
}

/// The result, in a few lines.
pub fn verdict(comparison: &Comparison) -> String {
    let mut text = String::new();
    let seeds = comparison.seeds.len();
    let _ = writeln!(
        text,
        "{} of {} runs, {seeds} seeds a cell ({})",
        comparison.done,
        comparison.wanted,
        range(&comparison.seeds)
    );
    let judgements: Vec<Judgement> = comparison.profiles.iter().map(Judgement::of).collect();
    if let Some(best) = best(&judgements)
        && judgements.len() > 1
    {
        let _ = writeln!(
            text,
            "best profile by its worst cell that it was not fitted on: {}",
            best.profile
        );
    }
    for missed in outside(comparison) {
        let _ = writeln!(text, "OUTSIDE its band: {missed}");
    }
    for error in &comparison.errors {
        let _ = writeln!(text, "ERROR {error}");
    }
    text
}

fn range(seeds: &[Seed]) -> String {
    match (seeds.first(), seeds.last()) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => "none".to_owned(),
    }
}

/// The published number of a cell, whatever its stack.
fn published(key: &CellKey) -> Option<&'static Cell> {
    CELLS
        .iter()
        .find(|cell| cell.allocator == key.allocator && cell.spare.as_str() == key.addresses)
}

/// Time of a spread, or how far the runs came.
fn time(spread: Spread, cell: &CellRuns) -> String {
    spread.median.map_or_else(
        || {
            let running = Spread::of_numbers(cell.runs.iter().map(|run| run.pods_running));
            let total = cell.runs.first().map_or(0, |run| run.pods_total);
            format!("never; {} of {total}", running.median.unwrap_or_default())
        },
        seconds,
    )
}

fn bounds(spread: Spread) -> String {
    let shown = |value: Option<u64>| value.map_or_else(|| "never".to_owned(), seconds);
    format!("{} - {}", shown(spread.p5), shown(spread.p95))
}

/// Every cell of a profile. Shape: a row for each cell with runs.
pub(super) fn cells(runs: &ProfileRuns) -> Table {
    let mut table = Table::new(&[
        ("allocator", Align::Left),
        ("addresses", Align::Left),
        ("stack", Align::Left),
        ("median", Align::Right),
        ("p5 - p95", Align::Right),
        ("published", Align::Right),
        ("error", Align::Right),
        ("within", Align::Left),
        ("requests per Pod", Align::Right),
        ("conflicts", Align::Right),
        ("retries", Align::Right),
        ("leaked", Align::Right),
    ]);
    for cell in runs.cells.iter().filter(|cell| !cell.runs.is_empty()) {
        let spread = cell.all_running();
        let reference = published(&cell.key);
        let (wanted, error, within) = reference.map_or_else(
            || ("-".to_owned(), "-".to_owned(), "-"),
            |reference| judged(reference, spread, &cell.key),
        );
        let median = |of: fn(&Figures) -> u64| {
            let spread = Spread::of_numbers(cell.runs.iter().map(of));
            spread.median.unwrap_or_default()
        };
        let requests = Spread::of(cell.runs.iter().map(|run| run.per_pod_milli));
        table.row([
            cell.key.allocator.clone(),
            cell.key.addresses.clone(),
            cell.key.stack.clone(),
            time(spread, cell),
            bounds(spread),
            wanted,
            error,
            within.to_owned(),
            requests.median.map_or_else(|| "-".to_owned(), milli),
            median(|run| run.conflict_count).to_string(),
            median(|run| run.retry_count).to_string(),
            median(|run| run.leaked_count).to_string(),
        ]);
    }
    table
}

fn judged(reference: &Cell, spread: Spread, key: &CellKey) -> (String, String, &'static str) {
    let wanted = match reference.published {
        Published::Seconds(at_s) => format!("{at_s} s"),
        Published::Failure => "failure".to_owned(),
        Published::NotApplicable => "not applicable".to_owned(),
    };
    // The published numbers are of one stack; the other is shown, not judged.
    let counts = key.stack == PUBLISHED_STACK.to_string();
    let (ppm, within) = match reference.judge(spread.median) {
        Verdict::Within(ppm) => (ppm, "yes"),
        Verdict::Outside(ppm) => (ppm, "NO"),
        Verdict::NotJudged => (None, "-"),
    };
    let error = ppm.map_or_else(|| "-".to_owned(), deviation);
    (wanted, error, if counts { within } else { "-" })
}

/// Ratio of the times of two cells, seed by seed; infinite if the numerator never got there.
fn paired(one: &CellRuns, other: &CellRuns) -> Spread {
    let others: BTreeMap<Seed, Option<u64>> = other
        .runs
        .iter()
        .map(|run| (run.seed, run.all_running_ns))
        .collect();
    let ratios = one.runs.iter().filter_map(|run| {
        let baseline = (*others.get(&run.seed)?)?;
        Some(
            run.all_running_ns
                .map(|ns| ratio_ppm(ns, baseline).unwrap_or(u64::MAX)),
        )
    });
    Spread::of(ratios)
}

/// Each allocator over Berth on the same seeds. Shape: a row for each cell of another allocator.
fn subject_against(runs: &ProfileRuns) -> Table {
    let mut table = Table::new(&[
        ("allocator", Align::Left),
        ("addresses", Align::Left),
        ("stack", Align::Left),
        ("its time / Berth's", Align::Right),
        ("Berth's time", Align::Right),
        ("its time", Align::Right),
        ("requests per Pod: Berth", Align::Right),
        ("its", Align::Right),
        ("conflicts: Berth", Align::Right),
        ("its", Align::Right),
        ("retries: Berth", Align::Right),
        ("its", Align::Right),
        ("leaked: Berth", Align::Right),
        ("its", Align::Right),
    ]);
    for cell in &runs.cells {
        let subject = runs.cell(&cell.key.with(SUBJECT));
        let Some(subject) = subject.filter(|subject| !subject.runs.is_empty()) else {
            continue;
        };
        if cell.key.allocator == SUBJECT || cell.runs.is_empty() {
            continue;
        }
        let median = |cell: &CellRuns, of: fn(&Figures) -> Option<u64>| {
            Spread::of(cell.runs.iter().map(of)).median
        };
        let both = |of: fn(&Figures) -> Option<u64>, shown: fn(u64) -> String| {
            [subject, cell].map(|cell| median(cell, of).map_or_else(|| "-".to_owned(), shown))
        };
        let number = |value: u64| value.to_string();
        let factor = paired(cell, subject).median;
        let [own_requests, its_requests] = both(|run| run.per_pod_milli, milli);
        let [own_conflicts, its_conflicts] = both(|run| Some(run.conflict_count), number);
        let [own_retries, its_retries] = both(|run| Some(run.retry_count), number);
        let [own_leaked, its_leaked] = both(|run| Some(run.leaked_count), number);
        table.row([
            cell.key.allocator.clone(),
            cell.key.addresses.clone(),
            cell.key.stack.clone(),
            factor.map_or_else(|| "never ends".to_owned(), ratio),
            time(subject.all_running(), subject),
            time(cell.all_running(), cell),
            own_requests,
            its_requests,
            own_conflicts,
            its_conflicts,
            own_retries,
            its_retries,
            own_leaked,
            its_leaked,
        ]);
    }
    table
}

/// Causes of each allocator's lowest seed, side by side.
fn causes(runs: &ProfileRuns, addresses: &str, which: Option<Which>) -> Table {
    let mut examples: Vec<(&str, &Attribution)> = Vec::new();
    for name in runs.allocators() {
        let key = CellKey::new(name, addresses, PUBLISHED_STACK);
        let example = runs.cell(&key).and_then(|cell| cell.example.as_deref());
        examples.extend(example.map(|record| (name, &record.attribution)));
    }
    if examples.is_empty() {
        return Table::new(&[]);
    }
    causes_side_by_side(&examples, which)
}

/// The two cells that were published in both orders. Shape: a row for each profile with both.
fn exchanged(comparison: &Comparison) -> Table {
    let mut table = Table::new(&[
        ("profile", Align::Left),
        ("Cilium", Align::Right),
        ("table: 215 s", Align::Right),
        ("figure: 322 s", Align::Right),
        ("Calico", Align::Right),
        ("table: 322 s", Align::Right),
        ("figure: 215 s", Align::Right),
        ("slower", Align::Left),
    ]);
    for runs in &comparison.profiles {
        let times = EXCHANGED.map(|cell| {
            let key = CellKey::new(cell.allocator, Spare::Ample.as_str(), PUBLISHED_STACK);
            let found = runs.cell(&key).and_then(|cell| cell.all_running().median);
            found.map(|found| (found, cell))
        });
        let [Some(cilium), Some(calico)] = times else {
            continue;
        };
        let error = |found: u64, at_s: u32| {
            let ppm = deviation_ppm(found, u64::from(at_s) * 1_000_000_000);
            ppm.map_or_else(|| "-".to_owned(), deviation)
        };
        let cells = |(found, cell): (u64, Exchanged)| {
            [
                seconds(found),
                error(found, cell.table_s),
                error(found, cell.figure_s),
            ]
        };
        // A difference below one hundredth counts as equal.
        let slower = if cilium.0.abs_diff(calico.0) < calico.0 / 100 {
            "equal"
        } else if cilium.0 > calico.0 {
            "Cilium, as in the figure"
        } else {
            "Calico, as in the table"
        };
        let row = [
            vec![runs.profile.clone()],
            cells(cilium).to_vec(),
            cells(calico).to_vec(),
        ];
        table.row(row.concat().into_iter().chain([slower.to_owned()]));
    }
    table
}

/// Each profile's error in each published cell. Shape: a row for each profile.
fn profiles(judgements: &[Judgement]) -> Table {
    let cells: Vec<&Cell> = CELLS
        .iter()
        .filter(|cell| {
            !matches!(cell.published, Published::NotApplicable)
                && judgements
                    .iter()
                    .any(|judgement| judgement.cells.iter().any(|judged| judged.cell == *cell))
        })
        .collect();
    if cells.is_empty() {
        return Table::new(&[]);
    }
    let titles: Vec<String> = cells
        .iter()
        .map(|cell| format!("{} {}", cell.allocator, cell.spare.as_str()))
        .collect();
    let mut columns = vec![("profile", Align::Left)];
    columns.extend(titles.iter().map(|title| (&**title, Align::Right)));
    columns.push(("worst cell not fitted", Align::Right));
    let mut table = Table::new(&columns);
    for judgement in judgements {
        let errors = cells.iter().map(|cell| {
            let found = judgement.cells.iter().find(|judged| judged.cell == *cell);
            found.map_or_else(
                || "no run".to_owned(),
                |judged| {
                    let error = match (judged.cell.published, judged.verdict) {
                        (Published::Failure, Verdict::Outside(_)) => failures(judged.found),
                        (_, verdict) => error_text(verdict),
                    };
                    if judged.fitted_on {
                        format!("({error})")
                    } else {
                        error
                    }
                },
            )
        });
        let worst = judgement.worst().map_or_else(
            || "-".to_owned(),
            |judged| {
                let error = judged.error_ppm().map_or("never".to_owned(), percent);
                format!("{} {error}", judged.cell.allocator)
            },
        );
        table.row(
            std::iter::once(judgement.profile.clone())
                .chain(errors)
                .chain([worst]),
        );
    }
    table
}

/// How often runs of a cell failed, if a failure was published and not every run fails.
pub(super) fn failures(found: Spread) -> String {
    format!("fails in {} of {}", found.never, found.count)
}

fn error_text(verdict: Verdict) -> String {
    match verdict {
        Verdict::Within(Some(ppm)) | Verdict::Outside(Some(ppm)) => deviation(ppm),
        Verdict::Within(None) => "as published".to_owned(),
        Verdict::Outside(None) => "NOT as published".to_owned(),
        Verdict::NotJudged => "-".to_owned(),
    }
}

fn left_out(judgements: &[Judgement]) -> Table {
    let mut table = Table::new(&[
        ("left out", Align::Left),
        ("profile that the others choose", Align::Left),
        ("published", Align::Right),
        ("predicted", Align::Right),
        ("error", Align::Right),
    ]);
    for left in leave_one_out(judgements) {
        let Published::Seconds(at_s) = left.cell.published else {
            continue;
        };
        table.row([
            format!("{} {}", left.cell.allocator, left.cell.spare.as_str()),
            left.profile,
            format!("{at_s} s"),
            left.judged.found.median.map_or("never".to_owned(), seconds),
            error_text(left.judged.verdict),
        ]);
    }
    table
}

/// Berth over the floor, seed by seed, in one cell; none without both.
pub fn over_the_floor(runs: &ProfileRuns, key: &CellKey) -> Option<Spread> {
    let (subject, floor) = (runs.cell(&key.with(SUBJECT))?, runs.cell(&key.with(FLOOR))?);
    Some(paired(subject, floor))
}
