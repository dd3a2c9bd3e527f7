//! What the long-running processes have in common (the agent of each machine, the controller, the
//! garbage collector of kube-controller-manager): a seat that outlives them, and in each life of it
//! clients with a bucket each, memory, a CPU limit, a ticket queue. What they do is a script of its
//! own ([`super::agent`], [`super::controller`], [`super::collector`]).
//!
//! controller-runtime gives each pair of client object and kind its own token bucket, and neither
//! reader, writer nor informers share one. Source: spiderpool v0.8.0
//! `vendor/sigs.k8s.io/controller-runtime/pkg/client/client_rest_resources.go:59-72`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::server::TokenBucket;
use drydock_engine::time::SimInstant;

use crate::cni::{IpamCall, IpamStage};
use crate::context::Context;
use crate::event::CpuToken;
use crate::ids::{ClientId, IpamCallId, NodeIndex, PodUid};
use crate::parameters::{Millicores, Rate};
use crate::process::{CallError, NewProcess, Port, ProcessId, Processes, Script};
use crate::request::{Answer, ClientClass, ClientSpec, Request};

use super::env::Env;
use super::limiter::{Claim, Limiter};
use super::memory::{Followed, Informer, Known};
use super::pools::PoolId;
use super::quota::Quota;

/// CPU that delays nothing by itself is spent in pieces of this size, to keep events few.
const LUMP: Duration = Duration::from_millis(5);

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// spiderpool-controller.
    Controller,
    /// The garbage collector of kube-controller-manager.
    Collector,
    /// spiderpool-agent.
    Agent,
}

/// The buckets of a process, one client each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bucket {
    PodRead,
    OwnerRead,
    EndpointRead,
    EndpointWrite,
    PoolRead,
    PoolWrite,
    Lease,
    Informers,
}

impl Bucket {
    const COUNT: usize = 8;
}

/// A place where a process runs, dies and runs again.
pub(super) struct Seat {
    /// Its place in the table of all.
    pub(super) index: usize,
    pub(super) role: Role,
    pub(super) node: NodeIndex,
    /// Counts starts and deaths.
    turns: Cell<u32>,
    life: RefCell<Option<Rc<Life>>>,
}

impl Seat {
    pub(super) fn new(index: usize, role: Role, node: NodeIndex) -> Self {
        Self {
            index,
            role,
            node,
            turns: Cell::new(0),
            life: RefCell::new(None),
        }
    }

    /// The process that runs.
    pub(super) fn life(&self) -> Option<Rc<Life>> {
        self.life.borrow().clone()
    }

    /// A process runs, and its boot is over.
    pub(super) fn is_serving(&self) -> bool {
        self.life().is_some_and(|life| life.is_serving())
    }

    /// A number that changes whenever it starts or dies.
    pub(super) fn turn(&self) -> u32 {
        self.turns.get()
    }

    /// Starts with empty memory and clients of its own.
    pub(super) fn start(&self, env: &Rc<Env>, context: &mut Context<'_>) -> Rc<Life> {
        self.turns.set(self.turns.get() + 1);
        let life = Rc::new(Life::new(self, env, context));
        let before = self.life.replace(Some(life.clone()));
        assert!(before.is_none(), "one process runs in a seat");
        life
    }

    /// It runs no more, or does not start either: who ran.
    pub(super) fn vacate(&self) -> Option<Rc<Life>> {
        self.turns.set(self.turns.get() + 1);
        self.life.take()
    }
}

