//! How a run record becomes JSON and comes back, and what a consistent one is. No file access:
//! callers pass text.

use serde::Deserialize;

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
        self.check_outcome()?;
        self.check_curve()?;
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
        self.check_answers()
    }

    fn check_outcome(&self) -> Result<(), RecordError> {
        let outcome = &self.outcome;
        ensure(
            outcome.pods_running <= outcome.pods_total,
            "outcome.pods_running",
            || format!("{} of {} Pods", outcome.pods_running, outcome.pods_total),
        )?;
        ensure(
            outcome.all_running_s.is_none() || outcome.pods_running == outcome.pods_total,
            "outcome.all_running_s",
            || "set although not all Pods run".to_owned(),
        )
    }

    fn check_curve(&self) -> Result<(), RecordError> {
        let curve = &self.running_curve_ns;
        let ran = self.pods.iter().filter(|pod| pod.running_ns.is_some());
        let running = ran.count();
        ensure(curve.len() == running, "running_curve_ns", || {
            let entries = curve.len();
            format!("{entries} entries for {running} Pods with a Running time")
        })?;
        ensure(curve.is_sorted(), "running_curve_ns", || {
            "not ascending".to_owned()
        })
    }

    fn check_answers(&self) -> Result<(), RecordError> {
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
