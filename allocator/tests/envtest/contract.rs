//! The contract of the `ApiServer` port, kept by kube's client and a real apiserver.

use std::time::Duration;

use berth::adapters::apiserver::KubeApi;
use berth::core::objects::{ObjectKey, Pod};
use berth::testing::contract::{self, Bench};
use berth::testing::control_plane::ControlPlane;
use http::Method;
use serde_json::{Value, json};

struct Real {
    plane: ControlPlane,
    api: KubeApi,
    claim: &'static str,
}

fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

fn path(key: &ObjectKey) -> String {
    format!("{}/{}", pods(&key.namespace), key.name)
}

impl Real {
    async fn must(&self, method: Method, path: &str, body: Option<&Value>) {
        self.plane.must(method, path, body).await.unwrap();
    }
}

impl Bench for Real {
    type Api = KubeApi;
    const VALIDATES: bool = true;
    const TELLS_ADDED: bool = true;
    const SENDS_BOOKMARKS: bool = true;

    fn api(&self) -> &KubeApi {
        &self.api
    }

    fn begin(&mut self, claim: &'static str) {
        println!("- {claim}");
        self.claim = claim;
    }

    async fn create_pod(&mut self, pod: Pod) {
        let mut body = json!({
            "metadata": pod.metadata,
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        if !pod.spec.node_name.is_empty() {
            body["spec"]["nodeName"] = json!(pod.spec.node_name);
        }
        let path = pods(&pod.metadata.namespace);
        self.must(Method::POST, &path, Some(&body)).await;
    }

    async fn bind_pod(&mut self, pod: &ObjectKey, node: &str) {
        let body =
            json!({"metadata": {"name": pod.name}, "target": {"kind": "Node", "name": node}});
        let path = format!("{}/binding", path(pod));
        self.must(Method::POST, &path, Some(&body)).await;
    }

    async fn delete_pod(&mut self, pod: &ObjectKey) {
        self.must(Method::DELETE, &path(pod), None).await;
    }

    async fn remove_pod(&mut self, pod: &ObjectKey) {
        let now = json!({"gracePeriodSeconds": 0});
        self.must(Method::DELETE, &path(pod), Some(&now)).await;
    }

    async fn compact(&mut self) {
        self.plane.compact().await.unwrap();
        self.plane.serve_crds().await.unwrap();
        // The old connections ended with the old process: a request on one would be unknown.
        self.api = self.plane.api().unwrap();
    }
}

#[tokio::test]
async fn the_kube_adapter_on_a_real_apiserver_keeps_the_contract() {
    let Some(plane) = super::cluster().await else {
        return;
    };
    let api = plane.api().unwrap();
    let mut real = Real {
        plane,
        api,
        claim: "",
    };
    let whole = contract::all(&mut real);
    if tokio::time::timeout(Duration::from_mins(10), whole)
        .await
        .is_err()
    {
        panic!("no answer while testing: {}", real.claim);
    }
}
