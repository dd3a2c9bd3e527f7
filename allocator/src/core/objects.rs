//! The Kubernetes objects that Berth reads and writes, as plain data: their JSON is what the
//! apiserver stores. Fields that Berth never looks at are left out, so only Berth's own kinds and
//! its Lease may be written back.

use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::labels::{LabelSelector, Requirement};

mod set_aside;

pub use set_aside::SetAside;
pub(in crate::core) use set_aside::{block_of_name, without_indexes};

/// The API group of Berth's own kinds.
pub const GROUP: &str = "berth.dev";
/// The version of Berth's own kinds.
pub const VERSION: &str = "v1alpha1";
/// Label on an `AddressBlock`: the name of its pool.
pub const LABEL_POOL: &str = "berth.dev/pool";
/// Label on an `AddressBlock`, present with value `true` while some ordinal of it is not held.
pub const LABEL_ROOM: &str = "berth.dev/may-have-room";
/// Finalizer on pools, and on blocks that are not empty.
pub const FINALIZER: &str = "berth.dev/in-use";
/// Annotation on a `BerthNode`, set by `kubectl berth bury`: the operator states that the machine
/// is off.
pub const ANNOTATION_BURY: &str = "berth.dev/bury";
/// Annotation on a `BerthNode`, set by `kubectl berth release`: comma-separated UIDs of Pods whose
/// interfaces the operator states to be gone. The agent removes it when it has looked.
pub const ANNOTATION_RELEASE: &str = "berth.dev/release";
/// Label on a `BerthNode`, present with value `true` where its name states its node, which an
/// admission policy then need not look up.
pub const LABEL_STATES_NODE: &str = "berth.dev/name-states-node";
/// Annotation on a Pod that names the pool of its default network; on a Namespace, the pool of the
/// default network of its Pods that name none.
pub const ANNOTATION_POOL: &str = "berth.dev/pool";
/// Annotation on a Pod that names pools of its networks: a JSON object, `{"storage": "pool-a",
/// "storage/net2": "pool-b"}`. A key is a network (`name` of its CNI configuration), or one
/// interface on it.
pub const ANNOTATION_POOLS: &str = "berth.dev/pools";
/// Annotation that tells multus to use a network other than the cluster's for a Pod's first
/// interface: the name of a NetworkAttachmentDefinition, perhaps preceded by its namespace and a
/// slash.
pub const ANNOTATION_MULTUS_DEFAULT: &str = "v1.multus-cni.io/default-network";
/// Annotation that the kubelet puts on mirror Pods.
pub const ANNOTATION_MIRROR: &str = "kubernetes.io/config.mirror";
/// Taint by which an operator states that a node is off (Kubernetes non-graceful shutdown).
pub const TAINT_OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The schema of pools, reservations, machines and approvals that this code reads. A higher one in
/// `spec.schema` says that not every field may be ignored: such an object is set aside.
pub const SCHEMA: u32 = 1;

/// Fields of an object that this code does not know, from a newer release. They are kept, so that a
/// write of the whole object does not remove them, and otherwise ignored.
pub type Fields = BTreeMap<String, serde_json::Value>;

/// The UID of an object. Any string: a static Pod's manifest may set it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct Uid(Arc<str>);

