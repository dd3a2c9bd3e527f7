//! API calls as clients make them, and what comes back. A request says what is asked; what it
//! costs is decided by its kind, shape and size in [`crate::apiserver`], the same for all.

use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::Streams;
use serde::Serialize;

use crate::event::{ControlToken, NodeToken};
use crate::ids::{NodeIndex, PodUid};
use crate::objects::{Entity, Owner, Pod, PodSpec, PodStatus, ResourceVersion, WorkloadObject};

/// A kind that the apiserver stores as JSON without interpreting it (CRDs, Leases, Nodes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CustomKind {
    /// Plural resource name, e.g. `addressblocks`.
    pub resource: &'static str,
    /// How its records are laid out: decides what a write costs (measured-costs).
    pub shape: Shape,
}

/// Layout of the records in a custom object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Shape {
    /// No list that grows: a Lease, a Node, a handle.
    Flat,
    /// All records in one string.
    OneString,
    /// A list that the schema treats as one value.
    AtomicList,
    /// A map that the schema treats as one value.
    AtomicMap,
    /// A list of objects that each hold a map, beside a list of slots (Calico's IPAMBlock).
    ListOfMaps,
    /// A map tracked per key (managedFields, per-key validation).
    GranularMap,
}

/// A custom object as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Custom {
    /// Its kind.
    pub kind: CustomKind,
    /// `metadata.name` (with the namespace in front where there is one: `ns/name`).
    pub name: Rc<str>,
    /// `metadata.uid` as a number; a re-created object has a new one.
    pub uid: u32,
    /// `metadata.resourceVersion`.
    pub resource_version: ResourceVersion,
    /// `metadata.labels`, sorted.
    pub labels: Vec<(String, String)>,
    /// `metadata.annotations`, sorted.
    pub annotations: Vec<(String, String)>,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The rest of the object as JSON text; opaque to the apiserver.
    pub body: Rc<str>,
    /// The status subresource as JSON text; `None` for a kind that has none.
    pub status: Option<Rc<str>>,
    /// Number of records inside, for the cost of a request on it.
    pub record_count: u32,
}

/// What a PUT writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Part {
    /// Everything but the status.
    Main,
    /// The status subresource, and nothing else.
    Status,
}

/// A label selector of the forms `key`, `key=value`, `!key`; all must match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Selector {
    /// The label is present.
    Has(String),
    /// The label has this value.
    Is(String, String),
    /// The label is absent.
    Not(String),
}

/// Whether an object has the labels that all selectors ask for.
pub fn matches(selectors: &[Selector], object: &Custom) -> bool {
    let value = |key: &str| {
        object
            .labels
            .iter()
            .find(|(label, _)| label == key)
            .map(|(_, value)| value.as_str())
    };
    selectors.iter().all(|selector| match selector {
        Selector::Has(key) => value(key).is_some(),
        Selector::Is(key, wanted) => value(key) == Some(wanted),
        Selector::Not(key) => value(key).is_none(),
    })
}

/// Which copy a read is answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Consistency {
    /// From etcd by quorum: no older than the request.
    Quorum,
    /// From the watch cache of the asked apiserver, however old (`resourceVersion=0`).
    Cache,
}

/// New value of each annotation that a merge patch names; `None` removes it.
pub type AnnotationPatch = Rc<[(Rc<str>, Option<Rc<str>>)]>;

