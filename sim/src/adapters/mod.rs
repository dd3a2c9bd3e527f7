//! Where the allocator under test meets the simulated cluster: the only place that sees both.

pub mod berth;

use std::net::IpAddr;

use drydock_engine::Tasks;
use drydock_models::ipam::Ipam;
use drydock_models::observation::Observation;
use drydock_models::peers;
use drydock_models::peers::calico::Calico;
use drydock_models::peers::cilium::Cilium;
use drydock_models::peers::instant::Instant;
use drydock_models::peers::kube_ovn::KubeOvn;
use drydock_models::peers::spiderpool::Spiderpool;
use drydock_models::peers::whereabouts::Whereabouts;
use drydock_traces::workload::{AddressPool, FamilyPool};

use self::berth::BerthIpam;
pub use self::berth::FENCED;
pub use self::berth::objects::never_asks;
use self::berth::records::Records;
use crate::cli::Allocator;
use crate::oracle::Fact;
use crate::scenario::{Scenario, ScenarioError};

/// Reads from the store what an allocator recorded.
#[derive(Debug)]
pub enum Watcher {
    /// Berth's blocks.
    Berth(Box<Records>),
    /// The allocator records nothing.
    Nothing,
}

impl Watcher {
    /// The facts in an observation.
    pub fn facts(&mut self, observation: &Observation) -> Vec<Fact<'static>> {
        match self {
            Watcher::Berth(records) => records.facts(observation),
            Watcher::Nothing => Vec::new(),
        }
    }
}

/// The allocator of a scenario, and who reads its records.
/// Errors: a pool that it refuses, an unreadable constant, an unknown mutant.
pub fn ipam(scenario: &Scenario, tasks: &Tasks) -> Result<(Box<dyn Ipam>, Watcher), ScenarioError> {
    let table = &scenario.parameters.table;
    match scenario.allocator {
        Allocator::Instant => {
            let instant = Instant::new(peer_pool(scenario)?);
            Ok((Box::new(instant), Watcher::Nothing))
        }
        Allocator::Calico => {
            let calico = Calico::new(&peer_pool(scenario)?, table)?;
            Ok((Box::new(calico), Watcher::Nothing))
        }
        Allocator::Cilium => {
            let cilium = Cilium::new(peer_pool(scenario)?, table)?;
            Ok((Box::new(cilium), Watcher::Nothing))
        }
        Allocator::Spiderpool => {
            let groups = peer_groups(scenario);
            let ipam = Spiderpool::new(&peer_pool(scenario)?, &groups, table)?;
            Ok((Box::new(ipam), Watcher::Nothing))
        }
        Allocator::Whereabouts => {
            let whereabouts = Whereabouts::new(&peer_pool(scenario)?, table)?;
            Ok((Box::new(whereabouts), Watcher::Nothing))
        }
        Allocator::KubeOvn => {
            let kube_ovn = KubeOvn::new(peer_pool(scenario)?, table)?;
            Ok((Box::new(kube_ovn), Watcher::Nothing))
        }
        Allocator::Berth => {
            let setup = berth::setup(scenario)?;
            let refused = |reason: String| ScenarioError::Pool {
                pool: scenario.pools[0].name.clone(),
                reason,
            };
            let records = Records::new(&setup.pools).map_err(|error| refused(error.to_string()))?;
            let ipam = BerthIpam::new(setup, tasks.clone());
            Ok((Box::new(ipam), Watcher::Berth(Box::new(records))))
        }
    }
}

/// The pool that every modelled allocator gets.
/// Errors: no usable address.
fn peer_pool(scenario: &Scenario) -> Result<peers::Pool, ScenarioError> {
    free_pool(&scenario.pools).map_err(|error| ScenarioError::Pool {
        pool: scenario.pools[0].name.clone(),
        reason: error.to_string(),
    })
}

/// The workload objects by `namespace/name`, with their Pods.
fn peer_groups(scenario: &Scenario) -> Vec<(String, u64)> {
    let objects = scenario.workload.objects.iter();
    objects
        .map(|object| {
            let name = format!("{}/{}", object.namespace, object.name);
            (name, u64::from(object.pod_count()))
        })
        .collect()
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

/// Names of Berth's mutants.
pub fn mutants() -> Vec<String> {
    ::berth::core::Mutant::ALL
        .iter()
        .map(ToString::to_string)
        .collect()
}
