//! One execution of the plugin: start-up, election, work, release, exit. It has no state outside
//! the API.
//!
//! Source: v0.6.2 cmd/whereabouts.go:62-123, pkg/storage/kubernetes/ipam.go:349-449.

use drydock_engine::time::SimInstant;

use crate::client_go::leader_election::{Elector, Jitter, Left, News, Reaction, Won};
use crate::cni::{Assigned, CniError, IpamAnswer, IpamCall, IpamStage, Verb};
use crate::context::Context;
use crate::ids::{CallId, ClientId, IpamCallId};
use crate::request::{ApiError, ClientClass, ClientSpec, Consistency, ReplyTo, Request, Response};

use super::pool_object::SLICES;
use super::work::{Outcome, Work};
use super::{Token, Whereabouts};

/// CNI code of every error of the plugin.
const PLUGIN_ERROR: u32 = 999;

/// Reasons of a failed DEL all end here: the plugin logs them and reports success.
pub(super) const TIME_LIMIT: &str =
    "error at storage engine: time limit exceeded while waiting to become leader";

/// What a continuation of a process means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Its start-up.
    Start,
    /// The slices of its node.
    Slices,
    /// A request on the Lease.
    Lease,
    /// The pause of a poll, or of the renewal.
    Pause,
    /// The renew deadline of a round.
    Renewal(u32),
    /// The time limit of the verb.
    Limit,
    /// The time limit of the work.
    WorkLimit,
    /// A step of the work: a request, or CPU.
    Work,
    /// A request of the work leaves the limiter.
    Departure(u32),
}

impl Wait {
    /// 4 bits of kind, 26 of number.
    pub(super) fn pack(self) -> u32 {
        let (kind, number) = match self {
            Wait::Start => (0, 0),
            Wait::Slices => (1, 0),
            Wait::Lease => (2, 0),
            Wait::Pause => (3, 0),
            Wait::Renewal(round) => (4, round),
            Wait::Limit => (5, 0),
            Wait::WorkLimit => (6, 0),
            Wait::Work => (7, 0),
            Wait::Departure(step) => (8, step),
        };
        kind << 26 | number & 0x03ff_ffff
    }

    pub(super) fn unpack(detail: u32) -> Wait {
        let number = detail & 0x03ff_ffff;
        match detail >> 26 {
            0 => Wait::Start,
            1 => Wait::Slices,
            2 => Wait::Lease,
            3 => Wait::Pause,
            4 => Wait::Renewal(number),
            5 => Wait::Limit,
            6 => Wait::WorkLimit,
            7 => Wait::Work,
            _ => Wait::Departure(number),
        }
    }
}

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before its time limit counts.
    Starting,
    /// It asks for the Lease.
    Candidate,
    /// It works.
    Leader,
    /// Its result is known; the Lease is given back.
    Leaving,
}

/// A process.
pub(super) struct Process {
    pub(super) call: IpamCall,
    pub(super) phase: Phase,
    /// Client of coordination.k8s.io.
    lease_client: ClientId,
    /// Client of whereabouts.cni.cncf.io.
    pub(super) client: ClientId,
    elector: Elector,
    lease_call: Option<CallId>,
    pub(super) work: Work,
    pub(super) work_call: Option<CallId>,
    /// When the verb's time is over.
    limit: SimInstant,
    stage: Option<IpamStage>,
    result: Option<Outcome>,
}

impl Process {
    fn token(&self, wait: Wait) -> u64 {
        Token::Process(self.call.id, wait).pack()
    }

    /// Reports what it waits for, if that is new.
    pub(super) fn waits_for(&mut self, stage: IpamStage, context: &mut Context<'_>) {
        if self.stage != Some(stage) {
            self.stage = Some(stage);
            context.ipam_stage(&self.call, stage);
        }
    }

