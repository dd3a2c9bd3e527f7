//! The in-memory allocator of one subnet (or of the one IPPool that caps it): exact, idempotent
//! per Pod name, without time. Two families are given out as pairs.
//!
//! Modeled: the lowest free address first; released addresses rest in a list of their own and come
//! back, lowest first, when nothing else is free. Not modeled: MAC addresses, static addresses,
//! the change of a live subnet.
//! Source: pkg/ipam/subnet.go:174-231, pkg/ipam/ip_range_list.go:160-169.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::peers::Pool;

/// Addresses by ordinal.
#[derive(Debug)]
pub(super) struct Subnet {
    pool: Pool,
    /// Closed ranges of free ordinals: first and last.
    free: BTreeMap<u64, u64>,
    released: BTreeSet<u64>,
    held: BTreeMap<u32, u64>,
    /// No ordinal from here on was ever given out.
    high_water: u64,
}

impl Subnet {
    /// All addresses free.
    pub(super) fn new(pool: Pool) -> Self {
        let mut subnet = Self {
            pool,
            free: BTreeMap::new(),
            released: BTreeSet::new(),
            held: BTreeMap::new(),
            high_water: 0,
        };
        subnet.forget();
        subnet
    }

    /// What a process that starts knows: nothing.
    pub(super) fn forget(&mut self) {
        self.free = BTreeMap::from([(0, self.pool.size() - 1)]);
        self.released.clear();
        self.held.clear();
    }

    /// The ordinal of a name, as before or new; `None` = nothing is free.
    pub(super) fn allocate(&mut self, name: u32) -> Option<u64> {
        if let Some(ordinal) = self.held.get(&name) {
            return Some(*ordinal);
        }
        if self.free.is_empty() {
            for ordinal in std::mem::take(&mut self.released) {
                self.free.insert(ordinal, ordinal);
            }
        }
        let ordinal = *self.free.first_key_value()?.0;
        self.take(name, ordinal);
        assert!(self.held_count() <= self.size(), "no ordinal is held twice");
        Some(ordinal)
    }

    fn take(&mut self, name: u32, ordinal: u64) {
        if let Some((&first, &last)) = self.free.range(..=ordinal).next_back()
            && ordinal <= last
        {
            self.free.remove(&first);
            if first < ordinal {
                self.free.insert(first, ordinal - 1);
            }
            if ordinal < last {
                self.free.insert(ordinal + 1, last);
            }
        }
        assert!(ordinal < self.pool.size(), "an ordinal is of the pool");
        self.released.remove(&ordinal);
        self.held.insert(name, ordinal);
        self.high_water = self.high_water.max(ordinal + 1);
    }

    /// Gives the address of a name back; whether it had one.
    pub(super) fn release(&mut self, name: u32) -> bool {
        let held = self.held.remove(&name);
        self.released.extend(held);
        held.is_some()
    }

    /// Restart: names and their first addresses as the records have them.
    pub(super) fn adopt(&mut self, records: &[(u32, IpAddr)]) {
        let ordinals: BTreeMap<IpAddr, u64> = (0..self.high_water)
            .filter_map(|ordinal| Some((*self.pool.addresses(ordinal).first()?, ordinal)))
            .collect();
        for (name, address) in records {
            if let Some(ordinal) = ordinals.get(address) {
                self.take(*name, *ordinal);
            }
        }
    }

    /// The addresses of a name.
    pub(super) fn addresses(&self, name: u32) -> Vec<IpAddr> {
        self.held
            .get(&name)
            .map(|ordinal| self.pool.addresses(*ordinal))
            .unwrap_or_default()
    }

    /// Names that hold an address, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = u32> {
        self.held.keys().copied()
    }

    /// How many they are.
    pub(super) fn held_count(&self) -> u64 {
        self.held.len() as u64
    }

    /// All addresses.
    pub(super) fn size(&self) -> u64 {
        self.pool.size()
    }
}

#[cfg(test)]
mod tests {
    use super::Subnet;
    use crate::peers::Pool;

    fn subnet(count: u8) -> Subnet {
        let range = ([10, 0, 0, 1].into(), [10, 0, 0, count].into());
        Subnet::new(Pool::new(vec![vec![range]]).unwrap())
    }

    #[test]
    fn a_released_address_rests_until_nothing_else_is_free() {
        let mut subnet = subnet(3);
        assert_eq!((subnet.allocate(7), subnet.allocate(8)), (Some(0), Some(1)));
        assert!(subnet.release(7));
        assert!(!subnet.release(7));
        assert_eq!(subnet.allocate(9), Some(2), "a fresh one goes first");
        assert_eq!(subnet.allocate(10), Some(0));
        assert_eq!(subnet.allocate(11), None);
    }

    #[test]
    fn a_name_asks_twice_and_holds_one_address() {
        let mut subnet = subnet(3);
        assert_eq!((subnet.allocate(7), subnet.allocate(7)), (Some(0), Some(0)));
        assert_eq!(subnet.held_count(), 1);
    }

    #[test]
    fn a_restart_takes_over_exactly_what_the_records_name() {
        let mut subnet = subnet(4);
        for name in 0..3 {
            subnet.allocate(name);
        }
        let records: Vec<_> = [0, 2].map(|name| (name, subnet.addresses(name)[0])).into();
        subnet.forget();
        subnet.adopt(&records);
        assert_eq!(subnet.held_count(), 2);
        let rest: Vec<_> = (10..13).map(|name| subnet.allocate(name)).collect();
        assert_eq!(rest, [Some(1), Some(3), None]);
    }
}
