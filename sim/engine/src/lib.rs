//! The discrete-event engine: time, queue, streams, servers, log and tasks. It knows no Kubernetes.
#![cfg_attr(not(madsim), doc = "Compiles only under `--cfg madsim`.")]

#[cfg(not(madsim))]
compile_error!("drydock-engine simulates: build it with `cargo sim` or `cargo sim-test`");

#[cfg(madsim)]
pub mod completion;
#[cfg(madsim)]
pub mod drive;
#[cfg(madsim)]
pub mod link;
#[cfg(madsim)]
pub mod log;
#[cfg(madsim)]
pub mod progress;
#[cfg(madsim)]
pub mod queue;
#[cfg(madsim)]
pub mod runtime;
#[cfg(madsim)]
pub mod self_test;
#[cfg(madsim)]
pub mod server;
#[cfg(madsim)]
pub mod stream;
#[cfg(madsim)]
pub mod tasks;
#[cfg(madsim)]
pub mod throughput;
#[cfg(madsim)]
pub mod time;

#[cfg(madsim)]
mod hash;

#[cfg(madsim)]
pub use crate::{
    completion::{Abandoned, Completer, Completion, Mailbox, Post, completion, mailbox},
    drive::{Limits, StopReason, World, drive},
    link::{HostId, Links},
    log::{Checkpoint, Digest, EventLog},
    progress::{Progress, Snapshot, Stalled, Watch, run_watched},
    queue::{Event, Lane, Queue, TieBreak},
    runtime::{Runtime, run, sleep},
    stream::{Ledger, QuantileTable, Stream, Streams},
    tasks::{HostTasks, Spin, Tasks},
    time::SimInstant,
};
