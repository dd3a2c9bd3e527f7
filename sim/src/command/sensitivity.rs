//! `sensitivity`: takes each inferred constant to both ends of its stated range, on the same seeds,
//! and ranks what that changes.

use clap::ValueEnum as _;
use drydock_models::parameters::{Entry, Kind, text_of};
use drydock_reports::effects::{Effect, Effects};
use drydock_traces::run_record::ExitClass;

use super::ablate::{base, finish, title};
use crate::cli::{Allocator, SensitivityArgs};
use crate::command::interrupt_flag;
use crate::parameters::RunParameters;
use crate::variants::run;

/// Groups that no scenario of a cluster reads: the inputs of the derived event model.
const UNUSED: [&str; 1] = ["check"];

/// A constant and the ends of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    key: String,
    unit: String,
    value: String,
    ends: [String; 2],
}

/// Runs the command.
/// Errors: usage, files, or the testbed's own.
pub fn main(args: &SensitivityArgs) -> anyhow::Result<ExitClass> {
    let varied = &args.varied;
    let parameters = RunParameters::load(&varied.parameters, &[])?;
    let wanted = |key: &str| args.filter.as_ref().is_none_or(|word| key.contains(word));
    let mut ranges = Vec::new();
    for (key, entry) in &parameters.table.entries {
        if !wanted(key) || !concerns(key, varied.allocator) {
            continue;
        }
        let Some(range) = range(key, entry) else {
            continue;
        };
        // An end that contradicts another constant cannot be run, and is said.
        let set = |end: &String| vec![format!("{key}={end}")];
        let bad = range
            .ends
            .iter()
            .find_map(|end| RunParameters::load(&varied.parameters, &set(end)).err());
        match bad {
            Some(error) => eprintln!("left out: {error}"),
            None => ranges.push(range),
        }
    }
    let mut variants = vec![Vec::new()];
    for range in &ranges {
        variants.extend(
            range
                .ends
                .iter()
                .map(|end| vec![format!("{}={end}", range.key)]),
        );
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
    let heading = title(varied, "inferred constants");
    let effects = Effects::ranked(&heading, &done.runs[0], effects.collect());
    finish(varied, &effects, done.interrupted)
}

/// Whether a constant can matter: not the event model's, not another allocator's.
fn concerns(key: &str, allocator: Allocator) -> bool {
    let group = key.split('.').next().unwrap_or_default();
    let own = |other: &Allocator| other.name().replace('-', "_") == group;
    let anothers = Allocator::value_variants()
        .iter()
        .any(|other| *other != allocator && own(other));
    !UNUSED.contains(&group) && !anothers
}

/// An inferred constant with a range; a span of values becomes the end, twice.
fn range(key: &str, entry: &Entry) -> Option<Range> {
    let [low, high] = entry
        .range
        .as_ref()
        .filter(|_| entry.kind == Kind::Inferred)?;
    Some(Range {
        key: key.to_owned(),
        unit: entry.unit.clone(),
        value: entry.text(),
        ends: [text_of(low), text_of(high)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_the_event_model_and_of_other_allocators_are_left_out() {
        assert!(!concerns("check.ipam_wait", Allocator::Berth));
        assert!(!concerns("berth.plugin_exec", Allocator::Instant));
        assert!(concerns("berth.plugin_exec", Allocator::Berth));
        assert!(concerns("node.fdatasync", Allocator::Instant));
    }

    #[test]
    fn only_inferred_constants_have_a_range_to_vary() {
        let parameters = RunParameters::load("measured", &[]).unwrap();
        let of = |key: &str| range(key, &parameters.table.entries[key]);
        let disk = of("node.fdatasync").unwrap();
        assert_eq!(disk.ends, ["0.5".to_owned(), "60".to_owned()]);
        assert_eq!(of("kubelet.qps"), None);
    }
}
