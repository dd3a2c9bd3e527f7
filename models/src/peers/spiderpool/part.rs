//! What a job does on one pool: read the whole object, change one record, write it back guarded by
//! its version; again after a conflict, five times in all.
//! Source: spiderpool v0.8.0 `pkg/ippoolmanager/ippool_manager.go:94-359`.

use std::rc::Rc;
use std::time::Duration;

use crate::cni::IpamStage;
use crate::context::Context;
use crate::request::{Answer, ApiError, Consistency, Custom, Request, Response};

use super::job::JobId;
use super::pools::{POOLS, PoolId, Status};
use super::process::Bucket;
use super::retry::wait_after;
use super::{Spiderpool, Wait};

/// What is wanted of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartGoal {
    /// An address.
    Take,
    /// The record of an address gone, if it is the Pod's.
    Give(u32),
    /// The record of an address given over to the Pod.
    Retag(u32),
}

/// Why a pool was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Every attempt met a conflict.
    Exhausted,
    /// No address is free.
    UsedOut,
    /// The API failed otherwise.
    Api(ApiError),
    /// The context was cancelled.
    Cancelled,
}

impl Failure {
    pub(super) fn text(self, pool: &str) -> String {
        match self {
            Failure::Exhausted => {
                format!("exhaust all retries (5 times), failed to allocate IP from IPPool {pool}")
            }
            Failure::UsedOut => format!("all IP addresses used out: IPPool {pool}"),
            Failure::Api(error) => format!("IPPool {pool}: {error:?}"),
            Failure::Cancelled => format!("exhaust all retries: context canceled, IPPool {pool}"),
        }
    }
}

/// What a part waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Compute,
    Write,
    Pause,
}

/// The work on one pool.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) pool: PoolId,
    goal: PartGoal,
    step: Step,
    attempts: u64,
    read: Option<(Rc<Custom>, Rc<Status>)>,
    chosen: u32,
    /// Position of the address, or why there is none.
    pub(super) outcome: Option<Result<u32, Failure>>,
}

impl Part {
    pub(super) fn new(pool: PoolId, goal: PartGoal) -> Self {
        Self {
            pool,
            goal,
            step: Step::Pause,
            attempts: 0,
            read: None,
            chosen: 0,
            outcome: None,
        }
    }

    /// A part that an earlier allocation of the Pod has done.
    pub(super) fn had(pool: PoolId, position: u32) -> Self {
        Self {
            outcome: Some(Ok(position)),
            ..Self::new(pool, PartGoal::Take)
        }
    }
}

impl Spiderpool {
    /// The next attempt of a part.
    pub(super) fn attempt(&mut self, id: JobId, index: usize, context: &mut Context<'_>) {
        let part = &mut self.job(id).parts[index];
        part.attempts += 1;
        part.step = Step::Read;
        let request = Request::Get {
            kind: POOLS,
            name: self.pool_name(id, index),
            consistency: Consistency::Quorum,
        };
        let wait = Wait::Part {
            job: id,
            part: index,
        };
        self.job_ask(id, Bucket::PoolRead, request, wait, context);
    }

    fn pool_name(&self, id: JobId, index: usize) -> Rc<str> {
        let pool = self.jobs[&id].parts[index].pool;
        self.catalog.spec(pool).name.clone()
    }

    /// A wait of a part ended.
    pub(super) fn part_resume(
        &mut self,
        id: JobId,
        index: usize,
        response: Option<Response>,
        context: &mut Context<'_>,
    ) {
        let part = self.jobs.get(&id).and_then(|job| job.parts.get(index));
        let Some(part) = part.filter(|part| part.outcome.is_none()) else {
            return;
        };
        match (part.step, response) {
            (Step::Read, Some(Ok(Answer::Custom(object)))) => {
                self.part_read(id, index, object, context);
            }
            (Step::Read, Some(Err(error))) => {
                self.part_done(id, index, Err(Failure::Api(error)), context);
            }
            (Step::Compute, None) => self.part_change(id, index, context),
            (Step::Write, Some(response)) => self.part_written(id, index, &response, context),
            (Step::Pause, None) => self.attempt(id, index, context),
            (step, response) => unreachable!("a part in {step:?} got {response:?}"),
        }
    }

    fn part_read(
        &mut self,
        id: JobId,
        index: usize,
        object: Rc<Custom>,
        context: &mut Context<'_>,
    ) {
        let job = self.jobs.get_mut(&id).expect("the job is not over");
        let part = &mut job.parts[index];
        let status = self.catalog.status(part.pool, &object);
        part.step = Step::Compute;
        let parameters = &self.parameters;
        let records = status.records().len() as u64;
        let bytes = self.catalog.record_bytes(part.pool, records, parameters);
        let addresses = match part.goal {
            PartGoal::Take => self.catalog.spec(part.pool).addresses.len(),
            PartGoal::Give(_) | PartGoal::Retag(_) => 0,
        };
        let times = |each: Duration, count: u64| each * u32::try_from(count).unwrap_or(u32::MAX);
        let demand = times(parameters.cpu_per_byte, bytes)
            + times(parameters.cpu_per_address, addresses as u64);
        part.read = Some((object, status));
        let process = job.process;
        let wait = Wait::Part {
            job: id,
            part: index,
        };
        self.stage(id, IpamStage::Cpu, context);
        self.compute(process, demand, wait, context);
    }

