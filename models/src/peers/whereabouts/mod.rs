//! Whereabouts v0.6.2: an IPAM without a daemon. Every execution asks for one Lease of the whole
//! cluster, and under it reads and patches one object per range.
//!
//! Modeled: the plugin process ([`plugin`]; its CPU, two clients with limiters and connections of
//! their own); leader election as client-go v0.24 does it ([`election`]) with the failed release
//! that leaves the Lease held; the work under it ([`work`]): LIST, GET, lowest free address,
//! overlap check, JSON patch, reservation, range after range in dual stack; its limits of 120, 60
//! and 10 s; a DEL that reports success whatever happened; an ADD that swallows an error of the
//! PATCH, and is not idempotent; processes that are killed with the Lease in hand; the control loop
//! that blocks at the first stale allocation ([`control_loop`]); the daily reconciler
//! ([`reconciler`]). The apiserver model decides what a request costs.
//!
//! Options beyond v0.6.2: client-go's two fixes, seeded jitter, idempotent ADD (v0.8.0), node
//! slices (v0.9.0: one pool and one Lease per node), no overlap check, other lease timings.
//!
//! Not modeled: client CPU of a poll; the encoding of a pool for the ten watchers; the
//! reservation's own cost (reading a small custom object costs as much as reading a Lease); the
//! NodeSlicePool controller (slices are there from the start); events; `sleep_for_race`; the
//! repaired control loop of v0.9.0; the hang after a deposition before the work begins
//! (ipam.go:418-421).
//!
//! Source: k8snetworkplumbingwg/whereabouts v0.6.2 (d15b4d54)
//! `pkg/storage/kubernetes/ipam.go:228-586`, `cmd/whereabouts.go:62-123`,
//! `pkg/allocate/allocate.go:24-133`, `pkg/types/types.go:14-20`, `pkg/storage/storage.go:13-16`,
//! `pkg/controlloop/pod.go:44-276`, `pkg/reconciler/`, and the vendored client-go v0.24.0.

mod pool_object;

mod control_loop;
mod counters;
mod election;
mod execution;
mod parameters;
mod plugin;
mod reconciler;
mod work;

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::apiserver::ApiServers;
use crate::client_go::leader_election::{Elector, Jitter};
use crate::cni::{IpamCall, NodeChange};
use crate::context::Context;
use crate::ids::{ContainerId, IpamCallId, NodeIndex, WatchId};
use crate::ipam::{Allocated, AllocatedTo, Ipam};
use crate::parameters::{ClientParameters, ParameterError, Table};
use crate::process::{Owner, Processes};
use crate::request::{Change, ClientClass, ClientSpec, Custom, Request, Response};

pub use self::counters::Counters;

use self::execution::Execution;
use self::parameters::WhereaboutsParameters;
use self::pool_object::{Allocation, POOL, RESERVATION, Sight};
use super::Pool;

/// Addresses of a range that are looked at; nobody runs as many Pods.
const ADDRESSES_MAX: u64 = 1 << 20;

/// Container of an allocation that existed before the run.
const STRANDED: ContainerId = ContainerId(u32::MAX);

/// One range of the configuration, or a node's slice of it, with its IPPool.
#[derive(Clone, Debug)]
struct Range {
    /// Name of its IPPool.
    pool: Rc<str>,
    /// Addresses by offset.
    addresses: Rc<[IpAddr]>,
}

/// What all processes know.
struct Env {
    parameters: WhereaboutsParameters,
    /// Pause before a closed watch is reopened.
    reflector_backoff: Duration,
    families: Vec<Rc<[IpAddr]>>,
    counters: RefCell<Counters>,
    /// The newest version of each pool that any process has seen; for the counters alone.
    pools: RefCell<BTreeMap<Rc<str>, Sight>>,
}

impl Env {
    fn count(&self, add: impl FnOnce(&mut Counters)) {
        add(&mut self.counters.borrow_mut());
    }

    /// A client of one of its processes.
    fn client(&self, node: NodeIndex, class: ClientClass) -> ClientSpec {
        ClientSpec {
            node,
            class,
            limiter: Some((self.parameters.qps.milli_per_s, self.parameters.burst)),
            timeout: None,
            fresh_connection: true,
        }
    }

