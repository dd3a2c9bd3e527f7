//! Calico's objects as stored, and how each is read and written: a write is a compare-and-swap, a
//! deletion marks, reads and deletes, and a reader that finds a marked object finishes its
//! deletion. Source: libcalico-go/lib/backend/k8s/resources/{ipam_block.go:185-235,
//! ipam_affinity.go:114-252, ipam_handle.go:90-165, customresource.go:200-241}.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::request::{Custom, CustomKind, Shape};

const fn flat(resource: &'static str) -> CustomKind {
    CustomKind {
        resource,
        shape: Shape::Flat,
    }
}

pub(super) const CLUSTER_INFORMATIONS: CustomKind = flat("clusterinformations");
pub(super) const NAMESPACES: CustomKind = flat("namespaces");
pub(super) const NODES: CustomKind = flat("nodes");
pub(super) const IP_POOLS: CustomKind = flat("ippools");
pub(super) const IP_RESERVATIONS: CustomKind = flat("ipreservations");
pub(super) const IPAM_CONFIGS: CustomKind = flat("ipamconfigs");
pub(super) const BLOCKS: CustomKind = CustomKind {
    resource: "ipamblocks",
    shape: Shape::ListOfMaps,
};

/// What a custom object of Calico's holds.
pub(super) trait Body: Clone + Serialize + DeserializeOwned {
    /// Its kind.
    const KIND: CustomKind;
    /// Records in it, for the price.
    fn record_count(&self) -> u32 {
        1
    }
    /// The mark of a deletion under way.
    fn deleted(&mut self) -> &mut bool;
}

/// An object as read or written.
#[derive(Clone, Debug)]
pub(super) struct Stored<T> {
    pub(super) object: Rc<Custom>,
    pub(super) body: T,
}

/// One address in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Allocation {
    pub(super) handle: String,
    /// Empty for addresses of the node itself.
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) node: String,
    /// The block's sequence number at the time.
    pub(super) sequence: u64,
}

/// `IPAMBlock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block {
    /// The node that it is affine to.
    pub(super) host: String,
    pub(super) slots: BTreeMap<usize, Allocation>,
    /// Free slots; the head is given out next, what is released goes to the tail.
    pub(super) unallocated: Vec<usize>,
    pub(super) sequence: u64,
    pub(super) deleted: bool,
}

impl Block {
    pub(super) fn new(host: &str, slots: usize) -> Self {
        Self {
            host: host.to_owned(),
            slots: BTreeMap::new(),
            unallocated: (0..slots).collect(),
            sequence: 0,
            deleted: false,
        }
    }

    /// The block with one more slot taken.
    pub(super) fn with(&self, slot: usize, allocation: Allocation) -> Self {
        let mut next = self.clone();
        next.unallocated.retain(|free| *free != slot);
        next.slots.insert(slot, allocation);
        next.sequence += 1;
        next
    }

    /// The block without the slots of a handle, and how many those were.
    pub(super) fn without(&self, handle: &str) -> (Self, usize) {
        let mut next = self.clone();
        let taken = |allocation: &Allocation| allocation.handle == handle;
        let slots: Vec<usize> = (next.slots.iter())
            .filter(|(_, allocation)| taken(allocation))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in &slots {
            next.slots.remove(slot);
            next.unallocated.push(*slot);
        }
        next.sequence += 1;
        (next, slots.len())
    }
}

impl Body for Block {
    const KIND: CustomKind = BLOCKS;
    fn record_count(&self) -> u32 {
        (self.slots.len() as u32).max(1)
    }
    fn deleted(&mut self) -> &mut bool {
        &mut self.deleted
    }
}

/// `BlockAffinity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Affinity {
    pub(super) host: String,
    pub(super) block: String,
    pub(super) confirmed: bool,
    pub(super) deleted: bool,
}

impl Affinity {
    pub(super) fn name(host: &str, block: &str) -> Rc<str> {
        format!("{host}-{block}").into()
    }
}

impl Body for Affinity {
    const KIND: CustomKind = flat("blockaffinities");
    fn deleted(&mut self) -> &mut bool {
        &mut self.deleted
    }
}

/// `IPAMHandle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handle {
    /// Addresses by block.
    pub(super) blocks: BTreeMap<String, u32>,
    pub(super) deleted: bool,
}

impl Body for Handle {
    const KIND: CustomKind = flat("ipamhandles");
    fn deleted(&mut self) -> &mut bool {
        &mut self.deleted
    }
}

/// An object to store under a name.
pub(super) fn custom<T: Body>(name: &Rc<str>, body: &T) -> Custom {
    let text = serde_json::to_string(body).expect("plain data has a JSON form");
    Custom {
        record_count: body.record_count(),
        body: text.into(),
        ..plain(T::KIND, name)
    }
}

/// An object without contents that matter here.
pub(super) fn plain(kind: CustomKind, name: &Rc<str>) -> Custom {
    Custom {
        kind,
        name: name.clone(),
        uid: 0,
        resource_version: 0,
        labels: Vec::new(),
        finalizers: Vec::new(),
        deleting: false,
        annotations: Vec::new(),
        status: None,
        body: "{}".into(),
        record_count: 1,
    }
}

/// The contents of a stored object.
pub(super) fn parse<T: Body>(object: &Rc<Custom>) -> Stored<T> {
    Stored {
        body: serde_json::from_str(&object.body).expect("nobody else writes these objects"),
        object: object.clone(),
    }
}
