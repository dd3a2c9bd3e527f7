//! When a node's own blocks are full: where else there may be room, and what "exhausted" means.
//!
//! In order: blocks that say they may have room; all others (the label may be wrong); blocks that
//! do not exist yet. Only then is the pool exhausted, and only while claims wait in an exhausted
//! pool does the agent watch blocks.

use std::collections::BTreeSet;

use super::Agent;
use super::errands::{Purpose, Watched};
use super::known;
use super::memory::{BlockKey, PoolId};
use super::timers::Timer;
use crate::core::api::{ApiError, ApiReply, ApiRequest, Consistency, ListQuery, Selection};
use crate::core::hash::{fnv1a, mix};
use crate::core::objects::{AddressBlock, Kind, LABEL_POOL, LABEL_ROOM, Object};
use crate::core::version_went_back;

/// The search for missing blocks covers at most this many indexes, drawn by hash in larger pools.
const MISSING_WINDOW: u64 = 4096;

/// The state of the search for room in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// Own blocks suffice so far.
    Idle,
    /// A list is in flight: of blocks with the label, or of all.
    Listing {
        all: bool,
        seen: BTreeSet<u64>,
        version: String,
    },
    /// The last list showed room in other nodes' blocks.
    Foreign,
    /// No room anywhere, at the last look.
    Exhausted { attempt: u32 },
}

impl Search {
    /// Whether claims wait and nothing is free.
    pub(super) fn is_exhausted(&self) -> bool {
        matches!(self, Self::Exhausted { .. })
    }

    /// Whether freed ordinals should be written at once.
    pub(super) fn is_tight(&self) -> bool {
        *self != Self::Idle
    }
}

/// Blocks of the pool, with or without the label.
pub(super) fn block_selection(pool: &str, with_room: bool) -> Selection {
    let mut labels = vec![(LABEL_POOL.to_owned(), pool.to_owned())];
    if with_room {
        labels.push((LABEL_ROOM.to_owned(), "true".to_owned()));
    }
    Selection {
        kind: Kind::AddressBlock,
        labels,
        node_name: None,
    }
}

impl Agent {
    /// A claim found no block. Begins a search, unless one is under way or a block that may take
    /// the claim will be available shortly.
    pub(super) fn search_needed(&mut self, id: PoolId) {
        let pool = self.pools.get(&id).expect(known::POOL);
        let soon = self.now + self.config.policy.conflict_retry.longest;
        let rest = self.rest(id);
        let shortly = pool.open.iter().any(|&(_, index)| {
            self.blocks
                .get(&BlockKey { pool: id, index })
                .is_some_and(|block| {
                    let blocked_until = block.not_before.max(block.yield_until);
                    block.rested_room(rest) > 0
                        && block.trusted
                        && !block.unusable
                        && !self.is_hung(block)
                        && blocked_until > self.now
                        && blocked_until <= soon
                })
        });
        if shortly || self.is_writing_to(id) {
            return;
        }
        // Claims come in bursts: what this node writes now, all others write as well. A list sent
        // in the same instant would not show theirs, and every block that it misses costs a failed
        // create and a read. Each node waits for a different time, so that they do not all write to
        // the same last block.
        let settle = self.config.policy.search_settle;
        let own = fnv1a(self.config.machine_id.as_bytes()) % 8;
        let settled = pool.answered_at + settle + settle * own as u32;
        if self.now < settled {
            self.arm(Timer::Search(id), settled);
            return;
        }
        match pool.search {
            Search::Idle | Search::Foreign => self.list_blocks(id, false),
            Search::Listing { .. } => {}
            Search::Exhausted { .. } => self.take_over(id),
        }
    }

    /// Whether own writes to the pool are in flight or about to be. Their answers come within
    /// milliseconds; a list sent before them would miss what all other nodes write at the same time
    /// (a burst), and send this node on a blind search through blocks that are being created.
    fn is_writing_to(&self, id: PoolId) -> bool {
        let first = BlockKey { pool: id, index: 0 };
        let last = BlockKey {
            pool: id,
            index: u64::MAX,
        };
        self.blocks.range(first..=last).any(|(key, block)| {
            let in_flight = block.flight.is_some() && !self.is_hung(block);
            // Its write is sent at the end of this input.
            let about_to_write = !block.waiting.is_empty() && self.touched_blocks.contains(key);
            in_flight || about_to_write
        })
    }

