//! All machines' kubelet, runtime and plugins: routes each event, answer and completion to the
//! actor that waits for it, and applies what happens to whole machines and processes.

pub mod containerd;
pub mod kubelet;

mod cni_exec;
#[cfg(test)]
mod harness;
mod macvlan;
mod multus;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::{Stream, Streams};
use drydock_engine::time::SimInstant;

use crate::cni::{CniError, IpamAnswer, NodeChange};
use crate::context::Context;
use crate::event::{CpuToken, Event};
use crate::event::{NodeEvent, NodeToken};
use crate::ids::{ContainerId, IpamCallId, NetnsId, NodeIndex, PodUid, WatchId};
use crate::objects::Pod;
use crate::observation::{Observation, PodStage};
use crate::parameters::{NodeSideParameters, Span};
use crate::request::{Change, ReplyTo, Request, Response};

use self::containerd::{CriResult, Runtime};
use self::kubelet::Kubelet;
use self::macvlan::Macvlan;
use self::multus::Multus;

/// Low bits of an identity that count on its node; the node stands above them.
const NODE_SHIFT: u32 = 20;

/// The node side of the cluster, by machine.
#[derive(Default)]
#[expect(
    clippy::struct_field_names,
    reason = "the table is what the type is named after"
)]
pub struct Nodes {
    nodes: Vec<Node>,
    ipam_is_network_plugin: bool,
    ipam_is_chained: bool,
}

/// What a wait ends with.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// Time, CPU or disk was spent.
    Go,
    /// An API call ended.
    Api(Response),
    /// A CRI call ended.
    Cri(CriResult),
}

/// Random draws of one Pod on one node.
#[derive(Debug)]
pub(crate) struct PodStreams {
    /// Delays of its syncs.
    pub(crate) sync: Stream,
    /// Its place in batches of the status goroutine.
    pub(crate) order: Stream,
}

/// Everything on one machine that is not shared truth.
pub(crate) struct Node {
    pub(crate) index: NodeIndex,
    pub(crate) name: Rc<str>,
    pub(crate) kubelet: Kubelet,
    pub(crate) runtime: Runtime,
    pub(crate) multus: BTreeMap<u32, Multus>,
    pub(crate) macvlan: BTreeMap<u32, Macvlan>,
    /// Which process waits for which execution of the IPAM.
    pub(crate) ipam: BTreeMap<IpamCallId, u32>,
    /// Delegates of each attachment as multus keeps them in /var/lib/cni/multus.
    pub(crate) multus_cache: BTreeMap<ContainerId, Rc<Pod>>,
    /// The runtime executes the IPAM itself.
    pub(crate) ipam_is_network_plugin: bool,
    /// A further plugin of the IPAM follows macvlan.
    pub(crate) ipam_is_chained: bool,
    /// Which multus process waits for which execution of it.
    pub(crate) chained: BTreeMap<IpamCallId, u32>,
    /// Deletions of links left until they fail, and how many then fail.
    pub(crate) link_failures: (u32, u32),
    pod_streams: BTreeMap<PodUid, PodStreams>,
    /// Draws of the node itself.
    pub(crate) stream: Stream,
    tickets: u32,
    containers: u32,
    namespaces: u32,
    ipam_calls: u32,
}

impl Nodes {
    /// No machine yet; the runtime of each will execute multus, or the IPAM itself.
    pub fn new(ipam_is_network_plugin: bool) -> Self {
        Self {
            ipam_is_network_plugin,
            ..Self::default()
        }
    }

    /// The IPAM has a further plugin behind macvlan.
    pub fn with_chained(mut self, ipam_is_chained: bool) -> Self {
        self.ipam_is_chained = ipam_is_chained;
        self
    }

    /// Starts containerd and kubelet of a machine that exists in `machines` (start of the run).
    /// Machines start in the order of their index.
    pub fn start(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        assert_eq!(
            node.index(),
            self.nodes.len(),
            "machines start in the order of their index"
        );
        let name = Rc::clone(&context.core.machine(node).node_name);
        let mut started = Node::new(node, name, context.core.streams);
        started.ipam_is_network_plugin = self.ipam_is_network_plugin;
        started.ipam_is_chained = self.ipam_is_chained;
        self.nodes.push(started);
        self.nodes[node.index()].kubelet_start(context);
    }

