//! Fence before trust: after a write of unknown outcome, and at start for every block that an
//! earlier process may have written, nothing in the block counts until a later guarded write of
//! this agent is acknowledged. That write kills the earlier one; a read settles nothing, because
//! the earlier write may still land after it.

use super::Agent;
use super::known;
use super::memory::BlockKey;
use crate::core::journal::Entry;

impl Agent {
    /// The write in flight got no answer. Its claims stay where they are (they may be in the
    /// block); all others move to other blocks at once.
    pub(super) fn outcome_unknown(&mut self, key: BlockKey) {
        let entropy = self.draw();
        let backoff = self.config.policy.api_retry;
        let now = self.now;
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        block.trusted = false;
        block.stale = true;
        block.free_by = now;
        block.not_before = now + backoff.pause(block.failure_count, entropy);
        block.failure_count = block.failure_count.saturating_add(1);
        let waiting = std::mem::take(&mut block.waiting);
        for id in waiting {
            self.requeue(id);
        }
        self.count("berth_unknown_outcomes_total");
    }

    /// A block that an earlier process or incarnation of this machine may have written.
    pub(super) fn distrust(&mut self, key: BlockKey) {
        let Some(block) = self.block_entry(key) else {
            return;
        };
        block.trusted = false;
        block.stale = true;
        block.unfenced = true;
        block.journaled = true;
        self.touched_blocks.insert(key);
    }

    /// The block, as just read, has records of this machine that this process did not write. If no
    /// journal named it, a lost one did: a write of an earlier process may still be in flight.
    pub(super) fn fence_unknown(&mut self, key: BlockKey) {
        let block = self.blocks.get_mut(&key).expect(known::BLOCK);
        if !block.unfenced {
            return;
        }
        block.trusted = false;
        if std::mem::replace(&mut block.journaled, true) {
            return;
        }
        let pool = self.pools.get(&key.pool).map(|pool| pool.name.clone());
        self.entering.push(key);
        self.journal(&Entry::Block {
            pool: pool.unwrap_or_default(),
            index: key.index,
        });
        self.epoch_block_added();
        self.touched_blocks.insert(key);
    }

    /// A new epoch trusts nothing that the old one wrote.
    pub(super) fn distrust_all(&mut self) {
        let keys: Vec<_> = self.blocks.keys().copied().collect();
        for key in keys {
            if self.blocks.get(&key).is_some_and(|block| block.journaled) {
                self.distrust(key);
            }
        }
    }
}
