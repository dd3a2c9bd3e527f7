//! How an attachment ends: the whole table of `core::agent::releases`, and what a look at a path
//! that cannot be told does not free.

use core::time::Duration;

use berth::core::agent::AgentConfig;
use berth::testing::{Ailments, Faults, Looks, World};

use super::journal::{pod, seconds};

/// One case of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a column of the table"
)]
struct Case {
    /// What looks showed when the address was answered.
    at_add: Looks,
    /// What they show from then on.
    later: Looks,
    /// The namespace really ended, which only true looks show; the runtime lists it as long as it
    /// is there.
    ended: bool,
    del: bool,
    pod_gone: bool,
    runtime_silent: bool,
}

/// What the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Held,
    /// As soon as a look shows it.
    AtOnce,
    /// Within the published bound.
    Free,
}

impl Case {
    fn all() -> Vec<Self> {
        let looks = [
            Looks::True,
            Looks::Unknown,
            Looks::NoCanary,
            Looks::OtherMount,
        ];
        let mut cases = Vec::new();
        for at_add in [Looks::True, Looks::Unknown] {
            for later in looks {
                for flags in 0..16 {
                    cases.push(Self {
                        at_add,
                        later,
                        ended: flags & 1 != 0,
                        del: flags & 2 != 0,
                        pod_gone: flags & 4 != 0,
                        runtime_silent: flags & 8 != 0,
                    });
                }
            }
        }
        cases
    }

    /// The rows of the table, read off by hand.
    fn verdict(self) -> Verdict {
        let seen_there = self.at_add == Looks::True;
        let is_gone = self.later == Looks::True && self.ended && seen_there;
        match (self.del, is_gone, self.pod_gone) {
            _ if !self.ended => Verdict::Held,
            (true, true, _) => Verdict::AtOnce,
            (true, false, _) if !self.runtime_silent => Verdict::Free,
            (false, true, true) => Verdict::Free,
            (false, false, true) if !self.runtime_silent => Verdict::Free,
            _ => Verdict::Held,
        }
    }
}

struct Played {
    held_after_5_s: bool,
    held_after_100_s: bool,
    was_shared: bool,
}

fn play(case: Case, configure: fn(&mut AgentConfig)) -> Played {
    let mut world = World::new(21, Faults::default());
    world.configure(configure);
    world.add_pool("p", &[&["10.0.0.0/31"]], Some(4));
    for node in ["n0", "n1"] {
        world.add_node(node);
    }
    world.run_for(seconds(1));
    let ail = |looks, runtime_silent| Ailments {
        looks,
        runtime_silent,
        ..Ailments::default()
    };
    // Another Pod of the node lives on: not all paths vanish.
    pod(&mut world, "n0", "other");
    world.run_for(seconds(1));
    world.set_ailments("n0", ail(case.at_add, false));
    pod(&mut world, "n0", "x");
    world.run_for(seconds(20));
    assert_eq!(world.addresses_of("x").len(), 1, "{case:?}");
    world.set_ailments("n0", ail(case.later, case.runtime_silent));
    if case.del {
        world.send_del("x");
    }
    if case.pod_gone {
        world.remove_pod("x");
    }
    if case.ended {
        world.end_unseen("x");
    }
    pod(&mut world, "n1", "waits");
    world.run_for(seconds(5));
    let is_held = |world: &World| world.held_by().contains(&"pod-x".into());
    let held_after_5_s = is_held(&world);
    world.run_for(seconds(95));
    // With the Pod there its record stays as a reservation, which is no hold of an interface.
    let has_room = world.addresses_of("waits").is_empty();
    Played {
        held_after_5_s,
        held_after_100_s: if case.pod_gone {
            is_held(&world)
        } else {
            has_room
        },
        was_shared: !world.violations().is_empty(),
    }
}

#[test]
fn every_row_of_the_table_of_ends_holds() {
    for case in Case::all() {
        if !case.pod_gone {
            // Its reservation follows the Pod, however the attachment ends: see below.
            continue;
        }
        let played = play(case, |_| {});
        assert!(!played.was_shared, "{case:?}");
        let seen = (played.held_after_5_s, played.held_after_100_s);
        let expected = match case.verdict() {
            Verdict::Held => (true, true),
            Verdict::AtOnce => (false, false),
            Verdict::Free => (true, false),
        };
        assert_eq!(seen, expected, "{case:?}");
    }
}

