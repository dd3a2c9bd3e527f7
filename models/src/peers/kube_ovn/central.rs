//! OVN central on the masters: NB transactions one after another, each through CPU and a Raft
//! commit; ovn-northd, whose every loop computes all ports anew; the SB database.
//!
//! Each of the three leads on a master of its own choice. A master that dies loses its role after a
//! while to the first that is up; transactions under way fail. The log of a database is synced like
//! etcd's; the prerequisite of an OVSDB transaction lets only one be under way.
//! Source: OVN branch-22.12, OVS branch-3.1 (dist/images/Dockerfile.base:11,30), one northd thread
//! (dist/images/install.sh:3264-3265).

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use drydock_engine::stream::Stream;

use super::{KubeOvn, Wait};
use crate::context::Context;
use crate::event::CpuToken;
use crate::ids::NodeIndex;

/// A change of the NB database, by the name of the Pod whose port it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NbOp {
    /// `lsp-add`.
    AddPort(u32),
    /// `pg-ports-update`: the port joins the port group of its subnet and node.
    JoinGroup(u32),
    /// `lsp-del`.
    DeletePort(u32),
}

/// What the central processes wait for.
#[derive(Clone, Debug)]
pub(super) enum CentralStep {
    /// A transaction was checked.
    Checked,
    /// It is durable.
    Committed,
    /// A loop of ovn-northd ended.
    Looped,
    /// Its result is durable in SB: new ports, and ports that are gone.
    Published(Vec<u32>, Vec<u32>),
    /// A dead master's roles are taken over.
    Failover,
}

/// The databases and ovn-northd.
#[derive(Debug)]
pub(super) struct Central {
    pub(super) epoch: u32,
    /// Masters that lead NB, SB, and run the active ovn-northd.
    roles: [NodeIndex; 3],
    /// Logical switch ports in NB.
    pub(super) ports: BTreeSet<u32>,
    /// Of them, those in a port group.
    grouped: BTreeSet<u32>,
    /// Ports that SB has.
    pub(super) bound: BTreeSet<u32>,
    /// What a loop of ovn-northd has seen.
    seen: BTreeSet<u32>,
    waiting: VecDeque<(NbOp, Wait)>,
    current: Option<(NbOp, Wait)>,
    looping: bool,
    dirty: bool,
    draws: Option<Stream>,
}

impl Central {
    /// A port that an earlier run has left.
    pub(super) fn has(&mut self, name: u32) {
        self.ports.insert(name);
        self.grouped.insert(name);
        self.bound.insert(name);
    }

    /// Nothing is stored, nobody leads.
    pub(super) fn new() -> Self {
        Self {
            epoch: 0,
            roles: [NodeIndex(0); 3],
            ports: BTreeSet::new(),
            grouped: BTreeSet::new(),
            bound: BTreeSet::new(),
            seen: BTreeSet::new(),
            waiting: VecDeque::new(),
            current: None,
            looping: false,
            dirty: false,
            draws: None,
        }
    }
}

const NB: usize = 0;
const SB: usize = 1;
const NORTHD: usize = 2;

impl KubeOvn {
    pub(super) fn central_start(&mut self, context: &mut Context<'_>) {
        let masters = masters(context);
        let mut draws = context.core.streams.stream("kube-ovn", 0, "central");
        for role in &mut self.central.roles {
            *role = *draws.pick(&masters);
        }
        self.central.draws = Some(draws);
    }

    /// The wait of a central process.
    fn centrally(&self, step: CentralStep) -> Wait {
        Wait::Central {
            epoch: self.central.epoch,
            step,
        }
    }

    /// Sends a transaction; its answer is [`super::Signal::Nb`].
    pub(super) fn transact(&mut self, op: NbOp, wait: Wait, context: &mut Context<'_>) {
        self.central.waiting.push_back((op, wait));
        self.next_transaction(context);
    }

    fn next_transaction(&mut self, context: &mut Context<'_>) {
        let node = self.central.roles[NB];
        if self.central.current.is_some() || !context.core.machine(node).up {
            return;
        }
        self.central.current = self.central.waiting.pop_front();
        if self.central.current.is_some() {
            let demand = self.parameters.nb_cpu;
            let wait = self.centrally(CentralStep::Checked);
            self.cpu(node, demand, wait, context);
        }
    }

    /// The time until a Raft log has an entry on a majority.
    fn commit_time(&mut self, context: &mut Context<'_>) -> Duration {
        let members = masters(context).len();
        let parameters = context.core.parameters;
        let span = parameters.log_sync();
        let draws = self.central.draws.as_mut().expect("it was started");
        let mut sync = || draws.duration(span.min..=span.max);
        let leader = sync();
        let follower = (1..members).map(|_| sync()).min();
        follower.map_or(leader, |time| {
            leader.max(time + parameters.etcd.peer_round_trip)
        })
    }

