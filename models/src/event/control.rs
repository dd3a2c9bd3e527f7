//! Events of the control plane, and what its API calls come back to. What they lead to is in
//! [`crate::controllers`].

use drydock_engine::queue::Lane;
use serde::Serialize;

use crate::ids::{NodeIndex, PodUid};
use crate::objects::{OwnerKind, WorkloadObject};

/// Who records events here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Recorder {
    /// The deployment controller.
    Deployment,
    /// The controller of a kind of owner.
    Owner(OwnerKind),
    /// The scheduler.
    Scheduler,
}

/// Meaning of a response to a call of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ControlToken {
    /// A step of a Deployment's sync.
    Deployment {
        /// Which Deployment.
        index: u32,
        /// Which step.
        step: DeploymentStep,
    },
    /// A step of a ReplicaSet's or Job's sync.
    Replicas {
        /// Which of the two.
        kind: OwnerKind,
        /// Which object.
        index: u32,
        /// Which step.
        step: ReplicasStep,
    },
    /// A step of a StatefulSet's sync.
    StatefulSet {
        /// Which StatefulSet.
        index: u32,
        /// Which step.
        step: StatefulSetStep,
    },
    /// An event was recorded.
    Event(Recorder),
    /// The reflector's list of Pods.
    Listed {
        /// Which life of the process.
        life: u32,
    },
    /// A Pod of a lost node was deleted.
    Evicted {
        /// The Pod.
        pod: PodUid,
    },
}

/// One process of the control plane that runs on one master at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Role {
    /// kube-controller-manager.
    Controllers,
    /// kube-scheduler.
    Scheduler,
}

/// Events of controller-manager and scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ControlEvent {
    /// The informer shows a change of an object, or its back-off is over.
    Changed(WorkloadObject),
    /// The scheduler's cycle for a Pod ends.
    Cycle {
        /// The Pod.
        pod: PodUid,
        /// Which life of the scheduler.
        life: u32,
    },
    /// A Pod's back-off in the scheduler is over.
    BackedOff {
        /// The Pod.
        pod: PodUid,
        /// Which life of the scheduler.
        life: u32,
    },
    /// A lease has run out.
    Elect {
        /// Of whom.
        role: Role,
        /// Which loss of the leader.
        loss: u32,
    },
    /// A reflector lists again.
    WatchAgain {
        /// Whose.
        role: Role,
        /// Which life.
        life: u32,
    },
    /// A node was silent for its grace period.
    NodeSilent {
        /// Machine.
        node: NodeIndex,
        /// Which silence.
        silence: u32,
    },
    /// A node's Pods have tolerated the taint long enough.
    NodeEvicts {
        /// Machine.
        node: NodeIndex,
        /// Which silence.
        silence: u32,
    },
}

impl ControlEvent {
    /// The sequential actor that the event belongs to.
    pub fn lane(&self) -> Lane {
        match self {
            ControlEvent::Changed(object) => match object {
                WorkloadObject::Deployment(index) => Lane::new("deployment", u64::from(*index)),
                WorkloadObject::ReplicaSet(index) => Lane::new("replica set", u64::from(*index)),
                WorkloadObject::StatefulSet(index) => Lane::new("stateful set", u64::from(*index)),
                WorkloadObject::Job(index) => Lane::new("job", u64::from(*index)),
            },
            ControlEvent::Cycle { .. } | ControlEvent::BackedOff { .. } => {
                Lane::new("scheduler", 0)
            }
            _ => Lane::new("control", 0),
        }
    }
}

/// Which sub-step of a sync a response belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum DeploymentStep {
    /// The ReplicaSet was posted.
    ReplicaSetCreated,
    /// Revision and Progressing were written.
    Progressing,
    /// The write from the stale object came back.
    StaleWrite,
    /// The status was written from a fresh object.
    StatusWritten,
}

/// Which sub-step of a sync a response belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ReplicasStep {
    /// A Pod was posted.
    PodCreated,
    /// A surplus Pod was deleted.
    PodDeleted,
    /// The status was written.
    StatusWritten,
}

/// Which sub-step of a sync a response belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum StatefulSetStep {
    /// The Pod of an ordinal was posted.
    PodCreated {
        /// Ordinal.
        ordinal: u32,
    },
    /// A terminal Pod was deleted so that its name becomes free.
    PodDeleted,
    /// The status was written.
    StatusWritten,
}