    /// The object as it should be, or an outcome without a write.
    fn change(
        &mut self,
        id: JobId,
        index: usize,
        context: &mut Context<'_>,
    ) -> Result<Custom, Result<u32, Failure>> {
        let job = self.jobs.get_mut(&id).expect("the job is not over");
        let (pod, entity) = (job.pod, job.entity);
        let part = &mut job.parts[index];
        let (object, status) = part.read.as_ref().expect("a part reads before it changes");
        let spec = self.catalog.spec(part.pool);
        let mut next = Status::clone(status);
        match part.goal {
            PartGoal::Take => {
                let size = spec.addresses.len() as u64;
                let used = status.records().len() as u64;
                part.chosen = if used < size {
                    let draws = self.draws.entry((pod, spec.ipv6)).or_insert_with(|| {
                        let purpose = if spec.ipv6 { "choice v6" } else { "choice v4" };
                        context.core.streams.stream("spiderpool", entity, purpose)
                    });
                    if status.of_pod(pod).is_some() {
                        self.totals.second_addresses += 1;
                    }
                    status.nth_free(draws.below(size - used) as u32)
                } else {
                    // Only now is the Pod's own record looked for.
                    status.of_pod(pod).ok_or(Err(Failure::UsedOut))?
                };
                next.set(part.chosen, pod);
                next.allocated += 1;
                if next.allocated > self.parameters.pool_max_allocated {
                    return Err(Err(Failure::UsedOut));
                }
            }
            PartGoal::Give(position) => {
                part.chosen = position;
                if status.owner(position) != Some(pod) {
                    return Err(Ok(position));
                }
                next.remove(position);
                next.allocated = next.allocated.saturating_sub(1);
            }
            PartGoal::Retag(position) => {
                part.chosen = position;
                if status.owner(position) == Some(pod) {
                    return Err(Ok(position));
                }
                next.set(position, pod);
            }
        }
        Ok(Custom {
            body: next.encode().into(),
            record_count: next.records().len() as u32,
            ..Custom::clone(object)
        })
    }

    fn part_change(&mut self, id: JobId, index: usize, context: &mut Context<'_>) {
        match self.change(id, index, context) {
            Ok(object) => {
                self.job(id).parts[index].step = Step::Write;
                let request = Request::Replace {
                    object: Rc::new(object),
                    part: crate::request::Part::Main,
                };
                let wait = Wait::Part {
                    job: id,
                    part: index,
                };
                self.job_ask(id, Bucket::PoolWrite, request, wait, context);
            }
            Err(outcome) => self.part_done(id, index, outcome, context),
        }
    }

    fn part_written(
        &mut self,
        id: JobId,
        index: usize,
        response: &Response,
        context: &mut Context<'_>,
    ) {
        let parameters = &self.parameters;
        let job = self.jobs.get_mut(&id).expect("the job is not over");
        let (pod, entity, process) = (job.pod, job.entity, job.process);
        let part = &mut job.parts[index];
        match response {
            Ok(_) => {
                let position = part.chosen;
                self.part_done(id, index, Ok(position), context);
            }
            Err(ApiError::Conflict) => {
                self.totals.conflicts += 1;
                if part.attempts >= parameters.retry_steps {
                    return self.part_done(id, index, Err(Failure::Exhausted), context);
                }
                part.step = Step::Pause;
                let ipv6 = self.catalog.spec(part.pool).ipv6;
                let draws = self.waits_drawn.entry((pod, ipv6)).or_insert_with(|| {
                    let purpose = if ipv6 { "backoff v6" } else { "backoff v4" };
                    context.core.streams.stream("spiderpool", entity, purpose)
                });
                let delay = wait_after(part.attempts, parameters, draws);
                let wait = Wait::Part {
                    job: id,
                    part: index,
                };
                self.stage(id, IpamStage::Backoff, context);
                self.pause(process, delay, wait, context);
            }
            Err(error) => self.part_done(id, index, Err(Failure::Api(*error)), context),
        }
    }

    fn part_done(
        &mut self,
        id: JobId,
        index: usize,
        outcome: Result<u32, Failure>,
        context: &mut Context<'_>,
    ) {
        match outcome {
            Err(Failure::Exhausted) => self.totals.exhausted += 1,
            Err(Failure::UsedOut) => self.totals.used_out += 1,
            _ => {}
        }
        let job = self.job(id);
        let part = &mut job.parts[index];
        part.read = None;
        part.outcome = Some(outcome);
        if job.parts.iter().all(|part| part.outcome.is_some()) {
            self.parts_done(id, context);
        } else if outcome.is_ok() {
            // What is left is the other family; its own wait goes on.
            let other = job.parts.iter().find(|part| part.outcome.is_none());
            let stage = match other.map(|part| part.step) {
                Some(Step::Compute) => IpamStage::Cpu,
                Some(Step::Pause) => IpamStage::Backoff,
                _ => IpamStage::Api,
            };
            self.stage(id, stage, context);
        }
    }
}
