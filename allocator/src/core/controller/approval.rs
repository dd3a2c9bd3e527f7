//! Which pools may be used. Two pools of one domain must not share an address, whoever approves
//! them. One compare-and-swap on one object per domain decides that.

use super::Controller;
use crate::core::api::{Part, Preconditions};
use crate::core::condition::state_condition;
use crate::core::hash::fnv1a;
use crate::core::holder::decode_records;
use crate::core::objects::{
    AddressPool, ApprovedPool, Condition, DomainApproval, FINALIZER, FamilySpec, Kind, Metadata,
    Object, ObjectKey,
};
use crate::core::pool::{Pool, approval, approved_block_size, fingerprint, status_count};
use crate::core::set_aside::unknown_fields;
use crate::core::time::WallTime;

fn domain_name(pool: &AddressPool) -> String {
    if pool.spec.domain.is_empty() {
        "default".to_owned()
    } else {
        pool.spec.domain.clone()
    }
}

fn ranges(pool: &AddressPool) -> Vec<Vec<String>> {
    pool.spec
        .families
        .iter()
        .map(|family| family.ranges.clone())
        .collect()
}

/// The result of looking at a pool.
enum Verdict {
    Approved(u16),
    Refused(&'static str, String),
    Enter(ApprovedPool),
}

/// What the entry of its name alone says about a pool. `None` if it has grown and must be looked at
/// again.
fn judge_entered(pool: &AddressPool, entry: &ApprovedPool) -> Option<Verdict> {
    let refused = |reason, text: &str| Some(Verdict::Refused(reason, text.to_owned()));
    if entry.uid != pool.metadata.uid {
        return refused("NameInUse", "an earlier pool has blocks");
    }
    let asked = pool.spec.block_size;
    if asked.is_some_and(|size| size != entry.block_size) {
        return refused("Immutable", "the block size is fixed");
    }
    let new = ranges(pool);
    if new.len() != entry.ranges.len() {
        return refused("Immutable", "the families are fixed");
    }
    let mut families = new.iter().zip(&entry.ranges);
    if !families.all(|(new, old)| new.starts_with(old)) {
        return refused("Immutable", "ranges may only be appended to");
    }
    (new == entry.ranges).then_some(Verdict::Approved(entry.block_size))
}

/// Whether an approved pool shares an address with another; one that cannot be read might.
fn overlaps(approved: &ApprovedPool, with: &Pool) -> bool {
    let mut object = AddressPool::default();
    object.metadata.name.clone_from(&approved.name);
    object.spec.families = approved
        .ranges
        .iter()
        .map(|ranges| FamilySpec {
            ranges: ranges.clone(),
            ..FamilySpec::default()
        })
        .collect();
    Pool::parse(&object, Some(approved.block_size)).map_or(true, |pool| pool.overlaps(with))
}

impl Controller {
    /// One step toward every pool being approved, refused or gone. Whether one was taken.
    pub(super) fn approve(&mut self) -> bool {
        let names: Vec<_> = self.pools.keys().cloned().collect();
        names.into_iter().any(|name| {
            let Some(pool) = self.pools.get(&name).cloned() else {
                return false;
            };
            let key = ObjectKey::cluster(Kind::AddressPool, name);
            if self.waits(&key) {
                return false;
            }
            if pool.metadata.deletion_timestamp.is_some() {
                return pool.metadata.finalizers.iter().any(|f| f == FINALIZER)
                    && self.dissolve(pool);
            }
            if !pool.metadata.finalizers.iter().any(|f| f == FINALIZER) {
                let mut next = pool;
                next.metadata.finalizers.push(FINALIZER.to_owned());
                self.write(next, Part::Main);
                return true;
            }
            match self.judge(&pool) {
                Verdict::Approved(size) => {
                    let approved = approval(&fingerprint(&pool.metadata.uid, &pool.spec), size);
                    let capacity = Pool::parse(&pool, Some(size)).map_or(0, |pool| pool.capacity);
                    let condition = condition("True", "Approved", String::new());
                    self.state_approval(pool, approved, capacity, condition)
                }
                Verdict::Refused(reason, message) => {
                    let condition = condition("False", reason, message);
                    let capacity = pool.status.capacity;
                    // An approval of earlier ranges stays: it no longer matches the spec.
                    let approved = pool.status.approved.clone();
                    self.state_approval(pool, approved, capacity, condition)
                }
                Verdict::Enter(entry) => {
                    self.enter(key, &domain_name(&pool), entry);
                    true
                }
            }
        })
    }

    fn judge(&self, pool: &AddressPool) -> Verdict {
        let domain = domain_name(pool);
        let key = ObjectKey::cluster(Kind::DomainApproval, domain.clone());
        if let Some(unread) = self.unread.objects.get(&key) {
            // What it approved stands; nothing else is approved beside it.
            return match approved_block_size(pool) {
                Some(size) => Verdict::Approved(size),
                None => Verdict::Refused("DomainUnreadable", unread.to_string()),
            };
        }
        let entries = self
            .domains
            .get(&domain)
            .map_or(&[][..], |d| d.spec.pools.as_slice());
        let entry = entries
            .iter()
            .find(|entry| entry.name == pool.metadata.name);
        let size = entry
            .filter(|entry| entry.uid == pool.metadata.uid)
            .map(|e| e.block_size);
        let parsed = match Pool::parse(pool, size) {
            Ok(parsed) => parsed,
            Err(error) => return Verdict::Refused("Invalid", error.to_string()),
        };
        if let Some(verdict) = entry.and_then(|entry| judge_entered(pool, entry)) {
            return verdict;
        }
        // Not of what is approved already: it is in use, and its addresses are what they were.
        if let Err(error) = Pool::check(pool) {
            return Verdict::Refused("Invalid", error.to_string());
        }
        let mut others = entries.iter().filter(|e| e.name != pool.metadata.name);
        if let Some(other) = others.find(|other| overlaps(other, &parsed)) {
            return Verdict::Refused("Overlapping", format!("pool {} overlaps", other.name));
        }
        Verdict::Enter(ApprovedPool {
            name: pool.metadata.name.clone(),
            uid: pool.metadata.uid.clone(),
            block_size: parsed.block_size,
            ranges: ranges(pool),
            ..ApprovedPool::default()
        })
    }

