//! The wiring of a run: cluster, ledger, recorder and fault plan in one loop. It hands events on
//! and says when a run is over; it has no rule of Kubernetes and no opinion on addresses.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use drydock_engine::drive::World as Drive;
use drydock_engine::{EventLog, Progress, Queue, SimInstant, Streams, Tasks, TieBreak};
use drydock_models::cluster::{Cluster, ClusterSpec, End};
use drydock_models::event::Event;
use drydock_models::ids::{NodeIndex, PodUid};
use drydock_traces::run_record::EndReason;

use crate::adapters;
use crate::adapters::adapter::Adapted;
use crate::faults::inject::{Hands, Hindrance, Injector, Notice};
use crate::listeners::{GAUGE_WANTED, Listeners};
use crate::oracle::leaked;
use crate::oracle::{Allowed, Fact, Judged, Ledger};
use crate::scenario::{Scenario, ScenarioError};

/// How many machines may join during a run: what hinders all hinders them too.
const JOIN_MAX: u32 = 8;

/// A cluster and those who watch it.
pub struct World {
    cluster: Cluster,
    listeners: Rc<RefCell<Listeners>>,
    injector: Option<Injector>,
    started: bool,
    wanted: u64,
    end: Option<EndReason>,
    healed: Option<SimInstant>,
    /// Since when a healed world wants nothing; with the time that releases may take from there.
    settled: Option<SimInstant>,
    settles_for: Duration,
    /// A healed world that is not settled after this never will be.
    converges_within: Duration,
    /// Whether to delete all Pods once they run.
    recreates: bool,
    node_count: u32,
    names: leaked::Names,
}

impl World {
    /// Builds and starts a world; its events are in the queue.
    /// Errors: a pool that the allocator refuses, an unknown mutant.
    pub fn new(
        scenario: &Scenario,
        tasks: &Tasks,
        progress: Arc<Progress>,
        order: TieBreak,
        log: &mut EventLog,
    ) -> Result<(World, Queue<Event>), ScenarioError> {
        let adapter = adapters::of(scenario.allocator);
        let Adapted { ipam, reader } = adapter.set_up(scenario, tasks)?;
        assert_eq!(
            ipam.name(),
            scenario.allocator.name(),
            "an adapter sets up the allocator that it is named after"
        );
        let wanted = scenario.workload.pod_count();
        progress.set_gauge(GAUGE_WANTED, wanted);
        let (judged, bounds) = (adapter.judged(), adapter.bounds());
        let ledger = Ledger::new(allowed(scenario), bounds, judged);
        let listeners = Rc::new(RefCell::new(Listeners::new(ledger, reader, progress)));
        let (mut cluster, mut queue) = Cluster::new(spec(scenario, order), ipam);
        let heard = listeners.clone();
        cluster.observe(Box::new(move |at, observation| {
            heard.borrow_mut().hear(at, observation);
        }));
        let injector = scenario.plan.clone().map(|plan| {
            let churn = Streams::new(scenario.seed.0).stream("storm", 0, "churn");
            Injector::new(plan, adapter.roles(), churn)
        });
        cluster.start(&mut queue, log);
        let world = World {
            cluster,
            listeners,
            injector,
            started: false,
            wanted,
            end: None,
            healed: None,
            settled: None,
            // What Berth owes is known from its records; of others it is seen at the end.
            settles_for: match judged {
                Judged::All => Duration::ZERO,
                Judged::Truth => bounds.release,
            },
            converges_within: bounds.converge,
            recreates: scenario.recreate,
            node_count: scenario.nodes,
            names: BTreeMap::new(),
        };
        Ok((world, queue))
    }

