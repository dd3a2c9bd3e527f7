//! The port traits over the fake world.

use std::sync::MutexGuard;

use futures::channel::{mpsc, oneshot};
use futures::{FutureExt as _, StreamExt as _};

use super::state::nodes::{Looks, NodeState, OWN_ASKS, Wait};
use super::state::queue::Arrival;
use super::state::{Inner, Shared, lock};
use crate::core::agent::AgentState;
use crate::core::api::{
    ApiError, ApiReply, ApiRequest, Applied, Consistency, ListPage, ListQuery, Part, Preconditions,
    WatchEvent, WatchQuery,
};
use crate::core::controller::ControllerState;
use crate::core::exchange::{
    InboxEvent, MountId, PathState, Probe, RequestId, Response, Sandbox, SpoolEntry, SpoolId,
};
use crate::core::journal::{Seal, Stored};
use crate::core::objects::{Metadata, Object, ObjectKey, Uid};
use crate::core::report::{LocalError, Metric};
use crate::core::time::{BootTime, WallTime};
use crate::ports::{
    AgentPorts, ApiServer, Clock, ControllerPorts, Entropy, Inbox, Journal, Namespaces, Observer,
    Sandboxes, Spool, Watch,
};

/// The mount of `/run/netns` on every node.
const MOUNT: MountId = MountId(7);
/// What was mounted over it.
const OTHER_MOUNT: MountId = MountId(8);

/// The ports of one agent process.
pub struct NodePorts {
    pub(super) shared: Shared,
    pub(super) name: String,
    pub(super) incarnation: u64,
}

impl NodePorts {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.shared)
    }

    pub(super) fn with_node<T>(&self, f: impl FnOnce(&mut NodeState) -> T) -> T {
        f(self.lock().node(&self.name))
    }
}

async fn answer<T>(receiver: oneshot::Receiver<T>) -> T {
    match receiver.await {
        Ok(value) => value,
        // The world is gone, or forgot the caller: never answered.
        Err(_) => futures::future::pending().await,
    }
}

impl NodePorts {
    fn ask(&self, request: ApiRequest) -> impl Future<Output = Result<ApiReply, ApiError>> + Send {
        let (sender, receiver) = oneshot::channel();
        self.lock().send_request(&self.name, request, sender);
        answer(receiver)
    }
}

impl ApiServer for NodePorts {
    type Watch = FakeWatch;

    fn get(
        &self,
        key: &ObjectKey,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Object, ApiError>> + Send {
        self.ask(ApiRequest::Get(key.clone(), consistency))
            .map(|result| match result? {
                ApiReply::Object(object) => Ok(object),
                _ => Err(ApiError::Unavailable(Applied::Not)),
            })
    }

    fn list(&self, query: &ListQuery) -> impl Future<Output = Result<ListPage, ApiError>> + Send {
        self.ask(ApiRequest::List(query.clone()))
            .map(|result| match result? {
                ApiReply::Page(page) => Ok(page),
                _ => Err(ApiError::Unavailable(Applied::Not)),
            })
    }

    fn watch(
        &self,
        query: &WatchQuery,
    ) -> impl Future<Output = Result<FakeWatch, ApiError>> + Send {
        let (sender, receiver) = mpsc::unbounded();
        let from = query.resource_version.parse().unwrap_or(0);
        let kind = query.selection.kind;
        self.lock()
            .note_asked(&self.name, "watch", kind, Part::Main);
        let id = self.lock().open_watch(query.clone(), from, sender);
        let shared = self.shared.clone();
        async move {
            Ok(FakeWatch {
                receiver,
                shared,
                id,
            })
        }
    }

    fn create(&self, object: Object) -> impl Future<Output = Result<Metadata, ApiError>> + Send {
        self.ask(ApiRequest::Create(object)).map(written)
    }

    fn replace(
        &self,
        object: Object,
        part: Part,
    ) -> impl Future<Output = Result<Metadata, ApiError>> + Send {
        self.ask(ApiRequest::Replace(object, part)).map(written)
    }

    fn delete(
        &self,
        key: &ObjectKey,
        preconditions: &Preconditions,
    ) -> impl Future<Output = Result<(), ApiError>> + Send {
        self.ask(ApiRequest::Delete(key.clone(), preconditions.clone()))
            .map(|result| result.map(|_| ()))
    }
}

fn written(result: Result<ApiReply, ApiError>) -> Result<Metadata, ApiError> {
    match result? {
        ApiReply::Written(metadata) => Ok(metadata),
        _ => Err(ApiError::Unavailable(Applied::Unknown)),
    }
}

/// An open watch of the fake apiserver.
pub struct FakeWatch {
    receiver: mpsc::UnboundedReceiver<WatchEvent>,
    shared: Shared,
    id: u64,
}

impl Drop for FakeWatch {
    fn drop(&mut self) {
        lock(&self.shared).close_watch(self.id);
    }
}

impl Watch for FakeWatch {
    async fn next(&mut self) -> WatchEvent {
        self.receiver.next().await.unwrap_or(WatchEvent::Closed)
    }
}

impl Clock for NodePorts {
    fn now(&self) -> BootTime {
        self.lock().now()
    }

