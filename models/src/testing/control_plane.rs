//! A control plane without kubelets for tests: an IPAM in name only, whose one process watches all
//! Pods and reports each bound one as Running after a fixed time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::{Ledger, Streams};
use drydock_engine::time::SimInstant;
use drydock_traces::workload::WorkloadObject;

use crate::apiserver::ApiServers;
use crate::cluster::ClusterSpec;
use crate::cni::{IpamCall, NodeChange};
use crate::context::Context;
use crate::ids::{ClientId, IpamCallId, NodeIndex, PodUid, WatchId};
use crate::ipam::{Allocated, Ipam};
use crate::objects::{Phase, PodStatus};
use crate::observation::Observation;
use crate::request::{
    ApiError, Change, ClientClass, ClientSpec, ReplyTo, Request, Response, WatchOwner, WatchTarget,
};

use super::{TestCluster, table};

/// What the double and the test share.
#[derive(Debug, Default)]
pub(crate) struct Seen {
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
pub(crate) fn client_on(node: u32) -> ClientSpec {
    ClientSpec {
        node: NodeIndex(node),
        class: ClientClass::IpamNode,
        limiter: None,
        timeout: None,
        fresh_connection: false,
    }
}

/// A control plane.
pub(crate) struct ControlPlane {
    cluster: TestCluster,
    /// What the test's calls and watches brought.
    pub seen: Rc<RefCell<Seen>>,
    /// Every draw of the run.
    pub draws: Ledger,
}

impl Deref for ControlPlane {
    type Target = TestCluster;
    fn deref(&self) -> &TestCluster {
        &self.cluster
    }
}

impl DerefMut for ControlPlane {
    fn deref_mut(&mut self) -> &mut TestCluster {
        &mut self.cluster
    }
}

/// What a control plane is made of.
pub(crate) struct ControlPlaneSpec {
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

impl ControlPlane {
    /// A started one.
    pub(crate) fn new(spec: ControlPlaneSpec) -> ControlPlane {
        let mut table = table(spec.profile, &["driver.warm_up=0"]);
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
            kubelets: false,
            ends_by_itself: true,
            ..ClusterSpec::small(spec.nodes, &table, spec.objects, 7)
        };
        ControlPlane {
            cluster: TestCluster::with_streams(cluster, ipam, streams),
            seen,
            draws,
        }
    }

    /// Registers a client.
    pub(crate) fn client(&mut self, spec: ClientSpec) -> ClientId {
        self.with_ipam(|_, context| context.client(spec))
    }

    /// Makes a call whose response appears in [`Seen`].
    pub(crate) fn call(&mut self, client: ClientId, request: Request, token: u64) {
        self.with_ipam(|_, context| context.call(client, request, ReplyTo::Ipam { token }));
    }

    /// Makes a call and runs until it is answered; when, and how.
    pub(crate) fn ask(&mut self, client: ClientId, request: Request) -> (Duration, Response) {
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
    pub(crate) fn watch(
        &mut self,
        client: ClientId,
        target: WatchTarget,
        from: u64,
        token: u64,
    ) -> WatchId {
        self.with_ipam(|_, context| context.watch(client, target, from, WatchOwner::Ipam { token }))
    }

    /// Times of the observations that a condition picks, since the start.
    pub(crate) fn since_start(&self, wanted: impl Fn(&Observation) -> bool) -> Vec<Duration> {
        let times = self.times(wanted).into_iter();
        times
            .map(|at| at.saturating_since(SimInstant::ZERO))
            .collect()
    }
}
