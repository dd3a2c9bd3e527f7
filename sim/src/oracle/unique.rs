//! U. Claim: no two live interfaces of different Pods have one address. Watches: an interface
//! comes up. Never suspended. (Two sandboxes of one Pod are counted apart, as the protocol says.)

use drydock_models::observation::Observation;

use super::{Breach, Fact, Invariant, Truth};

/// Checks an interface that came up against all that live.
pub fn check(truth: &Truth, fact: &Fact<'_>) -> Option<Breach> {
    let Fact::World(Observation::AddressUp {
        pod,
        node,
        addresses,
        ..
    }) = fact
    else {
        return None;
    };
    addresses.iter().find_map(|address| {
        let users = truth.by_address.get(address)?;
        let other = users
            .iter()
            .map(|key| &truth.interfaces[key])
            .find(|i| i.pod != *pod)?;
        let text = format!(
            "{address} came up for Pod {pod} on node {node} while Pod {} on node {} still has it",
            other.pod, other.node
        );
        Some((Invariant::U, address.to_string(), text))
    })
}
