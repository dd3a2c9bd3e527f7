//! A control plane without kubelets for tests: an IPAM in name only, whose one process watches all
//! Pods and reports each bound one as Running after a fixed time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::drive::World;
use drydock_engine::log::EventLog;
use drydock_engine::queue::{Queue, TieBreak};
use drydock_engine::stream::{Ledger, Streams};
use drydock_engine::time::SimInstant;
use drydock_traces::workload::{
    Container, Controller, DocumentRef, ImagePullPolicy, PodTemplate, Workload, WorkloadObject,
};

use crate::apiserver::ApiServers;
use crate::cluster::{Action, Cluster, ClusterSpec, Injected};
use crate::cni::{IpamCall, NodeChange};
use crate::context::Context;
use crate::event::Event;
use crate::ids::{ClientId, IpamCallId, NodeIndex, PodUid, WatchId};
use crate::ipam::{Allocated, Ipam};
use crate::objects::{Phase, PodStatus};
use crate::observation::Observation;
use crate::parameters::{Parameters, Table};
use crate::request::{
    ApiError, Change, ClientClass, ClientSpec, ReplyTo, Request, Response, WatchOwner, WatchTarget,
};

/// What the double and the test share.
#[derive(Debug, Default)]
pub struct Seen {
    /// Responses to the test's own calls, with their tokens.
    pub responses: Vec<(SimInstant, u64, Response)>,
    /// Changes on the test's own watches.
    pub changes: Vec<(SimInstant, u64, Change)>,
}

/// The double; see the module.
struct Double {
    run_after: Option<Duration>,
    client: Option<ClientId>,
    reported: BTreeSet<PodUid>,
    seen: Rc<RefCell<Seen>>,
}

/// Tokens of the double itself; the test's are below.
const OWN: u64 = 1 << 40;
/// The double's timer for a new watch, and its calls that nothing follows from.
const AGAIN: u64 = 1 << 39;

