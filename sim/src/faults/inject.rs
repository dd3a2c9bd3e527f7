//! Carries out a plan: waits for each fault's trigger, strikes, heals, and reports what fired. It
//! draws only which Pods churn, from its own stream.

mod own;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drydock_engine::{EventLog, Queue, SimInstant, Stream};
use drydock_models::apiserver::{CallEffect, CallFault, CallSelector, FaultId};
use drydock_models::cluster::{Action, Cluster, Injected};
use drydock_models::cni::Verb;
use drydock_models::context::Context;
use drydock_models::event::Event;
use drydock_models::ids::{NodeIndex, PodUid};
use drydock_models::ipam::{Ipam, IpamFault};
use drydock_models::request::ClientClass;
use drydock_traces::plan::{CniVerb, Edge, Fault, FaultKind, Plan, Target, Trigger};
use drydock_traces::run_record::FaultCount;

use self::own::{kills, whom};
use super::roles::{Agent, Roles, Writer, strikes_every_allocator};

/// What the ledger must know about a fault: whose agent cannot act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// One machine's.
    Node(NodeIndex),
    /// Everybody's: an apiserver is away, or an object cannot be read.
    All,
    /// Nobody's.
    Nobody,
}

/// What the ledger must know about a plan at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody's agent cannot act from now on, or can again.
    Hinders {
        /// Who.
        whom: Hindrance,
        /// It begins, or ends.
        begins: bool,
    },
    /// A machine is off for good, and the operator has said so.
    Buried(NodeIndex),
    /// A machine joined under the node name of another one.
    Replaced {
        /// The machine that had the name.
        old: NodeIndex,
        /// The machine that has it now.
        new: NodeIndex,
    },
}

/// What an injector acts with: the cluster at the current instant.
pub struct Hands<'a> {
    /// The cluster.
    pub cluster: &'a mut Cluster,
    /// The queue; its present is the instant of the fault.
    pub queue: &'a mut Queue<Event>,
    /// The log.
    pub log: &'a mut EventLog,
}

impl Hands<'_> {
    fn at(&self) -> SimInstant {
        self.queue.now()
    }

    fn act(&mut self, action: &Action) {
        self.cluster.inject(action, self.queue, self.log);
    }

    fn tell(&mut self, action: &Action) -> Injected {
        self.cluster.inject(action, self.queue, self.log)
    }

    fn arm(&mut self, fault: CallFault) -> Option<FaultId> {
        match self
            .cluster
            .inject(&Action::Arm(fault), self.queue, self.log)
        {
            Injected::Armed(fault) => Some(fault),
            _ => None,
        }
    }

    fn replace(&mut self, node: NodeIndex) -> Option<NodeIndex> {
        let node_name = self.cluster.machines()[node.index()].node_name.to_string();
        match self
            .cluster
            .inject(&Action::ReplaceMachine { node_name }, self.queue, self.log)
        {
            Injected::Joined(joined) => Some(joined),
            _ => None,
        }
    }

    fn power_off(&mut self, node: NodeIndex, return_after: Option<Duration>) {
        self.act(&Action::PowerOff { node, return_after });
    }

    /// The operator who buries a machine also removes its Pods from the API.
    fn evacuate(&mut self, node: NodeIndex) {
        let name = self.cluster.machines()[node.index()].node_name.clone();
        let pods: Vec<PodUid> = self
            .cluster
            .api()
            .pods()
            .filter(|pod| pod.node_name.as_ref() == Some(&name))
            .map(|pod| pod.uid)
            .collect();
        for pod in pods {
            self.act(&Action::DeletePod {
                pod,
                grace: Some(Duration::ZERO),
            });
        }
    }

    fn is_up(&self, node: NodeIndex) -> bool {
        self.cluster.machines()[node.index()].up
    }

    fn ipam(&mut self, fault: IpamFault) {
        let inject = |ipam: &mut dyn Ipam, context: &mut Context<'_>| ipam.inject(fault, context);
        self.cluster.with_ipam(self.queue, self.log, inject);
    }

    fn triggered(&mut self) -> Vec<u32> {
        self.cluster
            .with_ipam(self.queue, self.log, |ipam, _| ipam.triggered())
    }
}

