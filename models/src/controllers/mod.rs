//! kube-controller-manager: one process on one master at a time, with a work queue, a client and a
//! limiter per controller. The scheduler is in [`scheduler`].
//!
//! Modeled: [`deployment`], [`replica_set`], [`stateful_set`], [`job`], the node lifecycle
//! controller ([`node_lifecycle`]), and the outcome of leader election: the Lease expires, another
//! master starts from a fresh list. Not modeled: the Lease requests themselves (part of the idle
//! CPU), garbage collection by owner, PodGC, quotas, endpoints, service accounts.
//!
//! Clients: 20/30 per controller, shared by its event recorder (kubernetes v1.26.5
//! pkg/controller/apis/config/v1alpha1/defaults.go:56-61,
//! cmd/kube-controller-manager/app/apps.go:69,80).

mod deployment;
mod event_sink;
mod job;
mod node_lifecycle;
mod replica_set;
mod replicas;
pub(crate) mod scheduler;
mod stateful_set;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::Stream;

use crate::context::Context;
use crate::core::Core;
use crate::event::{ControlEvent, ControlToken, Event, Recorder, Role};
use crate::ids::{ClientId, NodeIndex, PodUid, WatchId};
use crate::objects::{OwnerKind, Pod, PodSpec, WorkloadObject};
use crate::parameters::{KcmParameters, Span};
use crate::request::{
    Answer, Change, ClientClass, ClientSpec, Consistency, ReplyTo, Request, Response, WatchOwner,
    WatchTarget,
};

use self::deployment::Deployments;
use self::node_lifecycle::NodeLifecycle;
use self::replicas::{Replicas, Wanted};
use self::stateful_set::StatefulSets;

/// What the Pods of a workload object look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodTemplate {
    /// Namespace.
    pub namespace: Rc<str>,
    /// Name of the object that makes the Pods.
    pub name: Rc<str>,
    /// Labels, sorted.
    pub labels: Rc<[(Rc<str>, Rc<str>)]>,
    /// Annotations, sorted.
    pub annotations: Rc<[(Rc<str>, Rc<str>)]>,
    /// Spec.
    pub spec: Rc<PodSpec>,
}

/// The characters of generated names (apimachinery/pkg/util/rand/rand.go).
const NAME_CHARACTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The five characters that `generateName` appends.
pub(crate) fn random_suffix(names: &mut Stream) -> String {
    let mut draw = names.u64();
    (0..5)
        .map(|_| {
            let character = NAME_CHARACTERS[(draw % 27) as usize];
            draw /= 27;
            char::from(character)
        })
        .collect()
}

/// How long an informer lags behind a write on a workload object: the middle of the two delays that
/// a watched change has. Workload objects are not stored, so their changes are events.
pub(crate) fn informer_delay(core: &Core<'_>) -> Duration {
    let api = &core.parameters.api;
    let middle = |span: Span| (span.min + span.max) / 2;
    middle(api.cache_delay) + middle(api.watch_delay)
}

/// kube-controller-manager.
#[derive(Debug)]
pub(crate) struct Controllers {
    deployments: Deployments,
    replica_sets: Replicas,
    stateful_sets: StatefulSets,
    jobs: Replicas,
    lifecycle: NodeLifecycle,
    node: Option<NodeIndex>,
    clients: Vec<ClientId>,
    watcher: Option<ClientId>,
    watch: Option<WatchId>,
    /// What the informer of Pods holds.
    informer: BTreeMap<PodUid, Rc<Pod>>,
    synced: bool,
    lists: u64,
    life: u32,
}

impl Controllers {
    /// A process that is not registered anywhere yet.
    pub(crate) fn new(parameters: &KcmParameters) -> Self {
        let workers = parameters.workers as u32;
        Self {
            deployments: Deployments::new(workers),
            replica_sets: Replicas::new(OwnerKind::ReplicaSet, workers),
            stateful_sets: StatefulSets::new(workers),
            jobs: Replicas::new(OwnerKind::Job, workers),
            lifecycle: NodeLifecycle::default(),
            node: None,
            clients: Vec::new(),
            watcher: None,
            watch: None,
            informer: BTreeMap::new(),
            synced: false,
            lists: 0,
            life: 0,
        }
    }

    /// The machine that the process runs on.
    pub(crate) fn node(&self) -> Option<NodeIndex> {
        self.node
    }

