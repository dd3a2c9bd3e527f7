//! The schemas against the code: what a real apiserver accepts, the code reads; what the code
//! refuses, the apiserver refuses. Generated specs are sent as dry runs. Where the two differ, a
//! table says so and why; a difference that no table names fails the test with the smallest spec
//! that shows it.

mod specs;

use std::cell::RefCell;
use std::collections::BTreeMap;

use berth::adapters::crds::UNSEEN;
use berth::core::holder::decode_records;
use berth::core::objects::{Kind, Object};
use berth::core::pool::{BLOCK_SIZES, Pool};
use berth::core::set_aside::decode;
use berth::testing::control_plane::ControlPlane;
use http::{Method, StatusCode};
use proptest::prelude::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// What the code refuses and only the code can see: kind, words of the refusal, why.
const UNSEEN_ELSEWHERE: &[(&str, &str, &str)] = &[(
    "AddressBlock",
    "record",
    "a pattern over the records would cost the apiserver a part of every write that Pods wait for",
)];

/// What the apiserver refuses though the code reads it: words of the refusal, why.
const STRICTER: &[(&str, &str)] = &[
    (
        "Required value",
        "the code has a value for what is absent; a program that leaves it out is not ours",
    ),
    (
        "is required",
        "a reservation that lacks a part reserves nothing",
    ),
    ("Too many", "a pool has at most two families"),
    ("Too long", "names of objects are no longer"),
    (
        "coolDownSeconds",
        "more than a day of rest is a typing error",
    ),
    ("Unsupported value", "what no program writes"),
    (
        "should match '",
        "names, labels, reasons and times have the form that Kubernetes gives them",
    ),
    ("the key of a label", "no Node and no Pod can carry it"),
    ("should be at least 1 chars long", "a reason says something"),
    ("spec.schema", "a later meaning comes with a later schema"),
    (
        "epoch",
        "no machine boots so often, and a double would round it",
    ),
    (
        "an IP address",
        "::ffff:10.0.0.1 is of both families and of none",
    ),
    (
        "a prefix",
        "::ffff:10.0.0.0/120 is of both families; /024 is read as octal by some; the order of \
         fd00::1.2.3.4-fd00::1.2.3.9 is not reckoned",
    ),
    ("observedGeneration", "an apiserver's integers have a sign"),
    ("spec.index", "an apiserver's integers have a sign"),
];

