//! The shells: each runs one core in one future, turning outputs into port calls and their results
//! into inputs. They decide nothing, keep no time of their own and spawn nothing.

mod agent;

pub use agent::run_agent;

use crate::core::call::{ApiReply, ApiRequest};
use crate::ports::{ApiError, ApiServer};

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
