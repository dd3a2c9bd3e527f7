//! What Berth's blocks in the store say about who holds what, as facts for the ledger. It reads
//! the stored objects and nothing of Berth's processes.

use std::collections::BTreeMap;
use std::rc::Rc;

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

/// What the blocks say, as last stored.
#[derive(Debug, Default)]
pub struct Records {
    pools: BTreeMap<String, Pool>,
    /// By name, then by ordinal.
    blocks: BTreeMap<String, BTreeMap<u16, Stated>>,
}

/// The record at an ordinal.
#[derive(Clone, Debug)]
struct Stated {
    /// The record itself.
    text: Rc<str>,
    /// Whose it is, if a Pod's, and whether it is recorded as answered.
    held: Option<(Holder, bool)>,
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
        let before = self.blocks.get(&*custom.name);
        let now = if exists {
            read(&block.spec.records, before)
        } else {
            Some(BTreeMap::new())
        };
        // What cannot be read says nothing of who holds what.
        let Some(now) = now else {
            return Vec::new();
        };
        let base = block.spec.index * u64::from(block.spec.size);
        let mut facts = Vec::new();
        for ordinal in 0..block.spec.size {
            let was = before.and_then(|before| before.get(&ordinal)?.held);
            let is = now.get(&ordinal).and_then(|stated| stated.held);
            let holder = |held: Option<(Holder, bool)>| held.map(|(holder, _)| holder);
            let addresses = || pool.addresses(base + u64::from(ordinal));
            if holder(was) != holder(is) {
                facts.push(Fact::Record {
                    addresses: addresses(),
                    before: holder(was),
                    after: holder(is),
                });
            }
            if was != is && is.is_some_and(|(_, is_bound)| is_bound) {
                facts.push(Fact::Bound {
                    addresses: addresses(),
                });
            }
        }
        self.blocks.insert(custom.name.to_string(), now);
        facts
    }
}

/// The records of a block. Nearly all of them stood in the version before: of those only the text
/// is looked at.
fn read(records: &str, before: Option<&BTreeMap<u16, Stated>>) -> Option<BTreeMap<u16, Stated>> {
    let mut now = BTreeMap::new();
    for text in records.split(';').filter(|record| !record.is_empty()) {
        let ordinal = text.split_once(' ')?.0.parse().ok()?;
        let before = before.and_then(|before| before.get(&ordinal));
        let stated = match before.filter(|before| *before.text == *text) {
            Some(same) => same.clone(),
            None => Stated {
                text: text.into(),
                held: held(&decode_records(text).next()?.ok()?.1),
            },
        };
        now.insert(ordinal, stated);
    }
    Some(now)
}

/// The Pod that holds a record, and whether it is recorded as answered.
fn held(record: &Record) -> Option<(Holder, bool)> {
    let holder = record.holder()?;
    let pod = PodUid::from_text(holder.pod_uid.as_str())?;
    let node = node_of(holder.epoch.machine());
    Some((Holder { pod, node }, holder.state == HolderState::Bound))
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
