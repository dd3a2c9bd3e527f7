//! Names, labels and annotations as the apiserver accepts them, with its words for what is wrong.

fn is_alphanumeric(byte: u8, upper: bool) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_lowercase() || (upper && byte.is_ascii_uppercase())
}

/// Starts and ends alphanumeric, and has only alphanumerics and `inner` between.
fn shaped(text: &str, inner: &[u8], upper: bool) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.iter()
        .all(|end| end.is_some_and(|byte| is_alphanumeric(byte, upper)))
        && text
            .bytes()
            .all(|byte| is_alphanumeric(byte, upper) || inner.contains(&byte))
}

/// A DNS-1123 label: namespaces, containers.
pub(super) fn label(name: &str) -> Result<(), String> {
    if name.len() <= 63 && shaped(name, b"-", false) {
        return Ok(());
    }
    Err(format!(
        "`{name}` is not a DNS-1123 label: at most 63 lower case letters, digits and `-`, \
         with a letter or digit at both ends"
    ))
}

/// A DNS-1123 subdomain: names of objects and nodes.
pub(super) fn subdomain(name: &str) -> Result<(), String> {
    if name.len() <= 253 && name.split('.').all(|part| shaped(part, b"-", false)) {
        return Ok(());
    }
    Err(format!(
        "`{name}` is not a DNS-1123 subdomain: at most 253 lower case letters, digits, `-` and \
         `.`, with a letter or digit at both ends of each part"
    ))
}

/// The key of a label or annotation: an optional DNS prefix, `/`, and a name.
fn qualified(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let fits = name.len() <= 63 && shaped(name, b"-_.", true);
    if fits && prefix.is_none_or(|prefix| subdomain(prefix).is_ok()) {
        return Ok(());
    }
    Err(format!(
        "`{key}` is not a qualified name: an optional DNS subdomain and `/`, then at most 63 \
         letters, digits, `-`, `_` and `.`, with a letter or digit at both ends"
    ))
}

/// A label with its value.
pub(super) fn label_pair(key: &str, value: &str) -> Result<(), String> {
    qualified(key)?;
    if value.is_empty() || (value.len() <= 63 && shaped(value, b"-_.", true)) {
        return Ok(());
    }
    Err(format!(
        "the label value `{value}` is not allowed: at most 63 letters, digits, `-`, `_` and `.`, \
         with a letter or digit at both ends"
    ))
}

/// An annotation; its value may be any text.
pub(super) fn annotation_pair(key: &str, _value: &str) -> Result<(), String> {
    qualified(&key.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_as_by_the_apiserver() {
        for name in ["a", "web-1", "0", &"x".repeat(63)] {
            assert_eq!(label(name), Ok(()));
        }
        for name in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"x".repeat(64)] {
            assert!(
                label(name).unwrap_err().contains("DNS-1123 label"),
                "{name}"
            );
        }
        assert_eq!(subdomain("a.b-c.d"), Ok(()));
        for name in ["", ".", "a..b", "a.-b", "a.b-", &"x".repeat(254)] {
            assert!(subdomain(name).is_err(), "{name}");
        }
    }

    #[test]
    fn labels_have_qualified_keys_and_short_values() {
        assert_eq!(label_pair("app.kubernetes.io/name", "Web_1.0"), Ok(()));
        assert_eq!(label_pair("app", ""), Ok(()));
        for (key, value) in [
            ("", "v"),
            ("a/", "v"),
            ("/a", "v"),
            ("A/b", "v"),
            ("a", "b c"),
        ] {
            assert!(label_pair(key, value).is_err(), "{key}={value}");
        }
        assert_eq!(
            annotation_pair("k8s.v1.cni.cncf.io/networks", "[{\"a\": 1}]"),
            Ok(())
        );
    }
}
