//! What the mechanism does, seen through requests, observations and counters of small clusters. The
//! controller's throughput is in another file.

mod throughput;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use drydock_traces::workload::{Controller, WorkloadObject};

use super::KubeOvn;
use crate::apiserver::{CallEffect, CallFault, CallSelector};
use crate::cluster::{Action, ClusterSpec};
use crate::ids::NodeIndex;
use crate::observation::Observation;
use crate::peers::Pool;
use crate::request::{ApiError, ClientClass};
use crate::testing::{TestCluster, deployments, object, table};

/// A cluster with Kube-OVN.
struct Bench(TestCluster);

impl Deref for Bench {
    type Target = TestCluster;
    fn deref(&self) -> &TestCluster {
        &self.0
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut TestCluster {
        &mut self.0
    }
}

impl Bench {
    fn new(nodes: usize, addresses: u16, objects: Vec<WorkloadObject>, set: &[&str]) -> Bench {
        let table = table("measured", set);
        let last = u32::from_be_bytes([10, 0, 0, 0]) + u32::from(addresses);
        let range = (
            IpAddr::from([10, 0, 0, 1]),
            IpAddr::from(last.to_be_bytes()),
        );
        let pool = Pool::new(vec![vec![range]]).expect("one range");
        let ipam = KubeOvn::new(pool, &table).expect("readable constants");
        let spec = ClusterSpec::small(nodes, &table, objects, 7);
        Bench(TestCluster::new(spec, ipam))
    }

    fn counter(&self, name: &str) -> u64 {
        self.counters().get(name).copied().unwrap_or(0)
    }

    /// Successful requests of a class that are not watches, lists or of the subnet's status.
    fn requests(&self, class: ClientClass) -> Vec<String> {
        let observed = self.observed.borrow();
        observed
            .iter()
            .filter_map(|(_, observation)| match observation {
                Observation::ApiCall {
                    class: asked,
                    what,
                    result: Ok(()),
                    ..
                } if *asked == class
                    && !matches!(what.verb, "WATCH" | "LIST")
                    && what.resource != "subnets" =>
                {
                    Some(format!("{} {}", what.verb, what.resource))
                }
                _ => None,
            })
            .collect()
    }

    fn running(&self) -> usize {
        self.times(|o| matches!(o, Observation::PodRunning { .. }))
            .len()
    }

    /// Results of the ADDs: how long each took, and its addresses or its error's text.
    fn adds(&self) -> Vec<(Duration, Result<Vec<IpAddr>, String>)> {
        let mut begun = BTreeMap::new();
        let mut ended = Vec::new();
        for (at, observation) in &*self.observed.borrow() {
            match observation {
                Observation::IpamAddStarted { container, .. } => {
                    begun.insert(*container, *at);
                }
                Observation::IpamAddEnded {
                    container, result, ..
                } => {
                    let took = *at - begun[container];
                    ended.push((took, result.clone().map_err(|(_, text)| text)));
                }
                _ => {}
            }
        }
        ended
    }

