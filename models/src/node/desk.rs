//! What an actor of a node (kubelet, runtime, a plugin) may touch: tickets and identities, the
//! node's CPU, disk and timers, draws, the stage of a Pod's start. And the one way to another actor
//! of the node: a word left on the desk ([`Next`]), which the node carries over before the event
//! ends. It knows no actor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::{Stream, Streams};
use drydock_engine::time::SimInstant;

use crate::cni::{CniError, Verb};
use crate::context::Context;
use crate::event::{CpuToken, Event, NodeEvent, NodeToken};
use crate::ids::{ContainerId, IpamCallId, NetnsId, NodeIndex, PodUid};
use crate::objects::Pod;
use crate::observation::{Observation, PodStage};
use crate::parameters::{NodeSideParameters, Span};
use crate::request::Response;

use super::cri::{CriRequest, CriResult, RuntimeService};

/// Low bits of an identity that count on its node; the node stands above them.
const NODE_SHIFT: u32 = 20;

/// Result of a plugin that makes an interface.
pub(crate) type CniResult = Result<Vec<IpAddr>, CniError>;

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

/// What a plugin process is told by its environment.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    pub(crate) verb: Verb,
    pub(crate) container: ContainerId,
    pub(crate) netns: Option<NetnsId>,
    pub(crate) pod: Rc<Pod>,
    pub(crate) deadline: SimInstant,
}

/// What follows at once, in another actor or for another Pod.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// A wait is over.
    Resume(NodeToken, Signal),
    /// The kubelet goes on with its next Pod.
    Kubelet(Errand),
    /// The runtime reports that something of a Pod's containers changed.
    Changed(PodUid),
    /// The runtime gets a CRI call.
    Cri(CriRequest),
    /// The CNI process of a CRI call ended.
    Network {
        /// The CRI call.
        call: u32,
        /// What the process said, or that it was killed.
        result: CniResult,
    },
    /// The runtime executes the network's plugin.
    Execute {
        /// The process.
        process: u32,
        /// The CRI call that waits for it.
        call: u32,
        /// Its environment.
        execution: Execution,
    },
    /// The runtime kills the process that it started.
    Kill(u32),
    /// The runtime died: the process that it started answers nobody.
    Orphan(u32),
}

/// What a kubelet does for one Pod after another.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    /// The list has this Pod.
    Listed(Rc<Pod>),
    /// The list lacks a Pod.
    Missing(PodUid),
    /// All of a list was taken in.
    Synced,
    /// A relist saw that a Pod changed.
    Update(PodUid),
    /// A relist finished that a Pod waits for.
    Snapshot(PodUid),
    /// All Pods of a relist were told.
    Relisted,
    /// A Pod runs that no worker knows.
    Unknown(PodUid, Rc<Pod>),
    /// The certificate is there that a Pod waits for.
    Certificate(PodUid),
}

/// Random draws of one Pod on one node.
#[derive(Debug)]
pub(crate) struct PodStreams {
    /// Delays of its syncs.
    pub(crate) sync: Stream,
    /// Its place in batches of the status goroutine.
    pub(crate) order: Stream,
}

/// The desk of one node.
pub(crate) struct Desk {
    pub(crate) index: NodeIndex,
    pub(crate) name: Rc<str>,
    /// Draws of the node itself.
    pub(crate) stream: Stream,
    /// Left by the step that runs, in order.
    next: Vec<Next>,
    /// Pods whose container the kubelet has not started yet.
    starting: BTreeSet<PodUid>,
    pod_streams: BTreeMap<PodUid, PodStreams>,
    tickets: u32,
    containers: u32,
    namespaces: u32,
    ipam_calls: u32,
}

/// The desk as the kubelet sees it: beside it stands the runtime that it may look at.
pub(crate) struct KubeletDesk<'a> {
    pub(crate) desk: &'a mut Desk,
    pub(crate) cri: &'a dyn RuntimeService,
}

impl Deref for KubeletDesk<'_> {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        self.desk
    }
}

