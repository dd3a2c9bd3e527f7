//! What every process of Kube-OVN knows: its constants, names as numbers, totals for the record,
//! and which machines are up. It decides nothing and waits for nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::ids::NodeIndex;
use crate::parameters::{
    ClientParameters, EtcdParameters, NetParameters, NodeParameters, ParameterError, Span, Table,
};

use super::informer::Names;
use super::parameters::KubeOvnParameters;

/// One machine, as far as the leaders are concerned.
#[derive(Clone, Copy, Debug)]
struct Standing {
    master: bool,
    up: bool,
}

/// What all processes know.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) parameters: KubeOvnParameters,
    /// CPU of the execution of a plugin binary.
    pub(super) exec_cpu: Duration,
    /// One sync of the log of NB or SB.
    pub(super) log_sync: Span,
    /// Between two members of a Raft cluster, there and back.
    pub(super) peer_round_trip: Duration,
    /// One way through the network.
    pub(super) one_way: Duration,
    /// Before an informer lists again.
    pub(super) list_again: Duration,
    names: RefCell<Names>,
    totals: RefCell<BTreeMap<&'static str, u64>>,
    machines: RefCell<BTreeMap<NodeIndex, Standing>>,
}

impl Env {
    /// Errors: a constant that is missing or unreadable.
    pub(super) fn read(table: &Table) -> Result<Self, ParameterError> {
        let node = NodeParameters::read(table)?;
        let etcd = EtcdParameters::read(table)?;
        let disk = Span {
            min: node.fdatasync,
            max: node.fdatasync,
        };
        Ok(Self {
            parameters: KubeOvnParameters::read(table)?,
            exec_cpu: node.exec_cpu,
            log_sync: if etcd.on_node_disk { disk } else { etcd.fsync },
            peer_round_trip: etcd.peer_round_trip,
            one_way: NetParameters::read(table)?.one_way,
            list_again: ClientParameters::read(table)?.reflector_backoff.min,
            names: RefCell::default(),
            totals: RefCell::default(),
            machines: RefCell::default(),
        })
    }

    /// Counts one of something.
    pub(super) fn count(&self, what: &'static str) {
        *self.totals.borrow_mut().entry(what).or_insert(0) += 1;
    }

    /// Totals by name.
    pub(super) fn totals(&self) -> Vec<(&'static str, u64)> {
        let totals = self.totals.borrow();
        totals.iter().map(|(name, count)| (*name, *count)).collect()
    }

    /// Names of Pods as numbers.
    pub(super) fn names(&self) -> std::cell::RefMut<'_, Names> {
        self.names.borrow_mut()
    }

    /// Namespace and name of a number.
    pub(super) fn full(&self, name: u32) -> (Rc<str>, Rc<str>) {
        self.names.borrow().full(name)
    }

    /// A machine came or went.
    pub(super) fn note_machine(&self, node: NodeIndex, context: &mut Context<'_>) {
        let machine = context.core.machine(node);
        let standing = Standing {
            master: machine.control_plane,
            up: machine.up,
        };
        self.machines.borrow_mut().insert(node, standing);
    }

    /// Whether a machine has power.
    pub(super) fn is_up(&self, node: NodeIndex) -> bool {
        let machines = self.machines.borrow();
        machines.get(&node).is_some_and(|machine| machine.up)
    }

    /// Machines that carry the control plane, by index.
    pub(super) fn masters(&self) -> Vec<NodeIndex> {
        let machines = self.machines.borrow();
        let masters = machines.iter().filter(|(_, machine)| machine.master);
        masters.map(|(node, _)| *node).collect()
    }

    /// The first of them that is up.
    pub(super) fn living_master(&self) -> Option<NodeIndex> {
        self.masters().into_iter().find(|node| self.is_up(*node))
    }
}
