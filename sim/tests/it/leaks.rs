//! Leaked addresses, by one definition for all allocators: each leak is made through a mechanism
//! that the allocator has, and counted; without a fault nothing leaks.

use drydock::adapters::{BERTH, subject};
use drydock::runner::{RunOptions, run};
use drydock::scenario::Scenario;
use drydock_traces::plan::Plan;
use drydock_traces::run_record::{EndReason, RunRecord};

const ALL: [&str; 7] = [
    "berth",
    "calico",
    "cilium",
    "instant",
    "kube-ovn",
    "spiderpool",
    "whereabouts",
];

/// Thirty Pods on three nodes, addresses to spare; the rest as TOML.
fn world(allocator: &str, set: &str, rest: &str) -> RunRecord {
    let text = format!(
        "schema = \"drydock.dev/plan/v1\"\nseed = \"3\"\nallocator = \"{allocator}\"\n\
         [set]\n{set}\n[world]\nnodes = 3\npods = 30\naddresses = 256\nstack = \"dual\"\n{rest}"
    );
    let plan = Plan::from_toml(&text).unwrap();
    let scenario = Scenario::from_plan(&plan, &subject(allocator).unwrap()).unwrap();
    run(scenario, RunOptions::default(), |_| ()).unwrap()
}

fn probe(record: &RunRecord, name: &str) -> u64 {
    let value = record.probes.get(name);
    *value.unwrap_or_else(|| panic!("no probe {name} among {:?}", record.probes))
}

/// Leaked addresses of a world that is healed, in which all Pods run.
fn leaked(record: &RunRecord) -> u64 {
    let told = format!("{:?} {:#?}", record.outcome, record.probes);
    assert_eq!(record.outcome.reason, EndReason::Healed, "{told}");
    let (allocated, leaked) = (
        probe(record, "addresses_allocated"),
        probe(record, "addresses_leaked"),
    );
    // Two families.
    assert_eq!(allocated - leaked, 60, "{told}");
    leaked
}

const CHURN: &str = "[world.churn]\nrounds = 2\npods-per-round = 10\nevery-ns = 60000000000\n";

/// The second machine loses power after 40 s and never comes back; its Pods are removed.
const POWER_OFF: &str = "[[fault]]\nkind = \"power-off-and-bury\"\nduration-ns = 20000000000\n\
                         target = { node = 1 }\nat = { time-ns = 40000000000 }\n";

#[test]
fn nothing_leaks_where_pods_come_and_go_without_a_fault() {
    for allocator in ALL {
        assert_eq!(leaked(&world(allocator, "", CHURN)), 0, "{allocator}");
    }
}

#[test]
fn the_addresses_of_a_machine_without_power_are_leaked_until_somebody_collects_them() {
    // Calico's collector waits for 15 min; nobody ever collects for instant and, before 04:30, for
    // Whereabouts.
    for allocator in ["calico", "instant", "whereabouts"] {
        let leaked = leaked(&world(allocator, "", POWER_OFF));
        assert!(leaked >= 10, "{allocator}: {leaked}");
    }
    // An agent's memory goes with its machine; a controller sees that the Pods are gone. A burial
    // takes 10 min, but Berth owes it, so the run lasts until it is done.
    for allocator in ["berth", "cilium", "kube-ovn"] {
        assert_eq!(leaked(&world(allocator, "", POWER_OFF)), 0, "{allocator}");
    }
}

#[test]
fn whereabouts_leaks_what_dels_that_time_out_swallow() {
    // A write takes 0.4 s: a minute is too short for thirty DELs, one after another.
    let slow = "\"etcd.fsync\" = \"400..400\"";
    let all = "[world.churn]\nrounds = 1\npods-per-round = 30\nevery-ns = 170000000000\n";
    let record = world("whereabouts", slow, all);
    assert!(probe(&record, "dels_swallowed") > 0, "{:#?}", record.probes);
    assert!(leaked(&record) > 0, "{:#?}", record.probes);
}

/// The agent, or the node's plugins, die as their n-th write commits, before they hear of it.
fn killed_at_write(write: u32) -> String {
    format!(
        "[[fault]]\nkind = \"agent-kill\"\nduration-ns = 1000000000\ntarget = {{ agent = 1 }}\n\
         at = {{ write = {{ agent = 1, write = {write} }} }}\n"
    )
}

#[test]
fn spiderpool_leaks_where_its_agent_dies_between_the_pool_and_the_endpoint() {
    let record = world("spiderpool", "", &killed_at_write(1));
    assert_eq!(record.faults["agent-kill"].fired, 1);
    assert!(leaked(&record) > 0, "{:#?}", record.probes);
}

#[test]
fn cilium_leaks_until_the_expiration_where_its_plugin_dies_before_the_endpoint() {
    let at = "[[fault]]\nkind = \"agent-kill\"\nduration-ns = 1000000000\ntarget = { agent = 1 }\n\
              at = { time-ns = 2500000000 }\n";
    assert!(leaked(&world("cilium", "", at)) > 0);
}

#[test]
fn kube_ovn_holds_the_addresses_of_pods_that_are_gone_until_its_workers_come_to_them() {
    let record = crate::program::record(&[
        "--allocator=kube-ovn",
        "--addresses=4000",
        "--workload=real-node",
        "--set=kube_ovn.previous_pods=2000",
        "--stack=ipv4",
        "--until=31",
    ]);
    let told = format!("{:?} {:#?}", record.outcome, record.probes);
    let leaked = probe(&record, "addresses_leaked");
    assert!(leaked > 1000, "{told}");
    let held = probe(&record, "addresses_allocated") - leaked;
    assert!(held <= 100, "no more than there are Pods: {told}");
}

#[test]
fn every_allocator_says_what_it_holds() {
    let names: Vec<&str> = ALL
        .iter()
        .map(|name| subject(name).unwrap().allocator.name())
        .collect();
    assert_eq!(names, ALL);
    assert_eq!(subject("berth+free-at-del").unwrap().allocator, BERTH);
}
