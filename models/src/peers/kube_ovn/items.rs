//! Items of the controller's queues: a worker takes one, holds its name's bucket of the hashed lock
//! through all its remote calls, pays its scan on the controller's one core, and gives it back or
//! has it come again later. Source: pkg/controller/controller.go:307-418,
//! pod.go:349-410,549-578,1126.

use std::rc::Rc;

use drydock_engine::stream::Streams;

use super::central::NbOp;
use super::controller::{ControlStep, Deletion};
use super::queue::RateQueue;
use super::{KubeOvn, Signal};
use crate::context::Context;
use crate::objects::Pod;
use crate::request::Request;

/// What an item is about.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Make a Pod right.
    Sync,
    /// Release a Pod.
    Delete(Deletion),
}

/// What an item does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemStep {
    /// It waits for its lock, then scans ports.
    Scan,
    /// A3.
    WriteIp,
    /// A4.
    AddPort,
    /// A5.
    Allocated,
    /// B1.
    JoinGroup,
    /// B2.
    WriteVpc,
    /// B4.
    Routed,
    /// Deletion: GET of the StatefulSet.
    ReadOwner,
    /// Deletion: one VPC write per address.
    DeleteRoute,
    /// Deletion: the port.
    DeletePort,
    /// Deletion: the `IP` object.
    DeleteIp,
}

/// A request that an item makes once it has encoded it.
#[derive(Clone, Debug)]
pub(super) enum Outgoing {
    /// To the API.
    Api(Request),
    /// To NB.
    Nb(NbOp),
}

/// One item in the hands of a worker.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: u32,
    pub(super) work: Work,
    pub(super) step: ItemStep,
    pub(super) bucket: usize,
    pub(super) outgoing: Option<Outgoing>,
    /// The Pod as the item knows it.
    pub(super) pod: Option<Rc<Pod>>,
    /// VPC writes left.
    pub(super) left: usize,
    pub(super) keep: bool,
}

impl KubeOvn {
    pub(super) fn queue(&mut self) -> &mut RateQueue {
        self.controller
            .queue
            .as_mut()
            .expect("a leader has its queue")
    }

    /// Free workers take what is there.
    pub(super) fn start_workers(&mut self, context: &mut Context<'_>) {
        while let Some(name) = self.queue().work.take() {
            self.totals.add("sync_items");
            self.take_item(name, Work::Sync, context);
        }
        let workers = self.parameters.workers;
        while self.controller.deleting < workers
            && let Some(deletion) = self.controller.deletions.pop_front()
        {
            self.controller.deleting += 1;
            let pod = &deletion.pod;
            let name = self.names.number(&pod.namespace, &pod.name);
            self.take_item(name, Work::Delete(deletion), context);
        }
    }

    fn take_item(&mut self, name: u32, work: Work, context: &mut Context<'_>) {
        let (namespace, pod) = self.names.full(name);
        let full = format!("{namespace}/{pod}");
        let bucket = Streams::entity(&full) as usize % self.controller.locks.len();
        self.controller.items_made += 1;
        let id = self.controller.items_made;
        let item = Item {
            name,
            work,
            step: ItemStep::Scan,
            bucket,
            outgoing: None,
            pod: None,
            left: 0,
            keep: false,
        };
        self.controller.items.insert(id, item);
        let lock = &mut self.controller.locks[bucket];
        lock.push_back(id);
        if lock.len() == 1 {
            self.item_locked(id, context);
        } else {
            self.totals.add("lock_waits");
        }
    }

    /// The item holds its lock: it scans all ports for those of its Pod.
    fn item_locked(&mut self, id: u32, context: &mut Context<'_>) {
        // The informer is asked first: what it learns during the scan is not seen.
        let name = self.item(id).name;
        self.item(id).pod = self.controller.pods.view.get(&name).cloned();
        let parameters = Rc::clone(&self.parameters);
        let ports = u32::try_from(self.central.ports.len()).unwrap_or(u32::MAX);
        let demand = parameters.item_cpu + parameters.scan_cpu * ports;
        self.control_cpu(demand, ControlStep::Item(id), context);
    }

    pub(super) fn item(&mut self, id: u32) -> &mut Item {
        self.controller
            .items
            .get_mut(&id)
            .expect("an item under way is in the table")
    }

    /// Encodes a request of an item, then makes it.
    pub(super) fn item_asks(
        &mut self,
        id: u32,
        step: ItemStep,
        outgoing: Outgoing,
        context: &mut Context<'_>,
    ) {
        let item = self.item(id);
        item.step = step;
        item.outgoing = Some(outgoing);
        let demand = self.parameters.request_cpu;
        self.control_cpu(demand, ControlStep::Item(id), context);
    }

    pub(super) fn item_step(&mut self, id: u32, signal: Signal, context: &mut Context<'_>) {
        if !self.controller.items.contains_key(&id) {
            return;
        }
        let item = self.item(id);
        let deletes = matches!(item.work, Work::Delete(_));
        match (item.outgoing.take(), signal) {
            (Some(Outgoing::Api(request)), _) => {
                self.control_call(request, ControlStep::Item(id), context);
            }
            (Some(Outgoing::Nb(op)), _) => {
                let wait = self.controlling(ControlStep::Item(id));
                self.transact(op, wait, context);
            }
            (None, Signal::Go) if deletes => self.release_begin(id, context),
            (None, Signal::Go) => self.sync_begin(id, context),
            (None, signal) if deletes => self.release_answered(id, signal, context),
            (None, signal) => self.sync_answered(id, signal, context),
        }
    }

    /// The worker is done with an item; one that failed comes back later.
    pub(super) fn item_done(&mut self, id: u32, ok: bool, context: &mut Context<'_>) {
        let item = self
            .controller
            .items
            .remove(&id)
            .expect("an item ends once");
        let lock = &mut self.controller.locks[item.bucket];
        lock.pop_front();
        let next = lock.front().copied();
        let parameters = Rc::clone(&self.parameters);
        let (now, node) = (context.now(), self.controller.node);
        if !ok {
            self.totals.add("item_retries");
        }
        match item.work {
            Work::Sync => {
                let queue = self.queue();
                queue.work.done(item.name);
                if ok {
                    queue.work.forget(item.name);
                } else {
                    let at = queue.retry_at(item.name, now, &parameters);
                    let wait = self.controlling(ControlStep::Retry(item.name));
                    self.timer(node, at, wait, context);
                }
            }
            Work::Delete(mut deletion) => {
                self.controller.deleting -= 1;
                if !ok {
                    let doubled = 1u32 << deletion.failures.min(17);
                    let own = (parameters.retry_base * doubled).min(parameters.retry_max);
                    let shared = self.controller.deletion_bucket.as_mut();
                    let turn = shared.expect("a leader has its bucket").reserve(now);
                    deletion.failures += 1;
                    let wait = self.controlling(ControlStep::Delete(deletion));
                    self.timer(node, turn.max(now + own), wait, context);
                }
            }
        }
        if let Some(next) = next {
            self.item_locked(next, context);
        }
        self.start_workers(context);
    }
}
