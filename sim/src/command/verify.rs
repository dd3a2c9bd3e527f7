//! `verify`: one seed in two fresh processes, or against a trace of another machine; names the
//! first event that differs.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use drydock_traces::run_record::ExitClass;

use crate::cli::{ScenarioArgs, VerifyArgs};
use crate::command::{UsageError, print, this_program};
use crate::scenario::Scenario;

/// Lines shown before the first difference.
const LINES_BEFORE: usize = 5;

/// Runs the command.
/// Errors: usage, files, a run that failed.
pub fn main(args: &VerifyArgs) -> anyhow::Result<ExitClass> {
    // Wrong arguments are told once, by this process.
    Scenario::from_spec(&args.scenario.spec())?;
    let folder = tempfile::tempdir().context("cannot make a folder for the traces")?;
    let first = folder.path().join("first.jsonl");
    trace(&args.scenario, &first, &[])?;
    let second = match &args.against {
        Some(path) if !path.is_file() => {
            return Err(UsageError(format!("{}: no such trace", path.display())).into());
        }
        Some(path) => path.clone(),
        None => {
            let path = folder.path().join("second.jsonl");
            // Another environment, folder and time zone must not matter.
            let environment = [
                ("TZ", "Pacific/Chatham"),
                ("LC_ALL", "C"),
                ("DRYDOCK_PAD", "x"),
            ];
            trace(&args.scenario, &path, &environment)?;
            path
        }
    };
    match first_difference(&first, &second)? {
        None => {
            let events = BufReader::new(File::open(&first)?).lines().count();
            print(&format!(
                "same: {events} events in both, seed {}\n",
                args.scenario.seed
            ))?;
            Ok(ExitClass::Ok)
        }
        Some(difference) => {
            print(&difference.to_string())?;
            Ok(ExitClass::NotDeterministic)
        }
    }
}

/// Runs the scenario in a process of its own, tracing into a file.
fn trace(scenario: &ScenarioArgs, into: &Path, environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut command = this_program()?;
    command
        .arg("run")
        .arg("--quiet")
        .arg("--trace")
        .arg(into)
        .args(arguments(scenario));
    command
        .envs(environment.iter().copied())
        .stdout(std::process::Stdio::null());
    let status = command.status().context("cannot start a second process")?;
    match status.code() {
        Some(0 | 2) => Ok(()),
        code => anyhow::bail!("a run failed in its own process (exit code {code:?})"),
    }
}

/// The scenario as arguments again.
pub fn arguments(scenario: &ScenarioArgs) -> Vec<String> {
    let mut arguments: Vec<String> = scenario
        .files
        .iter()
        .map(|file| absolute(file).display().to_string())
        .collect();
    arguments.push(format!("--allocator={}", scenario.allocator.name()));
    if let Some(workload) = &scenario.workload {
        arguments.push(format!("--workload={workload}"));
    }
    if let Some(addresses) = scenario.addresses {
        arguments.push(format!("--addresses={addresses}"));
    }
    if let Some(stack) = scenario.stack {
        arguments.push(format!("--stack={stack}"));
    }
    arguments.push(format!("--seed={}", scenario.seed));
    arguments.push(format!("--nodes={}", scenario.nodes));
    arguments.push(format!("--parameters={}", scenario.parameters));
    arguments.extend(scenario.set.iter().map(|set| format!("--set={set}")));
    arguments.push(format!("--until={}", scenario.until));
    arguments
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Where two traces part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// 1-based number of the first event that differs.
    pub event: usize,
    /// Events before it, the same in both.
    pub before: Vec<String>,
    /// The event in the first trace; none where it ends.
    pub first: Option<String>,
    /// The event in the second trace; none where it ends.
    pub second: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "NOT DETERMINISTIC: event {} differs", self.event)?;
        for line in &self.before {
            writeln!(f, "  both    {line}")?;
        }
        let or_end = |line: &Option<String>| line.clone().unwrap_or("(the trace ends)".to_owned());
        writeln!(f, "  first   {}", or_end(&self.first))?;
        writeln!(f, "  second  {}", or_end(&self.second))
    }
}

/// Compares two traces line by line, in constant memory.
/// Errors: a file that cannot be read.
pub fn first_difference(first: &Path, second: &Path) -> anyhow::Result<Option<Difference>> {
    let open = |path: &Path| -> anyhow::Result<_> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(BufReader::new(file).lines())
    };
    let (mut one, mut other) = (open(first)?, open(second)?);
    let mut before: std::collections::VecDeque<String> = std::collections::VecDeque::new();
    for event in 1.. {
        let (a, b) = (one.next().transpose()?, other.next().transpose()?);
        match (a, b) {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) if a == b => {
                before.push_back(a);
                if before.len() > LINES_BEFORE {
                    before.pop_front();
                }
            }
            (first, second) => {
                return Ok(Some(Difference {
                    event,
                    before: before.into(),
                    first,
                    second,
                }));
            }
        }
    }
    unreachable!("a file has an end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(one: &str, other: &str) -> Option<Difference> {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&a, one).unwrap();
        std::fs::write(&b, other).unwrap();
        first_difference(&a, &b).unwrap()
    }

    #[test]
    fn equal_traces_have_no_difference() {
        assert_eq!(compare("1\n2\n3\n", "1\n2\n3\n"), None);
    }

    #[test]
    fn the_first_differing_event_is_named_with_what_came_before() {
        let found = compare("1\n2\n3\n4\n", "1\n2\nx\n4\n").unwrap();
        assert_eq!(found.event, 3);
        assert_eq!(found.before, ["1", "2"]);
        assert_eq!(
            (found.first.as_deref(), found.second.as_deref()),
            (Some("3"), Some("x"))
        );
    }

    #[test]
    fn a_trace_that_ends_early_differs_where_it_ends() {
        let found = compare("1\n2\n", "1\n").unwrap();
        assert_eq!((found.event, found.second), (2, None));
    }
}
