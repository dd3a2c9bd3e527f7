//! kube-ovn-controller: who leads, what it watches, and how Pod events become queue items.
//!
//! Events: every change of a live Pod enqueues its name; a Pod that is gone, terminal, or past its
//! grace period twice over becomes a deletion of its own, which never merges with another.
//! Source: pkg/controller/pod.go:157-347, pkg/controller/controller.go:307-418,1015-1066.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use drydock_engine::server::TokenBucket;
use drydock_engine::stream::Streams;

use super::central::masters;
use super::informer::{Delta, Pods};
use super::items::Item;
use super::objects;
use super::queue::{RateQueue, bucket};
use super::status::Status;
use super::subnet::Subnet;
use super::{CoreId, KubeOvn, Signal, Wait, Watched};
use crate::context::Context;
use crate::ids::{ClientId, NodeIndex, WatchId};
use crate::objects::{Phase, Pod, PodSpec, PodStatus};
use crate::request::{
    Answer, Change, ClientClass, Consistency, Custom, Request, Response, WatchTarget,
};

/// What the controller waits for.
#[derive(Clone, Debug)]
pub(super) enum ControlStep {
    /// Before another candidate leads.
    Takeover,
    /// The list of `IP` objects at the start.
    IpsListed,
    /// The list of Pods.
    PodsListed,
    /// Before a list is asked for again.
    ListPods,
    /// Before the `IP` objects are listed again.
    ListIps,
    /// Something of an item.
    Item(u32),
    /// Before a name that failed is added again.
    Retry(u32),
    /// Before a deletion is added (again).
    Delete(Deletion),
    /// Collection of ports without Pods.
    Collect,
    /// Inspection of all Pods.
    Inspect,
    /// The subnet's status was computed.
    StatusComputed,
    /// It was written.
    StatusWritten,
    /// Before it is tried again.
    StatusRetry,
    /// The `IPPool`'s status was written.
    PoolWritten,
    /// An answer that nobody reads.
    Ignored,
}

/// A Pod to release.
#[derive(Clone, Debug)]
pub(super) struct Deletion {
    pub(super) pod: Rc<Pod>,
    pub(super) failures: u32,
}

/// The leading controller.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) epoch: u32,
    pub(super) node: NodeIndex,
    pub(super) client: Option<ClientId>,
    pub(super) pods: Pods,
    pub(super) ips: BTreeMap<Rc<str>, Rc<Custom>>,
    ips_watch: Option<WatchId>,
    pub(super) vpc: Option<Rc<Custom>>,
    pub(super) subnet: Subnet,
    pub(super) queue: Option<RateQueue>,
    pub(super) items: BTreeMap<u32, Item>,
    pub(super) items_made: u32,
    /// Waiters of each bucket; the first holds it.
    pub(super) locks: Vec<VecDeque<u32>>,
    pub(super) deletions: VecDeque<Deletion>,
    pub(super) deleting: u64,
    pub(super) deletion_bucket: Option<TokenBucket>,
    pub(super) status: Status,
    /// Pods of an earlier run whose deletion is noticed together with the first new Pod.
    previous: Vec<Rc<Pod>>,
    /// Ports without a Pod in the last collection.
    pub(super) suspects: std::collections::BTreeSet<u32>,
}

impl Controller {
    /// Nobody leads yet.
    pub(super) fn new(subnet: Subnet) -> Self {
        Self {
            epoch: 0,
            node: NodeIndex(0),
            client: None,
            pods: Pods::default(),
            ips: BTreeMap::new(),
            ips_watch: None,
            vpc: None,
            subnet,
            queue: None,
            items: BTreeMap::new(),
            items_made: 0,
            locks: Vec::new(),
            deletions: VecDeque::new(),
            deleting: 0,
            deletion_bucket: None,
            status: Status::default(),
            previous: Vec::new(),
            suspects: std::collections::BTreeSet::new(),
        }
    }
}

