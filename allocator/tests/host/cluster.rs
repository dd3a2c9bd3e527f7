//! An apiserver and a runtime in memory, and an agent over them with the host's real adapters.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use berth::adapters::cri::CriSandboxes;
use berth::adapters::events::{EventApi, EventSink, Regarding, Reporter};
use berth::adapters::metrics::Metrics;
use berth::adapters::node::{HostObserver, HostPaths, HostPorts};
use berth::core::agent::{Agent, AgentConfig, Policy};
use berth::core::api::{
    ApiError, Consistency, ListPage, ListQuery, Part, Preconditions, WatchEvent, WatchQuery,
};
use berth::core::objects::{
    AddressPool, AddressPoolSpec, AddressReservation, FamilySpec, Kind, Metadata, Namespace, Node,
    Object, ObjectKey, Pod,
};
use berth::core::pool::{approval, fingerprint};
use berth::ports::{ApiServer, Watch};
use berth::shell::run_agent;
use berth::testing::Store;
use serde_json::Value;
use tokio::sync::watch;

use crate::runtime::FakeRuntime;

/// The apiserver.
#[derive(Clone)]
pub(crate) struct MemoryApi {
    store: Arc<Mutex<Store>>,
    changed: watch::Sender<u64>,
}

impl MemoryApi {
    /// A cluster with one node and one pool, `10.9.0.0/24` and `fd09::/64`.
    pub(crate) fn new() -> Self {
        let api = Self {
            store: Arc::default(),
            changed: watch::Sender::new(0),
        };
        let named = |name: &str| Metadata {
            name: name.to_owned(),
            ..Metadata::default()
        };
        let node = Node {
            metadata: named("n1"),
            ..Node::default()
        };
        let mut pool = AddressPool {
            metadata: named("pool"),
            ..AddressPool::default()
        };
        pool.spec.is_default = true;
        pool.spec.block_size = Some(64);
        pool.spec.families = ["10.9.0.0/24", "fd09::/64"]
            .map(|subnet| FamilySpec {
                ranges: vec![subnet.to_owned()],
                gateway: "10.9.0.1".parse().ok().filter(|_| subnet.contains('.')),
                ..FamilySpec::default()
            })
            .into();
        let namespace = Namespace {
            metadata: named("ns"),
        };
        api.with(|store| {
            store.create(node.into()).unwrap();
            store.create(namespace.into()).unwrap();
            pool.metadata = store.create(pool.clone().into()).unwrap();
            pool.status.approved = approval(&fingerprint(&pool.metadata.uid, &pool.spec), 64);
            store.replace(pool.into(), Part::Status).unwrap();
        });
        api
    }

    /// A Pod bound to the node; its UID.
    pub(crate) fn add_pod(&self, name: &str) -> String {
        let mut pod = Pod::default();
        pod.metadata.name = name.into();
        pod.metadata.namespace = "ns".into();
        pod.spec.node_name = "n1".into();
        pod.status.phase = "Pending".into();
        self.with(|store| store.create(pod.into()))
            .unwrap()
            .uid
            .as_str()
            .to_owned()
    }

    /// A Pod's owner annotates it.
    pub(crate) fn annotate_pod(&self, name: &str, annotation: &str, value: &str) {
        let key = ObjectKey {
            kind: Kind::Pod,
            namespace: "ns".to_owned(),
            name: name.to_owned(),
        };
        self.with(|store| {
            let Object::Pod(mut pod) = store.get(&key).unwrap() else {
                panic!("a Pod")
            };
            let annotations = &mut pod.metadata.annotations;
            annotations.insert(annotation.to_owned(), value.to_owned());
            store.replace(Object::Pod(pod), Part::Main).unwrap();
        });
    }

    /// One more pool, approved, that nobody gets by default.
    pub(crate) fn add_pool(&self, name: &str, families: Vec<FamilySpec>) {
        let spec = AddressPoolSpec {
            block_size: Some(64),
            families,
            ..AddressPoolSpec::default()
        };
        self.add_pool_of(name, spec);
    }

    /// The same with rules of its own.
    pub(crate) fn add_pool_of(&self, name: &str, spec: AddressPoolSpec) {
        let mut pool = AddressPool {
            spec,
            ..AddressPool::default()
        };
        name.clone_into(&mut pool.metadata.name);
        self.with(|store| {
            pool.metadata = store.create(pool.clone().into()).unwrap();
            pool.status.approved = approval(&fingerprint(&pool.metadata.uid, &pool.spec), 64);
            store.replace(pool.into(), Part::Status).unwrap();
        });
    }

    /// An administrator keeps an address of the pool for a Pod.
    pub(crate) fn reserve(&self, name: &str, address: &str, pod: &str) {
        let mut kept = AddressReservation::default();
        name.clone_into(&mut kept.metadata.name);
        "pool".clone_into(&mut kept.spec.pool);
        kept.spec.address = address.parse().ok();
        (kept.spec.pod_namespace, kept.spec.pod_name) = ("ns".to_owned(), pod.to_owned());
        self.with(|store| store.create(kept.into())).unwrap();
    }

    /// The Pod's object is gone.
    pub(crate) fn remove_pod(&self, name: &str) {
        let key = ObjectKey {
            kind: Kind::Pod,
            namespace: "ns".to_owned(),
            name: name.to_owned(),
        };
        self.with(|store| store.delete(&key, None)).unwrap();
    }

    /// All records of all blocks.
    pub(crate) fn records(&self) -> String {
        let store = self.lock();
        let blocks = store
            .of_kind(Kind::AddressBlock)
            .map(|object| match object {
                Object::AddressBlock(block) => block.spec.records.clone(),
                _ => String::new(),
            });
        blocks.collect()
    }

