//! How an address that looks lost is freed: through the agent that holds it, or, when no agent can
//! ever answer for it again, by a guarded write of the block.

use crate::core::block::Block;
use crate::core::holder::Record;
use crate::core::objects::{ANNOTATION_RELEASE, AddressBlock, BerthNode, Object};
use crate::core::pool::{Pool, approved_block_size};

use super::holders::HolderRow;
use super::{Incarnation, Snapshot};

/// What to write. Each write carries the version that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleasePlan {
    /// Ask the agent: the annotated `BerthNode`.
    AskAgent(Box<BerthNode>),
    /// Take the record out: the block.
    TakeOut(Box<AddressBlock>),
    /// The controller is about to free it: nothing to do.
    UnderWay,
}

/// Why nothing is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseRefusal {
    /// The record is being buried.
    #[error("its machine is being buried: the controller frees it after the quarantine")]
    BeingBuried,
    /// No machine answers for it.
    #[error(
        "no machine answers for it (incarnation {0}): --force takes the record out, which hands \
         the address to others even if that machine still runs"
    )]
    NeedsForce(String),
    /// Force, where an agent answers.
    #[error("the agent on {0} answers for it: --force is for machines that are gone")]
    AgentAnswers(String),
    /// The machine may live, but cannot be asked until its object is repaired.
    #[error(
        "its BerthNode (incarnation {0}) cannot be read: kubectl berth check says what to mend"
    )]
    Unreadable(String),
    /// The block cannot be read or was changed.
    #[error("the block {0} cannot be read")]
    Block(String),
}

impl ReleasePlan {
    /// The object to write, if any.
    pub fn object(&self) -> Option<Object> {
        match self {
            Self::AskAgent(machine) => Some(Object::from((**machine).clone())),
            Self::TakeOut(block) => Some(Object::from((**block).clone())),
            Self::UnderWay => None,
        }
    }
}

/// Plans the release of one held address. `writer` marks the write, and must be new.
///
/// Errors: see [`ReleaseRefusal`].
pub fn plan_release(
    snapshot: &Snapshot,
    row: &HolderRow,
    force: bool,
    writer: &str,
) -> Result<ReleasePlan, ReleaseRefusal> {
    match (row.incarnation, force) {
        (Incarnation::Live, false) => ask_agent(snapshot, row, writer),
        (Incarnation::Live, true) => Err(ReleaseRefusal::AgentAnswers(row.node.clone())),
        (Incarnation::Unreadable, _) => Err(ReleaseRefusal::Unreadable(row.epoch.clone())),
        (Incarnation::Dying, _) => Err(ReleaseRefusal::BeingBuried),
        (Incarnation::Dead, false) => Ok(ReleasePlan::UnderWay),
        (Incarnation::Unknown, false) => Err(ReleaseRefusal::NeedsForce(row.epoch.clone())),
        (Incarnation::Dead | Incarnation::Unknown, true) => take_out(snapshot, row, writer),
    }
}

fn ask_agent(
    snapshot: &Snapshot,
    row: &HolderRow,
    writer: &str,
) -> Result<ReleasePlan, ReleaseRefusal> {
    let machine = snapshot.machines.iter().find(|machine| {
        row.epoch
            .rsplit_once('#')
            .is_some_and(|(name, _)| name == machine.metadata.name)
    });
    let Some(machine) = machine else {
        return Err(ReleaseRefusal::NeedsForce(row.epoch.clone()));
    };
    let mut next = machine.clone();
    let orders = next
        .metadata
        .annotations
        .entry(ANNOTATION_RELEASE.to_owned())
        .or_default();
    if !orders.split(',').any(|uid| uid == row.pod_uid) {
        if !orders.is_empty() {
            orders.push(',');
        }
        orders.push_str(&row.pod_uid);
    }
    writer.clone_into(&mut next.spec.writer);
    Ok(ReleasePlan::AskAgent(Box::new(next)))
}

fn take_out(
    snapshot: &Snapshot,
    row: &HolderRow,
    writer: &str,
) -> Result<ReleasePlan, ReleaseRefusal> {
    let unreadable = || ReleaseRefusal::Block(row.block.clone());
    let object = snapshot
        .blocks
        .iter()
        .find(|block| block.metadata.name == row.block)
        .ok_or_else(unreadable)?;
    let pool = snapshot
        .pools
        .iter()
        .find(|pool| pool.metadata.name == row.pool)
        .and_then(|pool| Pool::parse(pool, approved_block_size(pool)).ok())
        .ok_or_else(unreadable)?;
    let mut block = Block::read(object, &pool).map_err(|_| unreadable())?;
    let held = block.get(row.ordinal).and_then(|record| record.holder());
    let Some(holder) = held.filter(|holder| holder.pod_uid.as_str() == row.pod_uid) else {
        return Err(unreadable());
    };
    let kept =
        (!holder.reservation.is_empty()).then(|| Record::Reserved(holder.reservation.clone()));
    block.set(row.ordinal, kept);
    let metadata = object.metadata.clone();
    let next = block.write(&pool, object.spec.index, metadata, writer.to_owned());
    Ok(ReleasePlan::TakeOut(Box::new(next)))
}
