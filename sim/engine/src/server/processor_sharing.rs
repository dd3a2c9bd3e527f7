//! Cores shared equally among jobs, each on one core at most; no priorities, quotas or migration.
//!
//! All jobs progress at one rate, so a single clock of virtual service time orders them: a job that
//! arrives at virtual time `v` with demand `d` ends at `v + d`. That clock counts in 2^-32 ns and
//! is rounded down at each change of the rate, so completions are late by less than a nanosecond.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

use super::Wake;
use crate::time::{SimInstant, nanos};

/// Fraction bits of virtual service time.
const FRACTION_BITS: u32 = 32;
/// The rate of a whole core.
const MILLICORES_PER_CORE: u64 = 1000;

struct Job<T> {
    ends_at: u128,
    sequence: u64,
    token: T,
}

impl<T> Job<T> {
    fn key(&self) -> (u128, u64) {
        (self.ends_at, self.sequence)
    }
}

impl<T> PartialEq for Job<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Job<T> {}

impl<T> PartialOrd for Job<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Job<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// A processor-sharing server.
///
/// At most one wake-up is pending. An arrival slows the others down and leaves the pending wake-up
/// where it is: it then fires early, finds nobody done and is armed again. Only a completion that
/// moves earlier replaces it, and the replaced one is stale by its generation.
pub struct ProcessorSharing<T> {
    capacity_millicores: u64,
    jobs: BinaryHeap<Reverse<Job<T>>>,
    virtual_now: u128,
    updated_at: SimInstant,
    pending: Option<Wake>,
    generation: u64,
    submitted: u64,
    busy_millicore_nanos: u128,
    peak: usize,
}

impl<T> ProcessorSharing<T> {
    /// An idle server. Units: thousandths of a core; 0 serves nobody until it is raised.
    pub fn new(capacity_millicores: u64) -> Self {
        Self {
            capacity_millicores,
            jobs: BinaryHeap::new(),
            virtual_now: 0,
            updated_at: SimInstant::ZERO,
            pending: None,
            generation: 0,
            submitted: 0,
            busy_millicore_nanos: 0,
            peak: 0,
        }
    }

    /// Adds a job of that much CPU time.
    pub fn submit(&mut self, now: SimInstant, demand: Duration, token: T) -> Option<Wake> {
        self.advance(now);
        let ends_at = self.virtual_now + (u128::from(nanos(demand)) << FRACTION_BITS);
        self.jobs.push(Reverse(Job {
            ends_at,
            sequence: self.submitted,
            token,
        }));
        self.submitted += 1;
        self.peak = self.peak.max(self.jobs.len());
        self.arm(now)
    }

    /// Takes the wake-up of that generation: appends the jobs that are done, in the order of their
    /// completion, then of their arrival. A stale generation does nothing.
    pub fn wake(&mut self, now: SimInstant, generation: u64, done: &mut Vec<T>) -> Option<Wake> {
        if self
            .pending
            .is_none_or(|pending| pending.generation != generation)
        {
            return None;
        }
        self.pending = None;
        self.advance(now);
        while self
            .jobs
            .peek()
            .is_some_and(|Reverse(job)| job.ends_at <= self.virtual_now)
        {
            let Reverse(job) = self.jobs.pop().expect("the heap was just peeked");
            done.push(job.token);
        }
        self.arm(now)
    }

    /// Changes the capacity from now on.
    pub fn set_capacity(&mut self, now: SimInstant, millicores: u64) -> Option<Wake> {
        self.advance(now);
        self.capacity_millicores = millicores;
        self.arm(now)
    }

    /// Drops the jobs that satisfy the predicate, such as those of a killed process.
    pub fn remove_where(
        &mut self,
        now: SimInstant,
        mut predicate: impl FnMut(&T) -> bool,
    ) -> Option<Wake> {
        self.advance(now);
        self.jobs.retain(|Reverse(job)| !predicate(&job.token));
        self.arm(now)
    }

    /// Jobs in service.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether no job is in service.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The most jobs that were ever in service together.
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// CPU time given out up to `now`. Units: core-nanoseconds.
    pub fn busy_core_nanos(&self, now: SimInstant) -> u64 {
        let recent = u128::from(now.as_nanos().saturating_sub(self.updated_at.as_nanos()))
            * u128::from(self.millicores_in_use());
        ((self.busy_millicore_nanos + recent) / u128::from(MILLICORES_PER_CORE)) as u64
    }

    /// The present capacity in thousandths of a core.
    pub fn capacity_millicores(&self) -> u64 {
        self.capacity_millicores
    }

    fn millicores_in_use(&self) -> u64 {
        (self.jobs.len() as u64 * MILLICORES_PER_CORE).min(self.capacity_millicores)
    }

    /// Moves the virtual clock to `now` at the rate that has held since the last change.
    fn advance(&mut self, now: SimInstant) {
        assert!(
            now >= self.updated_at,
            "{now} is before {}",
            self.updated_at
        );
        let elapsed = u128::from(now.as_nanos() - self.updated_at.as_nanos());
        self.updated_at = now;
        if self.jobs.is_empty() || elapsed == 0 {
            return;
        }
        let millicores = u128::from(self.millicores_in_use());
        self.busy_millicore_nanos += elapsed * millicores;
        self.virtual_now += ((elapsed * millicores) << FRACTION_BITS) / self.share_divisor();
    }

    /// What turns (elapsed x millicores in use) into the progress of one job.
    fn share_divisor(&self) -> u128 {
        u128::from(MILLICORES_PER_CORE) * self.jobs.len() as u128
    }

    /// The earliest instant at which the first job is done, if the rate stays as it is.
    fn next_completion(&self, now: SimInstant) -> Option<SimInstant> {
        let Reverse(job) = self.jobs.peek()?;
        let left = job.ends_at.saturating_sub(self.virtual_now);
        let speed = u128::from(self.millicores_in_use()) << FRACTION_BITS;
        if speed == 0 {
            return None;
        }
        let wait = (left * self.share_divisor()).div_ceil(speed);
        let wait = u64::try_from(wait).expect("a job ends within simulated time");
        Some(now + Duration::from_nanos(wait))
    }

    fn arm(&mut self, now: SimInstant) -> Option<Wake> {
        let at = self.next_completion(now)?;
        if self.pending.is_some_and(|pending| pending.at <= at) {
            return None;
        }
        self.generation += 1;
        let wake = Wake {
            at,
            generation: self.generation,
        };
        self.pending = Some(wake);
        Some(wake)
    }
}
