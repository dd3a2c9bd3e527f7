//! `fit`: finds the one number of a profile by bisection on one published cell, prints every try,
//! and writes the profile with the number in it. Nothing else may choose such a number.

use std::fmt::Write as _;

use drydock_models::parameters::{Entry, Table, text_of};
use drydock_reports::compare::Spread;
use drydock_reports::quantity::seconds;
use drydock_reports::table::{Align, Table as Shown};
use drydock_traces::run_record::ExitClass;

use crate::cli::FitArgs;
use crate::command::{UsageError, interrupt_flag, print, write};
use crate::decimal::{Milli, decimal, milli};
use crate::host::cores;
use crate::parameters::set_text;
use crate::subject::CellName;
use crate::variants::{Base, run};

/// Halvings of a range: the step that is left is a thousandth of a thousandth of it.
const TRIES_MAX: u32 = 20;
/// A median this near to the published time is as near as a cell of whole seconds can be.
/// Units: simulated ns.
const NEAR_NS: u64 = 250_000_000;

/// Runs the command.
/// Errors: usage, files, or the testbed's own.
pub fn main(args: &FitArgs) -> anyhow::Result<ExitClass> {
    let text = set_text(&args.profile)?;
    let (key, entry) = fitted(&args.profile, &text)?;
    let (mut low, mut high) = range(&key, &entry)?;
    let mut tries = Tries::new(args, &key, &entry.unit);
    let Some(bracketed) = tries.bisect(&mut low, &mut high)? else {
        return Ok(ExitClass::Interrupted);
    };
    let Some((_, milli)) = tries.best else {
        print(&tries.shown.plain())?;
        return Err(UsageError("no try ever ended: widen the range".to_owned()).into());
    };
    let found = with_value(&text, &key, &decimal(milli), &source(args));
    print(&format!(
        "{}\n{key} = {} {}\n",
        tries.shown.plain(),
        decimal(milli),
        entry.unit
    ))?;
    match &args.out {
        Some(path) => write(path, &found)?,
        None => print(&format!("\n{found}"))?,
    }
    if bracketed {
        return Ok(ExitClass::Ok);
    }
    let (least, most) = (decimal(low), decimal(high));
    eprintln!(
        "{} s is not reached between {least} and {most} {}",
        args.target, entry.unit
    );
    Ok(ExitClass::OutsideReference)
}

/// The values that were tried, as a table, and the best of them.
struct Tries {
    base: Base,
    key: String,
    unit: String,
    /// The published time. Units: simulated ns.
    target_ns: u64,
    shown: Shown,
    /// Distance from the published time, and value.
    best: Option<(u64, Milli)>,
}

impl Tries {
    fn new(args: &FitArgs, key: &str, unit: &str) -> Tries {
        Tries {
            base: Base {
                allocator: args.allocator,
                cell: CellName {
                    addresses: args.addresses,
                    stack: args.stack,
                },
                parameters: args.profile.clone(),
                seeds: args.seeds,
                jobs: args.jobs.unwrap_or_else(cores),
            },
            key: key.to_owned(),
            unit: unit.to_owned(),
            target_ns: args.target * 1_000_000_000,
            shown: Shown::new(&[
                ("try", Align::Right),
                ("value", Align::Right),
                ("median", Align::Right),
                ("p5", Align::Right),
                ("p95", Align::Right),
            ]),
            best: None,
        }
    }

    /// Halves the range until the published time is met; whether it lies between its ends at all.
    /// None after an interrupt.
    fn bisect(&mut self, low: &mut Milli, high: &mut Milli) -> anyhow::Result<Option<bool>> {
        let target_ns = self.target_ns;
        let is_above = |median: Option<u64>| median.is_none_or(|ns| ns >= target_ns);
        // Ever more of what a profile adds takes ever longer: the ends say whether the target is
        // between them.
        let mut bracketed = true;
        for (end, above) in [(*low, false), (*high, true)] {
            let Some(found) = self.attempt(end)? else {
                return Ok(None);
            };
            bracketed &= is_above(found.median) == above;
        }
        for _ in 0..if bracketed { TRIES_MAX } else { 0 } {
            let middle = low.midpoint(*high);
            if middle == *low {
                break;
            }
            let Some(found) = self.attempt(middle)? else {
                return Ok(None);
            };
            if (found.median).is_some_and(|ns| ns.abs_diff(target_ns) <= NEAR_NS) {
                break;
            }
            let end = if is_above(found.median) {
                &mut *high
            } else {
                &mut *low
            };
            *end = middle;
        }
        Ok(Some(bracketed))
    }

