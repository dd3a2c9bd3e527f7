//! What the adapter says while the real servers are stopped, killed and started again.

use berth::core::api::{
    ApiError, Applied, Consistency, ListQuery, Selection, WatchEvent, WatchQuery,
};
use berth::core::objects::{Kind, ObjectKey};
use berth::ports::{ApiServer, Watch};

fn pools() -> ListQuery {
    ListQuery {
        selection: Selection {
            kind: Kind::AddressPool,
            labels: Vec::new(),
            node_name: None,
        },
        consistency: Consistency::Quorum,
        limit: 0,
        continue_token: String::new(),
    }
}

#[tokio::test]
async fn an_apiserver_that_is_killed_closes_watches_and_comes_back_with_its_state() {
    let Some(mut plane) = super::cluster().await else {
        return;
    };
    let api = plane.api().unwrap();
    let node = ObjectKey::cluster(Kind::Node, "absent");
    let query = pools();
    let page = api.list(&query).await.unwrap();
    let from_now = WatchQuery {
        selection: query.selection.clone(),
        resource_version: page.resource_version,
    };
    let mut watch = api.watch(&from_now).await.unwrap();
    plane.apiserver().kill();
    loop {
        match watch.next().await {
            WatchEvent::Closed => break,
            WatchEvent::Bookmark(_) => {}
            other => panic!("an end was due, not {other:?}"),
        }
    }
    // The first request may find the old connection dying; then nobody listens.
    let _ = api.get(&node, Consistency::Quorum).await;
    assert_eq!(
        api.get(&node, Consistency::Quorum).await,
        Err(ApiError::Unavailable(Applied::Not))
    );
    plane.start_apiserver().await.unwrap();
    assert_eq!(
        api.get(&node, Consistency::Quorum).await,
        Err(ApiError::NotFound)
    );
    // Ready is not yet warm: until the cache of a kind is filled, the server says when to ask
    // again.
    let asked = loop {
        match api.watch(&from_now).await {
            Err(ApiError::TooManyRequests { retry_after }) => assert!(retry_after.is_some()),
            asked => break asked,
        }
    };
    let mut watch = asked.unwrap();
    plane.stop_apiserver().await.unwrap();
    loop {
        match watch.next().await {
            // The version is older than what the new process's cache began with, or it is not.
            WatchEvent::Closed | WatchEvent::Expired => break,
            WatchEvent::Bookmark(_) => {}
            other => panic!("an end was due, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn without_etcd_a_write_is_unknown_and_after_it_writes_go_on() {
    let Some(mut plane) = super::cluster().await else {
        return;
    };
    let api = plane.api().unwrap();
    let object = |name: &str| {
        let mut node = berth::core::objects::BerthNode::default();
        name.clone_into(&mut node.metadata.name);
        node.into()
    };
    api.create(object("before")).await.unwrap();
    plane.etcd().kill();
    let answer = api.create(object("during")).await;
    assert!(
        matches!(answer, Err(ApiError::Unavailable(Applied::Unknown))),
        "{answer:?}"
    );
    plane.start_etcd().unwrap();
    plane.start_apiserver().await.unwrap();
    let before = ObjectKey::cluster(Kind::BerthNode, "before");
    api.get(&before, Consistency::Quorum).await.unwrap();
    api.create(object("after")).await.unwrap();
}
