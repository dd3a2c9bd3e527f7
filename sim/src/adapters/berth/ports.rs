//! Berth's ports in the simulation. Every port call is counted, posted to the world and answered by
//! it; nothing here decides. A call that a fault plan singles out kills its process instead: before
//! the call (nothing happens) or after it (it happens, but the answer reaches nobody).

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth::core::api::{
    ApiError, Applied, Consistency, ListPage, ListQuery, Part, Preconditions, WatchEvent,
    WatchQuery,
};
use berth::core::exchange::{InboxEvent, Probe, RequestId, Response, Sandbox, SpoolEntry, SpoolId};
use berth::core::journal::{Seal, Stored};
use berth::core::objects::{Metadata, Object, ObjectKey, Pod};
use berth::core::report::{LocalError, Metric};
use berth::core::time::{BootTime, WallTime};
use berth::ports::{
    AgentPorts, ApiServer, Clock, ControllerPorts, Entropy, Inbox, Journal, Namespaces, Observer,
    Sandboxes, Spool, Watch,
};
use drydock_engine::{Completer, Completion, Mailbox, Post, Stream, completion, mailbox};
use drydock_traces::plan::Edge;

use super::disk::Disk;
use super::troubles::{Appended, Listed};

/// A port call on its way to the world.
#[derive(Debug)]
pub enum Call {
    /// Read one object.
    Get(ObjectKey, Consistency, Completer<Result<Object, ApiError>>),
    /// Read a page.
    List(ListQuery, Completer<Result<ListPage, ApiError>>),
    /// Open a watch; its events go to the post.
    Watch(WatchQuery, Post<WatchEvent>),
    /// Create.
    Create(Object, Completer<Result<Metadata, ApiError>>),
    /// Replace.
    Replace(Object, Part, Completer<Result<Metadata, ApiError>>),
    /// Delete.
    Delete(ObjectKey, Preconditions, Completer<Result<(), ApiError>>),
    /// Wake up at a time since boot.
    SleepUntil(BootTime, Completer<()>),
    /// Look at a namespace's path.
    Probe(String, Completer<Probe>),
    /// Ask the runtime.
    Sandboxes(Completer<Listed>),
    /// What others do to Pods and to the store.
    Act(Act, Completer<Result<(), ApiError>>),
    /// Answer a plugin.
    Reply(RequestId, Response),
    /// Something that an operator should see, or a counter.
    Noted(&'static str, u64),
    /// The fault plan's trigger at this port call fired; with `dies`, the process is gone.
    Triggered {
        /// Position in the plan.
        fault: u32,
        /// The process gets no more answers.
        dies: bool,
    },
}

/// What a guest does that no port of Berth can.
#[derive(Clone, Debug)]
pub enum Act {
    /// Create a Pod, bound when it names a node.
    CreatePod(Box<Pod>),
    /// Bind a Pod to a node.
    BindPod(ObjectKey, String),
    /// Delete a Pod with its own grace.
    DeletePod(ObjectKey),
    /// Remove a Pod's object, as its kubelet does.
    RemovePod(ObjectKey),
    /// Forget every state of the store before the current one.
    Compact,
}

/// A port call and who made it.
#[derive(Debug)]
pub struct Posted {
    /// Which process (its place among the adapter's processes).
    pub process: usize,
    /// Which of its lives.
    pub life: u32,
    /// The call.
    pub call: Call,
}

/// What all processes of a run share with the world.
#[derive(Debug, Default)]
pub struct Shared {
    /// Simulated time of the event being handled. Units: ns.
    pub now_ns: AtomicU64,
    /// Calls since the world last looked.
    pub outbox: Mutex<Vec<Posted>>,
}

/// Locks; a poisoned lock means that a panic is already ending the run.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All ports of one life of one process.
pub struct SimPorts {
    shared: Arc<Shared>,
    disk: Arc<Mutex<Disk>>,
    process: usize,
    life: u32,
    /// Simulated time of the machine's boot. Units: ns.
    booted_ns: u64,
    entropy: Mutex<Stream>,
    inbox: Mutex<Mailbox<InboxEvent>>,
    spool_changes: Mutex<Mailbox<()>>,
    netns_changes: Mutex<Mailbox<()>>,
}

/// The world's ends of a process's mailboxes.
#[derive(Clone)]
pub struct Posts {
    /// Requests of plugins.
    pub inbox: Post<InboxEvent>,
    /// The spool changed.
    pub spool_changes: Post<()>,
    /// A namespace is gone.
    pub netns_changes: Post<()>,
}

/// Whether a call is sent, and whether its answer comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Normal,
    NotMade,
    NotAnswered,
}

