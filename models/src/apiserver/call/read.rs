//! Reads: what a request for objects is answered with. They change nothing.

use drydock_engine::time::SimInstant;

use crate::apiserver::cost;
use crate::apiserver::store::Store;
use crate::request::{Answer, ApiError, Request, Response, matches};

/// The response to a read: from a server's cache, or as of the latest revision.
pub(super) fn response(
    store: &Store,
    request: &Request,
    server: usize,
    now: SimInstant,
) -> Response {
    let at = if cost::from_cache(request) {
        store.visible_revision(server, now)
    } else {
        store.revision()
    };
    match request {
        Request::GetPod {
            namespace, name, ..
        } => store
            .pod_at(namespace, name, at)
            .map(Answer::Pod)
            .ok_or(ApiError::NotFound),
        Request::ListPods { node_name, .. } => {
            Ok(Answer::Pods(store.pods_at(node_name.as_ref(), at), at))
        }
        Request::Get { kind, name, .. } => store
            .custom_at(*kind, name, at)
            .map(Answer::Custom)
            .ok_or(ApiError::NotFound),
        Request::List {
            kind,
            selectors,
            limit,
            after,
            ..
        } => {
            let (at, after) = match after {
                None => (at, None),
                Some(token) => {
                    let (revision, name) = token.split_once(' ').ok_or(ApiError::Invalid)?;
                    let revision = revision.parse().map_err(|_| ApiError::Invalid)?;
                    if revision + 1 < store.first() {
                        return Err(ApiError::Gone);
                    }
                    (revision, Some(name))
                }
            };
            let mut found = store.customs_at(*kind, &[], at);
            if let Some(after) = after {
                found.retain(|object| *object.name > *after);
            }
            // A full page has a token while anything follows, whatever selects it.
            let last = found.last().map(|object| object.name.clone());
            found.retain(|object| matches(selectors, object));
            let mut next = None;
            if *limit > 0 && found.len() >= *limit as usize {
                found.truncate(*limit as usize);
                let end = found.last().map(|object| object.name.clone());
                if end != last {
                    next = end.map(|name| format!("{at} {name}").into());
                }
            }
            Ok(Answer::Customs(found, at, next))
        }
        _ => Ok(Answer::Done),
    }
}
