//! The objects that create Pods: Deployment, ReplicaSet, StatefulSet, Job and Pod.

use super::fields::{Context, Fields};
use super::kinds::Kind;
use super::tree::Position;
use super::{Failure, REPLICAS_MAX, names, pod};
use crate::workload::{Controller, PodManagement, StringMap, WorkloadObject};

/// The annotation of a Job that says for how many seconds its Pods run.
const RUN_SECONDS: &str = "drydock.dev/run-seconds";
/// The longest that a Job's Pod may run: a year. Units: s.
const RUN_SECONDS_MAX: u32 = 31_536_000;

const NO_ROLLOUT: &str = "not simulated: nothing is rolled out or rolled back";
const NO_GARBAGE: &str = "not simulated: owners and finalizers are not followed";
const BY_SERVER: &str = "ignored: the apiserver sets it";
const NO_FAILURE: &str = "not simulated: no container fails";

/// The metadata of an object.
pub(super) struct Metadata {
    pub namespace: String,
    pub name: String,
    pub position: Position,
    labels: StringMap,
    annotations: StringMap,
}

const METADATA: [(&str, &str); 11] = [
    ("finalizers", NO_GARBAGE),
    ("ownerReferences", NO_GARBAGE),
    ("creationTimestamp", BY_SERVER),
    ("deletionTimestamp", BY_SERVER),
    ("deletionGracePeriodSeconds", BY_SERVER),
    ("uid", BY_SERVER),
    ("resourceVersion", BY_SERVER),
    ("generation", BY_SERVER),
    ("managedFields", BY_SERVER),
    ("selfLink", BY_SERVER),
    ("clusterName", BY_SERVER),
];

/// Reads `metadata`; a generated name gets the number of the document and of its line.
pub(super) fn read_metadata(
    context: &mut Context,
    fields: &mut Fields<'_>,
    kind: Kind,
) -> Result<Metadata, Failure> {
    let mut metadata = fields.required_map(context, "metadata")?;
    let generate = metadata.text(context, "generateName")?;
    let (name, position) = match (metadata.text(context, "name")?, generate) {
        (Some((name, position)), _) => (name.to_owned(), position),
        (None, Some((prefix, position))) => {
            let name = format!("{prefix}{}-{}", context.document.document, position.line);
            (name, position)
        }
        (None, None) => {
            let message = "required, and missing".to_owned();
            return Err(metadata.error_at(context, "name", metadata.position, message));
        }
    };
    context.name.clone_from(&name);
    names::subdomain(&name)
        .map_err(|message| metadata.error_at(context, "name", position, message))?;
    let namespace = match metadata.text(context, "namespace")? {
        _ if !kind.namespaced => String::new(),
        None => "default".to_owned(),
        Some((namespace, position)) => {
            names::label(namespace)
                .map_err(|message| metadata.error_at(context, "namespace", position, message))?;
            namespace.to_owned()
        }
    };
    let labels = metadata.string_map(context, "labels", names::label_pair)?;
    let annotations = metadata.string_map(context, "annotations", names::annotation_pair)?;
    metadata.finish(context, &METADATA)?;
    Ok(Metadata {
        namespace,
        name,
        position,
        labels,
        annotations,
    })
}

