//! Claims about calls, outcomes, watches and outages, on a cluster without kubelets.

use std::rc::Rc;
use std::time::Duration;

use crate::apiserver::{CallEffect, CallFault, CallSelector};
use crate::cluster::Action;
use crate::ids::{ClientId, NodeIndex};
use crate::request::{
    Answer, ApiError, Change, ClientClass, ClientSpec, Consistency, Custom, CustomKind, Part,
    Request, Response, Selector, Shape, WatchTarget,
};
use crate::testing::{ControlPlane, ControlPlaneSpec, client_on};

const KIND: CustomKind = CustomKind {
    resource: "things",
    shape: Shape::Flat,
};
const SECOND: Duration = Duration::from_secs(1);
const UNKNOWN: Response = Err(ApiError::Unavailable { unknown: true });
const REFUSED: Response = Err(ApiError::Unavailable { unknown: false });

fn bench(set: &'static [&'static str]) -> ControlPlane {
    ControlPlane::new(ControlPlaneSpec {
        nodes: 10,
        run_after: None,
        objects: Vec::new(),
        set,
        profile: "measured",
    })
}

/// A client on worker4 that gives up after ten seconds.
fn impatient() -> ClientSpec {
    ClientSpec {
        timeout: Some(10 * SECOND),
        ..client_on(3)
    }
}

fn thing(name: &str) -> Rc<Custom> {
    Rc::new(Custom {
        kind: KIND,
        name: Rc::from(name),
        uid: 0,
        resource_version: 0,
        labels: vec![("color".to_owned(), "red".to_owned())],
        annotations: Vec::new(),
        finalizers: Vec::new(),
        deleting: false,
        body: Rc::from("{}"),
        status: None,
        record_count: 1,
    })
}

fn create(name: &str) -> Request {
    Request::Create(thing(name))
}

fn get(name: &str, consistency: Consistency) -> Request {
    Request::Get {
        kind: KIND,
        name: Rc::from(name),
        consistency,
    }
}

fn things(selectors: Vec<Selector>, name: Option<&str>) -> WatchTarget {
    WatchTarget::Customs {
        kind: KIND,
        selectors,
        name: name.map(Rc::from),
    }
}

fn arm(bench: &mut ControlPlane, nth: u32, effect: CallEffect) {
    let selector = CallSelector::writes_of(ClientClass::IpamNode, Some(NodeIndex(3)));
    bench.inject(&Action::Arm(CallFault {
        selector,
        nth,
        effect,
    }));
}

fn exists(bench: &ControlPlane, name: &str) -> bool {
    bench.cluster.api().custom(KIND, name).is_some()
}

