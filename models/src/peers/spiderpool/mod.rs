//! Spiderpool v0.8.0, the IPAM of macvlan behind multus, as the published benchmark ran it.
//!
//! In one paragraph: one SpiderIPPool holds all allocations of a pool as one string. An agent per
//! machine lets one request at a time touch a pool, and reads, changes and writes the whole object;
//! a conflict with another machine's agent is retried five times within 90 ms, then the ADD fails
//! and the kubelet makes a new sandbox. Conflicts are per object, not per address.
//!
//! Modeled, each with its source in its file: [`plugin`] (exec, deadlines of 100 and 30 s, a
//! failed DEL reported as success; the coordinator behind macvlan), [`agent`] (health check, lazy
//! informers, loss of memory), [`allocate`] (cached reads, the idempotent path, the map of
//! half-done allocations, the endpoint), [`release`], [`job`] (both families at once), [`tickets`]
//! and [`limiter`] (the queue), [`part`] (GET, choice, PUT, conflicts), [`retry`], [`quota`] (the
//! CPU limit), [`informer`], [`memory`] and [`news`] (what is known, and what follows from it),
//! [`process`] (a token bucket per client and kind), [`controller`] (lease, status of a new pool),
//! [`gc`], [`collector`] (owner references).
//!
//! An ADD from top to bottom: [`plugin`] executes and connects, [`agent`] reads the request,
//! [`allocate`] does the rest, through [`job`] and [`part`] (`attempts`). Each is a script
//! (`models/src/process/`). Whatever a script holds is a guard, which releases it when the script
//! ends or is killed.
//!
//! Defects of this version that the model has: a canceled request keeps its place in the queue
//! (SP-1375); a second address after a write whose answer was lost, while the pool has room; an
//! endpoint left behind blocks its successor of the same name (SP-4948); the tracer releases by
//! name (SP-3778); a count of allocations that drifts.
//!
//! Not modeled: SpiderSubnets and automatic pools, several interfaces, affinities, reserved
//! addresses, KubeVirt, several candidate pools per family, webhooks (no write here calls one),
//! metrics, detection of gateway and conflicts (off by default), the check of Pod and endpoint of
//! a StatefulSet that shrinks. A merge patch of an endpoint is priced as a PUT.
//! All processes draw their apiserver for each client, where the real ones share a connection.
//!
//! Source: github.com/spidernet-io/spiderpool v0.8.0 (0f94b2b73d54); the files name paths of it.

mod agent;
mod allocate;
mod collector;
mod controller;
mod endpoint;
mod env;
mod gc;
mod informer;
mod job;
mod limiter;
mod memory;
mod news;
mod parameters;
mod part;
mod plugin;
mod pools;
mod process;
mod quota;
mod release;
mod retry;
#[cfg(test)]
mod tests;
mod tickets;
mod totals;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::apiserver::ApiServers;
use crate::cni::{IpamCall, NodeChange};
use crate::context::Context;
use crate::ids::{IpamCallId, NodeIndex, WatchId};
use crate::ipam::{Allocated, AllocatedTo, Ipam, IpamFault};
use crate::parameters::{ParameterError, Table};
use crate::process::{NewProcess, Owner, Processes};
use crate::request::{Change, Request, Response};

use super::Pool;

use self::parameters::SpiderpoolParameters;
pub use self::pools::Group;

#[cfg(test)]
use self::endpoint::ENDPOINTS as ENDPOINT_KIND;

use self::agent::Agent;
use self::collector::Collector;
use self::endpoint::{ENDPOINTS, Endpoint};
use self::env::Env;
use self::gc::Reclaim;
use self::plugin::{Execution, Socket};
use self::pools::{Catalog, POOLS, PoolId, Status};
use self::process::{Role, Seat};

/// Mark of the timers that start a process.
const BOOT: u64 = 1 << 63;

/// The allocator.
pub struct Spiderpool {
    env: Rc<Env>,
    /// All scripts.
    processes: Processes,
    /// Controller, collector, then agents in the order of their machines.
    seats: Vec<Seat>,
    agents: BTreeMap<NodeIndex, usize>,
    /// Who listens on each machine.
    sockets: BTreeMap<NodeIndex, Socket>,
    /// Of the controller that runs.
    reclaim: Option<Rc<Reclaim>>,
    /// The collector that runs.
    collector: Option<Collector>,
}

