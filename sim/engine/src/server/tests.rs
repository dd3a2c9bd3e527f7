//! Tests of the servers against plain models of the same rules.

mod rational;

use std::time::Duration;

use proptest::prelude::*;

use self::rational::Rational;
use super::{BatchingFsync, FifoServer, ProcessorSharing, TokenBucket, Wake};
use crate::time::SimInstant;

fn at(nanos: u64) -> SimInstant {
    SimInstant::from_nanos(nanos)
}

fn ns(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// A processor-sharing server with its wake-ups, as an owner would drive it.
struct Driven {
    server: ProcessorSharing<usize>,
    pending: Vec<Wake>,
    done: Vec<(usize, u64)>,
    wakes: usize,
}

impl Driven {
    fn new(millicores: u64) -> Self {
        Self {
            server: ProcessorSharing::new(millicores),
            pending: Vec::new(),
            done: Vec::new(),
            wakes: 0,
        }
    }

    fn arm(&mut self, wake: Option<Wake>) {
        if let Some(wake) = wake {
            self.pending.push(wake);
            self.wakes += 1;
        }
    }

    /// Fires wake-ups, stale ones included, up to and at an instant.
    fn run_to(&mut self, until: u64) {
        loop {
            let due = self
                .pending
                .iter()
                .enumerate()
                .min_by_key(|(_, wake)| wake.at);
            let Some((index, _)) = due.filter(|(_, wake)| wake.at <= at(until)) else {
                return;
            };
            let wake = self.pending.remove(index);
            let mut done = Vec::new();
            let next = self.server.wake(wake.at, wake.generation, &mut done);
            self.done
                .extend(done.into_iter().map(|job| (job, wake.at.as_nanos())));
            self.arm(next);
        }
    }

    fn submit(&mut self, now: u64, demand: u64, job: usize) {
        self.run_to(now);
        let wake = self.server.submit(at(now), ns(demand), job);
        self.arm(wake);
    }
}

/// Completion times by exact arithmetic: `jobs` are (arrival, demand), sorted by arrival.
fn exact_sharing(millicores: u64, jobs: &[(u64, u64)]) -> Vec<Rational> {
    let mut done = vec![Rational::ZERO; jobs.len()];
    let mut active: Vec<(usize, Rational)> = Vec::new();
    let mut now = Rational::ZERO;
    let mut next = 0;
    while next < jobs.len() || !active.is_empty() {
        let rate = Rational::new(
            (millicores as i128).min(1000 * active.len().max(1) as i128),
            1000 * active.len().max(1) as i128,
        );
        let first = active.iter().map(|(_, left)| *left).min();
        let completes = first.map(|left| now.plus(left.over(rate)));
        let arrives = jobs.get(next).map(|job| Rational::new(job.0 as i128, 1));
        let (then, arrival) = match (completes, arrives) {
            (Some(completes), Some(arrives)) if completes <= arrives => (completes, false),
            (_, Some(arrives)) => (arrives, true),
            (Some(completes), None) => (completes, false),
            (None, None) => break,
        };
        let progress = then.minus(now).times(rate);
        for (_, left) in &mut active {
            *left = left.minus(progress);
        }
        now = then;
        if arrival {
            active.push((next, Rational::new(jobs[next].1 as i128, 1)));
            next += 1;
        }
        active.retain(|(job, left)| {
            let ends = *left <= Rational::ZERO;
            if ends {
                done[*job] = now;
            }
            !ends
        });
    }
    done
}

proptest! {
    #[test]
    fn sharing_agrees_with_exact_arithmetic(
        millicores in prop::sample::select(vec![500_u64, 1000, 1500, 2000, 3000]),
        jobs in prop::collection::vec((0_u64..2000, 0_u64..1500), 1..7),
    ) {
        let mut jobs = jobs;
        jobs.sort_by_key(|job| job.0);
        let expected = exact_sharing(millicores, &jobs);
        let mut driven = Driven::new(millicores);
        for (job, &(arrival, demand)) in jobs.iter().enumerate() {
            driven.submit(arrival, demand, job);
        }
        driven.run_to(u64::MAX);
        prop_assert_eq!(driven.done.len(), jobs.len());
        // Each completion is rounded up to a nanosecond, which delays the others by as much.
        let slack = Rational::new(jobs.len() as i128, 1);
        for &(job, nanos) in &driven.done {
            let seen = Rational::new(nanos as i128, 1);
            prop_assert!(seen >= expected[job].minus(Rational::new(1, 1000)), "{job} early: {driven:?}", driven = driven.done);
            prop_assert!(seen <= expected[job].plus(slack), "{job} late: {driven:?}", driven = driven.done);
        }
        let demand: u64 = jobs.iter().map(|job| job.1).sum();
        let busy = driven.server.busy_core_nanos(at(1_000_000));
        // Rounded up completions burn at most a nanosecond of each core.
        prop_assert!(busy >= demand && busy <= demand + 4 * jobs.len() as u64 + 1, "{busy} for {demand}");
    }

    #[test]
    fn one_wake_up_counts_at_any_time(
        jobs in prop::collection::vec((0_u64..500, 0_u64..500), 1..40),
        capacities in prop::collection::vec((0_u64..500, 0_u64..4000), 0..10),
    ) {
        let mut driven = Driven::new(1500);
        let mut steps: Vec<_> = jobs.iter().map(|&(now, demand)| (now, Some(demand), 0)).collect();
        steps.extend(capacities.iter().map(|&(now, millicores)| (now, None, millicores)));
        steps.sort_by_key(|step| step.0);
        for (job, (now, demand, millicores)) in steps.into_iter().enumerate() {
            driven.run_to(now);
            if let Some(demand) = demand {
                driven.submit(now, demand, job);
            } else {
                let wake = driven.server.set_capacity(at(now), millicores);
                driven.arm(wake);
            }
            let latest = driven.pending.iter().map(|wake| wake.generation).max();
            let live = driven.pending.iter().filter(|wake| Some(wake.generation) == latest).count();
            prop_assert!(live <= 1);
            let served = driven.server.is_empty() || driven.server.capacity_millicores() == 0;
            prop_assert!(live == 1 || served, "jobs in service and nobody will wake them");
        }
        driven.run_to(500);
        let wake = driven.server.set_capacity(at(500), 1000);
        driven.arm(wake);
        driven.run_to(u64::MAX);
        prop_assert_eq!(driven.done.len(), jobs.len());
    }

    #[test]
    fn fifo_agrees_with_servers_kept_one_by_one(
        servers in 1_usize..5,
        jobs in prop::collection::vec((0_u64..50, 0_u64..100), 0..60),
    ) {
        let mut station = FifoServer::new(servers);
        let mut free_at = vec![0_u64; servers];
        let mut completions: Vec<u64> = Vec::new();
        let (mut now, mut peak) = (0, 0);
        for (gap, service) in jobs {
            now += gap;
            let first = (0..servers).min_by_key(|&server| free_at[server]).unwrap();
            free_at[first] = free_at[first].max(now) + service;
            completions.push(free_at[first]);
            prop_assert_eq!(station.submit(at(now), ns(service)), at(free_at[first]));
            let present = completions.iter().filter(|&&completion| completion > now).count();
            prop_assert_eq!(station.len(at(now)), present);
            peak = peak.max(present);
        }
        prop_assert!(station.peak() >= peak);
    }

    /// The original in `float64` seconds: `advance`, then `reserveN`.
    #[test]
    fn the_bucket_agrees_with_the_original(
        qps_milli in 100_u64..100_000,
        burst in 1_u64..50,
        calls in prop::collection::vec((0_u64..500_000_000, 0_u64..2_000_000_000, 0..3), 1..80),
    ) {
        let mut bucket = TokenBucket::new(qps_milli, burst);
        let limit = qps_milli as f64 / 1000.0;
        let (mut tokens, mut last, mut now) = (burst as f64, 0_u64, 0_u64);
        for (gap, patience, kind) in calls {
            now += gap;
            let available = (tokens + (now - last) as f64 / 1e9 * limit).min(burst as f64);
            let left = available - 1.0;
            let wait = if left < 0.0 { -left / limit * 1e9 } else { 0.0 };
            let patience = match kind { 0 => u64::MAX - now, 1 => patience, _ => 0 };
            let ok = wait <= patience as f64;
            // Where float and integer may round to different sides, neither verdict is wrong.
            prop_assume!((wait - patience as f64).abs() > 10.0 || wait == 0.0);
            prop_assume!(left.abs() > 1e-6);
            let seen = match kind {
                0 => Some(bucket.reserve(at(now))),
                1 => bucket.reserve_within(at(now), at(now + patience)),
                _ => bucket.try_take(at(now)).then_some(at(now)),
            };
            prop_assert_eq!(seen.is_some(), ok, "wait {} patience {}", wait, patience);
            if let Some(seen) = seen {
                let expected = now as f64 + wait;
                prop_assert!((seen.as_nanos() as f64 - expected).abs() < 10.0);
                (tokens, last) = (left, now);
            }
        }
    }
}

#[test]
fn a_hundred_calls_at_5_qps_burst_10_end_after_18_seconds() {
    let mut bucket = TokenBucket::new(5000, 10);
    let starts: Vec<_> = (0..100).map(|_| bucket.reserve(SimInstant::ZERO)).collect();
    assert_eq!(starts[9], SimInstant::ZERO);
    assert_eq!(starts[10], at(200_000_000));
    assert_eq!(starts[99], at(18_000_000_000));
}

#[test]
fn a_wait_past_its_deadline_fails_at_once_and_takes_no_token() {
    let mut bucket = TokenBucket::new(1000, 1);
    assert!(bucket.try_take(SimInstant::ZERO));
    assert_eq!(
        bucket.reserve_within(SimInstant::ZERO, at(999_999_999)),
        None
    );
    assert_eq!(
        bucket.reserve_within(SimInstant::ZERO, at(1_000_000_000)),
        Some(at(1_000_000_000))
    );
    assert!(!bucket.try_take(at(1_000_000_000)));
    assert!(bucket.try_take(at(2_000_000_000)));
}

#[test]
fn a_job_runs_on_one_core_at_most() {
    let mut driven = Driven::new(8000);
    driven.submit(0, 1000, 0);
    driven.run_to(u64::MAX);
    assert_eq!(driven.done, [(0, 1000)]);
}

#[test]
fn equal_jobs_end_together_in_order_of_arrival() {
    let mut driven = Driven::new(1000);
    for job in 0..4 {
        driven.submit(0, 1000, job);
    }
    driven.run_to(u64::MAX);
    assert_eq!(driven.done, [(0, 4000), (1, 4000), (2, 4000), (3, 4000)]);
    assert_eq!(driven.server.peak(), 4);
}

#[test]
fn arrivals_do_not_rearm_the_wake_up() {
    let mut driven = Driven::new(2000);
    for job in 0..1000 {
        driven.submit(1_000_000 * job as u64, 5_000_000, job);
    }
    driven.run_to(u64::MAX);
    assert_eq!(driven.done.len(), 1000);
    assert!(
        driven.wakes <= 2 * 1000,
        "{} wake-ups for 1000 jobs",
        driven.wakes
    );
}

#[test]
fn a_stopped_server_resumes_where_it_was() {
    let mut driven = Driven::new(1000);
    driven.submit(0, 1000, 0);
    driven.run_to(400);
    assert_eq!(driven.server.set_capacity(at(400), 0), None);
    driven.run_to(5000);
    assert!(driven.done.is_empty());
    let wake = driven.server.set_capacity(at(10_000), 500);
    driven.arm(wake);
    driven.run_to(u64::MAX);
    assert_eq!(driven.done, [(0, 11_200)]);
}

#[test]
fn removed_jobs_make_room_for_the_others() {
    let mut driven = Driven::new(1000);
    for job in 0..3 {
        driven.submit(0, 900, job);
    }
    driven.run_to(300);
    let wake = driven.server.remove_where(at(300), |job| *job != 1);
    driven.arm(wake);
    driven.run_to(u64::MAX);
    assert_eq!(driven.done, [(1, 1100)]);
    assert_eq!(driven.server.busy_core_nanos(at(2000)), 1100);
}

#[test]
fn what_arrives_during_an_fsync_shares_the_next() {
    let mut disk = BatchingFsync::new();
    let mut done = Vec::new();
    let first = disk.submit(at(0), 'a').unwrap();
    assert_eq!(first.entries, 1);
    assert_eq!(disk.submit(at(1), 'b'), None);
    assert_eq!(disk.submit(at(2), 'c'), None);
    let second = disk.finished(at(10), first.generation, &mut done).unwrap();
    assert_eq!((second.entries, done.as_slice()), (2, ['a'].as_slice()));
    assert_eq!(
        disk.finished(at(11), first.generation, &mut done),
        None,
        "stale"
    );
    assert_eq!(disk.finished(at(20), second.generation, &mut done), None);
    assert_eq!(done, ['a', 'b', 'c']);
    assert_eq!((disk.batches(), disk.busy_nanos(), disk.peak()), (2, 20, 2));
    assert!(disk.is_empty());
}

#[test]
fn a_crash_forgets_the_queue_and_makes_the_batch_stale() {
    let mut disk = BatchingFsync::new();
    let mut done = Vec::new();
    let first = disk.submit(at(0), 1).unwrap();
    assert_eq!(disk.submit(at(1), 2), None);
    assert_eq!(disk.crash(at(5)), (vec![1], vec![2]));
    let again = disk.submit(at(6), 3).unwrap();
    assert_eq!(disk.finished(at(10), first.generation, &mut done), None);
    assert_eq!(disk.finished(at(12), again.generation, &mut done), None);
    assert_eq!(done, [3]);
}
