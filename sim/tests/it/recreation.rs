//! Deletion and re-creation of all Pods under each peer, as whole runs: what its mechanism makes of
//! addresses that go and are wanted again at once. With addresses to spare all Pods run again; with
//! as many as Pods each peer has a way of its own, which its test names.

use drydock_traces::run_record::{EndReason, Recreation, RunRecord};

use crate::program::{line, scenario};
use drydock::runner::{RunOptions, run};

/// A run with `--recreate`; no address was ever two Pods'.
fn record(arguments: &[&str]) -> RunRecord {
    let mut scenario = scenario(arguments);
    scenario.recreate = true;
    let record = run(scenario, RunOptions::default(), |_| ()).unwrap();
    let told = line(arguments);
    assert!(
        record.violations.is_empty(),
        "{:?}\n{told} --recreate",
        record.violations
    );
    record
}

fn again(record: &RunRecord) -> &Recreation {
    record.recreation.as_ref().expect("all ran a first time")
}

fn probe(record: &RunRecord, name: &str) -> u64 {
    record.probes.get(name).copied().unwrap_or(0)
}

/// Seconds until all replacements run.
fn seconds_again(record: &RunRecord) -> u64 {
    let told = format!("{:?} {:#?}", record.outcome, record.probes);
    assert_eq!(record.outcome.reason, EndReason::AllRunning, "{told}");
    again(record).all_running_s.expect(&told).ns / 1_000_000_000
}

/// A thousand Pods with two thousand addresses; all run twice.
fn ample(allocator: &str) -> RunRecord {
    let allocator = format!("--allocator={allocator}");
    let record = record(&[&allocator, "--addresses=ample", "--stack=ipv4"]);
    let took = seconds_again(&record);
    assert_eq!(again(&record).running_curve_ns.len(), 1000);
    assert_eq!(probe(&record, "peak-addresses-in-use"), 1000, "{allocator}");
    println!("{allocator}: again after {took} s, {:?}", record.probes);
    record
}

fn equal(allocator: &str, more: &[&str]) -> RunRecord {
    let allocator = format!("--allocator={allocator}");
    let fixed = [&*allocator, "--addresses=equal", "--stack=ipv4"];
    let record = record(&[&fixed[..], more].concat());
    println!("{allocator}: {:?} {:?}", record.outcome, record.probes);
    record
}

#[test]
fn spiderpool_gives_back_in_the_background_what_its_deletions_could_not() {
    // A DEL that meets too many conflicts reports success; the controller traces the Pod and frees
    // its address.
    let record = ample("spiderpool");
    assert!(probe(&record, "dels_swallowed") > 0);
    assert!(probe(&record, "traced") >= probe(&record, "dels_swallowed"));
    assert_eq!(probe(&record, "used_out"), 0);
}

#[test]
fn spiderpool_hands_the_same_addresses_out_again_without_waiting_for_its_scan() {
    // A sandbox gives its address back when it is torn down, before its Pod is gone; what conflicts
    // kept is the tracer's, within seconds. Nobody waits for the scan of ten minutes.
    let record = equal("spiderpool", &[]);
    assert!(seconds_again(&record) < 600);
    assert_eq!(probe(&record, "peak-addresses-in-use"), 1000);
    assert_eq!(probe(&record, "scanned_away"), 0);
}

#[test]
fn whereabouts_loses_the_addresses_of_deletions_that_the_lease_does_not_reach_in_time() {
    // A thousand DELs of 60 s each queue for one Lease; those that do not win report success, and
    // their addresses stay allocated until a reconciler of the next day.
    let spare = ample("whereabouts");
    let (leaked, swallowed) = (
        probe(&spare, "addresses_leaked"),
        probe(&spare, "dels_swallowed"),
    );
    assert!(
        leaked > 100 && leaked <= swallowed,
        "{leaked} of {swallowed}"
    );
    assert_eq!(probe(&spare, "addresses_allocated"), 1000 + leaked);
    // Without spare ones exactly the lost addresses are missing.
    let full = equal("whereabouts", &["--until=3600"]);
    assert_ne!(full.outcome.reason, EndReason::AllRunning);
    let running = again(&full).running_curve_ns.len() as u64;
    let leaked = probe(&full, "addresses_leaked");
    assert_eq!(probe(&full, "addresses_allocated"), running + leaked);
    assert!(
        (998..=1000).contains(&(running + leaked)),
        "{running} + {leaked}"
    );
    assert!(probe(&full, "adds_exhausted") > 0);
}

