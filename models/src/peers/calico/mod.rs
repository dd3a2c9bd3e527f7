//! Calico v3.26.3 with its own IPAM on the Kubernetes datastore, installed as
//! `manifests/calico-vxlan.yaml` does it (plugins calico, portmap, bandwidth; one pool a family).
//!
//! Modeled: the `calico` and `calico-ipam` processes of every CNI verb ([`plugin`]) with each of
//! their datastore calls in order ([`assign`], [`release`], [`datastore`]); the host-wide file lock
//! around the IPAM's part, awaited without a limit while the 90 s of the context already run; block
//! affinity, two-phase claims and their conflicts, borrowing, handles, compare-and-swap with a
//! hundred attempts and no pause; tunnel addresses; Felix's CPU ([`felix`]); the leak collector of
//! kube-controllers ([`collector`]). The apiserver model decides what a call costs: the time under
//! the lock is the sum of its calls' latencies, of the waits for the apiservers' cores, and of the
//! plugin's waits for the node's cores.
//!
//! Not modeled: BGP, Typha (the manifest has none below 50 nodes), NetworkPolicy, specific
//! addresses and pools by annotation, Windows, Network and FloatingIP resources, the repair of
//! handles that hold nothing, release of empty blocks, node deletion, Felix's time until a route is
//! programmed (nothing waits for it in this version). An address space that is not a whole number
//! of blocks is rounded up, and the rest reserved.
//!
//! Source: projectcalico/calico at tag v3.26.3; each module gives files and lines.

mod assign;
mod collector;
mod datastore;
mod felix;
mod layout;
mod object;
mod parameters;
mod plugin;
mod release;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::Streams;
use drydock_engine::time::SimInstant;

use crate::apiserver::ApiServers;
use crate::cni::{IpamCall, NodeChange};
use crate::context::Context;
use crate::ids::{ClientId, IpamCallId, NodeIndex, WatchId};
use crate::ipam::{Allocated, AllocatedTo, Ipam};
use crate::parameters::{NodeParameters, ParameterError, Table};
use crate::process::queueing::Semaphore;
use crate::process::{NewProcess, Owner, ProcessId, Processes};
use crate::request::{Change, ClientClass, ClientSpec, Request, Response, WatchOwner, WatchTarget};

use self::collector::View;
use self::felix::Felix;
use self::layout::Layout;
use self::object::{
    Affinity, Allocation, BLOCKS, Block, CLUSTER_INFORMATIONS, Handle, IP_POOLS, IP_RESERVATIONS,
    IPAM_CONFIGS, NAMESPACES, NODES, custom, parse, plain,
};
use self::parameters::CalicoParameters;

use super::Pool;

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    /// Calls made under a host-wide lock.
    locked_calls: u64,
    blocks_claimed: u64,
    claim_conflicts: u64,
    write_conflicts: u64,
    borrowed: u64,
    /// Executions of the IPAM that ran into the deadline of their context.
    deadlines: u64,
    addresses_reclaimed: u64,
}

/// What all processes know.
struct Env {
    parameters: CalicoParameters,
    exec_cpu: Duration,
    layout: Layout,
    counters: Cell<Counters>,
}

impl Env {
    fn count(&self, add: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        add(&mut counters);
        self.counters.set(counters);
    }
}

/// One machine, as Calico's processes on it see it.
struct Host {
    name: Rc<str>,
    /// `/var/run/calico/ipam.lock`.
    lock: Semaphore,
    /// Where the node's walk through the blocks of a family starts: drawn from its name.
    first_blocks: Vec<usize>,
    /// How long the lock was held in all.
    held: Cell<Duration>,
}

impl Host {
    fn held_since(&self, since: SimInstant, now: SimInstant) {
        self.held.set(self.held.get() + now.saturating_since(since));
    }
}

