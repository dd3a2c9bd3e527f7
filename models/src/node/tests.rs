//! What a node does, seen through what the world observes.

use std::time::Duration;

use drydock_engine::time::SimInstant;

use super::harness::World;
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
    assert!((20..=24).contains(&first), "first after {first} s");
    assert!((59..=64).contains(&last), "last after {last} s");
}

#[test]
fn a_measured_pod_costs_at_most_sixty_node_events_and_its_stated_cpu() {
    let mut world = World::new("measured", &[], 1);
    let idle_events = world.node_event_count;
    let busy = world.kernel.machines[0]
        .cpu
        .busy_core_nanos(world.queue.now());
    for index in 0..100 {
        world.create(&format!("pod-{index}"), 0);
    }
    world.run_for(65);
    let times = world.times(|o| matches!(o, Observation::PodRunning { .. }));
    assert_eq!(times.len(), 100);
    let per_pod = (world.node_event_count - idle_events) / 100;
    assert!(per_pod <= 60, "{per_pod} events per Pod");
    let now = world.queue.now();
    let cpu_ms = (world.kernel.machines[0].cpu.busy_core_nanos(now) - busy) / 100 / 1_000_000;
    // 306 without multus and the IPAM, 150 of multus; relists of 65 s come on top.
    assert!((456..=475).contains(&cpu_ms), "{cpu_ms} CPU-ms per Pod");
}

#[test]
fn statuses_merge_under_a_backlog_and_not_without_one() {
    let mut world = World::new(CHECK, &[], 1);
    let lonely = world.create("lonely", 0);
    world.run_for(30);
    assert_eq!(
        world.parts.nodes.status_patch_count(NODE),
        2,
        "ContainerCreating, then Running"
    );
    assert_eq!(world.times(running(lonely)).len(), 1);
    for index in 0..100 {
        world.create(&format!("pod-{index}"), 0);
    }
    world.run_for(120);
    let patches = world.parts.nodes.status_patch_count(NODE) - 2;
    assert!(
        (100..=140).contains(&patches),
        "{patches} patches for 100 Pods"
    );
}

#[test]
fn relists_come_each_second_and_later_under_load() {
    let mut world = World::new("measured", &[], 1);
    let before = world.parts.nodes.relist_count(NODE);
    world.run_for(100);
    let idle = world.parts.nodes.relist_count(NODE) - before;
    assert!(
        (94..=96).contains(&idle),
        "{idle} relists of 1.05 s in 100 s"
    );
    for index in 0..100 {
        world.create(&format!("pod-{index}"), 0);
    }
    let before = world.parts.nodes.relist_count(NODE);
    world.run_for(30);
    let busy = world.parts.nodes.relist_count(NODE) - before;
    assert!(busy < 28, "{busy} relists in 30 busy seconds");
}

#[test]
fn a_failed_add_is_tried_again_after_ten_to_sixteen_seconds_and_deleted_twice() {
    let mut world = World::new("measured", &[], 1);
    world.parts.ipam.failing_adds = 3;
    let pod = world.create("pod", 0);
    world.run_until_seen(120, running(pod));
    let failed = world.times(|o| matches!(o, Observation::SandboxFailed { .. }));
    let adds: Vec<_> = world
        .parts
        .ipam
        .calls
        .iter()
        .filter(|call| call.1 == Verb::Add)
        .collect();
    assert_eq!((failed.len(), adds.len()), (3, 4));
    for (index, at) in failed.iter().enumerate() {
        let wait = adds[index + 1].0 - *at;
        let (low, high) = (Duration::from_secs(10), Duration::from_millis(16_500));
        assert!((low..=high).contains(&wait), "retried after {wait:?}");
    }
    for add in &adds[..3] {
        let dels = world
            .parts
            .ipam
            .calls
            .iter()
            .filter(|c| c.1 == Verb::Del && c.2 == add.2);
        assert_eq!(dels.count(), 2, "one by multus, one by containerd");
    }
}

