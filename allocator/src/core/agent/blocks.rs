//! Blocks in memory, and the one write that makes a block agree with what this agent holds.
//! `fencing` decides whether a block's content may be trusted.

use core::time::Duration;

use super::Agent;
use super::block_state::{BlockState, Flight, Rest};
use super::errands::Purpose;
use super::known;
use super::memory::{BlockKey, ClaimAt, Hold, Holding, Place, PoolId};
use super::plan::{Asking, Held, Plan, Situation};
use super::timers::Timer;
use crate::core::api::{ApiError, ApiReply, ApiRequest, Applied, Consistency, Part};
use crate::core::block::Block;
use crate::core::hash::mix;
use crate::core::holder::{Holder, Record};
use crate::core::identity::EpochId;
use crate::core::journal::Entry;
use crate::core::objects::{AddressBlock, Kind, Metadata, Object, ObjectKey};
use crate::core::pool::block_name;
use crate::core::time::BootTime;
use crate::core::version_went_back;

/// How a version of a block differs from memory.
#[derive(Default)]
struct Differences {
    /// Records of this machine that no holding explains.
    unknown: Vec<(Place, Holder)>,
    /// Records of other Pods where an entry of the journal, or a claim without an answer, has one.
    older: Vec<(Place, Holder)>,
    /// Records that a claim without an answer may have written, or an earlier process, which bound
    /// them.
    unclear: Vec<Place>,
    /// Holdings that are not in the block, and whether another machine has the place.
    missing: Vec<(Place, Hold, bool)>,
}

impl Agent {
    /// Whether an ADD may be answered with this place: the block is trusted and confirmed, and its
    /// last version says that this epoch holds the place for that Pod.
    pub(super) fn is_answerable(&self, place: Place) -> bool {
        let (Some(holding), Some(block)) =
            (self.holdings.get(&place), self.blocks.get(&place.block))
        else {
            return false;
        };
        block.trusted
            && !block.unconfirmed
            && block
                .base
                .get(place.ordinal)
                .and_then(Record::holder)
                .is_some_and(|holder| {
                    Some(&holder.epoch) == self.epoch.id() && holder.pod_uid == holding.pod
                })
    }

    /// The block's state, created if it is not in memory.
    pub(super) fn block_entry(&mut self, key: BlockKey) -> Option<&mut BlockState> {
        if !self.blocks.contains_key(&key) {
            let pool = self.pools.get(&key.pool)?.pool.as_ref()?;
            if key.index >= pool.block_count() {
                return None;
            }
            let base = Block::empty(pool, key.index);
            self.blocks.insert(key, BlockState::new(base));
            self.withhold(key);
            self.note_hearsay(key);
        }
        self.blocks.get_mut(&key)
    }

    /// All holdings of a block.
    pub(super) fn holdings_of(&self, key: BlockKey) -> impl Iterator<Item = (&Place, &Holding)> {
        let at = |ordinal| Place {
            block: key,
            ordinal,
        };
        self.holdings.range(at(0)..=at(u16::MAX))
    }

    /// Which cooling ordinals of the pool are left alone now.
    pub(super) fn rest(&self, id: PoolId) -> Rest {
        let pool = self.pools.get(&id).expect(known::POOL);
        let seconds = pool.pool.as_ref().map_or(0, |p| p.spec.cool_down_seconds);
        if seconds == 0 || pool.search.is_exhausted() || self.now < pool.rest_waived_until {
            return Rest::None;
        }
        let cool_down = Duration::from_secs(seconds.into());
        let seen_by = self.now.since_boot().saturating_sub(cool_down);
        Rest::SinceBefore(BootTime::new(seen_by))
    }

    /// Sends the block's next request, if one is due and none is in flight. A journal may name
    /// blocks that the pool does not have; for them nothing is done.
    pub(super) fn flush(&mut self, key: BlockKey) {
        let Some(block) = self.blocks.get(&key) else {
            return;
        };
        if block.flight.is_some() || self.epoch.id().is_none() {
            return;
        }
        if block.unusable && !self.concerns(key) {
            return;
        }
        if block.not_before > self.now {
            let at = block.not_before;
            self.arm(Timer::Block(key), at);
            return;
        }
        if block.stale || block.unusable {
            self.read_block(key);
            return;
        }
        let free_by = block.free_by;
        let plan = self.plan(key);
        for id in &plan.unserved {
            self.requeue(*id);
        }
        for id in &plan.shut {
            self.drop_claim(*id);
        }
        let block = self.known_block_mut(key);
        block.waiting.retain(|id| !plan.unserved.contains(id));
        assert_eq!(
            block.waiting.len(),
            plan.claims.len(),
            "who still waits for a block is served by its next write"
        );
        let due = plan.must_write || (plan.frees && free_by <= self.now);
        if !due {
            if plan.frees && free_by != BootTime::NEVER {
                self.arm(Timer::Block(key), free_by);
            }
            return;
        }
        self.write_block(key, plan);
    }

