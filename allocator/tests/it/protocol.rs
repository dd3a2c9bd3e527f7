//! What the README says of the protocol and no sequence, storm or count of requests shows: see
//! `PROMISES.md`.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use berth::core::agent::Policy;
use berth::core::api::{Part, Selection, WatchEvent, WatchQuery};
use berth::core::holder::decode_records;
use berth::core::objects::{
    AddressBlock, AddressPool, BerthNode, FamilySpec, Kind, LABEL_ROOM, Object,
};
use berth::testing::{Ailments, Faults, PodPlan, World};

/// Later than any test ends: the sandbox never comes.
const NEVER: Duration = Duration::from_hours(1000);
const SOON: Duration = Duration::from_millis(300);
/// The apiserver carries nothing out.
const REFUSES: Faults = Faults {
    lost_reply_ppm: 0,
    lost_request_ppm: 0,
    throttled_ppm: 1_000_000,
};

fn world(families: &[&[&str]], block_size: u16, nodes: &[&str]) -> World {
    let mut world = World::new(1, Faults::default());
    world.add_pool("p", families, Some(block_size));
    for node in nodes {
        world.keep_states(node);
        world.add_node(node);
    }
    seconds(&mut world, 5);
    world
}

fn seconds(world: &mut World, seconds: u64) {
    world.run_for(Duration::from_secs(seconds));
}

fn pod(world: &mut World, node: &str, name: &str, sandbox_after: Duration) {
    world.create_pod(PodPlan {
        node,
        name,
        sandbox_after,
    });
}

/// Every state of a block that was written after a version.
fn written(world: &mut World, after: u64) -> Vec<AddressBlock> {
    let query = WatchQuery {
        selection: Selection {
            kind: Kind::AddressBlock,
            labels: Vec::new(),
            node_name: None,
        },
        resource_version: String::new(),
    };
    let events = world.with_store(|store| store.events_after(&query, after));
    let blocks = events.into_iter().filter_map(|(_, event)| match event {
        WatchEvent::Added(Object::AddressBlock(block))
        | WatchEvent::Modified(Object::AddressBlock(block)) => Some(*block),
        _ => None,
    });
    blocks.collect()
}

fn version(world: &mut World) -> u64 {
    world.with_store(|store| store.version())
}

fn machine(world: &mut World) -> BerthNode {
    world.with_store(|store| match store.of_kind(Kind::BerthNode).next() {
        Some(Object::BerthNode(machine)) => (**machine).clone(),
        other => panic!("{other:?}"),
    })
}

/// The blocks in which Pods whose UIDs begin so have records, by index.
fn blocks_of(world: &mut World, pods: &str) -> BTreeSet<u64> {
    world.with_store(|store| {
        let blocks = store.of_kind(Kind::AddressBlock).filter_map(|object| {
            let Object::AddressBlock(block) = object else {
                return None;
            };
            let mut records = decode_records(&block.spec.records).flatten();
            let is_theirs = records.any(|(_, record)| {
                let holder = record.holder();
                holder.is_some_and(|holder| holder.pod_uid.as_str().starts_with(pods))
            });
            is_theirs.then_some(block.spec.index)
        });
        blocks.collect()
    })
}

#[test]
fn one_guarded_write_takes_both_families() {
    let mut world = world(&[&["10.0.0.0/30"], &["fd00::/127"]], 4, &["n0"]);
    let before = version(&mut world);
    pod(&mut world, "n0", "a", SOON);
    seconds(&mut world, 3);
    let [v4, v6] = world.addresses_of("a")[..] else {
        panic!("{:?}", world.addresses_of("a"))
    };
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (v4, v6) else {
        panic!("{v4} {v6}")
    };
    assert_eq!(u16::from(v4.octets()[3]), v6.segments()[7], "one ordinal");
    let taking = written(&mut world, before);
    assert_eq!(taking.len(), 1, "one write: {taking:?}");
    // The second family has two addresses: the third Pod gets none of either.
    for name in ["b", "c"] {
        pod(&mut world, "n0", name, SOON);
    }
    seconds(&mut world, 20);
    let counts = ["a", "b", "c"].map(|name| world.addresses_of(name).len());
    let counted: BTreeMap<usize, usize> = counts.iter().fold(BTreeMap::new(), |mut all, count| {
        *all.entry(*count).or_default() += 1;
        all
    });
    assert_eq!(counted, [(0, 1), (2, 2)].into(), "no half success");
}

