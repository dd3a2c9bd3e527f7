//! `sensitivity`: takes each inferred constant to both ends of its stated range, on the same seeds,
//! and ranks what that changes.

use drydock_reports::effects::{Effect, Effects};
use drydock_traces::run_record::ExitClass;

use super::varied::{base, finish};
use crate::cli::SensitivityArgs;
use crate::command::interrupt_flag;
use crate::levers::{Range, ranges};
use crate::variants::run;

/// Runs the command.
/// Errors: usage, files, or the testbed's own.
pub fn main(args: &SensitivityArgs) -> anyhow::Result<ExitClass> {
    let varied = &args.varied;
    let ranges = ranges(&varied.parameters, varied.allocator, args.filter.as_deref())?;
    let mut variants = vec![Vec::new()];
    for range in &ranges {
        variants.extend(range.ends.iter().map(|end| vec![range.set(end)]));
    }
    let done = run(&base(varied), &variants, &interrupt_flag())?;
    let pairs = ranges.iter().zip(done.runs[1..].chunks(2));
    let effects = pairs.map(|(range, runs)| {
        let Range {
            key,
            unit,
            value,
            ends: [low, high],
        } = range;
        let what = format!("{value} {unit}, {low} to {high}");
        Effect::of_range(key, &what, &done.runs[0], &runs[0], &runs[1])
    });
    let heading = base(varied).title("inferred constants");
    let effects = Effects::ranked(&heading, &done.runs[0], effects.collect());
    finish(varied, &effects, done.interrupted)
}
