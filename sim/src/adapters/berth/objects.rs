//! Berth's objects as the simulated apiserver stores them, and back. Berth's kinds are JSON text,
//! as in a real apiserver; Pods are typed there and lose here what Berth never reads.

use std::rc::Rc;

use berth::core::objects::{
    Kind, Metadata, Object, OwnerReference, Pod, PodIp, PodSpec, PodStatus, Uid,
};
use berth::core::set_aside::{decode, decode_text};
use drydock_models::objects::{OwnerKind, Phase, Pod as WorldPod};
use drydock_models::request::{Custom, CustomKind, Shape};
use serde_json::{Value, json};

/// The kind as the apiserver names it; none for Pods, which are typed there.
pub fn custom_kind(kind: Kind) -> Option<CustomKind> {
    let (resource, shape) = match kind {
        Kind::AddressPool => ("addresspools", Shape::Flat),
        Kind::AddressBlock => ("addressblocks", Shape::OneString),
        Kind::AddressReservation => ("addressreservations", Shape::Flat),
        Kind::BerthNode => ("berthnodes", Shape::Flat),
        Kind::DomainApproval => ("domainapprovals", Shape::Flat),
        Kind::Lease => ("leases", Shape::Flat),
        Kind::Node => ("nodes", Shape::Flat),
        Kind::Namespace => ("namespaces", Shape::Flat),
        Kind::Pod => return None,
    };
    Some(CustomKind { resource, shape })
}

/// The name in the store: `namespace/name`, or the name alone.
pub fn stored_name(namespace: &str, name: &str) -> Rc<str> {
    if namespace.is_empty() {
        name.into()
    } else {
        format!("{namespace}/{name}").into()
    }
}

/// The UID text of a stored object.
pub fn uid_text(uid: u32) -> String {
    format!("00000000-0000-4000-9000-{uid:012x}")
}

/// The number in a UID text of [`uid_text`].
pub fn uid_number(uid: &Uid) -> Option<u32> {
    let digits = uid.as_str().strip_prefix("00000000-0000-4000-9000-")?;
    u32::from_str_radix(digits, 16).ok()
}

/// Berth's object as a stored one. What the apiserver looks at (uid, resourceVersion, labels,
/// annotations, finalizers, deletion, status) leaves the body.
pub fn to_custom(mut object: Object) -> Custom {
    let kind = custom_kind(object.kind()).expect("Berth never writes a Pod");
    let record_count = match &object {
        Object::AddressBlock(block) => block
            .spec
            .records
            .split(';')
            .filter(|record| !record.is_empty())
            .count() as u32,
        _ => 0,
    };
    let metadata = object.metadata_mut();
    let name = stored_name(&metadata.namespace, &metadata.name);
    let uid = guard(metadata.uid.as_str(), uid_number(&metadata.uid)).unwrap_or_default();
    let version = metadata.resource_version.parse().ok();
    let resource_version = guard(&metadata.resource_version, version).unwrap_or_default();
    let labels = std::mem::take(&mut metadata.labels).into_iter().collect();
    let annotations = std::mem::take(&mut metadata.annotations)
        .into_iter()
        .collect();
    let finalizers = std::mem::take(&mut metadata.finalizers);
    let deleting = metadata.deletion_timestamp.take().is_some();
    metadata.uid = Uid::default();
    metadata.resource_version = String::new();
    let status = match &mut object {
        Object::AddressPool(pool) => {
            let status = std::mem::take(&mut pool.status);
            Some(serde_json::to_string(&status).expect(PLAIN).into())
        }
        _ => None,
    };
    let body = serde_json::to_string(&object).expect(PLAIN);
    Custom {
        kind,
        name,
        uid,
        resource_version,
        labels,
        annotations,
        finalizers,
        deleting,
        body: body.into(),
        status,
        record_count,
    }
}

/// A stored object as Berth reads it. Its body may be any text that somebody stored: what cannot be
/// read is set aside under its name, as from a real apiserver.
pub fn from_custom(custom: &Custom) -> Object {
    let kind = kind_of_custom(custom.kind);
    let mut object = decode_text(kind, custom.body.as_bytes())
        .ok()
        .filter(|object| object.set_aside().is_none() && custom.status.is_none())
        .unwrap_or_else(|| from_parts(kind, custom));
    fill(object.metadata_mut(), custom);
    object
}

