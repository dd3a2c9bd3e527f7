//! The ticket queue of one process: a request runs when nobody holds any of the pools that it may
//! touch. Order of arrival, but a request whose pools are held is skipped; nobody leaves the
//! queue before its turn. Who waits, and what a turn means, is for [`super::tickets`] to say.
//! Source: spiderpool v0.8.0 `pkg/limiter/queue.go:60-76,183-209`.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};

use crate::process::ProcessId;

use super::pools::PoolId;

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Waits,
    Holds,
    /// It was killed while it waited.
    Gone,
    /// It holds nothing anymore.
    Over,
}

/// A request in the queue, or out of it with its tickets.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) process: ProcessId,
    pub(super) pools: Vec<PoolId>,
    pub(super) turn: Cell<Turn>,
}

/// The queue of requests `W`.
#[derive(Debug)]
pub(super) struct Limiter<W> {
    waiting: VecDeque<(W, Vec<PoolId>)>,
    held: BTreeSet<PoolId>,
}

impl<W: Clone> Limiter<W> {
    /// Nobody waits, and nothing is held.
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            held: BTreeSet::new(),
        }
    }

    /// Queues a request; false when the queue is full.
    #[must_use]
    pub(super) fn enqueue(&mut self, who: W, tickets: Vec<PoolId>, length_max: u64) -> bool {
        if self.waiting.len() as u64 >= length_max {
            return false;
        }
        self.waiting.push_back((who, tickets));
        true
    }

    /// Gives tickets back.
    pub(super) fn release(&mut self, tickets: &[PoolId]) {
        for ticket in tickets {
            let held = self.held.remove(ticket);
            assert!(held, "{ticket:?} comes back from its holder alone");
        }
    }

    /// Takes the requests out of the queue that may run now; they hold their tickets.
    pub(super) fn granted(&mut self) -> Vec<W> {
        let mut granted = Vec::new();
        let held = &mut self.held;
        self.waiting.retain(|(who, tickets)| {
            let free = tickets.iter().all(|ticket| !held.contains(ticket));
            if free {
                held.extend(tickets.iter().copied());
                granted.push(who.clone());
            }
            !free
        });
        granted
    }

    /// Whether somebody holds all of these tickets.
    pub(super) fn holds(&self, tickets: &[PoolId]) -> bool {
        tickets.iter().all(|ticket| self.held.contains(ticket))
    }

    /// Requests that wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_per_pool_runs_and_others_may_overtake() {
        let (a, b) = (PoolId(0), PoolId(1));
        let mut limiter = Limiter::new();
        for (request, tickets) in [
            (1, vec![a, b]),
            (2, vec![a, b]),
            (3, vec![b]),
            (4, vec![PoolId(2)]),
        ] {
            assert!(limiter.enqueue(request, tickets, 1000));
        }
        assert_eq!(limiter.granted(), [1, 4]);
        assert_eq!(limiter.granted(), [0; 0]);
        limiter.release(&[b]);
        assert_eq!(limiter.granted(), [3], "2 needs both and is skipped");
        limiter.release(&[a, b]);
        assert_eq!(limiter.granted(), [2]);
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut limiter = Limiter::new();
        assert!(limiter.enqueue(1, vec![PoolId(0)], 2));
        assert!(limiter.enqueue(2, vec![PoolId(0)], 2));
        assert!(!limiter.enqueue(3, vec![PoolId(0)], 2));
        assert_eq!(limiter.granted().len(), 1);
        assert_eq!(limiter.len(), 1);
        assert!(limiter.enqueue(3, vec![PoolId(0)], 2));
    }
}