impl DerefMut for KubeletDesk<'_> {
    fn deref_mut(&mut self) -> &mut Desk {
        self.desk
    }
}

impl Desk {
    /// An empty desk.
    pub(crate) fn new(index: NodeIndex, name: Rc<str>, streams: &Streams) -> Self {
        // A replacement under the same name is a machine of its own, with draws of its own.
        let entity = Streams::entity(&name) ^ (u64::from(index.0) << 32);
        Self {
            index,
            name,
            stream: streams.stream("kubelet", entity, "node"),
            next: Vec::new(),
            starting: BTreeSet::new(),
            pod_streams: BTreeMap::new(),
            tickets: 0,
            containers: 0,
            namespaces: 0,
            ipam_calls: 0,
        }
    }

    /// Leaves word of what follows at once.
    pub(crate) fn follow(&mut self, next: Next) {
        self.next.push(next);
    }

    /// A wait is over.
    pub(crate) fn resume(&mut self, token: NodeToken, signal: Signal) {
        self.follow(Next::Resume(token, signal));
    }

    /// Takes what the last step left, in order.
    pub(super) fn take(&mut self) -> std::vec::Drain<'_, Next> {
        self.next.drain(..)
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
            self.resume(token, Signal::Go);
        } else {
            context.cpu(self.index, demand, CpuToken::Node(token));
        }
    }

    /// Resumes the token after a while; at once, without an event, if there is nothing to wait.
    pub(crate) fn wait(&mut self, delay: Duration, token: NodeToken, context: &mut Context<'_>) {
        if delay.is_zero() {
            self.resume(token, Signal::Go);
        } else {
            self.wake_at(context.now() + delay, token, context);
        }
    }

    /// Resumes the token at an instant.
    pub(crate) fn wake_at(&self, at: SimInstant, token: NodeToken, context: &mut Context<'_>) {
        self.at(at, NodeEvent::Wake(token), context);
    }

    /// Schedules an event of this node.
    pub(crate) fn at(&self, at: SimInstant, event: NodeEvent, context: &mut Context<'_>) {
        assert!(at >= context.now(), "nothing is due in the past");
        let node = self.index;
        context.core.queue.at(at, Event::Node { node, event });
    }

    /// Schedules an event of this node after a delay.
    pub(crate) fn later(&self, delay: Duration, event: NodeEvent, context: &mut Context<'_>) {
        let node = self.index;
        context.core.after(delay, Event::Node { node, event });
    }

    /// Commits to bbolt through the node's one writer, then resumes the token. Commits of one step
    /// go as one job: their writer is one, so only their interleaving with others is lost.
    pub(crate) fn commit(&mut self, commits: u64, token: NodeToken, context: &mut Context<'_>) {
        let parameters = node_side(context);
        let syncs = commits * parameters.containerd.fdatasync_per_commit;
        let service = parameters.node.fdatasync * u32::try_from(syncs).unwrap_or(u32::MAX);
        let now = context.now();
        let done = context.core.machine(self.index).bbolt.submit(now, service);
        self.wait(done - now, token, context);
    }

    /// The start of a Pod waits for another thing from now on; it matters until its container runs.
    pub(crate) fn stage(&self, pod: PodUid, stage: PodStage, context: &mut Context<'_>) {
        if self.starting.contains(&pod) {
            context.core.observe(Observation::PodStage { pod, stage });
        }
    }

    /// The kubelet takes a Pod on: its start matters from now on.
    pub(crate) fn starts(&mut self, pod: PodUid) {
        let new = self.starting.insert(pod);
        assert!(new, "a Pod is taken on once");
    }

    /// A Pod's container runs, or the kubelet knows the Pod no more.
    pub(crate) fn starts_no_more(&mut self, pod: PodUid) {
        self.starting.remove(&pod);
    }

    /// The kubelet knows no Pod any more.
    pub(crate) fn nothing_starts(&mut self) {
        self.starting.clear();
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
}

/// The node side's constants.
pub(crate) fn node_side<'a>(context: &Context<'a>) -> &'a NodeSideParameters {
    &context.core.parameters.node_side
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
