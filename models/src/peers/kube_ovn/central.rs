//! OVN central on the masters: NB transactions one after another, each through CPU and a Raft
//! commit; ovn-northd, whose every loop computes all ports anew; the SB database.
//!
//! Each of the three leads on a master of its own choice. A master that dies loses its role after a
//! while to the first that is up; transactions under way fail. The log of a database is synced like
//! etcd's; the prerequisite of an OVSDB transaction lets only one be under way.
//! Source: OVN branch-22.12, OVS branch-3.1 (dist/images/Dockerfile.base:11,30), one northd thread
//! (dist/images/install.sh:3264-3265).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::Stream;

use crate::context::Context;
use crate::ids::NodeIndex;
use crate::process::{NewProcess, Port, ProcessId};

use super::databases::{Databases, NbOp};
use super::env::Env;
use super::group::Group;
use super::switch::Switch;

/// A transaction from its sending to its answer: whether it was committed.
#[derive(Clone)]
struct Transaction {
    op: NbOp,
    sender: ProcessId,
    answer: Rc<Cell<Option<bool>>>,
}

/// Masters that lead NB, SB, and run the active ovn-northd.
#[derive(Clone, Copy, Debug)]
struct Roles {
    nb: NodeIndex,
    sb: NodeIndex,
    northd: NodeIndex,
}

impl Roles {
    fn all(self) -> [NodeIndex; 3] {
        [self.nb, self.sb, self.northd]
    }
}

/// The databases and ovn-northd.
pub(super) struct Central {
    env: Rc<Env>,
    roles: Cell<Roles>,
    databases: RefCell<Databases>,
    waiting: RefCell<VecDeque<Transaction>>,
    /// The transaction under way; one that its leader's death left here blocks the database until
    /// another leads.
    current: RefCell<Option<Transaction>>,
    nb: Cell<Option<ProcessId>>,
    northd: Cell<Option<ProcessId>>,
    /// ovn-northd has something to compute.
    dirty: Cell<bool>,
    switches: RefCell<BTreeMap<NodeIndex, Rc<Switch>>>,
    draws: RefCell<Stream>,
    /// All processes that a death among the leaders interrupts.
    pub(super) group: Group,
}

impl Central {
    /// Nothing is stored; masters that are drawn lead.
    pub(super) fn new(env: &Rc<Env>, context: &mut Context<'_>) -> Self {
        let masters = env.masters();
        let mut draws = context.core.streams.stream("kube-ovn", 0, "central");
        let roles = Roles {
            nb: *draws.pick(&masters),
            sb: *draws.pick(&masters),
            northd: *draws.pick(&masters),
        };
        Self {
            env: env.clone(),
            roles: Cell::new(roles),
            databases: RefCell::default(),
            waiting: RefCell::default(),
            current: RefCell::default(),
            nb: Cell::default(),
            northd: Cell::default(),
            dirty: Cell::default(),
            switches: RefCell::default(),
            draws: RefCell::new(draws),
            group: Group::default(),
        }
    }

    /// A port that an earlier run has left.
    pub(super) fn has(&self, name: u32) {
        let mut databases = self.databases.borrow_mut();
        databases.ports.insert(name);
        databases.grouped.insert(name);
        databases.bound.insert(name);
    }

    /// Whether NB has the port of a Pod.
    pub(super) fn has_port(&self, name: u32) -> bool {
        self.databases.borrow().ports.contains(&name)
    }

    /// Names of the ports in NB.
    pub(super) fn ports(&self) -> Vec<u32> {
        self.databases.borrow().ports.iter().copied().collect()
    }

    /// How many they are.
    pub(super) fn port_count(&self) -> u32 {
        u32::try_from(self.databases.borrow().ports.len()).unwrap_or(u32::MAX)
    }

    /// Ports that a switch reads from SB when it starts.
    pub(super) fn bound(&self) -> BTreeSet<u32> {
        self.databases.borrow().bound.clone()
    }

