//! Faults: drawn from a seed ([`draw`]), as the storm of an allocator ([`storm`]) that strikes its
//! processes ([`roles`]), and injected into a world ([`inject`]).

pub mod draw;
pub mod inject;
pub mod roles;
pub mod storm;
