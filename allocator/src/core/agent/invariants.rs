//! What must hold in memory whatever the world sends, and the ways to what must be there. The world
//! may send anything, and what it sends is answered or let pass; what is wrong in here is a mistake
//! of this program, and ends it: the next process rereads everything, which is safe.

use std::collections::BTreeMap;

use super::Agent;
use super::block_state::BlockState;
use super::claims::Claim;
use super::errands::{ProbePurpose, Purpose};
use super::known;
use super::memory::{BlockKey, ClaimAt, ClaimId, PoolId};
use super::pods::PodState;
use super::pools::{PoolCheck, PoolState};
use super::requests::PendingAdd;
use super::search::Search;
use super::startup::Phase;
use super::watches::Subscription;
use crate::core::exchange::RequestId;
use crate::core::objects::Uid;
use crate::core::pool::Pool;

impl Agent {
    #[track_caller]
    pub(super) fn known_pool(&self, id: PoolId) -> &PoolState {
        self.pools.get(&id).expect(known::POOL)
    }

    #[track_caller]
    pub(super) fn known_pool_mut(&mut self, id: PoolId) -> &mut PoolState {
        self.pools.get_mut(&id).expect(known::POOL)
    }

    /// The geometry of a pool of which a block is known, or one is about to be.
    #[track_caller]
    pub(super) fn geometry(&self, id: PoolId) -> &Pool {
        self.known_pool(id).pool.as_ref().expect(known::GEOMETRY)
    }

    #[track_caller]
    pub(super) fn known_block(&self, key: BlockKey) -> &BlockState {
        self.blocks.get(&key).expect(known::BLOCK)
    }

    #[track_caller]
    pub(super) fn known_block_mut(&mut self, key: BlockKey) -> &mut BlockState {
        self.blocks.get_mut(&key).expect(known::BLOCK)
    }

    #[track_caller]
    pub(super) fn known_claim(&self, id: ClaimId) -> &Claim {
        self.claims.get(&id).expect(known::CLAIM)
    }

    #[track_caller]
    pub(super) fn known_pod(&self, uid: &Uid) -> &PodState {
        self.pods.get(uid).expect(known::POD)
    }

    #[track_caller]
    pub(super) fn known_add(&self, id: RequestId) -> &PendingAdd {
        self.adds.get(&id).expect(known::ADD)
    }

    /// What costs next to nothing to look at: after every input.
    pub(super) fn assert_settled(&self) {
        assert_eq!(
            self.timers.len(),
            self.armed.len(),
            "each timer stands once, and is known to"
        );
        assert_eq!(
            self.phase == Phase::Loading,
            !self.loading.is_empty(),
            "the start ends with its last step"
        );
        assert!(
            self.early.is_empty() || matches!(self.phase, Phase::Opening | Phase::Loading),
            "whoever came early is served when the journal's attachments stand"
        );
        assert!(
            self.replayed.is_empty() || self.phase == Phase::Loading,
            "what the journal says is in memory once it is acted upon"
        );
        assert_eq!(
            self.epoch.id().is_some(),
            self.epoch.is_stored(),
            "an incarnation stands in the object before it does anything"
        );
        assert!(
            self.holdings.len() >= self.claimed_for.len(),
            "only of what is held it is known what for"
        );
        if cfg!(debug_assertions) {
            self.assert_consistent();
        }
    }

    /// Everything that two parts of memory say of the same thing, which takes a walk through all of
    /// it: in builds for tests.
    fn assert_consistent(&self) {
        self.assert_names();
        self.assert_holdings();
        self.assert_claims();
        self.assert_adds();
        self.assert_errands();
    }

    fn assert_names(&self) {
        for (name, id) in &self.pool_ids {
            assert_eq!(self.known_pool(*id).name, *name, "a pool has one name");
        }
        for key in self.blocks.keys() {
            assert!(
                self.known_pool(key.pool).pool.is_some(),
                "{}",
                known::GEOMETRY
            );
        }
        for (id, pool) in &self.pools {
            for (_, index) in &pool.open {
                let key = BlockKey {
                    pool: *id,
                    index: *index,
                };
                assert!(self.blocks.contains_key(&key), "an open block is known");
            }
        }
        for (timer, at) in &self.armed {
            let armed = (*at, timer.clone());
            assert!(self.timers.contains(&armed), "an armed timer will fire");
        }
    }

