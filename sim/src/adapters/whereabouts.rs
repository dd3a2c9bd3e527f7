//! Whereabouts among the allocators: how it is set up, and what storms strike in it. The mechanism
//! is the model's.

use drydock_engine::Tasks;
use drydock_models::peers::whereabouts::Whereabouts;

use super::adapter::{Adapted, Adapter};
use super::pools::peer_pool;
use crate::faults::roles::{Agent, Roles, Writer};
use crate::scenario::{Scenario, ScenarioError};
use crate::subject::Allocator;

/// The adapter.
pub(super) struct WhereaboutsAdapter;

impl Adapter for WhereaboutsAdapter {
    fn allocator(&self) -> Allocator {
        Allocator::named("whereabouts")
    }

    fn about(&self) -> &'static str {
        "Whereabouts v0.6.2, from its mechanism"
    }

    fn set_up(&self, scenario: &Scenario, _tasks: &Tasks) -> Result<Adapted, ScenarioError> {
        let pool = peer_pool(scenario)?;
        Ok(Adapted::unread(Whereabouts::new(
            &pool,
            &scenario.parameters.table,
        )?))
    }

    fn roles(&self) -> Roles {
        Roles {
            agent: Agent::Plugins,
            writer: Writer::Node,
            own_things: false,
        }
    }

    fn told(&self) -> Option<&'static str> {
        Some(
            "agent-kill: the node's plugins, at a port call as their n-th write commits; burial: \
             none",
        )
    }
}
