//! One request inside an agent or the controller: an allocation, a release for a plugin, a release
//! for a traced Pod, or the release of one record by a scan. Jobs wait for tickets, work on their
//! pools at once ([`super::part`]), give the tickets back and write the endpoint.
//! Source: spiderpool v0.8.0 `pkg/ipam/allocate.go`, `pkg/ipam/release.go`,
//! `pkg/workloadendpointmanager/workloadendpoint_manager.go`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::cni::IpamStage;
use crate::context::Context;
use crate::ids::{IpamCallId, PodUid};
use crate::objects::{OwnerKind, Pod};
use crate::request::{Answer, ApiError, Consistency, Custom, CustomKind, Request, Response, Shape};

use super::endpoint::{ENDPOINTS, Endpoint, endpoint_name};
use super::part::{Part, PartGoal};
use super::pools::PoolId;
use super::process::Bucket;
use super::{Spiderpool, Wait};

/// StatefulSets, as far as they are only looked at.
const STATEFUL_SETS: CustomKind = CustomKind {
    resource: "statefulsets",
    shape: Shape::Flat,
};

/// One job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobId(pub(super) u32);

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A plugin.
    Plugin(IpamCallId),
    /// A worker of the tracer, for a Pod.
    Trace(PodUid),
    /// The scan of a family (IPv6 or not).
    Scan {
        /// Which.
        ipv6: bool,
    },
}

/// What for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// ADD.
    Allocate,
    /// DEL: the Pod is looked at first.
    Release,
    /// Everything that an endpoint lists.
    Clear,
    /// One record.
    Free,
}

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first lists of a fresh agent.
    Parked,
    /// GET Pod.
    Pod,
    /// GET SpiderEndpoint.
    Endpoint,
    /// GET StatefulSet.
    Owner,
    /// Its tickets.
    Queued,
    /// Its parts.
    Working,
    /// The write of the endpoint.
    Record,
}

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) process: usize,
    pub(super) origin: Origin,
    pub(super) goal: Goal,
    pub(super) namespace: Rc<str>,
    pub(super) pod_name: Rc<str>,
    pub(super) pod: PodUid,
    /// Entity of its draws.
    pub(super) entity: u64,
    pub(super) fixed: bool,
    pub(super) phase: Phase,
    /// Its client is gone.
    pub(super) cancelled: bool,
    pub(super) tickets: Vec<PoolId>,
    pub(super) parts: Vec<Part>,
    pub(super) endpoint: Option<Rc<Custom>>,
}

/// Addresses, or why not.
pub(super) type Outcome = Result<Vec<(PoolId, u32)>, String>;

impl Spiderpool {
    /// Takes a job on.
    pub(super) fn begin(&mut self, job: Job, context: &mut Context<'_>) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        let goal = job.goal;
        self.jobs.insert(id, job);
        match goal {
            Goal::Allocate => self.allocate(id, context),
            Goal::Release => self.release(id, context),
            Goal::Clear | Goal::Free => self.enqueue(id, context),
        }
        id
    }

    pub(super) fn job(&mut self, id: JobId) -> &mut Job {
        self.jobs.get_mut(&id).expect("the job is not over")
    }

    /// Says what the ADD behind a job waits for.
    pub(super) fn stage(&self, id: JobId, stage: IpamStage, context: &mut Context<'_>) {
        if let Some(Job {
            origin: Origin::Plugin(call),
            ..
        }) = self.jobs.get(&id)
            && let Some(execution) = self.executions.get(call)
        {
            context.ipam_stage(&execution.call, stage);
        }
    }

    /// A call of a job.
    pub(super) fn job_ask(
        &mut self,
        id: JobId,
        bucket: Bucket,
        request: Request,
        wait: Wait,
        context: &mut Context<'_>,
    ) {
        let process = self.job(id).process;
        let now = context.now();
        let departs = self.ask(process, bucket, request, wait, context);
        if departs > now {
            self.totals.limited += 1;
            self.stage(id, IpamStage::Limiter, context);
            self.pause(process, departs - now, Wait::Departed { job: id }, context);
        } else {
            self.stage(id, IpamStage::Api, context);
        }
    }

