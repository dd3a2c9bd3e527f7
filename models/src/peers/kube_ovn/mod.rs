//! Kube-OVN v1.12.2 as the cluster's network plugin: one leading controller that allocates in
//! memory and publishes each address by API and NB writes, and on each node a daemon that waits for
//! the Pod's annotations by polling, wires the interface with `ovs-vsctl` and pings the gateway
//! until OVN has the flows.
//!
//! Paths in this folder are of kubeovn/kube-ovn at tag v1.12.2.
//!
//! Modelled, by file:
//! - [`controller`]: leadership, informers, events (pkg/controller/pod.go:172-347); [`items`]: the
//!   rate-limited queues with their workers and hashed lock (controller.go:307-418).
//! - [`sync`]: pass A (allocate) and pass B (route) of a Pod (pod.go:483-910).
//! - [`release`]: deletion of Pods, garbage collection of ports, the inspector (pod.go:925-1052,
//!   gc.go:25-390, inspection.go:17-76).
//! - [`status`]: subnet (and `IPPool`) status, one update in flight (subnet.go:861-890,2044-2133).
//! - [`subnet`]: the in-memory allocator (pkg/ipam).
//! - [`central`]: NB transactions one after another through Raft, ovn-northd's full loops, SB.
//! - [`switch`]: ovs-vswitchd and ovn-controller of a node.
//! - [`daemon`], [`plugin`], [`wiring`]: CNI ADD and DEL (pkg/daemon/handler.go, ovs_linux.go), the
//!   daemon's background load.
//!
//! A CPU limit of one core (controller, daemon with its children, ovs-ovn; dist/images/install.sh)
//! is one job at a time on the machine's cores, first come first served. Databases, ovn-northd
//! and apiservers share the masters' cores. NB and SB sync their logs as fast as etcd does
//! (`etcd.fsync`, or the disk of the master itself: `etcd.on_node_disk`).
//!
//! Not modelled: Lease requests of the election (their outcome is), MAC addresses, static and
//! reserved addresses, VIPs and EIPs, several NICs, `libovsdb`'s replica lag (a port group that is
//! not updated has no effect on addresses), `IP` objects swept at a later release, the kernel's
//! data path beyond the time it takes, the ten-minute recompute of ovn-controller.

mod central;
mod controller;
mod daemon;
mod informer;
mod items;
mod objects;
mod parameters;
mod plugin;
mod queue;
mod release;
mod status;
mod subnet;
mod switch;
mod sync;
mod wiring;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use self::central::{Central, CentralStep};
use self::controller::{ControlStep, Controller};
use self::daemon::{Daemon, DaemonStep};
use self::informer::Names;
use self::subnet::Subnet;
use self::switch::SwitchStep;
use super::Pool;
use crate::apiserver::ApiServers;
use crate::cni::{IpamCall, NodeChange};
use crate::context::Context;
use crate::event::CpuToken;
use crate::ids::{ClientId, IpamCallId, NodeIndex, WatchId};
use crate::ipam::{Allocated, AllocatedTo, Ipam, IpamFault};
use crate::parameters::{ParameterError, Table};
use crate::request::{
    Change, ClientClass, ClientSpec, ReplyTo, Request, Response, WatchOwner, WatchTarget,
};

use self::parameters::KubeOvnParameters;

/// Who waits for a timer, a core, an answer.
#[derive(Clone, Debug)]
enum Wait {
    /// A job of a process group that is limited to one core.
    Capped {
        core: CoreId,
        epoch: u32,
        then: Box<Wait>,
    },
    /// The answer to an NB transaction is on its way back.
    Reply { ok: bool, then: Box<Wait> },
    /// The leading controller; stale when another leads.
    Control { epoch: u32, step: ControlStep },
    /// The databases and ovn-northd; stale when they moved.
    Central { epoch: u32, step: CentralStep },
    /// A daemon; stale when it restarted.
    Daemon {
        node: NodeIndex,
        epoch: u32,
        step: DaemonStep,
    },
    /// The switch of a node; stale when its machine restarted.
    Switch {
        node: NodeIndex,
        epoch: u32,
        step: SwitchStep,
    },
    /// A plugin binary, which the daemon's end does not touch.
    Plugin { node: NodeIndex, call: IpamCallId },
    /// A daemon that was killed starts again.
    Restart { node: NodeIndex },
}

/// How a wait ended.
#[derive(Clone, Debug)]
enum Signal {
    /// Time or CPU was spent.
    Go,
    /// The API answered.
    Api(Response),
    /// An NB transaction was committed, or not.
    Nb(bool),
}

/// Process groups with a limit of one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CoreId {
    /// kube-ovn-controller.
    Controller,
    /// kube-ovn-cni with the processes that it forks.
    Daemon(NodeIndex),
    /// ovs-vswitchd, ovsdb-server, ovn-controller.
    Switch(NodeIndex),
}

