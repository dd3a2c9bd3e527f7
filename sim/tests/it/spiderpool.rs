//! Spiderpool's mechanism at full size: 1000 Pods on ten nodes. It asserts what the mechanism must
//! give, and no published time.

use drydock_traces::run_record::{EndReason, RunRecord};

use crate::program::{line, record};

fn run(arguments: &[&str]) -> (RunRecord, String) {
    let arguments = [&["--allocator=spiderpool"], arguments].concat();
    let told = line(&arguments);
    let record = record(&arguments);
    assert_eq!(record.outcome.reason, EndReason::AllRunning, "{told}");
    assert!(record.violations.is_empty(), "{told}");
    (record, told)
}

#[test]
fn a_thousand_pods_contend_for_one_pool_and_no_address_is_given_twice() {
    let (record, told) = run(&["--addresses=ample", "--stack=dual"]);
    assert_eq!(record.probes["peak-addresses-in-use"], 2000, "{told}");
    assert!(record.probes["conflicts"] > 0, "{told}");
    assert_eq!(record.probes["second_addresses"], 0, "{told}");
    // Five requests, two more for each conflict.
    let milli = record.api.per_pod.per_pod_milli.unwrap();
    assert!(
        (5000..12_000).contains(&milli),
        "{milli} per 1000 Pods\n{told}"
    );
}

#[test]
fn a_full_pool_does_not_refuse_anybody_for_whom_an_address_is_left() {
    let (record, told) = run(&["--addresses=equal", "--stack=ipv4"]);
    assert_eq!(record.probes["peak-addresses-in-use"], 1000, "{told}");
    assert_eq!(record.probes["used_out"], 0, "{told}");
}

#[test]
fn a_pool_of_its_own_for_each_deployment_takes_the_conflicts_away() {
    let shared = run(&["--addresses=ample"]).0;
    let set = "--set=spiderpool.pool_per_deployment=true";
    let (own, told) = run(&["--addresses=ample", set]);
    assert!(
        own.probes["conflicts"] * 10 < shared.probes["conflicts"],
        "{} against {}\n{told}",
        own.probes["conflicts"],
        shared.probes["conflicts"]
    );
}
