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
//! - *A failed request*: `adapters/apiserver` sends once. `core/agent/errands.rs` (`api_answered`)
//!   passes each answer to the module that asked, which retries after a pause of `Policy`, or for a
//!   block after a 429's `Retry-After` (`delay_block`). Controller: `pause` in its `mod.rs`.
//! - *An address is freed*: `core/agent/releases.rs` opens with the table of when. The next write
//!   of its block removes the record (`free` in `core/agent/plan.rs`); `core/controller/burial.rs`
//!   removes a dead machine's. Without a cluster all of it is in `core/disk`.

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