/// Reads an object that creates Pods.
pub(super) fn read(
    context: &mut Context,
    mut fields: Fields<'_>,
    kind: Kind,
    metadata: Metadata,
) -> Result<WorkloadObject, Failure> {
    let mut spec = fields.required_map(context, "spec")?;
    let (controller, template) = match kind.name {
        "Deployment" => {
            let replicas = replicas(context, &mut spec)?;
            let template = selected_template(context, &mut spec)?;
            spec.finish(context, &DEPLOYMENT)?;
            (Controller::Deployment { replicas }, template)
        }
        "ReplicaSet" => {
            let replicas = replicas(context, &mut spec)?;
            let template = selected_template(context, &mut spec)?;
            spec.finish(context, &DEPLOYMENT[..1])?;
            (Controller::ReplicaSet { replicas }, template)
        }
        "StatefulSet" => {
            let replicas = replicas(context, &mut spec)?;
            let choices = [
                ("OrderedReady", PodManagement::OrderedReady),
                ("Parallel", PodManagement::Parallel),
            ];
            let pod_management = spec
                .choice(context, "podManagementPolicy", &choices)?
                .unwrap_or(PodManagement::OrderedReady);
            let template = selected_template(context, &mut spec)?;
            spec.finish(context, &STATEFUL_SET)?;
            (
                Controller::StatefulSet {
                    replicas,
                    pod_management,
                },
                template,
            )
        }
        "Job" => job(context, spec, &metadata)?,
        _ => {
            let labels = metadata.labels.clone();
            let annotations = metadata.annotations.clone();
            let template = pod::read_spec(context, spec, pod::Owner::None, labels, annotations)?;
            (Controller::Pod, template)
        }
    };
    fields.finish(context, &[("status", "ignored: the controllers write it")])?;
    Ok(WorkloadObject {
        document: context.document.clone(),
        namespace: metadata.namespace,
        name: metadata.name,
        labels: metadata.labels,
        annotations: metadata.annotations,
        controller,
        template,
    })
}

const DEPLOYMENT: [(&str, &str); 5] = [
    (
        "minReadySeconds",
        "not simulated: a Pod that runs counts as available",
    ),
    ("paused", "not simulated: the Deployment is not paused"),
    ("progressDeadlineSeconds", NO_ROLLOUT),
    ("revisionHistoryLimit", NO_ROLLOUT),
    ("strategy", NO_ROLLOUT),
];

const STATEFUL_SET: [(&str, &str); 7] = [
    (
        "minReadySeconds",
        "not simulated: a Pod that runs counts as available",
    ),
    ("ordinals", "not simulated: ordinals begin with 0"),
    (
        "persistentVolumeClaimRetentionPolicy",
        "not simulated: Pods have no volumes",
    ),
    ("revisionHistoryLimit", NO_ROLLOUT),
    ("serviceName", "not simulated: Pods send no traffic here"),
    ("updateStrategy", NO_ROLLOUT),
    (
        "volumeClaimTemplates",
        "not simulated: Pods have no volumes",
    ),
];

const JOB: [(&str, &str); 13] = [
    (
        "activeDeadlineSeconds",
        "not simulated: a Job has no deadline",
    ),
    ("backoffLimit", NO_FAILURE),
    ("backoffLimitPerIndex", NO_FAILURE),
    (
        "completionMode",
        "not simulated: Pods of a Job have no index",
    ),
    (
        "managedBy",
        "not simulated: the Job controller acts on every Job",
    ),
    (
        "manualSelector",
        "not simulated: a Job selects the Pods that it made",
    ),
    ("maxFailedIndexes", NO_FAILURE),
    ("podFailurePolicy", NO_FAILURE),
    ("podReplacementPolicy", NO_FAILURE),
    (
        "selector",
        "not simulated: a Job selects the Pods that it made",
    ),
    (
        "successPolicy",
        "not simulated: a Job ends after its completions",
    ),
    ("suspend", "not simulated: the Job is not suspended"),
    (
        "ttlSecondsAfterFinished",
        "not simulated: finished Jobs stay",
    ),
];

fn replicas(context: &Context, spec: &mut Fields<'_>) -> Result<u32, Failure> {
    Ok(spec.number(context, "replicas", REPLICAS_MAX)?.unwrap_or(1))
}

