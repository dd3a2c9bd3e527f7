//! The sans-IO cores: agent and controller as state machines, and the data they agree on. Nothing
//! here waits, logs, reads a clock or knows of sockets and files, and nothing is imported from the
//! rest of the crate.
//!
//! | module | what it holds |
//! |---|---|
//! | [`agent`], [`controller`] | the state machines of a node and of the cluster |
//! | [`disk`] | the store of a node without an agent |
//! | [`api`], [`exchange`], [`report`] | messages to the apiserver, to the host, to people |
//! | [`objects`], [`set_aside`] | the Kubernetes objects, and those that cannot be read |
//! | [`pool`], [`ordinal`], [`block`], [`holder`] | from a pool's ranges to who holds an ordinal |
//! | [`identity`], [`naming`], [`journal`], [`plugin`] | incarnations, machines' names, the files |
//! | [`choice`], [`selection`], [`labels`] | which pools a Pod may draw from |
//! | [`condition`], [`names`], [`hash`], [`retry`], [`time`] | what several of these need |

pub mod agent;
pub mod api;
pub mod block;
pub mod choice;
pub mod condition;
pub mod controller;
pub mod disk;
pub mod exchange;
pub mod hash;
pub mod holder;
pub mod identity;
pub mod journal;
pub mod labels;
#[cfg(feature = "mutants")]
mod mutant;
pub mod names;
pub mod naming;
pub mod objects;
pub mod ordinal;
pub mod plugin;
pub mod pool;
pub mod report;
pub mod retry;
pub mod selection;
pub mod set_aside;
pub mod time;

#[cfg(feature = "mutants")]
pub use mutant::{Mutant, UnknownMutant};

/// Whether `now` is an older resourceVersion than `before`: the only such comparison in Berth, to
/// detect a restored backup. Versions that are not numbers never count as older.
pub fn version_went_back(before: &str, now: &str) -> bool {
    match (before.parse::<u64>(), now.parse::<u64>()) {
        (Ok(before), Ok(now)) => now < before,
        _ => false,
    }
}
