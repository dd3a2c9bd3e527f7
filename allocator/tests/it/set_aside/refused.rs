//! Objects whose writes the apiserver refuses: each delays itself alone.

use super::*;

fn refuse(world: &mut World, kind: Kind, name: &str, part: Part, error: Option<ApiError>) {
    let key = ObjectKey::cluster(kind, name);
    world.with_store(|store| store.refuse_writes(key, part, error));
}

fn refusals() -> [ApiError; 3] {
    [
        ApiError::Invalid {
            message: "status.capacity: Invalid value: 18446744073709551615: should be less".into(),
        },
        // A webhook that fails answers 500.
        ApiError::Unavailable(Applied::Unknown),
        ApiError::Conflict,
    ]
}

#[test]
fn a_refused_write_delays_its_object_and_no_other() {
    for error in refusals() {
        let mut world = World::new(11, Faults::default());
        for name in ["a", "b"] {
            refuse(
                &mut world,
                Kind::AddressPool,
                name,
                Part::Status,
                Some(error.clone()),
            );
        }
        create_pool(&mut world, "a", "fd00::/64");
        create_pool(&mut world, "b", "10.4.0.0/24");
        refuse(
            &mut world,
            Kind::AddressReservation,
            "r",
            Part::Main,
            Some(error.clone()),
        );
        world.put_raw(
            Kind::AddressReservation,
            json!({"metadata": {"name": "r"}, "spec": {"pool": "c", "address": "10.5.0.9",
                "podNamespace": "ns", "podName": "x"}}),
        );
        world.keep_states("c");
        world.start_controller("c");
        world.add_node("n0");
        seconds(&mut world, 60);
        assert!(world.controller_state("c").writes_refused >= 2, "{error:?}");
        create_pool(&mut world, "c", "10.5.0.0/24");
        seconds(&mut world, 2);
        assert!(approved(&mut world, "c"), "{error:?}");
        world.put_raw(
            Kind::AddressReservation,
            json!({"metadata": {"name": "s"}, "spec": {"pool": "c", "address": "10.5.0.8",
                "podNamespace": "ns", "podName": "y"}}),
        );
        seconds(&mut world, 3);
        pod(&mut world, "n0", "y");
        seconds(&mut world, 3);
        assert_eq!(address(&world, "y"), "10.5.0.8", "{error:?}");
        world.take_costs();
        seconds(&mut world, 300);
        let writes = world.take_costs().writes;
        assert!(writes < 120, "with back-off: {writes} writes for {error:?}");
        for name in ["a", "b"] {
            refuse(&mut world, Kind::AddressPool, name, Part::Status, None);
        }
        refuse(&mut world, Kind::AddressReservation, "r", Part::Main, None);
        seconds(&mut world, 60);
        for name in ["a", "b"] {
            assert!(approved(&mut world, name), "{name} after {error:?}");
        }
        assert_eq!(world.controller_state("c").writes_refused, 0, "{error:?}");
    }
}

#[test]
fn a_refused_block_or_machine_delays_no_burial_of_another() {
    for error in refusals() {
        let mut world = World::new(12, Faults::default());
        create_pool(&mut world, "a", "10.0.0.0/26");
        world.start_controller("c");
        for node in ["n0", "n1"] {
            world.add_node(node);
            pod(&mut world, node, &format!("p-{node}"));
            seconds(&mut world, 5);
            world.kill_agent(node);
        }
        refuse(
            &mut world,
            Kind::BerthNode,
            "machine-n0",
            Part::Main,
            Some(error.clone()),
        );
        for node in ["machine-n0", "machine-n1"] {
            let mut machine = json_of(&mut world, Kind::BerthNode, node);
            machine["metadata"]["annotations"] = json!({ANNOTATION_BURY: "now"});
            world.put_raw(Kind::BerthNode, machine);
        }
        seconds(&mut world, 900);
        assert_eq!(world.held_by(), ["pod-p-n0"], "{error:?}");
        refuse(&mut world, Kind::BerthNode, "machine-n0", Part::Main, None);
        seconds(&mut world, 900);
        assert_eq!(world.held_by(), [""; 0], "{error:?}");
    }
}

#[test]
fn a_pool_that_waits_for_its_last_holder_delays_no_other_pool() {
    let mut world = World::new(13, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/29");
    world.start_controller("c");
    world.add_node("n0");
    pod(&mut world, "n0", "p");
    seconds(&mut world, 5);
    delete(&mut world, Kind::AddressPool, "a");
    seconds(&mut world, 50);
    for index in 0..4 {
        let name = format!("later-{index}");
        create_pool(&mut world, &name, &format!("10.4.{index}.0/24"));
        seconds(&mut world, 2);
        assert!(approved(&mut world, &name), "{name}");
        seconds(&mut world, 11);
    }
    world.delete_pod("p", Duration::from_millis(100), false);
    seconds(&mut world, 120);
    let key = ObjectKey::cluster(Kind::AddressPool, "a");
    assert!(
        world.with_store(|store| store.get(&key)).is_err(),
        "and it goes"
    );
}
