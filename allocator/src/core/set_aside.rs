//! The one place that turns the JSON of an object into the object. An object that exists but cannot
//! be read is set aside by name, with what can be read of it. It is never treated as absent, and it
//! fails nothing else. The readers decide what to hold because of it.

use core::fmt::Write as _;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_path_to_error::{Path, Segment, Track};

use super::block;
use super::objects::{
    self, AddressBlock, AddressPool, AddressReservation, BerthNode, DomainApproval, Fields, Kind,
    Lease, Metadata, Namespace, Node, Object, ObjectKey, OwnerReference, Pod, SCHEMA, SetAside,
    Uid,
};

/// Something without a name where an object should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what stands in the place of an object has no name")]
pub struct Unnamed;

/// Reads an object of that kind; anything with a name becomes one. `value` may lack `kind` and
/// `apiVersion`, as the items of a list do.
///
/// Errors: it has no name.
pub fn decode(kind: Kind, value: &Value) -> Result<Object, Unnamed> {
    if value["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        return Err(Unnamed);
    }
    let bad = match typed(kind, value) {
        Ok(object) if !is_newer(&object) => return Ok(object),
        _ => newer_schema(kind, value).unwrap_or_else(|| look_closer(kind, value)),
    };
    Ok(Object::from(SetAside {
        kind,
        metadata: salvage(&value["metadata"]),
        field: bad.field,
        reason: bad.reason,
        hints: hints(&value["spec"]),
    }))
}

/// [`decode`] of a text; text that is not JSON has no name.
pub fn decode_text(kind: Kind, text: &[u8]) -> Result<Object, Unnamed> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    match typed(kind, &mut reader) {
        Ok(object) if !is_newer(&object) && !object.metadata().name.is_empty() => Ok(object),
        _ => decode(kind, &serde_json::from_slice(text).map_err(|_| Unnamed)?),
    }
}

/// What one unreadable object once did to a whole answer.
#[cfg(feature = "mutants")]
pub(crate) fn whole_answer_unreadable() -> super::api::ApiError {
    super::api::ApiError::Invalid {
        message: "the answer cannot be read".to_owned(),
    }
}

/// The names of fields that this code does not know, for instance `spec.color`: kept, but without
/// effect here. Shape: ascending.
pub fn unknown_fields(object: &Object) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |prefix: &str, fields: &Fields| {
        found.extend(fields.keys().map(|name| format!("{prefix}{name}")));
    };
    match object {
        Object::AddressPool(pool) => {
            note("", &pool.other);
            note("spec.", &pool.spec.other);
            note("status.", &pool.status.other);
            for (index, family) in pool.spec.families.iter().enumerate() {
                note(&format!("spec.families[{index}]."), &family.other);
            }
            for (index, route) in pool.spec.routes.iter().enumerate() {
                note(&format!("spec.routes[{index}]."), &route.other);
            }
        }
        Object::AddressBlock(block) => {
            note("", &block.other);
            note("spec.", &block.spec.other);
        }
        Object::AddressReservation(reservation) => {
            note("", &reservation.other);
            note("spec.", &reservation.spec.other);
        }
        Object::BerthNode(machine) => {
            note("", &machine.other);
            note("spec.", &machine.spec.other);
        }
        Object::DomainApproval(approval) => {
            note("", &approval.other);
            note("spec.", &approval.spec.other);
        }
        Object::Lease(_)
        | Object::Node(_)
        | Object::Pod(_)
        | Object::Namespace(_)
        | Object::SetAside(_) => {}
    }
    found.sort();
    found
}

/// How many of each kind.
pub(crate) fn count_by_kind<'k>(keys: impl Iterator<Item = &'k ObjectKey>) -> BTreeMap<Kind, u64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key.kind).or_insert(0) += 1;
    }
    counts
}

/// What cannot be read, and where.
struct Bad {
    field: String,
    reason: String,
}

/// Blocks have their own schema, which their readers check: a newer one is read-only.
fn is_newer(object: &Object) -> bool {
    let schema = match object {
        Object::AddressPool(pool) => pool.spec.schema,
        Object::AddressReservation(reservation) => reservation.spec.schema,
        Object::BerthNode(machine) => machine.spec.schema,
        Object::DomainApproval(approval) => approval.spec.schema,
        _ => 0,
    };
    schema > SCHEMA
}

fn newer_schema(kind: Kind, value: &Value) -> Option<Bad> {
    let known = match kind {
        Kind::AddressBlock => block::SCHEMA,
        Kind::Lease | Kind::Node | Kind::Pod | Kind::Namespace => return None,
        _ => SCHEMA,
    };
    let schema = value["spec"]["schema"].as_u64()?;
    (schema > u64::from(known)).then(|| Bad {
        field: "spec.schema".to_owned(),
        reason: format!(
            "spec.schema is {schema}: a newer release wrote it, and this one knows up to {known}"
        ),
    })
}

