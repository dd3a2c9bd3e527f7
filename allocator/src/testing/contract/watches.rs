//! Watches: nothing is lost between a list and its watch, selections are entered and left,
//! versions that are too old say so.

use crate::core::api::{Part, Preconditions, Selection, WatchEvent, WatchQuery};
use crate::core::objects::{AddressBlock, FINALIZER, Kind, LABEL_POOL, Object};
use crate::ports::{ApiServer, Watch};

use super::objects::block;
use super::{Bench, list, next_change, ok, selection, watch_from_now};

pub(super) async fn all<B: Bench>(bench: &mut B) {
    bench.begin("a watch shows every change after its version, in order");
    every_change::<B>(bench.api()).await;
    bench.begin("what leaves a selection is shown as deleted, what comes back as added");
    left_and_back::<B>(bench.api()).await;
    bench.begin("the last finalizer's removal ends an object in its watches");
    finalized::<B>(bench.api()).await;
    bench.begin("a watch from before a compaction is Expired; list and watch again work");
    expired(bench).await;
    if B::SENDS_BOOKMARKS {
        bench.begin("a silent watch gets a bookmark, from which a watch can go on");
        bookmark(bench.api()).await;
    }
}

fn of_case(case: &str) -> Selection {
    Selection {
        labels: vec![(LABEL_POOL.to_owned(), case.to_owned())],
        ..selection(Kind::AddressBlock)
    }
}

/// The object, if the event shows it as new in the selection.
fn added<B: Bench>(event: WatchEvent) -> Object {
    match event {
        WatchEvent::Added(object) => object,
        WatchEvent::Modified(object) if !B::TELLS_ADDED => object,
        other => panic!("an addition was due, not {other:?}"),
    }
}

fn modified(event: WatchEvent) -> Object {
    match event {
        WatchEvent::Modified(object) => object,
        other => panic!("a change was due, not {other:?}"),
    }
}

fn deleted(event: WatchEvent) -> Object {
    match event {
        WatchEvent::Deleted(object) => object,
        other => panic!("a deletion was due, not {other:?}"),
    }
}

async fn create(api: &impl ApiServer, mut block: AddressBlock) -> AddressBlock {
    block.metadata = ok(api.create(block.clone().into()).await);
    block
}

async fn replace(api: &impl ApiServer, block: &mut AddressBlock) {
    block.metadata = ok(api.replace(block.clone().into(), Part::Main).await);
}

async fn remove(api: &impl ApiServer, block: &AddressBlock) {
    let guard = Preconditions {
        uid: block.metadata.uid.clone(),
        resource_version: block.metadata.resource_version.clone(),
    };
    let key = Object::from(block.clone()).key();
    ok(api.delete(&key, &guard).await);
}

async fn every_change<B: Bench>(api: &B::Api) {
    let before = list(api, &of_case("every-change")).await;
    // Everything happens before the watch is opened, from the version of the list.
    let mut one = create(api, block("every-change-1", "every-change")).await;
    let mut shown = vec![one.clone()];
    "0 a".clone_into(&mut one.spec.records);
    replace(api, &mut one).await;
    shown.push(one.clone());
    let two = create(api, block("every-change-2", "every-change")).await;
    create(api, block("every-change-3", "another-case")).await;
    remove(api, &one).await;
    let query = WatchQuery {
        selection: of_case("every-change"),
        resource_version: before.resource_version,
    };
    let mut watch = ok(api.watch(&query).await);
    let first = added::<B>(next_change(&mut watch).await);
    assert_eq!(first, shown[0].clone().into());
    let second = modified(next_change(&mut watch).await);
    assert_eq!(second, shown[1].clone().into());
    assert_eq!(
        added::<B>(next_change(&mut watch).await),
        two.clone().into()
    );
    let third = deleted(next_change(&mut watch).await);
    assert_eq!(third.key(), second.key());
    assert_ne!(
        third.metadata().resource_version,
        second.metadata().resource_version,
        "a deletion has a version of its own"
    );
    // And what happens later.
    remove(api, &two).await;
    assert_eq!(
        deleted(next_change(&mut watch).await).metadata().name,
        "every-change-2"
    );
    // From the version of an event, the rest comes again.
    let again = WatchQuery {
        selection: of_case("every-change"),
        resource_version: third.metadata().resource_version.clone(),
    };
    let mut again = ok(api.watch(&again).await);
    assert_eq!(
        deleted(next_change(&mut again).await).metadata().name,
        "every-change-2"
    );
}