/// The state of a fault.
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
    roles: Roles,
    states: Vec<State>,
    /// Machine that now stands for each node of the plan.
    machines: Vec<NodeIndex>,
    /// Machine that each fault struck.
    struck: Vec<Option<NodeIndex>>,
    /// Faults at the k-th CNI call of a node, with the calls seen.
    cni_calls: BTreeMap<(u32, CniVerb, Edge), u64>,
    armed_writes: BTreeMap<FaultId, usize>,
    /// Faults that wait for a journal append, during which the agent dies.
    armed_appends: BTreeSet<usize>,
    /// Pod of the CNI call that is being looked at.
    pod_of_call: Option<PodUid>,
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

/// No fault begins later than this after the first Pod; later ones are void.
const LATEST: Duration = Duration::from_mins(3);

/// Position in the queue's fault events of the first round of churn.
const CHURN_BASE: u32 = 1 << 16;
/// Position of the end of the storm.
const OVER: u32 = u32::MAX;

impl Injector {
    /// A plan, and the processes that it strikes.
    pub fn new(plan: Plan, roles: Roles, churn: Stream) -> Injector {
        let states = vec![State::Waiting; plan.faults.len()];
        let machines = (0..plan.world.nodes).map(NodeIndex).collect();
        Injector {
            plan,
            roles,
            struck: vec![None; states.len()],
            states,
            machines,
            cni_calls: BTreeMap::new(),
            armed_writes: BTreeMap::new(),
            armed_appends: BTreeSet::new(),
            pod_of_call: None,
            fired_seen: 0,
            churn,
            open: 0,
            over: false,
            struck_inside_cni: false,
            notices: Vec::new(),
        }
    }

    /// The workload starts: sets every trigger.
    pub fn start(&mut self, hands: &mut Hands<'_>) {
        let at = hands.at();
        for (index, fault) in self.plan.faults.clone().into_iter().enumerate() {
            let position = index as u32;
            match fault.at {
                Trigger::TimeNs(time_ns) => {
                    let when = at + Duration::from_nanos(time_ns);
                    hands.queue.at(
                        when,
                        Event::Fault {
                            index: position,
                            heal: false,
                        },
                    );
                }
                Trigger::PortCall { agent, call, edge } => {
                    let kill = kills(fault.kind).then(|| duration(&fault));
                    let armed = IpamFault::ArmPortCall {
                        node: self.machine(agent),
                        call,
                        before: edge == Edge::Before,
                        fault: position,
                        kill,
                    };
                    hands.ipam(armed);
                }
                Trigger::Write { agent, write } => {
                    let effect = match fault.kind {
                        FaultKind::WriteDelayed => CallEffect::Hold(duration(&fault)),
                        _ => CallEffect::LoseResponse,
                    };
                    let armed = CallFault {
                        selector: self.writes(fault.kind, self.machine(agent)),
                        nth: write as u32,
                        effect,
                    };
                    self.armed_writes
                        .extend(hands.arm(armed).map(|fault| (fault, index)));
                }
                Trigger::Cni { .. } => {}
            }
        }
        if let Some(churn) = self.plan.world.churn {
            for round in 0..churn.rounds {
                let after = Duration::from_nanos(churn.every_ns) * (round + 1);
                let index = CHURN_BASE + round;
                hands
                    .queue
                    .at(at + after, Event::Fault { index, heal: false });
            }
        }
        hands.queue.at(
            at + LATEST,
            Event::Fault {
                index: OVER,
                heal: false,
            },
        );
    }

    /// The writes that a fault of a node strikes.
    fn writes(&self, kind: FaultKind, node: NodeIndex) -> CallSelector {
        match (kind, self.roles.writer) {
            (FaultKind::AgentKill, _) | (_, Writer::Node) => {
                CallSelector::writes_of(ClientClass::IpamNode, Some(node))
            }
            (_, Writer::Controller) => CallSelector::writes_of(ClientClass::IpamController, None),
        }
    }

    /// The machine that now stands for a node of the plan.
    fn machine(&self, node: u32) -> NodeIndex {
        self.machines[node as usize]
    }

