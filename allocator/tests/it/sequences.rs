//! Sequences that broke earlier drafts of the protocol, by the name that the design review gave
//! them.

use core::time::Duration;

use berth::core::agent::AgentConfig;
use berth::core::objects::{Kind, Object};
use berth::testing::{Faults, PodPlan, World};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn world(seed: u64, pool: &str, nodes: &[&str]) -> World {
    let mut world = World::new(seed, Faults::default());
    world.add_pool("p", &[&[pool]], Some(4));
    for node in nodes {
        world.add_node(node);
    }
    world.run_for(seconds(1));
    world
}

fn pod(world: &mut World, node: &str, name: &str, sandbox_after_ms: u64) {
    let sandbox_after = Duration::from_millis(sandbox_after_ms);
    world.create_pod(PodPlan {
        node,
        name,
        sandbox_after,
    });
}

/// A release gets no answer and is carried out late; in between, the same Pod asks.
fn u1(seed: u64, configure: fn(&mut AgentConfig)) -> bool {
    let mut world = World::new(seed, Faults::default());
    world.configure(configure);
    world.add_pool("p", &[&["10.0.0.0/30"]], Some(4));
    world.add_node("n0");
    world.add_node("n1");
    world.run_for(seconds(1));
    for name in ["a", "b", "c"] {
        pod(&mut world, "n0", name, 100);
    }
    pod(&mut world, "n0", "x", 2500 + seed % 10 * 50);
    world.run_for(seconds(1));
    pod(&mut world, "n1", "waits", 100);
    world.run_for(seconds(1));
    world.set_faults(Faults {
        lost_reply_ppm: 1_000_000,
        ..Faults::default()
    });
    world.delete_pod("x", seconds(60), false);
    world.run_for(Duration::from_millis(990));
    world.set_faults(Faults::default());
    world.run_for(seconds(30));
    world.violations().is_empty()
}

