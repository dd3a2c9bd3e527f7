//! The pools of a scenario as the modeled allocators take them: the usable ordinals of all as one.

use std::net::IpAddr;

use drydock_models::peers;
use drydock_traces::workload::{AddressPool, FamilyPool};

use crate::scenario::{Scenario, ScenarioError};

/// The pool that every modeled allocator gets.
/// Errors: no usable address.
pub(super) fn peer_pool(scenario: &Scenario) -> Result<peers::Pool, ScenarioError> {
    free_pool(&scenario.pools).map_err(|error| ScenarioError::Pool {
        pool: scenario.pools[0].name.clone(),
        reason: error.to_string(),
    })
}

/// Ordinals of a pool that the free allocator looks at; nobody runs as many Pods.
const ORDINALS_MAX: u128 = 1 << 20;

/// The usable ordinals of all pools as one pool: masked ones are left out in both families.
fn free_pool(pools: &[AddressPool]) -> Result<peers::Pool, peers::PoolError> {
    let mut families: Vec<Vec<(IpAddr, IpAddr)>> = Vec::new();
    for pool in pools {
        let parts: Vec<&FamilyPool> = pool.ipv4.iter().chain(&pool.ipv6).collect();
        families.resize(families.len().max(parts.len()), Vec::new());
        let count = parts
            .iter()
            .map(|part| part.raw_count())
            .min()
            .unwrap_or_default();
        for ordinal in 0..count.min(ORDINALS_MAX) {
            let addresses: Vec<IpAddr> = parts
                .iter()
                .filter_map(|part| usable(part, ordinal))
                .collect();
            if addresses.len() == parts.len() {
                for (family, address) in families.iter_mut().zip(addresses) {
                    family.push((address, address));
                }
            }
        }
    }
    peers::Pool::new(families)
}

/// The address of an ordinal in a family, unless it is masked there.
fn usable(family: &FamilyPool, ordinal: u128) -> Option<IpAddr> {
    let mut rest = ordinal;
    let address = family.ranges.iter().find_map(|range| {
        let found = range.nth(rest);
        rest = rest.saturating_sub(range.count());
        found
    })?;
    let masked = family.gateway == Some(address)
        || family.exclude.iter().any(|masked| masked.contains(address));
    (!masked).then_some(address)
}