    fn enter(&mut self, subject: ObjectKey, domain: &str, entry: ApprovedPool) {
        let mut object = self
            .domains
            .get(domain)
            .cloned()
            .unwrap_or_else(|| DomainApproval {
                metadata: Metadata {
                    name: domain.to_owned(),
                    ..Metadata::default()
                },
                ..DomainApproval::default()
            });
        object.spec.pools.retain(|other| other.name != entry.name);
        object.spec.pools.push(entry);
        object.spec.pools.sort_by(|a, b| a.name.cmp(&b.name));
        self.write_for(subject, object, Part::Main);
    }

    /// Writes the status if it differs.
    fn state_approval(
        &mut self,
        mut pool: AddressPool,
        approved: String,
        capacity: u64,
        condition: Condition,
    ) -> bool {
        let before = pool.status.clone();
        pool.status.approved = approved;
        pool.status.capacity = status_count(capacity);
        let condition = condition.observed(pool.metadata.generation);
        state_condition(&mut pool.status.conditions, condition, self.wall);
        state_ignored(&mut pool, self.wall);
        if pool.status == before {
            return false;
        }
        self.write(pool, Part::Status);
        true
    }

    /// A pool is being deleted: its empty blocks go, then its entry, then its finalizer. The blocks
    /// are listed after the deletion timestamp; an agent that creates one later reads the pool
    /// before it uses the block.
    fn dissolve(&mut self, mut pool: AddressPool) -> bool {
        let Some(survey) = &self.survey else {
            self.take_survey();
            return true;
        };
        let subject = ObjectKey::cluster(Kind::AddressPool, pool.metadata.name.clone());
        let hidden = survey.hides_some_of(&pool.metadata.name);
        let of_pool: Vec<_> = survey
            .blocks
            .values()
            .filter(|b| b.spec.pool == pool.metadata.name)
            .cloned()
            .collect();
        let is_empty = |records: &str| {
            decode_records(records).all(|entry| entry.is_ok_and(|(_, r)| r.holder().is_none()))
        };
        if let Some(block) = of_pool.iter().find(|block| is_empty(&block.spec.records)) {
            if !block.metadata.finalizers.is_empty() {
                let mut next = block.clone();
                next.metadata.finalizers.clear();
                next.spec.writer = self.writer();
                self.write_for(subject, next, Part::Main);
                return true;
            }
            let key = ObjectKey::cluster(Kind::AddressBlock, block.metadata.name.clone());
            let preconditions = Preconditions {
                uid: block.metadata.uid.clone(),
                resource_version: block.metadata.resource_version.clone(),
            };
            self.delete_for(subject, key, preconditions);
            return true;
        }
        let domain = domain_name(&pool);
        let approval = ObjectKey::cluster(Kind::DomainApproval, domain.clone());
        if !of_pool.is_empty() || hidden || self.is_set_aside(&approval) {
            // Held, or unknown. No event will show when that ends.
            self.look_later(subject);
            return false;
        }
        if let Some(approval) = self.domains.get(&domain)
            && approval
                .spec
                .pools
                .iter()
                .any(|entry| entry.uid == pool.metadata.uid)
        {
            let mut next = approval.clone();
            next.spec
                .pools
                .retain(|entry| entry.uid != pool.metadata.uid);
            self.write_for(subject, next, Part::Main);
            return true;
        }
        pool.metadata
            .finalizers
            .retain(|finalizer| finalizer != FINALIZER);
        self.write(pool, Part::Main);
        true
    }
}

/// Names the fields of the spec that this release does not know.
fn state_ignored(pool: &mut AddressPool, now: WallTime) {
    const IGNORED: &str = "FieldsIgnored";
    let mut unknown = unknown_fields(&Object::from(pool.clone()));
    unknown.retain(|field| field.starts_with("spec."));
    let conditions = &mut pool.status.conditions;
    if unknown.is_empty() {
        conditions.retain(|condition| condition.kind != IGNORED);
        return;
    }
    let condition = Condition::new(IGNORED, "True", "NewerRelease", unknown.join(", "));
    let condition = condition.observed(pool.metadata.generation);
    state_condition(conditions, condition, now);
}

fn condition(status: &str, reason: &str, message: String) -> Condition {
    Condition::new("Approved", status, reason, message)
}

/// The fingerprint of what a pool masks.
pub(super) fn mask_fingerprint(pool: &AddressPool) -> String {
    let mut text = String::new();
    for family in &pool.spec.families {
        for part in family.exclude.iter().chain(&family.ranges) {
            text.push_str(part);
            text.push(',');
        }
        text.push_str(
            &family
                .gateway
                .map_or(String::new(), |gateway| gateway.to_string()),
        );
        text.push(';');
    }
    format!("{:016x}", fnv1a(text.as_bytes()))
}
