//! What `ablate`, `sensitivity` and `gap` have in common: the cell that is varied, and the forms in
//! which effects are shown. It is no command and runs nothing.

use std::path::Path;

use drydock_reports::effects::Effects;
use drydock_traces::run_record::ExitClass;

use crate::cli::VariedArgs;
use crate::command::{print, write};
use crate::host::cores;
use crate::variants::Base;

/// The cell that is varied.
pub(super) fn base(args: &VariedArgs) -> Base {
    Base {
        allocator: args.allocator,
        cell: args.cell,
        parameters: args.parameters.clone(),
        seeds: args.seeds,
        jobs: args.jobs.unwrap_or_else(cores),
    }
}

/// Writes every form that was asked for; the text goes to standard output.
/// Errors: files.
pub(super) fn finish(
    args: &VariedArgs,
    effects: &Effects,
    interrupted: bool,
) -> anyhow::Result<ExitClass> {
    if let Some(path) = &args.json {
        write(path, &effects.to_json())?;
    }
    if let Some(path) = &args.markdown {
        write(path, &effects.markdown())?;
    }
    if let Some(path) = &args.svg {
        write(path, &effects.svg())?;
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        print(&effects.plain())?;
    }
    Ok(if interrupted {
        ExitClass::Interrupted
    } else {
        ExitClass::Ok
    })
}
