//! B. Claim: no address outside its pool, excluded, or a gateway is ever in use, and none of a pool
//! that does not admit its Pod. Watches: an ADD's answer, an interface that comes up. Never
//! suspended.

use std::net::IpAddr;

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
    let is_fenced = |octets: [u8; 2]| match outside {
        IpAddr::V4(address) => address.octets().starts_with(&octets),
        IpAddr::V6(_) => false,
    };
    let why = if allowed.fenced.is_some_and(is_fenced) {
        "its pool does not admit that Pod"
    } else {
        "no pool may give it out"
    };
    let text = format!("{outside} was given to Pod {pod}, and {why}");
    Some((Invariant::B, outside.to_string(), text))
}