    /// Whether no more faults can strike and all that struck are healed.
    pub fn is_over(&self) -> bool {
        self.over && self.open == 0
    }

    /// Changes since the last call in who can act.
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

    /// The runtime begins an ADD: the whole chain of plugins, of which the IPAM is the last.
    pub fn add_begins(&mut self, node: NodeIndex, pod: PodUid, hands: &mut Hands<'_>) {
        self.pod_of_call = Some(pod);
        self.cni_call(node, Verb::Add, Edge::Before, hands);
        self.pod_of_call = None;
    }

    /// Before an event is handled: triggers at DELs of the IPAM that are about to start.
    pub fn before(&mut self, event: &Event, hands: &mut Hands<'_>) {
        if let Event::IpamExec(call) = event
            && call.verb == Verb::Del
        {
            self.cni_call(call.node, call.verb, Edge::Before, hands);
        }
    }

    /// After an IPAM plugin ended.
    pub fn plugin_ended(&mut self, node: NodeIndex, verb: Verb, hands: &mut Hands<'_>) {
        self.cni_call(node, verb, Edge::After, hands);
    }

    fn cni_call(&mut self, node: NodeIndex, verb: Verb, edge: Edge, hands: &mut Hands<'_>) {
        let verb = match verb {
            Verb::Add => CniVerb::Add,
            Verb::Del => CniVerb::Del,
        };
        let Some(place) = self.machines.iter().position(|machine| *machine == node) else {
            return;
        };
        let seen = self
            .cni_calls
            .entry((place as u32, verb, edge))
            .or_default();
        *seen += 1;
        let seen = *seen;
        let due = self.plan.faults.iter().position(|fault| {
            fault.at
                == Trigger::Cni {
                    node: place as u32,
                    verb,
                    call: seen,
                    edge,
                }
        });
        if let Some(index) = due
            && self.strike(index, hands)
        {
            self.struck_inside_cni = true;
        }
    }

