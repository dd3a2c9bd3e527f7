//! What client-go adds to a call: the client's limiter, retries, deadlines, and the back-off of
//! reflectors. Here are constants; it is done where calls wait, in [`crate::apiserver`] (`call`:
//! `depart` takes a token, `answer` tries again). A limiter is a token bucket by reservation, first
//! come first served (client-go/util/flowcontrol/throttle.go:125-131).
//!
//! Modelled: retries of 429 with Retry-After, each taking a token again; GET and LIST tried again
//! on a reset connection; HTTP/2 health checks that end a silent connection; `RetryOnConflict`
//! constants, leader election ([`leader_election`]). Not modelled: connection pools, HTTP/2 stream
//! limits, protobuf against JSON.
//!
//! Source: kubernetes v1.26.5 client-go/rest/{request,with_retry}.go, client-go/util/retry/util.go.

pub mod leader_election;
