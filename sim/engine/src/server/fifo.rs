//! A FIFO queue before `c` equal servers: the completion is known at arrival, so it costs its owner
//! one event per job and none per queue place. A job that was accepted cannot be taken back.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use crate::time::{SimInstant, nanos};

/// A first-come first-served station.
pub struct FifoServer {
    free_at: BinaryHeap<Reverse<SimInstant>>,
    in_system: BinaryHeap<Reverse<SimInstant>>,
    last_arrival: SimInstant,
    busy_nanos: u64,
    peak: usize,
}

impl FifoServer {
    /// A station of that many idle servers.
    ///
    /// Panics: when there is none.
    pub fn new(servers: usize) -> Self {
        assert!(servers > 0, "a station needs a server");
        Self {
            free_at: (0..servers).map(|_| Reverse(SimInstant::ZERO)).collect(),
            in_system: BinaryHeap::new(),
            last_arrival: SimInstant::ZERO,
            busy_nanos: 0,
            peak: 0,
        }
    }

    /// Accepts a job; returns when it is done.
    pub fn submit(&mut self, now: SimInstant, service: Duration) -> SimInstant {
        assert!(
            now >= self.last_arrival,
            "{now} is before {}",
            self.last_arrival
        );
        self.last_arrival = now;
        self.forget_done(now);
        let Reverse(free_at) = self.free_at.pop().expect("a station has a server");
        let done_at = free_at.max(now) + service;
        self.free_at.push(Reverse(done_at));
        self.in_system.push(Reverse(done_at));
        self.busy_nanos += nanos(service);
        self.peak = self.peak.max(self.in_system.len());
        done_at
    }

    /// Jobs that wait or are served at `now`.
    pub fn len(&mut self, now: SimInstant) -> usize {
        self.forget_done(now);
        self.in_system.len()
    }

    /// Whether no job waits or is served at `now`.
    pub fn is_empty(&mut self, now: SimInstant) -> bool {
        self.len(now) == 0
    }

    /// The most jobs that ever waited or were served together.
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// Service time accepted so far. Units: server-nanoseconds; part of it may lie ahead.
    pub fn busy_nanos(&self) -> u64 {
        self.busy_nanos
    }

    fn forget_done(&mut self, now: SimInstant) {
        while self
            .in_system
            .peek()
            .is_some_and(|Reverse(done_at)| *done_at <= now)
        {
            self.in_system.pop();
        }
    }
}
