//! The storm of a seed as it strikes a subject: the drawn plan, with the faults of Berth's own
//! things where it has them, fitted to its processes. It draws nothing itself and injects nothing.

use drydock_engine::Streams;
use drydock_traces::plan::Plan;
use drydock_traces::seed::Seed;

use super::draw::{draw, own};
use crate::adapters;
use crate::subject::Subject;

/// The storm of a seed, as it strikes an allocator, perhaps with a mutant.
pub fn storm(seed: Seed, subject: &Subject) -> Plan {
    let adapter = adapters::of(subject.allocator);
    let mut drawn = draw(seed, &subject.to_string());
    if adapter.roles().own_things {
        let own = own::faults(&Streams::new(seed.0), drawn.world.pods);
        drawn.faults.extend(own);
    }
    let fault_count = drawn.faults.len();
    let fitted = adapter.fit(drawn);
    assert_eq!(
        fitted.faults.len(),
        fault_count,
        "a storm that is fitted has the same faults, else a seed means nothing"
    );
    assert!(
        fitted.world.addresses >= fitted.world.pods,
        "every Pod of a storm can have an address"
    );
    fitted
}

#[cfg(test)]
mod tests {
    use drydock_traces::plan::{Fault, FaultKind, Trigger};

    use super::*;
    use crate::adapters::{BERTH, INSTANT};
    use crate::faults::draw::{fault, swarm};
    use crate::faults::roles::strikes_every_allocator;

    fn storm_of_berth(seed: u64) -> Plan {
        storm(Seed(seed), &BERTH.into())
    }

    #[test]
    fn a_peers_storm_is_a_valid_plan_with_the_same_faults_but_for_the_triggers_of_kills() {
        let peers: Vec<_> = adapters::all()
            .filter(|each| each.told().is_some())
            .collect();
        assert_eq!(peers.len(), 5);
        for seed in 0..200 {
            let drawn = storm(Seed(seed), &INSTANT.into());
            for peer in &peers {
                let fitted = storm(Seed(seed), &peer.allocator().into());
                let text = fitted.to_toml().expect("a fitted plan is valid");
                assert_eq!(Plan::from_toml(&text).as_ref(), Ok(&fitted));
                assert_eq!(fitted.faults.len(), drawn.faults.len());
                for (one, other) in fitted.faults.iter().zip(&drawn.faults) {
                    let counts = matches!(other.at, Trigger::PortCall { .. });
                    assert!(one == other || counts && one.kind == FaultKind::AgentKill);
                    assert!(!matches!(one.at, Trigger::PortCall { .. }));
                }
            }
        }
    }

    #[test]
    fn every_storm_is_a_valid_plan_that_reads_back() {
        for seed in 0..500 {
            let plan = storm_of_berth(seed);
            let text = plan.to_toml().expect("a drawn plan is valid");
            assert_eq!(Plan::from_toml(&text).as_ref(), Ok(&plan), "seed {seed}");
        }
    }

    #[test]
    fn half_of_the_storms_strike_inside_an_add_or_a_del() {
        let inside = (0..1000)
            .filter(|seed| {
                let plan = storm_of_berth(*seed);
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
                    storm_of_berth(*seed)
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
            let plan = storm_of_berth(seed);
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
        let plan = storm_of_berth(7);
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

    #[test]
    fn a_fault_of_the_nodes_own_things_leaves_the_rest_of_a_storm_as_it_was() {
        let mut without = 0;
        for seed in 0..300 {
            let others = draw(Seed(seed), "berth");
            let all = storm_of_berth(seed);
            assert!(all.faults.starts_with(&others.faults), "{seed}");
            assert_eq!(all.world, others.world);
            assert_eq!(all.set, others.set);
            without += usize::from(all.faults.len() == others.faults.len());
            let added = &all.faults[others.faults.len()..];
            let own = |fault: &&Fault| !strikes_every_allocator(fault.kind);
            let deaths = added.len() - added.iter().filter(own).count();
            assert!(deaths == 0 || added.len() > deaths, "{seed}");
        }
        assert!((30..200).contains(&without), "{without} of 300");
    }

    #[test]
    fn some_agents_die_again_before_they_can_have_read_the_api() {
        let pairs = (0..2000)
            .filter(|seed| {
                let plan = storm_of_berth(*seed);
                let lost = plan.faults.iter().filter_map(|fault| match fault.at {
                    Trigger::PortCall { agent, call, .. }
                        if fault.kind == FaultKind::JournalLost =>
                    {
                        Some((agent, call))
                    }
                    _ => None,
                });
                lost.into_iter().any(|(of, at)| {
                    plan.faults.iter().any(|fault| {
                        matches!(fault.at, Trigger::PortCall { agent, call, .. }
                            if fault.kind == FaultKind::AgentKill
                                && agent == of
                                && (at + 2..=at + 14).contains(&call))
                    })
                })
            })
            .count();
        assert!(pairs >= 20, "{pairs} of 2000");
    }
}
