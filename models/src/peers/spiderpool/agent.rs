//! The agent of a machine: its start, and how it serves a request on its socket. An agent that
//! starts has empty memory: what it remembered of half-done allocations is lost, and its first
//! allocation waits for five lists.
//! Source: spiderpool v0.8.0 `cmd/spiderpool-agent/cmd/crd_manager.go`, `vendor/sigs.k8s.io/
//! controller-runtime/pkg/cache/internal/informers.go:269-279`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::cni::{IpamCall, IpamStage, Verb};
use crate::process::{NewProcess, Port, ProcessId};
use crate::request::{Consistency, CustomKind, Request, Shape};

use super::allocate::allocate;
use super::endpoint::{Endpoint, endpoint_name};
use super::env::Subject;
use super::informer::follow;
use super::job::{Job, Outcome};
use super::memory::Informer;
use super::process::{Bucket, Life};
use super::release::release;

/// Where the lists are that an agent's first allocation waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lists {
    #[default]
    Unasked,
    UnderWay,
    There,
}

/// The lists that the allocations of a fresh agent wait for.
#[derive(Default)]
pub(super) struct FirstLists {
    lists: Cell<Lists>,
    /// Requests that wait for them.
    parked: RefCell<Vec<ProcessId>>,
}

/// An agent that runs.
#[derive(Clone)]
pub(super) struct Agent {
    pub(super) life: Rc<Life>,
    first_lists: Rc<FirstLists>,
}

/// A request on the socket: what plugin and agent have in common.
pub(super) struct Exchange {
    pub(super) call: Rc<IpamCall>,
    plugin: ProcessId,
    /// When the agent had read it.
    pub(super) read_at: Cell<Option<SimInstant>>,
    answer: RefCell<Option<Outcome>>,
}

impl Exchange {
    pub(super) fn new(call: &Rc<IpamCall>, plugin: ProcessId) -> Rc<Self> {
        Rc::new(Self {
            call: call.clone(),
            plugin,
            read_at: Cell::new(None),
            answer: RefCell::new(None),
        })
    }

    fn is_read(&self, port: &Port) {
        let before = self.read_at.replace(Some(port.now()));
        assert!(before.is_none(), "a request is read once");
        port.wake(self.plugin);
    }

    fn answer(&self, port: &Port, outcome: Outcome) {
        let before = self.answer.replace(Some(outcome));
        assert!(before.is_none(), "a request is answered once");
        port.wake(self.plugin);
    }

    /// What the agent answered.
    pub(super) fn take_answer(&self) -> Option<Outcome> {
        self.answer.take()
    }
}

impl Agent {
    pub(super) fn new(life: Rc<Life>) -> Self {
        let first_lists = Rc::default();
        Self { life, first_lists }
    }

    /// Its start: it serves when it knows the pools. SpiderReservedIPs are not modeled: nobody
    /// made any.
    pub(super) async fn boot(self, port: Port) {
        port.spawn(follow(&self.life, Informer::Pools));
        self.life.followed(Informer::Pools).synced(&port).await;
        self.life.serve();
    }

    /// A request of the IPAM plugin: the health check, then the request, each on a connection of
    /// its own.
    pub(super) fn serve(&self, exchange: &Rc<Exchange>) -> NewProcess {
        let (agent, exchange) = (self.clone(), exchange.clone());
        let call = exchange.call.clone();
        self.life
            .script(Some(call), |port| agent.served(port, exchange))
    }

    async fn served(self, port: Port, exchange: Rc<Exchange>) {
        let life = &self.life;
        let call = &exchange.call;
        life.compute(&port, life.env.parameters.request_cpu * 2)
            .await;
        exchange.is_read(&port);
        let mut job = Job::new(life, Some(call.clone()), Subject::of(call.pod));
        let outcome = match call.verb {
            Verb::Add => {
                self.first_lists(&port).await;
                allocate(&mut job, &port, call).await
            }
            Verb::Del => release(&mut job, &port, call).await,
        };
        // The plugin hears of it before the next request gets the tickets.
        exchange.answer(&port, outcome);
    }

    /// A request of the coordinator, answered from the caches.
    pub(super) fn coordinate(&self, exchange: &Rc<Exchange>) -> NewProcess {
        let (agent, exchange) = (self.clone(), exchange.clone());
        self.life
            .script(None, |port| agent.coordinated(port, exchange))
    }

    async fn coordinated(self, port: Port, exchange: Rc<Exchange>) {
        let (life, call) = (&self.life, &exchange.call);
        life.compute(&port, life.env.parameters.request_cpu).await;
        let name = endpoint_name(&call.pod_namespace, &call.pod_name);
        let stored = life.known.borrow().endpoints.get(&name).cloned();
        let pod = stored.map(|object| Endpoint::decode(&object).pod);
        let outcome = if call.verb == Verb::Add && pod != Some(call.pod) {
            life.env.count(|totals| totals.coordinator_too_early += 1);
            Err("no spiderendpoint records found".to_owned())
        } else {
            Ok(Vec::new())
        };
        exchange.answer(&port, outcome);
    }

    /// Waits for the first lists, and starts them, unless they are under way.
    async fn first_lists(&self, port: &Port) {
        let first = &self.first_lists;
        if first.lists.get() == Lists::There {
            return;
        }
        port.stage(IpamStage::Api);
        first.parked.borrow_mut().push(port.id);
        if first.lists.get() == Lists::Unasked {
            first.lists.set(Lists::UnderWay);
            let agent = self.clone();
            port.spawn(self.life.script(None, |port| agent.list(port)));
        }
        while first.lists.get() != Lists::There {
            port.park().await;
        }
    }

    /// The lists, one after another; then the allocations that waited go on.
    async fn list(self, port: Port) {
        let life = &self.life;
        port.spawn(follow(life, Informer::Pods));
        life.followed(Informer::Pods).synced(&port).await;
        // Of these only the price of the list matters.
        price(life, &port, "replicasets").await;
        price(life, &port, "deployments").await;
        port.spawn(follow(life, Informer::Endpoints));
        life.followed(Informer::Endpoints).synced(&port).await;
        price(life, &port, "namespaces").await;
        let before = self.first_lists.lists.replace(Lists::There);
        assert_eq!(before, Lists::UnderWay, "the first lists come once");
        for parked in self.first_lists.parked.take() {
            port.wake(parked);
        }
    }
}

/// Lists what nobody reads here; that it fails delays no more than an answer.
async fn price(life: &Life, port: &Port, resource: &'static str) {
    let kind = CustomKind {
        resource,
        shape: Shape::Flat,
    };
    let request = Request::List {
        kind,
        selectors: Vec::new(),
        consistency: Consistency::Cache,
        limit: 0,
        after: None,
    };
    let _ = life.ask(port, Bucket::Informers, request).await;
}
