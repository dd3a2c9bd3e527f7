//! A small world for the tests of peers: an apiserver, machines, one IPAM and calls to it; no
//! kubelet and no controllers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::queue::{Queue, TieBreak};
use drydock_engine::stream::Streams;
use drydock_engine::time::SimInstant;

use crate::apiserver::{ApiServers, Delivery};
use crate::cni::{IpamAnswer, IpamCall, Verb};
use crate::context::Context;
use crate::core::Core;
use crate::event::{CpuToken, Event};
use crate::ids::{ContainerId, IpamCallId, NodeIndex, PodUid};
use crate::ipam::Ipam;
use crate::machine::Machine;
use crate::objects::PodSpec;
use crate::observation::Observation;
use crate::parameters::{Parameters, Table};
use crate::peers::Pool;
use crate::request::{Answer, ClientClass, NewPod, ReplyTo, Request, WatchOwner};

/// The world.
pub(super) struct World<I> {
    pub(super) queue: Queue<Event>,
    pub(super) streams: Streams,
    /// A test may change them between two events.
    pub(super) parameters: Parameters,
    pub(super) machines: Vec<Machine>,
    observed: Vec<Observation>,
    answers: BTreeMap<IpamCallId, IpamAnswer>,
    pub(super) api: ApiServers,
    pub(super) ipam: I,
    /// Requests of plugins and agents, in order of their answers.
    pub(super) requests: Vec<String>,
    /// Everybody's requests, likewise: verb, resource, refused.
    pub(super) answered: Vec<(SimInstant, &'static str, &'static str, bool)>,
    /// What plugins answered, and when.
    pub(super) exits: BTreeMap<IpamCallId, (SimInstant, IpamAnswer)>,
    calls: u32,
}

/// One family of so many addresses from 10.0.0.0 on.
pub(super) fn pool(count: u32) -> Pool {
    let first = 0x0a00_0000_u32;
    let ip = |bits: u32| std::net::IpAddr::V4(bits.into());
    Pool::new(vec![vec![(ip(first), ip(first + count - 1))]]).unwrap()
}

/// Pairs from 10.0.0.0 and fd00:: on.
pub(super) fn dual_pool(count: u32) -> Pool {
    let v6 = |bits: u128| std::net::IpAddr::V6((0xfd00_u128 << 112 | bits).into());
    let second = vec![(v6(0), v6(u128::from(count) - 1))];
    let mut families = pool(count).families;
    families.push(second);
    Pool::new(families).unwrap()
}

impl<I: Ipam> World<I> {
    /// A world of so many workers; the apiserver is on a machine of its own.
    pub(super) fn new(
        profile: &str,
        settings: &[&str],
        workers: u32,
        seed: u64,
        make: impl FnOnce(&Table) -> I,
    ) -> Self {
        let mut table = Table::profile(profile).unwrap();
        for setting in settings {
            table.set(setting).unwrap();
        }
        let parameters = Parameters::read(&table).unwrap();
        let streams = Streams::new(seed);
        let node = &parameters.node_side.node;
        let machines: Vec<Machine> = (0..=workers)
            .map(|index| {
                let name: Rc<str> = format!("node-{index}").into();
                Machine::new(Rc::clone(&name), name, index == workers, node)
            })
            .collect();
        let mut api = ApiServers::new(&[NodeIndex(workers)], &parameters, &streams);
        for (index, machine) in machines.iter().enumerate() {
            api.set_node(Rc::clone(&machine.node_name), NodeIndex(index as u32));
        }
        let ipam = make(&table);
        let mut world = World {
            queue: Queue::new(TieBreak::Fifo),
            streams,
            parameters,
            machines,
            observed: Vec::new(),
            answers: BTreeMap::new(),
            api,
            ipam,
            requests: Vec::new(),
            answered: Vec::new(),
            exits: BTreeMap::new(),
            calls: 0,
        };
        world.act(|ipam, context| {
            context.api.start(&mut context.core);
            ipam.start(context);
        });
        world
    }

