//! What an HTTP answer of the apiserver means: objects, lists, and which failures prove that a
//! write was not carried out. Pure.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::paths::api_version;
use crate::core::api::{ApiError, Applied, ListPage, WatchEvent};
use crate::core::objects::{Kind, Metadata, Object};
use crate::core::set_aside::{decode, decode_text};

/// What a status other than success means.
///
/// 5xx of a write is unknown: etcd may have committed before the answer was lost.
pub(super) fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ApiError {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let reason = said["reason"].as_str().unwrap_or("");
    match status {
        StatusCode::CONFLICT if reason == "AlreadyExists" => ApiError::AlreadyExists,
        StatusCode::CONFLICT => ApiError::Conflict,
        StatusCode::GONE => ApiError::Gone,
        StatusCode::NOT_FOUND => ApiError::NotFound,
        StatusCode::TOO_MANY_REQUESTS => ApiError::TooManyRequests {
            retry_after: retry_after(headers),
        },
        // The token expired; the client reads the new one from its file.
        StatusCode::UNAUTHORIZED => ApiError::Unavailable(Applied::Not),
        status if status.is_client_error() => ApiError::Invalid {
            message: match said["message"].as_str() {
                Some(message) => message.to_owned(),
                None => status.to_string(),
            },
        },
        _ => ApiError::Unavailable(Applied::Unknown),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

fn unreadable(error: impl core::fmt::Display) -> ApiError {
    ApiError::Invalid {
        message: format!("the answer cannot be read: {error}"),
    }
}

/// What the apiserver sent and nothing names, since the start of this process.
static UNNAMED: AtomicU64 = AtomicU64::new(0);

/// Units: items of lists and events of watches that had no name, since the start of this process.
pub fn unnamed_count() -> u64 {
    UNNAMED.load(Ordering::Relaxed)
}

fn unnamed(kind: Kind, value: &Value) {
    UNNAMED.fetch_add(1, Ordering::Relaxed);
    let text: String = value.to_string().chars().take(256).collect();
    tracing::error!(?kind, text, "the apiserver sent something without a name");
}

/// One line for each version that a list or watch delivers.
fn log_set_aside(object: &Object) {
    if let Some(object) = object.set_aside() {
        tracing::warn!(remedy = object.remedy(), "{object}");
    }
}

/// The object in an answer.
pub(super) fn object(kind: Kind, body: &[u8]) -> Result<Object, ApiError> {
    decode_text(kind, body).map_err(unreadable)
}

/// The metadata in the answer to a write. The write is done: what cannot be read of it is unknown.
pub(super) fn written(body: &[u8]) -> Result<Metadata, ApiError> {
    let lost = ApiError::Unavailable(Applied::Unknown);
    let mut value: Value = serde_json::from_slice(body).map_err(|_| lost.clone())?;
    serde_json::from_value(value["metadata"].take()).map_err(|_| lost)
}

/// A page of a list. An item that cannot be read is in it, set aside: to act on a part as if it
/// were the whole could free what an item holds.
pub(super) fn page(kind: Kind, body: &[u8]) -> Result<ListPage, ApiError> {
    let mut value: Value = serde_json::from_slice(body).map_err(unreadable)?;
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (resource_version, continue_token) = (
        text(&value["metadata"]["resourceVersion"]),
        text(&value["metadata"]["continue"]),
    );
    let items = match value["items"].take() {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        _ => return Err(unreadable("no list")),
    };
    let mut items = items
        .iter()
        .filter_map(|item| {
            let object = decode(kind, item).ok();
            match &object {
                Some(object) => log_set_aside(object),
                None => unnamed(kind, item),
            }
            object
        })
        .collect::<Vec<_>>();
    items.sort_by_key(Object::key);
    Ok(ListPage {
        items,
        resource_version,
        continue_token,
    })
}

/// One line of a watch. After a line that does not say what changed, the watch would go on without
/// that change: the reader lists again.
pub(super) fn event(kind: Kind, line: &[u8]) -> WatchEvent {
    let Ok(mut value) = serde_json::from_slice::<Value>(line) else {
        unnamed(kind, &String::from_utf8_lossy(line).into());
        return WatchEvent::Expired;
    };
    let what = value["type"].as_str().unwrap_or("").to_owned();
    let object = value["object"].take();
    match what.as_str() {
        "BOOKMARK" => {
            let version = object["metadata"]["resourceVersion"].as_str();
            WatchEvent::Bookmark(version.unwrap_or("").to_owned())
        }
        "ERROR" if object["code"] == 410 => WatchEvent::Expired,
        "ADDED" | "MODIFIED" | "DELETED" => match decode(kind, &object).inspect(log_set_aside) {
            Ok(object) if what == "ADDED" => WatchEvent::Added(object),
            Ok(object) if what == "MODIFIED" => WatchEvent::Modified(object),
            Ok(object) => WatchEvent::Deleted(object),
            Err(_) => {
                unnamed(kind, &object);
                WatchEvent::Expired
            }
        },
        _ => WatchEvent::Closed,
    }
}

/// An object as the body of a write.
pub(super) fn body(object: &Object) -> Vec<u8> {
    let mut value = serde_json::to_value(object).expect("an object has only string keys");
    value["apiVersion"] = api_version(object.kind()).into();
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::objects::AddressBlock;
    use serde_json::json;

    fn failed(code: u16, body: &Value) -> ApiError {
        let status = StatusCode::from_u16(code).unwrap();
        failure(status, &HeaderMap::new(), body.to_string().as_bytes())
    }

    #[test]
    fn a_failure_is_told_by_status_and_reason() {
        let message = |m: &str| ApiError::Invalid { message: m.into() };
        for (code, body, expected) in [
            (
                409,
                json!({"reason": "AlreadyExists"}),
                ApiError::AlreadyExists,
            ),
            (409, json!({"reason": "Conflict"}), ApiError::Conflict),
            (409, json!(null), ApiError::Conflict),
            (410, json!({"reason": "Expired"}), ApiError::Gone),
            (404, json!({}), ApiError::NotFound),
            (401, json!({}), ApiError::Unavailable(Applied::Not)),
            (403, json!({"message": "no"}), message("no")),
            (422, json!({"message": "bad"}), message("bad")),
            (500, json!({}), ApiError::Unavailable(Applied::Unknown)),
            (503, json!({}), ApiError::Unavailable(Applied::Unknown)),
            (504, json!({}), ApiError::Unavailable(Applied::Unknown)),
        ] {
            assert_eq!(failed(code, &body), expected, "{code} {body}");
        }
    }

    #[test]
    fn too_many_requests_says_how_long_to_wait_where_the_server_did() {
        let mut headers = HeaderMap::new();
        let ask = |headers: &HeaderMap| failure(StatusCode::TOO_MANY_REQUESTS, headers, b"");
        let after = |retry_after| ApiError::TooManyRequests { retry_after };
        assert_eq!(ask(&headers), after(None));
        headers.insert("retry-after", "3".parse().unwrap());
        assert_eq!(ask(&headers), after(Some(Duration::from_secs(3))));
        headers.insert("retry-after", "soon".parse().unwrap());
        assert_eq!(ask(&headers), after(None));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut block = AddressBlock::default();
        block.metadata.name = "p-0".into();
        block.metadata.resource_version = "7".into();
        block.spec.first = vec!["10.0.0.0".parse().unwrap()];
        block.spec.records = "0 x".into();
        let object = Object::from(block);
        let bytes = body(&object);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["apiVersion"], "berth.dev/v1alpha1");
        assert_eq!(value["kind"], "AddressBlock");
        assert_eq!(
            super::object(Kind::AddressBlock, &bytes),
            Ok(object.clone())
        );
        assert_eq!(written(&bytes).as_ref(), Ok(object.metadata()));
        assert_eq!(written(b"{"), Err(ApiError::Unavailable(Applied::Unknown)));
    }

    #[test]
    fn a_page_holds_what_cannot_be_read_under_its_name() {
        let pod = |name: &str| json!({"metadata": {"name": name, "namespace": "d"}});
        let spoilt = json!({"metadata": {"name": "c", "namespace": "d"}, "spec": 7});
        let list = json!({
            "kind": "PodList",
            "metadata": {"resourceVersion": "9", "continue": "t"},
            "items": [spoilt, pod("b"), pod("a"), {"metadata": 7}],
        });
        let before = unnamed_count();
        let page_read = page(Kind::Pod, list.to_string().as_bytes()).unwrap();
        assert!(unnamed_count() > before, "what has no name is counted");
        let names: Vec<_> = page_read.items.iter().map(|o| &o.metadata().name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(page_read.items[1].set_aside().is_none());
        assert_eq!(page_read.items[2].set_aside().unwrap().field, "spec");
        assert_eq!(
            (
                page_read.resource_version.as_str(),
                page_read.continue_token.as_str()
            ),
            ("9", "t")
        );
        assert_eq!(page(Kind::Pod, br#"{"items":null}"#).unwrap().items, []);
    }

    #[test]
    fn watch_lines_become_events() {
        let line = |value: Value| event(Kind::Pod, value.to_string().as_bytes());
        let pod = json!({"kind": "Pod", "metadata": {"name": "a", "resourceVersion": "8"}});
        let WatchEvent::Deleted(object) = line(json!({"type": "DELETED", "object": pod})) else {
            panic!("no deletion")
        };
        assert_eq!(object.metadata().resource_version, "8");
        assert_eq!(
            line(json!({"type": "BOOKMARK", "object": pod})),
            WatchEvent::Bookmark("8".into())
        );
        let gone = json!({"type": "ERROR", "object": {"code": 410}});
        assert_eq!(line(gone), WatchEvent::Expired);
        let broken = json!({"type": "ERROR", "object": {"code": 500}});
        assert_eq!(line(broken), WatchEvent::Closed);
        let spoilt = json!({"metadata": {"name": "a", "resourceVersion": "9"}, "spec": 7});
        let WatchEvent::Deleted(object) = line(json!({"type": "DELETED", "object": spoilt})) else {
            panic!("a deletion that cannot be read is one")
        };
        assert_eq!(object.set_aside().unwrap().metadata.resource_version, "9");
        let unnamed = json!({"type": "MODIFIED", "object": {"metadata": 7}});
        assert_eq!(line(unnamed), WatchEvent::Expired);
        assert_eq!(event(Kind::Pod, b"{"), WatchEvent::Expired);
    }
}