    /// Lets the plan act, and tells the ledger who cannot.
    fn inject(
        &mut self,
        queue: &mut Queue<Event>,
        log: &mut EventLog,
        act: impl FnOnce(&mut Injector, &mut Hands<'_>),
    ) {
        let Some(injector) = &mut self.injector else {
            return;
        };
        let mut hands = Hands {
            cluster: &mut self.cluster,
            queue,
            log,
        };
        act(injector, &mut hands);
        let at = queue.now();
        let mut listeners = self.listeners.borrow_mut();
        for notice in injector.notices() {
            let (whom, begins) = match notice {
                Notice::Hinders { whom, begins } => (whom, begins),
                Notice::Buried(node) => {
                    listeners.enter(at, &Fact::Buried(node));
                    continue;
                }
                Notice::Replaced { old, new } => {
                    listeners.enter(at, &Fact::Replaced { old, new });
                    continue;
                }
            };
            let machines = match whom {
                Hindrance::Node(node) => vec![node],
                Hindrance::All => (0..self.node_count + JOIN_MAX).map(NodeIndex).collect(),
                Hindrance::Nobody => Vec::new(),
            };
            for node in machines {
                let fact = if begins {
                    Fact::Hindered(node)
                } else {
                    Fact::Unhindered(node)
                };
                listeners.enter(at, &fact);
            }
        }
    }

    /// After each event: triggers that fired, the start of the plan, the end of the run.
    fn follow(&mut self, queue: &mut Queue<Event>, log: &mut EventLog) {
        let created = std::mem::take(&mut self.listeners.borrow_mut().created);
        for uid in created {
            if let Some(pod) = self.cluster.api().pod(uid) {
                let name = (pod.namespace.clone(), pod.name.clone());
                self.names.insert(uid, name);
                if let Some(by_another) = adapters::never_asks(pod) {
                    let fact = Fact::NeverAsks {
                        pod: uid,
                        by_another,
                    };
                    self.listeners.borrow_mut().enter(queue.now(), &fact);
                }
            }
        }
        if self.injector.is_some() {
            if !self.started && self.cluster.census().created() > 0 {
                self.started = true;
                self.inject(queue, log, Injector::start);
            }
            let begun = std::mem::take(&mut self.listeners.borrow_mut().adds_begun);
            for (node, pod) in begun {
                self.inject(queue, log, |injector, hands| {
                    injector.add_begins(node, pod, hands);
                });
            }
            let ended = std::mem::take(&mut self.listeners.borrow_mut().plugins_ended);
            for (node, verb) in ended {
                self.inject(queue, log, |injector, hands| {
                    injector.plugin_ended(node, verb, hands);
                });
            }
            self.inject(queue, log, Injector::poll);
            self.heal(queue.now());
        }
        if self.recreates && self.cluster.finished() {
            self.recreates = false;
            if self.cluster.end() == Some(End::AllRunning) {
                let (at, wanted) = (queue.now(), self.wanted);
                let mut listeners = self.listeners.borrow_mut();
                listeners.recorder.recreation_began(at, wanted);
                drop(listeners);
                self.cluster.delete_all(queue, log);
            }
        }
        let mut listeners = self.listeners.borrow_mut();
        assert!(log.count() >= listeners.log_ordinal, "a log only grows");
        listeners.log_ordinal = log.count();
        drop(listeners);
        if self.end.is_none() {
            self.end = self.judge(queue.now());
        }
    }

    /// Which plugins of the allocator run.
    fn plugin_event(&self, at: SimInstant, event: &Event) {
        let fact = match event {
            Event::IpamExec(call) => Fact::Executed(call),
            Event::IpamExit { call, .. } | Event::IpamKill { call, .. } => Fact::Exited(*call),
            _ => return,
        };
        self.listeners.borrow_mut().enter(at, &fact);
    }

    fn heal(&mut self, at: SimInstant) {
        if self.healed.is_none() && self.injector.as_ref().is_some_and(Injector::is_over) {
            assert!(self.started, "a plan is over only after it began");
            self.healed = Some(at);
            self.listeners.borrow_mut().enter(at, &Fact::Healed);
        }
    }

    /// Whether the run has reached its end, and which.
    fn judge(&mut self, at: SimInstant) -> Option<EndReason> {
        let listeners = self.listeners.borrow();
        if !listeners.ledger.violations().is_empty() {
            return Some(EndReason::Violated);
        }
        self.injector.as_ref()?;
        let healed = self.healed?;
        let settled = self.converged() && listeners.ledger.nothing_owed();
        self.settled = self.settled.filter(|_| settled);
        if settled {
            let since = *self.settled.get_or_insert(at);
            let over = at.saturating_since(since) >= self.settles_for;
            return over.then_some(EndReason::Healed);
        }
        (at.saturating_since(healed) > self.converges_within).then_some(EndReason::NotConverged)
    }

    /// Every wanted Pod runs and none is on its way out.
    fn converged(&self) -> bool {
        let census = self.cluster.census();
        census.running() >= self.wanted && census.waiting_count() == 0
    }

    /// Why the run ended.
    pub fn end_reason(&self) -> EndReason {
        self.end.unwrap_or(match self.cluster.end() {
            Some(End::AllRunning) | None => EndReason::AllRunning,
            Some(End::NoProgress) => EndReason::Stuck,
        })
    }

    /// The last look of the ledger.
    pub fn close(&mut self, at: SimInstant) {
        let waiting: Vec<PodUid> = self
            .cluster
            .waiting()
            .into_iter()
            .map(|waiting| waiting.pod)
            .collect();
        let mut listeners = self.listeners.borrow_mut();
        let free = listeners.ledger.free_addresses();
        listeners.ledger.close(at, &waiting, free);
    }

    /// When the user began to create the workload.
    pub fn workload_started(&self) -> SimInstant {
        self.listeners
            .borrow()
            .workload_started
            .unwrap_or(SimInstant::ZERO)
    }

    /// Who listened.
    pub fn listeners(&self) -> std::cell::Ref<'_, Listeners> {
        self.listeners.borrow()
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The plan at work.
    pub fn injector(&self) -> Option<&Injector> {
        self.injector.as_ref()
    }

    /// Names of all Pods that ever were.
    pub fn names(&self) -> &leaked::Names {
        &self.names
    }

    /// Namespace and name of a Pod, gone or not.
    pub fn pod_name(&self, pod: PodUid) -> (String, String) {
        self.names.get(&pod).map_or_else(
            || ("default".to_owned(), format!("pod-{pod}")),
            |(namespace, name)| (namespace.to_string(), name.to_string()),
        )
    }

    /// Name of the node that a machine stands for.
    pub fn node_name(&self, node: NodeIndex) -> String {
        self.cluster.machines()[node.index()].node_name.to_string()
    }
}

impl Drive for World {
    type Event = Event;

