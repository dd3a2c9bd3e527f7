//! `replay`: a fault plan from a file, as it stands.

use anyhow::Context as _;
use drydock_reports::summary;
use drydock_traces::run_record::ExitClass;

use crate::cli::ReplayArgs;
use crate::command::{create, interrupt_flag, print, with_progress};
use crate::runner::RunOptions;
use crate::sweep::{findings, planned};

/// Runs the command.
/// Errors: usage, files, a plan that is wrong.
pub fn main(args: &ReplayArgs) -> anyhow::Result<ExitClass> {
    let file = args.plan.display().to_string();
    let text = std::fs::read_to_string(&args.plan).context(format!("cannot read {file}"))?;
    let (plan, scenario) = planned(&file, &text)?;
    print(&format!("{plan}\n"))?;
    let trace = args.trace.as_deref().map(create).transpose()?;
    let options = RunOptions {
        trace,
        interrupt: interrupt_flag(),
        ..RunOptions::default()
    };
    let record = with_progress(scenario, options, true)?;
    print(&summary::summary(&record))?;
    for (name, count) in findings(&record) {
        print(&format!("finding     {name}: {count}\n"))?;
    }
    Ok(record.outcome.exit_class)
}
