//! Spiderpool among the allocators: how it is set up, and what storms strike in it. The mechanism
//! is the model's.

use drydock_engine::Tasks;
use drydock_models::peers::spiderpool::Spiderpool;

use super::adapter::{Adapted, Adapter};
use super::pools::peer_pool;
use crate::faults::roles::{Agent, Roles, Writer};
use crate::scenario::{Scenario, ScenarioError};
use crate::subject::Allocator;

/// The adapter.
pub(super) struct SpiderpoolAdapter;

impl Adapter for SpiderpoolAdapter {
    fn allocator(&self) -> Allocator {
        Allocator::named("spiderpool")
    }

    fn about(&self) -> &'static str {
        "Spiderpool v0.8.0 behind macvlan, modelled"
    }

    fn set_up(&self, scenario: &Scenario, _tasks: &Tasks) -> Result<Adapted, ScenarioError> {
        let pool = peer_pool(scenario)?;
        let groups = groups(scenario);
        Ok(Adapted::unread(Spiderpool::new(
            pool,
            groups,
            &scenario.parameters.table,
        )?))
    }

    fn roles(&self) -> Roles {
        Roles {
            agent: Agent::Process,
            writer: Writer::Node,
            own_things: false,
        }
    }

    fn told(&self) -> Option<&'static str> {
        Some("agent-kill at a port call: as the agent's n-th write commits; burial: none")
    }
}

/// The workload objects by `namespace/name`, with their Pods.
fn groups(scenario: &Scenario) -> Vec<(String, u64)> {
    let objects = scenario.workload.objects.iter();
    objects
        .map(|object| {
            let name = format!("{}/{}", object.namespace, object.name);
            (name, u64::from(object.pod_count()))
        })
        .collect()
}
