//! Claims about Calico: its calls and their order, the time under the lock, what happens when
//! blocks run out, and what a killed process leaves behind. What waits for the lock, and for how
//! long, is in another file.

mod lock_table;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use super::Calico;
use crate::cni::{NodeChange, Verb};
use crate::ids::{NodeIndex, PodUid};
use crate::ipam::Ipam;
use crate::peers::Pool;
use crate::peers::harness::{World, dual_pool, pool};

/// No CPU anywhere: only calls take time.
const NO_CPU: [&str; 6] = [
    "node.exec_cpu=0",
    "calico.cpu_call=0",
    "calico.cpu_netlink=0",
    "calico.cpu_chained=0",
    "calico.link_local_wait=0",
    "calico.tunnel_addresses=false",
];

fn world(pool: &Pool, workers: u32, more: &[&str]) -> World<Calico> {
    let settings: Vec<&str> = ["api.fixed_call=20..20"]
        .iter()
        .chain(&NO_CPU)
        .chain(more)
        .copied()
        .collect();
    World::new("event-model-check", &settings, workers, 7, |table| {
        Calico::new(pool, table).unwrap()
    })
}

fn add(world: &mut World<Calico>, node: u32, number: u32) -> Result<Vec<IpAddr>, String> {
    let name = format!("pod-{number}");
    let pod = world.create_pod(&name, node, "app");
    let answer = world.run(node, Verb::Add, number, (&name, pod));
    answer
        .map(|assigned| assigned.addresses)
        .map_err(|error| error.message)
}

fn requests(world: &mut World<Calico>) -> Vec<String> {
    let requests = world.requests();
    world.log.clear();
    requests
}

const BEFORE_THE_LOCK: [&str; 6] = [
    "GET clusterinformations",
    "GET pods",
    "GET namespaces",
    "GET pods",
    "LIST ippools",
    "LIST ippools",
];
const WITH_ROOM: [&str; 10] = [
    "LIST ipreservations",
    "GET nodes",
    "LIST ippools",
    "LIST blockaffinities",
    "GET ipamconfigs",
    "GET blockaffinities",
    "GET ipamblocks",
    "GET ipamhandles",
    "POST ipamhandles",
    "PUT ipamblocks",
];
const CLAIM: [&str; 8] = [
    "GET ipamconfigs",
    "LIST ipamblocks",
    "POST blockaffinities",
    "GET ipamblocks",
    "PUT blockaffinities",
    "GET ipamconfigs",
    "POST ipamblocks",
    "PUT blockaffinities",
];

#[test]
fn a_clean_add_makes_seventeen_calls_and_the_first_claims_a_block_with_eight_more() {
    let mut world = world(&pool(2000), 1, &[]);
    add(&mut world, 0, 1).unwrap();
    let mut first: Vec<&str> = BEFORE_THE_LOCK.to_vec();
    first.extend(&WITH_ROOM[..5]);
    first.extend(CLAIM);
    first.extend(&WITH_ROOM[7..]);
    first.push("PATCH pods");
    assert_eq!(requests(&mut world), first);
    add(&mut world, 0, 2).unwrap();
    let clean: Vec<&str> = [&BEFORE_THE_LOCK[..], &WITH_ROOM, &["PATCH pods"]].concat();
    assert_eq!(clean.len(), 17);
    assert_eq!(requests(&mut world), clean);
    assert_eq!(world.counter("calico_locked_calls"), 16 + 10);
}

#[test]
fn a_del_makes_thirteen_calls_and_a_second_one_finds_nothing() {
    let mut world = world(&pool(2000), 1, &[]);
    let pod = ("pod-1", world.create_pod("pod-1", 0, "app"));
    world.run(0, Verb::Add, 1, pod).unwrap();
    requests(&mut world);
    world.run(0, Verb::Del, 1, pod).unwrap();
    let expected = [
        "GET clusterinformations",
        "GET pods",
        "PATCH pods",
        "GET ipamhandles",
        "GET ipamblocks",
        "PUT ipamblocks",
        "GET ipamhandles",
        "PUT ipamhandles",
        "GET ipamhandles",
        "DELETE ipamhandles",
        "GET nodes",
        "LIST ippools",
        "GET ipamhandles",
    ];
    assert_eq!(requests(&mut world), expected);
    world.run(0, Verb::Del, 1, pod).unwrap();
    // The Pod still names the sandbox, so its annotations are written once more.
    assert_eq!(
        requests(&mut world)[3..],
        ["GET ipamhandles", "GET ipamhandles"]
    );
}

#[test]
fn two_families_are_two_rounds_under_one_lock() {
    let mut world = world(&dual_pool(2000), 1, &[]);
    let first = add(&mut world, 0, 1).unwrap();
    assert!(first[0].is_ipv4() && first[1].is_ipv6());
    requests(&mut world);
    add(&mut world, 0, 2).unwrap();
    let mut second = WITH_ROOM;
    second[8] = "PUT ipamhandles";
    let clean = [&BEFORE_THE_LOCK[..], &WITH_ROOM, &second, &["PATCH pods"]].concat();
    assert_eq!(requests(&mut world), clean);
}

#[test]
fn a_hundred_pods_on_an_empty_node_are_1084_calls_under_the_lock() {
    let mut world = world(&pool(2000), 1, &[]);
    for number in 1..=100 {
        add(&mut world, 0, number).unwrap();
    }
    assert_eq!(world.counter("calico_locked_calls"), 1084);
    assert_eq!(world.counter("calico_blocks_claimed"), 2);
    // 1084 calls of 20 ms, one after the other.
    assert_eq!(world.counter("calico_lock_held_ms_max"), 1084 * 20);
}