    /// Does something to the IPAM.
    pub(super) fn act<T>(&mut self, body: impl FnOnce(&mut I, &mut Context<'_>) -> T) -> T {
        let now = self.queue.now();
        let core = Core {
            now,
            queue: &mut self.queue,
            streams: &self.streams,
            parameters: &self.parameters,
            machines: &mut self.machines,
            observed: &mut self.observed,
            ipam_answers: &mut self.answers,
        };
        let mut context = Context {
            core,
            api: &mut self.api,
        };
        let result = body(&mut self.ipam, &mut context);
        for observation in self.observed.drain(..) {
            if let Observation::ApiCall {
                class,
                what,
                result,
                ..
            } = observation
                && what.verb != "WATCH"
            {
                if matches!(class, ClientClass::IpamNode) {
                    self.requests
                        .push(format!("{} {}", what.verb, what.resource));
                }
                self.answered
                    .push((now, what.verb, what.resource, result.is_err()));
            }
        }
        result
    }

    /// A Pod on a worker, with an `app` label.
    pub(super) fn create_pod(&mut self, name: &str, node: u32, app: &str) -> PodUid {
        let spec = PodSpec {
            host_network: false,
            node_name: Some(format!("node-{node}").into()),
            node_selector: Vec::new(),
            grace: Duration::from_secs(30),
            pull_always: false,
            run: None,
        };
        let request = Request::CreatePod(Rc::new(NewPod {
            namespace: "default".into(),
            name: name.into(),
            entity: Streams::entity(name),
            labels: Rc::new([("app".into(), app.into())]),
            annotations: Rc::new([]),
            owner: None,
            spec: Rc::new(spec),
        }));
        let answer = self.act(|_, context| context.api.install(&request, &mut context.core));
        let Answer::Pod(pod) = answer.unwrap() else {
            panic!("a created Pod is answered")
        };
        pod.uid
    }

    /// The id of one more execution.
    pub(super) fn next_call(&mut self) -> IpamCallId {
        self.calls += 1;
        IpamCallId(self.calls)
    }

    /// Executes the plugin for the Pod `name` at an instant.
    pub(super) fn exec(
        &mut self,
        at: SimInstant,
        node: u32,
        verb: Verb,
        container: u32,
        (name, pod): (&str, PodUid),
    ) -> IpamCallId {
        let id = self.next_call();
        let call = IpamCall {
            id,
            node: NodeIndex(node),
            verb,
            container: ContainerId(container),
            netns: None,
            pod_namespace: "default".into(),
            pod_name: name.into(),
            pod,
            deadline: SimInstant::MAX,
        };
        self.queue.at(at, Event::IpamExec(call));
        id
    }

    /// Runs one event; an answer that a plugin gave.
    pub(super) fn step(&mut self) -> Option<(IpamCallId, IpamAnswer)> {
        let (at, event) = self.queue.pop().expect("something is queued");
        let mut exit = None;
        self.act(|ipam, context| match event {
            Event::Cpu { node, generation } => cpu(ipam, node, generation, context),
            Event::Api(event) => match context.api.handle(event, &mut context.core) {
                Delivery::Response(ReplyTo::Ipam { token }, response) => {
                    ipam.response(token, response, context);
                }
                Delivery::Changes(WatchOwner::Ipam { token }, watch, changes) => {
                    for change in changes {
                        ipam.watch(token, watch, change, context);
                    }
                }
                _ => {}
            },
            Event::IpamExec(call) => ipam.call(call, context),
            Event::IpamTimer { node, token } => ipam.timer(node, token, context),
            Event::IpamExit { call, .. } => {
                exit = context
                    .core
                    .ipam_answers
                    .remove(&call)
                    .map(|answer| (call, answer));
            }
            _ => {}
        });
        if let Some((call, answer)) = &exit {
            self.exits.insert(*call, (at, answer.clone()));
        }
        exit
    }

    /// Runs until the plugin answers a call.
    pub(super) fn answer(&mut self, call: IpamCallId) -> IpamAnswer {
        loop {
            if let Some((id, answer)) = self.step()
                && id == call
            {
                return answer;
            }
        }
    }

    /// Executes the plugin now, and runs until it answers.
    pub(super) fn run(
        &mut self,
        node: u32,
        verb: Verb,
        container: u32,
        pod: (&str, PodUid),
    ) -> IpamAnswer {
        let call = self.exec(self.queue.now(), node, verb, container, pod);
        self.answer(call)
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.queue.now() + time;
        self.queue.at(end, Event::Driver { token: 0 });
        while self.queue.peek_at().is_some_and(|at| at <= end) {
            self.step();
        }
    }

    /// One of the IPAM's totals.
    pub(super) fn counter(&self, name: &str) -> u64 {
        let counters = self.ipam.counters();
        counters
            .iter()
            .find(|(known, _)| *known == name)
            .expect("a known counter")
            .1
    }
}

fn cpu(ipam: &mut dyn Ipam, node: NodeIndex, generation: u64, context: &mut Context<'_>) {
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
            CpuToken::Ipam(token) => ipam.cpu_done(node, token, context),
            CpuToken::Api(call) => context.api.cpu_done(call, &mut context.core),
            _ => {}
        }
    }
}