/// What the code makes of an object.
fn read(kind: Kind, object: &Value) -> Result<(), String> {
    let object = decode(kind, object).map_err(|error| error.to_string())?;
    let refuse = |words: &str| Err(words.to_owned());
    match object {
        Object::SetAside(aside) => refuse(&aside.to_string()),
        Object::AddressPool(pool) => {
            Pool::parse(&pool, None).map_err(|error| error.to_string())?;
            Pool::check(&pool).map_err(|error| error.to_string())
        }
        Object::AddressReservation(reservation) if reservation.spec.address.is_none() => {
            refuse("reserves nothing")
        }
        Object::AddressBlock(block) => {
            if !BLOCK_SIZES.contains(&block.spec.size) {
                return refuse("no pool has this size");
            }
            if block.spec.first.is_empty() {
                return refuse("beyond every pool");
            }
            let mut records = decode_records(&block.spec.records);
            records
                .try_for_each(|entry| entry.map(drop))
                .map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}

fn is_unseen(kind: &str, words: &str) -> bool {
    let of_pool = UNSEEN.iter().any(|(refusal, _)| words.contains(refusal));
    let elsewhere = UNSEEN_ELSEWHERE
        .iter()
        .any(|(of, refusal, _)| *of == kind && words.contains(refusal));
    (kind == "AddressPool" && of_pool) || elsewhere
}

/// How often what happened.
#[derive(Debug, Default)]
struct Tally {
    accepted: u32,
    refused: u32,
    unseen: u32,
    stricter: BTreeMap<&'static str, u32>,
}

async fn compare(
    plane: &ControlPlane,
    kind: Kind,
    spec: &Value,
    tally: &RefCell<Tally>,
) -> Result<(), String> {
    let plural = berth::adapters::apiserver::plural(kind);
    let name = format!("{kind:?}");
    let object = json!({
        "apiVersion": "berth.dev/v1alpha1",
        "kind": name,
        "metadata": {"name": "generated"},
        "spec": spec,
    });
    let path = format!("{}/{plural}?dryRun=All", super::definitions::ROOT);
    let (status, answer) = plane
        .send(Method::POST, &path, Some(&object))
        .await
        .map_err(|error| error.to_string())?;
    let said = answer["message"].as_str().unwrap_or_default();
    let mut tally = tally.borrow_mut();
    match (status, read(kind, &object)) {
        (StatusCode::CREATED, _) => {
            tally.accepted += 1;
            // The code reads what the apiserver made of it.
            match read(kind, &answer) {
                Ok(()) => Ok(()),
                Err(words) if is_unseen(&name, &words) => {
                    tally.unseen += 1;
                    Ok(())
                }
                Err(words) => Err(format!("accepted, and the code says: {words}")),
            }
        }
        (StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST, code) => {
            tally.refused += 1;
            if code.is_err() {
                return Ok(());
            }
            match STRICTER.iter().find(|(words, _)| said.contains(words)) {
                Some((words, _)) => {
                    *tally.stricter.entry(words).or_default() += 1;
                    Ok(())
                }
                None => Err(format!("the code reads it, and it is refused: {said}")),
            }
        }
        (status, _) => Err(format!("{status}: {said}")),
    }
}

fn agree(
    runtime: &Runtime,
    plane: &ControlPlane,
    kind: Kind,
    cases: u32,
    specs: impl Strategy<Value = Value>,
) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let seed = [kind as u8 + 1; 32];
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let tally = RefCell::new(Tally::default());
    let result = TestRunner::new_with_rng(config, rng).run(&specs, |spec| {
        runtime
            .block_on(compare(plane, kind, &spec, &tally))
            .map_err(TestCaseError::fail)
    });
    let tally = tally.into_inner();
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, spec)) => panic!("{kind:?} {spec}\n{why}\n{tally:?}"),
        Err(TestError::Abort(why)) => panic!("{kind:?}: {why}"),
    }
    eprintln!("{kind:?}: {tally:?}");
    // A generator that makes only one kind of spec shows nothing.
    assert!(tally.accepted >= cases / 8, "{kind:?}: {tally:?}");
    assert!(tally.refused >= cases / 8, "{kind:?}: {tally:?}");
}

#[test]
fn what_a_real_apiserver_accepts_the_code_reads_and_what_the_code_refuses_it_refuses() {
    let runtime = Runtime::new().unwrap();
    let Some(plane) = runtime.block_on(super::cluster()) else {
        return;
    };
    // The tables are no loopholes: every difference that they excuse occurs.
    let tally = RefCell::new(Tally::default());
    let crossing = json!({"families": [{"ranges": ["10.0.0.1-10.0.0.9", "10.0.0.5-10.0.0.20"]}]});
    let damaged = json!({"pool": "p", "poolUid": "u", "index": 0, "size": 16, "first": ["10.0.0.0"],
                         "records": "0 ?"});
    for (kind, spec) in [(Kind::AddressPool, crossing), (Kind::AddressBlock, damaged)] {
        let compared = runtime.block_on(compare(&plane, kind, &spec, &tally));
        assert_eq!(compared, Ok(()), "{spec}");
    }
    assert_eq!(tally.into_inner().unseen, 2);
    agree(&runtime, &plane, Kind::AddressPool, 2000, specs::pools());
    agree(
        &runtime,
        &plane,
        Kind::AddressReservation,
        500,
        specs::reservations(),
    );
    agree(&runtime, &plane, Kind::BerthNode, 500, specs::nodes());
    agree(&runtime, &plane, Kind::AddressBlock, 500, specs::blocks());
}
