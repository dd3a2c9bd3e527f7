//! The event queue: a heap of small keys over a slab of events; it never looks into an event.
//!
//! Order is (time, tie, sequence). With [`TieBreak::Fifo`] the tie is constant, so simultaneous
//! events leave in the order in which they were pushed. With [`TieBreak::Keyed`] the tie is a keyed
//! hash of (seed, time, lane): lanes are permuted against each other, a lane never within itself,
//! and adding a lane leaves the relative order of the others as it was.
//!
//! The heap is std's binary one: measured with 10,000 pending events it beat hand-written heaps of
//! two, four and eight children by a third, since it sifts a hole to the bottom before it compares
//! with the moved key. `cargo bench` with the flags of `cargo sim` times it (`benches/queue.rs`).

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use crate::{
    hash::{fnv64, keyed64},
    time::SimInstant,
};

/// What the queue carries.
pub trait Event: serde::Serialize {
    /// The component and entity of the event: ties between lanes may be permuted in a hunt, ties
    /// inside one lane never are.
    fn lane(&self) -> Lane;
}

/// One sequential actor of the world, as the queue sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane(pub u64);

impl Lane {
    /// The lane of an entity of a component.
    pub const fn new(component: &'static str, entity: u64) -> Self {
        Self(keyed64(fnv64(component.as_bytes()), entity, 0))
    }
}

/// How simultaneous events are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TieBreak {
    /// As they were pushed.
    Fifo,
    /// By a keyed hash of (seed, time, lane), then as they were pushed.
    Keyed {
        /// The seed of the run.
        seed: u64,
    },
}

/// Bits of the order word that hold the sequence; the rest hold the tie.
const SEQUENCE_BITS: u32 = 40;

/// A heap key. `order` packs (tie, sequence) so that a comparison costs two words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at: u64,
    order: u64,
    slot: u32,
}

/// The queue of future events and the simulated time.
///
/// Pushing and popping allocate nothing once the queue has reached its largest size.
pub struct Queue<E> {
    tie_break: TieBreak,
    now: SimInstant,
    heap: BinaryHeap<Reverse<Key>>,
    events: Vec<Option<E>>,
    free: Vec<u32>,
    pushed: u64,
    popped: u64,
    peak: usize,
}

impl<E: Event> Queue<E> {
    /// An empty queue at the start of time.
    pub fn new(tie_break: TieBreak) -> Self {
        Self {
            tie_break,
            now: SimInstant::ZERO,
            heap: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            pushed: 0,
            popped: 0,
            peak: 0,
        }
    }

    /// The time of the last event taken.
    pub fn now(&self) -> SimInstant {
        self.now
    }

    /// Schedules an event.
    ///
    /// Panics: when `at` is in the past, or after 2^40 events.
    pub fn at(&mut self, at: SimInstant, event: E) {
        assert!(
            at >= self.now,
            "an event at {at} would lie before now, {}",
            self.now
        );
        let sequence = self.pushed;
        assert!(
            sequence < 1 << SEQUENCE_BITS,
            "a run has fewer than 2^40 events"
        );
        self.pushed += 1;
        let tie = match self.tie_break {
            TieBreak::Fifo => 0,
            TieBreak::Keyed { seed } => {
                keyed64(seed, at.as_nanos(), event.lane().0) >> SEQUENCE_BITS << SEQUENCE_BITS
            }
        };
        let slot = self.store(event);
        let key = Key {
            at: at.as_nanos(),
            order: tie | sequence,
            slot,
        };
        self.heap.push(Reverse(key));
        self.peak = self.peak.max(self.heap.len());
    }

    /// Schedules an event a while from now.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    /// Schedules an event for this very instant, after what is already due now (with ties by
    /// lane, after what is due now in its own lane).
    pub fn soon(&mut self, event: E) {
        self.at(self.now, event);
    }

    /// Takes the next event and moves the time to it.
    pub fn pop(&mut self) -> Option<(SimInstant, E)> {
        let Reverse(first) = self.heap.pop()?;
        let event = self.events[first.slot as usize]
            .take()
            .expect("a queued slot holds its event");
        self.free.push(first.slot);
        self.popped += 1;
        self.now = SimInstant::from_nanos(first.at);
        Some((self.now, event))
    }

    /// When the next event is due.
    pub fn peek_at(&self) -> Option<SimInstant> {
        self.heap
            .peek()
            .map(|Reverse(key)| SimInstant::from_nanos(key.at))
    }

    /// Events waiting.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Events taken so far.
    pub fn popped(&self) -> u64 {
        self.popped
    }

    /// The most events that ever waited.
    pub fn peak(&self) -> usize {
        self.peak
    }

    fn store(&mut self, event: E) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.events[slot as usize] = Some(event);
            return slot;
        }
        let slot = u32::try_from(self.events.len()).expect("fewer than 2^32 events wait");
        self.events.push(Some(event));
        slot
    }
}

#[cfg(test)]
mod tests;
