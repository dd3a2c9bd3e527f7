//! All allocators beside the published table: what each run contributes, the spread over paired
//! seeds, the verdict on each profile, and all of it as text, Markdown, HTML and JSON. It never
//! starts a run.

pub mod expectation;
pub mod figures;
pub mod html;
pub mod judge;
pub mod outside;
pub mod page;
pub mod spread;
pub mod tables;
mod waypoints;

pub use self::expectation::Expectation;
pub use self::figures::{CellKey, Figures};
pub use self::judge::{JudgedCell, Judgement, leave_one_out};
pub use self::outside::{chosen, outside};
pub use self::spread::Spread;

use drydock_traces::run_record::RunRecord;
use drydock_traces::seed::Seed;
use serde::Serialize;

/// The schema of the JSON that a comparison writes.
pub const SCHEMA: &str = "drydock.dev/compare/v1";

/// Runs of one cell. Shape: in the order of the seeds.
#[derive(Clone, Debug, Serialize)]
pub struct CellRuns {
    /// Which cell.
    #[serde(flatten)]
    pub key: CellKey,
    /// What each run contributes.
    pub runs: Vec<Figures>,
    /// The run of the lowest seed, for plots and attribution.
    #[serde(skip)]
    pub example: Option<Box<RunRecord>>,
}

impl CellRuns {
    /// Spread of the time until all Pods ran; a run that never got there counts as infinite.
    pub fn all_running(&self) -> Spread {
        Spread::of(self.runs.iter().map(|run| run.all_running_ns))
    }
}

/// All cells under one profile.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileRuns {
    /// Name of the profile.
    pub profile: String,
    /// The number that was fitted, `key = value unit`; none if nothing was.
    pub fitted: Option<String>,
    /// Shape: in the order of the allocators, then addresses, then stacks.
    pub cells: Vec<CellRuns>,
}

impl ProfileRuns {
    /// The runs of a cell.
    pub fn cell(&self, key: &CellKey) -> Option<&CellRuns> {
        self.cells.iter().find(|cell| cell.key == *key)
    }

    /// Allocators with at least one run. Shape: in the order of the cells, each once.
    pub fn allocators(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for cell in self.cells.iter().filter(|cell| !cell.runs.is_empty()) {
            if !names.contains(&&*cell.key.allocator) {
                names.push(&cell.key.allocator);
            }
        }
        names
    }
}

/// A comparison, whole or interrupted.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`], always.
    pub schema: String,
    /// The seeds that were asked for.
    pub seeds: Vec<Seed>,
    /// Runs that were asked for.
    pub wanted: u64,
    /// Runs that are done.
    pub done: u64,
    /// Runs that the testbed could not carry out, in words.
    pub errors: Vec<String>,
    /// Shape: in the order asked for.
    pub profiles: Vec<ProfileRuns>,
}

impl Comparison {
    /// The comparison as JSON, newline at end.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("a comparison has string keys and finite numbers");
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests;
