//! Several pools, cool-down, and what the controller says of them.

use core::net::IpAddr;
use core::time::Duration;

use berth::core::api::Part;
use berth::core::objects::{
    AddressPool, AddressPoolStatus, AddressReservation, FamilySpec, Kind, Object, ObjectKey,
};
use berth::testing::{Faults, PodPlan, World};

fn pod(world: &mut World, node: &str, name: &str) {
    world.create_pod(PodPlan {
        node,
        name,
        sandbox_after: Duration::from_millis(300),
    });
}

fn end(world: &mut World, name: &str) {
    world.delete_pod(name, Duration::from_millis(100), false);
}

fn address(world: &World, pod: &str) -> Option<IpAddr> {
    world.addresses_of(pod).first().copied()
}

fn is_in(address: Option<IpAddr>, prefix: &str) -> bool {
    address.is_some_and(|address| address.to_string().starts_with(prefix))
}

fn change_pool(world: &mut World, name: &str, change: impl FnOnce(&mut AddressPool)) {
    let key = ObjectKey::cluster(Kind::AddressPool, name);
    world.with_store(|store| {
        let Object::AddressPool(mut pool) = store.get(&key).unwrap() else {
            panic!("a pool")
        };
        change(&mut pool);
        store
            .replace(Object::AddressPool(pool), Part::Main)
            .unwrap();
    });
}

fn status(world: &mut World, name: &str) -> AddressPoolStatus {
    let key = ObjectKey::cluster(Kind::AddressPool, name);
    world.with_store(|store| match store.get(&key).unwrap() {
        Object::AddressPool(pool) => pool.status,
        _ => panic!("a pool"),
    })
}

fn seconds(world: &mut World, seconds: u64) {
    world.run_for(Duration::from_secs(seconds));
}

#[test]
fn a_pod_that_waits_in_a_full_pool_takes_an_address_of_a_pool_that_is_added_then() {
    for pools_before in [1_u32, 2] {
        let mut world = World::new(1, Faults::default());
        for pool in 1..=pools_before {
            let range = format!("10.{pool}.0.0/31");
            world.add_pool(&format!("a{pool}"), &[&[range.as_str()]], Some(2));
        }
        world.add_node("n0");
        seconds(&mut world, 1);
        for index in 0..2 * pools_before {
            pod(&mut world, "n0", &format!("has-{index}"));
        }
        seconds(&mut world, 5);
        pod(&mut world, "n0", "asks");
        // Reserved for by the watch, before its ADD.
        world.create_pod(PodPlan {
            node: "n0",
            name: "is-about-to-ask",
            sandbox_after: Duration::from_secs(40),
        });
        seconds(&mut world, 20);
        assert_eq!(address(&world, "asks"), None);
        world.add_pool("b", &[&["10.9.0.0/31"]], Some(2));
        seconds(&mut world, 3);
        assert!(is_in(address(&world, "asks"), "10.9."), "{pools_before}");
        let holders = world.held_by();
        assert!(
            holders.contains(&"pod-is-about-to-ask".into()),
            "{holders:?}"
        );
        assert_eq!(world.violations(), []);
    }
}

/// A block is created, and the pool has just been changed: what stands in it waits for the pool's
/// next approval, not for anything else.
#[test]
fn a_block_of_a_pool_that_changed_meanwhile_serves_when_the_pool_is_approved_again() {
    for seed in 0..10 {
        let mut world = World::new(seed, Faults::default());
        world.add_pool("a", &[&["10.1.0.0/30"]], Some(4));
        world.add_node("n0");
        seconds(&mut world, 1);
        pod(&mut world, "n0", "asks");
        let has_block = |world: &mut World| {
            world.with_store(|store| store.of_kind(Kind::AddressBlock).next().is_some())
        };
        while !has_block(&mut world) {
            world.run_for(Duration::from_millis(1));
        }
        change_pool(&mut world, "a", |pool| pool.spec.domain = "other".into());
        seconds(&mut world, 5);
        assert_eq!(world.running_count(), 0, "seed {seed}: not approved so");
        change_pool(&mut world, "a", |pool| pool.spec.domain.clear());
        seconds(&mut world, 60);
        assert_eq!(world.running_count(), 1, "seed {seed}: approved again");
        assert_eq!(world.violations(), []);
    }
}

