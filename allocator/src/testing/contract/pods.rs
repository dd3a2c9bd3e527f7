//! Pods and what Berth reads of them: never written through the port.

use crate::core::api::{ApiError, Consistency, Selection, WatchEvent};
use crate::core::objects::{Kind, Object, ObjectKey, Pod};
use crate::ports::ApiServer;

use super::{Bench, fails, get, list, named, names, next_change, selection, watch_from_now};

pub(super) async fn all<B: Bench>(bench: &mut B) {
    bench.begin("a Pod shows its node, phase, labels and annotations");
    shapes(bench).await;
    bench.begin("a node's Pods are selected by the field");
    by_node(bench).await;
    bench.begin("a Pod enters its node's watch when it is bound, and leaves it marked, then gone");
    lives(bench).await;
}

fn key(name: &str) -> ObjectKey {
    ObjectKey {
        kind: Kind::Pod,
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

fn pod(name: &str, node: &str) -> Pod {
    let mut pod = Pod {
        metadata: named(name),
        ..Pod::default()
    };
    "default".clone_into(&mut pod.metadata.namespace);
    pod.metadata.labels = [("app".to_owned(), name.to_owned())].into();
    pod.metadata.annotations = [("berth.dev/pool".to_owned(), "p".to_owned())].into();
    node.clone_into(&mut pod.spec.node_name);
    pod
}

fn of_node(node: &str) -> Selection {
    Selection {
        node_name: Some(node.to_owned()),
        ..selection(Kind::Pod)
    }
}

async fn shapes<B: Bench>(bench: &mut B) {
    let asked = pod("shapes", "n-shapes");
    bench.create_pod(asked.clone()).await;
    let Object::Pod(read) = get(bench.api(), &key("shapes")).await else {
        panic!("another kind")
    };
    let mut expected = asked;
    expected.metadata.uid = read.metadata.uid.clone();
    expected.metadata.generation = read.metadata.generation;
    expected
        .metadata
        .resource_version
        .clone_from(&read.metadata.resource_version);
    "Pending".clone_into(&mut expected.status.phase);
    assert_eq!(*read, expected);
    assert_ne!(read.metadata.uid.as_str(), "");
}

async fn by_node<B: Bench>(bench: &mut B) {
    for (name, node) in [
        ("by-a", "n-by"),
        ("by-b", "n-other"),
        ("by-c", ""),
        ("by-d", "n-by"),
    ] {
        bench.create_pod(pod(name, node)).await;
    }
    let page = list(bench.api(), &of_node("n-by")).await;
    assert_eq!(names(&page), ["by-a", "by-d"]);
    bench.bind_pod(&key("by-c"), "n-by").await;
    let page = list(bench.api(), &of_node("n-by")).await;
    assert_eq!(names(&page), ["by-a", "by-c", "by-d"]);
    let everybody = list(bench.api(), &selection(Kind::Pod)).await;
    assert!(everybody.items.len() >= 4);
}

async fn lives<B: Bench>(bench: &mut B) {
    let mut watch = watch_from_now(bench.api(), &of_node("n-lives")).await;
    bench.create_pod(pod("lives", "")).await;
    bench
        .create_pod(pod("lives-elsewhere", "n-elsewhere"))
        .await;
    bench.bind_pod(&key("lives"), "n-lives").await;
    let bound = match next_change(&mut watch).await {
        WatchEvent::Added(object) => object,
        WatchEvent::Modified(object) if !B::TELLS_ADDED => object,
        other => panic!("a new Pod was due, not {other:?}"),
    };
    assert_eq!(bound.key(), key("lives"));
    bench.delete_pod(&key("lives")).await;
    // The scheduler's condition or a status may come first; the mark comes.
    let marked = loop {
        match next_change(&mut watch).await {
            WatchEvent::Modified(object) if object.metadata().deletion_timestamp.is_some() => {
                break object;
            }
            WatchEvent::Modified(_) => {}
            other => panic!("a marked Pod was due, not {other:?}"),
        }
    };
    assert_eq!(get(bench.api(), &key("lives")).await, marked);
    bench.remove_pod(&key("lives")).await;
    let gone = loop {
        match next_change(&mut watch).await {
            WatchEvent::Deleted(object) => break object,
            WatchEvent::Modified(_) => {}
            other => panic!("a deletion was due, not {other:?}"),
        }
    };
    assert_eq!(gone.metadata().uid, marked.metadata().uid);
    assert!(gone.metadata().deletion_timestamp.is_some());
    assert_ne!(
        gone.metadata().resource_version,
        marked.metadata().resource_version,
        "a deletion has a version of its own"
    );
    fails(
        bench.api().get(&key("lives"), Consistency::Quorum).await,
        &ApiError::NotFound,
    );
}
