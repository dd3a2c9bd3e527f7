//! The agent against the fake world: costs, safety and liveness. Needs the feature `testing`.

mod costs;
mod storms;
