//! The operator's word that an interface is gone.

use core::time::Duration;

use berth::core::api::Part;
use berth::core::objects::{ANNOTATION_RELEASE, BerthNode, Kind, Object};
use berth::testing::{Ailments, Faults, PodPlan, World};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn world() -> World {
    let mut world = World::new(3, Faults::default());
    world.add_pool("p", &[&["10.0.0.0/29"]], Some(4));
    world.add_node("n0");
    world.run_for(seconds(1));
    for name in ["a", "b", "c"] {
        world.create_pod(PodPlan {
            node: "n0",
            name,
            sandbox_after: Duration::from_millis(100),
        });
    }
    world.run_for(seconds(5));
    assert_eq!(world.running_count(), 3);
    world
}

fn machine(world: &mut World) -> BerthNode {
    world.with_store(|store| {
        let mut machines = store.of_kind(Kind::BerthNode);
        match machines.next() {
            Some(Object::BerthNode(machine)) => (**machine).clone(),
            other => panic!("{other:?}"),
        }
    })
}

fn order(world: &mut World, pods: &str) {
    let mut next = machine(world);
    next.metadata
        .annotations
        .insert(ANNOTATION_RELEASE.into(), pods.into());
    next.spec.writer = "operator".into();
    let written = world.with_store(|store| store.replace(next.into(), Part::Main));
    assert!(written.is_ok(), "{written:?}");
}

fn says(world: &World, reason: &str) -> bool {
    world.events("n0").iter().any(|(said, _)| *said == reason)
}

#[test]
fn what_vanished_all_together_is_held_until_the_operator_gives_the_word() {
    let mut world = world();
    // Were the runtime to say that it has none of them either, they were free without a word.
    world.set_ailments(
        "n0",
        Ailments {
            runtime_silent: true,
            ..Ailments::default()
        },
    );
    world.end_all_silently("n0");
    world.run_for(seconds(120));
    assert!(says(&world, "PathsVanished"));
    assert_eq!(world.held_by(), ["pod-a", "pod-b", "pod-c"]);
    order(&mut world, "pod-a");
    world.run_for(seconds(60));
    assert_eq!(
        world.held_by(),
        ["pod-b", "pod-c"],
        "whom nobody named stays"
    );
    let annotations = machine(&mut world).metadata.annotations;
    assert!(
        !annotations.contains_key(ANNOTATION_RELEASE),
        "it was obeyed"
    );
}

#[test]
fn a_namespace_that_is_there_is_stronger_than_the_word() {
    let mut world = world();
    order(&mut world, "pod-b");
    world.run_for(seconds(60));
    assert_eq!(world.held_by(), ["pod-a", "pod-b", "pod-c"]);
    assert!(says(&world, "ReleaseRefused"));
    assert!(world.violations().is_empty());
}
