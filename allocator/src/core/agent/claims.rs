//! Claims: an ordinal is wanted for a Pod. Which block it is asked of, and what becomes of it.

use super::Agent;
use super::block_state::{BlockState, Rest};
use super::known;
use super::memory::{BlockKey, ClaimAt, ClaimId, Hold, Holding, Place, PoolId, Wanted};
use super::rights::Asker;
use super::timers::Timer;
use crate::core::exchange::{Failure, RequestId};
use crate::core::hash::{fnv1a, mix};
use crate::core::objects::Uid;
use crate::core::time::BootTime;

/// An ordinal is wanted for a Pod.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) pod: Uid,
    pub(super) pod_name: String,
    /// For which of its interfaces.
    pub(super) asker: Asker,
    /// Admissible pools, the one in use first, then those to fall back on, in order.
    pub(super) pools: Vec<PoolId>,
    /// How many of them were found exhausted, repetitions included.
    pub(super) vain_pool_count: usize,
    pub(super) wanted: Option<Wanted>,
    /// The ADD that waits for it.
    pub(super) request: Option<RequestId>,
    pub(super) at: ClaimAt,
}

impl Claim {
    pub(super) fn reservation(&self) -> &str {
        self.wanted
            .as_ref()
            .map_or("", |wanted| &wanted.reservation)
    }
}

impl Agent {
    /// Asks for an ordinal for a Pod, in the first of these pools.
    pub(super) fn new_claim(
        &mut self,
        (uid, asker): (&Uid, Asker),
        pools: Vec<PoolId>,
        wanted: Option<Wanted>,
        request: Option<RequestId>,
    ) {
        assert!(!pools.is_empty(), "a claim is made in a pool");
        assert!(
            wanted
                .as_ref()
                .is_none_or(|wanted| pools == [wanted.block.pool]),
            "one certain ordinal is wanted of its own pool"
        );
        let id = ClaimId(self.next_id());
        let pod = self.pods.get_mut(uid).expect(known::POD);
        pod.claims.push(id);
        let claim = Claim {
            pod: uid.clone(),
            pod_name: pod.name.clone(),
            asker,
            pools,
            vain_pool_count: 0,
            wanted,
            request,
            at: ClaimAt::Queue,
        };
        self.claims.insert(id, claim);
        self.enqueue(id);
        self.epoch_needed();
    }

    /// Puts a claim into the queue of its pool: one that an ADD waits for before all others.
    fn enqueue(&mut self, id: ClaimId) {
        let claim = self.claims.get(&id).expect(known::CLAIM);
        assert_eq!(claim.at, ClaimAt::Queue, "a claim is in one place");
        let first = claim.pools[0];
        let pool = self.pools.get_mut(&first).expect(known::POOL);
        if claim.request.is_some() {
            pool.queue.push_front(id);
        } else {
            pool.queue.push_back(id);
        }
        self.touched_pools.insert(first);
    }

    /// The claim must look for another block.
    pub(super) fn requeue(&mut self, id: ClaimId) {
        let claim = self.claims.get_mut(&id).expect(known::CLAIM);
        assert_ne!(claim.at, ClaimAt::Queue, "a claim is in one place");
        claim.at = ClaimAt::Queue;
        self.enqueue(id);
    }

    /// The claim is inside a write from now on: it holds the ordinal at this place, if that write
    /// is carried out.
    pub(super) fn pin_claim(&mut self, id: ClaimId, place: Place) {
        let claim = self.claims.get_mut(&id).expect(known::CLAIM);
        assert!(
            !matches!(claim.at, ClaimAt::Place(_)),
            "a claim is in one write at a time"
        );
        claim.at = ClaimAt::Place(place);
        let network = claim.asker.other_network().map(str::to_owned);
        let holding = Holding {
            pod: claim.pod.clone(),
            pod_name: claim.pod_name.clone(),
            state: Hold::Unbound,
            reservation: claim.reservation().to_owned(),
        };
        self.put_holding(place, holding);
        self.claimed_for.insert(place, network);
    }

