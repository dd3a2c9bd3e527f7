//! Everything in the fake world except the running futures: one state, because all of it is one
//! sequence of events. Each file is one part of it and what can happen to that part.

pub(super) mod kubelet;
pub(super) mod ledger;
pub(super) mod nodes;
pub(super) mod queue;
pub(super) mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use super::store::Store;
use crate::core::exchange::{DelRequest, RequestId};
use crate::core::hash::mix;
use crate::core::time::BootTime;

use kubelet::Kubelet;
use ledger::Violation;
use nodes::NodeState;
use queue::Arrival;
use traffic::{Asked, Costs, Faults, OpenWatch};

pub(super) type Shared = Arc<Mutex<Inner>>;

/// Everything but the running futures.
pub struct Inner {
    pub(super) now: BootTime,
    pub(super) sequence: u64,
    pub(super) queue: BTreeMap<(BootTime, u64), Arrival>,
    pub(super) store: Store,
    pub(super) nodes: BTreeMap<String, NodeState>,
    pub(super) rng: u64,
    pub(super) faults: Faults,
    pub(super) costs: Costs,
    /// Who used which API verb on which kind and part: what the roles must allow.
    pub(super) asked: BTreeSet<(String, Asked)>,
    pub(super) watches: BTreeMap<u64, OpenWatch>,
    pub(super) pods: BTreeMap<String, Kubelet>,
    pub(super) adds: BTreeMap<RequestId, String>,
    /// Unanswered DELs, with their node.
    pub(super) dels: BTreeMap<RequestId, (String, DelRequest)>,
    pub(super) violations: Vec<Violation>,
    pub(super) last_id: u64,
}

impl Inner {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            now: BootTime::from_nanos(1_000_000_000),
            sequence: 0,
            queue: BTreeMap::new(),
            store: Store::default(),
            nodes: BTreeMap::new(),
            rng: mix(seed, 1),
            faults,
            costs: Costs::default(),
            asked: BTreeSet::new(),
            watches: BTreeMap::new(),
            pods: BTreeMap::new(),
            adds: BTreeMap::new(),
            dels: BTreeMap::new(),
            violations: Vec::new(),
            last_id: 0,
        }
    }

    pub(super) fn now(&self) -> BootTime {
        self.now
    }

    /// One thing happens. Returns the node whose agent is to start, if that is what happened.
    pub(super) fn arrive(&mut self, arrival: Arrival) -> Option<String> {
        match arrival {
            Arrival::Wake(sender) => drop(sender.send(())),
            Arrival::Commit(pending, answer) => self.commit(&pending, answer),
            Arrival::Answer(sender, result) => drop(sender.send(result)),
            Arrival::Watch(id) => self.deliver_watch(id),
            Arrival::StartSandbox(pod) => self.start_sandbox(&pod),
            Arrival::StopSandbox(pod) => self.stop_sandbox(&pod),
            Arrival::EndNamespace(node, path) => self.end_namespace(&node, &path),
            Arrival::StartAgent(node) => return Some(node),
        }
        None
    }
}

pub(super) fn lock(shared: &Arc<Mutex<Inner>>) -> MutexGuard<'_, Inner> {
    shared
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