    fn handle(
        &mut self,
        at: SimInstant,
        event: Event,
        queue: &mut Queue<Event>,
        log: &mut EventLog,
    ) {
        if let Event::Fault { index, heal } = event {
            self.inject(queue, log, |injector, hands| {
                injector.event(index, heal, hands);
            });
        } else {
            self.plugin_event(at, &event);
            if matches!(event, Event::Driver { .. }) {
                self.listeners.borrow_mut().user_acts = at;
            }
            if self.injector.is_some() {
                self.inject(queue, log, |injector, hands| injector.before(&event, hands));
            }
            self.cluster.handle(at, event, queue, log);
        }
        self.follow(queue, log);
    }

    fn after_tasks(&mut self, queue: &mut Queue<Event>, log: &mut EventLog) {
        self.cluster.after_tasks(queue, log);
        self.follow(queue, log);
    }

    fn finished(&self) -> bool {
        self.end.is_some() || self.cluster.finished()
    }
}

/// The cluster of a scenario.
fn spec(scenario: &Scenario, order: TieBreak) -> ClusterSpec {
    let (nodes, masters) = (scenario.nodes as usize, scenario.masters() as usize);
    ClusterSpec {
        node_names: ClusterSpec::node_names(nodes, masters),
        masters,
        parameters: scenario.parameters.world.clone(),
        workload: scenario.workload.clone(),
        seed: scenario.seed.0,
        tie_break: order,
        kubelets: true,
        ends_by_itself: scenario.plan.is_none(),
    }
}

/// Every address that the pools may give out.
fn allowed(scenario: &Scenario) -> Allowed {
    let mut usable = BTreeSet::new();
    for pool in &scenario.pools {
        for family in pool.ipv4.iter().chain(&pool.ipv6) {
            for range in &family.ranges {
                // An IPv6 range may have more addresses than anybody counts; ordinals beyond the
                // shorter family are never used, so the count of ordinals bounds what is listed.
                let limit = u128::from(scenario.address_count()) + 65_536;
                for offset in 0..range.count().min(limit) {
                    let Some(address) = range.nth(offset) else {
                        break;
                    };
                    let masked = family.gateway == Some(address)
                        || family.exclude.iter().any(|masked| masked.contains(address));
                    if !masked {
                        usable.insert(address);
                    }
                }
            }
        }
    }
    Allowed {
        usable,
        fenced: Some(adapters::FENCED),
    }
}