impl SimPorts {
    /// The ports of one life of a process.
    pub fn new(
        shared: Arc<Shared>,
        disk: Arc<Mutex<Disk>>,
        process: usize,
        life: u32,
        booted_ns: u64,
        entropy: Stream,
    ) -> (SimPorts, Posts) {
        let (inbox_post, inbox) = mailbox();
        let (spool_post, spool) = mailbox();
        let (netns_post, netns) = mailbox();
        let ports = SimPorts {
            shared,
            disk,
            process,
            life,
            booted_ns,
            entropy: Mutex::new(entropy),
            inbox: Mutex::new(inbox),
            spool_changes: Mutex::new(spool),
            netns_changes: Mutex::new(netns),
        };
        let posts = Posts {
            inbox: inbox_post,
            spool_changes: spool_post,
            netns_changes: netns_post,
        };
        (ports, posts)
    }

    fn post(&self, call: Call) {
        let posted = Posted {
            process: self.process,
            life: self.life,
            call,
        };
        lock(&self.shared.outbox).push(posted);
    }

    /// Counts a port call and applies the plan.
    fn count(&self) -> Fate {
        let mut disk = lock(&self.disk);
        disk.calls += 1;
        let calls = disk.calls;
        let Some(place) = disk.armed.iter().position(|armed| armed.call == calls) else {
            return Fate::Normal;
        };
        let armed = disk.armed.remove(place);
        drop(disk);
        self.post(Call::Triggered {
            fault: armed.fault,
            dies: armed.kills,
        });
        match (armed.kills, armed.edge) {
            (false, _) => Fate::Normal,
            (true, Edge::Before) => Fate::NotMade,
            (true, Edge::After) => Fate::NotAnswered,
        }
    }

    /// Posts a call that the world answers.
    fn ask<T>(&self, call: impl FnOnce(Completer<T>) -> Call) -> Asked<T> {
        let fate = self.count();
        let (completer, answer) = completion();
        if fate != Fate::NotMade {
            self.post(call(completer));
        }
        if fate == Fate::Normal {
            Asked::Answered(answer)
        } else {
            Asked::Never
        }
    }

    /// Lets time pass; this is not a port call.
    async fn rest(&self, time: Duration) {
        if !time.is_zero() {
            let (completer, answer) = completion();
            self.post(Call::SleepUntil(self.now() + time, completer));
            Asked::Answered(answer).or(()).await;
        }
    }

    /// Writes the journal, which may take a while, fail, or end the process.
    async fn write(&self, write: impl FnOnce(&mut Disk) -> Appended) -> Result<(), LocalError> {
        match self.local(write).result().await {
            Appended::After(time) => {
                self.rest(time).await;
                Ok(())
            }
            Appended::Failed => Err(LocalError::new("No space left on device")),
            Appended::Torn(fault) => {
                self.post(Call::Triggered { fault, dies: true });
                std::future::pending().await
            }
        }
    }

    /// Does what no port of Berth can.
    pub fn act(&self, act: Act) -> impl Future<Output = Result<(), ApiError>> + Send + use<> {
        self.ask(|done| Call::Act(act, done)).or(Err(UNKNOWN))
    }

    /// Does something on the machine itself, which takes no simulated time.
    fn local<T>(&self, action: impl FnOnce(&mut Disk) -> T) -> Local<T> {
        let fate = self.count();
        let result = (fate != Fate::NotMade).then(|| action(&mut lock(&self.disk)));
        match (fate, result) {
            (Fate::Normal, Some(result)) => Local::Done(result),
            _ => Local::Never,
        }
    }
}

/// The answer of a call, unless the process is doomed.
enum Asked<T> {
    Answered(Completion<T>),
    Never,
}

impl<T> Asked<T> {
    async fn or(self, otherwise: T) -> T {
        match self {
            Asked::Answered(answer) => answer.await.unwrap_or(otherwise),
            Asked::Never => std::future::pending().await,
        }
    }
}

/// The result of a local action, unless the process is doomed.
enum Local<T> {
    Done(T),
    Never,
}

impl<T> Local<T> {
    async fn result(self) -> T {
        match self {
            Local::Done(result) => result,
            Local::Never => std::future::pending().await,
        }
    }
}

const UNKNOWN: ApiError = ApiError::Unavailable(Applied::Unknown);

impl ApiServer for SimPorts {
    type Watch = SimWatch;

