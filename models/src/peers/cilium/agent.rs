//! One cilium-agent: what it keeps, and what it does inside `PUT /endpoint` and `DELETE /endpoint`:
//! limiter, identity, build permit, template, regeneration, load; the CiliumEndpoint follows later.
//! Source: cilium daemon/cmd/endpoint.go (createEndpoint, EndpointDeleted), pkg/endpoint/events.go,
//! pkg/datapath/loader/cache.go, pkg/allocator/allocator.go, pkg/k8s/identitybackend/identity.go,
//! pkg/endpointmanager/endpointsynchronizer.go.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::Stream;

use crate::cni::{IpamCall, IpamStage};
use crate::ids::{ClientId, ContainerId, NodeIndex, PodUid};
use crate::objects::Pod;
use crate::process::queueing::Semaphore;
use crate::process::{CallError, NewProcess, Port, ProcessId};
use crate::request::{Answer, ApiError, Consistency, Custom, CustomKind, Request, Shape};

use super::Counters;
use super::limiter::{Limiter, Settings};
use super::parameters::CiliumParameters;
use super::pod_cidr::HostScope;

pub(super) const IDENTITIES: CustomKind = CustomKind {
    resource: "ciliumidentities",
    shape: Shape::Flat,
};
pub(super) const ENDPOINTS: CustomKind = CustomKind {
    resource: "ciliumendpoints",
    shape: Shape::Flat,
};

/// Numbers of identities that are not reserved.
const IDENTITY_NUMBERS: std::ops::RangeInclusive<u64> = 256..=65_535;
/// Looks at the informer for a Pod that it does not have yet, and the pause between them.
const POD_LOOKS: u32 = 20;
const POD_PAUSE: Duration = Duration::from_millis(100);

/// An endpoint as the agent knows it.
#[derive(Default)]
struct Endpoint {
    /// Namespace and name of its Pod.
    name: Rc<str>,
    /// The request that still makes it.
    making: Option<ProcessId>,
    /// Its CiliumEndpoint controller.
    syncing: Option<ProcessId>,
    labels: Option<Rc<str>>,
    /// A CiliumEndpoint was stored.
    stored: bool,
}

/// One agent.
pub(super) struct Agent {
    pub(super) node: NodeIndex,
    pub(super) name: Rc<str>,
    pub(super) parameters: Rc<CiliumParameters>,
    pub(super) counters: Rc<Cell<Counters>>,
    pub(super) client: ClientId,
    /// Its socket answers.
    pub(super) serving: Cell<bool>,
    pub(super) scopes: RefCell<Vec<HostScope>>,
    /// Its informers: Pods of the node, identities of the cluster by labels.
    pub(super) pods: RefCell<BTreeMap<PodUid, Rc<Pod>>>,
    pub(super) identities: RefCell<BTreeMap<Rc<str>, Rc<str>>>,
    pub(super) create: Limiter,
    delete: Limiter,
    builds: Semaphore,
    load: Semaphore,
    template: Semaphore,
    compiled: Cell<bool>,
    /// Endpoints of the node that use an identity.
    references: RefCell<BTreeMap<Rc<str>, u32>>,
    endpoints: RefCell<BTreeMap<ContainerId, Endpoint>>,
    /// Timers of addresses that no endpoint has yet.
    expiring: RefCell<BTreeMap<ContainerId, ProcessId>>,
    numbers: RefCell<Stream>,
}

/// Limits of `PUT /endpoint/{id}`.
pub(super) fn create_settings(parameters: &CiliumParameters) -> Settings {
    Settings {
        estimate: parameters.create_estimate,
        milli_per_s: Some(parameters.create_rate.milli_per_s),
        burst: parameters.create_burst,
        parallel: parameters.create_parallel,
        parallel_min: parameters.create_parallel_min,
        skip: parameters.create_skip,
        wait_max: Some(parameters.create_wait),
        auto_adjust: parameters.auto_adjust,
        mean_over: parameters.mean_over,
        delayed_percent: parameters.delayed_percent,
        factor_max: parameters.factor_max,
    }
}

