//! Requests that the apiserver was sent: counted by client, verb and result, and per Pod.

use serde::{Deserialize, Serialize};

use super::scalar::nullable;

/// All requests of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiRequests {
    /// Shape: sorted by client, verb and result; no entry with count 0.
    pub counts: Vec<RequestCount>,
    /// Answers 409 to a write with a resourceVersion, all clients together.
    pub conflict_count: u64,
    /// What the allocator costs.
    pub per_pod: RequestsPerPod,
}

/// Requests of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestCount {
    /// Class of the client: `kubelet`, `scheduler`, `berth-agent` and so on.
    pub client: String,
    /// What was asked.
    pub verb: Verb,
    /// What came back.
    pub result: RequestResult,
    /// How often.
    pub count: u64,
}

/// What a request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read a collection.
    List,
    /// Open a watch.
    Watch,
    /// Create an object.
    Create,
    /// Replace an object.
    Update,
    /// Change a part of an object.
    Patch,
    /// Delete an object.
    Delete,
}

/// What came back for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestResult {
    /// 2xx.
    Ok,
    /// 404.
    NotFound,
    /// 409, the object exists.
    AlreadyExists,
    /// 409, another resourceVersion.
    Conflict,
    /// 410, the resourceVersion is too old.
    Gone,
    /// 400, 401, 403, 405 or 422: the request is refused for what it says.
    Invalid,
    /// 429.
    TooManyRequests,
    /// 500 or 503.
    ServerError,
    /// 504: the write may still commit.
    Timeout,
    /// No answer: connection refused, cut or given up; a write may have committed.
    NoAnswer,
}

/// Requests of the allocator (agents and controller) from the first Pod POST to the last Running.
///
/// Reads, lists and writes count, rejected ones included; watches, start-up lists and Lease
/// renewals stand beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestsPerPod {
    /// Reads of one object.
    pub read_count: u64,
    /// Lists other than those at start-up.
    pub list_count: u64,
    /// Writes.
    pub write_count: u64,
    /// Pods that they served.
    pub pod_count: u64,
    /// Thousandths of a request per Pod, rounded to nearest; null without Pods.
    #[serde(deserialize_with = "nullable")]
    pub per_pod_milli: Option<u64>,
    /// Beside: watches that were opened.
    pub watch_count: u64,
    /// Beside: lists at start-up.
    pub start_up_list_count: u64,
    /// Beside: renewals of a Lease.
    pub lease_renewal_count: u64,
}

/// The counts of [`RequestsPerPod`], by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocatorRequests {
    /// Reads of one object.
    pub read_count: u64,
    /// Lists other than those at start-up.
    pub list_count: u64,
    /// Writes.
    pub write_count: u64,
    /// Pods that they served.
    pub pod_count: u64,
    /// Watches that were opened.
    pub watch_count: u64,
    /// Lists at start-up.
    pub start_up_list_count: u64,
    /// Renewals of a Lease.
    pub lease_renewal_count: u64,
}

impl From<AllocatorRequests> for RequestsPerPod {
    fn from(requests: AllocatorRequests) -> Self {
        let mut per_pod = Self {
            read_count: requests.read_count,
            list_count: requests.list_count,
            write_count: requests.write_count,
            pod_count: requests.pod_count,
            per_pod_milli: None,
            watch_count: requests.watch_count,
            start_up_list_count: requests.start_up_list_count,
            lease_renewal_count: requests.lease_renewal_count,
        };
        per_pod.per_pod_milli = per_pod.computed_milli();
        per_pod
    }
}

impl RequestsPerPod {
    /// What `per_pod_milli` must be, from the counts.
    pub fn computed_milli(&self) -> Option<u64> {
        let requests = u128::from(self.read_count)
            + u128::from(self.list_count)
            + u128::from(self.write_count);
        let pods = u128::from(self.pod_count);
        let milli = (requests * 1000 + pods / 2).checked_div(pods)?;
        u64::try_from(milli).ok()
    }
}
