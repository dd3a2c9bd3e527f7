//! Events and continuations of a node: what its timers, CPU jobs and API calls come back to.
//! Small values; the state that they refer to lives in [`crate::node`].
//!
//! Every wait of an actor has a ticket, unique on its node. A continuation whose ticket is not the
//! one that the actor waits for is stale (the process was killed, the wait was given up) and does
//! nothing.

use serde::Serialize;

use crate::ids::{ContainerId, PodUid};

/// Who on a node waits for something. It travels with CPU demands, API calls and timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum NodeToken {
    /// The kubelet's worker of a Pod.
    Worker {
        /// Pod.
        pod: PodUid,
        /// Which wait.
        ticket: u32,
    },
    /// A process: a CRI call inside containerd, or a plugin. Which one, and which wait of it.
    Process(u64),
    /// The kubelet's status goroutine.
    Status {
        /// Which wait.
        ticket: u32,
    },
    /// The kubelet's event recorder.
    Recorder {
        /// Which wait.
        ticket: u32,
    },
    /// The kubelet's lifecycle event generator.
    Pleg {
        /// Which wait.
        ticket: u32,
    },
    /// The kubelet's container garbage collector.
    Collector {
        /// Which wait.
        ticket: u32,
    },
    /// The kubelet's list of its Pods.
    PodList {
        /// Which wait.
        ticket: u32,
    },
    /// The kubelet's list of a namespace's ConfigMaps.
    RootCa {
        /// Number of the namespace on this node.
        namespace: u32,
        /// Which wait.
        ticket: u32,
    },
}

/// One event of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum NodeEvent {
    /// A timer or a disk of an actor.
    Wake(NodeToken),
    /// The kubelet lists its Pods again after its watch closed.
    ListAgain {
        /// Which wait.
        ticket: u32,
    },
    /// The client's deadline of a CRI call.
    CriDeadline {
        /// Which call.
        call: u32,
    },
    /// The kubelet process starts (after boot or restart).
    KubeletStart {
        /// Which life of the kubelet.
        life: u32,
    },
    /// containerd is back after a restart.
    RuntimeStart {
        /// Which life of containerd.
        life: u32,
    },
    /// The ticker of the status goroutine.
    StatusTick {
        /// Which life of the kubelet.
        life: u32,
    },
    /// Container garbage collection.
    GarbageCollection {
        /// Which life of the kubelet.
        life: u32,
    },
    /// A pass over what runs that finds Pods which no worker knows.
    Housekeeping {
        /// Which life of the kubelet.
        life: u32,
    },
    /// The workload in a Pod's container ends by itself.
    WorkloadEnds {
        /// Its sandbox.
        container: ContainerId,
    },
    /// The machine boots after a power-off with a planned return.
    Boot {
        /// The boot that ended.
        boot: u32,
    },
}