    /// ADD: what the caches say, then the queue.
    pub(super) fn allocate(&mut self, id: JobId, context: &mut Context<'_>) {
        let process = self.job(id).process;
        if self.processes[process].lists_done != Some(super::agent::FIRST_LISTS) {
            self.stage(id, IpamStage::Api, context);
            self.processes[process].parked.push(id);
            return self.first_lists(process, context);
        }
        let this = &self.processes[process];
        let job = &self.jobs[&id];
        let (namespace, name) = (job.namespace.clone(), job.pod_name.clone());
        let pod = match this.pods.named(&namespace, &name) {
            Some(pod) if is_alive(pod) => pod.clone(),
            Some(_) => return self.fail(id, format!("dead Pod {namespace}/{name}"), context),
            None => {
                self.totals.pod_unknown += 1;
                return self.fail(id, format!("failed to get Pod {namespace}/{name}"), context);
            }
        };
        let endpoint = this.endpoints.get(&endpoint_name(&namespace, &name));
        let known = endpoint.map(|object| (object.clone(), Endpoint::decode(object)));
        let fixed = is_fixed(&pod);
        let job = self.job(id);
        (job.pod, job.entity, job.fixed) = (pod.uid, pod.entity, fixed);
        match known {
            Some((_, endpoint)) if endpoint.pod == pod.uid => {
                self.totals.idempotent += 1;
                return self.done(id, Ok(endpoint.addresses), context);
            }
            Some((object, endpoint)) if fixed => {
                let retag = |(pool, position)| Part::new(pool, PartGoal::Retag(position));
                job.parts = endpoint.addresses.iter().copied().map(retag).collect();
                job.endpoint = Some(object);
            }
            Some(_) => {
                self.totals.endpoint_of_another += 1;
                let text = format!("the endpoint of {namespace}/{name} is of another Pod");
                return self.fail(id, text, context);
            }
            None => {
                let had = self.processes[process].failures.get(&pod.uid);
                let part = |pool: &PoolId| match had.and_then(|had| had.get(pool)) {
                    Some(position) => Part::had(*pool, *position),
                    None => Part::new(*pool, PartGoal::Take),
                };
                let parts = self.catalog.candidates(&pod).iter().map(part).collect();
                self.job(id).parts = parts;
            }
        }
        self.enqueue(id, context);
    }

    /// DEL: GET Pod first.
    fn release(&mut self, id: JobId, context: &mut Context<'_>) {
        let job = self.job(id);
        job.phase = Phase::Pod;
        let request = Request::GetPod {
            namespace: job.namespace.clone(),
            name: job.pod_name.clone(),
            consistency: Consistency::Quorum,
        };
        self.job_ask(id, Bucket::PodRead, request, Wait::Job { job: id }, context);
    }