    /// A machine joined while the cluster ran (also under an old node name): starts it and says so.
    pub fn join(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.start(node, context);
        context.core.queue.soon(Event::NodeChanged {
            node,
            change: NodeChange::Joined,
        });
    }

    /// An event of a machine.
    pub fn handle(&mut self, node: NodeIndex, event: NodeEvent, context: &mut Context<'_>) {
        let this = &mut self.nodes[node.index()];
        match event {
            NodeEvent::Wake(token) => this.resume(token, Signal::Go, context),
            NodeEvent::ListAgain { ticket } => this.list_again(ticket, context),
            NodeEvent::CriDeadline { call } => this.cri_deadline(call, context),
            NodeEvent::CleanupDeadline { call } => this.cleanup_deadline(call, context),
            NodeEvent::KubeletStart { life } => {
                if life == this.kubelet.life && !this.kubelet.running {
                    this.kubelet_start(context);
                }
            }
            NodeEvent::RuntimeStart { life } => this.runtime_started(life, context),
            NodeEvent::StatusTick { life } => this.status_tick(life, context),
            NodeEvent::GarbageCollection { life } => this.collect_garbage(life, context),
            NodeEvent::Housekeeping { life } => this.housekeep(life, context),
            NodeEvent::WorkloadEnds { container } => this.workload_ended(container),
            NodeEvent::Boot { boot } => {
                let machine = context.core.machine(node);
                if !machine.up && machine.boot == boot {
                    self.boot(node, context);
                }
            }
        }
    }

    /// An API call of a machine ended.
    pub fn response(
        &mut self,
        node: NodeIndex,
        token: NodeToken,
        response: Response,
        context: &mut Context<'_>,
    ) {
        self.nodes[node.index()].resume(token, Signal::Api(response), context);
    }

    /// The kubelet's watch delivered.
    pub fn watch(
        &mut self,
        node: NodeIndex,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        self.nodes[node.index()].watch_delivered(watch, change, context);
    }

    /// CPU of a machine was served.
    pub fn cpu_done(&mut self, node: NodeIndex, token: NodeToken, context: &mut Context<'_>) {
        self.nodes[node.index()].resume(token, Signal::Go, context);
    }

    /// The IPAM plugin exited.
    pub fn ipam_exit(
        &mut self,
        node: NodeIndex,
        call: IpamCallId,
        answer: IpamAnswer,
        context: &mut Context<'_>,
    ) {
        self.nodes[node.index()].ipam_exited(call, answer, context);
    }

    /// The machine loses power: every process on it is dead, memory and namespaces are gone.
    /// It boots again `return_after` later, if given. An apiserver on it is not the node side's.
    pub fn power_off(
        &mut self,
        node: NodeIndex,
        return_after: Option<Duration>,
        context: &mut Context<'_>,
    ) {
        if !context.core.machine(node).up {
            return;
        }
        self.nodes[node.index()].lose_power(context);
        let boot = context.core.machine(node).boot;
        if let Some(after) = return_after {
            context.core.after(
                after,
                Event::Node {
                    node,
                    event: NodeEvent::Boot { boot },
                },
            );
        }
    }

    /// The machine boots now: its kubelet starts, and runs its Pods in new sandboxes.
    pub fn boot(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        if context.core.machine(node).up {
            return;
        }
        context.core.change(node).boot();
        let this = &mut self.nodes[node.index()];
        this.runtime_recover(context);
        let (life, boot) = (this.kubelet.life, this.node_side(context).node.boot);
        context.core.after(
            boot,
            Event::Node {
                node,
                event: NodeEvent::KubeletStart { life },
            },
        );
    }

