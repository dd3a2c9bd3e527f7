//! A measured curve of Pods Running over time: data from a real cluster, with its source.

use serde::{Deserialize, Serialize};

/// How Pods came to run on a real cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MeasuredCurve {
    /// Name for tables and legends.
    pub name: String,
    /// Where the numbers come from.
    pub source: String,
    /// What kind of numbers they are: `measured` or `cited`.
    pub kind: String,
    /// Pods of the workload.
    pub pod_count: u32,
    /// How often Running was read: no time is more exact than this.
    pub poll_ms: u64,
    /// Shape: ascending in both fields, not empty.
    #[serde(rename = "point")]
    pub points: Vec<CurvePoint>,
}

/// At this time, this many Pods ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CurvePoint {
    /// Pods that ran.
    pub running: u32,
    /// Time since the creation.
    pub at_ms: u64,
}

/// Why a text is not a curve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CurveError {
    /// Not TOML, or a key is missing, unknown or of another type.
    #[error("not a curve: {0}")]
    Syntax(String),
    /// The points do not ascend, or do not fit the workload.
    #[error("point {number}: {reason}")]
    Point {
        /// 1-based.
        number: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl MeasuredCurve {
    /// Reads a curve and checks its points.
    ///
    /// Errors: [`CurveError`] names the line or the point.
    pub fn from_toml(text: &str) -> Result<Self, CurveError> {
        let curve: Self =
            toml::from_str(text).map_err(|error| CurveError::Syntax(error.to_string()))?;
        if curve.points.is_empty() {
            return Err(CurveError::Point {
                number: 1,
                reason: "a curve has at least one",
            });
        }
        for (index, point) in curve.points.iter().enumerate() {
            let refuse = |reason| {
                Err(CurveError::Point {
                    number: index + 1,
                    reason,
                })
            };
            if point.running == 0 || point.running > curve.pod_count {
                return refuse("`running` lies between 1 and `pod-count`");
            }
            if let Some(before) = index.checked_sub(1).map(|before| curve.points[before])
                && (before.running >= point.running || before.at_ms > point.at_ms)
            {
                return refuse("both fields ascend");
            }
        }
        Ok(curve)
    }
}