    /// A call of a job that is none of its parts was answered.
    pub(super) fn job_resume(&mut self, id: JobId, response: Response, context: &mut Context<'_>) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        match job.phase {
            Phase::Pod => self.release_pod(id, response, context),
            Phase::Endpoint => self.release_endpoint(id, response, context),
            Phase::Owner => match response {
                // A StatefulSet that stands keeps the address; the world has none that shrinks.
                Ok(_) | Err(ApiError::NotFound) => self.done(id, Ok(Vec::new()), context),
                Err(error) => self.fail(id, format!("GET StatefulSet: {error:?}"), context),
            },
            Phase::Record => self.recorded(id, &response, context),
            phase @ (Phase::Parked | Phase::Queued | Phase::Working) => {
                unreachable!("a job makes no call in {phase:?}")
            }
        }
    }

    fn release_pod(&mut self, id: JobId, response: Response, context: &mut Context<'_>) {
        match response {
            Ok(Answer::Pod(pod)) => {
                if is_alive(&pod) {
                    return self.done(id, Ok(Vec::new()), context);
                }
                let parameters = &self.parameters;
                let least = parameters.del_default;
                let grace = pod.deletion.map_or(Duration::ZERO, |(_, grace)| grace);
                let left = grace.saturating_sub(least);
                let limit = if left.is_zero() { least } else { left };
                let job = self.job(id);
                (job.pod, job.entity) = (pod.uid, pod.entity);
                let process = job.process;
                self.pause(process, limit, Wait::JobDeadline { job: id }, context);
            }
            Err(ApiError::NotFound) => {}
            other => return self.fail(id, format!("GET Pod: {:?}", other.err()), context),
        }
        let job = self.job(id);
        job.phase = Phase::Endpoint;
        let (process, pod) = (job.process, job.pod);
        let request = Request::Get {
            kind: ENDPOINTS,
            name: endpoint_name(&job.namespace, &job.pod_name),
            consistency: Consistency::Quorum,
        };
        self.processes[process].failures.remove(&pod);
        let wait = Wait::Job { job: id };
        self.job_ask(id, Bucket::EndpointRead, request, wait, context);
    }

    fn release_endpoint(&mut self, id: JobId, response: Response, context: &mut Context<'_>) {
        let object = match response {
            Ok(Answer::Custom(object)) => object,
            Err(ApiError::NotFound) => return self.done(id, Ok(Vec::new()), context),
            other => return self.fail(id, format!("GET endpoint: {:?}", other.err()), context),
        };
        let endpoint = Endpoint::decode(&object);
        let job = self.job(id);
        if endpoint.fixed {
            job.phase = Phase::Owner;
            let request = Request::Get {
                kind: STATEFUL_SETS,
                name: endpoint_name(&job.namespace, &job.pod_name),
                consistency: Consistency::Quorum,
            };
            return self.job_ask(
                id,
                Bucket::OwnerRead,
                request,
                Wait::Job { job: id },
                context,
            );
        }
        if endpoint.pod != job.pod {
            return self.done(id, Ok(Vec::new()), context);
        }
        let give = |(pool, position)| Part::new(pool, PartGoal::Give(position));
        job.parts = endpoint.addresses.iter().copied().map(give).collect();
        job.endpoint = Some(object);
        self.enqueue(id, context);
    }

    /// Waits for the tickets of all pools that it may touch.
    fn enqueue(&mut self, id: JobId, context: &mut Context<'_>) {
        let queue_max = self.parameters.queue_max;
        let job = self.job(id);
        job.phase = Phase::Queued;
        job.tickets = job.parts.iter().map(|part| part.pool).collect();
        let (process, tickets) = (job.process, job.tickets.clone());
        if !self.processes[process]
            .limiter
            .enqueue(id, tickets, queue_max)
        {
            self.totals.queue_full += 1;
            let text = format!("queue is full with a maximum length of {queue_max}");
            return self.fail(id, text, context);
        }
        self.stage(id, IpamStage::Queue, context);
        self.grant(process, context);
    }

    /// Starts what may run now.
    fn grant(&mut self, process: usize, context: &mut Context<'_>) {
        for id in self.processes[process].limiter.granted() {
            let job = self.job(id);
            if job.cancelled {
                // Its client is long gone: it ends at the first look at its context.
                let tickets = std::mem::take(&mut job.tickets);
                self.totals.granted_dead += 1;
                self.fail(
                    id,
                    "exhaust all retries: context canceled".to_owned(),
                    context,
                );
                self.processes[process].limiter.release(&tickets);
                self.grant(process, context);
                continue;
            }
            job.phase = Phase::Working;
            let waiting: Vec<usize> = (0..job.parts.len())
                .filter(|index| job.parts[*index].outcome.is_none())
                .collect();
            if waiting.is_empty() {
                self.parts_done(id, context);
            }
            for part in waiting {
                self.attempt(id, part, context);
            }
        }
    }

    /// Every part has its outcome: tickets go back, then the endpoint is written.
    pub(super) fn parts_done(&mut self, id: JobId, context: &mut Context<'_>) {
        let job = self.job(id);
        let (process, goal, pod) = (job.process, job.goal, job.pod);
        let tickets = std::mem::take(&mut job.tickets);
        let taken: BTreeMap<PoolId, u32> = job
            .parts
            .iter()
            .filter_map(|part| match part.outcome {
                Some(Ok(position)) => Some((part.pool, position)),
                _ => None,
            })
            .collect();
        let failure = job.parts.iter().find_map(|part| match &part.outcome {
            Some(Err(failure)) => Some((part.pool, *failure)),
            _ => None,
        });
        self.processes[process].limiter.release(&tickets);
        if let Some((pool, failure)) = failure {
            if goal == Goal::Allocate && !taken.is_empty() {
                self.totals.partial += 1;
                let failures = &mut self.processes[process].failures;
                failures.entry(pod).or_default().extend(taken);
            }
            let text = failure.text(&self.catalog.spec(pool).name);
            self.fail(id, text, context);
        } else if goal == Goal::Free {
            self.done(id, Ok(Vec::new()), context);
        } else {
            self.record(id, context);
        }
        self.grant(process, context);
    }

    /// Writes the endpoint.
    fn record(&mut self, id: JobId, context: &mut Context<'_>) {
        let job = self.job(id);
        job.phase = Phase::Record;
        let request = match (job.goal, job.endpoint.take()) {
            (Goal::Allocate, stored) => {
                let endpoint = Endpoint {
                    pod: job.pod,
                    fixed: job.fixed,
                    addresses: job.addresses(),
                };
                let name = endpoint_name(&job.namespace, &job.pod_name);
                match stored {
                    Some(stored) => Request::Replace {
                        object: Rc::new(endpoint.replacing(&stored)),
                        part: crate::request::Part::Main,
                    },
                    None => Request::Create(Rc::new(endpoint.object(name))),
                }
            }
            // A merge patch that takes the finalizer off.
            (_, Some(stored)) => Request::MergePatch {
                object: Rc::new(Custom {
                    finalizers: Vec::new(),
                    ..Custom::clone(&stored)
                }),
            },
            (goal, None) => unreachable!("{goal:?} has read its endpoint"),
        };
        let wait = Wait::Job { job: id };
        self.job_ask(id, Bucket::EndpointWrite, request, wait, context);
    }

    fn recorded(&mut self, id: JobId, response: &Response, context: &mut Context<'_>) {
        let job = self.job(id);
        let (process, pod, addresses) = (job.process, job.pod, job.addresses());
        match (job.goal, response) {
            (Goal::Allocate, Ok(_)) => {
                self.processes[process].failures.remove(&pod);
                self.done(id, Ok(addresses), context);
            }
            (Goal::Allocate, Err(error)) => {
                self.totals.endpoint_refused += 1;
                let failures = &mut self.processes[process].failures;
                failures.entry(pod).or_default().extend(addresses);
                self.fail(id, format!("failed to create endpoint: {error:?}"), context);
            }
            (_, Ok(_) | Err(ApiError::NotFound)) => self.done(id, Ok(Vec::new()), context),
            (_, Err(error)) => {
                self.fail(
                    id,
                    format!("failed to remove finalizer: {error:?}"),
                    context,
                );
            }
        }
    }

    /// The client of a job is gone, or its deadline passed.
    pub(super) fn cancel(&mut self, id: JobId, context: &mut Context<'_>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.cancelled = true;
        match job.phase {
            Phase::Parked | Phase::Queued => {}
            Phase::Working => {
                for part in &mut job.parts {
                    part.outcome
                        .get_or_insert(Err(super::part::Failure::Cancelled));
                }
                self.parts_done(id, context);
            }
            Phase::Record if job.goal == Goal::Allocate => {
                let (process, pod, addresses) = (job.process, job.pod, job.addresses());
                let failures = &mut self.processes[process].failures;
                failures.entry(pod).or_default().extend(addresses);
                self.fail(id, "context canceled".to_owned(), context);
            }
            _ => self.fail(id, "context canceled".to_owned(), context),
        }
    }

    pub(super) fn fail(&mut self, id: JobId, text: String, context: &mut Context<'_>) {
        self.done(id, Err(text), context);
    }

    /// A job is over.
    fn done(&mut self, id: JobId, outcome: Outcome, context: &mut Context<'_>) {
        let job = self.jobs.remove(&id).expect("a job ends once");
        match job.origin {
            Origin::Plugin(call) => self.answered(call, outcome, context),
            Origin::Trace(pod) => self.traced(pod, outcome.is_ok(), context),
            Origin::Scan { ipv6 } => self.scan_next(ipv6, context),
        }
    }
}

impl Job {
    /// What its parts have.
    fn addresses(&self) -> Vec<(PoolId, u32)> {
        let part = |part: &Part| match part.outcome {
            Some(Ok(position)) => Some((part.pool, position)),
            _ => None,
        };
        self.parts.iter().filter_map(part).collect()
    }
}

/// Whether Spiderpool gives the Pod addresses. Source: `pkg/podmanager/utils.go:15-37`.
pub(super) fn is_alive(pod: &Pod) -> bool {
    pod.deletion.is_none() && !pod.is_terminal()
}

/// A StatefulSet's Pod keeps its addresses over its re-creation.
pub(super) fn is_fixed(pod: &Pod) -> bool {
    let owner = pod.owner.as_ref();
    owner.is_some_and(|owner| owner.kind == OwnerKind::StatefulSet)
}
