//! What the long-running processes have in common (the agent of each machine, the controller, the
//! garbage collector of kube-controller-manager): clients with a bucket each, informers, a CPU
//! limit, a ticket queue.
//!
//! controller-runtime gives each pair of client object and kind its own token bucket, and neither
//! reader, writer nor informers share one (spiderpool v0.8.0 `vendor/sigs.k8s.io/controller-runtime/
//! pkg/client/client_rest_resources.go:59-72`).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::server::TokenBucket;
use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::event::CpuToken;
use crate::ids::{ClientId, NodeIndex, PodUid, WatchId};
use crate::objects::{Pod, ResourceVersion};
use crate::parameters::{Millicores, Rate};
use crate::request::{ClientClass, ClientSpec, Custom, ReplyTo, Request};

use super::job::JobId;
use super::limiter::Limiter;
use super::parameters::SpiderpoolParameters;
use super::pools::PoolId;
use super::quota::Quota;
use super::{Spiderpool, Wait};

/// CPU that delays nothing by itself is spent in pieces of this size, to keep events few.
const LUMP: Duration = Duration::from_millis(5);

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// spiderpool-controller.
    Controller,
    /// The garbage collector of kube-controller-manager.
    Collector,
    /// spiderpool-agent.
    Agent,
}

/// The buckets of a process, one client each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bucket {
    PodRead,
    OwnerRead,
    EndpointRead,
    EndpointWrite,
    PoolRead,
    PoolWrite,
    Lease,
    Informers,
}

impl Bucket {
    const COUNT: usize = 8;
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Informer {
    Pods,
    Endpoints,
    Pools,
}

impl Informer {
    pub(super) const ALL: [Informer; 3] = [Informer::Pods, Informer::Endpoints, Informer::Pools];
}

/// State of one informer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Followed {
    pub(super) synced: bool,
    pub(super) revision: ResourceVersion,
    pub(super) watch: Option<WatchId>,
}

/// Pods as an informer knows them.
#[derive(Debug, Default)]
pub(super) struct KnownPods {
    by_uid: BTreeMap<PodUid, Rc<Pod>>,
    by_name: BTreeMap<(Rc<str>, Rc<str>), PodUid>,
}

impl KnownPods {
    pub(super) fn named(&self, namespace: &Rc<str>, name: &Rc<str>) -> Option<&Rc<Pod>> {
        let uid = self.by_name.get(&(namespace.clone(), name.clone()))?;
        self.by_uid.get(uid)
    }

    pub(super) fn get(&self, pod: PodUid) -> Option<&Rc<Pod>> {
        self.by_uid.get(&pod)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Rc<Pod>> {
        self.by_uid.values()
    }

    pub(super) fn put(&mut self, pod: Rc<Pod>) {
        let name = (pod.namespace.clone(), pod.name.clone());
        if let Some(old) = self.by_name.insert(name, pod.uid)
            && old != pod.uid
        {
            self.by_uid.remove(&old);
        }
        self.by_uid.insert(pod.uid, pod);
    }

    pub(super) fn remove(&mut self, pod: &Pod) {
        self.by_uid.remove(&pod.uid);
        let name = (pod.namespace.clone(), pod.name.clone());
        if self.by_name.get(&name) == Some(&pod.uid) {
            self.by_name.remove(&name);
        }
    }
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) role: Role,
    pub(super) node: NodeIndex,
    /// Counts starts and deaths: whatever belongs to an older life is ignored.
    pub(super) life: u32,
    /// It runs.
    pub(super) up: bool,
    /// It serves: its boot is over.
    pub(super) serving: bool,
    clients: Vec<ClientId>,
    /// What the buckets of the clients hold, for saying who waits for one.
    buckets: Vec<TokenBucket>,
    pub(super) followed: [Followed; 3],
    pub(super) pods: KnownPods,
    pub(super) endpoints: BTreeMap<Rc<str>, Rc<Custom>>,
    pub(super) pools: BTreeMap<PoolId, Rc<Custom>>,
    pub(super) limiter: Limiter,
    quota: Quota,
    lump: Duration,
    /// What failed allocations have already, by Pod.
    pub(super) failures: BTreeMap<PodUid, BTreeMap<PoolId, u32>>,
    /// Lists that the first allocation waits for: how many are done; none before it.
    pub(super) lists_done: Option<usize>,
    /// Allocations that wait for them.
    pub(super) parked: Vec<JobId>,
    /// Endpoints that the collector works on.
    pub(super) collecting: BTreeSet<Rc<str>>,
}