/// One API call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Request {
    /// POST pods.
    CreatePod(Rc<NewPod>),
    /// GET pods/NAME.
    GetPod {
        /// Namespace.
        namespace: Rc<str>,
        /// Name.
        name: Rc<str>,
        /// Quorum for every client that gives no resourceVersion.
        consistency: Consistency,
    },
    /// LIST pods, optionally of one node.
    ListPods {
        /// `fieldSelector=spec.nodeName=…`.
        node_name: Option<Rc<str>>,
        /// Quorum, or cache (`resourceVersion=0`).
        consistency: Consistency,
    },
    /// POST pods/NAME/binding.
    BindPod {
        /// The Pod.
        pod: PodUid,
        /// Node to bind to.
        node_name: Rc<str>,
    },
    /// PATCH pods/NAME/status as the kubelet does: UID in the body, no resourceVersion.
    PatchPodStatus {
        /// The Pod; 422 when the name now belongs to another UID (the field is immutable), 404 when
        /// it is gone. Source: kubernetes v1.26.5 apimachinery/pkg/api/validation/
        /// objectmeta.go:254.
        pod: PodUid,
        /// The new status.
        status: PodStatus,
    },
    /// PUT pods/NAME/status as multus does: the network-status annotation, with resourceVersion.
    PutNetworkStatus {
        /// The Pod.
        pod: PodUid,
        /// The version it was read at.
        resource_version: ResourceVersion,
    },
    /// PATCH pods/NAME, a JSON merge patch of annotations with no resourceVersion and no UID: it
    /// meets whatever Pod has the name now, and never conflicts.
    PatchPodAnnotations {
        /// Namespace.
        namespace: Rc<str>,
        /// Name.
        name: Rc<str>,
        /// New value of each annotation; `None` removes it.
        annotations: AnnotationPatch,
    },
    /// PATCH of a Pod's annotations: strategic merge with the UID in the body.
    AnnotatePod {
        /// The Pod; 422 when the name belongs to another UID, 404 when it is gone.
        pod: PodUid,
        /// Keys and their new values, sorted by key.
        annotations: Vec<(Rc<str>, Rc<str>)>,
        /// 409 unless the Pod is stored at this version.
        resource_version: Option<ResourceVersion>,
    },
    /// DELETE pods/NAME.
    DeletePod {
        /// The Pod (UID precondition).
        pod: PodUid,
        /// `gracePeriodSeconds`; `None` = the Pod's own; zero removes the object at once.
        grace: Option<Duration>,
    },
    /// POST serviceaccounts/NAME/token.
    CreateToken,
    /// POST events.
    CreateEvent,
    /// GET network-attachment-definitions/NAME.
    GetNetworkAttachment,
    /// LIST configmaps (kube-root-ca.crt), once per namespace and node.
    ListConfigMaps,
    /// A write of a controller on an object of its own (ReplicaSet, Deployment, … and status).
    WriteWorkload {
        /// Which object, as the controller numbers it.
        object: WorkloadObject,
        /// What is written.
        write: WorkloadWrite,
    },
    /// GET of a custom object.
    Get {
        /// Kind.
        kind: CustomKind,
        /// Name.
        name: Rc<str>,
        /// Quorum or cache.
        consistency: Consistency,
    },
    /// LIST of custom objects.
    List {
        /// Kind.
        kind: CustomKind,
        /// Label selectors, all of which must match.
        selectors: Vec<Selector>,
        /// Quorum or cache.
        consistency: Consistency,
        /// Page size; 0 = all.
        limit: u32,
        /// The previous page's token: all pages show one revision.
        after: Option<Rc<str>>,
    },
    /// POST of a custom object (its uid and resourceVersion are assigned).
    Create(Rc<Custom>),
    /// PUT of a custom object: 409 unless the stored version is the object's, 422 without one.
    Replace {
        /// The new object; uid 0 guards nothing.
        object: Rc<Custom>,
        /// Which half of it is written.
        part: Part,
    },
    /// PATCH of a custom object as a JSON patch whose first operation tests the resourceVersion:
    /// 422 when it does not hold. The object is the one that results.
    JsonPatch {
        /// The object after the patch, with the version that is tested.
        object: Rc<Custom>,
    },
    /// PATCH of a custom object as a merge patch without a version: the last writer wins. The
    /// object is the one that results.
    MergePatch {
        /// The object after the patch; its version says nothing.
        object: Rc<Custom>,
    },
    /// DELETE of a custom object; with preconditions.
    Delete {
        /// Kind.
        kind: CustomKind,
        /// Name.
        name: Rc<str>,
        /// Precondition on the UID.
        uid: Option<u32>,
        /// Precondition on the version.
        resource_version: Option<ResourceVersion>,
    },
}

/// A Pod to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewPod {
    /// Namespace.
    pub namespace: Rc<str>,
    /// Name, complete (generated names are drawn by the creator).
    pub name: Rc<str>,
    /// Stable hash for the Pod's streams.
    pub entity: Entity,
    /// Labels, sorted.
    pub labels: Rc<[(Rc<str>, Rc<str>)]>,
    /// Annotations, sorted.
    pub annotations: Rc<[(Rc<str>, Rc<str>)]>,
    /// Owner.
    pub owner: Option<Owner>,
    /// Spec.
    pub spec: Rc<PodSpec>,
}

impl NewPod {
    /// The stable hash of a Pod of that name, for the how-manieth time from 0 on.
    pub fn entity(namespace: &str, name: &str, incarnation: u32) -> Entity {
        Streams::entity(&format!("{namespace}/{name}/{incarnation}"))
    }
}

/// What is written on a workload object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum WorkloadWrite {
    /// POST of the object.
    Create,
    /// PUT of its status from a fresh copy.
    Status,
    /// PUT of its status from a copy known to be stale: answered with 409.
    StaleStatus,
}

