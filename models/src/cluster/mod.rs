//! The world: owns every component, routes each event to the one it concerns, and gives the outside
//! (runner, ledger, fault plan) a few handles. It has no Kubernetes rule of its own.

mod census;
mod inject;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::drive::World;
use drydock_engine::log::EventLog;
use drydock_engine::queue::{Queue, TieBreak};
use drydock_engine::stream::Streams;
use drydock_engine::time::SimInstant;
use drydock_traces::workload::{Workload, WorkloadObject};

use crate::apiserver::ApiServers;
use crate::context::Context;
use crate::controllers::Controllers;
use crate::controllers::scheduler::Scheduler;
use crate::driver::Driver;
use crate::event::{ApiEvent, ControlEvent, ControlToken, CpuToken, Event, Recorder, Role};
use crate::ids::{NodeIndex, PodUid, WatchId};
use crate::ipam::Ipam;
use crate::kernel::{Components, Kernel};
use crate::machine::Machine;
use crate::node::Nodes;
use crate::observation::Observation;
use crate::parameters::{Parameters, Table};
use crate::request::{Change, ReplyTo, Response, WatchOwner};

pub use self::census::{Census, WaitingPod};
pub use self::inject::{Action, Injected};

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// Names of the nodes; the first `masters` of them run an apiserver.
    pub node_names: Vec<String>,
    /// Apiservers, 1 to 3.
    pub masters: usize,
    /// Constants.
    pub parameters: Parameters,
    /// What is created.
    pub workload: Workload,
    /// Seed of all streams.
    pub seed: u64,
    /// Order of simultaneous events.
    pub tie_break: TieBreak,
    /// Whether kubelets run. Without them Pods stay as they were bound.
    pub kubelets: bool,
    /// Whether the run ends when every Pod runs, or when no waiting Pod can be expected to.
    pub ends_by_itself: bool,
}

impl ClusterSpec {
    /// Names as the reference cluster has them: `master1`…, then `worker4`….
    pub fn node_names(nodes: usize, masters: usize) -> Vec<String> {
        let name = |number: usize| {
            let role = if number <= masters {
                "master"
            } else {
                "worker"
            };
            format!("{role}{number}")
        };
        (1..=nodes).map(name).collect()
    }

    /// Some objects on this many nodes with kubelets, with names and apiservers as in the reference
    /// cluster. The run has no end of its own.
    ///
    /// Panics: when the constants contradict each other.
    pub fn small(nodes: usize, table: &Table, objects: Vec<WorkloadObject>, seed: u64) -> Self {
        let parameters = Parameters::read(table).expect("consistent parameters");
        let masters = Self::masters(nodes, &parameters);
        Self {
            node_names: Self::node_names(nodes, masters),
            masters,
            parameters,
            workload: Workload {
                objects,
                ..Workload::default()
            },
            seed,
            tie_break: TieBreak::Fifo,
            kubelets: true,
            ends_by_itself: false,
        }
    }

    /// How many apiservers a cluster of this many nodes has.
    pub fn masters(nodes: usize, parameters: &Parameters) -> usize {
        nodes.min(parameters.cluster.masters as usize)
    }
}

/// Why a run ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every Pod runs (or, of a Job, has succeeded).
    AllRunning,
    /// Every waiting Pod failed three rounds or fits on no node, and no Pod is terminating.
    NoProgress,
}

/// Told of every observation, in order, with its time.
pub type Observer = Box<dyn FnMut(SimInstant, &Observation)>;

/// The world.
pub struct Cluster {
    kernel: Kernel,
    nodes: Nodes,
    controllers: Controllers,
    scheduler: Scheduler,
    driver: Driver,
    ipam: Box<dyn Ipam>,
    observer: Option<Observer>,
    census: Census,
    masters: usize,
    kubelets: bool,
    ends_by_itself: bool,
    losses: BTreeMap<Role, u32>,
}

impl Cluster {
    /// Builds a cluster and the queue that drives it. Nothing happens before [`Cluster::start`].
    ///
    /// Panics: with no node, or with more apiservers than nodes.
    pub fn new(spec: ClusterSpec, ipam: Box<dyn Ipam>) -> (Cluster, Queue<Event>) {
        let streams = Streams::new(spec.seed);
        Self::with_streams(spec, ipam, streams)
    }

