//! How full each pool is.

use serde::Serialize;

use super::Snapshot;
use crate::core::holder::{HolderState, Record};
use crate::core::objects::{AddressPool, SetAside};
use crate::core::pool::approved_block_size;

/// One pool. Units: ordinals (an address, or a pair in dual stack).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolRow {
    /// Name.
    pub name: String,
    /// Ordinals of the shorter family, masked ones included.
    pub capacity: u64,
    /// Held by Pods whose ADD was answered.
    pub bound: u64,
    /// Held for Pods that have not asked yet.
    pub reserved: u64,
    /// Held until a namespace is gone.
    pub releasing: u64,
    /// Excluded, gateways, kept for reservations, and whatever is in blocks that cannot be read.
    pub masked: u64,
    /// Left.
    pub free: u64,
    /// Blocks that exist.
    pub blocks: u64,
    /// Whether agents use it as it stands.
    pub approved: bool,
    /// Whether Pods that name no pool draw from it.
    pub default: bool,
    /// Whether it takes no new claims.
    pub disabled: bool,
    /// Ranges of all families, as written.
    pub ranges: Vec<String>,
}

/// Every pool. Shape: by name.
pub fn pools(snapshot: &Snapshot) -> Vec<PoolRow> {
    let mut rows: Vec<PoolRow> = snapshot
        .pools
        .iter()
        .map(|object| row(snapshot, object))
        .collect();
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

fn row(snapshot: &Snapshot, object: &AddressPool) -> PoolRow {
    let name = &object.metadata.name;
    let mut row = PoolRow {
        name: name.clone(),
        approved: approved_block_size(object).is_some(),
        default: object.spec.is_default,
        disabled: object.spec.disabled,
        ranges: object
            .spec
            .families
            .iter()
            .flat_map(|family| family.ranges.iter().cloned())
            .collect(),
        ..PoolRow::default()
    };
    let Some(pool) = snapshot.geometry(name) else {
        return row;
    };
    row.capacity = pool.capacity;
    for (_, _, records) in snapshot.readable().filter(|(_, of, _)| of.name == *name) {
        row.blocks += 1;
        for (_, record) in records.iter() {
            match record {
                Record::Pod(holder) => match holder.state {
                    HolderState::Bound => row.bound += 1,
                    HolderState::Unbound => row.reserved += 1,
                    HolderState::Releasing => row.releasing += 1,
                },
                Record::Excluded | Record::Gateway | Record::Reserved(_) => row.masked += 1,
                Record::Cooling(_) => {}
            }
        }
    }
    // A block that cannot be read is full.
    let hidden = snapshot.set_aside.iter().filter_map(SetAside::block_place);
    for (_, index) in hidden.filter(|(of, _)| *of == name) {
        row.blocks += 1;
        row.masked += u64::from(pool.ordinals_in(index));
    }
    let taken = row.bound + row.reserved + row.releasing + row.masked;
    row.free = row.capacity.saturating_sub(taken);
    row
}
