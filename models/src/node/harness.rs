//! A small world for the tests of a node: one apiserver model, machines, a scripted IPAM; no
//! controllers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::queue::{Queue, TieBreak};
use drydock_engine::stream::Streams;
use drydock_engine::time::SimInstant;

use crate::apiserver::{ApiServers, Delivery};
use crate::cni::{CniError, IpamCall, Verb};
use crate::context::Context;
use crate::core::Core;
use crate::event::{CpuToken, Event};
use crate::ids::{ContainerId, NetnsId, NodeIndex, PodUid};
use crate::ipam::Ipam;
use crate::machine::Machine;
use crate::node::Nodes;
use crate::objects::PodSpec;
use crate::observation::Observation;
use crate::parameters::{Parameters, Table};
use crate::peers::Pool;
use crate::peers::instant::Instant;
use crate::request::{Answer, NewPod, Request};

/// An IPAM that does as it is told.
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

/// The world.
pub(super) struct World {
    pub(super) queue: Queue<Event>,
    streams: Streams,
    parameters: Parameters,
    pub(super) machines: Vec<Machine>,
    observed: Vec<Observation>,
    answers: BTreeMap<crate::ids::IpamCallId, crate::cni::IpamAnswer>,
    pub(super) api: ApiServers,
    pub(super) nodes: Nodes,
    pub(super) ipam: Scripted,
    pub(super) log: Vec<(SimInstant, Observation)>,
    /// Events of nodes and their CPUs.
    pub(super) node_event_count: u64,
}

/// Runs an expression with a context of the world.
macro_rules! with_context {
    ($world:expr, $context:ident => $body:expr) => {{
        let World {
            queue,
            streams,
            parameters,
            machines,
            observed,
            answers,
            api,
            nodes,
            ipam,
            ..
        } = &mut *$world;
        let now = queue.now();
        let core = Core {
            now,
            queue,
            streams,
            parameters,
            machines,
            observed,
            ipam_answers: answers,
        };
        #[allow(unused_mut)]
        let mut $context = Context { core, api };
        let _ = (&nodes, &ipam);
        let result = $body(nodes, ipam, &mut $context);
        $world.drain();
        result
    }};
}

impl World {
    /// A world of `count` workers in the profile, with settings on top; kubelets run.
    pub(super) fn new(profile: &str, settings: &[&str], count: u32) -> Self {
        let mut table = Table::profile(profile).unwrap();
        for setting in settings {
            table.set(setting).unwrap();
        }
        let parameters = Parameters::read(&table).unwrap();
        let streams = Streams::new(7);
        let node = &parameters.node_side.node;
        let machine = |index: u32, master: bool| {
            let name: Rc<str> = format!("node-{index}").into();
            Machine::new(Rc::clone(&name), name, master, node)
        };
        // The last machine carries the apiserver and nothing else.
        let machines: Vec<Machine> = (0..=count)
            .map(|index| machine(index, index == count))
            .collect();
        let mut api = ApiServers::new(&[NodeIndex(count)], &parameters, &streams);
        for (index, machine) in machines.iter().enumerate() {
            api.set_node(Rc::clone(&machine.node_name), NodeIndex(index as u32));
        }
        let pool = vec![("10.0.0.1".parse().unwrap(), "10.0.9.255".parse().unwrap())];
        let inner = Instant::new(Pool::new(vec![pool]).unwrap());
        let mut world = World {
            queue: Queue::new(TieBreak::Fifo),
            streams,
            parameters,
            machines,
            observed: Vec::new(),
            answers: BTreeMap::new(),
            api,
            nodes: Nodes::new(false),
            ipam: Scripted {
                inner,
                add_delay: Duration::ZERO,
                failing_dels: 0,
                failing_adds: 0,
                hanging_dels: 0,
                calls: Vec::new(),
                waiting: BTreeMap::new(),
            },
            log: Vec::new(),
            node_event_count: 0,
        };
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
        with_context!(self, context => |nodes: &mut Nodes, _: &mut Scripted, context: &mut Context<'_>| {
            body(nodes, context)
        })
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
        let mut spec = PodSpec {
            host_network: false,
            node_name: Some(format!("node-{node}").into()),
            node_selector: Vec::new(),
            grace: Duration::from_secs(30),
            pull_always: false,
            run: None,
        };
        change(&mut spec);
        let request = Request::CreatePod(Rc::new(NewPod {
            namespace: "default".into(),
            name: name.into(),
            entity: Streams::entity(name),
            labels: Rc::new([]),
            annotations: Rc::new([]),
            owner: None,
            spec: Rc::new(spec),
        }));
        let answer = self.install(&request);
        let Answer::Pod(pod) = answer else {
            panic!("a created Pod is answered")
        };
        pod.uid
    }

    /// Deletes a Pod; a grace of zero forces it.
    pub(super) fn delete(&mut self, pod: PodUid, grace: Option<u64>) {
        let grace = grace.map(Duration::from_secs);
        self.install(&Request::DeletePod { pod, grace });
    }

    fn install(&mut self, request: &Request) -> Answer {
        self.act(|_, context| context.api.install(request, &mut context.core))
            .unwrap()
    }

    fn drain(&mut self) {
        let now = self.queue.now();
        self.log.extend(
            self.observed
                .drain(..)
                .map(|observation| (now, observation)),
        );
    }

    /// Runs for some seconds.
    pub(super) fn run_for(&mut self, seconds: u64) {
        self.run_to(self.queue.now() + Duration::from_secs(seconds));
    }

    fn run_to(&mut self, end: SimInstant) {
        // A marker moves the clock to the very end.
        self.queue.at(end, Event::Driver { token: 0 });
        while self.queue.peek_at().is_some_and(|at| at <= end) {
            self.step();
        }
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
            self.step();
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

    fn step(&mut self) {
        let (_, event) = self.queue.pop().expect("something is queued");
        if matches!(event, Event::Node { .. } | Event::Cpu { .. }) {
            self.node_event_count += 1;
        }
        with_context!(self, context => |nodes: &mut Nodes, ipam: &mut Scripted, context: &mut Context<'_>| {
            route(event, nodes, ipam, context);
        });
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

fn route(event: Event, nodes: &mut Nodes, ipam: &mut Scripted, context: &mut Context<'_>) {
    match event {
        Event::Cpu { node, generation } => {
            let mut done = Vec::new();
            let now = context.now();
            let wake = context
                .core
                .machine(node)
                .cpu
                .wake(now, generation, &mut done);
            if let Some(wake) = wake {
                let event = Event::Cpu {
                    node,
                    generation: wake.generation,
                };
                context.core.queue.at(wake.at, event);
            }
            for token in done {
                match token {
                    CpuToken::Node(token) => nodes.cpu_done(node, token, context),
                    CpuToken::Api(call) => context.api.cpu_done(call, &mut context.core),
                    CpuToken::Ipam(_) | CpuToken::Nobody => {}
                }
            }
        }
        Event::Api(event) => match context.api.handle(event, &mut context.core) {
            Delivery::Response(crate::request::ReplyTo::Node { node, token }, response) => {
                nodes.response(node, token, response, context);
            }
            Delivery::Changes(crate::request::WatchOwner::Kubelet(node), watch, changes) => {
                for change in changes {
                    nodes.watch(node, watch, change, context);
                }
            }
            _ => {}
        },
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