fn typed<'de, D: Deserializer<'de>>(kind: Kind, from: D) -> Result<Object, D::Error> {
    /// Every object has both, and every writer sets them again.
    fn own(fields: &mut Fields) {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    Ok(match kind {
        Kind::AddressPool => {
            let mut pool = AddressPool::deserialize(from)?;
            own(&mut pool.other);
            pool.into()
        }
        Kind::AddressBlock => {
            let mut block = AddressBlock::deserialize(from)?;
            own(&mut block.other);
            block.into()
        }
        Kind::AddressReservation => {
            let mut reservation = AddressReservation::deserialize(from)?;
            own(&mut reservation.other);
            reservation.into()
        }
        Kind::BerthNode => {
            let mut machine = BerthNode::deserialize(from)?;
            own(&mut machine.other);
            machine.into()
        }
        Kind::DomainApproval => {
            let mut approval = DomainApproval::deserialize(from)?;
            own(&mut approval.other);
            approval.into()
        }
        Kind::Lease => Lease::deserialize(from)?.into(),
        Kind::Node => {
            let mut node = Node::deserialize(from)?;
            forget_unwritten(&mut node.metadata);
            node.into()
        }
        Kind::Pod => {
            let mut pod = Pod::deserialize(from)?;
            forget_unwritten(&mut pod.metadata);
            pod.into()
        }
        Kind::Namespace => {
            let mut namespace = Namespace::deserialize(from)?;
            forget_unwritten(&mut namespace.metadata);
            namespace.into()
        }
    })
}

/// Nodes and Pods are many and never written, so unused metadata is dropped.
fn forget_unwritten(metadata: &mut Metadata) {
    for owner in &mut metadata.owner_references {
        owner.other.clear();
    }
}

/// Why an object cannot be read. Finding the path of a field is expensive, so it is done only here.
fn look_closer(kind: Kind, value: &Value) -> Bad {
    let mut track = Track::new();
    match typed(
        kind,
        serde_path_to_error::Deserializer::new(value, &mut track),
    ) {
        Ok(_) => Bad {
            field: String::new(),
            reason: "it is read otherwise from one time to the next".to_owned(),
        },
        Err(error) => bad(value, &track.path(), &error),
    }
}

fn bad(value: &Value, path: &Path, error: &serde_json::Error) -> Bad {
    let mut at = value;
    let mut field = String::new();
    for segment in path {
        match segment {
            Segment::Map { key } => {
                if !field.is_empty() {
                    field.push('.');
                }
                field.push_str(key);
                at = &at[key];
            }
            Segment::Seq { index } => {
                let _ = write!(field, "[{index}]");
                at = &at[*index];
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let mut found = at.to_string();
    if let Some((end, _)) = found.char_indices().nth(64) {
        found.truncate(end);
        found.push('…');
    }
    let allowed = allowed(&field);
    Bad {
        reason: format!("{field} is {found}: {error}{allowed}"),
        field,
    }
}

/// What is allowed in a field, if the reader's error does not say so.
fn allowed(field: &str) -> &'static str {
    let leaf = objects::without_indexes(field);
    match leaf.rsplit('.').next().unwrap_or_default() {
        "address" | "gateway" | "gw" | "dns" | "first" => {
            "; allowed is one IP address without a prefix, as 10.0.0.7 or fd00::7"
        }
        "subnet" | "dst" => "; allowed is a prefix, as 10.0.0.0/24 or fd00::/64",
        "ranges" | "exclude" => {
            "; allowed are 10.0.0.0/24, 10.0.0.1-10.0.0.9 and 10.0.0.1, as text"
        }
        "state" => "; allowed are Live, Dying and Dead",
        _ => "",
    }
}

/// Every field of the metadata that can be read by itself.
fn salvage(value: &Value) -> Metadata {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let texts = |name: &str| -> BTreeMap<String, String> {
        let pairs = value[name].as_object().into_iter().flatten();
        pairs
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    let items = |name: &str| value[name].as_array().into_iter().flatten();
    Metadata {
        name: text("name"),
        namespace: text("namespace"),
        uid: Uid::new(value["uid"].as_str().unwrap_or_default()),
        generation: value["generation"].as_u64(),
        resource_version: text("resourceVersion"),
        labels: texts("labels"),
        annotations: texts("annotations"),
        finalizers: items("finalizers")
            .filter_map(|item| Some(item.as_str()?.to_owned()))
            .collect(),
        // Any value means that deletion was requested.
        deletion_timestamp: match &value["deletionTimestamp"] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        },
        owner_references: items("ownerReferences")
            .filter_map(|item| OwnerReference::deserialize(item).ok())
            .collect(),
    }
}

/// The texts and whole numbers directly in a spec; long ones (records) are left out.
fn hints(spec: &Value) -> BTreeMap<String, String> {
    const BYTES_MAX: usize = 256;
    let fields = spec.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            (text.len() <= BYTES_MAX).then(|| (name.clone(), text))
        })
        .collect()
}

#[cfg(test)]
mod tests;
