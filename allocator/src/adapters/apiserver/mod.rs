//! The Kubernetes API as a port, over kube's client, which is used only for kubeconfig, TLS and
//! tokens. Each request is sent once and ends by its deadline, and its failure says whether it was
//! carried out. The cores decide when to retry.

mod answers;
mod paths;

use core::pin::Pin;
use core::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use kube::{Client, Config};
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use crate::core::api::{
    ApiError, Applied, Consistency, ListPage, ListQuery, Part, Preconditions, WatchEvent,
    WatchQuery,
};
use crate::core::names::is_object_name;
use crate::core::objects::{Kind, Metadata, Object, ObjectKey};
use crate::ports::{ApiServer, Watch};

pub use answers::unnamed_count;
pub use paths::{api_version, plural};

/// Units: bytes. No answer is longer: Berth's objects have a few KiB, so a page of 500 stays far
/// below this.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Units: bytes. The longest line of a watch: one object.
const LINE_BYTES_MAX: usize = 4 << 20;
/// A watch that is silent this long is broken: bookmarks come every minute, and the server ends the
/// watch itself after [`paths::WATCH_SECONDS`].
const WATCH_SILENCE: Duration = Duration::from_secs(180);

/// How long requests may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// A read or write of one object; opening a watch.
    pub object: Duration,
    /// A page of a list.
    pub list: Duration,
}

impl Deadlines {
    /// The released values. The apiserver waits for etcd at most 34 s on a write; waiting longer
    /// tells nothing more.
    pub const STANDARD: Self = Self {
        object: Duration::from_secs(10),
        list: Duration::from_secs(60),
    };
}

/// The apiserver.
#[derive(Clone)]
pub struct KubeApi {
    client: Client,
    deadlines: Deadlines,
}

impl KubeApi {
    /// The cluster of this Pod's service account, or of the kubeconfig.
    ///
    /// Errors: neither is there, or it cannot be used.
    pub async fn connect(deadlines: Deadlines) -> anyhow::Result<Self> {
        Self::with_config(Config::infer().await?, deadlines)
    }

    /// The cluster that the configuration names.
    pub fn with_config(mut config: Config, deadlines: Deadlines) -> anyhow::Result<Self> {
        // After a 503 or 504 the client would resend a write whose outcome is unknown: two writes
        // where the core knows of one.
        config.default_retry = false;
        config.connect_timeout = Some(deadlines.object);
        config.read_timeout = Some(WATCH_SILENCE.max(deadlines.list));
        config.write_timeout = Some(deadlines.object);
        Ok(Self {
            client: Client::try_from(config)?,
            deadlines,
        })
    }

    async fn send(
        &self,
        method: Method,
        path: String,
        body: Vec<u8>,
    ) -> Result<Response<Body>, ApiError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, "application/json")
            .body(Body::from(body))
            .map_err(|error| ApiError::Invalid {
                message: error.to_string(),
            })?;
        self.client.send(request).await.map_err(|error| {
            tracing::debug!(%error, "a request to the apiserver failed");
            ApiError::Unavailable(applied(&error))
        })
    }

    /// Sends a request and reads the answer to its end, within `within` in all.
    async fn ask(
        &self,
        method: Method,
        path: Option<String>,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Bytes, ApiError> {
        let path = path.ok_or_else(|| ApiError::Invalid {
            message: "the name cannot be an object's".to_owned(),
        })?;
        let exchange = async {
            let (head, body) = self.send(method, path, body).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|_| ApiError::Unavailable(Applied::Unknown))?
                .to_bytes();
            if head.status.is_success() {
                Ok(body)
            } else {
                Err(answers::failure(head.status, &head.headers, &body))
            }
        };
        timeout(within, exchange)
            .await
            .unwrap_or(Err(ApiError::Unavailable(Applied::Unknown)))
    }
}