#[test]
fn addresses_come_back_last_in_the_order_of_their_release() {
    let mut world = world(&pool(4), 1, &[]);
    let pods: Vec<(String, PodUid)> = (1..=7)
        .map(|n| {
            (
                format!("pod-{n}"),
                world.create_pod(&format!("pod-{n}"), 0, "app"),
            )
        })
        .collect();
    let mut run = |verb, n: usize| {
        let pod = (&*pods[n - 1].0, pods[n - 1].1);
        world
            .run(0, verb, n as u32, pod)
            .map(|assigned| assigned.addresses)
    };
    let two = run(Verb::Add, 1).and_then(|_| run(Verb::Add, 2)).unwrap();
    run(Verb::Del, 1).unwrap();
    run(Verb::Add, 3).unwrap();
    run(Verb::Add, 4).unwrap();
    run(Verb::Del, 2).unwrap();
    assert_ne!(
        run(Verb::Add, 5).unwrap(),
        two,
        "the one released first is used first"
    );
    assert_eq!(run(Verb::Add, 6).unwrap(), two);
    let full = run(Verb::Add, 7).unwrap_err();
    assert!(full.message.contains("Full"), "{}", full.message);
}

/// A hundred Pods on each of ten nodes; distinct addresses given, and how many Pods failed.
fn full_house(more: &[&str]) -> (World<Calico>, usize, usize) {
    let settings = [&["api.fixed_call=1..2"], more].concat();
    let mut world = world(&pool(1000), 10, &settings);
    let mut waiting = BTreeSet::new();
    for number in 0..1000 {
        let (name, node) = (format!("pod-{number}"), number % 10);
        let pod = world.create_pod(&name, node, "app");
        waiting.insert(world.exec(SimInstant::ZERO, node, Verb::Add, number + 1, (&name, pod)));
    }
    let (mut given, mut failed) = (BTreeSet::new(), 0);
    while !waiting.is_empty() {
        if let Some((id, answer)) = world.step() {
            waiting.remove(&id);
            match answer {
                Ok(assigned) => assert!(given.insert(assigned.addresses), "given twice"),
                Err(_) => failed += 1,
            }
        }
    }
    (world, given.len(), failed)
}

#[test]
fn exactly_as_many_addresses_as_pods_fit_by_borrowing() {
    let (world, given, failed) = full_house(&[]);
    assert_eq!((given, failed), (1000, 0));
    assert!(world.counter("calico_borrowed") >= 100);
    assert_eq!(world.counter("calico_blocks_claimed"), 16);
}

#[test]
fn tunnel_addresses_leave_ten_pods_without() {
    // The machine of the apiserver has one as well.
    let (_, given, failed) = full_house(&["calico.tunnel_addresses=true"]);
    assert_eq!((given, failed), (989, 11));
}

#[test]
fn strict_affinity_leaves_what_would_be_borrowed() {
    let (world, given, failed) = full_house(&["calico.strict_affinity=true"]);
    assert_eq!(world.counter("calico_borrowed"), 0);
    assert!((100..=200).contains(&failed), "{failed}");
    assert_eq!(given + failed, 1000);
}

#[test]
fn a_killed_plugin_leaves_its_child_and_the_collector_finds_the_address() {
    let mut world = world(&pool(2000), 1, &[]);
    let pod = ("pod-1", world.create_pod("pod-1", 0, "app"));
    let call = world.exec(world.queue.now(), 0, Verb::Add, 1, pod);
    // Six calls before the lock; the child is at work.
    world.pass(Duration::from_millis(150));
    world.act(|calico, context| calico.killed(NodeIndex(0), call, context));
    world.pass(Duration::from_secs(2));
    let allocated = |world: &World<Calico>| {
        let blocks = world.kernel.api.customs(super::BLOCKS);
        let used = blocks.iter().map(super::object::parse::<super::Block>);
        used.map(|block| block.body.slots.len()).sum::<usize>()
    };
    assert_eq!(allocated(&world), 1, "the child went on");
    let request = crate::request::Request::DeletePod {
        pod: pod.1,
        grace: Some(Duration::ZERO),
    };
    world
        .act(|_, context| context.api.install(&request, &mut context.core))
        .unwrap();
    world.pass(Duration::from_mins(14));
    assert_eq!(allocated(&world), 1, "still in its grace period");
    world.pass(Duration::from_mins(16));
    assert_eq!(allocated(&world), 0);
    assert_eq!(world.counter("calico_addresses_reclaimed"), 1);
}

#[test]
fn a_lost_machine_loses_its_lock_and_comes_back() {
    let mut world = world(&pool(2000), 1, &[]);
    let pod = ("pod-1", world.create_pod("pod-1", 0, "app"));
    world.exec(world.queue.now(), 0, Verb::Add, 1, pod);
    world.pass(Duration::from_millis(250));
    world.act(|calico, context| calico.node_changed(NodeIndex(0), NodeChange::Down, context));
    world.act(|calico, context| calico.node_changed(NodeIndex(0), NodeChange::Up, context));
    world.pass(Duration::from_secs(1));
    world.run(0, Verb::Add, 2, pod).unwrap();
    world.run(0, Verb::Del, 1, pod).unwrap();
    world.run(0, Verb::Del, 2, pod).unwrap();
}
