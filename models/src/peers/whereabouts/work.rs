//! What a process does while it leads: the body of IPManagementKubernetesUpdate, range after range.
//!
//! ADD: LIST of the pools as a check of the connection; per range GET pool, lowest free address,
//! GET of its reservation (an existing one skips the address), PATCH, POST of the reservation.
//! A refused PATCH (422) tries again at once; any other error of it is forgotten when the POST
//! succeeds. DEL: the same with the entry of the container; a range without one ends it.
//!
//! Source: v0.6.2 pkg/storage/kubernetes/ipam.go:228-327,451-579, pkg/allocate/allocate.go:24-133.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::cni::Verb;
use crate::process::Port;
use crate::request::{Answer, ApiError, Consistency, Custom, Request};

use super::Range;
use super::execution::Execution;
use super::pool_object::{
    self, Allocation, POOL, RESERVATION, SLICES, lowest_free, object, patch, reservation_name,
};

/// Why an execution did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The time limit came before the Lease.
    TimeLimit,
    /// No address is free.
    Exhausted,
    /// The container has no allocation in a range.
    NoAllocation,
    /// A request failed, or the time of the work was over.
    Api(ApiError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure::Api(error)
    }
}

/// The address of a range that is being taken or given back. Shape: of the range before, until one
/// is chosen.
#[derive(Clone, Copy, Default)]
struct Place {
    offset: u32,
    /// The entry was the Pod's own before (idempotent ADD).
    kept: bool,
}

/// The work of one process.
pub(super) struct Work<'a> {
    execution: &'a Execution,
    port: &'a Port,
    patching: Cell<bool>,
    patched: Cell<bool>,
}

