//! Berth's CustomResourceDefinitions in a real apiserver: it takes them, keeps every field, prints
//! the columns, and refuses what the rules forbid.

use berth::adapters::crds;
use berth::core::condition::state_condition;
use berth::core::objects::{AddressPool, Condition};
use berth::core::pool::{Pool, approval, fingerprint, status_count};
use berth::core::time::WallTime;
use berth::testing::control_plane::ControlPlane;
use http::{Method, StatusCode};
use serde_json::{Value, json};

pub(crate) const ROOT: &str = "/apis/berth.dev/v1alpha1";

/// Creates an object, then replaces its spec by each of `changes`; each must be refused with these
/// words (empty: accepted).
async fn changes(plane: &ControlPlane, plural: &str, name: &str, cases: &[(Value, Value, &str)]) {
    for (index, (before, after, words)) in cases.iter().enumerate() {
        let name = format!("{name}-{index}");
        let object = |spec: &Value, version: &Value| {
            let kind = plural_kind(plural);
            json!({
                "apiVersion": "berth.dev/v1alpha1",
                "kind": kind,
                "metadata": {"name": name, "resourceVersion": version},
                "spec": spec,
            })
        };
        let path = format!("{ROOT}/{plural}");
        let created = plane
            .must(Method::POST, &path, Some(&object(before, &Value::Null)))
            .await
            .unwrap();
        let version = &created["metadata"]["resourceVersion"];
        let path = format!("{path}/{name}");
        let (status, answer) = plane
            .send(Method::PUT, &path, Some(&object(after, version)))
            .await
            .unwrap();
        let message = answer["message"].as_str().unwrap_or_default();
        if words.is_empty() {
            assert_eq!(status, StatusCode::OK, "{before} -> {after}: {message}");
        } else {
            assert_eq!(
                status,
                StatusCode::UNPROCESSABLE_ENTITY,
                "{before} -> {after}: {message}"
            );
            assert!(message.contains(words), "{before} -> {after}: {message}");
        }
    }
}