/// One process, from its start to its death.
pub(super) struct Life {
    pub(super) env: Rc<Env>,
    pub(super) index: usize,
    pub(super) role: Role,
    pub(super) node: NodeIndex,
    pub(super) node_name: Rc<str>,
    /// The turn of its seat.
    pub(super) number: u32,
    ended: Cell<bool>,
    serving: Cell<bool>,
    clients: Vec<ClientId>,
    /// What the buckets of the clients hold, for saying who waits for one.
    buckets: RefCell<Vec<TokenBucket>>,
    quota: RefCell<Quota>,
    lump: Cell<Duration>,
    followed: [Followed; 3],
    pub(super) known: RefCell<Known>,
    pub(super) queue: RefCell<Limiter<Rc<Claim>>>,
    /// What failed allocations have already, by Pod.
    pub(super) failures: RefCell<BTreeMap<PodUid, BTreeMap<PoolId, u32>>>,
    /// Its scripts.
    members: RefCell<BTreeSet<ProcessId>>,
    /// Who is connected to its socket.
    pub(super) connections: RefCell<BTreeMap<IpamCallId, ProcessId>>,
}

impl Life {
    fn new(seat: &Seat, env: &Rc<Env>, context: &mut Context<'_>) -> Self {
        let parameters = &env.parameters;
        let (class, Rate { milli_per_s }, burst) = match seat.role {
            Role::Agent => (
                ClientClass::IpamNode,
                parameters.agent_qps,
                parameters.agent_burst,
            ),
            Role::Controller => (
                ClientClass::IpamController,
                parameters.controller_qps,
                parameters.controller_burst,
            ),
            Role::Collector => (
                ClientClass::OtherControllers,
                parameters.collector_qps,
                parameters.collector_burst,
            ),
        };
        let spec = ClientSpec {
            node: seat.node,
            class,
            limiter: Some((milli_per_s, burst)),
            timeout: None,
            fresh_connection: false,
        };
        // The collector has one client for everything.
        let own = if seat.role == Role::Collector {
            1
        } else {
            Bucket::COUNT
        };
        let made: Vec<ClientId> = (0..own).map(|_| context.client(spec)).collect();
        let bucket = || TokenBucket::new(milli_per_s, burst);
        Self {
            env: env.clone(),
            index: seat.index,
            role: seat.role,
            node: seat.node,
            node_name: context.core.machine(seat.node).node_name.clone(),
            number: seat.turn(),
            ended: Cell::new(false),
            serving: Cell::new(false),
            clients: (0..Bucket::COUNT).map(|index| made[index % own]).collect(),
            buckets: RefCell::new((0..Bucket::COUNT).map(|_| bucket()).collect()),
            quota: RefCell::default(),
            lump: Cell::default(),
            followed: Default::default(),
            known: RefCell::default(),
            queue: RefCell::new(Limiter::new()),
            failures: RefCell::default(),
            members: RefCell::default(),
            connections: RefCell::default(),
        }
    }

    /// A script of this process. It ends with it.
    pub(super) fn script<F>(
        self: &Rc<Self>,
        call: Option<Rc<IpamCall>>,
        run: impl FnOnce(Port) -> F + 'static,
    ) -> NewProcess
    where
        F: Future<Output = ()> + 'static,
    {
        let life = self.clone();
        let body = move |port: Port| -> Script {
            let membership = Membership::new(&life, port.id);
            let work = run(port);
            Box::pin(async move {
                let _membership = membership;
                work.await;
            })
        };
        NewProcess {
            node: self.node,
            call,
            client: None,
            script: Box::new(body),
        }
    }

    /// Its boot is over.
    pub(super) fn serve(&self) {
        assert!(!self.ended.get(), "the dead do not serve");
        self.serving.set(true);
    }

    pub(super) fn is_serving(&self) -> bool {
        self.serving.get()
    }

    /// It is dead, and what its scripts still hold is gone with it.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Dies: its scripts with it; those connected are told so by the kernel, in order. Its calls
    /// go on at the servers, their answers reach nobody.
    pub(super) fn end(&self, processes: &mut Processes) {
        let before = self.ended.replace(true);
        assert!(!before, "a process dies once");
        for script in self.members.borrow().iter() {
            processes.kill(*script);
        }
        for plugin in self.connections.borrow().values() {
            processes.wake(*plugin);
        }
    }

    /// Its clients go.
    pub(super) fn drop_clients(&self, context: &mut Context<'_>) {
        assert!(self.ended.get(), "who lives keeps its clients");
        for client in &self.clients {
            context.drop_client(*client);
        }
    }

