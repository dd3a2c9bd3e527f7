//! How a run record becomes JSON and comes back, and what a consistent one is. No file access:
//! callers pass text.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{PodPath, PodTimes, RunRecord};

/// The schema that this crate writes and reads; `schema/run-record.v2.json` describes it.
pub const SCHEMA: &str = "drydock.dev/run-record/v2";

/// Why a text is not a run record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or a field is missing, unknown or of another type.
    #[error("not a run record: {0}")]
    Syntax(String),
    /// Another schema.
    #[error("schema is `{found}`, this program reads `{SCHEMA}`")]
    Schema {
        /// What the text says.
        found: String,
    },
    /// Two fields contradict each other.
    #[error("{field}: {reason}")]
    Inconsistent {
        /// Key path of the field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl RunRecord {
    /// The record as JSON, two spaces of indent, keys in the order of the schema, newline at end.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("a record has string keys and finite numbers");
        text.push('\n');
        text
    }

    /// The record as one line of JSON, without a newline.
    pub fn to_json_line(&self) -> String {
        serde_json::to_string(self).expect("a record has string keys and finite numbers")
    }

    /// The part that two runs of one seed must have in common: everything but `host`.
    pub fn comparable_json(&self) -> String {
        let mut value =
            serde_json::to_value(self).expect("a record has string keys and finite numbers");
        if let Some(fields) = value.as_object_mut() {
            fields.remove("host");
        }
        format!("{value:#}\n")
    }

    /// Reads a record and checks that its fields agree.
    ///
    /// Errors: [`RecordError`] names the line, the field or the contradiction.
    pub fn from_json(text: &str) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            schema: String,
        }
        let syntax = |error: serde_json::Error| RecordError::Syntax(error.to_string());
        let version: Version = serde_json::from_str(text).map_err(syntax)?;
        if version.schema != SCHEMA {
            return Err(RecordError::Schema {
                found: version.schema,
            });
        }
        let record: Self = serde_json::from_str(text).map_err(syntax)?;
        record.check()?;
        Ok(record)
    }

    /// Checks that the fields of the record agree with each other.
    ///
    /// Errors: [`RecordError::Inconsistent`] names the first field that does not.
    pub fn check(&self) -> Result<(), RecordError> {
        let outcome = &self.outcome;
        let running = self
            .pods
            .iter()
            .filter(|pod| pod.running_ns.is_some())
            .count() as u64;
        ensure(
            outcome.pods_running <= outcome.pods_total,
            "outcome.pods_running",
            || format!("{} of {} Pods", outcome.pods_running, outcome.pods_total),
        )?;
        ensure(
            outcome.all_running_s.is_none() || outcome.pods_running == outcome.pods_total,
            "outcome.all_running_s",
            || "set although not all Pods run".to_owned(),
        )?;
        ensure(
            self.running_curve_ns.len() as u64 == running,
            "running_curve_ns",
            || {
                format!(
                    "{} entries for {running} Pods with a Running time",
                    self.running_curve_ns.len()
                )
            },
        )?;
        ensure(
            self.running_curve_ns.is_sorted(),
            "running_curve_ns",
            || "not ascending".to_owned(),
        )?;
        for (index, pod) in self.pods.iter().enumerate() {
            let times = [
                pod.created_ns,
                pod.bound_ns,
                pod.add_start_ns,
                pod.add_end_ns,
            ];
            let known = times.into_iter().chain([pod.running_ns]).flatten();
            ensure(known.is_sorted(), &format!("pods[{index}]"), || {
                format!("the times of {}/{} run backwards", pod.namespace, pod.name)
            })?;
        }
        for (index, path) in self.attribution.paths.iter().enumerate() {
            self.check_path(index, path)?;
        }
        if let Some(latency) = &self.add_latency {
            let steps = [
                latency.min_ns,
                latency.p50_ns,
                latency.p90_ns,
                latency.p99_ns,
                latency.p99_9_ns,
                latency.max_ns,
            ];
            ensure(steps.is_sorted(), "add_latency", || {
                "percentiles not ascending".to_owned()
            })?;
        }
        let share = self.answered_without_apiserver;
        ensure(
            share.count <= share.of,
            "answered_without_apiserver",
            || format!("{} of {}", share.count, share.of),
        )?;
        ensure(
            self.api.per_pod.per_pod_milli == self.api.per_pod.computed_milli(),
            "api.per_pod.per_pod_milli",
            || format!("the counts give {:?}", self.api.per_pod.computed_milli()),
        )
    }

    /// The segments of a path cover the time until Running, or until the end of the run.
    fn check_path(&self, index: usize, path: &PodPath) -> Result<(), RecordError> {
        let field = format!("attribution.paths[{index}]");
        let mut at_ns = 0;
        for segment in &path.segments {
            ensure(
                segment.start_ns == at_ns && segment.end_ns > at_ns,
                &field,
                || format!("a gap, an overlap or nothing at {at_ns} ns"),
            )?;
            at_ns = segment.end_ns;
        }
        let named = |pod: &&PodTimes| pod.namespace == path.namespace && pod.name == path.name;
        let end_ns = self
            .pods
            .iter()
            .find(named)
            .and_then(|pod| pod.running_ns)
            .unwrap_or(self.outcome.ended_at_ns);
        ensure(at_ns == end_ns, &field, || {
            format!("its segments end at {at_ns} ns, the Pod at {end_ns} ns")
        })
    }
}

fn ensure(holds: bool, field: &str, reason: impl FnOnce() -> String) -> Result<(), RecordError> {
    if holds {
        Ok(())
    } else {
        Err(RecordError::Inconsistent {
            field: field.to_owned(),
            reason: reason(),
        })
    }
}

/// Reads a value or `null`; a missing field stays an error, unlike with a plain `Option`.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}

/// A simulated time in integer nanoseconds that people read in seconds: a JSON number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds {
    /// The time in nanoseconds; exact in JSON below 2^53 (104 days).
    pub ns: u64,
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.ns as f64 / 1e9)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if !(0.0..1e9).contains(&seconds) {
            return Err(serde::de::Error::custom(
                "a time lies between 0 and 1e9 seconds",
            ));
        }
        Ok(Self {
            ns: (seconds * 1e9).round() as u64,
        })
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.ns.saturating_add(500_000) / 1_000_000;
        write!(formatter, "{}.{:03} s", ms / 1000, ms % 1000)
    }
}

/// A 128-bit hash, written as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub u128);

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let clean = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(&text, 16)
            .ok()
            .filter(|_| clean)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a hash: 32 hex digits are"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}
