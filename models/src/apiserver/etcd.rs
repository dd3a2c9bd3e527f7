//! The disks of etcd's members: one batch at a time becomes durable on the leader and on the faster
//! follower. It stores nothing; the apiserver's store commits when the batch ends.

use std::time::Duration;

use drydock_engine::server::{BatchStart, BatchingFsync};
use drydock_engine::stream::{Stream, Streams};
use drydock_engine::time::SimInstant;

use crate::ids::CallId;
use crate::parameters::Parameters;

/// The log of the cluster.
pub(super) struct Etcd {
    log: BatchingFsync<CallId>,
    disks: Vec<Stream>,
    member_up: Vec<bool>,
    /// A batch that ended without a quorum and is finished when there is one again.
    pub(super) stalled: Option<u64>,
    slow_until: SimInstant,
    slow_by: Duration,
}

impl Etcd {
    pub(super) fn new(members: usize, streams: &Streams) -> Self {
        Self {
            log: BatchingFsync::new(),
            disks: (0..members)
                .map(|m| streams.stream("etcd", m as u64, "fsync"))
                .collect(),
            member_up: vec![true; members],
            stalled: None,
            slow_until: SimInstant::ZERO,
            slow_by: Duration::ZERO,
        }
    }

    pub(super) fn batches(&self) -> u64 {
        self.log.batches()
    }

    pub(super) fn has_quorum(&self) -> bool {
        let up = self.member_up.iter().filter(|up| **up).count();
        up * 2 > self.member_up.len()
    }

    pub(super) fn set_member(&mut self, member: usize, up: bool) {
        self.member_up[member] = up;
    }

    pub(super) fn slow(&mut self, by: Duration, until: SimInstant) {
        self.slow_by = by;
        self.slow_until = until;
    }

    pub(super) fn submit(&mut self, now: SimInstant, call: CallId) -> Option<BatchStart> {
        self.log.submit(now, call)
    }

    pub(super) fn finished(
        &mut self,
        now: SimInstant,
        generation: u64,
        done: &mut Vec<CallId>,
    ) -> Option<BatchStart> {
        self.log.finished(now, generation, done)
    }

    /// How long the next batch takes: max(leader, round trip + the fastest other). The members
    /// that are up count; the first of them leads.
    pub(super) fn batch_time(&mut self, now: SimInstant, parameters: &Parameters) -> Duration {
        let span = parameters.log_sync();
        let mut leader = None;
        let mut follower: Option<Duration> = None;
        for (member, disk) in self.disks.iter_mut().enumerate() {
            // Drawn for every member, so that an outage shifts no later draw.
            let sync = disk.duration(span.min..=span.max);
            if !self.member_up[member] {
                continue;
            }
            match leader {
                None => leader = Some(sync),
                Some(_) => follower = Some(follower.map_or(sync, |best| best.min(sync))),
            }
        }
        let leader = leader.unwrap_or(span.max);
        let replicated = follower.map_or(leader, |sync| parameters.etcd.peer_round_trip + sync);
        let slow = if now < self.slow_until {
            self.slow_by
        } else {
            Duration::ZERO
        };
        leader.max(replicated) + slow
    }
}
