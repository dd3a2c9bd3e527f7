//! What an allocator is to the testbed: how it is set up in a cluster, what storms strike in it,
//! and what it is held to. One file beside this one for each; what none of them says is what holds
//! for a modeled peer.

use drydock_engine::Tasks;
use drydock_models::ipam::Ipam;
use drydock_models::observation::Observation;
use drydock_traces::plan::{FaultKind, Plan, Trigger, World};

use super::berth::bounds::PROMISED;
use crate::faults::draw::WRITES;
use crate::faults::roles::Roles;
use crate::oracle::{Bounds, Fact, Judged};
use crate::scenario::{Scenario, ScenarioError};
use crate::subject::Allocator;

/// Storms of a modeled peer whose certificates are stored.
const PEER_STORMS: u64 = 2;

/// Reads from the store what an allocator recorded.
pub trait Reader {
    /// The facts in an observation.
    fn facts(&mut self, observation: &Observation) -> Vec<Fact<'static>>;
}

/// An allocator in one run.
pub struct Adapted {
    /// What the cluster asks.
    pub ipam: Box<dyn Ipam>,
    /// Who reads its records; none where the ledger reads none.
    pub reader: Option<Box<dyn Reader>>,
}

impl Adapted {
    /// One whose records the ledger does not read.
    pub fn unread(ipam: impl Ipam + 'static) -> Adapted {
        Adapted {
            ipam: Box::new(ipam),
            reader: None,
        }
    }
}

/// An allocator as the testbed knows it.
pub trait Adapter: Sync {
    /// Its name.
    fn allocator(&self) -> Allocator;

    /// What it is, in a few words for the help.
    fn about(&self) -> &'static str;

    /// The allocator of a scenario.
    /// Errors: a pool that it refuses, an unreadable constant, an unknown mutant.
    fn set_up(&self, scenario: &Scenario, tasks: &Tasks) -> Result<Adapted, ScenarioError>;

    /// Its processes, as storms know them.
    fn roles(&self) -> Roles;

    /// What a storm means for it, in words; nothing where it means what the plan says.
    fn told(&self) -> Option<&'static str>;

    /// How many addresses a storm's world needs.
    fn addresses(&self, world: &World) -> u32 {
        world.addresses
    }

    /// The storm as it strikes this allocator. Storms are drawn for Berth; another one has other
    /// processes in the agent's role, and nobody counts its port calls: between two writes is where
    /// it is torn apart.
    fn fit(&self, mut plan: Plan) -> Plan {
        for fault in &mut plan.faults {
            if fault.kind == FaultKind::AgentKill
                && let Trigger::PortCall { agent, call, .. } = fault.at
            {
                let write = 1 + (call - 1) % WRITES;
                fault.at = Trigger::Write { agent, write };
            }
        }
        plan.world.addresses = self.addresses(&plan.world);
        plan
    }

    /// Which claims it is held to.
    fn judged(&self) -> Judged {
        Judged::Truth
    }

    /// How long what it promises may take. Nobody else published such bounds as Berth did, so a
    /// peer's world is given the same time.
    fn bounds(&self) -> Bounds {
        PROMISED
    }

    /// Storms whose certificates are stored, from seed 0 on.
    fn stored_storms(&self) -> u64 {
        PEER_STORMS
    }
}