impl Uid {
    /// The UID with this text.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Uid {
    fn default() -> Self {
        Self::new("")
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What every object carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Unique within kind and namespace.
    pub name: String,
    /// Empty for cluster-scoped kinds.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Unique forever; set by the apiserver.
    #[serde(skip_serializing_if = "is_empty_uid")]
    pub uid: Uid,
    /// Rises with each change of the spec; set by the apiserver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Opaque: equal or different, and nothing else (but see [`crate::core::version_went_back`]).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// For selectors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For people and plugins.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The object stays, with a deletion timestamp, until this is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Set once deletion was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Who owns the object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
}

fn is_empty_uid(uid: &Uid) -> bool {
    uid.as_str().is_empty()
}

/// One owner of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// Kind of the owner, `StatefulSet` for instance.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// UID of the owner.
    pub uid: Uid,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// One finding about an object, in the form that all of Kubernetes uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct Condition {
    /// What is claimed, `Approved` for instance. At most one condition of each type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether the claim holds: `True`, `False` or `Unknown`.
    pub status: String,
    /// The `metadata.generation` of the object that the finding is about. Older than the object's:
    /// the finding may be out of date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
    /// When `status` last changed, by the clock of the program that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// Why, for machines: one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// An operator's pool of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct AddressPool {
    /// Name, version, labels.
    #[cfg_attr(feature = "agent", schemars(skip))]
    pub metadata: Metadata,
    /// What the operator wants.
    pub spec: AddressPoolSpec,
    /// What the controller found.
    pub status: AddressPoolStatus,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// What an operator states about a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct AddressPoolSpec {
    /// Which meaning the fields have. Absent or up to the one that a program knows: fields that it
    /// does not know may be ignored. Higher: the object is set aside.
    #[serde(skip_serializing_if = "is_zero")]
    pub schema: u32,
    /// One IPv4 family, one IPv6 family, or one of each: then the n-th address of the one and the
    /// n-th of the other are a pair, which a Pod gets together.
    pub families: Vec<FamilySpec>,
    /// Units: ordinals per block, 2 to 64. Immutable. By default 32, or fewer in a small pool, so
    /// that each of ten nodes finds two blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u16>,
    /// The layer-2 domain: pools of different domains may overlap.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Pods that no other rule sends elsewhere draw from a default pool.
    #[serde(rename = "default", skip_serializing_if = "core::ops::Not::not")]
    pub is_default: bool,
    /// No new claims. What is held stays held.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub disabled: bool,
    /// Units: seconds. How long a freed address rests while others are to be had.
    #[serde(skip_serializing_if = "is_zero")]
    pub cool_down_seconds: u32,
    /// Labels that a Node must carry for its Pods to draw from this pool.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Namespaces whose Pods may draw from this pool; empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Labels that a Pod must carry to draw from this pool.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_selector: BTreeMap<String, String>,
    /// Networks (CNI network names) that may draw from this pool; empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Routes handed to the Pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name servers handed to the Pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Namespaces whose Pods may draw from this pool, by the Namespaces' labels, beside
    /// `namespaces`. Only a pool with this field, be it `{}` (every Namespace), may be the default
    /// pool that a Namespace names by the annotation berth.dev/pool; while no pool has it, agents
    /// read no Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Requirements on the labels of a Node, beside `nodeSelector`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_match_expressions: Vec<Requirement>,
    /// Requirements on the labels of a Pod, beside `podSelector`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pod_match_expressions: Vec<Requirement>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde calls"
)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// One family's part of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct FamilySpec {
    /// `10.0.0.0/24`, `10.0.0.1-10.0.0.9` or `10.0.0.1`, in the order of their ordinals. A later
    /// list must begin with the earlier one.
    pub ranges: Vec<String>,
    /// What is never handed out, in the notation of `ranges`. It renumbers nothing, and is in force
    /// when it stands in the blocks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The gateway of the Pods' subnet, which the interface plugin gets. Never handed out. Inside
    /// `subnet`, where that is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The subnet around all ranges, whose prefix length the interface gets; by default that of the
    /// first range.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "agent", schemars(with = "Option<String>"))]
    pub subnet: Option<IpNet>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// A route for the Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct Route {
    /// Destination.
    #[cfg_attr(feature = "agent", schemars(with = "String"))]
    pub dst: IpNet,
    /// Next hop; the gateway of the family when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// What the controller states about a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct AddressPoolStatus {
    /// The fingerprint of the approved spec; agents use the pool only when it is the spec's.
    pub approved: String,
    /// Units: ordinals.
    pub capacity: u64,
    /// Units: ordinals that a Pod holds, as of the last count.
    pub held: u64,
    /// Units: ordinals that a claim could take, cooling ones included, as of the last count.
    pub free: u64,
    /// The generation of the excludes that are in force in the blocks.
    pub masked: String,
    /// `Approved`, `ExcludeHeld`, `Exhausted`.
    pub conditions: Vec<Condition>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// A run of ordinals of one pool with their holders: what one compare-and-swap covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct AddressBlock {
    /// Name `<pool>-<index>`.
    #[cfg_attr(feature = "agent", schemars(skip))]
    pub metadata: Metadata,
    /// The records.
    pub spec: AddressBlockSpec,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// What a block says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct AddressBlockSpec {
    /// Layout of `records`; an agent that knows only lower ones must not write the block.
    pub schema: u32,
    /// Name of the pool.
    pub pool: String,
    /// UID of the pool: a pool made anew under the same name is another pool.
    pub pool_uid: Uid,
    /// The block's ordinals begin at `index * size`.
    pub index: u64,
    /// Ordinals in the block.
    pub size: u16,
    /// The literal first address of each family; a reader that computes others must refuse.
    pub first: Vec<IpAddr>,
    /// Who wrote last: differs with each write, so that no write is a no-op to the apiserver (a
    /// no-op would leave the resourceVersion, and a delayed earlier write, alive).
    pub writer: String,
    /// All records, in the compact form of [`crate::core::holder`].
    pub records: String,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// An address kept for somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct AddressReservation {
    /// Name.
    #[cfg_attr(feature = "agent", schemars(skip))]
    pub metadata: Metadata,
    /// For whom.
    pub spec: AddressReservationSpec,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// For whom an address is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct AddressReservationSpec {
    /// Which meaning the fields have. Absent or up to the one that a program knows: fields that it
    /// does not know may be ignored. Higher: the object is set aside.
    #[serde(skip_serializing_if = "is_zero")]
    pub schema: u32,
    /// The pool.
    pub pool: String,
    /// One address of the pool, of either family; its pair is kept with it.
    pub address: Option<IpAddr>,
    /// Namespace of the Pod.
    pub pod_namespace: String,
    /// Name of the Pod.
    pub pod_name: String,
    /// UID of the StatefulSet; the reservation goes when this owner is gone. Empty: static.
    #[serde(skip_serializing_if = "is_empty_uid")]
    pub owner_uid: Uid,
    /// Name of the StatefulSet.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner_name: String,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// An incarnation of a machine. Named after the machine ID, not after the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct BerthNode {
    /// Name = machine ID.
    #[cfg_attr(feature = "agent", schemars(skip))]
    pub metadata: Metadata,
    /// The incarnations.
    pub spec: BerthNodeSpec,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// The incarnations of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct BerthNodeSpec {
    /// Which meaning the fields have. Absent or up to the one that a program knows: fields that it
    /// does not know may be ignored. Higher: the object is set aside.
    #[serde(skip_serializing_if = "is_zero")]
    pub schema: u32,
    /// The node's name.
    pub node_name: String,
    /// The Node object's UID.
    pub node_uid: Uid,
    /// The machine's boot.
    pub boot_id: String,
    /// Rises with each incarnation.
    pub epoch: u64,
    /// State of `epoch`.
    pub state: EpochState,
    /// Earlier epochs whose records are not all cleared, with their state, ascending.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerEpoch>,
    /// Names of the blocks that may hold records of this machine, ascending.
    pub blocks: Vec<String>,
    /// Who wrote last: differs with each write, as the `writer` of a block does.
    pub writer: String,
    /// What an operator should see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// An earlier epoch of the same machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct FormerEpoch {
    /// The epoch.
    pub epoch: u64,
    /// `Dying` or `Dead`.
    pub state: EpochState,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// Where an epoch stands. Dead is final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub enum EpochState {
    /// Its agent may answer.
    #[default]
    Live,
    /// Burial was asked for; its agent may contest.
    Dying,
    /// Its records may be freed.
    Dead,
}