    fn list_blocks(&mut self, id: PoolId, all: bool) {
        let pool = self.pools.get_mut(&id).expect(known::POOL);
        pool.search = Search::Listing {
            all,
            seen: BTreeSet::new(),
            version: String::new(),
        };
        let query = ListQuery {
            selection: block_selection(&pool.name, !all),
            consistency: Consistency::Quorum,
            limit: self.config.policy.list_page,
            continue_token: String::new(),
        };
        self.call(Purpose::Search(id), ApiRequest::List(query));
    }

    pub(super) fn search_answered(&mut self, id: PoolId, result: Result<ApiReply, ApiError>) {
        let page = match result {
            Ok(ApiReply::Page(page)) => page,
            Err(ApiError::Gone) => {
                self.list_blocks(id, true);
                return;
            }
            _ => {
                self.exhausted(id, None);
                return;
            }
        };
        let mut indexes = BTreeSet::new();
        for item in &page.items {
            match item {
                Object::AddressBlock(block) => {
                    indexes.insert(block.spec.index);
                    self.block_seen(id, block);
                }
                // It exists, and counts as full.
                Object::SetAside(block) => indexes.extend(self.block_set_aside(id, block)),
                _ => {}
            }
        }
        let pool = self.pools.get_mut(&id).expect(known::POOL);
        let Search::Listing { all, seen, version } = &mut pool.search else {
            unreachable!("a list that is answered is going on");
        };
        seen.extend(indexes);
        version.clone_from(&page.resource_version);
        let all = *all;
        if !page.continue_token.is_empty() {
            let query = ListQuery {
                selection: block_selection(&pool.name, !all),
                consistency: Consistency::Quorum,
                limit: self.config.policy.list_page,
                continue_token: page.continue_token,
            };
            self.call(Purpose::Search(id), ApiRequest::List(query));
            return;
        }
        let (seen, version) = (std::mem::take(seen), std::mem::take(version));
        self.search_listed(id, all, &seen, version);
    }

    fn search_listed(&mut self, id: PoolId, all: bool, seen: &BTreeSet<u64>, version: String) {
        let found = self.has_open_room(id) || (all && self.offer_missing(id, seen));
        self.touched_pools.insert(id);
        if found {
            if let Some(pool) = self.pools.get_mut(&id) {
                pool.search = Search::Foreign;
            }
        } else if all {
            self.exhausted(id, Some(version));
        } else {
            self.list_blocks(id, true);
        }
    }

    fn has_open_room(&self, id: PoolId) -> bool {
        let rest = self.rest(id);
        self.pools.get(&id).is_some_and(|pool| {
            pool.open.iter().any(|&(_, index)| {
                self.blocks
                    .get(&BlockKey { pool: id, index })
                    .is_some_and(|block| {
                        block.rested_room(rest) > 0 && block.trusted && !block.unusable
                    })
            })
        })
    }

    /// Offers blocks that no list shows: they are created by the first claim.
    fn offer_missing(&mut self, id: PoolId, seen: &BTreeSet<u64>) -> bool {
        let count = self.geometry(id).block_count();
        let own = fnv1a(self.config.machine_id.as_bytes());
        let mut missing: Vec<u64> = (0..count.min(MISSING_WINDOW))
            .map(|n| {
                if count <= MISSING_WINDOW {
                    n
                } else {
                    mix(own, n) % count
                }
            })
            .filter(|index| !seen.contains(index))
            .collect();
        missing.sort_by_key(|index| (mix(own, *index), *index));
        let mut offered = false;
        for index in missing {
            let key = BlockKey { pool: id, index };
            let block = self.block_entry(key).expect("the pool has such a block");
            if block.flight.is_some() || !block.trusted {
                continue;
            }
            offered |= block.room() > 0;
            self.offer_block(key);
        }
        offered
    }

