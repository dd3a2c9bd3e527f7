//! B. Claim: no address outside its pool, excluded, or a gateway is ever in use. Watches: an
//! ADD's answer, an interface that comes up. Never suspended.

use drydock_models::observation::Observation;

use super::{Allowed, Breach, Fact, Invariant};

/// Checks addresses against the usable ones of the pools.
pub fn check(allowed: &Allowed, fact: &Fact<'_>) -> Option<Breach> {
    let (addresses, pod) = match fact {
        Fact::World(Observation::AddressUp { addresses, pod, .. }) => (addresses, pod),
        Fact::World(Observation::IpamAddEnded {
            result: Ok(addresses),
            pod,
            ..
        }) => (addresses, pod),
        _ => return None,
    };
    let outside = addresses
        .iter()
        .find(|address| !allowed.usable.contains(address))?;
    let text = format!("{outside} was given to Pod {pod}, and no pool may give it out");
    Some((Invariant::B, outside.to_string(), text))
}
