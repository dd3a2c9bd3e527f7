//! What an agent remembers, and under which names: pools, blocks, places, holds, claims. Facts
//! only; the modules around decide who changes them and why.

use crate::core::exchange::Attachment;
use crate::core::objects::Uid;

/// Names a pool object (name and UID) within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PoolId(pub(super) u32);

/// Names a block within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BlockKey {
    pub(super) pool: PoolId,
    pub(super) index: u64,
}

/// Names an ordinal within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) block: BlockKey,
    pub(super) ordinal: u16,
}

/// What memory says about an ordinal that this agent holds or wants to hold. It may be answered
/// only when the block is trusted and its last version agrees: see [`Agent::is_answerable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) pod: Uid,
    pub(super) pod_name: String,
    pub(super) state: Hold,
    /// The reservation that the ordinal returns to, or empty.
    pub(super) reservation: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Follows its Pod.
    Unbound,
    /// Follows the namespace of this attachment, which may be releasing.
    Attached(Attachment),
    /// The journal that knew the attachment is lost.
    Lost,
}

/// Names a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClaimId(pub(super) u64);

/// The state of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimAt {
    /// In its pool's queue.
    Queue,
    /// Waits for the next write of a block.
    Block(BlockKey),
    /// Inside a write; pinned there when its outcome is unknown.
    Place(Place),
}

/// One certain ordinal is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) block: BlockKey,
    pub(super) ordinal: u16,
    pub(super) reservation: String,
}

impl Wanted {
    pub(super) fn place(&self, block: BlockKey) -> Option<u16> {
        (block == self.block).then_some(self.ordinal)
    }
}