    /// Addresses of live interfaces, none twice.
    fn distinct_addresses(&self) -> BTreeSet<IpAddr> {
        let mut all = BTreeSet::new();
        for machine in self.cluster.machines() {
            for namespace in machine.namespaces.values() {
                for address in &namespace.addresses {
                    assert!(all.insert(*address), "{address} is used twice");
                }
            }
        }
        all
    }
}

/// Bare Pods with `nodeName` set, in the store from the start.
fn bare(count: u32, node: &str) -> Vec<WorkloadObject> {
    (0..count)
        .map(|n| {
            let mut pod = object(&format!("p{n:03}"), Controller::Pod);
            pod.template.node_name = Some(node.to_owned());
            pod
        })
        .collect()
}

const NOW: &str = "driver.warm_up=0";
const PRELOAD: &str = "driver.preload_pods=true";

#[test]
fn a_bound_pod_takes_both_passes_in_one_trip() {
    let mut bench = Bench::new(3, 8, bare(1, "master2"), &[NOW, PRELOAD]);
    bench.run_to(10);
    assert_eq!(bench.running(), 1);
    let requests = bench.requests(ClientClass::IpamController);
    let once = ["POST ips", "PATCH pods", "PUT vpcs", "PATCH pods"];
    assert_eq!(requests[..4], once);
    // The event of the first patch asks for another round, whose informer has not seen the second:
    // pass B runs again, changes nothing, and ends.
    let counters = bench.counters();
    let again = counters["route_passes"] - 1;
    assert!(again <= 1, "{requests:?}");
    assert_eq!(requests.len() as u64, 4 + 2 * again);
    assert_eq!(bench.requests(ClientClass::IpamNode), ["GET ips"]);
    assert_eq!(counters["allocation_passes"], 1);
    assert_eq!(counters["nb_transactions"], 2);
    assert_eq!(counters["vsctl_processes"], 12);
    assert_eq!(counters["subnet_status_writes"], 1);
}

#[test]
fn an_idle_add_takes_a_fifth_of_a_second_and_its_first_probe_is_answered() {
    let mut bench = Bench::new(3, 8, bare(1, "master2"), &[NOW, PRELOAD]);
    bench.run_to(10);
    let adds = bench.adds();
    let (took, result) = &adds[0];
    assert!(result.is_ok(), "{adds:?}");
    // Two idle ADDs of v1.11.5 took 196 and 199 ms (k8snetworkplumbingwg/multus-cni#1107).
    assert!(
        (140..=260).contains(&took.as_millis()),
        "{} ms",
        took.as_millis()
    );
    let counters = bench.counters();
    assert_eq!(
        (counters["gateway_probes"], counters["gateway_answers"]),
        (1, 1)
    );
}

#[test]
fn a_pod_of_a_deployment_is_allocated_before_it_is_bound_and_costs_a_write_more() {
    let mut bench = Bench::new(3, 8, deployments(1, 1), &[NOW]);
    bench.run_to(20);
    assert_eq!(bench.running(), 1);
    let requests = bench.requests(ClientClass::IpamController);
    let count = |what: &str| requests.iter().filter(|r| *r == what).count() as u64;
    let counters = bench.counters();
    assert_eq!(count("POST ips"), 1);
    assert_eq!(count("PUT vpcs"), counters["route_passes"]);
    let passes = counters["allocation_passes"] + counters["route_passes"];
    assert_eq!(count("PATCH pods"), passes);
    let daemon = bench.requests(ClientClass::IpamNode);
    if bench.counter("ip_moved_by_daemon") > 0 {
        assert_eq!(daemon, ["GET ips", "PUT ips"]);
    } else {
        assert_eq!(daemon, ["GET ips"]);
    }
}

#[test]
fn an_overlay_pod_costs_two_nb_transactions_and_an_underlay_pod_one_and_no_vpc_write() {
    let set = [NOW, PRELOAD, "kube_ovn.underlay=true"];
    let mut bench = Bench::new(3, 8, bare(1, "master2"), &set);
    bench.run_to(20);
    assert_eq!(bench.running(), 1);
    assert_eq!(bench.counters()["nb_transactions"], 1);
    let requests = bench.requests(ClientClass::IpamController);
    assert_eq!(requests[..3], ["POST ips", "PATCH pods", "PATCH pods"]);
    assert!(!requests.contains(&"PUT vpcs".to_owned()));
    let took = bench.adds()[0].0;
    assert!(
        took >= Duration::from_secs(4),
        "{took:?}: conflicts are looked for"
    );
}

#[test]
fn an_add_without_an_address_looks_twenty_times_and_fails() {
    let mut bench = Bench::new(3, 1, bare(2, "master2"), &[NOW, PRELOAD]);
    bench.run_to(60);
    assert_eq!(bench.running(), 1);
    let failed: Vec<Duration> = bench
        .adds()
        .into_iter()
        .filter(|(_, result)| result.is_err())
        .map(|(took, _)| took)
        .collect();
    assert!(!failed.is_empty());
    assert!(failed.iter().all(|took| took.as_secs() == 20), "{failed:?}");
    assert!(
        bench.counter("no_available_address") > 5,
        "it is tried again"
    );
    // The first Pod goes: the other one takes its address, without any DEL having released it.
    let winner = bench
        .times(|o| matches!(o, Observation::PodRunning { .. }))
        .len();
    assert_eq!(winner, 1);
    let running = bench
        .cluster
        .api()
        .pods()
        .find(|pod| pod.status.phase == crate::objects::Phase::Running)
        .expect("one runs")
        .uid;
    bench.inject(&Action::DeletePod {
        pod: running,
        grace: Some(Duration::ZERO),
    });
    bench.run_to(200);
    assert_eq!(bench.running(), 2);
    assert_eq!(bench.counter("releases"), 1);
    assert_eq!(bench.distinct_addresses().len(), 1);
}

#[test]
fn the_probe_waits_whole_seconds_for_the_flows() {
    let set = [NOW, PRELOAD, "kube_ovn.northd_base=2500"];
    let mut bench = Bench::new(3, 8, bare(1, "master2"), &set);
    bench.run_to(20);
    let (took, _) = bench.adds()[0];
    let probes = u128::from(bench.counter("gateway_probes"));
    assert!(probes >= 2, "{probes} probes");
    let rest = took.as_millis() - (probes - 1) * 1000;
    assert!((120..=260).contains(&rest), "{took:?} with {probes} probes");
}

#[test]
fn a_gateway_that_never_answers_is_as_good_as_one_in_this_version() {
    let set = [
        NOW,
        PRELOAD,
        "kube_ovn.northd_base=900000",
        "kube_ovn.ping_count=5",
    ];
    let mut bench = Bench::new(3, 8, bare(1, "master2"), &set);
    bench.run_to(20);
    assert_eq!(bench.running(), 1);
    assert_eq!(bench.counter("gateway_timeouts"), 1);
    let mut later = Bench::new(
        3,
        8,
        bare(1, "master2"),
        &[&set[..], &["kube_ovn.ping_error=true"]].concat(),
    );
    later.run_to(20);
    assert_eq!(later.running(), 0);
}

#[test]
fn a_plugin_killed_at_its_deadline_leaves_no_second_address() {
    let set = [
        NOW,
        PRELOAD,
        "kubelet.run_timeout=3",
        "kube_ovn.northd_base=8000",
    ];
    let mut bench = Bench::new(3, 8, bare(2, "master2"), &set);
    bench.run_to(90);
    assert_eq!(bench.running(), 2);
    assert!(
        bench
            .times(|o| matches!(o, Observation::SandboxFailed { .. }))
            .len()
            >= 2
    );
    assert_eq!(bench.counter("addresses_held"), 2);
    assert_eq!(bench.distinct_addresses().len(), 2);
}

#[test]
fn all_pods_deleted_and_made_again_have_addresses_again() {
    let mut bench = Bench::new(4, 24, deployments(2, 6), &[NOW]);
    bench.run_to(60);
    assert_eq!(bench.running(), 12);
    for pod in bench.pods() {
        bench.inject(&Action::DeletePod { pod, grace: None });
    }
    bench.run_to(240);
    assert_eq!(bench.running(), 24);
    assert_eq!(bench.counter("addresses_held"), 12);
    assert_eq!(bench.counter("releases"), 12);
    assert_eq!(bench.distinct_addresses().len(), 12);
    let fresh = bench.distinct_addresses();
    let first: IpAddr = [10, 0, 0, 12].into();
    assert!(
        fresh.iter().all(|address| *address > first),
        "released ones rest: {fresh:?}"
    );
}

#[test]
fn a_machine_that_reboots_runs_its_pods_under_their_addresses() {
    let mut bench = Bench::new(4, 24, bare(5, "worker4"), &[NOW, PRELOAD]);
    bench.run_to(20);
    assert_eq!(bench.running(), 5);
    let before = bench.distinct_addresses();
    let node = NodeIndex(3);
    bench.inject(&Action::PowerOff {
        node,
        return_after: Some(Duration::from_secs(5)),
    });
    bench.run_to(120);
    assert_eq!(bench.distinct_addresses(), before);
    assert_eq!(bench.counter("addresses_held"), 5);
}

#[test]
fn a_leader_that_dies_is_followed_by_one_that_knows_every_address() {
    let mut bench = Bench::new(4, 40, deployments(1, 8), &[NOW]);
    bench.run_to(40);
    assert_eq!(bench.running(), 8);
    for node in 0..3 {
        bench.inject(&Action::PowerOff {
            node: NodeIndex(node),
            return_after: Some(Duration::from_secs(5)),
        });
        bench.run_to(40 + u64::from(node + 1) * 60);
    }
    assert!(bench.counter("controller_takeovers") >= 1);
    for pod in bench.pods() {
        bench.inject(&Action::DeletePod { pod, grace: None });
    }
    bench.run_to(500);
    assert_eq!(bench.distinct_addresses().len(), 8);
    assert_eq!(bench.counter("addresses_held"), 8);
}

#[test]
fn a_refused_patch_is_tried_again_and_takes_no_second_address() {
    let mut bench = Bench::new(3, 8, bare(1, "master2"), &[NOW, PRELOAD]);
    for nth in [1, 2] {
        bench.inject(&Action::Arm(CallFault {
            selector: CallSelector {
                class: Some(ClientClass::IpamController),
                node: None,
                verb: Some("PATCH"),
                resource: Some("pods"),
                writes_only: true,
            },
            nth,
            effect: CallEffect::Answer(ApiError::Unavailable { unknown: true }),
        }));
    }
    bench.run_to(30);
    assert_eq!(bench.running(), 1);
    assert!(bench.counter("item_retries") >= 2);
    assert_eq!(bench.counter("addresses_held"), 1);
    let posts = bench.requests(ClientClass::IpamController);
    assert_eq!(posts.iter().filter(|what| *what == "POST ips").count(), 1);
}

#[test]
fn a_pool_cap_writes_the_pool_beside_the_subnet() {
    let set = [NOW, "kube_ovn.ippool=true"];
    let mut bench = Bench::new(3, 16, deployments(1, 6), &set);
    bench.run_to(40);
    assert_eq!(bench.running(), 6);
    let subnet = bench.counter("subnet_status_writes");
    let pool = bench.counter("ippool_status_writes");
    assert!(pool >= 1 && pool <= subnet, "{pool} pool, {subnet} subnet");
}

#[test]
fn a_stateful_pod_keeps_its_address_over_its_deletion() {
    let sts = object(
        "db",
        Controller::StatefulSet {
            replicas: 2,
            pod_management: drydock_traces::workload::PodManagement::Parallel,
        },
    );
    let mut bench = Bench::new(3, 16, vec![sts], &[NOW]);
    bench.run_to(30);
    let before = bench.distinct_addresses();
    assert_eq!(before.len(), 2);
    for pod in bench.pods() {
        bench.inject(&Action::DeletePod { pod, grace: None });
    }
    bench.run_to(150);
    assert_eq!(bench.running(), 4);
    assert_eq!(bench.distinct_addresses(), before);
}

#[test]
fn ports_of_pods_that_went_without_a_leader_are_collected_at_the_start_of_the_next() {
    // The Pods go while nobody leads; the next leader runs two collections at its start.
    let mut bench = Bench::new(4, 16, bare(3, "worker4"), &[NOW, PRELOAD]);
    bench.run_to(20);
    for node in 0..3 {
        bench.inject(&Action::PowerOff {
            node: NodeIndex(node),
            return_after: Some(Duration::from_secs(1)),
        });
    }
    // The apiservers went with their machines and are back; the lease has not run out.
    bench.run_to(40);
    for pod in bench.pods() {
        bench.inject(&Action::DeletePod {
            pod,
            grace: Some(Duration::ZERO),
        });
    }
    bench.run_to(45);
    assert!(bench.pods().is_empty(), "{:?}", bench.pods());
    bench.run_to(900);
    assert_eq!(bench.counter("controller_takeovers"), 1);
    assert_eq!(
        bench.counter("ports_collected"),
        3,
        "{:?}",
        bench.counters()
    );
    assert_eq!(bench.counter("addresses_held"), 0);
}
