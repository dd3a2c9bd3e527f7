//! What Berth's blocks in the store say about who holds what, as facts for the ledger. It reads
//! the stored objects and nothing of Berth's processes.

use std::collections::BTreeMap;

use berth::core::holder::{HolderState, Record, decode_records};
use berth::core::objects::{AddressPool, Kind, Object};
use berth::core::pool::Pool;
use drydock_models::apiserver::ApiServers;
use drydock_models::ids::{NodeIndex, PodUid};
use drydock_models::ipam::{Allocated, AllocatedTo};
use drydock_models::observation::Observation;
use drydock_models::request::Custom;

use super::objects::{custom_kind, from_custom};
use crate::oracle::{Fact, Holder};

/// Holders by block and ordinal, as last stored, each with whether it is recorded as answered.
#[derive(Debug, Default)]
pub struct Records {
    pools: BTreeMap<String, Pool>,
    blocks: BTreeMap<String, BTreeMap<u16, (Holder, bool)>>,
}

impl Records {
    /// Nothing stored yet.
    /// Errors: a pool that Berth would refuse.
    pub fn new(pools: &[AddressPool]) -> Result<Records, berth::core::pool::PoolError> {
        let pools = pools
            .iter()
            .map(|pool| Pool::parse(pool, None).map(|read| (pool.metadata.name.clone(), read)))
            .collect::<Result<_, _>>()?;
        Ok(Records {
            pools,
            blocks: BTreeMap::new(),
        })
    }

    /// The facts in an observation; empty unless a block was stored or removed.
    pub fn facts(&mut self, observation: &Observation) -> Vec<Fact<'static>> {
        match observation {
            Observation::CustomStored { object } => self.stored(object, true),
            Observation::CustomGone { object } => self.stored(object, false),
            _ => Vec::new(),
        }
    }

    fn stored(&mut self, custom: &Custom, exists: bool) -> Vec<Fact<'static>> {
        if custom.kind.resource != "addressblocks" {
            return Vec::new();
        }
        let Object::AddressBlock(block) = from_custom(custom) else {
            return Vec::new();
        };
        let Some(pool) = self.pools.get(&block.spec.pool) else {
            return Vec::new();
        };
        let mut now: BTreeMap<u16, (Holder, bool)> = BTreeMap::new();
        if exists {
            let read: Result<Vec<_>, _> = decode_records(&block.spec.records).collect();
            // What cannot be read says nothing of who holds what.
            let Ok(read) = read else {
                return Vec::new();
            };
            for (ordinal, record) in read {
                if let Record::Pod(holder) = record
                    && let Some(pod) = PodUid::from_text(holder.pod_uid.as_str())
                {
                    let node = node_of(holder.epoch.machine());
                    let is_bound = holder.state == HolderState::Bound;
                    now.insert(ordinal, (Holder { pod, node }, is_bound));
                }
            }
        }
        let before = self
            .blocks
            .insert(custom.name.to_string(), now.clone())
            .unwrap_or_default();
        let base = block.spec.index * u64::from(block.spec.size);
        let mut facts = Vec::new();
        for ordinal in 0..block.spec.size {
            let (was, is) = (before.get(&ordinal), now.get(&ordinal));
            let holder = |record: Option<&(Holder, bool)>| record.map(|(holder, _)| *holder);
            let addresses = || pool.addresses(base + u64::from(ordinal));
            if holder(was) != holder(is) {
                facts.push(Fact::Record {
                    addresses: addresses(),
                    before: holder(was),
                    after: holder(is),
                });
            }
            if was != is && is.is_some_and(|(_, is_bound)| *is_bound) {
                facts.push(Fact::Bound {
                    addresses: addresses(),
                });
            }
        }
        facts
    }
}

/// Every address that a block in the store holds for a Pod.
pub fn allocated(pools: &[AddressPool], api: &ApiServers) -> Vec<Allocated> {
    let parsed = pools.iter().filter_map(|pool| {
        let parsed = Pool::parse(pool, None).ok()?;
        Some((pool.metadata.name.as_str(), parsed))
    });
    let parsed: BTreeMap<&str, Pool> = parsed.collect();
    let kind = custom_kind(Kind::AddressBlock).expect("blocks are no Pods");
    let mut allocated = Vec::new();
    for custom in api.customs(kind) {
        let Object::AddressBlock(block) = from_custom(&custom) else {
            continue;
        };
        let Some(pool) = parsed.get(block.spec.pool.as_str()) else {
            continue;
        };
        let base = block.spec.index * u64::from(block.spec.size);
        for (ordinal, record) in decode_records(&block.spec.records).flatten() {
            if let Record::Pod(held) = record
                && let Some(pod) = PodUid::from_text(held.pod_uid.as_str())
            {
                let addresses = pool.addresses(base + u64::from(ordinal)).into_iter();
                // No ADD is answered so: an agent that lost its journal took it for answered.
                let is_guess = held.state == HolderState::Bound && held.container.is_empty();
                let holder = if is_guess {
                    AllocatedTo::PodToItsEnd(pod)
                } else {
                    AllocatedTo::Pod(pod)
                };
                allocated.extend(addresses.map(|address| Allocated {
                    address,
                    holder: holder.clone(),
                }));
            }
        }
    }
    allocated
}

/// The machine that a record names, by its ID (`machine-0000000a`, as the cluster names them) or,
/// for a mutant that takes a node's name for an identity, by that name (`master1`, `worker4`).
fn node_of(identity: &str) -> Option<NodeIndex> {
    if let Some(digits) = identity.strip_prefix("machine-") {
        return u32::from_str_radix(digits, 16).ok().map(NodeIndex);
    }
    let digits = identity.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    digits.parse::<u32>().ok()?.checked_sub(1).map(NodeIndex)
}
