//! Carries out a plan: waits for each fault's trigger, strikes, heals, and says what fired. It
//! draws nothing but which Pods churn, from a stream of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use drydock_engine::{Queue, SimInstant, Stream};
use drydock_models::apiserver::{CallEffect, CallFault, CallSelector, FaultId};
use drydock_models::cluster::Cluster;
use drydock_models::cni::{IpamFault, Verb};
use drydock_models::event::Event;
use drydock_models::ids::{NodeIndex, PodUid};
use drydock_models::request::ClientClass;
use drydock_traces::plan::{CniVerb, Edge, Fault, FaultKind, Plan, Target, Trigger};
use drydock_traces::run_record::FaultCount;

/// What the ledger must know of a fault: whose agent cannot act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// One machine's.
    Node(NodeIndex),
    /// Everybody's: an apiserver is away.
    All,
}

/// A change of who can act, for the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Who.
    pub whom: Hindrance,
    /// Cannot act from now on, or can again.
    pub begins: bool,
}

/// Where a fault stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Fired,
    /// Its moment passed, or its subject was not there.
    Void,
}

/// The plan at work.
#[derive(Debug)]
pub struct Injector {
    plan: Plan,
    states: Vec<State>,
    /// Machine that now stands for each node of the plan.
    machines: Vec<NodeIndex>,
    /// Faults at the k-th CNI call of a node, with the calls seen.
    cni_calls: BTreeMap<(u32, CniVerb, Edge), u64>,
    armed_writes: BTreeMap<FaultId, usize>,
    fired_seen: usize,
    churn: Stream,
    /// Faults that struck and are not healed.
    open: u32,
    /// No new fault strikes from here on.
    over: bool,
    /// A fault fired inside an ADD or a DEL.
    pub struck_inside_cni: bool,
    notices: Vec<Notice>,
}

/// Faults do not begin later than this after the first Pod; what was drawn for later is void.
const LATEST: Duration = Duration::from_mins(3);

/// Position in the queue's fault events of the first round of churn.
const CHURN_BASE: u32 = 1 << 16;
/// Position of the end of the storm.
const OVER: u32 = u32::MAX;

impl Injector {
    /// A plan for a world of that many nodes.
    pub fn new(plan: Plan, churn: Stream) -> Injector {
        let states = vec![State::Waiting; plan.faults.len()];
        let machines = (0..plan.world.nodes).map(NodeIndex).collect();
        Injector {
            plan,
            states,
            machines,
            cni_calls: BTreeMap::new(),
            armed_writes: BTreeMap::new(),
            fired_seen: 0,
            churn,
            open: 0,
            over: false,
            struck_inside_cni: false,
            notices: Vec::new(),
        }
    }

    /// The workload starts: sets every trigger.
    pub fn start(&mut self, cluster: &mut Cluster, at: SimInstant, queue: &mut Queue<Event>) {
        for (index, fault) in self.plan.faults.clone().into_iter().enumerate() {
            let position = index as u32;
            match fault.at {
                Trigger::TimeNs(time_ns) => {
                    let when = at + Duration::from_nanos(time_ns);
                    queue.at(when, Event::Fault { index: position, heal: false });
                }
                Trigger::PortCall { agent, call, edge } => {
                    let kill = (fault.kind == FaultKind::AgentKill)
                        .then(|| duration(&fault));
                    let armed = IpamFault::ArmPortCall {
                        node: self.machine(agent),
                        call,
                        before: edge == Edge::Before,
                        fault: position,
                        kill,
                    };
                    cluster.inject_ipam(armed, at, queue);
                }
                Trigger::Write { agent, write } => {
                    let effect = match fault.kind {
                        FaultKind::WriteDelayed => CallEffect::Hold(duration(&fault)),
                        _ => CallEffect::LoseResponse,
                    };
                    let armed = CallFault {
                        selector: CallSelector::writes_of(
                            ClientClass::IpamNode,
                            Some(self.machine(agent)),
                        ),
                        nth: write as u32,
                        effect,
                    };
                    self.armed_writes.insert(cluster.arm(armed), index);
                }
                Trigger::Cni { .. } => {}
            }
        }
        if let Some(churn) = self.plan.world.churn {
            for round in 0..churn.rounds {
                let after = Duration::from_nanos(churn.every_ns) * (round + 1);
                let index = CHURN_BASE + round;
                queue.at(at + after, Event::Fault { index, heal: false });
            }
        }
        queue.at(at + LATEST, Event::Fault { index: OVER, heal: false });
    }

    /// The machine that now stands for a node of the plan.
    fn machine(&self, node: u32) -> NodeIndex {
        self.machines[node as usize]
    }

    /// Whether no fault can strike any more and all that struck are healed.
    pub fn is_over(&self) -> bool {
        self.over && self.open == 0
    }

    /// Changes of who can act since the last look.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// How often each kind was drawn and fired.
    pub fn counts(&self) -> BTreeMap<String, FaultCount> {
        let mut counts = BTreeMap::new();
        for (fault, state) in self.plan.faults.iter().zip(&self.states) {
            let count = counts
                .entry(fault.kind.as_str().to_owned())
                .or_insert(FaultCount { drawn: 0, fired: 0 });
            count.drawn += 1;
            count.fired += u64::from(*state == State::Fired);
        }
        counts
    }