impl KubeOvn {
    /// The objects of the installation, and the first leader.
    pub(super) fn controller_install(&mut self, context: &mut Context<'_>) {
        let mut install = |kind, name: &str| {
            let object = objects::object(kind, name.into(), "{}".to_owned());
            let request = Request::Create(Rc::new(object));
            match context.api.install(&request, &mut context.core) {
                Ok(Answer::Custom(object)) => object,
                other => unreachable!("an empty store takes any object: {other:?}"),
            }
        };
        self.controller.vpc = Some(install(objects::VPCS, objects::VPC));
        install(objects::SUBNETS, objects::SUBNET);
        install(objects::IP_POOLS, objects::SUBNET);
        let masters = masters(context);
        let mut draws = context.core.streams.stream("kube-ovn", 0, "leader");
        self.controller.node = *draws.pick(&masters);
        self.leave_previous(context);
        self.lead(context);
    }

    /// What an earlier run has left when the new one begins: Pods that are gone, with addresses,
    /// ports and `IP` objects that are still to be released.
    fn leave_previous(&mut self, context: &mut Context<'_>) {
        for count in 0..self.parameters.previous_pods {
            let pod = previous_pod(count);
            let name = self.names.number(&pod.namespace, &pod.name);
            if self.controller.subnet.allocate(name).is_none() {
                return;
            }
            let addresses = self.controller.subnet.addresses(name);
            let ip = Request::Create(Rc::new(objects::ip(&pod, &addresses)));
            let installed = context.api.install(&ip, &mut context.core);
            assert!(installed.is_ok(), "names of an earlier run are distinct");
            self.central.has(name);
            self.controller.previous.push(Rc::new(pod));
        }
    }

    pub(super) fn controlling(&self, step: ControlStep) -> Wait {
        Wait::Control {
            epoch: self.controller.epoch,
            step,
        }
    }

    /// A new leader starts with nothing but what it reads.
    fn lead(&mut self, context: &mut Context<'_>) {
        let node = self.controller.node;
        let parameters = Rc::clone(&self.parameters);
        let buckets = parameters.lock_buckets.max(1) as usize;
        self.controller.queue = Some(RateQueue::new(&parameters));
        self.controller.deletion_bucket = Some(bucket(&parameters));
        self.controller.locks = vec![VecDeque::new(); buckets];
        self.controller.client = Some(self.client(node, ClientClass::IpamController, context));
        self.list_ips(context);
        let (gc, inspect) = (parameters.gc_period, parameters.inspect_period);
        let wait = self.controlling(ControlStep::Collect);
        self.after(node, gc, wait, context);
        let wait = self.controlling(ControlStep::Inspect);
        self.after(node, inspect, wait, context);
    }

    fn list_ips(&mut self, context: &mut Context<'_>) {
        let request = Request::List {
            kind: objects::IPS,
            selectors: Vec::new(),
            consistency: Consistency::Cache,
            limit: 0,
            after: None,
        };
        self.control_call(request, ControlStep::IpsListed, context);
    }

    fn list_pods(&mut self, context: &mut Context<'_>) {
        let request = Request::ListPods {
            node_name: None,
            consistency: Consistency::Cache,
        };
        self.control_call(request, ControlStep::PodsListed, context);
    }

    /// A request of the controller.
    pub(super) fn control_call(
        &mut self,
        request: Request,
        step: ControlStep,
        context: &mut Context<'_>,
    ) {
        let client = self.controller.client.expect("a leader has its client");
        let wait = self.controlling(step);
        self.api(client, request, wait, context);
    }

    /// CPU of the controller.
    pub(super) fn control_cpu(
        &mut self,
        demand: std::time::Duration,
        step: ControlStep,
        context: &mut Context<'_>,
    ) {
        let wait = self.controlling(step);
        let node = self.controller.node;
        self.capped(CoreId::Controller, node, demand, wait, context);
    }

    pub(super) fn control_timer(
        &mut self,
        delay: std::time::Duration,
        step: ControlStep,
        context: &mut Context<'_>,
    ) {
        let wait = self.controlling(step);
        self.after(self.controller.node, delay, wait, context);
    }