/// The slow way: with a status, or for a body that cannot be read as it is.
fn from_parts(kind: Kind, custom: &Custom) -> Object {
    let mut value: Value = serde_json::from_str(&custom.body).unwrap_or_default();
    if !value.is_object() {
        value = json!({"spec": value});
    }
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    let metadata = metadata_of(custom);
    value["metadata"]["name"] = metadata.name.into();
    value["metadata"]["namespace"] = metadata.namespace.into();
    if let Some(status) = &custom.status {
        value["status"] = serde_json::from_str(status).unwrap_or_else(|_| Value::from(&**status));
    }
    decode(kind, &value).expect("it has a name")
}

/// The kind behind the apiserver's name for it.
fn kind_of_custom(kind: CustomKind) -> Kind {
    CUSTOM
        .into_iter()
        .find(|known| custom_kind(*known) == Some(kind))
        .expect("the simulated apiserver stores Berth's kinds only")
}

const CUSTOM: [Kind; 8] = [
    Kind::AddressPool,
    Kind::AddressBlock,
    Kind::AddressReservation,
    Kind::BerthNode,
    Kind::DomainApproval,
    Kind::Lease,
    Kind::Node,
    Kind::Namespace,
];

/// The metadata that the apiserver answers with.
pub fn metadata_of(custom: &Custom) -> Metadata {
    let (namespace, name) = custom.name.split_once('/').unwrap_or(("", &custom.name));
    let mut metadata = Metadata {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..Metadata::default()
    };
    fill(&mut metadata, custom);
    metadata
}

fn fill(metadata: &mut Metadata, custom: &Custom) {
    metadata.uid = Uid::new(&uid_text(custom.uid));
    metadata.resource_version = custom.resource_version.to_string();
    metadata.labels = custom.labels.iter().cloned().collect();
    metadata.annotations = custom.annotations.iter().cloned().collect();
    metadata.finalizers.clone_from(&custom.finalizers);
    metadata.deletion_timestamp = custom.deleting.then(|| DELETED.to_owned());
}

const PLAIN: &str = "Berth's objects are plain JSON";

/// What a text guards: nothing when it is empty, and what no object has when it is not the store's.
pub fn guard<T: Guard>(text: &str, read: Option<T>) -> Option<T> {
    (!text.is_empty()).then(|| read.unwrap_or(T::OF_NOTHING))
}

/// A number that guards a write.
pub trait Guard {
    /// What no object of the store ever has.
    const OF_NOTHING: Self;
}

impl Guard for u32 {
    const OF_NOTHING: Self = u32::MAX;
}

impl Guard for u64 {
    const OF_NOTHING: Self = u64::MAX;
}

/// A deletion timestamp; Berth looks only at whether there is one.
const DELETED: &str = "2000-01-01T00:00:00Z";

/// On a Pod whose network Berth is never asked for, which the world runs as one of its node's
/// network: [`SETS_UP`] or [`NEVER_COMES`]. Berth does not see it.
pub const OTHER_NETWORK: &str = "drydock.dev/other-network";
/// Another CNI sets up the Pod's network.
pub const SETS_UP: &str = "sets-up";
/// The Pod gets no sandbox.
pub const NEVER_COMES: &str = "never-comes";

/// For a Pod that never asks: whether another CNI sets up its network.
pub fn never_asks(pod: &WorldPod) -> Option<bool> {
    other_network(pod).map(|how| how == SETS_UP)
}

/// Whether the Pod is to get no sandbox.
pub fn never_comes(pod: &WorldPod) -> bool {
    other_network(pod) == Some(NEVER_COMES)
}

fn other_network(pod: &WorldPod) -> Option<&str> {
    let mut annotations = pod.annotations.iter();
    let (_, how) = annotations.find(|(key, _)| **key == *OTHER_NETWORK)?;
    Some(how)
}

/// What another CNI gave to a Pod: none of Berth's pools has such an address.
fn foreign_address(pod: &WorldPod) -> PodIp {
    let [high, low] = (pod.uid.index() as u16).to_be_bytes();
    PodIp {
        ip: format!("198.18.{high}.{low}"),
    }
}

