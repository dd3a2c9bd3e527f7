//! What every request of a process on pools has in common, be it an allocation, a release for a
//! plugin, a release for a traced Pod, or the release of one record by a scan: it waits for its
//! tickets, works on its pools at once ([`super::part`]), and gives the tickets back.
//! Source: spiderpool v0.8.0 `pkg/ipam/allocate.go`, `pkg/ipam/release.go`.

use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::cni::IpamCall;
use crate::objects::{OwnerKind, Pod};
use crate::process::{CallError, NewProcess, Port};
use crate::request::{Answer, Custom, Request};

use super::env::{Env, Subject};
use super::limiter::Claim;
use super::part::{Customer, Failure, Part, PartGoal};
use super::pools::PoolId;
use super::process::{Bucket, Child, Life};
use super::tickets::Tickets;

/// Addresses, or why not.
pub(super) type Outcome = Result<Vec<(PoolId, u32)>, String>;

/// What a request says when its context has ended.
pub(super) const CANCELED: &str = "context canceled";

/// One request. What it holds goes back when it is dropped.
pub(super) struct Job {
    pub(super) customer: Customer,
    /// From then on its context has ended, by itself.
    limit: SimInstant,
    parts: Rc<[Part]>,
    tickets: Option<Tickets>,
}

impl Job {
    pub(super) fn new(life: &Rc<Life>, call: Option<Rc<IpamCall>>, subject: Subject) -> Self {
        let life = life.clone();
        Self {
            customer: Customer {
                life,
                call,
                subject,
            },
            limit: SimInstant::MAX,
            parts: Rc::new([]),
            tickets: None,
        }
    }

    pub(super) fn life(&self) -> &Rc<Life> {
        &self.customer.life
    }

    pub(super) fn env(&self) -> &Env {
        &self.customer.life.env
    }

    /// It turns out for whom it is.
    pub(super) fn is_for(&mut self, pod: &Pod) {
        assert!(self.tickets.is_none(), "who works knows for whom");
        self.customer.subject = Subject {
            pod: pod.uid,
            entity: pod.entity,
        };
    }

    /// Its context ends at an instant: its calls fail from then on, and its work on pools ends. Its
    /// place in the queue stays.
    pub(super) fn end_at(&mut self, port: &Port, limit: SimInstant) {
        assert_eq!(self.limit, SimInstant::MAX, "a context has one limit");
        self.limit = limit;
        port.set_deadline(limit);
    }

    /// Makes a call, and says what the ADD waits for.
    pub(super) async fn ask(
        &self,
        port: &Port,
        bucket: Bucket,
        request: Request,
    ) -> Result<Answer, CallError> {
        self.customer.ask(port, bucket, request).await
    }

    /// Waits for the tickets of all pools that it may touch.
    /// Errors: a full queue, or a context that ended on the way.
    pub(super) async fn queue(&mut self, port: &Port, parts: Vec<Part>) -> Result<(), String> {
        assert!(self.tickets.is_none(), "a request queues once");
        let pools = parts.iter().map(|part| part.pool).collect();
        self.parts = parts.into();
        self.tickets = Tickets::take(&self.customer.life, port, pools).await;
        if self.tickets.is_none() {
            let queue_max = self.env().parameters.queue_max;
            return Err(format!(
                "queue is full with a maximum length of {queue_max}"
            ));
        }
        if port.now() >= self.limit {
            self.env().count(|totals| totals.granted_dead += 1);
            return Err(format!("exhaust all retries: {CANCELED}"));
        }
        Ok(())
    }

    /// What stands for it in the queue.
    pub(super) fn claim(&self) -> Rc<Claim> {
        let tickets = self.tickets.as_ref();
        tickets.expect("its turn has come").claim()
    }

    /// Works on all its pools at once, to the end of each.
    /// Errors: the text of the first pool that failed.
    pub(super) async fn work(&self, port: &Port) -> Result<(), String> {
        assert!(self.tickets.is_some(), "who works holds its pools");
        let pending = |part: &Part| part.outcome().is_none();
        let children: Vec<Child> = (0..self.parts.len())
            .filter(|index| pending(&self.parts[*index]))
            .map(|index| Child::start(port, self.part(port, index)))
            .collect();
        while self.parts.iter().any(pending) {
            if self.limit == SimInstant::MAX {
                port.park().await;
            } else if !port.park_until(self.limit).await {
                for part in self.parts.iter().filter(|part| pending(part)) {
                    part.end(Err(Failure::Cancelled));
                }
            }
        }
        drop(children);
        for part in self.parts.iter() {
            if let Some(Err(failure)) = part.outcome() {
                return Err(failure.text(&self.env().catalog.spec(part.pool).name));
            }
        }
        Ok(())
    }

    /// The script of one part: the last one to end wakes the request.
    fn part(&self, port: &Port, index: usize) -> NewProcess {
        let (customer, parts, parent) = (self.customer.clone(), self.parts.clone(), port.id);
        let call = self.customer.call.clone();
        self.customer.life.script(call, move |port| async move {
            let outcome = customer.work(&port, &parts[index]).await;
            parts[index].end(outcome);
            if parts.iter().all(|part| part.outcome().is_some()) {
                port.wake(parent);
            } else if outcome.is_ok() {
                Customer::say_what_is_left(&port, &parts);
            }
        })
    }

    /// What its parts are, and how far.
    pub(super) fn parts(&self) -> Rc<[Part]> {
        self.parts.clone()
    }

    /// Pool and position of what its parts have.
    pub(super) fn addresses(&self) -> Vec<(PoolId, u32)> {
        self.parts.iter().filter_map(Part::address).collect()
    }

    /// It has no more to do on its pools.
    pub(super) fn give_tickets_back(&mut self) {
        assert!(self.tickets.is_some(), "tickets go back once");
        self.tickets = None;
    }

    /// Gives addresses back to their pools, then takes the finalizer off the endpoint that listed
    /// them, with a merge patch.
    /// Errors: whatever kept it from either.
    pub(super) async fn clear(&mut self, port: &Port, endpoint: &Custom) -> Result<(), String> {
        self.work(port).await?;
        self.give_tickets_back();
        let request = Request::MergePatch {
            object: Rc::new(Custom {
                finalizers: Vec::new(),
                ..Custom::clone(endpoint)
            }),
        };
        match self.ask(port, Bucket::EndpointWrite, request).await {
            Err(error) if !error.is_not_found() => {
                Err(format!("failed to remove finalizer: {error:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// Parts that give everything back that an endpoint lists.
pub(super) fn give(addresses: &[(PoolId, u32)]) -> Vec<Part> {
    let give = |(pool, position): &(PoolId, u32)| Part::new(*pool, PartGoal::Give(*position));
    addresses.iter().map(give).collect()
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