    /// Like [`Cluster::new`] with the caller's streams, for instance ones that keep a ledger.
    pub fn with_streams(
        spec: ClusterSpec,
        ipam: Box<dyn Ipam>,
        streams: Streams,
    ) -> (Cluster, Queue<Event>) {
        assert!(
            (1..=spec.node_names.len()).contains(&spec.masters),
            "a cluster has at least one master, and every master is a node"
        );
        let parameters = spec.parameters;
        let mut queue = Queue::new(spec.tie_break);
        let masters: Vec<NodeIndex> = (0..spec.masters as u32).map(NodeIndex).collect();
        let mut controllers = Controllers::new(&parameters.kcm);
        let mut scheduler = Scheduler::default();
        let mut machines = Vec::new();
        for (index, name) in spec.node_names.iter().enumerate() {
            let node = NodeIndex(index as u32);
            let name: Rc<str> = Rc::from(&**name);
            let master = index < spec.masters;
            machines.push(machine(&name, node, master, &parameters));
            scheduler.set_node(&name, node, master);
        }
        let mut kernel = Kernel::new(machines, &masters, parameters, streams);
        let driver = kernel.enter(&mut queue, |context| {
            Driver::new(&spec.workload, &mut controllers, context)
        });
        let census = Census::new(spec.workload.pod_count());
        let cluster = Cluster {
            nodes: Nodes::new(ipam.is_network_plugin()).with_chained(ipam.is_chained()),
            kernel,
            controllers,
            scheduler,
            driver,
            ipam,
            observer: None,
            census,
            masters: spec.masters,
            kubelets: spec.kubelets,
            ends_by_itself: spec.ends_by_itself,
            losses: BTreeMap::new(),
        };
        (cluster, queue)
    }

