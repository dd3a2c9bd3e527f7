//! Who holds which address.

use core::net::IpAddr;

use serde::Serialize;

use super::{Incarnation, Snapshot};
use crate::core::holder::{HolderState, Record};

/// One held address (or pair).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HolderRow {
    /// One address per family.
    pub addresses: Vec<IpAddr>,
    /// Pool.
    pub pool: String,
    /// Block object.
    pub block: String,
    /// Ordinal within the block.
    pub ordinal: u16,
    /// `namespace/name` of the Pod.
    pub pod: String,
    /// UID of the Pod.
    pub pod_uid: String,
    /// `Bound`, `Reserved` or `Releasing`.
    pub state: &'static str,
    /// Container of the answered ADD, or empty.
    pub container: String,
    /// Node that the machine serves, as far as is known.
    pub node: String,
    /// Machine and number of the incarnation.
    pub epoch: String,
    /// Where that incarnation stands.
    pub incarnation: Incarnation,
}

/// Every held address. Shape: by pool, then by ordinal.
pub fn holders(snapshot: &Snapshot) -> Vec<HolderRow> {
    let mut rows = Vec::new();
    for (object, pool, block) in snapshot.readable() {
        let begin = object.spec.index.saturating_mul(u64::from(pool.block_size));
        for (ordinal, record) in block.iter() {
            let Record::Pod(holder) = record else {
                continue;
            };
            let state = match holder.state {
                HolderState::Bound => "Bound",
                HolderState::Unbound => "Reserved",
                HolderState::Releasing => "Releasing",
            };
            let row = HolderRow {
                addresses: pool.addresses(begin + u64::from(ordinal)),
                pool: pool.name.clone(),
                block: object.metadata.name.clone(),
                ordinal,
                pod: holder.pod_name.clone(),
                pod_uid: holder.pod_uid.to_string(),
                state,
                container: holder.container.clone(),
                node: snapshot.node_name(&holder.epoch),
                epoch: holder.epoch.to_string(),
                incarnation: snapshot.incarnation(&holder.epoch),
            };
            rows.push((pool.name.clone(), begin + u64::from(ordinal), row));
        }
    }
    rows.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    rows.into_iter().map(|(_, _, row)| row).collect()
}

impl HolderRow {
    /// Whether a word of the operator means this row: an address, a Pod's `namespace/name`, its
    /// name alone, or its UID.
    pub fn matches(&self, word: &str) -> bool {
        let name = self.pod.rsplit('/').next().unwrap_or_default();
        word.parse()
            .is_ok_and(|address: IpAddr| self.addresses.contains(&address))
            || self.pod == word
            || name == word
            || self.pod_uid == word
    }
}
