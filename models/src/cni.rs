//! What a CNI plugin is asked on a node and what it answers, as data; what a process on a machine
//! could notice. Who answers is an IPAM ([`crate::ipam`]).

use std::net::IpAddr;
use std::rc::Rc;

use drydock_engine::time::SimInstant;
use serde::Serialize;

use crate::ids::{ContainerId, IpamCallId, NetnsId, NodeIndex, PodUid};

/// CNI verb that reaches the IPAM plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verb {
    /// ADD.
    Add,
    /// DEL.
    Del,
}

/// One execution of the IPAM plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IpamCall {
    /// Its number.
    pub id: IpamCallId,
    /// Machine it runs on.
    pub node: NodeIndex,
    /// Verb.
    pub verb: Verb,
    /// CNI_CONTAINERID.
    pub container: ContainerId,
    /// CNI_NETNS; `None` = empty, as in the DELs of garbage collection.
    pub netns: Option<NetnsId>,
    /// K8S_POD_NAMESPACE in CNI_ARGS.
    pub pod_namespace: Rc<str>,
    /// K8S_POD_NAME in CNI_ARGS.
    pub pod_name: Rc<str>,
    /// K8S_POD_UID in CNI_ARGS.
    pub pod: PodUid,
    /// When the caller kills it.
    pub deadline: SimInstant,
}

/// Addresses that an ADD answered, in the order of the result's `ips`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assigned {
    /// One address per family.
    pub addresses: Vec<IpAddr>,
}

/// A CNI error result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CniError {
    /// CNI error code.
    pub code: u32,
    /// `msg`.
    pub message: String,
}

/// Answer of the plugin; a DEL answers with no addresses.
pub type IpamAnswer = Result<Assigned, CniError>;

/// What an ADD is waiting for inside the IPAM: told at every change, so that a Pod's critical path
/// can be read from the run. Shape: from one report to the next, or to the exit of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum IpamStage {
    /// Its own processes need a core.
    Cpu,
    /// A request is on its way, at the server, or on its way back.
    Api,
    /// The limiter of a client holds a request back.
    Limiter,
    /// A queue or limiter of an agent or controller.
    Queue,
    /// A mutex of a process, or a lock on the machine.
    Lock,
    /// A lease that another process leads.
    Lease,
    /// A pause: after a conflict, between two polls.
    Backoff,
    /// Somebody else must write first.
    Controller,
    /// Interfaces, routes, filters, probes.
    DataPlane,
}

/// A change on a machine that a process on it could notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NodeChange {
    /// The file of a namespace appeared.
    NetnsPresent(NetnsId),
    /// The file of a namespace is gone.
    NetnsGone(NetnsId),
    /// The machine lost power or began to reboot: every process on it is dead.
    Down,
    /// The machine booted (new boot ID); its processes start afresh.
    Up,
    /// A machine joined the cluster while it ran (replacement under an old node name).
    Joined,
}
