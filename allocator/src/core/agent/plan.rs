//! What the next write of a block would be, worked out from what is held there and who waits: the
//! difference between holdings and records, never a list of operations. A pure function of its
//! input; [`blocks`](super::blocks) decides when a plan is due, and writes it.

use super::block_state::{BlockState, Rest};
use super::memory::{BlockKey, ClaimId, Hold, Holding, Wanted};
use crate::core::block::Block;
use crate::core::holder::{Holder, HolderState, Record};
use crate::core::identity::EpochId;
use crate::core::objects::Uid;

/// An ordinal of the block that this agent holds.
pub(super) struct Held<'a> {
    pub(super) ordinal: u16,
    pub(super) holding: &'a Holding,
    /// A DEL of its attachment was seen.
    pub(super) is_releasing: bool,
    /// Its record names a container that ended, and which one has it now is not known.
    pub(super) is_misnamed: bool,
}

/// A claim that waits for the block's next write.
pub(super) struct Asking<'a> {
    pub(super) id: ClaimId,
    pub(super) pod: &'a Uid,
    pub(super) pod_name: &'a str,
    pub(super) wanted: Option<&'a Wanted>,
    /// The door admits it.
    pub(super) is_admitted: bool,
}

/// All that a plan is made from.
pub(super) struct Situation<'a> {
    pub(super) key: BlockKey,
    pub(super) own: &'a EpochId,
    pub(super) block: &'a BlockState,
    /// Shape: ascending by ordinal, each once.
    pub(super) held: Vec<Held<'a>>,
    /// Shape: in the order in which they are served.
    pub(super) waiting: Vec<Asking<'a>>,
    /// Which cooling ordinals are left alone.
    pub(super) rest: Rest,
    /// The same for everything that one write frees: it distinguishes one rest of an ordinal from
    /// its next.
    pub(super) stamp: u32,
    /// The pool has a cool-down.
    pub(super) cools: bool,
    /// The pool is exhausted: every other freed ordinal is left to other nodes.
    pub(super) is_exhausted: bool,
    pub(super) leave_next_freed: bool,
}

/// What the next write of a block would be.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a separate fact of the write"
)]
pub(super) struct Plan {
    pub(super) next: Block,
    /// Claims that the write serves, each with its ordinal.
    pub(super) claims: Vec<(ClaimId, u16)>,
    pub(super) unserved: Vec<ClaimId>,
    /// Claims that the door no longer admits.
    pub(super) shut: Vec<ClaimId>,
    /// The write cannot wait: it is a fence, a claim, or a hold that the block does not state.
    pub(super) must_write: bool,
    /// It frees something, which may wait a while.
    pub(super) frees: bool,
    /// Some of what it frees is left to others.
    pub(super) left_free: bool,
    pub(super) leave_next_freed: bool,
}

