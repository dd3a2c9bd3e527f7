//! Nothing is claimed that nobody asks for: which Pods get a reservation before their ADD, when it
//! is given back, and who may take it over.

use core::time::Duration;

use berth::core::api::Part;
use berth::core::objects::{ANNOTATION_MULTUS_DEFAULT, Kind, Object, ObjectKey, Pod, PodIp};
use berth::testing::{Faults, PodPlan, World};

/// Later than any test ends: the sandbox never comes.
const NEVER: Duration = Duration::from_hours(1000);

fn world(ranges: &str) -> World {
    let mut world = World::new(1, Faults::default());
    world.add_pool("p", &[&[ranges]], Some(2));
    world.add_node("n0");
    world.run_for(Duration::from_secs(3));
    world
}

fn seconds(world: &mut World, seconds: u64) {
    world.run_for(Duration::from_secs(seconds));
}

fn pod(world: &mut World, name: &str, sandbox_after: Duration) {
    world.create_pod(PodPlan {
        node: "n0",
        name,
        sandbox_after,
    });
}

fn change_pod(world: &mut World, name: &str, part: Part, change: impl FnOnce(&mut Pod)) {
    let key = ObjectKey {
        kind: Kind::Pod,
        namespace: "ns".into(),
        name: name.into(),
    };
    world.with_store(|store| {
        let Object::Pod(mut pod) = store.get(&key).unwrap() else {
            panic!("a Pod")
        };
        change(&mut pod);
        store.replace(Object::Pod(pod), part).unwrap();
    });
}

/// The kubelet reports the address of the Pod's first interface.
fn reports(world: &mut World, name: &str, address: &str) {
    let ip = address.to_owned();
    change_pod(world, name, Part::Status, |pod| {
        pod.status.pod_ips = vec![PodIp { ip }];
    });
}

fn names_network(world: &mut World, name: &str, network: &str) {
    change_pod(world, name, Part::Main, |pod| {
        let key = ANNOTATION_MULTUS_DEFAULT.to_owned();
        pod.metadata.annotations.insert(key, network.to_owned());
    });
}

#[test]
fn without_a_default_network_nothing_is_held_before_an_add() {
    let mut world = World::new(1, Faults::default());
    world.configure(|config| config.default_network.clear());
    world.add_pool("p", &[&["10.7.0.0/30"]], Some(2));
    world.add_node("n0");
    seconds(&mut world, 3);
    for name in ["a", "b", "c", "d"] {
        pod(&mut world, name, NEVER);
    }
    pod(&mut world, "asks", Duration::from_secs(5));
    seconds(&mut world, 4);
    assert_eq!(world.held_by(), Vec::<String>::new());
    seconds(&mut world, 6);
    assert_eq!(world.held_by(), ["pod-asks"]);
    assert_eq!(world.addresses_of("asks").len(), 1);
}

#[test]
fn a_pod_of_another_default_network_gets_no_reservation() {
    let mut world = world("10.7.0.0/30");
    for (name, network) in [("a", "other"), ("b", "kube-system/other"), ("c", " other ")] {
        pod(&mut world, name, NEVER);
        names_network(&mut world, name, network);
    }
    for (name, network) in [("d", "cluster-net"), ("e", "kube-system/cluster-net")] {
        pod(&mut world, name, NEVER);
        names_network(&mut world, name, network);
    }
    seconds(&mut world, 10);
    assert_eq!(world.held_by(), ["pod-d", "pod-e"]);
}

#[test]
fn a_pod_that_runs_with_anothers_address_gets_no_reservation() {
    let mut world = world("10.7.0.0/30");
    world.kill_agent("n0");
    pod(&mut world, "old", NEVER);
    reports(&mut world, "old", "192.0.2.7");
    world.start_agent("n0");
    pod(&mut world, "new", NEVER);
    seconds(&mut world, 10);
    assert_eq!(world.held_by(), ["pod-new"]);
}

#[test]
fn a_reservation_is_given_back_when_another_manager_served_the_pod() {
    for address in ["192.0.2.7", "2001:db8::7", "10.7.0.99"] {
        let mut world = world("10.7.0.0/31");
        for name in ["a", "b"] {
            pod(&mut world, name, NEVER);
        }
        seconds(&mut world, 3);
        assert_eq!(world.held_by(), ["pod-a", "pod-b"]);
        reports(&mut world, "a", address);
        seconds(&mut world, 10);
        assert_eq!(world.held_by(), ["pod-b"], "{address}");
        // What was given back is not claimed again, not even by the next process.
        world.kill_agent("n0");
        world.start_agent("n0");
        seconds(&mut world, 30);
        assert_eq!(world.held_by(), ["pod-b"], "{address}");
    }
}

#[test]
fn an_own_address_that_is_still_reported_after_a_reboot_is_kept() {
    let mut world = world("10.7.0.0/31");
    pod(&mut world, "a", Duration::from_millis(300));
    seconds(&mut world, 3);
    let address = world.addresses_of("a")[0];
    reports(&mut world, "a", &address.to_string());
    seconds(&mut world, 1);
    world.reboot("n0");
    world.start_agent("n0");
    seconds(&mut world, 60);
    assert_eq!(world.held_by(), ["pod-a"]);
    assert_eq!(world.addresses_of("a"), [address]);
}

