//! The incarnation of this machine: its `BerthNode`, and how long the last quorum read that showed
//! it live covers answers from memory.

use std::collections::BTreeSet;

use super::Agent;
use super::errands::{Purpose, StartStep};
use super::host::HostPart;
use super::pods::PodState;
use super::timers::Timer;
use crate::core::api::{ApiError, ApiReply, ApiRequest, Consistency, Part};
use crate::core::block::Block;
use crate::core::condition::state_condition;
use crate::core::hash::fnv1a;
use crate::core::identity::EpochId;
use crate::core::naming::{machine_id, stated_node};
use crate::core::objects::{
    ANNOTATION_RELEASE, BerthNode, BerthNodeSpec, Condition, EpochState, Fields, FormerEpoch, Kind,
    LABEL_STATES_NODE, Metadata, Object, ObjectKey,
};
use crate::core::pool::block_name;
use crate::core::time::BootTime;

/// Condition of a `BerthNode`: an incarnation of the same boot was buried.
const CONDITION_REVIVED: &str = "BuriedWhileAlive";
/// Condition of a `BerthNode`: some of its Pods have addresses that belong to another Pod.
const CONDITION_DISPLACED: &str = "AddressTaken";

/// What is known of the own incarnation.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a separate fact of the protocol"
)]
pub(super) struct EpochView {
    id: Option<EpochId>,
    stored: Option<BerthNode>,
    in_flight: bool,
    /// ADDs may be answered from memory before this.
    valid_until: BootTime,
    last_sent: BootTime,
    failure_count: u32,
    /// The object's list of own blocks is incomplete.
    blocks_missing: bool,
    /// The own object states another incarnation: no answers before this.
    suspended_until: Option<BootTime>,
    /// Hashes of the machines of all live `BerthNode`s, to deal the blocks among.
    machines: BTreeSet<(u64, String)>,
    /// Blocks that the object named when this process first read it.
    pub(super) listed_blocks: Vec<String>,
    /// This process has sent a write of the object.
    wrote: bool,
    /// The incarnation follows one of the same boot that was buried: what was bound under the
    /// buried one may have been given to others.
    is_revived: bool,
    /// Pods whose address another Pod has.
    displaced: BTreeSet<String>,
    /// This machine was known under the same boot before this process started.
    pub(super) known_before: bool,
    /// Other live machines with the same ID, by name.
    namesakes: BTreeSet<String>,
}

impl EpochView {
    pub(super) fn new() -> Self {
        Self {
            id: None,
            stored: None,
            in_flight: false,
            valid_until: BootTime::ZERO,
            last_sent: BootTime::ZERO,
            failure_count: 0,
            blocks_missing: false,
            suspended_until: None,
            machines: BTreeSet::new(),
            listed_blocks: Vec::new(),
            wrote: false,
            is_revived: false,
            displaced: BTreeSet::new(),
            known_before: false,
            namesakes: BTreeSet::new(),
        }
    }

    /// See the field.
    pub(super) fn is_revived(&self) -> bool {
        self.is_revived
    }

    /// When the last read (or guarded write) that showed the incarnation live was sent; zero:
    /// never.
    pub(super) fn shown_live_at(&self, valid: core::time::Duration) -> BootTime {
        BootTime::new(self.valid_until.since_boot().saturating_sub(valid))
    }

    /// Whether the object was seen to state this incarnation.
    pub(super) fn is_stored(&self) -> bool {
        self.stored.is_some()
    }

    /// Whether a request about the object is in flight.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// The incarnation, once the object states it.
    pub(super) fn id(&self) -> Option<&EpochId> {
        self.id.as_ref()
    }

    /// (which, of how many): this node among the live ones.
    pub(super) fn rank(&self) -> (u64, u64) {
        let own = self.id.as_ref().map_or("", EpochId::machine);
        let rank = self
            .machines
            .range(..(fnv1a(own.as_bytes()), own.to_owned()))
            .count() as u64;
        let listed = self
            .machines
            .contains(&(fnv1a(own.as_bytes()), own.to_owned()));
        (rank, self.machines.len() as u64 + u64::from(!listed))
    }
}