    /// A version of a pool was seen.
    fn saw(&self, pool: &Custom) {
        if pool.kind != POOL {
            return;
        }
        let sight = Sight {
            version: pool.resource_version,
            body: pool.body.clone(),
        };
        let mut pools = self.pools.borrow_mut();
        match pools.get_mut(&pool.name) {
            None => {
                pools.insert(pool.name.clone(), sight);
            }
            Some(known) if known.version < sight.version => *known = sight,
            Some(_) => {}
        }
    }

    /// Whether a container has an entry in a pool, as far as any process has seen.
    fn is_allocated(&self, container: ContainerId) -> bool {
        self.pools.borrow().values().any(|sight| {
            pool_object::read(&sight.body)
                .iter()
                .any(|allocation| allocation.container == container)
        })
    }
}

/// Whereabouts in the whole cluster.
pub struct Whereabouts {
    env: Rc<Env>,
    /// Ranges by node, the slices of each; without slices all nodes have the same.
    ranges: BTreeMap<NodeIndex, Vec<Range>>,
    processes: Processes,
}

impl Whereabouts {
    /// Whether its constants can be read.
    /// Errors: one that is missing, of a wrong unit, or unreadable.
    pub(super) fn check_constants(table: &Table) -> Result<(), ParameterError> {
        WhereaboutsParameters::read(table).map(drop)
    }

    /// Nothing is stored yet: the first ADD creates the IPPools and the Lease.
    /// Errors: a constant of its own that is missing or unreadable.
    pub fn new(pool: &Pool, table: &Table) -> Result<Self, ParameterError> {
        let env = Env {
            parameters: WhereaboutsParameters::read(table)?,
            reflector_backoff: ClientParameters::read(table)?.reflector_backoff.min,
            families: pool.all(ADDRESSES_MAX).into_iter().map(Rc::from).collect(),
            counters: RefCell::default(),
            pools: RefCell::default(),
        };
        Ok(Self {
            env: Rc::new(env),
            ranges: BTreeMap::new(),
            processes: Processes::new(Owner::Ipam),
        })
    }