fn job(
    context: &mut Context,
    mut spec: Fields<'_>,
    metadata: &Metadata,
) -> Result<(Controller, crate::workload::PodTemplate), Failure> {
    let asked_parallelism = spec.number(context, "parallelism", REPLICAS_MAX)?;
    let asked_completions = spec.number(context, "completions", REPLICAS_MAX)?;
    let completions = match (asked_parallelism, asked_completions) {
        (None, None) => Some(1),
        (_, completions) => completions,
    };
    let template = template(context, &mut spec, pod::Owner::Job)?;
    spec.finish(context, &JOB)?;
    let annotated = metadata.annotations.get(RUN_SECONDS);
    let run_seconds = match annotated.or_else(|| template.annotations.get(RUN_SECONDS)) {
        None => {
            let reason = "not simulated: without this annotation nothing says how long the Job's \
                          Pods run; they run for ever";
            context.skip(format!("metadata.annotations[{RUN_SECONDS}]"), reason);
            None
        }
        Some(text) => {
            let seconds = text
                .parse()
                .ok()
                .filter(|seconds| *seconds <= RUN_SECONDS_MAX);
            Some(seconds.ok_or_else(|| {
                let path = format!("metadata.annotations[{RUN_SECONDS}]");
                let message = format!(
                    "`{text}` is not allowed: a whole number from 0 to {RUN_SECONDS_MAX} is"
                );
                context.error(path, metadata.position, message)
            })?)
        }
    };
    let parallelism = asked_parallelism.unwrap_or(1);
    Ok((
        Controller::Job {
            parallelism,
            completions,
            run_seconds,
        },
        template,
    ))
}

/// Reads `template`.
fn template(
    context: &mut Context,
    spec: &mut Fields<'_>,
    owner: pod::Owner,
) -> Result<crate::workload::PodTemplate, Failure> {
    let mut template = spec.required_map(context, "template")?;
    let (mut labels, mut annotations) = (StringMap::new(), StringMap::new());
    if let Some(mut metadata) = template.map(context, "metadata")? {
        labels = metadata.string_map(context, "labels", names::label_pair)?;
        annotations = metadata.string_map(context, "annotations", names::annotation_pair)?;
        let named = [
            ("name", "ignored: the controller names its Pods"),
            ("generateName", "ignored: the controller names its Pods"),
            (
                "namespace",
                "ignored: Pods live in the namespace of their controller",
            ),
        ];
        metadata.finish(context, &[&named[..], &METADATA[..]].concat())?;
    }
    let pod = template.required_map(context, "spec")?;
    let read = pod::read_spec(context, pod, owner, labels, annotations)?;
    template.finish(context, &[])?;
    Ok(read)
}

/// Reads `selector` and `template`, and checks that the one matches the other.
fn selected_template(
    context: &mut Context,
    spec: &mut Fields<'_>,
) -> Result<crate::workload::PodTemplate, Failure> {
    let template = template(context, spec, pod::Owner::Controller)?;
    let mut selector = spec.required_map(context, "selector")?;
    let wanted = selector.string_map(context, "matchLabels", names::label_pair)?;
    let mut rule_count = wanted.len();
    for (key, value) in &wanted {
        if template.labels.get(key) != Some(value) {
            let message = format!(
                "`selector` does not match template `labels`: {key}={value} is not among them"
            );
            return Err(selector.error(context, message));
        }
    }
    for (path, node) in selector
        .list(context, "matchExpressions")?
        .unwrap_or_default()
    {
        rule_count += 1;
        let mut rule = Fields::of(context, path, node)?;
        let (key, _) = rule.required_text(context, "key")?;
        let values = rule.texts(context, "values")?;
        let found = template.labels.get(key);
        let listed = found.is_some_and(|found| values.iter().any(|(_, value, _)| value == found));
        let choices = [
            ("In", listed),
            ("NotIn", !listed),
            ("Exists", found.is_some()),
            ("DoesNotExist", found.is_none()),
        ];
        rule.required_text(context, "operator")?;
        if rule.choice(context, "operator", &choices)? == Some(false) {
            let message = format!("`selector` does not match template `labels`: see `{key}`");
            return Err(rule.error(context, message));
        }
        rule.finish(context, &[])?;
    }
    if rule_count == 0 {
        let message = "an empty selector is not allowed: it would select every Pod".to_owned();
        return Err(selector.error(context, message));
    }
    selector.finish(context, &[])?;
    Ok(template)
}
