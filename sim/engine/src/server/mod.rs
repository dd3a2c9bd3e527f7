//! Resources with queues, costed in virtual time. They are synchronous: a server returns the time
//! at which it wants to be woken, and its owner schedules that as its own event; no server keeps a
//! timer.
//!
//! Every call carries the current instant, and instants must not go backward.

mod batching_fsync;
mod fifo;
mod processor_sharing;
mod token_bucket;

pub use self::{
    batching_fsync::{BatchStart, BatchingFsync},
    fifo::FifoServer,
    processor_sharing::ProcessorSharing,
    token_bucket::TokenBucket,
};

use crate::time::SimInstant;

/// A request to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a server that is not woken serves nobody"]
pub struct Wake {
    /// When.
    pub at: SimInstant,
    /// What to hand back; a server ignores all but its latest generation.
    pub generation: u64,
}

#[cfg(test)]
mod tests;
