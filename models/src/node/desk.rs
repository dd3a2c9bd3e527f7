//! What an actor of a node (kubelet, runtime, a plugin) may touch: tickets and identities, the
//! node's CPU, disk and timers, draws, the stage of a Pod's start. And the one way from the runtime
//! to the kubelet and back: a word left on the desk ([`Next`]), which the node carries over before
//! the event ends. It knows no actor.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::{Stream, Streams};
use drydock_engine::time::SimInstant;

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
struct PodStreams {
    /// Delays of its syncs.
    sync: Stream,
    /// Its place in batches of the status goroutine.
    order: Stream,
}

/// The desk of one node: a handle, one for each who works at it.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) index: NodeIndex,
    pub(crate) name: Rc<str>,
    papers: Rc<RefCell<Papers>>,
}

/// What lies on a desk.
struct Papers {
    streams: Streams,
    /// Draws of the node itself.
    stream: Stream,
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
        let papers = Papers {
            streams: streams.clone(),
            stream: streams.stream("kubelet", entity, "node"),
            next: Vec::new(),
            starting: BTreeSet::new(),
            pod_streams: BTreeMap::new(),
            tickets: 0,
            containers: 0,
            namespaces: 0,
            ipam_calls: 0,
        };
        Self {
            index,
            name,
            papers: Rc::new(RefCell::new(papers)),
        }
    }

    /// Draws of the node itself.
    pub(crate) fn stream(&self) -> RefMut<'_, Stream> {
        RefMut::map(self.papers.borrow_mut(), |papers| &mut papers.stream)
    }

    /// Leaves word of what follows at once.
    pub(crate) fn follow(&self, next: Next) {
        self.papers.borrow_mut().next.push(next);
    }

    /// A wait is over.
    pub(crate) fn resume(&self, token: NodeToken, signal: Signal) {
        self.follow(Next::Resume(token, signal));
    }

    /// Moves what the last step left to the agenda, the first on top.
    pub(super) fn clear(&self, agenda: &mut Vec<Next>) {
        agenda.extend(self.papers.borrow_mut().next.drain(..).rev());
    }

    /// A number that no other wait or process of this node has.
    pub(crate) fn ticket(&self) -> u32 {
        let mut papers = self.papers.borrow_mut();
        papers.tickets += 1;
        papers.tickets
    }

    /// Spends CPU, then resumes the token; no CPU, no event.
    pub(crate) fn compute(&self, demand: Duration, token: NodeToken, context: &mut Context<'_>) {
        if demand.is_zero() {
            self.resume(token, Signal::Go);
        } else {
            context.cpu(self.index, demand, CpuToken::Node(token));
        }
    }

    /// Resumes the token after a while; at once, without an event, if there is nothing to wait.
    pub(crate) fn wait(&self, delay: Duration, token: NodeToken, context: &mut Context<'_>) {
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

    /// The start of a Pod waits for another thing from now on; it matters until its container runs.
    pub(crate) fn stage(&self, pod: PodUid, stage: PodStage, context: &mut Context<'_>) {
        if self.is_starting(pod) {
            context.core.observe(Observation::PodStage { pod, stage });
        }
    }

    /// The start of a Pod matters now.
    pub(crate) fn is_starting(&self, pod: PodUid) -> bool {
        self.papers.borrow().starting.contains(&pod)
    }

    /// The kubelet takes a Pod on: its start matters from now on.
    pub(crate) fn starts(&self, pod: PodUid) {
        let new = self.papers.borrow_mut().starting.insert(pod);
        assert!(new, "a Pod is taken on once");
    }

    /// A Pod's container runs, or the kubelet knows the Pod no more.
    pub(crate) fn starts_no_more(&self, pod: PodUid) {
        self.papers.borrow_mut().starting.remove(&pod);
    }

    /// The kubelet knows no Pod anymore.
    pub(crate) fn nothing_starts(&self) {
        self.papers.borrow_mut().starting.clear();
    }

    /// A draw of a Pod's sync stream.
    pub(crate) fn draw(&self, pod: &Pod, span: Span) -> Duration {
        let mut papers = self.papers.borrow_mut();
        papers.streams_of(pod).sync.duration(span.min..=span.max)
    }

    /// The next place of a Pod in batches of the status goroutine.
    pub(crate) fn draw_order(&self, pod: &Pod) -> u64 {
        self.papers.borrow_mut().streams_of(pod).order.u64()
    }

    /// Forgets the streams of a Pod that this node will not see again.
    pub(crate) fn forget_streams(&self, pod: PodUid) {
        self.papers.borrow_mut().pod_streams.remove(&pod);
    }

    /// A new container ID.
    pub(crate) fn next_container(&self) -> ContainerId {
        let mut papers = self.papers.borrow_mut();
        papers.containers += 1;
        ContainerId(identity(self.index, papers.containers))
    }

    /// A new namespace.
    pub(crate) fn next_netns(&self) -> NetnsId {
        let mut papers = self.papers.borrow_mut();
        papers.namespaces += 1;
        NetnsId(identity(self.index, papers.namespaces))
    }

    /// A new execution of the IPAM.
    pub(crate) fn next_ipam_call(&self) -> IpamCallId {
        let mut papers = self.papers.borrow_mut();
        papers.ipam_calls += 1;
        IpamCallId(identity(self.index, papers.ipam_calls))
    }
}

impl Papers {
    /// The streams of a Pod; they go on where they were when the kubelet restarts.
    fn streams_of(&mut self, pod: &Pod) -> &mut PodStreams {
        let streams = &self.streams;
        self.pod_streams
            .entry(pod.uid)
            .or_insert_with(|| PodStreams {
                sync: streams.stream("kubelet", pod.entity, "sync"),
                order: streams.stream("kubelet", pod.entity, "status-order"),
            })
    }
}

/// The node side's constants.
pub(crate) fn node_side<'a>(context: &Context<'a>) -> &'a NodeSideParameters {
    &context.core.parameters.node_side
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
