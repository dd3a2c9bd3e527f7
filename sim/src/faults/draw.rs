//! From a seed to a small world and a concrete list of faults, drawn from keyed streams and nothing
//! else. It knows no allocator but the roles that faults strike, and injects nothing; the plan is
//! data that a person can read, edit and replay.

pub(super) mod own;

use std::collections::BTreeMap;
use std::time::Duration;

use drydock_engine::{Stream, Streams};
use drydock_traces::plan::{
    Churn, CniVerb, Edge, Fault, FaultKind, Plan, SCHEMA, Target, Trigger, World,
};
use drydock_traces::seed::Seed;
use drydock_traces::workload::Stack;

use super::roles::strikes_every_allocator;

/// Nodes of a storm's world, all of them masters as well.
const NODES: u32 = 3;
/// Fewest and most Pods.
const PODS: (u64, u64) = (20, 60);
/// Faults fall into this part of the run: Pods start in it, and churn goes on.
const STORM: Duration = Duration::from_mins(2);
/// Port calls of an agent in such a world, roughly: a trigger beyond them never fires.
const PORT_CALLS: u64 = 400;
/// Writes of an agent in such a world, roughly.
pub const WRITES: u64 = 24;
/// ADDs (and DELs) on one node in such a world, roughly.
const CNI_CALLS: u64 = 20;

/// The world of a seed, and the faults that strike whatever allocator there is, as a plan for the
/// subject of this name.
pub(super) fn draw(seed: Seed, subject: &str) -> Plan {
    let streams = Streams::new(seed.0);
    let (world, set) = world(&mut streams.stream("storm", 0, "world"));
    let mut faults = drawn(&streams, world.pods, strikes_every_allocator);
    // Two machines of three gone for good leave etcd without a quorum: nothing could converge.
    if let Some(first) = faults.iter().position(is_for_good) {
        let kept = faults[first];
        faults.retain(|fault| !is_for_good(fault) || *fault == kept);
    }
    faults.extend(inside_cni(
        &mut streams.stream("storm", 0, "inside"),
        world.pods,
    ));
    Plan {
        schema: SCHEMA.to_owned(),
        seed,
        allocator: subject.to_owned(),
        set,
        world,
        faults,
    }
}

/// The small world of a storm, and what is set in it.
fn world(draws: &mut Stream) -> (World, BTreeMap<String, String>) {
    let pods = draws.between(PODS.0..=PODS.1) as u32;
    let stack = *draws.pick(&[Stack::Ipv4, Stack::Dual]);
    let churn = draws.chance(3, 4).then(|| Churn {
        rounds: draws.between(1..=4) as u32,
        pods_per_round: draws.between(1..=u64::from(pods / 3)) as u32,
        every_ns: draws.between(5_000_000_000..=40_000_000_000),
    });
    let mut set = BTreeMap::new();
    if draws.chance(1, 2) {
        set.insert("kubelet.qps".to_owned(), "50".to_owned());
        set.insert("kubelet.burst".to_owned(), "100".to_owned());
    }
    if draws.chance(1, 3) {
        // Without the meta-plugin's own requests, an ADD reaches the IPAM at once.
        set.insert("multus.enabled".to_owned(), "false".to_owned());
    }
    let world = World {
        nodes: NODES,
        pods,
        addresses: pods,
        stack,
        churn,
    };
    (world, set)
}

/// Each wanted kind from a stream of its own, so that one more or less changes no other.
fn drawn(streams: &Streams, pods: u32, wanted: impl Fn(FaultKind) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, kind) in FaultKind::ALL.into_iter().enumerate() {
        if !wanted(kind) {
            continue;
        }
        let mut draws = streams.stream("storm", index as u64, "faults");
        let (one_in, most) = swarm(kind);
        if draws.chance(1, one_in) {
            let count = draws.between(1..=most);
            faults.extend((0..count).map(|_| fault(kind, pods, &mut draws)));
        }
    }
    faults
}

/// Whether a fault costs a machine that never comes back.
fn is_for_good(fault: &Fault) -> bool {
    matches!(
        fault.kind,
        FaultKind::MachineReplaced | FaultKind::PowerOffAndBury
    )
}

/// More than half of the storms strike inside an ADD or a DEL, whatever else was drawn.
fn inside_cni(draws: &mut Stream, pods: u32) -> Option<Fault> {
    if !draws.chance(3, 5) {
        return None;
    }
    let kind = *draws.pick(&[
        FaultKind::AgentKill,
        FaultKind::NodePartition,
        FaultKind::KubeletRestart,
        FaultKind::LinkDeleteFails,
        FaultKind::ApiserverRestart,
    ]);
    let mut struck = fault(kind, pods, draws);
    if !matches!(struck.at, Trigger::Cni { .. }) {
        let node = match struck.target {
            Target::Agent(node) | Target::Node(node) => node,
            Target::Apiserver(_) | Target::Pod(_) => draws.below(u64::from(NODES)) as u32,
        };
        struck.at = cni(node, None, draws);
    }
    Some(struck)
}

