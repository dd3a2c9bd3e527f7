//! Excludes, gateways and reservations: records in blocks that no Pod holds. A held ordinal is
//! never masked; it is reported.

use super::Controller;
use super::approval::mask_fingerprint;
use super::survey::Survey;
use crate::core::api::Part;
use crate::core::block::Block;
use crate::core::condition::state_condition;
use crate::core::holder::Record;
use crate::core::objects::{
    AddressBlock, AddressPool, AddressReservation, Condition, FINALIZER, Kind, Metadata, ObjectKey,
};
use crate::core::pool::{Mask, Pool, approved_block_size, block_name};

impl Controller {
    /// One step toward every block saying what its pool and the reservations say.
    pub(super) fn mask(&mut self) -> bool {
        let due: Vec<_> = self
            .pools
            .values()
            .filter(|pool| pool.metadata.deletion_timestamp.is_none())
            .filter(|pool| pool.status.masked != mask_fingerprint(pool))
            .filter(|pool| !self.waits(&pool_key(pool)))
            .filter(|pool| !self.waits(&masks_key(pool)))
            .cloned()
            .collect();
        for object in due {
            let Some(pool) = parse(&object) else { continue };
            if self.mask_pool(&object, &pool) {
                return true;
            }
        }
        self.place_reservations()
    }

    fn mask_pool(&mut self, object: &AddressPool, pool: &Pool) -> bool {
        let masks = object
            .spec
            .families
            .iter()
            .any(|f| !f.exclude.is_empty() || f.gateway.is_some());
        if object.status.masked.is_empty() && !masks {
            // A new pool without masks: blocks are created as they should be.
            return self.masked(object.clone(), &[]);
        }
        let Some(survey) = &self.survey else {
            self.take_survey();
            return true;
        };
        let mut held = Vec::new();
        let mut change = None;
        // A mask is in force once every block has it.
        let mut is_whole = !survey.hides_some_of(&pool.name);
        let blocks = survey.blocks.values();
        for stored in blocks.filter(|block| block.spec.pool == pool.name) {
            let Ok(mut block) = Block::read(stored, pool) else {
                // A block of another pool of the same name does not count.
                is_whole &= stored.spec.pool_uid != pool.uid;
                continue;
            };
            if remask(&mut block, pool, stored.spec.index, &mut held) {
                let key = ObjectKey::cluster(Kind::AddressBlock, stored.metadata.name.clone());
                if self.waits(&key) {
                    is_whole = false;
                } else if change.is_none() {
                    change = Some((stored.clone(), block));
                }
            }
        }
        match change {
            Some((stored, block)) => {
                self.write_block(pool, &stored, &block);
                true
            }
            None if is_whole => self.masked(object.clone(), &held),
            None => {
                self.look_later(masks_key(object));
                false
            }
        }
    }

    fn masked(&mut self, mut object: AddressPool, held: &[String]) -> bool {
        object.status.masked = mask_fingerprint(&object);
        if held.is_empty() {
            object
                .status
                .conditions
                .retain(|condition| condition.kind != "ExcludeHeld");
        } else {
            let condition = Condition::new("ExcludeHeld", "True", "Held", held.join(", "));
            let condition = condition.observed(object.metadata.generation);
            state_condition(&mut object.status.conditions, condition, self.wall);
        }
        self.write(object, Part::Status);
        true
    }

    pub(super) fn write_block(&mut self, pool: &Pool, stored: &AddressBlock, block: &Block) {
        let writer = self.writer();
        let next = block.write(pool, stored.spec.index, stored.metadata.clone(), writer);
        self.write(next, Part::Main);
    }

    /// Puts each reservation into its block, and removes those whose object is being deleted.
    fn place_reservations(&mut self) -> bool {
        let all: Vec<_> = self.reservations.values().cloned().collect();
        all.into_iter().any(|reservation| self.place(reservation))
    }

