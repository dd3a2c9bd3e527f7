//! What an agent makes of a journal that is missing, damaged, cut, old or cannot be written: no
//! address that may be in use is given to another, and what is free is free again in time.

use core::time::Duration;
use std::collections::BTreeSet;

use berth::core::agent::AgentConfig;
use berth::core::holder::decode_records;
use berth::core::journal::{Entry, decode, encode};
use berth::core::objects::{Kind, Object, ObjectKey};
use berth::testing::{Ailments, Faults, PodPlan, World};

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn pod(world: &mut World, node: &str, name: &str) {
    world.create_pod(PodPlan {
        node,
        name,
        sandbox_after: Duration::from_millis(100),
    });
}

fn says(world: &World, reason: &str) -> bool {
    world.events("n0").iter().any(|(said, _)| *said == reason)
}

type Configure = fn(&mut AgentConfig);

/// Two addresses, two Pods of one node that have them, and another node with none.
fn world(seed: u64, configure: Configure) -> World {
    world_of_age(seed, seconds(3), configure)
}

/// The same; after 20 s the machine's object names the block, too.
fn world_of_age(seed: u64, age: Duration, configure: Configure) -> World {
    let mut world = World::new(seed, Faults::default());
    world.configure(configure);
    world.add_pool("p", &[&["10.0.0.0/31"]], Some(4));
    for node in ["n0", "n1"] {
        world.add_node(node);
    }
    world.run_for(seconds(1));
    pod(&mut world, "n0", "a");
    pod(&mut world, "n0", "b");
    world.run_for(age);
    assert_eq!(world.running_count(), 2);
    world.kill_agent("n0");
    world
}

/// The force-deleted Pod's sandbox lives on for a minute, and another node has a Pod that waits.
/// Whether nothing was given twice, and the address was free in the end.
fn holds_what_lives(mut world: World) -> Result<(), String> {
    pod(&mut world, "n1", "c");
    world.run_for(seconds(50));
    if !world.violations().is_empty() || world.held_by() != ["pod-a", "pod-b"] {
        return Err(format!("{:?} {:?}", world.held_by(), world.violations()));
    }
    world.run_for(seconds(150));
    if !world.violations().is_empty() || world.held_by() != ["pod-b", "pod-c"] {
        return Err(format!("never free: {:?}", world.held_by()));
    }
    Ok(())
}

/// A lost journal, and so many processes that die before they have read the API.
fn started_again(seed: u64, deaths: u32, configure: Configure) -> Result<(), String> {
    let mut world = world(seed, configure);
    world.lose_journal("n0");
    world.delete_pod("a", seconds(60), true);
    for death in 0..deaths {
        world.start_agent("n0");
        // The first at once, the others somewhere on their way.
        world.run_for(Duration::from_millis(u64::from(death) * (seed % 13)));
        world.kill_agent("n0");
    }
    world.start_agent("n0");
    holds_what_lives(world)
}

#[test]
fn a_start_without_a_journal_stays_one_however_often_the_process_dies() {
    for deaths in [0, 1, 2, 7] {
        for seed in 0..30 {
            let held = started_again(seed, deaths, |_| {});
            assert_eq!(held, Ok(()), "seed {seed}, {deaths} deaths");
        }
    }
}

#[cfg(feature = "mutants")]
#[test]
fn two_starts_without_a_journal_catch_the_mutant_that_writes_its_header_first() {
    let mutant: Configure = |c| c.mutant = Some(berth::core::Mutant::HeaderBeforeLost);
    assert!((0..30).any(|seed| started_again(seed, 1, mutant).is_err()));
}

#[test]
fn a_start_without_a_journal_while_the_apiserver_is_away_stays_one() {
    let mut world = world(3, |_| {});
    world.lose_journal("n0");
    world.delete_pod("a", seconds(60), true);
    let refuses = Faults {
        throttled_ppm: 1_000_000,
        ..Faults::default()
    };
    world.set_faults(refuses);
    for _ in 0..3 {
        world.start_agent("n0");
        world.run_for(seconds(2));
        world.kill_agent("n0");
    }
    world.set_faults(Faults::default());
    world.start_agent("n0");
    assert_eq!(holds_what_lives(world), Ok(()));
}

