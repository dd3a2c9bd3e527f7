//! Objects that cannot be read or written, in a running cluster and at each start: each is its own
//! failure, nothing else waits for it, and nothing is freed or given on the strength of what could
//! not be read.

use core::time::Duration;

use berth::core::Mutant;
use berth::core::agent::AgentConfig;
use berth::core::api::{ApiError, ApiReply, ApiRequest, Applied, ListPage, Part, WatchEvent};
use berth::core::controller::{Controller, ControllerConfig, Input, Output};
use berth::core::objects::{
    ANNOTATION_BURY, AddressPool, BerthNode, FamilySpec, Kind, Object, ObjectKey,
};
use berth::core::time::{BootTime, WallTime};
use berth::testing::{Faults, PodPlan, World};
use serde_json::{Value, json};

mod refused;

fn seconds(world: &mut World, seconds: u64) {
    world.run_for(Duration::from_secs(seconds));
}

fn pod(world: &mut World, node: &str, name: &str) {
    world.create_pod(PodPlan {
        node,
        name,
        sandbox_after: Duration::from_millis(300),
    });
}

fn address(world: &World, pod: &str) -> String {
    let addresses = world.addresses_of(pod);
    addresses
        .first()
        .map(ToString::to_string)
        .unwrap_or_default()
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

fn read(world: &mut World, kind: Kind, name: &str) -> Object {
    let key = ObjectKey::cluster(kind, name);
    world.with_store(|store| store.get(&key).unwrap())
}

/// The object's JSON, to be damaged and stored again.
fn json_of(world: &mut World, kind: Kind, name: &str) -> Value {
    serde_json::to_value(read(world, kind, name)).unwrap()
}

fn delete(world: &mut World, kind: Kind, name: &str) {
    let key = ObjectKey {
        kind,
        namespace: if kind == Kind::Pod {
            "ns".into()
        } else {
            String::new()
        },
        name: name.into(),
    };
    world.with_store(|store| store.delete(&key, None).unwrap());
}

fn approved(world: &mut World, name: &str) -> bool {
    match read(world, Kind::AddressPool, name) {
        Object::AddressPool(pool) => !pool.status.approved.is_empty(),
        _ => false,
    }
}

fn told(world: &World, who: &str, reason: &str, text: &str) -> usize {
    let events = world.events(who);
    let of = events
        .iter()
        .filter(|(r, said)| *r == reason && said.contains(text));
    of.count()
}

/// One object of each kind that cannot be read, and nothing that goes by it: kind, JSON, the field.
fn poison() -> Vec<(Kind, Value, &'static str)> {
    let named = |spec: Value| json!({"metadata": {"name": "bad"}, "spec": spec});
    vec![
        (
            Kind::AddressPool,
            named(json!({"default": true, "families":
                [{"ranges": ["10.8.0.0/24"], "gateway": "10.8.0.1/24"}]})),
            "spec.families[0].gateway",
        ),
        (
            Kind::AddressPool,
            named(json!({"schema": 2, "families": [{"ranges": ["10.8.0.0/24"]}]})),
            "spec.schema",
        ),
        (
            Kind::AddressReservation,
            named(json!({"pool": "a", "address": "10.0.0.300",
                "podNamespace": "ns", "podName": "nobody"})),
            "spec.address",
        ),
        (Kind::AddressReservation, named(json!([])), "spec"),
        (
            Kind::BerthNode,
            named(json!({"nodeName": "nx", "state": "Lively"})),
            "spec.state",
        ),
        (
            Kind::DomainApproval,
            named(json!({"pools": {"a": 1}})),
            "spec.pools",
        ),
        (
            Kind::AddressBlock,
            named(json!({"size": "many"})),
            "spec.size",
        ),
        (Kind::Node, named(json!({"taints": {}})), "spec.taints"),
        (
            Kind::Pod,
            json!({"metadata": {"name": "bad", "namespace": "ns", "uid": "u"},
                "spec": {"nodeName": "n0", "hostNetwork": 3}}),
            "spec.hostNetwork",
        ),
    ]
}

/// What must go on whatever else is there: a pool is approved, a Pod gets an address, an agent and
/// a controller start. Whether it did, in two seconds each.
fn goes_on(world: &mut World, round: &str, config: &ControllerConfig) -> Result<(), String> {
    let check = |is: bool, what: &str| is.then_some(()).ok_or(format!("{round}: {what}"));
    let later = format!("later-{round}");
    let third = round.len() % 200;
    create_pool(world, &later, &format!("10.9.{third}.0/28"));
    seconds(world, 2);
    check(approved(world, &later), "a healthy pool is approved")?;
    pod(world, "n0", &format!("p-{round}"));
    seconds(world, 2);
    check(
        !address(world, &format!("p-{round}")).is_empty(),
        "a Pod runs",
    )?;
    world.kill_agent("n0");
    world.start_agent("n0");
    seconds(world, 3);
    pod(world, "n0", &format!("q-{round}"));
    seconds(world, 3);
    check(
        !address(world, &format!("q-{round}")).is_empty(),
        "an agent starts",
    )?;
    let mut config = config.clone();
    world.kill_controller(&config.identity);
    config.identity = format!("c-{round}");
    world.start_controller_with(config.clone());
    // The Lease of the one that died has to run out.
    seconds(world, 25);
    create_pool(world, &format!("{later}-2"), &format!("10.10.{third}.0/28"));
    seconds(world, 2);
    let is = approved(world, &format!("{later}-2"));
    world.kill_controller(&config.identity);
    check(is, "a controller starts")
}

/// With one poisoned object of each kind in turn: seen by watches, by lists, deleted again.
fn past_each_kind(mutant: Option<Mutant>) -> Vec<String> {
    let mut failed = Vec::new();
    for (kind, value, field) in poison() {
        let mut world = World::new(1, Faults::default());
        if mutant == Some(Mutant::AllOrNothingDecode) {
            world.configure(|config: &mut AgentConfig| {
                config.mutant = Some(Mutant::AllOrNothingDecode);
            });
        }
        let mut config = ControllerConfig::new("c");
        config.mutant = mutant;
        create_pool(&mut world, "a", "10.0.0.0/24");
        world.start_controller_with(config.clone());
        world.add_node("n0");
        seconds(&mut world, 5);
        world.put_raw(kind, value);
        if let Err(what) = goes_on(&mut world, "there", &config) {
            failed.push(format!("{kind:?} {field}: {what}"));
            continue;
        }
        if !matches!(kind, Kind::Pod | Kind::AddressBlock) {
            let count = told(&world, "c-there", "ObjectSetAside", field);
            assert_eq!(count, 1, "{kind:?} {field} is named once");
            let remedy = told(&world, "c-there", "ObjectSetAside", "kubectl");
            assert_eq!(remedy, 1, "{kind:?} {field} has a remedy");
        }
        delete(&mut world, kind, "bad");
        config.identity = "after".into();
        world.start_controller_with(config.clone());
        seconds(&mut world, 25);
        if let Err(what) = goes_on(&mut world, "gone", &config) {
            failed.push(format!("{kind:?} {field}: {what}"));
        }
        assert_eq!(world.violations(), []);
    }
    failed
}

#[test]
fn one_object_that_cannot_be_read_stops_nothing_else() {
    assert_eq!(past_each_kind(None), [""; 0]);
}

#[test]
fn a_decode_that_fails_as_a_whole_is_noticed() {
    let failed = past_each_kind(Some(Mutant::AllOrNothingDecode));
    assert!(failed.len() >= 6, "{failed:?}");
}

#[test]
fn a_typing_error_of_five_seconds_is_forgotten_at_once() {
    for (kind, value, field) in poison() {
        let mut world = World::new(2, Faults::default());
        create_pool(&mut world, "a", "10.0.0.0/24");
        world.keep_states("c");
        world.keep_states("n0");
        world.start_controller("c");
        world.add_node("n0");
        seconds(&mut world, 5);
        world.put_raw(kind, value);
        seconds(&mut world, 5);
        delete(&mut world, kind, "bad");
        seconds(&mut world, 1);
        // Blocks and Pods are not watched by everybody.
        if kind != Kind::AddressBlock {
            assert_eq!(world.controller_state("c").set_aside, [].into(), "{field}");
        }
        assert_eq!(world.agent_state("n0").set_aside, [].into(), "{field}");
        create_pool(&mut world, "later", "10.9.0.0/24");
        pod(&mut world, "n0", "p");
        seconds(&mut world, 2);
        assert!(approved(&mut world, "later"), "{kind:?} {field}");
        assert_ne!(address(&world, "p"), "", "{kind:?} {field}");
    }
}

#[test]
fn a_pool_that_cannot_be_read_gives_nothing_new_and_takes_nothing_back() {
    let mut world = World::new(3, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/28"]], Some(4));
    world.keep_states("n0");
    world.add_node("n0");
    world.start_controller("c");
    pod(&mut world, "n0", "stays");
    pod(&mut world, "n0", "goes");
    seconds(&mut world, 5);
    let stays = address(&world, "stays");
    assert_ne!(stays, "");
    let good = json_of(&mut world, Kind::AddressPool, "a");
    let mut bad = good.clone();
    bad["spec"]["routes"] = json!([{"dst": "default"}]);
    world.put_raw(Kind::AddressPool, bad);
    seconds(&mut world, 2);
    assert_eq!(
        world.agent_state("n0").set_aside,
        [(Kind::AddressPool, 1)].into()
    );
    pod(&mut world, "n0", "waits");
    world.delete_pod("goes", Duration::from_millis(100), false);
    seconds(&mut world, 40);
    assert_eq!(address(&world, "waits"), "", "no new claims");
    assert_eq!(world.held_by(), ["pod-stays"], "released as usual");
    world.kill_agent("n0");
    world.start_agent("n0");
    seconds(&mut world, 40);
    assert_eq!(address(&world, "stays"), stays);
    assert_eq!(
        world.held_by(),
        ["pod-stays"],
        "held where nothing is known of the geometry"
    );
    world.put_raw(Kind::AddressPool, good);
    seconds(&mut world, 30);
    assert_ne!(address(&world, "waits"), "", "mended");
    assert_eq!(world.held_by(), ["pod-stays", "pod-waits"]);
    assert_eq!(world.violations(), []);
}

#[test]
fn a_block_that_cannot_be_read_is_full_and_is_never_written() {
    let mut world = World::new(4, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/28"]], Some(8));
    world.add_node("n0");
    world.start_controller("c");
    pod(&mut world, "n0", "first");
    seconds(&mut world, 5);
    let block = world.with_store(|store| {
        let mut blocks = store.of_kind(Kind::AddressBlock);
        blocks.next().unwrap().metadata().name.clone()
    });
    let good = json_of(&mut world, Kind::AddressBlock, &block);
    let mut bad = good.clone();
    bad["spec"]["index"] = "zero".into();
    world.put_raw(Kind::AddressBlock, bad);
    let version = |world: &mut World| {
        let object = read(world, Kind::AddressBlock, &block);
        object.metadata().resource_version.clone()
    };
    let before = version(&mut world);
    // Another node, and this one after a start, have to do without its eight addresses.
    world.add_node("n1");
    world.kill_agent("n0");
    world.start_agent("n0");
    for index in 0..9 {
        pod(&mut world, ["n0", "n1"][index % 2], &format!("p{index}"));
    }
    seconds(&mut world, 60);
    assert_eq!(version(&mut world), before, "never written");
    assert_ne!(address(&world, "first"), "");
    assert_eq!(
        world.running_count(),
        9,
        "eight of the other block, and the first"
    );
    assert_eq!(world.violations(), []);
    world.delete_pod("first", Duration::from_millis(100), false);
    seconds(&mut world, 30);
    assert_eq!(version(&mut world), before, "nothing is freed in it");
    world.put_raw(Kind::AddressBlock, good);
    seconds(&mut world, 120);
    assert_eq!(
        world.running_count(),
        9,
        "mended: the ninth Pod runs as well"
    );
    assert_eq!(world.held_by().len(), 9, "and the first is freed");
    assert_eq!(world.violations(), []);
}

#[test]
fn a_reservation_that_cannot_be_read_keeps_its_address_and_its_pod() {
    let reservation = |address: &str, owner: Value| {
        json!({"metadata": {"name": "r"}, "spec": {"pool": "a", "address": address,
            "podNamespace": "ns", "podName": "kept", "ownerName": owner}})
    };
    let mut world = World::new(5, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/30"]], Some(4));
    world.add_node("n0");
    world.start_controller("c");
    // Its address can be read, another field cannot.
    world.put_raw(Kind::AddressReservation, reservation("10.1.0.2", json!(7)));
    seconds(&mut world, 3);
    for name in ["kept", "p0", "p1", "p2", "p3"] {
        pod(&mut world, "n0", name);
    }
    seconds(&mut world, 60);
    let mut given: Vec<_> = (0..4).map(|i| address(&world, &format!("p{i}"))).collect();
    given.sort();
    assert_eq!(
        given,
        ["", "10.1.0.0", "10.1.0.1", "10.1.0.3"],
        "all but one"
    );
    assert_eq!(address(&world, "kept"), "", "nothing else is given to it");
    world.put_raw(Kind::AddressReservation, reservation("10.1.0.2", json!("")));
    seconds(&mut world, 60);
    assert_eq!(address(&world, "kept"), "10.1.0.2", "mended");
    assert_eq!(world.violations(), []);
}

#[test]
fn an_address_in_a_reservation_that_cannot_be_read_stops_no_other_pod_of_the_pool() {
    let reservation = |address: &str| {
        json!({"metadata": {"name": "r"}, "spec": {"pool": "a", "address": address,
            "podNamespace": "ns", "podName": "kept"}})
    };
    let mut world = World::new(6, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/30"]], Some(4));
    world.add_node("n0");
    world.start_controller("c");
    // Placed while it could be read: that stays.
    world.put_raw(Kind::AddressReservation, reservation("10.1.0.1"));
    seconds(&mut world, 10);
    world.put_raw(Kind::AddressReservation, reservation("10.1.0.1/32"));
    seconds(&mut world, 3);
    for name in ["kept", "p0", "p1", "p2", "p3"] {
        pod(&mut world, "n0", name);
    }
    seconds(&mut world, 60);
    let given: Vec<_> = (0..4).map(|i| address(&world, &format!("p{i}"))).collect();
    assert_eq!(
        given.iter().filter(|a| !a.is_empty()).count(),
        3,
        "{given:?}"
    );
    assert!(!given.contains(&"10.1.0.1".to_owned()), "{given:?}");
    assert_eq!(address(&world, "kept"), "");
    world.put_raw(Kind::AddressReservation, reservation("10.1.0.1"));
    seconds(&mut world, 60);
    assert_eq!(address(&world, "kept"), "10.1.0.1");
    assert_eq!(world.violations(), []);
}

#[test]
fn a_reservation_whose_pool_cannot_be_read_keeps_its_pod_from_every_pool() {
    let reservation = |pool: Value| {
        json!({"metadata": {"name": "r"}, "spec": {"pool": pool, "address": "10.2.0.2",
            "podNamespace": "ns", "podName": "kept"}})
    };
    let mut world = World::new(21, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/30"]], Some(4));
    world.add_pool("b", &[&["10.2.0.0/30"]], Some(4));
    world.add_node("n0");
    world.start_controller("c");
    world.put_raw(Kind::AddressReservation, reservation(json!(["b"])));
    seconds(&mut world, 3);
    for name in ["kept", "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"] {
        pod(&mut world, "n0", name);
    }
    seconds(&mut world, 60);
    assert_eq!(address(&world, "kept"), "", "{:?}", world.events("n0"));
    let given: Vec<_> = (0..8).map(|i| address(&world, &format!("p{i}"))).collect();
    assert!(!given.contains(&"10.2.0.2".to_owned()), "{given:?}");
    assert_eq!(world.running_count(), 7, "all but one of eight: {given:?}");
    world.put_raw(Kind::AddressReservation, reservation(json!("b")));
    seconds(&mut world, 60);
    assert_eq!(address(&world, "kept"), "10.2.0.2", "mended");
}

#[test]
fn a_reservation_that_moves_to_another_pod_leaves_the_first() {
    let reservation = |pod: &str| {
        json!({"metadata": {"name": "r"}, "spec": {"pool": "a", "address": "10.1.0.1",
            "podNamespace": "ns", "podName": pod}})
    };
    let mut world = World::new(7, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/29"]], Some(8));
    world.add_node("n0");
    world.start_controller("c");
    world.put_raw(Kind::AddressReservation, reservation("typo"));
    seconds(&mut world, 5);
    world.put_raw(Kind::AddressReservation, reservation("right"));
    seconds(&mut world, 5);
    pod(&mut world, "n0", "typo");
    pod(&mut world, "n0", "right");
    seconds(&mut world, 20);
    assert_eq!(address(&world, "right"), "10.1.0.1");
    assert_ne!(address(&world, "typo"), "");
}

#[test]
fn a_machine_that_cannot_be_read_is_not_buried_and_answers_nothing_without_it() {
    let mut world = World::new(8, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/29");
    let mut config = ControllerConfig::new("c");
    config.bury_when_node_is_gone = true;
    world.start_controller_with(config);
    world.keep_states("n0");
    world.add_node("n0");
    pod(&mut world, "n0", "p");
    seconds(&mut world, 5);
    let good = json_of(&mut world, Kind::BerthNode, "machine-n0");
    let mut bad = good.clone();
    bad["metadata"]["annotations"] = json!({ANNOTATION_BURY: "now"});
    bad["spec"]["state"] = "Deceased".into();
    world.put_raw(Kind::BerthNode, bad);
    delete(&mut world, Kind::Node, "n0");
    let version = |world: &mut World| {
        let object = read(world, Kind::BerthNode, "machine-n0");
        object.metadata().resource_version.clone()
    };
    let before = version(&mut world);
    seconds(&mut world, 1500);
    assert_eq!(
        version(&mut world),
        before,
        "neither buried nor written over"
    );
    assert_eq!(world.held_by(), ["pod-p"], "its records stand");
    let state = world.agent_state("n0");
    assert!(state.waits_for[0].contains("spec.state"), "{state:?}");
    assert_eq!(told(&world, "n0", "MachineUnreadable", "spec.state"), 1);
    pod(&mut world, "n0", "later");
    seconds(&mut world, 30);
    assert_eq!(address(&world, "later"), "", "no answer from memory");
    // A start does not serve without it, and does not write over it.
    world.kill_agent("n0");
    world.start_agent("n0");
    seconds(&mut world, 60);
    assert_eq!(version(&mut world), before);
    assert!(!world.agent_state("n0").is_serving);
    assert!(world.agent_state("n0").waits_for[0].contains("spec.state"));
    world.put_raw(Kind::BerthNode, good);
    seconds(&mut world, 60);
    assert_ne!(address(&world, "later"), "", "mended");
    assert_eq!(world.agent_state("n0").waits_for, [""; 0]);
    assert_eq!(world.violations(), []);
}

#[test]
fn a_node_that_cannot_be_read_is_not_taken_for_gone_or_off() {
    let mut world = World::new(9, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/29");
    let mut config = ControllerConfig::new("c");
    config.bury_when_node_is_gone = true;
    world.start_controller_with(config.clone());
    world.add_node("n0");
    pod(&mut world, "n0", "p");
    seconds(&mut world, 5);
    let mut bad = json_of(&mut world, Kind::Node, "n0");
    bad["spec"]["taints"] = json!("node.kubernetes.io/out-of-service");
    world.put_raw(Kind::Node, bad);
    world.kill_agent("n0");
    world.kill_controller("c");
    config.identity = "d".into();
    world.start_controller_with(config);
    seconds(&mut world, 1500);
    let Object::BerthNode(machine) = read(&mut world, Kind::BerthNode, "machine-n0") else {
        panic!("a machine")
    };
    assert_eq!(machine.spec.state, berth::core::objects::EpochState::Live);
    assert_eq!(world.held_by(), ["pod-p"]);
}

#[test]
fn a_dead_epoch_is_not_cleared_while_a_block_may_hold_its_records() {
    let mut world = World::new(10, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/29");
    world.start_controller("c");
    world.add_node("n0");
    pod(&mut world, "n0", "p");
    seconds(&mut world, 5);
    world.kill_agent("n0");
    world.end_all_silently("n0");
    let block = world.with_store(|store| {
        let mut blocks = store.of_kind(Kind::AddressBlock);
        blocks.next().unwrap().metadata().name.clone()
    });
    let good = json_of(&mut world, Kind::AddressBlock, &block);
    let mut bad = good.clone();
    bad["spec"]["size"] = "x".into();
    world.put_raw(Kind::AddressBlock, bad);
    let mut machine = json_of(&mut world, Kind::BerthNode, "machine-n0");
    machine["metadata"]["annotations"] = json!({ANNOTATION_BURY: "now"});
    world.put_raw(Kind::BerthNode, machine);
    seconds(&mut world, 900);
    let cleared = |world: &mut World| match read(world, Kind::BerthNode, "machine-n0") {
        Object::BerthNode(machine) => {
            let conditions = &machine.spec.conditions;
            conditions.iter().any(|c| c.kind == "RecordsCleared")
        }
        _ => panic!("a machine"),
    };
    assert!(!cleared(&mut world));
    assert_eq!(told(&world, "c", "ObjectSetAside", &block), 1);
    world.put_raw(Kind::AddressBlock, good);
    seconds(&mut world, 90);
    assert!(cleared(&mut world));
    assert_eq!(world.held_by(), [""; 0]);
}

#[test]
fn fields_of_a_newer_release_survive_every_write_and_are_named() {
    let mut world = World::new(14, Faults::default());
    world.start_controller("c");
    world.put_raw(
        Kind::AddressPool,
        json!({"metadata": {"name": "a"}, "spec": {"default": true, "color": {"of": [1]},
            "families": [{"ranges": ["10.0.0.0/29"], "vlan": 7}]}}),
    );
    world.put_raw(
        Kind::AddressReservation,
        json!({"metadata": {"name": "r"}, "spec": {"pool": "a", "address": "10.0.0.3",
            "podNamespace": "ns", "podName": "kept", "lease": "forever"}}),
    );
    world.add_node("n0");
    seconds(&mut world, 10);
    let mut machine = json_of(&mut world, Kind::BerthNode, "machine-n0");
    machine["spec"]["arch"] = "riscv".into();
    world.put_raw(Kind::BerthNode, machine);
    let block = world.with_store(|store| {
        let mut blocks = store.of_kind(Kind::AddressBlock);
        blocks.next().unwrap().metadata().name.clone()
    });
    let mut stored = json_of(&mut world, Kind::AddressBlock, &block);
    stored["spec"]["checksum"] = 12.into();
    world.put_raw(Kind::AddressBlock, stored);
    pod(&mut world, "n0", "p");
    pod(&mut world, "n0", "kept");
    seconds(&mut world, 120);
    assert_eq!(address(&world, "kept"), "10.0.0.3");
    assert_ne!(address(&world, "p"), "");
    let pool = json_of(&mut world, Kind::AddressPool, "a");
    assert_eq!(
        pool["metadata"]["finalizers"][0], "berth.dev/in-use",
        "it was written"
    );
    assert_eq!(pool["spec"]["color"], json!({"of": [1]}));
    assert_eq!(pool["spec"]["families"][0]["vlan"], 7);
    let Object::AddressPool(read_pool) = read(&mut world, Kind::AddressPool, "a") else {
        panic!("a pool")
    };
    let conditions = &read_pool.status.conditions;
    let ignored = conditions
        .iter()
        .find(|c| c.kind == "FieldsIgnored")
        .unwrap();
    assert!(
        ignored.message.contains("spec.color"),
        "{}",
        ignored.message
    );
    assert_eq!(
        told(&world, "c", "FieldsIgnored", "AddressReservation r"),
        1
    );
    let reservation = json_of(&mut world, Kind::AddressReservation, "r");
    assert_eq!(reservation["metadata"]["finalizers"][0], "berth.dev/in-use");
    assert_eq!(reservation["spec"]["lease"], "forever");
    let stored = json_of(&mut world, Kind::AddressBlock, &block);
    assert!(
        stored["spec"]["records"]
            .as_str()
            .unwrap()
            .contains("pod-kept"),
        "it was written"
    );
    assert_eq!(stored["spec"]["checksum"], 12);
    let machine = json_of(&mut world, Kind::BerthNode, "machine-n0");
    assert_ne!(machine["spec"]["blocks"], json!([]), "it was written");
    assert_eq!(machine["spec"]["arch"], "riscv");
    assert_eq!(world.violations(), []);
}

#[test]
fn an_approval_that_cannot_be_read_approves_nothing_more_and_takes_nothing_back() {
    let mut world = World::new(15, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/29");
    world.start_controller("c");
    world.add_node("n0");
    seconds(&mut world, 5);
    let good = json_of(&mut world, Kind::DomainApproval, "default");
    let mut bad = good.clone();
    bad["spec"]["pools"][0]["blockSize"] = "four".into();
    world.put_raw(Kind::DomainApproval, bad.clone());
    create_pool(&mut world, "b", "10.0.0.0/30");
    let mut other = AddressPool::default();
    other.metadata.name = "elsewhere".into();
    other.spec.domain = "other".into();
    other.spec.families = vec![FamilySpec {
        ranges: vec!["10.0.0.0/30".into()],
        ..FamilySpec::default()
    }];
    world.with_store(|store| store.create(other.into()).unwrap());
    pod(&mut world, "n0", "p");
    seconds(&mut world, 30);
    assert!(approved(&mut world, "a"), "what was approved stays");
    assert_ne!(address(&world, "p"), "");
    assert!(!approved(&mut world, "b"), "it may overlap");
    assert!(approved(&mut world, "elsewhere"), "another domain");
    let stored = read(&mut world, Kind::DomainApproval, "default");
    assert!(stored.set_aside().is_some(), "not written over");
    world.put_raw(Kind::DomainApproval, good);
    seconds(&mut world, 30);
    assert!(!approved(&mut world, "b"), "it does overlap");
}

#[test]
fn a_machine_object_is_kept_for_the_count_of_nodes_while_it_cannot_be_read() {
    let object = BerthNode::default();
    let mut value = serde_json::to_value(Object::from(object)).unwrap();
    value["metadata"]["name"] = "machine-x".into();
    value["spec"]["epoch"] = json!(-1);
    let mut world = World::new(16, Faults::default());
    create_pool(&mut world, "a", "10.0.0.0/28");
    world.put_raw(Kind::BerthNode, value);
    world.keep_states("n0");
    world.start_controller("c");
    world.add_node("n0");
    for index in 0..16 {
        pod(&mut world, "n0", &format!("p{index}"));
    }
    seconds(&mut world, 30);
    assert_eq!(
        world.agent_state("n0").set_aside,
        [(Kind::BerthNode, 1)].into()
    );
    // Its share is taken when the own is used up, like that of any live machine.
    assert_eq!(world.running_count(), 16);
}

#[test]
fn a_new_list_keeps_what_it_shows_unreadable_and_forgets_what_it_does_not_show() {
    let mut world = World::new(17, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/29"]], Some(8));
    let reservation = |address: &str| {
        json!({"metadata": {"name": "r"}, "spec": {"pool": "a", "address": address,
            "podNamespace": "ns", "podName": "kept"}})
    };
    world.put_raw(Kind::AddressReservation, reservation("10.1.0.2"));
    world.keep_states("n0");
    world.keep_states("c");
    world.start_controller("c");
    world.add_node("n0");
    seconds(&mut world, 5);
    // The watches miss all of this: the next event tells them that they are too old.
    world.with_store(|store| {
        store.put_raw(Kind::AddressReservation, reservation("10.1.0"));
        store.put_raw(
            Kind::AddressPool,
            json!({"metadata": {"name": "bad"}, "spec": []}),
        );
        store.compact();
    });
    seconds(&mut world, 10);
    let both = [(Kind::AddressPool, 1), (Kind::AddressReservation, 1)].into();
    assert_eq!(world.agent_state("n0").set_aside, both);
    assert_eq!(world.controller_state("c").set_aside, both);
    pod(&mut world, "n0", "kept");
    for index in 0..8 {
        pod(&mut world, "n0", &format!("p{index}"));
    }
    seconds(&mut world, 60);
    assert_eq!(address(&world, "kept"), "", "{:?}", world.events("n0"));
    let given: Vec<_> = (0..8).map(|i| address(&world, &format!("p{i}"))).collect();
    assert!(!given.contains(&"10.1.0.2".to_owned()), "kept: {given:?}");
    world.with_store(|store| {
        let key = ObjectKey::cluster(Kind::AddressPool, "bad");
        store.delete(&key, None).unwrap();
        store.put_raw(Kind::AddressReservation, reservation("10.1.0.2"));
        store.compact();
    });
    seconds(&mut world, 60);
    assert_eq!(world.agent_state("n0").set_aside, [].into());
    assert_eq!(world.controller_state("c").set_aside, [].into());
    assert_eq!(address(&world, "kept"), "10.1.0.2");
    assert_eq!(world.violations(), []);
}

#[test]
fn a_pod_that_cannot_be_read_is_as_it_was_last_seen() {
    let mut world = World::new(18, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/29"]], Some(8));
    world.keep_states("n0");
    world.add_node("n0");
    pod(&mut world, "n0", "runs");
    world.create_pod(PodPlan {
        node: "n0",
        name: "reserved",
        sandbox_after: Duration::from_secs(30),
    });
    seconds(&mut world, 5);
    let held = ["pod-reserved", "pod-runs"];
    assert_eq!(world.held_by(), held);
    for name in ["runs", "reserved"] {
        let key = ObjectKey {
            kind: Kind::Pod,
            namespace: "ns".into(),
            name: name.into(),
        };
        let object = world.with_store(|store| store.get(&key).unwrap());
        let mut bad = serde_json::to_value(object).unwrap();
        // Could the rest be believed, it would need no address.
        bad["spec"]["hostNetwork"] = json!(true);
        bad["status"]["phase"] = json!(["Succeeded"]);
        world.put_raw(Kind::Pod, bad);
    }
    seconds(&mut world, 10);
    assert_eq!(world.agent_state("n0").set_aside, [(Kind::Pod, 2)].into());
    seconds(&mut world, 60);
    assert_eq!(world.held_by(), held);
    assert_ne!(address(&world, "reserved"), "", "its ADD is answered");
    for name in ["runs", "reserved"] {
        delete(&mut world, Kind::Pod, name);
        world.end_silently(name);
    }
    seconds(&mut world, 5);
    assert_eq!(world.agent_state("n0").set_aside, [].into());
}

#[test]
fn an_object_that_somebody_changes_back_is_written_sixteen_times_a_minute() {
    let mut world = World::new(19, Faults::default());
    create_pool(&mut world, "a", "10.1.0.0/29");
    world.start_controller("c");
    seconds(&mut world, 10);
    let key = ObjectKey::cluster(Kind::AddressPool, "a");
    let changed_back = |world: &mut World| {
        world.with_store(|store| {
            let Object::AddressPool(mut pool) = store.get(&key).unwrap() else {
                panic!("a pool")
            };
            let was_written = !pool.metadata.finalizers.is_empty();
            pool.metadata.finalizers.clear();
            store
                .replace(Object::AddressPool(pool), Part::Main)
                .unwrap();
            was_written
        })
    };
    assert!(changed_back(&mut world));
    let mut minutes = Vec::new();
    for minute in 0..4 {
        let mut count = 0;
        for _ in 0..1200 {
            world.run_for(Duration::from_millis(50));
            count += u32::from(changed_back(&mut world));
        }
        minutes.push(count);
        if minute == 0 {
            assert_eq!(told(&world, "c", "NotAsWritten", "AddressPool a"), 1);
        }
    }
    assert!(minutes.iter().all(|count| *count <= 16), "{minutes:?}");
    assert!(minutes[0] >= 10, "and not given up at once: {minutes:?}");
    // Nobody else waits for it.
    create_pool(&mut world, "b", "10.2.0.0/29");
    seconds(&mut world, 2);
    assert!(approved(&mut world, "b"));
}

#[test]
fn an_unreadable_pool_in_use_keeps_its_finalizer_and_goes_when_it_is_mended() {
    let mut world = World::new(20, Faults::default());
    create_pool(&mut world, "a", "10.1.0.0/29");
    world.start_controller("c");
    world.add_node("n0");
    pod(&mut world, "n0", "p");
    seconds(&mut world, 5);
    let good = json_of(&mut world, Kind::AddressPool, "a");
    let mut bad = good.clone();
    bad["spec"]["dns"] = json!(["ns.example"]);
    world.put_raw(Kind::AddressPool, bad);
    world.delete_pod("p", Duration::from_millis(100), false);
    seconds(&mut world, 40);
    delete(&mut world, Kind::AddressPool, "a");
    seconds(&mut world, 120);
    let leaving = read(&mut world, Kind::AddressPool, "a");
    assert_eq!(leaving.metadata().finalizers, ["berth.dev/in-use"]);
    world.put_raw(Kind::AddressPool, good);
    seconds(&mut world, 120);
    let key = ObjectKey::cluster(Kind::AddressPool, "a");
    assert!(
        world.with_store(|store| store.get(&key)).is_err(),
        "it goes"
    );
}

/// How often a controller lists the pools in 400 inputs, half a second apart, while its watches of
/// them end so, each at once.
fn lists_of_pools_while_each_watch_is(ended: &WatchEvent) -> usize {
    let mut controller = Controller::new(ControllerConfig::new("c"));
    let mut now = BootTime::from_nanos(1);
    let mut lists = 0;
    let mut inputs = std::collections::VecDeque::from([Input::Start]);
    for _ in 0..400 {
        let input = inputs.pop_front().unwrap_or(Input::Wake);
        now = now + Duration::from_millis(500);
        for output in controller.handle(now, WallTime::default(), 7, input) {
            match output {
                Output::Call { call, request } => {
                    let result = match request {
                        ApiRequest::List(query) => {
                            lists += usize::from(query.selection.kind == Kind::AddressPool);
                            Ok(ApiReply::Page(ListPage {
                                items: Vec::new(),
                                resource_version: "5".into(),
                                continue_token: String::new(),
                            }))
                        }
                        _ => Err(ApiError::Unavailable(Applied::Not)),
                    };
                    inputs.push_back(Input::Api { call, result });
                }
                Output::Watch { watch, query } if query.selection.kind == Kind::AddressPool => {
                    inputs.push_back(Input::Watch {
                        watch,
                        events: vec![ended.clone()],
                    });
                }
                _ => {}
            }
        }
    }
    lists
}

#[test]
fn a_watch_that_ends_again_and_again_at_one_version_is_opened_from_a_new_list() {
    let lists = lists_of_pools_while_each_watch_is(&WatchEvent::Closed);
    assert!((3..40).contains(&lists), "{lists} lists");
}

#[test]
fn watches_that_are_refused_as_too_old_are_not_asked_for_in_a_circle() {
    let lists = lists_of_pools_while_each_watch_is(&WatchEvent::Expired);
    assert!((10..45).contains(&lists), "{lists} lists by a controller");

    let mut world = World::new(22, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/29"]], Some(8));
    world.add_node("n0");
    seconds(&mut world, 2);
    world.take_costs();
    world.with_store(|store| store.expire_watches(true));
    create_pool(&mut world, "other", "10.3.0.0/29");
    seconds(&mut world, 60);
    let lists = world.take_costs().lists;
    assert!((20..200).contains(&lists), "{lists} lists by an agent");
    // The last list before a pause is what is known, and a pause is short.
    pod(&mut world, "n0", "p");
    seconds(&mut world, 5);
    assert_eq!(world.running_count(), 1);
    world.with_store(|store| store.expire_watches(false));
    seconds(&mut world, 6);
    world.take_costs();
    seconds(&mut world, 60);
    assert!(world.take_costs().lists <= 8, "and back to watches");
}

#[test]
fn a_reserved_address_is_given_to_no_other_before_the_controller_has_marked_it() {
    // No controller runs: nobody marks.
    let mut world = World::new(5, Faults::default());
    world.add_pool("a", &[&["10.1.0.0/30"]], Some(4));
    world.add_node("n0");
    world.put_raw(
        Kind::AddressReservation,
        json!({"metadata": {"name": "r"}, "spec": {"pool": "a", "address": "10.1.0.0",
            "podNamespace": "ns", "podName": "kept"}}),
    );
    seconds(&mut world, 3);
    for name in ["p0", "p1", "p2", "p3"] {
        pod(&mut world, "n0", name);
    }
    seconds(&mut world, 60);
    assert_eq!(world.running_count(), 3, "{:?}", world.held_by());
    pod(&mut world, "n0", "kept");
    seconds(&mut world, 60);
    assert_eq!(address(&world, "kept"), "10.1.0.0");
    assert_eq!(world.violations(), []);
}

/// What the lost journal knew, and what cannot be read yet, may be in use: when the pool, or the
/// block, is repaired, nothing was freed in it, however often the runtime was asked before.
#[test]
fn without_a_journal_what_cannot_be_read_yet_is_not_free_when_it_can() {
    for kind in [Kind::AddressPool, Kind::AddressBlock] {
        let mut world = World::new(21, Faults::default());
        world.add_pool("a", &[&["10.1.0.0/29"]], Some(8));
        world.add_node("n0");
        world.start_controller("c");
        pod(&mut world, "n0", "lives");
        seconds(&mut world, 5);
        world.kill_agent("n0");
        world.harm_journal("n0", Vec::clear);
        let name = world.with_store(|store| {
            let mut objects = store.of_kind(kind);
            objects.next().unwrap().metadata().name.clone()
        });
        let good = json_of(&mut world, kind, &name);
        let mut bad = good.clone();
        bad["spec"]["index"] = "zero".into();
        bad["spec"]["routes"] = json!([{"dst": "default"}]);
        world.put_raw(kind, bad);
        world.delete_pod("lives", Duration::from_mins(2), true);
        world.start_agent("n0");
        seconds(&mut world, 40);
        world.put_raw(kind, good);
        seconds(&mut world, 60);
        assert_eq!(world.held_by(), ["pod-lives"], "{kind:?}");
        seconds(&mut world, 120);
        assert_eq!(world.held_by(), Vec::<String>::new(), "{kind:?}");
        assert_eq!(world.violations(), [], "{kind:?}");
    }
}
