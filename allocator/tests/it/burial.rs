//! The controller: approval, burial and what a reboot leaves behind.

use core::time::Duration;

use berth::core::objects::{
    ANNOTATION_BURY, AddressPool, EpochState, FamilySpec, Kind, Object, ObjectKey,
};
use berth::ports::Part;
use berth::testing::{Faults, PodPlan, World};

fn pod(world: &mut World, node: &str, name: &str) {
    world.create_pod(PodPlan {
        node,
        name,
        sandbox_after: Duration::from_millis(300),
    });
}

fn create_pool(world: &mut World, name: &str, range: &str) {
    let mut pool = AddressPool::default();
    pool.metadata.name = name.into();
    pool.spec.is_default = true;
    pool.spec.families = vec![FamilySpec {
        ranges: vec![range.into()],
        ..FamilySpec::default()
    }];
    world.with_store(|store| store.create(pool.into()).unwrap());
}

fn approved(world: &mut World, name: &str) -> bool {
    let key = ObjectKey::cluster(Kind::AddressPool, name);
    world.with_store(|store| match store.get(&key).unwrap() {
        Object::AddressPool(pool) => !pool.status.approved.is_empty(),
        _ => false,
    })
}

#[test]
fn u9_of_two_overlapping_pools_one_is_approved() {
    let mut world = World::new(3, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/24");
    create_pool(&mut world, "b", "10.0.0.128/25");
    world.start_controller("c1");
    world.start_controller("c2");
    world.run_for(Duration::from_secs(30));
    assert!(approved(&mut world, "a") != approved(&mut world, "b"));
}

#[test]
fn a_rebooted_nodes_old_records_are_freed_after_the_quarantine() {
    let mut world = World::new(4, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/30");
    world.start_controller("c1");
    world.add_node("n0");
    pod(&mut world, "n0", "stays");
    pod(&mut world, "n0", "goes");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.running_count(), 2);
    let before = world.addresses_of("stays");
    // The Pod goes while the machine is down.
    world.reboot("n0");
    world.delete_pod("goes", Duration::ZERO, true);
    world.start_agent("n0");
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.addresses_of("stays"), before, "adopted");
    assert_eq!(world.held_by(), ["pod-goes", "pod-stays"]);
    world.run_for(Duration::from_secs(700));
    assert_eq!(world.held_by(), ["pod-stays"]);
}

fn bury(world: &mut World, machine: &str) {
    let key = ObjectKey::cluster(Kind::BerthNode, machine);
    world.with_store(|store| {
        let Object::BerthNode(mut node) = store.get(&key).unwrap() else {
            panic!("a BerthNode")
        };
        node.metadata
            .annotations
            .insert(ANNOTATION_BURY.into(), "now".into());
        store.replace(Object::BerthNode(node), Part::Main).unwrap();
    });
}

fn state(world: &mut World, machine: &str) -> EpochState {
    let key = ObjectKey::cluster(Kind::BerthNode, machine);
    world.with_store(|store| match store.get(&key).unwrap() {
        Object::BerthNode(node) => node.spec.state,
        _ => panic!("a BerthNode"),
    })
}

#[test]
fn u3_an_agent_that_lives_contests_its_burial() {
    let mut world = World::new(5, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/30");
    world.start_controller("c1");
    world.add_node("n0");
    pod(&mut world, "n0", "p");
    world.run_for(Duration::from_secs(5));
    bury(&mut world, "machine-n0");
    world.run_for(Duration::from_secs(1500));
    assert_eq!(state(&mut world, "machine-n0"), EpochState::Live);
    assert_eq!(world.held_by(), ["pod-p"]);
}

#[test]
fn u2_a_buried_machines_addresses_are_freed_and_its_agent_answers_nothing_from_memory() {
    let mut world = World::new(6, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/31");
    world.start_controller("c1");
    world.add_node("n0");
    world.add_node("n1");
    pod(&mut world, "n0", "p");
    world.run_for(Duration::from_secs(5));
    let address = world.addresses_of("p");
    world.reboot("n0");
    bury(&mut world, "machine-n0");
    world.run_for(Duration::from_secs(600));
    assert_eq!(
        world.held_by(),
        ["pod-p"],
        "within the quarantine nothing is freed"
    );
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.held_by(), Vec::<String>::new());
    assert_eq!(state(&mut world, "machine-n0"), EpochState::Dead);
    pod(&mut world, "n1", "q");
    pod(&mut world, "n1", "r");
    world.run_for(Duration::from_secs(20));
    assert!(world.addresses_of("q") == address || world.addresses_of("r") == address);
    // The machine comes back, with another boot, and finds its epoch dead.
    world.start_agent("n0");
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.violations(), []);
    assert_eq!(state(&mut world, "machine-n0"), EpochState::Live);
    assert!(world.addresses_of("p").is_empty(), "no room for it now");
}
