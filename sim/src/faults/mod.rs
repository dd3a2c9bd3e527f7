//! Faults: drawn from a seed ([`draw`]) as a plan, fitted to the processes of an allocator
//! ([`roles`]), and injected into a world ([`inject`]).

pub mod draw;
pub mod inject;
pub mod roles;