    /// The kubelet dies and comes back after `kubelet.restart`; sandboxes run on. CRI calls in
    /// flight are canceled.
    pub fn restart_kubelet(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let this = &mut self.nodes[node.index()];
        if !this.kubelet.running {
            return;
        }
        this.kubelet_stop(context);
        this.cancel_cri_calls(context);
        let span = this.node_side(context).kubelet.restart;
        let (life, delay) = (this.kubelet.life, this.stream.duration(span.min..=span.max));
        context.core.after(
            delay,
            Event::Node {
                node,
                event: NodeEvent::KubeletStart { life },
            },
        );
    }

    /// containerd dies and comes back after `containerd.restart`; plugins run on as orphans.
    pub fn restart_containerd(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let this = &mut self.nodes[node.index()];
        if this.runtime.up && context.core.machine(node).up {
            this.runtime_stop(None, context);
        }
    }

    /// containerd of a machine dies and is back after a while; plugins run on as orphans. `false`:
    /// it is down already.
    pub fn stop_containerd(
        &mut self,
        node: NodeIndex,
        down: Duration,
        context: &mut Context<'_>,
    ) -> bool {
        let this = &mut self.nodes[node.index()];
        let runs = this.runtime.up && context.core.machine(node).up;
        if runs {
            this.runtime_stop(Some(down), context);
        }
        runs
    }

    /// A sandbox of a machine ends without a DEL: its processes, its namespace and its record are
    /// gone at once. Which one: `pick`, modulo those that are ready and that no call concerns.
    /// `false`: there is none.
    pub fn lose_sandbox(&mut self, node: NodeIndex, pick: u64, context: &mut Context<'_>) -> bool {
        self.nodes[node.index()].sandbox_lost(pick, context)
    }

    /// The next teardown of a sandbox on a machine asks no plugin: its namespace goes without a DEL.
    pub fn skip_del(&mut self, node: NodeIndex) {
        self.nodes[node.index()].runtime.silent_teardowns += 1;
    }

    /// Every IPAM plugin that runs on a machine is killed (out of memory): its parent sees it fail.
    /// What it asked of others goes on.
    pub fn kill_ipam(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let this = &mut self.nodes[node.index()];
        let calls: Vec<IpamCallId> = this.ipam.keys().copied().collect();
        for call in calls {
            context.core.queue.soon(Event::IpamKill { node, call });
            this.ipam_exited(call, Err(killed()), context);
        }
    }

    /// Every multus that runs on a machine is killed: its call fails, its delegate is an orphan.
    pub fn kill_multus(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let this = &mut self.nodes[node.index()];
        let processes: Vec<(u32, Option<u32>)> = (this.multus.iter())
            .map(|(process, multus)| (*process, multus.call))
            .collect();
        for (process, call) in processes {
            this.cni_kill(process, context);
            if let Some(call) = call {
                this.cri_network_done(call, Err(killed()), context);
            }
        }
    }

    /// Statuses that a kubelet has sent.
    pub fn status_patch_count(&self, node: NodeIndex) -> u64 {
        self.nodes[node.index()].kubelet.status.patch_count
    }

    /// Relists that a kubelet has finished.
    pub fn relist_count(&self, node: NodeIndex) -> u64 {
        self.nodes[node.index()].kubelet.pleg.relist_count
    }

    /// Link deletions of macvlan fail from the `nth` DEL from now (1 = the next), `count` times.
    pub fn fail_link_deletions(&mut self, node: NodeIndex, nth: u32, count: u32) {
        self.nodes[node.index()].link_failures = (nth, count);
    }
}

impl Node {
    fn new(index: NodeIndex, name: Rc<str>, streams: &Streams) -> Self {
        // A replacement under the same name is a machine of its own, with draws of its own.
        let entity = Streams::entity(&name) ^ (u64::from(index.0) << 32);
        Self {
            index,
            name,
            kubelet: Kubelet::default(),
            runtime: Runtime::new(),
            multus: BTreeMap::new(),
            macvlan: BTreeMap::new(),
            ipam: BTreeMap::new(),
            multus_cache: BTreeMap::new(),
            ipam_is_network_plugin: false,
            ipam_is_chained: false,
            chained: BTreeMap::new(),
            link_failures: (0, 0),
            pod_streams: BTreeMap::new(),
            stream: streams.stream("kubelet", entity, "node"),
            tickets: 0,
            containers: 0,
            namespaces: 0,
            ipam_calls: 0,
        }
    }

