//! Claims about Spiderpool in small clusters with kubelets, multus and macvlan. What its agents do
//! to one another under fixed latencies is in another file.

mod conflicts;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use drydock_engine::stream::Streams;
use drydock_engine::time::SimInstant;
use drydock_traces::workload::{Controller, PodManagement, WorkloadObject};

use super::pools::{POOLS, Status};
use super::{ENDPOINT_KIND, Spiderpool};
use crate::apiserver::{CallEffect, CallFault, CallSelector};
use crate::cluster::{Action, ClusterSpec};
use crate::ids::{NodeIndex, PodUid};
use crate::ipam::IpamFault;
use crate::observation::Observation;
use crate::peers::Pool;
use crate::request::{ApiError, ClientClass};
use crate::testing::{TestCluster, deployments, object, table};

/// A cluster with Spiderpool.
struct World(TestCluster);

impl Deref for World {
    type Target = TestCluster;
    fn deref(&self) -> &TestCluster {
        &self.0
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut TestCluster {
        &mut self.0
    }
}

fn pool(pairs: u8, dual: bool) -> Pool {
    let ip = |text: String| -> IpAddr { text.parse().unwrap() };
    let mut families = vec![vec![(ip("10.0.0.1".into()), ip(format!("10.0.0.{pairs}")))]];
    if dual {
        families.push(vec![(ip("fd00::1".into()), ip(format!("fd00::{pairs:x}")))]);
    }
    Pool::new(families).unwrap()
}

impl World {
    fn new(nodes: usize, objects: Vec<WorkloadObject>, pool: &Pool, set: &[&str]) -> World {
        let quick = ["driver.warm_up=1", "kubelet.qps=500", "kubelet.burst=500"];
        let table = table("measured", &[&quick, set].concat());
        let ipam = Spiderpool::new(pool, &[], &table).unwrap();
        let spec = ClusterSpec::small(nodes, &table, objects, 3);
        World(TestCluster::new(spec, ipam))
    }

    fn run_until(&mut self, seconds: u64, mut done: impl FnMut(&World) -> bool) {
        let end = SimInstant::ZERO + Duration::from_secs(seconds);
        while !done(self) {
            assert!(self.queue.now() < end, "not within {seconds} s");
            assert!(self.step(SimInstant::MAX), "something is queued");
        }
    }

    fn all_run(&mut self, pods: u64, seconds: u64) {
        self.run_until(seconds, |world| world.cluster.census().running() == pods);
    }

