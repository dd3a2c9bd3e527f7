//! `compare`: every allocator, both shapes and both stacks, on the same seeds, beside the published
//! table. What a comparison shows is decided in `drydock-reports`.

use anyhow::Context as _;
use drydock_models::parameters::RIVALS;
use drydock_reports::compare::{Comparison, Expectation, html, outside, tables};
use drydock_traces::run_record::ExitClass;
use drydock_traces::workload::Stack;

use crate::adapters;
use crate::cli::CompareArgs;
use crate::command::{UsageError, interrupt_flag, print, write};
use crate::comparison::{Request, run};
use crate::host::cores;

/// Runs the command.
/// Errors: usage, files, or the testbed's own.
pub fn main(args: &CompareArgs) -> anyhow::Result<ExitClass> {
    let profiles = match &*args.profile {
        "all" => RIVALS.map(str::to_owned).to_vec(),
        one => vec![one.to_owned()],
    };
    let expected = args.expect.as_deref().map(|path| {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Expectation::from_json(&text)
            .map_err(|error| UsageError(format!("{}: {error}", path.display())).into())
    });
    let expected = expected.transpose().map_err(|error: anyhow::Error| error)?;
    if let Some(folder) = &args.svg {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let allocators = if args.allocators.is_empty() {
        adapters::allocators().collect()
    } else {
        args.allocators.clone()
    };
    let request = Request {
        profiles,
        allocators,
        stacks: vec![Stack::Ipv4, Stack::Dual],
        seeds: args.seeds,
        jobs: args.jobs.unwrap_or_else(cores),
    };
    let (comparison, interrupted) = run(&request, &interrupt_flag())?;
    show(args, &comparison)?;
    if interrupted {
        return Ok(ExitClass::Interrupted);
    }
    if !comparison.errors.is_empty() {
        return Ok(ExitClass::Internal);
    }
    let Some(expected) = expected else {
        let all_within = outside(&comparison).is_empty();
        return Ok(if all_within {
            ExitClass::Ok
        } else {
            ExitClass::OutsideReference
        });
    };
    let drift = expected.drift(&Expectation::of(&comparison));
    for line in &drift {
        eprintln!("DRIFT {line}");
    }
    if drift.is_empty() {
        eprintln!("as expected");
        return Ok(ExitClass::Ok);
    }
    eprintln!("if the change is meant: --write-expectation, and say in the commit what moved");
    Ok(ExitClass::OutsideReference)
}

/// Writes every form that was asked for; the text goes to standard output.
fn show(args: &CompareArgs, comparison: &Comparison) -> anyhow::Result<()> {
    if let Some(path) = &args.json {
        write(path, &comparison.to_json())?;
    }
    if let Some(path) = &args.html {
        write(path, &html::page(comparison))?;
    }
    if let Some(path) = &args.markdown {
        write(path, &tables::markdown(comparison))?;
    }
    if let Some(folder) = &args.svg {
        for plot in html::plots(comparison) {
            write(&folder.join(format!("{}.svg", plot.name)), &plot.svg)?;
        }
    }
    if let Some(path) = &args.write_expectation {
        write(path, &Expectation::of(comparison).to_json())?;
    }
    if args.json.as_deref() == Some(std::path::Path::new("-")) {
        return Ok(());
    }
    print(&tables::plain(comparison))
}
