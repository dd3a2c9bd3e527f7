//! Burial of incarnations: live, dying, the quarantine, dead, and only then free. An agent that
//! lives sees `dying` and contests it; the swap to dead is guarded, so a contest wins.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::Controller;
use crate::core::api::Part;
use crate::core::block::Block;
use crate::core::condition::state_condition;
use crate::core::holder::{Record, decode_records};
use crate::core::identity::EpochId;
use crate::core::objects::{
    ANNOTATION_BURY, AddressBlock, BerthNode, Condition, EpochState, Kind, ObjectKey,
    TAINT_OUT_OF_SERVICE,
};
use crate::core::pool::{Pool, approved_block_size};
use crate::core::time::BootTime;

const HOUR: Duration = Duration::from_secs(3600);
const CLEARED: &str = "RecordsCleared";
/// Condition of a `BerthNode` whose burial waits because too many began within the hour.
const BURIAL_HELD: &str = "BurialHeld";

/// What this leader saw of burials.
#[derive(Default)]
pub(super) struct Burials {
    /// When this process began to see the epoch dying, without a break. A new leader starts over,
    /// which only makes the quarantine longer.
    dying_since: BTreeMap<EpochId, BootTime>,
    /// Burials begun because a Node object is gone, by time.
    begun: Vec<BootTime>,
    /// Machines whose burial waits for the hourly limit.
    held: BTreeSet<String>,
}

impl Burials {
    pub(super) fn held_count(&self) -> u64 {
        self.held.len() as u64
    }

    pub(super) fn next_due(&self, quarantine: Duration) -> Option<BootTime> {
        self.dying_since
            .values()
            .map(|since| *since + quarantine)
            .min()
    }
}

impl Controller {
    /// One step of one burial.
    pub(super) fn bury(&mut self) -> bool {
        self.observe_dying();
        let machines: Vec<_> = self.machines.values().cloned().collect();
        for machine in machines {
            let key = ObjectKey::cluster(Kind::BerthNode, machine.metadata.name.clone());
            // An unreadable one may live.
            if self.waits(&key) {
                continue;
            }
            if self.begin_burial(&machine) || self.end_quarantine(&machine) {
                return true;
            }
            for epoch in dead_epochs(&machine) {
                if self.clear_epoch(&machine, &epoch) {
                    return true;
                }
            }
        }
        false
    }

    fn observe_dying(&mut self) {
        let dying: Vec<EpochId> = self.machines.values().flat_map(dying_epochs).collect();
        self.burials
            .dying_since
            .retain(|epoch, _| dying.contains(epoch));
        let machines = &self.machines;
        self.burials.held.retain(|name| machines.contains_key(name));
        for epoch in dying {
            self.burials.dying_since.entry(epoch).or_insert(self.now);
        }
    }

    /// Begins a burial if an operator stated that the machine is off, or if the Node object is gone
    /// and that counts.
    fn begin_burial(&mut self, machine: &BerthNode) -> bool {
        if machine.spec.state != EpochState::Live {
            return false;
        }
        // An unreadable Node proves nothing, least of all that it is gone.
        let node_key = ObjectKey::cluster(Kind::Node, machine.spec.node_name.clone());
        let is_unread = self.is_set_aside(&node_key);
        let node = self.nodes.get(&machine.spec.node_name);
        let tainted = node.filter(|_| !is_unread).is_some_and(|node| {
            node.metadata.uid == machine.spec.node_uid
                && node
                    .spec
                    .taints
                    .iter()
                    .any(|taint| taint.key == TAINT_OUT_OF_SERVICE)
        });
        let word = machine.metadata.annotations.contains_key(ANNOTATION_BURY) || tainted;
        let gone = !is_unread && node.is_none_or(|node| node.metadata.uid != machine.spec.node_uid);
        if !word {
            if !gone || !self.config.bury_when_node_is_gone {
                return self.end_hold(machine);
            }
            let now = self.now;
            self.burials.begun.retain(|begun| now.since(*begun) < HOUR);
            if self.burials.begun.len() >= (self.machines.len() / 10).max(1) {
                return self.hold_burial(machine);
            }
            self.burials.begun.push(now);
        }
        self.burials.held.remove(&machine.metadata.name);
        let mut next = machine.clone();
        next.spec.state = EpochState::Dying;
        next.spec.conditions.retain(|c| c.kind != BURIAL_HELD);
        next.spec.writer = self.writer();
        self.event("BurialBegun", format!("node {}", machine.spec.node_name));
        self.write(next, Part::Main);
        true
    }

    /// Too many burials because of missing Node objects: this one waits, and says so.
    fn hold_burial(&mut self, machine: &BerthNode) -> bool {
        if self.burials.held.insert(machine.metadata.name.clone()) {
            let text = format!("node {} waits: too many this hour", machine.spec.node_name);
            self.event(BURIAL_HELD, text);
        }
        if machine
            .spec
            .conditions
            .iter()
            .any(|c| c.kind == BURIAL_HELD)
        {
            return false;
        }
        let mut next = machine.clone();
        let message = "the Node object is gone, like those of many others".to_owned();
        let condition = Condition::new(BURIAL_HELD, "True", "HourlyLimit", message);
        let condition = condition.observed(next.metadata.generation);
        state_condition(&mut next.spec.conditions, condition, self.wall);
        next.spec.writer = self.writer();
        self.write(next, Part::Main);
        true
    }

