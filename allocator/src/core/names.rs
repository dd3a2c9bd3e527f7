//! Which texts may become file names, object names and parts of addresses. Checked by the plugin
//! and again by the agent, which trusts no plugin.

/// Units: bytes. The specification sets no limit; IDs and names become file names.
pub const ID_BYTES_MAX: usize = 200;

/// Whether the text may be a container ID or a network name: `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`.
///
/// Source: containernetworking/cni, `pkg/utils/utils.go`.
pub fn is_id(text: &str) -> bool {
    text.len() <= ID_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Whether the text may name a network interface: 1 to 15 bytes, not `.` or `..`, without `/`,
/// `:`, white space and control characters.
///
/// Source: containernetworking/cni, `pkg/utils/utils.go`.
pub fn is_interface(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

/// Whether the text may name a Kubernetes object (a DNS subdomain).
pub fn is_object_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=253).contains(&text.len())
        && text.bytes().all(|b| inner(b) || matches!(b, b'-' | b'.'))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && !text.contains("..")
}

/// Whether the text may be a UID: printable ASCII without spaces. A static Pod's manifest may set
/// any.
pub fn is_uid(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_passes_for_a_name() {
        for bad in [
            "", ".", "..", "../x", "a/b", "/etc", "a\0b", "-a", "_a", "a b", "ä",
        ] {
            assert!(!is_id(bad), "{bad:?}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "sixteen-bytes-xx",
        ] {
            assert!(!is_interface(bad), "{bad:?}");
        }
        for bad in ["", "..", "a/b", "a..b", "A", "a-", "-a", "a%2f", "a?b"] {
            assert!(!is_object_name(bad), "{bad:?}");
        }
        assert!(!is_id(&"a".repeat(ID_BYTES_MAX + 1)));
    }

    #[test]
    fn names_in_use_pass() {
        let sandbox = "0123456789abcdef".repeat(4);
        for good in [
            sandbox.as_str(),
            "cnitool-77383ca0a0715733ca6f",
            "k8s_POD.x-1",
        ] {
            assert!(is_id(good), "{good}");
        }
        for good in ["eth0", "net1", "a.b", "br-0123456789ab"] {
            assert!(is_interface(good), "{good}");
        }
        for good in ["default", "web-0", "a.b-c.d", "0"] {
            assert!(is_object_name(good), "{good}");
        }
    }
}