    pub(super) fn set_timer(&self, at: SimInstant, wait: Wait, context: &mut Context<'_>) {
        context.ipam_timer(self.call.node, at, self.token(wait));
    }

    pub(super) fn request(
        &self,
        wait: Wait,
        request: Request,
        context: &mut Context<'_>,
    ) -> CallId {
        let client = if wait == Wait::Lease {
            self.lease_client
        } else {
            self.client
        };
        let token = self.token(wait);
        context.call(client, request, ReplyTo::Ipam { token })
    }

    /// Whether a candidate that ends now has a write for the Lease in etcd's hands.
    fn leaves_zombie(&self, context: &mut Context<'_>) -> bool {
        self.phase == Phase::Candidate
            && self.elector.is_writing()
            && self
                .lease_call
                .is_some_and(|call| context.api.is_committing(call))
    }

    /// Cancels what is in flight on the Lease.
    fn cancel_lease_call(&mut self, context: &mut Context<'_>) {
        if let Some(call) = self.lease_call.take() {
            context.cancel(call);
        }
    }
}

impl Whereabouts {
    /// The plugin is executed.
    pub(super) fn process_exec(&mut self, call: IpamCall, context: &mut Context<'_>) {
        let parameters = &self.parameters;
        let (node, id, demand) = (call.node, call.id, parameters.cpu_verb);
        let spec = ClientSpec {
            node,
            class: ClientClass::IpamNode,
            limiter: Some((parameters.qps.milli_per_s, parameters.burst)),
            timeout: None,
            fresh_connection: true,
        };
        let jitter = if parameters.unseeded_jitter {
            Jitter::Unseeded(0)
        } else {
            let streams = context.core.streams;
            let stream = streams.stream("whereabouts", u64::from(id.0), "poll");
            Jitter::Seeded(Box::new(stream))
        };
        let election = parameters.election();
        let identity = format!("{}/{}", call.pod_namespace, call.pod_name);
        let lease = self.lease_of(node, context);
        let ranges = self.ranges_of(node, context);
        let mut process = Process {
            work: Work::new(call.verb, identity.as_str().into(), ranges),
            call,
            phase: Phase::Starting,
            lease_client: context.client(spec),
            client: context.client(spec),
            elector: Elector::new(election, lease, identity.into(), jitter),
            lease_call: None,
            work_call: None,
            limit: SimInstant::MAX,
            stage: None,
            result: None,
        };
        process.waits_for(IpamStage::Cpu, context);
        let token = crate::event::CpuToken::Ipam(process.token(Wait::Start));
        context.cpu(node, demand, token);
        self.processes.insert(id, process);
    }

    /// SIGKILL, or the machine died.
    pub(super) fn process_killed(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(mut process) = self.processes.remove(&id) else {
            return;
        };
        let zombie = u64::from(process.leaves_zombie(context));
        self.counters.zombie_holders += zombie;
        self.counters.leases_stalled += zombie;
        if process.elector.leads() {
            self.counters.leases_stalled += 1;
            self.counters.holders_killed += 1;
        }
        process.cancel_lease_call(context);
        if let Some(call) = process.work_call.take() {
            context.cancel(call);
        }
        context.drop_client(process.lease_client);
        context.drop_client(process.client);
    }

    /// A timer fired, or CPU was served.
    pub(super) fn process_woken(&mut self, id: IpamCallId, wait: Wait, context: &mut Context<'_>) {
        let now = context.now();
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        match wait {
            Wait::Start => self.process_started(id, context),
            Wait::Pause => {
                let reaction = process.elector.woken(now);
                self.react(id, reaction, context);
            }
            Wait::Renewal(round) => {
                let reaction = process.elector.limit_passed(round, now);
                if reaction != Reaction::default() {
                    self.counters.leaders_deposed += 1;
                    process.cancel_lease_call(context);
                }
                self.react(id, reaction, context);
            }
            Wait::Limit => self.limit_passed(id, context),
            Wait::WorkLimit => self.work_limit_passed(id, context),
            Wait::Work => self.work_computed(id, context),
            Wait::Departure(step) => {
                if process.work.step_number() == step && process.phase == Phase::Leader {
                    process.waits_for(IpamStage::Api, context);
                }
            }
            Wait::Slices | Wait::Lease => unreachable!("a request has no timer"),
        }
    }

