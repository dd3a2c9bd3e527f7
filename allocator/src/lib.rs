//! Berth, a Kubernetes IP allocator: sans-IO cores, the ports they need and the shells between.
//! The adapters to a real cluster are not here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`core`] | the state machines and the data they agree on |
//! | [`ports`] | what they need from the world, as traits |
//! | [`shell`] | the loops that carry outputs to ports and results back |

pub mod core;
pub mod ports;
pub mod shell;