impl Ipam for Double {
    fn name(&self) -> &'static str {
        "double"
    }
    fn start(&mut self, context: &mut Context<'_>) {
        let client = context.client(client_on(0));
        self.client = Some(client);
        if self.run_after.is_some() {
            let target = WatchTarget::Pods { node_name: None };
            context.watch(client, target, 0, WatchOwner::Ipam { token: OWN });
        }
    }
    fn ready(&self) -> bool {
        true
    }
    fn allocated(&self, _: &ApiServers) -> Vec<Allocated> {
        Vec::new()
    }
    fn call(&mut self, _: IpamCall, _: &mut Context<'_>) {}
    fn killed(&mut self, _: NodeIndex, _: IpamCallId, _: &mut Context<'_>) {}
    fn response(&mut self, token: u64, response: Response, context: &mut Context<'_>) {
        if token < OWN {
            self.seen
                .borrow_mut()
                .responses
                .push((context.now(), token, response));
        } else if let Err(ApiError::Unavailable { .. }) = response {
            let at = context.now() + Duration::from_secs(1);
            context.ipam_timer(NodeIndex(0), at, token - OWN);
        }
    }
    fn watch(&mut self, token: u64, _: WatchId, change: Change, context: &mut Context<'_>) {
        if token < OWN {
            self.seen
                .borrow_mut()
                .changes
                .push((context.now(), token, change));
            return;
        }
        if let Change::Closed(_) = change {
            let at = context.now() + Duration::from_secs(1);
            return context.ipam_timer(NodeIndex(0), at, AGAIN);
        }
        let Change::Pod(pod) = change else { return };
        let (Some(client), Some(delay)) = (self.client, self.run_after) else {
            return;
        };
        if pod.deletion.is_some() && pod.node_name.is_some() {
            let request = Request::DeletePod {
                pod: pod.uid,
                grace: Some(Duration::ZERO),
            };
            context.call(client, request, ReplyTo::Ipam { token: OWN + AGAIN });
        } else if pod.node_name.is_some() && self.reported.insert(pod.uid) {
            let at = context.now() + delay;
            context.ipam_timer(NodeIndex(0), at, u64::from(pod.uid.0));
        }
    }
    fn timer(&mut self, _: NodeIndex, token: u64, context: &mut Context<'_>) {
        let Some(client) = self.client else { return };
        if token == AGAIN {
            let target = WatchTarget::Pods { node_name: None };
            context.watch(client, target, 0, WatchOwner::Ipam { token: OWN });
            return;
        }
        let status = PodStatus {
            phase: Phase::Running,
            ready: true,
            seen_by_kubelet: true,
            pod_ips: Vec::new(),
        };
        let request = Request::PatchPodStatus {
            pod: PodUid(token as u32),
            status,
        };
        context.call(client, request, ReplyTo::Ipam { token: OWN + token });
    }
    fn cpu_done(&mut self, _: NodeIndex, _: u64, _: &mut Context<'_>) {}
    fn node_changed(&mut self, _: NodeIndex, _: NodeChange, _: &mut Context<'_>) {}
}

/// A client of the IPAM's on a machine, without limiter or deadline.
pub fn client_on(node: u32) -> ClientSpec {
    ClientSpec {
        node: NodeIndex(node),
        class: ClientClass::IpamNode,
        limiter: None,
        timeout: None,
        fresh_connection: false,
    }
}

/// A control plane, its queue and its log.
pub struct Bench {
    /// The cluster.
    pub cluster: Cluster,
    /// Its queue.
    pub queue: Queue<Event>,
    /// Its log.
    pub log: EventLog,
    /// What the test's calls and watches brought.
    pub seen: Rc<RefCell<Seen>>,
    /// Observations with their times.
    pub observed: Rc<RefCell<Vec<(SimInstant, Observation)>>>,
    /// Every draw of the run.
    pub draws: Ledger,
    /// Events of the API path handled so far.
    pub api_events: u64,
}

/// What a bench is made of.
pub struct BenchSpec {
    /// Nodes.
    pub nodes: usize,
    /// Pods run this long after they were bound; `None` = never.
    pub run_after: Option<Duration>,
    /// What is created.
    pub objects: Vec<WorkloadObject>,
    /// `key=value`.
    pub set: &'static [&'static str],
    /// Profile.
    pub profile: &'static str,
}

impl Bench {
    /// A started bench.
    pub fn new(spec: BenchSpec) -> Bench {
        let mut table = Table::profile(spec.profile).expect("a built-in profile");
        table.set("driver.warm_up=0").expect("a known key");
        for assignment in spec.set {
            table.set(assignment).expect("an assignment of the test");
        }
        let (streams, draws) = Streams::with_ledger(7);
        let seen = Rc::new(RefCell::new(Seen::default()));
        let ipam = Double {
            run_after: spec.run_after,
            client: None,
            reported: BTreeSet::new(),
            seen: seen.clone(),
        };
        let cluster = ClusterSpec {
            node_names: ClusterSpec::node_names(spec.nodes),
            masters: ClusterSpec::masters(spec.nodes),
            parameters: Parameters::read(&table).expect("consistent parameters"),
            workload: Workload {
                objects: spec.objects,
                ..Workload::default()
            },
            seed: 7,
            tie_break: TieBreak::Fifo,
            kubelets: false,
            ends_by_itself: true,
        };
        let (mut cluster, mut queue) = Cluster::with_streams(cluster, Box::new(ipam), streams);
        let observed = Rc::new(RefCell::new(Vec::new()));
        let sink = observed.clone();
        cluster.observe(Box::new(move |at, observation| {
            sink.borrow_mut().push((at, observation.clone()));
        }));
        let mut log = EventLog::new();
        cluster.start(&mut queue, &mut log);
        Bench {
            cluster,
            queue,
            log,
            seen,
            observed,
            draws,
            api_events: 0,
        }
    }

    /// Takes one event; false when none is due by then.
    fn step(&mut self, until: SimInstant) -> bool {
        if self.queue.peek_at().is_none_or(|at| at > until) {
            return false;
        }
        let Some((at, event)) = self.queue.pop() else {
            return false;
        };
        self.api_events += u64::from(crate::cluster::is_api_event(&event));
        self.log.append(at, &event);
        self.cluster
            .handle(at, event, &mut self.queue, &mut self.log);
        true
    }

    /// Runs to an instant, or to the end of the run.
    pub fn run_until(&mut self, seconds: u64) {
        let until = SimInstant::ZERO + Duration::from_secs(seconds);
        while !self.cluster.finished() && self.step(until) {}
    }

    /// Runs so long, whether the run has ended or not.
    pub fn pass(&mut self, time: Duration) {
        let until = self.queue.now() + time;
        while self.step(until) {}
        // An event of no consequence moves the time to its end.
        self.queue.at(until, Event::Driver { token: u64::MAX });
        while self.step(until) {}
    }

    /// Does something to the cluster.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests read better without borrows"
    )]
    pub fn inject(&mut self, action: Action) -> Injected {
        self.cluster.inject(&action, &mut self.queue, &mut self.log)
    }

    /// Registers a client.
    pub fn client(&mut self, spec: ClientSpec) -> ClientId {
        self.cluster
            .with_ipam(&mut self.queue, &mut self.log, |_, context| {
                context.client(spec)
            })
    }

    /// Makes a call whose response appears in [`Seen`].
    pub fn call(&mut self, client: ClientId, request: Request, token: u64) {
        self.cluster
            .with_ipam(&mut self.queue, &mut self.log, |_, context| {
                context.call(client, request, ReplyTo::Ipam { token });
            });
    }

    /// Makes a call and runs until it is answered; when, and how.
    pub fn ask(&mut self, client: ClientId, request: Request) -> (Duration, Response) {
        let token = self.seen.borrow().responses.len() as u64 + 1_000_000;
        let start = self.queue.now();
        self.call(client, request, token);
        loop {
            let last = self.seen.borrow().responses.last().cloned();
            if let Some((at, answered, response)) = last
                && answered == token
            {
                return (at - start, response);
            }
            assert!(self.step(SimInstant::MAX), "every call is answered");
        }
    }

    /// Opens a watch whose changes appear in [`Seen`].
    pub fn watch(
        &mut self,
        client: ClientId,
        target: WatchTarget,
        from: u64,
        token: u64,
    ) -> WatchId {
        self.cluster
            .with_ipam(&mut self.queue, &mut self.log, |_, context| {
                context.watch(client, target, from, WatchOwner::Ipam { token })
            })
    }

    /// Times of the observations that a condition picks.
    pub fn times(&self, wanted: impl Fn(&Observation) -> bool) -> Vec<Duration> {
        let since = |at: SimInstant| at.saturating_since(SimInstant::ZERO);
        let observed = self.observed.borrow();
        observed
            .iter()
            .filter(|(_, o)| wanted(o))
            .map(|(at, _)| since(*at))
            .collect()
    }
}

/// One object of a workload.
pub fn object(name: &str, controller: Controller) -> WorkloadObject {
    WorkloadObject {
        document: DocumentRef {
            file: "test.yaml".to_owned(),
            document: 1,
            line: 1,
        },
        namespace: "default".to_owned(),
        name: name.to_owned(),
        labels: std::collections::BTreeMap::default(),
        annotations: std::collections::BTreeMap::default(),
        controller,
        template: PodTemplate {
            labels: std::collections::BTreeMap::default(),
            annotations: std::collections::BTreeMap::default(),
            node_name: None,
            node_selector: std::collections::BTreeMap::default(),
            host_network: false,
            termination_grace_period_seconds: 30,
            containers: vec![Container {
                name: "main".to_owned(),
                image: "registry.example/app:1".to_owned(),
                image_pull_policy: ImagePullPolicy::IfNotPresent,
            }],
        },
    }
}

/// So many Deployments of so many replicas.
pub fn deployments(count: u32, replicas: u32) -> Vec<WorkloadObject> {
    (0..count)
        .map(|n| object(&format!("d{n:03}"), Controller::Deployment { replicas }))
        .collect()
}
