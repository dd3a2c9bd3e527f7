//! Kube-OVN v1.12.2 as the cluster's network plugin: one leading controller allocates in memory and
//! publishes each address by API and NB writes; on each node a daemon polls for the Pod's
//! annotations, wires the interface with `ovs-vsctl` and pings the gateway until OVN has the flows.
//!
//! Paths in this folder refer to kubeovn/kube-ovn at tag v1.12.2.
//!
//! Modeled, by file:
//! - [`controller`]: leadership and the leader's processes; [`leader`]: what they share;
//!   [`events`]: informers, and how events become queue items (pkg/controller/pod.go:172-347);
//!   [`items`]: the workers of the rate-limited queues (controller.go:307-418).
//! - [`sync`]: pass A (allocate) and pass B (route) of a Pod (pod.go:483-910).
//! - [`release`]: deletion of Pods, garbage collection of ports, the inspector (pod.go:925-1052,
//!   gc.go:25-390, inspection.go:17-76).
//! - [`status`]: subnet (and `IPPool`) status, one update in flight (subnet.go:861-890,2044-2133).
//! - [`subnet`]: the in-memory allocator (pkg/ipam).
//! - [`central`]: NB transactions one after another through Raft, ovn-northd's full loops, SB
//!   ([`databases`]).
//! - [`switch`], [`chassis`]: ovs-vswitchd and ovn-controller of a node.
//! - [`plugin`], [`server`], [`wiring`]: CNI ADD and DEL, from the binaries through the daemon's
//!   server to the data plane (pkg/daemon/handler.go, ovs_linux.go); [`daemon`]: its background
//!   load.
//!
//! A CPU limit of one core (controller, daemon with its children, ovs-ovn; dist/images/install.sh)
//! is modeled as one job at a time on the machine's cores, first come first served. Databases,
//! ovn-northd and apiservers share the masters' cores. NB and SB sync their logs as fast as etcd
//! does (`etcd.fsync`, or the disk of the master itself: `etcd.on_node_disk`).
//!
//! Not modeled: Lease requests of the election (their outcome is), MAC addresses, static and
//! reserved addresses, VIPs and EIPs, several NICs, `libovsdb`'s replica lag (a port group that is
//! not updated has no effect on addresses), `IP` objects swept at a later release, the kernel's
//! data path beyond the time it takes, the ten-minute recompute of ovn-controller.

mod central;
mod chassis;
mod controller;
mod daemon;
mod databases;
mod env;
mod events;
mod group;
mod informer;
mod items;
mod leader;
mod objects;
mod parameters;
mod plugin;
mod queue;
mod release;
mod server;
mod status;
mod subnet;
mod switch;
mod sync;
mod wiring;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::apiserver::ApiServers;
use crate::cni::{IpamCall, NodeChange};
use crate::context::Context;
use crate::ids::{IpamCallId, NodeIndex, WatchId};
use crate::ipam::{Allocated, AllocatedTo, Ipam, IpamFault};
use crate::parameters::{ParameterError, Table};
use crate::process::{Owner, Processes};
use crate::request::{Change, Response};

use self::central::Central;
use self::controller::Control;
use self::daemon::Host;
use self::env::Env;
use self::parameters::KubeOvnParameters;
use self::subnet::Subnet;
use self::switch::Switch;

use super::Pool;

/// The allocator.
pub struct KubeOvn {
    env: Rc<Env>,
    subnet: Rc<RefCell<Subnet>>,
    /// OVN central and the controller, once they are installed.
    masters: Option<(Rc<Central>, Rc<Control>)>,
    hosts: BTreeMap<NodeIndex, Rc<Host>>,
    processes: Processes,
}

impl KubeOvn {
    /// Whether its constants can be read.
    /// Errors: one that is missing, of a wrong unit, or unreadable.
    pub(super) fn check_constants(table: &Table) -> Result<(), ParameterError> {
        KubeOvnParameters::read(table).map(drop)
    }

    /// A cluster whose one subnet (or `IPPool`) has these addresses.
    /// Errors: a constant of its own that is missing or unreadable.
    pub fn new(pool: Pool, table: &Table) -> Result<Self, ParameterError> {
        Ok(Self {
            env: Rc::new(Env::read(table)?),
            subnet: Rc::new(RefCell::new(Subnet::new(pool))),
            masters: None,
            hosts: BTreeMap::new(),
            processes: Processes::new(Owner::Ipam),
        })
    }

    fn central(&self) -> &Rc<Central> {
        &self.masters.as_ref().expect("OVN was installed").0
    }

    fn control(&self) -> &Rc<Control> {
        &self.masters.as_ref().expect("OVN was installed").1
    }