/// Watches of the long-lived processes, by the high bits of their token.
const FELIX: u64 = 1 << 32;
const COLLECTOR: u64 = 2 << 32;
/// The low bit tells Pods from blocks.
const OF_PODS: u64 = 1 << 31;

/// Calico in the whole cluster.
pub struct Calico {
    env: Rc<Env>,
    hosts: BTreeMap<NodeIndex, Rc<Host>>,
    felixes: BTreeMap<NodeIndex, (Felix, ClientId)>,
    processes: Processes,
    view: Rc<RefCell<View>>,
    controller: Option<(ProcessId, ClientId)>,
}

impl Calico {
    /// Whether its constants can be read.
    /// Errors: one that is missing, of a wrong unit, or unreadable.
    pub(super) fn check_constants(table: &Table) -> Result<(), ParameterError> {
        CalicoParameters::read(table).map(drop)
    }

    /// Calico with the pool's addresses to give out.
    /// Errors: a constant of its own that is missing or unreadable.
    pub fn new(pool: &Pool, table: &Table) -> Result<Self, ParameterError> {
        let exec_cpu = NodeParameters::read(table)?.exec_cpu;
        let parameters = CalicoParameters::read(table)?;
        let env = Env {
            exec_cpu,
            layout: Layout::new(pool, &parameters),
            parameters,
            counters: Cell::default(),
        };
        Ok(Self {
            env: Rc::new(env),
            hosts: BTreeMap::new(),
            felixes: BTreeMap::new(),
            processes: Processes::new(Owner::Ipam),
            view: Rc::default(),
            controller: None,
        })
    }

    fn host(&mut self, node: NodeIndex, context: &mut Context<'_>) -> Rc<Host> {
        if let Some(host) = self.hosts.get(&node) {
            return host.clone();
        }
        let name = context.core.machine(node).node_name.clone();
        let entity = Streams::entity(&name);
        let mut draws = context.core.streams.stream("calico", entity, "first block");
        let first_blocks = (self.env.layout.families.iter())
            .map(|family| draws.below(family.block_count().max(1) as u64) as usize)
            .collect();
        let lock = if self.env.parameters.lock_fifo {
            Semaphore::new(1)
        } else {
            let entity = entity ^ u64::from(node.0) << 32;
            Semaphore::unfair_lock(context.core.streams.stream("calico", entity, "lock"))
        };
        let host = Rc::new(Host {
            name,
            lock,
            first_blocks,
            held: Cell::default(),
        });
        self.hosts.insert(node, host.clone());
        host
    }

    /// What the installation and the start of each node left behind.
    fn install(&mut self, context: &mut Context<'_>) {
        let mut objects = vec![
            plain(CLUSTER_INFORMATIONS, &"default".into()),
            plain(IPAM_CONFIGS, &"default".into()),
            plain(NAMESPACES, &"default".into()),
            plain(IP_RESERVATIONS, &"outside-of-the-pool".into()),
        ];
        for family in 0..self.env.layout.families.len() {
            objects.push(plain(IP_POOLS, &format!("pool-{family}").into()));
        }
        for index in 0..context.core.machines.len() {
            let host = self.host(NodeIndex(index as u32), context);
            objects.push(plain(NODES, &host.name));
        }
        let mut owned: BTreeMap<Rc<str>, usize> = BTreeMap::new();
        for index in 0..context.core.machines.len() {
            let host = self.host(NodeIndex(index as u32), context);
            self.install_tunnel(&host, &mut owned, &mut objects);
        }
        for object in objects {
            let created = Request::Create(Rc::new(object));
            // A namespace or node that exists already does as well.
            let _ = context.api.install(&created, &mut context.core);
        }
    }