#[test]
fn a_start_without_a_journal_stays_one_after_it_served_for_a_while() {
    let mut world = world(4, |_| {});
    world.lose_journal("n0");
    world.start_agent("n0");
    world.run_for(seconds(5));
    assert!(world.journal("n0").contains(&Entry::Lost), "it says so");
    world.kill_agent("n0");
    world.delete_pod("a", seconds(60), true);
    world.start_agent("n0");
    assert_eq!(holds_what_lives(world), Ok(()));
}

#[test]
fn the_journal_says_that_it_was_lost_until_everything_is_explained() {
    let mut world = world(5, |_| {});
    world.lose_journal("n0");
    world.start_agent("n0");
    world.run_for(seconds(60));
    assert!(says(&world, "JournalLost"));
    assert!(world.journal("n0").contains(&Entry::Lost), "two Pods live");
    for name in ["a", "b"] {
        world.delete_pod(name, Duration::ZERO, false);
    }
    world.run_for(seconds(120));
    assert_eq!(world.held_by(), Vec::<String>::new());
    assert!(!world.journal("n0").contains(&Entry::Lost));
    assert!(says(&world, "JournalRestored"));
}

#[test]
fn a_new_machine_and_a_sound_journal_ask_the_runtime_nothing() {
    let mut world = World::new(6, Faults::default());
    world.add_pool("p", &[&["10.0.0.0/29"]], Some(4));
    world.add_node("n0");
    world.run_for(seconds(2));
    pod(&mut world, "n0", "a");
    world.run_for(seconds(5));
    world.kill_agent("n0");
    world.start_agent("n0");
    world.run_for(seconds(60));
    assert_eq!(world.sandbox_lists("n0"), 0);
    world.reboot("n0");
    world.start_agent("n0");
    world.run_for(seconds(60));
    assert_eq!(world.sandbox_lists("n0"), 0, "a new boot");
    assert!(!says(&world, "JournalLost"));
    assert_eq!(world.addresses_of("a").len(), 1);
}

#[test]
fn a_block_that_only_the_lost_journal_named_is_found_and_its_addresses_are_freed() {
    type Harm = fn(&mut Vec<u8>);
    let harms: [Harm; 2] = [Vec::clear, |bytes| {
        let header = decode(bytes).unwrap().entries.swap_remove(0);
        *bytes = encode(0, &header);
    }];
    for harm in harms {
        let mut world = World::new(7, Faults::default());
        world.add_pool("p", &[&["10.0.0.0/29"]], Some(4));
        world.add_node("n0");
        world.run_for(seconds(30));
        // Its block is not in the BerthNode before the next read of that.
        pod(&mut world, "n0", "a");
        world.run_for(seconds(3));
        world.kill_agent("n0");
        world.harm_journal("n0", harm);
        world.delete_pod("a", seconds(5), true);
        world.start_agent("n0");
        world.run_for(seconds(120));
        assert_eq!(world.held_by(), Vec::<String>::new());
    }
}

/// A reservation that the lost journal does not explain, of a Pod whose sandbox asked before the
/// runtime could be asked: whose sandbox it is, the process that answered it knows. One that was
/// answered by a process before has to be taken at its Pod's word, which is its end.
#[test]
fn an_address_that_a_sandbox_got_instead_of_a_lost_one_ends_the_doubt_about_that() {
    for again in [false, true] {
        let mut world = World::new(9, Faults::default());
        world.add_pool("p", &[&["10.0.0.0/30"]], Some(4));
        world.add_node("n0");
        world.run_for(seconds(1));
        world.create_pod(PodPlan {
            node: "n0",
            name: "a",
            sandbox_after: seconds(3),
        });
        world.run_for(seconds(1));
        assert_eq!(world.held_by(), ["pod-a"], "reserved");
        world.kill_agent("n0");
        world.lose_journal("n0");
        let silent = |runtime_silent| Ailments {
            runtime_silent,
            ..Ailments::default()
        };
        world.set_ailments("n0", silent(true));
        world.start_agent("n0");
        world.run_for(seconds(15));
        assert_eq!(world.running_count(), 1);
        assert_eq!(world.held_by(), ["pod-a", "pod-a"], "both may be in use");
        if again {
            world.kill_agent("n0");
            world.start_agent("n0");
        }
        world.set_ailments("n0", silent(false));
        world.run_for(seconds(60));
        let held = if again { 2 } else { 1 };
        assert_eq!(world.held_by().len(), held, "again: {again}");
        assert_eq!(world.addresses_of("a").len(), 1);
        world.delete_pod("a", Duration::ZERO, false);
        world.run_for(seconds(90));
        assert_eq!(world.held_by(), Vec::<String>::new(), "again: {again}");
        assert_eq!(world.violations(), []);
    }
}

