//! podCIDRs: the operator cuts the pool into equal subnets and gives each node one, for good; the
//! agent's host-scope allocator hands out what is in its node's. Nothing is shared, nothing grows.
//! Source: cilium pkg/ipam/allocator/podcidr/podcidr.go (allocateNext), pkg/ipam/allocator.go,
//! pkg/ipam/service/ipallocator/allocator.go (NewCIDRRange), Documentation ipam/cluster-pool.rst.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ids::ContainerId;
use crate::peers::{Pool, number};

use super::parameters::CiliumParameters;

/// Subnets of one family that no node has yet, lowest first.
struct Family {
    v4: bool,
    bits: u32,
    free: BTreeSet<u128>,
}

/// The operator's sets.
pub(super) struct Operator {
    families: Vec<Family>,
}

impl Operator {
    pub(super) fn new(pool: &Pool, nodes: usize, parameters: &CiliumParameters) -> Self {
        let families = pool.families.iter().map(|ranges| {
            let v4 = ranges.first().is_some_and(|(first, _)| first.is_ipv4());
            let (width, mask) = if v4 {
                (32, parameters.mask_v4)
            } else {
                (128, parameters.mask_v6)
            };
            let spans = spans(ranges);
            let mut bits = width - u32::try_from(mask).unwrap_or(width).min(width);
            while parameters.mask_fits_nodes && bits > 2 && count(&spans, bits) < nodes as u128 {
                bits -= 1;
            }
            Family {
                v4,
                bits,
                free: subnets(&spans, bits),
            }
        });
        Self {
            families: families.collect(),
        }
    }

    /// A subnet of each family; a family that has none left gives none.
    pub(super) fn assign(&mut self, parameters: &CiliumParameters) -> Vec<HostScope> {
        let node_addresses = parameters.node_addresses;
        (self.families.iter_mut())
            .map(|family| {
                HostScope::new(
                    family.v4,
                    family.bits,
                    family.free.pop_first(),
                    node_addresses,
                )
            })
            .collect()
    }
}

/// Adjacent ranges as one.
fn spans(ranges: &[(IpAddr, IpAddr)]) -> Vec<(u128, u128)> {
    let mut sorted: Vec<(u128, u128)> = (ranges.iter())
        .map(|(first, last)| (number(*first), number(*last)))
        .collect();
    sorted.sort_unstable();
    let mut spans: Vec<(u128, u128)> = Vec::new();
    for (first, last) in sorted {
        match spans.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => spans.push((first, last)),
        }
    }
    spans
}

/// First and last number of the subnets of a size that lie inside of a span, end excluded.
fn inside((first, last): (u128, u128), bits: u32) -> (u128, u128) {
    let size = 1_u128 << bits;
    let (from, to) = (first.div_ceil(size), (last + 1) / size);
    (from, to.max(from))
}

fn count(spans: &[(u128, u128)], bits: u32) -> u128 {
    let counts = spans.iter().map(|span| inside(*span, bits));
    counts.map(|(from, to)| to - from).sum()
}

/// Subnets that the operator looks at; no cluster has as many nodes.
const SUBNETS_MAX: u128 = 1 << 16;

fn subnets(spans: &[(u128, u128)], bits: u32) -> BTreeSet<u128> {
    let bases = spans.iter().flat_map(|span| {
        let (from, to) = inside(*span, bits);
        (from..to.min(from + SUBNETS_MAX)).map(|number| number << bits)
    });
    bases.collect()
}

/// The addresses of one family on one node.
pub(super) struct HostScope {
    v4: bool,
    free: BTreeSet<u128>,
    held: BTreeMap<ContainerId, u128>,
}

impl HostScope {
    /// All but the first, the last and the node's own are free.
    fn new(v4: bool, bits: u32, base: Option<u128>, node_addresses: u64) -> Self {
        let size = 1_u128 << bits;
        let from = 1 + u128::from(node_addresses);
        let free = base.map(|base| (from..size - 1).map(|offset| base + offset).collect());
        Self {
            v4,
            free: free.unwrap_or_default(),
            held: BTreeMap::new(),
        }
    }

    /// The next free address.
    pub(super) fn allocate(&mut self, container: ContainerId) -> Option<IpAddr> {
        let address = match self.held.get(&container) {
            Some(address) => *address,
            None => self.free.pop_first()?,
        };
        self.held.insert(container, address);
        Some(self.address(address))
    }

    fn address(&self, bits: u128) -> IpAddr {
        if self.v4 {
            IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
    }

    /// What is held, and for which container.
    pub(super) fn held(&self) -> impl Iterator<Item = (IpAddr, ContainerId)> {
        let held = self.held.iter();
        held.map(|(container, bits)| (self.address(*bits), *container))
    }

    /// Nothing is held.
    pub(super) fn clear(&mut self) {
        self.free
            .extend(std::mem::take(&mut self.held).into_values());
    }

    /// Free at once, for anybody.
    pub(super) fn release(&mut self, container: ContainerId) {
        if let Some(address) = self.held.remove(&container) {
            self.free.insert(address);
        }
    }
}
