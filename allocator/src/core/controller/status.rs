//! How full the pools are, for people and for metrics: counted from all blocks periodically, and
//! written if changed. No decision depends on these numbers; they are as old as the last count.

use super::masks::parse;
use super::{Controller, ControllerState, PoolCount, Survey};
use crate::core::api::Part;
use crate::core::block::Block;
use crate::core::condition::state_condition;
use crate::core::holder::Record;
use crate::core::objects::{AddressPool, Condition, EpochState, Kind, ObjectKey, SetAside};
use crate::core::pool::{Pool, status_count};
use crate::core::set_aside::count_by_kind;
use crate::core::time::WallTime;

const EXHAUSTED: &str = "Exhausted";

impl Controller {
    /// One step toward every pool's status saying how full it is.
    pub(super) fn report(&mut self) -> bool {
        if self.now < self.report_due {
            return false;
        }
        if self.pools.is_empty() {
            return false;
        }
        let Some(survey) = &self.survey else {
            self.take_survey();
            return true;
        };
        for object in self.pools.values() {
            let key = ObjectKey::cluster(Kind::AddressPool, object.metadata.name.clone());
            if self.waits(&key) {
                continue;
            }
            let Some(pool) = parse(object) else { continue };
            let mut next = object.clone();
            (next.status.held, next.status.free) = count(&pool, survey);
            state_exhaustion(&mut next, self.wall);
            if next.status != object.status {
                self.write(next, Part::Status);
                return true;
            }
        }
        self.report_due = self.now + self.config.report_interval;
        false
    }

    fn waits_for(&self) -> Vec<String> {
        let lease = self.unread.objects.get(&self.lease_key());
        let lists = self.list_errors.iter();
        lists
            .map(|(kind, error)| format!("{kind:?} is not listed: {error}"))
            .chain(lease.map(ToString::to_string))
            .chain((!self.last_error.is_empty()).then(|| self.last_error.clone()))
            .collect()
    }

    /// What this process sees, for metrics.
    pub fn state(&self) -> ControllerState {
        let pools = self.pools.values().map(|pool| PoolCount {
            name: pool.metadata.name.clone(),
            capacity: pool.status.capacity,
            held: pool.status.held,
            free: pool.status.free,
        });
        let in_state = |state| {
            let machines = self.machines.values();
            machines.filter(|m| m.spec.state == state).count() as u64
        };
        ControllerState {
            leads: self.lease.leads(self.now),
            lease_answered_at: self.lease.answered_at(),
            is_listed: super::CACHED.iter().all(|kind| self.listed.contains(kind)),
            pools: pools.collect(),
            machines_live: in_state(EpochState::Live),
            machines_dying: in_state(EpochState::Dying),
            machines_dead: in_state(EpochState::Dead),
            burials_held: self.burials.held_count(),
            set_aside: count_by_kind(self.unread.objects.keys()),
            writes_refused: self.delays.refused_count(),
            progress_at: self.progress_at,
            waits_for: self.waits_for(),
        }
    }
}

/// (held by Pods, to be had) of a pool. Blocks that nobody created are free but for their masks.
fn count(pool: &Pool, survey: &Survey) -> (u64, u64) {
    let (mut held, mut unmasked_taken) = (0_u64, 0_u64);
    let unread = survey.unread.values().filter_map(SetAside::block_place);
    for (_, index) in unread.filter(|(of, _)| *of == pool.name) {
        unmasked_taken += unmasked_in(pool, index);
    }
    let blocks = survey.blocks.values();
    for stored in blocks.filter(|block| block.spec.pool == pool.name) {
        let Ok(block) = Block::read(stored, pool) else {
            unmasked_taken += unmasked_in(pool, stored.spec.index);
            continue;
        };
        let begin = stored.spec.index * u64::from(pool.block_size);
        for (ordinal, record) in block.iter() {
            let is_pod = matches!(record, Record::Pod(_));
            held += u64::from(is_pod);
            let taken = is_pod || matches!(record, Record::Reserved(_));
            if taken && pool.mask(begin + u64::from(ordinal)).is_none() {
                unmasked_taken += 1;
            }
        }
    }
    let masked = pool.masked_count();
    let free = pool.capacity.saturating_sub(masked + unmasked_taken);
    (status_count(held), status_count(free))
}

/// Units: ordinals of a block that cannot be read, which counts as full.
fn unmasked_in(pool: &Pool, index: u64) -> u64 {
    let begin = index.saturating_mul(u64::from(pool.block_size));
    let ordinals = 0..u64::from(pool.ordinals_in(index));
    ordinals.filter(|o| pool.mask(begin + o).is_none()).count() as u64
}

fn state_exhaustion(pool: &mut AddressPool, now: WallTime) {
    if pool.status.free > 0 {
        pool.status
            .conditions
            .retain(|condition| condition.kind != EXHAUSTED);
        return;
    }
    let message = "every address is held, reserved or excluded".to_owned();
    let condition = Condition::new(EXHAUSTED, "True", "NoneFree", message);
    let condition = condition.observed(pool.metadata.generation);
    state_condition(&mut pool.status.conditions, condition, now);
}