    pub(super) fn central_step(&mut self, step: CentralStep, context: &mut Context<'_>) {
        match step {
            CentralStep::Checked if self.changes_nothing() => {
                // An insertion of what is there: no entry in the log.
                let transaction = self.central.current.take();
                let (_, wait) = transaction.expect("a check belongs to one under way");
                self.totals.add("nb_transactions_idle");
                self.answer_transaction(wait, true, context);
                self.next_transaction(context);
            }
            CentralStep::Checked => {
                let time = self.commit_time(context);
                let wait = self.centrally(CentralStep::Committed);
                self.after(self.central.roles[NB], time, wait, context);
            }
            CentralStep::Committed => self.committed(context),
            CentralStep::Looped => self.looped(context),
            CentralStep::Published(new, gone) => {
                for name in &new {
                    self.central.bound.insert(*name);
                }
                for name in &gone {
                    self.central.bound.remove(name);
                }
                let nodes: Vec<NodeIndex> = self.daemons.keys().copied().collect();
                for node in nodes {
                    self.switch_learns(node, &new, &gone, context);
                }
            }
            CentralStep::Failover => self.fail_over(context),
        }
    }

    fn changes_nothing(&self) -> bool {
        match self.central.current {
            Some((NbOp::JoinGroup(name), _)) => self.central.grouped.contains(&name),
            Some((NbOp::AddPort(name), _)) => self.central.ports.contains(&name),
            Some((NbOp::DeletePort(name), _)) => !self.central.ports.contains(&name),
            None => false,
        }
    }

    fn committed(&mut self, context: &mut Context<'_>) {
        let (op, wait) = self
            .central
            .current
            .take()
            .expect("a commit belongs to the transaction under way");
        self.totals.add("nb_transactions");
        match op {
            NbOp::AddPort(name) => {
                self.central.ports.insert(name);
            }
            NbOp::DeletePort(name) => {
                self.central.ports.remove(&name);
                self.central.grouped.remove(&name);
            }
            NbOp::JoinGroup(name) => {
                self.central.grouped.insert(name);
            }
        }
        self.answer_transaction(wait, true, context);
        self.wake_northd(context);
        self.next_transaction(context);
    }

    /// The answer travels; the way there is counted here too.
    fn answer_transaction(&mut self, then: Wait, ok: bool, context: &mut Context<'_>) {
        let then = Box::new(then);
        let way = context.core.parameters.net.one_way * 2;
        let node = self.central.roles[NB];
        self.after(node, way, Wait::Reply { ok, then }, context);
    }

    /// Something that ovn-northd computes from has changed.
    pub(super) fn wake_northd(&mut self, context: &mut Context<'_>) {
        let node = self.central.roles[NORTHD];
        self.central.dirty = true;
        if self.central.looping || !context.core.machine(node).up {
            return;
        }
        self.central.dirty = false;
        self.central.looping = true;
        self.central.seen = self.central.ports.clone();
        self.totals.add("northd_loops");
        let parameters = &self.parameters;
        let ports = u32::try_from(self.central.seen.len()).unwrap_or(u32::MAX);
        let demand = parameters.northd_base + parameters.northd_port_cpu * ports;
        let wait = self.centrally(CentralStep::Looped);
        self.cpu(node, demand, wait, context);
    }

    fn looped(&mut self, context: &mut Context<'_>) {
        self.central.looping = false;
        let central = &self.central;
        let new: Vec<u32> = central.seen.difference(&central.bound).copied().collect();
        let gone: Vec<u32> = central.bound.difference(&central.seen).copied().collect();
        if !new.is_empty() || !gone.is_empty() {
            self.load_sb(context);
            let time = self.commit_time(context) + context.core.parameters.net.one_way;
            let wait = self.centrally(CentralStep::Published(new, gone));
            self.after(self.central.roles[SB], time, wait, context);
        }
        if self.central.dirty {
            self.wake_northd(context);
        }
    }

    /// An ovn-controller claims ports: a write to SB, which ovn-northd hears of.
    pub(super) fn claim(&mut self, context: &mut Context<'_>) {
        self.load_sb(context);
        self.wake_northd(context);
    }

    fn load_sb(&mut self, context: &mut Context<'_>) {
        let node = self.central.roles[SB];
        if context.core.machine(node).up {
            let demand = self.parameters.nb_cpu;
            context.cpu(node, demand, CpuToken::Nobody);
        }
    }

    /// A machine died: its roles move after a while.
    pub(super) fn central_down(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        if self.central.roles.contains(&node) {
            self.central.epoch += 1;
            self.central.looping = false;
            let delay = self.parameters.nb_failover;
            let wait = self.centrally(CentralStep::Failover);
            self.after(node, delay, wait, context);
        }
    }

    fn fail_over(&mut self, context: &mut Context<'_>) {
        let up = masters(context)
            .into_iter()
            .find(|node| context.core.machines[node.index()].up);
        let Some(up) = up else {
            let delay = self.parameters.nb_failover;
            let wait = self.centrally(CentralStep::Failover);
            return self.after(self.central.roles[NB], delay, wait, context);
        };
        for role in &mut self.central.roles {
            if !context.core.machines[role.index()].up {
                *role = up;
            }
        }
        if let Some((_, wait)) = self.central.current.take() {
            self.answer_transaction(wait, false, context);
        }
        self.next_transaction(context);
        self.wake_northd(context);
    }
}

/// Machines that carry the control plane, by index.
pub(super) fn masters(context: &Context<'_>) -> Vec<NodeIndex> {
    let machines = context.core.machines.iter().enumerate();
    machines
        .filter(|(_, machine)| machine.control_plane)
        .map(|(index, _)| NodeIndex(index as u32))
        .collect()
}
