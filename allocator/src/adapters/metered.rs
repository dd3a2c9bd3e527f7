//! The apiserver behind a token bucket, with every request counted. Which request to send, and what
//! its failure means, is not decided here.

use core::future::Future;
use core::time::Duration;
use std::sync::Arc;

use super::apiserver::plural;
use super::bucket::{Rate, TokenBucket};
use super::clock::boot_time;
use super::metrics::Metrics;
use crate::core::api::{
    ApiError, Applied, Consistency, ListPage, ListQuery, Part, Preconditions, WatchQuery,
};
use crate::core::objects::{Kind, Metadata, Object, ObjectKey};
use crate::ports::ApiServer;

/// An apiserver that is asked no more often than allowed.
#[derive(Clone)]
pub struct MeteredApi<A> {
    inner: A,
    bucket: Arc<TokenBucket>,
    /// A request that would wait longer for its turn is not sent.
    patience: Duration,
    metrics: Arc<Metrics>,
}

impl<A: ApiServer> MeteredApi<A> {
    /// `inner`, asked at that rate. Within a tokio runtime.
    pub fn new(inner: A, rate: Rate, patience: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            inner,
            bucket: Arc::new(TokenBucket::new(rate)),
            patience,
            metrics,
        }
    }

    async fn send<T>(
        &self,
        verb: &'static str,
        kind: Kind,
        request: impl Future<Output = Result<T, ApiError>> + Send,
    ) -> Result<T, ApiError> {
        let begin = boot_time();
        let result = match self.bucket.take(self.patience).await {
            Ok(()) => request.await,
            Err(wait) => Err(ApiError::TooManyRequests {
                retry_after: Some(wait),
            }),
        };
        let took = boot_time().since(begin);
        let label = result.as_ref().map_or_else(result_label, |_| "ok");
        self.metrics.api_answered(verb, plural(kind), label, took);
        result
    }
}

fn result_label(error: &ApiError) -> &'static str {
    match error {
        ApiError::Conflict => "conflict",
        ApiError::AlreadyExists => "already_exists",
        ApiError::Gone => "gone",
        ApiError::NotFound => "not_found",
        ApiError::TooManyRequests { .. } => "too_many_requests",
        ApiError::Invalid { .. } => "invalid",
        ApiError::Unavailable(Applied::Not) => "unavailable",
        ApiError::Unavailable(Applied::Unknown) => "unknown",
    }
}

impl<A: ApiServer> ApiServer for MeteredApi<A> {
    type Watch = A::Watch;

    async fn get(&self, key: &ObjectKey, consistency: Consistency) -> Result<Object, ApiError> {
        let request = self.inner.get(key, consistency);
        self.send("get", key.kind, request).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, ApiError> {
        let request = self.inner.list(query);
        self.send("list", query.selection.kind, request).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<A::Watch, ApiError> {
        let request = self.inner.watch(query);
        self.send("watch", query.selection.kind, request).await
    }

    async fn create(&self, object: Object) -> Result<Metadata, ApiError> {
        let kind = object.kind();
        self.send("create", kind, self.inner.create(object)).await
    }

    async fn replace(&self, object: Object, part: Part) -> Result<Metadata, ApiError> {
        let kind = object.kind();
        let verb = match part {
            Part::Main => "update",
            Part::Status => "update_status",
        };
        self.send(verb, kind, self.inner.replace(object, part))
            .await
    }

    async fn delete(&self, key: &ObjectKey, preconditions: &Preconditions) -> Result<(), ApiError> {
        let request = self.inner.delete(key, preconditions);
        self.send("delete", key.kind, request).await
    }
}
