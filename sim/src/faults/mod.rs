//! Faults: drawn from a seed ([`draw`]), combined into the storm of an allocator ([`storm`])
//! against its processes ([`roles`]), and injected into a world ([`inject`]).

pub mod draw;
pub mod inject;
pub mod roles;
pub mod storm;