    /// The process starts on a master, from a fresh list.
    pub(crate) fn start(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.node = Some(node);
        let limiter = {
            let kcm = &context.core.parameters.kcm;
            Some((kcm.qps.milli_per_s, kcm.burst))
        };
        let mut client = |class: ClientClass, limiter| {
            let spec = ClientSpec {
                node,
                class,
                limiter,
                timeout: None,
                fresh_connection: false,
            };
            let client = context.client(spec);
            self.clients.push(client);
            client
        };
        let deployments = client(ClientClass::DeploymentController, limiter);
        let replica_sets = client(ClientClass::ReplicaSetController, limiter);
        let stateful_sets = client(ClientClass::OtherControllers, limiter);
        let jobs = client(ClientClass::OtherControllers, limiter);
        let lifecycle = client(ClientClass::OtherControllers, limiter);
        let watcher = client(ClientClass::OtherControllers, None);
        self.deployments.start(deployments);
        self.replica_sets.start(node, replica_sets);
        self.stateful_sets.start(node, stateful_sets);
        self.jobs.start(node, jobs);
        self.lifecycle.start(lifecycle, context);
        self.watcher = Some(watcher);
        self.informer.clear();
        self.synced = false;
        self.list_pods(Consistency::Cache, context);
    }

    /// The process is dead, or has lost its lease.
    pub(crate) fn stop(&mut self, context: &mut Context<'_>) {
        self.deployments.stop();
        self.replica_sets.stop();
        self.stateful_sets.stop();
        self.jobs.stop();
        self.lifecycle.stop();
        self.synced = false;
        self.node = None;
        self.life += 1;
        self.watch = None;
        self.watcher = None;
        for client in self.clients.drain(..) {
            context.drop_client(client);
        }
    }

    fn list_pods(&mut self, consistency: Consistency, context: &mut Context<'_>) {
        let Some(client) = self.watcher else { return };
        let token = ControlToken::Listed { life: self.life };
        let request = Request::ListPods {
            node_name: None,
            consistency,
        };
        context.call(client, request, ReplyTo::Controllers { token });
    }

    /// The list replaces what the informer held; then the watch continues from it, and the workers
    /// start if they had been waiting for it.
    fn listed(&mut self, response: &Response, context: &mut Context<'_>) {
        let Ok(Answer::Pods(pods, revision)) = response else {
            return self.list_again(context);
        };
        let listed: BTreeSet<PodUid> = pods.iter().map(|pod| pod.uid).collect();
        let vanished: Vec<Rc<Pod>> = self
            .informer
            .values()
            .filter(|pod| !listed.contains(&pod.uid))
            .cloned()
            .collect();
        for pod in vanished {
            self.pod_changed(&pod, &Change::PodGone(pod.clone()), context);
        }
        for pod in pods {
            self.pod_changed(pod, &Change::Pod(pod.clone()), context);
        }
        if let Some(client) = self.watcher {
            let target = WatchTarget::Pods { node_name: None };
            let watch = context.watch(client, target, *revision, WatchOwner::Controllers);
            self.watch = Some(watch);
        }
        if !std::mem::replace(&mut self.synced, true) {
            self.replica_sets.resume(context);
            self.stateful_sets.resume(context);
            self.jobs.resume(context);
            let published = |replica_set| self.replica_sets.published(replica_set);
            self.deployments.resume(&published, context);
        }
    }

    fn list_again(&mut self, context: &mut Context<'_>) {
        self.watch = None;
        self.lists += 1;
        let life = self.life;
        let span = context.core.parameters.client.reflector_backoff;
        let wait = context
            .core
            .streams
            .stream("controllers", self.lists, "reflector back-off")
            .duration(span.min..=span.max);
        let event = ControlEvent::WatchAgain {
            role: Role::Controllers,
            life,
        };
        context.core.after(wait, Event::Control(event));
    }

    /// Registers a Deployment with this many replicas; returns the object that the driver must
    /// create.
    pub(crate) fn add_deployment(
        &mut self,
        replicas: u32,
        template: PodTemplate,
        context: &mut Context<'_>,
    ) -> WorkloadObject {
        let next = self.deployments.register(0);
        let hash = replica_set::template_hash(&template);
        let name = Rc::from(format!("{}-{hash}", template.name));
        let template = PodTemplate { name, ..template };
        let replica_set =
            self.replica_sets
                .register(Wanted::Replicas(replicas), Some(next), template, context);
        self.deployments.set_replica_set(next, replica_set);
        WorkloadObject::Deployment(next)
    }

    /// Registers a ReplicaSet.
    pub(crate) fn add_replica_set(
        &mut self,
        replicas: u32,
        template: PodTemplate,
        context: &mut Context<'_>,
    ) -> WorkloadObject {
        let wanted = replica_set::wanted(replicas);
        WorkloadObject::ReplicaSet(self.replica_sets.register(wanted, None, template, context))
    }

    /// Registers a StatefulSet.
    pub(crate) fn add_stateful_set(
        &mut self,
        replicas: u32,
        parallel: bool,
        template: PodTemplate,
    ) -> WorkloadObject {
        WorkloadObject::StatefulSet(self.stateful_sets.register(replicas, parallel, template))
    }

