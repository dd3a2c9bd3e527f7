//! How the tables of the kinds are written down and laid over the derived schemas.

use serde_json::{Map, Value, json};

use crate::core::condition::MESSAGE_MAX;

/// What is said about the field at a path: keywords of a schema.
///
/// Shape of a path: names apart by dots; `[]` stands for the items of a list, `{}` for the values
/// of a map. Empty: the whole object.
pub(super) type Table = Vec<(String, Value)>;

pub(super) fn table<const COUNT: usize>(rows: [(&str, Value); COUNT]) -> Table {
    rows.map(|(path, keywords)| (path.to_owned(), keywords))
        .into()
}

/// A JSON number up to here is exact in every client, also in one that knows only doubles.
pub(super) const EXACT_MAX: u64 = 1 << 53;

/// The longest textual IP address.
pub(super) const ADDRESS_MAX: u32 = 45;
/// The longest prefix.
pub(super) const PREFIX_MAX: u32 = 49;

/// A DNS subdomain, the names of most objects.
pub(super) const SUBDOMAIN: &str =
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A DNS label, the names of namespaces.
pub(super) const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

pub(super) fn text(length_max: u32) -> Value {
    json!({"maxLength": length_max})
}

pub(super) fn shaped(length_max: u32, pattern: &str) -> Value {
    json!({"maxLength": length_max, "pattern": pattern})
}

pub(super) fn whole(least: u64, most: u64) -> Value {
    json!({"minimum": least, "maximum": most})
}

/// A count up to the largest integer of the apiserver. `maximum` cannot say that: it is a double in
/// the apiserver, and the nearest one lies above.
pub(super) fn count() -> Value {
    json!({"minimum": 0})
}

pub(super) fn list(count_max: u32) -> Value {
    json!({"maxItems": count_max})
}

/// A CEL rule.
pub(super) fn rule(cel: &str, message: &str) -> Value {
    json!({"x-kubernetes-validations": [{"rule": cel, "message": message}]})
}

/// A CEL rule whose failure is told at a field below.
pub(super) fn rule_at(field: &str, cel: &str, message: &str) -> Value {
    let mut value = rule(cel, message);
    value["x-kubernetes-validations"][0]["fieldPath"] = field.into();
    value
}

/// A field that was not asked for before. An apiserver ratchets CEL, but not `required`.
pub(super) fn must_have(field: &str) -> Value {
    rule(
        &format!("has(self.{field})"),
        &format!("{field} is required"),
    )
}

/// An IP address.
pub(super) fn address() -> Value {
    let mut value = text(ADDRESS_MAX);
    lay(
        &mut value,
        rule(
            "isIP(self)",
            "an IP address, 10.0.0.1 or fd00::1 for instance",
        ),
    );
    value
}

/// Several keywords for one node.
pub(super) fn all(parts: impl IntoIterator<Item = Value>) -> Value {
    let mut value = json!({});
    for part in parts {
        lay(&mut value, part);
    }
    value
}

/// A time as Kubernetes writes it. Not `format: date-time`: with it an apiserver takes a list, too.
const TIME: &str =
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$";

/// What a condition keeps, as `metav1.Condition` of Kubernetes does. `lastTransitionTime` is not
/// required: programs of the release before this one do not write it.
pub(super) fn conditions(path: &str) -> Table {
    let kind = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
                (([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";
    let of_each = [
        ("type", shaped(316, kind)),
        ("status", json!({"enum": ["True", "False", "Unknown"]})),
        ("observedGeneration", count()),
        ("lastTransitionTime", shaped(64, TIME)),
        (
            "reason",
            json!({
                "minLength": 1,
                "maxLength": 1024,
                "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            }),
        ),
        ("message", text(MESSAGE_MAX as u32)),
    ];
    let mut rows = table([(
        path,
        json!({
            "maxItems": 32,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        }),
    )]);
    let required = json!({"required": ["type", "status", "reason", "message"]});
    rows.push((format!("{path}[]"), required));
    rows.extend(of_each.map(|(field, keywords)| (format!("{path}[].{field}"), keywords)));
    rows
}

/// Lays keywords over a node: rules are added, everything else is replaced.
pub(super) fn lay(node: &mut Value, keywords: Value) {
    let map = node.as_object_mut().expect("a schema is an object");
    let keywords: Map<String, Value> = match keywords {
        Value::Object(keywords) => keywords,
        other => panic!("{other} is no set of keywords"),
    };
    for (keyword, value) in keywords {
        match (map.get_mut(&keyword), value) {
            (Some(Value::Array(rules)), Value::Array(more))
                if keyword == "x-kubernetes-validations" =>
            {
                rules.extend(more);
            }
            (_, value) => {
                map.insert(keyword, value);
            }
        }
    }
}

/// Lays a table over the schema of a whole object.
pub(super) fn lay_all(schema: &mut Value, rows: Table) {
    for (path, keywords) in rows {
        lay(at(schema, &path), keywords);
    }
}

/// The node at a path.
///
/// Panics: there is no such node; a table that names a field which no type has is a mistake.
pub(super) fn at<'a>(schema: &'a mut Value, path: &str) -> &'a mut Value {
    let mut node = schema;
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let plain = name.trim_end_matches(['[', ']', '{', '}']);
        let properties = node["properties"].as_object_mut();
        let properties = properties.unwrap_or_else(|| panic!("{path}: no object above {name}"));
        node = properties
            .get_mut(plain)
            .unwrap_or_else(|| panic!("{path}: no field {plain}"));
        let mut below = &name[plain.len()..];
        while !below.is_empty() {
            let key = if below.starts_with("[]") {
                "items"
            } else {
                "additionalProperties"
            };
            node = node
                .get_mut(key)
                .unwrap_or_else(|| panic!("{path}: no {key} below {plain}"));
            below = &below[2..];
        }
    }
    node
}
