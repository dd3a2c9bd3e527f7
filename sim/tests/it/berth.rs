//! What Berth promises on a healthy cluster: as fast as a free answer, no address wasted, few
//! requests. Faults are elsewhere.

use drydock_traces::run_record::{EndReason, ExitClass, RunRecord};

use crate::program::{line, median, output, record, stderr, stdout};

fn end_ns(record: &RunRecord) -> u64 {
    record
        .outcome
        .all_running_s
        .expect("all Pods of a run without faults run")
        .ns
}

fn per_pod_milli(record: &RunRecord) -> u64 {
    record
        .api
        .per_pod
        .per_pod_milli
        .expect("a run with Pods has requests per Pod")
}

fn a_shape_costs_nothing(addresses: &str, stack: &str) {
    let mut ratios_ppm = Vec::new();
    for seed in 1..=5 {
        let (addresses, stack) = (
            format!("--addresses={addresses}"),
            format!("--stack={stack}"),
        );
        let seed = format!("--seed={seed}");
        let arguments = [addresses.as_str(), &stack, &seed];
        let told = line(&arguments);
        let berth = record(&arguments);
        let instant = record(&[&arguments[..], &["--allocator=instant"]].concat());
        assert!(
            berth.violations.is_empty(),
            "{:?}\n{told}",
            berth.violations
        );
        assert!(berth.answered_without_apiserver.ppm() >= 990_000, "{told}");
        assert!(
            per_pod_milli(&berth) <= 1400,
            "{} per 1000 Pods\n{told}",
            per_pod_milli(&berth)
        );
        let families = if stack.ends_with("dual") { 2 } else { 1 };
        assert_eq!(
            berth.probes["peak-addresses-in-use"],
            1000 * families,
            "{told}"
        );
        ratios_ppm.push(end_ns(&berth) * 1_000_000 / end_ns(&instant));
    }
    let (median_ppm, worst_ppm) = (median(ratios_ppm.clone()), ratios_ppm.iter().max().unwrap());
    println!("{addresses} {stack}: median {median_ppm} ppm of instant, worst {worst_ppm}");
    assert!(
        median_ppm <= 1_020_000,
        "{addresses} {stack}: {ratios_ppm:?}"
    );
}

#[test]
fn berth_is_as_fast_as_a_free_answer_with_equal_ipv4() {
    a_shape_costs_nothing("equal", "ipv4");
}

#[test]
fn berth_is_as_fast_as_a_free_answer_with_equal_dual() {
    a_shape_costs_nothing("equal", "dual");
}

#[test]
fn berth_is_as_fast_as_a_free_answer_with_ample_ipv4() {
    a_shape_costs_nothing("ample", "ipv4");
}

#[test]
fn berth_is_as_fast_as_a_free_answer_with_ample_dual() {
    a_shape_costs_nothing("ample", "dual");
}

/// The promise is 0.15 requests per Pod.
#[test]
fn a_burst_takes_a_seventh_of_a_request_per_pod() {
    let milli = [1, 2, 3, 4, 5].map(|seed| {
        let seed = format!("--seed={seed}");
        let arguments = ["--workload=burst", "--set=driver.preload_pods=true", &seed];
        let record = record(&arguments);
        assert_eq!(record.outcome.pods_running, 1000, "{}", line(&arguments));
        per_pod_milli(&record)
    });
    println!("requests per 1000 Pods of a burst: {milli:?}");
    assert!(milli.iter().all(|milli| *milli <= 150), "{milli:?}");
}

#[test]
fn with_too_few_addresses_the_run_ends_by_itself_and_names_who_waits() {
    let arguments = ["--addresses=900"];
    let record = record(&arguments);
    let outcome = &record.outcome;
    assert_eq!(outcome.reason, EndReason::Stuck, "{}", line(&arguments));
    assert_eq!(outcome.exit_class, ExitClass::Ok);
    assert!(outcome.ended_at_ns < record.scenario.until_ns);
    assert_eq!((outcome.pods_running, outcome.waiting.len()), (900, 100));
    assert!(
        outcome.waiting.iter().all(|pod| !pod.why.is_empty()),
        "{:?}",
        outcome.waiting
    );
    assert!(record.violations.is_empty(), "{:?}", record.violations);

    let told = output(&["run", "--addresses=900"]);
    assert_eq!(told.status.code(), Some(0), "{}", stderr(&told));
    assert!(
        stdout(&told).contains("every waiting Pod failed three rounds"),
        "{}",
        stdout(&told)
    );
    assert!(stdout(&told).contains("no address"), "{}", stdout(&told));
}