impl Spiderpool {
    /// Whether its constants can be read.
    /// Errors: one that is missing, of a wrong unit, or unreadable.
    pub(super) fn check_constants(table: &Table) -> Result<(), ParameterError> {
        SpiderpoolParameters::read(table).map(drop)
    }

    /// All addresses free. `groups` are the workload objects that get pools of their own when
    /// `spiderpool.pool_per_deployment` says so.
    /// Errors: a constant of its own that is missing or unreadable.
    pub fn new(addresses: &Pool, groups: &[Group], table: &Table) -> Result<Self, ParameterError> {
        let parameters = SpiderpoolParameters::read(table)?;
        let own = if parameters.pool_per_deployment {
            groups
        } else {
            &[]
        };
        let catalog = Catalog::new(addresses, own);
        Ok(Self {
            env: Rc::new(Env::new(parameters, catalog, table)?),
            processes: Processes::new(Owner::Ipam),
            seats: Vec::new(),
            agents: BTreeMap::new(),
            sockets: BTreeMap::new(),
            reclaim: None,
            collector: None,
        })
    }

    fn reclaim(&self) -> &Rc<Reclaim> {
        self.reclaim.as_ref().expect("the controller runs")
    }

    fn collector(&self) -> &Collector {
        self.collector.as_ref().expect("the collector runs")
    }

    fn add_seat(&mut self, role: Role, node: NodeIndex) -> usize {
        let index = self.seats.len();
        self.seats.push(Seat::new(index, role, node));
        if role == Role::Agent {
            let before = self.agents.insert(node, index);
            assert!(before.is_none(), "a machine has one agent");
        }
        index
    }

    fn socket(&mut self, node: NodeIndex) -> Socket {
        self.sockets.entry(node).or_default().clone()
    }

    /// A process starts, now.
    fn boot(&mut self, seat: usize, context: &mut Context<'_>) {
        let life = self.seats[seat].start(&self.env, context);
        let own = life.clone();
        let script = match life.role {
            Role::Agent => {
                let agent = Agent::new(own);
                self.socket(life.node).replace(Some(agent.clone()));
                life.script(None, |port| agent.boot(port))
            }
            Role::Controller => {
                let reclaim = Reclaim::new(&own);
                self.reclaim = Some(reclaim.clone());
                life.script(None, |port| controller::run(port, own, reclaim))
            }
            Role::Collector => {
                let collector = Collector::new(own);
                self.collector = Some(collector.clone());
                life.script(None, |port| collector.boot(port))
            }
        };
        self.processes.start(script, context);
    }

    /// A process starts after a while, unless it dies before.
    fn boot_later(&self, seat: usize, delay: Duration, context: &mut Context<'_>) {
        let seat = &self.seats[seat];
        let token = BOOT | u64::from(seat.turn()) << 32 | seat.index as u64;
        context.ipam_timer(seat.node, context.now() + delay, token);
    }

    /// It is time for a process to start.
    fn boot_due(&mut self, token: u64, context: &mut Context<'_>) {
        let (turn, seat) = ((token & !BOOT) >> 32, token as u32 as usize);
        // A process that died again meanwhile has a new turn.
        if u64::from(self.seats[seat].turn()) == turn {
            self.boot(seat, context);
        }
    }

    /// Processes are dead; those connected to them are told, unless their machine died as well.
    fn stop(&mut self, seats: &[usize], machine: Option<NodeIndex>, context: &mut Context<'_>) {
        let seats = seats.iter().map(|seat| &self.seats[*seat]);
        let dead: Vec<_> = seats.filter_map(Seat::vacate).collect();
        for life in &dead {
            life.end(&mut self.processes);
            match life.role {
                Role::Agent => {
                    self.socket(life.node).take();
                }
                Role::Controller => self.reclaim = None,
                Role::Collector => self.collector = None,
            }
        }
        match machine {
            Some(node) => self.processes.kill_node(node, context),
            None => self.processes.settle(context),
        }
        for life in dead {
            life.drop_clients(context);
        }
    }

    /// Executes a process of the node.
    fn execute(
        &mut self,
        call: IpamCall,
        program: fn(Execution) -> NewProcess,
        context: &mut Context<'_>,
    ) {
        let execution = Execution {
            env: self.env.clone(),
            socket: self.socket(call.node),
            call: Rc::new(call),
        };
        self.processes.execute(program(execution), context);
    }

