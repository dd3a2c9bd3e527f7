//! How each profile stands to the published table: its error in every timed cell, its worst cell
//! that it was not fitted on, and what a choice among the profiles is worth in a cell that the
//! choice did not see.

use drydock_traces::run_record::Stack;

use super::{CellKey, ProfileRuns, Spread};
use crate::reference::{CELLS, Cell, FITTED_ON, Published, Verdict};

/// The stack that the published numbers are of: a figure published later says so.
pub const PUBLISHED_STACK: Stack = Stack::Dual;

/// A published cell beside the runs of a profile.
#[derive(Clone, Debug)]
pub struct JudgedCell {
    /// The published one.
    pub cell: &'static Cell,
    /// Time until all Pods ran.
    pub found: Spread,
    /// Of the median.
    pub verdict: Verdict,
    /// The profile's number was fitted on this cell.
    pub fitted_on: bool,
}

impl JudgedCell {
    /// How far the median lies from the published number; none where only one of them is a time.
    /// Units: parts per million.
    pub fn error_ppm(&self) -> Option<u64> {
        match self.verdict {
            Verdict::Within(ppm) => Some(ppm.unwrap_or(0).unsigned_abs()),
            Verdict::Outside(ppm) => ppm.map(i64::unsigned_abs),
            Verdict::NotJudged => None,
        }
    }

    /// A time was published here.
    pub fn is_timed(&self) -> bool {
        matches!(self.cell.published, Published::Seconds(_))
    }
}

/// A profile beside the published table. Shape: cells with runs, in the order of the table.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Name of the profile.
    pub profile: String,
    /// Its cells.
    pub cells: Vec<JudgedCell>,
}

/// An error that ranks behind every other: a time was published and none was found.
const NEVER_PPM: u64 = u64::MAX;

impl Judgement {
    /// Judges a profile.
    pub fn of(runs: &ProfileRuns) -> Self {
        let cells = CELLS.iter().filter_map(|cell| {
            let key = CellKey::new(cell.allocator, cell.spare.as_str(), PUBLISHED_STACK);
            let runs_of_cell = runs.cell(&key).filter(|found| !found.runs.is_empty())?;
            let found = runs_of_cell.all_running();
            Some(JudgedCell {
                cell,
                found,
                verdict: cell.judge(found.median),
                fitted_on: runs.fitted.is_some() && (cell.allocator, cell.spare) == FITTED_ON,
            })
        });
        Self {
            profile: runs.profile.clone(),
            cells: cells.collect(),
        }
    }

    /// Timed cells that the profile was not fitted on, but one.
    fn free_cells<'a>(&'a self, without: Option<&'a Cell>) -> impl Iterator<Item = &'a JudgedCell> {
        self.cells.iter().filter(move |judged| {
            judged.is_timed() && !judged.fitted_on && Some(judged.cell) != without
        })
    }

    /// The cell with the largest error among those that the profile was not fitted on.
    pub fn worst(&self) -> Option<&JudgedCell> {
        self.free_cells(None)
            .max_by_key(|judged| judged.error_ppm().unwrap_or(NEVER_PPM))
    }

    /// The error of the worst cell, one left out. Units: parts per million.
    pub fn worst_ppm(&self, without: Option<&Cell>) -> Option<u64> {
        self.free_cells(without)
            .map(|judged| judged.error_ppm().unwrap_or(NEVER_PPM))
            .max()
    }

    /// Cells outside their band, those with a published failure included.
    pub fn outside(&self) -> impl Iterator<Item = &JudgedCell> {
        self.cells
            .iter()
            .filter(|judged| matches!(judged.verdict, Verdict::Outside(_)))
    }
}

/// The profile whose worst free cell is the best; of equal ones the first.
pub fn best(judgements: &[Judgement]) -> Option<&Judgement> {
    best_without(judgements, None)
}

fn best_without<'a>(judgements: &'a [Judgement], without: Option<&Cell>) -> Option<&'a Judgement> {
    // A profile that was cut short has fewer cells to be wrong in.
    let whole = judgements
        .iter()
        .map(|judgement| judgement.cells.len())
        .max();
    judgements
        .iter()
        .filter(|judgement| Some(judgement.cells.len()) == whole)
        .filter_map(|judgement| Some((judgement.worst_ppm(without)?, judgement)))
        .min_by_key(|(ppm, _)| *ppm)
        .map(|(_, judgement)| judgement)
}

/// A timed cell, the profile that the other cells prefer, and its error in this one.
#[derive(Clone, Debug)]
pub struct LeftOut {
    /// The cell.
    pub cell: &'static Cell,
    /// The profile that the others prefer.
    pub profile: String,
    /// Its cell.
    pub judged: JudgedCell,
}

/// Leaves each timed cell out in turn. Shape: in the order of the table.
pub fn leave_one_out(judgements: &[Judgement]) -> Vec<LeftOut> {
    let mut left = Vec::new();
    for cell in &CELLS {
        let fitted = (cell.allocator, cell.spare) == FITTED_ON;
        if fitted || !matches!(cell.published, Published::Seconds(_)) {
            continue;
        }
        let Some(chosen) = best_without(judgements, Some(cell)) else {
            continue;
        };
        if let Some(judged) = chosen.cells.iter().find(|judged| judged.cell == cell) {
            left.push(LeftOut {
                cell,
                profile: chosen.profile.clone(),
                judged: judged.clone(),
            });
        }
    }
    left
}