    pub(super) fn followed(&self, informer: Informer) -> &Followed {
        &self.followed[informer as usize]
    }

    pub(super) fn client(&self, bucket: Bucket) -> ClientId {
        self.clients[bucket as usize]
    }

    /// When a call made now leaves its bucket.
    fn departure(&self, bucket: Bucket, now: SimInstant) -> SimInstant {
        let departs = self.buckets.borrow_mut()[bucket as usize].reserve(now);
        debug_assert!(departs >= now, "no call leaves before it is made");
        departs
    }

    /// Makes a call that no ADD waits for.
    /// Errors: the apiserver's.
    pub(super) async fn ask(
        &self,
        port: &Port,
        bucket: Bucket,
        request: Request,
    ) -> Result<Answer, CallError> {
        self.departure(bucket, port.now());
        port.call_as(self.client(bucket), request).await
    }

    /// Makes a call of a request, and says what its ADD waits for.
    /// Errors: the apiserver's, or the script's own deadline.
    pub(super) async fn ask_for(
        self: &Rc<Self>,
        port: &Port,
        call: Option<&Rc<IpamCall>>,
        bucket: Bucket,
        request: Request,
    ) -> Result<Answer, CallError> {
        let limit = self.departure(bucket, port.now()) - port.now();
        let _notice = if limit.is_zero() {
            port.stage(IpamStage::Api);
            None
        } else {
            self.env.count(|totals| totals.limited += 1);
            port.stage(IpamStage::Limiter);
            let departed = self.script(call.cloned(), move |port| async move {
                port.sleep(limit).await;
                port.stage(IpamStage::Api);
            });
            Some(Child::start(port, departed))
        };
        port.call_as(self.client(bucket), request).await
    }

    fn limit(&self) -> Option<Millicores> {
        match self.role {
            Role::Agent => Some(self.env.parameters.agent_cpu_limit),
            Role::Controller => Some(self.env.parameters.controller_cpu_limit),
            Role::Collector => None,
        }
    }

    /// Accounts for CPU; how long it has to wait before it starts.
    fn throttle(&self, now: SimInstant, demand: Duration) -> Duration {
        let period = self.env.parameters.cfs_period;
        self.limit().map_or(Duration::ZERO, |limit| {
            let mut quota = self.quota.borrow_mut();
            quota.take(now, demand, limit, period)
        })
    }

    /// CPU that the script waits for, under the limit.
    pub(super) async fn compute(&self, port: &Port, demand: Duration) {
        let delay = self.throttle(port.now(), demand);
        if !delay.is_zero() {
            self.env.count(|totals| totals.throttled += 1);
            port.sleep(delay).await;
        }
        port.cpu(demand).await;
    }

    /// CPU that nobody waits for.
    pub(super) fn spend(&self, demand: Duration, context: &mut Context<'_>) {
        let lump = self.lump.get() + demand;
        if lump < LUMP {
            return self.lump.set(lump);
        }
        self.lump.set(Duration::ZERO);
        self.throttle(context.now(), lump);
        context.cpu(self.node, lump, CpuToken::Nobody);
    }
}

/// A script belongs to a process while it runs.
struct Membership {
    life: Rc<Life>,
    script: ProcessId,
}

impl Membership {
    fn new(life: &Rc<Life>, script: ProcessId) -> Self {
        let fresh = life.members.borrow_mut().insert(script);
        assert!(fresh, "a script joins once");
        let life = life.clone();
        Self { life, script }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let member = self.life.members.borrow_mut().remove(&self.script);
        debug_assert!(member, "who leaves has joined");
    }
}

/// A script that ends at the latest with the one that started it.
pub(super) struct Child {
    port: Port,
    script: ProcessId,
}

impl Child {
    pub(super) fn start(port: &Port, new: NewProcess) -> Self {
        let script = port.spawn(new);
        let port = port.clone();
        Self { port, script }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.port.kill(self.script);
    }
}