#[test]
fn while_the_pod_is_there_nothing_of_it_goes_to_another() {
    for case in Case::all() {
        if case.pod_gone {
            continue;
        }
        let played = play(case, |_| {});
        assert!(!played.was_shared, "{case:?}");
        assert!(played.held_after_100_s, "{case:?}: its reservation stays");
    }
}

/// A Pod was force-deleted, its DEL came, its interface is up for another minute, and looks do not
/// tell.
fn unknown_after_del(looks: Looks, every: u64, configure: fn(&mut AgentConfig)) -> World {
    let mut world = World::new(22, Faults::default());
    world.configure(configure);
    world.add_pool("p", &[&["10.0.0.0/31"]], Some(4));
    for node in ["n0", "n1"] {
        world.add_node(node);
    }
    world.run_for(seconds(1));
    for name in ["a", "b"] {
        pod(&mut world, "n0", name);
    }
    world.run_for(seconds(20));
    world.set_ailments(
        "n0",
        Ailments {
            looks,
            looks_every: every,
            ..Ailments::default()
        },
    );
    world.remove_pod("a");
    world.send_del("a");
    pod(&mut world, "n1", "c");
    world.run_for(seconds(80));
    world
}

#[test]
fn an_address_whose_path_cannot_be_told_is_held_until_the_runtime_has_no_such_sandbox() {
    for looks in [Looks::Unknown, Looks::NoCanary, Looks::OtherMount] {
        for every in 1..6 {
            let mut world = unknown_after_del(looks, every, |_| {});
            assert_eq!(world.violations(), [], "{looks:?}, one in {every}");
            assert_eq!(world.held_by(), ["pod-a", "pod-b"]);
            world.end_unseen("a");
            world.run_for(seconds(30));
            assert_eq!(world.held_by(), ["pod-b", "pod-c"], "{looks:?}");
        }
    }
}

#[cfg(feature = "mutants")]
#[test]
fn a_look_that_does_not_tell_catches_the_mutant_that_takes_it_for_gone() {
    let mutant: fn(&mut AgentConfig) =
        |c| c.mutant = Some(berth::core::Mutant::UnknownTakenForGone);
    let world = unknown_after_del(Looks::Unknown, 1, mutant);
    assert!(!world.violations().is_empty());
}

#[test]
fn a_path_seen_there_later_is_evidence_of_its_end_though_add_could_not_tell() {
    let mut world = World::new(23, Faults::default());
    world.add_pool("p", &[&["10.0.0.0/29"]], Some(4));
    world.add_node("n0");
    world.run_for(seconds(1));
    let mut ailments = Ailments {
        looks: Looks::Unknown,
        ..Ailments::default()
    };
    world.set_ailments("n0", ailments);
    for name in ["a", "b"] {
        pod(&mut world, "n0", name);
    }
    world.run_for(seconds(3));
    ailments.looks = Looks::True;
    world.set_ailments("n0", ailments);
    world.remove_pod("a");
    world.send_del("a");
    world.run_for(seconds(10));
    // From now on the runtime is of no help.
    ailments.runtime_silent = true;
    world.set_ailments("n0", ailments);
    world.end_unseen("a");
    world.run_for(seconds(10));
    assert_eq!(world.held_by(), ["pod-b"]);
}

#[test]
fn a_del_that_cannot_be_read_has_everything_looked_at() {
    let mut world = World::new(24, Faults::default());
    world.add_pool("p", &[&["10.0.0.0/29"]], Some(4));
    world.add_node("n0");
    world.run_for(seconds(1));
    for name in ["a", "b"] {
        pod(&mut world, "n0", name);
    }
    world.run_for(seconds(3));
    let before = world.addresses_of("a");
    world.kill_agent("n0");
    world.send_del("a");
    world.spoil_spool("n0");
    world.end_unseen("a");
    world.start_agent("n0");
    world.run_for(seconds(30));
    assert!(
        world
            .events("n0")
            .iter()
            .any(|(r, _)| *r == "DelUnreadable")
    );
    let bound = world.journal("n0").iter().any(|entry| {
        matches!(entry, berth::core::journal::Entry::Ended { attachment }
            if attachment.container.starts_with("pod-a"))
    });
    assert!(bound, "its end is found: {before:?} follows the Pod again");
}