impl Agent {
    /// The name of this machine's `BerthNode`.
    pub(super) fn identity(&self) -> &str {
        #[cfg(feature = "mutants")]
        if self.is_mutant(crate::core::Mutant::NodeNameIdentity) {
            return &self.config.node_name;
        }
        &self.config.machine_id
    }

    /// Whether the own object, as last seen, differs from what is known about the parts.
    pub(super) fn stored_node_differs(&self) -> bool {
        let stored = self.epoch.stored.as_ref();
        stored.is_some_and(|stored| self.parts.differs_from(stored))
    }

    /// Whether an ADD may be answered from memory now.
    pub(super) fn epoch_is_valid(&self) -> bool {
        self.epoch.id.is_some()
            && self.epoch.suspended_until.is_none()
            && self.now < self.epoch.valid_until
    }

    /// Something waits or will soon be asked for: reads the epoch if it is not fresh.
    pub(super) fn epoch_needed(&mut self) {
        let fresh_until = self.epoch.last_sent + self.config.policy.epoch_refresh;
        if self.now >= fresh_until || !self.epoch_is_valid() {
            self.read_epoch();
        } else {
            self.arm(Timer::Epoch, fresh_until);
        }
    }

    pub(super) fn epoch_timer(&mut self) {
        let waiting = !self.adds.is_empty()
            || !self.claims.is_empty()
            || self.epoch.blocks_missing
            || self.pods.values().any(PodState::awaits_add);
        let idle_until = self.epoch.last_sent + self.config.policy.epoch_refresh_idle;
        if waiting || self.now >= idle_until {
            self.read_epoch();
            self.refresh_node();
        } else {
            self.arm(Timer::Epoch, idle_until);
        }
    }

    /// Reads the object by quorum, or, when its list of blocks lacks some, writes it: a guarded
    /// write that succeeds proves as much as a read.
    pub(super) fn read_epoch(&mut self) {
        if self.epoch.in_flight || self.now < self.epoch.suspended_until.unwrap_or(BootTime::ZERO) {
            return;
        }
        if self.epoch.blocks_missing
            && self.epoch.failure_count == 0
            && let Some(stored) = &self.epoch.stored
            && stored.spec.state == EpochState::Live
        {
            let next = stored.clone();
            self.write_epoch(next);
            return;
        }
        self.epoch.in_flight = true;
        self.epoch.last_sent = self.now;
        let key = ObjectKey::cluster(Kind::BerthNode, self.identity());
        let purpose = Purpose::Epoch {
            sent: self.now,
            planned: None,
        };
        self.call(purpose, ApiRequest::Get(key, Consistency::Quorum));
    }

    pub(super) fn write_epoch(&mut self, mut next: BerthNode) {
        self.identity().clone_into(&mut next.metadata.name);
        next.spec.writer = self.writer();
        next.spec.blocks = self.own_block_names();
        self.state_displaced(&mut next);
        self.parts.state_in(&mut next, self.wall);
        assert!(
            !self.epoch.in_flight,
            "one request about the own object at a time"
        );
        self.epoch.blocks_missing = false;
        self.epoch.wrote = true;
        self.epoch.in_flight = true;
        self.epoch.last_sent = self.now;
        let object = Object::from(next.clone());
        let request = if next.metadata.resource_version.is_empty() {
            ApiRequest::Create(object)
        } else {
            ApiRequest::Replace(object, Part::Main)
        };
        let purpose = Purpose::Epoch {
            sent: self.now,
            planned: Some(Box::new(next)),
        };
        self.call(purpose, request);
    }

    /// A Pod of this node has an address that belongs to another Pod: the object says so from its
    /// next write on, which replaces its next read.
    pub(super) fn note_displaced(&mut self, pod_name: &str) {
        if self.epoch.displaced.insert(pod_name.to_owned()) {
            self.epoch_block_added();
        }
    }

    /// The Pod no longer has an ordinal here.
    pub(super) fn displaced_is_gone(&mut self, pod_name: &str) {
        if self.epoch.displaced.remove(pod_name) {
            self.epoch_block_added();
        }
    }

