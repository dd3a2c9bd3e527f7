//! Objects from before a rule. An older schema let them in; under the shipped one each can still be
//! changed elsewhere, given a status, finalized and deleted, and repaired; it cannot be made worse.

use core::time::Duration;

use berth::adapters::crds;
use berth::testing::control_plane::{Assets, ControlPlane, Options};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::definitions::ROOT;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A definition as of a release that asked for nothing but types.
fn older(mut definition: Value) -> Value {
    fn loosen(node: &mut Value) {
        let Some(map) = node.as_object_mut() else {
            return;
        };
        for keyword in [
            "x-kubernetes-validations",
            "pattern",
            "maxLength",
            "minLength",
            "maxItems",
            "minItems",
            "minimum",
            "maximum",
            "maxProperties",
            "default",
        ] {
            map.remove(keyword);
        }
        for key in ["items", "additionalProperties"] {
            if let Some(inner) = map.get_mut(key) {
                loosen(inner);
            }
        }
        if let Some(Value::Object(fields)) = map.get_mut("properties") {
            fields.values_mut().for_each(loosen);
        }
    }
    loosen(&mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
    definition
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "berth.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
           "spec": spec})
}

/// Kind, plural, a spec with one fault, the field with the fault, another fault there, the repaired
/// field, and a field elsewhere with a value.
type Case = (
    &'static str,
    &'static str,
    Value,
    &'static str,
    Value,
    Value,
    (&'static str, Value),
);

fn cases() -> Vec<Case> {
    let pool = |spec: Value, at: &'static str, worse: Value, mended: Value| {
        let elsewhere = ("/spec/disabled", json!(true));
        (
            "AddressPool",
            "addresspools",
            spec,
            at,
            worse,
            mended,
            elsewhere,
        )
    };
    let family = |mut family: Value| {
        family["ranges"] = json!(["10.77.0.0/24"]);
        json!({"families": [family]})
    };
    let reservation = |address: Value, worse: Value| {
        let spec = json!({"pool": "p", "address": address, "podNamespace": "n", "podName": "w"});
        let mended = json!("10.20.0.30");
        let elsewhere = ("/spec/podName", json!("w-2"));
        (
            "AddressReservation",
            "addressreservations",
            spec,
            "/spec/address",
            worse,
            mended,
            elsewhere,
        )
    };
    let good = json!(["10.77.0.0/24"]);
    let net = "10.77.0.0/24";
    vec![
        pool(
            family(json!({"gateway": "10.77.0"})),
            "/spec/families/0/gateway",
            json!("10.77"),
            json!("10.77.0.1"),
        ),
        pool(
            family(json!({"subnet": net, "gateway": "10.78.0.1"})),
            "/spec/families/0/gateway",
            json!("10.79.0.1"),
            json!("10.77.0.1"),
        ),
        pool(
            family(json!({"exclude": ["10.77.0.9-10.77.0.1"]})),
            "/spec/families/0/exclude/0",
            json!("10.77.0.8-10.77.0.1"),
            json!("10.77.0.1-10.77.0.9"),
        ),
        pool(
            json!({"families": [{"ranges": good}], "dns": ["resolver"]}),
            "/spec/dns/0",
            json!("other"),
            json!("10.77.0.2"),
        ),
        pool(
            json!({"families": [{"ranges": good}], "routes": [{"dst": "0.0.0.0/0", "gw": "fd00::1"}]}),
            "/spec/routes/0/gw",
            json!("fd00::2"),
            json!("10.77.0.1"),
        ),
        pool(
            json!({"families": [{"ranges": good}], "coolDownSeconds": 100_000}),
            "/spec/coolDownSeconds",
            json!(200_000),
            json!(60),
        ),
        pool(
            json!({"families": [{"ranges": good}], "nodeSelector": {"zone": "a b"}}),
            "/spec/nodeSelector/zone",
            json!("c d"),
            json!("a"),
        ),
        reservation(json!("10.20.0.300"), json!("10.20.0.301")),
        (
            "BerthNode",
            "berthnodes",
            json!({"epoch": 3, "state": "Live", "writer": "a", "former": [{"epoch": 1}]}),
            "/spec/former/0",
            json!({"state": "Dead"}),
            json!({"epoch": 1, "state": "Dead"}),
            ("/spec/writer", json!("b")),
        ),
    ]
}

fn set(object: &mut Value, pointer: &str, value: &Value) {
    let (above, field) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(above).unwrap() {
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value.clone(),
        above => above[field] = value.clone(),
    }
}

