//! What the agent hears from its host, and what it answers: plugins' requests, the spool of DELs,
//! looks at paths, the runtime's sandboxes. Plain data; the socket's framing is not here.

use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::objects::{Route, Uid};
use super::time::BootTime;

/// Names one request between the inbox and the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One request of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRequest {
    /// To answer it by.
    pub id: RequestId,
    /// When the plugin stops waiting. The plugin sends it, so time in the inbox counts.
    pub deadline: BootTime,
    /// What is asked.
    pub verb: Verb,
}

/// What a plugin asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// An address for an attachment.
    Add(AddRequest),
    /// The attachment is being removed.
    Del(DelRequest),
    /// Is it as answered?
    Check(CheckRequest),
    /// Only these attachments are still valid.
    Gc(GcRequest),
    /// Could an ADD be served?
    Status,
}

/// One interface of one container: what ADD and DEL are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_IFNAME`.
    pub interface: String,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.interface)
    }
}

/// The Pod in the plugin's arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodReference {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_NAME`.
    pub name: String,
    /// `K8S_POD_UID`; older meta-plugins do not pass it on.
    pub uid: Option<Uid>,
}

/// ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddRequest {
    /// For which interface.
    pub attachment: Attachment,
    /// `CNI_NETNS`.
    pub netns: String,
    /// For which Pod.
    pub pod: PodReference,
    /// Name of the network in the plugin's configuration.
    pub network: String,
    /// Pools that the configuration names; empty means by selectors.
    pub pools: Vec<String>,
    /// Addresses that the runtime asks for.
    pub ips: Vec<IpAddr>,
}

/// DEL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelRequest {
    /// Which interface.
    pub attachment: Attachment,
    /// `CNI_NETNS`; may be empty.
    pub netns: String,
}

/// CHECK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRequest {
    /// Which interface.
    pub attachment: Attachment,
    /// Addresses in the previous result.
    pub addresses: Vec<IpAddr>,
}

/// GC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcRequest {
    /// The valid attachments; absent when the caller sent no list.
    pub valid: Option<Vec<Attachment>>,
}

/// What the socket delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboxEvent {
    /// A plugin asks.
    Request(Box<PluginRequest>),
    /// The plugin of that request is gone; no answer will be read.
    Closed(RequestId),
}

/// Names one file of the spool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpoolId(pub String);

/// One file of the spool: a DEL that met no agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolEntry {
    /// The file.
    pub id: SpoolId,
    /// What it says; `None` when it cannot be read (the core sets it aside).
    pub request: Option<DelRequest>,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To an ADD.
    Added(Allocation),
    /// To everything else, when all is well.
    Done,
    /// Not served.
    Failed(Failure),
}

/// The addresses of an attachment, with routes and name servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// From which pool.
    pub pool: String,
    /// One per family, in the pool's order.
    pub addresses: Vec<AllocatedAddress>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
}

/// One address of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocatedAddress {
    /// The address with the prefix length of its subnet.
    pub address: IpNet,
    /// The gateway of the subnet.
    pub gateway: Option<IpAddr>,
}

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The CNI error code.
    pub code: u32,
    /// One line for people. Never has the words that runtimes take for "already gone".
    pub message: String,
}

impl Failure {
    /// The environment of the call is wrong (CNI: invalid environment variables).
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Input or output failed.
    pub const IO: u32 = 5;
    /// The network configuration asks for something impossible.
    pub const INVALID_CONFIGURATION: u32 = 7;
    /// A transient condition: try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: the plugin cannot serve ADD.
    pub const NOT_AVAILABLE: u32 = 50;
    /// An address that was asked for belongs to somebody else.
    pub const ADDRESS_TAKEN: u32 = 101;
    /// The requested addresses are not a pair, or are in no admissible pool.
    pub const ADDRESS_INADMISSIBLE: u32 = 102;
    /// CHECK found a difference.
    pub const CHECK_FAILED: u32 = 103;
    /// No named pool, or no pool at all, admits the Pod; or an annotation is invalid.
    pub const NOT_ADMITTED: u32 = 104;

    /// A failure with that code.
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// Which mount a path was seen through: a path is evidence of the end of a namespace only through
/// the mount that showed it alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountId(pub u64);

/// Names one look at a path between core and shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// What a look at a namespace's path showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The path itself.
    pub state: PathState,
    /// Whether the agent's canary file in the same directory was visible after that look.
    pub canary: bool,
}

/// The state of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// It is there.
    Present {
        /// Through this mount.
        mount: MountId,
    },
    /// It is not there; its directory is.
    Gone {
        /// The mount of the directory.
        mount: MountId,
    },
    /// Unknown: no such directory, a `/proc` path, an error.
    Unknown,
}

impl Probe {
    /// A look that showed nothing.
    pub const UNKNOWN: Self = Self {
        state: PathState::Unknown,
        canary: false,
    };
}

/// One sandbox that the runtime lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sandbox {
    /// Its container ID.
    pub container: String,
    /// UID of its Pod.
    pub pod_uid: Uid,
}
