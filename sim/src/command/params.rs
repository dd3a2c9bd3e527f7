//! `params`: every constant with value, unit, kind, range and source.

use drydock_traces::run_record::ExitClass;

use crate::cli::ParamsArgs;
use crate::command::print;
use crate::parameters::RunParameters;

/// Runs the command.
/// Errors: an unknown set or key, an unreadable value.
pub fn main(args: &ParamsArgs) -> anyhow::Result<ExitClass> {
    let mut table = RunParameters::load(&args.parameters, &args.set)?.table;
    if let Some(filter) = &args.filter {
        table.entries.retain(|key, _| key.contains(filter));
    }
    print(&table.to_string())?;
    Ok(ExitClass::Ok)
}