    /// Before an event is handled: triggers at CNI calls that are about to start.
    pub fn before(
        &mut self,
        event: &Event,
        cluster: &mut Cluster,
        at: SimInstant,
        queue: &mut Queue<Event>,
    ) {
        if let Event::IpamExec(call) = event {
            self.cni_call(call.node, call.verb, Edge::Before, cluster, at, queue);
        }
    }

    /// After an IPAM plugin ended.
    pub fn plugin_ended(
        &mut self,
        node: NodeIndex,
        verb: Verb,
        cluster: &mut Cluster,
        at: SimInstant,
        queue: &mut Queue<Event>,
    ) {
        self.cni_call(node, verb, Edge::After, cluster, at, queue);
    }

    fn cni_call(
        &mut self,
        node: NodeIndex,
        verb: Verb,
        edge: Edge,
        cluster: &mut Cluster,
        at: SimInstant,
        queue: &mut Queue<Event>,
    ) {
        let verb = match verb {
            Verb::Add => CniVerb::Add,
            Verb::Del => CniVerb::Del,
        };
        let Some(place) = self.machines.iter().position(|machine| *machine == node) else {
            return;
        };
        let seen = self.cni_calls.entry((place as u32, verb, edge)).or_default();
        *seen += 1;
        let seen = *seen;
        let due = self.plan.faults.iter().position(|fault| {
            fault.at == Trigger::Cni { node: place as u32, verb, call: seen, edge }
        });
        if let Some(index) = due
            && self.strike(index, cluster, at, queue)
        {
            self.struck_inside_cni = true;
        }
    }

    /// After every event: triggers that others watch for.
    pub fn poll(&mut self, cluster: &mut Cluster, at: SimInstant, queue: &mut Queue<Event>) {
        for position in cluster.ipam_triggered() {
            let index = position as usize;
            if self.plan.faults[index].kind == FaultKind::AgentKill {
                // The process is dead already; only the book-keeping is left.
                self.begins(index, Hindrance::Node(self.target_machine(index)), at, queue);
            } else {
                self.strike(index, cluster, at, queue);
            }
        }
        let fired: Vec<FaultId> =
            cluster.fired()[self.fired_seen..].iter().map(|fired| fired.fault).collect();
        self.fired_seen += fired.len();
        for fault in fired {
            if let Some(index) = self.armed_writes.remove(&fault) {
                let hindered = Hindrance::Node(self.target_machine(index));
                self.begins(index, hindered, at, queue);
            }
        }
    }

    fn target_machine(&self, index: usize) -> NodeIndex {
        match self.plan.faults[index].target {
            Target::Agent(node) | Target::Node(node) => self.machine(node),
            Target::Apiserver(_) | Target::Pod(_) => NodeIndex(0),
        }
    }

    /// A fault event of the queue.
    pub fn event(
        &mut self,
        position: u32,
        heal: bool,
        cluster: &mut Cluster,
        at: SimInstant,
        queue: &mut Queue<Event>,
    ) {
        if position == OVER {
            self.over = true;
            for state in &mut self.states {
                if *state == State::Waiting {
                    *state = State::Void;
                }
            }
            for fault in std::mem::take(&mut self.armed_writes).into_keys() {
                cluster.disarm(fault);
            }
        } else if position >= CHURN_BASE {
            self.churn(cluster, at, queue);
        } else if heal {
            self.heal(position as usize, cluster, at, queue);
        } else {
            self.strike(position as usize, cluster, at, queue);
        }
    }

    /// Deletes some running Pods, as a user would.
    fn churn(&mut self, cluster: &mut Cluster, at: SimInstant, queue: &mut Queue<Event>) {
        let Some(churn) = self.plan.world.churn else { return };
        let mut pods: Vec<PodUid> = cluster
            .pods()
            .filter(|pod| pod.deletion.is_none() && pod.node_name.is_some())
            .map(|pod| pod.uid)
            .collect();
        self.churn.shuffle(&mut pods);
        for pod in pods.into_iter().take(churn.pods_per_round as usize) {
            cluster.delete_pod(pod, None, at, queue);
        }
    }