    /// Starts everything at time zero.
    pub fn start(&mut self, queue: &mut Queue<Event>, log: &mut EventLog) {
        let masters = self.masters as u64;
        let leader = |role: &'static str, streams: &Streams| {
            NodeIndex(streams.stream("election", 0, role).below(masters) as u32)
        };
        let kcm = leader("controllers", &self.kernel.streams);
        let sched = leader("scheduler", &self.kernel.streams);
        self.with(queue, |parts, context| {
            context.api.start(&mut context.core);
            parts.ipam.start(context);
            parts.controllers.start(kcm, context);
            parts.scheduler.start(sched, context);
            if parts.kubelets {
                for node in 0..context.core.machines.len() {
                    parts.nodes.start(NodeIndex(node as u32), context);
                }
            }
            parts.driver.start(NodeIndex(0), context);
        });
        self.settle(queue, log);
    }

    /// Runs a closure with every component and the context at the current instant.
    fn with<R>(
        &mut self,
        queue: &mut Queue<Event>,
        run: impl FnOnce(&mut Parts<'_>, &mut Context<'_>) -> R,
    ) -> R {
        let (kernel, mut parts) = self.split();
        kernel.enter(queue, |context| run(&mut parts, context))
    }

    fn split(&mut self) -> (&mut Kernel, Parts<'_>) {
        let parts = Parts {
            nodes: &mut self.nodes,
            controllers: &mut self.controllers,
            scheduler: &mut self.scheduler,
            driver: &mut self.driver,
            ipam: &mut *self.ipam,
            kubelets: self.kubelets,
        };
        (&mut self.kernel, parts)
    }

    /// Runs a closure with the IPAM under test: for faults that only it understands.
    pub fn with_ipam<R>(
        &mut self,
        queue: &mut Queue<Event>,
        log: &mut EventLog,
        run: impl FnOnce(&mut dyn Ipam, &mut Context<'_>) -> R,
    ) -> R {
        let result = self.with(queue, |parts, context| run(parts.ipam, context));
        self.settle(queue, log);
        result
    }

    /// Records what was observed and draws the consequences for the control plane.
    fn settle(&mut self, queue: &mut Queue<Event>, log: &mut EventLog) {
        let now = queue.now();
        while !self.kernel.observed.is_empty() {
            let observed = std::mem::take(&mut self.kernel.observed);
            for observation in &observed {
                log.append(now, observation);
                if let Some(observer) = &mut self.observer {
                    observer(now, observation);
                }
                self.census.observe(observation, &self.kernel.api);
                match observation {
                    Observation::MachineDown { node } => self.machine_down(*node, queue),
                    Observation::MachineUp { node } => self.machine_up(*node, queue),
                    _ => {}
                }
            }
            if self.kernel.observed.is_empty() {
                let mut observed = observed;
                observed.clear();
                self.kernel.observed = observed;
                break;
            }
        }
    }

    /// Sets who is told of every observation.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Counts of Pods.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// The API, for reading what is stored.
    pub fn api(&self) -> &ApiServers {
        &self.kernel.api
    }

    /// The scheduler, for reading what it assigned.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Machines by [`NodeIndex`], dead and replaced ones included.
    pub fn machines(&self) -> &[Machine] {
        &self.kernel.machines
    }

    /// The machine that runs under a node name now.
    pub fn node(&self, node_name: &str) -> Option<NodeIndex> {
        self.kernel.api.node(node_name)
    }

    /// The IPAM under test.
    pub fn ipam(&self) -> &dyn Ipam {
        &*self.ipam
    }

    /// The constants of the run.
    pub fn parameters(&self) -> &Parameters {
        &self.kernel.parameters
    }

    /// Whether the user has created everything.
    pub fn created(&self) -> bool {
        self.driver.done()
    }

    /// Why the run is over, if it is.
    pub fn end(&self) -> Option<End> {
        if !self.driver.done() {
            return None;
        }
        if self.census.all_running() {
            return Some(End::AllRunning);
        }
        let unschedulable = self.scheduler.unschedulable().count() as u64;
        self.census
            .hopeless(unschedulable)
            .then_some(End::NoProgress)
    }

    /// Totals of the IPAM, see [`Ipam::counters`].
    pub fn ipam_counters(&self) -> Vec<(&'static str, u64)> {
        self.ipam.counters()
    }

    /// A user deletes every Pod; the run ends when the replacements run.
    pub fn delete_all(&mut self, queue: &mut Queue<Event>, log: &mut EventLog) {
        self.with(queue, |parts, context| parts.driver.delete_all(context));
        self.settle(queue, log);
    }

    /// Pods that exist and do not run, with what is known of the reason. Shape: by UID.
    pub fn waiting(&self) -> Vec<WaitingPod> {
        let unschedulable: BTreeMap<PodUid, &str> = self.scheduler.unschedulable().collect();
        self.census.waiting(&self.kernel.api, &unschedulable)
    }
}

/// The components, borrowed one by one.
struct Parts<'a> {
    nodes: &'a mut Nodes,
    controllers: &'a mut Controllers,
    scheduler: &'a mut Scheduler,
    driver: &'a mut Driver,
    ipam: &'a mut dyn Ipam,
    kubelets: bool,
}

impl Parts<'_> {
    fn control(&mut self, event: ControlEvent, context: &mut Context<'_>) {
        match event {
            ControlEvent::Cycle { .. } | ControlEvent::BackedOff { .. } => {
                self.scheduler.handle(event, context);
            }
            ControlEvent::WatchAgain {
                role: Role::Scheduler,
                ..
            } => {
                self.scheduler.handle(event, context);
            }
            ControlEvent::NodeSilent { node, .. } => {
                self.controllers.handle(event, context);
                let ready = self.controllers.node_ready(node);
                self.scheduler.node_ready(node, ready, context);
            }
            _ => self.controllers.handle(event, context),
        }
    }
}