    /// What the machine's object says of lost parts: the condition's reason, or nothing.
    pub(crate) fn part_lost(&self) -> String {
        let store = self.lock();
        let mut machines = store.of_kind(Kind::BerthNode);
        let Some(Object::BerthNode(machine)) = machines.next() else {
            return String::new();
        };
        let mut conditions = machine.spec.conditions.iter();
        let lost = conditions.find(|condition| condition.kind == "PartLost");
        lost.map_or_else(String::new, |condition| condition.reason.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    fn with<T>(&self, f: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.lock();
        let result = f(&mut store);
        self.changed.send_replace(store.version());
        result
    }
}

impl ApiServer for MemoryApi {
    type Watch = MemoryWatch;

    async fn get(&self, key: &ObjectKey, _: Consistency) -> Result<Object, ApiError> {
        self.lock().get(key)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, ApiError> {
        self.lock().list(query)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<MemoryWatch, ApiError> {
        Ok(MemoryWatch {
            api: self.clone(),
            changed: self.changed.subscribe(),
            seen: query.resource_version.parse().unwrap(),
            query: query.clone(),
        })
    }

    async fn create(&self, object: Object) -> Result<Metadata, ApiError> {
        self.with(|store| store.create(object))
    }

    async fn replace(&self, object: Object, part: Part) -> Result<Metadata, ApiError> {
        self.with(|store| store.replace(object, part))
    }

    async fn delete(&self, key: &ObjectKey, guard: &Preconditions) -> Result<(), ApiError> {
        self.with(|store| store.delete(key, Some(guard)))
    }
}

pub(crate) struct MemoryWatch {
    api: MemoryApi,
    query: WatchQuery,
    seen: u64,
    changed: watch::Receiver<u64>,
}

impl Watch for MemoryWatch {
    async fn next(&mut self) -> WatchEvent {
        loop {
            let events = self.api.lock().events_after(&self.query, self.seen);
            if let Some((version, event)) = events.into_iter().next() {
                self.seen = version;
                return event;
            }
            if self.changed.changed().await.is_err() {
                return WatchEvent::Closed;
            }
        }
    }
}

/// The Events that were posted.
#[derive(Clone, Default)]
pub(crate) struct Posted(pub Arc<Mutex<Vec<Value>>>);

impl EventApi for Posted {
    async fn post(&self, _namespace: &str, event: Value) -> Result<(), ApiError> {
        self.0.lock().unwrap().push(event);
        Ok(())
    }
}

/// One node: its directories, and its agent while there is one.
pub(crate) struct Host {
    pub api: MemoryApi,
    pub runtime: FakeRuntime,
    pub policy: Policy,
    pub look_pause: Duration,
    /// The node's default network; empty: nothing is reserved before an ADD.
    pub default_network: String,
    directory: tempfile::TempDir,
    agent: Option<(tokio::runtime::Runtime, Arc<HostPorts<MemoryApi>>)>,
}

impl Host {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("netns")).unwrap();
        Self {
            api: MemoryApi::new(),
            policy: Policy::STANDARD,
            look_pause: Duration::from_secs(10),
            default_network: String::new(),
            runtime: FakeRuntime::started(&directory.path().join("runtime/cri.sock")),
            directory,
            agent: None,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the agent, as `berthd agent` does.
    pub(crate) fn start_agent(&mut self) {
        self.start(HostObserver::default);
    }

    /// The same, with metrics and Events.
    pub(crate) fn start_watched_agent(&mut self) -> (Arc<Metrics>, Posted) {
        let (metrics, posted) = (Arc::new(Metrics::for_agent()), Posted::default());
        let observer = || {
            let reporter = Reporter {
                controller: "berth.dev/agent",
                instance: "n1".to_owned(),
            };
            let sink = EventSink::new(posted.clone(), reporter, metrics.clone());
            let node = Regarding {
                api_version: "v1",
                kind: "Node",
                namespace: String::new(),
                name: "n1".to_owned(),
                uid: String::new(),
            };
            HostObserver::new(metrics.clone(), sink, node)
        };
        self.start(observer);
        (metrics, posted)
    }

    fn start(&mut self, observer: impl FnOnce() -> HostObserver) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let paths = self.paths();
        let ports = {
            let _within = runtime.enter();
            let sandboxes = CriSandboxes::new(&self.path("runtime/cri.sock")).unwrap();
            let things = (self.api.clone(), sandboxes);
            let opening = HostPorts::take_over(&paths, things, observer(), || {});
            let ports = runtime.block_on(opening).unwrap();
            Arc::new(ports.keeping(Vec::new(), self.look_pause))
        };
        let running = ports.clone();
        let mut config = AgentConfig::new("n1", "machine-1", "boot-1");
        config.policy.clone_from(&self.policy);
        config.default_network.clone_from(&self.default_network);
        runtime.spawn(async move { run_agent(Agent::new(config), &*running).await });
        self.agent = Some((runtime, ports));
    }

    fn paths(&self) -> HostPaths {
        HostPaths {
            socket: self.path("run/agent.sock"),
            journal: self.path("state/journal"),
            spool: self.path("spool"),
            namespaces: vec![self.path("netns")],
            allowed_uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// Stops the agent, as SIGTERM does.
    pub(crate) fn stop_agent(&mut self) {
        let (runtime, ports) = self.agent.take().unwrap();
        runtime.block_on(ports.socket().drain(Duration::from_secs(1)));
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}
