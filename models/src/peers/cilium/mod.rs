//! Cilium v1.14.3 with cluster-pool IPAM and its own data plane.
//!
//! Modeled: the `cilium-cni` process of every CNI verb ([`plugin`]); the agent of every node with
//! its API rate limiter ([`limiter`]), identities, build permits, the template that is compiled
//! once, regeneration and the load into the kernel, the CiliumEndpoint controller and its 5/s API
//! client ([`agent`]); podCIDRs and the host-scope allocator ([`pod_cidr`]). Addresses come from
//! memory: what a Pod waits for is the rate limiter of endpoint creation, whose rate settles at one
//! over the mean time of a build. That time is not a constant: it follows from the CPU of a build
//! (inferred) and the load of the node's cores.
//!
//! Not modeled: the operator's requests at the start (each CiliumNode has its podCIDR before the
//! workload), its collectors of CiliumEndpoints and identities, CiliumEndpointSlices, policies, the
//! other agents' work on a new endpoint, the deletion queue on disk, restoring endpoints after a
//! restart of the agent alone. After a reboot an agent starts with nothing, because the state
//! directory is empty. A node without a podCIDR stays schedulable here; its Pods fail with "range
//! is full".
//!
//! Source: cilium/cilium; some files were read in versions near 1.14.3, which each module names.

mod agent;
mod limiter;
mod parameters;
mod plugin;
mod pod_cidr;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::Streams;

use crate::apiserver::ApiServers;
use crate::cni::{IpamCall, NodeChange};
use crate::context::Context;
use crate::event::CpuToken;
use crate::ids::{IpamCallId, NodeIndex, WatchId};
use crate::ipam::{Allocated, AllocatedTo, Ipam};
use crate::parameters::{Millicores, NodeParameters, ParameterError, Table};
use crate::process::{NewProcess, Owner, Processes};
use crate::request::{Change, ClientClass, ClientSpec, Response, WatchOwner, WatchTarget};

use self::agent::{Agent, IDENTITIES};
use self::parameters::CiliumParameters;
use self::pod_cidr::Operator;

use super::Pool;

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    builds: u64,
    build_ms: u64,
    rejected: u64,
    timeouts: u64,
    full: u64,
    identities: u64,
    expired: u64,
}

/// Watches of an agent, by the high bits of their token.
const PODS: u64 = 1 << 32;
const OF_IDENTITIES: u64 = 2 << 32;
/// Mark of the timers that open a watch again.
const WATCH_AGAIN: u64 = 1 << 63;

/// Cilium in the whole cluster.
pub struct Cilium {
    pool: Pool,
    parameters: Rc<CiliumParameters>,
    exec_cpu: Duration,
    cores: u64,
    counters: Rc<Cell<Counters>>,
    operator: Option<Operator>,
    agents: BTreeMap<NodeIndex, Rc<Agent>>,
    processes: Processes,
}

impl Cilium {
    /// Whether its constants can be read.
    /// Errors: one that is missing, of a wrong unit, or unreadable.
    pub(super) fn check_constants(table: &Table) -> Result<(), ParameterError> {
        CiliumParameters::read(table).map(drop)
    }

    /// Cilium with the pool's addresses to give out.
    /// Errors: a constant of its own that is missing or unreadable.
    pub fn new(pool: Pool, table: &Table) -> Result<Self, ParameterError> {
        let node = NodeParameters::read(table)?;
        let Millicores(cores) = node.cores;
        Ok(Self {
            pool,
            parameters: Rc::new(CiliumParameters::read(table)?),
            exec_cpu: node.exec_cpu,
            cores: cores.div_ceil(1000),
            counters: Rc::default(),
            operator: None,
            agents: BTreeMap::new(),
            processes: Processes::new(Owner::Ipam),
        })
    }

    /// An agent starts with nothing but its podCIDR.
    fn start_agent(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let client = context.client(ClientSpec {
            node,
            class: ClientClass::IpamNode,
            limiter: Some((self.parameters.qps.milli_per_s, self.parameters.burst)),
            timeout: None,
            fresh_connection: false,
        });
        let machine = context.core.machine(node);
        let (name, boot) = (machine.node_name.clone(), machine.boot);
        let entity = Streams::entity(&name) ^ u64::from(node.0) << 32 ^ u64::from(boot) << 48;
        let numbers = context.core.streams.stream("cilium", entity, "identities");
        // One podCIDR for the life of the node, whichever machine carries its name.
        let kept = self
            .agents
            .values()
            .find(|agent| agent.name == name && !agent.serving.get());
        let scopes = match kept {
            Some(old) => std::mem::take(&mut *old.scopes.borrow_mut()),
            None => match &mut self.operator {
                Some(operator) => operator.assign(&self.parameters),
                None => Vec::new(),
            },
        };
        let agent = Agent::new(
            node,
            name,
            self.parameters.clone(),
            self.counters.clone(),
            client,
            scopes,
            self.cores,
            numbers,
        );
        self.agents.insert(node, Rc::new(agent));
        for token in [PODS, OF_IDENTITIES] {
            self.watch_one(token | u64::from(node.0), context);
        }
    }