    fn state_displaced(&self, object: &mut BerthNode) {
        let conditions = &mut object.spec.conditions;
        if self.epoch.displaced.is_empty() {
            conditions.retain(|condition| condition.kind != CONDITION_DISPLACED);
            return;
        }
        let names: Vec<_> = self.epoch.displaced.iter().take(16).cloned().collect();
        let message = format!("{} Pods: {}", self.epoch.displaced.len(), names.join(", "));
        let condition = Condition::new(CONDITION_DISPLACED, "True", "AddressTaken", message);
        let condition = condition.observed(object.metadata.generation);
        state_condition(conditions, condition, self.wall);
    }

    /// Every block that may hold a record of this machine.
    fn own_block_names(&self) -> Vec<String> {
        let holds = |block: &Block| {
            block.iter().any(|(_, record)| {
                record
                    .holder()
                    .is_some_and(|holder| holder.epoch.machine() == self.identity())
            })
        };
        let mut names: BTreeSet<String> = self
            .blocks
            .iter()
            .filter(|(_, block)| {
                block.journaled && (!block.trusted || block.flight.is_some() || holds(&block.base))
            })
            .filter_map(|(key, _)| Some(block_name(&self.pools.get(&key.pool)?.name, key.index)))
            .collect();
        if !self.is_settled() {
            names.extend(self.epoch.listed_blocks.iter().cloned());
        }
        names.into_iter().collect()
    }

    /// A block is about to be written for the first time: name it in the object soon.
    pub(super) fn epoch_block_added(&mut self) {
        self.epoch.blocks_missing = true;
        let at = self.epoch.last_sent + self.config.policy.epoch_refresh;
        self.arm(Timer::Epoch, at);
    }

    pub(super) fn epoch_answered(
        &mut self,
        sent: BootTime,
        planned: Option<Box<BerthNode>>,
        result: Result<ApiReply, ApiError>,
    ) {
        assert!(self.epoch.in_flight, "what was answered was asked");
        self.epoch.in_flight = false;
        match (result, planned) {
            (Ok(ApiReply::Object(Object::BerthNode(object))), None) => {
                self.epoch.failure_count = 0;
                self.mended(Kind::BerthNode, &object.metadata);
                self.epoch_read(sent, *object);
            }
            (Ok(ApiReply::Written(metadata)), Some(mut planned)) => {
                self.epoch.failure_count = 0;
                planned.metadata = metadata;
                self.epoch_confirmed(sent, &planned);
            }
            (Err(ApiError::NotFound), None) => {
                self.epoch.failure_count = 0;
                let gone = Metadata {
                    name: self.identity().to_owned(),
                    ..Metadata::default()
                };
                self.mended(Kind::BerthNode, &gone);
                let number = self.epoch.id.as_ref().map_or(1, EpochId::number);
                self.write_epoch(self.fresh_object(number, Vec::new()));
            }
            (Err(ApiError::Conflict | ApiError::AlreadyExists | ApiError::NotFound), Some(_)) => {
                self.epoch.blocks_missing = true;
                self.epoch.failure_count = 1;
                self.read_epoch();
            }
            (result, planned) => {
                if let Ok(ApiReply::Object(Object::SetAside(object))) = result {
                    // It is not overwritten, because it may say that this incarnation is dead. No
                    // answer from memory outlives what the last readable version covers.
                    self.own_machine_set_aside(&object);
                }
                self.epoch.blocks_missing |= planned.is_some();
                let entropy = self.draw();
                let backoff = self.config.policy.api_retry;
                let pause = backoff.pause(self.epoch.failure_count, entropy);
                self.epoch.failure_count = self.epoch.failure_count.saturating_add(1);
                self.disarm(&Timer::Epoch);
                // The next read is due because this one failed, however idle the node is.
                self.epoch.last_sent = BootTime::ZERO;
                let at = self.now + pause;
                self.arm(Timer::Epoch, at);
            }
        }
    }