    fn assert_holdings(&self) {
        for (place, holding) in &self.holdings {
            let pod = self.known_pod(&holding.pod);
            assert!(pod.places.contains(place), "a Pod knows its places");
        }
        for place in self.claimed_for.keys() {
            assert!(self.holdings.contains_key(place), "what is claimed is held");
        }
        for (uid, pod) in &self.pods {
            for place in &pod.places {
                let holding = self.holdings.get(place);
                assert!(
                    holding.is_some_and(|holding| holding.pod == *uid),
                    "a Pod's place is held for it"
                );
            }
        }
        for (attachment, attached) in &self.attachments {
            assert_eq!(
                attached.binding.attachment, *attachment,
                "an attachment is entered under its name"
            );
        }
    }

    fn assert_claims(&self) {
        for (id, claim) in &self.claims {
            let pod = self.known_pod(&claim.pod);
            assert!(pod.claims.contains(id), "a Pod knows its claims");
            if let Some(request) = claim.request {
                assert!(self.adds.contains_key(&request), "{}", known::ADD);
            }
        }
        for pod in self.pods.values() {
            for id in &pod.claims {
                assert!(self.claims.contains_key(id), "{}", known::CLAIM);
            }
        }
        let placed = self.claims.values();
        let placed = placed.filter(|claim| matches!(claim.at, ClaimAt::Place(_)));
        let mut found_count = placed.count();
        for (pool, state) in &self.pools {
            for id in &state.queue {
                let claim = self.known_claim(*id);
                let queue = (claim.at, claim.pools[0]);
                assert_eq!(queue, (ClaimAt::Queue, *pool), "a claim is in its queue");
            }
            found_count += state.queue.len();
        }
        for (key, block) in &self.blocks {
            for id in &block.waiting {
                let at = self.known_claim(*id).at;
                assert_eq!(at, ClaimAt::Block(*key), "a claim waits where it says");
            }
            found_count += block.waiting.len();
        }
        assert_eq!(found_count, self.claims.len(), "a claim is in one place");
    }

    fn assert_adds(&self) {
        for (id, add) in &self.adds {
            if let Some(uid) = &add.pod_uid {
                let pod = self.known_pod(uid);
                assert!(pod.adds.contains(id), "a Pod knows its ADDs");
            }
        }
        for (uid, pod) in &self.pods {
            for id in &pod.adds {
                let of = self.known_add(*id).pod_uid.as_ref();
                assert_eq!(of, Some(uid), "an ADD is of one Pod");
            }
        }
    }

    /// Somebody waits for every pending question, and nobody for any other.
    fn assert_errands(&self) {
        let (mut reads, mut writes) = (BTreeMap::new(), BTreeMap::new());
        let (mut checks, mut lists) = (BTreeMap::new(), BTreeMap::new());
        let mut epochs = 0;
        for purpose in self.calls.values() {
            match purpose {
                Purpose::BlockRead(key) => *reads.entry(*key).or_insert(0) += 1,
                Purpose::BlockWrite(key) => *writes.entry(*key).or_insert(0) += 1,
                Purpose::PoolCheck(id) => *checks.entry(*id).or_insert(0) += 1,
                Purpose::Search(id) => *lists.entry(*id).or_insert(0) += 1,
                Purpose::Epoch { .. } => epochs += 1,
                _ => {}
            }
        }
        assert_eq!(
            epochs,
            u32::from(self.epoch.is_in_flight()),
            "one request about the own object at a time"
        );
        for (key, block) in &self.blocks {
            let is_write = block.flight.as_ref().map(|flight| flight.write.is_some());
            let out = (
                reads.get(key).copied().unwrap_or(0),
                writes.get(key).copied().unwrap_or(0),
            );
            let waited_for = match is_write {
                None => (0, 0),
                Some(false) => (1, 0),
                Some(true) => (0, 1),
            };
            assert_eq!(out, waited_for, "one request about a block at a time");
        }
        for (id, pool) in &self.pools {
            let is_listing = matches!(pool.search, Search::Listing { .. });
            let list_count = lists.get(id).copied().unwrap_or(0);
            assert_eq!(list_count, i32::from(is_listing), "one search in a pool");
            let is_checked = pool.check != PoolCheck::Idle;
            let check_count = checks.get(id).copied().unwrap_or(0);
            assert_eq!(check_count, i32::from(is_checked), "one check of a pool");
        }
        for (id, watched) in &self.watches {
            let open = self.watched.get(watched).and_then(Subscription::id);
            assert_eq!(open, Some(*id), "an open watch is somebody's");
        }
        let looks = self.probes.values();
        let sweeps = looks.filter(|look| matches!(look, ProbePurpose::Sweep(_)));
        assert_eq!(
            sweeps.count(),
            self.sweep.pending_count(),
            "a sweep ends with its last look"
        );
    }
}
