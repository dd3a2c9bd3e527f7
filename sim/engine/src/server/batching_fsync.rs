//! Group commit: one fsync at a time, and what arrives meanwhile shares the next one. It prices
//! nothing: its owner gives each batch a duration and spends one event on it.

use std::mem;

use crate::time::SimInstant;

/// A batch that just began: schedule its end and hand the generation back to
/// [`BatchingFsync::finished`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a batch that never finishes blocks the disk"]
pub struct BatchStart {
    /// What to hand back.
    pub generation: u64,
    /// Entries in the batch.
    pub entries: usize,
}

/// A disk that commits in batches.
pub struct BatchingFsync<T> {
    in_flight: Vec<T>,
    waiting: Vec<T>,
    started_at: Option<SimInstant>,
    generation: u64,
    batches: u64,
    busy_nanos: u64,
    peak: usize,
}

impl<T> BatchingFsync<T> {
    /// An idle disk.
    pub fn new() -> Self {
        Self {
            in_flight: Vec::new(),
            waiting: Vec::new(),
            started_at: None,
            generation: 0,
            batches: 0,
            busy_nanos: 0,
            peak: 0,
        }
    }

    /// Adds an entry. An idle disk begins at once, with this entry alone.
    pub fn submit(&mut self, now: SimInstant, token: T) -> Option<BatchStart> {
        self.waiting.push(token);
        self.peak = self.peak.max(self.waiting.len());
        if self.started_at.is_some() {
            None
        } else {
            Some(self.start(now))
        }
    }

    /// Ends the batch of that generation: appends its entries in the order of their arrival and
    /// begins the next batch, if anything waits. A stale generation does nothing.
    pub fn finished(
        &mut self,
        now: SimInstant,
        generation: u64,
        done: &mut Vec<T>,
    ) -> Option<BatchStart> {
        let started_at = self.started_at?;
        if generation != self.generation {
            return None;
        }
        self.busy_nanos += (now - started_at).as_nanos() as u64;
        self.started_at = None;
        done.append(&mut self.in_flight);
        if self.waiting.is_empty() {
            None
        } else {
            Some(self.start(now))
        }
    }

    /// Forgets everything, as a crash does; the end of the batch in flight becomes stale. Returns
    /// what was in flight (perhaps durable) and what only waited (not durable).
    pub fn crash(&mut self, now: SimInstant) -> (Vec<T>, Vec<T>) {
        if let Some(started_at) = self.started_at.take() {
            self.busy_nanos += (now - started_at).as_nanos() as u64;
        }
        (mem::take(&mut self.in_flight), mem::take(&mut self.waiting))
    }

    /// Entries in flight and waiting.
    pub fn len(&self) -> usize {
        self.in_flight.len() + self.waiting.len()
    }

    /// Whether the disk is idle.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Batches begun.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Time spent in finished batches. Units: nanoseconds.
    pub fn busy_nanos(&self) -> u64 {
        self.busy_nanos
    }

    /// The most entries that ever waited for one batch.
    pub fn peak(&self) -> usize {
        self.peak
    }

    fn start(&mut self, now: SimInstant) -> BatchStart {
        mem::swap(&mut self.in_flight, &mut self.waiting);
        self.started_at = Some(now);
        self.generation += 1;
        self.batches += 1;
        BatchStart {
            generation: self.generation,
            entries: self.in_flight.len(),
        }
    }
}

impl<T> Default for BatchingFsync<T> {
    fn default() -> Self {
        Self::new()
    }
}