/// A Pod as Berth reads it.
pub fn from_pod(pod: &WorldPod) -> Object {
    let owner_references = pod.owner.iter().map(|owner| {
        let kind = match owner.kind {
            OwnerKind::ReplicaSet => "ReplicaSet",
            OwnerKind::StatefulSet => "StatefulSet",
            OwnerKind::Job => "Job",
        };
        OwnerReference {
            kind: kind.to_owned(),
            name: owner.name.to_string(),
            uid: Uid::new(&format!("{kind}-{}", owner.index)),
            ..OwnerReference::default()
        }
    });
    let pod_ips = pod
        .status
        .pod_ips
        .iter()
        .map(|ip| PodIp { ip: ip.to_string() });
    let phase = match pod.status.phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
    };
    let other = other_network(pod);
    let mut status = PodStatus {
        phase: phase.to_owned(),
        pod_ips: pod_ips.collect(),
    };
    if other.is_some() {
        let stands = other == Some(SETS_UP) && pod.status.phase == Phase::Running;
        status.pod_ips = stands.then(|| foreign_address(pod)).into_iter().collect();
        if !stands && !pod.is_terminal() {
            "Pending".clone_into(&mut status.phase);
        }
    }
    let mut annotations = texts(&pod.annotations);
    annotations.remove(OTHER_NETWORK);
    Object::from(Pod {
        metadata: Metadata {
            name: pod.name.to_string(),
            namespace: pod.namespace.to_string(),
            uid: Uid::new(&pod.uid.text()),
            resource_version: pod.resource_version.to_string(),
            labels: texts(&pod.labels),
            annotations,
            finalizers: Vec::new(),
            deletion_timestamp: pod.deletion.is_some().then(|| DELETED.to_owned()),
            owner_references: owner_references.collect(),
            generation: None,
        },
        spec: PodSpec {
            node_name: pod.node_name.as_deref().unwrap_or_default().to_owned(),
            host_network: pod.spec.host_network && other.is_none(),
        },
        status,
    })
}

fn texts(pairs: &[(Rc<str>, Rc<str>)]) -> std::collections::BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use berth::core::objects::{AddressBlock, AddressBlockSpec, AddressPool};

    use super::*;

    #[test]
    fn an_object_comes_back_from_the_store_as_it_went_in() {
        let block = Object::from(AddressBlock {
            metadata: Metadata {
                name: "pool-3".into(),
                uid: Uid::new(&uid_text(9)),
                resource_version: "77".into(),
                labels: [("a".to_owned(), "b".to_owned())].into(),
                finalizers: vec!["berth.dev/in-use".into()],
                ..Metadata::default()
            },
            spec: AddressBlockSpec {
                index: 3,
                size: 16,
                ..AddressBlockSpec::default()
            },
            ..AddressBlock::default()
        });
        let custom = to_custom(block.clone());
        assert_eq!((custom.uid, custom.resource_version), (9, 77));
        assert!(!custom.body.contains("77"), "{}", custom.body);
        assert_eq!(from_custom(&custom), block);
    }

    #[test]
    fn a_stored_body_that_cannot_be_read_keeps_its_name_version_and_deletion() {
        let pool = AddressPool {
            metadata: Metadata {
                name: "p".into(),
                resource_version: "8".into(),
                finalizers: vec!["berth.dev/in-use".into()],
                deletion_timestamp: Some(DELETED.to_owned()),
                ..Metadata::default()
            },
            ..AddressPool::default()
        };
        let good = to_custom(Object::from(pool));
        for (body, field) in [
            (r#"{"spec":{"dns":["x"]}}"#, "spec.dns[0]"),
            (r#"{"metadata":{"name":"p"},"spec":[]}"#, "spec"),
            ("no JSON", "spec"),
        ] {
            let poisoned = Custom {
                body: body.into(),
                ..good.clone()
            };
            let read = from_custom(&poisoned);
            let set_aside = read.set_aside().expect(body);
            assert_eq!(set_aside.field, field);
            assert_eq!(*read.metadata(), metadata_of(&good));
        }
    }
}
