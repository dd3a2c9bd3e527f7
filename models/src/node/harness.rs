//! A bench for the tests of a node: kubelets, runtimes and a scripted IPAM; no controllers.

use std::collections::BTreeMap;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::cni::{CniError, IpamCall, Verb};
use crate::context::Context;
use crate::event::{CpuToken, Event};
use crate::ids::{ContainerId, NetnsId, NodeIndex, PodUid, WatchId};
use crate::ipam::Ipam;
use crate::kernel::Components;
use crate::node::Nodes;
use crate::objects::PodSpec;
use crate::observation::Observation;
use crate::parameters::Parameters;
use crate::peers::Pool;
use crate::peers::instant::Instant;
use crate::request::{Change, ReplyTo, Request, Response, WatchOwner};
use crate::testing::{Bench, table};

/// An IPAM that does what it is told.
pub(super) struct Scripted {
    pub(super) inner: Instant,
    pub(super) add_delay: Duration,
    pub(super) failing_dels: u32,
    pub(super) failing_adds: u32,
    pub(super) hanging_dels: u32,
    pub(super) calls: Vec<(SimInstant, Verb, ContainerId, Option<NetnsId>)>,
    waiting: BTreeMap<u64, IpamCall>,
}

impl Scripted {
    fn call(&mut self, call: IpamCall, context: &mut Context<'_>) {
        self.calls
            .push((context.now(), call.verb, call.container, call.netns));
        let (failing, hanging) = match call.verb {
            Verb::Add => (&mut self.failing_adds, false),
            Verb::Del => {
                let hanging = self.hanging_dels > 0;
                self.hanging_dels -= u32::from(hanging);
                (&mut self.failing_dels, hanging)
            }
        };
        if hanging {
            return;
        }
        if *failing > 0 {
            *failing -= 1;
            let error = CniError {
                code: 999,
                message: "scripted failure".to_owned(),
            };
            return context.ipam_exit(call.node, call.id, Err(error));
        }
        if call.verb == Verb::Add && !self.add_delay.is_zero() {
            let token = u64::from(call.id.0) | 1 << 40;
            context.ipam_timer(call.node, context.now() + self.add_delay, token);
            self.waiting.insert(token, call);
        } else {
            self.inner.call(call, context);
        }
    }

    fn timer(&mut self, node: NodeIndex, token: u64, context: &mut Context<'_>) {
        match self.waiting.remove(&token) {
            Some(call) => self.inner.call(call, context),
            None => self.inner.timer(node, token, context),
        }
    }
}

/// Nodes and their IPAM.
pub(super) type World = Bench<NodeSide>;

/// The components of the bench.
pub(super) struct NodeSide {
    pub(super) nodes: Nodes,
    pub(super) ipam: Scripted,
}

impl Components for NodeSide {
    fn event(&mut self, event: Event, context: &mut Context<'_>) {
        let NodeSide { nodes, ipam } = self;
        match event {
            Event::Node { node, event } => nodes.handle(node, event, context),
            Event::IpamExec(call) => ipam.call(call, context),
            Event::IpamTimer { node, token } => ipam.timer(node, token, context),
            Event::IpamExit { node, call } => {
                let answer = context
                    .core
                    .ipam_answers
                    .remove(&call)
                    .expect("an exit has its answer");
                nodes.ipam_exit(node, call, answer, context);
            }
            Event::NodeChanged { node, change } => ipam.inner.node_changed(node, change, context),
            _ => {}
        }
    }
    fn cpu_done(&mut self, node: NodeIndex, token: CpuToken, context: &mut Context<'_>) {
        if let CpuToken::Node(token) = token {
            self.nodes.cpu_done(node, token, context);
        }
    }
    fn respond(&mut self, reply: ReplyTo, response: Response, context: &mut Context<'_>) {
        if let ReplyTo::Node { node, token } = reply {
            self.nodes.response(node, token, response, context);
        }
    }
    fn notify(
        &mut self,
        owner: WatchOwner,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        if let WatchOwner::Kubelet(node) = owner {
            self.nodes.watch(node, watch, change, context);
        }
    }
}

impl World {
    /// A world of `count` workers in the profile, with settings on top; kubelets run.
    pub(super) fn new(profile: &str, settings: &[&str], count: u32) -> Self {
        let pool = vec![("10.0.0.1".parse().unwrap(), "10.0.9.255".parse().unwrap())];
        let parts = NodeSide {
            nodes: Nodes::new(false),
            ipam: Scripted {
                inner: Instant::new(Pool::new(vec![pool]).unwrap()),
                add_delay: Duration::ZERO,
                failing_dels: 0,
                failing_adds: 0,
                hanging_dels: 0,
                calls: Vec::new(),
                waiting: BTreeMap::new(),
            },
        };
        let parameters = Parameters::read(&table(profile, settings)).unwrap();
        let mut world = Bench::with_workers(count, parameters, 7, parts);
        world.act(|nodes, context| {
            context.api.start(&mut context.core);
            for index in 0..count {
                nodes.start(NodeIndex(index), context);
            }
        });
        world.run_for(5);
        world
    }

    /// Runs something on the node side.
    pub(super) fn act<T>(&mut self, body: impl FnOnce(&mut Nodes, &mut Context<'_>) -> T) -> T {
        self.enter(|parts, context| body(&mut parts.nodes, context))
    }

    /// Creates a Pod that is bound to a node.
    pub(super) fn create(&mut self, name: &str, node: u32) -> PodUid {
        self.create_with(name, node, |_| {})
    }

    /// Creates a Pod with a changed spec.
    pub(super) fn create_with(
        &mut self,
        name: &str,
        node: u32,
        change: impl FnOnce(&mut PodSpec),
    ) -> PodUid {
        self.create_bound(name, node, &[], change)
    }

    /// Deletes a Pod; a grace of zero forces it.
    pub(super) fn delete(&mut self, pod: PodUid, grace: Option<u64>) {
        let grace = grace.map(Duration::from_secs);
        self.install(&Request::DeletePod { pod, grace });
    }

    /// Runs for some seconds.
    pub(super) fn run_for(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    /// Runs until an observation satisfies the predicate; its time.
    pub(super) fn run_until_seen(
        &mut self,
        seconds_max: u64,
        mut wanted: impl FnMut(&Observation) -> bool,
    ) -> SimInstant {
        let end = self.queue.now() + Duration::from_secs(seconds_max);
        let mut seen = self.log.len();
        while self.queue.peek_at().is_some_and(|at| at <= end) {
            self.turn();
            while seen < self.log.len() {
                let (at, observation) = &self.log[seen];
                if wanted(observation) {
                    return *at;
                }
                seen += 1;
            }
        }
        panic!("not seen within {seconds_max} s");
    }

    /// Times of observations that satisfy the predicate.
    pub(super) fn times(&self, wanted: impl Fn(&Observation) -> bool) -> Vec<SimInstant> {
        self.log
            .iter()
            .filter(|(_, o)| wanted(o))
            .map(|(at, _)| *at)
            .collect()
    }
}