impl<'a> Work<'a> {
    /// It has not begun.
    pub(super) fn new(execution: &'a Execution, port: &'a Port) -> Work<'a> {
        Work {
            execution,
            port,
            patching: Cell::default(),
            patched: Cell::default(),
        }
    }

    /// Whether it has changed a pool.
    pub(super) fn patched(&self) -> bool {
        self.patched.get()
    }

    /// Its time is over: the request in flight is canceled, unless etcd has it.
    pub(super) fn cut(&self) {
        if self.patching.get() && self.port.is_committing() {
            self.patched.set(true);
        }
    }

    /// All of it; the addresses of an ADD.
    pub(super) async fn run(&self) -> Result<Vec<IpAddr>, Failure> {
        let entries = self.list().await?;
        let per_entry = self.execution.env.parameters.cpu_read_entry;
        self.execution.compute(self.port, per_entry * entries).await;
        let mut found = Vec::new();
        let mut place = Place::default();
        for range in &self.execution.ranges {
            let address = self.update(range, &mut place).await?;
            if self.execution.call.verb == Verb::Add {
                found.push(address);
            }
        }
        Ok(found)
    }

    /// LIST of the pools; how many entries they have in all.
    async fn list(&self) -> Result<u32, Failure> {
        let request = Request::List {
            kind: POOL,
            selectors: Vec::new(),
            consistency: Consistency::Quorum,
            limit: 0,
            after: None,
        };
        match self.execution.ask(self.port, request).await? {
            Answer::Customs(pools, ..) => Ok(pools.iter().map(|pool| pool.record_count).sum()),
            _ => unreachable!("a LIST answers with objects"),
        }
    }

    /// Takes an address of a range or gives it back. A temporary error tries again, without a
    /// pause; after the last try it is forgotten, and the reservation is written all the same.
    async fn update(&self, range: &Range, place: &mut Place) -> Result<IpAddr, Failure> {
        let parameters = &self.execution.env.parameters;
        let mut skipped = Vec::new();
        for _ in 0..parameters.datastore_tries.max(1) {
            let Some(pool) = self.read(range).await? else {
                continue;
            };
            let mut allocations = pool_object::read(&pool.body);
            self.decode(&pool, &allocations).await;
            match self.execution.call.verb {
                Verb::Add => {
                    *place = self.choose(range, &allocations, &skipped)?;
                    let checked = parameters.overlap_check && !place.kept;
                    if checked && self.is_reserved(range, *place).await? {
                        skipped.push(place.offset);
                        continue;
                    }
                    self.enter(&mut allocations, place.offset);
                }
                Verb::Del => place.offset = self.strike(&mut allocations)?,
            }
            if self.patch(patch(&pool, &allocations)).await {
                break;
            }
        }
        self.reserve(range, *place).await?;
        Ok(address(range, *place))
    }

    /// GET of a pool, with slices behind a GET of these; `None` when it had to be made first.
    async fn read(&self, range: &Range) -> Result<Option<Rc<Custom>>, Failure> {
        let execution = self.execution;
        if execution.env.parameters.slice_addresses > 0 {
            // The slices' controller decides whether the object exists.
            match execution.ask(self.port, slices_request()).await {
                Ok(_) | Err(ApiError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let request = Request::Get {
            kind: POOL,
            name: range.pool.clone(),
            consistency: Consistency::Quorum,
        };
        match execution.ask(self.port, request).await {
            Ok(Answer::Custom(pool)) => {
                execution.env.saw(&pool);
                return Ok(Some(pool));
            }
            Ok(_) => unreachable!("a GET of a pool answers with a pool"),
            Err(ApiError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let request = Request::Create(object(POOL, &range.pool, "".into(), 0));
        match execution.ask(self.port, request).await {
            Ok(_) | Err(ApiError::AlreadyExists) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// CPU for a pool that was read, and for the patch of it.
    async fn decode(&self, pool: &Custom, allocations: &[Allocation<'_>]) {
        let parameters = &self.execution.env.parameters;
        let (read, write) = (parameters.cpu_read_entry, parameters.cpu_patch_entry);
        // A DEL of a container without an entry makes no patch, but cannot know before.
        let patches = match self.execution.call.verb {
            Verb::Add => true,
            Verb::Del => self.own_entry(allocations).is_some(),
        };
        let per_entry = if patches { read + write } else { read };
        let demand = per_entry * pool.record_count;
        self.execution.compute(self.port, demand).await;
    }

    /// ADD: the Pod's own address if ADDs are idempotent, or the lowest that is free.
    fn choose(
        &self,
        range: &Range,
        allocations: &[Allocation<'_>],
        skipped: &[u32],
    ) -> Result<Place, Failure> {
        let idempotent = self.execution.env.parameters.idempotent_add;
        let own = allocations
            .iter()
            .find(|allocation| idempotent && *allocation.pod == *self.execution.identity)
            .map(|allocation| allocation.offset);
        let size = range.addresses.len() as u32;
        let offset = own
            .or_else(|| lowest_free(allocations, skipped, size))
            .ok_or(Failure::Exhausted)?;
        assert!(offset < size, "an address is one of its range");
        let kept = own.is_some();
        Ok(Place { offset, kept })
    }

    /// ADD: asks whether another range has an address.
    async fn is_reserved(&self, range: &Range, place: Place) -> Result<bool, Failure> {
        let request = Request::Get {
            kind: RESERVATION,
            name: reservation_name(address(range, place)),
            consistency: Consistency::Quorum,
        };
        match self.execution.ask(self.port, request).await {
            Err(ApiError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
            Ok(_) => {
                let env = &self.execution.env;
                env.count(|counters| counters.reservations_met += 1);
                Ok(true)
            }
        }
    }

    /// ADD: the pool with an address taken.
    fn enter<'b>(&'b self, allocations: &mut Vec<Allocation<'b>>, offset: u32) {
        allocations.retain(|allocation| allocation.offset != offset);
        let place = allocations.partition_point(|allocation| allocation.offset < offset);
        let taken = Allocation {
            offset,
            container: self.execution.call.container,
            pod: &self.execution.identity,
        };
        allocations.insert(place, taken);
    }

    /// DEL: the pool without the entry of the container; the offset that it had.
    fn strike(&self, allocations: &mut Vec<Allocation<'_>>) -> Result<u32, Failure> {
        let place = self.own_entry(allocations).ok_or(Failure::NoAllocation)?;
        Ok(allocations.remove(place).offset)
    }

    fn own_entry(&self, allocations: &[Allocation<'_>]) -> Option<usize> {
        let container = self.execution.call.container;
        allocations
            .iter()
            .position(|allocation| allocation.container == container)
    }

    /// PATCH; false when the pool had changed. Any other error is forgotten.
    async fn patch(&self, request: Request) -> bool {
        self.patching.set(true);
        let response = self.execution.ask(self.port, request).await;
        self.patching.set(false);
        let env = &self.execution.env;
        match response {
            Err(ApiError::Invalid) => {
                env.count(|counters| counters.pool_conflicts += 1);
                return false;
            }
            Err(_) => env.count(|counters| counters.patch_errors_swallowed += 1),
            Ok(answer) => {
                self.patched.set(true);
                if let Answer::Custom(pool) = answer {
                    env.saw(&pool);
                }
            }
        }
        true
    }

    /// POST or DELETE of the reservation; its result is that of the range.
    async fn reserve(&self, range: &Range, place: Place) -> Result<(), Failure> {
        let (execution, verb) = (self.execution, self.execution.call.verb);
        assert!(verb == Verb::Add || !place.kept, "only an ADD keeps");
        if !execution.env.parameters.overlap_check || place.kept {
            return Ok(());
        }
        let name = reservation_name(address(range, place));
        let request = match verb {
            Verb::Add => {
                let body = format!("{} {}", execution.call.container.0, execution.identity);
                Request::Create(object(RESERVATION, &name, body.into(), 1))
            }
            Verb::Del => Request::Delete {
                kind: RESERVATION,
                name,
                uid: None,
                resource_version: None,
            },
        };
        execution.ask(self.port, request).await?;
        Ok(())
    }
}

fn address(range: &Range, place: Place) -> IpAddr {
    range.addresses[place.offset as usize]
}

/// GET of the NodeSlicePool; what it holds is known.
pub(super) fn slices_request() -> Request {
    Request::Get {
        kind: SLICES,
        name: "kube-system/slices".into(),
        consistency: Consistency::Quorum,
    }
}