fn delete_settings(parameters: &CiliumParameters) -> Settings {
    Settings {
        estimate: parameters.delete_estimate,
        milli_per_s: None,
        parallel: parameters.delete_parallel,
        parallel_min: parameters.delete_parallel,
        skip: 0,
        wait_max: None,
        ..create_settings(parameters)
    }
}

impl Agent {
    #[expect(clippy::too_many_arguments, reason = "what an agent is started with")]
    pub(super) fn new(
        node: NodeIndex,
        name: Rc<str>,
        parameters: Rc<CiliumParameters>,
        counters: Rc<Cell<Counters>>,
        client: ClientId,
        scopes: Vec<HostScope>,
        cores: u64,
        numbers: Stream,
    ) -> Self {
        Self {
            node,
            name,
            client,
            counters,
            serving: Cell::new(true),
            scopes: RefCell::new(scopes),
            pods: RefCell::default(),
            identities: RefCell::default(),
            create: Limiter::new(create_settings(&parameters)),
            delete: Limiter::new(delete_settings(&parameters)),
            builds: Semaphore::new(cores.max(2)),
            load: Semaphore::new(1),
            template: Semaphore::new(1),
            compiled: Cell::new(false),
            references: RefCell::default(),
            endpoints: RefCell::default(),
            expiring: RefCell::default(),
            numbers: RefCell::new(numbers),
            parameters,
        }
    }

    /// Its machine lost power: the state directory, too, was memory.
    pub(super) fn forget(&self) {
        for scope in self.scopes.borrow_mut().iter_mut() {
            scope.clear();
        }
        self.endpoints.borrow_mut().clear();
        self.expiring.borrow_mut().clear();
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        add(&mut counters);
        self.counters.set(counters);
    }

    /// `POST /ipam`: an address of each family, all in memory, with a timer that frees them if no
    /// endpoint comes.
    pub(super) fn allocate(
        self: &Rc<Self>,
        container: ContainerId,
        port: &Port,
    ) -> Option<Vec<IpAddr>> {
        let addresses: Option<Vec<IpAddr>> = (self.scopes.borrow_mut().iter_mut())
            .map(|scope| scope.allocate(container))
            .collect();
        if addresses.is_none() {
            self.release(container);
            return None;
        }
        let agent = self.clone();
        let timer = port.spawn(NewProcess {
            node: self.node,
            call: None,
            client: None,
            script: Box::new(move |port| {
                Box::pin(async move {
                    port.sleep(agent.parameters.ip_expiration).await;
                    agent.expiring.borrow_mut().remove(&container);
                    agent.release(container);
                    agent.count(|counters| counters.expired += 1);
                })
            }),
        });
        if let Some(old) = self.expiring.borrow_mut().insert(container, timer) {
            port.kill(old);
        }
        addresses
    }

    /// `DELETE /ipam`: free at once.
    pub(super) fn free(&self, container: ContainerId, port: &Port) {
        if let Some(timer) = self.expiring.borrow_mut().remove(&container) {
            port.kill(timer);
        }
        self.release(container);
    }

    fn release(&self, container: ContainerId) {
        for scope in self.scopes.borrow_mut().iter_mut() {
            scope.release(container);
        }
    }

