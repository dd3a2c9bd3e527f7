//! Kubernetes objects as the simulated apiserver stores them: what the mechanisms read and
//! write, and no more. A field of a manifest that is not here is listed as not simulated.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;
use serde::Serialize;

use crate::ids::PodUid;

/// Stable hash of a name (`drydock_engine::stream::Streams::entity`): the same in every run, so
/// that streams keyed by it survive the addition of other objects.
pub type Entity = u64;

/// Revision of the whole store; also the resourceVersion of an object.
pub type ResourceVersion = u64;

/// The owner in `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Kind of the owner.
    pub kind: OwnerKind,
    /// Name of the owner.
    pub name: Rc<str>,
    /// Index of the owner in its controller's table.
    pub index: u32,
}

/// Which controller made a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum OwnerKind {
    /// apps/v1 ReplicaSet.
    ReplicaSet,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// batch/v1 Job.
    Job,
}

/// A workload object, by kind and index in the controller's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum WorkloadObject {
    /// apps/v1 Deployment.
    Deployment(u32),
    /// apps/v1 ReplicaSet.
    ReplicaSet(u32),
    /// apps/v1 StatefulSet.
    StatefulSet(u32),
    /// batch/v1 Job.
    Job(u32),
}

/// What a Pod asks for; never changes after creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PodSpec {
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `spec.nodeName` at creation: skips the scheduler.
    pub node_name: Option<Rc<str>>,
    /// `spec.nodeSelector`, sorted.
    pub node_selector: Vec<(Rc<str>, Rc<str>)>,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace: Duration,
    /// The image must be asked for at the registry on each start (`imagePullPolicy: Always`).
    pub pull_always: bool,
    /// The container ends by itself after this long (Jobs, `drydock.dev/run-seconds`).
    pub run: Option<Duration>,
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Phase {
    /// Not all containers run.
    Pending,
    /// All containers run.
    Running,
    /// All containers ended with success.
    Succeeded,
    /// A container failed, or the kubelet rejected the Pod.
    Failed,
}

/// `status` of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PodStatus {
    /// Phase as the API shows it.
    pub phase: Phase,
    /// Ready condition.
    pub ready: bool,
    /// The kubelet has written at least once (ContainerCreating is visible).
    pub seen_by_kubelet: bool,
    /// `status.podIPs`.
    pub pod_ips: Vec<IpAddr>,
}

/// A Pod as stored. Cloned on write, shared by reference otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pod {
    /// `metadata.namespace`.
    pub namespace: Rc<str>,
    /// `metadata.name`.
    pub name: Rc<str>,
    /// `metadata.uid`.
    pub uid: PodUid,
    /// Stable hash of namespace, name and incarnation: the entity of this Pod's streams.
    pub entity: Entity,
    /// `metadata.resourceVersion`.
    pub resource_version: ResourceVersion,
    /// `metadata.labels`, sorted.
    pub labels: Rc<[(Rc<str>, Rc<str>)]>,
    /// `metadata.annotations`, sorted, as in the manifest.
    pub annotations: Rc<[(Rc<str>, Rc<str>)]>,
    /// The annotation that multus writes (network-status) is present.
    pub network_status: bool,
    /// `metadata.ownerReferences`.
    pub owner: Option<Owner>,
    /// `metadata.deletionTimestamp` and the grace period that runs from it.
    pub deletion: Option<(SimInstant, Duration)>,
    /// What was asked for.
    pub spec: Rc<PodSpec>,
    /// `spec.nodeName` once bound.
    pub node_name: Option<Rc<str>>,
    /// Status as the API shows it.
    pub status: PodStatus,
}

impl Pod {
    /// True once nothing of the Pod can run again (`Succeeded` or `Failed`).
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase, Phase::Succeeded | Phase::Failed)
    }
}
