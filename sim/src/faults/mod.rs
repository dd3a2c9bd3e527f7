//! Faults: drawn from a seed ([`draw`]) as a plan, and injected into a world ([`inject`]).

pub mod draw;
pub mod inject;