    fn get(
        &self,
        key: &ObjectKey,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Object, ApiError>> + Send {
        self.ask(|done| Call::Get(key.clone(), consistency, done))
            .or(Err(UNKNOWN))
    }

    fn list(&self, query: &ListQuery) -> impl Future<Output = Result<ListPage, ApiError>> + Send {
        self.ask(|done| Call::List(query.clone(), done))
            .or(Err(UNKNOWN))
    }

    fn watch(&self, query: &WatchQuery) -> impl Future<Output = Result<SimWatch, ApiError>> + Send {
        let fate = self.count();
        let (post, events) = mailbox();
        if fate != Fate::NotMade {
            self.post(Call::Watch(query.clone(), post));
        }
        let watch = SimWatch { events };
        let made = if fate == Fate::Normal {
            Local::Done(Ok(watch))
        } else {
            Local::Never
        };
        made.result()
    }

    fn create(&self, object: Object) -> impl Future<Output = Result<Metadata, ApiError>> + Send {
        self.ask(|done| Call::Create(object, done)).or(Err(UNKNOWN))
    }

    fn replace(
        &self,
        object: Object,
        part: Part,
    ) -> impl Future<Output = Result<Metadata, ApiError>> + Send {
        self.ask(|done| Call::Replace(object, part, done))
            .or(Err(UNKNOWN))
    }

    fn delete(
        &self,
        key: &ObjectKey,
        preconditions: &Preconditions,
    ) -> impl Future<Output = Result<(), ApiError>> + Send {
        self.ask(|done| Call::Delete(key.clone(), preconditions.clone(), done))
            .or(Err(UNKNOWN))
    }
}

/// An open watch.
pub struct SimWatch {
    events: Mailbox<WatchEvent>,
}

impl Watch for SimWatch {
    async fn next(&mut self) -> WatchEvent {
        self.events.recv().await.unwrap_or(WatchEvent::Closed)
    }
}

impl Clock for SimPorts {
    fn now(&self) -> BootTime {
        let now_ns = self.shared.now_ns.load(Ordering::Relaxed);
        BootTime::from_nanos(now_ns - self.booted_ns)
    }

    fn wall(&self) -> WallTime {
        WallTime(self.shared.now_ns.load(Ordering::Relaxed) / 1000)
    }

    fn sleep_until(&self, at: BootTime) -> impl Future<Output = ()> + Send {
        self.ask(|done| Call::SleepUntil(at, done)).or(())
    }
}

impl Entropy for SimPorts {
    fn draw(&self) -> u64 {
        lock(&self.entropy).u64()
    }
}

impl Journal for SimPorts {
    fn open(&self) -> impl Future<Output = Result<Stored, LocalError>> + Send {
        self.local(Disk::open_journal).result()
    }

    fn append(
        &self,
        bytes: Vec<u8>,
        seal: Option<Seal>,
    ) -> impl Future<Output = Result<(), LocalError>> + Send {
        self.write(move |disk| disk.append(&bytes, seal))
    }

    fn compact(
        &self,
        bytes: Vec<u8>,
        seal: Option<Seal>,
    ) -> impl Future<Output = Result<(), LocalError>> + Send {
        self.write(move |disk| disk.compact(bytes, seal))
    }
}

impl Spool for SimPorts {
    async fn list(&self) -> Result<Vec<SpoolEntry>, LocalError> {
        let (takes, entries) = self.local(Disk::list_spool).result().await?;
        self.rest(takes).await;
        Ok(entries)
    }

    fn remove(&self, id: &SpoolId) -> impl Future<Output = Result<(), LocalError>> + Send {
        self.local(|disk| {
            disk.spool.retain(|entry| entry.id != *id);
            Ok(())
        })
        .result()
    }

    fn set_aside(&self, id: &SpoolId) -> impl Future<Output = Result<(), LocalError>> + Send {
        self.remove(id)
    }

    async fn changed(&self) {
        if receive(&self.spool_changes).await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

impl Namespaces for SimPorts {
    fn probe(&self, path: &str) -> impl Future<Output = Probe> + Send {
        self.ask(|done| Call::Probe(path.to_owned(), done))
            .or(Probe::UNKNOWN)
    }

    async fn changed(&self) {
        if receive(&self.netns_changes).await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

impl Sandboxes for SimPorts {
    async fn list(&self) -> Result<Vec<Sandbox>, LocalError> {
        match self.ask(Call::Sandboxes).or(Listed::Refused).await {
            Listed::Sandboxes(sandboxes) => Ok(sandboxes),
            Listed::Refused => Err(LocalError::new("connection refused")),
            Listed::Silent(patience) => {
                self.rest(patience).await;
                Err(LocalError::new("the runtime does not answer"))
            }
        }
    }
}

impl Inbox for SimPorts {
    async fn next(&self) -> Option<InboxEvent> {
        receive(&self.inbox).await
    }

    fn reply(&self, id: RequestId, response: Response) -> impl Future<Output = ()> + Send {
        let fate = self.count();
        if fate != Fate::NotMade {
            self.post(Call::Reply(id, response));
        }
        let sent = if fate == Fate::Normal {
            Local::Done(())
        } else {
            Local::Never
        };
        sent.result()
    }
}

impl Observer for SimPorts {
    fn metric(&self, metric: Metric) {
        self.post(Call::Noted(metric.name, metric.increment));
    }

    fn event(&self, reason: &'static str, message: String) {
        tracing::debug!(reason, message, "operator event");
        self.post(Call::Noted(reason, 1));
    }
}

/// The next letter of a mailbox that is behind a lock because ports are shared; only one task
/// reads each.
async fn receive<T>(mailbox: &Mutex<Mailbox<T>>) -> Option<T> {
    std::future::poll_fn(|context| pin!(lock(mailbox).recv()).poll(context)).await
}

impl AgentPorts for SimPorts {
    berth::own_ports!(
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

impl ControllerPorts for SimPorts {
    berth::own_ports!(Api api, Clock clock, Entropy entropy, Observer observer);
}
