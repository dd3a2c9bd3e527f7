//! The free answer among the allocators: the floor that all others are measured against.

use drydock_engine::Tasks;
use drydock_models::peers::instant::Instant;
use drydock_traces::plan::Plan;

use super::adapter::{Adapted, Adapter};
use super::pools::peer_pool;
use crate::faults::roles::{Agent, Roles, Writer};
use crate::oracle::Judged;
use crate::scenario::{Scenario, ScenarioError};
use crate::subject::Allocator;

/// Its name.
pub const INSTANT: Allocator = Allocator::named("instant");

/// The adapter.
pub(super) struct InstantAdapter;

impl Adapter for InstantAdapter {
    fn allocator(&self) -> Allocator {
        INSTANT
    }

    fn about(&self) -> &'static str {
        "A free answer at zero cost: the floor"
    }

    fn set_up(&self, scenario: &Scenario, _tasks: &Tasks) -> Result<Adapted, ScenarioError> {
        Ok(Adapted::unread(Instant::new(peer_pool(scenario)?)))
    }

    fn roles(&self) -> Roles {
        Roles {
            agent: Agent::Process,
            writer: Writer::Node,
            own_things: false,
        }
    }

    fn told(&self) -> Option<&'static str> {
        None
    }

    fn fit(&self, plan: Plan) -> Plan {
        plan
    }

    fn judged(&self) -> Judged {
        Judged::All
    }

    fn stored_storms(&self) -> u64 {
        // It has no process that a storm could strike.
        0
    }
}
