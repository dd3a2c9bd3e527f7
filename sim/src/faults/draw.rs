//! From a seed to a storm: a small world and a concrete list of faults, drawn from keyed streams
//! and nothing else. It injects nothing; the plan is data that a person can read, edit and replay.

mod own;

use std::collections::BTreeMap;
use std::time::Duration;

use drydock_engine::{Stream, Streams};
use drydock_traces::plan::{
    Churn, CniVerb, Edge, Fault, FaultKind, Plan, SCHEMA, Target, Trigger, World,
};
use drydock_traces::seed::Seed;
use drydock_traces::workload::Stack;

use super::roles::{fit, strikes_every_allocator};
use crate::cli::Allocator;

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

/// The storm of a seed, as it strikes an allocator, perhaps with a mutant.
pub fn storm(seed: Seed, allocator: &str) -> Plan {
    let mut drawn = draw(seed, allocator);
    match crate::sweep::subject(allocator) {
        Some((Allocator::Berth, _)) => {
            let own = own::faults(&Streams::new(seed.0), drawn.world.pods);
            drawn.faults.extend(own);
            drawn
        }
        Some((allocator, _)) => fit(drawn, allocator),
        None => drawn,
    }
}

fn draw(seed: Seed, allocator: &str) -> Plan {
    let streams = Streams::new(seed.0);
    let mut world_draws = streams.stream("storm", 0, "world");
    let pods = world_draws.between(PODS.0..=PODS.1) as u32;
    let stack = *world_draws.pick(&[Stack::Ipv4, Stack::Dual]);
    let churn = world_draws.chance(3, 4).then(|| Churn {
        rounds: world_draws.between(1..=4) as u32,
        pods_per_round: world_draws.between(1..=u64::from(pods / 3)) as u32,
        every_ns: world_draws.between(5_000_000_000..=40_000_000_000),
    });
    let mut set = BTreeMap::new();
    if world_draws.chance(1, 2) {
        set.insert("kubelet.qps".to_owned(), "50".to_owned());
        set.insert("kubelet.burst".to_owned(), "100".to_owned());
    }
    if world_draws.chance(1, 3) {
        // Without the meta-plugin's own requests, an ADD reaches the IPAM at once.
        set.insert("multus.enabled".to_owned(), "false".to_owned());
    }
    let mut faults = Vec::new();
    for (index, kind) in FaultKind::ALL.into_iter().enumerate() {
        if !strikes_every_allocator(kind) {
            continue;
        }
        let mut draws = streams.stream("storm", index as u64, "faults");
        let (one_in, most) = swarm(kind);
        if draws.chance(1, one_in) {
            let count = draws.between(1..=most);
            faults.extend((0..count).map(|_| fault(kind, pods, &mut draws)));
        }
    }
    // Two machines of three gone for good leave etcd without a quorum: nothing could converge.
    let for_good = |fault: &Fault| {
        matches!(
            fault.kind,
            FaultKind::MachineReplaced | FaultKind::PowerOffAndBury
        )
    };
    if let Some(first) = faults.iter().position(for_good) {
        let kept = faults[first];
        faults.retain(|fault| !for_good(fault) || *fault == kept);
    }
    // More than half of the storms strike inside an ADD or a DEL, whatever else was drawn.
    let mut inside = streams.stream("storm", 0, "inside");
    if inside.chance(3, 5) {
        let kind = *inside.pick(&[
            FaultKind::AgentKill,
            FaultKind::NodePartition,
            FaultKind::KubeletRestart,
            FaultKind::LinkDeleteFails,
            FaultKind::ApiserverRestart,
        ]);
        let mut struck = fault(kind, pods, &mut inside);
        if !matches!(struck.at, Trigger::Cni { .. }) {
            let node = match struck.target {
                Target::Agent(node) | Target::Node(node) => node,
                Target::Apiserver(_) | Target::Pod(_) => inside.below(u64::from(NODES)) as u32,
            };
            struck.at = cni(node, None, &mut inside);
        }
        faults.push(struck);
    }
    Plan {
        schema: SCHEMA.to_owned(),
        seed,
        allocator: allocator.to_owned(),
        set,
        world: World {
            nodes: NODES,
            pods,
            addresses: pods,
            stack,
            churn,
        },
        faults,
    }
}

