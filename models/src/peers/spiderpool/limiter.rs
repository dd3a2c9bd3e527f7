//! The ticket queue of one process: a request runs when nobody holds any of the pools that it may
//! touch. Order of arrival, but a request whose pools are held is skipped; nobody leaves the
//! queue before its turn.
//! Source: spiderpool v0.8.0 `pkg/limiter/queue.go:60-76,183-209`.

use std::collections::{BTreeSet, VecDeque};

use super::job::JobId;
use super::pools::PoolId;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    waiting: VecDeque<(JobId, Vec<PoolId>)>,
    held: BTreeSet<PoolId>,
}

impl Limiter {
    /// Queues a request; false when the queue is full.
    #[must_use]
    pub(super) fn enqueue(&mut self, job: JobId, tickets: Vec<PoolId>, length_max: u64) -> bool {
        if self.waiting.len() as u64 >= length_max {
            return false;
        }
        self.waiting.push_back((job, tickets));
        true
    }

    /// Gives tickets back.
    pub(super) fn release(&mut self, tickets: &[PoolId]) {
        for ticket in tickets {
            self.held.remove(ticket);
        }
    }

    /// Takes the requests out of the queue that may run now; they hold their tickets.
    pub(super) fn granted(&mut self) -> Vec<JobId> {
        let mut granted = Vec::new();
        let held = &mut self.held;
        self.waiting.retain(|(job, tickets)| {
            let free = tickets.iter().all(|ticket| !held.contains(ticket));
            if free {
                held.extend(tickets.iter().copied());
                granted.push(*job);
            }
            !free
        });
        granted
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
        let mut limiter = Limiter::default();
        for (job, tickets) in [
            (1, vec![a, b]),
            (2, vec![a, b]),
            (3, vec![b]),
            (4, vec![PoolId(2)]),
        ] {
            assert!(limiter.enqueue(JobId(job), tickets, 1000));
        }
        assert_eq!(limiter.granted(), [JobId(1), JobId(4)]);
        assert_eq!(limiter.granted(), []);
        limiter.release(&[b]);
        assert_eq!(limiter.granted(), [JobId(3)], "2 needs both and is skipped");
        limiter.release(&[a, b]);
        assert_eq!(limiter.granted(), [JobId(2)]);
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut limiter = Limiter::default();
        assert!(limiter.enqueue(JobId(1), vec![PoolId(0)], 2));
        assert!(limiter.enqueue(JobId(2), vec![PoolId(0)], 2));
        assert!(!limiter.enqueue(JobId(3), vec![PoolId(0)], 2));
        assert_eq!(limiter.granted().len(), 1);
        assert_eq!(limiter.len(), 1);
        assert!(limiter.enqueue(JobId(3), vec![PoolId(0)], 2));
    }
}