    /// A request was answered.
    pub(super) fn process_answered(
        &mut self,
        id: IpamCallId,
        wait: Wait,
        response: Response,
        context: &mut Context<'_>,
    ) {
        let now = context.now();
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        match wait {
            Wait::Slices => {
                process.work_call = None;
                self.stand_for_election(id, context);
            }
            Wait::Lease => {
                process.lease_call = None;
                let lost = process.phase == Phase::Candidate
                    && process.elector.is_writing()
                    && matches!(response, Err(ApiError::Conflict | ApiError::AlreadyExists));
                self.counters.lease_races_lost += u64::from(lost);
                let reaction = process.elector.answered(response, now);
                self.react(id, reaction, context);
            }
            Wait::Work => {
                process.work_call = None;
                self.work_answered(id, response, context);
            }
            _ => unreachable!("only requests are answered"),
        }
    }

    /// Configuration and clients are there: the time limit counts from now.
    fn process_started(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let now = context.now();
        let parameters = &self.parameters;
        let sliced = parameters.slice_addresses > 0;
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let limit = match process.call.verb {
            Verb::Add => parameters.add_limit,
            Verb::Del => parameters.del_limit,
        };
        process.phase = Phase::Candidate;
        process.limit = now + limit;
        process.set_timer(process.limit, Wait::Limit, context);
        process.waits_for(IpamStage::Api, context);
        if sliced {
            let request = slices_request();
            process.work_call = Some(process.request(Wait::Slices, request, context));
        } else {
            self.stand_for_election(id, context);
        }
    }

    fn stand_for_election(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let now = context.now();
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let reaction = process.elector.start(now);
        self.react(id, reaction, context);
    }

    /// Does what the elector asks for.
    fn react(&mut self, id: IpamCallId, reaction: Reaction, context: &mut Context<'_>) {
        let now = context.now();
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        if let Some(request) = reaction.call {
            process.lease_call = Some(process.request(Wait::Lease, request, context));
        }
        if let Some(pause) = reaction.pause {
            if process.phase == Phase::Candidate {
                process.waits_for(IpamStage::Lease, context);
            }
            process.set_timer(now + pause, Wait::Pause, context);
        }
        if let Some(limit) = reaction.limit {
            let round = process.elector.round();
            process.set_timer(now + limit, Wait::Renewal(round), context);
        }
        match reaction.news {
            None => {}
            Some(News::Won(how)) => self.lead(id, how, context),
            // The work goes on: nobody looks at the context of the election.
            Some(News::Deposed) => {}
            Some(News::Left(how)) => self.left(id, how, context),
        }
    }

