//! Spiderpool v0.8.0, the IPAM of macvlan behind multus, as the published benchmark ran it.
//!
//! In one paragraph: one SpiderIPPool holds all allocations of a pool as one string. An agent per
//! machine lets one request at a time touch a pool, and reads, changes and writes the whole object;
//! a conflict with another machine's agent is tried again five times within 90 ms, then the ADD
//! fails and the kubelet makes a new sandbox. Conflicts are per object, not per address.
//!
//! Modelled, each with its source in its file: [`plugin`] (exec, health check, deadlines of 100 and
//! 30 s, a failed DEL reported as success; the coordinator behind macvlan), [`agent`] (lazy
//! informers, loss of memory), [`job`] (cached reads, the idempotent path, the map of half-done
//! allocations, both families at once, the endpoint), [`limiter`], [`part`] (GET, choice, PUT,
//! conflicts), [`retry`], [`quota`] (the CPU limit), [`informer`], [`process`] (a token bucket per
//! client and kind), [`controller`] (lease, status of a new pool, owner references), [`gc`].
//! Faults of this version that the mechanism carries: a canceled request keeps its place in the
//! queue (SP-1375); a second address after a write whose answer was lost, while the pool has room;
//! an endpoint left behind blocks its successor of the same name (SP-4948); the tracer releases by
//! name (SP-3778); a count of allocations that drifts.
//!
//! Not modelled: SpiderSubnets and automatic pools, several interfaces, affinities, reserved
//! addresses, KubeVirt, several candidate pools per family, webhooks (no write here calls one),
//! metrics, detection of gateway and conflicts (off by default), the check of Pod and endpoint of
//! a StatefulSet that shrinks. A merge patch of an endpoint is priced as a PUT.
//! All processes draw their apiserver for each client, where the real ones share a connection.
//!
//! Source: github.com/spidernet-io/spiderpool v0.8.0 (0f94b2b73d54); the files name paths of it.

mod agent;
mod controller;
mod endpoint;
mod gc;
mod informer;
mod job;
mod limiter;
mod parameters;
mod part;
mod plugin;
mod pools;
mod process;
mod quota;
mod retry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::Stream;

use crate::apiserver::ApiServers;
use crate::cni::{IpamCall, IpamStage, NodeChange};
use crate::context::Context;
use crate::event::CpuToken;
use crate::ids::{IpamCallId, NodeIndex, PodUid, WatchId};
use crate::ipam::{Allocated, AllocatedTo, Ipam, IpamFault};
use crate::parameters::{ParameterError, Table};
use crate::request::{Change, Request, Response};

use super::Pool;

use self::parameters::SpiderpoolParameters;
pub use self::pools::Group;

#[cfg(test)]
use self::endpoint::ENDPOINTS as ENDPOINT_KIND;

use self::controller::{Collect, Lease};
use self::endpoint::{ENDPOINTS, Endpoint};
use self::gc::Gc;
use self::job::{Job, JobId};
use self::plugin::Execution;
use self::pools::{Catalog, POOLS, PoolId, Status};
use self::process::{Informer, Process, Role};

/// Place of the controller in the table of processes; the collector and the agents follow.
const CONTROLLER: usize = 0;

