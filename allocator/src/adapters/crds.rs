//! The CustomResourceDefinitions of Berth's kinds. The schemas are written beside the core's types,
//! which are plain serde; a test holds every field that the core writes against them, because the
//! apiserver drops, without a word, what a schema does not name.

#![expect(
    clippy::needless_pass_by_value,
    reason = "schemas are put together from their parts"
)]

use serde_json::{Value, json};

use super::apiserver::plural;
use super::yaml::write_yaml;
use crate::core::objects::{GROUP, Kind, VERSION};

/// All definitions.
pub fn definitions() -> Vec<Value> {
    vec![
        definition(
            Kind::AddressPool,
            &["bpool"],
            pool(),
            Some(pool_status()),
            &json!([
                column("Capacity", "integer", ".status.capacity"),
                column("Held", "integer", ".status.held"),
                column("Free", "integer", ".status.free"),
                column("Default", "boolean", ".spec.default"),
                column(
                    "Approved",
                    "string",
                    ".status.conditions[?(@.type=='Approved')].status"
                ),
                age(),
            ]),
        ),
        definition(
            Kind::AddressBlock,
            &["bblock"],
            block(),
            None,
            &json!([
                column("Pool", "string", ".spec.pool"),
                column("Size", "integer", ".spec.size"),
                age(),
            ]),
        ),
        definition(
            Kind::AddressReservation,
            &["bres"],
            reservation(),
            None,
            &json!([
                column("Pool", "string", ".spec.pool"),
                column("Address", "string", ".spec.address"),
                column("Pod", "string", ".spec.podName"),
                age(),
            ]),
        ),
        definition(
            Kind::BerthNode,
            &["bnode"],
            node(),
            None,
            &json!([
                column("Node", "string", ".spec.nodeName"),
                column("Epoch", "integer", ".spec.epoch"),
                column("State", "string", ".spec.state"),
                age(),
            ]),
        ),
        definition(Kind::DomainApproval, &[], domain(), None, &json!([age()])),
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

fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path})
}

fn age() -> Value {
    column("Age", "date", ".metadata.creationTimestamp")
}