impl Process {
    pub(super) fn new(role: Role, node: NodeIndex) -> Self {
        Self {
            role,
            node,
            life: 0,
            up: false,
            serving: false,
            clients: Vec::new(),
            buckets: Vec::new(),
            followed: [Followed::default(); 3],
            pods: KnownPods::default(),
            endpoints: BTreeMap::new(),
            pools: BTreeMap::new(),
            limiter: Limiter::default(),
            quota: Quota::default(),
            lump: Duration::ZERO,
            failures: BTreeMap::new(),
            lists_done: None,
            parked: Vec::new(),
            collecting: BTreeSet::new(),
        }
    }

    /// Starts with empty memory and clients of its own.
    pub(super) fn start(&mut self, parameters: &SpiderpoolParameters, context: &mut Context<'_>) {
        let life = self.life + 1;
        *self = Process::new(self.role, self.node);
        self.life = life;
        self.up = true;
        let (class, qps, burst) = match self.role {
            Role::Agent => (
                ClientClass::IpamNode,
                parameters.agent_qps,
                parameters.agent_burst,
            ),
            Role::Controller => (
                ClientClass::IpamController,
                parameters.controller_qps,
                parameters.controller_burst,
            ),
            Role::Collector => (
                ClientClass::OtherControllers,
                parameters.collector_qps,
                parameters.collector_burst,
            ),
        };
        let Rate { milli_per_s } = qps;
        let spec = ClientSpec {
            node: self.node,
            class,
            limiter: Some((milli_per_s, burst)),
            timeout: None,
            fresh_connection: false,
        };
        // The collector has one client for everything.
        let own = if self.role == Role::Collector {
            1
        } else {
            Bucket::COUNT
        };
        let made: Vec<ClientId> = (0..own).map(|_| context.client(spec)).collect();
        self.clients = (0..Bucket::COUNT).map(|index| made[index % own]).collect();
        self.buckets = (0..Bucket::COUNT)
            .map(|_| TokenBucket::new(milli_per_s, burst))
            .collect();
    }

    /// Dies: its calls go on at the servers, their answers reach nobody.
    pub(super) fn stop(&mut self, context: &mut Context<'_>) {
        for client in std::mem::take(&mut self.clients) {
            context.drop_client(client);
        }
        let life = self.life + 1;
        *self = Process::new(self.role, self.node);
        self.life = life;
    }

    pub(super) fn client(&self, bucket: Bucket) -> ClientId {
        self.clients[bucket as usize]
    }

    /// When a call made now leaves its bucket.
    fn departure(&mut self, bucket: Bucket, now: SimInstant) -> SimInstant {
        self.buckets[bucket as usize].reserve(now)
    }

    fn limit(&self, parameters: &SpiderpoolParameters) -> Option<Millicores> {
        match self.role {
            Role::Agent => Some(parameters.agent_cpu_limit),
            Role::Controller => Some(parameters.controller_cpu_limit),
            Role::Collector => None,
        }
    }

    /// CPU that nobody waits for.
    pub(super) fn spend(
        &mut self,
        demand: Duration,
        parameters: &SpiderpoolParameters,
        context: &mut Context<'_>,
    ) {
        self.lump += demand;
        if self.up && self.lump >= LUMP {
            let lump = std::mem::take(&mut self.lump);
            if let Some(limit) = self.limit(parameters) {
                let period = parameters.cfs_period;
                self.quota.take(context.now(), lump, limit, period);
            }
            context.cpu(self.node, lump, CpuToken::Nobody);
        }
    }
}

impl Spiderpool {
    /// CPU of a process that something waits for, under its limit.
    pub(super) fn compute(
        &mut self,
        process: usize,
        demand: Duration,
        wait: Wait,
        context: &mut Context<'_>,
    ) {
        let token = self.wait(wait);
        let now = context.now();
        let process = &mut self.processes[process];
        let limit = process.limit(&self.parameters);
        let period = self.parameters.cfs_period;
        let delay = limit.map_or(Duration::ZERO, |limit| {
            process.quota.take(now, demand, limit, period)
        });
        let node = process.node;
        if delay.is_zero() {
            return context.cpu(node, demand, CpuToken::Ipam(token));
        }
        self.totals.throttled += 1;
        let started = self.wait(Wait::Throttled { demand, token });
        context.ipam_timer(node, now + delay, started);
    }

    /// A call of a process; when it leaves the bucket.
    pub(super) fn ask(
        &mut self,
        process: usize,
        bucket: Bucket,
        request: Request,
        wait: Wait,
        context: &mut Context<'_>,
    ) -> SimInstant {
        let token = self.wait(wait);
        let process = &mut self.processes[process];
        let departs = process.departure(bucket, context.now());
        context.call(process.client(bucket), request, ReplyTo::Ipam { token });
        departs
    }

    /// A timer on the machine of a process.
    pub(super) fn pause(
        &mut self,
        process: usize,
        delay: Duration,
        wait: Wait,
        context: &mut Context<'_>,
    ) {
        let token = self.wait(wait);
        let node = self.processes[process].node;
        context.ipam_timer(node, context.now() + delay, token);
    }
}
