//! The client's half of an API call, and what clients build on it: client-go. Nothing here knows
//! what a server does: [`crate::apiserver`] has the servers' half and hands calls over between the
//! two.
//!
//! - [`client`]: a process's client: its limiter, and the apiserver that it is connected to.
//! - [`call`]: one call as its client sees it: when it leaves, how long the client waits, what it
//!   makes of the answer (`try_again`: a 429, a reset).
//! - [`deadlines`]: the one armed timer for all awaited calls.
//! - [`leader_election`], [`work_queue`].
//!
//! Modeled: limiters; retries of 429 with Retry-After, each taking a new token; GET and LIST
//! retried on a reset connection; deadlines; HTTP/2 health checks that end a silent connection. Not
//! modeled: connection pools, HTTP/2 stream limits, protobuf against JSON.
//!
//! Source: kubernetes v1.26.5 client-go/rest/{request,with_retry}.go.

pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod deadlines;
pub(crate) mod leader_election;
pub(crate) mod work_queue;
