//! What a process does while it leads: the body of IPManagementKubernetesUpdate, range after range.
//!
//! ADD: LIST of the pools as a check of the connection; per range GET pool, lowest free address,
//! GET of its reservation (an existing one skips the address), PATCH, POST of the reservation.
//! A refused PATCH (422) tries again at once; any other error of it is forgotten when the POST
//! succeeds. DEL: the same with the entry of the container; a range without one ends it.
//!
//! Source: v0.6.2 pkg/storage/kubernetes/ipam.go:228-327,451-579, pkg/allocate/allocate.go:24-133.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::cni::{IpamStage, Verb};
use crate::context::Context;
use crate::event::CpuToken;
use crate::ids::IpamCallId;
use crate::request::{Answer, ApiError, Consistency, Custom, Request, Response};

use super::pool_object::{
    self, Allocation, POOL, RESERVATION, lowest_free, object, patch, reservation_name,
};
use super::process::{Phase, Wait, slices_request};
use super::{Range, Token, Whereabouts};

/// How the work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As asked; addresses of an ADD.
    Done(Vec<IpAddr>),
    /// The time limit came before the Lease.
    TimeLimit,
    /// No address is free.
    Exhausted,
    /// The container has no allocation in a range.
    NoAllocation,
    /// A request failed, or the time of the work was over.
    Failed(ApiError),
}

/// What the work waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// LIST ippools.
    List,
    /// Decoding of the list.
    Listed,
    /// GET nodeslicepool, with slices.
    Slice,
    /// GET ippool.
    Pool,
    /// POST ippool.
    NewPool,
    /// Decoding of the pool, and the patch.
    Decide,
    /// GET of a reservation.
    Reservation,
    /// PATCH ippool.
    Patch,
    /// POST or DELETE of a reservation.
    Reserve,
}

/// The work of one process.
#[derive(Debug)]
pub(super) struct Work {
    verb: Verb,
    identity: Rc<str>,
    ranges: Vec<Range>,
    step: Step,
    /// Counts steps, so that a timer of an earlier one finds nothing to do.
    steps: u32,
    range: usize,
    tries: u64,
    pool: Option<Rc<Custom>>,
    /// Address of this range that is being taken or given back.
    offset: u32,
    /// Offsets of this range whose reservation exists.
    skipped: Vec<u32>,
    /// The entry was the Pod's own before (idempotent ADD).
    kept: bool,
    found: Vec<IpAddr>,
    patched: bool,
}

impl Work {
    pub(super) fn new(verb: Verb, identity: Rc<str>, ranges: Vec<Range>) -> Work {
        Work {
            verb,
            identity,
            ranges,
            step: Step::List,
            steps: 0,
            range: 0,
            tries: 0,
            pool: None,
            offset: 0,
            skipped: Vec::new(),
            kept: false,
            found: Vec::new(),
            patched: false,
        }
    }

    /// Whether it has changed a pool.
    pub(super) fn patched(&self) -> bool {
        self.patched
    }

    pub(super) fn step_number(&self) -> u32 {
        self.steps & 0x03ff_ffff
    }

    fn address(&self) -> IpAddr {
        self.ranges[self.range].addresses[self.offset as usize]
    }

    fn reservation(&self) -> Rc<str> {
        reservation_name(self.address())
    }
}

impl Whereabouts {
    pub(super) fn work_start(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let request = Request::List {
            kind: POOL,
            selectors: Vec::new(),
            consistency: Consistency::Quorum,
            limit: 0,
            after: None,
        };
        self.work_request(id, Step::List, request, context);
    }

    /// Sends a request of the work.
    fn work_request(
        &mut self,
        id: IpamCallId,
        step: Step,
        request: Request,
        context: &mut Context<'_>,
    ) {
        let now = context.now();
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        process.work.step = step;
        process.work.steps += 1;
        let call = process.request(Wait::Work, request, context);
        process.work_call = Some(call);
        let departure = context.api.departure(call).unwrap_or(now);
        if departure > now {
            process.waits_for(IpamStage::Limiter, context);
            let number = process.work.step_number();
            process.set_timer(departure, Wait::Departure(number), context);
        } else {
            process.waits_for(IpamStage::Api, context);
        }
    }

