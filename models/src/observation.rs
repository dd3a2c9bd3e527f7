//! What the world tells those who watch it (record, ledger, progress): facts, in order, each at
//! the time of the event that caused it. Hashed into the event log with the events.

use std::net::IpAddr;
use std::rc::Rc;

use serde::Serialize;

use crate::cni::IpamStage;
use crate::ids::{ContainerId, NetnsId, NodeIndex, PodUid};
use crate::request::{ApiError, ClientClass, Custom};

/// A fact about the world. Times are those of the enclosing event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Observation {
    /// A Pod object was stored.
    PodCreated {
        /// Pod.
        pod: PodUid,
    },
    /// A Pod's binding was stored.
    PodBound {
        /// Pod.
        pod: PodUid,
        /// The machine whose kubelet will run it; `None` if no such node exists.
        node: Option<NodeIndex>,
    },
    /// The deletionTimestamp was set.
    PodDeleting {
        /// Pod.
        pod: PodUid,
    },
    /// The Pod object is gone from the store.
    PodGone {
        /// Pod.
        pod: PodUid,
    },
    /// `phase: Running` became visible in the API.
    PodRunning {
        /// Pod.
        pod: PodUid,
    },
    /// The Pod became terminal in the API.
    PodTerminal {
        /// Pod.
        pod: PodUid,
    },
    /// A namespace exists on a machine.
    NetnsCreated {
        /// Machine.
        node: NodeIndex,
        /// Namespace.
        netns: NetnsId,
        /// Sandbox that it belongs to.
        container: ContainerId,
        /// Pod of the sandbox.
        pod: PodUid,
    },
    /// A namespace, and every interface in it, is gone.
    NetnsGone {
        /// Machine.
        node: NodeIndex,
        /// Namespace.
        netns: NetnsId,
    },
    /// The CNI chain (multus) was called with ADD.
    AddStarted {
        /// Machine.
        node: NodeIndex,
        /// Sandbox.
        container: ContainerId,
        /// Pod.
        pod: PodUid,
    },
    /// The CNI chain ended.
    AddEnded {
        /// Machine.
        node: NodeIndex,
        /// Sandbox.
        container: ContainerId,
        /// Pod.
        pod: PodUid,
        /// Whether it succeeded.
        ok: bool,
    },
    /// The IPAM plugin was executed with ADD.
    IpamAddStarted {
        /// Machine.
        node: NodeIndex,
        /// Sandbox.
        container: ContainerId,
        /// Pod.
        pod: PodUid,
    },
    /// The IPAM plugin answered an ADD.
    IpamAddEnded {
        /// Machine.
        node: NodeIndex,
        /// Sandbox.
        container: ContainerId,
        /// Pod.
        pod: PodUid,
        /// Its addresses, or the CNI error code and text.
        result: Result<Vec<IpAddr>, (u32, String)>,
    },
    /// What an ADD waits for inside the IPAM changed.
    IpamStage {
        /// Machine.
        node: NodeIndex,
        /// Sandbox.
        container: ContainerId,
        /// Pod.
        pod: PodUid,
        /// From now on.
        stage: IpamStage,
    },
    /// The IPAM plugin answered a DEL.
    IpamDelEnded {
        /// Machine.
        node: NodeIndex,
        /// Sandbox.
        container: ContainerId,
        /// Pod.
        pod: PodUid,
        /// CNI_NETNS was set.
        with_netns: bool,
        /// Whether it succeeded.
        ok: bool,
    },
    /// An address answers on the network: the interface is up in a live namespace.
    AddressUp {
        /// Machine.
        node: NodeIndex,
        /// Namespace.
        netns: NetnsId,
        /// Sandbox.
        container: ContainerId,
        /// Pod.
        pod: PodUid,
        /// Addresses of the interface.
        addresses: Vec<IpAddr>,
    },
    /// The interface is gone (link deleted); the namespace may live on.
    AddressDown {
        /// Machine.
        node: NodeIndex,
        /// Namespace.
        netns: NetnsId,
    },
    /// The apiserver answered a call, or the client stopped waiting for it.
    ApiCall {
        /// Class of the client.
        class: ClientClass,
        /// HTTP verb and resource, e.g. `PUT addressblocks`.
        what: ApiCallKind,
        /// Result as the client saw it.
        result: Result<(), ApiError>,
        /// The write was committed, whatever the client saw.
        committed: bool,
    },
    /// A custom object was stored.
    CustomStored {
        /// As stored.
        object: Rc<Custom>,
    },
    /// A custom object is gone from the store.
    CustomGone {
        /// Its last state.
        object: Rc<Custom>,
    },
    /// A sandbox could not be made; the kubelet will try again.
    SandboxFailed {
        /// Machine.
        node: NodeIndex,
        /// Pod.
        pod: PodUid,
        /// Reason, short.
        reason: &'static str,
    },
    /// What the start of a Pod waits for changed. Until the next such fact the Pod waits for this.
    PodStage {
        /// Pod.
        pod: PodUid,
        /// What it waits for now.
        stage: PodStage,
    },
    /// A machine went down (power, reboot).
    MachineDown {
        /// Machine.
        node: NodeIndex,
    },
    /// A machine came up with a new boot ID.
    MachineUp {
        /// Machine.
        node: NodeIndex,
    },
    /// A fact that only the IPAM under test knows (for probes and its own counters).
    Ipam {
        /// Machine.
        node: NodeIndex,
        /// What, a stable short name.
        what: &'static str,
        /// A number that belongs to it.
        value: u64,
    },
}

/// What the start of a Pod waits for on its node, outside the IPAM. `work_ns` is CPU time that the
/// step needs: what it takes beyond that is waiting for a core. `limited_ns` is how long the
/// client's own limiter holds the request: the rest is the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PodStage {
    /// The kubelet's own work in a sync.
    Kubelet {
        /// CPU time.
        work_ns: u64,
    },
    /// The volume loops, their polls and their back-off.
    Volumes,
    /// A request of the kubelet for this Pod.
    Request {
        /// At the kubelet's limiter.
        limited_ns: u64,
    },
    /// The serial image puller.
    ImagePull,
    /// containerd, shims and runc.
    Sandbox {
        /// CPU time.
        work_ns: u64,
    },
    /// A commit of containerd's database.
    Disk,
    /// The network namespace, under the kernel's lock.
    NetworkLock,
    /// multus itself.
    Multus {
        /// CPU time.
        work_ns: u64,
    },
    /// Requests of multus.
    MultusApi,
    /// macvlan and loopback.
    Macvlan {
        /// CPU time.
        work_ns: u64,
    },
    /// Duplicate address detection.
    DuplicateDetection,
    /// Teardown of a sandbox that failed, or of an older one.
    Cleanup,
    /// The pause of the kubelet after a failed sync.
    RetryDelay,
    /// A relist: the kubelet has not noticed yet what the runtime did.
    Relist,
    /// The queue of the status goroutine: other Pods' updates, its channel, its tick.
    StatusQueue,
    /// CPU of the status update.
    StatusCpu {
        /// CPU time.
        work_ns: u64,
    },
    /// GET or PATCH of the status update.
    StatusRequest {
        /// At the kubelet's limiter.
        limited_ns: u64,
    },
}

/// Verb and resource of an API call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ApiCallKind {
    /// `GET`, `LIST`, `WATCH`, `POST`, `PUT`, `PATCH`, `DELETE`.
    pub verb: &'static str,
    /// Plural resource, with the subresource after a slash.
    pub resource: &'static str,
}