#[test]
fn a_hanging_add_is_killed_at_240_s_and_its_orphan_finishes_after_the_del() {
    let mut world = World::new("measured", &[], 1);
    world.parts.ipam.add_delay = Duration::from_mins(5);
    let pod = world.create("pod", 0);
    let started = world.run_until_seen(60, |o| matches!(o, Observation::AddStarted { .. }));
    let ended = world.run_until_seen(300, |o| matches!(o, Observation::AddEnded { .. }));
    let took = (ended - started).as_millis();
    assert!(
        (239_000..=240_000).contains(&took),
        "killed after {took} ms"
    );
    let deleted = world.run_until_seen(60, |o| {
        matches!(o, Observation::IpamDelEnded { ok: true, .. })
    });
    world.parts.ipam.add_delay = Duration::ZERO;
    let orphan = world.run_until_seen(120, |o| {
        matches!(o, Observation::IpamAddEnded { result: Ok(_), .. })
    });
    assert!(orphan > deleted);
    world.run_until_seen(120, running(pod));
    // The orphan found its link gone and gave the address back itself.
    world.run_for(100);
    assert_eq!(world.parts.ipam.inner.taken_count(), 1);
}

#[test]
fn a_name_stays_reserved_while_the_cleanup_of_a_killed_add_hangs() {
    let mut world = World::new("measured", &[], 1);
    world.parts.ipam.add_delay = Duration::from_secs(1000);
    world.parts.ipam.hanging_dels = 1;
    let pod = world.create("pod", 0);
    world.run_until_seen(300, |o| {
        matches!(
            o,
            Observation::SandboxFailed {
                reason: "DeadlineExceeded",
                ..
            }
        )
    });
    world.run_until_seen(20, |o| {
        matches!(
            o,
            Observation::SandboxFailed {
                reason: "name is reserved",
                ..
            }
        )
    });
    world.parts.ipam.add_delay = Duration::ZERO;
    // After its 60 s the cleanup gives up and lists the sandbox; the next sync stops it (DEL
    // again) and takes attempt 1.
    world.run_until_seen(120, running(pod));
    assert_eq!(world.kernel.machines[0].sandboxes.len(), 2);
}

#[test]
fn each_sandbox_sees_three_dels_of_which_multus_passes_the_first_on() {
    let mut world = World::new("measured", &[], 1);
    let pod = world.create("pod", 0);
    world.run_until_seen(30, running(pod));
    world.delete(pod, None);
    let gone = world.run_until_seen(30, |o| matches!(o, Observation::PodGone { .. }));
    world.run_for(150);
    // Multus knows the attachment only until its first DEL: the Pod and the cache are gone after,
    // and it succeeds without calling the IPAM.
    let dels = world.times(|o| matches!(o, Observation::IpamDelEnded { .. }));
    assert_eq!(dels.len(), 1);
    assert!(
        dels[0] < gone,
        "gone from the API means that the first DEL succeeded"
    );
    assert!(world.kernel.machines[0].sandboxes.is_empty());

    let mut world = World::new("measured", &["multus.enabled=false"], 1);
    let pod = world.create("pod", 0);
    world.run_until_seen(30, running(pod));
    world.delete(pod, None);
    world.run_for(180);
    let with_netns: Vec<bool> = (world.log.iter())
        .filter_map(|(_, o)| match o {
            Observation::IpamDelEnded {
                with_netns,
                ok: true,
                ..
            } => Some(*with_netns),
            _ => None,
        })
        .collect();
    assert_eq!(with_netns, [true, false, false]);
}

#[test]
fn the_link_goes_after_the_ipams_del_and_the_namespace_after_the_link() {
    let mut world = World::new("measured", &[], 1);
    let pod = world.create("pod", 0);
    world.run_until_seen(30, running(pod));
    world.delete(pod, None);
    world.run_for(60);
    let position = |wanted: fn(&Observation) -> bool| {
        world
            .log
            .iter()
            .position(|(_, o)| wanted(o))
            .expect("it is in the log")
    };
    let deleting = position(|o| matches!(o, Observation::PodDeleting { .. }));
    let ipam = position(|o| matches!(o, Observation::IpamDelEnded { .. }));
    let link = position(|o| matches!(o, Observation::AddressDown { .. }));
    let netns = position(|o| matches!(o, Observation::NetnsGone { .. }));
    let gone = position(|o| matches!(o, Observation::PodGone { .. }));
    assert!(deleting < ipam && ipam < link && link < netns && netns < gone);
}

