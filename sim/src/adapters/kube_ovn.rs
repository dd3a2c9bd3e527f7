//! Kube-OVN among the allocators: how it is set up, and what storms strike in it. The mechanism is
//! the model's.

use drydock_engine::Tasks;
use drydock_models::peers::kube_ovn::KubeOvn;

use super::adapter::{Adapted, Adapter};
use super::pools::peer_pool;
use crate::faults::roles::{Agent, Roles, Writer};
use crate::scenario::{Scenario, ScenarioError};
use crate::subject::Allocator;

/// The adapter.
pub(super) struct KubeOvnAdapter;

impl Adapter for KubeOvnAdapter {
    fn allocator(&self) -> Allocator {
        Allocator::named("kube-ovn")
    }

    fn about(&self) -> &'static str {
        "Kube-OVN v1.12.2, from its mechanism"
    }

    fn set_up(&self, scenario: &Scenario, _tasks: &Tasks) -> Result<Adapted, ScenarioError> {
        let pool = peer_pool(scenario)?;
        Ok(Adapted::unread(KubeOvn::new(
            pool,
            &scenario.parameters.table,
        )?))
    }

    fn roles(&self) -> Roles {
        Roles {
            agent: Agent::Process,
            writer: Writer::Controller,
            own_things: false,
        }
    }

    fn told(&self) -> Option<&'static str> {
        Some(
            "agent-kill: the daemon, at a port call as its n-th write commits; writes: the \
             controller's; burial: none",
        )
    }
}
