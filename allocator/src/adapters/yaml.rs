//! JSON values as YAML text, for people and for `kubectl apply`.

use serde_json::Value;

/// Block style, with every text in JSON's quotes, which YAML shares.
pub fn write_yaml(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                write_entry(text, &format!("{indent}{key}:"), value, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                write_entry(text, &format!("{indent}-"), item, depth);
            }
        }
        plain => {
            text.push_str(&plain.to_string());
            text.push('\n');
        }
    }
}

fn write_entry(text: &mut String, head: &str, value: &Value, depth: usize) {
    text.push_str(head);
    let is_nested = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    text.push(if is_nested { '\n' } else { ' ' });
    write_yaml(text, value, depth + 1);
}
