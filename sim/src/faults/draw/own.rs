//! Draws the faults of what Berth relies on beside an apiserver that answers: journal, paths of
//! namespaces, spool, runtime, DELs that never come, what others write into objects and Pods, and
//! that a Pod which leaves does not ask. It strikes nothing.

use drydock_engine::{Stream, Streams};
use drydock_traces::plan::{CniVerb, Edge, Fault, FaultKind, Target, Trigger};

use super::{CNI_CALLS, NODES, PORT_CALLS, at_any_time, cni, seconds};
use crate::faults::roles::strikes_every_allocator;

/// The faults of a seed that a storm of Berth has in addition to those of every allocator. They
/// come last, so a storm without one of them is the same as before there were any.
pub(crate) fn faults(streams: &Streams, pods: u32) -> Vec<Fault> {
    let mut faults = super::drawn(streams, pods, |kind| !strikes_every_allocator(kind));
    let mut again = streams.stream("storm", 0, "again");
    let more: Vec<Fault> = faults
        .iter()
        .flat_map(|fault| companions(fault, &mut again))
        .collect();
    let mut silent = streams.stream("storm", 0, "silent");
    let silenced: Vec<Fault> = faults
        .iter()
        .filter_map(|fault| silent_runtime(fault, &mut silent))
        .collect();
    faults.extend(more);
    faults.extend(silenced);
    faults
}

/// In some storms, who starts without its journal cannot ask the runtime either: nobody but the
/// paths and the kubelet can tell it then who lives.
fn silent_runtime(first: &Fault, draws: &mut Stream) -> Option<Fault> {
    let is_lost = matches!(
        first.kind,
        FaultKind::JournalLost | FaultKind::JournalDamaged
    );
    let (Target::Agent(node), true) = (first.target, is_lost && draws.chance(1, 2)) else {
        return None;
    };
    let at = match first.at {
        Trigger::TimeNs(time_ns) => Trigger::TimeNs(time_ns),
        Trigger::PortCall { agent, call, .. } if call > 1 => Trigger::PortCall {
            agent,
            call: call - 1,
            edge: Edge::Before,
        },
        _ => return None,
    };
    Some(Fault {
        kind: FaultKind::RuntimeUnaskable,
        target: Target::Agent(node),
        at,
        duration_ns: Some(draws.between(20_000_000_000..=120_000_000_000)),
    })
}

/// What makes a fault of these dangerous, in some storms. Who starts with another journal than it
/// left may die before it has read the API: what it wrote down until then is what the next one
/// finds. And where a path cannot be told, its link may live on after the DEL, because it could not
/// be deleted and the next try is held up.
fn companions(first: &Fault, draws: &mut Stream) -> Vec<Fault> {
    let (Target::Agent(node), Some(lasts_ns)) = (first.target, first.duration_ns) else {
        return Vec::new();
    };
    let replaced = matches!(
        first.kind,
        FaultKind::JournalLost | FaultKind::JournalDamaged | FaultKind::JournalOldCopy
    );
    let again = |at, draws: &mut Stream| Fault {
        kind: FaultKind::AgentKill,
        target: Target::Agent(node),
        at,
        duration_ns: Some(draws.between(0..=4_000_000_000)),
    };
    match first.at {
        Trigger::PortCall { agent, call, .. } if replaced && draws.chance(2, 3) => {
            let at = Trigger::PortCall {
                agent,
                call: call + draws.between(2..=14),
                edge: *draws.pick(&[Edge::Before, Edge::After]),
            };
            vec![again(at, draws)]
        }
        Trigger::TimeNs(time_ns) if replaced && draws.chance(2, 3) => {
            let after_ns = lasts_ns + draws.between(1_000_000..=60_000_000);
            vec![again(Trigger::TimeNs(time_ns + after_ns), draws)]
        }
        Trigger::Cni {
            node: of,
            verb: CniVerb::Del,
            call,
            edge: Edge::After,
        } if first.kind == FaultKind::PathUnknown => {
            let next = |edge| Trigger::Cni {
                node: of,
                verb: CniVerb::Del,
                call: call + 1,
                edge,
            };
            let fault = |kind, at, duration_ns| Fault {
                kind,
                target: Target::Node(node),
                at,
                duration_ns: Some(duration_ns),
            };
            let (retry_ns, cut_ns) = (
                draws.between(1_000_000_000..=15_000_000_000),
                draws.between(20_000_000_000..=60_000_000_000),
            );
            vec![
                fault(FaultKind::LinkDeleteFails, next(Edge::Before), retry_ns),
                fault(FaultKind::NodePartition, next(Edge::After), cut_ns),
            ]
        }
        _ => Vec::new(),
    }
}

