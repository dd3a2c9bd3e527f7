//! Mechanisms that can be switched off, one at a time on the same seeds, and what each of them
//! costs. Which ones there are is in `parameters/ablations.toml`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use drydock_reports::effects::{Effect, Effects};
use serde::Deserialize;

use crate::parameters::RunParameters;
use crate::runner::RunError;
use crate::subject::Allocator;
use crate::variants::{Base, run};

/// The data table.
const ABLATIONS: &str = include_str!("../parameters/ablations.toml");

/// A mechanism and what switches it off.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// What is gone.
    pub name: String,
    /// Why these overrides are that.
    pub reason: String,
    /// Overrides, `key=value`.
    pub set: Vec<String>,
    /// Allocators that have it; none means that it is the world's.
    #[serde(default)]
    pub allocators: Vec<String>,
    /// The parameter set in which it exists; none means in every one.
    #[serde(default)]
    pub profile: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    ablation: Vec<Ablation>,
}

/// The mechanisms of an allocator and of the world under a parameter set. Shape: in the order of
/// the table.
pub fn ablations(allocator: Allocator, profile: &str) -> Vec<Ablation> {
    let file: File = toml::from_str(ABLATIONS).expect("the built-in table is well formed");
    let concerns = |ablation: &Ablation| {
        let own = ablation
            .allocators
            .iter()
            .any(|name| name == allocator.name());
        let here = ablation
            .profile
            .as_deref()
            .is_none_or(|name| name == profile);
        here && (ablation.allocators.is_empty() || own)
    };
    file.ablation.into_iter().filter(concerns).collect()
}

/// Switches each mechanism of a cell off, and says whether it was interrupted.
/// Errors: an override that contradicts the parameter set; a run that could not be made.
pub fn effects(base: &Base, interrupt: &Arc<AtomicBool>) -> Result<(Effects, bool), RunError> {
    let ablations = ablations(base.allocator, &base.parameters);
    for ablation in &ablations {
        RunParameters::load(&base.parameters, &ablation.set)?;
    }
    let mut variants = vec![Vec::new()];
    variants.extend(ablations.iter().map(|ablation| ablation.set.clone()));
    let done = run(base, &variants, interrupt)?;
    let named = ablations.iter().zip(&done.runs[1..]);
    let effects = named.map(|(ablation, runs)| {
        let name = format!("without {}", ablation.name);
        Effect::paired(&name, &ablation.set.join(" "), &done.runs[0], runs)
    });
    let effects = Effects::ranked(&base.title("mechanisms"), &done.runs[0], effects.collect());
    Ok((effects, done.interrupted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::{INSTANT, named};

    #[test]
    fn every_ablation_can_be_run_by_an_allocator_that_exists() {
        let file: File = toml::from_str(ABLATIONS).unwrap();
        for ablation in &file.ablation {
            let profile = ablation.profile.as_deref().unwrap_or("measured");
            if let Err(error) = RunParameters::load(profile, &ablation.set) {
                panic!("{}: {error}", ablation.name);
            }
            assert!(!ablation.reason.is_empty() && !ablation.set.is_empty());
            for name in &ablation.allocators {
                assert!(named(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn a_mechanism_of_one_profile_is_not_switched_off_in_another() {
        let has_pull = |profile| {
            let all = ablations(INSTANT, profile);
            all.iter()
                .any(|ablation| ablation.name == "serial image pull")
        };
        assert!(has_pull("serial-pull") && !has_pull("measured"));
    }
}