#[test]
fn a_full_pool_is_followed_by_the_next_admissible_one_in_order() {
    let mut world = World::new(1, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/31"]], Some(2));
    world.add_pool("b", &[&["10.2.0.0/30"]], Some(4));
    world.add_pool("c", &[&["10.3.0.0/31"]], Some(2));
    world.add_node("n0");
    seconds(&mut world, 2);
    for index in 0..7 {
        pod(&mut world, "n0", &format!("p{index}"));
        seconds(&mut world, 3);
    }
    assert_eq!(world.running_count(), 7);
    let of = |prefix| {
        let all = (0..7).map(|i| address(&world, &format!("p{i}")));
        all.filter(|a| is_in(*a, prefix)).count()
    };
    assert_eq!((of("10.1."), of("10.2."), of("10.3.")), (2, 4, 1));
    assert_eq!(world.violations(), []);
}

#[test]
fn a_pod_that_found_all_pools_full_gets_what_is_freed_in_any_of_them() {
    for freed in ["p0", "p2"] {
        let mut world = World::new(2, Faults::default());
        world.add_pool("a", &[&["10.1.0.0/31"]], Some(2));
        world.add_pool("b", &[&["10.2.0.0/31"]], Some(2));
        world.add_node("n0");
        world.add_node("n1");
        seconds(&mut world, 2);
        for (index, node) in ["n0", "n0", "n1", "n1", "n0"].into_iter().enumerate() {
            pod(&mut world, node, &format!("p{index}"));
            seconds(&mut world, 3);
        }
        assert_eq!(world.running_count(), 4);
        world.take_costs();
        seconds(&mut world, 60);
        let costs = world.take_costs();
        assert!(costs.requests() < 200, "waiting is cheap: {costs:?}");
        let before = address(&world, freed);
        end(&mut world, freed);
        seconds(&mut world, 40);
        assert_eq!(address(&world, "p4"), before, "freed {freed}");
    }
}

#[test]
fn a_freed_address_rests_while_another_pool_has_one_and_is_used_after() {
    let mut world = World::new(3, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/31"]], Some(2));
    world.add_pool("b", &[&["10.2.0.0/28"]], Some(4));
    change_pool(&mut world, "a", |pool| pool.spec.cool_down_seconds = 60);
    world.add_node("n0");
    world.add_node("n1");
    seconds(&mut world, 2);
    for name in ["p0", "p1"] {
        pod(&mut world, "n0", name);
        seconds(&mut world, 3);
    }
    end(&mut world, "p0");
    seconds(&mut world, 10);
    for (node, name) in [("n0", "q"), ("n1", "r")] {
        pod(&mut world, node, name);
        seconds(&mut world, 10);
        assert!(is_in(address(&world, name), "10.2."), "{name} too early");
    }
    seconds(&mut world, 60);
    pod(&mut world, "n0", "late");
    seconds(&mut world, 10);
    assert!(is_in(address(&world, "late"), "10.1."), "it has rested");
}

#[test]
fn each_rest_counts_anew_although_a_node_missed_what_came_between() {
    let mut world = World::new(4, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/31"]], Some(2));
    world.add_pool("b", &[&["10.2.0.0/28"]], Some(4));
    change_pool(&mut world, "a", |pool| pool.spec.cool_down_seconds = 40);
    world.add_node("n0");
    world.add_node("n1");
    seconds(&mut world, 2);
    for name in ["p0", "p1"] {
        pod(&mut world, "n0", name);
        seconds(&mut world, 3);
    }
    end(&mut world, "p0");
    seconds(&mut world, 10);
    // n1 sees the first rest.
    pod(&mut world, "n1", "sees");
    seconds(&mut world, 45);
    // The ordinal is used and freed again, by n0, without n1 looking.
    pod(&mut world, "n0", "again");
    seconds(&mut world, 5);
    assert!(is_in(address(&world, "again"), "10.1."));
    end(&mut world, "again");
    seconds(&mut world, 10);
    pod(&mut world, "n1", "early");
    seconds(&mut world, 10);
    assert!(is_in(address(&world, "early"), "10.2."), "it rests anew");
}

#[test]
fn cool_down_yields_where_nothing_else_is_to_be_had() {
    let mut world = World::new(5, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/30"]], Some(4));
    change_pool(&mut world, "a", |pool| pool.spec.cool_down_seconds = 3600);
    world.add_node("n0");
    seconds(&mut world, 2);
    for name in ["p0", "p1", "p2", "p3"] {
        pod(&mut world, "n0", name);
    }
    seconds(&mut world, 5);
    for name in ["p0", "p1", "p2"] {
        end(&mut world, name);
    }
    seconds(&mut world, 10);
    for name in ["q0", "q1", "q2"] {
        pod(&mut world, "n0", name);
    }
    seconds(&mut world, 10);
    assert_eq!(world.running_count(), 4);
    assert_eq!(world.violations(), []);
}

#[test]
fn the_status_says_how_full_a_pool_is() {
    let mut world = World::new(6, Faults::default());
    let mut pool = AddressPool::default();
    pool.metadata.name = "a".into();
    pool.spec.is_default = true;
    pool.spec.block_size = Some(4);
    pool.spec.families = vec![FamilySpec {
        ranges: vec!["10.1.0.0/29".into()],
        gateway: "10.1.0.1".parse().ok(),
        exclude: vec!["10.1.0.6-10.1.0.7".into()],
        ..FamilySpec::default()
    }];
    world.with_store(|store| store.create(pool.into()).unwrap());
    world.start_controller("c");
    world.add_node("n0");
    seconds(&mut world, 70);
    let before = status(&mut world, "a");
    assert_eq!((before.capacity, before.held, before.free), (8, 0, 5));
    for index in 0..5 {
        pod(&mut world, "n0", &format!("p{index}"));
    }
    seconds(&mut world, 70);
    let full = status(&mut world, "a");
    assert_eq!((full.held, full.free), (5, 0));
    let says = |status: &AddressPoolStatus| {
        status
            .conditions
            .iter()
            .any(|c| c.kind == "Exhausted" && c.status == "True")
    };
    assert!(says(&full));
    world.take_costs();
    seconds(&mut world, 600);
    assert!(world.take_costs().writes <= 125, "the Lease, and no status");
    end(&mut world, "p0");
    seconds(&mut world, 70);
    let after = status(&mut world, "a");
    assert_eq!((after.held, after.free, says(&after)), (4, 1, false));
}

#[test]
fn a_reserved_address_returns_to_its_reservation_though_the_agent_began_anew_meanwhile() {
    let mut world = World::new(5, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/30"]], Some(4));
    let mut kept = AddressReservation::default();
    kept.metadata.name = "kept".into();
    kept.spec.pool = "a".into();
    kept.spec.address = "10.1.0.2".parse().ok();
    kept.spec.pod_namespace = "ns".into();
    kept.spec.pod_name = "db".into();
    world.with_store(|store| store.create(kept.into()).unwrap());
    world.start_controller("c1");
    world.add_node("n0");
    seconds(&mut world, 5);
    pod(&mut world, "n0", "db");
    seconds(&mut world, 3);
    assert_eq!(address(&world, "db"), "10.1.0.2".parse().ok());
    world.kill_agent("n0");
    world.start_agent("n0");
    seconds(&mut world, 5);
    // Other Pods have the block written again while the agent knows the Pod from its journal.
    pod(&mut world, "n0", "p0");
    seconds(&mut world, 3);
    end(&mut world, "db");
    seconds(&mut world, 60);
    let key = ObjectKey::cluster(Kind::AddressBlock, "a-0");
    let records = world.with_store(|store| match store.get(&key).unwrap() {
        Object::AddressBlock(block) => block.spec.records,
        _ => panic!("a block"),
    });
    assert!(records.contains("2 s kept"), "{records}");
    assert_eq!(world.violations(), []);
}

#[test]
fn a_pool_grows_is_disabled_and_goes_only_after_its_last_holder() {
    let mut world = World::new(7, Faults::default());
    let mut new = AddressPool::default();
    new.metadata.name = "a".into();
    new.spec.is_default = true;
    new.spec.block_size = Some(4);
    new.spec.families = vec![FamilySpec {
        ranges: vec!["10.1.0.0/30".into()],
        ..FamilySpec::default()
    }];
    world.with_store(|store| store.create(new.into()).unwrap());
    world.start_controller("c");
    world.add_node("n0");
    seconds(&mut world, 5);
    for index in 0..5 {
        pod(&mut world, "n0", &format!("p{index}"));
    }
    seconds(&mut world, 20);
    assert_eq!(world.running_count(), 4);
    let before: Vec<_> = (0..5).map(|i| address(&world, &format!("p{i}"))).collect();
    change_pool(&mut world, "a", |pool| {
        pool.spec.families[0].ranges.push("10.3.0.0/30".into());
    });
    seconds(&mut world, 30);
    assert_eq!(world.running_count(), 5, "it grew");
    for (index, address_before) in before.iter().enumerate() {
        let now = address(&world, &format!("p{index}"));
        if address_before.is_some() {
            assert_eq!(now, *address_before, "nobody's address changes");
        } else {
            assert!(is_in(now, "10.3."));
        }
    }
    change_pool(&mut world, "a", |pool| pool.spec.disabled = true);
    seconds(&mut world, 2);
    pod(&mut world, "n0", "late");
    seconds(&mut world, 30);
    assert_eq!(world.running_count(), 5, "a disabled pool drains");
    let key = ObjectKey::cluster(Kind::AddressPool, "a");
    world.with_store(|store| store.delete(&key, None).unwrap());
    for index in 0..5 {
        seconds(&mut world, 60);
        assert!(world.with_store(|store| store.get(&key).is_ok()));
        end(&mut world, &format!("p{index}"));
    }
    end(&mut world, "late");
    seconds(&mut world, 150);
    assert!(
        world.with_store(|store| store.get(&key).is_err()),
        "it goes"
    );
    assert_eq!(world.violations(), []);
}
