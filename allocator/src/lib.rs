//! Berth, a Kubernetes IP allocator: sans-IO cores, the ports they need, the shells that drive
//! them, and the adapters to a real host and cluster. The programs are in `bin/`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`adapters`] | the ports over a real host and a real cluster |
//! | [`cni`] | the CNI contract, as pure functions |
//! | [`core`] | the state machines and the data they agree on |
//! | [`ports`] | what they need from the world, as traits |
//! | [`shell`] | the loops that carry outputs to ports and results back |
//! | [`survey`] | answers to an operator's questions, from objects that were read |
//! | `testing` | every port in memory, under a virtual clock (feature `testing`) |
//!
//! - *A failed request, a 429*: `adapters/apiserver` sends once. The module that asked retries
//!   after a pause of `Policy`; a block after a 429's `Retry-After` (`delay_block` in
//!   `core/agent/blocks.rs`). `core/agent/errands.rs` says which module asked. Controller: `pause`
//!   in `core/controller/mod.rs`; its lists and its Lease have pauses of their own.
//! - *An address is freed*: `core/agent/releases.rs` opens with the table of when, and
//!   `core/agent/pods.rs` ends a reservation (`let_go`). The next write of the block removes the
//!   record (`free` in `core/agent/plan.rs`); `core/controller/burial.rs` removes a dead machine's.
//!   Without a cluster all of it is in `core/disk`.
//! - *A container runtime that cannot be asked* is an error, never an empty list
//!   (`adapters/cri.rs`); `runtime_answered` in `core/agent/parts.rs` tells the two apart. What is
//!   freed without it: `decide_without_runtime` in `core/agent/releases.rs`, and after a lost
//!   journal `core/agent/lost.rs`.
//! - *The CRDs*: types in `core/objects.rs`, schema in `adapters/crds/mod.rs`, the rules of a pool
//!   (`AddressPool`) in `adapters/crds/pool.rs`.

#![allow(
    clippy::missing_errors_doc,
    reason = "an `Errors:` line says it where the type does not"
)]
#![allow(
    clippy::duration_suboptimal_units,
    reason = "durations are compared in one unit"
)]

pub mod adapters;
pub mod cni;
pub mod core;
pub mod ports;
pub mod shell;
pub mod survey;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