#[test]
fn a_release_and_a_claim_share_a_write() {
    let mut world = world(&[&["10.0.0.0/29"]], 8, &["n0"]);
    for name in ["a", "b"] {
        pod(&mut world, "n0", name, SOON);
    }
    seconds(&mut world, 30);
    world.set_faults(REFUSES);
    world.delete_pod("a", Duration::ZERO, false);
    pod(&mut world, "n0", "c", NEVER);
    seconds(&mut world, 40);
    assert_eq!(world.held_by(), ["pod-a", "pod-b"]);
    let before = version(&mut world);
    world.set_faults(Faults::default());
    seconds(&mut world, 15);
    assert_eq!(world.held_by(), ["pod-b", "pod-c"]);
    assert_eq!(written(&mut world, before).len(), 1);
}

#[test]
fn claims_that_wait_share_writes_and_blocks_are_written_side_by_side() {
    let mut world = world(&[&["10.0.0.0/27"]], 4, &["n0"]);
    let before = version(&mut world);
    for index in 0..32 {
        pod(&mut world, "n0", &format!("p{index}"), SOON);
    }
    let mut in_flight = 0;
    for _ in 0..200 {
        world.run_for(Duration::from_millis(1));
        in_flight = in_flight.max(world.agent_state("n0").calls_in_flight);
    }
    seconds(&mut world, 3);
    assert_eq!(world.running_count(), 32);
    assert!(in_flight >= 4, "{in_flight} at once");
    let writes = written(&mut world, before).len();
    assert!(writes <= 12, "{writes} writes for 32 Pods in 8 blocks");
}

#[test]
fn at_add_the_answer_is_in_memory() {
    let mut world = world(&[&["10.0.0.0/29"]], 8, &["n0"]);
    pod(&mut world, "n0", "a", Duration::from_secs(1));
    world.run_for(Duration::from_millis(900));
    world.set_faults(REFUSES);
    world.run_for(Duration::from_millis(101));
    assert_eq!(world.addresses_of("a").len(), 1, "nobody had to be asked");
}

#[test]
fn an_answer_from_memory_ends_thirty_seconds_after_the_apiservers_last_word() {
    let mut world = world(&[&["10.0.0.0/29"]], 8, &["n0"]);
    pod(&mut world, "n0", "within", Duration::from_secs(12));
    pod(&mut world, "n0", "after", Duration::from_secs(45));
    seconds(&mut world, 3);
    world.set_faults(REFUSES);
    seconds(&mut world, 32);
    let valid = Policy::STANDARD.epoch_valid;
    assert_eq!(valid, Duration::from_secs(30));
    assert_eq!(world.addresses_of("within").len(), 1);
    seconds(&mut world, 40);
    assert_eq!(world.held_by(), ["pod-after", "pod-within"]);
    assert_eq!(world.addresses_of("after").len(), 0, "it may be buried");
    world.set_faults(Faults::default());
    seconds(&mut world, 20);
    assert_eq!(world.addresses_of("after").len(), 1);
}

#[test]
fn each_write_of_a_block_carries_another_mark() {
    let mut world = world(&[&["10.0.0.0/29"]], 8, &["n0", "n1"]);
    world.start_controller("c");
    for round in 0..6 {
        let name = format!("p{round}");
        pod(&mut world, ["n0", "n1"][round % 2], &name, SOON);
        seconds(&mut world, 5);
        world.delete_pod(&name, Duration::ZERO, false);
        seconds(&mut world, 20);
    }
    let marks: Vec<String> = written(&mut world, 0)
        .into_iter()
        .map(|b| b.spec.writer)
        .collect();
    let different: BTreeSet<&String> = marks.iter().collect();
    assert!(marks.len() >= 12, "{marks:?}");
    assert_eq!(different.len(), marks.len(), "{marks:?}");
}

#[test]
fn a_del_marks_releasing_though_the_apiserver_is_away() {
    let mut world = world(&[&["10.0.0.0/29"]], 8, &["n0"]);
    pod(&mut world, "n0", "a", SOON);
    seconds(&mut world, 5);
    world.set_faults(REFUSES);
    world.unplug("a");
    world.run_for(Duration::from_millis(50));
    let state = world.agent_state("n0");
    assert_eq!((state.ordinals_bound, state.ordinals_releasing), (0, 1));
    // Answered, so there is nothing for a plugin to leave in the spool.
    assert_eq!(world.unanswered_dels(), 0);
}

#[test]
fn an_address_is_held_while_the_path_is_there_and_the_runtime_lists_the_sandbox() {
    let mut world = world(&[&["10.0.0.0/31"]], 2, &["n0", "n1"]);
    for name in ["a", "b"] {
        pod(&mut world, "n0", name, SOON);
    }
    seconds(&mut world, 5);
    world.unplug("a");
    pod(&mut world, "n1", "wants", SOON);
    seconds(&mut world, 600);
    assert_eq!(world.held_by(), ["pod-a", "pod-b"]);
    assert_eq!(world.addresses_of("a").len(), 1, "its interface is up");
    // Until the Pod ends.
    world.delete_pod("a", Duration::ZERO, false);
    seconds(&mut world, 60);
    assert_eq!(world.held_by(), ["pod-b", "pod-wants"]);
    assert_eq!(world.violations(), []);
}

