//! How Berth is configured in the simulation: its processes, and the objects that an administrator
//! would have applied.

use berth::core::Mutant;
use berth::core::agent::{Agent, AgentConfig};
use berth::core::controller::{Controller, ControllerConfig};
use berth::core::objects::{AddressPool, AddressPoolSpec, Metadata, Node};
use drydock_traces::workload::AddressPool as Manifest;

/// Name of the network in the plugin's configuration.
pub(super) const NETWORK: &str = "macvlan";

/// The agent of a machine.
pub(super) fn agent(node: &str, machine_id: &str, boot_id: &str, mutant: Option<Mutant>) -> Agent {
    let mut config = AgentConfig::new(node, machine_id, boot_id);
    NETWORK.clone_into(&mut config.default_network);
    config.mutant = mutant;
    Agent::new(config)
}

/// The controller.
pub(super) fn controller(identity: &str) -> Controller {
    Controller::new(ControllerConfig::new(identity))
}

/// The Node object of a name.
pub(super) fn node(name: &str) -> Node {
    Node {
        metadata: Metadata {
            name: name.to_owned(),
            ..Metadata::default()
        },
        ..Node::default()
    }
}

/// A pool of a manifest as Berth's object; the first one is the default.
/// Errors: a key that Berth's type does not have.
pub(super) fn pool(
    manifest: &Manifest,
    is_default: bool,
) -> Result<AddressPool, serde_json::Error> {
    let mut spec: AddressPoolSpec = serde_json::from_value(manifest.spec.clone())?;
    spec.is_default |= is_default;
    let metadata = Metadata {
        name: manifest.name.clone(),
        ..Metadata::default()
    };
    Ok(AddressPool {
        metadata,
        spec,
        ..AddressPool::default()
    })
}

#[cfg(test)]
mod tests {
    use drydock_traces::corpus;
    use drydock_traces::workload::Stack;

    use super::*;

    #[test]
    fn the_stored_pools_are_pools_that_berth_accepts() {
        for stack in [Stack::Ipv4, Stack::Ipv6, Stack::Dual] {
            let manifest = corpus::pool(stack).workload().unwrap().pools.remove(0);
            let object = pool(&manifest, true).unwrap();
            let parsed = berth::core::pool::Pool::parse(&object, None).unwrap();
            assert_eq!(
                parsed.addresses(0).len(),
                if stack == Stack::Dual { 2 } else { 1 }
            );
        }
    }
}