    /// The pool in use has nothing to be had: its queued claims go on to the next pool that admits
    /// them. At once while a claim has pools it has not tried, and after a pause once it has tried
    /// all: a full set of pools must not be listed at the pace of the apiserver.
    pub(super) fn fall_back(&mut self, id: PoolId, after_pause: bool) {
        let pool = self.pools.get(&id).expect(known::POOL);
        let queued: Vec<_> = pool.queue.iter().copied().collect();
        for claim_id in &queued {
            self.widen(*claim_id);
        }
        let ids: Vec<_> = self.pools.keys().copied().collect();
        let paused: Vec<_> = ids
            .into_iter()
            .filter(|id| !self.takes_new_claims(*id))
            .collect();
        for claim_id in queued {
            let claim = self.claims.get_mut(&claim_id).expect(known::CLAIM);
            let is_first_round = claim.vain_pool_count + 1 < claim.pools.len();
            if claim.wanted.is_some() || claim.pools.len() < 2 || is_first_round == after_pause {
                continue;
            }
            claim.vain_pool_count += 1;
            claim.pools.rotate_left(1);
            while claim.pools[0] != id && paused.contains(&claim.pools[0]) {
                claim.pools.rotate_left(1);
            }
            if claim.pools[0] == id {
                continue;
            }
            let pool = self.pools.get_mut(&id).expect(known::POOL);
            pool.queue.retain(|other| *other != claim_id);
            self.touched_pools.insert(id);
            self.enqueue(claim_id);
            self.count("berth_pool_fallbacks_total");
        }
    }

    /// Pools that opened since the claim was made are tried next, before any a second time.
    fn widen(&mut self, id: ClaimId) {
        if self.known_claim(id).wanted.is_some() {
            return;
        }
        let opened = self.opened_since(id);
        if opened.is_empty() {
            return;
        }
        let claim = self.claims.get_mut(&id).expect(known::CLAIM);
        claim.vain_pool_count = claim.pools.len() - 1;
        claim.pools.splice(1..1, opened);
    }

    /// A pool opened, or its rules are others: claims that wait in a full one may go there.
    pub(super) fn leave_full_pools(&mut self) {
        let full: Vec<_> = (self.pools.iter())
            .filter(|(_, pool)| pool.search.is_exhausted())
            .map(|(id, _)| *id)
            .collect();
        for id in full {
            self.fall_back(id, false);
        }
    }

    /// A request about the block takes too long: claims that are not inside it go elsewhere.
    pub(super) fn leave_hung_write(&mut self, key: BlockKey) {
        let block = self.blocks.get(&key).expect(known::BLOCK);
        if !self.is_hung(block) {
            return;
        }
        let waiting = block.waiting.clone();
        self.blocks
            .get_mut(&key)
            .expect(known::BLOCK)
            .waiting
            .clear();
        for id in waiting {
            self.requeue(id);
        }
    }

    /// The claim's write was not carried out: it waits for the next one. Unless nobody wants it any
    /// more since the write was sent.
    pub(super) fn back_to_block(&mut self, id: ClaimId, key: BlockKey) {
        let Some(claim) = self.claims.get(&id) else {
            return;
        };
        assert!(
            matches!(claim.at, ClaimAt::Place(place) if place.block == key),
            "what comes back from a write was in it"
        );
        self.wait_for_block(id, key);
    }

    fn wait_for_block(&mut self, id: ClaimId, key: BlockKey) {
        let claim = self.claims.get_mut(&id).expect(known::CLAIM);
        claim.at = ClaimAt::Block(key);
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        block.waiting.push(id);
    }

    /// The claim's write was acknowledged.
    pub(super) fn claim_done(&mut self, id: ClaimId) {
        let Some(claim) = self.claims.remove(&id) else {
            return;
        };
        let pod = self.pods.get_mut(&claim.pod).expect(known::POD);
        pod.claims.retain(|other| *other != id);
        self.touched_pods.insert(claim.pod);
    }

    /// Nobody wants the claim any more. One that is inside a write ends with that write.
    pub(super) fn drop_claim(&mut self, id: ClaimId) {
        let claim = self.claims.get(&id).expect(known::CLAIM);
        match claim.at {
            ClaimAt::Place(_) => return,
            ClaimAt::Queue => {
                let first = claim.pools[0];
                let pool = self.pools.get_mut(&first).expect(known::POOL);
                pool.queue.retain(|other| *other != id);
                self.touched_pools.insert(first);
            }
            ClaimAt::Block(key) => {
                let block = self.blocks.get_mut(&key).expect(known::BLOCK);
                block.waiting.retain(|other| *other != id);
            }
        }
        self.claim_done(id);
    }

