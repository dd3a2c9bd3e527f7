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
use drydock_models::cni::Verb;
use drydock_models::event::Event;
use drydock_models::ids::{NodeIndex, PodUid};
use drydock_models::observation::Observation;
use drydock_models::request::ClientClass;
use drydock_traces::run_record::{
    EndReason, FaultCount, Invariant as RecordedInvariant, ResourceUse, Violation, WaitingPod,
};

use crate::adapters::{self, Watcher};
use crate::cli::Allocator;
use crate::faults::inject::{Hands, Hindrance, Injector, Notice};
use crate::faults::roles::roles;
use crate::oracle::leaked;
use crate::oracle::{Allowed, Bounds, Fact, Invariant, Judged, Ledger};
use crate::recorder::Recorder;
use crate::runner::{GAUGE_RUNNING, GAUGE_WANTED};
use crate::scenario::{Scenario, ScenarioError};

/// Published bounds of Berth's promises. The release bound: 20 s after the last DEL (30 s for a
/// young ADD), a look at the path every 5 s, 3 s of linger, and two API deadlines of 10 s. The
/// bound of what nobody asked for: ten minutes, and the release. The
/// bound of convergence: the quarantine of a burial (10 min) and half of it again for everything
/// that waits behind.
const BOUNDS: Bounds = Bounds {
    release: Duration::from_secs(90),
    release_former_boot: Duration::from_mins(15),
    unbound: Duration::from_mins(1),
    unasked: Duration::from_secs(690),
    converge: Duration::from_mins(20),
};

/// Machines that may join during a run, at most: what hinders all hinders them, too.
const JOIN_MAX: u32 = 8;

/// What a user creates, as resources of the API.
const WORKLOAD: [&str; 5] = ["deployments", "replicasets", "statefulsets", "jobs", "pods"];

/// Everybody who listens to the world.
struct Listeners {
    recorder: Recorder,
    ledger: Ledger,
    watcher: Watcher,
    progress: Arc<Progress>,
    /// Pods whose names are to be remembered: when they are gone, nobody else knows them.
    created: Vec<PodUid>,
    adds_begun: Vec<(NodeIndex, PodUid)>,
    plugins_ended: Vec<(NodeIndex, Verb)>,
    /// When the user last began something, until the first object of the workload was stored.
    user_acts: SimInstant,
    workload_started: Option<SimInstant>,
    log_ordinal: u64,
    first_violation_event: Option<u64>,
}

impl Listeners {
    fn hear(&mut self, at: SimInstant, observation: &Observation) {
        self.recorder.observe(at, observation);
        self.enter(at, &Fact::World(observation));
        for fact in self.watcher.facts(observation) {
            self.enter(at, &fact);
        }
        match observation {
            Observation::PodCreated { pod } => self.created.push(*pod),
            Observation::AddStarted { node, pod, .. } => self.adds_begun.push((*node, *pod)),
            Observation::IpamAddEnded { node, .. } => self.plugins_ended.push((*node, Verb::Add)),
            Observation::IpamDelEnded { node, .. } => self.plugins_ended.push((*node, Verb::Del)),
            Observation::ApiCall {
                class: ClientClass::User,
                what,
                ..
            } if self.workload_started.is_none() && WORKLOAD.contains(&what.resource) => {
                self.workload_started = Some(self.user_acts);
            }
            Observation::PodRunning { .. } => {
                let running = self.recorder.running_curve_ns.len() as u64;
                self.progress.set_gauge(GAUGE_RUNNING, running);
            }
            _ => {}
        }
    }

