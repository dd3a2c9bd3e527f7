//! Pools as this agent sees them: when they come, change, and go. After a block was created its
//! pool is read: a pool that was deleted in the meantime must not hand out anything of it.

use std::collections::BTreeSet;

use super::Agent;
use super::errands::Purpose;
use super::known;
use super::memory::{BlockKey, ClaimId, Hold, PoolId};
use super::search::Search;
use super::startup::Phase;
use super::timers::Timer;
use crate::core::api::{ApiError, ApiReply, ApiRequest, Consistency};
use crate::core::objects::{AddressPool, AddressPoolSpec, Kind, Object, ObjectKey, Uid};
use crate::core::pool::{Pool, approved_block_size, fingerprint};
use crate::core::time::BootTime;

/// A pool as this agent sees it.
pub(super) struct PoolState {
    pub(super) name: String,
    /// Its geometry, as last approved.
    pub(super) pool: Option<Pool>,
    /// Its spec as last seen, approved or not: whom it admits does not depend on approval.
    pub(super) rules: AddressPoolSpec,
    /// No new claims: not approved as it is now, or being deleted.
    pub(super) paused: bool,
    /// Claims that no block was found for.
    pub(super) queue: std::collections::VecDeque<ClaimId>,
    /// Blocks in memory that may have room, in order of preference.
    pub(super) open: BTreeSet<(u64, u64)>,
    /// How many of this node's own blocks were tried, and among how many nodes they were dealt.
    pub(super) cursor: u64,
    pub(super) search: Search,
    /// When a write or read of one of its blocks was last answered.
    pub(super) answered_at: BootTime,
    /// Only resting ordinals were left: until then they count as rested.
    pub(super) rest_waived_until: BootTime,
    /// Freed ordinals are left to others in turn while the pool is exhausted.
    pub(super) leave_next_freed: bool,
    /// A read that confirms the pool after blocks were created.
    pub(super) check: PoolCheck,
}

/// What a check found of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It stands, approved as it is.
    Approved,
    /// It stands, changed and not approved again yet, or never to be.
    Unapproved,
    /// It is deleted, being deleted, or another one of its name.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PoolCheck {
    Idle,
    InFlight { again: bool },
}

impl PoolState {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            pool: None,
            rules: AddressPoolSpec::default(),
            paused: true,
            queue: std::collections::VecDeque::new(),
            open: BTreeSet::new(),
            cursor: 0,
            search: Search::Idle,
            answered_at: BootTime::ZERO,
            rest_waived_until: BootTime::ZERO,
            leave_next_freed: false,
            check: PoolCheck::Idle,
        }
    }
}

impl Agent {
    pub(super) fn pool_seen(&mut self, object: &AddressPool) {
        let name = &object.metadata.name;
        let approved = approved_block_size(object);
        let parsed = approved.and_then(|size| Pool::parse(object, Some(size)).ok());
        let id = self.pool_entry(name, &object.metadata.uid);
        let state = self.pools.get_mut(&id).expect(known::POOL);
        let rules = std::mem::replace(&mut state.rules, object.spec.clone());
        let before = state.pool.as_ref().map(|pool| pool.capacity);
        let was_shut = state.paused || before.is_none();
        state.paused = parsed.is_none() || object.metadata.deletion_timestamp.is_some();
        let Some(parsed) = parsed else {
            self.touched_pods.extend(self.pods.keys().cloned());
            return;
        };
        let grown_from = before
            .filter(|before| *before < parsed.capacity)
            .map(|before| before / u64::from(parsed.block_size));
        let opens = was_shut || rules != state.rules;
        // Most changes of a pool are new counts in its status, which matter to no Pod.
        let is_news = opens || state.paused || state.pool.as_ref() != Some(&parsed);
        state.pool = Some(parsed);
        if let Some(first) = grown_from {
            let key = BlockKey {
                pool: id,
                index: first,
            };
            if let Some(block) = self.blocks.get_mut(&key) {
                block.stale = true;
                self.touched_blocks.insert(key);
            }
        }
        if self.phase != Phase::Loading {
            self.restore_poolless();
            self.distrust_inherited();
            if is_news {
                self.touched_pods.extend(self.pods.keys().cloned());
            }
            self.touched_pools.insert(id);
            if before.is_none() || grown_from.is_some() {
                self.search_afresh(id);
            }
            if opens {
                self.leave_full_pools();
            }
        }
    }

    /// The pool of that name and UID, made when it is not known; one of that name and another UID
    /// is gone.
    pub(super) fn pool_entry(&mut self, name: &str, uid: &Uid) -> PoolId {
        let known = self.pool_ids.get(name).copied().filter(|id| {
            let state = self.pools.get(id).and_then(|state| state.pool.as_ref());
            state.is_none_or(|pool| pool.uid == *uid)
        });
        known.unwrap_or_else(|| {
            self.pool_gone(name);
            let id = PoolId(self.next_id() as u32);
            self.pool_ids.insert(name.to_owned(), id);
            self.pools.insert(id, PoolState::new(name));
            id
        })
    }

