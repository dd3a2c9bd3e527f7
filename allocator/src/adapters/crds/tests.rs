//! The definitions by themselves, without an apiserver: `tests/envtest` asks one.

use super::*;
use crate::core::labels::{LabelSelector, Operator, Requirement};
use crate::core::objects::{
    AddressPoolSpec, ApprovedPool, Condition, EpochState, FamilySpec, FormerEpoch, Object, Route,
    Uid,
};

/// One object of each kind with every field set.
fn full() -> Vec<Object> {
    let condition = || Condition {
        observed_generation: Some(3),
        last_transition_time: Some("2026-01-02T03:04:05Z".into()),
        ..Condition::new("Approved", "True", "Reason", "m".into())
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
        other: crate::core::objects::Fields::new(),
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
        other: crate::core::objects::Fields::new(),
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

/// Every field below a node, with its path and whether it is in a status.
fn fields<'a>(node: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    found.push((path.to_owned(), node));
    for (name, field) in node["properties"].as_object().into_iter().flatten() {
        fields(field, &format!("{path}.{name}"), found);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = node.get(key) {
            fields(inner, &format!("{path}{mark}"), found);
        }
    }
}

fn schemas() -> Vec<(String, Value)> {
    definitions()
        .into_iter()
        .map(|mut definition| {
            let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
            let kind = kind.to_owned();
            let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            (kind, schema.take())
        })
        .collect()
}

#[test]
fn every_field_has_a_description_that_needs_no_rust() {
    for (kind, schema) in schemas() {
        let mut found = Vec::new();
        fields(&schema, &kind, &mut found);
        assert!(found.len() > 10, "{kind}");
        for (path, node) in found {
            // The apiserver describes the metadata; items of a plain list have the list's text.
            let is_item = path.ends_with("[]") || path.ends_with("{}");
            let plain = is_item && node["properties"].is_null();
            if path == format!("{kind}.metadata") || plain {
                continue;
            }
            let text = node["description"].as_str().unwrap_or_default();
            let sentence = text.trim_end_matches(')').ends_with('.') || text.ends_with('`');
            assert!(text.len() > 4 && sentence, "{path}: {text:?}");
            assert!(
                !text.contains("::") || text.contains("fd"),
                "{path}: {text}"
            );
            assert!(!text.contains("[`"), "{path}: {text}");
        }
    }
}

#[test]
fn every_field_is_bounded() {
    for (kind, schema) in schemas() {
        let mut found = Vec::new();
        fields(&schema, &kind, &mut found);
        for (path, node) in found {
            if ["apiVersion", "kind", "metadata"]
                .map(|name| format!("{kind}.{name}"))
                .contains(&path)
            {
                continue;
            }
            let has = |keyword: &str| node.get(keyword).is_some();
            let bounded = match node["type"].as_str().unwrap_or_default() {
                "string" => has("maxLength") || has("enum"),
                "array" => has("maxItems"),
                "object" => has("properties") || has("maxProperties"),
                "integer" => has("minimum") && node["format"] == "int64",
                "boolean" => true,
                other => panic!("{path}: {other:?} is no type"),
            };
            assert!(bounded, "{path}: {node}");
        }
    }
}

#[test]
fn the_stated_defaults_are_those_of_the_type() {
    let (_, schema) = schemas().remove(0);
    let fields = schema["properties"]["spec"]["properties"].as_object();
    let stated: Vec<_> = fields
        .unwrap()
        .iter()
        .filter_map(|(name, field)| Some((name.as_str(), field.get("default")?)))
        .collect();
    let names: Vec<_> = stated.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["coolDownSeconds", "default", "disabled"]);
    for (name, value) in stated {
        let read: AddressPoolSpec = serde_json::from_value(json!({name: value})).unwrap();
        assert_eq!(read, AddressPoolSpec::default(), "{name}");
    }
}

#[test]
fn no_schema_keeps_or_allows_unknown_fields() {
    for (kind, schema) in schemas() {
        let text = schema.to_string();
        for word in [
            "preserve-unknown-fields",
            "\"$ref\"",
            "oneOf",
            "anyOf",
            "nullable\":[",
        ] {
            assert!(!text.contains(word), "{kind}: {word}");
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
    let value = json!({"a": {"b": "x: y", "c": [], "d": {}}, "e": [{"f": 1, "g": [true]}, "h"]});
    write_yaml(&mut text, &value, 0);
    let nested = "  -\n    f: 1\n    g:\n      - true\n  - \"h\"\n";
    let expected = format!("a:\n  b: \"x: y\"\n  c: []\n  d: {{}}\ne:\n{nested}");
    assert_eq!(text, expected);
}