async fn left_and_back<B: Bench>(api: &B::Api) {
    let label = ("berth.dev/may-have-room".to_owned(), "true".to_owned());
    let mut selection = of_case("left");
    selection.labels.push(label.clone());
    let mut watch = watch_from_now(api, &selection).await;
    let mut object = create(api, block("left", "left")).await;
    object
        .metadata
        .labels
        .insert(label.0.clone(), label.1.clone());
    replace(api, &mut object).await;
    assert_eq!(
        added::<B>(next_change(&mut watch).await),
        object.clone().into()
    );
    let inside = object.clone();
    object.metadata.labels.remove(&label.0);
    "0 a".clone_into(&mut object.spec.records);
    replace(api, &mut object).await;
    let left = deleted(next_change(&mut watch).await);
    // Its last state in the selection, under the version of the change that took it out.
    let mut last = inside;
    last.metadata
        .resource_version
        .clone_from(&object.metadata.resource_version);
    assert_eq!(left, last.into());
    object.metadata.labels.insert(label.0, label.1);
    replace(api, &mut object).await;
    assert_eq!(added::<B>(next_change(&mut watch).await), object.into());
}

async fn finalized<B: Bench>(api: &B::Api) {
    let mut watch = watch_from_now(api, &of_case("finalized")).await;
    let mut object = block("finalized", "finalized");
    object.metadata.finalizers = vec![FINALIZER.to_owned()];
    let object = create(api, object).await;
    added::<B>(next_change(&mut watch).await);
    remove(api, &object).await;
    let Object::AddressBlock(mut marked) = modified(next_change(&mut watch).await) else {
        panic!("another kind")
    };
    assert!(marked.metadata.deletion_timestamp.is_some());
    marked.metadata.finalizers.clear();
    ok(api.replace(Object::AddressBlock(marked), Part::Main).await);
    let gone = deleted(next_change(&mut watch).await);
    assert_eq!(gone.metadata().uid, object.metadata.uid);
}

async fn expired<B: Bench>(bench: &mut B) {
    let old = list(bench.api(), &of_case("expired")).await;
    create(bench.api(), block("expired", "expired")).await;
    bench.compact().await;
    let mut query = WatchQuery {
        selection: of_case("expired"),
        resource_version: old.resource_version,
    };
    // A server may refuse the request, or answer it and say so in the stream.
    match bench.api().watch(&query).await {
        Ok(mut watch) => assert_eq!(watch.next().await, WatchEvent::Expired),
        Err(error) => assert_eq!(error, crate::core::api::ApiError::Gone),
    }
    let page = list(bench.api(), &of_case("expired")).await;
    assert_eq!(page.items.len(), 1);
    query.resource_version = page.resource_version;
    let mut watch = ok(bench.api().watch(&query).await);
    let later = create(bench.api(), block("expired-later", "expired")).await;
    assert_eq!(added::<B>(next_change(&mut watch).await), later.into());
}

async fn bookmark(api: &impl ApiServer) {
    let mut watch = watch_from_now(api, &of_case("bookmark")).await;
    create(api, block("bookmark-other", "another-case")).await;
    let WatchEvent::Bookmark(version) = watch.next().await else {
        panic!("a bookmark was due")
    };
    assert_ne!(version, "");
    let later = create(api, block("bookmark", "bookmark")).await;
    let query = WatchQuery {
        selection: of_case("bookmark"),
        resource_version: version,
    };
    let mut watch = ok(api.watch(&query).await);
    match next_change(&mut watch).await {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
            assert_eq!(object, later.into());
        }
        other => panic!("an addition was due, not {other:?}"),
    }
}