#[test]
fn blocks_are_dealt_to_the_nodes_in_turn_and_a_node_uses_its_own_first() {
    let nodes = ["n0", "n1", "n2"];
    let mut world = world(&[&["10.0.0.0/26"]], 4, &nodes);
    for index in 0..36 {
        let node = nodes[index % 3];
        pod(&mut world, node, &format!("{node}-{index}"), SOON);
        world.run_for(Duration::from_millis(500));
    }
    seconds(&mut world, 5);
    assert_eq!(world.running_count(), 36);
    let mut turns = BTreeSet::new();
    for node in nodes {
        let blocks = blocks_of(&mut world, &format!("pod-{node}-"));
        assert_eq!(blocks.len(), 3, "its own before others': {blocks:?}");
        let of: BTreeSet<u64> = blocks.iter().map(|index| index % 3).collect();
        assert_eq!(of.len(), 1, "every third: {blocks:?}");
        turns.extend(of);
    }
    assert_eq!(turns, [0, 1, 2].into());
}

#[test]
fn a_block_whose_label_denies_its_room_is_found_all_the_same() {
    let mut world = world(&[&["10.0.0.0/29"]], 8, &["n0", "n1"]);
    pod(&mut world, "n0", "a", SOON);
    seconds(&mut world, 5);
    world.kill_agent("n0");
    world.with_store(|store| {
        let Some(Object::AddressBlock(block)) = store.of_kind(Kind::AddressBlock).next() else {
            panic!("a block")
        };
        let mut block = block.clone();
        block
            .metadata
            .labels
            .insert(LABEL_ROOM.into(), "false".into());
        store
            .replace(Object::AddressBlock(block), Part::Main)
            .unwrap();
    });
    pod(&mut world, "n1", "b", SOON);
    seconds(&mut world, 15);
    assert_eq!(world.addresses_of("b").len(), 1);
}

#[test]
fn blocks_are_watched_while_a_pool_is_exhausted_and_not_before() {
    let mut world = world(&[&["10.0.0.0/30"]], 4, &["n0"]);
    let watches = |world: &World| {
        let mut asked = world.asked("n0").into_iter();
        asked.any(|asked| asked.verb == "watch" && asked.kind == Kind::AddressBlock)
    };
    for index in 0..4 {
        pod(&mut world, "n0", &format!("p{index}"), SOON);
    }
    seconds(&mut world, 30);
    assert_eq!((world.running_count(), watches(&world)), (4, false));
    pod(&mut world, "n0", "waits", SOON);
    seconds(&mut world, 30);
    assert_eq!((world.running_count(), watches(&world)), (4, true));
}

#[test]
fn the_epoch_is_read_every_twenty_seconds_while_something_is_held_and_every_minute_otherwise() {
    let reads = |reserves: bool| {
        let mut world = world(&[&["10.0.0.0/29"]], 8, &["n0"]);
        if reserves {
            pod(&mut world, "n0", "a", NEVER);
        }
        // The first one is a write of the list of own blocks.
        seconds(&mut world, 60);
        world.take_costs();
        seconds(&mut world, 480);
        world.take_costs().gets
    };
    let (idle, reserved) = (reads(false), reads(true));
    assert!((7..=9).contains(&idle), "{idle} in eight minutes");
    assert!((23..=25).contains(&reserved), "{reserved} in eight minutes");
}

#[test]
fn a_new_block_is_listed_in_place_of_the_next_read_of_the_epoch() {
    let mut world = world(&[&["10.0.0.0/29"]], 8, &["n0"]);
    seconds(&mut world, 60);
    let read = world.now();
    while world.take_costs().gets == 0 {
        assert!(world.now().since(read) < Duration::from_mins(2));
        world.run_for(Duration::from_millis(100));
    }
    pod(&mut world, "n0", "a", NEVER);
    seconds(&mut world, 2);
    world.take_costs();
    seconds(&mut world, 20);
    assert_eq!(machine(&mut world).spec.blocks, ["p-0"]);
    assert_eq!(world.take_costs().gets, 0, "the write showed as much");
}

