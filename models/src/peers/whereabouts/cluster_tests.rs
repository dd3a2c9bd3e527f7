//! Claims about Whereabouts in a small cluster with kubelets: deletion and re-creation, a reboot.

use std::time::Duration;

use crate::cluster::{Action, ClusterSpec};
use crate::ids::{NodeIndex, PodUid};
use crate::testing::{TestCluster, deployments, table};

use super::*;

/// Thirty Pods on three nodes with sixty pairs of addresses, for so many seconds; after some of
/// them, something is done to the cluster.
fn after(seconds: u64, (then, actions): (u64, Vec<Action>), settings: &[&str]) -> TestCluster {
    let settings: Vec<&str> = settings
        .iter()
        .chain(&["driver.warm_up=0"])
        .copied()
        .collect();
    let table = table("measured", &settings);
    let range = |first: &str, last: &str| vec![(first.parse().unwrap(), last.parse().unwrap())];
    let families = vec![range("10.0.0.1", "10.0.0.60"), range("fd00::1", "fd00::3c")];
    let ipam = Whereabouts::new(&Pool::new(families).unwrap(), &table).unwrap();
    let spec = ClusterSpec::small(3, &table, deployments(3, 10), 5);
    let mut whole = TestCluster::new(spec, ipam);
    whole.pass(Duration::from_secs(then));
    for action in actions {
        whole.inject(&action);
    }
    whole.run_to(seconds);
    whole
}

fn records(whole: &TestCluster) -> usize {
    whole.cluster.ipam().allocated(whole.cluster.api()).len()
}

#[test]
fn all_pods_deleted_at_once_come_again_and_their_addresses_are_given_back() {
    let grace = Some(Duration::from_secs(1));
    let deletions = (0..30).map(|pod| Action::DeletePod {
        pod: PodUid(pod),
        grace,
    });
    let whole = after(400, (60, deletions.collect()), &[]);
    assert_eq!(whole.cluster.census().running(), 30);
    let totals = whole.counters();
    assert_eq!(totals["leases_won_by_adds"], 60, "{totals:?}");
    assert!(totals["leases_won_by_dels"] >= 30, "{totals:?}");
    assert_eq!(records(&whole), 60, "two for each Pod: {totals:?}");
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
    let whole = after(900, (600, deletions.collect()), &slow);
    let totals = whole.counters();
    assert!(totals["dels_swallowed"] > 0, "{totals:?}");
}

#[test]
fn a_machine_that_reboots_gets_its_pods_back() {
    let power_off = Action::PowerOff {
        node: NodeIndex(2),
        return_after: Some(Duration::from_secs(40)),
    };
    let whole = after(500, (20, vec![power_off]), &[]);
    assert_eq!(whole.cluster.census().running(), 30);
    let totals = whole.counters();
    assert!(records(&whole) >= 60, "two for each Pod: {totals:?}");
}