    /// What the next write of the block would be. Its pool is approved, and the own epoch stands.
    fn plan(&mut self, key: BlockKey) -> Plan {
        let block = self.known_block(key);
        let pool = self.known_pool(key.pool);
        let own = self
            .epoch
            .id()
            .expect("nothing is planned without an epoch");
        let held = self.holdings_of(key).map(|(place, holding)| Held {
            ordinal: place.ordinal,
            holding,
            is_releasing: match &holding.state {
                Hold::Attached(attachment) => self.is_releasing(attachment),
                Hold::Unbound | Hold::Lost => false,
            },
            is_misnamed: self.is_misnamed(*place, holding),
        });
        let waiting = block.waiting.iter().map(|id| {
            let claim = self.known_claim(*id);
            assert_eq!(
                claim.at,
                ClaimAt::Block(key),
                "a claim waits where it says that it does"
            );
            Asking {
                id: *id,
                pod: &claim.pod,
                pod_name: &claim.pod_name,
                wanted: claim.wanted.as_ref(),
                is_admitted: self.is_admitted(*id, key.pool),
            }
        });
        let situation = Situation {
            key,
            own,
            block,
            held: held.collect(),
            waiting: waiting.collect(),
            rest: self.rest(key.pool),
            stamp: mix(self.entropy, u64::MAX) as u32,
            cools: self.geometry(key.pool).spec.cool_down_seconds > 0,
            is_exhausted: pool.search.is_exhausted(),
            leave_next_freed: pool.leave_next_freed,
        };
        let plan = situation.plan();
        self.known_pool_mut(key.pool).leave_next_freed = plan.leave_next_freed;
        plan
    }

    fn write_block(&mut self, key: BlockKey, plan: Plan) {
        let writer = self.writer();
        let now = self.now;
        for (id, ordinal) in &plan.claims {
            let place = Place {
                block: key,
                ordinal: *ordinal,
            };
            assert!(
                self.is_admitted(*id, key.pool),
                "no claim is written past the door"
            );
            assert!(
                !self.holdings.contains_key(&place),
                "no claim is written over a holding"
            );
            self.pin_claim(*id, place);
        }
        let yield_until = now + self.config.policy.leave_to_others;
        let block = self.known_block_mut(key);
        assert!(
            block.flight.is_none(),
            "one request about a block at a time"
        );
        assert!(
            !block.stale && !block.unusable,
            "a write is on top of the last version seen, which was read"
        );
        block.waiting.clear();
        block.free_by = BootTime::NEVER;
        if plan.left_free {
            block.yield_until = yield_until;
        }
        let metadata = block.stored.clone().unwrap_or_default();
        let exists = block.stored.is_some();
        let first_time = !std::mem::replace(&mut block.journaled, true);
        let pool = self.geometry(key.pool);
        let object = plan.next.write(pool, key.index, metadata, writer);
        let pool = pool.name.clone();
        self.known_block_mut(key).flight = Some(Flight {
            since: now,
            write: Some((plan.next, plan.claims)),
        });
        if first_time {
            self.entering.push(key);
            self.journal(&Entry::Block {
                pool,
                index: key.index,
            });
            self.epoch_block_added();
        }
        let object = Object::from(object);
        let request = if exists {
            ApiRequest::Replace(object, Part::Main)
        } else {
            ApiRequest::Create(object)
        };
        self.call(Purpose::BlockWrite(key), request);
        self.arm(Timer::Block(key), now + self.config.policy.write_hung);
    }

    fn read_block(&mut self, key: BlockKey) {
        let pool = self.pools.get(&key.pool).expect(known::POOL);
        let name = block_name(&pool.name, key.index);
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        block.flight = Some(Flight {
            since: self.now,
            write: None,
        });
        let object = ObjectKey::cluster(Kind::AddressBlock, name);
        self.call(
            Purpose::BlockRead(key),
            ApiRequest::Get(object, Consistency::Quorum),
        );
    }

    pub(super) fn block_read(&mut self, key: BlockKey, result: Result<ApiReply, ApiError>) {
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        let flight = block.flight.take().expect("what was answered was asked");
        assert!(flight.write.is_none(), "a read was answered as one");
        match result {
            Ok(ApiReply::Object(Object::AddressBlock(object))) => self.absorb(key, &object),
            Ok(ApiReply::Object(Object::SetAside(object))) => {
                self.note_set_aside(&object);
                if let Some(block) = self.blocks.get_mut(&key) {
                    block.stored = Some(object.metadata.clone());
                }
                self.block_unusable(key, &object.reason);
            }
            Err(ApiError::NotFound) => self.block_is_absent(key),
            Ok(_) | Err(_) => self.delay_block(key, result.err().as_ref()),
        }
        self.touched_blocks.insert(key);
        self.block_settled(key);
    }

