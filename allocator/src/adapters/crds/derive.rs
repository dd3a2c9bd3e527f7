//! From a Rust type to a structural schema: what `schemars` derives, brought into the form that an
//! apiserver takes. It adds no rule of its own: bounds and CEL are in the tables beside this file.
//!
//! `schemars` alone does not fit: a structural schema has one type per node, no references, no
//! `oneOf` of constants, no `additionalProperties` beside `properties`, and formats of its own. And
//! two things that it derives are left out on purpose: `required`, which an apiserver does not
//! ratchet (the tables say where it was always asked for, and ask by CEL where it was not), and the
//! defaults, which an apiserver writes into every object (the tables state those that a person
//! wants to see).

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of a type, with the doc comments as descriptions.
///
/// Shape: `type`, `properties`, `items`, `additionalProperties`, `enum`, `format` (`int64` alone)
/// and `description`.
pub(super) fn structural<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft07();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    rewrite(&mut schema);
    schema
}

fn rewrite(node: &mut Value) {
    let Some(map) = node.as_object_mut() else {
        // `true`: any value. Only a map of unknown fields has it, and that is dropped below.
        *node = json!({});
        return;
    };
    merge_constants(map);
    for dropped in [
        "title",
        "required",
        "default",
        "minimum",
        "maximum",
        "uniqueItems",
    ] {
        map.remove(dropped);
    }
    if let Some(Value::Array(kinds)) = map.get("type") {
        let kind = kinds.iter().find(|kind| **kind != "null").cloned();
        map.insert("type".into(), kind.unwrap_or_default());
    }
    map.remove("format");
    if map.get("type") == Some(&json!("integer")) {
        map.insert("format".into(), json!("int64"));
    }
    if let Some(Value::String(text)) = map.get_mut("description") {
        *text = plain(text);
    }
    if map.contains_key("properties") {
        map.remove("additionalProperties");
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            rewrite(inner);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(rewrite);
    }
}

/// An enum whose variants have doc comments: `oneOf` constants becomes `enum`, and the comments
/// join the description.
fn merge_constants(map: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = map.remove("oneOf") else {
        return;
    };
    let described = map.get("description").and_then(Value::as_str);
    let mut text = described.unwrap_or_default().to_owned();
    let mut values = Vec::new();
    for variant in variants {
        let value = variant["const"].clone();
        let said = variant["description"].as_str().unwrap_or_default();
        let name = value.as_str().unwrap_or_default();
        text.extend(["\n\n", name, ": ", said]);
        values.push(value);
    }
    map.insert("type".into(), json!("string"));
    map.insert("enum".into(), values.into());
    map.insert("description".into(), text.into());
}

/// A doc comment for people who do not read Rust: lines are joined within a paragraph, and links to
/// items are their last name.
fn plain(text: &str) -> String {
    let joined: Vec<String> = text
        .split("\n\n")
        .map(|paragraph| paragraph.lines().collect::<Vec<_>>().join(" "))
        .collect();
    let joined = joined.join("\n");
    let mut pieces = joined.split("[`");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (link, rest) = piece.split_once("`]").unwrap_or((piece, ""));
        let name = link.rsplit("::").next().unwrap_or(link);
        out.extend(["`", name, "`", rest]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A first line
    /// and its second, see [`std::string::String`].
    ///
    /// Another paragraph.
    #[derive(serde::Serialize, JsonSchema)]
    #[serde(rename_all = "camelCase")]
    struct Sample {
        /// Maybe.
        may_be: Option<u16>,
        /// A word.
        word: Word,
        #[serde(flatten)]
        unknown: std::collections::BTreeMap<String, Value>,
    }

    #[derive(serde::Serialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum Word {
        /// Up.
        Yes,
        /// Down.
        No,
    }

    #[test]
    fn a_type_becomes_a_structural_schema_with_its_comments() {
        assert_eq!(
            structural::<Sample>(),
            json!({
                "type": "object",
                "description": "A first line and its second, see `String`.\nAnother paragraph.",
                "properties": {
                    "mayBe": {"type": "integer", "format": "int64", "description": "Maybe."},
                    "word": {"type": "string", "enum": ["Yes", "No"],
                             "description": "A word.\nYes: Up.\nNo: Down."},
                },
            })
        );
    }
}
