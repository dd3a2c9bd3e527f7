//! Tests of the event log.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use serde::Serialize;

use super::EventLog;
use crate::time::SimInstant;

#[derive(Serialize)]
enum Sample {
    Started { pod: u32 },
    Done(String),
}

fn fill(log: &mut EventLog, events: u64) {
    for index in 0..events {
        let at = SimInstant::from_nanos(index * 400_000_000);
        log.append(at, &Sample::Started { pod: index as u32 });
        log.append(at, &Sample::Done(format!("pod-{index}")));
    }
}

/// A sink that tests can read, and that fails when told to.
#[derive(Clone, Default)]
struct Shared {
    bytes: Arc<Mutex<Vec<u8>>>,
    broken: bool,
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::Error::other("disk full"));
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn equal_events_give_equal_digests_and_different_ones_do_not() {
    let digest = |events| {
        let mut log = EventLog::new();
        fill(&mut log, events);
        log.digest()
    };
    assert_eq!(digest(1000), digest(1000));
    assert_ne!(digest(1000), digest(999));
}

#[test]
fn the_digest_of_a_fixed_scenario_is_the_same_on_every_build() {
    let mut log = EventLog::new();
    fill(&mut log, 100);
    expect_test::expect!["d8d8a43c54e7e754b890ebf45ab44ac5"].assert_eq(&log.digest().to_string());
}

#[test]
fn asking_for_the_digest_does_not_change_it() {
    let (mut asked, mut quiet) = (EventLog::new(), EventLog::new());
    for index in 0..100 {
        let event = Sample::Started { pod: index };
        asked.append(SimInstant::ZERO, &event);
        quiet.append(SimInstant::ZERO, &event);
        asked.digest();
    }
    assert_eq!(asked.digest(), quiet.digest());
}

#[test]
fn each_second_with_events_has_one_checkpoint() {
    let mut log = EventLog::new();
    for (nanos, pod) in [
        (0, 0),
        (999_999_999, 1),
        (1_000_000_000, 2),
        (5_000_000_000, 3),
    ] {
        log.append(SimInstant::from_nanos(nanos), &Sample::Started { pod });
    }
    let seen: Vec<_> = log
        .checkpoints()
        .iter()
        .map(|point| (point.second, point.count))
        .collect();
    assert_eq!(seen, [(0, 2), (1, 3)]);
}

#[test]
fn a_trace_is_one_json_line_per_event_and_leaves_the_digest_alone() {
    let sink = Shared::default();
    let mut log = EventLog::with_sink(Box::new(sink.clone()));
    fill(&mut log, 1);
    log.flush_sink();
    let mut bare = EventLog::new();
    fill(&mut bare, 1);
    assert_eq!(log.digest(), bare.digest());
    expect_test::expect![[r#"
        {"ordinal":0,"at_ns":0,"event":{"Started":{"pod":0}}}
        {"ordinal":1,"at_ns":0,"event":{"Done":"pod-0"}}
    "#]]
    .assert_eq(std::str::from_utf8(&sink.bytes.lock().unwrap()).unwrap());
}

#[test]
fn a_broken_trace_is_reported_once_and_the_run_goes_on() {
    let mut log = EventLog::with_sink(Box::new(Shared {
        broken: true,
        ..Shared::default()
    }));
    fill(&mut log, 1000);
    log.flush_sink();
    assert_eq!(log.take_sink_error().unwrap().to_string(), "disk full");
    assert!(log.take_sink_error().is_none());
    assert_eq!(log.count(), 2000);
}

#[test]
fn digests_round_trip_through_json() {
    let mut log = EventLog::new();
    let digest = log.digest();
    let text = serde_json::to_string(&digest).unwrap();
    assert_eq!(
        serde_json::from_str::<super::Digest>(&text).unwrap(),
        digest
    );
}
