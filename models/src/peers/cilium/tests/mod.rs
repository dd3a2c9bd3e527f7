//! Claims about Cilium: the requests of a Pod, podCIDRs that never grow, and what a killed plugin
//! leaves behind. The limiter's derived table is in another file.

mod limiter_table;

use std::collections::BTreeMap;
use std::time::Duration;

use super::Cilium;
use super::limiter::Settings;
use super::parameters::CiliumParameters;
use crate::cni::{NodeChange, Verb};
use crate::ids::{NodeIndex, PodUid};
use crate::ipam::Ipam;
use crate::parameters::Table;
use crate::peers::Pool;
use crate::peers::harness::{World, dual_pool, pool};

/// The limiter of endpoint creation as released.
pub(super) fn settings() -> Settings {
    let parameters = CiliumParameters::read(&Table::released()).unwrap();
    super::agent::create_settings(&parameters)
}

fn world(pool: &Pool, workers: u32, more: &[&str]) -> World<Cilium> {
    let mut world = World::new("measured", more, workers, 7, |table| {
        Cilium::new(pool.clone(), table).unwrap()
    });
    world.pass(Duration::from_secs(1));
    world
}

fn pod(world: &mut World<Cilium>, name: &'static str, app: &str) -> (&'static str, PodUid) {
    let pod = (name, world.create_pod(name, 0, app));
    world.pass(Duration::from_secs(1));
    pod
}

#[test]
fn the_first_pod_of_a_label_set_costs_one_request_and_the_next_none() {
    let mut world = world(&dual_pool(2000), 1, &["cilium.endpoint_patches=1"]);
    let first = pod(&mut world, "first", "web");
    let addresses = world.run(0, Verb::Add, 1, first).unwrap().addresses;
    assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6());
    assert_eq!(world.requests(), ["POST ciliumidentities"]);
    world.pass(Duration::from_secs(30));
    let endpoint = [
        "GET ciliumendpoints",
        "POST ciliumendpoints",
        "PATCH ciliumendpoints",
    ];
    assert_eq!(world.requests()[1..], endpoint);
    world.log.clear();
    let second = pod(&mut world, "second", "web");
    world.run(0, Verb::Add, 2, second).unwrap();
    assert!(world.requests().is_empty(), "{:?}", world.requests());
    world.pass(Duration::from_secs(30));
    world.log.clear();
    world.run(0, Verb::Del, 1, first).unwrap();
    world.run(0, Verb::Del, 1, first).unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.requests(), ["DELETE ciliumendpoints"]);
    // Free at once: the next Pod has it again.
    let third = pod(&mut world, "third", "web");
    assert_eq!(
        world.run(0, Verb::Add, 3, third).unwrap().addresses,
        addresses
    );
}

#[test]
fn a_pod_of_the_same_labels_on_another_node_uses_the_identity() {
    let mut world = world(&pool(2000), 2, &[]);
    let first = pod(&mut world, "first", "web");
    world.run(0, Verb::Add, 1, first).unwrap();
    world.pass(Duration::from_secs(5));
    let other = ("other", world.create_pod("other", 1, "web"));
    world.pass(Duration::from_secs(1));
    world.run(1, Verb::Add, 2, other).unwrap();
    assert_eq!(world.counter("cilium_identities_created"), 1);
}

/// How many Pods of 130 get an address on each of some nodes.
fn capacities(addresses: u32, nodes: &[u32], more: &[&str]) -> Vec<usize> {
    let fast = [
        "cilium.cpu_load=0",
        "cilium.cpu_regenerate=0",
        "cilium.cpu_compile=0",
    ];
    let settings = [&fast[..], more].concat();
    let mut world = world(&pool(addresses), 9, &settings);
    let mut given: BTreeMap<u32, usize> = BTreeMap::new();
    for node in nodes {
        given.insert(*node, 0);
        for number in 0..130 {
            let name = format!("pod-{node}-{number}");
            let uid = world.create_pod(&name, *node, "app");
            world.pass(Duration::from_millis(500));
            let answer = world.run(*node, Verb::Add, node * 1000 + number, (&name, uid));
            match answer {
                Ok(_) => *given.entry(*node).or_insert(0) += 1,
                Err(error) => assert_eq!(error.message, "range is full"),
            }
        }
    }
    given.into_values().collect()
}

#[test]
fn a_pod_cidr_is_cut_to_fit_every_node_and_never_grows() {
    // Ten machines: 1000 addresses are /26 with 64 - 4, 2000 are /25 with 128 - 4.
    assert_eq!(capacities(1000, &[0, 8], &[]), [60, 60]);
    assert_eq!(capacities(2000, &[3], &[]), [124]);
    // As given, 1000 addresses are seven /25: the others have nothing.
    let given = ["cilium.mask_v4=25", "cilium.mask_fits_nodes=false"];
    assert_eq!(capacities(1000, &[6, 7], &given), [124, 0]);
}

#[test]
fn a_killed_plugin_cancels_its_request_and_its_address_expires() {
    let mut world = world(&pool(10), 0, &["cilium.node_addresses=1"]);
    let first = pod(&mut world, "first", "web");
    let call = world.exec(world.queue.now(), 0, Verb::Add, 1, first);
    world.pass(Duration::from_millis(500));
    world.act(|cilium, context| cilium.killed(NodeIndex(0), call, context));
    world.pass(Duration::from_secs(30));
    assert_eq!(world.counter("cilium_builds"), 0, "the build was canceled");
    world.run(0, Verb::Del, 1, first).unwrap();
    world.pass(Duration::from_mins(9));
    assert_eq!(world.counter("cilium_addresses_expired"), 0);
    world.pass(Duration::from_mins(2));
    assert_eq!(world.counter("cilium_addresses_expired"), 1);
}

#[test]
fn a_reboot_frees_every_address_and_adds_wait_for_the_agent() {
    let mut world = world(&pool(2000), 1, &[]);
    let first = pod(&mut world, "first", "web");
    let before = world.run(0, Verb::Add, 1, first).unwrap();
    world.act(|cilium, context| cilium.node_changed(NodeIndex(0), NodeChange::Down, context));
    world.act(|cilium, context| cilium.node_changed(NodeIndex(0), NodeChange::Up, context));
    world.run(0, Verb::Del, 1, first).unwrap();
    let since = world.queue.now();
    let after = world.run(0, Verb::Add, 2, first).unwrap();
    assert!(world.queue.now() - since >= Duration::from_secs(20));
    assert_eq!(before, after);
}