    /// The node's tunnel address: the first of its first block.
    fn install_tunnel(
        &self,
        host: &Host,
        owned: &mut BTreeMap<Rc<str>, usize>,
        objects: &mut Vec<crate::request::Custom>,
    ) {
        let family = (self.env.layout.families.iter()).position(layout::Family::is_v4);
        let Some(index) = family.filter(|_| self.env.parameters.tunnel_addresses) else {
            return;
        };
        let family = &self.env.layout.families[index];
        let start = host.first_blocks[index];
        let Some(name) = family
            .walk(start)
            .find(|name| !owned.contains_key(*name))
            .cloned()
        else {
            return;
        };
        owned.insert(name.clone(), index);
        let empty = Block::new(&host.name, family.block_slots());
        let Some(slot) = family.next_free(&name, &empty) else {
            return;
        };
        let handle: Rc<str> = format!("vxlan-tunnel-addr-{}", host.name).into();
        let allocation = Allocation {
            handle: handle.to_string(),
            namespace: String::new(),
            pod: String::new(),
            node: host.name.to_string(),
            sequence: 0,
        };
        let affinity = Affinity {
            host: host.name.to_string(),
            block: name.to_string(),
            confirmed: true,
            deleted: false,
        };
        let held = Handle {
            blocks: BTreeMap::from([(name.to_string(), 1)]),
            deleted: false,
        };
        objects.push(custom(&Affinity::name(&host.name, &name), &affinity));
        objects.push(custom(&name, &empty.with(slot, allocation)));
        objects.push(custom(&handle, &held));
    }

    fn start_felix(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let client = context.client(long_lived(node, ClientClass::IpamNode));
        self.felixes.insert(node, (Felix::default(), client));
        watch_all(client, FELIX | u64::from(node.0), context);
    }

    fn start_controller(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        *self.view.borrow_mut() = View::default();
        let client = context.client(long_lived(node, ClientClass::IpamController));
        watch_all(client, COLLECTOR | u64::from(node.0), context);
        let (env, view) = (self.env.clone(), self.view.clone());
        let new = NewProcess {
            node,
            call: None,
            client: Some(long_lived(node, ClientClass::IpamController)),
            script: Box::new(move |port| Box::pin(collector::run(port, env, view))),
        };
        let id = self.processes.start(new, context);
        self.controller = Some((id, client));
    }

    /// A watch ended: it is reopened, on everything.
    fn watch_again(&mut self, token: u64, context: &mut Context<'_>) {
        let node = NodeIndex(token as u32 & !(OF_PODS as u32));
        let client = match token >> 32 {
            1 => self.felixes.get(&node).map(|(_, client)| *client),
            _ => self.controller.map(|(_, client)| client),
        };
        if let Some(client) = client {
            watch_one(client, token, context);
        }
    }
}

/// A client of a long-lived process.
fn long_lived(node: NodeIndex, class: ClientClass) -> ClientSpec {
    ClientSpec {
        node,
        class,
        limiter: None,
        timeout: None,
        fresh_connection: false,
    }
}

fn watch_all(client: ClientId, token: u64, context: &mut Context<'_>) {
    watch_one(client, token, context);
    watch_one(client, token | OF_PODS, context);
}

fn watch_one(client: ClientId, token: u64, context: &mut Context<'_>) {
    let target = if token & OF_PODS == 0 {
        WatchTarget::Customs {
            kind: BLOCKS,
            selectors: Vec::new(),
            name: None,
        }
    } else {
        WatchTarget::Pods { node_name: None }
    };
    context.watch(client, target, 0, WatchOwner::Ipam { token });
}

/// Mark of the timers that open a watch again.
const WATCH_AGAIN: u64 = 1 << 63;

