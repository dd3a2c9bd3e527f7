//! The controller: approval, burial and what a reboot leaves behind.

use core::time::Duration;

use berth::core::api::Part;
use berth::core::controller::ControllerConfig;
use berth::core::objects::{
    ANNOTATION_BURY, AddressPool, BerthNode, EpochState, FamilySpec, Kind, Object, ObjectKey,
    TAINT_OUT_OF_SERVICE, Taint,
};
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

fn machine(world: &mut World, name: &str) -> Box<BerthNode> {
    let key = ObjectKey::cluster(Kind::BerthNode, name);
    world.with_store(|store| match store.get(&key).unwrap() {
        Object::BerthNode(node) => node,
        _ => panic!("a BerthNode"),
    })
}

fn conditions(world: &mut World, name: &str) -> Vec<String> {
    let node = machine(world, name);
    let mut kinds: Vec<_> = node.spec.conditions.into_iter().map(|c| c.kind).collect();
    kinds.sort();
    kinds
}

fn exists(world: &mut World, pod: &str) -> bool {
    let key = ObjectKey {
        kind: Kind::Pod,
        namespace: "ns".into(),
        name: pod.into(),
    };
    world.with_store(|store| store.get(&key).is_ok())
}

#[test]
fn a_machine_that_was_buried_alive_takes_back_what_is_free_and_removes_its_pod_where_it_is_not() {
    let mut world = World::new(7, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/31");
    world.start_controller("c1");
    world.add_node("n0");
    world.add_node("n1");
    pod(&mut world, "n0", "p");
    pod(&mut world, "n0", "q");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.running_count(), 2);
    // The machine is cut off, and an operator says that it is off.
    world.kill_agent("n0");
    bury(&mut world, "machine-n0");
    world.run_for(Duration::from_secs(720));
    assert_eq!(state(&mut world, "machine-n0"), EpochState::Dead);
    pod(&mut world, "n1", "r");
    world.run_for(Duration::from_secs(20));
    let taken = world.addresses_of("r");
    let (lost, kept) = if world.addresses_of("p") == taken {
        ("p", "q")
    } else {
        ("q", "p")
    };
    world.start_agent("n0");
    world.run_for(Duration::from_secs(60));
    assert!(!exists(&mut world, lost), "its Pod is removed");
    assert!(exists(&mut world, kept) && exists(&mut world, "r"));
    let expected = [format!("pod-{kept}"), "pod-r".to_owned()];
    assert_eq!(world.held_by(), expected, "the other is taken back");
    let said = conditions(&mut world, "machine-n0");
    assert_eq!(said, ["AddressTaken", "BuriedWhileAlive"]);
    let reasons: Vec<_> = world.events("n0").into_iter().map(|e| e.0).collect();
    assert!(reasons.contains(&"AddressTaken"), "{reasons:?}");
    // The kubelet ends the sandbox of a Pod that is gone.
    world.delete_pod(lost, Duration::ZERO, true);
    world.run_for(Duration::from_secs(120));
    assert_eq!(conditions(&mut world, "machine-n0"), ["BuriedWhileAlive"]);
}