    /// `PUT /endpoint/{id}` with SyncBuildEndpoint. Its processing time is what the limiter
    /// measures. Errors: 429.
    pub(super) async fn create(
        self: &Rc<Self>,
        port: &Port,
        call: &IpamCall,
    ) -> Result<(), String> {
        port.stage(IpamStage::Queue);
        let Ok(pass) = self.create.wait(port).await else {
            self.count(|counters| counters.rejected += 1);
            return Err("429: endpoint-create is rate limited".to_owned());
        };
        let container = call.container;
        let endpoint = Endpoint {
            making: Some(port.id),
            name: format!("{}/{}", call.pod_namespace, call.pod_name).into(),
            ..Endpoint::default()
        };
        self.endpoints.borrow_mut().insert(container, endpoint);
        let labels = self.labels(port, call).await;
        if let Err(error) = self.identity(port, &labels).await {
            self.endpoints.borrow_mut().remove(&container);
            return Err(format!("unable to resolve identity: {error:?}"));
        }
        if let Some(endpoint) = self.endpoints.borrow_mut().get_mut(&container) {
            endpoint.labels = Some(labels);
        }
        self.build(port).await;
        // The address now belongs to the endpoint.
        if let Some(timer) = self.expiring.borrow_mut().remove(&container) {
            port.kill(timer);
        }
        let took = pass.finish(port.now());
        self.count(|counters| {
            counters.builds += 1;
            counters.build_ms += took.as_millis() as u64;
        });
        let agent = self.clone();
        let syncing = port.spawn(NewProcess {
            node: self.node,
            call: None,
            client: None,
            script: Box::new(move |port| Box::pin(agent.sync_endpoint(port, container))),
        });
        if let Some(endpoint) = self.endpoints.borrow_mut().get_mut(&container) {
            endpoint.making = None;
            endpoint.syncing = Some(syncing);
        }
        Ok(())
    }

    /// Identity labels of a Pod, from the informer; without them after 2 s if it has no such Pod.
    async fn labels(&self, port: &Port, call: &IpamCall) -> Rc<str> {
        for _ in 0..POD_LOOKS {
            let pod = self.pods.borrow().get(&call.pod).cloned();
            if let Some(pod) = pod {
                let labels: Vec<String> = (pod.labels.iter())
                    .filter(|(key, _)| &**key != "pod-template-hash")
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                return format!("{};{}", pod.namespace, labels.join(";")).into();
            }
            port.stage(IpamStage::Backoff);
            port.sleep(POD_PAUSE).await;
        }
        "reserved:init".into()
    }

    /// A reference in the agent, then its cache, then a new CiliumIdentity. The lock of this
    /// backend does nothing, so two agents may make two for one set of labels.
    async fn identity(&self, port: &Port, labels: &Rc<str>) -> Result<(), CallError> {
        let mut pause = self.parameters.identity_pause;
        for _ in 0..self.parameters.identity_tries {
            let known = self.references.borrow().contains_key(labels)
                || self.identities.borrow().contains_key(labels);
            if known {
                *self
                    .references
                    .borrow_mut()
                    .entry(labels.clone())
                    .or_insert(0) += 1;
                return Ok(());
            }
            let number = self.numbers.borrow_mut().between(IDENTITY_NUMBERS);
            let new = Custom {
                body: labels.clone(),
                ..custom(IDENTITIES, &number.to_string().into())
            };
            port.stage(IpamStage::Api);
            let created = port
                .call_as(self.client, Request::Create(Rc::new(new)))
                .await;
            if created.is_ok() {
                self.count(|counters| counters.identities += 1);
                *self
                    .references
                    .borrow_mut()
                    .entry(labels.clone())
                    .or_insert(0) += 1;
                return Ok(());
            }
            port.stage(IpamStage::Backoff);
            port.sleep(pause).await;
            pause *= 2;
        }
        Err(CallError::Api(ApiError::Conflict))
    }

    /// Regeneration: a permit, the template if nobody compiled it yet, policy and maps, the load.
    async fn build(&self, port: &Port) {
        port.stage(IpamStage::Queue);
        let _permit = self.builds.acquire(port, 1).await;
        if !self.compiled.get() {
            let _template = self.template.acquire(port, 1).await;
            if !self.compiled.get() {
                port.stage(IpamStage::DataPlane);
                port.cpu(self.parameters.cpu_compile).await;
                self.compiled.set(true);
            }
        }
        port.stage(IpamStage::DataPlane);
        port.cpu(self.parameters.cpu_regenerate).await;
        if self.parameters.load_serial {
            port.stage(IpamStage::Lock);
            let _kernel = self.load.acquire(port, 1).await;
            port.stage(IpamStage::DataPlane);
            port.cpu(self.parameters.cpu_load).await;
        } else {
            port.cpu(self.parameters.cpu_load).await;
        }
    }