    /// SB sends to a node's switch from now on; `None` = the node is gone.
    pub(super) fn serve(&self, node: NodeIndex, switch: Option<&Rc<Switch>>) {
        let mut switches = self.switches.borrow_mut();
        match switch {
            Some(switch) => switches.insert(node, switch.clone()),
            None => switches.remove(&node),
        };
    }

    /// Commits a change; false when a leader died over it.
    pub(super) async fn transact(&self, port: &Port, op: NbOp) -> bool {
        let answer = Rc::new(Cell::new(None));
        self.waiting.borrow_mut().push_back(Transaction {
            op,
            sender: port.id,
            answer: answer.clone(),
        });
        wake(self.nb.get(), port);
        let committed = loop {
            match answer.get() {
                Some(committed) => break committed,
                None => port.park().await,
            }
        };
        // The answer travels; the way there is counted here too.
        port.sleep(self.env.one_way * 2).await;
        committed
    }

    /// An ovn-controller claims ports: a write to SB, which ovn-northd hears of.
    pub(super) fn claim(&self, port: &Port) {
        self.load_sb(port);
        self.wake_northd(port);
    }

    /// Something that ovn-northd computes from has changed.
    fn wake_northd(&self, port: &Port) {
        self.dirty.set(true);
        wake(self.northd.get(), port);
    }

    /// CPU that nobody waits for.
    fn load_sb(&self, port: &Port) {
        let node = self.roles.get().sb;
        if self.env.is_up(node) {
            let demand = self.env.parameters.nb_cpu;
            port.spawn(NewProcess {
                node,
                call: None,
                client: None,
                script: Box::new(move |port| Box::pin(async move { port.cpu(demand).await })),
            });
        }
    }

    /// The time until a Raft log has an entry on a majority.
    fn commit_time(&self) -> Duration {
        let members = self.env.masters().len();
        let span = self.env.log_sync;
        let mut draws = self.draws.borrow_mut();
        let mut sync = || draws.duration(span.min..=span.max);
        let leader = sync();
        let follower = (1..members).map(|_| sync()).min();
        follower.map_or(leader, |time| leader.max(time + self.env.peer_round_trip))
    }