#[test]
fn a_link_that_cannot_be_deleted_keeps_its_address_up_until_the_retry() {
    let mut world = World::new("measured", &[], 1);
    let pod = world.create("pod", 0);
    world.run_until_seen(30, running(pod));
    world.act(|nodes, _| nodes.fail_link_deletions(NODE, 1, 3));
    world.delete(pod, None);
    let freed = world.run_until_seen(30, |o| matches!(o, Observation::IpamDelEnded { .. }));
    // The address is free for the IPAM, and still answers here. The first retry follows at once:
    // the container's end is an update of its own. The others wait for the back-off.
    let down = world.run_until_seen(60, |o| {
        matches!(
            o,
            Observation::AddressDown { .. } | Observation::NetnsGone { .. }
        )
    });
    let overlap = (down - freed).as_secs();
    assert!((20..=36).contains(&overlap), "{overlap} s");
}

#[test]
fn a_force_deleted_pod_keeps_its_address_until_the_kubelet_killed_it() {
    let mut world = World::new("measured", &["kubelet.stops_on_sigterm=false"], 1);
    let pod = world.create("pod", 0);
    world.run_until_seen(30, running(pod));
    world.delete(pod, Some(0));
    let gone = world.queue.now();
    let down = world.run_until_seen(60, |o| matches!(o, Observation::AddressDown { .. }));
    assert_eq!(
        seconds(gone, down) / 2,
        15,
        "after the grace period of 30 s"
    );
    world.run_for(120);
    assert_eq!(world.parts.ipam.inner.taken_count(), 0);
    assert!(world.kernel.machines[0].sandboxes.is_empty());
}

#[test]
fn a_pod_that_went_while_the_kubelet_was_away_is_killed_by_its_housekeeping() {
    let mut world = World::new("measured", &["kubelet.stops_on_sigterm=false"], 1);
    let (pod, other) = (world.create("pod", 0), world.create("other", 0));
    world.run_until_seen(60, running(pod));
    world.run_until_seen(60, running(other));
    world.act(|nodes, context| nodes.restart_kubelet(NODE, context));
    world.delete(pod, Some(0));
    let back = world.queue.now();
    let down = world.run_until_seen(60, |o| matches!(o, Observation::AddressDown { .. }));
    // The kubelet's downtime, a pass, and a second of grace.
    let waited = (down - back).as_secs();
    assert!((2..=20).contains(&waited), "{waited} s");
    world.run_for(120);
    assert_eq!(world.parts.ipam.inner.taken_count(), 1);
    assert_eq!(world.kernel.machines[0].sandboxes.len(), 1);
}

#[test]
fn a_reboot_loses_namespaces_and_makes_new_sandboxes_with_the_next_attempt() {
    let mut world = World::new("measured", &[], 1);
    let pods: Vec<PodUid> = (0..5)
        .map(|i| world.create(&format!("pod-{i}"), 0))
        .collect();
    world.run_for(40);
    assert_eq!(world.parts.ipam.inner.taken_count(), 5);
    world.act(|nodes, context| nodes.power_off(NODE, Some(Duration::from_secs(10)), context));
    assert!(world.kernel.machines[0].namespaces.is_empty());
    assert!(
        world.kernel.machines[0]
            .sandboxes
            .values()
            .all(|sandbox| !sandbox.ready)
    );
    let before = world.parts.ipam.calls.len();
    world.run_until_seen(20, |o| matches!(o, Observation::MachineUp { .. }));
    assert_eq!(world.kernel.machines[0].boot, 2);
    world.run_for(120);
    let ready = world.kernel.machines[0]
        .sandboxes
        .values()
        .filter(|sandbox| sandbox.ready)
        .count();
    assert_eq!(
        (ready, world.kernel.machines[0].namespaces.len()),
        (pods.len(), pods.len())
    );
    let after = &world.parts.ipam.calls[before..];
    let first_add = after.iter().position(|call| call.1 == Verb::Add).unwrap();
    assert!(
        after[..first_add].iter().all(|call| call.3.is_none()),
        "DEL with an empty path"
    );
    assert_eq!(world.parts.ipam.inner.taken_count(), 5);
}

