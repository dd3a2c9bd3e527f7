//! One node of the fake world: what its ports see.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::channel::oneshot;

use super::world::{Inner, Shared};
use crate::core::agent::AgentState;
use crate::core::controller::ControllerState;
use crate::core::exchange::{InboxEvent, RequestId, Response, SpoolEntry};
use crate::core::report::Metric;

/// Requests with IDs from here are of a test's own plugins.
pub(super) const OWN_ASKS: u64 = 1 << 62;

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
    /// Each write of the journal takes so long.
    pub journal_pause: Duration,
    /// The spool cannot be listed.
    pub spool_unreadable: bool,
    /// Each list of the spool takes so long.
    pub spool_pause: Duration,
    /// Looks at paths.
    pub looks: Looks,
    /// Only every so many looks are affected; 0 and 1: all.
    pub looks_every: u64,
    /// The runtime cannot be asked.
    pub runtime_silent: bool,
}

/// What looks at paths show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Looks {
    /// What is there.
    #[default]
    True,
    /// That there is no telling.
    Unknown,
    /// What is there, but no canary.
    NoCanary,
    /// Another mount, in which nothing is.
    OtherMount,
}

/// What a node has besides the agent: it survives the agent.
#[derive(Default)]
pub(super) struct NodeState {
    pub(super) journal: Vec<u8>,
    pub(super) boot: u64,
    pub(super) machine: String,
    /// The Node's name, where it is not the key of this state.
    pub(super) node_name: Option<String>,
    /// Live namespaces by path.
    pub(super) namespaces: BTreeMap<String, Sandboxed>,
    pub(super) spool: Vec<SpoolEntry>,
    pub(super) inbox: VecDeque<InboxEvent>,
    pub(super) inbox_waiter: Option<oneshot::Sender<()>>,
    pub(super) namespace_waiter: Option<oneshot::Sender<()>>,
    pub(super) spool_waiter: Option<oneshot::Sender<()>>,
    pub(super) replies: Vec<(RequestId, Response)>,
    /// What plugins of a test's own were told.
    pub(super) answers: BTreeMap<RequestId, Response>,
    pub(super) metrics: Vec<Metric>,
    pub(super) events: Vec<(&'static str, String)>,
    /// How its agent stood last, where a test asks for it.
    pub(super) agent_state: Option<AgentState>,
    /// The same of a controller of that name.
    pub(super) controller_state: Option<ControllerState>,
    /// What is wrong with the node's own disk, directories and runtime.
    pub(super) ailments: Ailments,
    /// Damaged journals that were kept.
    pub(super) aside: Vec<Vec<u8>>,
    pub(super) look_count: u64,
    /// Lists of the runtime's sandboxes that were asked for.
    pub(super) list_count: u64,
    /// Rises with each start: what a dead process still has in flight is not delivered.
    pub(super) incarnation: u64,
}

/// The ports of one agent process.
pub struct NodePorts {
    pub(super) shared: Shared,
    pub(super) name: String,
    pub(super) incarnation: u64,
}

impl NodePorts {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.shared)
    }

    pub(super) fn with_node<T>(&self, f: impl FnOnce(&mut NodeState) -> T) -> T {
        f(self.lock().node(&self.name))
    }
}

pub(super) fn lock(shared: &Arc<Mutex<Inner>>) -> MutexGuard<'_, Inner> {
    shared
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