    fn enter(&mut self, at: SimInstant, fact: &Fact<'_>) {
        if !self.ledger.enter(at, fact) {
            self.first_violation_event.get_or_insert(self.log_ordinal);
        }
    }
}

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
    /// All Pods are to be deleted once they run.
    recreates: bool,
    node_count: u32,
    mutant: Option<String>,
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
        let node_names = ClusterSpec::node_names(scenario.nodes as usize);
        let (ipam, watcher) = adapters::ipam(scenario, tasks)?;
        let wanted = scenario.workload.pod_count();
        progress.set_gauge(GAUGE_WANTED, wanted);
        let judged = match scenario.allocator {
            Allocator::Berth | Allocator::Instant => Judged::All,
            _ => Judged::Truth,
        };
        let listeners = Rc::new(RefCell::new(Listeners {
            recorder: Recorder::default(),
            ledger: Ledger::new(allowed(scenario), BOUNDS, judged),
            watcher,
            progress,
            created: Vec::new(),
            adds_begun: Vec::new(),
            plugins_ended: Vec::new(),
            user_acts: SimInstant::ZERO,
            workload_started: None,
            log_ordinal: 0,
            first_violation_event: None,
        }));
        let spec = ClusterSpec {
            node_names,
            masters: scenario.masters() as usize,
            parameters: scenario.parameters.world.clone(),
            workload: scenario.workload.clone(),
            churn: None,
            plan: Vec::new(),
            seed: scenario.seed.0,
            tie_break: order,
            kubelets: true,
            ends_by_itself: scenario.plan.is_none(),
        };
        let (mut cluster, mut queue) = Cluster::new(spec, ipam);
        let heard = listeners.clone();
        cluster.observe(Box::new(move |at, observation| {
            heard.borrow_mut().hear(at, observation);
        }));
        let streams = Streams::new(scenario.seed.0);
        let injector = scenario.plan.clone().map(|plan| {
            let churn = streams.stream("storm", 0, "churn");
            Injector::new(plan, roles(scenario.allocator), churn)
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
                Judged::Truth => BOUNDS.release,
            },
            recreates: scenario.recreate,
            node_count: scenario.nodes,
            mutant: scenario.mutant.clone(),
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
        self.listeners.borrow_mut().log_ordinal = log.count();
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
        (at.saturating_since(healed) > BOUNDS.converge).then_some(EndReason::NotConverged)
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

    /// What was measured.
    pub fn recorder(&self) -> std::cell::Ref<'_, Recorder> {
        std::cell::Ref::map(self.listeners.borrow(), |listeners| &listeners.recorder)
    }

    /// Breaches, for the record.
    pub fn violations(&self) -> Vec<Violation> {
        let listeners = self.listeners.borrow();
        let first_event = listeners
            .first_violation_event
            .unwrap_or(listeners.log_ordinal);
        let recorded = |violation: &crate::oracle::Violation| Violation {
            invariant: recorded_invariant(violation.invariant),
            at_ns: violation.at.as_nanos(),
            subject: violation.subject.clone(),
            text: violation.text.clone(),
            first_event,
        };
        listeners.ledger.violations().iter().map(recorded).collect()
    }

    /// Pods that wait, with why. Shape: sorted by namespace and name.
    pub fn waiting(&self) -> Vec<WaitingPod> {
        let waiting = self.cluster.waiting().into_iter().map(|waiting| {
            let (namespace, name) = waiting
                .name
                .split_once('/')
                .unwrap_or(("default", &waiting.name));
            WaitingPod {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                why: waiting.reason.clone(),
            }
        });
        crate::runner::sorted_waiting(waiting.collect())
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

    /// How busy each machine was. Shape: sorted by name.
    pub fn resources(&self, now: SimInstant) -> Vec<ResourceUse> {
        let mut uses = Vec::new();
        for machine in self.cluster.machines() {
            let name = &machine.node_name;
            let elapsed = now.as_nanos().max(1);
            let node = &self.cluster.parameters().node_side.node;
            let millicores = u128::from(node.cores.0.max(1));
            let cpu = &machine.cpu;
            uses.push(ResourceUse {
                name: format!("node/{name}/cpu"),
                busy_ppm: (u128::from(cpu.busy_core_nanos(now)) * 1_000_000_000
                    / u128::from(elapsed)
                    / millicores) as u64,
                queue_peak: cpu.peak() as u64,
            });
            let busy = machine.bbolt.busy_nanos();
            uses.push(ResourceUse {
                name: format!("node/{name}/bbolt"),
                busy_ppm: (u128::from(busy) * 1_000_000 / u128::from(elapsed)) as u64,
                queue_peak: machine.bbolt.peak() as u64,
            });
        }
        uses.sort_by(|one, other| one.name.cmp(&other.name));
        uses.dedup_by(|one, other| one.name == other.name);
        uses
    }

    /// Probes: what a storm or a run came upon.
    pub fn probes(&self) -> BTreeMap<String, u64> {
        let listeners = self.listeners.borrow();
        let mut probes: BTreeMap<String, u64> = listeners
            .recorder
            .reported
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        for (name, total) in self.cluster.ipam_counters() {
            probes.insert(name.to_owned(), total);
        }
        let truth = listeners.ledger.truth();
        let records = self.cluster.ipam().allocated(self.cluster.api());
        let leaked = leaked::leaked(truth, &self.names, &records).len() as u64;
        let recorded: BTreeSet<_> = records.iter().map(|record| record.address).collect();
        let unrecorded = truth.by_address.keys();
        let unrecorded = unrecorded.filter(|address| !recorded.contains(*address));
        probes.insert("addresses_unrecorded".to_owned(), unrecorded.count() as u64);
        probes.insert("addresses_allocated".to_owned(), records.len() as u64);
        probes.insert("addresses_leaked".to_owned(), leaked);
        let kept = leaked::kept(truth, &self.names, &records) as u64;
        if kept > 0 {
            probes.insert("addresses_kept".to_owned(), kept);
        }
        let longest = listeners.ledger.longest_release().as_nanos() as u64;
        probes.insert("longest-release-ns".to_owned(), longest);
        probes.insert("peak-addresses-in-use".to_owned(), truth.peak_in_use as u64);
        probes.insert(
            "two-sandboxes-of-one-pod".to_owned(),
            truth.same_pod_overlaps,
        );
        if let Some(injector) = &self.injector {
            let inside = u64::from(injector.struck_inside_cni);
            probes.insert("fault-inside-cni".to_owned(), inside);
        }
        probes
    }

    /// Faults by kind.
    pub fn fault_counts(&self) -> BTreeMap<String, FaultCount> {
        self.injector
            .as_ref()
            .map(Injector::counts)
            .unwrap_or_default()
    }

    /// Name of the allocator, with its mutant.
    pub fn allocator_name(&self) -> String {
        let allocator = self.cluster.ipam().name();
        self.mutant.as_ref().map_or(allocator.to_owned(), |mutant| {
            format!("{allocator}+{mutant}")
        })
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

fn recorded_invariant(invariant: Invariant) -> RecordedInvariant {
    match invariant {
        Invariant::U => RecordedInvariant::U,
        Invariant::B => RecordedInvariant::B,
        Invariant::A => RecordedInvariant::A,
        Invariant::R => RecordedInvariant::R,
        Invariant::I => RecordedInvariant::I,
        Invariant::K => RecordedInvariant::K,
        Invariant::L => RecordedInvariant::L,
        Invariant::S => RecordedInvariant::S,
        Invariant::H => RecordedInvariant::H,
    }
}
