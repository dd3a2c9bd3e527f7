//! Whom a storm's faults strike in each allocator. Storms are drawn for Berth, whose agent does
//! everything on its node; another allocator has other processes in that role. It draws nothing: a
//! plan is fitted by a rule, so that the worlds and all other faults of a seed stay the same.

use drydock_traces::plan::{FaultKind, Plan, Trigger};

use super::draw::WRITES;
use crate::cli::Allocator;

/// What dies when an agent is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// The node agent; it starts again after the fault's duration.
    Process,
    /// The plugins that run on the node at that moment: there is no agent on the way of an
    /// address, or its restart alone is not modelled.
    Plugins,
}

/// Whose writes are lost or delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Those of the node that the fault names.
    Node,
    /// The controller's, wherever it runs: it alone writes addresses.
    Controller,
}

/// The processes of an allocator, as storms know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// What `agent-kill` strikes.
    pub agent: Agent,
    /// What `response-lost`, `write-delayed` and `unknown-release` strike.
    pub writer: Writer,
    /// It has a journal, a spool and looks at namespaces, which faults of those strike.
    pub own_things: bool,
}

/// Whether a kind strikes whatever allocator there is; the others strike what Berth's agent relies
/// on or what its rules are about, and the storms of others have none of them.
pub fn strikes_every_allocator(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::AgentKill
            | FaultKind::ResponseLost
            | FaultKind::WriteDelayed
            | FaultKind::NodePartition
            | FaultKind::ApiserverRestart
            | FaultKind::PodDelete
            | FaultKind::PodForceDelete
            | FaultKind::LinkDeleteFails
            | FaultKind::UnknownRelease
            | FaultKind::MachineReplaced
            | FaultKind::NodeReboot
            | FaultKind::KubeletRestart
            | FaultKind::PowerOffAndBury
    )
}

/// The processes of an allocator.
pub fn roles(allocator: Allocator) -> Roles {
    let (agent, writer) = match allocator {
        Allocator::Berth | Allocator::Instant | Allocator::Spiderpool => {
            (Agent::Process, Writer::Node)
        }
        Allocator::KubeOvn => (Agent::Process, Writer::Controller),
        Allocator::Calico | Allocator::Cilium | Allocator::Whereabouts => {
            (Agent::Plugins, Writer::Node)
        }
    };
    Roles {
        agent,
        writer,
        own_things: allocator == Allocator::Berth,
    }
}

/// What a storm means for a modelled peer, in words; nothing for the others.
pub fn told(allocator: Allocator) -> Option<&'static str> {
    match allocator {
        Allocator::Berth | Allocator::Instant => None,
        Allocator::Spiderpool => {
            Some("agent-kill at a port call: as the agent's n-th write commits; burial: none")
        }
        Allocator::KubeOvn => Some(
            "agent-kill: the daemon, at a port call as its n-th write commits; writes: the \
             controller's; burial: none",
        ),
        Allocator::Calico => Some(
            "agent-kill: the node's plugins, at a port call as their n-th write commits; an \
             address more per node (tunnels); burial: none",
        ),
        Allocator::Whereabouts => Some(
            "agent-kill: the node's plugins, at a port call as their n-th write commits; burial: \
             none",
        ),
        Allocator::Cilium => Some(
            "agent-kill: the node's plugins (a restart of the agent alone is not modelled); a \
             podCIDR of 64 per machine; burial: none",
        ),
    }
}

/// The storm as it strikes an allocator.
pub fn fit(mut plan: Plan, allocator: Allocator) -> Plan {
    if told(allocator).is_none() {
        return plan;
    }
    for fault in &mut plan.faults {
        // Nobody counts a peer's port calls; between two writes is where they are torn apart.
        if fault.kind == FaultKind::AgentKill
            && let Trigger::PortCall { agent, call, .. } = fault.at
        {
            let write = 1 + (call - 1) % WRITES;
            fault.at = Trigger::Write { agent, write };
        }
    }
    plan.world.addresses = match allocator {
        Allocator::Calico => plan.world.addresses + plan.world.nodes,
        // One to spare for a machine that takes another one's place.
        Allocator::Cilium => 64 * (plan.world.nodes + 1),
        _ => plan.world.addresses,
    };
    plan
}

#[cfg(test)]
mod tests {
    use drydock_traces::seed::Seed;

    use super::*;
    use crate::faults::draw::storm;

    const PEERS: [Allocator; 5] = [
        Allocator::Calico,
        Allocator::Cilium,
        Allocator::KubeOvn,
        Allocator::Spiderpool,
        Allocator::Whereabouts,
    ];

    #[test]
    fn a_peers_storm_is_a_valid_plan_with_the_same_faults_but_for_the_triggers_of_kills() {
        for seed in 0..200 {
            let drawn = storm(Seed(seed), "instant");
            for peer in PEERS {
                let fitted = storm(Seed(seed), peer.name());
                let text = fitted.to_toml().expect("a fitted plan is valid");
                assert_eq!(Plan::from_toml(&text).as_ref(), Ok(&fitted));
                assert_eq!(fitted.faults.len(), drawn.faults.len());
                for (one, other) in fitted.faults.iter().zip(&drawn.faults) {
                    let counts = matches!(other.at, Trigger::PortCall { .. });
                    assert!(one == other || counts && one.kind == FaultKind::AgentKill);
                    assert!(!matches!(one.at, Trigger::PortCall { .. }));
                }
            }
        }
    }
}
