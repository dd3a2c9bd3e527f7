//! The kinds of Kubernetes: which are simulated, which are known and skipped, and what an unknown
//! one was probably meant to be.

use super::Failure;
use super::fields::{Context, Fields, nearest};

/// A kind and what becomes of its documents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub name: &'static str,
    /// The only API version that is served; empty where any is taken.
    pub api_version: &'static str,
    pub namespaced: bool,
    pub role: Role,
}

/// What becomes of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It creates Pods.
    Workload,
    /// It is a pool of addresses.
    Pool,
    /// It holds other documents.
    List,
    /// It is listed and skipped, for this reason.
    Skipped(&'static str),
}

const fn workload(name: &'static str, api_version: &'static str) -> Kind {
    Kind {
        name,
        api_version,
        namespaced: true,
        role: Role::Workload,
    }
}

const SIMULATED: [Kind; 7] = [
    workload("Deployment", "apps/v1"),
    workload("ReplicaSet", "apps/v1"),
    workload("StatefulSet", "apps/v1"),
    workload("Job", "batch/v1"),
    workload("Pod", "v1"),
    Kind {
        name: "AddressPool",
        api_version: "berth.dev/v1alpha1",
        namespaced: false,
        role: Role::Pool,
    },
    Kind {
        name: "List",
        api_version: "v1",
        namespaced: false,
        role: Role::List,
    },
];

const NO_PODS: &str = "not simulated: it changes nothing about Pods and their addresses here";
const NO_SUCH_CONTROLLER: &str = "not simulated: no controller of the simulation acts on it";
const PODS_MISSING: &str = "not simulated: its Pods are missing from the run";
const NO_TRAFFIC: &str = "not simulated: Pods send no traffic here";
const NETWORK: &str = "not simulated: networks and other allocators come from the run's options";

/// Known kinds that take no part: (name, reason).
const SKIPPED: [(&str, &str); 66] = [
    ("DaemonSet", PODS_MISSING),
    ("CronJob", PODS_MISSING),
    ("ReplicationController", PODS_MISSING),
    ("PodTemplate", NO_PODS),
    (
        "Namespace",
        "not simulated: every namespace that a document names exists",
    ),
    ("Node", "not simulated: nodes come from --nodes"),
    ("Service", NO_TRAFFIC),
    ("Endpoints", NO_TRAFFIC),
    ("EndpointSlice", NO_TRAFFIC),
    ("Ingress", NO_TRAFFIC),
    ("IngressClass", NO_TRAFFIC),
    ("NetworkPolicy", NO_TRAFFIC),
    ("Gateway", NO_TRAFFIC),
    ("GatewayClass", NO_TRAFFIC),
    ("HTTPRoute", NO_TRAFFIC),
    ("ConfigMap", NO_PODS),
    ("Secret", NO_PODS),
    ("ServiceAccount", NO_PODS),
    ("Role", NO_PODS),
    ("RoleBinding", NO_PODS),
    ("ClusterRole", NO_PODS),
    ("ClusterRoleBinding", NO_PODS),
    ("PersistentVolume", NO_PODS),
    ("PersistentVolumeClaim", NO_PODS),
    ("StorageClass", NO_PODS),
    ("VolumeAttachment", NO_PODS),
    ("VolumeSnapshot", NO_PODS),
    ("VolumeSnapshotClass", NO_PODS),
    ("CSIDriver", NO_PODS),
    ("CSINode", NO_PODS),
    ("CSIStorageCapacity", NO_PODS),
    ("Event", NO_PODS),
    ("Lease", NO_PODS),
    ("Binding", NO_SUCH_CONTROLLER),
    ("ComponentStatus", NO_PODS),
    ("ControllerRevision", NO_PODS),
    ("CertificateSigningRequest", NO_PODS),
    ("RuntimeClass", NO_PODS),
    (
        "PriorityClass",
        "not simulated: the scheduler knows no priorities",
    ),
    (
        "LimitRange",
        "not simulated: no admission plugin changes or refuses a Pod",
    ),
    (
        "ResourceQuota",
        "not simulated: no admission plugin changes or refuses a Pod",
    ),
    (
        "PodSecurityPolicy",
        "not simulated: no admission plugin changes or refuses a Pod",
    ),
    (
        "MutatingWebhookConfiguration",
        "not simulated: there are no webhooks",
    ),
    (
        "ValidatingWebhookConfiguration",
        "not simulated: there are no webhooks",
    ),
    (
        "ValidatingAdmissionPolicy",
        "not simulated: there are no webhooks",
    ),
    (
        "ValidatingAdmissionPolicyBinding",
        "not simulated: there are no webhooks",
    ),
    ("HorizontalPodAutoscaler", NO_SUCH_CONTROLLER),
    ("VerticalPodAutoscaler", NO_SUCH_CONTROLLER),
    ("PodDisruptionBudget", NO_SUCH_CONTROLLER),
    ("Eviction", NO_SUCH_CONTROLLER),
    ("APIService", NO_SUCH_CONTROLLER),
    ("CustomResourceDefinition", NO_SUCH_CONTROLLER),
    (
        "FlowSchema",
        "not simulated: flow control has the released defaults",
    ),
    (
        "PriorityLevelConfiguration",
        "not simulated: flow control has the released defaults",
    ),
    ("ServiceMonitor", NO_SUCH_CONTROLLER),
    ("PodMonitor", NO_SUCH_CONTROLLER),
    ("PrometheusRule", NO_SUCH_CONTROLLER),
    ("Kustomization", NO_SUCH_CONTROLLER),
    ("NetworkAttachmentDefinition", NETWORK),
    ("IPPool", NETWORK),
    ("SpiderIPPool", NETWORK),
    ("SpiderSubnet", NETWORK),
    ("SpiderMultusConfig", NETWORK),
    ("Subnet", NETWORK),
    ("AddressReservation", NETWORK),
    ("CiliumNetworkPolicy", NO_TRAFFIC),
];

/// Reads `apiVersion` and `kind`.
///
/// Errors: an unknown kind, with the nearest known one; a known one in a version that is not
/// served, with the one that is.
pub(super) fn read_kind(context: &Context, fields: &mut Fields<'_>) -> Result<Kind, Failure> {
    let (api_version, version_position) = fields.required_text(context, "apiVersion")?;
    let (name, position) = fields.required_text(context, "kind")?;
    let simulated = SIMULATED.into_iter().find(|kind| kind.name == name);
    let skipped = || SKIPPED.iter().find(|(known, ..)| *known == name);
    let Some(kind) = simulated.or_else(|| {
        let &(name, reason) = skipped()?;
        Some(Kind {
            name,
            api_version: "",
            namespaced: true,
            role: Role::Skipped(reason),
        })
    }) else {
        let known = SIMULATED
            .iter()
            .map(|kind| kind.name)
            .chain(SKIPPED.iter().map(|kind| kind.0));
        let hint = nearest(name, known)
            .map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
        let message = format!(
            "unknown kind `{name}`{hint}: simulated are Deployment, ReplicaSet, StatefulSet, Job, \
             Pod, List and AddressPool; other kinds of Kubernetes are listed and skipped"
        );
        return Err(fields.error_at(context, "kind", position, message));
    };
    if !kind.api_version.is_empty() && kind.api_version != api_version {
        let message = format!(
            "`{api_version}` does not serve {name}: allowed is {}",
            kind.api_version
        );
        return Err(fields.error_at(context, "apiVersion", version_position, message));
    }
    Ok(kind)
}
