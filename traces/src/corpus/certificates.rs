//! The certificates of stored runs: how many events each run has, and the hash over them. It holds
//! the list and compares two of them; who makes the runs is the simulator.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::run_record::Digest;

/// The schema of lists that this crate writes and reads.
pub const SCHEMA: &str = "drydock.dev/certificates/v1";

/// What stands above the list.
const HEAD: &str = "\
# One line per run: how many events it has, the hash over them, and the command that shows it again.
# `cargo sim certify` compares, `cargo sim certify --write` writes. CHANGES.md says why a line changed.
";

/// The certificate of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certified {
    /// Events in the log.
    #[serde(rename = "events")]
    pub event_count: u64,
    /// Hash over every event.
    #[serde(rename = "hash")]
    pub event_log_hash: Digest,
    /// The command line that makes the run, from the project's root.
    pub command: String,
}

impl fmt::Display for Certified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} events, hash {}",
            self.event_count, self.event_log_hash
        )
    }
}

/// Certificates by the name of their run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Shape: names of letters, digits and hyphens.
    pub runs: BTreeMap<String, Certified>,
}

/// Why a text is not a list of certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificatesError {
    /// Not TOML, or a key is missing, unknown, given twice or of another type.
    #[error("not a list of certificates: {0}")]
    Syntax(String),
    /// Another schema.
    #[error("schema is `{found}`, this program reads `{SCHEMA}`")]
    Schema {
        /// What the file says.
        found: String,
    },
}

/// A run whose certificate differs between two lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The run.
    pub name: String,
    /// Its certificate so far; none for a new run.
    pub from: Option<Certified>,
    /// Its certificate now; none for a run that is gone.
    pub to: Option<Certified>,
}

impl Certificates {
    /// Reads a list.
    ///
    /// Errors: [`CertificatesError`] names the line or the schema.
    pub fn from_toml(text: &str) -> Result<Self, CertificatesError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            schema: String,
            runs: BTreeMap<String, Certified>,
        }
        let file: File =
            toml::from_str(text).map_err(|error| CertificatesError::Syntax(error.to_string()))?;
        if file.schema != SCHEMA {
            return Err(CertificatesError::Schema { found: file.schema });
        }
        Ok(Self { runs: file.runs })
    }

    /// The list as TOML that [`Certificates::from_toml`] reads back. Shape: one line per run, by
    /// name.
    pub fn to_toml(&self) -> String {
        let lines = self
            .runs
            .iter()
            .map(|(name, run)| format!("{}\n", line(name, run)));
        let head = format!("{HEAD}schema = \"{SCHEMA}\"\n\n[runs]\n");
        std::iter::once(head).chain(lines).collect()
    }

    /// Where another list differs from this one. Shape: by name.
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        let mut names: Vec<&String> = self.runs.keys().chain(now.runs.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let changes = names.into_iter().map(|name| Change {
            name: name.clone(),
            from: self.runs.get(name).cloned(),
            to: now.runs.get(name).cloned(),
        });
        changes.filter(|change| change.from != change.to).collect()
    }

    /// The runs for which `keep` holds.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        let runs = self.runs.iter().filter(|(name, _)| keep(name));
        Self {
            runs: runs
                .map(|(name, run)| (name.clone(), run.clone()))
                .collect(),
        }
    }

    /// The list after these changes.
    #[must_use]
    pub fn with(&self, changes: &[Change]) -> Self {
        let mut runs = self.runs.clone();
        for change in changes {
            match &change.to {
                Some(run) => runs.insert(change.name.clone(), run.clone()),
                None => runs.remove(&change.name),
            };
        }
        Self { runs }
    }
}

/// The line of a run in the list.
fn line(name: &str, run: &Certified) -> String {
    let command = toml::Value::String(run.command.clone());
    format!(
        "{name} = {{ events = {}, hash = \"{}\", command = {command} }}",
        run.event_count, run.event_log_hash
    )
}