    fn process<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        node: NodeIndex,
        script: impl FnOnce(Rc<Self>, Port) -> F + 'static,
    ) -> NewProcess {
        let central = self.clone();
        NewProcess {
            node,
            call: None,
            client: None,
            script: Box::new(move |port| Box::pin(script(central, port))),
        }
    }

    /// The leaders of NB and of ovn-northd, those whose machine is up.
    pub(super) fn leaders(self: &Rc<Self>) -> Vec<NewProcess> {
        let Roles { nb, northd, .. } = self.roles.get();
        let mut leaders = Vec::new();
        if self.env.is_up(nb) {
            leaders.push(self.process(nb, Self::run_nb));
        }
        if self.env.is_up(northd) {
            leaders.push(self.process(northd, Self::run_northd));
        }
        leaders
    }

    /// The leader of NB, forever.
    async fn run_nb(self: Rc<Self>, port: Port) {
        let _member = self.group.join(&port, None);
        self.nb.set(Some(port.id));
        loop {
            let Some(op) = self.begin() else {
                port.park().await;
                continue;
            };
            port.cpu(self.env.parameters.nb_cpu).await;
            if self.databases.borrow().changes_nothing(op) {
                self.env.count("nb_transactions_idle");
                self.answer(&port, true);
            } else {
                port.sleep(self.commit_time()).await;
                self.env.count("nb_transactions");
                self.databases.borrow_mut().apply(op);
                self.answer(&port, true);
                self.wake_northd(&port);
            }
            port.give_way().await;
        }
    }

    /// Takes the next transaction, unless one is under way.
    fn begin(&self) -> Option<NbOp> {
        let mut current = self.current.borrow_mut();
        if current.is_some() {
            return None;
        }
        *current = self.waiting.borrow_mut().pop_front();
        current.as_ref().map(|transaction| transaction.op)
    }

    fn answer(&self, port: &Port, committed: bool) {
        let current = self.current.borrow_mut().take();
        let transaction = current.expect("an answer belongs to the transaction under way");
        assert!(transaction.answer.get().is_none(), "it is answered once");
        transaction.answer.set(Some(committed));
        port.wake(transaction.sender);
    }

    /// The active ovn-northd, forever: each loop computes all ports that it finds at its start.
    async fn run_northd(self: Rc<Self>, port: Port) {
        let _member = self.group.join(&port, None);
        self.northd.set(Some(port.id));
        let parameters = &self.env.parameters;
        loop {
            if !self.dirty.take() {
                port.park().await;
                continue;
            }
            self.env.count("northd_loops");
            let seen = self.databases.borrow().ports.clone();
            let demand = parameters.northd_base + parameters.northd_port_cpu * self.port_count();
            port.cpu(demand).await;
            let (new, gone): (Vec<u32>, Vec<u32>) = {
                let databases = self.databases.borrow();
                let bound = &databases.bound;
                let new = seen.difference(bound).copied().collect();
                (new, bound.difference(&seen).copied().collect())
            };
            if !new.is_empty() || !gone.is_empty() {
                self.load_sb(&port);
                let time = self.commit_time() + self.env.one_way;
                port.spawn(self.process(self.roles.get().sb, move |central, port| {
                    central.publish(port, time, new, gone)
                }));
            }
        }
    }

    /// A result of ovn-northd becomes durable in SB, which sends it to every node.
    async fn publish(self: Rc<Self>, port: Port, time: Duration, new: Vec<u32>, gone: Vec<u32>) {
        let _member = self.group.join(&port, None);
        port.sleep(time).await;
        {
            let mut databases = self.databases.borrow_mut();
            databases.bound.extend(&new);
            for name in &gone {
                databases.bound.remove(name);
            }
        }
        for switch in self.switches.borrow().values() {
            switch.learn(&port, &new, &gone);
        }
    }

    /// Whether a machine leads something.
    pub(super) fn leads(&self, node: NodeIndex) -> bool {
        self.roles.get().all().contains(&node)
    }

    /// Leading processes were interrupted by the death of a machine: those that are left begin
    /// anew, and after a while the dead one's roles move.
    pub(super) fn interrupted(self: &Rc<Self>, dead: NodeIndex) -> Vec<NewProcess> {
        assert!(self.leads(dead), "only a leader's death interrupts");
        assert!(self.group.members().is_empty(), "they were killed");
        self.dirty.set(false);
        let mut started = self.leaders();
        started.push(self.process(dead, Self::fail_over));
        started
    }

    async fn fail_over(self: Rc<Self>, port: Port) {
        let _member = self.group.join(&port, None);
        let up = loop {
            port.sleep(self.env.parameters.nb_failover).await;
            if let Some(up) = self.env.living_master() {
                break up;
            }
        };
        let before = self.roles.get();
        let heir = |role| if self.env.is_up(role) { role } else { up };
        let roles = Roles {
            nb: heir(before.nb),
            sb: heir(before.sb),
            northd: heir(before.northd),
        };
        self.roles.set(roles);
        assert!(roles.all().iter().all(|role| self.env.is_up(*role)));
        // Connections to NB are recreated: what is under way fails.
        if let Some(nb) = self.nb.take() {
            port.kill(nb);
        }
        if self.current.borrow().is_some() {
            self.answer(&port, false);
        }
        port.spawn(self.process(roles.nb, Self::run_nb));
        self.wake_northd(&port);
        if roles.northd != before.northd {
            port.spawn(self.process(roles.northd, Self::run_northd));
        }
    }
}

/// Wakes a process of the leader, if there is one.
fn wake(process: Option<ProcessId>, port: &Port) {
    if let Some(process) = process {
        port.wake(process);
    }
}
