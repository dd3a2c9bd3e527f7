//! The spec of a Pod: what the simulation keeps of it, and why the rest takes no part.

use super::fields::{Context, Fields};
use super::{Failure, names};
use crate::workload::{Container, ImagePullPolicy, PodTemplate, StringMap};

/// Who makes the Pod: decides which restart policies are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody: a bare Pod.
    None,
    /// A Deployment, ReplicaSet or StatefulSet.
    Controller,
    /// A Job.
    Job,
}

/// The grace period that the apiserver fills in. Units: s.
const GRACE_SECONDS: u32 = 30;
/// The longest grace period that is accepted: a day. Units: s.
const GRACE_SECONDS_MAX: u32 = 86_400;

const NO_VOLUMES: &str = "not simulated: Pods have no volumes but their service account token";
const NO_PROBES: &str = "not simulated: a container that started is ready";
const NO_PROCESS: &str = "not simulated: containers run no process";
const NO_RESOURCES: &str = "not simulated: the scheduler counts every Pod as without requests";
const NO_AFFINITY: &str = "not simulated: the scheduler spreads by node name and selector only";
const NO_SECURITY: &str = "not simulated: nothing is refused for its privileges";
const NO_PRIORITY: &str = "not simulated: the scheduler knows no priorities";
const NO_TRAFFIC: &str = "not simulated: Pods send no traffic here";

const POD: [(&str, &str); 35] = [
    (
        "activeDeadlineSeconds",
        "not simulated: a Pod has no deadline",
    ),
    ("affinity", NO_AFFINITY),
    (
        "automountServiceAccountToken",
        "not simulated: every Pod has its token volume",
    ),
    ("dnsConfig", NO_TRAFFIC),
    ("dnsPolicy", NO_TRAFFIC),
    ("enableServiceLinks", NO_PROCESS),
    ("ephemeralContainers", NO_PROCESS),
    ("hostAliases", NO_TRAFFIC),
    ("hostIPC", NO_PROCESS),
    ("hostPID", NO_PROCESS),
    ("hostUsers", NO_PROCESS),
    ("hostname", NO_TRAFFIC),
    ("hostnameOverride", NO_TRAFFIC),
    (
        "imagePullSecrets",
        "not simulated: every image may be pulled",
    ),
    (
        "initContainers",
        "not simulated: init containers are not started",
    ),
    ("os", "not simulated: every node runs Linux"),
    ("overhead", NO_RESOURCES),
    ("preemptionPolicy", NO_PRIORITY),
    ("priority", NO_PRIORITY),
    ("priorityClassName", NO_PRIORITY),
    ("readinessGates", NO_PROBES),
    ("resourceClaims", NO_RESOURCES),
    ("resources", NO_RESOURCES),
    ("runtimeClassName", "not simulated: there is one runtime"),
    ("schedulerName", "not simulated: there is one scheduler"),
    ("schedulingGates", "not simulated: nothing holds a Pod back"),
    ("securityContext", NO_SECURITY),
    ("serviceAccount", NO_SECURITY),
    ("serviceAccountName", NO_SECURITY),
    ("setHostnameAsFQDN", NO_TRAFFIC),
    ("shareProcessNamespace", NO_PROCESS),
    ("subdomain", NO_TRAFFIC),
    (
        "tolerations",
        "not simulated: no Pod tolerates the taint of masters that take no Pods, and no other is there",
    ),
    ("topologySpreadConstraints", NO_AFFINITY),
    ("volumes", NO_VOLUMES),
];

const CONTAINER: [(&str, &str); 22] = [
    ("args", NO_PROCESS),
    ("command", NO_PROCESS),
    ("env", NO_PROCESS),
    ("envFrom", NO_PROCESS),
    ("lifecycle", NO_PROCESS),
    ("livenessProbe", NO_PROBES),
    ("ports", NO_TRAFFIC),
    ("readinessProbe", NO_PROBES),
    ("resizePolicy", NO_RESOURCES),
    ("resources", NO_RESOURCES),
    ("restartPolicy", "not simulated: no container fails"),
    ("restartPolicyRules", "not simulated: no container fails"),
    ("securityContext", NO_SECURITY),
    ("startupProbe", NO_PROBES),
    ("stdin", NO_PROCESS),
    ("stdinOnce", NO_PROCESS),
    ("terminationMessagePath", NO_PROCESS),
    ("terminationMessagePolicy", NO_PROCESS),
    ("tty", NO_PROCESS),
    ("volumeDevices", NO_VOLUMES),
    ("volumeMounts", NO_VOLUMES),
    ("workingDir", NO_PROCESS),
];

