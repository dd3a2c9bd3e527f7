//! Berth's CustomResourceDefinitions in a real apiserver: it takes them, keeps every field, prints
//! the columns, and refuses what the rules forbid.

use berth::adapters::crds;
use berth::testing::control_plane::ControlPlane;
use http::{Method, StatusCode};
use serde_json::{Value, json};

const ROOT: &str = "/apis/berth.dev/v1alpha1";

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
            (one(), pool(&[]), prefix),
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

/// Bodies that no object may have from the start.
async fn creations(plane: &ControlPlane) {
    let many: Vec<String> = (0..257).map(|index| format!("10.0.{index}.0")).collect();
    for (plural, spec, words) in [
        ("addresspools", json!({}), "families: Required"),
        ("addresspools", json!({"families": []}), "families"),
        (
            "addresspools",
            json!({"families": [family(&["10.0.0.0/24"]), family(&["10.0.1.0/24"]), family(&[])]}),
            "families: Too many",
        ),
        (
            "addresspools",
            with(pool(&["10.0.0.0/24"]), "blockSize", 0),
            "blockSize",
        ),
        (
            "addresspools",
            with(pool(&["10.0.0.0/24"]), "blockSize", 1025),
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
    ] {
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
            let row = &table["rows"][0]["cells"];
            assert_eq!((&row[1], &row[2]), (&json!("p"), &json!(16)));
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
}
