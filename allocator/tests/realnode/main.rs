//! One real node on this machine: kube-apiserver, etcd, controller-manager, scheduler and kubelet
//! of one release, the distribution's containerd and runc, macvlan over a veth pair, and Berth as
//! IPAM with exactly as many addresses as Pods; beside it the distribution's host-local on the same
//! rig. It runs in its own mount, process and network namespaces ([`enclosure`]). Needs root.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests, which print their figures"
)]

mod cluster;
mod enclosure;
mod figures;
mod node;
mod recorder;
mod rounds;

use std::time::Duration;

use berth::testing::control_plane::Assets;

use crate::cluster::{Cluster, Ipam};
use crate::enclosure::{Place, enclosed};
use crate::figures::{Curve, Simulated, compare, print_ratio};
use crate::node::Rate;
use crate::recorder::Plan;

#[test]
fn hundred_pods_on_hundred_addresses_outlive_every_kill_without_duplicate_or_leak() {
    let name = "hundred_pods_on_hundred_addresses_outlive_every_kill_without_duplicate_or_leak";
    enclosed(name, |place, assets| {
        let mut cluster = Cluster::start(place, assets, Rate::DEFAULT);
        cluster.switch_to(Ipam::Berth);
        let first = cluster.create();
        println!("first round:  {first}");
        cluster.assert_all_addresses_in_use();
        cluster.delete();
        // The ordinals are not awaited: the next Pods need those that the last ones still had.
        let second = cluster.create();
        println!("second round: {second}");
        cluster.assert_all_addresses_in_use();
        cluster.delete();
        cluster.assert_nothing_left();
        let (killed_at, third) = cluster.create_while_everything_is_killed();
        println!(
            "agent, kubelet, apiserver killed at {killed_at:?} Running: all after {third:.1?}"
        );
        cluster.assert_all_addresses_in_use();
        cluster.delete();
        cluster.assert_nothing_left();
        println!("no address twice, none outside the pool, none left");
    });
}

#[test]
#[ignore = "a comparison of minutes; run it on a quiet machine"]
fn with_berth_pods_run_as_soon_as_with_host_local() {
    let name = "with_berth_pods_run_as_soon_as_with_host_local";
    enclosed(name, |place, assets| race(place, assets, Rate::DEFAULT));
}

#[test]
#[ignore = "a comparison of minutes; run it on a quiet machine"]
fn with_berth_pods_run_as_soon_as_with_host_local_on_a_slow_kubelet() {
    let name = "with_berth_pods_run_as_soon_as_with_host_local_on_a_slow_kubelet";
    enclosed(name, |place, assets| race(place, assets, Rate::SLOW));
}

#[test]
#[ignore = "a recording of minutes; run it on a quiet machine"]
fn each_pod_passes_each_phase_once_and_in_order() {
    let name = "each_pod_passes_each_phase_once_and_in_order";
    enclosed(name, |place, assets| {
        let mut plan = Plan::from_environment();
        let place = Place {
            is_recorded: true,
            ..place.clone()
        };
        for rate in plan.rates.clone() {
            let mut cluster = Cluster::start(&place, assets, rate);
            // The first Pods of a node meet cold caches: not recorded.
            cluster.round(Ipam::HostLocal);
            for (ipam, deployments) in plan.rounds() {
                plan.record(&mut cluster, rate, ipam, deployments);
            }
        }
        assert!(plan.disorders.is_empty(), "{:#?}", plan.disorders);
    });
}

fn race(place: &Place, assets: &Assets, rate: Rate) {
    let mut cluster = Cluster::start(place, assets, rate);
    // The first Pods of a node meet cold caches: not counted for anybody.
    cluster.round(Ipam::HostLocal);
    let mut curves: [Vec<Curve>; 2] = [Vec::new(), Vec::new()];
    for pair in 0..place.pairs {
        // Who goes first changes, so that no drift of the machine favors one.
        let mut order = [Ipam::HostLocal, Ipam::Berth];
        order.rotate_left(pair % 2);
        for ipam in order {
            let curve = cluster.round(ipam);
            println!("{rate}, {ipam}: {curve}");
            curves[usize::from(ipam == Ipam::Berth)].push(curve);
        }
    }
    let [host_local, berth] = curves.map(|curves| Curve::medians(&curves));
    print_ratio(rate, &berth, &host_local);
    compare(
        rate,
        [
            (Ipam::Berth, &berth, Simulated::of("berth", rate)),
            (Ipam::HostLocal, &host_local, Simulated::of("instant", rate)),
        ],
    );
    // A wide bound: a machine that others use, few rounds. The figure is what is printed.
    let limit = host_local.last() * 3 / 2 + Duration::from_secs(5);
    assert!(berth.last() < limit, "{rate}: {berth} against {host_local}");
}