    fn wall(&self) -> WallTime {
        WallTime(self.lock().now().since_boot().as_micros() as u64)
    }

    fn sleep_until(&self, at: BootTime) -> impl Future<Output = ()> + Send {
        let (sender, receiver) = oneshot::channel();
        self.lock().schedule(at, Arrival::Wake(sender));
        answer(receiver)
    }
}

impl Entropy for NodePorts {
    fn draw(&self) -> u64 {
        self.lock().draw()
    }
}

impl NodePorts {
    async fn store_journal(
        &self,
        seal: Option<Seal>,
        store: impl FnOnce(&mut Vec<u8>) + Send,
    ) -> Result<(), LocalError> {
        let pause = self.with_node(|node| node.ailments.journal_pause);
        self.pause(pause).await;
        let incarnation = self.incarnation;
        self.with_node(|node| {
            let ailments = node.ailments;
            let broken = ailments.journal_full || ailments.journal_unreadable;
            if node.incarnation != incarnation {
                return Err(LocalError::new("this process is dead"));
            }
            // It is not on the journal's disk.
            node.seal = node.seal.filter(|_| seal.is_some());
            if broken {
                return Err(LocalError::new("no space left"));
            }
            store(&mut node.journal);
            node.seal = seal;
            Ok(())
        })
    }

    async fn pause(&self, pause: core::time::Duration) {
        if !pause.is_zero() {
            let at = self.lock().now() + pause;
            self.sleep_until(at).await;
        }
    }

    fn wait(&self, slot: fn(&mut NodeState) -> Wait<'_>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.with_node(|node| *slot(node) = Some(sender));
        receiver
    }
}

impl Journal for NodePorts {
    fn open(&self) -> impl Future<Output = Result<Stored, LocalError>> + Send {
        core::future::ready(self.with_node(|node| {
            if node.ailments.journal_unreadable {
                return Err(LocalError::new("read-only file system"));
            }
            Ok(Stored {
                bytes: node.journal.clone(),
                seal: node.seal,
            })
        }))
    }

    fn append(
        &self,
        bytes: Vec<u8>,
        seal: Option<Seal>,
    ) -> impl Future<Output = Result<(), LocalError>> + Send {
        self.store_journal(seal, move |journal| journal.extend(bytes))
    }

    fn compact(
        &self,
        bytes: Vec<u8>,
        seal: Option<Seal>,
    ) -> impl Future<Output = Result<(), LocalError>> + Send {
        self.store_journal(seal, move |journal| *journal = bytes)
    }

    fn set_aside(&self) -> impl Future<Output = Result<(), LocalError>> + Send {
        self.with_node(|node| node.aside.push(node.journal.clone()));
        core::future::ready(Ok(()))
    }
}

impl Spool for NodePorts {
    async fn list(&self) -> Result<Vec<SpoolEntry>, LocalError> {
        let pause = self.with_node(|node| node.ailments.spool_pause);
        self.pause(pause).await;
        self.with_node(|node| {
            if node.ailments.spool_unreadable {
                return Err(LocalError::new("input/output error"));
            }
            Ok(node.spool.clone())
        })
    }

    fn remove(&self, id: &SpoolId) -> impl Future<Output = Result<(), LocalError>> + Send {
        self.with_node(|node| node.spool.retain(|entry| entry.id != *id));
        core::future::ready(Ok(()))
    }

