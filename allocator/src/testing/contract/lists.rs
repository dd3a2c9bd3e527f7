//! Lists: selectors, pages that show one state, continue tokens that grow too old.

use crate::core::api::{ApiError, Consistency, ListQuery, Part, Preconditions, Selection};
use crate::core::objects::{Kind, LABEL_POOL, Object};
use crate::ports::ApiServer;

use super::objects::block;
use super::{Bench, fails, get, list, names, ok, selection};

pub(super) async fn all<B: Bench>(bench: &mut B) {
    bench.begin("a label selector finds what carries all its labels");
    labels(bench.api()).await;
    bench.begin("a list is ascending by key and has a version");
    order(bench.api()).await;
    bench.begin("pages show the state at the first of them");
    pages(bench.api()).await;
    bench.begin("a continue token from before a compaction is Gone, and a new list is not");
    old_token(bench).await;
    bench.begin("a cache answers a read without a version of its own");
    cached(bench.api()).await;
}

fn of_case(case: &str) -> Selection {
    Selection {
        labels: vec![(LABEL_POOL.to_owned(), case.to_owned())],
        ..selection(Kind::AddressBlock)
    }
}

async fn labels(api: &impl ApiServer) {
    let mut room = block("labels-room", "labels");
    let label = ("berth.dev/may-have-room".to_owned(), "true".to_owned());
    room.metadata
        .labels
        .insert(label.0.clone(), label.1.clone());
    ok(api.create(room.into()).await);
    ok(api.create(block("labels-full", "labels").into()).await);
    ok(api
        .create(block("labels-other", "labels-other").into())
        .await);
    let found = list(api, &of_case("labels")).await;
    assert_eq!(names(&found), ["labels-full", "labels-room"]);
    let mut both = of_case("labels");
    both.labels.push(label);
    assert_eq!(names(&list(api, &both).await), ["labels-room"]);
    assert_eq!(names(&list(api, &of_case("none")).await), [] as [&str; 0]);
}

async fn order(api: &impl ApiServer) {
    for name in ["order-b", "order-c", "order-a"] {
        ok(api.create(block(name, "order").into()).await);
    }
    let page = list(api, &of_case("order")).await;
    assert_eq!(names(&page), ["order-a", "order-b", "order-c"]);
    assert_ne!(page.resource_version, "");
    assert_eq!(page.continue_token, "");
    // Items of a list are what a read shows.
    for item in &page.items {
        assert_eq!(get(api, &item.key()).await, *item);
    }
}

async fn pages(api: &impl ApiServer) {
    ok(api.create(block("pages-z", "another-case").into()).await);
    for name in ["pages-a", "pages-b", "pages-c", "pages-d", "pages-e"] {
        ok(api.create(block(name, "pages").into()).await);
    }
    let mut query = ListQuery {
        selection: of_case("pages"),
        consistency: Consistency::Quorum,
        limit: 2,
        continue_token: String::new(),
    };
    let first = ok(api.list(&query).await);
    assert_eq!(names(&first), ["pages-a", "pages-b"]);
    assert_ne!(first.continue_token, "");

    // What happens between two pages is in none of them.
    ok(api.create(block("pages-cc", "pages").into()).await);
    let page = list(api, &of_case("pages")).await;
    let mut changed = page.items[3].clone();
    assert_eq!(changed.metadata().name, "pages-cc");
    let Object::AddressBlock(block) = &mut changed else {
        panic!("another kind")
    };
    "0 a".clone_into(&mut block.spec.records);
    ok(api.replace(changed, Part::Main).await);
    let last = page.items[5].metadata();
    let guard = Preconditions {
        uid: last.uid.clone(),
        resource_version: last.resource_version.clone(),
    };
    ok(api.delete(&page.items[5].key(), &guard).await);

    query.continue_token = first.continue_token.clone();
    let second = ok(api.list(&query).await);
    assert_eq!(names(&second), ["pages-c", "pages-d"]);
    query.continue_token = second.continue_token.clone();
    let third = ok(api.list(&query).await);
    assert_eq!(names(&third), ["pages-e"]);
    assert_eq!(third.continue_token, "");
    assert_eq!(second.resource_version, first.resource_version);
    assert_eq!(third.resource_version, first.resource_version);

    // A full page has a token while any object follows, even if none of the selection does.
    query.continue_token = String::new();
    query.limit = 5;
    let whole = ok(api.list(&query).await);
    assert_eq!(whole.items.len(), 5);
    assert_ne!(whole.continue_token, "");
    query.continue_token = whole.continue_token;
    let nothing = ok(api.list(&query).await);
    assert_eq!(names(&nothing), [] as [&str; 0]);
    assert_eq!(nothing.continue_token, "");
}

async fn old_token<B: Bench>(bench: &mut B) {
    for name in ["old-token-a", "old-token-b"] {
        ok(bench.api().create(block(name, "old-token").into()).await);
    }
    let mut query = ListQuery {
        selection: of_case("old-token"),
        consistency: Consistency::Quorum,
        limit: 1,
        continue_token: String::new(),
    };
    let first = ok(bench.api().list(&query).await);
    // Only a version that another followed is forgotten.
    ok(bench
        .api()
        .create(block("old-token-c", "old-token").into())
        .await);
    bench.compact().await;
    query.continue_token = first.continue_token;
    fails(bench.api().list(&query).await, &ApiError::Gone);
    let again = list(bench.api(), &of_case("old-token")).await;
    assert_eq!(again.items.len(), 3);
}

async fn cached(api: &impl ApiServer) {
    let page = ok(api
        .list(&ListQuery {
            selection: of_case("labels"),
            consistency: Consistency::Cache,
            limit: 0,
            continue_token: String::new(),
        })
        .await);
    // Written before a compaction, so every cache was filled after it.
    assert_eq!(names(&page), ["labels-full", "labels-room"]);
    for item in &page.items {
        let read = ok(api.get(&item.key(), Consistency::Cache).await);
        assert_eq!(read, *item);
    }
}