    /// Records of the pools in the store. An address in the endpoint of a StatefulSet's Pod is
    /// kept for the next Pod of that name.
    fn records(&self, api: &ApiServers) -> Vec<Allocated> {
        let endpoints = api.customs(ENDPOINTS);
        let endpoints = endpoints.iter().map(|object| Endpoint::decode(object));
        let fixed: BTreeSet<(PoolId, u32)> = endpoints
            .filter(|endpoint| endpoint.fixed)
            .flat_map(|endpoint| endpoint.addresses)
            .collect();
        let mut allocated = Vec::new();
        for pool in self.env.catalog.ids() {
            let spec = self.env.catalog.spec(pool);
            let Some(object) = api.custom(POOLS, &spec.name) else {
                continue;
            };
            for (position, pod) in Status::decode(&object.body).records() {
                let holder = if fixed.contains(&(pool, *position)) {
                    AllocatedTo::Workload
                } else {
                    AllocatedTo::Pod(*pod)
                };
                let address = spec.addresses[*position as usize];
                allocated.push(Allocated { address, holder });
            }
        }
        allocated
    }
}

impl Ipam for Spiderpool {
    fn name(&self) -> &'static str {
        "spiderpool"
    }

    fn is_chained(&self) -> bool {
        self.env.parameters.coordinator
    }

    fn start(&mut self, context: &mut Context<'_>) {
        self.env.start(context.core.streams);
        for pool in self.env.catalog.ids() {
            let request = Request::Create(Rc::new(self.env.catalog.empty_object(pool)));
            context
                .api
                .install(&request, &mut context.core)
                .expect("the store has no pool yet");
        }
        // Where the scheduler put the one replica of the controller.
        let machines = context.core.machines.len() as u64;
        let mut draws = context.core.streams.stream("spiderpool", 0, "controller");
        let home = NodeIndex(draws.below(machines) as u32);
        self.add_seat(Role::Controller, home);
        self.add_seat(Role::Collector, NodeIndex(0));
        for node in 0..machines as u32 {
            self.add_seat(Role::Agent, NodeIndex(node));
        }
        for seat in 0..self.seats.len() {
            self.boot(seat, context);
        }
    }

    fn ready(&self) -> bool {
        let serving = self.seats.iter().all(Seat::is_serving);
        serving && self.env.all_counted()
    }

    fn allocated(&self, api: &ApiServers) -> Vec<Allocated> {
        self.records(api)
    }

    fn call(&mut self, call: IpamCall, context: &mut Context<'_>) {
        self.execute(call, Execution::ipam, context);
    }

    fn chained(&mut self, call: IpamCall, context: &mut Context<'_>) {
        self.execute(call, Execution::coordinator, context);
    }

    fn killed(&mut self, _node: NodeIndex, call: IpamCallId, context: &mut Context<'_>) {
        self.processes.killed(call, context);
    }

    fn response(&mut self, token: u64, response: Response, context: &mut Context<'_>) {
        self.processes.response(token, response, context);
    }

    fn watch(&mut self, token: u64, watch: WatchId, change: Change, context: &mut Context<'_>) {
        self.delivered(token, watch, change, context);
    }

    fn timer(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        if token & BOOT == 0 {
            self.processes.resume(token, context);
        } else {
            self.boot_due(token, context);
        }
    }

    fn cpu_done(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        self.processes.resume(token, context);
    }

    fn node_changed(&mut self, node: NodeIndex, change: NodeChange, context: &mut Context<'_>) {
        let there = self.seats.iter().filter(|seat| seat.node == node);
        let there: Vec<usize> = there.map(|seat| seat.index).collect();
        let delay = self.env.parameters.agent_restart;
        match change {
            NodeChange::NetnsPresent(_) | NodeChange::NetnsGone(_) => {}
            NodeChange::Down => self.stop(&there, Some(node), context),
            NodeChange::Up => {
                for seat in there {
                    self.boot_later(seat, delay, context);
                }
            }
            NodeChange::Joined => {
                let seat = self.add_seat(Role::Agent, node);
                self.boot_later(seat, delay, context);
            }
        }
    }

    fn inject(&mut self, fault: IpamFault, context: &mut Context<'_>) {
        if let IpamFault::KillAgent {
            node,
            restart_after,
        } = fault
            && let Some(seat) = self.agents.get(&node).copied()
        {
            self.stop(&[seat], None, context);
            self.boot_later(seat, restart_after, context);
        }
    }

    fn is_down(&self, node: NodeIndex) -> bool {
        let seat = self.agents.get(&node);
        seat.is_some_and(|seat| self.seats[*seat].life().is_none())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.env.totals().list()
    }
}
