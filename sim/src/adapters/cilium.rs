//! Cilium among the allocators: how it is set up, and what storms strike in it. The mechanism is
//! the model's.

use drydock_engine::Tasks;
use drydock_models::peers::cilium::Cilium;
use drydock_traces::plan::World;

use super::adapter::{Adapted, Adapter};
use super::pools::peer_pool;
use crate::faults::roles::{Agent, Roles, Writer};
use crate::scenario::{Scenario, ScenarioError};
use crate::subject::Allocator;

/// The adapter.
pub(super) struct CiliumAdapter;

impl Adapter for CiliumAdapter {
    fn allocator(&self) -> Allocator {
        Allocator::named("cilium")
    }

    fn about(&self) -> &'static str {
        "Cilium v1.14.3 with cluster-pool IPAM"
    }

    fn set_up(&self, scenario: &Scenario, _tasks: &Tasks) -> Result<Adapted, ScenarioError> {
        let pool = peer_pool(scenario)?;
        Ok(Adapted::unread(Cilium::new(
            pool,
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
            "agent-kill: the node's plugins (a restart of the agent alone is not modelled); a \
             podCIDR of 64 per machine; burial: none",
        )
    }

    fn addresses(&self, world: &World) -> u32 {
        // One to spare for a machine that takes another one's place.
        64 * (world.nodes + 1)
    }
}
