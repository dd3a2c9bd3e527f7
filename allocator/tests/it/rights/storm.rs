//! Storms with tenants: Pods whose annotations name a pool that is shut to them, an administrator
//! who opens and shuts it, lost replies, kills. Nothing of the pool is answered while it is shut,
//! and once it is open every Pod has its address.

use core::time::Duration;
use std::collections::BTreeSet;

use berth::core::agent::AgentConfig;
use berth::core::hash::mix;
use berth::core::objects::{ANNOTATION_POOL, AddressPoolSpec};
use berth::testing::{PodPlan, World};

use super::{SHUT, annotated, change_pod, change_pool};
use crate::storms::{HOSTILE, nothing_outlives_its_pod};

struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(0x7e4a_4475, self.0) % bound
    }
}

fn open(spec: &mut AddressPoolSpec) {
    spec.namespaces.clear();
    spec.node_selector.clear();
    spec.pod_selector.clear();
    spec.networks.clear();
    spec.disabled = false;
}

/// Pods of `alive` with an address of the pool `bank`.
fn of_bank(world: &World, alive: &[String]) -> BTreeSet<String> {
    let has = |name: &&String| {
        let addresses = world.addresses_of(name);
        addresses
            .iter()
            .any(|address| address.to_string().starts_with("10.2."))
    };
    alive.iter().filter(has).cloned().collect()
}

fn storm(seed: u64, configure: fn(&mut AgentConfig)) -> Result<(), String> {
    let mut draw = Draw(seed.wrapping_mul(0x1_0000_0001));
    let mut world = World::new(seed, HOSTILE);
    world.configure(configure);
    world.add_pool("open", &[&["10.1.0.0/28"]], Some(4));
    world.add_pool("bank", &[&["10.2.0.0/28"]], Some(4));
    change_pool(&mut world, "bank", |spec| {
        spec.is_default = false;
        SHUT[0].0(spec);
    });
    world.start_controller("c");
    for node in ["n0", "n1"] {
        world.add_node(node);
    }
    world.run_for(Duration::from_secs(3));
    let mut alive: Vec<String> = Vec::new();
    let (mut next, mut shut_steps) = (0, 9);
    for _ in 0..60 {
        let before = of_bank(&world, &alive);
        match draw.below(10) {
            0..=4 if alive.len() < 8 => {
                let (node, name) = (format!("n{}", draw.below(2)), format!("p{next}"));
                next += 1;
                world.create_pod(PodPlan {
                    node: &node,
                    name: &name,
                    sandbox_after: Duration::from_millis(draw.below(600)),
                });
                if draw.below(2) == 0 {
                    change_pod(&mut world, &name, annotated(ANNOTATION_POOL, "bank"));
                }
                alive.push(name);
            }
            5 if !alive.is_empty() => {
                let name = alive.remove(draw.below(alive.len() as u64) as usize);
                world.delete_pod(&name, Duration::from_millis(draw.below(1000)), false);
            }
            6 => {
                let node = format!("n{}", draw.below(2));
                world.kill_agent(&node);
                world.start_agent_after(&node, Duration::from_millis(draw.below(2000)));
            }
            7 | 8 => {
                if shut_steps == 0 {
                    let (shut, _) = SHUT[draw.below(SHUT.len() as u64) as usize];
                    change_pool(&mut world, "bank", shut);
                    shut_steps = 1;
                } else if draw.below(2) == 0 {
                    change_pool(&mut world, "bank", open);
                    shut_steps = 0;
                }
            }
            _ => {}
        }
        world.run_for(Duration::from_millis(400 + draw.below(1500)));
        let after = of_bank(&world, &alive);
        // The step in which it was shut is the agent's time to hear of it.
        if shut_steps > 1
            && let Some(thief) = after.difference(&before).next()
        {
            return Err(format!("seed {seed}: past the door: {thief}"));
        }
        shut_steps += u64::from(shut_steps > 0);
    }
    world.set_faults(berth::testing::Faults::default());
    change_pool(&mut world, "bank", open);
    world.run_for(Duration::from_secs(180));
    if let Some(violation) = world.violations().first() {
        return Err(format!("seed {seed}: {violation:?}"));
    }
    if world.running_count() != alive.len() {
        let held = world.held_by();
        return Err(format!("seed {seed}: alive {alive:?}, held {held:?}"));
    }
    // A rule that shuts a pool in the middle of a claim may leave a Pod an address too many.
    nothing_outlives_its_pod(seed, world, &alive)
}

#[test]
fn storms_with_tenants_never_open_a_shut_pool_and_end_with_an_address_for_each_pod() {
    let failures: Vec<String> = (0..200)
        .filter_map(|seed| storm(seed, |_| {}).err())
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[cfg(feature = "mutants")]
#[test]
fn the_mutant_that_asks_rules_only_where_nobody_names_a_pool_falls_in_storms() {
    let falls = (0..50).any(|seed| {
        let result = storm(seed, |config| {
            config.mutant = Some(berth::core::Mutant::RightsOnlyOnOrdinaryPath);
        });
        result.is_err_and(|text| text.contains("past the door"))
    });
    assert!(falls);
}
