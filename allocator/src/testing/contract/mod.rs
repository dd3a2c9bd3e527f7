//! What every `ApiServer` must do, as one suite over the port: for the store in memory, for a
//! simulated apiserver, and for a real one. Where one of the first two differs from the real one,
//! it is wrong.
//!
//! | claim | memory | simulated | real |
//! |---|---|---|---|
//! | everything below, unless said | yes | yes | yes |
//! | bodies are validated ([`Bench::VALIDATES`]) | no | no | yes |
//! | a watch tells `Added` from `Modified` ([`Bench::TELLS_ADDED`]) | yes | no | yes |
//! | bookmarks come ([`Bench::SENDS_BOOKMARKS`]) | no | yes | yes |

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a suite: its failures are its findings"
)]

mod lists;
mod objects;
mod pods;
mod watches;
mod writes;

use core::fmt::Debug;
use core::future::Future;

use crate::core::api::{
    ApiError, Consistency, ListPage, ListQuery, Selection, WatchEvent, WatchQuery,
};
use crate::core::objects::{Kind, Metadata, Object, ObjectKey, Pod};
use crate::ports::{ApiServer, Watch};

/// An implementation under test, and what tests need beyond the port.
pub trait Bench: Send {
    /// The implementation.
    type Api: ApiServer;
    /// It refuses bodies that the definitions of Berth's kinds forbid.
    const VALIDATES: bool;
    /// Its watches tell new objects from changed ones.
    const TELLS_ADDED: bool;
    /// Its watches send bookmarks.
    const SENDS_BOOKMARKS: bool;

    /// The implementation.
    fn api(&self) -> &Self::Api;

    /// The suite begins this claim: whatever fails next contradicts it.
    fn begin(&mut self, claim: &'static str);

    /// Creates a Pod with this name, labels, annotations and node (empty: unbound).
    fn create_pod(&mut self, pod: Pod) -> impl Future<Output = ()> + Send;

    /// Binds a Pod to a node.
    fn bind_pod(&mut self, pod: &ObjectKey, node: &str) -> impl Future<Output = ()> + Send;

    /// Deletes a bound Pod: it stays, marked as terminating, until its kubelet removes it.
    fn delete_pod(&mut self, pod: &ObjectKey) -> impl Future<Output = ()> + Send;

    /// Removes a Pod's object, as its kubelet does.
    fn remove_pod(&mut self, pod: &ObjectKey) -> impl Future<Output = ()> + Send;

    /// Forgets all versions before the present one.
    fn compact(&mut self) -> impl Future<Output = ()> + Send;
}

/// Runs every case. It needs Berth's kinds, the namespace `default`, and no objects of Berth's.
///
/// Panics: a claim does not hold.
pub async fn all<B: Bench>(bench: &mut B) {
    writes::all(bench).await;
    lists::all(bench).await;
    pods::all(bench).await;
    watches::all(bench).await;
}

/// The answer was a success.
fn ok<T>(answer: Result<T, ApiError>) -> T {
    match answer {
        Ok(value) => value,
        Err(error) => panic!("a success was due, not: {error:?}"),
    }
}

/// The answer was this failure.
fn fails<T: Debug>(answer: Result<T, ApiError>, due: &ApiError) {
    match answer {
        Ok(value) => panic!("{due:?} was due, not a success: {value:?}"),
        Err(error) => assert_eq!(error, *due),
    }
}

/// The answer refused the request's content.
fn refused<T: Debug>(answer: Result<T, ApiError>) {
    match answer {
        Err(ApiError::Invalid { .. }) => {}
        other => panic!("a refusal was due, not {other:?}"),
    }
}

async fn get(api: &impl ApiServer, key: &ObjectKey) -> Object {
    ok(api.get(key, Consistency::Quorum).await)
}

fn selection(kind: Kind) -> Selection {
    Selection {
        kind,
        labels: Vec::new(),
        node_name: None,
    }
}

async fn list(api: &impl ApiServer, selection: &Selection) -> ListPage {
    let query = ListQuery {
        selection: selection.clone(),
        consistency: Consistency::Quorum,
        limit: 0,
        continue_token: String::new(),
    };
    ok(api.list(&query).await)
}

/// A watch of a selection from now on.
async fn watch_from_now<A: ApiServer>(api: &A, selection: &Selection) -> A::Watch {
    let page = list(api, selection).await;
    let query = WatchQuery {
        selection: selection.clone(),
        resource_version: page.resource_version,
    };
    ok(api.watch(&query).await)
}

/// The next event that is no bookmark.
async fn next_change(watch: &mut impl Watch) -> WatchEvent {
    loop {
        match watch.next().await {
            WatchEvent::Bookmark(_) => {}
            event => return event,
        }
    }
}

fn names(page: &ListPage) -> Vec<&str> {
    let names = page.items.iter().map(|item| item.metadata().name.as_str());
    names.collect()
}

fn named(name: &str) -> Metadata {
    Metadata {
        name: name.to_owned(),
        ..Metadata::default()
    }
}