impl Situation<'_> {
    /// This agent's holdings as they are, its records without a holding freed, and the waiting
    /// claims on top.
    pub(super) fn plan(&self) -> Plan {
        assert!(
            self.held.is_sorted_by(|a, b| a.ordinal < b.ordinal),
            "an ordinal is held once"
        );
        let mut plan = Plan {
            next: self.block.base.clone(),
            claims: Vec::new(),
            unserved: Vec::new(),
            shut: Vec::new(),
            must_write: !self.block.trusted,
            frees: false,
            left_free: false,
            leave_next_freed: self.leave_next_freed,
        };
        let left_free = self.free(&mut plan);
        plan.left_free = !left_free.is_empty();
        self.state_held(&mut plan);
        self.serve(&mut plan, &left_free);
        assert_eq!(
            plan.claims.len() + plan.unserved.len() + plan.shut.len(),
            self.waiting.len(),
            "every claim that waits is served, sent on or shut out"
        );
        assert!(
            plan.must_write || plan.claims.is_empty(),
            "a plan with a claim is written"
        );
        plan
    }

    fn is_held(&self, ordinal: u16) -> bool {
        self.held
            .binary_search_by_key(&ordinal, |held| held.ordinal)
            .is_ok()
    }

    /// Frees own records that nothing in memory explains. Returns those that are left to others.
    fn free(&self, plan: &mut Plan) -> Vec<u16> {
        let mut left_free = Vec::new();
        for (ordinal, record) in self.block.base.iter() {
            let Some(holder) = record.holder().filter(|holder| holder.epoch == *self.own) else {
                continue;
            };
            if self.is_held(ordinal) {
                continue;
            }
            let freed = match holder.reservation.as_str() {
                "" if self.cools => Some(Record::Cooling(self.stamp)),
                "" => None,
                name => Some(Record::Reserved(name.to_owned())),
            };
            plan.next.set(ordinal, freed);
            plan.frees = true;
            if self.is_exhausted {
                if plan.leave_next_freed {
                    left_free.push(ordinal);
                }
                plan.leave_next_freed = !plan.leave_next_freed;
            }
        }
        left_free
    }

    /// States what is held, where the last version allows it.
    fn state_held(&self, plan: &mut Plan) {
        for held in &self.held {
            let before = self.block.base.get(held.ordinal);
            let holder = before.and_then(Record::holder);
            let agrees = holder.is_some_and(|holder| {
                holder.epoch == *self.own && holder.pod_uid == held.holding.pod
            });
            let may_take = match holder {
                Some(holder) => holder.epoch.machine() == self.own.machine(),
                None => {
                    !self.block.hearsay.contains(&held.ordinal)
                        && (plan.next.is_available(held.ordinal)
                            || is_reserved_by(before, &held.holding.reservation))
                }
            };
            if agrees || may_take {
                // A record that agrees is updated, but is not a reason to write, unless it calls
                // a mere reservation what may be in use, or names a container that is gone.
                let understates = held.holding.state == Hold::Lost
                    && holder.is_some_and(|holder| holder.state == HolderState::Unbound);
                plan.must_write |= !agrees || understates || held.is_misnamed;
                plan.next
                    .set(held.ordinal, Some(self.record_of(held, holder)));
            }
        }
    }

    /// The record of a holding that takes the place of `before`.
    fn record_of(&self, held: &Held<'_>, before: Option<&Holder>) -> Record {
        let holding = held.holding;
        // The journal does not say which reservation an attachment satisfies; its record does.
        let stated = before
            .filter(|holder| holder.pod_uid == holding.pod)
            .map_or("", |holder| holder.reservation.as_str());
        let reservation = match holding.reservation.as_str() {
            "" => stated,
            known => known,
        };
        let (state, container) = match &holding.state {
            Hold::Unbound => (HolderState::Unbound, ""),
            Hold::Lost => (HolderState::Bound, ""),
            Hold::Attached(attachment) if held.is_releasing => {
                (HolderState::Releasing, attachment.container.as_str())
            }
            Hold::Attached(attachment) => (HolderState::Bound, attachment.container.as_str()),
        };
        Record::Pod(Holder {
            epoch: self.own.clone(),
            pod_uid: holding.pod.clone(),
            state,
            pod_name: holding.pod_name.clone(),
            container: container.to_owned(),
            reservation: reservation.to_owned(),
        })
    }

    fn serve(&self, plan: &mut Plan, left_free: &[u16]) {
        for asking in &self.waiting {
            if !asking.is_admitted {
                plan.shut.push(asking.id);
                continue;
            }
            let Some(ordinal) = self.choose(asking, &plan.next, left_free) else {
                plan.unserved.push(asking.id);
                continue;
            };
            assert!(
                !self.is_held(ordinal),
                "no claim is served with an ordinal that is held"
            );
            assert!(
                plan.next.get(ordinal).and_then(Record::holder).is_none(),
                "no claim takes a record from its holder"
            );
            let reservation = asking.wanted.map_or("", |wanted| &wanted.reservation);
            let holder = Holder {
                epoch: self.own.clone(),
                pod_uid: asking.pod.clone(),
                state: HolderState::Unbound,
                pod_name: asking.pod_name.to_owned(),
                container: String::new(),
                reservation: reservation.to_owned(),
            };
            plan.next.set(ordinal, Some(Record::Pod(holder)));
            plan.claims.push((asking.id, ordinal));
            plan.must_write = true;
        }
    }

    fn choose(&self, asking: &Asking<'_>, next: &Block, left_free: &[u16]) -> Option<u16> {
        let block = self.block;
        if let Some(wanted) = asking.wanted {
            let here = wanted.place(self.key)?;
            let is_free = next.is_available(here) && !block.withheld.contains(&here);
            let is_its_own = is_reserved_by(next.get(here), &wanted.reservation);
            // What is held here may be missing from the block after a backup was restored.
            return ((is_its_own || is_free) && !self.is_held(here)).then_some(here);
        }
        next.available().find(|ordinal| {
            !left_free.contains(ordinal)
                && !block.rests(next, *ordinal, self.rest)
                && !block.is_kept(*ordinal)
        })
    }
}

fn is_reserved_by(record: Option<&Record>, reservation: &str) -> bool {
    matches!(record, Some(Record::Reserved(name)) if name == reservation)
}

#[cfg(test)]
mod tests;