/// The approved pools of one layer-2 domain: overlap is decided by one compare-and-swap here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct DomainApproval {
    /// Name = domain, `default` for the unnamed one.
    #[cfg_attr(feature = "agent", schemars(skip))]
    pub metadata: Metadata,
    /// The approved pools.
    pub spec: DomainApprovalSpec,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// The approved pools of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct DomainApprovalSpec {
    /// Which meaning the fields have. Absent or up to the one that a program knows: fields that it
    /// does not know may be ignored. Higher: the object is set aside.
    #[serde(skip_serializing_if = "is_zero")]
    pub schema: u32,
    /// One entry per pool, ascending by name.
    pub pools: Vec<ApprovedPool>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// One approved pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub struct ApprovedPool {
    /// Name of the pool.
    pub name: String,
    /// UID of the pool: one made anew under the same name is another pool.
    pub uid: Uid,
    /// Block size, fixed at approval.
    pub block_size: u16,
    /// The approved ranges, per family.
    pub ranges: Vec<Vec<String>>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// `coordination.k8s.io/v1` Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lease {
    /// Namespaced.
    pub metadata: Metadata,
    /// Who leads.
    pub spec: LeaseSpec,
}

/// Who leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// The leader.
    pub holder_identity: String,
    /// How long others wait after the last change that they saw.
    pub lease_duration_seconds: u32,
    /// For people.
    pub acquire_time: String,
    /// For people; differs with each renewal.
    pub renew_time: String,
    /// Changes of leader.
    pub lease_transitions: u32,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub other: Fields,
}

