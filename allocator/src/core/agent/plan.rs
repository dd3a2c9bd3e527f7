//! What the next write of a block would be: worked out from what is held and what waits, and not
//! yet done. `blocks` writes it.

use super::Agent;
use super::block_state::Rest;
use super::memory::{BlockKey, ClaimId, Hold, Holding, Place};
use crate::core::block::Block;
use crate::core::hash::mix;
use crate::core::holder::{Holder, HolderState, Record};

/// What the next write of a block would be.
pub(super) struct Plan {
    pub(super) next: Block,
    pub(super) claims: Vec<(ClaimId, u16)>,
    pub(super) unserved: Vec<ClaimId>,
    /// Claims that the door does not let in any more.
    pub(super) shut: Vec<ClaimId>,
    pub(super) must_write: bool,
    pub(super) frees: bool,
    pub(super) left_free: bool,
}

impl Agent {
    /// The record of a holding that takes the place of `before`.
    fn record_of(&self, holding: &Holding, before: Option<&Record>) -> Option<Record> {
        // The journal does not tell which reservation an attachment satisfies; its record does.
        let stated = before
            .and_then(Record::holder)
            .filter(|holder| holder.pod_uid == holding.pod)
            .map_or("", |holder| holder.reservation.as_str());
        let reservation = match holding.reservation.as_str() {
            "" => stated,
            known => known,
        };
        let (state, container) = match &holding.state {
            Hold::Unbound => (HolderState::Unbound, String::new()),
            Hold::Lost => (HolderState::Bound, String::new()),
            Hold::Attached(attachment) => (
                if self.is_releasing(attachment) {
                    HolderState::Releasing
                } else {
                    HolderState::Bound
                },
                attachment.container.clone(),
            ),
        };
        Some(Record::Pod(Holder {
            epoch: self.epoch.id()?.clone(),
            pod_uid: holding.pod.clone(),
            state,
            pod_name: holding.pod_name.clone(),
            container,
            reservation: reservation.to_owned(),
        }))
    }

    /// What to write: this agent's holdings as they are, its records without a holding freed, and
    /// the waiting claims on top.
    pub(super) fn plan(&mut self, key: BlockKey) -> Option<Plan> {
        let own = self.epoch.id()?.clone();
        let block = self.blocks.get(&key)?;
        let pool = self.pools.get(&key.pool)?;
        let exhausted = pool.search.is_exhausted();
        let cools = pool.pool.as_ref()?.spec.cool_down_seconds > 0;
        let rest = self.rest(key.pool);
        let mut leave = pool.leave_next_freed;
        let mut plan = Plan {
            next: block.base.clone(),
            claims: Vec::new(),
            unserved: Vec::new(),
            shut: Vec::new(),
            must_write: !block.trusted,
            frees: false,
            left_free: false,
        };
        let mut left_free = Vec::new();
        // Same for all that one write frees: it tells one rest of an ordinal from its next.
        let stamp = mix(self.entropy, u64::MAX) as u32;
        for (ordinal, record) in block.base.iter() {
            let Some(holder) = record.holder().filter(|holder| holder.epoch == own) else {
                continue;
            };
            if self.holdings.contains_key(&Place {
                block: key,
                ordinal,
            }) {
                continue;
            }
            let freed = match holder.reservation.as_str() {
                "" if cools => Some(Record::Cooling(stamp)),
                "" => None,
                name => Some(Record::Reserved(name.to_owned())),
            };
            plan.next.set(ordinal, freed);
            plan.frees = true;
            if exhausted {
                if leave {
                    left_free.push(ordinal);
                }
                leave = !leave;
            }
        }
        for (place, holding) in self.holdings_of(key) {
            let before = block.base.get(place.ordinal);
            let Some(record) = self.record_of(holding, before) else {
                continue;
            };
            let agrees = before
                .and_then(Record::holder)
                .is_some_and(|holder| holder.epoch == own && holder.pod_uid == holding.pod);
            let may_take = before.and_then(Record::holder).map_or_else(
                || plan.next.is_available(place.ordinal) || before_is(before, &holding.reservation),
                |holder| holder.epoch.machine() == own.machine(),
            );
            if agrees || may_take {
                // A record that agrees is brought up to date, but is no reason to write.
                plan.must_write |= !agrees;
                plan.next.set(place.ordinal, Some(record));
            }
        }
        let waiting = block.waiting.clone();
        for id in waiting {
            if !self.is_admitted(id, key.pool) {
                plan.shut.push(id);
                continue;
            }
            match self.choose_ordinal(key, id, &plan.next, (&left_free, rest)) {
                Some((ordinal, record)) => {
                    plan.next.set(ordinal, Some(record));
                    plan.claims.push((id, ordinal));
                    plan.must_write = true;
                }
                None => plan.unserved.push(id),
            }
        }
        plan.left_free = !left_free.is_empty();
        if let Some(pool) = self.pools.get_mut(&key.pool) {
            pool.leave_next_freed = leave;
        }
        Some(plan)
    }

    fn choose_ordinal(
        &self,
        key: BlockKey,
        id: ClaimId,
        next: &Block,
        (left_free, rest): (&[u16], Rest),
    ) -> Option<(u16, Record)> {
        let claim = self.claims.get(&id)?;
        let ordinal = if let Some(wanted) = &claim.wanted {
            let here = wanted.place(key)?;
            let kept = matches!(next.get(here), Some(Record::Reserved(name))
                if *name == wanted.reservation);
            let withheld = self.blocks.get(&key)?.withheld.contains(&here);
            (kept || next.is_available(here) && !withheld).then_some(here)?
        } else {
            let block = self.blocks.get(&key)?;
            next.available().find(|ordinal| {
                !left_free.contains(ordinal)
                    && !block.rests(next, *ordinal, rest)
                    && !block.is_kept(*ordinal)
            })?
        };
        let holding = Holding {
            pod: claim.pod.clone(),
            pod_name: claim.pod_name.clone(),
            state: Hold::Unbound,
            reservation: claim.reservation().to_owned(),
        };
        Some((ordinal, self.record_of(&holding, None)?))
    }
}

fn before_is(before: Option<&Record>, reservation: &str) -> bool {
    matches!(before, Some(Record::Reserved(name)) if name == reservation)
}
