//! The fake world: an event queue, nodes, a very small kubelet and the ledger.

mod ailments;
mod looks;
mod losses;

use core::net::IpAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::Wake;

use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;

use super::node::{NodePorts, NodeState, Sandboxed, lock};
use super::ports::carry_out;
use super::store::Store;
use crate::core::agent::{Agent, AgentConfig};
use crate::core::api::{ApiError, ApiReply, ApiRequest, Applied, Part, WatchEvent, WatchQuery};
use crate::core::controller::{Controller, ControllerConfig};
use crate::core::exchange::{
    AddRequest, Attachment, DelRequest, InboxEvent, PluginRequest, PodReference, RequestId,
    Response, SpoolEntry, SpoolId, Verb,
};
use crate::core::hash::mix;
use crate::core::objects::{AddressPool, FamilySpec, Kind, Metadata, Node, ObjectKey, Pod, Uid};
use crate::core::pool::{Pool, approval, fingerprint};
use crate::core::time::BootTime;
use crate::shell::{run_agent, run_controller};

/// The default network of every node.
pub const NETWORK: &str = "cluster-net";

pub(super) type Shared = Arc<Mutex<Inner>>;
pub(super) type Wait<'a> = &'a mut Option<oneshot::Sender<()>>;
type AnswerSender = oneshot::Sender<Result<ApiReply, ApiError>>;

/// How hostile the world is. Rates in parts per million of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Writes whose reply is lost; they are carried out, perhaps after the caller gave up.
    pub lost_reply_ppm: u64,
    /// Writes that are lost on the way, with unknown outcome.
    pub lost_request_ppm: u64,
    /// Requests refused with 429.
    pub throttled_ppm: u64,
}

/// Requests to the fake apiserver since the last reset. Start-up reads are in it, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// Single reads.
    pub gets: u64,
    /// Lists.
    pub lists: u64,
    /// Creates, replaces and deletes, rejected ones included.
    pub writes: u64,
}

impl Costs {
    /// All of them.
    pub fn requests(&self) -> u64 {
        self.gets + self.lists + self.writes
    }
}

/// Two live interfaces of different Pods with one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: BootTime,
    /// Which address.
    pub address: IpAddr,
    /// Whose.
    pub pods: [String; 2],
}

/// One right that a program used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// As in a role: `get`, `list`, `watch`, `create`, `update`, `delete`.
    pub verb: &'static str,
    /// Which kind.
    pub kind: Kind,
    /// The object or its status.
    pub part: Part,
}

pub(super) struct Pending {
    node: String,
    pub(super) request: ApiRequest,
}

pub(super) enum Arrival {
    Wake(oneshot::Sender<()>),
    Commit(Pending, Option<AnswerSender>),
    Answer(AnswerSender, Result<ApiReply, ApiError>),
    Watch(u64),
    StartSandbox(String),
    StopSandbox(String),
    EndNamespace(String, String),
    StartAgent(String),
}

struct OpenWatch {
    query: WatchQuery,
    version: u64,
    sender: mpsc::UnboundedSender<WatchEvent>,
    scheduled: bool,
}

/// A Pod as the fake kubelet sees it.
#[derive(Clone, Debug)]
struct Kubelet {
    node: String,
    name: String,
    attempt: u32,
    /// The ADD that is not answered.
    adding: Option<RequestId>,
    sandbox: Option<(String, String)>,
    leaving: bool,
}

/// How a Pod is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodPlan<'a> {
    /// Node that it is bound to.
    pub node: &'a str,
    /// Its name; its UID is derived from it.
    pub name: &'a str,
    /// When the kubelet makes its sandbox, from now.
    pub sandbox_after: Duration,
}

/// Everything but the running futures.
pub struct Inner {
    now: BootTime,
    sequence: u64,
    queue: BTreeMap<(BootTime, u64), Arrival>,
    pub(super) store: Store,
    nodes: BTreeMap<String, NodeState>,
    rng: u64,
    faults: Faults,
    costs: Costs,
    /// By whom, which verb of the API, of which kind and part: what roles must allow.
    asked: BTreeSet<(String, Asked)>,
    watches: BTreeMap<u64, OpenWatch>,
    pods: BTreeMap<String, Kubelet>,
    adds: BTreeMap<RequestId, String>,
    /// DELs that are not answered, with their node.
    dels: BTreeMap<RequestId, (String, DelRequest)>,
    violations: Vec<Violation>,
    last_id: u64,
}

