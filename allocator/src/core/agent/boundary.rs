//! What goes into an agent and what comes out: who it is, what happens to it, what it wants done.
//! Nothing is decided here.

use super::host::Finding;
use super::policy::Policy;
use crate::core::api::{ApiError, ApiReply, ApiRequest, CallId, WatchEvent, WatchId, WatchQuery};
use crate::core::exchange::{
    PluginRequest, Probe, ProbeId, RequestId, Response, Sandbox, SpoolEntry, SpoolId,
};
use crate::core::journal::{Seal, Stored};
use crate::core::report::{LocalError, Metric, Subject};
use crate::core::time::BootTime;

/// Who the agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Name of the Node object.
    pub node_name: String,
    /// The machine's name: unique among machines, the same from boot to boot (see
    /// [`super::naming`]).
    pub machine_id: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Name of the node's default network, for which the pool of a Pod is known before ADD. Empty:
    /// nothing is claimed before an ADD.
    pub default_network: String,
    /// Whether to delete a Pod whose address another Pod has after this machine was buried alive.
    /// If off, it is only reported, and two Pods have one address until somebody acts.
    pub removes_displaced_pods: bool,
    /// Durations and bounds.
    pub policy: Policy,
    /// The rule to break.
    #[cfg(feature = "mutants")]
    pub mutant: Option<crate::core::Mutant>,
}

impl AgentConfig {
    /// A configuration with the standard policy.
    pub fn new(node_name: &str, machine_id: &str, boot_id: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            machine_id: machine_id.to_owned(),
            boot_id: boot_id.to_owned(),
            default_network: String::new(),
            removes_displaced_pods: true,
            policy: Policy::STANDARD,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

/// What happens to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The process started. First, and once.
    Start,
    /// The journal is locked; this is its content.
    JournalOpened(Result<Stored, LocalError>),
    /// Appending failed, and so did these ADDs, which were answered with the failure.
    AppendFailed {
        /// Their requests.
        refused: Vec<RequestId>,
    },
    /// A plugin asks. For ADD and DEL with a namespace path: what a look at the path showed.
    Request {
        /// What it asks.
        request: Box<PluginRequest>,
        /// The look.
        probe: Option<Probe>,
    },
    /// The plugin is gone.
    Closed(RequestId),
    /// The apiserver answered.
    Api {
        /// Which request.
        call: CallId,
        /// How.
        result: Result<ApiReply, ApiError>,
    },
    /// A watch delivered, or could not be opened (`Closed`, `Expired`).
    Watch {
        /// Which watch.
        watch: WatchId,
        /// What, in order. Events that are ready together should come together: the Pods of a burst
        /// then share their writes.
        events: Vec<WatchEvent>,
    },
    /// The time last asked for by [`Output::Wake`] has come.
    Wake,
    /// A look at a path.
    Probed {
        /// Which.
        probe: ProbeId,
        /// What it showed.
        result: Probe,
    },
    /// Some path may have vanished.
    NamespacesChanged,
    /// The spool may have a new entry.
    SpoolChanged,
    /// The spool's entries.
    Spool(Result<Vec<SpoolEntry>, LocalError>),
    /// The runtime's sandboxes.
    Sandboxes(Result<Vec<Sandbox>, LocalError>),
    /// What a look at parts of the host found.
    Parts(Vec<Finding>),
}

/// What an agent wants done. Outputs begin in this order. An append (or compaction) must end before
/// the outputs after it begin; if it fails, each [`Response::Added`] among them is replaced by a
/// failure, and each write is answered as not applied without being sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Lock the journal and read it.
    OpenJournal,
    /// Append to the journal, and then write this seal. `None`: the seal is removed before the
    /// append.
    Append(Vec<u8>, Option<Seal>),
    /// Replace the journal's content; its seal as above.
    Compact(Vec<u8>, Option<Seal>),
    /// Ask the apiserver.
    Call {
        /// To recognize the answer by.
        call: CallId,
        /// What.
        request: ApiRequest,
    },
    /// Open a watch.
    Watch {
        /// To recognize its events by.
        watch: WatchId,
        /// What.
        query: WatchQuery,
    },
    /// Close a watch.
    Unwatch(WatchId),
    /// Send [`Input::Wake`] at this time; replaces the time asked for before.
    Wake(BootTime),
    /// Look at a path.
    Probe {
        /// To recognize the answer by.
        probe: ProbeId,
        /// The path.
        path: String,
    },
    /// List the spool.
    ListSpool,
    /// Remove an entry of the spool.
    RemoveSpool(SpoolId),
    /// Set an unreadable entry aside.
    SetSpoolAside(SpoolId),
    /// List the runtime's sandboxes.
    ListSandboxes,
    /// Answer a plugin.
    Reply {
        /// Which request.
        request: RequestId,
        /// What.
        response: Response,
    },
    /// Count.
    Metric(Metric),
    /// Tell the operator.
    Event {
        /// About what.
        subject: Subject,
        /// Reason.
        reason: &'static str,
        /// Message.
        message: String,
    },
    /// Keep a copy of the journal for people to inspect, before it is replaced.
    SetJournalAside,
}