fn definition(
    kind: Kind,
    short_names: &[&str],
    spec: Value,
    status: Option<Value>,
    columns: &Value,
) -> Value {
    let (name, plural) = (format!("{kind:?}"), plural(kind));
    let mut properties = json!({
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
    });
    let mut version = json!({
        "name": VERSION,
        "served": true,
        "storage": true,
        "additionalPrinterColumns": columns,
    });
    if let Some(status) = status {
        properties["status"] = status;
        version["subresources"] = json!({"status": {}});
    }
    version["schema"] = json!({"openAPIV3Schema": {
        "type": "object",
        "required": ["spec"],
        "properties": properties,
    }});
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

fn text() -> Value {
    json!({"type": "string"})
}

fn short(length: u32) -> Value {
    json!({"type": "string", "maxLength": length})
}

fn list(items: Value, count_max: u32) -> Value {
    json!({"type": "array", "maxItems": count_max, "items": items})
}

fn whole(maximum: u64) -> Value {
    json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": maximum})
}

fn labels() -> Value {
    json!({"type": "object", "maxProperties": 64, "additionalProperties": short(63)})
}

/// `matchExpressions` of Kubernetes.
fn requirements() -> Value {
    let mut requirement = object(json!({
        "key": short(317),
        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
        "values": list(short(63), 64),
    }));
    requirement["required"] = json!(["key", "operator"]);
    requirement["properties"]["key"]["minLength"] = json!(1);
    requirement["x-kubernetes-validations"] = json!([{
        "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
        "message": "In and NotIn need values, Exists and DoesNotExist take none",
    }]);
    list(requirement, 16)
}

fn object(properties: Value) -> Value {
    json!({"type": "object", "properties": properties})
}

fn conditions() -> Value {
    list(
        object(json!({
            "type": text(), "status": text(), "reason": text(), "message": text(),
        })),
        32,
    )
}

/// Units: ordinals. JSON numbers are exact so far.
const EXACT_MAX: u64 = 1 << 53;

fn pool() -> Value {
    // No comma may be in a range: the rule below joins them by commas.
    let range = || {
        let mut text = short(100);
        text["pattern"] = json!("^[0-9A-Fa-f.:/-]+$");
        list(text, 256)
    };
    let mut family = object(json!({
        "ranges": range(),
        "exclude": range(),
        "gateway": short(45),
        "subnet": short(49),
    }));
    family["required"] = json!(["ranges"]);
    // A list of families cannot be compared item by item, and none of the versions that are
    // supported slices a list: joined, the old ranges must be what the new ones begin with.
    let grown = |index: usize| {
        let ranges = format!("families[{index}].ranges");
        format!(
            "(oldSelf.{ranges}.size() == 0 || (self.{ranges}.join(',') + \",\").startsWith(\
             oldSelf.{ranges}.join(',') + \",\"))"
        )
    };
    let mut spec = object(json!({
        "families": list(family, 2),
        "blockSize": {"type": "integer", "minimum": 1, "maximum": 1024},
        "domain": short(253),
        "default": {"type": "boolean"},
        "disabled": {"type": "boolean"},
        "coolDownSeconds": whole(86_400),
        "nodeSelector": labels(),
        "namespaces": list(short(63), 1024),
        "podSelector": labels(),
        "networks": list(short(253), 64),
        "routes": list(object(json!({"dst": short(49), "gw": short(45)})), 64),
        "dns": list(short(45), 8),
        "namespaceSelector": object(json!({
            "matchLabels": labels(),
            "matchExpressions": requirements(),
        })),
        "nodeMatchExpressions": requirements(),
        "podMatchExpressions": requirements(),
    }));
    spec["required"] = json!(["families"]);
    spec["properties"]["families"]["minItems"] = json!(1);
    spec["x-kubernetes-validations"] = json!([
        {
            "rule": "self.families.size() == oldSelf.families.size()",
            "message": "the set of families is immutable",
        },
        {
            "rule": format!(
                "self.families.size() != oldSelf.families.size() || \
                 ({} && (self.families.size() < 2 || {}))",
                grown(0),
                grown(1),
            ),
            "message": "ranges are only added, at the end",
        },
        {
            "rule": "has(self.blockSize) == has(oldSelf.blockSize) && \
                     (!has(self.blockSize) || self.blockSize == oldSelf.blockSize)",
            "message": "blockSize is immutable",
        },
    ]);
    spec
}

fn pool_status() -> Value {
    object(json!({
        "approved": text(),
        "capacity": whole(EXACT_MAX),
        "held": whole(EXACT_MAX),
        "free": whole(EXACT_MAX),
        "masked": text(),
        "conditions": conditions(),
    }))
}

fn block() -> Value {
    let mut spec = object(json!({
        "schema": whole(u64::from(u32::MAX)),
        "pool": short(253),
        "poolUid": short(128),
        "index": whole(EXACT_MAX),
        "size": whole(u64::from(u16::MAX)),
        "first": list(short(45), 2),
        "writer": text(),
        "records": text(),
    }));
    spec["x-kubernetes-validations"] = json!([{
        "rule": "self.pool == oldSelf.pool && self.poolUid == oldSelf.poolUid && \
                 self.index == oldSelf.index && self.size == oldSelf.size && \
                 self.first == oldSelf.first",
        "message": "what a block covers is immutable",
    }]);
    spec["required"] = json!(["pool", "poolUid", "index", "size", "first"]);
    spec
}

fn reservation() -> Value {
    object(json!({
        "pool": short(253),
        "address": {"type": "string", "maxLength": 45, "nullable": true},
        "podNamespace": short(63),
        "podName": short(253),
        "ownerUid": short(128),
        "ownerName": short(253),
    }))
}

fn node() -> Value {
    let state = || json!({"type": "string", "enum": ["Live", "Dying", "Dead"]});
    let mut spec = object(json!({
        "nodeName": short(253),
        "nodeUid": short(128),
        "bootId": short(128),
        "epoch": whole(EXACT_MAX),
        "state": state(),
        "former": list(object(json!({"epoch": whole(EXACT_MAX), "state": state()})), 1024),
        "blocks": {"type": "array", "items": text()},
        "writer": text(),
        "conditions": conditions(),
    }));
    spec["required"] = json!(["epoch", "state"]);
    spec["x-kubernetes-validations"] = json!([
        {
            "rule": "self.epoch >= oldSelf.epoch",
            "message": "an epoch only rises",
        },
        {
            "rule": "self.epoch > oldSelf.epoch || oldSelf.state != 'Dead' || self.state == 'Dead'",
            "message": "a dead epoch stays dead",
        },
    ]);
    spec
}

fn domain() -> Value {
    let mut approved = object(json!({
        "name": text(),
        "uid": text(),
        "blockSize": whole(u64::from(u16::MAX)),
        "ranges": {"type": "array", "items": {"type": "array", "items": text()}},
    }));
    approved["required"] = json!(["name"]);
    object(json!({"pools": {
        "type": "array",
        "items": approved,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::labels::{LabelSelector, Operator, Requirement};
    use crate::core::objects::{
        AddressBlock, AddressPool, AddressReservation, ApprovedPool, BerthNode, Condition,
        DomainApproval, EpochState, FamilySpec, FormerEpoch, Object, Route, Uid,
    };

    /// One object of each kind with every field set.
    fn full() -> Vec<Object> {
        let condition = || Condition {
            kind: "Approved".into(),
            status: "True".into(),
            reason: "r".into(),
            message: "m".into(),
            ..Condition::default()
        };
        let mut pool = AddressPool::default();
        pool.spec.families = vec![FamilySpec {
            ranges: vec!["10.0.0.0/24".into()],
            exclude: vec!["10.0.0.9".into()],
            gateway: "10.0.0.1".parse().ok(),
            subnet: "10.0.0.0/24".parse().ok(),
            ..FamilySpec::default()
        }];
        pool.spec.block_size = Some(32);
        pool.spec.domain = "d".into();
        pool.spec.is_default = true;
        pool.spec.disabled = true;
        pool.spec.cool_down_seconds = 5;
        pool.spec.node_selector.insert("a".into(), "b".into());
        pool.spec.pod_selector.insert("a".into(), "b".into());
        pool.spec.namespaces = vec!["n".into()];
        pool.spec.networks = vec!["n".into()];
        let requirement = Requirement {
            key: "a".into(),
            operator: Operator::In,
            values: vec!["b".into()],
        };
        pool.spec.node_match_expressions = vec![requirement.clone()];
        pool.spec.pod_match_expressions = vec![requirement.clone()];
        pool.spec.namespace_selector = Some(LabelSelector {
            match_labels: [("a".to_owned(), "b".to_owned())].into(),
            match_expressions: vec![requirement],
        });
        pool.spec.routes = vec![Route {
            dst: "0.0.0.0/0".parse().unwrap(),
            gw: "10.0.0.1".parse().ok(),
            other: Default::default(),
        }];
        pool.spec.dns = vec!["10.0.0.2".parse().unwrap()];
        pool.status.conditions = vec![condition()];
        let mut block = AddressBlock::default();
        block.spec.first = vec!["10.0.0.0".parse().unwrap()];
        let mut reservation = AddressReservation::default();
        reservation.spec.address = "10.0.0.3".parse().ok();
        reservation.spec.owner_uid = Uid::new("u");
        reservation.spec.owner_name = "o".into();
        let mut node = BerthNode::default();
        node.spec.former = vec![FormerEpoch {
            epoch: 1,
            state: EpochState::Dead,
            other: Default::default(),
        }];
        node.spec.blocks = vec!["p-0".into()];
        node.spec.conditions = vec![condition()];
        let mut domain = DomainApproval::default();
        domain.spec.pools = vec![ApprovedPool {
            ranges: vec![vec!["10.0.0.0/24".into()]],
            ..ApprovedPool::default()
        }];
        vec![
            pool.into(),
            block.into(),
            reservation.into(),
            node.into(),
            domain.into(),
        ]
    }

    /// Fields of `value` that the schema does not name, or types otherwise.
    fn dropped(schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let kind = schema["type"].as_str().unwrap_or("none");
        match value {
            Value::Object(map) if kind == "object" => map
                .iter()
                .flat_map(|(key, value)| {
                    let path = format!("{at}.{key}");
                    match schema["properties"].get(key) {
                        Some(schema) => dropped(schema, value, &path),
                        None if schema["additionalProperties"].is_object() => {
                            dropped(&schema["additionalProperties"], value, &path)
                        }
                        None => vec![path],
                    }
                })
                .collect(),
            Value::Array(items) if kind == "array" => items
                .iter()
                .flat_map(|item| dropped(&schema["items"], item, at))
                .collect(),
            Value::String(_) if kind == "string" => vec![],
            Value::Number(_) if kind == "integer" => vec![],
            Value::Bool(_) if kind == "boolean" => vec![],
            other => vec![format!("{at}: {other} is no {kind}")],
        }
    }

    #[test]
    fn no_field_that_the_core_writes_is_dropped_by_the_apiserver() {
        for object in full() {
            let kind = format!("{:?}", object.kind());
            let definition = definitions()
                .into_iter()
                .find(|d| d["spec"]["names"]["kind"] == kind)
                .unwrap();
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let value = serde_json::to_value(&object).unwrap();
            for part in ["spec", "status"] {
                if let Some(value) = value.get(part) {
                    let lost = dropped(&schema["properties"][part], value, part);
                    assert_eq!(lost, [] as [String; 0], "{kind}");
                }
            }
        }
    }

    #[test]
    fn definitions_are_named_after_plural_and_group() {
        let names: Vec<_> = definitions()
            .iter()
            .map(|d| d["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names[0], "addresspools.berth.dev");
        assert_eq!(names.len(), 5);
    }

    #[test]
    fn yaml_nests_by_two_spaces_and_quotes_every_text() {
        let mut text = String::new();
        let value =
            json!({"a": {"b": "x: y", "c": [], "d": {}}, "e": [{"f": 1, "g": [true]}, "h"]});
        write_yaml(&mut text, &value, 0);
        let nested = "  -\n    f: 1\n    g:\n      - true\n  - \"h\"\n";
        let expected = format!("a:\n  b: \"x: y\"\n  c: []\n  d: {{}}\ne:\n{nested}");
        assert_eq!(text, expected);
    }
}