    fn set_aside(&self, id: &SpoolId) -> impl Future<Output = Result<(), LocalError>> + Send {
        Spool::remove(self, id)
    }

    fn changed(&self) -> impl Future<Output = ()> + Send {
        answer(self.wait(|node| &mut node.spool_waiter))
    }
}

impl Namespaces for NodePorts {
    fn probe(&self, path: &str) -> impl Future<Output = Probe> + Send {
        let (present, looks) = self.with_node(|node| {
            node.look_count += 1;
            let every = node.ailments.looks_every.max(1);
            let is_affected = node.look_count.is_multiple_of(every);
            let looks = if is_affected {
                node.ailments.looks
            } else {
                Looks::True
            };
            (node.namespaces.contains_key(path), looks)
        });
        match looks {
            Looks::Unknown => return core::future::ready(Probe::UNKNOWN),
            Looks::OtherMount => {
                return core::future::ready(Probe {
                    state: PathState::Gone { mount: OTHER_MOUNT },
                    canary: true,
                });
            }
            Looks::True | Looks::NoCanary => {}
        }
        let state = if !path.starts_with("/run/netns/") {
            PathState::Unknown
        } else if present {
            PathState::Present { mount: MOUNT }
        } else {
            PathState::Gone { mount: MOUNT }
        };
        core::future::ready(Probe {
            state,
            canary: looks == Looks::True,
        })
    }

    fn changed(&self) -> impl Future<Output = ()> + Send {
        answer(self.wait(|node| &mut node.namespace_waiter))
    }
}

impl Sandboxes for NodePorts {
    fn list(&self) -> impl Future<Output = Result<Vec<Sandbox>, LocalError>> + Send {
        core::future::ready(self.with_node(|node| {
            node.list_count += 1;
            if node.ailments.runtime_silent {
                return Err(LocalError::new("connection refused"));
            }
            if node.ailments.lists_nothing {
                return Ok(Vec::new());
            }
            let ended = node.ended.iter().filter(|_| node.ailments.lists_ended);
            let sandboxes = node.namespaces.values().chain(ended);
            let sandboxes = sandboxes.map(|sandbox| Sandbox {
                container: sandbox.container.clone(),
                pod_uid: Uid::new(&sandbox.pod),
            });
            Ok(sandboxes.collect())
        }))
    }
}

impl Inbox for NodePorts {
    async fn next(&self) -> Option<InboxEvent> {
        loop {
            let waiter = {
                let mut inner = self.lock();
                let node = inner.node(&self.name);
                if let Some(event) = node.inbox.pop_front() {
                    return Some(event);
                }
                let (sender, receiver) = oneshot::channel();
                node.inbox_waiter = Some(sender);
                receiver
            };
            answer(waiter).await;
        }
    }

    fn reply(&self, id: RequestId, response: Response) -> impl Future<Output = ()> + Send {
        self.with_node(|node| {
            if id.0 >= OWN_ASKS {
                node.answers.insert(id, response);
            } else {
                node.replies.push((id, response));
            }
        });
        core::future::ready(())
    }
}

impl Observer for NodePorts {
    fn metric(&self, metric: Metric) {
        self.with_node(|node| node.metrics.push(metric));
    }

    fn event(&self, reason: &'static str, message: String) {
        self.with_node(|node| node.events.push((reason, message)));
    }

    fn agent_state(&self, state: impl FnOnce() -> AgentState) {
        if self.with_node(|node| node.agent_state.is_some()) {
            let state = state();
            self.with_node(|node| node.agent_state = Some(state));
        }
    }

    fn controller_state(&self, state: impl FnOnce() -> ControllerState) {
        if self.with_node(|node| node.controller_state.is_some()) {
            let state = state();
            self.with_node(|node| node.controller_state = Some(state));
        }
    }
}

impl AgentPorts for NodePorts {
    crate::own_ports!(
        Api api,
        Clock clock,
        Entropy entropy,
        Journal journal,
        Spool spool,
        Namespaces namespaces,
        Sandboxes sandboxes,
        Inbox inbox,
        Observer observer,
    );
}

impl ControllerPorts for NodePorts {
    crate::own_ports!(Api api, Clock clock, Entropy entropy, Observer observer);
}
