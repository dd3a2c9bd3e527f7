//! What a request does on one pool: read the whole object, change one record, write it back guarded
//! by its version; again after a conflict, five times in all. A script of its own, so that both
//! families go on beside each other.
//! Source: spiderpool v0.8.0 `pkg/ippoolmanager/ippool_manager.go:94-359`.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::cni::{IpamCall, IpamStage};
use crate::process::{CallError, Port};
use crate::request::{Answer, ApiError, Consistency, Custom, Request};

use super::env::{Env, Subject};
use super::pools::{POOLS, PoolId, Status};
use super::process::{Bucket, Life};

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
    /// The context was canceled.
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

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Api(error) => Failure::Api(error),
            CallError::Deadline => Failure::Cancelled,
        }
    }
}

/// The work on one pool, as the request sees it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) pool: PoolId,
    goal: PartGoal,
    /// What it waits for; a token bucket counts as the API.
    doing: Cell<IpamStage>,
    outcome: Cell<Option<Result<u32, Failure>>>,
}

impl Part {
    pub(super) fn new(pool: PoolId, goal: PartGoal) -> Self {
        Self {
            pool,
            goal,
            doing: Cell::new(IpamStage::Api),
            outcome: Cell::new(None),
        }
    }

    /// A part that an earlier allocation of the Pod has done.
    pub(super) fn had(pool: PoolId, position: u32) -> Self {
        let part = Self::new(pool, PartGoal::Take);
        part.outcome.set(Some(Ok(position)));
        part
    }

    /// Position of the address, or why there is none; `None` while it goes on.
    pub(super) fn outcome(&self) -> Option<Result<u32, Failure>> {
        self.outcome.get()
    }

    pub(super) fn end(&self, outcome: Result<u32, Failure>) {
        let before = self.outcome.replace(Some(outcome));
        assert!(before.is_none(), "a part ends once");
    }

    /// Pool and position, if it has an address.
    pub(super) fn address(&self) -> Option<(PoolId, u32)> {
        let position = self.outcome.get()?.ok()?;
        Some((self.pool, position))
    }
}

/// For whom the parts of a request work.
#[derive(Clone)]
pub(super) struct Customer {
    pub(super) life: Rc<Life>,
    /// The plugin behind it.
    pub(super) call: Option<Rc<IpamCall>>,
    pub(super) subject: Subject,
}

/// What becomes of an object that was read.
enum Change {
    /// It is written so, and the address is at this position.
    Write(Custom, u32),
    /// It is well as it is.
    Nothing(u32),
}

impl Customer {
    fn env(&self) -> &Env {
        &self.life.env
    }

    /// Makes a call, and says what the ADD waits for.
    pub(super) async fn ask(
        &self,
        port: &Port,
        bucket: Bucket,
        request: Request,
    ) -> Result<Answer, CallError> {
        let call = self.call.as_ref();
        self.life.ask_for(port, call, bucket, request).await
    }

    /// All attempts on a pool. Who is interrupted leaves what it wrote.
    pub(super) async fn work(&self, port: &Port, part: &Part) -> Result<u32, Failure> {
        let outcome = self.attempts(port, part).await;
        match outcome {
            Err(Failure::Exhausted) => self.env().count(|totals| totals.exhausted += 1),
            Err(Failure::UsedOut) => self.env().count(|totals| totals.used_out += 1),
            _ => {}
        }
        outcome
    }