    fn total(&self, name: &str) -> u64 {
        let totals = self.cluster.ipam_counters();
        totals.iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn first<T>(&self, wanted: impl Fn(&Observation) -> Option<T>) -> (SimInstant, T) {
        let observed = self.observed.borrow();
        let mut found = observed
            .iter()
            .filter_map(|(at, o)| wanted(o).map(|t| (*at, t)));
        found.next().expect("it was observed")
    }

    /// Requests of the agents between two instants, lists and watches aside.
    fn requests(&self, from: SimInstant, to: SimInstant) -> Vec<String> {
        let observed = self.observed.borrow();
        let request = |(at, observation): &(SimInstant, Observation)| match observation {
            Observation::ApiCall {
                class: ClientClass::IpamNode,
                what,
                ..
            } if (from..=to).contains(at) && !["LIST", "WATCH"].contains(&what.verb) => {
                Some(format!("{} {}", what.verb, what.resource))
            }
            _ => None,
        };
        observed.iter().filter_map(request).collect()
    }

    fn add(&self, pod: PodUid) -> (SimInstant, SimInstant) {
        let (from, ()) = self.first(|o| match o {
            Observation::IpamAddStarted { pod: of, .. } if *of == pod => Some(()),
            _ => None,
        });
        let (to, ()) = self.first(|o| match o {
            Observation::IpamAddEnded {
                pod: of, result, ..
            } if *of == pod && result.is_ok() => Some(()),
            _ => None,
        });
        (from, to)
    }

    /// Records of all pools.
    fn records(&self) -> usize {
        let pools = self.cluster.api().customs(POOLS);
        let records = pools
            .iter()
            .map(|pool| Status::decode(&pool.body).records().len());
        records.sum()
    }

    fn endpoints(&self) -> usize {
        self.cluster.api().customs(ENDPOINT_KIND).len()
    }

    /// Addresses of interfaces, each once.
    fn addresses_up(&self) -> usize {
        let machines = self.cluster.machines().iter();
        let namespaces = machines.flat_map(|machine| machine.namespaces.values());
        let all: Vec<IpAddr> = namespaces.flat_map(|n| n.addresses.clone()).collect();
        let distinct: BTreeSet<IpAddr> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len(), "no address is up twice");
        all.len()
    }
}

fn one_fault(verb: &'static str, resource: &'static str, effect: CallEffect) -> Action {
    Action::Arm(CallFault {
        selector: CallSelector {
            class: Some(ClientClass::IpamNode),
            node: None,
            verb: Some(verb),
            resource: Some(resource),
            writes_only: false,
        },
        nth: 1,
        effect,
    })
}

#[test]
fn an_uncontended_add_makes_five_requests_with_two_families_and_three_with_one() {
    for (dual, expected) in [
        (
            true,
            vec![
                "GET spiderippools",
                "GET spiderippools",
                "PUT spiderippools",
                "PUT spiderippools",
                "POST spiderendpoints",
            ],
        ),
        (
            false,
            vec![
                "GET spiderippools",
                "PUT spiderippools",
                "POST spiderendpoints",
            ],
        ),
    ] {
        let mut world = World::new(1, deployments(1, 1), &pool(4, dual), &[]);
        world.all_run(1, 60);
        let (from, to) = world.add(PodUid(0));
        assert_eq!(world.requests(from, to), expected);
        assert_eq!(world.addresses_up(), if dual { 2 } else { 1 });
        assert_eq!(world.total("conflicts"), 0);
    }
}

#[test]
fn an_uncontended_add_takes_its_exec_and_three_round_trips() {
    let controller = Controller::StatefulSet {
        replicas: 2,
        pod_management: PodManagement::OrderedReady,
    };
    let objects = vec![object("db", controller)];
    let mut world = World::new(1, objects, &pool(4, true), &[]);
    world.all_run(2, 90);
    // The first Pod's ADD waited for the agent's first lists; this one did not.
    let (from, to) = world.add(PodUid(1));
    let taken = (to - from).as_micros();
    // 31 ms of exec and 2 of the agent; GET 2.3, PUT 5.0, POST 3.8 ms, of which two at once share
    // three cores; six hops of 0.2 ms; a disk of 1 to 4 ms for each of two writes in a row.
    assert!((43_000..70_000).contains(&taken), "{taken} us");
}

#[test]
fn a_del_makes_seven_requests_and_the_collector_removes_the_endpoint() {
    let objects = vec![object("bare", Controller::Pod)];
    let mut world = World::new(1, objects, &pool(4, true), &[]);
    world.all_run(1, 60);
    world.run_to(60);
    assert_eq!((world.records(), world.endpoints()), (2, 1));
    let deleted = world.queue.now();
    world.inject(&Action::DeletePod {
        pod: PodUid(0),
        grace: None,
    });
    let ended = |world: &World| {
        let seen = world.observed.borrow();

        seen.iter().find_map(|(at, o)| match o {
            Observation::IpamDelEnded { ok, .. } => Some((*at, *ok)),
            _ => None,
        })
    };
    world.run_until(120, |world| ended(world).is_some());
    let (at, ok) = ended(&world).unwrap();
    assert!(ok);
    let expected = [
        "GET pods",
        "GET spiderendpoints",
        "GET spiderippools",
        "GET spiderippools",
        "PUT spiderippools",
        "PUT spiderippools",
        "PATCH spiderendpoints",
    ];
    assert_eq!(world.requests(deleted, at), expected);
    world.run_to(300);
    assert_eq!((world.records(), world.endpoints()), (0, 0));
    let dels =
        |o: &&(SimInstant, Observation)| matches!(o.1, Observation::IpamDelEnded { ok: true, .. });
    let dels = world.observed.borrow().iter().filter(dels).count();
    assert_eq!(
        dels, 1,
        "multus has forgotten the delegates by the next one"
    );
    assert_eq!(world.addresses_up(), 0);
}

#[test]
fn a_full_pool_refuses_after_one_read_and_serves_the_next_when_one_is_free() {
    let mut world = World::new(1, deployments(1, 3), &pool(2, true), &[]);
    world.run_to(45);
    assert_eq!(world.cluster.census().running(), 2);
    assert!(world.total("used_out") >= 2);
    assert_eq!(world.total("conflicts") + world.total("exhausted"), 0);
    let refused = world.first(|o| match o {
        Observation::IpamAddEnded {
            result: Err((_, text)),
            ..
        } => Some(text.clone()),
        _ => None,
    });
    assert!(
        refused.1.contains("all IP addresses used out"),
        "{}",
        refused.1
    );
    let running = world.first(|o| match o {
        Observation::PodRunning { pod } => Some(*pod),
        _ => None,
    });
    world.inject(&Action::DeletePod {
        pod: running.1,
        grace: None,
    });
    world.run_to(140);
    assert_eq!(world.cluster.census().running(), 2);
    assert_eq!((world.records(), world.addresses_up()), (4, 4));
}

#[test]
fn many_nodes_conflict_on_one_pool_and_no_address_is_given_twice() {
    let set = ["kcm.qps=2000", "kcm.burst=2000"];
    let mut world = World::new(10, deployments(10, 10), &pool(100, true), &set);
    world.all_run(100, 200);
    assert_eq!(
        (world.records(), world.addresses_up(), world.endpoints()),
        (200, 200, 100)
    );
    assert!(
        world.total("conflicts") > 50,
        "{}",
        world.total("conflicts")
    );
    assert_eq!(world.total("second_addresses"), 0);
    // What one family got while the other ran out of attempts is not asked for again.
    assert!(world.total("partial") <= world.total("exhausted"));
}

#[test]
fn writes_of_plugins_that_gave_up_leave_addresses_behind_until_a_scan() {
    let set = [
        "kcm.qps=2000",
        "kcm.burst=2000",
        "spiderpool.add_timeout=1.6",
        "etcd.fsync=500..500",
    ];
    let mut world = World::new(1, deployments(8, 10), &pool(200, false), &set);
    world.all_run(80, 900);
    assert!(world.total("deadlines") > 0);
    // The writes of those that gave up were committed; nobody remembers them.
    assert!(world.total("second_addresses") > 0);
    world.run_for(1300);
    assert_eq!(world.records(), 80);
    assert_eq!(world.addresses_up(), 80);
}

#[test]
fn an_endpoint_that_cannot_be_written_is_tried_again_with_the_same_address() {
    let mut world = World::new(1, deployments(1, 1), &pool(4, true), &[]);
    let refusal = CallEffect::Answer(ApiError::Unavailable { unknown: false });
    world.inject(&one_fault("POST", "spiderendpoints", refusal));
    world.all_run(1, 60);
    assert_eq!(world.total("endpoint_refused"), 1);
    assert_eq!((world.records(), world.total("second_addresses")), (2, 0));
}

#[test]
fn an_agent_that_forgot_takes_a_second_address_unless_the_pool_is_full() {
    for (pairs, second, records) in [(1, 0, 2), (4, 2, 4)] {
        let mut world = World::new(1, deployments(1, 1), &pool(pairs, true), &[]);
        let refusal = CallEffect::Answer(ApiError::Unavailable { unknown: false });
        world.inject(&one_fault("POST", "spiderendpoints", refusal));
        world.run_until(60, |world| world.total("endpoint_refused") == 1);
        let kill = IpamFault::KillAgent {
            node: NodeIndex(0),
            restart_after: Duration::from_secs(2),
        };
        world.with_ipam(|ipam, context| ipam.inject(kill, context));
        world.all_run(1, 90);
        assert_eq!(world.total("second_addresses"), second, "{pairs} pairs");
        assert_eq!(world.records(), records);
        // The scan of 600 s frees what no endpoint lists.
        world.run_to(620);
        assert_eq!(world.records(), 2);
        assert_eq!(world.total("scanned_away"), second);
    }
}

#[test]
fn addresses_of_a_machine_that_never_comes_back_are_traced_and_freed() {
    let mut world = World::new(5, deployments(1, 10), &pool(20, true), &[]);
    world.all_run(10, 60);
    // Not the machine that the controller runs on, which does not move here.
    let mut draws = Streams::new(3).stream("spiderpool", 0, "controller");
    let node = NodeIndex(if draws.below(5) == 3 { 4 } else { 3 });
    let name = world.cluster.machines()[node.index()].node_name.clone();
    world.inject(&Action::PowerOff {
        node,
        return_after: None,
    });
    world.run_to(60);
    let pods: Vec<PodUid> = world
        .cluster
        .api()
        .pods()
        .filter(|pod| pod.node_name.as_ref() == Some(&name))
        .map(|pod| pod.uid)
        .collect();
    assert!(!pods.is_empty());
    for pod in &pods {
        world.inject(&Action::DeletePod {
            pod: *pod,
            grace: Some(Duration::ZERO),
        });
    }
    world.run_to(120);
    assert!(world.total("traced") >= pods.len() as u64);
    assert_eq!(
        world.endpoints(),
        world
            .cluster
            .api()
            .pods()
            .filter(|p| p.node_name.as_ref() != Some(&name))
            .count()
    );
}

#[test]
fn a_rebooted_machine_serves_again_with_the_addresses_that_its_pods_have() {
    let mut world = World::new(4, deployments(1, 8), &pool(20, true), &[]);
    world.all_run(8, 60);
    let before = world.records();
    world.inject(&Action::PowerOff {
        node: NodeIndex(3),
        return_after: Some(Duration::from_secs(20)),
    });
    world.run_to(250);
    assert_eq!(
        (before, world.records(), world.addresses_up()),
        (16, 16, 16)
    );
    assert!(
        world.total("idempotent") > 0,
        "the endpoint answers for the same Pod"
    );
}

#[test]
fn a_stateful_pod_keeps_its_address_over_its_re_creation() {
    let controller = Controller::StatefulSet {
        replicas: 2,
        pod_management: PodManagement::Parallel,
    };
    let mut world = World::new(1, vec![object("db", controller)], &pool(20, true), &[]);
    world.all_run(2, 60);
    let address = |pod: PodUid, world: &World| {
        world
            .first(|o| match o {
                Observation::IpamAddEnded {
                    pod: of,
                    result: Ok(addresses),
                    ..
                } if *of == pod => Some(addresses.clone()),
                _ => None,
            })
            .1
    };
    let before = address(PodUid(0), &world);
    world.inject(&Action::DeletePod {
        pod: PodUid(0),
        grace: None,
    });
    world.run_to(130);
    assert_eq!(world.cluster.census().running(), 2);
    assert_eq!(address(PodUid(2), &world), before);
    assert_eq!((world.records(), world.endpoints()), (4, 2));
}

#[test]
fn a_coordinator_that_comes_too_early_fails_the_add_and_the_next_is_free_of_requests() {
    // The agent's cache lags behind its own write by more than macvlan takes.
    let set = ["api.watch_delay=400..400"];
    let mut world = World::new(1, deployments(1, 1), &pool(4, true), &set);
    world.all_run(1, 90);
    assert_eq!(world.total("coordinator_too_early"), 1);
    assert_eq!(world.total("idempotent"), 1);
    assert_eq!(world.records(), 2);
}

#[test]
fn equal_seeds_give_equal_logs() {
    let digest = || {
        let mut world = World::new(4, deployments(4, 5), &pool(40, true), &[]);
        world.all_run(20, 100);
        world.log.digest()
    };
    assert_eq!(digest(), digest());
}

#[test]
fn all_pods_deleted_at_once_return_and_every_address_is_accounted_for() {
    // Exactly as many addresses as Pods: new Pods wait for those that go.
    let mut world = World::new(4, deployments(4, 10), &pool(40, true), &[]);
    world.all_run(40, 100);
    let pods = world.pods();
    for pod in pods {
        world.inject(&Action::DeletePod { pod, grace: None });
    }
    world.run_for(200);
    assert_eq!(world.cluster.census().running(), 40);
    let (records, endpoints) = (world.records(), world.endpoints());
    assert_eq!((records, endpoints, world.addresses_up()), (80, 40, 80));
}
