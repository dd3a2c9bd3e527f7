//! A bench for the tests of peers: one IPAM and calls to it; no kubelet and no controllers.

use std::collections::BTreeMap;

use drydock_engine::time::SimInstant;

use crate::cni::{IpamAnswer, IpamCall, Verb};
use crate::context::Context;
use crate::event::{CpuToken, Event};
use crate::ids::{ContainerId, IpamCallId, NodeIndex, PodUid, WatchId};
use crate::ipam::Ipam;
use crate::kernel::Components;
use crate::observation::Observation;
use crate::parameters::{Parameters, Table};
use crate::peers::Pool;
use crate::request::{Change, ClientClass, ReplyTo, Response, WatchOwner};
use crate::testing::{Bench, table};

/// An IPAM alone.
pub(super) type World<I> = Bench<Alone<I>>;

/// The one component of the bench.
pub(super) struct Alone<I> {
    pub(super) ipam: I,
    /// What plugins answered, and when.
    pub(super) exits: BTreeMap<IpamCallId, (SimInstant, IpamAnswer)>,
    /// What a plugin answered in the event just handled.
    exit: Option<(IpamCallId, IpamAnswer)>,
    calls: u32,
}

impl<I: Ipam> Components for Alone<I> {
    fn event(&mut self, event: Event, context: &mut Context<'_>) {
        match event {
            Event::IpamExec(call) => self.ipam.call(call, context),
            Event::IpamTimer { node, token } => self.ipam.timer(node, token, context),
            Event::IpamExit { call, .. } => {
                if let Some(answer) = context.core.ipam_answers.remove(&call) {
                    self.exits.insert(call, (context.now(), answer.clone()));
                    self.exit = Some((call, answer));
                }
            }
            _ => {}
        }
    }
    fn cpu_done(&mut self, node: NodeIndex, token: CpuToken, context: &mut Context<'_>) {
        if let CpuToken::Ipam(token) = token {
            self.ipam.cpu_done(node, token, context);
        }
    }
    fn respond(&mut self, reply: ReplyTo, response: Response, context: &mut Context<'_>) {
        if let ReplyTo::Ipam { token } = reply {
            self.ipam.response(token, response, context);
        }
    }
    fn notify(
        &mut self,
        owner: WatchOwner,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        if let WatchOwner::Ipam { token } = owner {
            self.ipam.watch(token, watch, change, context);
        }
    }
}

/// One family of this many addresses from 10.0.0.0 on.
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
    /// A world of this many workers; the apiserver is on its own machine.
    pub(super) fn new(
        profile: &str,
        settings: &[&str],
        workers: u32,
        seed: u64,
        make: impl FnOnce(&Table) -> I,
    ) -> Self {
        let table = table(profile, settings);
        let parts = Alone {
            ipam: make(&table),
            exits: BTreeMap::new(),
            exit: None,
            calls: 0,
        };
        let parameters = Parameters::read(&table).unwrap();
        let mut world = Bench::with_workers(workers, parameters, seed, parts);
        world.act(|ipam, context| {
            context.api.start(&mut context.core);
            ipam.start(context);
        });
        world
    }

    /// Does something to the IPAM.
    pub(super) fn act<T>(&mut self, body: impl FnOnce(&mut I, &mut Context<'_>) -> T) -> T {
        self.enter(|parts, context| body(&mut parts.ipam, context))
    }

    /// A Pod on a worker, with an `app` label.
    pub(super) fn create_pod(&mut self, name: &str, node: u32, app: &str) -> PodUid {
        self.create_bound(name, node, &[("app", app)], |_| {})
    }

    /// The id of one more execution.
    pub(super) fn next_call(&mut self) -> IpamCallId {
        self.parts.calls += 1;
        IpamCallId(self.parts.calls)
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
        self.turn();
        self.parts.exit.take()
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

    /// Requests of plugins and agents since the log was last cleared, in order of their answers.
    pub(super) fn requests(&self) -> Vec<String> {
        let calls = self.log.iter();
        calls
            .filter_map(|(_, observation)| match observation {
                Observation::ApiCall {
                    class: ClientClass::IpamNode,
                    what,
                    ..
                } if what.verb != "WATCH" => Some(format!("{} {}", what.verb, what.resource)),
                _ => None,
            })
            .collect()
    }

    /// Everybody's requests, likewise: when answered, verb, resource, refused.
    pub(super) fn answered(&self) -> Vec<(SimInstant, &'static str, &'static str, bool)> {
        let calls = self.log.iter();
        calls
            .filter_map(|(at, observation)| match observation {
                Observation::ApiCall { what, result, .. } if what.verb != "WATCH" => {
                    Some((*at, what.verb, what.resource, result.is_err()))
                }
                _ => None,
            })
            .collect()
    }

    /// One of the IPAM's totals.
    pub(super) fn counter(&self, name: &str) -> u64 {
        let counters = self.parts.ipam.counters();
        counters
            .iter()
            .find(|(known, _)| *known == name)
            .expect("a known counter")
            .1
    }
}