fn plural_kind(plural: &str) -> String {
    let definition = crds::definitions()
        .into_iter()
        .find(|definition| definition["spec"]["names"]["plural"] == plural)
        .unwrap();
    definition["spec"]["names"]["kind"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn family(ranges: &[&str]) -> Value {
    json!({"ranges": ranges})
}

fn pool(ranges: &[&str]) -> Value {
    json!({"families": [family(ranges)]})
}

fn with(mut value: Value, key: &str, of: impl Into<Value>) -> Value {
    value[key] = of.into();
    value
}

async fn pools(plane: &ControlPlane) {
    let one = || pool(&["10.0.0.0/24"]);
    let two = || json!({"families": [family(&["10.0.0.0/24"]), family(&["fd00::/120"])]});
    let prefix = "ranges are only added, at the end";
    changes(
        plane,
        "addresspools",
        "pool",
        &[
            // A pool grows at its end, while it is used.
            (one(), pool(&["10.0.0.0/24", "10.0.1.0/24"]), ""),
            (one(), with(one(), "disabled", true), ""),
            (one(), one(), ""),
            (one(), pool(&["10.0.1.0/24"]), prefix),
            (one(), pool(&["10.0.1.0/24", "10.0.0.0/24"]), prefix),
            (
                one(),
                pool(&[]),
                "ranges in body should have at least 1 items",
            ),
            (pool(&["10.0.0.0/24", "10.0.1.0/24"]), one(), prefix),
            (
                two(),
                json!({"families": [family(&["10.0.0.0/24"]), family(&["fd00::1:0/120"])]}),
                prefix,
            ),
            (one(), two(), "the set of families is immutable"),
            (two(), one(), "the set of families is immutable"),
            (
                with(one(), "blockSize", 16),
                with(one(), "blockSize", 32),
                "blockSize is immutable",
            ),
            (
                one(),
                with(one(), "blockSize", 32),
                "blockSize is immutable",
            ),
            (
                with(one(), "blockSize", 16),
                one(),
                "blockSize is immutable",
            ),
        ],
    )
    .await;
}

async fn blocks(plane: &ControlPlane) {
    let block = || {
        json!({"pool": "p", "poolUid": "u", "index": 0, "size": 16, "first": ["10.0.0.0"],
               "writer": "a", "records": "0 a"})
    };
    let words = "what a block covers is immutable";
    changes(
        plane,
        "addressblocks",
        "block",
        &[
            (
                block(),
                with(with(block(), "writer", "b"), "records", ""),
                "",
            ),
            (block(), with(block(), "pool", "q"), words),
            (block(), with(block(), "poolUid", "v"), words),
            (block(), with(block(), "index", 1), words),
            (block(), with(block(), "size", 32), words),
            (block(), with(block(), "first", json!(["10.0.0.16"])), words),
        ],
    )
    .await;
}

async fn nodes(plane: &ControlPlane) {
    let node = |epoch: u64, state: &str| json!({"epoch": epoch, "state": state});
    changes(
        plane,
        "berthnodes",
        "node",
        &[
            (node(1, "Live"), node(1, "Dying"), ""),
            (node(1, "Dying"), node(1, "Live"), ""),
            (node(1, "Dead"), node(2, "Live"), ""),
            (node(2, "Live"), node(1, "Live"), "an epoch only rises"),
            (node(1, "Dead"), node(1, "Live"), "a dead epoch stays dead"),
            (node(1, "Dead"), node(1, "Dying"), "a dead epoch stays dead"),
            (node(1, "Live"), node(1, "Gone"), "Unsupported value"),
        ],
    )
    .await;
}

fn two_families(first: &Value, second: &Value) -> Value {
    json!({"families": [first, second]})
}

/// One family with these fields beside its ranges.
fn one_with(ranges: &[&str], fields: &[(&str, Value)]) -> Value {
    let mut spec = pool(ranges);
    for (field, value) in fields {
        spec["families"][0][field] = value.clone();
    }
    spec
}

/// Typing errors in addresses, each with the field that is named and the words.
fn mistyped() -> Vec<(&'static str, Value, &'static str)> {
    let net = || ("subnet", json!("10.0.0.0/24"));
    let reservation = |address: &str| json!({"pool": "p", "address": address, "podNamespace": "n", "podName": "web-1"});
    let route = |route: Value| with(pool(&["10.0.0.0/24"]), "routes", json!([route]));
    let pools = vec![
        (
            one_with(&["10.0.0.0/24"], &[("gateway", json!("10.77.0"))]),
            "families[0].gateway",
        ),
        (
            one_with(&["10.0.0.0/24"], &[("subnet", json!("10.0.0.0"))]),
            "families[0].subnet",
        ),
        (
            one_with(&["10.0.0.0/24"], &[("gateway", json!("10.0.1.1")), net()]),
            "inside the subnet",
        ),
        (
            one_with(&["10.0.0.0/23"], &[net()]),
            "every range is inside the subnet",
        ),
        (
            one_with(&["10.0.0.9-10.0.1.1"], &[net()]),
            "every range is inside the subnet",
        ),
        (
            one_with(&["10.0.0.0/24"], &[("gateway", json!("fd00::1"))]),
            "of the family of the ranges",
        ),
        (
            one_with(&["10.0.0.0/24"], &[("subnet", json!("fd00::/64"))]),
            "of the family of the ranges",
        ),
        (
            one_with(&["10.0.0.0/24"], &[("exclude", json!(["fd00::1"]))]),
            "of the family of the ranges",
        ),
        (pool(&["10.0.0.0/24", "fd00::/64"]), "all of one family"),
        (
            two_families(&family(&["10.0.0.0/24"]), &family(&["10.1.0.0/24"])),
            "one IPv4 family",
        ),
        (pool(&["10.0.0.0/33"]), "families[0].ranges[0]"),
        (pool(&["10.0.0.5-10.0.0.300"]), "families[0].ranges[0]"),
        (
            pool(&["10.0.0.9-10.0.0.1"]),
            "begins with its lower address",
        ),
        (
            pool(&["10.0.0.10-10.0.0.9"]),
            "begins with its lower address",
        ),
        (pool(&["fd00::10-fd00::f"]), "begins with its lower address"),
        (
            pool(&["fd00:1::-fd00::ffff"]),
            "begins with its lower address",
        ),
        (
            pool(&["10.0.0.0/24", "10.0.0.0/24"]),
            "ranges of the pool overlap",
        ),
        (
            pool(&["10.0.0.0/24", "10.0.0.128/25"]),
            "ranges of the pool overlap",
        ),
        (
            pool(&["10.0.0.0/24", "10.0.0.9-10.0.1.9"]),
            "ranges of the pool overlap",
        ),
        (route(json!({"dst": "10.0.0.0"})), "routes[0].dst"),
        (route(json!({"gw": "10.0.0.1"})), "dst is required"),
        (
            route(json!({"dst": "0.0.0.0/0", "gw": "fd00::1"})),
            "routes[0].gw",
        ),
        (
            with(pool(&["10.0.0.0/24"]), "dns", json!(["resolver"])),
            "dns[0]",
        ),
        (
            with(pool(&["10.0.0.0/24"]), "namespaces", json!(["Shop"])),
            "namespaces[0]",
        ),
        (
            with(
                pool(&["10.0.0.0/24"]),
                "nodeSelector",
                json!({"zone": "a b"}),
            ),
            "nodeSelector.zone",
        ),
        (
            with(
                pool(&["10.0.0.0/24"]),
                "podSelector",
                json!({"my app": "a"}),
            ),
            "podSelector",
        ),
        (
            with(pool(&["10.0.0.0/24"]), "domain", json!("Rack 1")),
            "domain",
        ),
    ];
    let mut all: Vec<_> = pools
        .into_iter()
        .map(|(spec, words)| ("addresspools", spec, words))
        .collect();
    all.extend([
        (
            "addressreservations",
            reservation("10.20.0.300"),
            "spec.address",
        ),
        ("addressreservations", reservation(""), "spec.address"),
        (
            "addressreservations",
            json!({"pool": "p"}),
            "podName is required",
        ),
        (
            "berthnodes",
            json!({"epoch": 2, "state": "Live", "former": [{"epoch": 1}]}),
            "state",
        ),
        (
            "addressblocks",
            json!({"pool": "p", "poolUid": "u", "index": 0, "size": 1, "first": ["10.0.0.0"]}),
            "spec.size",
        ),
        (
            "addressblocks",
            json!({"pool": "p", "poolUid": "u", "index": 0, "size": 16, "first": ["10.0.0"]}),
            "spec.first[0]",
        ),
    ]);
    all
}

/// Bodies that no object may have from the start.
async fn creations(plane: &ControlPlane) {
    let many: Vec<String> = (0..257).map(|index| format!("10.0.{index}.0")).collect();
    let mut bodies = mistyped();
    bodies.extend([
        ("addresspools", json!({}), "families: Required"),
        ("addresspools", json!({"families": []}), "families"),
        (
            "addresspools",
            json!({"families": [family(&["10.0.0.0/24"]), family(&["10.0.1.0/24"]), family(&[])]}),
            "families: Too many",
        ),
        (
            "addresspools",
            with(pool(&["10.0.0.0/24"]), "blockSize", 1),
            "blockSize",
        ),
        (
            "addresspools",
            with(pool(&["10.0.0.0/24"]), "blockSize", 65),
            "blockSize",
        ),
        (
            "addresspools",
            with(pool(&["10.0.0.0/24"]), "disabled", "yes"),
            "disabled",
        ),
        (
            "addresspools",
            json!({"families": [{"ranges": many}]}),
            "ranges: Too many",
        ),
        ("addressblocks", json!({"pool": "p"}), "Required"),
        ("berthnodes", json!({"epoch": -1, "state": "Live"}), "epoch"),
        ("addressreservations", json!({"pool": 7}), "pool"),
    ]);
    for (plural, spec, words) in bodies {
        let object = json!({
            "apiVersion": "berth.dev/v1alpha1",
            "kind": plural_kind(plural),
            "metadata": {"name": "refused"},
            "spec": spec,
        });
        let (status, answer) = plane
            .send(Method::POST, &format!("{ROOT}/{plural}"), Some(&object))
            .await
            .unwrap();
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!(
            status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{plural} {spec}: {message}"
        );
        assert!(message.contains(words), "{plural} {spec}: {message}");
    }
}

/// What `kubectl get` shows: the apiserver prints it.
async fn columns(plane: &ControlPlane) {
    for definition in crds::definitions() {
        let spec = &definition["spec"];
        let plural = spec["names"]["plural"].as_str().unwrap();
        let request = http::Request::get(format!("{ROOT}/{plural}"))
            .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())
            .unwrap();
        let text = plane.client().request_text(request).await.unwrap();
        let table: Value = serde_json::from_str(&text).unwrap();
        let heads = |list: &Value| -> Vec<String> {
            let names = list.as_array().unwrap().iter();
            names
                .map(|column| column["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let mut expected = vec!["Name".to_owned()];
        expected.extend(heads(&spec["versions"][0]["additionalPrinterColumns"]));
        assert_eq!(heads(&table["columnDefinitions"]), expected, "{plural}");
        if plural == "addressblocks" {
            let row = table["rows"][0]["cells"].as_array().unwrap();
            assert_eq!(
                row[..5],
                [
                    json!("block-0"),
                    json!("p"),
                    json!(0),
                    json!("10.0.0.0"),
                    json!(16)
                ]
            );
        }
    }
}

/// The apiserver itself finds nothing to complain about.
async fn conditions(plane: &ControlPlane) {
    for definition in crds::definitions() {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        let stored = plane.must(Method::GET, &path, None).await.unwrap();
        for (kind, status) in [("NamesAccepted", "True"), ("Established", "True")] {
            let conditions = stored["status"]["conditions"].as_array().unwrap();
            let found = conditions.iter().find(|found| found["type"] == kind);
            assert_eq!(found.unwrap()["status"], status, "{name} {kind}");
        }
        assert_eq!(
            stored["spec"]["versions"][0]["schema"], definition["spec"]["versions"][0]["schema"],
            "{name}"
        );
        let complaint = stored["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|condition| condition["type"] == "NonStructuralSchema");
        assert_eq!(complaint, None, "{name}");
    }
}

/// A /64: capacity, held and free are written as the controller writes them, read back to the last
/// digit, and shown.
async fn the_largest_pool(plane: &ControlPlane) {
    let object = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": "six"},
        "spec": {"families": [{"ranges": ["fd66::/64"], "gateway": "fd66::1"}]},
    });
    let path = format!("{ROOT}/addresspools");
    let created = plane
        .must(Method::POST, &path, Some(&object))
        .await
        .unwrap();
    let read = |value: &Value| -> AddressPool { serde_json::from_value(value.clone()).unwrap() };
    let mut pool = read(&created);
    let parsed = Pool::parse(&pool, None).unwrap();
    pool.status.capacity = status_count(parsed.capacity);
    pool.status.free = status_count(parsed.capacity - parsed.masked_count());
    pool.status.approved = approval(&fingerprint(&pool.metadata.uid, &pool.spec), 32);
    let condition = Condition::new("Approved", "True", "Approved", String::new());
    let condition = condition.observed(pool.metadata.generation);
    state_condition(
        &mut pool.status.conditions,
        condition,
        WallTime(1_700_000_000_000_000),
    );
    let mut body = serde_json::to_value(&pool).unwrap();
    body["apiVersion"] = "berth.dev/v1alpha1".into();
    body["kind"] = "AddressPool".into();
    let at = format!("{path}/six/status");
    let stored = plane.must(Method::PUT, &at, Some(&body)).await.unwrap();
    assert_eq!(read(&stored).status, pool.status);
    let request = http::Request::get(format!("{path}/six"))
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let table = plane.client().request_text(request).await.unwrap();
    let table: Value = serde_json::from_str(&table).unwrap();
    let row = table["rows"][0]["cells"].as_array().unwrap();
    let shown = [
        json!("six"),
        json!(i64::MAX),
        json!(0),
        json!(i64::MAX),
        json!(false),
        json!("True"),
    ];
    assert_eq!(row[..6], shown);
    // One condition of each type.
    body["status"]["conditions"] = json!([
        body["status"]["conditions"][0],
        body["status"]["conditions"][0]
    ]);
    body["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
    let (status, answer) = plane.send(Method::PUT, &at, Some(&body)).await.unwrap();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("Duplicate value"),
        "{answer}"
    );
}

/// Names: a pool's labels its blocks; a field that no schema knows is told to who asks strictly, as
/// kubectl does.
async fn names(plane: &ControlPlane) {
    let path = format!("{ROOT}/addresspools");
    let object = |name: &str, spec: Value| {
        json!({"apiVersion": "berth.dev/v1alpha1", "kind": "AddressPool",
               "metadata": {"name": name}, "spec": spec})
    };
    let spec = || pool(&["10.200.0.0/24"]);
    let longest = "n".repeat(63);
    plane
        .must(Method::POST, &path, Some(&object(&longest, spec())))
        .await
        .unwrap();
    let long = object(&"n".repeat(64), spec());
    let (status, answer) = plane.send(Method::POST, &path, Some(&long)).await.unwrap();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("metadata.name"),
        "{answer}"
    );
    let mut spec = spec();
    spec["families"][0]["gatway"] = "10.200.0.1".into();
    let strict = format!("{path}?fieldValidation=Strict&dryRun=All");
    let (status, answer) = plane
        .send(Method::POST, &strict, Some(&object("typo", spec)))
        .await
        .unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let words = "unknown field \"spec.families[0].gatway\"";
    assert!(
        answer["message"].as_str().unwrap().contains(words),
        "{answer}"
    );
}

/// What an administrator is told to apply is taken.
async fn samples(plane: &ControlPlane) {
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/samples/pools.yaml"
    ));
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text.unwrap()).unwrap();
    assert_eq!(documents.len(), 4);
    for document in documents {
        let plural = match document["kind"].as_str().unwrap() {
            "AddressPool" => "addresspools",
            _ => "addressreservations",
        };
        let path = format!("{ROOT}/{plural}?fieldValidation=Strict");
        plane
            .must(Method::POST, &path, Some(&document))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_real_apiserver_takes_the_definitions_and_keeps_their_rules() {
    let Some(plane) = super::cluster().await else {
        return;
    };
    pools(&plane).await;
    blocks(&plane).await;
    nodes(&plane).await;
    creations(&plane).await;
    columns(&plane).await;
    conditions(&plane).await;
    the_largest_pool(&plane).await;
    names(&plane).await;
    samples(&plane).await;
}