    fn fresh_object(&self, number: u64, former: Vec<FormerEpoch>) -> BerthNode {
        let mut metadata = Metadata::default();
        if stated_node(self.identity()) == Some(&*self.config.node_name) {
            let label = (LABEL_STATES_NODE.to_owned(), "true".to_owned());
            metadata.labels.extend([label]);
        }
        BerthNode {
            metadata,
            spec: BerthNodeSpec {
                node_name: self.config.node_name.clone(),
                node_uid: self.node_uid.clone(),
                boot_id: self.config.boot_id.clone(),
                epoch: number,
                state: EpochState::Live,
                former,
                ..BerthNodeSpec::default()
            },
            ..BerthNode::default()
        }
    }

    /// A read returned the object.
    fn epoch_read(&mut self, sent: BootTime, object: BerthNode) {
        let same_boot = object.spec.boot_id == self.config.boot_id;
        let known = self.epoch.id.as_ref().map(EpochId::number);
        if self.epoch.stored.is_none() {
            self.epoch.listed_blocks.clone_from(&object.spec.blocks);
            // Not when it is this process's own first write, whose reply was lost.
            self.epoch.known_before = same_boot && !self.epoch.wrote;
        }
        let foreign = match known {
            Some(number) => !same_boot || object.spec.epoch > number,
            None => false,
        };
        if foreign
            && self
                .epoch
                .suspended_until
                .is_none_or(|until| self.now < until)
        {
            self.suspend(&object);
            return;
        }
        let continues = same_boot && !foreign && known.is_none_or(|n| n == object.spec.epoch);
        if continues {
            let conditions = &object.spec.conditions;
            self.epoch.is_revived |= object.spec.state == EpochState::Dead
                || conditions.iter().any(|c| c.kind == CONDITION_REVIVED);
        }
        match object.spec.state {
            EpochState::Live if continues => self.epoch_confirmed(sent, &object),
            EpochState::Dying if continues => {
                self.event(
                    "BurialContested",
                    format!("node {} lives", self.config.node_name),
                );
                let mut next = object;
                next.spec.state = EpochState::Live;
                next.metadata
                    .annotations
                    .remove(crate::core::objects::ANNOTATION_BURY);
                self.write_epoch(next);
            }
            // Dead, from an earlier boot, or foreign and waited out: a new incarnation.
            _ => self.write_next_incarnation(object),
        }
    }

    fn write_next_incarnation(&mut self, object: BerthNode) {
        let mut former = object.spec.former.clone();
        let state = match object.spec.state {
            EpochState::Dead => EpochState::Dead,
            EpochState::Live | EpochState::Dying => EpochState::Dying,
        };
        former.push(FormerEpoch {
            epoch: object.spec.epoch,
            state,
            other: Fields::new(),
        });
        let mut next = self.fresh_object(object.spec.epoch.saturating_add(1), former);
        if self.epoch.is_revived {
            let message = format!("epoch {} was buried", object.spec.epoch);
            let condition = Condition::new(CONDITION_REVIVED, "True", "BuriedWhileAlive", message)
                .observed(object.metadata.generation);
            state_condition(&mut next.spec.conditions, condition, self.wall);
        }
        next.metadata = object.metadata;
        next.other = object.other;
        next.spec.other = object.spec.other;
        next.metadata
            .annotations
            .remove(crate::core::objects::ANNOTATION_BURY);
        self.write_epoch(next);
    }

    /// The own object states another incarnation: a clone of this machine. It may have answered
    /// until a moment ago, and so may this one.
    fn suspend(&mut self, object: &BerthNode) {
        let policy = &self.config.policy;
        let until = self.now + policy.epoch_valid + policy.longest_add;
        if self.epoch.suspended_until.is_none() {
            self.epoch.suspended_until = Some(until);
            self.epoch.valid_until = BootTime::ZERO;
            self.event(
                "ForeignIncarnation",
                format!(
                    "{} is also epoch {}",
                    object.metadata.name, object.spec.epoch
                ),
            );
            let why = format!(
                "another process took the incarnation: epoch {} of node {}",
                object.spec.epoch, object.spec.node_name
            );
            self.part_found(HostPart::MachineId, Some(why));
        }
        self.disarm(&Timer::Epoch);
        let at = self.epoch.suspended_until.unwrap_or(until);
        self.arm(Timer::Epoch, at);
        self.epoch.last_sent = BootTime::ZERO;
    }

