//! The ports: what the shells need from the world, as traits over futures that need no runtime.
//! No policy is here, no implementation and no data: the words that they pass are the core's
//! ([`core::api`](crate::core::api), [`exchange`](crate::core::exchange),
//! [`report`](crate::core::report)).
//!
//! Every request to the world is exactly one method call; the shells call them in the order of the
//! core's outputs and poll each at once, so an implementation can number its calls (a simulator
//! that kills an agent before or after its k-th call does).

use core::future::Future;

use crate::core::agent::{AgentState, Finding};
use crate::core::api::{
    ApiError, Consistency, ListPage, ListQuery, Part, Preconditions, WatchEvent, WatchQuery,
};
use crate::core::controller::ControllerState;
use crate::core::exchange::{InboxEvent, Probe, RequestId, Response, Sandbox, SpoolEntry, SpoolId};
use crate::core::journal::{Seal, Stored};
use crate::core::objects::{Metadata, Object, ObjectKey};
use crate::core::report::{LocalError, Metric, Subject};
use crate::core::time::{BootTime, WallTime};

/// The Kubernetes API.
pub trait ApiServer: Sync {
    /// An open watch.
    type Watch: Watch;

    /// Reads one object.
    fn get(
        &self,
        key: &ObjectKey,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Object, ApiError>> + Send;

    /// Lists objects.
    fn list(&self, query: &ListQuery) -> impl Future<Output = Result<ListPage, ApiError>> + Send;

    /// Opens a watch.
    fn watch(
        &self,
        query: &WatchQuery,
    ) -> impl Future<Output = Result<Self::Watch, ApiError>> + Send;

    /// Creates an object; answers with its metadata as stored.
    fn create(&self, object: Object) -> impl Future<Output = Result<Metadata, ApiError>> + Send;

    /// Replaces an object whose version is the one in its metadata; answers with the new metadata.
    fn replace(
        &self,
        object: Object,
        part: Part,
    ) -> impl Future<Output = Result<Metadata, ApiError>> + Send;

    /// Deletes an object under preconditions.
    fn delete(
        &self,
        key: &ObjectKey,
        preconditions: &Preconditions,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// An open watch; dropping it closes it.
pub trait Watch: Send {
    /// The next event. After `Expired` or `Closed` there is none. The future may be dropped before
    /// it is ready; no event may be lost by that (shells take all ready events together).
    fn next(&mut self) -> impl Future<Output = WatchEvent> + Send;
}

/// Time.
pub trait Clock: Sync {
    /// Time since boot, sleep included.
    fn now(&self) -> BootTime;

    /// The wall clock, for people.
    fn wall(&self) -> WallTime;

    /// Completes at or after `at`.
    fn sleep_until(&self, at: BootTime) -> impl Future<Output = ()> + Send;
}

/// Randomness.
pub trait Entropy: Sync {
    /// Eight unpredictable bytes.
    fn draw(&self) -> u64;
}

/// A file on the host's own disk, locked for the life of the process. It stores bytes; their form
/// is the core's. Appends need no fsync: a boot that ended voids what it said of containers. Its
/// seal is stored apart from it, where it outlives the process: after the bytes that it is of, and
/// removed before bytes that have none. A seal that cannot be stored is removed; one that cannot be
/// removed either is an error.
pub trait Journal: Sync {
    /// Takes the lock (waiting for it) and reads all bytes and the seal; nothing when there is no
    /// file.
    fn open(&self) -> impl Future<Output = Result<Stored, LocalError>> + Send;

    /// Appends. After an error the tail may be torn.
    fn append(
        &self,
        bytes: Vec<u8>,
        seal: Option<Seal>,
    ) -> impl Future<Output = Result<(), LocalError>> + Send;

    /// Replaces the whole content atomically (write aside, rename).
    fn compact(
        &self,
        bytes: Vec<u8>,
        seal: Option<Seal>,
    ) -> impl Future<Output = Result<(), LocalError>> + Send;

    /// Keeps what was read for people to look at, before it is replaced. How many are kept is
    /// bounded; a store that people cannot look at keeps none.
    fn set_aside(&self) -> impl Future<Output = Result<(), LocalError>> + Send {
        core::future::ready(Ok(()))
    }
}

/// The directory where plugins leave DELs that met no agent.
pub trait Spool: Sync {
    /// All entries, ascending by file name.
    fn list(&self) -> impl Future<Output = Result<Vec<SpoolEntry>, LocalError>> + Send;

    /// Removes an entry.
    fn remove(&self, id: &SpoolId) -> impl Future<Output = Result<(), LocalError>> + Send;

    /// Moves an unreadable entry out of the way.
    fn set_aside(&self, id: &SpoolId) -> impl Future<Output = Result<(), LocalError>> + Send;

    /// Completes when an entry may have been added since the last `list` (inotify or a poll of the
    /// adapter's own; it may never complete where plugins always reach the agent).
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// The network namespaces of the host.
pub trait Namespaces: Sync {
    /// Looks at a path, and then at the canary in its directory.
    fn probe(&self, path: &str) -> impl Future<Output = Probe> + Send;

    /// Completes when a path may have vanished since the last call (inotify). It may never
    /// complete; the core also probes on a timer.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// The container runtime's list of sandboxes.
pub trait Sandboxes: Sync {
    /// All Pod sandboxes that the runtime knows, ready or not. Ends within
    /// [`Policy::runtime_patience`](crate::core::agent::Policy), however the runtime hangs.
    ///
    /// Errors: the runtime cannot be asked. Never an empty list instead.
    fn list(&self) -> impl Future<Output = Result<Vec<Sandbox>, LocalError>> + Send;
}

/// The agent's side of the socket.
pub trait Inbox: Sync {
    /// The next event; `None` when no more will come, which ends the agent.
    fn next(&self) -> impl Future<Output = Option<InboxEvent>> + Send;

    /// Answers a request. To one that is closed or answered: nothing happens.
    fn reply(&self, id: RequestId, response: Response) -> impl Future<Output = ()> + Send;
}

/// Where reports for people go.
pub trait Observer: Sync {
    /// A counter moved.
    fn metric(&self, metric: Metric);

    /// Something that an operator should see: reason and message of a Kubernetes Event.
    fn event(&self, reason: &'static str, message: String);

    /// The same, and what it is about.
    fn event_about(&self, subject: Subject, reason: &'static str, message: String) {
        let _ = subject;
        self.event(reason, message);
    }

    /// An agent took its inputs in; `state` says how it stands now.
    fn agent_state(&self, state: impl FnOnce() -> AgentState) {
        let _ = state;
    }

    /// A controller took its inputs in; `state` says how it stands now.
    fn controller_state(&self, state: impl FnOnce() -> ControllerState) {
        let _ = state;
    }
}

/// Every port of an agent.
pub trait AgentPorts: Sync {
    /// See [`ApiServer`].
    type Api: ApiServer;
    /// See [`Clock`].
    type Clock: Clock;
    /// See [`Entropy`].
    type Entropy: Entropy;
    /// See [`Journal`].
    type Journal: Journal;
    /// See [`Spool`].
    type Spool: Spool;
    /// See [`Namespaces`].
    type Namespaces: Namespaces;
    /// See [`Sandboxes`].
    type Sandboxes: Sandboxes;
    /// See [`Inbox`].
    type Inbox: Inbox;
    /// See [`Observer`].
    type Observer: Observer;

    /// The apiserver.
    fn api(&self) -> &Self::Api;
    /// The clock.
    fn clock(&self) -> &Self::Clock;
    /// Randomness.
    fn entropy(&self) -> &Self::Entropy;
    /// The journal.
    fn journal(&self) -> &Self::Journal;
    /// The spool.
    fn spool(&self) -> &Self::Spool;
    /// The namespaces.
    fn namespaces(&self) -> &Self::Namespaces;
    /// The runtime.
    fn sandboxes(&self) -> &Self::Sandboxes;
    /// The socket.
    fn inbox(&self) -> &Self::Inbox;
    /// Metrics and Events.
    fn observer(&self) -> &Self::Observer;

    /// Completes, some time after the last call, with what a look at the parts of the host found
    /// (the runtime is asked by `sandboxes`). Never, where there is nothing to look at.
    fn parts(&self) -> impl Future<Output = Vec<Finding>> + Send {
        core::future::pending()
    }
}

/// Every port of a controller.
pub trait ControllerPorts: Sync {
    /// See [`ApiServer`].
    type Api: ApiServer;
    /// See [`Clock`].
    type Clock: Clock;
    /// See [`Entropy`].
    type Entropy: Entropy;
    /// See [`Observer`].
    type Observer: Observer;

    /// The apiserver.
    fn api(&self) -> &Self::Api;
    /// The clock.
    fn clock(&self) -> &Self::Clock;
    /// Randomness.
    fn entropy(&self) -> &Self::Entropy;
    /// Metrics and Events.
    fn observer(&self) -> &Self::Observer;
}

/// The items of an [`AgentPorts`] or [`ControllerPorts`] that is each of its ports itself.
#[macro_export]
macro_rules! own_ports {
    ($($port:ident $accessor:ident),* $(,)?) => {
        $(
            type $port = Self;

            fn $accessor(&self) -> &Self {
                self
            }
        )*
    };
}
