//! Tests of run records: the sample, its schema, and contradictions.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const SAMPLE: &str = include_str!("../../schema/run-record.v2.sample.json");
const JSON_SCHEMA: &str = include_str!("../../schema/run-record.v2.json");

fn sample() -> Value {
    serde_json::from_str(SAMPLE).unwrap()
}

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&serde_json::from_str(JSON_SCHEMA).unwrap()).unwrap()
}

/// Pointers to every object in a value.
fn objects(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(pointer.to_owned());
            for (key, field) in fields {
                objects(field, &format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(item, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// Objects whose keys are names that the run chooses.
const OPEN: [&str; 5] = [
    "/attribution/total_ns",
    "/scenario/overrides",
    "/scenario/workload/documents",
    "/probes",
    "/faults",
];

#[test]
fn the_sample_reads_back_to_the_same_bytes() {
    let record = RunRecord::from_json(SAMPLE).unwrap();
    assert_eq!(record.to_json(), SAMPLE);
    assert_eq!(RunRecord::from_json(&record.to_json_line()), Ok(record));
}

#[test]
fn the_sample_fits_the_committed_schema() {
    let errors: Vec<_> = validator()
        .iter_errors(&sample())
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn every_field_is_required_and_no_other_is_allowed() {
    let (sample, validator) = (sample(), validator());
    let mut pointers = Vec::new();
    objects(&sample, "", &mut pointers);
    let closed = pointers
        .iter()
        .filter(|pointer| !OPEN.contains(&pointer.as_str()));
    let mut change_count = 0;
    for pointer in closed {
        let keys: Vec<String> = sample
            .pointer(pointer)
            .unwrap()
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        let edits = keys.iter().map(Some).chain([None]);
        for key in edits {
            let mut edited = sample.clone();
            let object = edited
                .pointer_mut(pointer)
                .unwrap()
                .as_object_mut()
                .unwrap();
            match key {
                Some(key) => drop(object.remove(key)),
                None => drop(object.insert("surplus".to_owned(), Value::Null)),
            }
            let read = RunRecord::from_json(&edited.to_string());
            assert!(
                matches!(read, Err(RecordError::Syntax(_))),
                "{pointer} {key:?}: {read:?}"
            );
            assert!(!validator.is_valid(&edited), "{pointer} {key:?}");
            change_count += 1;
        }
    }
    assert!(change_count > 100, "only {change_count} edits");
}

#[test]
fn contradictions_are_refused_with_the_field() {
    for (pointer, value, field) in [
        (
            "/outcome/all_running_s",
            Value::from(12.5),
            "outcome.all_running_s",
        ),
        (
            "/outcome/pods_running",
            Value::from(4),
            "outcome.pods_running",
        ),
        (
            "/running_curve_ns/0",
            Value::from(99_000_000_000_u64),
            "running_curve_ns",
        ),
        ("/pods/0/bound_ns", Value::from(1), "pods[0]"),
        (
            "/pods/2/running_ns",
            Value::from(99_000_000_000_u64),
            "running_curve_ns",
        ),
        (
            "/api/per_pod/per_pod_milli",
            Value::from(1000),
            "api.per_pod.per_pod_milli",
        ),
        (
            "/attribution/paths/0/segments/1/start_ns",
            Value::from(1),
            "attribution.paths[0]",
        ),
        (
            "/attribution/paths/1/segments/5/end_ns",
            Value::from(11_499_999_999_u64),
            "attribution.paths[1]",
        ),
        ("/add_latency/p50_ns", Value::from(1), "add_latency"),
        (
            "/answered_without_apiserver/count",
            Value::from(3),
            "answered_without_apiserver",
        ),
    ] {
        let mut changed = sample();
        *changed.pointer_mut(pointer).unwrap() = value;
        let error = RunRecord::from_json(&changed.to_string()).unwrap_err();
        assert!(
            matches!(&error, RecordError::Inconsistent { field: found, .. } if found == field),
            "{pointer}: {error}"
        );
    }
    let other = SAMPLE.replace("run-record/v2", "run-record/v3");
    assert!(matches!(
        RunRecord::from_json(&other),
        Err(RecordError::Schema { .. })
    ));
}

#[test]
fn two_hosts_give_the_same_comparable_bytes() {
    let record = RunRecord::from_json(SAMPLE).unwrap();
    let host = Host {
        wall_ns: 1,
        memory_peak_bytes: None,
    };
    let elsewhere = RunRecord {
        host,
        ..record.clone()
    };
    assert_eq!(record.comparable_json(), elsewhere.comparable_json());
    let seed = Seed(1);
    assert_ne!(
        record.comparable_json(),
        RunRecord { seed, ..record }.comparable_json()
    );
}

#[test]
fn requests_per_pod_are_rounded_to_nearest() {
    let requests = AllocatorRequests {
        read_count: 1,
        write_count: 1,
        pod_count: 3,
        ..Default::default()
    };
    assert_eq!(RequestsPerPod::from(requests).per_pod_milli, Some(667));
    assert_eq!(
        RequestsPerPod::from(AllocatorRequests::default()).per_pod_milli,
        None
    );
}

#[test]
fn every_exit_class_has_its_own_code() {
    let codes = [
        ExitClass::Ok,
        ExitClass::Usage,
        ExitClass::Violation,
        ExitClass::NotDeterministic,
        ExitClass::OutsideReference,
        ExitClass::Internal,
        ExitClass::Interrupted,
    ]
    .map(ExitClass::code);
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 130]);
}

proptest! {
    #[test]
    fn seconds_keep_every_nanosecond(ns in 0..1_u64 << 50) {
        let text = serde_json::to_string(&Seconds { ns }).unwrap();
        prop_assert_eq!(serde_json::from_str::<Seconds>(&text).unwrap(), Seconds { ns });
    }

    #[test]
    fn digests_round_trip(value in any::<u128>()) {
        prop_assert_eq!(Digest::try_from(Digest(value).to_string()), Ok(Digest(value)));
    }
}
