//! Blocks of the pools: which there are, how they are named, and which addresses in them may be
//! given out. A pool that is not a whole number of blocks is rounded up to blocks, and an
//! IPReservation keeps back what is outside it, as an operator of Calico must do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use crate::peers::{Pool, number};

use super::object::Block;
use super::parameters::CalicoParameters;

/// Blocks of one family.
pub(super) struct Family {
    v4: bool,
    /// Addresses in a block, as a power of two.
    block_bits: u32,
    /// First addresses, ascending.
    bases: Vec<u128>,
    by_name: BTreeMap<Rc<str>, usize>,
    names: Vec<Rc<str>>,
    usable: BTreeSet<u128>,
}

/// Blocks of all families.
pub(super) struct Layout {
    pub(super) families: Vec<Family>,
}

impl Layout {
    pub(super) fn new(pool: &Pool, parameters: &CalicoParameters) -> Self {
        let families = pool.families.iter().map(|ranges| {
            let v4 = ranges.first().is_some_and(|(first, _)| first.is_ipv4());
            let (width, size) = if v4 {
                (32, parameters.block_size_v4)
            } else {
                (128, parameters.block_size_v6)
            };
            let block_bits = width - u32::try_from(size).unwrap_or(width).min(width);
            let mut usable = BTreeSet::new();
            for (first, last) in ranges {
                usable.extend(number(*first)..=number(*last));
            }
            let bases: BTreeSet<u128> = (usable.iter())
                .map(|address| address >> block_bits << block_bits)
                .collect();
            let bases: Vec<u128> = bases.into_iter().collect();
            let names: Vec<Rc<str>> = bases.iter().map(|base| name(v4, *base, size)).collect();
            let by_name = (names.iter().cloned()).zip(0..).collect();
            Family {
                v4,
                block_bits,
                bases,
                by_name,
                names,
                usable,
            }
        });
        Self {
            families: families.collect(),
        }
    }

    /// The family that a block belongs to.
    pub(super) fn family_of(&self, block: &str) -> Option<usize> {
        (self.families.iter()).position(|family| family.by_name.contains_key(block))
    }
}

impl Family {
    pub(super) fn is_v4(&self) -> bool {
        self.v4
    }

    pub(super) fn block_count(&self) -> usize {
        self.bases.len()
    }

    /// Addresses in a block.
    pub(super) fn block_slots(&self) -> usize {
        1 << self.block_bits
    }

    /// Names of all blocks from a start on, wrapping once.
    pub(super) fn walk(&self, start: usize) -> impl Iterator<Item = &Rc<str>> {
        let (before, from) = self.names.split_at(start.min(self.names.len()));
        from.iter().chain(before)
    }

    /// The address of a slot.
    ///
    /// Panics: when there is no such block.
    pub(super) fn address(&self, block: &str, slot: usize) -> IpAddr {
        let bits = self.bases[self.by_name[block]] + slot as u128;
        if self.v4 {
            IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
    }

    /// The slot that is taken next: the head of the free list that is not reserved.
    pub(super) fn next_free(&self, name: &str, block: &Block) -> Option<usize> {
        let base = self.bases[*self.by_name.get(name)?];
        (block.unallocated.iter().copied())
            .find(|slot| self.usable.contains(&(base + *slot as u128)))
    }
}

/// libcalico-go/lib/names/cidr.go:26-37.
fn name(v4: bool, base: u128, size: u64) -> Rc<str> {
    let text = if v4 {
        Ipv4Addr::from_bits(base as u32).to_string()
    } else {
        Ipv6Addr::from_bits(base).to_string()
    };
    format!("{}-{size}", text.replace(['.', ':'], "-")).into()
}
