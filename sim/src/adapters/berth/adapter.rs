//! Berth as an allocator among others: its place in the table, and what storms strike in it.

use berth::core::Mutant;
use drydock_engine::Tasks;
use drydock_models::observation::Observation;
use drydock_traces::plan::Plan;

use super::records::Records;
use super::{BerthIpam, setup};
use crate::adapters::adapter::{Adapted, Adapter, Reader};
use crate::faults::roles::{Agent, Roles, Writer};
use crate::oracle::{Fact, Judged};
use crate::scenario::{Scenario, ScenarioError};
use crate::subject::Allocator;

/// Its name.
pub const BERTH: Allocator = Allocator::named("berth");

/// Its storms whose certificates are stored.
const STORED_STORMS: u64 = 20;

/// The adapter.
pub struct BerthAdapter;

impl Adapter for BerthAdapter {
    fn allocator(&self) -> Allocator {
        BERTH
    }

    fn about(&self) -> &'static str {
        "Berth, the production allocator, its own code unchanged"
    }

    fn set_up(&self, scenario: &Scenario, tasks: &Tasks) -> Result<Adapted, ScenarioError> {
        let setup = setup(scenario)?;
        let records = Records::new(&setup.pools).map_err(|error| ScenarioError::Pool {
            pool: scenario.pools[0].name.clone(),
            reason: error.to_string(),
        })?;
        Ok(Adapted {
            ipam: Box::new(BerthIpam::new(setup, tasks.clone())),
            reader: Some(Box::new(records)),
        })
    }

    fn roles(&self) -> Roles {
        Roles {
            agent: Agent::Process,
            writer: Writer::Node,
            own_things: true,
        }
    }

    fn told(&self) -> Option<&'static str> {
        None
    }

    /// Storms are drawn for it.
    fn fit(&self, plan: Plan) -> Plan {
        plan
    }

    fn judged(&self) -> Judged {
        Judged::All
    }

    fn stored_storms(&self) -> u64 {
        STORED_STORMS
    }
}

impl Reader for Records {
    fn facts(&mut self, observation: &Observation) -> Vec<Fact<'static>> {
        Records::facts(self, observation)
    }
}

/// Names of Berth's mutants.
pub fn mutants() -> Vec<String> {
    Mutant::ALL.iter().map(ToString::to_string).collect()
}
