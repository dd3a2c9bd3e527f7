//! The closed set of events in the queue. A component schedules only events of its own part;
//! [`crate::cluster::Cluster`] routes them. They are serialized unchanged into the event log.
//! Events carry only identities and values; what they lead to is not known here.

mod api;
mod control;
mod node;

use drydock_engine::queue::{Event as QueueEvent, Lane};
use serde::Serialize;

use crate::cni::{IpamCall, NodeChange};
use crate::ids::{CallId, IpamCallId, NodeIndex};

pub use self::api::ApiEvent;
pub use self::control::{
    ControlEvent, ControlToken, DeploymentStep, Recorder, ReplicasStep, Role, StatefulSetStep,
};
pub use self::node::{NodeEvent, NodeToken};

/// One event of the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Event {
    /// A machine's CPU reaches its next completion (stale generations are ignored).
    Cpu {
        /// Machine.
        node: NodeIndex,
        /// Generation of the wake-up.
        generation: u64,
    },
    /// Inside the API path: departure, arrival, CPU, fsync, answer, watch delivery.
    Api(ApiEvent),
    /// controller-manager and scheduler.
    Control(ControlEvent),
    /// kubelet, containerd, multus, macvlan of one machine.
    Node {
        /// Machine.
        node: NodeIndex,
        /// What happens.
        event: NodeEvent,
    },
    /// A timer of the IPAM under test.
    IpamTimer {
        /// Machine whose process set it (its lane).
        node: NodeIndex,
        /// Meaning known to the IPAM.
        token: u64,
    },
    /// The IPAM plugin process on a machine ends with its answer.
    IpamExit {
        /// Machine.
        node: NodeIndex,
        /// Which execution.
        call: IpamCallId,
    },
    /// The IPAM plugin is executed on a machine (by macvlan or any other delegate).
    IpamExec(IpamCall),
    /// The plugin that the IPAM chains behind macvlan is executed on a machine (by multus).
    IpamChained(IpamCall),
    /// The IPAM plugin process is killed by its parent.
    IpamKill {
        /// Machine.
        node: NodeIndex,
        /// Which execution.
        call: IpamCallId,
    },
    /// The truth of a machine changed in a way that a process on it could notice.
    NodeChanged {
        /// Machine.
        node: NodeIndex,
        /// What changed.
        change: NodeChange,
    },
    /// The workload driver acts (creation or deletion by a user).
    Driver {
        /// Meaning known to the driver.
        token: u64,
    },
    /// The fault plan acts: an event for whoever carries out the plan, not for the cluster.
    Fault {
        /// Position in the plan.
        index: u32,
        /// Start (false) or end (true) of the fault.
        heal: bool,
    },
}

/// Whose CPU demand was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum CpuToken {
    /// An API request on a master.
    Api(CallId),
    /// A part of a node.
    Node(NodeToken),
    /// The IPAM under test.
    Ipam(u64),
    /// Fire and forget (watch fan-out, controllers' own work).
    Nobody,
}

impl QueueEvent for Event {
    fn lane(&self) -> Lane {
        match self {
            Event::Cpu { node, .. } => Lane::new("cpu", u64::from(node.0)),
            Event::Api(event) => event.lane(),
            Event::Control(event) => event.lane(),
            Event::Node { node, .. } => Lane::new("node", u64::from(node.0)),
            Event::IpamTimer { node, .. }
            | Event::IpamExit { node, .. }
            | Event::IpamKill { node, .. }
            | Event::NodeChanged { node, .. } => Lane::new("ipam", u64::from(node.0)),
            Event::IpamExec(call) | Event::IpamChained(call) => {
                Lane::new("ipam", u64::from(call.node.0))
            }
            Event::Driver { .. } => Lane::new("driver", 0),
            Event::Fault { .. } => Lane::new("fault", 0),
        }
    }
}