async fn change(
    plane: &ControlPlane,
    path: &str,
    changes: &[(&str, &Value)],
) -> (StatusCode, Value) {
    let mut now = plane.must(Method::GET, path, None).await.unwrap();
    for (pointer, value) in changes {
        set(&mut now, pointer, value);
    }
    plane.send(Method::PUT, path, Some(&now)).await.unwrap()
}

/// An apiserver whose older schemas let every case in, and that has the shipped ones since.
async fn upgraded(cases: &[Case]) -> Option<ControlPlane> {
    let assets = Assets::find(&["etcd", "kube-apiserver"])?;
    let plane = ControlPlane::start(&assets, &Options::apiserver_only())
        .await
        .unwrap();
    for definition in crds::definitions() {
        let older = older(definition);
        plane.must(Method::POST, CRDS, Some(&older)).await.unwrap();
    }
    plane.serve_crds().await.unwrap();
    for (index, (kind, plural, spec, ..)) in cases.iter().enumerate() {
        let object = object(kind, &format!("old-{index}"), spec);
        let path = format!("{ROOT}/{plural}");
        plane
            .must(Method::POST, &path, Some(&object))
            .await
            .unwrap();
    }
    let long = object(
        "AddressPool",
        &"n".repeat(64),
        &json!({"families": [{"ranges": ["10.1.0.0/24"]}]}),
    );
    let path = format!("{ROOT}/addresspools");
    plane.must(Method::POST, &path, Some(&long)).await.unwrap();
    for definition in crds::definitions() {
        let path = format!(
            "{CRDS}/{}",
            definition["metadata"]["name"].as_str().unwrap()
        );
        let mut stored = plane.must(Method::GET, &path, None).await.unwrap();
        stored["spec"]["versions"] = definition["spec"]["versions"].clone();
        plane.must(Method::PUT, &path, Some(&stored)).await.unwrap();
    }
    // The apiserver takes the new schemas up one after another, and does not say when.
    for (kind, plural, spec, ..) in cases {
        let object = object(kind, "probe", spec);
        let path = format!("{ROOT}/{plural}?dryRun=All");
        let mut status = StatusCode::CREATED;
        for _ in 0..300 {
            (status, _) = plane
                .send(Method::POST, &path, Some(&object))
                .await
                .unwrap();
            if status != StatusCode::CREATED {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{object}");
    }
    Some(plane)
}

#[tokio::test]
async fn an_object_from_before_a_rule_can_be_changed_elsewhere_and_mended_and_deleted() {
    let cases = cases();
    let Some(plane) = upgraded(&cases).await else {
        return;
    };
    for (index, (_, plural, spec, at, worse, mended, elsewhere)) in cases.iter().enumerate() {
        let path = format!("{ROOT}/{plural}/old-{index}");
        let finalizers = json!(["berth.dev/in-use"]);
        let none = json!([]);
        let marked = change(&plane, &path, &[("/metadata/finalizers", &finalizers)]).await;
        assert_eq!(marked.0, StatusCode::OK, "{spec}: {}", marked.1);
        // Fields of the spec itself are asked for again when anything in the spec changes.
        let other = change(&plane, &path, &[(elsewhere.0, &elsewhere.1)]).await;
        assert_eq!(other.0, StatusCode::OK, "{spec}: {}", other.1);
        let bad = change(&plane, &path, &[(at, worse)]).await;
        assert_eq!(bad.0, StatusCode::UNPROCESSABLE_ENTITY, "{spec}: {}", bad.1);
        if *plural == "addresspools" {
            let conditions = json!([{"type": "Approved", "status": "False", "reason": "Invalid",
                                     "message": "m"}]);
            let mut now = plane.must(Method::GET, &path, None).await.unwrap();
            now["status"] = json!({"conditions": conditions});
            let at = format!("{path}/status");
            plane.must(Method::PUT, &at, Some(&now)).await.unwrap();
        }
        let good = change(&plane, &path, &[(at, mended)]).await;
        assert_eq!(good.0, StatusCode::OK, "{spec}: {}", good.1);
        let freed = change(&plane, &path, &[("/metadata/finalizers", &none)]).await;
        assert_eq!(freed.0, StatusCode::OK, "{spec}: {}", freed.1);
        plane.must(Method::DELETE, &path, None).await.unwrap();
    }
    let path = format!("{ROOT}/addresspools/{}", "n".repeat(64));
    let disabled = change(&plane, &path, &[("/spec/disabled", &json!(true))]).await;
    assert_eq!(disabled.0, StatusCode::OK, "{}", disabled.1);
}