/// Which of two addresses a Pod's next sandbox has is not known, so the Pod keeps both to its end,
/// and no record says that a sandbox has one which is gone.
#[test]
fn a_record_of_what_a_pod_keeps_for_want_of_a_journal_names_no_sandbox_that_is_gone() {
    let mut world = World::new(21, Faults::default());
    world.add_pool("p", &[&["10.0.0.0/29"]], Some(8));
    world.add_node("n0");
    world.run_for(seconds(1));
    pod(&mut world, "n0", "a");
    world.run_for(seconds(3));
    // Its claim is written, and with it by whom a's is used.
    pod(&mut world, "n0", "b");
    world.run_for(seconds(3));
    let first = named_for(&mut world, "pod-a");
    assert_eq!(first.len(), 1);
    let copy = world.journal_bytes("n0");
    // No look shows that the first sandbox ended, so the next one gets another address.
    world.set_namespaces_lost("n0", true);
    world.lose_sandbox("a", seconds(1));
    world.run_for(seconds(6));
    assert_eq!(world.held_by(), ["pod-a", "pod-a", "pod-b"]);
    world.kill_agent("n0");
    world.harm_journal("n0", |bytes| copy.clone_into(bytes));
    world.set_namespaces_lost("n0", false);
    world.set_runtime_lost("n0", true);
    world.start_agent("n0");
    world.run_for(seconds(5));
    assert_eq!(named_for(&mut world, "pod-a"), first);
    world.set_runtime_lost("n0", false);
    world.run_for(seconds(300));
    assert_eq!(world.held_by(), ["pod-a", "pod-a", "pod-b"]);
    assert!(named_for(&mut world, "pod-a").is_disjoint(&first));
    world.delete_pod("a", Duration::ZERO, false);
    world.run_for(seconds(90));
    assert_eq!(world.held_by(), ["pod-b"]);
    assert_eq!(world.violations(), []);
}

/// The containers that the Pod's records name.
fn named_for(world: &mut World, pod: &str) -> BTreeSet<String> {
    let key = ObjectKey::cluster(Kind::AddressBlock, "p-0");
    let Object::AddressBlock(block) = world.with_store(|store| store.get(&key).unwrap()) else {
        panic!("it is a block")
    };
    let records = decode_records(&block.spec.records).flatten();
    let holders = records.filter_map(|(_, record)| record.holder().cloned());
    let of_pod = holders.filter(|holder| holder.pod_uid.as_str() == pod);
    of_pod
        .map(|holder| holder.container)
        .filter(|name| !name.is_empty())
        .collect()
}

/// What happens to a journal, by a number.
fn harm(bytes: &mut Vec<u8>, number: u64, old: &[u8]) {
    let at = |share: u64| (bytes.len() as u64 * (share % 97) / 97) as usize;
    let (here, there) = (at(number / 7), at(number / 7 + 20).max(1));
    match number % 7 {
        0 => bytes[here] ^= 1,
        1 => {
            let end = (here + 100).min(bytes.len());
            bytes[here..end].fill(0);
        }
        2 => bytes.truncate(here),
        3 => {
            bytes.splice(here..here, [0xa5; 9]);
        }
        4 => bytes.extend([0; 4096]),
        5 => {
            let end = there.max(here).min(bytes.len());
            bytes.drain(here.min(end)..end);
        }
        _ => *bytes = old.to_vec(),
    }
}