    /// Hands a continuation to the actor that waits for it; a stale one does nothing.
    pub(crate) fn resume(&mut self, token: NodeToken, signal: Signal, context: &mut Context<'_>) {
        match token {
            NodeToken::Worker { pod, ticket } => {
                if self
                    .kubelet
                    .workers
                    .get(&pod)
                    .is_some_and(|w| w.ticket == ticket)
                {
                    self.worker_resume(pod, signal, context);
                }
            }
            NodeToken::Cri { call, ticket } => {
                if self
                    .runtime
                    .calls
                    .get(&call)
                    .is_some_and(|c| c.ticket == ticket)
                {
                    self.cri_resume(call, context);
                }
            }
            NodeToken::Multus { process, ticket } => {
                if self
                    .multus
                    .get(&process)
                    .is_some_and(|p| p.ticket == ticket)
                {
                    self.multus_resume(process, signal, context);
                }
            }
            NodeToken::Macvlan { process, ticket } => {
                if self
                    .macvlan
                    .get(&process)
                    .is_some_and(|p| p.ticket == ticket)
                {
                    self.macvlan_resume(process, context);
                }
            }
            NodeToken::Status { ticket } => {
                if self.kubelet.status.ticket == ticket {
                    self.status_resume(signal, context);
                }
            }
            NodeToken::Recorder { ticket } => {
                if self.kubelet.recorder.ticket == ticket {
                    self.event_recorded(context);
                }
            }
            NodeToken::Pleg { ticket } => {
                if self.kubelet.pleg.ticket == ticket {
                    self.pleg_resume(context);
                }
            }
            NodeToken::Collector { ticket } => {
                if self.kubelet.collector.ticket == ticket {
                    self.collector_resume(&signal, context);
                }
            }
            NodeToken::PodList { ticket } => {
                if self.kubelet.list_ticket == ticket {
                    self.pods_listed(signal, context);
                }
            }
            NodeToken::RootCa { namespace, ticket } => {
                self.root_ca_resume(namespace, ticket, &signal, context);
            }
        }
    }

