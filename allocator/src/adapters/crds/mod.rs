//! The CustomResourceDefinitions of Berth's kinds: derived from the core's types ([`derive`]), with
//! a table per kind of what the schema requires beyond them ([`pool`], [`others`]). An apiserver
//! silently drops what a schema does not name: tests check that every field the core writes is
//! named, and that every field has a description and a bound.
//!
//! Unknown fields are not preserved. kubectl asks the apiserver to refuse a field that the schema
//! does not know, and names it. That is how typing errors are found; a schema that preserves
//! unknown fields reports none. An older schema applied over a newer one loses the fields that this
//! release does not know. `spec.schema`, which every release knows, says whether that is
//! acceptable: an object with a higher one is set aside, whatever is left of it.
//!
//! Needs Kubernetes 1.31: `isIP` and `cidr` in rules. From 1.30 on an apiserver does not apply a
//! rule to a field that an update leaves alone, so an object older than a rule can still be changed
//! and deleted. `required` is not ratcheted: a rule asks for what the first release did not
//! require.

mod addresses;
mod derive;
mod others;
mod pool;
mod tables;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde_json::{Value, json};

use self::tables::{Table, lay_all};
use super::apiserver::plural;
use super::yaml::write_yaml;
use crate::core::objects::{
    AddressBlock, AddressPool, AddressReservation, BerthNode, DomainApproval, GROUP, Kind, SCHEMA,
    VERSION,
};

pub use self::pool::UNSEEN;

/// All definitions.
pub fn definitions() -> Vec<Value> {
    vec![
        definition::<AddressPool>(
            Kind::AddressPool,
            &["bpool"],
            pool::rows(),
            &json!([
                column("Capacity", "integer", ".status.capacity"),
                column("Held", "integer", ".status.held"),
                column("Free", "integer", ".status.free"),
                column("Default", "boolean", ".spec.default"),
                condition("Approved", "status", 0),
                condition("Approved", "reason", 1),
                condition("Approved", "message", 1),
                age(),
            ]),
        ),
        definition::<AddressBlock>(
            Kind::AddressBlock,
            &["bblock"],
            others::block_rows(),
            &json!([
                column("Pool", "string", ".spec.pool"),
                column("Index", "integer", ".spec.index"),
                column("First", "string", ".spec.first[0]"),
                column("Size", "integer", ".spec.size"),
                age(),
            ]),
        ),
        definition::<AddressReservation>(
            Kind::AddressReservation,
            &["bres"],
            others::reservation_rows(),
            &json!([
                column("Pool", "string", ".spec.pool"),
                column("Address", "string", ".spec.address"),
                column("Namespace", "string", ".spec.podNamespace"),
                column("Pod", "string", ".spec.podName"),
                age(),
            ]),
        ),
        definition::<BerthNode>(
            Kind::BerthNode,
            &["bnode"],
            others::node_rows(),
            &json!([
                column("Node", "string", ".spec.nodeName"),
                column("Epoch", "integer", ".spec.epoch"),
                column("State", "string", ".spec.state"),
                column("Conditions", "string", ".spec.conditions[*].type"),
                age(),
            ]),
        ),
        definition::<DomainApproval>(
            Kind::DomainApproval,
            &[],
            others::domain_rows(),
            &json!([age()]),
        ),
    ]
}

/// All definitions as YAML documents.
pub fn yaml() -> String {
    let mut text = String::new();
    for definition in definitions() {
        text.push_str("---\n");
        write_yaml(&mut text, &definition, 0);
    }
    text
}

/// A column of `kubectl get`; one with a description takes its heading from it.
fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path})
}

/// A column from a condition; priority 1 shows only with `-o wide`.
fn condition(kind: &str, field: &str, priority: u32) -> Value {
    let path = format!(".status.conditions[?(@.type=='{kind}')].{field}");
    let mut heads = field[..1].to_ascii_uppercase();
    heads.push_str(&field[1..]);
    let mut column = column(
        if field == "status" { kind } else { &heads },
        "string",
        &path,
    );
    if priority > 0 {
        column["priority"] = priority.into();
    }
    column
}

fn age() -> Value {
    column("Age", "date", ".metadata.creationTimestamp")
}

/// The schema of a whole object.
fn schema<T: JsonSchema>(rows: Table) -> Value {
    let mut schema = derive::structural::<T>();
    let fields = schema["properties"]
        .as_object_mut()
        .expect("an object has fields");
    fields.insert(
        "apiVersion".into(),
        json!({
            "type": "string",
            "description": "Group and version of this kind. Kept by the apiserver, which converts \
                            where it must.",
        }),
    );
    fields.insert(
        "kind".into(),
        json!({"type": "string", "description": "The kind of this object, in CamelCase."}),
    );
    // Anything more is refused; the apiserver describes it by itself.
    fields.insert("metadata".into(), json!({"type": "object"}));
    lay_all(&mut schema, rows);
    schema
}

fn definition<T: JsonSchema>(
    kind: Kind,
    short_names: &[&str],
    rows: Table,
    columns: &Value,
) -> Value {
    let (name, plural) = (format!("{kind:?}"), plural(kind));
    let schema = schema::<T>(rows);
    let mut version = json!({
        "name": VERSION,
        "served": true,
        "storage": true,
        "additionalPrinterColumns": columns,
    });
    if schema["properties"].get("status").is_some() {
        version["subresources"] = json!({"status": {}});
    }
    version["schema"] = json!({"openAPIV3Schema": schema});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": name,
                "listKind": format!("{name}List"),
                "plural": plural,
                "singular": name.to_ascii_lowercase(),
                "shortNames": short_names,
                "categories": ["berth"],
            },
            "versions": [version],
        },
    })
}