/// Reads the spec of a Pod.
pub(super) fn read_spec(
    context: &mut Context,
    mut spec: Fields<'_>,
    owner: Owner,
    labels: StringMap,
    annotations: StringMap,
) -> Result<PodTemplate, Failure> {
    let mut containers: Vec<Container> = Vec::new();
    for (path, node) in spec.required_list(context, "containers")? {
        let fields = Fields::of(context, path, node)?;
        let container = container(context, fields, &containers)?;
        containers.push(container);
    }
    let node_name = match spec.text(context, "nodeName")? {
        Some((name, position)) => {
            names::subdomain(name)
                .map_err(|message| spec.error_at(context, "nodeName", position, message))?;
            Some(name.to_owned())
        }
        None => None,
    };
    restart_policy(context, &mut spec, owner)?;
    let template = PodTemplate {
        labels,
        annotations,
        node_name,
        node_selector: spec.string_map(context, "nodeSelector", names::label_pair)?,
        host_network: spec.boolean(context, "hostNetwork")?.unwrap_or(false),
        termination_grace_period_seconds: spec
            .number(context, "terminationGracePeriodSeconds", GRACE_SECONDS_MAX)?
            .unwrap_or(GRACE_SECONDS),
        containers,
    };
    spec.finish(context, &POD)?;
    Ok(template)
}

fn restart_policy(
    context: &mut Context,
    spec: &mut Fields<'_>,
    owner: Owner,
) -> Result<(), Failure> {
    let all = [
        ("Always", "Always"),
        ("OnFailure", "OnFailure"),
        ("Never", "Never"),
    ];
    let allowed = match owner {
        Owner::None => &all[..],
        Owner::Controller => &all[..1],
        Owner::Job => &all[1..],
    };
    match spec.choice(context, "restartPolicy", allowed)? {
        None if owner == Owner::Job => {
            let message = "required in a Job: one of OnFailure, Never is allowed".to_owned();
            Err(spec.error_at(context, "restartPolicy", spec.position, message))
        }
        Some("OnFailure" | "Never") => {
            context.skip(
                spec.path("restartPolicy"),
                "not simulated: no container fails",
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

fn container(
    context: &mut Context,
    mut fields: Fields<'_>,
    others: &[Container],
) -> Result<Container, Failure> {
    let (name, position) = fields.required_text(context, "name")?;
    names::label(name).map_err(|message| fields.error_at(context, "name", position, message))?;
    if others.iter().any(|other| other.name == name) {
        let message = format!("`{name}` stands twice: containers of a Pod have different names");
        return Err(fields.error_at(context, "name", position, message));
    }
    let (image, image_position) = fields.required_text(context, "image")?;
    if image.is_empty() || image.contains(char::is_whitespace) {
        let message = format!("`{image}` is not an image: a name without spaces is");
        return Err(fields.error_at(context, "image", image_position, message));
    }
    let choices = [
        ("Always", ImagePullPolicy::Always),
        ("IfNotPresent", ImagePullPolicy::IfNotPresent),
        ("Never", ImagePullPolicy::Never),
    ];
    let image_pull_policy = fields
        .choice(context, "imagePullPolicy", &choices)?
        .unwrap_or_else(|| default_pull_policy(image));
    fields.finish(context, &CONTAINER)?;
    Ok(Container {
        name: name.to_owned(),
        image: image.to_owned(),
        image_pull_policy,
    })
}

/// What the apiserver fills in: `Always` for the tag `latest` or none, unless a digest is given.
///
/// Source: kubernetes v1.26.5 pkg/apis/core/v1/defaults.go `SetDefaults_Container`.
fn default_pull_policy(image: &str) -> ImagePullPolicy {
    if image.contains('@') {
        return ImagePullPolicy::IfNotPresent;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None | Some((_, "latest")) => ImagePullPolicy::Always,
        Some(_) => ImagePullPolicy::IfNotPresent,
    }
}