    /// After every event: triggers that others watch for.
    pub fn poll(&mut self, hands: &mut Hands<'_>) {
        for position in hands.triggered() {
            let index = position as usize;
            if self.armed_appends.remove(&index) || kills(self.plan.faults[index].kind) {
                // The process is dead already; the rest of the fault remains.
                assert_eq!(
                    self.states[index],
                    State::Waiting,
                    "who dies by the plan dies within it, and once"
                );
                if kills(self.plan.faults[index].kind) {
                    self.begin_trouble(index, hands);
                }
                self.begins(index, Hindrance::Node(self.target_machine(index)), hands);
            } else {
                self.strike(index, hands);
            }
        }
        let fired: Vec<FaultId> = hands.cluster.api().fired()[self.fired_seen..]
            .iter()
            .map(|fired| fired.fault)
            .collect();
        self.fired_seen += fired.len();
        for fault in fired {
            if let Some(index) = self.armed_writes.remove(&fault) {
                let of_the_write = matches!(
                    self.plan.faults[index].kind,
                    FaultKind::ResponseLost | FaultKind::WriteDelayed
                );
                if !of_the_write {
                    self.strike(index, hands);
                    continue;
                }
                let hindered = Hindrance::Node(self.target_machine(index));
                self.begins(index, hindered, hands);
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
    pub fn event(&mut self, position: u32, heal: bool, hands: &mut Hands<'_>) {
        if position == OVER {
            self.over = true;
            for state in &mut self.states {
                if *state == State::Waiting {
                    *state = State::Void;
                }
            }
            for fault in std::mem::take(&mut self.armed_writes).into_keys() {
                hands.cluster.disarm(fault);
            }
            hands.ipam(IpamFault::DisarmPortCalls);
            for index in std::mem::take(&mut self.armed_appends) {
                self.end_trouble(index, hands);
            }
        } else if position >= CHURN_BASE {
            self.churn(hands);
        } else if heal {
            self.heal(position as usize, hands);
        } else {
            self.strike(position as usize, hands);
        }
    }

    /// Deletes some running Pods, as a user would.
    fn churn(&mut self, hands: &mut Hands<'_>) {
        let Some(churn) = self.plan.world.churn else {
            return;
        };
        let mut pods: Vec<PodUid> = hands
            .cluster
            .api()
            .pods()
            .filter(|pod| pod.deletion.is_none() && pod.node_name.is_some())
            .map(|pod| pod.uid)
            .collect();
        self.churn.shuffle(&mut pods);
        for pod in pods.into_iter().take(churn.pods_per_round as usize) {
            hands.act(&Action::DeletePod { pod, grace: None });
        }
    }

    /// Strikes, if the subject is there. Returns whether it did.
    fn strike(&mut self, index: usize, hands: &mut Hands<'_>) -> bool {
        if self.states[index] != State::Waiting || self.over {
            return false;
        }
        let fault = self.plan.faults[index];
        if !strikes_every_allocator(fault.kind) {
            return self.strike_own(index, hands);
        }
        match (fault.kind, fault.target) {
            (FaultKind::AgentKill, _) => self.kill_agent(index, hands),
            (FaultKind::ApiserverRestart, Target::Apiserver(server)) => {
                self.stop_server(index, server as usize, hands)
            }
            (FaultKind::PodDelete, Target::Pod(pod)) => {
                self.delete_pod(index, PodUid(pod), None, hands)
            }
            (FaultKind::PodForceDelete, Target::Pod(pod)) => {
                self.delete_pod(index, PodUid(pod), Some(Duration::ZERO), hands)
            }
            (FaultKind::LinkDeleteFails, _) => {
                hands.act(&Action::FailLinkDeletions {
                    node: self.target_machine(index),
                    nth: 1,
                    count: 1,
                });
                self.states[index] = State::Fired;
                true
            }
            (FaultKind::UnknownRelease, _) => self.release(index, Some(Duration::ZERO), hands),
            (
                FaultKind::NodePartition
                | FaultKind::MachineReplaced
                | FaultKind::NodeReboot
                | FaultKind::KubeletRestart
                | FaultKind::PowerOffAndBury,
                Target::Node(place),
            ) => self.strike_machine(index, place, hands),
            (kind, target) => unreachable!("{kind:?} of {target:?} passes no check of a plan"),
        }
    }

    fn kill_agent(&mut self, index: usize, hands: &mut Hands<'_>) -> bool {
        let node = self.target_machine(index);
        if hands.cluster.ipam().is_down(node) {
            return self.void(index);
        }
        let restart_after = duration(&self.plan.faults[index]);
        match self.roles.agent {
            Agent::Process => hands.ipam(IpamFault::KillAgent {
                node,
                restart_after,
            }),
            Agent::Plugins => hands.act(&Action::KillPlugins(node)),
        }
        self.begins(index, Hindrance::Node(node), hands);
        true
    }

    fn stop_server(&mut self, index: usize, server: usize, hands: &mut Hands<'_>) -> bool {
        if !hands.cluster.api().serves(server) {
            return self.void(index);
        }
        let down = Some(duration(&self.plan.faults[index]));
        hands.act(&Action::StopApiserver { server, down });
        self.begins(index, Hindrance::All, hands);
        true
    }

    fn delete_pod(
        &mut self,
        index: usize,
        pod: PodUid,
        grace: Option<Duration>,
        hands: &mut Hands<'_>,
    ) -> bool {
        let found = hands.cluster.api().pod(pod);
        if found.is_none_or(|pod| pod.deletion.is_some()) {
            return self.void(index);
        }
        hands.act(&Action::DeletePod { pod, grace });
        self.states[index] = State::Fired;
        true
    }

    /// Strikes the machine that stands for a node of the plan, or its network or kubelet.
    fn strike_machine(&mut self, index: usize, place: u32, hands: &mut Hands<'_>) -> bool {
        let fault = self.plan.faults[index];
        let node = self.machine(place);
        let cuts = matches!(
            fault.kind,
            FaultKind::NodePartition | FaultKind::MachineReplaced
        );
        if !hands.is_up(node) || cuts && hands.cluster.api().cut_off(node) {
            return self.void(index);
        }
        match fault.kind {
            FaultKind::NodePartition => hands.act(&Action::Cut(node)),
            FaultKind::MachineReplaced => {
                hands.act(&Action::Cut(node));
                if let Some(joined) = hands.replace(node) {
                    self.machines[place as usize] = joined;
                    self.notices.push(Notice::Replaced {
                        old: node,
                        new: joined,
                    });
                }
            }
            FaultKind::NodeReboot => hands.power_off(node, Some(duration(&fault))),
            FaultKind::KubeletRestart => hands.act(&Action::RestartKubelet(node)),
            FaultKind::PowerOffAndBury => hands.power_off(node, None),
            kind => unreachable!("{kind:?} strikes no machine"),
        }
        self.begins(index, Hindrance::Node(node), hands);
        true
    }

    /// Deletes the Pod whose ADD begins, and holds up the next write of its node.
    fn release(&mut self, index: usize, grace: Option<Duration>, hands: &mut Hands<'_>) -> bool {
        let Some(pod) = self.pod_of_call else {
            return self.void(index);
        };
        let fault = self.plan.faults[index];
        let node = self.target_machine(index);
        hands.act(&Action::DeletePod { pod, grace });
        hands.arm(CallFault {
            selector: self.writes(fault.kind, node),
            nth: 1,
            effect: CallEffect::Hold(duration(&fault)),
        });
        self.begins(index, Hindrance::Node(node), hands);
        true
    }

    fn void(&mut self, index: usize) -> bool {
        self.states[index] = State::Void;
        false
    }

    /// Marks a fault as fired, tells the ledger, and plans its end.
    fn begins(&mut self, index: usize, whom: Hindrance, hands: &mut Hands<'_>) {
        if self.states[index] != State::Waiting {
            return;
        }
        self.states[index] = State::Fired;
        self.struck[index] = Some(match whom {
            Hindrance::Node(node) => node,
            Hindrance::All | Hindrance::Nobody => self.target_machine(index),
        });
        self.open += 1;
        self.notices.push(Notice::Hinders { whom, begins: true });
        let fault = &self.plan.faults[index];
        // A fault without a duration (a lost answer) hinders until the client has given up.
        let lasts = fault
            .duration_ns
            .map_or(Duration::from_secs(10), Duration::from_nanos);
        let at = hands.at();
        hands.queue.at(
            at + lasts,
            Event::Fault {
                index: index as u32,
                heal: true,
            },
        );
    }

    /// The end of a fault.
    fn heal(&mut self, index: usize, hands: &mut Hands<'_>) {
        let fault = self.plan.faults[index];
        assert_eq!(
            self.states[index],
            State::Fired,
            "only what struck is healed"
        );
        let whom = whom(fault.kind, self.struck_machine(index));
        match fault.kind {
            FaultKind::NodePartition => hands.act(&Action::Heal(self.struck_machine(index))),
            FaultKind::MachineReplaced => {
                // The old machine is switched off, and the operator says so.
                let old = self.struck_machine(index);
                hands.power_off(old, None);
                hands.act(&Action::Heal(old));
                hands.ipam(IpamFault::Bury { node: old });
            }
            FaultKind::PowerOffAndBury => {
                let node = self.struck_machine(index);
                hands.evacuate(node);
                hands.ipam(IpamFault::Bury { node });
            }
            _ => self.end_trouble(index, hands),
        }
        assert!(self.open > 0, "a fault ends after it began, and once");
        self.open -= 1;
        // A machine that stays off is the controller's affair from here on.
        let notice = match fault.kind {
            FaultKind::MachineReplaced | FaultKind::PowerOffAndBury => {
                Notice::Buried(self.struck_machine(index))
            }
            _ => Notice::Hinders {
                whom,
                begins: false,
            },
        };
        self.notices.push(notice);
    }

    /// The machine that a fault struck: another one may stand for the node by now.
    fn struck_machine(&self, index: usize) -> NodeIndex {
        self.struck[index].unwrap_or_else(|| self.target_machine(index))
    }
}

fn duration(fault: &Fault) -> Duration {
    Duration::from_nanos(fault.duration_ns.unwrap_or_default())
}