    /// Strikes, if the subject is there. Returns whether it did.
    fn strike(
        &mut self,
        index: usize,
        cluster: &mut Cluster,
        at: SimInstant,
        queue: &mut Queue<Event>,
    ) -> bool {
        if self.states[index] != State::Waiting || self.over {
            return false;
        }
        let fault = self.plan.faults[index];
        let node = self.target_machine(index);
        match (fault.kind, fault.target) {
            (FaultKind::AgentKill, _) => {
                if cluster.ipam_is_down(node) {
                    return self.void(index);
                }
                let restart_after = duration(&fault);
                cluster.inject_ipam(IpamFault::KillAgent { node, restart_after }, at, queue);
                self.begins(index, Hindrance::Node(node), at, queue);
            }
            (FaultKind::NodePartition, _) => {
                if cluster.is_cut(node) || !cluster.is_up(node) {
                    return self.void(index);
                }
                cluster.cut(node, at, queue);
                self.begins(index, Hindrance::Node(node), at, queue);
            }
            (FaultKind::ApiserverRestart, Target::Apiserver(server)) => {
                if !cluster.apiserver_serves(server) {
                    return self.void(index);
                }
                cluster.restart_apiserver(server, duration(&fault), at, queue);
                self.begins(index, Hindrance::All, at, queue);
            }
            (FaultKind::PodDelete | FaultKind::PodForceDelete, Target::Pod(pod)) => {
                let there = cluster.pod(PodUid(pod)).is_some_and(|pod| pod.deletion.is_none());
                if !there {
                    return self.void(index);
                }
                let grace = (fault.kind == FaultKind::PodForceDelete).then_some(Duration::ZERO);
                cluster.delete_pod(PodUid(pod), grace, at, queue);
                self.states[index] = State::Fired;
            }
            (FaultKind::LinkDeleteFails, _) => {
                cluster.fail_link_deletions(node, 1, 1, at, queue);
                self.states[index] = State::Fired;
            }
            (FaultKind::MachineReplaced, Target::Node(place)) => {
                if cluster.is_cut(node) || !cluster.is_up(node) {
                    return self.void(index);
                }
                cluster.cut(node, at, queue);
                self.machines[place as usize] = cluster.replace_machine(node, at, queue);
                self.begins(index, Hindrance::Node(node), at, queue);
            }
            (FaultKind::NodeReboot, _) => {
                if !cluster.is_up(node) {
                    return self.void(index);
                }
                cluster.power_off(node, Some(duration(&fault)), at, queue);
                self.begins(index, Hindrance::Node(node), at, queue);
            }
            (FaultKind::KubeletRestart, _) => {
                if !cluster.is_up(node) {
                    return self.void(index);
                }
                cluster.restart_kubelet(node, at, queue);
                self.begins(index, Hindrance::Node(node), at, queue);
            }
            (FaultKind::PowerOffAndBury, _) => {
                if !cluster.is_up(node) {
                    return self.void(index);
                }
                cluster.power_off(node, None, at, queue);
                self.begins(index, Hindrance::Node(node), at, queue);
            }
            (kind, target) => unreachable!("{kind:?} of {target:?} passes no check of a plan"),
        }
        true
    }

    fn void(&mut self, index: usize) -> bool {
        self.states[index] = State::Void;
        false
    }

    /// Marks a fault as fired, tells the ledger, and plans its end.
    fn begins(
        &mut self,
        index: usize,
        whom: Hindrance,
        at: SimInstant,
        queue: &mut Queue<Event>,
    ) {
        if self.states[index] != State::Waiting {
            return;
        }
        self.states[index] = State::Fired;
        self.open += 1;
        self.notices.push(Notice { whom, begins: true });
        let fault = &self.plan.faults[index];
        // What has no duration of its own (a lost answer) hinders until the client has given up.
        let lasts = fault.duration_ns.map_or(Duration::from_secs(10), Duration::from_nanos);
        queue.at(at + lasts, Event::Fault { index: index as u32, heal: true });
    }

    /// The end of a fault.
    fn heal(
        &mut self,
        index: usize,
        cluster: &mut Cluster,
        at: SimInstant,
        queue: &mut Queue<Event>,
    ) {
        let fault = self.plan.faults[index];
        let whom = match fault.kind {
            FaultKind::ApiserverRestart => Hindrance::All,
            _ => Hindrance::Node(self.struck_machine(index)),
        };
        match fault.kind {
            FaultKind::NodePartition => cluster.heal(self.struck_machine(index), at, queue),
            FaultKind::MachineReplaced => {
                // The old machine is switched off, and that is the operator's word.
                let old = self.struck_machine(index);
                cluster.power_off(old, None, at, queue);
                cluster.heal(old, at, queue);
                cluster.inject_ipam(IpamFault::Bury { node: old }, at, queue);
            }
            FaultKind::PowerOffAndBury => {
                let node = self.struck_machine(index);
                cluster.evacuate(node, at, queue);
                cluster.inject_ipam(IpamFault::Bury { node }, at, queue);
            }
            _ => {}
        }
        self.open -= 1;
        self.notices.push(Notice { whom, begins: false });
    }

    /// The machine that a fault struck; a replaced one is not the one that stands there now.
    fn struck_machine(&self, index: usize) -> NodeIndex {
        match self.plan.faults[index].target {
            Target::Node(place) | Target::Agent(place) => {
                let now = self.machine(place);
                if self.plan.faults[index].kind == FaultKind::MachineReplaced {
                    NodeIndex(place)
                } else {
                    now
                }
            }
            Target::Apiserver(_) | Target::Pod(_) => NodeIndex(0),
        }
    }
}

fn duration(fault: &Fault) -> Duration {
    Duration::from_nanos(fault.duration_ns.unwrap_or_default())
}