    /// Sends as many queued claims of a pool to blocks as there is room known of.
    pub(super) fn place_claims(&mut self, id: PoolId) {
        loop {
            let pool = self.pools.get(&id).expect(known::POOL);
            if pool.pool.is_none() || pool.paused {
                return;
            }
            let Some(&claim_id) = pool.queue.front() else {
                self.search_satisfied(id);
                return;
            };
            let wanted = self
                .claims
                .get(&claim_id)
                .and_then(|claim| claim.wanted.clone());
            let Some(key) = (match wanted {
                Some(wanted) => self.wanted_block(&wanted),
                None => self.pick_block(id),
            }) else {
                if self
                    .claims
                    .get(&claim_id)
                    .is_some_and(|claim| claim.wanted.is_some())
                {
                    // One certain ordinal: others in the queue must not wait for it.
                    self.wanted_is_taken(claim_id);
                    continue;
                }
                self.search_needed(id);
                return;
            };
            let pool = self.pools.get_mut(&id).expect(known::POOL);
            let front = pool.queue.pop_front();
            assert_eq!(front, Some(claim_id), "the first of the queue is served");
            self.wait_for_block(claim_id, key);
            self.touched_blocks.insert(key);
        }
    }

    fn wanted_block(&mut self, wanted: &Wanted) -> Option<BlockKey> {
        let place = Place {
            block: wanted.block,
            ordinal: wanted.ordinal,
        };
        let is_held = self.holdings.contains_key(&place);
        let block = self.block_entry(wanted.block)?;
        // Unknown content: the write finds out.
        let free = block.stored.is_none()
            || block.base.is_available(wanted.ordinal) && !block.withheld.contains(&wanted.ordinal)
            || matches!(block.base.get(wanted.ordinal),
                Some(crate::core::holder::Record::Reserved(name)) if *name == wanted.reservation);
        (free && !is_held && !block.unusable && block.trusted).then_some(wanted.block)
    }

    /// The ordinal that a claim insists on is held: an ADD that asked for it is refused, a
    /// reservation's claim waits for the old binding's end.
    fn wanted_is_taken(&mut self, id: ClaimId) {
        let claim = self.claims.get(&id).expect(known::CLAIM);
        let (request, pod) = (claim.request, claim.pod.clone());
        let reserved = !claim.reservation().is_empty();
        let block = claim.wanted.as_ref().map(|wanted| wanted.block);
        let untrusted = block
            .and_then(|key| self.blocks.get(&key))
            .is_some_and(|block| !block.trusted || block.flight.is_some());
        self.drop_claim(id);
        if reserved || untrusted {
            // Tried again by the Pod's level, from a fresh read.
            if let Some(key) = block
                && let Some(state) = self.blocks.get_mut(&key)
            {
                state.stale = true;
                state.not_before = self.now + self.config.policy.second_sandbox_wait;
                self.touched_blocks.insert(key);
            }
            if let Some(state) = self.pods.get_mut(&pod) {
                state.claim_not_before = self.now + self.config.policy.second_sandbox_wait;
                let at = state.claim_not_before;
                self.arm(Timer::Pod(pod.clone()), at);
            }
            if let Some(request) = request {
                let at = self.now + self.config.policy.second_sandbox_wait;
                self.arm(Timer::Add(request), at);
            }
        } else if let Some(request) = request {
            self.fail_add(
                request,
                Failure::ADDRESS_TAKEN,
                "the address asked for is held",
            );
        }
    }

    /// The next block for a claim: one in memory with room, else the next of this node's own that
    /// was not tried.
    fn pick_block(&mut self, id: PoolId) -> Option<BlockKey> {
        let rest = self.rest(id);
        let pool = self.pools.get(&id)?;
        let mut full = Vec::new();
        let mut found = None;
        for &(rank, index) in &pool.open {
            let key = BlockKey { pool: id, index };
            match self.blocks.get(&key) {
                Some(block) if self.takes_claims(block, rest) => {
                    found = Some(key);
                    break;
                }
                Some(block) if block.room() == 0 => full.push((rank, index)),
                Some(_) => {}
                None => full.push((rank, index)),
            }
        }
        let pool = self.pools.get_mut(&id)?;
        for entry in full {
            pool.open.remove(&entry);
        }
        found.or_else(|| self.next_own_block(id))
    }

