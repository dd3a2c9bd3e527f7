//! What the cores report for people: counters, Events' subjects, and the host's own error messages.
//! Showing them is not done here.

use core::fmt;

use super::exchange::PodReference;

/// A failure of the local disk, directory or runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LocalError {
    /// What the operating system said.
    pub message: String,
}

impl LocalError {
    /// An error with this message.
    pub fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
        }
    }
}

/// A number for the metrics endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// `berth_...`.
    pub name: &'static str,
    /// Label value, or empty.
    pub label: String,
    /// Added to the counter.
    pub increment: u64,
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The agent's node.
    Node,
    /// A Pod.
    Pod(PodReference),
}
