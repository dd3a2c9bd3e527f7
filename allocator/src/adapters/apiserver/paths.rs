//! Where each kind lives in the Kubernetes API. Names are checked before they become paths.

use core::fmt::Write as _;

use crate::core::api::{Consistency, ListQuery, Selection, WatchQuery};
use crate::core::names::is_object_name;
use crate::core::objects::{GROUP, Kind, ObjectKey, VERSION};

/// Units: seconds. The server ends a watch after this; a fresh one costs little.
pub(super) const WATCH_SECONDS: u32 = 290;

/// `apiVersion` of a kind.
pub fn api_version(kind: Kind) -> String {
    match kind {
        Kind::Lease => "coordination.k8s.io/v1".to_owned(),
        Kind::Node | Kind::Pod | Kind::Namespace => "v1".to_owned(),
        Kind::AddressPool
        | Kind::AddressBlock
        | Kind::AddressReservation
        | Kind::BerthNode
        | Kind::DomainApproval => format!("{GROUP}/{VERSION}"),
    }
}

/// The plural by which the API addresses a kind.
pub const fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::AddressPool => "addresspools",
        Kind::AddressBlock => "addressblocks",
        Kind::AddressReservation => "addressreservations",
        Kind::BerthNode => "berthnodes",
        Kind::DomainApproval => "domainapprovals",
        Kind::Lease => "leases",
        Kind::Node => "nodes",
        Kind::Pod => "pods",
        Kind::Namespace => "namespaces",
    }
}

const fn is_namespaced(kind: Kind) -> bool {
    matches!(kind, Kind::Lease | Kind::Pod)
}

fn root(kind: Kind) -> String {
    let version = api_version(kind);
    if version.contains('/') {
        format!("/apis/{version}")
    } else {
        format!("/api/{version}")
    }
}

/// Where objects of a kind are created; `None` when the namespace is impossible.
pub(super) fn collection(kind: Kind, namespace: &str) -> Option<String> {
    let (root, plural) = (root(kind), plural(kind));
    if !is_namespaced(kind) {
        return Some(format!("{root}/{plural}"));
    }
    is_object_name(namespace).then(|| format!("{root}/namespaces/{namespace}/{plural}"))
}

/// Where one object is; `None` when its name is impossible.
pub(super) fn object(key: &ObjectKey) -> Option<String> {
    let collection = collection(key.kind, &key.namespace)?;
    is_object_name(&key.name).then(|| format!("{collection}/{}", key.name))
}

/// The query of a read.
pub(super) fn read_query(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::Quorum => "",
        Consistency::Cache => "?resourceVersion=0",
    }
}

/// A list's path and query.
pub(super) fn list(query: &ListQuery) -> String {
    let mut path = selected(&query.selection);
    if query.limit > 0 {
        write!(path, "&limit={}", query.limit).expect("writing to a String succeeds");
    }
    if !query.continue_token.is_empty() {
        // The token carries the version itself.
        push(&mut path, "continue", &query.continue_token);
    } else if query.consistency == Consistency::Cache {
        path.push_str("&resourceVersion=0");
    }
    path
}

/// A watch's path and query.
pub(super) fn watch(query: &WatchQuery) -> String {
    let mut path = selected(&query.selection);
    write!(
        path,
        "&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}"
    )
    .expect("writing to a String succeeds");
    push(&mut path, "resourceVersion", &query.resource_version);
    path
}

fn selected(selection: &Selection) -> String {
    let mut path = format!("{}/{}?", root(selection.kind), plural(selection.kind));
    let labels: Vec<String> = selection
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if !labels.is_empty() {
        push(&mut path, "labelSelector", &labels.join(","));
    }
    if let Some(node) = &selection.node_name {
        push(&mut path, "fieldSelector", &format!("spec.nodeName={node}"));
    }
    path
}

/// Appends `&key=value`, percent-encoded.
fn push(path: &mut String, key: &str, value: &str) {
    write!(path, "&{key}=").expect("writing to a String succeeds");
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            path.push(char::from(byte));
        } else {
            write!(path, "%{byte:02X}").expect("writing to a String succeeds");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind, namespace: &str, name: &str) -> ObjectKey {
        ObjectKey {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    #[test]
    fn every_kind_has_its_place() {
        for (key, path) in [
            (key(Kind::Pod, "ns", "p"), "/api/v1/namespaces/ns/pods/p"),
            (key(Kind::Node, "", "n"), "/api/v1/nodes/n"),
            (key(Kind::Namespace, "", "ns"), "/api/v1/namespaces/ns"),
            (
                key(Kind::Lease, "berth-system", "c"),
                "/apis/coordination.k8s.io/v1/namespaces/berth-system/leases/c",
            ),
            (
                key(Kind::AddressBlock, "", "p-0"),
                "/apis/berth.dev/v1alpha1/addressblocks/p-0",
            ),
        ] {
            assert_eq!(object(&key).as_deref(), Some(path));
        }
    }

    #[test]
    fn an_impossible_name_becomes_no_path() {
        for (namespace, name) in [("ns", "../../x"), ("", "p"), ("ns", ""), ("a/b", "p")] {
            assert_eq!(object(&key(Kind::Pod, namespace, name)), None);
        }
        assert_eq!(object(&key(Kind::BerthNode, "", "a?b=c")), None);
    }

    #[test]
    fn queries_state_freshness_selection_and_page() {
        let selection = Selection {
            kind: Kind::Pod,
            labels: vec![("a/b".into(), "true".into())],
            node_name: Some("n 1".into()),
        };
        let mut query = ListQuery {
            selection: selection.clone(),
            consistency: Consistency::Cache,
            limit: 500,
            continue_token: String::new(),
        };
        let selected =
            "/api/v1/pods?&labelSelector=a%2Fb%3Dtrue&fieldSelector=spec.nodeName%3Dn%201";
        assert_eq!(
            list(&query),
            format!("{selected}&limit=500&resourceVersion=0")
        );
        query.continue_token = "t=".into();
        assert_eq!(list(&query), format!("{selected}&limit=500&continue=t%3D"));
        let watched = watch(&WatchQuery {
            selection,
            resource_version: "7".into(),
        });
        assert!(watched.starts_with(selected) && watched.ends_with("&resourceVersion=7"));
        assert!(watched.contains("&allowWatchBookmarks=true&"));
    }
}
