//! The agent against the fake world: costs, safety and liveness. Needs the feature `testing`.

mod burial;
mod costs;
mod sequences;
mod storms;