/// One fault: to whom, when, how long.
pub(super) fn drawn(kind: FaultKind, draws: &mut Stream) -> (Target, Trigger, Option<u64>) {
    let node = draws.below(u64::from(NODES)) as u32;
    let agent = Target::Agent(node);
    let at = match kind {
        FaultKind::PathUnknown if draws.chance(1, 2) => Trigger::Cni {
            node,
            verb: CniVerb::Del,
            call: draws.between(1..=8),
            edge: Edge::After,
        },
        FaultKind::LeavingRelease => Trigger::Cni {
            node,
            verb: CniVerb::Add,
            call: draws.between(1..=CNI_CALLS),
            edge: Edge::Before,
        },
        _ => when(node, draws),
    };
    let (target, duration_ns) = match kind {
        FaultKind::JournalLost
        | FaultKind::JournalDamaged
        | FaultKind::JournalTorn
        | FaultKind::JournalOldCopy => (agent, Some(draws.between(0..=8_000_000_000))),
        FaultKind::JournalFull | FaultKind::JournalReadOnly | FaultKind::PathsVanished => {
            (agent, seconds(draws, 5, 60))
        }
        FaultKind::JournalSlow | FaultKind::SpoolUnreadable => (agent, seconds(draws, 2, 40)),
        FaultKind::PathUnknown => (agent, seconds(draws, 5, 90)),
        FaultKind::CanaryGone => (agent, seconds(draws, 1, 60)),
        FaultKind::SpoolLate => (agent, seconds(draws, 10, 60)),
        FaultKind::RuntimeUnaskable => (agent, seconds(draws, 10, 120)),
        FaultKind::RuntimeRestart => (Target::Node(node), seconds(draws, 1, 30)),
        FaultKind::SpoolGarbage => (agent, None),
        FaultKind::SandboxLost | FaultKind::DelLost => (Target::Node(node), None),
        FaultKind::ObjectPoisoned => (Target::Apiserver(node), seconds(draws, 2, 120)),
        FaultKind::ObjectMistyped => (Target::Apiserver(node), None),
        FaultKind::ObjectNewer => (Target::Apiserver(node), seconds(draws, 5, 120)),
        FaultKind::CrdChanged => (Target::Apiserver(node), seconds(draws, 1, 60)),
        FaultKind::TenantAnnotates => (Target::Node(node), seconds(draws, 10, 90)),
        // Some stay longer than a reservation may wait for who asks.
        FaultKind::ForeignPods if draws.chance(1, 3) => {
            (Target::Node(node), seconds(draws, 700, 900))
        }
        FaultKind::ForeignPods => (Target::Node(node), seconds(draws, 20, 180)),
        // As for an unknown release.
        FaultKind::LeavingRelease => (Target::Node(node), seconds(draws, 10, 13)),
        _ => unreachable!("{kind:?} strikes every allocator"),
    };
    (target, at, duration_ns)
}

/// At a time, at a port call, or at an ADD or a DEL.
fn when(node: u32, draws: &mut Stream) -> Trigger {
    match draws.below(6) {
        0..=2 => at_any_time(draws),
        3..=4 => Trigger::PortCall {
            agent: node,
            call: draws.between(1..=PORT_CALLS),
            edge: *draws.pick(&[Edge::Before, Edge::After]),
        },
        _ => cni(node, None, draws),
    }
}