/// What an answer, a timer or served CPU is for.
#[derive(Clone, Debug)]
enum Wait {
    Throttled {
        demand: Duration,
        token: u64,
    },
    Exec {
        call: IpamCallId,
    },
    Asked {
        call: IpamCallId,
        life: u32,
    },
    PluginDeadline {
        call: IpamCallId,
    },
    JobDeadline {
        job: JobId,
    },
    Job {
        job: JobId,
    },
    Departed {
        job: JobId,
    },
    Part {
        job: JobId,
        part: usize,
    },
    Start {
        process: usize,
        life: u32,
    },
    Listed {
        process: usize,
        life: u32,
        informer: Informer,
    },
    FollowAgain {
        process: usize,
        life: u32,
        informer: Informer,
        list: bool,
    },
    FirstList {
        process: usize,
        life: u32,
    },
    LeaseTick {
        life: u32,
    },
    LeaseRead {
        life: u32,
    },
    LeaseWritten {
        life: u32,
    },
    Status {
        life: u32,
        pool: PoolId,
    },
    StatusWritten {
        life: u32,
        pool: PoolId,
    },
    Sweep {
        life: u32,
    },
    Scan {
        life: u32,
    },
    Collect {
        process: usize,
        life: u32,
        name: Rc<str>,
        pod: PodUid,
        step: Collect,
    },
}

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened so often.
        #[derive(Debug, Default)]
        struct Totals { $($(#[$doc])* $name: u64,)* }
        impl Totals {
            fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

totals! {
    /// PUTs of a pool that met another version.
    conflicts,
    /// Pools given up after five conflicts.
    exhausted,
    /// Pools given up because they were full.
    used_out,
    /// Allocations that failed with one family done.
    partial,
    /// ADDs answered from the endpoint.
    idempotent,
    /// Addresses taken for a Pod that has one in the pool already.
    second_addresses,
    /// ADDs refused because the endpoint is another Pod's.
    endpoint_of_another,
    /// Endpoints that could not be written.
    endpoint_refused,
    /// ADDs for a Pod that the agent does not know yet.
    pod_unknown,
    /// ADDs refused by a full queue.
    queue_full,
    /// Requests that got their turn after their client had gone.
    granted_dead,
    /// Calls of jobs that a token bucket held back.
    limited,
    /// CPU demands that the CPU limit held back.
    throttled,
    /// Plugins that gave up waiting.
    deadlines,
    /// DELs that failed and reported success.
    dels_swallowed,
    /// Coordinators that found no endpoint yet.
    coordinator_too_early,
    /// Pods that the tracer released for.
    traced,
    /// Of these, with another Pod's endpoint.
    traced_another,
    /// Records that the scan released.
    scanned_away,
}

/// The allocator.
pub struct Spiderpool {
    parameters: SpiderpoolParameters,
    addresses: Pool,
    groups: Vec<Group>,
    catalog: Catalog,
    /// Controller, collector, then agents as their machines came.
    processes: Vec<Process>,
    agents: BTreeMap<NodeIndex, usize>,
    executions: BTreeMap<IpamCallId, Execution>,
    jobs: BTreeMap<JobId, Job>,
    next_job: u32,
    waits: BTreeMap<u64, Wait>,
    next_wait: u64,
    /// Draws of a Pod in a family (IPv6 or not): which address, and how long after a conflict.
    draws: BTreeMap<(PodUid, bool), Stream>,
    waits_drawn: BTreeMap<(PodUid, bool), Stream>,
    lease: Lease,
    /// Pools whose first status was written.
    counted: BTreeSet<PoolId>,
    gc: Gc,
    totals: Totals,
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
    pub fn new(addresses: Pool, groups: Vec<Group>, table: &Table) -> Result<Self, ParameterError> {
        Ok(Self {
            parameters: SpiderpoolParameters::read(table)?,
            addresses,
            groups,
            catalog: Catalog::default(),
            processes: Vec::new(),
            agents: BTreeMap::new(),
            executions: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            waits: BTreeMap::new(),
            next_wait: 0,
            draws: BTreeMap::new(),
            waits_drawn: BTreeMap::new(),
            lease: Lease::default(),
            counted: BTreeSet::new(),
            gc: Gc::default(),
            totals: Totals::default(),
        })
    }

    fn wait(&mut self, wait: Wait) -> u64 {
        self.next_wait += 1;
        self.waits.insert(self.next_wait, wait);
        self.next_wait
    }

    fn add_agent(&mut self, node: NodeIndex) -> usize {
        self.processes.push(Process::new(Role::Agent, node));
        let process = self.processes.len() - 1;
        self.agents.insert(node, process);
        process
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
        for pool in self.catalog.ids() {
            let spec = self.catalog.spec(pool);
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

    fn lives(&self, process: usize, life: u32) -> bool {
        self.processes[process].life == life
    }

    /// A wait ended, with an answer or without.
    fn resume(&mut self, token: u64, response: Option<Response>, context: &mut Context<'_>) {
        let Some(wait) = self.waits.remove(&token) else {
            return;
        };
        match (wait, response) {
            (Wait::Throttled { .. }, _) => unreachable!("a throttled demand goes to a machine"),
            (Wait::Exec { call }, _) => self.executed(call, context),
            (Wait::Asked { call, life }, _) => self.asked(call, life, context),
            (Wait::PluginDeadline { call }, _) => self.plugin_deadline(call, context),
            (Wait::JobDeadline { job }, _) => self.cancel(job, context),
            (Wait::Job { job }, Some(response)) => self.job_resume(job, response, context),
            (Wait::Departed { job }, _) => self.stage(job, IpamStage::Api, context),
            (Wait::Part { job, part }, response) => self.part_resume(job, part, response, context),
            (wait, response) => self.resume_process(wait, response, context),
        }
    }

    /// A wait of a process, unless it has died since.
    fn resume_process(
        &mut self,
        wait: Wait,
        response: Option<Response>,
        context: &mut Context<'_>,
    ) {
        let (process, life) = match wait {
            Wait::Start { process, life }
            | Wait::Listed { process, life, .. }
            | Wait::FollowAgain { process, life, .. }
            | Wait::FirstList { process, life }
            | Wait::Collect { process, life, .. } => (process, life),
            Wait::LeaseTick { life }
            | Wait::LeaseRead { life }
            | Wait::LeaseWritten { life }
            | Wait::Status { life, .. }
            | Wait::StatusWritten { life, .. }
            | Wait::Sweep { life }
            | Wait::Scan { life } => (CONTROLLER, life),
            wait => unreachable!("{wait:?} has no process"),
        };
        if !self.lives(process, life) {
            return;
        }
        match (wait, response) {
            (Wait::Start { process, .. }, _) => self.start_process(process, context),
            (Wait::Listed { informer, .. }, Some(response)) => {
                self.listed(process, informer, response, context);
            }
            (Wait::FollowAgain { informer, list, .. }, _) => {
                self.followed_again(process, informer, list, context);
            }
            (Wait::FirstList { .. }, _) => self.first_list_done(process, context),
            (Wait::LeaseTick { .. }, _) => self.lease_tick(life, context),
            (Wait::LeaseRead { .. }, Some(response)) => self.lease_read(life, response, context),
            (Wait::LeaseWritten { .. }, Some(response)) => {
                self.lease_written(life, &response, context);
            }
            (Wait::Status { pool, .. }, _) => self.status_write(life, pool, context),
            (Wait::StatusWritten { pool, .. }, Some(response)) => {
                self.status_written(life, pool, &response, context);
            }
            (Wait::Sweep { .. }, _) => self.sweep(life, context),
            (Wait::Scan { .. }, _) => self.scan_due(life, context),
            (
                Wait::Collect {
                    name, pod, step, ..
                },
                response,
            ) => {
                self.collected(process, name, pod, step, response, context);
            }
            (wait, response) => unreachable!("{wait:?} ended with {response:?}"),
        }
    }
}

impl Ipam for Spiderpool {
    fn name(&self) -> &'static str {
        "spiderpool"
    }

    fn is_chained(&self) -> bool {
        self.parameters.coordinator
    }

    fn start(&mut self, context: &mut Context<'_>) {
        let parameters = &self.parameters;
        let groups = if parameters.pool_per_deployment {
            &*self.groups
        } else {
            &[]
        };
        self.catalog = Catalog::new(&self.addresses, groups);
        for pool in self.catalog.ids() {
            let request = Request::Create(Rc::new(self.catalog.empty_object(pool)));
            context
                .api
                .install(&request, &mut context.core)
                .expect("the store has no pool yet");
        }
        // Where the scheduler put the one replica of the controller.
        let machines = context.core.machines.len() as u64;
        let mut draws = context.core.streams.stream("spiderpool", 0, "controller");
        let home = NodeIndex(draws.below(machines) as u32);
        self.processes.push(Process::new(Role::Controller, home));
        self.processes
            .push(Process::new(Role::Collector, NodeIndex(0)));
        for node in 0..machines as u32 {
            self.add_agent(NodeIndex(node));
        }
        for process in 0..self.processes.len() {
            self.start_process(process, context);
        }
    }

    fn ready(&self) -> bool {
        let serving = self.processes.iter().all(|process| process.serving);
        serving && self.catalog.ids().all(|pool| self.counted.contains(&pool))
    }

    fn allocated(&self, api: &ApiServers) -> Vec<Allocated> {
        self.records(api)
    }

    fn call(&mut self, call: IpamCall, context: &mut Context<'_>) {
        self.exec(call, false, context);
    }

    fn chained(&mut self, call: IpamCall, context: &mut Context<'_>) {
        self.exec(call, true, context);
    }

    fn killed(&mut self, _node: NodeIndex, call: IpamCallId, context: &mut Context<'_>) {
        self.execution_killed(call, context);
    }

    fn response(&mut self, token: u64, response: Response, context: &mut Context<'_>) {
        self.resume(token, Some(response), context);
    }

    fn watch(&mut self, token: u64, watch: WatchId, change: Change, context: &mut Context<'_>) {
        self.watched(token, watch, change, context);
    }

    fn timer(&mut self, node: NodeIndex, token: u64, context: &mut Context<'_>) {
        if let Some(Wait::Throttled {
            demand,
            token: then,
        }) = self.waits.get(&token)
        {
            let (demand, then) = (*demand, *then);
            self.waits.remove(&token);
            return context.cpu(node, demand, CpuToken::Ipam(then));
        }
        self.resume(token, None, context);
    }

    fn cpu_done(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        self.resume(token, None, context);
    }

    fn node_changed(&mut self, node: NodeIndex, change: NodeChange, context: &mut Context<'_>) {
        let there: Vec<usize> = (0..self.processes.len())
            .filter(|process| self.processes[*process].node == node)
            .collect();
        match change {
            NodeChange::NetnsPresent(_) | NodeChange::NetnsGone(_) => {}
            NodeChange::Down => {
                self.executions_lost(node);
                for process in there {
                    self.stop_process(process, context);
                }
            }
            NodeChange::Up => {
                let delay = self.parameters.agent_restart;
                for process in there {
                    self.start_later(process, delay, context);
                }
            }
            NodeChange::Joined => {
                let delay = self.parameters.agent_restart;
                let process = self.add_agent(node);
                self.start_later(process, delay, context);
            }
        }
    }

    fn inject(&mut self, fault: IpamFault, context: &mut Context<'_>) {
        if let IpamFault::KillAgent {
            node,
            restart_after,
        } = fault
            && let Some(process) = self.agents.get(&node).copied()
        {
            self.stop_process(process, context);
            self.start_later(process, restart_after, context);
        }
    }

    fn is_down(&self, node: NodeIndex) -> bool {
        let process = self.agents.get(&node);
        process.is_some_and(|process| !self.processes[*process].up)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.totals.list()
    }
}
