//! The discrete-event engine: time, queue, streams, servers, log and tasks. It knows no Kubernetes.
#![cfg_attr(not(madsim), doc = "Compiles only under `--cfg madsim`.")]

#[cfg(not(madsim))]
compile_error!("drydock-engine simulates: build it with `cargo sim` or `cargo sim-test`");

#[cfg(madsim)]
pub mod log;
#[cfg(madsim)]
pub mod queue;
#[cfg(madsim)]
pub mod server;
#[cfg(madsim)]
pub mod stream;
#[cfg(madsim)]
pub mod time;

#[cfg(madsim)]
mod hash;

#[cfg(madsim)]
pub use crate::{
    log::{Checkpoint, Digest, EventLog},
    queue::{Event, Lane, Queue, TieBreak},
    stream::{Ledger, QuantileTable, Stream, Streams},
    time::SimInstant,
};