#[test]
fn a_kubelet_that_restarts_kills_multus_and_leaves_running_sandboxes_alone() {
    let mut world = World::new("measured", &[], 1);
    let settled = world.create("settled", 0);
    world.run_until_seen(30, running(settled));
    world.parts.ipam.add_delay = Duration::from_secs(5);
    let starting = world.create("starting", 0);
    world.run_until_seen(
        30,
        |o| matches!(o, Observation::IpamAddStarted { pod, .. } if *pod == starting),
    );
    world.run_for(1);
    world.act(|nodes, context| nodes.restart_kubelet(NODE, context));
    let killed = world.times(|o| matches!(o, Observation::AddEnded { ok: false, .. }));
    assert_eq!(killed, [world.queue.now()]);
    world.parts.ipam.add_delay = Duration::ZERO;
    world.run_until_seen(120, running(starting));
    world.run_for(100);
    let downs = world.times(|o| matches!(o, Observation::AddressDown { .. }));
    assert!(downs.is_empty(), "no address that was up went down");
    assert_eq!(world.parts.ipam.inner.taken_count(), 2);
}

#[test]
fn a_containerd_that_restarts_leaves_an_orphan_and_a_sandbox_that_is_not_ready() {
    let mut world = World::new("measured", &[], 1);
    world.parts.ipam.add_delay = Duration::from_secs(5);
    let pod = world.create("pod", 0);
    world.run_until_seen(30, |o| matches!(o, Observation::IpamAddStarted { .. }));
    world.act(|nodes, context| nodes.restart_containerd(NODE, context));
    assert_eq!(world.kernel.machines[0].sandboxes.len(), 1);
    assert!(
        world.kernel.machines[0]
            .sandboxes
            .values()
            .all(|sandbox| !sandbox.ready)
    );
    world.run_until_seen(10, |o| matches!(o, Observation::IpamAddEnded { .. }));
    world.run_until_seen(120, running(pod));
    world.run_for(150);
    assert_eq!(world.parts.ipam.inner.taken_count(), 1);
}

#[test]
fn a_containerd_that_is_stopped_is_back_when_it_was_said_and_not_before() {
    let mut world = World::new("measured", &[], 1);
    let down = Duration::from_secs(40);
    world.act(|nodes, context| assert!(nodes.stop_containerd(NODE, down, context)));
    world.act(|nodes, context| assert!(!nodes.stop_containerd(NODE, down, context)));
    let pod = world.create("pod", 0);
    world.run_for(39);
    assert!(!world.kernel.machines[0].runtime_up);
    assert!(world.kernel.machines[0].sandboxes.is_empty());
    world.run_for(2);
    assert!(world.kernel.machines[0].runtime_up);
    world.run_until_seen(120, running(pod));
}

#[test]
fn a_lost_sandbox_gets_no_del_and_its_pod_a_new_one() {
    let mut world = World::new("measured", &[], 1);
    world.act(|nodes, context| assert!(!nodes.lose_sandbox(NODE, 7, context)));
    let pod = world.create("pod", 0);
    world.run_until_seen(30, running(pod));
    world.act(|nodes, context| assert!(nodes.lose_sandbox(NODE, 7, context)));
    assert!(world.kernel.machines[0].sandboxes.is_empty());
    assert!(world.kernel.machines[0].namespaces.is_empty());
    world.run_for(60);
    let count = |world: &World, seen: fn(&Observation) -> bool| world.times(seen).len();
    let made = count(&world, |o| matches!(o, Observation::NetnsCreated { .. }));
    let deleted = count(&world, |o| matches!(o, Observation::IpamDelEnded { .. }));
    assert_eq!((made, deleted), (2, 0));
    assert_eq!(world.kernel.machines[0].sandboxes.len(), 1);
}