#[test]
fn kube_ovn_releases_by_its_controller_and_reuses_an_address_last() {
    let spare = ample("kube-ovn");
    assert_eq!(probe(&spare, "releases"), 1000);
    assert_eq!(probe(&spare, "addresses_held"), 1000);
    assert_eq!(probe(&spare, "no_available_address"), 0);
    // As many as Pods: a replacement comes before its address is released, is refused, and tries
    // again; none is lost.
    let full = equal("kube-ovn", &[]);
    seconds_again(&full);
    assert!(probe(&full, "no_available_address") > 0);
    assert_eq!(probe(&full, "releases"), 1000);
    assert_eq!(probe(&full, "addresses_held"), 1000);
}

#[test]
fn calico_keeps_its_blocks_and_fills_them_again() {
    let spare = ample("calico");
    let claimed = probe(&spare, "calico_blocks_claimed");
    // A block that is empty stays its node's: as many as one run claims, and those that new Pods
    // need while the old ones are not gone.
    assert!((8..=30).contains(&claimed), "{claimed}");
    assert_eq!(probe(&spare, "addresses_leaked"), 0);
    // As many as Pods, tunnels aside: they run again, some with a block of another node.
    let full = equal("calico", &["--set=calico.tunnel_addresses=false"]);
    seconds_again(&full);
    assert!(probe(&full, "calico_borrowed") > 100);
    assert_eq!(probe(&full, "peak-addresses-in-use"), 1000);
}

#[test]
fn cilium_frees_in_memory_and_builds_every_endpoint_again() {
    let spare = ample("cilium");
    assert_eq!(probe(&spare, "cilium_builds"), 2000);
    assert_eq!(probe(&spare, "cilium_range_full"), 0);
    // Label sets are the same: hardly an identity is made again.
    assert!(probe(&spare, "cilium_identities_created") <= 250);
    // As many as Pods: 60 to a node, so that all never run and nothing is made again.
    let full = equal("cilium", &[]);
    assert_eq!(full.recreation, None);
    assert_eq!(full.outcome.pods_running, 600);
}

#[test]
fn every_peer_starts_all_pods_of_a_small_world_twice_with_two_families() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sixty.yaml");
    let deployment = |name: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  \
             replicas: 20\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
             metadata: {{labels: {{app: {name}}}}}\n    spec: {{containers: [{{name: c, image: \
             x}}]}}\n"
        )
    };
    std::fs::write(&path, ["a", "b", "c"].map(deployment).concat()).unwrap();
    let file = path.display().to_string();
    for allocator in ["spiderpool", "whereabouts", "kube-ovn", "calico", "cilium"] {
        for seed in ["--seed=1", "--seed=2", "--seed=3"] {
            let allocator = format!("--allocator={allocator}");
            let arguments = [&*file, &allocator, "--addresses=ample", "--nodes=3", seed];
            let record = record(&arguments);
            let took = seconds_again(&record);
            println!("{allocator} {seed}: again after {took} s");
            assert_eq!(record.outcome.pods_total, 60, "{allocator}");
            assert_eq!(again(&record).running_curve_ns.len(), 60, "{allocator}");
            // A Pod has both of its addresses; some that go still have theirs.
            assert!(
                probe(&record, "peak-addresses-in-use") >= 120,
                "{allocator}"
            );
        }
    }
}