/// The journal is harmed while no agent runs, twice where that is said.
fn harmed(number: u64, times: u32, configure: Configure) -> Result<(), String> {
    let mut world = world_of_age(number % 11, seconds(25), configure);
    // As it was before the two Pods.
    let whole = world.journal("n0");
    let old = encode(0, &whole[0]);
    for _ in 0..times {
        world.harm_journal("n0", |bytes| harm(bytes, number, &old));
        world.start_agent("n0");
        world.run_for(seconds(3));
        world.kill_agent("n0");
    }
    world.start_agent("n0");
    world.run_for(seconds(1));
    world.delete_pod("a", seconds(60), true);
    holds_what_lives(world)
}

#[test]
fn no_harm_to_the_journal_frees_what_lives() {
    for number in 0..7 * 40 {
        assert_eq!(harmed(number, 1, |_| {}), Ok(()), "harm {number}");
    }
    for number in 0..7 * 10 {
        assert_eq!(harmed(number, 2, |_| {}), Ok(()), "harm {number}, twice");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn a_damaged_byte_catches_the_mutant_that_believes_damage() {
    let mutant: Configure = |c| c.mutant = Some(berth::core::Mutant::DamageBelieved);
    assert!((0..40).any(|number| harmed(number * 7, 1, mutant).is_err()));
}

#[test]
fn damage_is_said_with_its_place_kept_for_people_and_served_on() {
    let mut world = world(8, |_| {});
    world.harm_journal("n0", |bytes| bytes[200] ^= 0x10);
    let damaged = world.journal_bytes("n0");
    world.start_agent("n0");
    world.run_for(seconds(3));
    let events = world.events("n0");
    let said = events
        .iter()
        .find(|(reason, _)| *reason == "JournalDamaged");
    let (_, text) = said.expect("it is said");
    assert!(text.contains("at byte "), "{text}");
    assert!(says(&world, "JournalLost"));
    assert_eq!(world.journals_aside("n0"), [damaged]);
    assert_eq!(world.running_count(), 2, "nobody lost an address");
    let now = decode(&world.journal_bytes("n0")).unwrap();
    assert_eq!(now.state, berth::core::journal::State::Whole);
}

#[test]
fn a_torn_end_is_no_damage_and_loses_nothing() {
    let mut world = world(9, |_| {});
    world.harm_journal("n0", |bytes| {
        let number = decode(bytes).unwrap().entries.len();
        let frame = encode(number, &Entry::Lost);
        bytes.extend(&frame[..frame.len() - 1]);
    });
    world.start_agent("n0");
    world.run_for(seconds(30));
    assert!(!says(&world, "JournalDamaged") && !says(&world, "JournalLost"));
    world.delete_pod("a", seconds(60), true);
    assert_eq!(holds_what_lives(world), Ok(()));
}

#[test]
fn a_journal_of_the_release_before_is_taken_over() {
    let mut world = world(10, |_| {});
    let mut old = world.journal("n0");
    let Entry::Header { version, .. } = &mut old[0] else {
        panic!("a header")
    };
    *version = 1;
    // Version 1 had the header's form for all.
    let frames = old.iter().flat_map(|entry| encode(0, entry)).collect();
    world.harm_journal("n0", |bytes| *bytes = frames);
    world.start_agent("n0");
    world.run_for(seconds(3));
    assert!(!says(&world, "JournalLost"));
    world.delete_pod("a", seconds(60), true);
    assert_eq!(holds_what_lives(world), Ok(()));
}

#[test]
fn what_no_entry_explains_waits_no_longer_for_a_silent_runtime_than_its_patience() {
    let mut world = world_of_age(11, seconds(25), |_| {});
    // An old copy that shows no damage, and a runtime that never answers.
    let header = encode(0, &world.journal("n0")[0]);
    world.harm_journal("n0", |bytes| *bytes = header);
    world.set_ailments(
        "n0",
        Ailments {
            runtime_silent: true,
            ..Ailments::default()
        },
    );
    for name in ["a", "b"] {
        world.delete_pod(name, Duration::ZERO, false);
    }
    world.run_for(seconds(1));
    world.start_agent("n0");
    world.run_for(seconds(30));
    assert_eq!(world.held_by(), ["pod-a", "pod-b"]);
    world.run_for(seconds(60));
    assert_eq!(world.held_by(), Vec::<String>::new());
}

#[test]
fn a_journal_that_cannot_be_opened_is_opened_when_it_can_be() {
    let mut world = world(12, |_| {});
    let broken = Ailments {
        journal_unreadable: true,
        ..Ailments::default()
    };
    world.set_ailments("n0", broken);
    world.start_agent("n0");
    world.run_for(seconds(20));
    assert!(says(&world, "JournalFailed"));
    world.set_ailments("n0", Ailments::default());
    world.run_for(seconds(20));
    world.delete_pod("a", Duration::ZERO, false);
    pod(&mut world, "n0", "c");
    world.run_for(seconds(60));
    assert_eq!(world.held_by(), ["pod-b", "pod-c"]);
    assert_eq!(world.addresses_of("c").len(), 1);
}

/// UIDs of the Pods that the journal says have an address, in order.
fn bound(world: &World) -> Vec<String> {
    let mut bound = std::collections::BTreeMap::new();
    for entry in world.journal("n0") {
        match entry {
            Entry::Bound(binding) => {
                bound.insert(binding.attachment.clone(), binding.pod_uid.to_string());
            }
            Entry::Ended { attachment } | Entry::Releasing { attachment, .. } => {
                bound.remove(&attachment);
            }
            _ => {}
        }
    }
    let mut pods: Vec<_> = bound.into_values().collect();
    pods.sort();
    pods
}

#[test]
fn on_a_full_disk_nothing_is_answered_that_was_not_written_and_dels_are_taken() {
    let mut world = World::new(13, Faults::default());
    world.add_pool("p", &[&["10.0.0.0/29"]], Some(4));
    world.add_node("n0");
    world.run_for(seconds(1));
    for name in ["a", "b"] {
        pod(&mut world, "n0", name);
    }
    world.run_for(seconds(3));
    let full = Ailments {
        journal_full: true,
        ..Ailments::default()
    };
    world.set_ailments("n0", full);
    for name in ["c", "d", "e"] {
        pod(&mut world, "n0", name);
    }
    world.delete_pod("a", Duration::ZERO, false);
    for _ in 0..30 {
        world.run_for(seconds(1));
        for name in ["c", "d", "e"] {
            assert!(
                world.addresses_of(name).is_empty(),
                "not written, not answered"
            );
        }
    }
    assert!(!world.held_by().contains(&"pod-a".into()), "its DEL counts");
    // Nobody needs to do anything but make room.
    world.set_ailments("n0", Ailments::default());
    world.run_for(seconds(6));
    assert!(
        !bound(&world).contains(&"pod-a".into()),
        "it is written anew"
    );
    world.run_for(seconds(60));
    assert_eq!(world.running_count(), 4);
    assert_eq!(world.held_by(), ["pod-b", "pod-c", "pod-d", "pod-e"]);
    assert_eq!(bound(&world), ["pod-b", "pod-c", "pod-d", "pod-e"]);
}

#[test]
fn a_journal_that_takes_seconds_delays_adds_and_breaks_nothing() {
    let mut world = World::new(14, Faults::default());
    world.add_pool("p", &[&["10.0.0.0/29"]], Some(4));
    world.add_node("n0");
    world.run_for(seconds(1));
    let slow = Ailments {
        journal_pause: seconds(3),
        ..Ailments::default()
    };
    world.set_ailments("n0", slow);
    for name in ["a", "b", "c"] {
        pod(&mut world, "n0", name);
    }
    world.run_for(seconds(120));
    assert_eq!(world.running_count(), 3);
    for name in ["a", "b"] {
        world.delete_pod(name, Duration::ZERO, false);
    }
    world.run_for(seconds(120));
    assert_eq!(world.held_by(), ["pod-c"]);
    assert_eq!(world.violations(), []);
}

#[test]
fn a_binding_in_a_pool_that_cannot_be_read_stays_in_the_journal() {
    let mut world = world(15, |_| {});
    let key =
        berth::core::objects::ObjectKey::cluster(berth::core::objects::Kind::AddressPool, "p");
    let pool = world.with_store(|store| {
        let pool = store.get(&key).unwrap();
        let mut object = pool.clone();
        object.metadata_mut().finalizers.clear();
        let _ = store.replace(object, berth::core::api::Part::Main);
        store.delete(&key, None).unwrap();
        pool
    });
    world.start_agent("n0");
    world.run_for(seconds(5));
    assert_eq!(bound(&world), ["pod-a", "pod-b"]);
    drop(pool);
}

/// A sandbox's DEL, its end, and the next sandbox with the same address: an old copy knows only the
/// DEL. The end that a look then shows says nothing of the next one.
#[test]
fn an_end_that_an_old_copy_awaits_does_not_free_what_the_pods_next_sandbox_has() {
    for seed in 0..10 {
        let mut world = world(seed, |_| {});
        world.start_agent("n0");
        world.run_for(seconds(3));
        world.send_del("a");
        world.run_for(Duration::from_millis(100));
        let copy = world.journal_bytes("n0");
        let before = world.addresses_of("a");
        world.lose_sandbox("a", seconds(1));
        world.run_for(seconds(5));
        assert_eq!(world.addresses_of("a"), before, "seed {seed}: it moves on");
        world.kill_agent("n0");
        world.harm_journal("n0", |bytes| copy.clone_into(bytes));
        world.delete_pod("a", seconds(60), true);
        world.start_agent("n0");
        assert_eq!(holds_what_lives(world), Ok(()), "seed {seed}");
    }
}

/// An old copy names a sandbox that ended since, with or without its DEL. Its address is free, and
/// stays so: also where the pool can be read only later.
#[test]
fn an_ended_sandbox_of_an_old_copy_takes_no_free_address() {
    for (seed, has_del) in [(0, false), (1, true)] {
        for is_readable in [true, false] {
            let mut world = world(seed, |_| {});
            world.start_agent("n0");
            world.run_for(seconds(3));
            if has_del {
                world.send_del("a");
                world.run_for(Duration::from_millis(100));
            }
            let copy = world.journal_bytes("n0");
            world.delete_pod("a", Duration::ZERO, false);
            world.run_for(seconds(60));
            assert_eq!(world.held_by(), ["pod-b"]);
            world.kill_agent("n0");
            world.harm_journal("n0", |bytes| copy.clone_into(bytes));
            let pool = ObjectKey::cluster(Kind::AddressPool, "p");
            let good = world.with_store(|store| store.get(&pool).unwrap());
            let good = serde_json::to_value(good).unwrap();
            if !is_readable {
                let mut bad = good.clone();
                bad["spec"]["routes"] = serde_json::json!([{"dst": "default"}]);
                world.put_raw(Kind::AddressPool, bad);
            }
            world.start_agent("n0");
            for step in 0..600 {
                if step == 200 && !is_readable {
                    world.put_raw(Kind::AddressPool, good.clone());
                }
                world.run_for(Duration::from_millis(100));
                assert_eq!(world.held_by(), ["pod-b"], "{has_del} {is_readable} {step}");
            }
            assert!(says(&world, "JournalRestored"));
            assert_eq!(world.violations(), []);
        }
    }
}

/// The runtime lists a sandbox until it is removed, long after its end: that does not make an old
/// copy true, whether or not records show that it is old.
#[test]
fn an_ended_sandbox_that_is_listed_still_takes_no_free_address_either() {
    for (seed, has_next) in [(0, false), (1, true), (2, false), (3, true)] {
        let mut world = World::new(seed, Faults::default());
        world.add_pool("p", &[&["10.0.0.0/29"]], Some(8));
        world.add_node("n0");
        world.run_for(seconds(1));
        for name in ["a", "b", "c", "lives"] {
            pod(&mut world, "n0", name);
        }
        world.run_for(seconds(3));
        let copy = world.journal_bytes("n0");
        for ended in ["a", "b", "c"] {
            world.delete_pod(ended, Duration::ZERO, false);
        }
        world.run_for(seconds(60));
        assert_eq!(world.held_by(), ["pod-lives"]);
        if has_next {
            pod(&mut world, "n0", "next");
            world.run_for(seconds(3));
        }
        let held = world.held_by();
        world.kill_agent("n0");
        world.harm_journal("n0", |bytes| copy.clone_into(bytes));
        world.set_ailments(
            "n0",
            Ailments {
                lists_ended: true,
                ..Ailments::default()
            },
        );
        world.start_agent("n0");
        for step in 0..1200 {
            if step == 600 {
                world.set_ailments("n0", Ailments::default());
            }
            world.run_for(Duration::from_millis(100));
            assert_eq!(world.held_by(), held, "seed {seed}, step {step}");
        }
        assert_eq!(says(&world, "JournalLost"), has_next, "seed {seed}");
        assert_eq!(world.violations(), []);
    }
}

/// Whose ADD an earlier process answered is not young: its DEL waits no longer than others.
#[test]
fn a_del_of_what_a_lost_journal_bound_does_not_wait_as_for_a_young_add() {
    let mut world = world(17, |_| {});
    world.lose_journal("n0");
    world.start_agent("n0");
    world.run_for(seconds(60));
    assert_eq!(world.held_by(), ["pod-a", "pod-b"]);
    world.delete_pod("a", Duration::ZERO, false);
    world.run_for(seconds(28));
    assert_eq!(world.held_by(), ["pod-b"]);
    assert_eq!(world.violations(), []);
}

/// The journal is lost, the runtime cannot be asked, and a Pod that was deleted by force has a
/// sandbox that lives on.
fn lost_beside_a_silent_runtime(configure: Configure) -> Result<(), String> {
    let mut world = world(18, configure);
    world.lose_journal("n0");
    world.set_runtime_lost("n0", true);
    world.delete_pod("a", seconds(60), true);
    world.start_agent("n0");
    world.run_for(seconds(3));
    pod(&mut world, "n1", "c");
    world.run_for(seconds(45));
    if world.violations().is_empty() {
        return Ok(());
    }
    Err(format!("{:?}", world.violations()))
}

#[test]
fn a_runtime_that_cannot_be_asked_is_not_taken_for_an_empty_one() {
    assert_eq!(lost_beside_a_silent_runtime(|_| {}), Ok(()));
}

#[cfg(feature = "mutants")]
#[test]
fn a_runtime_that_cannot_be_asked_catches_the_mutant_that_takes_it_for_an_empty_one() {
    let mutant: Configure = |c| c.mutant = Some(berth::core::Mutant::LostRuntimeTakenForEmpty);
    assert!(lost_beside_a_silent_runtime(mutant).is_err());
}

/// A sandbox got its address, and the plugin that called is not done with it yet, so the runtime
/// does not list it. The copy that is put back does not know of it, and another Pod asks.
#[test]
fn what_an_unlisted_sandbox_has_is_not_taken_over_while_its_add_may_be_under_way() {
    for (seed, is_lost) in [(0, false), (1, true), (2, false), (3, true)] {
        let mut world = World::new(seed, Faults::default());
        world.add_pool("p", &[&["10.0.0.0/31"]], Some(2));
        world.add_node("n0");
        world.run_for(seconds(1));
        pod(&mut world, "n0", "lives");
        world.run_for(seconds(3));
        let copy = world.journal_bytes("n0");
        pod(&mut world, "n0", "is-made");
        world.run_for(seconds(3));
        assert_eq!(world.running_count(), 2);
        world.kill_agent("n0");
        if is_lost {
            world.lose_journal("n0");
        } else {
            world.harm_journal("n0", |bytes| copy.clone_into(bytes));
        }
        world.set_ailments(
            "n0",
            Ailments {
                lists_nothing: true,
                ..Ailments::default()
            },
        );
        world.start_agent("n0");
        pod(&mut world, "n0", "asks");
        world.run_for(seconds(200));
        assert_eq!(world.violations(), [], "seed {seed}");
        assert!(
            world.held_by().contains(&"pod-is-made".into()),
            "seed {seed}"
        );
        world.set_ailments("n0", Ailments::default());
        world.run_for(seconds(100));
        assert_eq!(world.violations(), [], "seed {seed}");
        world.delete_pod("is-made", Duration::ZERO, false);
        world.run_for(seconds(60));
        assert_eq!(world.held_by(), ["pod-asks", "pod-lives"], "seed {seed}");
    }
}

/// The journal is gone, and the runtime cannot be asked yet when a DEL comes. Its first list tells
/// whose that was, and the end counts from there.
#[test]
fn a_del_that_comes_before_the_first_list_is_heeded_when_the_list_comes() {
    let mut world = world(16, |_| {});
    world.lose_journal("n0");
    world.set_runtime_lost("n0", true);
    world.start_agent("n0");
    world.run_for(seconds(5));
    world.send_del("a");
    world.run_for(seconds(5));
    let is_releasing = |world: &World| {
        let entries = world.journal("n0").into_iter();
        entries
            .rev()
            .any(|entry| matches!(entry, Entry::Releasing { .. }))
    };
    assert!(!is_releasing(&world), "whose it was is not known");
    world.kill_agent("n0");
    world.start_agent("n0");
    world.set_runtime_lost("n0", false);
    world.run_for(seconds(20));
    assert!(is_releasing(&world));
    assert_eq!(world.held_by(), ["pod-a", "pod-b"], "the sandbox is there");
    assert_eq!(world.violations(), []);
}

/// The journal is gone, and its disk so slow that who asks for an address comes first. The write
/// of that claim meets the record that the lost journal bound, and its answer is lost.
#[test]
fn a_claim_whose_answer_is_lost_does_not_take_the_record_of_what_lives_for_its_own() {
    for seed in 0..30 {
        let mut world = world(seed, |_| {});
        world.lose_journal("n0");
        world.set_ailments(
            "n0",
            Ailments {
                journal_pause: seconds(6),
                ..Ailments::default()
            },
        );
        world.start_agent("n0");
        world.run_for(seconds(4));
        world.set_faults(Faults {
            lost_reply_ppm: 1_000_000,
            ..Faults::default()
        });
        world.run_for(seconds(20));
        world.set_faults(Faults::default());
        world.set_ailments("n0", Ailments::default());
        pod(&mut world, "n0", "c");
        world.run_for(seconds(60));
        assert!(world.violations().is_empty(), "seed {seed}");
        assert_eq!(world.held_by(), ["pod-a", "pod-b"], "seed {seed}");
    }
}

/// As that of an earlier release: nothing shows that it is whole, until all is explained.
#[test]
fn a_journal_without_a_seal_is_in_doubt_until_all_is_explained_and_then_gets_one() {
    let mut world = world(13, |_| {});
    world.lose_seal("n0");
    world.start_agent("n0");
    world.run_for(seconds(1));
    assert!(says(&world, "JournalInDoubt") && !says(&world, "JournalLost"));
    world.kill_agent("n0");
    world.start_agent("n0");
    world.run_for(seconds(1));
    let said = world.events("n0").into_iter();
    let doubts = said.filter(|(reason, _)| *reason == "JournalInDoubt");
    assert_eq!(doubts.count(), 2, "a start does not make it whole");
    world.run_for(seconds(30));
    assert!(says(&world, "JournalRestored"));
    let lists = world.sandbox_lists("n0");
    world.kill_agent("n0");
    world.start_agent("n0");
    world.run_for(seconds(30));
    assert_eq!(world.sandbox_lists("n0"), lists, "nothing is in doubt");
    world.delete_pod("a", seconds(60), true);
    assert_eq!(holds_what_lives(world), Ok(()));
}

/// An agent that dies every four seconds, before the runtime could be asked twice, frees what
/// ended: a journal that is whole needs nobody's word.
#[test]
fn with_a_sealed_journal_an_agent_that_dies_all_the_time_frees_what_ended() {
    let mut world = world(14, |_| {});
    world.delete_pod("a", Duration::ZERO, false);
    pod(&mut world, "n1", "c");
    for _ in 0..5 {
        world.start_agent("n0");
        world.run_for(seconds(4));
        world.kill_agent("n0");
    }
    assert_eq!(world.held_by(), ["pod-b", "pod-c"]);
    assert_eq!(world.sandbox_lists("n0"), 0);
}
