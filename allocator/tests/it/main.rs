//! The agent against the fake world: costs, safety and liveness. Needs the feature `testing`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(
    clippy::duration_suboptimal_units,
    reason = "durations are compared in one unit"
)]

mod burial;
mod contract;
mod costs;
mod journal;
mod looks;
mod orders;
mod parts;
mod pools;
mod promises;
mod protocol;
mod rights;
mod sequences;
mod set_aside;
mod storms;
mod unasked;