    fn watch_one(&mut self, token: u64, context: &mut Context<'_>) {
        let node = NodeIndex(token as u32);
        let Some(agent) = self.agents.get(&node) else {
            return;
        };
        let target = if token >> 32 == PODS >> 32 {
            let node_name = Some(context.core.machine(node).node_name.clone());
            WatchTarget::Pods { node_name }
        } else {
            WatchTarget::Customs {
                kind: IDENTITIES,
                selectors: Vec::new(),
                name: None,
            }
        };
        context.watch(agent.client, target, 0, WatchOwner::Ipam { token });
    }

    /// The machine is gone: so is everything in memory.
    fn stop_agent(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.processes.kill_node(node, context);
        if let Some(agent) = self.agents.get(&node) {
            agent.serving.set(false);
            agent.forget();
            context.drop_client(agent.client);
        }
    }

    /// After a boot the agent needs a while.
    fn boot_agent(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.start_agent(node, context);
        let agent = self.agents[&node].clone();
        agent.serving.set(false);
        let start = NewProcess {
            node,
            call: None,
            client: None,
            script: Box::new(move |port| {
                Box::pin(async move {
                    port.sleep(agent.parameters.agent_start).await;
                    agent.serving.set(true);
                })
            }),
        };
        self.processes.start(start, context);
    }
}

impl Ipam for Cilium {
    fn name(&self) -> &'static str {
        "cilium"
    }

    fn is_network_plugin(&self) -> bool {
        true
    }

    fn start(&mut self, context: &mut Context<'_>) {
        let nodes = context.core.machines.len();
        self.operator = Some(Operator::new(&self.pool, nodes, &self.parameters));
        for index in 0..nodes {
            self.start_agent(NodeIndex(index as u32), context);
        }
    }

    fn ready(&self) -> bool {
        true
    }

    /// What the agents' allocators hold in memory; the router's and the health endpoint's
    /// addresses were never in them.
    fn allocated(&self, _api: &ApiServers) -> Vec<Allocated> {
        let mut allocated = Vec::new();
        for agent in self.agents.values() {
            for scope in agent.scopes.borrow().iter() {
                allocated.extend(scope.held().map(|(address, container)| Allocated {
                    address,
                    holder: AllocatedTo::Sandbox(container),
                }));
            }
        }
        allocated
    }

    fn call(&mut self, call: IpamCall, context: &mut Context<'_>) {
        let agent = self
            .agents
            .get(&call.node)
            .expect("every machine has an agent");
        let process = plugin::cilium_cni(agent, self.exec_cpu, call);
        self.processes.execute(process, context);
    }

    fn killed(&mut self, _node: NodeIndex, call: IpamCallId, context: &mut Context<'_>) {
        self.processes.killed(call, context);
    }

    fn response(&mut self, token: u64, response: Response, context: &mut Context<'_>) {
        self.processes.response(token, response, context);
    }

    fn watch(&mut self, token: u64, _watch: WatchId, change: Change, context: &mut Context<'_>) {
        let node = NodeIndex(token as u32);
        let Some(agent) = self.agents.get(&node) else {
            return;
        };
        match change {
            Change::Closed(_) => {
                let delay = context.core.parameters.client.reflector_backoff.max;
                context.ipam_timer(node, context.now() + delay, token | WATCH_AGAIN);
            }
            Change::Pod(pod) => {
                agent.pods.borrow_mut().insert(pod.uid, pod);
            }
            Change::PodGone(pod) => {
                agent.pods.borrow_mut().remove(&pod.uid);
            }
            Change::Custom(identity) => {
                let labels = identity.body.clone();
                // If one set of labels has two, everybody reads the older.
                let mut known = agent.identities.borrow_mut();
                known.entry(labels).or_insert_with(|| identity.name.clone());
                context.cpu(node, self.parameters.cpu_identity, CpuToken::Nobody);
            }
            Change::CustomGone(identity) => {
                let mut known = agent.identities.borrow_mut();
                if known.get(&identity.body) == Some(&identity.name) {
                    known.remove(&identity.body);
                }
            }
            Change::Bookmark(_) => {}
        }
    }

    fn timer(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        if token & WATCH_AGAIN == 0 {
            return self.processes.resume(token, context);
        }
        let token = token & !WATCH_AGAIN;
        let agent = self.agents.get(&NodeIndex(token as u32));
        // A dead agent's watches were dropped with its client; its successor opened its own.
        if agent.is_some_and(|agent| agent.serving.get()) {
            self.watch_one(token, context);
        }
    }

    fn cpu_done(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        self.processes.resume(token, context);
    }

    fn node_changed(&mut self, node: NodeIndex, change: NodeChange, context: &mut Context<'_>) {
        match change {
            NodeChange::Down => self.stop_agent(node, context),
            NodeChange::Up | NodeChange::Joined => self.boot_agent(node, context),
            NodeChange::NetnsPresent(_) | NodeChange::NetnsGone(_) => {}
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = self.counters.get();
        vec![
            ("cilium_builds", counters.builds),
            (
                "cilium_build_ms_mean",
                counters.build_ms.checked_div(counters.builds).unwrap_or(0),
            ),
            ("cilium_rejected", counters.rejected),
            ("cilium_client_timeouts", counters.timeouts),
            ("cilium_range_full", counters.full),
            ("cilium_identities_created", counters.identities),
            ("cilium_addresses_expired", counters.expired),
        ]
    }
}
