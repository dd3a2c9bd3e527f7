//! Claims about Whereabouts in a small cluster with kubelets: deletion and re-creation, a reboot.

use std::collections::BTreeMap;
use std::time::Duration;

use drydock_engine::drive::World;
use drydock_engine::log::EventLog;
use drydock_engine::queue::TieBreak;
use drydock_engine::time::SimInstant;
use drydock_traces::workload::Workload;

use crate::cluster::{Action, Cluster, ClusterSpec};
use crate::event::Event;
use crate::ids::{NodeIndex, PodUid};
use crate::parameters::{Parameters, Table};
use crate::testing::deployments;

use super::*;

/// Thirty Pods on three nodes with sixty pairs of addresses, for so many seconds; after some of
/// them, something is done to the cluster.
fn after(seconds: u64, (then, actions): (u64, Vec<Action>), settings: &[&str]) -> Cluster {
    let mut table = Table::profile("measured").unwrap();
    for setting in settings.iter().chain(&["driver.warm_up=0"]) {
        table.set(setting).unwrap();
    }
    let spec = ClusterSpec {
        node_names: ClusterSpec::node_names(3),
        masters: 3,
        parameters: Parameters::read(&table).unwrap(),
        workload: Workload {
            objects: deployments(3, 10),
            ..Workload::default()
        },
        seed: 5,
        tie_break: TieBreak::Fifo,
        kubelets: true,
        ends_by_itself: false,
    };
    let range = |first: &str, last: &str| vec![(first.parse().unwrap(), last.parse().unwrap())];
    let families = vec![range("10.0.0.1", "10.0.0.60"), range("fd00::1", "fd00::3c")];
    let ipam = Whereabouts::new(&Pool::new(families).unwrap(), &table).unwrap();
    let (mut cluster, mut queue) = Cluster::new(spec, Box::new(ipam));
    let mut log = EventLog::new();
    cluster.start(&mut queue, &mut log);
    let mut run_to = |seconds, actions: Vec<Action>| {
        let end = SimInstant::ZERO + Duration::from_secs(seconds);
        // An event of no consequence moves the time to its end.
        queue.at(end, Event::Driver { token: u64::MAX });
        while queue.peek_at().is_some_and(|at| at <= end) {
            let (at, event) = queue.pop().expect("it was just seen");
            log.append(at, &event);
            cluster.handle(at, event, &mut queue, &mut log);
        }
        for action in actions {
            cluster.inject(&action, &mut queue, &mut log);
        }
    };
    run_to(then, actions);
    run_to(seconds, Vec::new());
    cluster
}

fn counters(cluster: &Cluster) -> BTreeMap<&'static str, u64> {
    cluster.ipam_counters().into_iter().collect()
}

fn records(cluster: &Cluster) -> usize {
    cluster.ipam().allocated(cluster.api()).len()
}

#[test]
fn all_pods_deleted_at_once_come_again_and_their_addresses_are_given_back() {
    let grace = Some(Duration::from_secs(1));
    let deletions = (0..30).map(|pod| Action::DeletePod {
        pod: PodUid(pod),
        grace,
    });
    let cluster = after(400, (60, deletions.collect()), &[]);
    assert_eq!(cluster.census().running(), 30);
    let totals = counters(&cluster);
    assert_eq!(totals["leases_won_by_adds"], 60, "{totals:?}");
    assert!(totals["leases_won_by_dels"] >= 30, "{totals:?}");
    assert_eq!(records(&cluster), 60, "two for each Pod: {totals:?}");
}

#[test]
fn a_mass_deletion_that_outlasts_the_dels_leaks_addresses_and_reports_success() {
    // A write takes 0.7 s: sixty seconds are too short for thirty DELs, one after another.
    let slow = ["etcd.fsync=700..700", "whereabouts.add_limit=600"];
    let grace = Some(Duration::from_secs(1));
    let deletions = (0..30).map(|pod| Action::DeletePod {
        pod: PodUid(pod),
        grace,
    });
    let cluster = after(900, (600, deletions.collect()), &slow);
    let totals = counters(&cluster);
    assert!(totals["dels_swallowed"] > 0, "{totals:?}");
}

#[test]
fn a_machine_that_reboots_gets_its_pods_back() {
    let power_off = Action::PowerOff {
        node: NodeIndex(2),
        return_after: Some(Duration::from_secs(40)),
    };
    let cluster = after(500, (20, vec![power_off]), &[]);
    assert_eq!(cluster.census().running(), 30);
    let totals = counters(&cluster);
    assert!(records(&cluster) >= 60, "two for each Pod: {totals:?}");
}