/// The part of a Node that Berth reads. Never written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// Name, UID, labels.
    pub metadata: Metadata,
    /// Taints.
    pub spec: NodeSpec,
}

/// The part of a Node's spec that Berth reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// Taints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
}

/// A taint of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoExecute` and so on.
    pub effect: String,
}

/// The part of a Pod that Berth reads. Never written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Name, UID, annotations, owner.
    pub metadata: Metadata,
    /// Node and network mode.
    pub spec: PodSpec,
    /// Phase.
    pub status: PodStatus,
}

/// The part of a Pod's spec that Berth reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Empty until bound.
    pub node_name: String,
    /// Uses the node's network: never gets an address from Berth.
    pub host_network: bool,
}

/// The part of a Pod's status that Berth reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// The addresses of its first interface, once its sandbox stands.
    #[serde(rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<PodIp>,
}

/// One address of a Pod, as the kubelet reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// Text: what cannot be read as an address is no address of a pool.
    pub ip: String,
}

/// The part of a Namespace that Berth reads. Never written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespace {
    /// Name, labels, annotations.
    pub metadata: Metadata,
}

impl Pod {
    /// Whether the Pod is finished: `Succeeded` or `Failed`.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether it shows the static Pod that the runtime knows by this UID.
    pub fn is_mirror_of(&self, uid: &Uid) -> bool {
        let of = self.metadata.annotations.get(ANNOTATION_MIRROR);
        of.is_some_and(|text| text == uid.as_str())
    }

    /// Whether the kubelet made it as the mirror of a static Pod.
    pub fn is_mirror(&self) -> bool {
        self.metadata.annotations.contains_key(ANNOTATION_MIRROR)
    }
}

macro_rules! kinds {
    ($($kind:ident),+ $(,)?) => {
        /// The closed set of kinds that Berth touches.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = concat!("[`struct@", stringify!($kind), "`]")] $kind,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: [Self; [$(stringify!($kind)),+].len()] = [$(Self::$kind),+];
        }

        /// One object of any of these kinds. Its JSON carries `kind`; adapters add `apiVersion`.
        /// Read by [`super::set_aside::decode`].
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(tag = "kind")]
        pub enum Object {
            $(#[doc = concat!("[`struct@", stringify!($kind), "`]")] $kind(Box<$kind>),)+
            /// An object of any kind that exists but cannot be read. Never written.
            #[serde(skip)]
            SetAside(Box<SetAside>),
        }

        impl Object {
            /// Which kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)+
                    Self::SetAside(object) => object.kind,
                }
            }

            /// Its metadata.
            pub fn metadata(&self) -> &Metadata {
                match self {
                    $(Self::$kind(object) => &object.metadata,)+
                    Self::SetAside(object) => &object.metadata,
                }
            }

            /// Its metadata, to change.
            pub fn metadata_mut(&mut self) -> &mut Metadata {
                match self {
                    $(Self::$kind(object) => &mut object.metadata,)+
                    Self::SetAside(object) => &mut object.metadata,
                }
            }
        }

        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Self::$kind(Box::new(object))
            }
        })+
    };
}

impl From<SetAside> for Object {
    fn from(object: SetAside) -> Self {
        Self::SetAside(Box::new(object))
    }
}

kinds!(
    AddressPool,
    AddressBlock,
    AddressReservation,
    BerthNode,
    DomainApproval,
    Lease,
    Node,
    Pod,
    Namespace,
);

impl Object {
    /// The set-aside object, if it cannot be read.
    pub fn set_aside(&self) -> Option<&SetAside> {
        match self {
            Self::SetAside(object) => Some(object),
            _ => None,
        }
    }

    /// What names it.
    pub fn key(&self) -> ObjectKey {
        let metadata = self.metadata();
        ObjectKey {
            kind: self.kind(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        }
    }
}

/// What names an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Kind.
    pub kind: Kind,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// The key of a cluster-scoped object.
    pub fn cluster(kind: Kind, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: String::new(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}
