//! What memory says that this agent holds: beginning a hold, ending it, comparing it with the
//! blocks. `blocks` does the writes that follow.

use super::Agent;
use super::known;
use super::memory::{Holding, Place};
use super::timers::Timer;

impl Agent {
    pub(super) fn put_holding(&mut self, place: Place, holding: Holding) {
        if let Some(before) = self.holdings.get(&place)
            && before.pod != holding.pod
        {
            let pod = self.pods.get_mut(&before.pod).expect(known::POD);
            pod.places.retain(|other| *other != place);
        }
        let pod = self.pod_entry(&holding.pod, &holding.pod_name);
        if !pod.places.contains(&place) {
            pod.places.push(place);
        }
        self.holdings.insert(place, holding);
    }

    /// Ends a hold in memory; the record, if there is one, is freed by a later write.
    pub(super) fn remove_holding(&mut self, place: Place) -> Option<Holding> {
        let holding = self.holdings.remove(&place)?;
        self.claimed_for.remove(&place);
        self.believe(place);
        let block = self.blocks.get(&place.block);
        if block.is_none_or(|block| block.unfenced) {
            self.lost.explain(place);
        }
        let pod = self.pods.get_mut(&holding.pod).expect(known::POD);
        assert!(pod.places.contains(&place), "a Pod knows its places");
        pod.places.retain(|other| *other != place);
        self.touched_pods.insert(holding.pod.clone());
        Some(holding)
    }

    /// Takes back a hold that was never written. It does not explain a record in that place.
    pub(super) fn withdraw(&mut self, place: Place) {
        self.remove_holding(place);
        self.lost.withdraw(place);
    }

    /// Ends a hold, and makes sure that its record is freed in time.
    pub(super) fn let_go(&mut self, place: Place) {
        let held = self.remove_holding(place);
        assert!(held.is_some(), "what is let go is held");
        let tight = self
            .pools
            .get(&place.block.pool)
            .is_some_and(|pool| pool.search.is_tight());
        let linger = self.config.policy.release_linger;
        let by = if tight { self.now } else { self.now + linger };
        if let Some(block) = self.blocks.get_mut(&place.block) {
            block.free_by = block.free_by.min(by);
        }
        self.touched_blocks.insert(place.block);
        self.touched_pools.insert(place.block.pool);
    }

    /// Hourly, and after a restore was noticed: reads every block with a holding again.
    pub(super) fn reassert_all(&mut self) {
        let keys: std::collections::BTreeSet<_> =
            self.holdings.keys().map(|place| place.block).collect();
        for key in keys {
            if let Some(block) = self.blocks.get_mut(&key) {
                block.stale = true;
            }
            self.touched_blocks.insert(key);
        }
        let at = self.now + self.config.policy.reassert;
        self.arm(Timer::Reassert, at);
    }
}
