//! The switch of one node: ovs-vswitchd and the local database, in a process group of one core, and
//! what ovn-controller ([`super::chassis`]) knows there. A write of `ovs-vsctl` waits for the loop
//! of ovs-vswitchd that applies it.
//!
//! Not modeled: installation of flows as a time of its own, several ports of one name.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::ids::{ContainerId, NodeIndex};
use crate::process::{NewProcess, Port, ProcessId};

use super::env::Env;
use super::group::OneCore;

/// Ports and interfaces.
#[derive(Debug, Default)]
struct Tables {
    /// Ports of the whole cluster that ovn-controller has heard of.
    known: BTreeSet<u32>,
    /// Of them, not yet computed.
    fresh: u32,
    /// Local interfaces by the name of their Pod.
    interfaces: BTreeMap<u32, ContainerId>,
    /// Interfaces whose flows exist.
    ready: BTreeSet<u32>,
}

/// Somebody who waits until something was done for it.
#[derive(Clone)]
struct Waiter {
    process: ProcessId,
    done: Rc<Cell<bool>>,
}

impl Waiter {
    fn new(port: &Port) -> Self {
        Self {
            process: port.id,
            done: Rc::default(),
        }
    }

    async fn wait(&self, port: &Port) {
        assert_eq!(self.process, port.id, "each waits for its own");
        while !self.done.get() {
            port.park().await;
        }
    }

    fn wake(&self, port: &Port) {
        self.done.set(true);
        port.wake(self.process);
    }
}

/// The switch of a node, from one boot of its machine to the next.
pub(super) struct Switch {
    env: Rc<Env>,
    pub(super) node: NodeIndex,
    pub(super) core: OneCore,
    tables: RefCell<Tables>,
    /// ovn-controller, and whether it has something to do.
    pub(super) controller: Cell<Option<ProcessId>>,
    pub(super) asked: Cell<bool>,
    vswitchd: Cell<Option<ProcessId>>,
    /// Writes that wait for the next loop of ovs-vswitchd.
    writes: RefCell<Vec<Waiter>>,
}

impl Switch {
    /// A switch that has read what SB has.
    pub(super) fn new(env: &Rc<Env>, node: NodeIndex, known: BTreeSet<u32>) -> Self {
        Self {
            env: env.clone(),
            node,
            core: OneCore::new(),
            tables: RefCell::new(Tables {
                known,
                ..Tables::default()
            }),
            controller: Cell::default(),
            asked: Cell::default(),
            vswitchd: Cell::default(),
            writes: RefCell::default(),
        }
    }

    /// A process on the switch's machine.
    pub(super) fn process<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        script: impl FnOnce(Rc<Self>, Port) -> F + 'static,
    ) -> NewProcess {
        let switch = self.clone();
        NewProcess {
            node: self.node,
            call: None,
            client: None,
            script: Box::new(move |port| Box::pin(script(switch, port))),
        }
    }

    /// ovs-vswitchd, forever: each loop applies the writes that have come until it begins.
    pub(super) async fn vswitchd(self: Rc<Self>, port: Port) {
        self.vswitchd.set(Some(port.id));
        loop {
            let writes = std::mem::take(&mut *self.writes.borrow_mut());
            if writes.is_empty() {
                port.park().await;
                continue;
            }
            let demand = self.env.parameters.vswitchd_cpu;
            self.core.run(&port, demand).await;
            // They go on once this process has asked for its next loop.
            for write in writes {
                write.wake(&port);
            }
        }
    }

    /// A write reached the local database: it is answered once ovs-vswitchd has applied it.
    pub(super) async fn reconfigure(&self, port: &Port) {
        let write = Waiter::new(port);
        self.writes.borrow_mut().push(write.clone());
        port.wake(self.vswitchd.get().expect("ovs-vswitchd runs on a node"));
        write.wait(port).await;
    }

    /// A command of `ovs-vsctl` in the local database, which goes on with it when the asker dies.
    pub(super) async fn query(self: &Rc<Self>, port: &Port) {
        let asker = Waiter::new(port);
        let answer = asker.clone();
        port.spawn(self.process(async move |switch: Rc<Self>, port: Port| {
            let demand = switch.env.parameters.ovsdb_cpu;
            switch.core.run(&port, demand).await;
            answer.wake(&port);
        }));
        asker.wait(port).await;
    }

    /// Whether a Pod's flows exist.
    pub(super) fn is_ready(&self, name: u32) -> bool {
        self.tables.borrow().ready.contains(&name)
    }

    /// SB has sent what is new and what is gone.
    pub(super) fn learn(&self, port: &Port, new: &[u32], gone: &[u32]) {
        let mut tables = self.tables.borrow_mut();
        tables.known.extend(new);
        tables.fresh += new.len() as u32;
        for name in gone {
            tables.known.remove(name);
            tables.ready.remove(name);
        }
        self.ask_controller(port);
    }

    fn ask_controller(&self, port: &Port) {
        self.asked.set(true);
        port.wake(
            self.controller
                .get()
                .expect("ovn-controller runs on a node"),
        );
    }

    /// An interface with the name of a Pod's port appeared; ovn-controller is at it.
    pub(super) async fn add_interface(&self, port: &Port, name: u32, container: ContainerId) {
        {
            let mut tables = self.tables.borrow_mut();
            tables.interfaces.insert(name, container);
            tables.ready.remove(&name);
        }
        self.ask_controller(port);
        port.give_way().await;
    }

    /// `del-port`: nothing happens when a later sandbox of the Pod has the port.
    pub(super) async fn remove_interface(&self, port: &Port, name: u32, container: ContainerId) {
        {
            let mut tables = self.tables.borrow_mut();
            if tables.interfaces.get(&name) != Some(&container) {
                return;
            }
            tables.interfaces.remove(&name);
            tables.ready.remove(&name);
        }
        self.ask_controller(port);
        port.give_way().await;
    }

    /// What a loop of ovn-controller has to compute: interfaces without flows whose port it has
    /// heard of, and its CPU.
    pub(super) fn to_compute(&self) -> (BTreeSet<u32>, Duration) {
        let mut tables = self.tables.borrow_mut();
        let waiting = (tables.interfaces.keys())
            .filter(|name| tables.known.contains(name) && !tables.ready.contains(name))
            .copied()
            .collect();
        let fresh = std::mem::take(&mut tables.fresh);
        let parameters = &self.env.parameters;
        let demand = parameters.ovn_controller_base + parameters.ovn_controller_port_cpu * fresh;
        (waiting, demand)
    }

    /// Those that are still there have their flows; whether there was one.
    pub(super) fn computed(&self, waiting: BTreeSet<u32>) -> bool {
        let mut tables = self.tables.borrow_mut();
        let still =
            |name: &u32| tables.interfaces.contains_key(name) && tables.known.contains(name);
        let ready: Vec<u32> = waiting.into_iter().filter(still).collect();
        tables.ready.extend(&ready);
        assert!(
            (tables.ready.iter()).all(|name| tables.interfaces.contains_key(name)),
            "flows are of local interfaces"
        );
        !ready.is_empty()
    }
}
