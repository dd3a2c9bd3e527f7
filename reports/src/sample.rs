//! Records for the tests of this crate; not part of the library.

use drydock_traces::run_record::{EndReason, PodTimes, RunRecord, Seconds};
use drydock_traces::seed::Seed;

/// The sample that is committed with the schema.
pub(crate) fn record() -> RunRecord {
    RunRecord::from_json(include_str!(
        "../../traces/schema/run-record.v2.sample.json"
    ))
    .unwrap()
}

/// A run of 1000 Pods that all ran at a steady pace and were done after that time.
pub(crate) fn finished(seed: u64, all_running_ns: u64) -> RunRecord {
    let mut record = record();
    record.seed = Seed(seed);
    record.violations.clear();
    record.outcome.waiting.clear();
    record.outcome.reason = EndReason::AllRunning;
    record.outcome.all_running_s = Some(Seconds { ns: all_running_ns });
    record.scenario.workload.pod_count = 1000;
    record.scenario.node_count = 10;
    record.outcome.pods_total = 1000;
    record.outcome.pods_running = 1000;
    record.pods = (0..1000)
        .map(|number| pod(number, all_running_ns))
        .collect();
    record.attribution.paths.clear();
    record.recreation = None;
    record.running_curve_ns = record
        .pods
        .iter()
        .filter_map(|pod| pod.running_ns)
        .collect();
    record.check().unwrap();
    record
}

fn pod(number: u64, all_running_ns: u64) -> PodTimes {
    let running_ns = all_running_ns / 10 + all_running_ns * 9 / 10 * number / 999;
    let add_end_ns = running_ns * 8 / 10;
    // One ADD in fifty is a hundred times slower than the others.
    let slow = if number % 50 == 49 { 100 } else { 1 };
    let latency_ns = (9_000_000 + number * 7_919 % 17_000_000) * slow;
    PodTimes {
        namespace: "default".to_owned(),
        name: format!("pod-{number}"),
        node: Some("worker4".to_owned()),
        created_ns: Some(0),
        bound_ns: Some(0),
        add_start_ns: Some(add_end_ns.saturating_sub(latency_ns)),
        add_end_ns: Some(add_end_ns),
        running_ns: Some(running_ns.max(add_end_ns)),
        add_count: 1,
    }
}