    /// The times with a value; none after an interrupt.
    fn attempt(&mut self, milli: Milli) -> anyhow::Result<Option<Spread>> {
        let set = vec![format!("{}={}", self.key, decimal(milli))];
        let varied = run(&self.base, &[set], &interrupt_flag())?;
        if varied.interrupted {
            return Ok(None);
        }
        let spread = Spread::of(varied.runs[0].iter().map(|run| run.all_running_ns));
        let time = |ns: Option<u64>| ns.map_or("never".to_owned(), seconds);
        self.shown.row([
            (self.shown.row_count() + 1).to_string(),
            format!("{} {}", decimal(milli), self.unit),
            time(spread.median),
            time(spread.p5),
            time(spread.p95),
        ]);
        if let Some(ns) = spread.median {
            let distance = ns.abs_diff(self.target_ns);
            if self.best.is_none_or(|(least, _)| distance < least) {
                self.best = Some((distance, milli));
            }
        }
        Ok(Some(spread))
    }
}

/// What the entry says about where its number comes from: the command that finds it again.
fn source(args: &FitArgs) -> String {
    format!(
        "cargo sim fit --profile {}: {} {} {} = {} s, median of seeds 1 to {}",
        args.profile,
        args.allocator.name(),
        args.addresses,
        args.stack,
        args.target,
        args.seeds
    )
}

/// The one entry of kind `fitted`.
fn fitted(name: &str, text: &str) -> anyhow::Result<(String, Entry)> {
    let table = Table::parse(name, text)?;
    table.check_fitted(name)?;
    let Some(key) = table.fitted().next().map(str::to_owned) else {
        return Err(UsageError(format!("{name} fits no number: none is of kind `fitted`")).into());
    };
    let entry = table.entries[&key].clone();
    Ok((key, entry))
}

fn range(key: &str, entry: &Entry) -> anyhow::Result<(Milli, Milli)> {
    let ends = entry.range.as_ref().and_then(|[low, high]| {
        Some((milli(&text_of(low))?, milli(&text_of(high))?)).filter(|(low, high)| low < high)
    });
    ends.ok_or_else(|| UsageError(format!("{key} has no range to search in")).into())
}

/// The text of a profile with another value and source in one entry; all else stays as it was.
fn with_value(text: &str, key: &str, value: &str, source: &str) -> String {
    let mut changed = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.trim() == format!("[{key}]");
        }
        let written = if inside && line.starts_with("value = ") {
            writeln!(changed, "value = {value}")
        } else if inside && line.starts_with("source = ") {
            writeln!(changed, "source = \"{source}\"")
        } else {
            writeln!(changed, "{line}")
        };
        written.expect("a string takes every text");
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_value_and_source_of_the_fitted_entry_change() {
        let text = Table::profile_text("serial-pull").unwrap();
        let changed = with_value(text, "kubelet.image_pull", "1234.5", "a command");
        let (key, entry) = fitted("serial-pull", &changed).unwrap();
        assert_eq!(key, "kubelet.image_pull");
        assert_eq!(
            (text_of(&entry.value), &*entry.source),
            ("1234.5".to_owned(), "a command")
        );
        assert_eq!(changed.lines().count(), text.lines().count());
        let differing = text
            .lines()
            .zip(changed.lines())
            .filter(|(old, new)| old != new);
        assert!(differing.count() <= 2);
        assert!(fitted("measured", "").is_err());
    }
}
