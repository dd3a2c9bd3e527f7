//! Claims about Cilium: the limiter against its derived table, the requests of a Pod, podCIDRs that
//! never grow, and what a killed plugin leaves behind.

use std::collections::BTreeMap;
use std::time::Duration;

use drydock_engine::stream::Stream;
use drydock_engine::time::SimInstant;

use super::Cilium;
use super::limiter::{Limiter, Settings};
use crate::apiserver::ApiServers;
use crate::cni::{Allocated, Assigned, CniError, Ipam, IpamCall, NodeChange, Verb};
use crate::context::Context;
use crate::ids::{IpamCallId, NodeIndex, PodUid, WatchId};
use crate::parameters::Parameters;
use crate::peers::Pool;
use crate::peers::harness::{World, dual_pool, pool};
use crate::peers::process::{NewProcess, Processes};
use crate::request::{Change, Response};

/// The limiter of endpoint creation as released.
pub(super) fn settings() -> Settings {
    super::agent::create_settings(&Parameters::profile("measured").unwrap().cilium)
}

/// An IPAM that is one limiter in front of a build of `mean` give or take 30 %.
struct Alone {
    limiter: Limiter,
    mean: Duration,
    draws: Stream,
    processes: Processes,
}

impl Ipam for Alone {
    fn name(&self) -> &'static str {
        "alone"
    }
    fn start(&mut self, _: &mut Context<'_>) {}
    fn ready(&self) -> bool {
        true
    }
    fn allocated(&self, _: &ApiServers) -> Vec<Allocated> {
        Vec::new()
    }
    fn call(&mut self, call: IpamCall, context: &mut Context<'_>) {
        let (limiter, id) = (self.limiter.clone(), call.id);
        let build = self
            .draws
            .duration(self.mean * 7 / 10..=self.mean * 13 / 10);
        let new = NewProcess {
            node: call.node,
            call: None,
            client: None,
            script: Box::new(move |port| {
                Box::pin(async move {
                    let answer = match limiter.wait(&port).await {
                        Ok(pass) => {
                            port.sleep(build).await;
                            pass.finish(port.now());
                            Ok(Assigned {
                                addresses: Vec::new(),
                            })
                        }
                        Err(_) => Err(CniError {
                            code: 429,
                            message: String::new(),
                        }),
                    };
                    port.exit(id, answer);
                })
            }),
        };
        self.processes.start(new, context);
    }
    fn killed(&mut self, _: NodeIndex, _: IpamCallId, _: &mut Context<'_>) {}
    fn response(&mut self, _: u64, _: Response, _: &mut Context<'_>) {}
    fn watch(&mut self, _: u64, _: WatchId, _: Change, _: &mut Context<'_>) {}
    fn timer(&mut self, _: NodeIndex, token: u64, context: &mut Context<'_>) {
        self.processes.resume(token, context);
    }
    fn cpu_done(&mut self, _: NodeIndex, _: u64, _: &mut Context<'_>) {}
    fn node_changed(&mut self, _: NodeIndex, _: NodeChange, _: &mut Context<'_>) {}
}

fn alone(mean_ms: u64, seed: u64, settings: Settings) -> World<Alone> {
    let mut world = World::new("measured", &[], 1, seed, |_| Alone {
        limiter: Limiter::new(settings),
        mean: Duration::from_millis(mean_ms),
        draws: drydock_engine::stream::Streams::new(seed).stream("test", 0, "builds"),
        processes: Processes::new(),
    });
    world.pass(Duration::ZERO);
    world
}

/// Times of the successes and the number of 429s: arrivals within a span, a 429 comes again after
/// the kubelet's 10 to 15 s and 5 s more.
fn storm(mean_ms: u64, seed: u64, arrivals_s: u64, settings: Settings) -> (Vec<f64>, u32) {
    let mut world = alone(mean_ms, seed, settings);
    let mut draws = world.streams.stream("test", 0, "arrivals");
    for _ in 0..100 {
        let at = draws.duration(Duration::ZERO..=Duration::from_secs(arrivals_s));
        world.exec(SimInstant::ZERO + at, 0, Verb::Add, 1, ("pod", PodUid(0)));
    }
    let (mut done, mut rejected) = (Vec::new(), 0);
    while done.len() < 100 {
        let Some((_, answer)) = world.step() else {
            continue;
        };
        let now = world.queue.now();
        if answer.is_ok() {
            done.push(now.as_nanos() as f64 / 1e9);
        } else {
            rejected += 1;
            let wait = draws.duration(Duration::from_secs(15)..=Duration::from_secs(20));
            world.exec(now + wait, 0, Verb::Add, 1, ("pod", PodUid(0)));
        }
    }
    (done, rejected)
}

/// Seeds 1 to 3 against a row of the derived table: 8 % around its ends and 5 s for the last one
/// that was turned away (it comes again up to 20 s later), a quarter around the rejections.
fn check(mean_ms: u64, last: (f64, f64), rejected: (u32, u32), settings: Settings) {
    for seed in 1..=3 {
        let (done, turned_away) = storm(mean_ms, seed, 30, settings);
        let text = format!("{mean_ms} ms: {:.0} s, {turned_away} rejected", done[99]);
        assert!(
            (last.0 * 0.92..=last.1 * 1.08 + 5.0).contains(&done[99]),
            "{text}"
        );
        let (low, high) = (rejected.0 * 3 / 4, rejected.1 * 5 / 4 + 3);
        assert!((low..=high).contains(&turned_away), "{text}");
    }
}

#[test]
fn the_derived_table_of_build_times_comes_out() {
    check(400, (37.0, 38.0), (0, 0), settings());
    check(750, (68.0, 72.0), (0, 0), settings());
    check(1000, (91.0, 106.0), (0, 4), settings());
    check(1500, (134.0, 140.0), (30, 33), settings());
    check(2000, (188.0, 195.0), (51, 57), settings());
    check(2250, (207.0, 212.0), (67, 70), settings());
    check(2500, (227.0, 232.0), (78, 82), settings());
    check(3000, (272.0, 284.0), (101, 109), settings());
}

#[test]
fn before_1_14_the_end_was_the_same_with_more_rejections() {
    let older = Settings {
        wait_max: Some(Duration::from_secs(15)),
        parallel_min: 1,
        ..settings()
    };
    check(750, (68.0, 71.0), (31, 33), older);
    check(1500, (137.0, 142.0), (114, 125), older);
    check(2250, (205.0, 210.0), (204, 219), older);
}

#[test]
fn eight_of_a_cold_burst_run_at_once_and_then_one_per_mean() {
    for mean_ms in [1000_u64, 2000] {
        let (done, _) = storm(mean_ms, 1, 0, settings());
        let mean = mean_ms as f64 / 1000.0;
        let at_once = done.iter().filter(|at| **at <= mean * 1.3).count();
        assert_eq!(at_once, 8, "{done:?}");
        // T = (N - 8) m, and at most one round more of a request that was turned away.
        let closed = 92.0 * mean;
        let end = done[99];
        assert!((closed * 0.9..=closed + 20.0).contains(&end), "{end}");
    }
}

fn world(pool: &Pool, workers: u32, more: &[&str]) -> World<Cilium> {
    let mut world = World::new("measured", more, workers, 7, |parameters| {
        Cilium::new(pool.clone(), parameters)
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
    assert_eq!(world.requests, ["POST ciliumidentities"]);
    world.pass(Duration::from_secs(30));
    let endpoint = [
        "GET ciliumendpoints",
        "POST ciliumendpoints",
        "PATCH ciliumendpoints",
    ];
    assert_eq!(world.requests[1..], endpoint);
    world.requests.clear();
    let second = pod(&mut world, "second", "web");
    world.run(0, Verb::Add, 2, second).unwrap();
    assert!(world.requests.is_empty(), "{:?}", world.requests);
    world.pass(Duration::from_secs(30));
    world.requests.clear();
    world.run(0, Verb::Del, 1, first).unwrap();
    world.run(0, Verb::Del, 1, first).unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.requests, ["DELETE ciliumendpoints"]);
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