    /// The Node object is back.
    fn end_hold(&mut self, machine: &BerthNode) -> bool {
        self.burials.held.remove(&machine.metadata.name);
        if !machine
            .spec
            .conditions
            .iter()
            .any(|c| c.kind == BURIAL_HELD)
        {
            return false;
        }
        let mut next = machine.clone();
        next.spec.conditions.retain(|c| c.kind != BURIAL_HELD);
        next.spec.writer = self.writer();
        self.write(next, Part::Main);
        true
    }

    /// Dying for the whole quarantine: dead, unless the object changed in the meantime.
    fn end_quarantine(&mut self, machine: &BerthNode) -> bool {
        let over: Vec<EpochId> = dying_epochs(machine)
            .filter(|epoch| {
                self.burials
                    .dying_since
                    .get(epoch)
                    .is_some_and(|since| self.now.since(*since) >= self.config.quarantine)
            })
            .collect();
        if over.is_empty() {
            return false;
        }
        let mut next = machine.clone();
        for epoch in over {
            if epoch.number() == next.spec.epoch {
                next.spec.state = EpochState::Dead;
            }
            for former in &mut next.spec.former {
                if former.epoch == epoch.number() {
                    former.state = EpochState::Dead;
                }
            }
            self.event("Buried", format!("{epoch}"));
        }
        assert_ne!(next.spec, machine.spec, "whose time is over is stated dead");
        next.spec.writer = self.writer();
        self.write(next, Part::Main);
        true
    }

    /// Frees the records of a dead epoch, block by block, then notes that it is done.
    fn clear_epoch(&mut self, machine: &BerthNode, epoch: &EpochId) -> bool {
        assert!(
            epochs(machine, EpochState::Dead).any(|dead| dead == *epoch),
            "only what a dead epoch held is freed"
        );
        let Some(survey) = &self.survey else {
            self.take_survey();
            return true;
        };
        // A block that cannot be read, for whatever reason, may hold records of the epoch.
        let mut is_whole = survey.unread.is_empty();
        for stored in survey.blocks.values() {
            let pool = self
                .pools
                .get(&stored.spec.pool)
                .and_then(|object| Pool::parse(object, Some(approved_block_size(object)?)).ok());
            let block = pool.and_then(|pool| Some((Block::read(stored, &pool).ok()?, pool)));
            let Some((mut block, pool)) = block else {
                is_whole &= !may_hold(stored, epoch);
                continue;
            };
            let of_epoch: Vec<_> = block
                .iter()
                .filter_map(|(ordinal, record)| {
                    let holder = record.holder()?;
                    (holder.epoch == *epoch).then(|| (ordinal, holder.reservation.clone()))
                })
                .collect();
            if of_epoch.is_empty() {
                continue;
            }
            let key = ObjectKey::cluster(Kind::AddressBlock, stored.metadata.name.clone());
            if self.waits(&key) {
                is_whole = false;
                continue;
            }
            for (ordinal, reservation) in of_epoch {
                let kept = (!reservation.is_empty()).then_some(Record::Reserved(reservation));
                block.set(ordinal, kept);
            }
            assert!(
                !block.iter().any(|(_, record)| is_of(record, epoch)),
                "nothing of the dead epoch is left in the block"
            );
            let stored = stored.clone();
            self.write_block(&pool, &stored, &block);
            return true;
        }
        if !is_whole {
            self.look_later(ObjectKey::cluster(
                Kind::BerthNode,
                machine.metadata.name.clone(),
            ));
            return false;
        }
        let mut next = machine.clone();
        next.spec
            .former
            .retain(|former| former.epoch != epoch.number());
        if epoch.number() == next.spec.epoch {
            next.spec.blocks.clear();
            let condition = Condition::new(CLEARED, "True", "Buried", String::new());
            let condition = condition.observed(next.metadata.generation);
            state_condition(&mut next.spec.conditions, condition, self.wall);
        }
        next.spec.writer = self.writer();
        self.write(next, Part::Main);
        true
    }
}

/// Whether the block may have a record of the epoch: an unreadable record may be one.
fn may_hold(stored: &AddressBlock, epoch: &EpochId) -> bool {
    decode_records(&stored.spec.records).any(|entry| match entry {
        Ok((_, record)) => is_of(&record, epoch),
        Err(_) => true,
    })
}

fn is_of(record: &Record, epoch: &EpochId) -> bool {
    record.holder().is_some_and(|holder| holder.epoch == *epoch)
}

fn epochs(machine: &BerthNode, state: EpochState) -> impl Iterator<Item = EpochId> {
    let current = (machine.spec.state == state).then_some(machine.spec.epoch);
    let former = machine
        .spec
        .former
        .iter()
        .filter(move |former| former.state == state)
        .map(|former| former.epoch);
    former
        .chain(current)
        .map(|epoch| EpochId::new(&machine.metadata.name, epoch))
}

fn dying_epochs(machine: &BerthNode) -> impl Iterator<Item = EpochId> {
    epochs(machine, EpochState::Dying)
}

/// Dead epochs whose records are not known to be cleared.
fn dead_epochs(machine: &BerthNode) -> Vec<EpochId> {
    let cleared = machine
        .spec
        .conditions
        .iter()
        .any(|condition| condition.kind == CLEARED);
    epochs(machine, EpochState::Dead)
        .filter(|epoch| !(cleared && epoch.number() == machine.spec.epoch))
        .collect()
}
