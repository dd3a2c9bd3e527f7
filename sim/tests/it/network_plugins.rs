//! What Calico and Cilium do on the benchmark's cluster: their mechanisms, not published figures.

use drydock_traces::run_record::{EndReason, RunRecord};

use crate::program::{line, record};

fn probe(record: &RunRecord, name: &str) -> u64 {
    record.probes[name]
}

/// All Pods run with addresses of their own, after the seconds of the fastest possible start.
fn all_run(arguments: &[&str]) -> RunRecord {
    let record = record(arguments);
    let told = line(arguments);
    assert!(
        record.violations.is_empty(),
        "{:?}\n{told}",
        record.violations
    );
    assert_eq!(record.outcome.reason, EndReason::AllRunning, "{told}");
    assert_eq!(record.probes["peak-addresses-in-use"], 1000, "{told}");
    record
}

#[test]
fn calico_makes_seventeen_requests_a_pod_and_a_few_more_for_each_block() {
    let arguments = ["--allocator=calico", "--addresses=ample", "--stack=ipv4"];
    let record = all_run(&arguments);
    let per_pod = record.api.per_pod.per_pod_milli.unwrap();
    // 17, and two more for each Pod behind a full block, and eight for each claim.
    assert!((17_000..=18_500).contains(&per_pod), "{per_pod}");
    // Every node has its tunnel's block, and most need a second one.
    assert!((8..=20).contains(&probe(&record, "calico_blocks_claimed")));
    assert_eq!(probe(&record, "calico_write_conflicts"), 0);
    assert_eq!(probe(&record, "calico_borrowed"), 0);
    assert_eq!(probe(&record, "calico_deadlines"), 0);
}

#[test]
fn calico_lacks_the_tunnels_addresses_when_there_are_as_many_as_pods() {
    let arguments = ["--allocator=calico", "--addresses=equal", "--stack=ipv4"];
    let equal = record(&arguments);
    assert!(equal.violations.is_empty(), "{:?}", equal.violations);
    assert_eq!(equal.outcome.pods_running, 990);
    assert!(probe(&equal, "calico_borrowed") > 100);
    let without = [&arguments[..], &["--set=calico.tunnel_addresses=false"]].concat();
    all_run(&without);
}

#[test]
fn a_slow_api_lets_calicos_waiters_run_into_their_own_deadline() {
    // 1084 calls of 0.25 s under the lock of a node: three windows of 90 s.
    let arguments = [
        "--allocator=calico",
        "--addresses=ample",
        "--stack=ipv4",
        "--set=api.fixed_latency=true",
        "--set=api.fixed_call=125..375",
    ];
    let record = all_run(&arguments);
    assert!(probe(&record, "calico_deadlines") > 300);
    assert_eq!(probe(&record, "two-sandboxes-of-one-pod"), 0);
}

#[test]
fn cilium_builds_one_endpoint_after_the_other_and_asks_little() {
    let arguments = ["--allocator=cilium", "--addresses=ample", "--stack=ipv4"];
    let record = all_run(&arguments);
    assert_eq!(probe(&record, "cilium_builds"), 1000);
    // A hundred label sets, a few of them made twice.
    assert!((100..=250).contains(&probe(&record, "cilium_identities_created")));
    let per_pod = record.api.per_pod.per_pod_milli.unwrap();
    assert!((2_000..=3_500).contains(&per_pod), "{per_pod}");
    // T = (N - 8) m: the limiter, not the kubelet, is what the last Pod waited for.
    let mean_ms = probe(&record, "cilium_build_ms_mean");
    let end_ms = record.outcome.all_running_s.unwrap().ns / 1_000_000;
    let closed_ms = 92 * mean_ms;
    assert!(
        (closed_ms * 8 / 10..=closed_ms * 13 / 10).contains(&end_ms),
        "{end_ms} {closed_ms}"
    );
}

#[test]
fn cilium_fills_its_pod_cidrs_and_leaves_the_rest() {
    let arguments = ["--allocator=cilium", "--addresses=equal"];
    let equal = record(&arguments);
    assert!(equal.violations.is_empty(), "{:?}", equal.violations);
    assert_eq!(equal.outcome.reason, EndReason::Stuck);
    assert_eq!(equal.outcome.pods_running, 600);
}
