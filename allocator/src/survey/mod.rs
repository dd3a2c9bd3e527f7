//! Answers to an operator's questions about a cluster's addresses, computed from objects that were
//! read: how full pools are, who holds what, what looks lost and why, why a Pod draws from a pool.
//! Pure: it reads nothing itself and changes nothing.

mod burial;
mod explain;
mod finding;
mod findings;
mod holders;
mod parts;
mod pools;
mod release;

use std::collections::BTreeMap;

pub use burial::{BurialPlan, BurialRefusal, plan_burial};
pub use explain::{Asked, Explanation, Judgement, explain};
pub use finding::{Finding, FindingKind};
pub use findings::findings;
pub use holders::{HolderRow, holders};
pub use pools::{PoolRow, pools};
pub use release::{ReleasePlan, ReleaseRefusal, plan_release};

use crate::core::block::Block;
use crate::core::identity::EpochId;
use crate::core::objects::{
    AddressBlock, AddressPool, AddressReservation, BerthNode, EpochState, Kind, Namespace, Node,
    Object, Pod, SetAside,
};
use crate::core::pool::{Pool, approved_block_size};

/// Everything that Berth has in a cluster, as read at one time or nearly so. Shape: each list as
/// the apiserver gave it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Pools.
    pub pools: Vec<AddressPool>,
    /// Blocks of all pools.
    pub blocks: Vec<AddressBlock>,
    /// Reservations.
    pub reservations: Vec<AddressReservation>,
    /// Machines as Berth knows them.
    pub machines: Vec<BerthNode>,
    /// Nodes as Kubernetes knows them.
    pub nodes: Vec<Node>,
    /// Pods of all namespaces.
    pub pods: Vec<Pod>,
    /// Namespaces that were asked for; any other is unknown.
    pub namespaces: Vec<Namespace>,
    /// Objects of all kinds that exist but cannot be read.
    pub set_aside: Vec<SetAside>,
}

impl Snapshot {
    /// Adds objects to the lists that they belong to; others are left out.
    pub fn add(&mut self, objects: Vec<Object>) {
        for object in objects {
            match object {
                Object::AddressPool(pool) => self.pools.push(*pool),
                Object::AddressBlock(block) => self.blocks.push(*block),
                Object::AddressReservation(reservation) => self.reservations.push(*reservation),
                Object::BerthNode(machine) => self.machines.push(*machine),
                Object::Node(node) => self.nodes.push(*node),
                Object::Pod(pod) => self.pods.push(*pod),
                Object::Namespace(namespace) => self.namespaces.push(*namespace),
                Object::SetAside(object) => self.set_aside.push(*object),
                Object::DomainApproval(_) | Object::Lease(_) => {}
            }
        }
    }

    /// The pool of that name with its geometry, as approved or as it would be approved.
    fn geometry(&self, name: &str) -> Option<Pool> {
        let object = self.pools.iter().find(|pool| pool.metadata.name == name)?;
        Pool::parse(object, approved_block_size(object)).ok()
    }

    /// Blocks that can be read, with their pool. Shape: in the order of the list.
    fn readable(&self) -> impl Iterator<Item = (&AddressBlock, Pool, Block)> {
        let pools: BTreeMap<&str, Pool> = self
            .pools
            .iter()
            .filter_map(|object| {
                let name = object.metadata.name.as_str();
                Some((name, self.geometry(name)?))
            })
            .collect();
        self.blocks.iter().filter_map(move |object| {
            let pool = pools.get(object.spec.pool.as_str())?;
            let block = Block::read(object, pool).ok()?;
            Some((object, pool.clone(), block))
        })
    }

    /// Whether an object of that name exists but cannot be read.
    fn is_set_aside(&self, kind: Kind, name: &str) -> bool {
        let mut objects = self.set_aside.iter();
        objects.any(|object| object.kind == kind && object.metadata.name == name)
    }

    fn incarnation(&self, epoch: &EpochId) -> Incarnation {
        if self.is_set_aside(Kind::BerthNode, epoch.machine()) {
            return Incarnation::Unreadable;
        }
        let Some(machine) = self
            .machines
            .iter()
            .find(|machine| machine.metadata.name == epoch.machine())
        else {
            return Incarnation::Unknown;
        };
        if machine.spec.epoch == epoch.number() {
            return match machine.spec.state {
                EpochState::Live => Incarnation::Live,
                EpochState::Dying => Incarnation::Dying,
                EpochState::Dead => Incarnation::Dead,
            };
        }
        let former = machine
            .spec
            .former
            .iter()
            .find(|former| former.epoch == epoch.number());
        match former.map(|former| former.state) {
            Some(EpochState::Dead) => Incarnation::Dead,
            Some(EpochState::Dying | EpochState::Live) => Incarnation::Dying,
            None => Incarnation::Unknown,
        }
    }

    fn node_name(&self, epoch: &EpochId) -> String {
        self.machines
            .iter()
            .find(|machine| machine.metadata.name == epoch.machine())
            .map_or_else(String::new, |machine| machine.spec.node_name.clone())
    }
}

/// The state of a record's incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Incarnation {
    /// Its agent answers for it.
    Live,
    /// It is being buried.
    Dying,
    /// Its records are being freed.
    Dead,
    /// No `BerthNode` knows it.
    Unknown,
    /// Its `BerthNode` cannot be read: it may live.
    Unreadable,
}

#[cfg(test)]
mod tests;