#[test]
fn an_order_stands_in_for_no_two_witnesses_and_the_runtime_ends_what_only_it_can_tell() {
    use berth::core::objects::{ANNOTATION_RELEASE, Kind, Object};
    let mut world = World::new(25, Faults::default());
    world.add_pool("p", &[&["10.0.0.0/29"]], Some(4));
    world.add_node("n0");
    world.run_for(seconds(1));
    for name in ["a", "b"] {
        pod(&mut world, "n0", name);
    }
    world.run_for(seconds(3));
    world.set_ailments(
        "n0",
        Ailments {
            looks: Looks::Unknown,
            runtime_silent: true,
            ..Ailments::default()
        },
    );
    world.remove_pod("a");
    world.send_del("a");
    world.end_unseen("a");
    world.run_for(seconds(90));
    assert_eq!(world.held_by(), ["pod-a", "pod-b"], "it cannot be told");
    assert!(world.events("n0").iter().any(|(r, _)| *r == "ReleaseHeld"));
    world.with_store(|store| {
        let Some(Object::BerthNode(machine)) = store.of_kind(Kind::BerthNode).next() else {
            panic!("a machine")
        };
        let mut next = (**machine).clone();
        let order = (ANNOTATION_RELEASE.to_owned(), "pod-a".to_owned());
        next.metadata.annotations.extend([order]);
        next.spec.writer = "operator".into();
        store
            .replace(next.into(), berth::core::api::Part::Main)
            .unwrap();
    });
    world.run_for(seconds(30));
    assert_eq!(world.held_by(), ["pod-a", "pod-b"], "nobody can tell");
    assert!(
        world
            .events("n0")
            .iter()
            .any(|(r, _)| *r == "ReleaseRefused")
    );
    world.set_ailments("n0", Ailments::default());
    world.run_for(seconds(60));
    assert_eq!(world.held_by(), ["pod-b"]);
}

#[test]
fn what_ended_untold_is_free_within_the_published_bound() {
    // 90 s, of which the ledger sees the write.
    let mut world = World::new(26, Faults::default());
    world.add_pool("p", &[&["10.0.0.0/29"]], Some(4));
    world.add_node("n0");
    world.run_for(seconds(1));
    for name in ["a", "b", "c"] {
        pod(&mut world, "n0", name);
    }
    world.run_for(seconds(20));
    world.end_all_silently("n0");
    world.run_for(Duration::from_secs(90));
    assert_eq!(world.held_by(), Vec::<String>::new(), "all together, too");
}

#[test]
fn a_sandbox_that_ends_by_itself_leaves_its_address_to_the_next_one_of_its_pod() {
    // As many addresses as Pods: there is no other.
    let mut world = World::new(27, Faults::default());
    world.add_pool("p", &[&["10.0.0.0/31"]], Some(2));
    world.add_node("n0");
    world.run_for(seconds(1));
    for name in ["a", "b"] {
        pod(&mut world, "n0", name);
    }
    world.run_for(seconds(20));
    let before = world.addresses_of("a");
    for _ in 0..3 {
        world.lose_sandbox("a", seconds(1));
        world.run_for(seconds(20));
        assert_eq!(world.addresses_of("a"), before);
        assert_eq!(world.held_by(), ["pod-a", "pod-b"]);
    }
    assert_eq!(world.violations(), []);
}

#[test]
fn a_second_address_of_a_pod_ends_with_the_sandbox_that_had_the_first() {
    let mut world = World::new(28, Faults::default());
    world.add_pool("p", &[&["10.0.0.0/30"]], Some(4));
    world.add_node("n0");
    world.run_for(seconds(1));
    pod(&mut world, "n0", "a");
    world.run_for(seconds(20));
    // While the runtime cannot be asked, the next sandbox takes another address.
    let silent = Ailments {
        runtime_silent: true,
        ..Ailments::default()
    };
    world.set_ailments("n0", silent);
    world.lose_sandbox("a", seconds(1));
    world.run_for(seconds(20));
    assert_eq!(world.held_by(), ["pod-a", "pod-a"]);
    world.set_ailments("n0", Ailments::default());
    world.run_for(seconds(60));
    assert_eq!(world.held_by(), ["pod-a"]);
    assert_eq!(world.violations(), []);
}
