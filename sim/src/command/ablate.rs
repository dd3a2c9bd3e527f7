//! `ablate`: switches one mechanism off at a time, on the same seeds, and ranks what each costs.

use drydock_traces::run_record::ExitClass;

use super::varied::{base, finish};
use crate::ablations::{ablations, effects};
use crate::cli::AblateArgs;
use crate::command::{interrupt_flag, print};

/// Runs the command.
/// Errors: usage, files, or the testbed's own.
pub fn main(args: &AblateArgs) -> anyhow::Result<ExitClass> {
    let varied = &args.varied;
    let ablations = ablations(varied.allocator, &varied.parameters);
    if args.list {
        let lines = ablations
            .iter()
            .map(|each| format!("{}: {} ({})\n", each.name, each.reason, each.set.join(" ")));
        print(&lines.collect::<String>())?;
        return Ok(ExitClass::Ok);
    }
    let (effects, interrupted) = effects(&base(varied), &interrupt_flag())?;
    finish(varied, &effects, interrupted)
}
