//! `run`: one scenario, its record, its table and its plot.

use drydock_reports::plot::RunningPlot;
use drydock_reports::{explain, summary};
use drydock_traces::run_record::{ExitClass, RunRecord, Which};

use crate::cli::RunArgs;
use crate::command::{create, interrupt_flag, print, with_progress, write};
use crate::runner::RunOptions;
use crate::scenario::Scenario;

/// Runs the command.
/// Errors: usage, configuration, files, or the testbed's own.
pub fn main(args: &RunArgs) -> anyhow::Result<ExitClass> {
    let mut scenario = Scenario::from_spec(&args.scenario.spec())?;
    scenario.recreate = args.recreate;
    if !args.quiet {
        for entry in scenario.workload.not_simulated_groups() {
            let field = if entry.field.is_empty() {
                String::new()
            } else {
                format!(" {}", entry.field)
            };
            eprintln!(
                "not simulated: {}{field} (documents: {}, first {}): {}",
                entry.kind, entry.document_count, entry.first, entry.reason
            );
        }
    }
    let trace = args.trace.as_deref().map(create).transpose()?;
    let options = RunOptions {
        trace,
        interrupt: interrupt_flag(),
        explain: args
            .explain
            .clone()
            .filter(|name| path_of(name) == Which::Asked),
        ..RunOptions::default()
    };
    let record = with_progress(scenario, options, !args.quiet)?;
    if let Some(path) = &args.json {
        write(path, &record.to_json())?;
    }
    if let Some(path) = &args.svg {
        let plot = RunningPlot {
            title: "Pods Running over time",
            records: &[&record],
            measured: &[],
            marks: &[],
        };
        write(path, &plot.svg())?;
    }
    if args.json.as_deref() != Some(std::path::Path::new("-")) {
        let text = if args.quiet {
            line(&record)
        } else {
            summary::summary(&record)
        };
        print(&text)?;
        if let Some(name) = &args.explain {
            let explained = explain::explain(&record, path_of(name));
            print(&format!(
                "\n{}",
                explained.as_deref().unwrap_or("no Pod ran\n")
            ))?;
        }
    }
    Ok(record.outcome.exit_class)
}

/// Which start `--explain` means.
fn path_of(name: &str) -> Which {
    match name {
        "median" => Which::Median,
        "last" => Which::Last,
        _ => Which::Asked,
    }
}

/// The result in one line.
fn line(record: &RunRecord) -> String {
    let outcome = &record.outcome;
    let time = outcome
        .all_running_s
        .map_or("never".to_owned(), |seconds| seconds.to_string());
    format!(
        "{} {} {} seed {}: {}/{} Running, all after {time}, hash {}\n",
        record.scenario.allocator,
        record.scenario.addresses,
        record.scenario.stack,
        record.seed,
        outcome.pods_running,
        outcome.pods_total,
        record.certificate.event_log_hash
    )
}
