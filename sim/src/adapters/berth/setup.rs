//! How Berth is configured in the simulation: its processes, and the objects that an administrator
//! would have applied.

use berth::core::agent::{Agent, AgentConfig};
use berth::core::controller::{Controller, ControllerConfig};
use berth::core::mutant::Mutant;
use berth::core::objects::{AddressPool, AddressPoolSpec, FamilySpec, Metadata, Node, Route};
use drydock_traces::workload::{AddressPool as Manifest, FamilyPool};

/// Name of the network in the plugin's configuration.
pub const NETWORK: &str = "macvlan";

/// The agent of a machine.
pub fn agent(node: &str, machine_id: &str, boot_id: &str, mutant: Option<Mutant>) -> Agent {
    let mut config = AgentConfig::new(node, machine_id, boot_id);
    NETWORK.clone_into(&mut config.default_network);
    config.mutant = mutant;
    Agent::new(config)
}

/// The controller.
pub fn controller(identity: &str) -> Controller {
    Controller::new(ControllerConfig::new(identity))
}

/// The Node object of a name.
pub fn node(name: &str) -> Node {
    Node {
        metadata: Metadata { name: name.to_owned(), ..Metadata::default() },
        ..Node::default()
    }
}

/// A pool of a manifest as Berth's object; the first one is the default.
pub fn pool(manifest: &Manifest, is_default: bool) -> AddressPool {
    let families = [&manifest.ipv4, &manifest.ipv6];
    let routes = families.into_iter().flatten().flat_map(|family| &family.routes);
    AddressPool {
        metadata: Metadata { name: manifest.name.clone(), ..Metadata::default() },
        spec: AddressPoolSpec {
            families: families.into_iter().flatten().map(family).collect(),
            block_size: manifest.block_size.map(|size| size as u16),
            is_default,
            routes: routes.map(|route| Route { dst: route.dst, gw: route.gw }).collect(),
            ..AddressPoolSpec::default()
        },
        ..AddressPool::default()
    }
}

fn family(family: &FamilyPool) -> FamilySpec {
    let texts = |ranges: &[drydock_traces::workload::AddressRange]| {
        ranges.iter().map(ToString::to_string).collect()
    };
    FamilySpec {
        ranges: texts(&family.ranges),
        exclude: texts(&family.exclude),
        gateway: family.gateway,
        subnet: None,
    }
}