impl Components for Parts<'_> {
    fn event(&mut self, event: Event, context: &mut Context<'_>) {
        match event {
            Event::Control(event) => self.control(event, context),
            Event::Node { node, event } => self.nodes.handle(node, event, context),
            Event::IpamTimer { node, token } => self.ipam.timer(node, token, context),
            Event::IpamExec(call) => self.ipam.call(call, context),
            Event::IpamChained(call) => self.ipam.chained(call, context),
            Event::IpamKill { node, call } => {
                // An answer that was not yet out is lost with the process.
                context.core.ipam_answers.remove(&call);
                self.ipam.killed(node, call, context);
            }
            Event::IpamExit { node, call } => {
                if let Some(answer) = context.core.ipam_answers.remove(&call) {
                    self.nodes.ipam_exit(node, call, answer, context);
                }
            }
            Event::NodeChanged { node, change } => self.ipam.node_changed(node, change, context),
            Event::Driver { token } => {
                let ready = self.ipam.ready();
                self.driver.handle(token, ready, context);
            }
            Event::Fault { .. } => unreachable!("who set a plan's event takes it"),
            Event::Cpu { .. } | Event::Api(_) => unreachable!("the kernel's own"),
        }
    }

    fn cpu_done(&mut self, node: NodeIndex, token: CpuToken, context: &mut Context<'_>) {
        match token {
            CpuToken::Node(token) => self.nodes.cpu_done(node, token, context),
            CpuToken::Ipam(token) => self.ipam.cpu_done(node, token, context),
            CpuToken::Api(_) | CpuToken::Nobody => unreachable!("the kernel's own"),
        }
    }

    fn respond(&mut self, reply: ReplyTo, response: Response, context: &mut Context<'_>) {
        match reply {
            ReplyTo::Node { node, token } => self.nodes.response(node, token, response, context),
            ReplyTo::Controllers {
                token: ControlToken::Event(Recorder::Scheduler),
            } => {
                self.scheduler.event_sent(context);
            }
            ReplyTo::Controllers { token } => self.controllers.response(token, &response, context),
            ReplyTo::Scheduler { pod } => self.scheduler.response(pod, &response, context),
            ReplyTo::Ipam { token } => self.ipam.response(token, response, context),
            ReplyTo::Driver { token } => {
                self.driver.response(token, &response, context);
            }
            ReplyTo::Nobody => {}
        }
    }

    fn notify(
        &mut self,
        owner: WatchOwner,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        match owner {
            WatchOwner::Kubelet(node) => self.nodes.watch(node, watch, change, context),
            WatchOwner::Controllers => self.controllers.watch(watch, &change, context),
            WatchOwner::Scheduler => self.scheduler.watch(watch, &change, context),
            WatchOwner::Ipam { token } => self.ipam.watch(token, watch, change, context),
        }
    }
}

impl World for Cluster {
    type Event = Event;

    fn handle(
        &mut self,
        _at: SimInstant,
        event: Event,
        queue: &mut Queue<Event>,
        log: &mut EventLog,
    ) {
        match event {
            Event::Control(ControlEvent::Elect { role, loss }) => self.elect(role, loss, queue),
            event => {
                let (kernel, mut parts) = self.split();
                kernel.handle(event, queue, &mut parts);
            }
        }
        self.settle(queue, log);
    }

    fn after_tasks(&mut self, queue: &mut Queue<Event>, log: &mut EventLog) {
        self.with(queue, |parts, context| parts.ipam.after_tasks(context));
        self.settle(queue, log);
    }

    fn finished(&self) -> bool {
        self.ends_by_itself && self.census.may_have_ended() && self.end().is_some()
    }
}

/// A new machine.
fn machine(name: &Rc<str>, node: NodeIndex, master: bool, parameters: &Parameters) -> Machine {
    let id = Rc::from(format!("machine-{:08x}", node.0));
    Machine::new(name.clone(), id, master, parameters)
}

/// How long until a role that lost its leader has a new one.
fn election_time(role: Role, loss: u32, parameters: &Parameters, streams: &Streams) -> Duration {
    let purpose = match role {
        Role::Controllers => "controllers lease",
        Role::Scheduler => "scheduler lease",
    };
    let retry = parameters.kcm.lease_retry;
    let draw = streams
        .stream("election", u64::from(loss), purpose)
        .duration(retry.min..=retry.max);
    parameters.kcm.lease + draw
}

/// Whether an event is part of the API path; for counting events per request.
pub fn is_api_event(event: &Event) -> bool {
    matches!(
        event,
        Event::Api(
            ApiEvent::Arrive { .. }
                | ApiEvent::Answer { .. }
                | ApiEvent::Fsync { .. }
                | ApiEvent::Served { .. }
                | ApiEvent::Release { .. }
        )
    )
}

#[cfg(test)]
mod tests;