    /// It leads: the work begins.
    fn lead(&mut self, id: IpamCallId, how: Won, context: &mut Context<'_>) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        match process.call.verb {
            Verb::Add => self.counters.leases_won_by_adds += 1,
            Verb::Del => self.counters.leases_won_by_dels += 1,
        }
        match how {
            Won::Expired => self.counters.leases_expired += 1,
            Won::Own => self.counters.leases_reentered += 1,
            Won::Created | Won::Released => {}
        }
        let work_limit = self.parameters.request_limit;
        process.phase = Phase::Leader;
        let end = (context.now() + work_limit).min(process.limit);
        process.set_timer(end, Wait::WorkLimit, context);
        self.work_start(id, context);
    }

    /// The elector is over.
    fn left(&mut self, id: IpamCallId, how: Left, context: &mut Context<'_>) {
        let stalled = match how {
            Left::Released | Left::NotHeld => None,
            Left::EmptyLease => Some(&mut self.counters.releases_of_an_empty_lease),
            Left::Outdated => Some(&mut self.counters.releases_refused),
            Left::Failed => Some(&mut self.counters.releases_failed),
        };
        if let Some(counter) = stalled {
            *counter += 1;
            self.counters.leases_stalled += 1;
        }
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        if process.phase == Phase::Leaving {
            self.process_exit(id, context);
        }
    }

    /// The time limit of the verb: an error, unless the work has begun.
    fn limit_passed(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        if process.phase != Phase::Candidate {
            return;
        }
        if let Some(call) = process.work_call.take() {
            context.cancel(call);
        }
        self.work_over(id, Outcome::TimeLimit, context);
    }

    /// The work has a result: the election is stopped, which gives the Lease back or tries to.
    pub(super) fn work_over(&mut self, id: IpamCallId, result: Outcome, context: &mut Context<'_>) {
        let now = context.now();
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let zombie = u64::from(process.leaves_zombie(context));
        self.counters.zombie_holders += zombie;
        self.counters.leases_stalled += zombie;
        process.phase = Phase::Leaving;
        process.result = Some(result);
        if !process.elector.is_releasing() {
            process.cancel_lease_call(context);
        }
        process.waits_for(IpamStage::Api, context);
        let reaction = process.elector.stop(now);
        self.react(id, reaction, context);
    }

    fn process_exit(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(process) = self.processes.remove(&id) else {
            return;
        };
        context.drop_client(process.lease_client);
        context.drop_client(process.client);
        let result = process.result.expect("a process that leaves has a result");
        let answer = match process.call.verb {
            Verb::Add => self.add_ended(result, process.work.patched()),
            Verb::Del => Ok(self.del_ended(&process.call, &result)),
        };
        context.ipam_exit(process.call.node, id, answer);
    }

    fn add_ended(&mut self, result: Outcome, patched: bool) -> IpamAnswer {
        let counters = &mut self.counters;
        let message = match result {
            Outcome::Done(addresses) => return Ok(Assigned { addresses }),
            Outcome::TimeLimit => {
                counters.adds_timed_out += 1;
                TIME_LIMIT
            }
            Outcome::Exhausted => {
                counters.adds_exhausted += 1;
                "error at storage engine: Could not allocate IP in range"
            }
            Outcome::NoAllocation | Outcome::Failed(_) => {
                counters.adds_failed += u64::from(!patched);
                "error at storage engine"
            }
        };
        counters.adds_failed_after_patch += u64::from(patched);
        Err(CniError {
            code: PLUGIN_ERROR,
            message: message.to_owned(),
        })
    }

    /// Whatever happened is logged, and success is reported (cmd/whereabouts.go:117-122).
    fn del_ended(&mut self, call: &IpamCall, result: &Outcome) -> Assigned {
        let counters = &mut self.counters;
        match result {
            Outcome::Done(_) => {}
            Outcome::NoAllocation => counters.dels_without_allocation += 1,
            Outcome::TimeLimit => counters.dels_timed_out += 1,
            Outcome::Exhausted | Outcome::Failed(_) => counters.dels_failed += 1,
        }
        let forgotten = !matches!(result, Outcome::Done(_) | Outcome::NoAllocation)
            && self.is_allocated(call.container);
        self.counters.dels_swallowed += u64::from(forgotten);
        Assigned {
            addresses: Vec::new(),
        }
    }

    fn is_allocated(&self, container: crate::ids::ContainerId) -> bool {
        self.pools.values().any(|sight| {
            super::pool_object::read(&sight.body)
                .iter()
                .any(|allocation| allocation.container == container)
        })
    }
}

/// GET of the NodeSlicePool; what it holds is known.
pub(super) fn slices_request() -> Request {
    Request::Get {
        kind: SLICES,
        name: "kube-system/slices".into(),
        consistency: Consistency::Quorum,
    }
}