/// The queue before one core.
#[derive(Debug, Default)]
struct OneCore {
    busy: bool,
    epoch: u32,
    jobs: VecDeque<(NodeIndex, Duration, Wait)>,
}

/// Totals for the record.
#[derive(Debug, Default)]
struct Totals {
    counts: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn add(&mut self, what: &'static str) {
        *self.counts.entry(what).or_insert(0) += 1;
    }
}

/// The allocator.
pub struct KubeOvn {
    parameters: Rc<KubeOvnParameters>,
    controller: Controller,
    central: Central,
    daemons: BTreeMap<NodeIndex, Daemon>,
    names: Names,
    waits: BTreeMap<u64, Wait>,
    waits_made: u64,
    cores: BTreeMap<CoreId, OneCore>,
    totals: Totals,
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
            parameters: Rc::new(KubeOvnParameters::read(table)?),
            controller: Controller::new(Subnet::new(pool)),
            central: Central::new(),
            daemons: BTreeMap::new(),
            names: Names::default(),
            waits: BTreeMap::new(),
            waits_made: 0,
            cores: BTreeMap::new(),
            totals: Totals::default(),
        })
    }

    fn remember(&mut self, wait: Wait) -> u64 {
        self.waits_made += 1;
        self.waits.insert(self.waits_made, wait);
        self.waits_made
    }

    fn timer(&mut self, node: NodeIndex, at: SimInstant, wait: Wait, context: &mut Context<'_>) {
        let token = self.remember(wait);
        context.ipam_timer(node, at, token);
    }

    fn after(&mut self, node: NodeIndex, delay: Duration, wait: Wait, context: &mut Context<'_>) {
        self.timer(node, context.now() + delay, wait, context);
    }

    /// CPU of a process without a limit.
    fn cpu(&mut self, node: NodeIndex, demand: Duration, wait: Wait, context: &mut Context<'_>) {
        let token = self.remember(wait);
        context.cpu(node, demand, CpuToken::Ipam(token));
    }

    /// CPU of a process group that is limited to one core.
    fn capped(
        &mut self,
        core: CoreId,
        node: NodeIndex,
        demand: Duration,
        wait: Wait,
        context: &mut Context<'_>,
    ) {
        let state = self.cores.entry(core).or_default();
        state.jobs.push_back((node, demand, wait));
        if !state.busy {
            self.start_job(core, context);
        }
    }

    fn start_job(&mut self, core: CoreId, context: &mut Context<'_>) {
        let state = self.cores.entry(core).or_default();
        let epoch = state.epoch;
        let Some((node, demand, wait)) = state.jobs.pop_front() else {
            state.busy = false;
            return;
        };
        state.busy = true;
        let then = Box::new(wait);
        self.cpu(node, demand, Wait::Capped { core, epoch, then }, context);
    }

    /// The processes of a group died.
    fn drop_jobs(&mut self, core: CoreId) {
        let state = self.cores.entry(core).or_default();
        state.busy = false;
        state.epoch += 1;
        state.jobs.clear();
    }

    fn api(&mut self, client: ClientId, request: Request, wait: Wait, context: &mut Context<'_>) {
        let token = self.remember(wait);
        context.call(client, request, ReplyTo::Ipam { token });
    }

    fn client(&self, node: NodeIndex, class: ClientClass, context: &mut Context<'_>) -> ClientId {
        let parameters = &self.parameters;
        context.client(ClientSpec {
            node,
            class,
            limiter: Some((parameters.qps.milli_per_s, parameters.burst)),
            timeout: (class == ClientClass::IpamController).then_some(parameters.client_timeout),
            fresh_connection: true,
        })
    }

    fn end(&mut self, token: u64, signal: Signal, context: &mut Context<'_>) {
        if let Some(wait) = self.waits.remove(&token) {
            self.resume(wait, signal, context);
        }
    }

    fn resume(&mut self, wait: Wait, signal: Signal, context: &mut Context<'_>) {
        match wait {
            Wait::Capped { core, epoch, then } => {
                if self.cores.entry(core).or_default().epoch == epoch {
                    self.start_job(core, context);
                    self.resume(*then, signal, context);
                }
            }
            Wait::Reply { ok, then } => self.resume(*then, Signal::Nb(ok), context),
            Wait::Control { epoch, step } => {
                if self.controller.epoch == epoch {
                    self.control(step, signal, context);
                }
            }
            Wait::Central { epoch, step } => {
                if self.central.epoch == epoch {
                    self.central_step(step, context);
                }
            }
            Wait::Daemon { node, epoch, step } => {
                if self.daemons.get(&node).is_some_and(|d| d.epoch == epoch) {
                    self.daemon_step(node, step, signal, context);
                }
            }
            Wait::Switch { node, epoch, step } => {
                let state = self.daemons.get(&node).map(|daemon| daemon.switch.epoch);
                if state == Some(epoch) {
                    self.switch_step(node, step, context);
                }
            }
            Wait::Plugin { node, call } => self.plugin_step(node, call, context),
            Wait::Restart { node } => self.daemon_start(node, context),
        }
    }
}

