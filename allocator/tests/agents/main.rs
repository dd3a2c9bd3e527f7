//! The real programs `berth` and `berthd` against a real kube-apiserver: many plugins at once, many
//! agents on one pool, agents that are killed, an apiserver that goes away. Each node is a set of
//! directories of this host; a network namespace is a file. Needs root, as runtimes are.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests, which print their figures"
)]
#![expect(
    clippy::duration_suboptimal_units,
    reason = "durations are compared in one unit"
)]

mod admission;
mod figures;
mod kills;
mod node;
mod outage;
mod poison;
mod rig;
#[path = "../host/runtime.rs"]
mod runtime;
mod rush;
mod soak;