    /// What happened so far.
    pub fn totals(&self) -> Ref<'_, Counters> {
        self.env.counters.borrow()
    }

    /// Plugin processes that run now.
    pub fn process_count(&self) -> usize {
        self.processes.executions()
    }

    /// The ranges of the configuration as a node's processes see them.
    fn ranges_of(&mut self, node: NodeIndex, context: &Context<'_>) -> Vec<Range> {
        if let Some(ranges) = self.ranges.get(&node) {
            return ranges.clone();
        }
        let slice = self.env.parameters.slice_addresses as usize;
        let ranges: Vec<Range> = if slice == 0 {
            self.env.families.iter().map(whole).collect()
        } else {
            // All ranges map to the slice of the first
            // (v0.9.4 pkg/storage/kubernetes/ipam.go:615-619).
            let name = context.core.machines[node.index()].node_name.clone();
            let place = context
                .core
                .machines
                .iter()
                .position(|machine| machine.node_name == name)
                .unwrap_or_default();
            let family = &self.env.families[0];
            let from = (place * slice).min(family.len());
            let to = (from + slice).min(family.len());
            let range = Range {
                pool: Rc::from(format!("kube-system/{name}-slice")),
                addresses: Rc::from(&family[from..to]),
            };
            vec![range; self.env.families.len()]
        };
        self.ranges.insert(node, ranges.clone());
        ranges
    }

    /// Name of the Lease that a node's processes ask for.
    fn lease_of(&mut self, node: NodeIndex, context: &Context<'_>) -> Rc<str> {
        if self.env.parameters.slice_addresses == 0 {
            return Rc::from("kube-system/whereabouts");
        }
        self.ranges_of(node, context)[0].pool.clone()
    }

    fn strand(&mut self, context: &mut Context<'_>) {
        let count = self.env.parameters.stranded_addresses;
        let ranges: Vec<Range> = self.env.families.iter().map(whole).collect();
        for range in ranges {
            let count = (count as usize).min(range.addresses.len());
            if count == 0 {
                continue;
            }
            let allocations: Vec<Allocation<'_>> = (0..count as u32)
                .map(|offset| Allocation {
                    offset,
                    container: STRANDED,
                    pod: "default/former",
                })
                .collect();
            let body = pool_object::body(&allocations);
            let pool = pool_object::object(POOL, &range.pool, body, count as u32);
            let installed = context
                .api
                .install(&Request::Create(pool), &mut context.core);
            assert!(installed.is_ok(), "the store is empty before the run");
        }
    }

    /// Allocations of the pools in the store, and reservations that have no allocation: an ADD
    /// walks past both.
    fn records(&self, api: &ApiServers) -> Vec<Allocated> {
        let ranges = self.ranges.values().flatten().cloned();
        let ranges: BTreeMap<Rc<str>, Range> = (self.env.families.iter().map(whole).chain(ranges))
            .map(|range| (range.pool.clone(), range))
            .collect();
        let mut records: BTreeMap<IpAddr, AllocatedTo> = BTreeMap::new();
        let holder = |container| match container {
            STRANDED => AllocatedTo::Former,
            container => AllocatedTo::Sandbox(container),
        };
        for pool in api.customs(POOL) {
            let Some(range) = ranges.get(&pool.name) else {
                continue;
            };
            for allocation in pool_object::read(&pool.body) {
                let address = range.addresses[allocation.offset as usize];
                records.insert(address, holder(allocation.container));
            }
        }
        for reservation in api.customs(RESERVATION) {
            if let Some((address, container)) = pool_object::read_reservation(&reservation) {
                records.entry(address).or_insert_with(|| holder(container));
            }
        }
        let allocated = |(address, holder)| Allocated { address, holder };
        records.into_iter().map(allocated).collect()
    }

    /// The elector that asks for the Lease for a call.
    fn elector(&mut self, call: &IpamCall, context: &Context<'_>) -> Elector {
        let jitter = if self.env.parameters.unseeded_jitter {
            Jitter::Unseeded(0)
        } else {
            let streams = context.core.streams;
            let stream = streams.stream("whereabouts", u64::from(call.id.0), "poll");
            Jitter::Seeded(Box::new(stream))
        };
        let identity = format!("{}/{}", call.pod_namespace, call.pod_name);
        let lease = self.lease_of(call.node, context);
        let election = self.env.parameters.election();
        Elector::new(election, lease, identity.into(), jitter)
    }

    /// Starts what runs on every machine: ip-control-loop, with the reconciler inside it.
    fn machine_up(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let node_name = context.core.machine(node).node_name.clone();
        let process = control_loop::control_loop(&self.env, node, node_name);
        self.processes.start(process, context);
        let process = reconciler::reconciler(&self.env, node);
        self.processes.start(process, context);
    }
}

/// A family as one range.
fn whole(family: &Rc<[IpAddr]>) -> Range {
    let name = match family.first() {
        Some(first) => first.to_string().replace(':', "-"),
        None => String::new(),
    };
    Range {
        pool: Rc::from(format!("kube-system/{name}")),
        addresses: family.clone(),
    }
}

impl Ipam for Whereabouts {
    fn name(&self) -> &'static str {
        "whereabouts"
    }

    fn start(&mut self, context: &mut Context<'_>) {
        self.strand(context);
        for node in 0..context.core.machines.len() as u32 {
            self.machine_up(NodeIndex(node), context);
        }
    }

    fn ready(&self) -> bool {
        true
    }

    fn call(&mut self, call: IpamCall, context: &mut Context<'_>) {
        let ranges = self.ranges_of(call.node, context);
        let elector = self.elector(&call, context);
        let spec = self.env.client(call.node, ClientClass::IpamNode);
        let clients = [context.client(spec), context.client(spec)];
        let execution = Execution::new(&self.env, call, ranges, clients);
        let process = plugin::whereabouts(execution, elector);
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
            NodeChange::Down => self.processes.kill_node(node, context),
            NodeChange::Up | NodeChange::Joined => self.machine_up(node, context),
            NodeChange::NetnsPresent(_) | NodeChange::NetnsGone(_) => {}
        }
    }

    fn allocated(&self, api: &ApiServers) -> Vec<Allocated> {
        self.records(api)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.env.counters.borrow().list()
    }
}

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod tests;