    /// Registers a Job.
    pub(crate) fn add_job(
        &mut self,
        parallelism: u32,
        completions: Option<u32>,
        template: PodTemplate,
        context: &mut Context<'_>,
    ) -> WorkloadObject {
        let wanted = job::wanted(parallelism, completions);
        WorkloadObject::Job(self.jobs.register(wanted, None, template, context))
    }

    /// The driver's POST of an object succeeded: informers show it a little later.
    pub(crate) fn object_created(object: WorkloadObject, context: &mut Context<'_>) {
        let delay = informer_delay(&context.core);
        context
            .core
            .after(delay, Event::Control(ControlEvent::Changed(object)));
    }

    /// An event of the control plane, except the scheduler's.
    pub(crate) fn handle(&mut self, event: ControlEvent, context: &mut Context<'_>) {
        match event {
            ControlEvent::Changed(object) => self.changed(object, context),
            ControlEvent::WatchAgain {
                role: Role::Controllers,
                life,
            } if life == self.life => {
                self.list_pods(Consistency::Quorum, context);
            }
            ControlEvent::NodeSilent { node, silence } => {
                self.lifecycle.silent(node, silence, context);
            }
            ControlEvent::NodeEvicts { node, silence } => {
                self.lifecycle.evict(node, silence, context);
            }
            _ => {}
        }
    }

    fn changed(&mut self, object: WorkloadObject, context: &mut Context<'_>) {
        match object {
            WorkloadObject::Deployment(index) => {
                let published = |replica_set| self.replica_sets.published(replica_set);
                self.deployments.enqueue(index, &published, context);
            }
            WorkloadObject::ReplicaSet(index) => self.replica_sets.enqueue(index, context),
            WorkloadObject::StatefulSet(index) => self.stateful_sets.enqueue(index, context),
            WorkloadObject::Job(index) => self.jobs.enqueue(index, context),
        }
    }

    /// The informer of Pods got changes.
    pub(crate) fn watch(&mut self, watch: WatchId, change: &Change, context: &mut Context<'_>) {
        if self.watch != Some(watch) {
            return;
        }
        match change {
            Change::Pod(pod) | Change::PodGone(pod) => self.pod_changed(pod, change, context),
            Change::Closed(_) => self.list_again(context),
            _ => {}
        }
    }

    fn pod_changed(&mut self, pod: &Rc<Pod>, change: &Change, context: &mut Context<'_>) {
        let gone = matches!(change, Change::PodGone(_));
        if gone {
            self.informer.remove(&pod.uid);
        } else {
            self.informer.insert(pod.uid, pod.clone());
        }
        self.lifecycle.pod_changed(pod, gone);
        let Some(owner) = &pod.owner else { return };
        match owner.kind {
            OwnerKind::ReplicaSet => self.replica_sets.pod_changed(owner.index, change, context),
            OwnerKind::StatefulSet => self.stateful_sets.pod_changed(owner.index, change, context),
            OwnerKind::Job => self.jobs.pod_changed(owner.index, change, context),
        }
    }

    /// A call of a controller ended.
    pub(crate) fn response(
        &mut self,
        token: ControlToken,
        response: &Response,
        context: &mut Context<'_>,
    ) {
        match token {
            ControlToken::Deployment { index, step } => {
                let published = |replica_set| self.replica_sets.published(replica_set);
                self.deployments
                    .response(index, step, response, &published, context);
            }
            ControlToken::Replicas {
                kind: OwnerKind::Job,
                index,
                step,
            } => {
                self.jobs.response(index, step, response, context);
            }
            ControlToken::Replicas { index, step, .. } => {
                self.replica_sets.response(index, step, response, context);
            }
            ControlToken::StatefulSet { index, step } => {
                self.stateful_sets.response(index, step, response, context);
            }
            ControlToken::Evicted { pod } => self.lifecycle.evicted(pod, response, context),
            ControlToken::Listed { life } if life == self.life => self.listed(response, context),
            ControlToken::Listed { .. } => {}
            ControlToken::Event(recorder) => match recorder {
                Recorder::Deployment => self.deployments.event_sent(context),
                Recorder::Owner(OwnerKind::ReplicaSet) => self.replica_sets.event_sent(context),
                Recorder::Owner(OwnerKind::StatefulSet) => self.stateful_sets.event_sent(context),
                Recorder::Owner(OwnerKind::Job) => self.jobs.event_sent(context),
                Recorder::Scheduler => {}
            },
        }
    }

    /// A node's Lease is no longer renewed (down or cut off), or is again.
    pub(crate) fn node_silence(
        &mut self,
        node: NodeIndex,
        node_name: &Rc<str>,
        silent: bool,
        context: &mut Context<'_>,
    ) {
        self.lifecycle.heard(node, node_name, !silent, context);
    }

    /// Whether a node is ready as the API shows it.
    pub(crate) fn node_ready(&self, node: NodeIndex) -> bool {
        self.lifecycle.ready(node)
    }
}