/// Why a call failed, by what the client can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ApiError {
    /// 404.
    NotFound,
    /// 409 Conflict: resourceVersion or UID precondition.
    Conflict,
    /// 409 AlreadyExists.
    AlreadyExists,
    /// 410: the version asked for is compacted or out of the window.
    Gone,
    /// 422.
    Invalid,
    /// 429 with Retry-After.
    TooManyRequests {
        /// Seconds in Retry-After.
        retry_after_s: u32,
    },
    /// 500, 503, 504 or a broken connection: `applied` is what the *client* can conclude.
    Unavailable {
        /// False: surely not applied (refused before it was sent); true: nobody knows.
        unknown: bool,
    },
}

/// What a successful call returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Answer {
    /// A Pod, as stored after the call.
    Pod(Rc<Pod>),
    /// Pods and the revision of the list.
    Pods(Vec<Rc<Pod>>, ResourceVersion),
    /// A custom object, as stored after the call.
    Custom(Rc<Custom>),
    /// Custom objects, the revision of the list, and the token of the next page.
    Customs(Vec<Rc<Custom>>, ResourceVersion, Option<Rc<str>>),
    /// Done, nothing to show.
    Done,
}

/// Result of a call.
pub type Response = Result<Answer, ApiError>;

/// Who gets the response: routed by [`crate::cluster::Cluster`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ReplyTo {
    /// A component of a node (kubelet, multus); `token` is its own.
    Node {
        /// Machine.
        node: NodeIndex,
        /// Meaning known to the node side.
        token: NodeToken,
    },
    /// The controller-manager.
    Controllers {
        /// Meaning known to the controllers.
        token: ControlToken,
    },
    /// The scheduler.
    Scheduler {
        /// The Pod being bound, if any.
        pod: Option<PodUid>,
    },
    /// The IPAM under test.
    Ipam {
        /// Meaning known to the IPAM.
        token: u64,
    },
    /// The workload driver (creations and deletions that a user would do).
    Driver {
        /// Meaning known to the driver.
        token: u64,
    },
    /// Nobody waits for it (Events).
    Nobody,
}

/// A watch event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Change {
    /// A Pod was added or changed.
    Pod(Rc<Pod>),
    /// A Pod object is gone; the last state known.
    PodGone(Rc<Pod>),
    /// A custom object was added or changed.
    Custom(Rc<Custom>),
    /// A custom object is gone; the last state known.
    CustomGone(Rc<Custom>),
    /// A bookmark: everything up to this revision was seen.
    Bookmark(ResourceVersion),
    /// The watch ended: `Gone` means list again.
    Closed(ApiError),
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum WatchTarget {
    /// Pods, optionally of one node.
    Pods {
        /// `fieldSelector=spec.nodeName=…`.
        node_name: Option<Rc<str>>,
    },
    /// Custom objects of a kind.
    Customs {
        /// Kind.
        kind: CustomKind,
        /// Label selectors, all of which must match.
        selectors: Vec<Selector>,
        /// `fieldSelector=metadata.name=…`.
        name: Option<Rc<str>>,
    },
}

/// Who gets the events of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum WatchOwner {
    /// The kubelet of a machine.
    Kubelet(NodeIndex),
    /// The controller-manager.
    Controllers,
    /// The scheduler.
    Scheduler,
    /// The IPAM under test.
    Ipam {
        /// Meaning known to the IPAM.
        token: u64,
    },
}

/// The class of a client, for counting and for flow control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ClientClass {
    /// kubelet's main client.
    Kubelet,
    /// kubelet's event client.
    KubeletEvents,
    /// multus, one process per CNI call.
    Multus,
    /// deployment controller.
    DeploymentController,
    /// replicaset controller.
    ReplicaSetController,
    /// statefulset and job controllers.
    OtherControllers,
    /// scheduler, binding.
    Scheduler,
    /// scheduler, events.
    SchedulerEvents,
    /// A user (kubectl).
    User,
    /// The IPAM's node agents or plugins.
    IpamNode,
    /// The IPAM's controller.
    IpamController,
}

/// An API client: one clientset of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClientSpec {
    /// Where it runs.
    pub node: NodeIndex,
    /// What it is.
    pub class: ClientClass,
    /// Client-side limiter: (milli-requests per second, burst); `None` = unlimited.
    pub limiter: Option<(u64, u64)>,
    /// Deadline of each call as the client sees it; `None` = none.
    pub timeout: Option<Duration>,
    /// Each process opens a connection of its own (pays TLS on its first request).
    pub fresh_connection: bool,
}
