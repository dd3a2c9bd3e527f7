//! What a leading kube-ovn-controller holds in memory, and how its processes use it: the one core,
//! the client, the hashed lock on names, the queues. Nothing of it outlives the leader but
//! [`Estate`], which stands for what is the same in every leader.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use drydock_engine::server::TokenBucket;
use drydock_engine::stream::Streams;

use crate::ids::{ClientId, NodeIndex};
use crate::objects::Pod;
use crate::process::queueing::{Held, Semaphore};
use crate::process::{CallError, NewProcess, Port, ProcessId};
use crate::request::{Answer, Custom, Request};

use super::central::Central;
use super::databases::NbOp;
use super::env::Env;
use super::group::OneCore;
use super::informer::Pods;
use super::queue::{RateQueue, bucket};
use super::status::Status;
use super::subnet::Subnet;

/// `IP` objects by name.
pub(super) type Ips = BTreeMap<Rc<str>, Rc<Custom>>;

/// What every leader finds. The allocator is a leader's own memory; it stays here so that what is
/// held can be asked for while nobody leads.
pub(super) struct Estate {
    pub(super) env: Rc<Env>,
    pub(super) central: Rc<Central>,
    pub(super) subnet: Rc<RefCell<Subnet>>,
    /// The VPC as it was installed.
    pub(super) vpc: Rc<Custom>,
    /// Pods of an earlier run whose deletion is noticed together with the first new Pod.
    pub(super) previous: RefCell<Vec<Rc<Pod>>>,
}

/// A Pod to release.
#[derive(Clone, Debug)]
pub(super) struct Deletion {
    pub(super) pod: Rc<Pod>,
    pub(super) failures: u32,
}

/// An item failed; it comes again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TryAgain;

/// Workers that have nothing to do.
#[derive(Default)]
pub(super) struct Idle(RefCell<BTreeSet<ProcessId>>);

impl Idle {
    /// Waits for work; there may be none.
    pub(super) async fn wait(&self, port: &Port) {
        let came = self.0.borrow_mut().insert(port.id);
        assert!(came, "a worker is idle once");
        port.park().await;
        self.0.borrow_mut().remove(&port.id);
    }

    fn wake(&self, port: &Port) {
        for worker in std::mem::take(&mut *self.0.borrow_mut()) {
            port.wake(worker);
        }
    }
}

/// The leading controller.
pub(super) struct Leader {
    pub(super) estate: Rc<Estate>,
    pub(super) node: NodeIndex,
    pub(super) client: ClientId,
    /// Another has led before it.
    pub(super) inherits: bool,
    pub(super) core: OneCore,
    pub(super) pods: RefCell<Pods>,
    /// The Pods' informer was started.
    pub(super) watches_pods: Cell<bool>,
    pub(super) ips: Rc<RefCell<Ips>>,
    pub(super) queue: RefCell<RateQueue>,
    pub(super) deletions: RefCell<VecDeque<Deletion>>,
    pub(super) deletion_bucket: RefCell<TokenBucket>,
    pub(super) syncing: Idle,
    pub(super) deleting: Idle,
    locks: Vec<Semaphore>,
    pub(super) status: Rc<Status>,
    /// Ports without a Pod in the last collection.
    pub(super) suspects: RefCell<BTreeSet<u32>>,
}

impl Leader {
    /// A leader starts with nothing but what it will read.
    pub(super) fn new(estate: Rc<Estate>, node: NodeIndex, inherits: bool, port: &Port) -> Self {
        let env = estate.env.clone();
        let parameters = &env.parameters;
        let core = OneCore::new();
        let ips: Rc<RefCell<Ips>> = Rc::default();
        let status = Status::new(
            &env,
            core.clone(),
            port.client(),
            (ips.clone(), estate.subnet.clone()),
        );
        let buckets = parameters.lock_buckets.max(1);
        Self {
            node,
            client: port.client(),
            inherits,
            core,
            pods: RefCell::default(),
            watches_pods: Cell::default(),
            ips,
            queue: RefCell::new(RateQueue::new(parameters)),
            deletions: RefCell::default(),
            deletion_bucket: RefCell::new(bucket(parameters)),
            syncing: Idle::default(),
            deleting: Idle::default(),
            locks: (0..buckets).map(|_| Semaphore::new(1)).collect(),
            status: Rc::new(status),
            suspects: RefCell::default(),
            estate,
        }
    }

    pub(super) fn env(&self) -> &Env {
        &self.estate.env
    }

    pub(super) fn central(&self) -> &Central {
        &self.estate.central
    }

    /// Starts another process of the controller.
    pub(super) fn spawn<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        port: &Port,
        script: impl FnOnce(Rc<Self>, Port) -> F + 'static,
    ) {
        let leader = self.clone();
        port.spawn(NewProcess {
            node: self.node,
            call: None,
            client: None,
            script: Box::new(move |port| Box::pin(script(leader, port))),
        });
    }

    /// CPU that nothing waits for.
    pub(super) fn spend(self: &Rc<Self>, port: &Port, demand: std::time::Duration) {
        self.spawn(port, async move |leader: Rc<Self>, port: Port| {
            leader.core.run(&port, demand).await;
        });
    }

    /// Encodes a request, then makes it.
    /// Errors: the apiserver's.
    pub(super) async fn ask(&self, port: &Port, request: Request) -> Result<Answer, CallError> {
        let demand = self.env().parameters.request_cpu;
        self.core.run(port, demand).await;
        port.call_as(self.client, request).await
    }

    /// Encodes an NB transaction, then sends it.
    /// Errors: it was not committed.
    pub(super) async fn transact(&self, port: &Port, op: NbOp) -> Result<(), TryAgain> {
        let demand = self.env().parameters.request_cpu;
        self.core.run(port, demand).await;
        let committed = self.central().transact(port, op).await;
        committed.then_some(()).ok_or(TryAgain)
    }

    /// The VPC as the controller knows it, written back unchanged.
    pub(super) fn vpc_write(&self) -> Request {
        Request::Replace {
            object: self.estate.vpc.clone(),
            part: crate::request::Part::Main,
        }
    }

    /// The bucket of a name in the hashed lock.
    pub(super) async fn lock(&self, port: &Port, name: u32) -> Held {
        let (namespace, pod) = self.env().full(name);
        let full = format!("{namespace}/{pod}");
        let lock = &self.locks[Streams::entity(&full) as usize % self.locks.len()];
        if lock.is_busy() {
            self.env().count("lock_waits");
        }
        let held = lock.acquire(port, 1).await;
        assert!(
            lock.is_busy(),
            "an item has its bucket while it holds the guard"
        );
        held
    }

    /// What each item does first, with its lock held: the informer is asked for the Pod (what it
    /// learns later is not seen), then all ports are scanned for those of the Pod.
    pub(super) async fn scan(&self, port: &Port, name: u32) -> Option<Rc<Pod>> {
        let pod = self.pods.borrow().view.get(&name).cloned();
        let parameters = &self.env().parameters;
        let ports = self.central().port_count();
        let demand = parameters.item_cpu + parameters.scan_cpu * ports;
        self.core.run(port, demand).await;
        pod
    }

    /// A Pod is gone: what it holds will be released.
    pub(super) fn delete_pod(&self, pod: Rc<Pod>) {
        let deletion = Deletion { pod, failures: 0 };
        self.deletions.borrow_mut().push_back(deletion);
    }

    /// Free workers take what is there.
    pub(super) fn wake_workers(&self, port: &Port) {
        self.syncing.wake(port);
        self.deleting.wake(port);
    }
}
