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

/// Known kinds that take no part: (name, namespaced, reason).
const SKIPPED: [(&str, bool, &str); 66] = [
    ("DaemonSet", true, PODS_MISSING),
    ("CronJob", true, PODS_MISSING),
    ("ReplicationController", true, PODS_MISSING),
    ("PodTemplate", true, NO_PODS),
    (
        "Namespace",
        false,
        "not simulated: every namespace that a document names exists",
    ),
    ("Node", false, "not simulated: nodes come from --nodes"),
    ("Service", true, NO_TRAFFIC),
    ("Endpoints", true, NO_TRAFFIC),
    ("EndpointSlice", true, NO_TRAFFIC),
    ("Ingress", true, NO_TRAFFIC),
    ("IngressClass", false, NO_TRAFFIC),
    ("NetworkPolicy", true, NO_TRAFFIC),
    ("Gateway", true, NO_TRAFFIC),
    ("GatewayClass", false, NO_TRAFFIC),
    ("HTTPRoute", true, NO_TRAFFIC),
    ("ConfigMap", true, NO_PODS),
    ("Secret", true, NO_PODS),
    ("ServiceAccount", true, NO_PODS),
    ("Role", true, NO_PODS),
    ("RoleBinding", true, NO_PODS),
    ("ClusterRole", false, NO_PODS),
    ("ClusterRoleBinding", false, NO_PODS),
    ("PersistentVolume", false, NO_PODS),
    ("PersistentVolumeClaim", true, NO_PODS),
    ("StorageClass", false, NO_PODS),
    ("VolumeAttachment", false, NO_PODS),
    ("VolumeSnapshot", true, NO_PODS),
    ("VolumeSnapshotClass", false, NO_PODS),
    ("CSIDriver", false, NO_PODS),
    ("CSINode", false, NO_PODS),
    ("CSIStorageCapacity", true, NO_PODS),
    ("Event", true, NO_PODS),
    ("Lease", true, NO_PODS),
    ("Binding", true, NO_SUCH_CONTROLLER),
    ("ComponentStatus", false, NO_PODS),
    ("ControllerRevision", true, NO_PODS),
    ("CertificateSigningRequest", false, NO_PODS),
    ("RuntimeClass", false, NO_PODS),
    (
        "PriorityClass",
        false,
        "not simulated: the scheduler knows no priorities",
    ),
    (
        "LimitRange",
        true,
        "not simulated: no admission plugin changes or refuses a Pod",
    ),
    (
        "ResourceQuota",
        true,
        "not simulated: no admission plugin changes or refuses a Pod",
    ),
    (
        "PodSecurityPolicy",
        false,
        "not simulated: no admission plugin changes or refuses a Pod",
    ),
    (
        "MutatingWebhookConfiguration",
        false,
        "not simulated: there are no webhooks",
    ),
    (
        "ValidatingWebhookConfiguration",
        false,
        "not simulated: there are no webhooks",
    ),
    (
        "ValidatingAdmissionPolicy",
        false,
        "not simulated: there are no webhooks",
    ),
    (
        "ValidatingAdmissionPolicyBinding",
        false,
        "not simulated: there are no webhooks",
    ),
    ("HorizontalPodAutoscaler", true, NO_SUCH_CONTROLLER),
    ("VerticalPodAutoscaler", true, NO_SUCH_CONTROLLER),
    ("PodDisruptionBudget", true, NO_SUCH_CONTROLLER),
    ("Eviction", true, NO_SUCH_CONTROLLER),
    ("APIService", false, NO_SUCH_CONTROLLER),
    ("CustomResourceDefinition", false, NO_SUCH_CONTROLLER),
    (
        "FlowSchema",
        false,
        "not simulated: flow control has the released defaults",
    ),
    (
        "PriorityLevelConfiguration",
        false,
        "not simulated: flow control has the released defaults",
    ),
    ("ServiceMonitor", true, NO_SUCH_CONTROLLER),
    ("PodMonitor", true, NO_SUCH_CONTROLLER),
    ("PrometheusRule", true, NO_SUCH_CONTROLLER),
    ("Kustomization", true, NO_SUCH_CONTROLLER),
    ("NetworkAttachmentDefinition", true, NETWORK),
    ("IPPool", false, NETWORK),
    ("SpiderIPPool", false, NETWORK),
    ("SpiderSubnet", false, NETWORK),
    ("SpiderMultusConfig", true, NETWORK),
    ("Subnet", false, NETWORK),
    ("AddressReservation", false, NETWORK),
    ("CiliumNetworkPolicy", true, NO_TRAFFIC),
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
        let &(name, namespaced, reason) = skipped()?;
        Some(Kind {
            name,
            api_version: "",
            namespaced,
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
