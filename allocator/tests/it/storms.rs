//! Many small hostile worlds: two or three agents, as many addresses as Pods, lost replies, late
//! commits, kills, reboots. The ledger must see no address on two live interfaces, and after
//! quiet every Pod has one and nothing is left behind.

use core::time::Duration;

use berth::core::agent::AgentConfig;
use berth::testing::{Faults, PodPlan, World};

pub const HOSTILE: Faults = Faults {
    lost_reply_ppm: 120_000,
    lost_request_ppm: 40_000,
    throttled_ppm: 30_000,
};

struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        berth::core::hash::mix(0x5eed, self.0) % bound
    }
}

type Configure = fn(&mut AgentConfig);

/// Runs one storm and says what is wrong with it, if something is.
pub fn storm(seed: u64, faults: Faults, reboots: bool, configure: Configure) -> Result<(), String> {
    let mut draw = Draw(seed.wrapping_mul(0x1_0000_0001));
    let mut world = World::new(seed, faults);
    world.configure(configure);
    world.add_pool("p", &[&["10.0.0.0/29"], &["fd00::/125"]], Some(4));
    world.start_controller("c");
    let nodes = 2 + draw.below(2);
    for node in 0..nodes {
        world.add_node(&format!("n{node}"));
    }
    world.run_for(Duration::from_secs(3));
    let mut alive: Vec<String> = Vec::new();
    let mut next = 0;
    for _ in 0..60 {
        match draw.below(10) {
            0..=4 if alive.len() < 8 => {
                let (node, name) = (format!("n{}", draw.below(nodes)), format!("p{next}"));
                next += 1;
                let sandbox_after = Duration::from_millis(draw.below(600));
                world.create_pod(PodPlan {
                    node: &node,
                    name: &name,
                    sandbox_after,
                });
                alive.push(name);
            }
            5 | 6 if !alive.is_empty() => {
                let name = alive.remove(draw.below(alive.len() as u64) as usize);
                let force = draw.below(3) == 0;
                let grace = if force {
                    1000 + draw.below(9000)
                } else {
                    draw.below(1000)
                };
                world.delete_pod(&name, Duration::from_millis(grace), force);
            }
            7 => {
                let node = format!("n{}", draw.below(nodes));
                world.kill_agent(&node);
                world.start_agent_after(&node, Duration::from_millis(draw.below(4000)));
            }
            8 if draw.below(4) == 0 && reboots => {
                let node = format!("n{}", draw.below(nodes));
                world.reboot(&node);
                world.start_agent_after(&node, Duration::from_millis(draw.below(4000)));
            }
            _ => {}
        }
        world.run_for(Duration::from_millis(draw.below(1500)));
    }
    world.set_faults(Faults::default());
    world.run_for(Duration::from_secs(if reboots { 1000 } else { 180 }));
    if let Some(violation) = world.violations().first() {
        return Err(format!("seed {seed}: {violation:?}"));
    }
    if world.running_count() != alive.len() {
        let held = world.held_by();
        return Err(format!(
            "seed {seed}: {} of {} Pods run; alive {alive:?}; held {held:?}",
            world.running_count(),
            alive.len()
        ));
    }
    let mut expected: Vec<String> = alive.iter().map(|name| format!("pod-{name}")).collect();
    expected.sort();
    let held = world.held_by();
    if held != expected {
        return Err(format!("seed {seed}: records {held:?}, Pods {expected:?}"));
    }
    Ok(())
}

fn failures(seeds: core::ops::Range<u64>, reboots: bool) -> Vec<String> {
    seeds
        .filter_map(|seed| storm(seed, HOSTILE, reboots, |_| {}).err())
        .collect()
}

#[test]
fn storms_leave_neither_duplicates_nor_leaks() {
    let failures = failures(0..300, false);
    assert!(
        failures.is_empty(),
        "{}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn storms_with_reboots_leave_neither_duplicates_nor_leaks_after_the_quarantine() {
    let failures = failures(1000..1150, true);
    assert!(
        failures.is_empty(),
        "{}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// The two others need a certain sequence: see `sequences`.
#[cfg(feature = "mutants")]
#[test]
fn mutants_fall_in_storms() {
    use berth::core::Mutant;
    let survivors: Vec<_> = [
        (
            Mutant::NoResourceVersion,
            (|c| c.mutant = Some(Mutant::NoResourceVersion)) as Configure,
        ),
        (Mutant::ReleaseOnPodAbsent, |c| {
            c.mutant = Some(Mutant::ReleaseOnPodAbsent);
        }),
        (Mutant::FreeAtDel, |c| c.mutant = Some(Mutant::FreeAtDel)),
    ]
    .into_iter()
    .filter(|(_, configure)| {
        !(0..400).any(|seed| {
            storm(seed, HOSTILE, false, *configure).is_err_and(|text| text.contains("Violation"))
        })
    })
    .map(|(mutant, _)| mutant.to_string())
    .collect();
    assert_eq!(survivors, Vec::<String>::new());
}