#[test]
fn u1_a_release_of_unknown_outcome_is_fenced_before_the_next_answer() {
    for seed in 0..100 {
        assert!(u1(seed, |_| {}), "seed {seed}");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn u1_catches_the_mutant_for_which_a_read_settles() {
    use berth::core::Mutant;
    let caught = (0..100).any(|seed| !u1(seed, |c| c.mutant = Some(Mutant::ReadSettlesUnknown)));
    assert!(caught);
}

/// A machine is cut off alive, another joins under its node's name, and its Pod is force-deleted.
fn u4(configure: fn(&mut AgentConfig)) -> bool {
    let mut world = World::new(9, Faults::default());
    world.configure(configure);
    world.add_pool("p", &[&["10.0.0.0/31"]], None);
    world.start_controller("c");
    world.add_node("n0");
    world.add_node("n1");
    world.run_for(seconds(1));
    pod(&mut world, "n0", "x", 100);
    world.run_for(seconds(3));
    world.kill_agent("n0");
    world.add_machine("m2", "n0");
    world.delete_pod("x", seconds(5000), true);
    world.run_for(seconds(1000));
    pod(&mut world, "n1", "y", 100);
    pod(&mut world, "n1", "z", 100);
    world.run_for(seconds(100));
    world.violations().is_empty()
}

#[test]
fn u4_another_machine_under_the_same_name_touches_nothing_of_the_first() {
    assert!(u4(|_| {}));
}

#[cfg(feature = "mutants")]
#[test]
fn u4_catches_the_mutant_that_names_the_incarnation_after_the_node() {
    assert!(!u4(
        |c| c.mutant = Some(berth::core::Mutant::NodeNameIdentity)
    ));
}

#[test]
fn u5_an_address_is_not_reused_while_the_link_lives_on_after_del() {
    for seed in 0..40 {
        let mut world = world(seed, "10.0.0.0/31", &["n0", "n1"]);
        pod(&mut world, "n0", "a", 100);
        pod(&mut world, "n0", "b", 100);
        world.run_for(seconds(3));
        pod(&mut world, "n1", "c", 100);
        world.delete_pod("a", seconds(1), false);
        world.run_for(seconds(60));
        assert_eq!(world.violations(), []);
        assert_eq!(world.addresses_of("c").len(), 1, "and is free afterwards");
    }
}

#[test]
fn u7_without_a_journal_a_force_deleted_pods_address_stays() {
    let mut world = world(1, "10.0.0.0/31", &["n0", "n1"]);
    pod(&mut world, "n0", "a", 100);
    pod(&mut world, "n0", "b", 100);
    world.run_for(seconds(3));
    world.kill_agent("n0");
    world.lose_journal("n0");
    world.delete_pod("a", seconds(60), true);
    world.start_agent("n0");
    pod(&mut world, "n1", "c", 100);
    world.run_for(seconds(50));
    assert_eq!(world.held_by(), ["pod-a", "pod-b"]);
    world.run_for(seconds(120));
    assert_eq!(
        world.held_by(),
        ["pod-b", "pod-c"],
        "free after its sandbox is gone"
    );
    assert_eq!(world.violations(), []);
}

#[test]
fn k1_pods_that_need_no_address_reserve_none() {
    let mut world = world(1, "10.0.0.0/29", &["n0"]);
    world.with_store(|store| {
        for (name, change) in [
            (
                "host",
                (|pod: &mut berth::core::objects::Pod| pod.spec.host_network = true)
                    as fn(&mut berth::core::objects::Pod),
            ),
            ("done", |pod| pod.status.phase = "Succeeded".into()),
            ("mirror", |pod| {
                let key = berth::core::objects::ANNOTATION_MIRROR.to_owned();
                pod.metadata.annotations.insert(key, String::new());
            }),
            ("elsewhere", |pod| pod.spec.node_name = "n9".into()),
        ] {
            let mut pod = berth::core::objects::Pod::default();
            pod.metadata.name = name.into();
            pod.metadata.namespace = "ns".into();
            pod.spec.node_name = "n0".into();
            change(&mut pod);
            store.create(pod.into()).unwrap();
        }
    });
    world.run_for(seconds(5));
    assert_eq!(world.held_by(), Vec::<String>::new());
}

#[test]
fn k1_a_pod_that_never_starts_gives_its_reservation_back() {
    let mut world = world(1, "10.0.0.0/29", &["n0"]);
    pod(&mut world, "n0", "a", 1_000_000);
    world.run_for(seconds(2));
    assert_eq!(world.held_by(), ["pod-a"]);
    world.delete_pod("a", seconds(1), false);
    world.run_for(seconds(10));
    assert_eq!(world.held_by(), Vec::<String>::new());
}

#[test]
fn k2_a_claim_that_lands_after_its_process_died_is_found_and_freed() {
    for seed in 0..40 {
        let mut world = world(seed, "10.0.0.0/29", &["n0"]);
        world.set_faults(Faults {
            lost_reply_ppm: 1_000_000,
            ..Faults::default()
        });
        pod(&mut world, "n0", "a", 10_000);
        world.run_for(Duration::from_millis(50));
        world.kill_agent("n0");
        world.set_faults(Faults::default());
        world.start_agent("n0");
        world.run_for(seconds(20));
        assert_eq!(
            world.held_by(),
            ["pod-a"],
            "seed {seed}: one address, not two"
        );
        world.delete_pod("a", Duration::ZERO, true);
        world.run_for(seconds(60));
        assert_eq!(world.held_by(), Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn v1_a_del_without_an_agent_is_applied_by_the_next_one() {
    let mut world = world(1, "10.0.0.0/29", &["n0"]);
    pod(&mut world, "n0", "a", 100);
    world.run_for(seconds(2));
    world.kill_agent("n0");
    world.delete_pod("a", Duration::ZERO, false);
    world.run_for(seconds(2));
    assert_eq!(world.held_by(), ["pod-a"]);
    world.start_agent("n0");
    world.run_for(seconds(40));
    assert_eq!(world.held_by(), Vec::<String>::new());
}

#[test]
fn v3_blocks_that_nobody_created_are_found_at_the_last_addresses() {
    let mut world = world(1, "10.0.0.0/27", &["n0", "n1", "n2"]);
    for pod_index in 0..32 {
        pod(&mut world, "n0", &format!("p{pod_index}"), 500);
    }
    world.run_for(seconds(20));
    assert_eq!(world.running_count(), 32);
}

#[test]
fn v5_waiters_of_another_node_get_their_turn() {
    let mut world = world(1, "10.0.0.0/30", &["n0", "n1"]);
    for name in ["a", "b", "c", "d"] {
        pod(&mut world, "n0", name, 100);
    }
    world.run_for(seconds(3));
    pod(&mut world, "n1", "foreign", 100);
    for name in ["e", "f", "g"] {
        pod(&mut world, "n0", name, 100);
    }
    world.run_for(seconds(3));
    for name in ["a", "b", "c"] {
        world.delete_pod(name, Duration::ZERO, false);
        world.run_for(seconds(25));
    }
    assert_eq!(world.addresses_of("foreign").len(), 1);
}

#[test]
fn u14_a_block_that_vanished_is_written_again_with_the_bindings() {
    let mut world = world(1, "10.0.0.0/29", &["n0"]);
    pod(&mut world, "n0", "a", 100);
    world.run_for(seconds(3));
    world.with_store(|store| {
        let keys: Vec<_> = store.of_kind(Kind::AddressBlock).map(Object::key).collect();
        for key in keys {
            let mut object = store.get(&key).unwrap();
            object.metadata_mut().finalizers.clear();
            let _ = store.replace(object, berth::core::api::Part::Main);
            store.delete(&key, None).unwrap();
        }
    });
    world.kill_agent("n0");
    world.start_agent("n0");
    world.run_for(seconds(10));
    assert_eq!(world.held_by(), ["pod-a"]);
}
