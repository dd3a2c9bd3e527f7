//! What `kubectl explain` says: the apiserver publishes the schemas, and each field has a text.

use core::time::Duration;
use std::process::Command;

use berth::testing::control_plane::ControlPlane;
use http::{Method, StatusCode};
use serde_json::Value;

/// The published document of the group. The apiserver makes it after it serves the kinds.
async fn published(plane: &ControlPlane) -> Value {
    for _ in 0..300 {
        let path = "/openapi/v3/apis/berth.dev/v1alpha1";
        let (status, answer) = plane.send(Method::GET, path, None).await.unwrap();
        if status == StatusCode::OK && kinds(&answer).len() == 5 {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the apiserver does not publish the group");
}

fn kinds(document: &Value) -> Vec<(String, Value)> {
    let schemas = document["components"]["schemas"].as_object();
    let own = schemas.into_iter().flatten().filter(|(name, schema)| {
        name.starts_with("dev.berth.v1alpha1.") && schema["properties"]["spec"].is_object()
    });
    own.map(|(name, schema)| (name.clone(), schema.clone()))
        .collect()
}

fn unexplained(node: &Value, path: &str, found: &mut Vec<String>, fields: &mut u32) {
    for (name, field) in node["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        *fields += 1;
        if field["description"]
            .as_str()
            .is_none_or(|text| text.len() < 5)
        {
            found.push(path.clone());
        }
        unexplained(field, &path, found, fields);
        unexplained(&field["items"], &path, found, fields);
    }
}

#[tokio::test]
async fn kubectl_explains_every_field() {
    let Some(plane) = super::cluster().await else {
        return;
    };
    let document = published(&plane).await;
    let mut fields = 0;
    for (name, schema) in kinds(&document) {
        let mut found = Vec::new();
        assert!(schema["description"].is_string(), "{name}");
        unexplained(&schema, &name, &mut found, &mut fields);
        assert_eq!(found, [] as [String; 0], "{name}");
    }
    assert!(fields > 90, "{fields} fields");
    let kubeconfig = plane.kubeconfig("admin", "system:masters").unwrap();
    for (path, words) in [
        (
            "addresspools.spec.families.ranges",
            "in the order of their ordinals",
        ),
        ("addresspools.status.capacity", "ordinals"),
        (
            "addressreservations.spec.address",
            "One address of the pool",
        ),
        ("berthnodes.spec.state", "Dying"),
        ("addressblocks.spec.records", "compact form"),
        (
            "addresspools.status.conditions.lastTransitionTime",
            "last changed",
        ),
    ] {
        let mut kubectl = Command::new("kubectl");
        kubectl
            .args(["explain", path, "--kubeconfig"])
            .arg(&kubeconfig);
        kubectl
            .arg("--cache-dir")
            .arg(plane.directory().join("kubectl"));
        let Ok(output) = kubectl.output() else {
            eprintln!("skipped: no kubectl; the document that it prints was read");
            return;
        };
        let said = String::from_utf8(output.stdout).unwrap();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(words), "{path}: {said}");
    }
}
