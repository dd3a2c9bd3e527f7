//! host-local's ranges as pools: each range is a [`Pool`] of one family, and an address is claimed
//! in a [`Block`] of it as everywhere in Berth. The blocks are made from the ledger when a claim
//! looks at them, so a range may be changed while its addresses are in use.
//!
//! A search goes on after the address that was taken last, over all ranges of the set, as
//! host-local's does: a container that fails and comes back does not get its old address at once.

use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::core::block::Block;
use crate::core::exchange::{AllocatedAddress, Attachment, Failure};
use crate::core::holder::{Holder, HolderState, Record};
use crate::core::identity::EpochId;
use crate::core::objects::{AddressPool, FamilySpec, Uid};
use crate::core::pool::{Mask, Pool, PoolError};

/// Units: ordinals. Blocks are not stored, so their size may change.
const BLOCK_SIZE: u16 = 64;

/// The addresses that are held.
pub type Held = BTreeMap<IpAddr, Attachment>;

/// One range, with nothing left to default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeSpec {
    /// The subnet that it is part of.
    pub subnet: IpNet,
    /// Its first address.
    pub first: IpAddr,
    /// Its last address.
    pub last: IpAddr,
    /// The subnet's gateway, never handed out.
    pub gateway: IpAddr,
}

impl RangeSpec {
    /// Whether whoever may use this range may use the other: no address more, and the same gateway,
    /// so that none is a gateway here and free there.
    pub fn covers(&self, other: &Self) -> bool {
        self.subnet == other.subnet
            && self.gateway == other.gateway
            && self.first <= other.first
            && other.last <= self.last
    }
}

/// Ranges that stand for one another: one address of them is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<(RangeSpec, Pool)>,
}

impl RangeSet {
    /// A set of these ranges.
    ///
    /// Errors: one of them is not a range.
    pub fn new(specs: &[RangeSpec]) -> Result<Self, PoolError> {
        let pool = |spec: &RangeSpec| {
            let mut object = AddressPool::default();
            object.metadata.name = spec.subnet.to_string();
            object.spec.block_size = Some(BLOCK_SIZE);
            object.spec.families = vec![FamilySpec {
                ranges: vec![format!("{}-{}", spec.first, spec.last)],
                gateway: Some(spec.gateway),
                subnet: Some(spec.subnet),
                ..FamilySpec::default()
            }];
            Ok((*spec, Pool::parse(&object, None)?))
        };
        let ranges: Result<Vec<_>, PoolError> = specs.iter().map(pool).collect();
        Ok(Self { ranges: ranges? })
    }

    /// The ranges.
    pub fn specs(&self) -> impl Iterator<Item = &RangeSpec> {
        self.ranges.iter().map(|(spec, _)| spec)
    }

    /// Whether of the IPv6 family.
    pub fn is_v6(&self) -> bool {
        self.ranges.iter().any(|(spec, _)| spec.first.is_ipv6())
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.ranges.iter().any(|(_, pool)| {
            let others = &mut other.ranges.iter();
            others.any(|(_, of_other)| pool.overlaps(of_other))
        })
    }

    fn place(&self, ip: IpAddr) -> Option<(usize, u64)> {
        self.ranges
            .iter()
            .enumerate()
            .find_map(|(index, (_, pool))| Some((index, pool.ordinal_of(ip)?)))
    }

    /// Whether the address is in one of the ranges.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.place(ip).is_some()
    }

    /// The address as its holder gets it, if it is in one of the ranges.
    pub fn allocated(&self, ip: IpAddr) -> Option<AllocatedAddress> {
        let (index, ordinal) = self.place(ip)?;
        let allocation = self.ranges[index].1.allocation(ordinal)?;
        allocation.addresses.first().copied()
    }

    /// Claims this address.
    ///
    /// Errors: it is held, a gateway, or not of this set.
    pub fn claim(&self, ip: IpAddr, held: &Held) -> Result<AllocatedAddress, Failure> {
        let refuse = |code, message: String| Err(Failure::new(code, message));
        let inadmissible = Failure::ADDRESS_INADMISSIBLE;
        let Some((index, ordinal)) = self.place(ip) else {
            return refuse(inadmissible, format!("the address {ip} is not of {self}"));
        };
        let pool = &self.ranges[index].1;
        if pool.mask(ordinal) == Some(Mask::Gateway) {
            return refuse(inadmissible, format!("the address {ip} is the gateway"));
        }
        let size = u64::from(BLOCK_SIZE);
        let mut block = block(pool, ordinal / size, held);
        if block.claim((ordinal % size) as u16, record("")).is_err() {
            let message = format!("the address {ip} is held by another container");
            return refuse(Failure::ADDRESS_TAKEN, message);
        }
        self.allocated(ip).map_or_else(
            || refuse(inadmissible, format!("the address {ip} is not of {self}")),
            Ok,
        )
    }

    /// Claims the next free address after `last`, round all ranges.
    pub fn claim_next(&self, last: Option<IpAddr>, held: &Held) -> Option<AllocatedAddress> {
        let (start, after) = match last.and_then(|ip| self.place(ip)) {
            Some((index, ordinal)) => (index, ordinal + 1),
            None => (0, 0),
        };
        let count = self.ranges.len();
        let pool = |index: usize| &self.ranges[index % count].1;
        let whole = |index: usize| (index, 0, pool(index).capacity);
        let mut parts = vec![(start, after, pool(start).capacity)];
        parts.extend((start + 1..start + count).map(whole));
        parts.push((start, 0, after));
        parts.into_iter().find_map(|(index, from, until)| {
            let ordinal = first_free(pool(index), from, until, held)?;
            let allocation = pool(index).allocation(ordinal)?;
            allocation.addresses.first().copied()
        })
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (spec, _)) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}-{}", spec.first, spec.last)?;
        }
        Ok(())
    }
}

/// A record of a holder. Within one block that is looked at once, who it is does not matter.
fn record(container: &str) -> Record {
    Record::Pod(Holder {
        epoch: EpochId::new("", 0),
        pod_uid: Uid::default(),
        state: HolderState::Bound,
        pod_name: String::new(),
        container: container.to_owned(),
        reservation: String::new(),
    })
}

/// Block `index` as the ledger has it.
fn block(pool: &Pool, index: u64, held: &Held) -> Block {
    let mut block = Block::empty(pool, index);
    let begin = index * u64::from(BLOCK_SIZE);
    let end = begin + u64::from(pool.ordinals_in(index).max(1)) - 1;
    let address = |ordinal| pool.addresses(ordinal).first().copied();
    if let (Some(first), Some(last)) = (address(begin), address(end)) {
        for (ip, attachment) in held.range(first..=last) {
            if let Some(ordinal) = pool.ordinal_of(*ip) {
                block.set(
                    (ordinal - begin) as u16,
                    Some(record(&attachment.container)),
                );
            }
        }
    }
    block
}

/// The first ordinal of `from..until` that a claim can take. It looks at no more blocks than are
/// full, and one.
fn first_free(pool: &Pool, from: u64, until: u64, held: &Held) -> Option<u64> {
    let size = u64::from(BLOCK_SIZE);
    (from / size..until.div_ceil(size)).find_map(|index| {
        let begin = index * size;
        let mut block = block(pool, index, held);
        let within = |ordinal: &u16| (from..until).contains(&(begin + u64::from(*ordinal)));
        let ordinal = block.available().find(within)?;
        block
            .claim(ordinal, record(""))
            .expect("what is available can be claimed");
        Some(begin + u64::from(ordinal))
    })
}