#[test]
fn a_teardown_that_asks_no_plugin_ends_the_namespace_and_is_never_made_up_for() {
    let mut world = World::new("measured", &[], 1);
    let pod = world.create("pod", 0);
    world.run_until_seen(30, running(pod));
    world.act(|nodes, _| nodes.skip_del(NODE));
    world.delete(pod, None);
    world.run_for(300);
    assert!(world.kernel.api.pod(pod).is_none());
    assert!(world.kernel.machines[0].namespaces.is_empty());
    assert!(world.kernel.machines[0].sandboxes.is_empty());
    let deleted = world.times(|o| matches!(o, Observation::IpamDelEnded { .. }));
    assert!(deleted.is_empty());
    // The next one is asked again.
    let next = world.create("next", 0);
    world.run_until_seen(30, running(next));
    world.delete(next, None);
    world.run_until_seen(60, |o| matches!(o, Observation::IpamDelEnded { .. }));
}

#[test]
fn a_pod_beyond_the_nodes_limit_fails_and_gets_no_sandbox() {
    let mut world = World::new("measured", &["kubelet.max_pods=2"], 1);
    for index in 0..3 {
        world.create(&format!("pod-{index}"), 0);
    }
    world.run_for(60);
    assert_eq!(
        world
            .times(|o| matches!(o, Observation::PodRunning { .. }))
            .len(),
        2
    );
    assert_eq!(
        world
            .times(|o| matches!(o, Observation::NetnsCreated { .. }))
            .len(),
        2
    );
}

#[test]
fn a_job_that_ends_gives_its_address_back_before_it_is_deleted() {
    let mut world = World::new("measured", &[], 1);
    let job = world.create_with("job", 0, |spec| spec.run = Some(Duration::from_secs(20)));
    world.run_until_seen(30, running(job));
    world.run_for(60);
    assert!(world.kernel.api.pod(job).unwrap().is_terminal());
    assert_eq!(world.parts.ipam.inner.taken_count(), 0);
    world.delete(job, None);
    world.run_for(30);
    assert!(world.kernel.api.pod(job).is_none());
}

#[test]
fn serial_pulls_bound_the_node() {
    let mut world = World::new(
        "measured",
        &["kubelet.pull_always=true", "kubelet.image_pull=1700"],
        1,
    );
    let start = world.queue.now();
    for index in 0..100 {
        world.create(&format!("pod-{index}"), 0);
    }
    world.run_for(240);
    let times = world.times(|o| matches!(o, Observation::PodRunning { .. }));
    assert_eq!(times.len(), 100);
    let last = seconds(start, times[99]);
    assert!((171..=190).contains(&last), "last after {last} s");
}

#[test]
fn a_killed_ipam_or_multus_fails_its_add_and_the_pod_recovers() {
    for multus in [false, true] {
        let mut world = World::new("measured", &[], 1);
        world.parts.ipam.add_delay = Duration::from_secs(5);
        let pod = world.create("pod", 0);
        world.run_until_seen(30, |o| matches!(o, Observation::IpamAddStarted { .. }));
        world.run_for(1);
        world.parts.ipam.add_delay = Duration::ZERO;
        world.act(|nodes, context| {
            if multus {
                nodes.kill_multus(NODE, context);
            } else {
                nodes.kill_ipam(NODE, context);
            }
        });
        world.run_until_seen(5, |o| matches!(o, Observation::SandboxFailed { .. }));
        world.run_until_seen(60, running(pod));
        world.run_for(100);
        assert_eq!(world.kernel.machines[0].namespaces.len(), 1);
    }
}

#[test]
fn a_pod_that_ran_stays_running_but_not_ready_through_a_reboot() {
    let mut world = World::new("measured", &[], 1);
    let pod = world.create("pod", 0);
    world.run_until_seen(30, running(pod));
    world.act(|nodes, context| nodes.power_off(NODE, Some(Duration::from_secs(1)), context));
    world.run_for(100);
    let status = &world.kernel.api.pod(pod).unwrap().status;
    assert!(status.ready && status.phase == crate::objects::Phase::Running);
    assert_eq!(
        world.times(running(pod)).len(),
        1,
        "it never went back to Pending"
    );
}
