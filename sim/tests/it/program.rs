//! How the tests run the program: in this process from its arguments, or as a process of its own.
//! It asserts nothing about a run.

use std::process::{Command, Output};

use clap::Parser;
use drydock::cli::{Cli, Command as Verb};
use drydock::runner::{RunOptions, run};
use drydock::scenario::Scenario;
use drydock_traces::run_record::RunRecord;

/// The scenario that `drydock run ARGUMENTS` runs.
pub(crate) fn scenario(arguments: &[&str]) -> Scenario {
    let cli = Cli::try_parse_from(["drydock", "run"].iter().chain(arguments)).unwrap();
    let Verb::Run(run) = cli.command else {
        unreachable!("the first argument is `run`")
    };
    Scenario::from_spec(&run.scenario.spec()).unwrap()
}

/// The record of `drydock run ARGUMENTS`, made in this process.
pub(crate) fn record(arguments: &[&str]) -> RunRecord {
    run(scenario(arguments), RunOptions::default(), |_| ()).unwrap()
}

/// The line that shows a run again.
pub(crate) fn line(arguments: &[&str]) -> String {
    format!("cargo sim run {}", arguments.join(" "))
}

/// The program, to be started in a process of its own.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
    command.args(arguments);
    command
}

/// What a process of its own wrote, and how it ended.
pub(crate) fn output(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

/// Standard output as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The middle of an odd number of values, the upper one of an even number.
pub(crate) fn median<T: Ord + Copy>(values: impl IntoIterator<Item = T>) -> T {
    let mut sorted: Vec<T> = values.into_iter().collect();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