    pub(super) fn control(&mut self, step: ControlStep, signal: Signal, context: &mut Context<'_>) {
        let response = match &signal {
            Signal::Api(response) => Some(response.clone()),
            Signal::Go | Signal::Nb(_) => None,
        };
        match step {
            ControlStep::Takeover => self.take_over(context),
            ControlStep::IpsListed => self.ips_listed(response, context),
            ControlStep::PodsListed => self.pods_listed(response, context),
            ControlStep::ListPods => self.list_pods(context),
            ControlStep::ListIps => self.list_ips(context),
            ControlStep::Item(item) => self.item_step(item, signal, context),
            ControlStep::Retry(name) => {
                self.queue().work.add(name);
                self.start_workers(context);
            }
            ControlStep::Delete(deletion) => {
                self.controller.deletions.push_back(deletion);
                self.start_workers(context);
            }
            ControlStep::Collect => self.collect(context),
            ControlStep::Inspect => self.inspect(context),
            ControlStep::StatusComputed => self.status_computed(context),
            ControlStep::StatusWritten => self.status_written(response.as_ref(), context),
            ControlStep::StatusRetry => self.status_changed(context),
            ControlStep::PoolWritten => self.pool_written(context),
            ControlStep::Ignored => {}
        }
    }

    fn ips_listed(&mut self, response: Option<Response>, context: &mut Context<'_>) {
        let Some(Ok(Answer::Customs(ips, revision, _))) = response else {
            let delay = context.core.parameters.client.reflector_backoff.min;
            return self.control_timer(delay, ControlStep::ListIps, context);
        };
        let first = !self.controller.pods.synced;
        self.controller.ips = ips.into_iter().map(|ip| (ip.name.clone(), ip)).collect();
        let client = self.controller.client.expect("a leader has its client");
        let target = WatchTarget::Customs {
            kind: objects::IPS,
            selectors: Vec::new(),
            name: None,
        };
        let watch = Watched::ControllerIps.open(client, target, revision, context);
        self.controller.ips_watch = Some(watch);
        if first {
            self.list_pods(context);
        } else {
            self.status_changed(context);
        }
    }

    fn pods_listed(&mut self, response: Option<Response>, context: &mut Context<'_>) {
        let Some(Ok(Answer::Pods(pods, revision))) = response else {
            let delay = context.core.parameters.client.reflector_backoff.min;
            return self.control_timer(delay, ControlStep::ListPods, context);
        };
        let first = !self.controller.pods.synced;
        // The first leader has led for long when the run begins.
        let fresh = first && self.controller.epoch > 0;
        if fresh {
            self.rebuild(&pods);
        }
        let client = self.controller.client.expect("a leader has its client");
        let target = WatchTarget::Pods { node_name: None };
        let watch = Watched::ControllerPods.open(client, target, revision, context);
        self.controller.pods.watch = Some(watch);
        let deltas = self.controller.pods.listed(pods, &mut self.names);
        if fresh {
            // Two passes at the start of leadership, one after the other.
            self.collect_ports(context);
            self.collect_ports(context);
        }
        for delta in deltas {
            self.pod_event(delta, context);
        }
        self.start_workers(context);
    }

    /// A restart rebuilds the allocator from the annotations of live Pods, and from the `IP`
    /// objects of StatefulSets. Source: pkg/controller/init.go:278-430.
    fn rebuild(&mut self, pods: &[Rc<Pod>]) {
        let mut records = Vec::new();
        for ip in self.controller.ips.values() {
            records.extend(objects::sticky_record(ip, &mut self.names));
        }
        for pod in pods {
            if objects::is_allocated(pod)
                && !pod.is_terminal()
                && let Some(address) = objects::addresses(pod).first()
            {
                records.push((self.names.number(&pod.namespace, &pod.name), *address));
            }
        }
        self.controller.subnet.forget();
        self.controller.subnet.adopt(&records);
    }

    pub(super) fn controller_pod(
        &mut self,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        if self.controller.pods.watch != Some(watch) {
            return;
        }
        if let Change::Closed(_) = change {
            self.controller.pods.watch = None;
            let delay = context.core.parameters.client.reflector_backoff.min;
            return self.control_timer(delay, ControlStep::ListPods, context);
        }
        if let Some(delta) = self.controller.pods.changed(change, &mut self.names) {
            self.pod_event(delta, context);
            self.start_workers(context);
        }
    }

