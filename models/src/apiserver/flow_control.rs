//! API priority and fairness as counters: seats per priority level and server, a bounded queue
//! behind them, 429 when it is full. No timer runs unless a request waits.
//!
//! Modeled: the levels `exempt`, `system` (kubelets), `leader-election` (Leases of service
//! accounts of kube-system) and `workload-high` (controllers, scheduler, other requests of these
//! accounts), seats of a LIST, the wait limit of a quarter of the request timeout. Not modeled:
//! shuffle sharding (one flow per level is assumed, which reaches 6 queues of 50, or 4 of
//! `leader-election`), borrowing between levels, the extra seats of a mutation with many watchers.
//!
//! Source: kubernetes v1.26.5 apiserver/pkg/apis/flowcontrol/bootstrap/default.go:94-483,
//! apiserver/pkg/server/filters/maxinflight.go:38,225-229, apiserver/pkg/util/flowcontrol/request/
//! config.go:25-33.

use std::collections::VecDeque;

use crate::ids::CallId;
use crate::request::ClientClass;

/// Priority levels in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// No limit.
    Exempt,
    /// kubelets.
    System,
    /// Leases.
    LeaderElection,
    /// Controllers, scheduler, agents of kube-system.
    WorkloadHigh,
}

impl Level {
    /// The level that a client's requests for a resource are sorted into.
    pub(super) fn of(class: ClientClass, resource: &str) -> Level {
        match class {
            ClientClass::IpamNode | ClientClass::IpamController if resource == "leases" => {
                Level::LeaderElection
            }
            ClientClass::User => Level::Exempt,
            ClientClass::Kubelet | ClientClass::KubeletEvents => Level::System,
            _ => Level::WorkloadHigh,
        }
    }
}

/// What happens to a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It has its seats.
    Run,
    /// It waits.
    Wait,
    /// 429.
    Reject,
}

#[derive(Debug)]
struct Lane {
    seats: u32,
    used: u32,
    waiting: VecDeque<(CallId, u32)>,
    length: usize,
}

/// Size of a level: seats, and requests that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Seats.
    pub seats: u32,
    /// Places in its queue.
    pub queue: usize,
}

/// Flow control of one apiserver.
#[derive(Debug)]
pub(super) struct FlowControl {
    system: Lane,
    leader_election: Lane,
    workload_high: Lane,
    rejected: u64,
}

impl FlowControl {
    /// All seats free.
    pub(super) fn new(system: Size, leader_election: Size, workload_high: Size) -> Self {
        let lane = |size: Size| Lane {
            seats: size.seats,
            used: 0,
            waiting: VecDeque::new(),
            length: size.queue,
        };
        Self {
            system: lane(system),
            leader_election: lane(leader_election),
            workload_high: lane(workload_high),
            rejected: 0,
        }
    }

    fn lane(&mut self, level: Level) -> Option<&mut Lane> {
        match level {
            Level::Exempt => None,
            Level::System => Some(&mut self.system),
            Level::LeaderElection => Some(&mut self.leader_election),
            Level::WorkloadHigh => Some(&mut self.workload_high),
        }
    }

    /// Takes seats for a request, or a place in the queue.
    pub(super) fn admit(&mut self, level: Level, seats: u32, call: CallId) -> Admission {
        let Some(lane) = self.lane(level) else {
            return Admission::Run;
        };
        if lane.waiting.is_empty() && lane.used + seats <= lane.seats {
            lane.used += seats;
            return Admission::Run;
        }
        if lane.waiting.len() < lane.length {
            lane.waiting.push_back((call, seats));
            return Admission::Wait;
        }
        self.rejected += 1;
        Admission::Reject
    }

    /// Gives seats back; appends the requests that get them.
    pub(super) fn release(&mut self, level: Level, seats: u32, next: &mut Vec<CallId>) {
        let Some(lane) = self.lane(level) else { return };
        lane.used = lane.used.saturating_sub(seats);
        while let Some((call, wanted)) = lane.waiting.front().copied() {
            // A request wider than the level runs alone.
            if lane.used > 0 && lane.used + wanted > lane.seats {
                break;
            }
            lane.waiting.pop_front();
            lane.used += wanted;
            next.push(call);
        }
    }

    /// Takes a request out of the queue; whether it was there.
    pub(super) fn give_up(&mut self, level: Level, call: CallId) -> bool {
        let Some(lane) = self.lane(level) else {
            return false;
        };
        let before = lane.waiting.len();
        lane.waiting.retain(|(waiting, _)| *waiting != call);
        lane.waiting.len() < before
    }

    /// Forgets everybody, as a restart does.
    pub(super) fn reset(&mut self) {
        for lane in [
            &mut self.system,
            &mut self.leader_election,
            &mut self.workload_high,
        ] {
            lane.used = 0;
            lane.waiting.clear();
        }
    }

    /// Requests turned away so far.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected
    }
}

#[cfg(test)]
mod tests {
    use super::Admission::{Reject, Run, Wait};
    use super::*;

    fn flow(system: u32, workload_high: u32, queue: usize) -> FlowControl {
        let size = |seats| Size { seats, queue };
        FlowControl::new(size(system), size(1), size(workload_high))
    }

    #[test]
    fn overflow_of_the_queue_is_rejected_and_freed_seats_go_to_the_first_in_line() {
        let mut flow = flow(2, 1, 2);
        let level = Level::System;
        let outcomes: Vec<Admission> = (0..5).map(|n| flow.admit(level, 1, CallId(n))).collect();
        assert_eq!(outcomes, [Run, Run, Wait, Wait, Reject]);
        assert_eq!(flow.rejected(), 1);
        let mut next = Vec::new();
        flow.release(level, 1, &mut next);
        assert_eq!(next, [CallId(2)]);
        assert!(flow.give_up(level, CallId(3)), "it was waiting");
        assert!(!flow.give_up(level, CallId(3)), "it waits no more");
    }

    #[test]
    fn a_request_wider_than_its_level_runs_alone() {
        let mut flow = flow(2, 1, 8);
        assert_eq!(flow.admit(Level::System, 1, CallId(0)), Admission::Run);
        assert_eq!(flow.admit(Level::System, 10, CallId(1)), Admission::Wait);
        let mut next = Vec::new();
        flow.release(Level::System, 1, &mut next);
        assert_eq!(next, [CallId(1)]);
    }

    #[test]
    fn leases_of_agents_do_not_take_the_seats_of_their_other_requests() {
        let mut flow = flow(2, 1, 8);
        let lease = Level::of(ClientClass::IpamNode, "leases");
        let pool = Level::of(ClientClass::IpamNode, "ippools");
        assert_eq!(flow.admit(lease, 1, CallId(0)), Run);
        assert_eq!(flow.admit(lease, 1, CallId(1)), Wait);
        assert_eq!(flow.admit(pool, 1, CallId(2)), Run);
    }

    #[test]
    fn users_of_system_masters_are_exempt() {
        let mut flow = flow(0, 0, 0);
        assert_eq!(
            flow.admit(Level::of(ClientClass::User, "pods"), 1, CallId(0)),
            Admission::Run
        );
    }
}