    /// Spends CPU of the work.
    fn work_compute(
        &mut self,
        id: IpamCallId,
        step: Step,
        demand: Duration,
        context: &mut Context<'_>,
    ) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        process.work.step = step;
        process.work.steps += 1;
        process.waits_for(IpamStage::Cpu, context);
        let token = Token::Process(id, Wait::Work).pack();
        context.cpu(process.call.node, demand, CpuToken::Ipam(token));
    }

    /// CPU of the work was spent.
    pub(super) fn work_computed(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(process) = self.processes.get(&id) else {
            return;
        };
        if process.phase != Phase::Leader {
            return;
        }
        match (process.work.step, process.work.verb) {
            (Step::Listed, _) => self.work_read_pool(id, context),
            (Step::Decide, Verb::Add) => self.work_take(id, context),
            (Step::Decide, Verb::Del) => self.work_give_back(id, context),
            (step, _) => unreachable!("no CPU is spent in {step:?}"),
        }
    }

    /// A request of the work was answered.
    pub(super) fn work_answered(
        &mut self,
        id: IpamCallId,
        response: Response,
        context: &mut Context<'_>,
    ) {
        let Some(process) = self.processes.get(&id) else {
            return;
        };
        match process.work.step {
            Step::List => self.work_listed(id, response, context),
            Step::Slice => match response {
                // Whether the object is there is the affair of the slices' controller.
                Ok(_) | Err(ApiError::NotFound) => self.work_get_pool(id, context),
                Err(error) => self.work_over(id, Outcome::Failed(error), context),
            },
            Step::Pool => self.work_pool_read(id, response, context),
            Step::NewPool => match response {
                Ok(_) | Err(ApiError::AlreadyExists) => self.work_again(id, context),
                Err(error) => self.work_over(id, Outcome::Failed(error), context),
            },
            Step::Reservation => self.work_reservation_read(id, &response, context),
            Step::Patch => self.work_pool_patched(id, response, context),
            Step::Reserve => match response {
                Ok(_) => self.work_next_range(id, context),
                Err(error) => self.work_over(id, Outcome::Failed(error), context),
            },
            step => unreachable!("no request is made in {step:?}"),
        }
    }

    /// Ten seconds of work, or the time limit of the verb: the request in flight is canceled, and
    /// so would be every further one.
    pub(super) fn work_limit_passed(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        if process.phase != Phase::Leader {
            return;
        }
        if let Some(call) = process.work_call.take() {
            if process.work.step == Step::Patch && context.api.is_committing(call) {
                process.work.patched = true;
            }
            context.cancel(call);
        }
        let late = ApiError::Unavailable { unknown: true };
        self.work_over(id, Outcome::Failed(late), context);
    }

    fn work_listed(&mut self, id: IpamCallId, response: Response, context: &mut Context<'_>) {
        match response {
            Ok(Answer::Customs(pools, ..)) => {
                let entries: u32 = pools.iter().map(|pool| pool.record_count).sum();
                let per_entry = self.parameters.cpu_read_entry;
                self.work_compute(id, Step::Listed, per_entry * entries, context);
            }
            Ok(_) => unreachable!("a LIST answers with objects"),
            Err(error) => self.work_over(id, Outcome::Failed(error), context),
        }
    }

    /// The next try on a range begins.
    fn work_read_pool(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        if self.parameters.slice_addresses > 0 {
            self.work_request(id, Step::Slice, slices_request(), context);
        } else {
            self.work_get_pool(id, context);
        }
    }

    fn work_get_pool(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(process) = self.processes.get(&id) else {
            return;
        };
        let request = Request::Get {
            kind: POOL,
            name: process.work.ranges[process.work.range].pool.clone(),
            consistency: Consistency::Quorum,
        };
        self.work_request(id, Step::Pool, request, context);
    }

    fn work_pool_read(&mut self, id: IpamCallId, response: Response, context: &mut Context<'_>) {
        let parameters = &self.parameters;
        let (read, write) = (parameters.cpu_read_entry, parameters.cpu_patch_entry);
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        match response {
            Ok(Answer::Custom(pool)) => {
                let entries = pool.record_count;
                process.work.pool = Some(pool.clone());
                self.saw(&pool);
                // A DEL of a container without an entry makes no patch, but cannot know before.
                let patches = match self.processes[&id].work.verb {
                    Verb::Add => true,
                    Verb::Del => holds(&pool, self.processes[&id].call.container),
                };
                let demand = if patches { read + write } else { read } * entries;
                self.work_compute(id, Step::Decide, demand, context);
            }
            Ok(_) => unreachable!("a GET of a pool answers with a pool"),
            Err(ApiError::NotFound) => {
                let name = process.work.ranges[process.work.range].pool.clone();
                let request = Request::Create(object(POOL, &name, "".into(), 0));
                self.work_request(id, Step::NewPool, request, context);
            }
            Err(error) => self.work_over(id, Outcome::Failed(error), context),
        }
    }

    /// A temporary error: the loop goes on, without a pause, for a limited number of tries.
    fn work_again(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let tries_max = self.parameters.datastore_tries;
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        process.work.tries += 1;
        if process.work.tries < tries_max {
            return self.work_read_pool(id, context);
        }
        // The loop ends, its error is forgotten, and the reservation is written all the same.
        self.work_reserve(id, context);
    }

    /// ADD: chooses an address and asks whether another range has it.
    fn work_take(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let parameters = &self.parameters;
        let (overlap_check, idempotent) = (parameters.overlap_check, parameters.idempotent_add);
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let work = &mut process.work;
        let pool = work.pool.clone().expect("the pool was read before");
        let allocations = pool_object::read(&pool.body);
        let own = allocations
            .iter()
            .find(|allocation| idempotent && *allocation.pod == *work.identity)
            .map(|allocation| allocation.offset);
        let size = work.ranges[work.range].addresses.len() as u32;
        work.kept = own.is_some();
        let Some(offset) = own.or_else(|| lowest_free(&allocations, &work.skipped, size)) else {
            return self.work_over(id, Outcome::Exhausted, context);
        };
        work.offset = offset;
        if overlap_check && !work.kept {
            let request = Request::Get {
                kind: RESERVATION,
                name: work.reservation(),
                consistency: Consistency::Quorum,
            };
            self.work_request(id, Step::Reservation, request, context);
        } else {
            self.work_patch(id, context);
        }
    }

    fn work_reservation_read(
        &mut self,
        id: IpamCallId,
        response: &Response,
        context: &mut Context<'_>,
    ) {
        match response {
            Err(ApiError::NotFound) => self.work_patch(id, context),
            Err(error) => self.work_over(id, Outcome::Failed(*error), context),
            Ok(_) => {
                self.counters.reservations_met += 1;
                let Some(process) = self.processes.get_mut(&id) else {
                    return;
                };
                let offset = process.work.offset;
                process.work.skipped.push(offset);
                self.work_again(id, context);
            }
        }
    }

    /// ADD: writes the pool with the address taken.
    fn work_patch(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(process) = self.processes.get(&id) else {
            return;
        };
        let work = &process.work;
        let pool = work.pool.clone().expect("the pool was read before");
        let mut allocations = pool_object::read(&pool.body);
        let offset = work.offset;
        allocations.retain(|allocation| allocation.offset != offset);
        let place = allocations.partition_point(|allocation| allocation.offset < offset);
        let taken = Allocation {
            offset,
            container: process.call.container,
            pod: &work.identity,
        };
        allocations.insert(place, taken);
        let request = patch(&pool, &allocations);
        self.work_request(id, Step::Patch, request, context);
    }

    /// DEL: finds the entry of the container and writes the pool without it.
    fn work_give_back(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let container = process.call.container;
        let pool = (process.work.pool.clone()).expect("the pool was read before");
        let mut allocations = pool_object::read(&pool.body);
        let Some(place) = allocations
            .iter()
            .position(|allocation| allocation.container == container)
        else {
            return self.work_over(id, Outcome::NoAllocation, context);
        };
        process.work.offset = allocations.remove(place).offset;
        let request = patch(&pool, &allocations);
        self.work_request(id, Step::Patch, request, context);
    }

    fn work_pool_patched(&mut self, id: IpamCallId, response: Response, context: &mut Context<'_>) {
        match response {
            Err(ApiError::Invalid) => {
                self.counters.pool_conflicts += 1;
                return self.work_again(id, context);
            }
            Err(_) => self.counters.patch_errors_swallowed += 1,
            Ok(answer) => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.work.patched = true;
                }
                if let Answer::Custom(pool) = answer {
                    self.saw(&pool);
                }
            }
        }
        self.work_reserve(id, context);
    }

    /// POST or DELETE of the reservation; its result is that of the range.
    fn work_reserve(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let overlap_check = self.parameters.overlap_check;
        let Some(process) = self.processes.get(&id) else {
            return;
        };
        let work = &process.work;
        if !overlap_check || work.kept {
            return self.work_next_range(id, context);
        }
        let name = work.reservation();
        let request = match work.verb {
            Verb::Add => {
                let body = format!("{} {}", process.call.container.0, work.identity);
                Request::Create(object(RESERVATION, &name, body.into(), 1))
            }
            Verb::Del => Request::Delete {
                kind: RESERVATION,
                name,
                uid: None,
                resource_version: None,
            },
        };
        self.work_request(id, Step::Reserve, request, context);
    }

    fn work_next_range(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let work = &mut process.work;
        if work.verb == Verb::Add {
            let address = work.address();
            work.found.push(address);
        }
        work.range += 1;
        work.tries = 0;
        work.skipped.clear();
        work.pool = None;
        if work.range < work.ranges.len() {
            return self.work_read_pool(id, context);
        }
        let found = std::mem::take(&mut work.found);
        self.work_over(id, Outcome::Done(found), context);
    }
}

fn holds(pool: &Custom, container: crate::ids::ContainerId) -> bool {
    pool_object::read(&pool.body)
        .iter()
        .any(|allocation| allocation.container == container)
}