/// Names that the watch of a token brought, a removal with a dash in front.
fn seen(bench: &ControlPlane, token: u64) -> Vec<String> {
    let seen = bench.seen.borrow();
    seen.changes
        .iter()
        .filter(|(_, owner, _)| *owner == token)
        .map(|(_, _, change)| match change {
            Change::Custom(object) => object.name.to_string(),
            Change::CustomGone(object) => format!("-{}", object.name),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn an_idle_server_answers_near_the_measured_medians() {
    let mut bench = bench(&[]);
    let client = bench.client(client_on(3));
    bench.pass(SECOND);
    let (write, created) = bench.ask(client, create("a"));
    assert!(created.is_ok());
    let (read, found) = bench.ask(client, get("a", Consistency::Quorum));
    assert!(found.is_ok());
    // POST of a small object 3.8 ms (p95 4.9) and GET of a Lease 1.4 ms (p95 2.2), plus two hops.
    assert!((3..=6).contains(&write.as_millis()), "{write:?}");
    assert!((1_300..=2_400).contains(&read.as_micros()), "{read:?}");
}

#[test]
fn a_fresh_process_pays_for_its_connection_once() {
    let mut bench = bench(&[]);
    let client = bench.client(ClientSpec {
        fresh_connection: true,
        ..client_on(3)
    });
    bench.pass(SECOND);
    let (first, _) = bench.ask(client, get("a", Consistency::Quorum));
    let (second, _) = bench.ask(client, get("a", Consistency::Quorum));
    assert!(
        first > second + Duration::from_millis(4),
        "{first:?} against {second:?}"
    );
}

#[test]
fn the_fixed_model_takes_nine_to_twenty_seven_milliseconds_and_no_cpu() {
    let mut bench = bench(&["api.fixed_latency=true"]);
    let client = bench.client(client_on(3));
    let cores: Vec<u64> = cpu(&bench);
    let times: Vec<Duration> = (0..50)
        .map(|n| bench.ask(client, create(&format!("o{n}"))).0)
        .collect();
    assert!(
        times
            .iter()
            .all(|time| (9_000..=27_000).contains(&time.as_micros()))
    );
    assert_ne!(times.iter().min(), times.iter().max());
    assert_eq!(cpu(&bench), cores);
}

fn cpu(bench: &ControlPlane) -> Vec<u64> {
    let now = bench.queue.now();
    bench
        .cluster
        .machines()
        .iter()
        .map(|m| m.cpu.busy_core_nanos(now))
        .collect()
}

#[test]
fn a_read_is_two_events_of_the_api_path_and_a_write_three() {
    let mut bench = bench(&[]);
    let client = bench.client(client_on(3));
    bench.pass(SECOND);
    let before = bench.api_events;
    bench
        .ask(client, get("a", Consistency::Quorum))
        .1
        .expect_err("there is none");
    assert_eq!(bench.api_events - before, 2, "and one of the CPU");
    let before = bench.api_events;
    bench.ask(client, create("a")).1.expect("it is new");
    assert_eq!(bench.api_events - before, 3, "and one of the CPU");
}

#[test]
fn a_lost_answer_leaves_the_write_committed_and_the_client_without_knowledge() {
    let mut bench = bench(&[]);
    let client = bench.client(impatient());
    arm(&mut bench, 2, CallEffect::LoseResponse);
    assert!(bench.ask(client, create("a")).1.is_ok());
    let (time, response) = bench.ask(client, create("b"));
    assert_eq!(response, UNKNOWN);
    assert_eq!(time, 10 * SECOND);
    assert!(exists(&bench, "b"));
    let fired = bench.cluster.api().fired();
    assert_eq!(fired.len(), 1);
    assert!(fired[0].committed && !fired[0].committed_late);
    assert_eq!(
        bench.ask(client, create("b")).1,
        Err(ApiError::AlreadyExists)
    );
}

#[test]
fn a_lost_request_changes_nothing_but_looks_the_same() {
    let mut bench = bench(&[]);
    let client = bench.client(impatient());
    arm(&mut bench, 1, CallEffect::LoseRequest);
    assert_eq!(bench.ask(client, create("a")), (10 * SECOND, UNKNOWN));
    assert!(!exists(&bench, "a"));
    assert!(!bench.cluster.api().fired()[0].committed);
}

#[test]
fn a_reset_connection_is_noticed_at_once_before_or_after_the_commit() {
    let mut bench = bench(&[]);
    let client = bench.client(impatient());
    for (name, effect, stored) in [
        ("a", CallEffect::ResetBefore, false),
        ("b", CallEffect::ResetAfterCommit, true),
    ] {
        arm(&mut bench, 1, effect);
        let (time, response) = bench.ask(client, create(name));
        assert_eq!(response, UNKNOWN, "{name}");
        assert!(time < SECOND);
        assert_eq!(exists(&bench, name), stored, "{name}");
    }
}

#[test]
fn a_held_write_commits_after_its_client_gave_up() {
    let mut bench = bench(&[]);
    let client = bench.client(impatient());
    arm(&mut bench, 1, CallEffect::Hold(20 * SECOND));
    assert_eq!(bench.ask(client, create("a")), (10 * SECOND, UNKNOWN));
    assert!(!exists(&bench, "a"));
    bench.pass(11 * SECOND);
    assert!(exists(&bench, "a"));
    assert!(bench.cluster.api().fired()[0].committed_late);
}

#[test]
fn a_held_write_of_a_patient_client_ends_at_the_handler_timeout() {
    let mut bench = bench(&[]);
    let client = bench.client(client_on(3));
    arm(&mut bench, 1, CallEffect::Hold(50 * SECOND));
    let (time, response) = bench.ask(client, create("a"));
    assert_eq!(response, UNKNOWN);
    assert_eq!(time.as_secs(), 34);
    bench.pass(20 * SECOND);
    assert!(exists(&bench, "a"));
}

#[test]
fn a_held_write_is_tried_against_the_state_it_finds_then() {
    let mut bench = bench(&[]);
    let client = bench.client(impatient());
    let other = bench.client(client_on(4));
    let Ok(Answer::Custom(object)) = bench.ask(client, create("a")).1 else {
        panic!("created")
    };
    arm(&mut bench, 1, CallEffect::Hold(20 * SECOND));
    let change = |body: &str, from: &Custom| {
        let mut next = from.clone();
        next.body = Rc::from(body);
        Request::Replace {
            object: Rc::new(next),
            part: Part::Main,
        }
    };
    assert_eq!(bench.ask(client, change("late", &object)).1, UNKNOWN);
    assert!(bench.ask(other, change("early", &object)).1.is_ok());
    bench.pass(20 * SECOND);
    assert_eq!(
        &*bench.cluster.api().custom(KIND, "a").unwrap().body,
        "early"
    );
}

#[test]
fn a_fault_counts_only_the_calls_it_selects() {
    let mut bench = bench(&[]);
    let (mine, other) = (bench.client(client_on(3)), bench.client(client_on(4)));
    arm(&mut bench, 1, CallEffect::Answer(ApiError::Conflict));
    assert!(bench.ask(other, create("a")).1.is_ok(), "another machine");
    assert!(
        bench.ask(mine, get("a", Consistency::Quorum)).1.is_ok(),
        "a read"
    );
    assert_eq!(bench.ask(mine, create("b")).1, Err(ApiError::Conflict));
    assert!(bench.ask(mine, create("b")).1.is_ok(), "it fires once");
}

#[test]
fn a_watch_brings_every_change_in_order_and_replays_from_a_revision() {
    let mut bench = bench(&[]);
    let client = bench.client(client_on(3));
    bench.watch(client, things(Vec::new(), None), 0, 1);
    for name in ["a", "b"] {
        bench.ask(client, create(name)).1.expect("it is new");
    }
    let from = bench.cluster.api().revision() - 1;
    let delete = Request::Delete {
        kind: KIND,
        name: Rc::from("a"),
        uid: None,
        resource_version: None,
    };
    bench.ask(client, delete).1.expect("it is there");
    bench.pass(SECOND);
    bench.watch(client, things(Vec::new(), None), from, 2);
    bench.watch(client, things(Vec::new(), None), 0, 3);
    bench.pass(SECOND);
    assert_eq!(seen(&bench, 1), ["a", "b", "-a"]);
    assert_eq!(seen(&bench, 2), ["b", "-a"]);
    assert_eq!(seen(&bench, 3), ["b"]);
}

#[test]
fn a_watch_sees_what_its_selectors_and_its_name_ask_for() {
    let mut bench = bench(&[]);
    let client = bench.client(client_on(3));
    let red = || Selector::Is("color".to_owned(), "red".to_owned());
    bench.watch(client, things(vec![red()], None), 0, 1);
    bench.watch(client, things(Vec::new(), Some("b")), 0, 2);
    bench.watch(
        client,
        things(vec![Selector::Not("color".to_owned())], None),
        0,
        3,
    );
    for name in ["a", "b"] {
        bench.ask(client, create(name)).1.expect("it is new");
    }
    let mut blue = Custom::clone(bench.cluster.api().custom(KIND, "a").unwrap());
    blue.labels[0].1 = "blue".to_owned();
    let put = Request::Replace {
        object: Rc::new(blue),
        part: Part::Main,
    };
    bench.ask(client, put).1.expect("it is fresh");
    bench.pass(SECOND);
    assert_eq!(
        seen(&bench, 1),
        ["a", "b", "-a"],
        "what stops matching is gone for the watcher"
    );
    assert_eq!(seen(&bench, 2), ["b"]);
    assert!(seen(&bench, 3).is_empty());
}

#[test]
fn a_watch_from_before_the_window_is_gone() {
    let mut bench = bench(&["api.history_age=5", "api.history_min=3"]);
    let client = bench.client(client_on(3));
    bench.ask(client, create("first")).1.expect("it is new");
    let old = bench.cluster.api().revision();
    bench.ask(client, create("second")).1.expect("it is new");
    bench.pass(20 * SECOND);
    for n in 0..5 {
        bench
            .ask(client, create(&format!("o{n}")))
            .1
            .expect("it is new");
    }
    bench.watch(client, things(Vec::new(), None), old, 1);
    bench.pass(SECOND);
    assert_eq!(seen(&bench, 1), ["Closed(Gone)"]);
}

#[test]
fn bookmarks_come_each_minute() {
    let mut bench = bench(&[]);
    let client = bench.client(client_on(3));
    bench.watch(client, things(Vec::new(), None), 0, 1);
    bench.pass(150 * SECOND);
    assert_eq!(seen(&bench, 1).len(), 2);
    assert!(seen(&bench, 1)[0].starts_with("Bookmark"));
}

#[test]
fn cached_reads_lag_behind_a_frozen_cache_and_quorum_reads_do_not() {
    let mut bench = bench(&[]);
    let client = bench.client(client_on(3));
    bench.pass(SECOND);
    for server in 0..3 {
        bench.inject(&Action::FreezeCache {
            server,
            time: 10 * SECOND,
        });
    }
    bench.watch(client, things(Vec::new(), None), 0, 1);
    bench.ask(client, create("a")).1.expect("it is new");
    assert_eq!(
        bench.ask(client, get("a", Consistency::Cache)).1,
        Err(ApiError::NotFound)
    );
    assert!(bench.ask(client, get("a", Consistency::Quorum)).1.is_ok());
    assert!(
        seen(&bench, 1).is_empty(),
        "watches are fed by the same cache"
    );
    bench.pass(11 * SECOND);
    assert!(bench.ask(client, get("a", Consistency::Cache)).1.is_ok());
    assert_eq!(seen(&bench, 1), ["a"]);
}

#[test]
fn a_full_queue_answers_429_and_the_client_tries_again_by_itself() {
    let mut bench = bench(&["api.workload_high_seats=10", "api.queue_length=10"]);
    let client = bench.client(client_on(3));
    bench.pass(SECOND);
    for n in 0..200 {
        bench.call(client, create(&format!("o{n}")), n);
    }
    bench.pass(30 * SECOND);
    assert!(bench.cluster.api().rejected() > 100);
    let seen = bench.seen.borrow();
    assert_eq!(seen.responses.len(), 200);
    assert!(
        seen.responses
            .iter()
            .all(|(_, _, response)| response.is_ok())
    );
    assert!(
        seen.responses
            .iter()
            .any(|(at, _, _)| at.whole_seconds() >= 2),
        "after a second"
    );
}

#[test]
fn a_request_that_waits_too_long_for_a_seat_gets_429() {
    let mut bench = bench(&[
        "api.workload_high_seats=1",
        "api.queue_wait=3",
        "client.max_retries=0",
    ]);
    let client = bench.client(client_on(3));
    let holder = bench.client(ClientSpec {
        class: ClientClass::IpamController,
        ..client_on(3)
    });
    let all = CallSelector::writes_of(ClientClass::IpamController, None);
    let effect = CallEffect::Hold(20 * SECOND);
    bench.inject(&Action::Arm(CallFault {
        selector: all,
        nth: 1,
        effect,
    }));
    // One of the two clients must share the server; ask from enough clients to be sure.
    bench.call(holder, create("held"), 1);
    bench.pass(SECOND);
    let clients: Vec<ClientId> = (0..12).map(|_| bench.client(client_on(3))).collect();
    for (n, client) in clients.iter().chain([&client]).enumerate() {
        bench.call(*client, create(&format!("o{n}")), 100 + n as u64);
    }
    bench.pass(5 * SECOND);
    let seen = bench.seen.borrow();
    let late = Err(ApiError::TooManyRequests { retry_after_s: 1 });
    assert!(
        seen.responses
            .iter()
            .any(|(_, _, response)| *response == late)
    );
    assert!(
        seen.responses
            .iter()
            .any(|(_, _, response)| response.is_ok())
    );
}

#[test]
fn a_limiter_serves_in_order_with_its_burst_first() {
    let mut bench = bench(&[]);
    let client = bench.client(ClientSpec {
        limiter: Some((5_000, 10)),
        ..client_on(3)
    });
    bench.pass(10 * SECOND);
    for n in 0..20 {
        bench.call(client, get("a", Consistency::Quorum), n);
    }
    bench.pass(10 * SECOND);
    let seen = bench.seen.borrow();
    let order: Vec<u64> = seen.responses.iter().map(|(_, token, _)| *token).collect();
    assert_eq!(order, (0..20).collect::<Vec<u64>>());
    let last = seen.responses[19].0;
    assert_eq!(
        last.as_nanos() / 10_000_000,
        1200,
        "10 at once, 10 at 5/s: 12.00 s"
    );
}

#[test]
fn a_stopped_apiserver_breaks_calls_and_watches_and_then_asks_for_a_new_list() {
    let mut bench = bench(&[]);
    let clients: Vec<ClientId> = (0..9).map(|_| bench.client(client_on(3))).collect();
    bench.pass(SECOND);
    bench.ask(clients[0], create("a")).1.expect("it is new");
    let from = bench.cluster.api().revision();
    for (token, client) in clients.iter().enumerate() {
        bench.watch(*client, things(Vec::new(), None), from, token as u64);
    }
    bench.ask(clients[0], create("b")).1.expect("it is new");
    for server in 0..3 {
        bench.inject(&Action::StopApiserver {
            server,
            down: Some(5 * SECOND),
        });
    }
    bench.pass(SECOND);
    assert_eq!(
        bench.ask(clients[0], create("c")).1,
        REFUSED,
        "nobody listens"
    );
    assert!(!exists(&bench, "c"));
    bench.pass(5 * SECOND);
    bench
        .ask(clients[0], create("c"))
        .1
        .expect("they serve again");
    bench.watch(clients[0], things(Vec::new(), None), from, 100);
    bench.pass(SECOND);
    let closed = "Closed(Unavailable { unknown: false })";
    for token in 0..9 {
        let changes = seen(&bench, token);
        assert_eq!(changes.last().map(String::as_str), Some(closed));
    }
    assert_eq!(
        seen(&bench, 100),
        ["Closed(Gone)"],
        "the cache starts at the restart"
    );
}

#[test]
fn clients_move_to_another_apiserver_and_gets_are_sent_again() {
    let mut bench = bench(&["etcd.fsync=900..900"]);
    let clients: Vec<ClientId> = (0..9).map(|_| bench.client(client_on(3))).collect();
    bench.pass(SECOND);
    for (n, client) in clients.iter().enumerate() {
        bench.call(*client, create(&format!("o{n}")), n as u64);
        bench.call(*client, get("none", Consistency::Quorum), 100 + n as u64);
    }
    bench.pass(Duration::from_millis(1));
    bench.inject(&Action::StopApiserver {
        server: 0,
        down: None,
    });
    bench.pass(10 * SECOND);
    let seen = bench.seen.borrow();
    assert_eq!(seen.responses.len(), 18);
    let unknown = seen
        .responses
        .iter()
        .filter(|(_, _, response)| *response == UNKNOWN)
        .count();
    assert!(
        unknown > 0,
        "writes of the stopped server have no known outcome"
    );
    let reads = seen.responses.iter().filter(|(_, token, _)| *token >= 100);
    assert!(
        reads
            .clone()
            .all(|(_, _, response)| *response == Err(ApiError::NotFound))
    );
}

#[test]
fn a_partition_hangs_calls_until_the_connection_is_found_dead() {
    let mut bench = bench(&[]);
    let (patient, hasty) = (bench.client(client_on(3)), bench.client(impatient()));
    let other = bench.client(client_on(4));
    bench.watch(patient, things(Vec::new(), None), 0, 1);
    bench.pass(SECOND);
    bench.inject(&Action::Cut(NodeIndex(3)));
    let read = get("a", Consistency::Quorum);
    let start = bench.queue.now();
    bench.call(patient, read.clone(), 1);
    bench.call(hasty, read, 2);
    bench
        .ask(other, create("a"))
        .1
        .expect("other machines go on");
    bench.pass(60 * SECOND);
    let waits: Vec<(u64, u64)> = bench
        .seen
        .borrow()
        .responses
        .iter()
        .filter(|(_, token, _)| *token < 10)
        .map(|(at, token, _)| (*token, (*at - start).as_secs()))
        .collect();
    assert_eq!(waits, [(2, 10), (1, 45)]);
    assert_eq!(seen(&bench, 1), ["Closed(Unavailable { unknown: false })"]);
}

#[test]
fn a_short_partition_delays_a_watch_and_loses_nothing() {
    let mut bench = bench(&[]);
    let (client, other) = (bench.client(client_on(3)), bench.client(client_on(4)));
    bench.watch(client, things(Vec::new(), None), 0, 1);
    bench.pass(SECOND);
    bench.inject(&Action::Cut(NodeIndex(3)));
    bench.ask(other, create("a")).1.expect("it is new");
    bench.pass(10 * SECOND);
    assert!(seen(&bench, 1).is_empty());
    bench.inject(&Action::Heal(NodeIndex(3)));
    bench.pass(SECOND);
    assert_eq!(seen(&bench, 1), ["a"]);
}

#[test]
fn a_write_whose_answer_meets_a_partition_is_committed() {
    let mut bench = bench(&["etcd.fsync=100..100"]);
    let client = bench.client(impatient());
    bench.pass(SECOND);
    bench.call(client, create("a"), 1);
    bench.pass(Duration::from_millis(50));
    bench.inject(&Action::Cut(NodeIndex(3)));
    bench.pass(11 * SECOND);
    assert!(exists(&bench, "a"));
    assert_eq!(bench.seen.borrow().responses[0].2, UNKNOWN);
}

#[test]
fn concurrent_writes_share_the_disk() {
    let mut bench = bench(&["etcd.fsync=50..50"]);
    let client = bench.client(client_on(3));
    bench.pass(SECOND);
    let before = bench.cluster.api().fsync_batches();
    for n in 0..60 {
        bench.call(client, create(&format!("o{n}")), n);
    }
    bench.pass(2 * SECOND);
    assert_eq!(bench.seen.borrow().responses.len(), 60);
    let batches = bench.cluster.api().fsync_batches() - before;
    assert!(batches <= 8, "{batches} batches for 60 writes");
}

#[test]
fn the_answers_to_a_dead_process_reach_nobody_and_its_writes_go_on() {
    let mut bench = bench(&[]);
    let client = bench.client(client_on(3));
    bench.pass(SECOND);
    bench.call(client, create("a"), 1);
    bench.pass(Duration::from_millis(1));
    bench.with_ipam(|_, context| context.drop_client(client));
    bench.pass(SECOND);
    assert!(exists(&bench, "a"));
    assert!(bench.seen.borrow().responses.is_empty());
    assert_eq!(bench.cluster.api().calls_in_flight(), 0);
}

#[test]
fn large_granular_maps_cost_what_was_measured() {
    let bench = bench(&[]);
    let costs = &bench.cluster.parameters().cost;
    let kind = CustomKind {
        resource: "ippools",
        shape: Shape::GranularMap,
    };
    let pool = |record_count| Custom {
        kind,
        record_count,
        ..Custom::clone(&thing("pool"))
    };
    let store = super::store::Store::new(super::store::Limits {
        history_age: SECOND,
        history_min: 1,
        history_max: 1,
        body_bytes_max: 1,
    });
    let put = |record_count| Request::Replace {
        object: Rc::new(pool(record_count)),
        part: Part::Main,
    };
    let demand = costs.demand(&put(1000), &store);
    let total = demand.foreground + demand.background;
    assert_eq!(total.as_micros(), 245_300, "240.0 apiserver, 5.3 etcd");
    assert_eq!(
        demand.foreground.as_micros(),
        158_800,
        "the latency less the disk"
    );
    assert!(costs.demand(&put(10), &store).foreground < Duration::from_millis(10));
}

/// When the answers to some requests, all made at once, come back, counted from then.
fn answered(set: &'static [&'static str], requests: Vec<Request>) -> Vec<Duration> {
    let mut bench = bench(set);
    let client = bench.client(client_on(3));
    bench.pass(SECOND);
    let begun = bench.queue.now();
    for (request, token) in requests.into_iter().zip(1..) {
        bench.call(client, request, token);
    }
    bench.pass(2 * SECOND);
    let seen = bench.seen.borrow();
    let times = seen.responses.iter().map(|(at, ..)| *at - begun);
    times.collect()
}

#[test]
fn latency_beside_the_cpu_delays_reads_and_writes_alike_and_holds_the_seats() {
    let latency = Duration::from_millis(100);
    for request in [|| create("a"), || get("nobody", Consistency::Quorum)] {
        let fast = answered(&[], vec![request()]);
        let slow = answered(&["api.latency=100"], vec![request()]);
        assert_eq!(slow[0], fast[0] + latency);
    }
    // One seat: the second request begins when the first has its answer.
    let two = || vec![create("a"), create("b")];
    let slow = answered(&["api.latency=100", "api.workload_high_seats=1"], two());
    assert!(slow[1] >= slow[0] + latency, "{slow:?}");
    let slow = answered(&["api.latency=100"], two());
    assert!(slow[1] < slow[0] + latency, "{slow:?}");
}