    /// Pauses after a failure; waiting claims go to other blocks if there are any.
    fn delay_block(&mut self, key: BlockKey, error: Option<&ApiError>) {
        let entropy = self.draw();
        let backoff = self.config.policy.api_retry;
        let now = self.now;
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        let pause = match error {
            Some(ApiError::TooManyRequests {
                retry_after: Some(pause),
            }) => *pause,
            _ => backoff.pause(block.failure_count, entropy),
        };
        block.failure_count = block.failure_count.saturating_add(1);
        block.not_before = now + pause;
        self.arm(Timer::Block(key), now + pause);
    }

    fn block_is_absent(&mut self, key: BlockKey) {
        let pool = self.pools.get(&key.pool).expect(known::POOL);
        let pool = pool.pool.as_ref().expect(known::GEOMETRY);
        let base = Block::empty(pool, key.index);
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        block.stored = None;
        block.base = base;
        block.stale = false;
        block.unusable = false;
        let gone = Metadata {
            name: block_name(&pool.name, key.index),
            ..Metadata::default()
        };
        self.mended(Kind::AddressBlock, &gone);
        self.compare_holdings(key);
    }

    /// Takes in a version of the block that was read, listed or watched.
    pub(super) fn absorb(&mut self, key: BlockKey, object: &AddressBlock) {
        let pool = self.pools.get(&key.pool).expect(known::POOL);
        let pool = pool.pool.as_ref().expect(known::GEOMETRY);
        let now = self.now;
        let read = Block::read(object, pool);
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        let went_back = block.stored.as_ref().is_some_and(|stored| {
            version_went_back(&stored.resource_version, &object.metadata.resource_version)
        });
        match read {
            Ok(base) => {
                #[cfg(feature = "mutants")]
                let is_blind = self.config.mutant == Some(crate::core::Mutant::NoResourceVersion);
                #[cfg(feature = "mutants")]
                let base = if is_blind && block.conflict_count > 0 {
                    block.base.clone()
                } else {
                    base
                };
                block.base = base;
                block.stored = Some(object.metadata.clone());
                block.note_resting(now);
                block.stale = false;
                block.unusable = false;
                block.failure_count = 0;
                #[cfg(feature = "mutants")]
                if self.config.mutant == Some(crate::core::Mutant::ReadSettlesUnknown) {
                    block.trusted = true;
                }
                self.mended(Kind::AddressBlock, &object.metadata);
                if went_back {
                    self.event(
                        "BlockWentBack",
                        format!("{} is older", object.metadata.name),
                    );
                }
                self.compare_holdings(key);
            }
            Err(error) => self.block_unusable(key, &error.to_string()),
        }
    }

    /// Brings holdings and the version just seen together.
    fn compare_holdings(&mut self, key: BlockKey) {
        let Some(own) = self.epoch.id().cloned() else {
            return;
        };
        let found = self.differences(key, &own);
        for (place, holder) in found.older {
            #[cfg(feature = "mutants")]
            if self.believes_silence() {
                continue;
            }
            self.entry_is_old(place, &holder);
        }
        for place in found.unclear {
            self.doubt(place);
        }
        if !found.unknown.is_empty() {
            self.fence_unknown(key);
        }
        for (place, holder) in found.unknown {
            self.adopt(place, holder, &own);
        }
        for (place, state, taken) in found.missing {
            match state {
                // A reservation that is not in the block is none. Its claim, if it was in a write,
                // is made again; so is the Pod's, by its level.
                Hold::Unbound => self.holding_vanished(place),
                Hold::Attached(_) | Hold::Lost if taken => self.address_taken(place),
                // Written again by the next plan.
                Hold::Attached(_) | Hold::Lost => {}
            }
        }
    }

    fn differences(&self, key: BlockKey, own: &EpochId) -> Differences {
        let block = self.known_block(key);
        let mut found = Differences::default();
        for (ordinal, record) in block.base.iter() {
            let place = Place {
                block: key,
                ordinal,
            };
            if let Some(holder) = record.holder()
                && holder.epoch.machine() == own.machine()
                && !self.holdings.contains_key(&place)
            {
                found.unknown.push((place, holder.clone()));
            }
        }
        for (place, holding) in self.holdings_of(key) {
            let record = block.base.get(place.ordinal);
            let Some(holder) = record.and_then(Record::holder) else {
                found.missing.push((*place, holding.state.clone(), false));
                continue;
            };
            let is_anothers = holder.pod_uid != holding.pod;
            if holder.epoch.machine() != own.machine() {
                found.missing.push((*place, holding.state.clone(), true));
            } else if holder.epoch != *own {
                // Of an earlier incarnation: rewritten by the next plan.
            } else if block.unfenced && is_anothers {
                found.older.push((*place, holder.clone()));
            } else if holding.state == Hold::Unbound && self.is_in_doubt(*place, &holding.pod) {
                found.unclear.push(*place);
            }
        }
        found
    }