/// Says which run, from what to what, and gives the line to commit.
impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => {
                writeln!(formatter, "CHANGED {name}: from {from} to {to}")?;
                if from.command != to.command {
                    writeln!(formatter, "  its command was `{}`", from.command)?;
                }
                write!(formatter, "{}", line(name, to))
            }
            (None, Some(to)) => {
                writeln!(formatter, "NEW {name}: {to}, and the list has no such run")?;
                write!(formatter, "{}", line(name, to))
            }
            (Some(from), None) => write!(
                formatter,
                "GONE {name}: {from} in the list, and no run has this name: its line goes"
            ),
            (None, None) => write!(formatter, "{name}: in neither list"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified(event_count: u64, hash: u128) -> Certified {
        Certified {
            event_count,
            event_log_hash: Digest(hash),
            command: "cargo sim run --seed 1".to_owned(),
        }
    }

    fn list(runs: &[(&str, Certified)]) -> Certificates {
        let runs = runs.iter().cloned();
        Certificates {
            runs: runs.map(|(name, run)| (name.to_owned(), run)).collect(),
        }
    }

    #[test]
    fn a_list_is_read_back_as_it_was_written_and_has_one_line_per_run() {
        let quoted = Certified {
            command: "cargo sim run --set \"a=\\b\"".to_owned(),
            ..certified(7, 8)
        };
        let list = list(&[("b", certified(1, u128::MAX)), ("a-1", quoted)]);
        let text = list.to_toml();
        assert_eq!(Certificates::from_toml(&text).as_ref(), Ok(&list), "{text}");
        let (_, lines) = text.split_once("[runs]\n").unwrap();
        let names: Vec<_> = lines.lines().map(|line| line.split(' ').next()).collect();
        assert_eq!(names, [Some("a-1"), Some("b")]);
    }

    #[test]
    fn a_changed_certificate_is_told_with_its_run_both_values_and_the_line_to_commit() {
        let before = list(&[("same", certified(1, 1)), ("moved", certified(2, 0xaa))]);
        let after = list(&[("same", certified(1, 1)), ("moved", certified(3, 0xbb))]);
        let changes = before.changes(&after);
        let [change] = &changes[..] else {
            panic!("{changes:?}")
        };
        let (from, to) = (format!("{:032x}", 0xaa), format!("{:032x}", 0xbb));
        assert_eq!(
            change.to_string(),
            format!(
                "CHANGED moved: from 2 events, hash {from} to 3 events, hash {to}\n\
                 moved = {{ events = 3, hash = \"{to}\", command = \"cargo sim run --seed 1\" }}"
            )
        );
        assert!(
            after
                .to_toml()
                .contains(&line("moved", &certified(3, 0xbb)))
        );
        assert_eq!(before.with(&changes), after);
    }

    #[test]
    fn an_equal_hash_over_another_number_of_events_is_a_change() {
        let (before, after) = (
            list(&[("a", certified(1, 1))]),
            list(&[("a", certified(2, 1))]),
        );
        assert_eq!(before.changes(&after).len(), 1);
    }

    #[test]
    fn a_run_that_is_in_one_list_alone_is_told() {
        let before = list(&[("old", certified(1, 1))]);
        let after = list(&[("young", certified(2, 2))]);
        let changes = before.changes(&after);
        let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2);
        assert!(told[0].starts_with("GONE old: 1 events"), "{}", told[0]);
        assert!(told[1].starts_with("NEW young: 2 events"), "{}", told[1]);
        assert!(told[1].ends_with(&line("young", &certified(2, 2))));
        assert_eq!(before.with(&changes), after);
    }

    #[test]
    fn a_text_of_another_schema_and_a_run_given_twice_are_refused() {
        let text = list(&[("a", certified(1, 1))]).to_toml();
        let other = text.replace("/v1", "/v9");
        let error = Certificates::from_toml(&other).unwrap_err();
        assert!(error.to_string().contains("/v9"), "{error}");
        let twice = format!("{text}{}\n", line("a", &certified(1, 1)));
        let error = Certificates::from_toml(&twice).unwrap_err();
        assert!(error.to_string().contains("duplicate"), "{error}");
    }
}
