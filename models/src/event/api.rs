//! Events of the API path. What a call does at each of them is in [`crate::apiserver`].

use drydock_engine::queue::Lane;
use serde::Serialize;

use crate::ids::{CallId, NodeIndex, WatchId};

/// Events of the API path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ApiEvent {
    /// A request reaches its apiserver.
    Arrive {
        /// Which call.
        call: CallId,
    },
    /// A request waited long enough beside its CPU.
    Served {
        /// Which call.
        call: CallId,
    },
    /// A held write goes on to etcd.
    Release {
        /// Which call.
        call: CallId,
    },
    /// A batch of etcd's log is durable.
    Fsync {
        /// Which batch.
        generation: u64,
    },
    /// The client learns the outcome.
    Answer {
        /// Which call.
        call: CallId,
    },
    /// Changes reach a watcher.
    Watch {
        /// Which watch.
        watch: WatchId,
    },
    /// The earliest deadline of a waiting call passes.
    Sweep,
    /// Bookmarks are sent.
    Bookmark,
    /// An apiserver serves again.
    Ready {
        /// Which apiserver.
        server: u32,
        /// Which outage ended.
        outage: u32,
    },
    /// HTTP/2 finds that a machine's connections are dead.
    ConnectionsDead {
        /// Machine.
        node: NodeIndex,
        /// Which cut.
        cut: u32,
    },
}

impl ApiEvent {
    /// The sequential actor that the event belongs to.
    pub fn lane(&self) -> Lane {
        match self {
            ApiEvent::Watch { watch } => Lane::new("watch", u64::from(watch.0)),
            ApiEvent::Fsync { .. } => Lane::new("etcd", 0),
            ApiEvent::Arrive { call }
            | ApiEvent::Served { call }
            | ApiEvent::Release { call }
            | ApiEvent::Answer { call } => Lane::new("call", u64::from(call.0)),
            ApiEvent::Ready { server, .. } => Lane::new("apiserver", u64::from(*server)),
            ApiEvent::Sweep | ApiEvent::Bookmark | ApiEvent::ConnectionsDead { .. } => {
                Lane::new("api", 0)
            }
        }
    }
}