    pub(super) fn holding_vanished(&mut self, place: Place) {
        let holding = self.remove_holding(place).expect("it was held until now");
        let claim = self.pods.get(&holding.pod).and_then(|pod| {
            pod.claims.iter().copied().find(|id| {
                self.claims
                    .get(id)
                    .is_some_and(|claim| claim.at == ClaimAt::Place(place))
            })
        });
        if let Some(id) = claim {
            self.requeue(id);
        }
        self.touched_pods.insert(holding.pod);
    }

    pub(super) fn block_written(&mut self, key: BlockKey, result: Result<ApiReply, ApiError>) {
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        let flight = block.flight.take().expect("what was answered was asked");
        let (next, claims) = flight.write.expect("a write was answered as one");
        let created = block.stored.is_none();
        let now = self.now;
        match result {
            Ok(ApiReply::Written(metadata)) => {
                block.base = next;
                block.stored = Some(metadata);
                block.note_resting(now);
                let was_fence = !std::mem::replace(&mut block.trusted, true);
                block.unfenced = false;
                block.conflict_count = 0;
                block.failure_count = 0;
                block.unconfirmed |= created;
                if was_fence {
                    self.count("berth_fences_total");
                }
                for (id, _) in claims {
                    self.claim_done(id);
                }
                if created {
                    self.check_pool(key.pool);
                } else {
                    self.holders_may_proceed(key);
                }
            }
            Err(ApiError::Unavailable(Applied::Unknown)) | Ok(_) => {
                self.outcome_unknown(key);
            }
            Err(error) => {
                for (id, ordinal) in &claims {
                    self.withdraw(Place {
                        block: key,
                        ordinal: *ordinal,
                    });
                    self.back_to_block(*id, key);
                }
                self.write_refused(key, &error);
            }
        }
        self.disarm(&Timer::Block(key));
        if let Some(block) = self.blocks.get(&key)
            && block.not_before > now
        {
            let at = block.not_before;
            self.arm(Timer::Block(key), at);
        }
        self.touched_blocks.insert(key);
        self.block_settled(key);
    }

    /// The write was certainly not carried out.
    fn write_refused(&mut self, key: BlockKey, error: &ApiError) {
        let entropy = self.draw();
        let backoff = self.config.policy.conflict_retry;
        let now = self.now;
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        // What was to be freed is still to be freed.
        block.free_by = now;
        match error {
            ApiError::Conflict | ApiError::AlreadyExists => {
                block.stale = true;
                if block.conflict_count > 0 {
                    block.not_before = now + backoff.pause(block.conflict_count - 1, entropy);
                }
                block.conflict_count = block.conflict_count.saturating_add(1);
            }
            ApiError::NotFound | ApiError::Gone => block.stale = true,
            ApiError::Invalid { message } => {
                let text = format!("block {} was refused: {message}", key.index);
                block.stale = true;
                self.event("WriteRefused", text);
                self.delay_block(key, None);
            }
            ApiError::TooManyRequests { .. } | ApiError::Unavailable(_) => {
                self.delay_block(key, Some(error));
            }
        }
    }

    /// After each answer about a block: checks whether claims can go to it.
    fn block_settled(&mut self, key: BlockKey) {
        self.offer_block(key);
        let now = self.now;
        if let Some(pool) = self.pools.get_mut(&key.pool) {
            pool.answered_at = now;
        }
        self.touched_pools.insert(key.pool);
    }

    /// Lets Pods go on whose ordinals in this block may be answerable now. Most Pods of a block do
    /// not wait.
    pub(super) fn holders_may_proceed(&mut self, key: BlockKey) {
        let pods: Vec<_> = self
            .holdings_of(key)
            .map(|(_, holding)| &holding.pod)
            .filter(|uid| self.pods.get(*uid).expect(known::POD).waits_for_a_block())
            .cloned()
            .collect();
        self.touched_pods.extend(pods);
    }

    /// Text that differs from write to write.
    pub(super) fn writer(&mut self) -> String {
        let entropy = self.draw();
        let id = self.next_id();
        format!("{}/{id:x}-{entropy:016x}", self.config.node_name)
    }

    /// Whether a request for this block takes so long that claims should not wait for it.
    pub(super) fn is_hung(&self, block: &BlockState) -> bool {
        block
            .flight
            .as_ref()
            .is_some_and(|flight| self.now.since(flight.since) >= self.config.policy.write_hung)
    }
}