#[test]
fn beyond_the_bound_an_add_is_told_to_try_again_at_once() {
    let mut world = World::new(1, Faults::default());
    assert_eq!(Policy::STANDARD.waiting_adds_max, 1024);
    world.configure(|config| config.policy.waiting_adds_max = 2);
    world.keep_states("n0");
    world.add_pool("full", &[&["10.1.0.0/31"]], Some(2));
    world.add_node("n0");
    for name in ["a", "b"] {
        pod(&mut world, "n0", name, SOON);
    }
    seconds(&mut world, 5);
    // The pool is full, so every ADD would wait to its deadline, 20 s.
    for index in 0..5 {
        pod(&mut world, "n0", &format!("p{index}"), SOON);
    }
    let mut most = 0;
    for _ in 0..100 {
        world.run_for(Duration::from_millis(20));
        most = most.max(world.agent_state("n0").adds_waiting);
    }
    assert_eq!(most, 2);
    // The others are served in their turn, when the runtime comes again.
    for name in ["a", "b"] {
        world.delete_pod(name, Duration::ZERO, false);
    }
    seconds(&mut world, 60);
    assert_eq!(world.running_count(), 2);
}

#[test]
fn what_ends_without_a_del_is_free_within_ninety_seconds() {
    for seed in 0..20 {
        let mut world = World::new(seed, Faults::default());
        world.add_pool("p", &[&["10.0.0.0/29"]], Some(8));
        world.add_node("n0");
        seconds(&mut world, 3);
        for name in ["ends", "stays"] {
            pod(&mut world, "n0", name, SOON);
        }
        seconds(&mut world, 20 + seed);
        world.end_silently("ends");
        seconds(&mut world, 90);
        assert_eq!(world.held_by(), ["pod-stays"], "seed {seed}");
    }
}

#[test]
fn a_process_that_dies_with_dels_unwritten_leaves_their_ends_to_the_next() {
    for seed in 0..20 {
        let mut world = World::new(seed, Faults::default());
        world.add_pool("p", &[&["10.0.0.0/29"]], Some(8));
        world.add_node("n0");
        seconds(&mut world, 3);
        for name in ["ends", "stays"] {
            pod(&mut world, "n0", name, SOON);
        }
        seconds(&mut world, 5);
        let full = Ailments {
            journal_full: true,
            ..Ailments::default()
        };
        world.set_ailments("n0", full);
        world.delete_pod("ends", Duration::ZERO, false);
        world.run_for(Duration::from_millis(500));
        assert_eq!(world.unanswered_dels(), 0, "no plugin tells of it again");
        world.kill_agent("n0");
        assert_eq!(world.held_by(), ["pod-ends", "pod-stays"]);
        world.set_ailments("n0", Ailments::default());
        world.start_agent("n0");
        seconds(&mut world, 90);
        assert_eq!(world.held_by(), ["pod-stays"], "seed {seed}");
        assert_eq!(world.addresses_of("stays").len(), 1);
    }
}

#[test]
fn a_lost_journal_leaves_a_pod_all_its_addresses_until_it_ends() {
    let mut world = world(&[&["10.0.0.0/29"]], 8, &["n0"]);
    pod(&mut world, "n0", "a", SOON);
    seconds(&mut world, 60);
    world.kill_agent("n0");
    world.lose_journal("n0");
    // It had a second interface.
    world.with_store(|store| {
        let Some(Object::AddressBlock(block)) = store.of_kind(Kind::AddressBlock).next() else {
            panic!("a block")
        };
        let mut block = block.clone();
        let records = block.spec.records.clone();
        let (_, holder) = records.split_once(' ').unwrap();
        block.spec.records = format!("{records};7 {holder}");
        store
            .replace(Object::AddressBlock(block), Part::Main)
            .unwrap();
    });
    world.start_agent("n0");
    seconds(&mut world, 300);
    assert_eq!(world.held_by(), ["pod-a", "pod-a"]);
    world.delete_pod("a", Duration::ZERO, false);
    seconds(&mut world, 90);
    assert_eq!(world.held_by(), [""; 0]);
}

#[test]
fn an_apiserver_that_asks_for_less_is_asked_less() {
    let asked = |faults| {
        let mut world = World::new(1, Faults::default());
        world.start_controller("c");
        seconds(&mut world, 10);
        for index in 0..20 {
            world.with_store(|store| {
                let mut pool = AddressPool::default();
                pool.metadata.name = format!("p{index}");
                pool.spec.families = vec![FamilySpec {
                    ranges: vec![format!("10.0.{index}.0/24")],
                    ..FamilySpec::default()
                }];
                store.create(pool.into()).unwrap();
            });
        }
        world.set_faults(faults);
        world.take_costs();
        seconds(&mut world, 12);
        world.take_costs().requests()
    };
    let (usual, throttled) = (asked(Faults::default()), asked(REFUSES));
    assert!(usual >= 60, "three writes for each pool: {usual}");
    // One object after the other would be refused as well.
    assert!(throttled * 2 < usual, "{throttled} of {usual}");
}