const WATCH_LATENCY: Duration = Duration::from_millis(8);
const GIVE_UP: Duration = Duration::from_secs(1);

impl Inner {
    pub(super) fn now(&self) -> BootTime {
        self.now
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(1);
        mix(0x6265_7274_6800_0000, self.rng)
    }

    fn draw_between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_nanos() as u64;
        low + Duration::from_nanos(self.draw() % (span + 1))
    }

    fn chance(&mut self, ppm: u64) -> bool {
        self.draw() % 1_000_000 < ppm
    }

    pub(super) fn schedule(&mut self, at: BootTime, arrival: Arrival) {
        self.sequence += 1;
        self.queue
            .insert((at.max(self.now), self.sequence), arrival);
    }

    pub(super) fn node(&mut self, name: &str) -> &mut NodeState {
        self.nodes.entry(name.to_owned()).or_default()
    }

    pub(super) fn note_asked(&mut self, who: &str, verb: &'static str, kind: Kind, part: Part) {
        let asked = Asked { verb, kind, part };
        self.asked.insert((who.to_owned(), asked));
    }

    pub(super) fn send_request(&mut self, node: &str, request: ApiRequest, answer: AnswerSender) {
        let (verb, kind, part) = match &request {
            ApiRequest::Get(key, _) => ("get", key.kind, Part::Main),
            ApiRequest::List(query) => ("list", query.selection.kind, Part::Main),
            ApiRequest::Create(object) => ("create", object.kind(), Part::Main),
            ApiRequest::Replace(object, part) => ("update", object.kind(), *part),
            ApiRequest::Delete(key, _) => ("delete", key.kind, Part::Main),
        };
        self.note_asked(node, verb, kind, part);
        let is_write = match &request {
            ApiRequest::Get(..) => {
                self.costs.gets += 1;
                false
            }
            ApiRequest::List(_) => {
                self.costs.lists += 1;
                false
            }
            _ => {
                self.costs.writes += 1;
                true
            }
        };
        let latency = self.draw_between(Duration::from_millis(2), Duration::from_millis(8));
        let arrives = self.now + latency;
        let pending = Pending {
            node: node.to_owned(),
            request,
        };
        let gives_up = self.now + GIVE_UP;
        let unknown = Err(ApiError::Unavailable(Applied::Unknown));
        if self.chance(self.faults.throttled_ppm) {
            let refused = Err(ApiError::TooManyRequests { retry_after: None });
            self.schedule(arrives, Arrival::Answer(answer, refused));
        } else if is_write && self.chance(self.faults.lost_request_ppm) {
            self.schedule(gives_up, Arrival::Answer(answer, unknown));
        } else if is_write && self.chance(self.faults.lost_reply_ppm) {
            let late = self.draw_between(Duration::ZERO, GIVE_UP * 3);
            self.schedule(arrives + late, Arrival::Commit(pending, None));
            self.schedule(gives_up, Arrival::Answer(answer, unknown));
        } else {
            self.schedule(arrives, Arrival::Commit(pending, Some(answer)));
        }
    }

    pub(super) fn open_watch(
        &mut self,
        query: WatchQuery,
        version: u64,
        sender: mpsc::UnboundedSender<WatchEvent>,
    ) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.watches.insert(
            id,
            OpenWatch {
                query,
                version,
                sender,
                scheduled: true,
            },
        );
        let at = self.now + WATCH_LATENCY;
        self.schedule(at, Arrival::Watch(id));
        id
    }

    pub(super) fn close_watch(&mut self, id: u64) {
        self.watches.remove(&id);
    }

    /// After each change: have every open watch look, a moment later.
    fn notify_watches(&mut self) {
        let at = self.now + WATCH_LATENCY;
        let idle: Vec<_> = self
            .watches
            .iter_mut()
            .filter(|(_, watch)| !watch.scheduled)
            .map(|(id, watch)| {
                watch.scheduled = true;
                *id
            })
            .collect();
        for id in idle {
            self.schedule(at, Arrival::Watch(id));
        }
    }

    fn deliver_watch(&mut self, id: u64) {
        let Some(watch) = self.watches.get_mut(&id) else {
            return;
        };
        watch.scheduled = false;
        let events = self.store.events_after(&watch.query, watch.version);
        watch.version = self.store.version();
        for (_, event) in events {
            if watch.sender.unbounded_send(event).is_err() {
                self.watches.remove(&id);
                return;
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival) -> Option<String> {
        match arrival {
            Arrival::Wake(sender) => drop(sender.send(())),
            Arrival::Commit(pending, answer) => {
                let before = self.store.version();
                let result = carry_out(self, &pending);
                if self.store.version() != before {
                    self.notify_watches();
                }
                tracing::trace!(node = pending.node, request = ?pending.request, "carried out");
                if let Some(answer) = answer {
                    let latency =
                        self.draw_between(Duration::from_millis(2), Duration::from_millis(8));
                    let at = self.now + latency;
                    self.schedule(at, Arrival::Answer(answer, result));
                }
            }
            Arrival::Answer(sender, result) => drop(sender.send(result)),
            Arrival::Watch(id) => self.deliver_watch(id),
            Arrival::StartSandbox(pod) => self.start_sandbox(&pod),
            Arrival::StopSandbox(pod) => self.stop_sandbox(&pod),
            Arrival::EndNamespace(node, path) => self.end_namespace(&node, &path),
            Arrival::StartAgent(node) => return Some(node),
        }
        None
    }

    fn push(&mut self, node: &str, event: InboxEvent) {
        let node = self.node(node);
        node.inbox.push_back(event);
        notify(&mut node.inbox_waiter);
    }

    fn agent_is_up(&mut self, node: &str) -> bool {
        self.node(node).inbox_waiter.is_some()
    }

    fn start_sandbox(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).cloned() else {
            return;
        };
        // A kubelet may start a Pod whose deletion it has not seen.
        if pod.sandbox.is_some() {
            return;
        }
        let again = self.now + Duration::from_secs(1);
        if !self.agent_is_up(&pod.node) {
            self.schedule(again, Arrival::StartSandbox(uid.to_owned()));
            return;
        }
        self.last_id += 1;
        let id = RequestId(self.last_id);
        let container = format!("{uid}-{}", self.last_id);
        let path = format!("/run/netns/{container}");
        let sandbox = Sandboxed {
            pod: uid.to_owned(),
            container: container.clone(),
            addresses: Vec::new(),
        };
        self.node(&pod.node)
            .namespaces
            .insert(path.clone(), sandbox);
        if let Some(state) = self.pods.get_mut(uid) {
            state.attempt += 1;
            state.adding = Some(id);
            state.sandbox = Some((container.clone(), path.clone()));
        }
        self.adds.insert(id, uid.to_owned());
        let add = AddRequest {
            attachment: Attachment {
                container,
                interface: "eth0".into(),
            },
            netns: path,
            pod: PodReference {
                namespace: "ns".into(),
                name: pod.name.clone(),
                uid: Some(Uid::new(uid)),
            },
            network: NETWORK.to_owned(),
            pools: Vec::new(),
            ips: Vec::new(),
        };
        let deadline = self.now + Duration::from_secs(20);
        let request = PluginRequest {
            id,
            deadline,
            verb: Verb::Add(add),
        };
        self.push(&pod.node, InboxEvent::Request(Box::new(request)));
    }

    fn stop_sandbox(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).cloned() else {
            return;
        };
        if let Some(id) = pod.adding {
            self.adds.remove(&id);
            self.push(&pod.node, InboxEvent::Closed(id));
        }
        let Some((container, path)) = pod.sandbox else {
            if pod.leaving {
                self.pods.remove(uid);
                self.remove_pod_object(&pod.name);
            }
            return;
        };
        self.del(&pod.node, &container, &path);
        // The runtime removes the namespace after the DEL; sometimes its link lives on a while.
        let slow = self.chance(200_000);
        let longest = if slow {
            Duration::from_secs(12)
        } else {
            Duration::from_millis(20)
        };
        let lives = self.draw_between(Duration::from_millis(1), longest);
        let at = self.now + lives;
        self.schedule(at, Arrival::EndNamespace(pod.node.clone(), path));
        if pod.leaving {
            self.pods.remove(uid);
            self.remove_pod_object(&pod.name);
        } else if let Some(state) = self.pods.get_mut(uid) {
            state.adding = None;
            state.sandbox = None;
            let again = self.now + Duration::from_secs(1);
            self.schedule(again, Arrival::StartSandbox(uid.to_owned()));
        }
    }

    fn del(&mut self, node: &str, container: &str, path: &str) {
        let attachment = Attachment {
            container: container.into(),
            interface: "eth0".into(),
        };
        let del = DelRequest {
            attachment,
            netns: path.to_owned(),
        };
        if self.agent_is_up(node) {
            self.last_id += 1;
            let id = RequestId(self.last_id);
            let deadline = self.now + Duration::from_secs(10);
            self.dels.insert(id, (node.to_owned(), del.clone()));
            let request = PluginRequest {
                id,
                deadline,
                verb: Verb::Del(del),
            };
            self.push(node, InboxEvent::Request(Box::new(request)));
        } else {
            self.spool(node, del);
        }
    }

    /// A DEL that meets no agent is left for the next one.
    fn spool(&mut self, node: &str, del: DelRequest) {
        let id = SpoolId(del.attachment.to_string());
        let node = self.node(node);
        if !node.spool.iter().any(|entry| entry.id == id) {
            node.spool.push(SpoolEntry {
                id,
                request: Some(del),
            });
        }
        // As a watch of the directory does.
        notify(&mut node.spool_waiter);
    }

    fn remove_pod_object(&mut self, name: &str) {
        let key = pod_key(name);
        if self.store.delete(&key, None).is_ok() {
            self.notify_watches();
        }
    }

    fn end_namespace(&mut self, node: &str, path: &str) {
        let node = self.node(node);
        node.namespaces.remove(path);
        notify(&mut node.namespace_waiter);
    }

    /// What plugins were told takes effect in their namespaces.
    fn take_replies(&mut self) {
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        for name in names {
            for (id, response) in std::mem::take(&mut self.node(&name).replies) {
                // From then on the DEL is the agent's to keep: its plugin leaves nothing in the spool.
                if response == Response::Done && self.dels.remove(&id).is_some() {
                    continue;
                }
                let Some(uid) = self.adds.remove(&id) else {
                    continue;
                };
                match response {
                    Response::Added(allocation) => {
                        let addresses: Vec<_> = allocation
                            .addresses
                            .iter()
                            .map(|a| a.address.addr())
                            .collect();
                        let Some(pod) = self.pods.get_mut(&uid) else {
                            continue;
                        };
                        pod.adding = None;
                        let Some((_, path)) = pod.sandbox.clone() else {
                            continue;
                        };
                        if let Some(sandbox) = self.node(&name).namespaces.get_mut(&path) {
                            sandbox.addresses = addresses;
                        }
                        self.check_uniqueness(&uid);
                    }
                    Response::Done | Response::Failed(_) => self.stop_sandbox(&uid),
                }
            }
        }
    }

    fn check_uniqueness(&mut self, uid: &str) {
        let mut owners: BTreeMap<IpAddr, String> = BTreeMap::new();
        for node in self.nodes.values() {
            for sandbox in node.namespaces.values() {
                for address in &sandbox.addresses {
                    let before = owners.insert(*address, sandbox.pod.clone());
                    if let Some(before) = before.filter(|before| *before != sandbox.pod)
                        && (before == uid || sandbox.pod == uid)
                    {
                        self.violations.push(Violation {
                            at: self.now,
                            address: *address,
                            pods: [before, sandbox.pod.clone()],
                        });
                    }
                }
            }
        }
    }
}