    /// One step toward a reservation standing in its block, or being out of it. Whether one was
    /// taken.
    fn place(&mut self, reservation: AddressReservation) -> bool {
        let name = reservation.metadata.name.clone();
        let version = reservation.metadata.resource_version.clone();
        let key = ObjectKey::cluster(Kind::AddressReservation, name.clone());
        if self.waits(&key) {
            return false;
        }
        let leaving = reservation.metadata.deletion_timestamp.is_some();
        let finalizers = &reservation.metadata.finalizers;
        let marked = finalizers.iter().any(|f| f == FINALIZER);
        if self.placed.get(&name) == Some(&version) || (leaving && !marked) {
            return false;
        }
        if !marked {
            let mut next = reservation;
            next.metadata.finalizers.push(FINALIZER.to_owned());
            self.write(next, Part::Main);
            return true;
        }
        let place = self.pools.get(&reservation.spec.pool).and_then(|object| {
            let pool = parse(object)?;
            let ordinal = pool.ordinal_of(reservation.spec.address?)?;
            Some((pool, ordinal))
        });
        let Some((pool, ordinal)) = place else {
            return leaving && self.let_go(reservation);
        };
        let Some(survey) = &self.survey else {
            self.take_survey();
            return true;
        };
        let size = u64::from(pool.block_size);
        let (index, ordinal) = (ordinal / size, (ordinal % size) as u16);
        let Some((metadata, mut block)) = stored_block(survey, &pool, index) else {
            self.look_later(key);
            return false;
        };
        let own = Record::Reserved(name.clone());
        let change = match (leaving, block.get(ordinal)) {
            (true, Some(record)) if *record == own => Some(None),
            (false, None | Some(Record::Cooling(_))) => Some(Some(own)),
            _ => None,
        };
        if let Some(record) = change {
            block.set(ordinal, record);
            let next = block.write(&pool, index, metadata, self.writer());
            self.write_for(key, next, Part::Main);
            return true;
        }
        if leaving {
            return self.let_go(reservation);
        }
        self.placed.insert(name, version);
        false
    }

    /// No block has a record for a reservation that is being deleted: its object may go.
    fn let_go(&mut self, mut reservation: AddressReservation) -> bool {
        let finalizers = &mut reservation.metadata.finalizers;
        finalizers.retain(|f| f != FINALIZER);
        self.write(reservation, Part::Main);
        true
    }
}

/// A block of a pool, empty if it was never written. `None` if it exists but cannot be read.
fn stored_block(survey: &Survey, pool: &Pool, index: u64) -> Option<(Metadata, Block)> {
    let name = block_name(&pool.name, index);
    if survey.unread.contains_key(&name) {
        return None;
    }
    let stored = survey.blocks.get(&name).cloned().unwrap_or_else(|| {
        Block::empty(pool, index).write(pool, index, Metadata::default(), String::new())
    });
    let block = Block::read(&stored, pool).ok()?;
    Some((stored.metadata, block))
}

fn pool_key(pool: &AddressPool) -> ObjectKey {
    ObjectKey::cluster(Kind::AddressPool, pool.metadata.name.clone())
}

/// Names the masks of a pool among what waits: they may wait while the rest of the pool does not.
/// No object has that name.
fn masks_key(pool: &AddressPool) -> ObjectKey {
    ObjectKey::cluster(Kind::AddressPool, format!("{} masks", pool.metadata.name))
}

/// The pool as approved.
pub(super) fn parse(object: &AddressPool) -> Option<Pool> {
    Pool::parse(object, Some(approved_block_size(object)?)).ok()
}

/// Brings the masks of a block up to date; collects those that a Pod holds.
fn remask(block: &mut Block, pool: &Pool, index: u64, held: &mut Vec<String>) -> bool {
    let begin = index.saturating_mul(u64::from(pool.block_size));
    let mut changed = false;
    for ordinal in 0..pool.ordinals_in(index) {
        let wanted = pool
            .mask(begin + u64::from(ordinal))
            .map(|mask| match mask {
                Mask::Excluded => Record::Excluded,
                Mask::Gateway => Record::Gateway,
            });
        let next = match (block.get(ordinal), wanted) {
            (Some(Record::Pod(holder)), Some(_)) => {
                let addresses = pool.addresses(begin + u64::from(ordinal));
                held.push(format!("{addresses:?} by {}", holder.pod_name));
                continue;
            }
            (Some(Record::Pod(_) | Record::Reserved(_)), _) => continue,
            (Some(Record::Cooling(_)), None) => continue,
            (_, wanted) => wanted,
        };
        if block.get(ordinal) != next.as_ref() {
            block.set(ordinal, next);
            changed = true;
        }
    }
    changed
}