#[test]
fn a_reservation_whose_sandbox_never_comes_ends_and_its_add_still_gets_an_address() {
    let mut world = world("10.7.0.0/31");
    pod(&mut world, "late", Duration::from_mins(15));
    pod(&mut world, "never", NEVER);
    seconds(&mut world, 9 * 60);
    assert_eq!(world.held_by(), ["pod-late", "pod-never"]);
    seconds(&mut world, 2 * 60);
    assert_eq!(world.held_by(), Vec::<String>::new());
    seconds(&mut world, 5 * 60);
    assert_eq!(world.held_by(), ["pod-late"]);
    assert_eq!(world.addresses_of("late").len(), 1);
}

#[test]
fn an_agent_that_restarts_counts_the_ten_minutes_anew() {
    let mut world = world("10.7.0.0/31");
    pod(&mut world, "never", NEVER);
    seconds(&mut world, 9 * 60);
    world.kill_agent("n0");
    world.start_agent("n0");
    seconds(&mut world, 2 * 60);
    assert_eq!(world.held_by(), ["pod-never"]);
    seconds(&mut world, 9 * 60);
    assert_eq!(world.held_by(), Vec::<String>::new());
}

/// As after an older copy of the journal was put back: the agent knows of the reservation alone.
#[test]
fn what_a_pods_status_reports_is_neither_given_back_nor_taken_over() {
    let mut world = world("10.7.0.0/31");
    for name in ["runs", "idle"] {
        pod(&mut world, name, NEVER);
    }
    seconds(&mut world, 3);
    change_pod(&mut world, "runs", Part::Status, |pod| {
        let ips = ["10.7.0.0", "10.7.0.1"].map(str::to_owned);
        pod.status.pod_ips = ips.map(|ip| PodIp { ip }).into();
    });
    seconds(&mut world, 3);
    for name in ["wants", "waits"] {
        pod(&mut world, name, Duration::from_millis(500));
    }
    seconds(&mut world, 20);
    let held = world.held_by();
    assert!(held.contains(&"pod-runs".to_owned()), "{held:?}");
    assert!(!held.contains(&"pod-idle".to_owned()), "{held:?}");
    seconds(&mut world, 12 * 60);
    let held = world.held_by();
    assert!(held.contains(&"pod-runs".to_owned()), "{held:?}");
    assert_eq!(world.violations(), []);
}

#[test]
fn a_waiting_add_takes_over_an_unbound_ordinal_of_its_node() {
    let mut world = world("10.7.0.0/31");
    for name in ["idle0", "idle1"] {
        pod(&mut world, name, NEVER);
    }
    seconds(&mut world, 3);
    pod(&mut world, "wants", Duration::from_millis(500));
    seconds(&mut world, 20);
    assert!(
        !world.addresses_of("wants").is_empty(),
        "{:?}",
        world.held_by()
    );
    assert_eq!(world.violations(), []);
}

#[test]
fn the_one_that_has_not_asked_for_longest_is_taken_over_first() {
    let mut world = world("10.7.0.0/31");
    pod(&mut world, "z-first", NEVER);
    seconds(&mut world, 60);
    pod(&mut world, "a-second", NEVER);
    seconds(&mut world, 60);
    pod(&mut world, "wants", Duration::from_millis(500));
    seconds(&mut world, 20);
    assert_eq!(world.held_by(), ["pod-a-second", "pod-wants"]);
}

#[test]
fn every_waiting_add_of_a_full_node_takes_one_and_no_bound_one_is_taken() {
    let mut world = world("10.7.0.0/29");
    for index in 0..6 {
        pod(&mut world, &format!("idle{index}"), NEVER);
    }
    for index in 0..2 {
        pod(
            &mut world,
            &format!("bound{index}"),
            Duration::from_millis(300),
        );
    }
    seconds(&mut world, 5);
    for index in 0..6 {
        pod(
            &mut world,
            &format!("wants{index}"),
            Duration::from_millis(500),
        );
    }
    seconds(&mut world, 60);
    let mut expected: Vec<String> = (0..2).map(|index| format!("pod-bound{index}")).collect();
    expected.extend((0..6).map(|index| format!("pod-wants{index}")));
    assert_eq!(world.held_by(), expected);
    assert_eq!(world.violations(), []);
}

#[test]
fn whose_reservation_was_taken_over_waits_and_takes_one_over_in_turn() {
    let mut world = world("10.7.0.0/31");
    for name in ["idle0", "idle1"] {
        pod(&mut world, name, NEVER);
    }
    pod(&mut world, "slow", Duration::from_secs(40));
    seconds(&mut world, 3);
    pod(&mut world, "wants", Duration::from_millis(500));
    seconds(&mut world, 90);
    assert_eq!(world.held_by(), ["pod-slow", "pod-wants"]);
}

#[cfg(feature = "mutants")]
#[test]
fn an_agent_that_claims_for_foreign_pods_is_noticed() {
    let held = |mutant: bool| {
        let mut world = World::new(1, Faults::default());
        if mutant {
            world.configure(|config| {
                config.mutant = Some(berth::core::Mutant::ClaimsForForeignPods);
            });
        }
        world.add_pool("p", &[&["10.7.0.0/31"]], Some(2));
        world.add_node("n0");
        seconds(&mut world, 3);
        pod(&mut world, "foreign", NEVER);
        reports(&mut world, "foreign", "192.0.2.7");
        seconds(&mut world, 1200);
        world.held_by()
    };
    assert_eq!(held(false), Vec::<String>::new());
    assert_eq!(held(true), ["pod-foreign"]);
}