impl KubeApi {
    /// Creates an Event in that namespace.
    pub(super) async fn post_event(
        &self,
        namespace: &str,
        event: &serde_json::Value,
    ) -> Result<(), ApiError> {
        let path = is_object_name(namespace)
            .then(|| format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"));
        let body = event.to_string().into_bytes();
        self.ask(Method::POST, path, body, self.deadlines.object)
            .await
            .map(|_| ())
    }
}

/// Only a connection that was never made proves that nothing was carried out.
fn applied(error: &(dyn std::error::Error + 'static)) -> Applied {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>()
            && error.is_connect()
        {
            return Applied::Not;
        }
        cause = error.source();
    }
    Applied::Unknown
}

impl ApiServer for KubeApi {
    type Watch = KubeWatch;

    async fn get(&self, key: &ObjectKey, consistency: Consistency) -> Result<Object, ApiError> {
        let path = paths::object(key).map(|path| path + paths::read_query(consistency));
        let body = self
            .ask(Method::GET, path, Vec::new(), self.deadlines.object)
            .await?;
        answers::object(key.kind, &body)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, ApiError> {
        let path = Some(paths::list(query));
        let body = self
            .ask(Method::GET, path, Vec::new(), self.deadlines.list)
            .await?;
        answers::page(query.selection.kind, &body)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<KubeWatch, ApiError> {
        let opening = self.send(Method::GET, paths::watch(query), Vec::new());
        let (head, body) = timeout(self.deadlines.object, opening)
            .await
            .unwrap_or(Err(ApiError::Unavailable(Applied::Unknown)))?
            .into_parts();
        if head.status != StatusCode::OK {
            return Err(answers::failure(head.status, &head.headers, b""));
        }
        Ok(KubeWatch {
            kind: query.selection.kind,
            stream: Box::pin(body.into_data_stream()),
            buffer: BytesMut::new(),
            scanned: 0,
            heard: Instant::now(),
        })
    }

    async fn create(&self, object: Object) -> Result<Metadata, ApiError> {
        let path = paths::collection(object.kind(), &object.metadata().namespace);
        let body = answers::body(&object);
        let answer = self.ask(Method::POST, path, body, self.deadlines.object);
        answers::written(&answer.await?)
    }

    async fn replace(&self, object: Object, part: Part) -> Result<Metadata, ApiError> {
        let path = paths::object(&object.key()).map(|path| match part {
            Part::Main => path,
            Part::Status => path + "/status",
        });
        let body = answers::body(&object);
        let answer = self.ask(Method::PUT, path, body, self.deadlines.object);
        answers::written(&answer.await?)
    }

    async fn delete(&self, key: &ObjectKey, preconditions: &Preconditions) -> Result<(), ApiError> {
        let mut body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": preconditions.uid.as_str()},
        });
        if !preconditions.resource_version.is_empty() {
            body["preconditions"]["resourceVersion"] =
                preconditions.resource_version.clone().into();
        }
        let path = paths::object(key);
        let body = body.to_string().into_bytes();
        self.ask(Method::DELETE, path, body, self.deadlines.object)
            .await
            .map(|_| ())
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, kube::Error>> + Send>>;

/// An open watch: lines of JSON.
pub struct KubeWatch {
    kind: Kind,
    stream: Chunks,
    buffer: BytesMut,
    /// Units: bytes. How much of the buffer is known to have no line end.
    scanned: usize,
    heard: Instant,
}

impl KubeWatch {
    fn line(&mut self) -> Option<BytesMut> {
        let end = self.buffer[self.scanned..]
            .iter()
            .position(|byte| *byte == b'\n');
        let Some(end) = end else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.scanned + end + 1);
        self.scanned = 0;
        Some(line)
    }
}

impl Watch for KubeWatch {
    /// Dropping the future loses nothing: what was read is in the buffer.
    async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(line) = self.line() {
                return answers::event(self.kind, &line);
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                // Reopened at the same version, the watch would send the same line.
                return WatchEvent::Expired;
            }
            match timeout_at(self.heard + WATCH_SILENCE, self.stream.next()).await {
                Ok(Some(Ok(chunk))) => {
                    self.heard = Instant::now();
                    self.buffer.extend_from_slice(&chunk);
                }
                Ok(Some(Err(_)) | None) | Err(_) => return WatchEvent::Closed,
            }
        }
    }
}

#[cfg(test)]
mod tests;
