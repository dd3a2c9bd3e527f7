//! The shells: each runs one core in one future, turning outputs into port calls and their results
//! into inputs. They decide nothing, keep no timers and spawn nothing.

mod agent;
mod controller;
mod errands;

pub use agent::run_agent;
pub use controller::run_controller;

use core::future::{Future, pending};

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};

use crate::core::api::{ApiError, ApiReply, ApiRequest, WatchEvent};
use crate::ports::{ApiServer, Watch};

/// The next completion; pending while nothing runs (an empty set would complete at once, forever).
async fn next_of<F: Future>(running: &mut FuturesUnordered<F>) -> F::Output {
    match running.next().await {
        Some(done) => done,
        None => pending().await,
    }
}

/// Carries one request to the apiserver.
async fn carry<A: ApiServer>(api: &A, request: ApiRequest) -> Result<ApiReply, ApiError> {
    match request {
        ApiRequest::Get(key, consistency) => api.get(&key, consistency).await.map(ApiReply::Object),
        ApiRequest::List(query) => api.list(&query).await.map(ApiReply::Page),
        ApiRequest::Create(object) => api.create(object).await.map(ApiReply::Written),
        ApiRequest::Replace(object, part) => api.replace(object, part).await.map(ApiReply::Written),
        ApiRequest::Delete(key, preconditions) => api
            .delete(&key, &preconditions)
            .await
            .map(|()| ApiReply::Deleted),
    }
}

/// At most this many events become one input.
const EVENTS_TOGETHER: usize = 1024;

/// Waits for one event and takes those that are ready after it; also returns whether the watch goes
/// on.
async fn ready_events<W: Watch>(watch: &mut W) -> (Vec<WatchEvent>, bool) {
    let mut events = vec![watch.next().await];
    loop {
        if matches!(
            events.last(),
            Some(WatchEvent::Closed | WatchEvent::Expired)
        ) {
            return (events, false);
        }
        if events.len() >= EVENTS_TOGETHER {
            return (events, true);
        }
        match watch.next().now_or_never() {
            Some(event) => events.push(event),
            None => return (events, true),
        }
    }
}
