//! What a node does, seen through what the world observes.

#[path = "harness.rs"]
mod harness;

use std::time::Duration;

use drydock_engine::time::SimInstant;

use self::harness::World;
use crate::cni::Verb;
use crate::ids::{NodeIndex, PodUid};
use crate::observation::Observation;

const CHECK: &str = "event-model-check";
const NODE: NodeIndex = NodeIndex(0);

fn running(pod: PodUid) -> impl Fn(&Observation) -> bool {
    move |o| matches!(o, Observation::PodRunning { pod: p } if *p == pod)
}

fn seconds(from: SimInstant, to: SimInstant) -> u64 {
    (to - from).as_secs()
}

#[test]
fn a_hundred_pods_at_once_are_bound_by_the_kubelets_bucket() {
    let mut world = World::new(CHECK, &[], 1);
    let start = world.queue.now();
    for index in 0..100 {
        world.create(&format!("pod-{index}"), 0);
    }
    world.run_for(120);
    let times = world.times(|o| matches!(o, Observation::PodRunning { .. }));
    assert_eq!(times.len(), 100);
    let (first, last) = (seconds(start, times[0]), seconds(start, times[99]));
    println!("first {first} last {last} events {}", world.node_event_count);
    assert!((20..=24).contains(&first), "first after {first} s");
    assert!((59..=64).contains(&last), "last after {last} s");
}