    fn takes_claims(&self, block: &BlockState, rest: Rest) -> bool {
        block.rested_room(rest) > 0
            && block.trusted
            && !block.unusable
            && block.not_before <= self.now
            && block.yield_until <= self.now
            && !self.is_hung(block)
    }

    /// Blocks are dealt to the nodes in turn, so that nodes do not meet before each has used up
    /// its own.
    fn next_own_block(&mut self, id: PoolId) -> Option<BlockKey> {
        let (rank, node_count) = self.epoch.rank();
        loop {
            let pool = self.pools.get_mut(&id)?;
            let count = pool.pool.as_ref()?.block_count();
            let index = pool.cursor.checked_mul(node_count)?.checked_add(rank)?;
            if index >= count {
                return None;
            }
            pool.cursor += 1;
            let key = BlockKey { pool: id, index };
            if self.blocks.contains_key(&key) {
                continue;
            }
            let block = self.block_entry(key)?;
            if block.room() > 0 {
                self.offer_block(key);
                return Some(key);
            }
        }
    }

    /// Enters a block among those with room, if it has some. Own blocks come first, others in an
    /// order that differs from node to node.
    pub(super) fn offer_block(&mut self, key: BlockKey) {
        let block = self.blocks.get(&key).expect(known::BLOCK);
        if block.unusable || block.room() == 0 {
            return;
        }
        let (own_rank, node_count) = self.epoch.rank();
        let rank = if key.index % node_count == own_rank && block.stored.is_some() {
            0
        } else {
            mix(fnv1a(self.config.machine_id.as_bytes()), key.index).max(1)
        };
        if let Some(pool) = self.pools.get_mut(&key.pool) {
            let stale_rank = pool
                .open
                .iter()
                .find(|(_, index)| *index == key.index)
                .copied();
            if let Some(entry) = stale_rank {
                pool.open.remove(&entry);
            }
            pool.open.insert((rank, key.index));
        }
        if block.yield_until > self.now {
            let at = block.yield_until;
            self.arm(Timer::Block(key), at);
        }
    }

    /// A waiting ADD takes over a reservation of this node whose Pod has no ADD yet.
    pub(super) fn take_over(&mut self, id: PoolId) {
        loop {
            let pool = self.pools.get(&id).expect(known::POOL);
            let Some(claim_id) = pool.queue.iter().copied().find(|claim| {
                let waits = self
                    .claims
                    .get(claim)
                    .is_some_and(|claim| claim.request.is_some() && claim.wanted.is_none());
                waits && self.is_admitted(*claim, id)
            }) else {
                return;
            };
            let begin = Place {
                block: BlockKey { pool: id, index: 0 },
                ordinal: 0,
            };
            let end = Place {
                block: BlockKey {
                    pool: id,
                    index: u64::MAX,
                },
                ordinal: u16::MAX,
            };
            let candidates = self.holdings.range(begin..=end).filter(|(place, holding)| {
                holding.state == Hold::Unbound
                    && holding.reservation.is_empty()
                    && !self.lost.doubts(**place)
                    && !self.is_reported(**place, &holding.pod)
                    && self.is_answerable(**place)
                    && self
                        .blocks
                        .get(&place.block)
                        .is_some_and(|block| !block.is_writing())
                    && self
                        .pods
                        .get(&holding.pod)
                        .is_some_and(|pod| pod.adds.is_empty())
            });
            // Who has not asked for longest is the least likely to ask next.
            let victim = candidates.min_by_key(|(place, holding)| {
                let pod = self.pods.get(&holding.pod);
                let since = pod.and_then(|pod| pod.unasked_since);
                (since.unwrap_or(BootTime::NEVER), **place)
            });
            let Some((&place, _)) = victim else { return };
            let old = self.remove_holding(place).expect("it was just found");
            let pool = self.pools.get_mut(&id).expect(known::POOL);
            pool.queue.retain(|claim| *claim != claim_id);
            self.pin_claim(claim_id, place);
            // The claim ends when a version of the block shows the new holder: `settle_pod`.
            self.touched_blocks.insert(place.block);
            self.touched_pods.insert(old.pod);
            self.count("berth_takeovers_total");
        }
    }

    /// The number of nodes changed: the blocks are dealt anew.
    pub(super) fn deal_blocks_anew(&mut self) {
        for pool in self.pools.values_mut() {
            pool.cursor = 0;
        }
    }
}