    async fn attempts(&self, port: &Port, part: &Part) -> Result<u32, Failure> {
        let spec = self.env().catalog.spec(part.pool);
        let mut attempt = 1;
        loop {
            part.doing.set(IpamStage::Api);
            let read = Request::Get {
                kind: POOLS,
                name: spec.name.clone(),
                consistency: Consistency::Quorum,
            };
            let Answer::Custom(object) = self.ask(port, Bucket::PoolRead, read).await? else {
                panic!("a GET of {} brings the pool", spec.name);
            };
            let status = self.env().catalog.status(part.pool, &object);
            part.doing.set(IpamStage::Cpu);
            port.stage(IpamStage::Cpu);
            let demand = self.demand(part, &status);
            self.life.compute(port, demand).await;
            let (object, position) = match self.change(part, &object, &status)? {
                Change::Write(object, position) => (object, position),
                Change::Nothing(position) => return Ok(position),
            };
            part.doing.set(IpamStage::Api);
            let write = Request::Replace {
                object: Rc::new(object),
                part: crate::request::Part::Main,
            };
            match self.ask(port, Bucket::PoolWrite, write).await {
                Ok(_) => return Ok(position),
                Err(error) if !error.is_conflict() => return Err(error.into()),
                Err(_) => self.env().count(|totals| totals.conflicts += 1),
            }
            if attempt >= self.env().parameters.retry_steps {
                return Err(Failure::Exhausted);
            }
            let pause = self.env().backoff(self.subject, spec.ipv6, attempt);
            part.doing.set(IpamStage::Backoff);
            port.stage(IpamStage::Backoff);
            port.sleep(pause).await;
            attempt += 1;
        }
    }

    /// CPU of decoding and searching a pool as read.
    fn demand(&self, part: &Part, status: &Status) -> Duration {
        let (parameters, catalog) = (&self.env().parameters, &self.env().catalog);
        let records = status.records().len() as u64;
        let bytes = catalog.record_bytes(part.pool, records, parameters);
        let addresses = match part.goal {
            PartGoal::Take => catalog.spec(part.pool).addresses.len(),
            PartGoal::Give(_) | PartGoal::Retag(_) => 0,
        };
        let times = |each: Duration, count: u64| each * u32::try_from(count).unwrap_or(u32::MAX);
        times(parameters.cpu_per_byte, bytes) + times(parameters.cpu_per_address, addresses as u64)
    }

    /// The object as it should be, or why there is no need or no way.
    fn change(&self, part: &Part, object: &Custom, status: &Status) -> Result<Change, Failure> {
        let addresses = &self.env().catalog.spec(part.pool).addresses;
        let pod = self.subject.pod;
        let mut next = Status::clone(status);
        let position = match part.goal {
            PartGoal::Take => {
                let position = self.choose(part, addresses, status)?;
                next.set(position, pod);
                next.allocated += 1;
                if next.allocated > self.env().parameters.pool_max_allocated {
                    return Err(Failure::UsedOut);
                }
                position
            }
            PartGoal::Give(position) => {
                if status.owner(position) != Some(pod) {
                    return Ok(Change::Nothing(position));
                }
                next.remove(position);
                next.allocated = next.allocated.saturating_sub(1);
                position
            }
            PartGoal::Retag(position) => {
                if status.owner(position) == Some(pod) {
                    return Ok(Change::Nothing(position));
                }
                next.set(position, pod);
                position
            }
        };
        let gives = matches!(part.goal, PartGoal::Give(_));
        let owner = if gives { None } else { Some(pod) };
        assert_eq!(next.owner(position), owner, "one record has changed");
        let object = Custom {
            body: next.encode().into(),
            record_count: next.records().len() as u32,
            ..Custom::clone(object)
        };
        Ok(Change::Write(object, position))
    }

    /// Where the Pod's next address is.
    fn choose(&self, part: &Part, addresses: &[IpAddr], status: &Status) -> Result<u32, Failure> {
        let (size, used) = (addresses.len() as u64, status.records().len() as u64);
        debug_assert!(used <= size, "no address is recorded twice");
        if used == size {
            // Only now is the Pod's own record looked for.
            return status.of_pod(self.subject.pod).ok_or(Failure::UsedOut);
        }
        if status.of_pod(self.subject.pod).is_some() {
            self.env().count(|totals| totals.second_addresses += 1);
        }
        let ipv6 = self.env().catalog.spec(part.pool).ipv6;
        let drawn = self.env().choice(self.subject, ipv6, size - used);
        let position = status.nth_free(drawn);
        assert_eq!(status.owner(position), None, "what is drawn is free");
        Ok(position)
    }

    /// After a part has its address, what is left is the other family, whose own wait goes on.
    pub(super) fn say_what_is_left(port: &Port, parts: &[Part]) {
        if let Some(other) = parts.iter().find(|part| part.outcome().is_none()) {
            port.stage(other.doing.get());
        }
    }
}
