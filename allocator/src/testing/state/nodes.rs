//! What a node has besides the agent: it survives the agent.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use futures::channel::oneshot;

use super::Inner;
use crate::core::agent::AgentState;
use crate::core::controller::ControllerState;
use crate::core::exchange::{InboxEvent, RequestId, Response, SpoolEntry};
use crate::core::journal::Seal;
use crate::core::report::Metric;

/// Requests with IDs from here are of a test's own plugins.
pub(in crate::testing) const OWN_ASKS: u64 = 1 << 62;

/// A sandbox that really exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandboxed {
    /// UID of its Pod.
    pub pod: String,
    /// Its container ID.
    pub container: String,
    /// The addresses on its interface; empty before the ADD's answer.
    pub addresses: Vec<core::net::IpAddr>,
}

/// What is wrong with a node's own disk, directories and runtime. The default: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each fails by itself")]
pub struct Ailments {
    /// Nothing can be written to the journal, as on a disk that is full.
    pub journal_full: bool,
    /// The journal cannot even be opened, as on a disk that is read-only.
    pub journal_unreadable: bool,
    /// How long each write of the journal takes.
    pub journal_pause: Duration,
    /// The spool cannot be listed.
    pub spool_unreadable: bool,
    /// How long each list of the spool takes.
    pub spool_pause: Duration,
    /// Looks at paths.
    pub looks: Looks,
    /// Only every so many looks are affected; 0 and 1: all.
    pub looks_every: u64,
    /// The runtime cannot be asked.
    pub runtime_silent: bool,
    /// The runtime also lists what ended on this node: nobody removes it.
    pub lists_ended: bool,
    /// The runtime lists nothing: all its sandboxes are still being made.
    pub lists_nothing: bool,
}

/// What looks at paths show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Looks {
    /// What is there.
    #[default]
    True,
    /// Looks show nothing.
    Unknown,
    /// What is there, but no canary.
    NoCanary,
    /// Another mount, in which nothing is.
    OtherMount,
}

/// What a node has besides the agent: it survives the agent.
#[derive(Default)]
pub(in crate::testing) struct NodeState {
    pub(in crate::testing) journal: Vec<u8>,
    /// Of the journal; it does not outlive the boot.
    pub(in crate::testing) seal: Option<Seal>,
    pub(in crate::testing) boot: u64,
    pub(in crate::testing) machine: String,
    /// The Node's name, where it is not the key of this state.
    pub(in crate::testing) node_name: Option<String>,
    /// Live namespaces by path.
    pub(in crate::testing) namespaces: BTreeMap<String, Sandboxed>,
    /// Sandboxes whose namespaces ended.
    pub(in crate::testing) ended: Vec<Sandboxed>,
    pub(in crate::testing) spool: Vec<SpoolEntry>,
    pub(in crate::testing) inbox: VecDeque<InboxEvent>,
    pub(in crate::testing) inbox_waiter: Option<oneshot::Sender<()>>,
    pub(in crate::testing) namespace_waiter: Option<oneshot::Sender<()>>,
    pub(in crate::testing) spool_waiter: Option<oneshot::Sender<()>>,
    pub(in crate::testing) replies: Vec<(RequestId, Response)>,
    /// What plugins of a test's own were told.
    pub(in crate::testing) answers: BTreeMap<RequestId, Response>,
    pub(in crate::testing) metrics: Vec<Metric>,
    pub(in crate::testing) events: Vec<(&'static str, String)>,
    /// How its agent stood last, where a test asks for it.
    pub(in crate::testing) agent_state: Option<AgentState>,
    /// The same of a controller of that name.
    pub(in crate::testing) controller_state: Option<ControllerState>,
    /// What is wrong with the node's own disk, directories and runtime.
    pub(in crate::testing) ailments: Ailments,
    /// Damaged journals that were kept.
    pub(in crate::testing) aside: Vec<Vec<u8>>,
    pub(in crate::testing) look_count: u64,
    /// Lists of the runtime's sandboxes that were asked for.
    pub(in crate::testing) list_count: u64,
    /// Rises with each start: what a dead process still has in flight is not delivered.
    pub(in crate::testing) incarnation: u64,
}

pub(in crate::testing) type Wait<'a> = &'a mut Option<oneshot::Sender<()>>;

impl Inner {
    pub(in crate::testing) fn node(&mut self, name: &str) -> &mut NodeState {
        self.nodes.entry(name.to_owned()).or_default()
    }

    pub(in crate::testing) fn push(&mut self, node: &str, event: InboxEvent) {
        let node = self.node(node);
        node.inbox.push_back(event);
        notify(&mut node.inbox_waiter);
    }

    pub(in crate::testing) fn agent_is_up(&mut self, node: &str) -> bool {
        self.node(node).inbox_waiter.is_some()
    }
}

pub(in crate::testing) fn notify(waiter: Wait<'_>) {
    if let Some(waiter) = waiter.take() {
        let _ = waiter.send(());
    }
}