#[test]
fn a_pod_is_left_alone_where_its_machine_was_not_buried() {
    let mut world = World::new(8, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/31");
    world.start_controller("c1");
    world.add_node("n0");
    pod(&mut world, "n0", "p");
    world.run_for(Duration::from_secs(5));
    // A backup is restored in which the address is another machine's.
    world.kill_agent("n0");
    world.with_store(|store| {
        let blocks: Vec<_> = store.of_kind(Kind::AddressBlock).cloned().collect();
        for object in blocks {
            let Object::AddressBlock(mut block) = object else {
                panic!("a block")
            };
            block.spec.records = block.spec.records.replace("machine-n0", "machine-n9");
            store
                .replace(Object::AddressBlock(block), Part::Main)
                .unwrap();
        }
    });
    world.start_agent("n0");
    world.run_for(Duration::from_secs(60));
    assert!(exists(&mut world, "p"));
    let reasons: Vec<_> = world.events("n0").into_iter().map(|e| e.0).collect();
    assert!(reasons.contains(&"AddressTaken"), "{reasons:?}");
}

#[test]
fn of_many_machines_without_a_node_object_one_an_hour_is_buried_and_the_others_say_so() {
    let mut world = World::new(9, Faults::default());
    let mut config = ControllerConfig::new("c1");
    config.bury_when_node_is_gone = true;
    world.start_controller_with(config);
    for node in ["n0", "n1", "n2"] {
        world.add_node(node);
    }
    world.run_for(Duration::from_secs(5));
    for node in ["n0", "n1", "n2"] {
        world.kill_agent(node);
        let key = ObjectKey::cluster(Kind::Node, node);
        world.with_store(|store| store.delete(&key, None).unwrap());
    }
    world.run_for(Duration::from_secs(120));
    let names = ["machine-n0", "machine-n1", "machine-n2"];
    let dying = names.map(|name| state(&mut world, name) == EpochState::Dying);
    assert_eq!(dying.iter().filter(|dying| **dying).count(), 1);
    for (name, dying) in names.into_iter().zip(dying) {
        let held = conditions(&mut world, name) == ["BurialHeld"];
        assert_eq!(held, !dying, "{name}");
    }
}

#[test]
fn a_machine_whose_node_is_tainted_out_of_service_is_buried() {
    let mut world = World::new(10, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/30");
    world.start_controller("c1");
    for node in ["n0", "n1"] {
        world.add_node(node);
        pod(&mut world, node, &format!("p-{node}"));
    }
    world.run_for(Duration::from_secs(5));
    // Both are cut off; of one an administrator says that it is off.
    world.kill_agent("n0");
    world.kill_agent("n1");
    let key = ObjectKey::cluster(Kind::Node, "n0");
    world.with_store(|store| {
        let Object::Node(mut node) = store.get(&key).unwrap() else {
            panic!("a Node")
        };
        node.spec.taints.push(Taint {
            key: TAINT_OUT_OF_SERVICE.into(),
            ..Taint::default()
        });
        store.replace(Object::Node(node), Part::Main).unwrap();
    });
    world.run_for(Duration::from_secs(640));
    assert_eq!(world.held_by(), ["pod-p-n0", "pod-p-n1"], "the quarantine");
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.held_by(), ["pod-p-n1"]);
}

#[test]
fn a_quarantine_of_eleven_minutes_begins_anew_with_a_new_leader() {
    let mut world = World::new(11, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/30");
    world.start_controller("c1");
    world.add_node("n0");
    world.run_for(Duration::from_secs(5));
    world.kill_agent("n0");
    bury(&mut world, "machine-n0");
    world.run_for(Duration::from_secs(600));
    assert_eq!(state(&mut world, "machine-n0"), EpochState::Dying);
    world.kill_controller("c1");
    world.start_controller("c2");
    world.run_for(Duration::from_secs(650));
    assert_eq!(state(&mut world, "machine-n0"), EpochState::Dying);
    world.run_for(Duration::from_secs(50));
    assert_eq!(state(&mut world, "machine-n0"), EpochState::Dead);
}

#[test]
fn displaced_pods_are_kept_where_that_is_wanted() {
    let mut world = World::new(12, Faults::default());
    world.configure(|config| config.removes_displaced_pods = false);
    create_pool(&mut world, "a", "10.0.0.0/32");
    world.start_controller("c1");
    world.add_node("n0");
    world.add_node("n1");
    pod(&mut world, "n0", "p");
    world.run_for(Duration::from_secs(5));
    world.kill_agent("n0");
    bury(&mut world, "machine-n0");
    world.run_for(Duration::from_secs(720));
    pod(&mut world, "n1", "r");
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.held_by(), ["pod-r"]);
    world.start_agent("n0");
    world.run_for(Duration::from_secs(300));
    assert!(exists(&mut world, "p"));
    let reasons: Vec<_> = world.events("n0").into_iter().map(|e| e.0).collect();
    assert!(reasons.contains(&"AddressTaken"), "{reasons:?}");
}

#[test]
fn a_controller_that_ends_keeps_its_lease_until_it_runs_out() {
    let mut world = World::new(13, Faults::default());
    world.start_controller("c1");
    world.run_for(Duration::from_secs(10));
    world.kill_controller("c1");
    world.start_controller("c2");
    create_pool(&mut world, "a", "10.0.0.0/30");
    world.run_for(Duration::from_secs(9));
    assert!(!approved(&mut world, "a"), "its lease may be in use");
    world.run_for(Duration::from_secs(16));
    assert!(approved(&mut world, "a"));
}