/// What a watch is about; the node of a daemon stands above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    ControllerPods,
    ControllerIps,
    DaemonPods(NodeIndex),
    DaemonSubnets(NodeIndex),
}

impl Watched {
    fn token(self) -> u64 {
        match self {
            Watched::ControllerPods => 0,
            Watched::ControllerIps => 1,
            Watched::DaemonPods(node) => 2 | u64::from(node.0) << 2,
            Watched::DaemonSubnets(node) => 3 | u64::from(node.0) << 2,
        }
    }

    fn of(token: u64) -> Watched {
        let node = NodeIndex((token >> 2) as u32);
        match token & 3 {
            0 => Watched::ControllerPods,
            1 => Watched::ControllerIps,
            2 => Watched::DaemonPods(node),
            _ => Watched::DaemonSubnets(node),
        }
    }

    fn open(
        self,
        client: ClientId,
        target: WatchTarget,
        from: u64,
        context: &mut Context<'_>,
    ) -> WatchId {
        let token = self.token();
        context.watch(client, target, from, WatchOwner::Ipam { token })
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
        self.central_start(context);
        self.controller_install(context);
        for node in 0..context.core.machines.len() {
            self.machine_up(NodeIndex(node as u32), context);
        }
    }

    fn ready(&self) -> bool {
        self.controller.pods.synced && self.daemons.values().all(|daemon| daemon.pods.synced)
    }

    /// What the leading controller's allocator holds in memory: by the name of a Pod, from the
    /// Pod's creation on, and for a StatefulSet's Pod beyond its end.
    fn allocated(&self, api: &ApiServers) -> Vec<Allocated> {
        let mut allocated = Vec::new();
        for name in self.controller.subnet.names() {
            let pod = self.names.full(name);
            let ip = api.custom(objects::IPS, &objects::ip_name(&pod));
            let holder = if ip.is_some_and(|ip| objects::is_sticky(ip)) {
                AllocatedTo::Workload
            } else {
                AllocatedTo::PodName(pod.0, pod.1)
            };
            let addresses = self.controller.subnet.addresses(name).into_iter();
            allocated.extend(addresses.map(|address| Allocated {
                address,
                holder: holder.clone(),
            }));
        }
        allocated
    }

    fn call(&mut self, call: IpamCall, context: &mut Context<'_>) {
        self.plugin_exec(call, context);
    }

    fn killed(&mut self, node: NodeIndex, call: IpamCallId, _context: &mut Context<'_>) {
        self.plugin_killed(node, call);
    }

    fn response(&mut self, token: u64, response: Response, context: &mut Context<'_>) {
        self.end(token, Signal::Api(response), context);
    }

    fn watch(&mut self, token: u64, watch: WatchId, change: Change, context: &mut Context<'_>) {
        match Watched::of(token) {
            Watched::ControllerPods => self.controller_pod(watch, change, context),
            Watched::ControllerIps => self.controller_ip(watch, change, context),
            Watched::DaemonPods(node) => self.daemon_pod(node, watch, change, context),
            Watched::DaemonSubnets(node) => self.daemon_subnet(node, watch, &change, context),
        }
    }

    fn timer(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        self.end(token, Signal::Go, context);
    }

    fn cpu_done(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        self.end(token, Signal::Go, context);
    }

    fn node_changed(&mut self, node: NodeIndex, change: NodeChange, context: &mut Context<'_>) {
        match change {
            NodeChange::Down => {
                self.machine_down(node, context);
                self.central_down(node, context);
                self.controller_down(node, context);
            }
            NodeChange::Up | NodeChange::Joined => self.machine_up(node, context),
            NodeChange::NetnsPresent(_) | NodeChange::NetnsGone(_) => {}
        }
    }

    fn inject(&mut self, fault: IpamFault, context: &mut Context<'_>) {
        if let IpamFault::KillAgent {
            node,
            restart_after,
        } = fault
        {
            self.daemon_stop(node, context);
            self.after(node, restart_after, Wait::Restart { node }, context);
        }
    }

    fn is_down(&self, node: NodeIndex) -> bool {
        self.daemons.get(&node).is_some_and(|daemon| !daemon.up)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut totals: Vec<(&'static str, u64)> = self
            .totals
            .counts
            .iter()
            .map(|(name, count)| (*name, *count))
            .collect();
        totals.push(("addresses_held", self.controller.subnet.held_count()));
        totals
    }
}

#[cfg(test)]
mod tests;