    /// The object states that, as of `sent`, this incarnation lives.
    fn epoch_confirmed(&mut self, sent: BootTime, object: &BerthNode) {
        let id = EpochId::new(self.identity(), object.spec.epoch);
        let changed = self.epoch.id.as_ref() != Some(&id);
        let had_one = self.epoch.id.is_some();
        self.epoch.stored = Some(object.clone());
        if self.epoch.suspended_until.take().is_some() {
            self.part_found(HostPart::MachineId, None);
        }
        self.epoch.valid_until = self
            .epoch
            .valid_until
            .max(sent + self.config.policy.epoch_valid);
        self.epoch.id = Some(id);
        if changed {
            self.epoch.valid_until = sent + self.config.policy.epoch_valid;
            self.epoch
                .machines
                .insert((fnv1a(self.identity().as_bytes()), self.identity().into()));
            if had_one {
                self.distrust_all();
            } else {
                self.startup_done(StartStep::Epoch);
            }
        }
        let pods: Vec<_> = self
            .adds
            .values()
            .filter_map(|add| add.pod_uid.clone())
            .collect();
        self.touched_pods.extend(pods);
        let at = self.epoch.last_sent + self.config.policy.epoch_refresh;
        self.arm(Timer::Epoch, at);
        if self.parts.differs_from(object) {
            self.epoch_block_added();
        }
        self.obey_orders(object);
    }

    /// The whole list of machines: others are gone.
    pub(super) fn machines_listed(&mut self, names: &BTreeSet<String>) {
        let before = self.epoch.machines.len();
        self.epoch.machines.retain(|(_, name)| names.contains(name));
        if before != self.epoch.machines.len() {
            self.deal_blocks_anew();
        }
    }

    /// Blocks are dealt among the machines that live.
    pub(super) fn machine_seen(&mut self, name: &str, lives: bool) {
        let entry = (fnv1a(name.as_bytes()), name.to_owned());
        let before = self.epoch.machines.len();
        if lives {
            self.epoch.machines.insert(entry);
        } else {
            self.epoch.machines.remove(&entry);
        }
        if before != self.epoch.machines.len() {
            self.deal_blocks_anew();
        }
    }

    /// Copies of one image share an ID. Their names differ because their nodes' names do, so
    /// neither touches the other's records; it is reported all the same.
    fn look_for_namesakes(&mut self, object: &BerthNode, lives: bool) {
        let name = &object.metadata.name;
        let is_namesake = *name != self.identity()
            && object.spec.node_name != self.config.node_name
            && machine_id(name) == machine_id(self.identity());
        if !is_namesake {
            return;
        }
        if lives {
            self.epoch.namesakes.insert(name.clone());
        } else {
            self.epoch.namesakes.remove(name);
        }
        let names: Vec<_> = self.epoch.namesakes.iter().take(8).cloned().collect();
        let why = format!("other machines have the same: {}", names.join(", "));
        self.part_found(HostPart::MachineId, (!names.is_empty()).then_some(why));
    }

    /// A `BerthNode` was seen by the watch or list.
    pub(super) fn berth_node_seen(&mut self, object: &BerthNode, gone: bool) {
        let name = &object.metadata.name;
        let lives = !gone && object.spec.state != EpochState::Dead;
        self.machine_seen(name, lives);
        self.look_for_namesakes(object, lives);
        let own = *name == self.identity();
        let ordered = object.metadata.annotations.contains_key(ANNOTATION_RELEASE);
        let doubtful = gone
            || ordered
            || object.spec.state != EpochState::Live
            || self
                .epoch
                .id
                .as_ref()
                .is_some_and(|id| id.number() < object.spec.epoch);
        if own && doubtful && self.epoch.id.is_some() {
            self.read_epoch();
        }
    }
}