/// How often a kind is in a storm (one in …) and how many of it at most: what costs a whole
/// machine is rarer than what costs an answer.
pub(super) fn swarm(kind: FaultKind) -> (u64, u64) {
    match kind {
        FaultKind::AgentKill => (2, 4),
        FaultKind::ResponseLost | FaultKind::WriteDelayed => (3, 3),
        FaultKind::NodePartition | FaultKind::ApiserverRestart => (4, 2),
        FaultKind::PodDelete | FaultKind::PodForceDelete => (2, 6),
        FaultKind::LinkDeleteFails => (3, 4),
        FaultKind::UnknownRelease => (3, 4),
        FaultKind::LeavingRelease => (6, 4),
        FaultKind::MachineReplaced => (8, 1),
        FaultKind::NodeReboot | FaultKind::KubeletRestart => (6, 2),
        FaultKind::PowerOffAndBury => (10, 1),
        // Many kinds, each of them rare: a tenth of the storms have none.
        FaultKind::SandboxLost | FaultKind::DelLost => (12, 3),
        FaultKind::JournalLost | FaultKind::JournalDamaged | FaultKind::PathUnknown => (12, 2),
        FaultKind::JournalTorn
        | FaultKind::JournalOldCopy
        | FaultKind::JournalFull
        | FaultKind::JournalReadOnly
        | FaultKind::JournalSlow
        | FaultKind::CanaryGone
        | FaultKind::PathsVanished
        | FaultKind::SpoolUnreadable
        | FaultKind::SpoolLate
        | FaultKind::SpoolGarbage
        | FaultKind::RuntimeRestart
        | FaultKind::RuntimeUnaskable
        | FaultKind::ObjectNewer
        | FaultKind::CrdChanged => (14, 1),
        FaultKind::ObjectPoisoned => (8, 2),
        FaultKind::ObjectMistyped | FaultKind::TenantAnnotates | FaultKind::ForeignPods => (12, 1),
    }
}

pub(super) fn fault(kind: FaultKind, pods: u32, draws: &mut Stream) -> Fault {
    if !strikes_every_allocator(kind) {
        let (target, at, duration_ns) = own::drawn(kind, draws);
        return Fault {
            kind,
            target,
            at,
            duration_ns,
        };
    }
    let node = draws.below(u64::from(NODES)) as u32;
    let (target, at, duration_ns) = match kind {
        FaultKind::AgentKill => {
            let at = port_call_or_cni(node, draws);
            let down_ns = Some(draws.between(0..=8_000_000_000));
            (Target::Agent(node), at, down_ns)
        }
        FaultKind::ResponseLost => (Target::Agent(node), write(node, draws), None),
        FaultKind::WriteDelayed => {
            let at = write(node, draws);
            (Target::Agent(node), at, seconds(draws, 1, 60))
        }
        FaultKind::ApiserverRestart => {
            let at = at_any_time(draws);
            (Target::Apiserver(node), at, seconds(draws, 2, 40))
        }
        FaultKind::PodDelete | FaultKind::PodForceDelete => {
            let pod = draws.below(u64::from(pods)) as u32;
            (Target::Pod(pod), at_any_time(draws), None)
        }
        FaultKind::LinkDeleteFails => {
            let at = cni(node, Some(CniVerb::Del), draws);
            (Target::Node(node), at, seconds(draws, 1, 15))
        }
        FaultKind::UnknownRelease => {
            let call = draws.between(1..=CNI_CALLS);
            let at = Trigger::Cni {
                node,
                verb: CniVerb::Add,
                call,
                edge: Edge::Before,
            };
            // Carried out shortly after the agent gave up on it: that is when it is believed lost.
            (Target::Node(node), at, seconds(draws, 10, 13))
        }
        _ => {
            let at = at_any_time(draws);
            let (least_s, most_s) = away_s(kind);
            (Target::Node(node), at, seconds(draws, least_s, most_s))
        }
    };
    Fault {
        kind,
        target,
        at,
        duration_ns,
    }
}

/// How long a machine, its network or its kubelet is away: least and most. Units: s.
fn away_s(kind: FaultKind) -> (u64, u64) {
    match kind {
        FaultKind::NodePartition => (1, 90),
        FaultKind::MachineReplaced => (30, 300),
        FaultKind::NodeReboot => (5, 60),
        FaultKind::KubeletRestart => (1, 20),
        FaultKind::PowerOffAndBury => (1, 60),
        _ => unreachable!("{kind:?} takes no machine away"),
    }
}

fn at_any_time(draws: &mut Stream) -> Trigger {
    Trigger::TimeNs(draws.below(STORM.as_nanos() as u64))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it stands among kinds of faults that have no duration"
)]
fn seconds(draws: &mut Stream, least: u64, most: u64) -> Option<u64> {
    Some(draws.between(least * 1_000_000_000..=most * 1_000_000_000))
}

/// At a port call, mostly, or at an ADD or a DEL.
fn port_call_or_cni(node: u32, draws: &mut Stream) -> Trigger {
    if !draws.chance(3, 4) {
        return cni(node, None, draws);
    }
    let edge = *draws.pick(&[Edge::Before, Edge::After]);
    Trigger::PortCall {
        agent: node,
        call: draws.between(1..=PORT_CALLS),
        edge,
    }
}

fn write(agent: u32, draws: &mut Stream) -> Trigger {
    Trigger::Write {
        agent,
        write: draws.between(1..=WRITES),
    }
}

fn cni(node: u32, verb: Option<CniVerb>, draws: &mut Stream) -> Trigger {
    let verb = verb.unwrap_or_else(|| *draws.pick(&[CniVerb::Add, CniVerb::Del]));
    let edge = *draws.pick(&[Edge::Before, Edge::After]);
    Trigger::Cni {
        node,
        verb,
        call: draws.between(1..=CNI_CALLS),
        edge,
    }
}