fn notify(waiter: Wait<'_>) {
    if let Some(waiter) = waiter.take() {
        let _ = waiter.send(());
    }
}

fn pod_key(name: &str) -> ObjectKey {
    ObjectKey {
        kind: Kind::Pod,
        namespace: "ns".into(),
        name: name.to_owned(),
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Running {
    future: BoxFuture<'static, ()>,
    flag: Arc<Flag>,
}

/// The fake world with its agents. Runs on the caller's thread, as fast as it can.
pub struct World {
    shared: Shared,
    agents: BTreeMap<String, Running>,
    configure: fn(&mut AgentConfig),
}

impl World {
    /// An empty world.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let inner = Inner {
            now: BootTime::from_nanos(1_000_000_000),
            sequence: 0,
            queue: BTreeMap::new(),
            store: Store::default(),
            nodes: BTreeMap::new(),
            rng: mix(seed, 1),
            faults,
            costs: Costs::default(),
            asked: BTreeSet::new(),
            watches: BTreeMap::new(),
            pods: BTreeMap::new(),
            adds: BTreeMap::new(),
            dels: BTreeMap::new(),
            violations: Vec::new(),
            last_id: 0,
        };
        Self {
            shared: Arc::new(Mutex::new(inner)),
            agents: BTreeMap::new(),
            configure: |_| {},
        }
    }

    /// Changes the configuration of agents started from now on.
    pub fn configure(&mut self, configure: fn(&mut AgentConfig)) {
        self.configure = configure;
    }

    /// Runs `f` on the state.
    pub fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut lock(&self.shared))
    }

    /// The time.
    pub fn now(&self) -> BootTime {
        self.with(|inner| inner.now)
    }

    /// Creates an approved default pool.
    pub fn add_pool(&mut self, name: &str, families: &[&[&str]], block_size: Option<u16>) {
        let mut object = AddressPool {
            metadata: Metadata {
                name: name.to_owned(),
                ..Metadata::default()
            },
            ..AddressPool::default()
        };
        object.spec.is_default = true;
        object.spec.block_size = block_size;
        object.spec.families = families
            .iter()
            .map(|ranges| FamilySpec {
                ranges: ranges.iter().map(ToString::to_string).collect(),
                ..FamilySpec::default()
            })
            .collect();
        self.with(|inner| {
            let size = Pool::parse(&object, None)
                .expect("the pool is valid")
                .block_size;
            let metadata = inner
                .store
                .create(object.clone().into())
                .expect("the name is free");
            object.metadata = metadata;
            object.status.approved =
                approval(&fingerprint(&object.metadata.uid, &object.spec), size);
            inner
                .store
                .replace(object.into(), Part::Status)
                .expect("it was just created");
            inner.notify_watches();
        });
    }

    /// Creates a node and starts its agent.
    pub fn add_node(&mut self, name: &str) {
        self.with(|inner| {
            let node = Node {
                metadata: Metadata {
                    name: name.to_owned(),
                    ..Metadata::default()
                },
                ..Node::default()
            };
            inner.store.create(node.into()).expect("the name is free");
            inner.node(name).machine = format!("machine-{name}");
        });
        self.start_agent(name);
    }

    /// Starts another machine, called `key` here, under the name of a node that exists.
    pub fn add_machine(&mut self, key: &str, node_name: &str) {
        self.with(|inner| {
            let node = inner.node(key);
            node.machine = format!("machine-{key}");
            node.node_name = Some(node_name.to_owned());
        });
        self.start_agent(key);
    }

    /// Starts the agent of a node.
    pub fn start_agent(&mut self, name: &str) {
        let (config, incarnation) = self.with(|inner| {
            let node = inner.node(name);
            node.incarnation += 1;
            let boot = format!("boot-{}-{}", node.machine, node.boot);
            let node_name = node.node_name.clone().unwrap_or_else(|| name.to_owned());
            (
                AgentConfig::new(&node_name, &node.machine, &boot),
                node.incarnation,
            )
        });
        let mut config = config;
        NETWORK.clone_into(&mut config.default_network);
        (self.configure)(&mut config);
        let ports = NodePorts {
            shared: self.shared.clone(),
            name: name.to_owned(),
            incarnation,
        };
        let agent = Agent::new(config);
        let future = Box::pin(async move { run_agent(agent, &ports).await });
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.agents
            .insert(name.to_owned(), Running { future, flag });
        self.poll_agents();
    }

    /// Starts a controller.
    pub fn start_controller(&mut self, identity: &str) {
        self.start_controller_with(ControllerConfig::new(identity));
    }

    /// Starts a controller with that configuration.
    pub fn start_controller_with(&mut self, config: ControllerConfig) {
        let identity = config.identity.clone();
        let shared = self.shared.clone();
        let ports = NodePorts {
            shared,
            name: identity.clone(),
            incarnation: 0,
        };
        let controller = Controller::new(config);
        let future = Box::pin(async move { run_controller(controller, &ports).await });
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.agents
            .insert(format!("controller {identity}"), Running { future, flag });
        self.poll_agents();
    }

    /// Kills a controller.
    pub fn kill_controller(&mut self, identity: &str) {
        drop(self.agents.remove(&format!("controller {identity}")));
    }

    /// Kills the agent of a node; what it has in flight may still be carried out. Plugins that wait
    /// for it see their socket close.
    pub fn kill_agent(&mut self, name: &str) {
        drop(self.agents.remove(name));
        self.with(|inner| {
            let node = inner.node(name);
            node.incarnation += 1;
            node.inbox_waiter = None;
            node.inbox.clear();
            node.replies.clear();
            let waiting: Vec<String> = inner
                .pods
                .iter()
                .filter(|(_, pod)| pod.node == name && pod.adding.is_some())
                .map(|(uid, _)| uid.clone())
                .collect();
            for uid in waiting {
                inner.stop_sandbox(&uid);
            }
            let unanswered: Vec<_> = inner
                .dels
                .iter()
                .filter(|(_, (node, _))| node == name)
                .map(|(id, (_, del))| (*id, del.clone()))
                .collect();
            for (id, del) in unanswered {
                inner.dels.remove(&id);
                inner.spool(name, del);
            }
        });
    }

    /// Starts the agent again after a while.
    pub fn start_agent_after(&mut self, name: &str, pause: Duration) {
        self.with(|inner| {
            let at = inner.now + pause;
            inner.schedule(at, Arrival::StartAgent(name.to_owned()));
        });
    }

    /// Reboots a node: all namespaces end, the Pods start again.
    pub fn reboot(&mut self, name: &str) {
        self.kill_agent(name);
        self.with(|inner| {
            inner.node(name).namespaces.clear();
            inner.node(name).boot += 1;
            let here: Vec<String> = inner
                .pods
                .iter()
                .filter(|(_, pod)| pod.node == name)
                .map(|(uid, _)| uid.clone())
                .collect();
            for uid in here {
                if let Some(pod) = inner.pods.get_mut(&uid) {
                    pod.sandbox = None;
                    pod.adding = None;
                }
                let at = inner.now + Duration::from_secs(2);
                inner.schedule(at, Arrival::StartSandbox(uid));
            }
        });
    }

    /// Creates a Pod that is bound to a node.
    pub fn create_pod(&mut self, plan: PodPlan<'_>) {
        let uid = format!("pod-{}", plan.name);
        self.with(|inner| {
            let mut pod = Pod::default();
            plan.name.clone_into(&mut pod.metadata.name);
            pod.metadata.namespace = "ns".into();
            pod.metadata.uid = Uid::new(&uid);
            plan.node.clone_into(&mut pod.spec.node_name);
            pod.status.phase = "Pending".into();
            inner.store.create(pod.into()).expect("the name is free");
            inner.notify_watches();
            let kubelet = Kubelet {
                node: plan.node.to_owned(),
                name: plan.name.to_owned(),
                attempt: 0,
                adding: None,
                sandbox: None,
                leaving: false,
            };
            inner.pods.insert(uid.clone(), kubelet);
            let at = inner.now + plan.sandbox_after;
            inner.schedule(at, Arrival::StartSandbox(uid));
        });
    }

    /// Deletes a Pod; `grace` later its sandbox is stopped. With `force` the object goes at once.
    pub fn delete_pod(&mut self, name: &str, grace: Duration, force: bool) {
        let uid = format!("pod-{name}");
        self.with(|inner| {
            let Some(pod) = inner.pods.get_mut(&uid) else {
                return;
            };
            pod.leaving = true;
            if force {
                inner.remove_pod_object(name);
            } else {
                inner.store.mark_deleted(&pod_key(name));
                inner.notify_watches();
            }
            let at = inner.now + grace;
            inner.schedule(at, Arrival::StopSandbox(uid));
        });
    }

    /// Lets everything happen until `until`.
    pub fn run_until(&mut self, until: BootTime) {
        self.poll_agents();
        loop {
            let next = self.with(|inner| {
                let (&(at, _), _) = inner.queue.first_key_value()?;
                if at > until {
                    return None;
                }
                inner.now = inner.now.max(at);
                let (_, arrival) = inner.queue.pop_first()?;
                Some(inner.arrive(arrival))
            });
            match next {
                None => break,
                Some(Some(node)) if !self.agents.contains_key(&node) => self.start_agent(&node),
                Some(_) => {}
            }
            self.poll_agents();
        }
        self.with(|inner| inner.now = inner.now.max(until));
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now() + time;
        self.run_until(until);
    }

    fn poll_agents(&mut self) {
        loop {
            let mut polled = false;
            let mut ended = Vec::new();
            for (name, agent) in &mut self.agents {
                if agent.flag.0.swap(false, Ordering::Relaxed) {
                    polled = true;
                    let waker = Waker::from(agent.flag.clone());
                    let mut context = Context::from_waker(&waker);
                    if agent.future.as_mut().poll(&mut context) == Poll::Ready(()) {
                        ended.push(name.clone());
                    }
                }
            }
            for name in ended {
                self.agents.remove(&name);
            }
            self.with(Inner::take_replies);
            if !polled {
                return;
            }
        }
    }
}