/// How often a kind is in a storm (one in …) and how many of it at most: what costs a whole
/// machine is rarer than what costs an answer.
fn swarm(kind: FaultKind) -> (u64, u64) {
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

fn fault(kind: FaultKind, pods: u32, draws: &mut Stream) -> Fault {
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
    let at_any_time = |draws: &mut Stream| Trigger::TimeNs(draws.below(STORM.as_nanos() as u64));
    let seconds = |draws: &mut Stream, least: u64, most: u64| {
        Some(draws.between(least * 1_000_000_000..=most * 1_000_000_000))
    };
    let (target, at, duration_ns) = match kind {
        FaultKind::AgentKill => {
            let at = if draws.chance(3, 4) {
                let edge = *draws.pick(&[Edge::Before, Edge::After]);
                Trigger::PortCall {
                    agent: node,
                    call: draws.between(1..=PORT_CALLS),
                    edge,
                }
            } else {
                cni(node, None, draws)
            };
            (
                Target::Agent(node),
                at,
                Some(draws.between(0..=8_000_000_000)),
            )
        }
        FaultKind::ResponseLost => (Target::Agent(node), write(node, draws), None),
        FaultKind::WriteDelayed => (
            Target::Agent(node),
            write(node, draws),
            seconds(draws, 1, 60),
        ),
        FaultKind::NodePartition => (
            Target::Node(node),
            at_any_time(draws),
            seconds(draws, 1, 90),
        ),
        FaultKind::ApiserverRestart => (
            Target::Apiserver(node),
            at_any_time(draws),
            seconds(draws, 2, 40),
        ),
        FaultKind::PodDelete | FaultKind::PodForceDelete => (
            Target::Pod(draws.below(u64::from(pods)) as u32),
            at_any_time(draws),
            None,
        ),
        FaultKind::LinkDeleteFails => (
            Target::Node(node),
            cni(node, Some(CniVerb::Del), draws),
            seconds(draws, 1, 15),
        ),
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
        FaultKind::MachineReplaced => (
            Target::Node(node),
            at_any_time(draws),
            seconds(draws, 30, 300),
        ),
        FaultKind::NodeReboot => (
            Target::Node(node),
            at_any_time(draws),
            seconds(draws, 5, 60),
        ),
        FaultKind::KubeletRestart => (
            Target::Node(node),
            at_any_time(draws),
            seconds(draws, 1, 20),
        ),
        FaultKind::PowerOffAndBury => (
            Target::Node(node),
            at_any_time(draws),
            seconds(draws, 1, 60),
        ),
        _ => unreachable!("{kind:?} is drawn apart"),
    };
    Fault {
        kind,
        target,
        at,
        duration_ns,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_storm_is_a_valid_plan_that_reads_back() {
        for seed in 0..500 {
            let plan = storm(Seed(seed), "berth");
            let text = plan.to_toml().expect("a drawn plan is valid");
            assert_eq!(Plan::from_toml(&text).as_ref(), Ok(&plan), "seed {seed}");
        }
    }

    #[test]
    fn half_of_the_storms_strike_inside_an_add_or_a_del() {
        let inside = (0..1000)
            .filter(|seed| {
                let plan = storm(Seed(*seed), "berth");
                plan.faults
                    .iter()
                    .any(|fault| matches!(fault.at, Trigger::Cni { .. }))
            })
            .count();
        assert!(inside >= 500, "{inside} of 1000");
    }

    #[test]
    fn every_kind_is_drawn_in_one_storm_of_twenty_or_more() {
        for kind in FaultKind::ALL {
            let with = (0..2000)
                .filter(|seed| {
                    storm(Seed(*seed), "berth")
                        .faults
                        .iter()
                        .any(|fault| fault.kind == kind)
                })
                .count();
            assert!(with >= 100, "{kind:?}: {with} of 2000");
        }
    }

    #[test]
    fn no_storm_takes_the_quorum_away_for_good() {
        for seed in 0..2000 {
            let plan = storm(Seed(seed), "berth");
            let for_good = plan.faults.iter().filter(|fault| {
                matches!(
                    fault.kind,
                    FaultKind::MachineReplaced | FaultKind::PowerOffAndBury
                )
            });
            assert!(for_good.count() <= 1, "seed {seed}");
        }
    }

    #[test]
    fn a_kind_that_is_drawn_less_often_leaves_the_others_as_they_were() {
        let of = |plan: &Plan, kind| -> Vec<Fault> {
            plan.faults
                .iter()
                .filter(|fault| fault.kind == kind)
                .copied()
                .collect()
        };
        let plan = storm(Seed(7), "berth");
        let streams = Streams::new(7);
        for (index, kind) in FaultKind::ALL.into_iter().enumerate() {
            // At most one of these stays in a storm, whichever was drawn first.
            if matches!(
                kind,
                FaultKind::MachineReplaced | FaultKind::PowerOffAndBury
            ) {
                continue;
            }
            let mut draws = streams.stream("storm", index as u64, "faults");
            let (one_in, most) = swarm(kind);
            if draws.chance(1, one_in) {
                let count = draws.between(1..=most) as usize;
                let alone: Vec<Fault> = (0..count)
                    .map(|_| fault(kind, plan.world.pods, &mut draws))
                    .collect();
                assert!(of(&plan, kind).starts_with(&alone), "{kind:?}");
            }
        }
    }
}
