//! The work queue of a controller: first in first out, a key is processed by one worker at a time,
//! additions meanwhile are merged into one more round; failures back off exponentially.
//!
//! Source: kubernetes v1.26.5 client-go/util/workqueue/{queue,default_rate_limiters}.go. Not
//! modeled: the overall limit of 10/s with burst 100 on retries.

use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default)]
struct Key {
    queued: bool,
    processing: bool,
    dirty: bool,
    failures: u32,
}

/// A work queue with its workers.
#[derive(Debug)]
pub(crate) struct WorkQueue {
    fifo: VecDeque<u32>,
    keys: Vec<Key>,
    workers: u32,
    free: u32,
}

impl WorkQueue {
    /// An empty queue.
    pub(crate) fn new(workers: u32) -> Self {
        Self {
            fifo: VecDeque::new(),
            keys: Vec::new(),
            workers,
            free: workers,
        }
    }

    fn key(&mut self, key: u32) -> &mut Key {
        if self.keys.len() <= key as usize {
            self.keys.resize(key as usize + 1, Key::default());
        }
        &mut self.keys[key as usize]
    }

    /// Asks for a round on a key.
    pub(crate) fn add(&mut self, key: u32) {
        let state = self.key(key);
        if state.processing {
            state.dirty = true;
        } else if !state.queued {
            state.queued = true;
            self.fifo.push_back(key);
        }
    }

    /// Gives the next key to a free worker.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if self.free == 0 {
            return None;
        }
        let key = self.fifo.pop_front()?;
        self.free -= 1;
        let state = self.key(key);
        state.queued = false;
        state.processing = true;
        Some(key)
    }

    /// A worker is done with a key.
    pub(crate) fn done(&mut self, key: u32) {
        let state = self.key(key);
        if !state.processing {
            return;
        }
        state.processing = false;
        let dirty = std::mem::take(&mut state.dirty);
        self.free += 1;
        if dirty {
            self.add(key);
        }
    }

    /// How long a key that failed waits before it is added again.
    pub(crate) fn back_off(&mut self, key: u32, base: Duration, max: Duration) -> Duration {
        let state = self.key(key);
        let wait = base.saturating_mul(1u32 << state.failures.min(24)).min(max);
        state.failures += 1;
        wait
    }

    /// A key succeeded: its next failure waits the shortest time.
    pub(crate) fn forget(&mut self, key: u32) {
        self.key(key).failures = 0;
    }

    /// All workers are gone, and with them what they did.
    pub(crate) fn reset(&mut self) {
        self.fifo.clear();
        self.keys.clear();
        self.free = self.workers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_processed_twice_at_once_and_additions_merge() {
        let mut queue = WorkQueue::new(2);
        queue.add(7);
        queue.add(7);
        assert_eq!((queue.take(), queue.take()), (Some(7), None));
        queue.add(7);
        queue.add(7);
        assert_eq!(queue.take(), None, "it is being processed");
        queue.done(7);
        assert_eq!((queue.take(), queue.take()), (Some(7), None));
    }

    #[test]
    fn failures_double_the_wait_up_to_the_limit() {
        let mut queue = WorkQueue::new(1);
        let (base, max) = (Duration::from_millis(5), Duration::from_millis(18));
        let waits: Vec<u128> = (0..4)
            .map(|_| queue.back_off(0, base, max).as_millis())
            .collect();
        assert_eq!(waits, [5, 10, 18, 18]);
        queue.forget(0);
        assert_eq!(queue.back_off(0, base, max), base);
    }
}