    /// The node side's constants.
    #[expect(clippy::unused_self, reason = "every actor of a node asks it alike")]
    pub(crate) fn node_side<'a>(&self, context: &Context<'a>) -> &'a NodeSideParameters {
        &context.core.parameters.node_side
    }

    /// A number that no other wait or process of this node has.
    pub(crate) fn ticket(&mut self) -> u32 {
        self.tickets += 1;
        self.tickets
    }

    /// Spends CPU, then resumes the token; no CPU, no event.
    pub(crate) fn compute(
        &mut self,
        demand: Duration,
        token: NodeToken,
        context: &mut Context<'_>,
    ) {
        if demand.is_zero() {
            self.resume(token, Signal::Go, context);
        } else {
            context.cpu(self.index, demand, CpuToken::Node(token));
        }
    }

    /// Resumes the token after a while; at once, without an event, if there is nothing to wait.
    pub(crate) fn wait(&mut self, delay: Duration, token: NodeToken, context: &mut Context<'_>) {
        if delay.is_zero() {
            self.resume(token, Signal::Go, context);
        } else {
            self.wake_at(context.now() + delay, token, context);
        }
    }

    /// Resumes the token at an instant.
    pub(crate) fn wake_at(&self, at: SimInstant, token: NodeToken, context: &mut Context<'_>) {
        let event = NodeEvent::Wake(token);
        context.core.queue.at(
            at,
            Event::Node {
                node: self.index,
                event,
            },
        );
    }

    /// Schedules an event of this node.
    pub(crate) fn later(&self, delay: Duration, event: NodeEvent, context: &mut Context<'_>) {
        context.core.after(
            delay,
            Event::Node {
                node: self.index,
                event,
            },
        );
    }

    /// Commits to bbolt through the node's one writer, then resumes the token. Commits of one step
    /// go as one job: their writer is one, so only their interleaving with others is lost.
    pub(crate) fn commit(&mut self, commits: u64, token: NodeToken, context: &mut Context<'_>) {
        let parameters = self.node_side(context);
        let syncs = commits * parameters.containerd.fdatasync_per_commit;
        let service = parameters.node.fdatasync * u32::try_from(syncs).unwrap_or(u32::MAX);
        let now = context.now();
        let done = context.core.machine(self.index).bbolt.submit(now, service);
        self.wait(done - now, token, context);
    }

    /// The start of a Pod waits for something else from now on; it matters until its container runs.
    pub(crate) fn stage(&self, pod: PodUid, stage: PodStage, context: &mut Context<'_>) {
        let worker = self.kubelet.workers.get(&pod);
        if worker.is_some_and(|worker| !worker.started) {
            context.core.observe(Observation::PodStage { pod, stage });
        }
    }

    /// Makes an API call with the kubelet's main client.
    /// Units: the result is the time at the kubelet's limiter, in ns.
    pub(crate) fn call(
        &mut self,
        request: Request,
        token: NodeToken,
        context: &mut Context<'_>,
    ) -> u64 {
        let client = self
            .kubelet
            .client
            .expect("a running kubelet has its client");
        let call = context.call(
            client,
            request,
            ReplyTo::Node {
                node: self.index,
                token,
            },
        );
        let now = context.now();
        context.api.limited(call, now).as_nanos() as u64
    }

    /// A draw of a Pod's sync stream.
    pub(crate) fn draw(&mut self, pod: &Pod, span: Span, context: &Context<'_>) -> Duration {
        self.streams_of(pod, context)
            .sync
            .duration(span.min..=span.max)
    }

    /// The streams of a Pod; they go on where they were when the kubelet restarts.
    pub(crate) fn streams_of(&mut self, pod: &Pod, context: &Context<'_>) -> &mut PodStreams {
        let streams = context.core.streams;
        self.pod_streams
            .entry(pod.uid)
            .or_insert_with(|| PodStreams {
                sync: streams.stream("kubelet", pod.entity, "sync"),
                order: streams.stream("kubelet", pod.entity, "status-order"),
            })
    }

    /// Forgets the streams of a Pod that this node will not see again.
    pub(crate) fn forget_streams(&mut self, pod: PodUid) {
        self.pod_streams.remove(&pod);
    }

    /// A new container ID.
    pub(crate) fn next_container(&mut self) -> ContainerId {
        self.containers += 1;
        ContainerId(identity(self.index, self.containers))
    }

    /// A new namespace.
    pub(crate) fn next_netns(&mut self) -> NetnsId {
        self.namespaces += 1;
        NetnsId(identity(self.index, self.namespaces))
    }

    /// A new execution of the IPAM.
    pub(crate) fn next_ipam_call(&mut self) -> IpamCallId {
        self.ipam_calls += 1;
        IpamCallId(identity(self.index, self.ipam_calls))
    }

    /// Everything in memory is gone; what is on disk stays.
    fn lose_power(&mut self, context: &mut Context<'_>) {
        let node = self.index;
        if self.kubelet.running {
            self.kubelet_stop(context);
        } else {
            // A restart that was under way does not survive either.
            self.kubelet.life += 1;
        }
        for (_, process) in std::mem::take(&mut self.multus) {
            context.drop_client(process.client);
        }
        self.macvlan.clear();
        self.ipam.clear();
        self.chained.clear();
        self.runtime_lose_power(context);
        context.core.change(node).lose_power();
    }
}

/// What the parent of a process sees that was killed.
pub(crate) fn killed() -> CniError {
    CniError {
        code: 999,
        message: "signal: killed".to_owned(),
    }
}

/// An identity of this node: the node in the high bits, the count in the low ones.
fn identity(node: NodeIndex, count: u32) -> u32 {
    assert!(node.0 < 1 << (32 - NODE_SHIFT), "fewer than 4096 machines");
    assert!(
        count < 1 << NODE_SHIFT,
        "fewer than 2^20 sandboxes on one machine"
    );
    node.0 << NODE_SHIFT | count
}