    fn pod_event(&mut self, delta: Delta, context: &mut Context<'_>) {
        let (name, added, pod) = match delta {
            Delta::Gone(pod) => {
                if !pod.spec.host_network {
                    self.delete_pod(pod);
                }
                return;
            }
            Delta::Changed { name, added, pod } => (name, added, pod),
        };
        if pod.spec.host_network {
            return;
        }
        for pod in std::mem::take(&mut self.controller.previous) {
            self.delete_pod(pod);
        }
        if pod.is_terminal() {
            if !added {
                self.delete_pod(pod);
            }
            return;
        }
        if let Some((since, grace)) = pod.deletion.filter(|_| !added) {
            // deletionTimestamp is at the end of the grace period; one more passes.
            let at = since + grace + grace;
            let deletion = Deletion { pod, failures: 0 };
            let wait = self.controlling(ControlStep::Delete(deletion));
            let at = at.max(context.now());
            return self.timer(self.controller.node, at, wait, context);
        }
        if !added || !objects::is_routed(&pod) {
            self.queue().work.add(name);
        }
    }

    pub(super) fn delete_pod(&mut self, pod: Rc<Pod>) {
        let deletion = Deletion { pod, failures: 0 };
        self.controller.deletions.push_back(deletion);
    }

    pub(super) fn controller_ip(
        &mut self,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        if self.controller.ips_watch != Some(watch) {
            return;
        }
        match change {
            Change::Custom(ip) => {
                let known = self.controller.ips.insert(ip.name.clone(), ip).is_some();
                if !known {
                    self.status_changed(context);
                }
            }
            Change::CustomGone(ip) => {
                self.controller.ips.remove(&ip.name);
                self.status_changed(context);
            }
            Change::Closed(_) => {
                self.controller.ips_watch = None;
                let delay = context.core.parameters.client.reflector_backoff.min;
                self.control_timer(delay, ControlStep::ListIps, context);
            }
            Change::Pod(_) | Change::PodGone(_) | Change::Bookmark(_) => {}
        }
    }

    /// The leader's machine died: its lease runs out, then another candidate looks.
    pub(super) fn controller_down(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        if node != self.controller.node {
            return;
        }
        self.controller.epoch += 1;
        self.drop_jobs(CoreId::Controller);
        if let Some(client) = self.controller.client.take() {
            context.drop_client(client);
        }
        let controller = &mut self.controller;
        controller.pods.forget();
        controller.ips.clear();
        controller.ips_watch = None;
        controller.items.clear();
        controller.deletions.clear();
        controller.deleting = 0;
        controller.status = Status::default();
        controller.suspects.clear();
        let parameters = Rc::clone(&self.parameters);
        let entity = u64::from(controller.epoch);
        let mut draws = context.core.streams.stream("kube-ovn", entity, "takeover");
        let look = draws.duration(parameters.lease_retry.min..=parameters.lease_retry.max);
        self.control_timer(parameters.lease + look, ControlStep::Takeover, context);
    }

    fn take_over(&mut self, context: &mut Context<'_>) {
        let up = masters(context)
            .into_iter()
            .find(|node| context.core.machines[node.index()].up);
        if let Some(up) = up {
            self.controller.node = up;
            self.totals.add("controller_takeovers");
            self.lead(context);
        } else {
            let delay = self.parameters.lease_retry.max;
            self.control_timer(delay, ControlStep::Takeover, context);
        }
    }
}

/// A Pod of an earlier run.
fn previous_pod(count: u64) -> Pod {
    let name = format!("previous-{count}");
    Pod {
        namespace: "default".into(),
        entity: Streams::entity(&name),
        name: name.into(),
        // No Pod of the new run has it.
        uid: crate::ids::PodUid(u32::MAX),
        resource_version: 0,
        labels: Rc::new([]),
        annotations: Rc::new([]),
        network_status: false,
        owner: None,
        deletion: None,
        spec: Rc::new(PodSpec {
            host_network: false,
            node_name: None,
            node_selector: Vec::new(),
            grace: std::time::Duration::ZERO,
            pull_always: false,
            run: None,
        }),
        node_name: None,
        status: PodStatus {
            phase: Phase::Running,
            ready: false,
            seen_by_kubelet: false,
            pod_ips: Vec::new(),
        },
    }
}
