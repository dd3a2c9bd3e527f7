//! client-go's rate-limiting work queue: a [`WorkQueue`] whose failed keys come back after the
//! longer of a back-off of their own and the turn in a bucket that all failures share.
//! Source: client-go v0.27.4 util/workqueue/default_rate_limiters.go
//! (`DefaultControllerRateLimiter`).

use drydock_engine::server::TokenBucket;
use drydock_engine::time::SimInstant;

use super::parameters::KubeOvnParameters;
use crate::client_go::work_queue::WorkQueue;

/// The queue.
#[derive(Debug)]
pub(super) struct RateQueue {
    pub(super) work: WorkQueue,
    bucket: TokenBucket,
}

impl RateQueue {
    /// An empty queue.
    pub(super) fn new(parameters: &KubeOvnParameters) -> Self {
        Self {
            work: WorkQueue::new(u32::try_from(parameters.workers).unwrap_or(u32::MAX)),
            bucket: bucket(parameters),
        }
    }

    /// When a key that failed is added again (`AddRateLimited`).
    pub(super) fn retry_at(
        &mut self,
        key: u32,
        now: SimInstant,
        parameters: &KubeOvnParameters,
    ) -> SimInstant {
        let own = self
            .work
            .back_off(key, parameters.retry_base, parameters.retry_max);
        (now + own).max(self.bucket.reserve(now))
    }
}

/// The bucket of all retries of a queue.
pub(super) fn bucket(parameters: &KubeOvnParameters) -> TokenBucket {
    TokenBucket::new(parameters.retry_qps.milli_per_s, parameters.retry_burst)
}
