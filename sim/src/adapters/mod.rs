//! Where the allocator under test meets the simulated cluster: the only place that sees both.

pub mod berth;

use drydock_engine::Tasks;
use drydock_models::cni::Ipam;
use drydock_models::observation::Observation;
use drydock_models::peers::instant::Instant;

use self::berth::BerthIpam;
use self::berth::records::Records;
use crate::cli::Allocator;
use crate::oracle::Fact;
use crate::scenario::{Scenario, ScenarioError};

/// Reads from the store what an allocator recorded.
#[derive(Debug)]
pub enum Watcher {
    /// Berth's blocks.
    Berth(Box<Records>),
    /// The allocator records nothing.
    Nothing,
}

impl Watcher {
    /// The facts in an observation.
    pub fn facts(&mut self, observation: &Observation) -> Vec<Fact<'static>> {
        match self {
            Watcher::Berth(records) => records.facts(observation),
            Watcher::Nothing => Vec::new(),
        }
    }
}

/// The allocator of a scenario, and who reads its records.
/// Errors: a pool that it refuses, an unknown mutant.
pub fn ipam(
    scenario: &Scenario,
    tasks: &Tasks,
) -> Result<(Box<dyn Ipam>, Watcher), ScenarioError> {
    match scenario.allocator {
        Allocator::Instant => {
            Ok((Box::new(Instant::new(&scenario.pools)), Watcher::Nothing))
        }
        Allocator::Berth => {
            let setup = berth::setup(scenario)?;
            let refused = |reason: String| ScenarioError::Pool {
                pool: scenario.pools[0].name.clone(),
                reason,
            };
            let records =
                Records::new(&setup.pools).map_err(|error| refused(error.to_string()))?;
            let ipam = BerthIpam::new(setup, tasks.clone());
            Ok((Box::new(ipam), Watcher::Berth(Box::new(records))))
        }
    }
}

/// Names of Berth's mutants.
pub fn mutants() -> Vec<String> {
    ::berth::core::mutant::Mutant::ALL.iter().map(ToString::to_string).collect()
}
