//! Kube-OVN over the whole benchmark: what its mechanism does, not what was published of it.

use std::collections::BTreeMap;

use drydock_traces::run_record::{RunRecord, Verb};

use crate::program::{line, record};

fn calls(record: &RunRecord, client: &str) -> BTreeMap<Verb, u64> {
    let mut calls = BTreeMap::new();
    for count in record.api.counts.iter().filter(|c| c.client == client) {
        *calls.entry(count.verb).or_insert(0) += count.count;
    }
    calls
}

fn end_s(record: &RunRecord, arguments: &[&str]) -> u64 {
    let end = record.outcome.all_running_s;
    end.unwrap_or_else(|| panic!("{:?}\n{}", record.outcome, line(arguments)))
        .ns
        / 1_000_000_000
}

#[test]
fn an_idle_control_plane_keeps_up_with_a_thousand_pods_and_no_add_fails() {
    for addresses in ["--addresses=equal", "--addresses=ample"] {
        let arguments = ["--allocator=kube-ovn", addresses, "--seed=1"];
        let record = record(&arguments);
        end_s(&record, &arguments);
        assert!(record.violations.is_empty(), "{:?}", record.violations);
        let probe = |name: &str| record.probes.get(name).copied().unwrap_or(0);
        assert_eq!(probe("addresses_held"), 1000);
        assert_eq!(probe("peak-addresses-in-use"), 2000, "pairs");
        assert_eq!(probe("adds_accepted"), 1000, "one ADD a Pod");
        assert_eq!(probe("vsctl_processes"), 12_000);
        assert_eq!(probe("gateway_timeouts"), 0);
        assert_eq!(probe("no_available_address"), 0);
        let controller = calls(&record, "ipam-controller");
        assert_eq!(controller[&Verb::Create], 1000, "one IP object a Pod");
        // One patch per pass; a pass that the informer's lag repeats patches again, to no effect.
        let passes = probe("allocation_passes") + probe("route_passes");
        let statuses = probe("subnet_status_writes") + probe("ippool_status_writes");
        assert_eq!(controller[&Verb::Patch], passes + statuses);
        assert!(passes >= 2000, "{passes}");
        let daemons = calls(&record, "ipam-node");
        assert_eq!(daemons[&Verb::Get], 1000);
        assert_eq!(daemons[&Verb::Update], probe("ip_moved_by_daemon"));
    }
}

#[test]
fn a_slow_api_makes_a_backlog_at_three_workers_and_fails_adds_after_twenty_looks() {
    let arguments = [
        "--allocator=kube-ovn",
        "--addresses=ample",
        "--seed=1",
        "--set=api.fixed_latency=true",
        "--set=api.fixed_call=50..50",
    ];
    let record = record(&arguments);
    let took = end_s(&record, &arguments);
    // Four calls of 50 ms and up to 30 ms of everything else; 2 to 2.6 at a time; the last Pods
    // run some seconds after their address is known.
    let (low, high) = (200 * 1000 / 2600, 230 * 1000 / 2000 + 20);
    assert!((low..=high).contains(&took), "{took} s, {low}..{high}");
    let probe = |name: &str| record.probes.get(name).copied().unwrap_or(0);
    assert_eq!(
        probe("addresses_held"),
        1000,
        "a retry takes no second address"
    );
    let failed = probe("no_address_in_time") + probe("route_not_ready");
    assert!(failed > 100, "{failed} ADDs failed");
    // An ADD is refused, or wires the Pod.
    assert_eq!(probe("adds_accepted"), 1000 + failed);
    assert!(record.violations.is_empty(), "{:?}", record.violations);
}

#[test]
fn a_run_that_begins_before_the_last_one_is_released_pays_for_each_refusal() {
    let fresh = ["--allocator=kube-ovn", "--addresses=equal", "--seed=1"];
    let late = [&fresh[..], &["--set=kube_ovn.previous_pods=1000"]].concat();
    let (before, after) = (record(&fresh), record(&late));
    let refused = |record: &RunRecord| record.probes.get("no_available_address").copied();
    assert_eq!(refused(&before), None);
    assert!(refused(&after) > Some(0), "{:?}", after.probes);
    assert!(end_s(&after, &late) >= end_s(&before, &fresh));
    assert_eq!(after.probes["addresses_held"], 1000);
    assert_eq!(after.probes["releases"], 1000);
}
