//! The discrete-event engine: time, queue, streams, servers, log and tasks. It knows no Kubernetes.
//!
//! The engine owns the [`queue`](Queue) of events and the time in it; models are synchronous state
//! machines that [`drive`] feeds from it, and everything they do is in the [`EventLog`], under one
//! hash. Costs come from [`server`]s, randomness from [`Streams`]. There is no network here: the
//! models have their own. [`queue`] orders the events of one instant (`TieBreak`), [`tasks`] the
//! tasks that wake in it. Asynchronous code runs as madsim tasks, whose ports complete through the
//! queue, so madsim's clock times no event and its random scheduler orders nothing.
//!
//! Speed, relative to bare madsim tasks that sleep as often (10,000 actors, 100 waits each, release
//! build; `cargo sim bench` measures it again): timer events, with log and hash on, run at 4 to 5
//! times that rate. Waits of tasks through a port and the queue run at 0.35 to 0.45 of it: one wait
//! costs two polls by madsim, two messages and a logged event.
//!
//! This is the only crate that names madsim, at a pinned version without patches.

#[cfg(not(madsim))]
compile_error!("drydock-engine simulates: build it with `cargo sim` or `cargo sim-test`");

#[cfg(madsim)]
pub mod clock;
#[cfg(madsim)]
pub mod completion;
#[cfg(madsim)]
pub mod drive;
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
    clock::sleep,
    completion::{Abandoned, Completer, Completion, Mailbox, Post, completion, mailbox},
    drive::{Limits, StopReason, World, drive},
    log::{Checkpoint, Digest, EventLog},
    progress::{Progress, Snapshot, Stalled, Watch, run_watched},
    queue::{Event, Lane, Queue, TieBreak},
    runtime::{Runtime, run},
    stream::{Ledger, QuantileTable, Stream, Streams},
    tasks::{HostTasks, Spin, Tasks},
    time::SimInstant,
};