    /// A machine is up: its switch and its daemon start.
    fn machine_up(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let central = self.central().clone();
        let switch = Rc::new(Switch::new(&self.env, node, central.bound()));
        central.serve(node, Some(&switch));
        if let Some(host) = self.hosts.get(&node) {
            host.boot(switch.clone());
        } else {
            let name = context.core.machine(node).node_name.clone();
            let entity = u64::from(node.0);
            let draws = context.core.streams.stream("kube-ovn", entity, "daemon");
            let host = Host::new(&self.env, switch.clone(), name, draws);
            self.hosts.insert(node, Rc::new(host));
        }
        let vswitchd = switch.process(Switch::vswitchd);
        self.processes.start(vswitchd, context);
        let ovn_controller = switch.process(|switch, port| chassis::run(switch, central, port));
        self.processes.start(ovn_controller, context);
        let host = &self.hosts[&node];
        if self.env.is_up(node) {
            self.processes.start(host.start(), context);
        }
    }

    /// The machine died, with everything on it; leaders elsewhere notice.
    fn machine_down(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.hosts[&node].stop();
        self.central().serve(node, None);
        self.processes.kill_node(node, context);
        let central = self.central().clone();
        if central.leads(node) {
            self.processes.kill_all(central.group.members(), context);
            for process in central.interrupted(node) {
                self.processes.start(process, context);
            }
        }
        let successor = self.control().clone().lost(node, context);
        if let Some(successor) = successor {
            self.processes.start(successor, context);
        }
    }
}

impl Ipam for KubeOvn {
    fn name(&self) -> &'static str {
        "kube-ovn"
    }

    fn is_network_plugin(&self) -> bool {
        true
    }

    fn start(&mut self, context: &mut Context<'_>) {
        for node in 0..context.core.machines.len() {
            self.env.note_machine(NodeIndex(node as u32), context);
        }
        let central = Rc::new(Central::new(&self.env, context));
        let control = Control::install(&self.env, &central, &self.subnet, context);
        let control = Rc::new(control);
        for leader in central.leaders() {
            self.processes.start(leader, context);
        }
        self.processes.start(control.lead(), context);
        self.masters = Some((central, control));
        for node in 0..context.core.machines.len() {
            self.machine_up(NodeIndex(node as u32), context);
        }
    }

    fn ready(&self) -> bool {
        let leader = self.control().leader();
        let leads = leader.is_some_and(|leader| leader.pods.borrow().synced);
        let is_synced = |host: &Rc<Host>| {
            let daemon = host.daemon();
            daemon.is_some_and(|daemon| daemon.pods.borrow().synced)
        };
        leads && self.hosts.values().all(is_synced)
    }

    /// What the leading controller's allocator holds in memory: by the name of a Pod, from the
    /// Pod's creation on, and for a StatefulSet's Pod beyond its end.
    fn allocated(&self, api: &ApiServers) -> Vec<Allocated> {
        let mut allocated = Vec::new();
        let subnet = self.subnet.borrow();
        for name in subnet.names() {
            let pod = self.env.full(name);
            let ip = api.custom(objects::IPS, &objects::ip_name(&pod));
            let holder = if ip.is_some_and(|ip| objects::is_sticky(ip)) {
                AllocatedTo::Workload
            } else {
                AllocatedTo::PodName(pod.0, pod.1)
            };
            let addresses = subnet.addresses(name).into_iter();
            allocated.extend(addresses.map(|address| Allocated {
                address,
                holder: holder.clone(),
            }));
        }
        allocated
    }

    fn call(&mut self, call: IpamCall, context: &mut Context<'_>) {
        let host = &self.hosts[&call.node];
        let process = plugin::plugin(host, call);
        self.processes.execute(process, context);
    }

    fn killed(&mut self, _node: NodeIndex, call: IpamCallId, context: &mut Context<'_>) {
        self.processes.killed(call, context);
    }

    fn response(&mut self, token: u64, response: Response, context: &mut Context<'_>) {
        self.processes.response(token, response, context);
    }

    fn watch(&mut self, token: u64, watch: WatchId, change: Change, context: &mut Context<'_>) {
        self.processes.told(token, watch, change, context);
    }

    fn timer(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        self.processes.resume(token, context);
    }

    fn cpu_done(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        self.processes.resume(token, context);
    }

    fn node_changed(&mut self, node: NodeIndex, change: NodeChange, context: &mut Context<'_>) {
        match change {
            NodeChange::Down => {
                self.env.note_machine(node, context);
                self.machine_down(node, context);
            }
            NodeChange::Up | NodeChange::Joined => {
                self.env.note_machine(node, context);
                self.machine_up(node, context);
            }
            NodeChange::NetnsPresent(_) | NodeChange::NetnsGone(_) => {}
        }
    }

    fn inject(&mut self, fault: IpamFault, context: &mut Context<'_>) {
        if let IpamFault::KillAgent {
            node,
            restart_after,
        } = fault
        {
            let host = self.hosts[&node].clone();
            if let Some(daemon) = host.stop() {
                self.processes.kill_all(daemon.group.members(), context);
            }
            self.processes.start(host.restart(restart_after), context);
        }
    }

    fn is_down(&self, node: NodeIndex) -> bool {
        let host = self.hosts.get(&node);
        host.is_some_and(|host| host.daemon().is_none())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut totals = self.env.totals();
        totals.push(("addresses_held", self.subnet.borrow().held_count()));
        totals
    }
}

#[cfg(test)]
mod tests;