    /// A request that was canceled while it made an endpoint leaves none behind.
    pub(super) fn abandon(&self, container: ContainerId, maker: ProcessId) {
        let mut endpoints = self.endpoints.borrow_mut();
        if endpoints
            .get(&container)
            .is_some_and(|endpoint| endpoint.making == Some(maker))
        {
            let endpoint = endpoints.remove(&container);
            drop(endpoints);
            self.dereference(endpoint.and_then(|endpoint| endpoint.labels));
        }
    }

    fn dereference(&self, labels: Option<Rc<str>>) {
        let Some(labels) = labels else { return };
        let mut references = self.references.borrow_mut();
        if let Some(count) = references.get_mut(&labels) {
            *count -= 1;
            if *count == 0 {
                references.remove(&labels);
            }
        }
    }

    /// The CiliumEndpoint controller: look, write, and later write what changed.
    async fn sync_endpoint(self: Rc<Self>, port: Port, container: ContainerId) {
        let name = (self.endpoints.borrow().get(&container)).map(|endpoint| endpoint.name.clone());
        let Some(name) = name else { return };
        let endpoint = Rc::new(Custom {
            body: container.text().into(),
            ..custom(ENDPOINTS, &name)
        });
        loop {
            let get = Request::Get {
                kind: ENDPOINTS,
                name: name.clone(),
                consistency: Consistency::Cache,
            };
            let write = match port.call_as(self.client, get).await {
                Ok(Answer::Custom(_)) => replace(&endpoint),
                _ => Request::Create(endpoint.clone()),
            };
            if port.call_as(self.client, write).await.is_ok() {
                break;
            }
            port.sleep(self.parameters.endpoint_sync).await;
        }
        if let Some(endpoint) = self.endpoints.borrow_mut().get_mut(&container) {
            endpoint.stored = true;
        }
        for patch in 0..self.parameters.endpoint_patches {
            port.sleep(self.parameters.endpoint_sync).await;
            let changed = Rc::new(Custom {
                body: format!("{} {patch}", container.text()).into(),
                ..Custom::clone(&endpoint)
            });
            let _ = port.call_as(self.client, replace(&changed)).await;
        }
    }

    /// `DELETE /endpoint`: whatever the container has here goes; that it has nothing is success.
    pub(super) async fn delete(self: &Rc<Self>, port: &Port, call: &IpamCall) {
        let Ok(pass) = self.delete.wait(port).await else {
            return;
        };
        let endpoint = self.endpoints.borrow_mut().remove(&call.container);
        let Some(endpoint) = endpoint else {
            return;
        };
        for process in [endpoint.making, endpoint.syncing].into_iter().flatten() {
            port.kill(process);
        }
        port.cpu(self.parameters.cpu_unload).await;
        if let Some(netns) = call.netns {
            port.link_down(netns);
        }
        self.free(call.container, port);
        self.dereference(endpoint.labels);
        pass.finish(port.now());
        if endpoint.stored {
            let (agent, name) = (self.clone(), endpoint.name);
            port.spawn(NewProcess {
                node: self.node,
                call: None,
                client: None,
                script: Box::new(move |port| {
                    Box::pin(async move {
                        let delete = Request::Delete {
                            kind: ENDPOINTS,
                            name,
                            uid: None,
                            resource_version: None,
                        };
                        let _ = port.call_as(agent.client, delete).await;
                    })
                }),
            });
        }
    }
}

/// A patch of a CiliumEndpoint costs what a write of a flat object costs.
fn replace(object: &Rc<Custom>) -> Request {
    Request::MergePatch {
        object: object.clone(),
    }
}

fn custom(kind: CustomKind, name: &Rc<str>) -> Custom {
    Custom {
        kind,
        name: name.clone(),
        uid: 0,
        resource_version: 0,
        labels: Vec::new(),
        finalizers: Vec::new(),
        deleting: false,
        annotations: Vec::new(),
        status: None,
        body: "".into(),
        record_count: 1,
    }
}
