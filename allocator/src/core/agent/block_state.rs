//! What is known of one block: its last version, how far that may be believed, who waits for its
//! next write. Questions about it are answered here; what is done is in [`blocks`](super::blocks).

use std::collections::{BTreeMap, BTreeSet};

use super::memory::ClaimId;
use crate::core::block::Block;
use crate::core::holder::Record;
use crate::core::objects::Metadata;
use crate::core::time::BootTime;

/// A block as this agent sees it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a separate fact of the protocol"
)]
pub(super) struct BlockState {
    /// Metadata of the last version seen; `None`: as far as is known, there is no such object.
    pub(super) stored: Option<Metadata>,
    /// The records of that version, or those of an empty block.
    pub(super) base: Block,
    /// See [`super::fencing`].
    pub(super) trusted: bool,
    /// The last version seen is not the last one.
    pub(super) stale: bool,
    /// Must be left alone.
    pub(super) unusable: bool,
    /// Created by this agent; the pool must be read before anything in it is handed out.
    pub(super) unconfirmed: bool,
    /// No write of this process was acknowledged yet: what it says of this machine, an earlier
    /// process wrote.
    pub(super) unfenced: bool,
    /// Its name is in the journal.
    pub(super) journaled: bool,
    /// The request in flight.
    pub(super) flight: Option<Flight>,
    /// Claims for the next write.
    pub(super) waiting: Vec<ClaimId>,
    /// No request before this.
    pub(super) not_before: BootTime,
    /// This node's claims leave the block to others until then.
    pub(super) yield_until: BootTime,
    /// Freed ordinals must be written by then.
    pub(super) free_by: BootTime,
    /// Stamp of each resting ordinal of the last version, and when this process first saw it.
    pub(super) resting: BTreeMap<u16, (u32, BootTime)>,
    /// Races lost in a row.
    pub(super) conflict_count: u32,
    /// Failures in a row.
    pub(super) failure_count: u32,
    /// Ordinals that a reservation that cannot be read keeps.
    pub(super) withheld: BTreeSet<u16>,
    /// Ordinals that a reservation keeps, marked or not: only claims for just them may have them.
    pub(super) reserved: BTreeSet<u16>,
    /// Ordinals that are held by the word of a journal in doubt alone: such a holding keeps its
    /// record, and takes no free ordinal. Nor does anybody else of this node.
    pub(super) hearsay: BTreeSet<u16>,
}

/// Which cooling ordinals are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// None: the pool has no cool-down, or nothing else is left.
    None,
    /// Those first seen after this.
    SinceBefore(BootTime),
}

/// A request in flight.
pub(super) struct Flight {
    pub(super) since: BootTime,
    /// For a write: what the block will be, and the claims inside.
    pub(super) write: Option<(Block, Vec<(ClaimId, u16)>)>,
}

impl BlockState {
    pub(super) fn new(base: Block) -> Self {
        Self {
            stored: None,
            base,
            trusted: true,
            stale: false,
            unusable: false,
            unconfirmed: false,
            unfenced: true,
            journaled: false,
            flight: None,
            waiting: Vec::new(),
            not_before: BootTime::ZERO,
            yield_until: BootTime::ZERO,
            free_by: BootTime::NEVER,
            resting: BTreeMap::new(),
            conflict_count: 0,
            failure_count: 0,
            withheld: BTreeSet::new(),
            reserved: BTreeSet::new(),
            hearsay: BTreeSet::new(),
        }
    }

    /// The records as they will be when the write in flight succeeds.
    fn expected(&self) -> &Block {
        match &self.flight {
            Some(Flight {
                write: Some((next, _)),
                ..
            }) => next,
            _ => &self.base,
        }
    }

    /// How many more claims the block could take, if none of its ordinals had to rest.
    pub(super) fn room(&self) -> usize {
        let next = self.expected();
        let kept =
            if self.withheld.is_empty() && self.reserved.is_empty() && self.hearsay.is_empty() {
                0
            } else {
                next.available().filter(|o| self.is_kept(*o)).count()
            };
        (next.available_count() - kept).saturating_sub(self.waiting.len())
    }

    /// The same without ordinals that rest.
    pub(super) fn rested_room(&self, rest: Rest) -> usize {
        if rest == Rest::None {
            return self.room();
        }
        let next = self.expected();
        let resting = next
            .available()
            .filter(|o| self.rests(next, *o, rest) && !self.is_kept(*o));
        self.room().saturating_sub(resting.count())
    }

    /// Whether a reservation, or hearsay, keeps the ordinal from claims for any.
    pub(super) fn is_kept(&self, ordinal: u16) -> bool {
        [&self.withheld, &self.reserved, &self.hearsay]
            .iter()
            .any(|kept| kept.contains(&ordinal))
    }

    /// Whether the ordinal of the block-to-be has not cooled down yet.
    pub(super) fn rests(&self, next: &Block, ordinal: u16, rest: Rest) -> bool {
        let Some(Record::Cooling(stamp)) = next.get(ordinal) else {
            return false;
        };
        match rest {
            Rest::None => false,
            Rest::SinceBefore(seen_by) => self
                .resting
                .get(&ordinal)
                .is_none_or(|(known, seen)| known != stamp || *seen > seen_by),
        }
    }

    /// Notes which ordinals of the last version rest, and since when as far as is known here.
    pub(super) fn note_resting(&mut self, now: BootTime) {
        let before = std::mem::take(&mut self.resting);
        for (ordinal, record) in self.base.iter() {
            if let Record::Cooling(stamp) = record {
                let known = before.get(&ordinal).filter(|(known, _)| known == stamp);
                let seen = known.map_or(now, |(_, seen)| *seen);
                self.resting.insert(ordinal, (*stamp, seen));
            }
        }
    }

    pub(super) fn is_writing(&self) -> bool {
        matches!(&self.flight, Some(Flight { write: Some(_), .. }))
    }
}