impl Ipam for Calico {
    fn name(&self) -> &'static str {
        "calico"
    }

    fn is_network_plugin(&self) -> bool {
        true
    }

    fn start(&mut self, context: &mut Context<'_>) {
        self.install(context);
        for index in 0..context.core.machines.len() {
            self.start_felix(NodeIndex(index as u32), context);
        }
        self.start_controller(NodeIndex(0), context);
    }

    fn ready(&self) -> bool {
        true
    }

    /// Slots in use of the blocks in the store; affinities hold no address, and tunnel addresses
    /// are the node's own.
    fn allocated(&self, api: &ApiServers) -> Vec<Allocated> {
        let mut allocated = Vec::new();
        for block in api.customs(BLOCKS) {
            let Some(family) = self.env.layout.family_of(&block.name) else {
                continue;
            };
            let family = &self.env.layout.families[family];
            for (slot, allocation) in parse::<Block>(&block).body.slots {
                if let Some(container) = plugin::container_of(&allocation.handle) {
                    let address = family.address(&block.name, slot);
                    let holder = AllocatedTo::Sandbox(container);
                    allocated.push(Allocated { address, holder });
                }
            }
        }
        allocated
    }

    fn call(&mut self, call: IpamCall, context: &mut Context<'_>) {
        let host = self.host(call.node, context);
        let process = plugin::calico(&self.env, &host, call);
        self.processes.execute(process, context);
    }

    fn killed(&mut self, _node: NodeIndex, call: IpamCallId, context: &mut Context<'_>) {
        self.processes.killed(call, context);
    }

    fn response(&mut self, token: u64, response: Response, context: &mut Context<'_>) {
        self.processes.response(token, response, context);
    }

    fn watch(&mut self, token: u64, _watch: WatchId, change: Change, context: &mut Context<'_>) {
        let node = NodeIndex(token as u32 & !(OF_PODS as u32));
        if let Change::Closed(_) = change {
            let delay = context.core.parameters.client.reflector_backoff.max;
            let at = context.now() + delay;
            return context.ipam_timer(node, at, token | WATCH_AGAIN);
        }
        if token >> 32 == FELIX >> 32 {
            let host = self.host(node, context);
            if let Some((felix, _)) = self.felixes.get_mut(&node) {
                let parameters = &self.env.parameters;
                felix.update(node, &host.name, &change, parameters, context);
            }
        } else if self.view.borrow_mut().update(&change)
            && let Some((controller, _)) = self.controller
        {
            self.processes.wake(controller);
            self.processes.settle(context);
        }
    }

    fn timer(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        if token & WATCH_AGAIN == 0 {
            self.processes.resume(token, context);
        } else {
            self.watch_again(token & !WATCH_AGAIN, context);
        }
    }

    fn cpu_done(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        self.processes.resume(token, context);
    }

    fn node_changed(&mut self, node: NodeIndex, change: NodeChange, context: &mut Context<'_>) {
        match change {
            NodeChange::Down => {
                self.processes.kill_node(node, context);
                if let Some((_, client)) = self.felixes.remove(&node) {
                    context.drop_client(client);
                }
                if node == NodeIndex(0)
                    && let Some((_, client)) = self.controller.take()
                {
                    context.drop_client(client);
                }
            }
            NodeChange::Up | NodeChange::Joined => {
                let host = self.host(node, context);
                let created = Request::Create(Rc::new(plain(NODES, &host.name)));
                let _ = context.api.install(&created, &mut context.core);
                self.start_felix(node, context);
                if node == NodeIndex(0) && self.controller.is_none() {
                    self.start_controller(node, context);
                }
            }
            NodeChange::NetnsPresent(_) | NodeChange::NetnsGone(_) => {}
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = self.env.counters.get();
        let held = self.hosts.values().map(|host| host.held.get());
        let held_ms = held.max().unwrap_or_default().as_millis() as u64;
        vec![
            ("calico_locked_calls", counters.locked_calls),
            ("calico_lock_held_ms_max", held_ms),
            ("calico_blocks_claimed", counters.blocks_claimed),
            ("calico_claim_conflicts", counters.claim_conflicts),
            ("calico_write_conflicts", counters.write_conflicts),
            ("calico_borrowed", counters.borrowed),
            ("calico_deadlines", counters.deadlines),
            ("calico_addresses_reclaimed", counters.addresses_reclaimed),
        ]
    }
}