    /// Nothing is free: wait for a block to change, and look again after a while.
    fn exhausted(&mut self, id: PoolId, version: Option<String>) {
        let entropy = self.draw();
        let pool = self.pools.get_mut(&id).expect(known::POOL);
        let attempt = match pool.search {
            Search::Exhausted { attempt } => attempt.saturating_add(1),
            _ => 0,
        };
        pool.search = Search::Exhausted { attempt };
        let pause = self.config.policy.search_retry.pause(attempt, entropy);
        let at = self.now + pause;
        self.arm(Timer::Search(id), at);
        self.count("berth_pool_exhausted_total");
        if let Some(version) = version {
            self.subscribe(Watched::Room(id), version);
        }
        let holds = self
            .holdings
            .keys()
            .map(|place| place.block)
            .filter(|key| key.pool == id);
        let blocks: BTreeSet<_> = holds.collect();
        let now = self.now;
        for key in blocks {
            if let Some(block) = self.blocks.get_mut(&key) {
                block.free_by = block.free_by.min(now);
            }
            self.touched_blocks.insert(key);
        }
        self.fall_back(id, false);
        self.waive_rest(id);
        self.take_over(id);
    }

    /// Claims wait and only resting ordinals are free: a recently freed address is better than
    /// none.
    fn waive_rest(&mut self, id: PoolId) {
        let until = self.now + self.config.policy.rest_waived;
        let has_room = self.has_open_room(id);
        if let Some(pool) = self.pools.get_mut(&id)
            && has_room
            && pool
                .pool
                .as_ref()
                .is_some_and(|p| p.spec.cool_down_seconds > 0)
            && !pool.queue.is_empty()
        {
            pool.rest_waived_until = until;
            self.touched_pools.insert(id);
            self.count("berth_young_addresses_total");
        }
    }

    pub(super) fn search_timer(&mut self, id: PoolId) {
        if self.pools.get(&id).is_some_and(|p| p.search.is_exhausted()) {
            self.fall_back(id, true);
        }
        let pool = self.pools.get_mut(&id).expect(known::POOL);
        if pool.queue.is_empty() {
            // If it stayed exhausted, a later claim would wait for a timer that has fired.
            self.search_satisfied(id);
        } else if pool.search.is_exhausted() {
            self.list_blocks(id, true);
        } else {
            self.touched_pools.insert(id);
        }
    }

    /// No claim waits anymore.
    pub(super) fn search_satisfied(&mut self, id: PoolId) {
        let pool = self.pools.get_mut(&id).expect(known::POOL);
        if pool.search.is_exhausted() {
            pool.search = Search::Foreign;
            self.unsubscribe(Watched::Room(id));
            self.disarm(&Timer::Search(id));
        }
    }

    /// A block left the watch's selection: it is full, or gone. The event carries the last selected
    /// state with the version that removed it from the selection. The two do not belong together,
    /// and a write on top of that version would undo what it says. So the event only shows that the
    /// version in memory is outdated; the current one is read when the block is next needed.
    pub(super) fn block_left(&mut self, id: PoolId, object: &AddressBlock) {
        let index = object.spec.index;
        let Some(block) = self.blocks.get_mut(&BlockKey { pool: id, index }) else {
            return;
        };
        let is_newer = block.stored.as_ref().is_none_or(|stored| {
            version_went_back(&object.metadata.resource_version, &stored.resource_version)
        });
        if block.flight.is_some() || !is_newer {
            return;
        }
        block.stale = true;
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.open.retain(|(_, other)| *other != index);
        }
    }

    /// A list or watch shows a version of a block. It may be older than the one in memory.
    pub(super) fn block_seen(&mut self, id: PoolId, object: &AddressBlock) {
        let key = BlockKey {
            pool: id,
            index: object.spec.index,
        };
        let Some(block) = self.block_entry(key) else {
            return;
        };
        if block.flight.is_some() {
            return;
        }
        let newer = block.stored.as_ref().is_none_or(|stored| {
            version_went_back(&object.metadata.resource_version, &stored.resource_version)
        });
        if newer {
            self.absorb(key, object);
            self.touched_blocks.insert(key);
        }
        self.offer_block(key);
        self.touched_pools.insert(id);
    }
}