    pub(super) fn pool_gone(&mut self, name: &str) {
        if let Some(id) = self.pool_ids.remove(name) {
            self.retire_pool(id);
        }
    }

    /// No claim is made in the pool anymore; what is bound stays bound.
    pub(super) fn retire_pool(&mut self, id: PoolId) {
        let pool = self.pools.get_mut(&id).expect(known::POOL);
        pool.paused = true;
        let queued: Vec<_> = pool.queue.iter().copied().collect();
        for claim in queued {
            self.drop_claim(claim);
        }
        let unbound: Vec<_> = self
            .holdings
            .iter()
            .filter(|(place, h)| place.block.pool == id && h.state == Hold::Unbound)
            .map(|(place, _)| *place)
            .collect();
        for place in unbound {
            self.give_up(place);
        }
    }

    fn search_afresh(&mut self, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.cursor = 0;
        }
        self.search_satisfied(id);
    }

    /// Whether the pool is approved as it is and not being deleted.
    pub(super) fn takes_new_claims(&self, id: PoolId) -> bool {
        self.pools
            .get(&id)
            .is_some_and(|pool| pool.pool.is_some() && !pool.paused)
    }

    /// Reads the pool, so that nothing of a block just created is handed out for a pool that was
    /// deleted in the meantime. One read serves all blocks created before it is sent.
    pub(super) fn check_pool(&mut self, id: PoolId) {
        let pool = self.pools.get_mut(&id).expect(known::POOL);
        if matches!(pool.check, PoolCheck::InFlight { .. }) {
            pool.check = PoolCheck::InFlight { again: true };
            return;
        }
        pool.check = PoolCheck::InFlight { again: false };
        let key = ObjectKey::cluster(Kind::AddressPool, pool.name.clone());
        self.call(
            Purpose::PoolCheck(id),
            ApiRequest::Get(key, Consistency::Quorum),
        );
    }

    pub(super) fn pool_checked(&mut self, id: PoolId, result: &Result<ApiReply, ApiError>) {
        let now = self.now;
        let entropy = self.draw();
        let pool = self.pools.get_mut(&id).expect(known::POOL);
        let PoolCheck::InFlight { again } = pool.check else {
            unreachable!("what was answered was asked");
        };
        pool.check = PoolCheck::Idle;
        let is_it = |uid: &Uid| pool.pool.as_ref().is_some_and(|pool| pool.uid == *uid);
        let found = match result {
            Ok(ApiReply::Object(Object::AddressPool(object)))
                if object.metadata.deletion_timestamp.is_none() && is_it(&object.metadata.uid) =>
            {
                let fingerprint = fingerprint(&object.metadata.uid, &object.spec);
                if object.status.approved.starts_with(&fingerprint) {
                    Found::Approved
                } else {
                    Found::Unapproved
                }
            }
            Err(ApiError::NotFound) | Ok(ApiReply::Object(Object::AddressPool(_))) => Found::Gone,
            // Another pool, or one that is being deleted: that much can be read.
            Ok(ApiReply::Object(Object::SetAside(object)))
                if object.metadata.deletion_timestamp.is_some() || !is_it(&object.metadata.uid) =>
            {
                Found::Gone
            }
            result => {
                // People must repair an unreadable one: nothing is handed out meanwhile.
                let attempt = if result.is_ok() { 6 } else { 0 };
                let pause = self.config.policy.api_retry.pause(attempt, entropy);
                self.arm(Timer::PoolCheck(id), now + pause);
                return;
            }
        };
        if again {
            self.check_pool(id);
            return;
        }
        let range = BlockKey { pool: id, index: 0 }..=BlockKey {
            pool: id,
            index: u64::MAX,
        };
        let unconfirmed: Vec<_> = self
            .blocks
            .range(range)
            .filter(|(_, block)| block.unconfirmed)
            .map(|(key, _)| *key)
            .collect();
        match (found, result) {
            (Found::Approved, Ok(ApiReply::Object(Object::AddressPool(object)))) => {
                for key in unconfirmed {
                    self.known_block_mut(key).unconfirmed = false;
                    self.holders_may_proceed(key);
                }
                // The watch may have shown the approval before a check that did not see it.
                if self.known_pool(id).paused {
                    self.pool_seen(object);
                }
            }
            (Found::Unapproved, _) => {
                self.retire_pool(id);
                // It may be approved again, and its blocks wait for this check alone.
                let pause = self.config.policy.api_retry.pause(6, entropy);
                self.arm(Timer::PoolCheck(id), now + pause);
            }
            _ => self.retire_pool(id),
        }
    }
}
