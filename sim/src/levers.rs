//! The inferred constants of a world and the ends of their plausible ranges: what can be moved to
//! see what a cell hangs on. It moves nothing.

use drydock_models::parameters::{Entry, Kind, ParameterError, text_of};

use crate::adapters::allocators;
use crate::parameters::RunParameters;
use crate::subject::Allocator;

/// Groups that are not mechanisms of a cluster: the inputs of the derived event model, and how the
/// workload is handed in.
const UNUSED: [&str; 2] = ["check", "driver"];

/// A constant and the ends of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its name.
    pub key: String,
    /// Its unit.
    pub unit: String,
    /// Its value; of a span both ends.
    pub value: String,
    /// Least and greatest plausible value.
    pub ends: [String; 2],
}

impl Range {
    /// The override that gives the constant a value; of a span, both of its ends.
    pub fn set(&self, value: &str) -> String {
        format!("{}={value}", self.key)
    }
}

/// The inferred constants that can matter to an allocator, by name. An end that contradicts another
/// constant cannot be run, and is said.
/// Errors: an unknown parameter set.
pub fn ranges(
    parameters: &str,
    allocator: Allocator,
    filter: Option<&str>,
) -> Result<Vec<Range>, ParameterError> {
    let table = RunParameters::load(parameters, &[])?.table;
    let mut ranges = Vec::new();
    for (key, entry) in &table.entries {
        let wanted = filter.is_none_or(|word| key.contains(word));
        if !wanted || !concerns(key, allocator) {
            continue;
        }
        let Some(range) = range(key, entry) else {
            continue;
        };
        let bad = range
            .ends
            .iter()
            .find_map(|end| RunParameters::load(parameters, &[range.set(end)]).err());
        match bad {
            Some(error) => eprintln!("left out: {error}"),
            None => ranges.push(range),
        }
    }
    Ok(ranges)
}

/// Whether a constant can matter: not the event model's, not another allocator's.
fn concerns(key: &str, allocator: Allocator) -> bool {
    let group = key.split('.').next().unwrap_or_default();
    let own = |other: &Allocator| other.name().replace('-', "_") == group;
    let anothers = allocators().any(|other| other != allocator && own(&other));
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
    use crate::adapters::{BERTH, INSTANT};

    #[test]
    fn constants_of_the_event_model_and_of_other_allocators_are_left_out() {
        assert!(!concerns("check.ipam_wait", BERTH));
        assert!(!concerns("berth.plugin_exec", INSTANT));
        assert!(concerns("berth.plugin_exec", BERTH));
        assert!(concerns("node.fdatasync", INSTANT));
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
