//! `gap`: which values of which inferred constant would bring a published cell about, and whether
//! they are within its plausible range. Nothing that it finds goes into a parameter file.

use std::path::Path;

use drydock_reports::gap::Band;
use drydock_reports::reference;
use drydock_traces::run_record::ExitClass;

use super::varied::base;
use crate::cli::GapArgs;
use crate::command::{UsageError, interrupt_flag, print, write};
use crate::search::find;
use crate::subject::Addresses;

/// Runs the command.
/// Errors: usage, files, or the testbed's own.
pub fn main(args: &GapArgs) -> anyhow::Result<ExitClass> {
    let varied = &args.varied;
    let spare = match varied.cell.addresses {
        Addresses::Equal => Some(reference::Spare::Equal),
        Addresses::Ample => Some(reference::Spare::Ample),
        Addresses::Count(_) => None,
    };
    let band = spare
        .and_then(|spare| reference::Cell::find(varied.allocator.name(), spare))
        .and_then(Band::of)
        .ok_or_else(|| {
            let name = varied.allocator.name();
            UsageError(format!("nothing was published for {name}, {}", varied.cell))
        })?;
    let (gap, interrupted) = find(
        &base(varied),
        band,
        args.filter.as_deref(),
        &interrupt_flag(),
    )?;
    if interrupted {
        // A file is a whole search; half of one is for the person who ended it.
        print(&gap.plain())?;
        eprintln!(
            "interrupted: constants and values beyond these were not tried, and no file written"
        );
        return Ok(ExitClass::Interrupted);
    }
    if let Some(path) = &varied.json {
        write(path, &gap.to_json())?;
    }
    if let Some(path) = &varied.markdown {
        write(path, &gap.markdown())?;
    }
    if varied.json.as_deref() != Some(Path::new("-")) {
        print(&gap.plain())?;
    }
    Ok(ExitClass::Ok)
}
