//! A committed expectation: what a comparison of few seeds must give, cell by cell. The simulation
//! is deterministic, so any other number is a change of behavior that somebody must look at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Comparison, Judgement};
use crate::quantity::seconds;

/// The schema of an expectation.
pub const SCHEMA: &str = "drydock.dev/compare-expectation/v1";

/// What is expected of one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedCell {
    /// Median time until all Pods ran, in ms; null if they never do.
    pub median_ms: Option<u64>,
    /// Requests of the allocator per Pod, median, in thousandths.
    pub per_pod_milli: Option<u64>,
    /// Pods that ran at the end, lowest of the seeds.
    pub pods_running: u64,
}

/// What is expected of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// [`SCHEMA`], always.
    pub schema: String,
    /// Seeds of each cell, as a count from the first.
    pub seed_count: usize,
    /// Cells by profile and by `allocator addresses stack`.
    pub profiles: BTreeMap<String, BTreeMap<String, ExpectedCell>>,
    /// Published cells that lie outside their band, by profile: known, and not hidden.
    pub outside: BTreeMap<String, Vec<String>>,
}

impl Expectation {
    /// What a comparison gave.
    pub fn of(comparison: &Comparison) -> Self {
        let mut profiles = BTreeMap::new();
        let mut outside = BTreeMap::new();
        for runs in &comparison.profiles {
            let cells = runs.cells.iter().filter(|cell| !cell.runs.is_empty());
            let cells = cells.map(|cell| {
                let requests = cell.runs.iter().map(|run| run.per_pod_milli);
                let expected = ExpectedCell {
                    median_ms: cell.all_running().median.map(|ns| ns / 1_000_000),
                    per_pod_milli: super::Spread::of(requests).median,
                    pods_running: cell
                        .runs
                        .iter()
                        .map(|run| run.pods_running)
                        .min()
                        .unwrap_or_default(),
                };
                (cell.key.to_string(), expected)
            });
            profiles.insert(runs.profile.clone(), cells.collect());
            let judgement = Judgement::of(runs);
            let missed = judgement
                .outside()
                .map(|judged| format!("{} {}", judged.cell.allocator, judged.cell.spare.as_str()));
            outside.insert(runs.profile.clone(), missed.collect());
        }
        Self {
            schema: SCHEMA.to_owned(),
            seed_count: comparison.seeds.len(),
            profiles,
            outside,
        }
    }

    /// The expectation as JSON, newline at end.
    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("an expectation has string keys alone");
        text.push('\n');
        text
    }

    /// Reads an expectation.
    /// Errors: not JSON of this schema, in words.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let expectation: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if expectation.schema == SCHEMA {
            Ok(expectation)
        } else {
            Err(format!(
                "schema is `{}`, not `{SCHEMA}`",
                expectation.schema
            ))
        }
    }

    /// What a comparison gives otherwise than expected, one line each; of cells and profiles that
    /// it did not run nothing is said.
    pub fn drift(&self, found: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.seed_count != found.seed_count {
            lines.push(format!(
                "{} seeds a cell, expected {}",
                found.seed_count, self.seed_count
            ));
            return lines;
        }
        for (profile, cells) in &found.profiles {
            let Some(expected) = self.profiles.get(profile) else {
                lines.push(format!("profile {profile}: nothing is expected of it"));
                continue;
            };
            for (key, cell) in cells {
                match expected.get(key) {
                    None => lines.push(format!("{profile}, {key}: nothing is expected of it")),
                    Some(wanted) if wanted == cell => {}
                    Some(wanted) => lines.push(format!(
                        "{profile}, {key}: {}, expected {}",
                        cell.text(),
                        wanted.text()
                    )),
                }
            }
        }
        lines
    }
}

impl ExpectedCell {
    fn text(&self) -> String {
        let time = self.median_ms.map_or_else(
            || "never".to_owned(),
            |ms| format!("{} ({ms} ms)", seconds(ms * 1_000_000)),
        );
        let requests = self
            .per_pod_milli
            .map_or("-".to_owned(), |milli| milli.to_string());
        format!(
            "{time}, {requests} requests per 1000 Pods, {} Running",
            self.pods_running
        )
    }
}
