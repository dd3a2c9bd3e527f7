//! What the token of one node's agent can do, on a real apiserver with the deployment's own roles
//! and policies: every request of the protocol is allowed, and touching what is another's is
//! refused by name. Every request is a dry run, which admission treats like any other, so each
//! begins with the same world.

mod attacks;
mod cost;
mod duties;

use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::testing::control_plane::{ControlPlane, TokenUser};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const ROOT: &str = "/apis/berth.dev/v1alpha1";
/// Records of the block `p-0`: a mask, a Pod of each node, a reserved address, one that cools down,
/// and one that a machine of the other node holds under an earlier release's form of name.
const RECORDS: &str = "0 x;1 b m1.n1 3 uid-v ns/v c1 ;2 u m0.n0 2 uid-a ns/a  ;3 s kept;4 c ff;\
                       5 b m9 1 uid-l ns/l c5 ;6 r m0.n0 2 uid-b ns/b c6 held";

/// A request of an agent.
struct Try {
    what: &'static str,
    method: Method,
    path: String,
    body: Option<Value>,
}

fn of(what: &'static str, method: Method, path: &str, body: Option<Value>) -> Try {
    let path = format!("{path}?dryRun=All");
    Try {
        what,
        method,
        path,
        body,
    }
}

/// The world that each request begins with.
struct World {
    plane: ControlPlane,
    agent: TokenUser,
}

impl World {
    async fn new() -> Option<Self> {
        let plane = crate::cluster().await?;
        plane.install_roles().await.unwrap();
        for node in ["n0", "n1"] {
            let object = json!({"metadata": {"name": node}});
            must(&plane, Method::POST, "/api/v1/nodes", &object).await;
        }
        let machines = [
            machine("m0.n0", "n0", 2, "Live"),
            machine("m1.n1", "n1", 3, "Live"),
            machine("m9", "n1", 1, "Live"),
            machine("m8", "n0", 1, "Live"),
            machine("m2.n0", "n0", 4, "Dying"),
            machine("m3.n0", "n0", 5, "Dead"),
        ];
        for object in machines {
            must(&plane, Method::POST, &format!("{ROOT}/berthnodes"), &object).await;
        }
        let block = block("p-0", RECORDS);
        must(
            &plane,
            Method::POST,
            &format!("{ROOT}/addressblocks"),
            &block,
        )
        .await;
        for (name, node) in [("own", "n0"), ("victim", "n1")] {
            let pod = json!({
                "metadata": {"name": name},
                "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}],
                         "automountServiceAccountToken": false},
            });
            let pods = "/api/v1/namespaces/default/pods";
            must(&plane, Method::POST, pods, &pod).await;
        }
        plane.install_policies().await.unwrap();
        let agent = plane.token_on("berth-agent", "n0").await.unwrap();
        let world = Self { plane, agent };
        world.await_policies().await;
        Some(world)
    }

    /// Waits until each policy has refused something: the apiserver picks them up one by one.
    async fn await_policies(&self) {
        let limit = boot_time() + Duration::from_mins(1);
        for attempt in [
            self.machine("a", "m1.n1", |_| ()).await,
            self.records("a", &RECORDS.replace("uid-v", "uid-w")).await,
            self.records("a", &RECORDS.replace("uid-l", "uid-w")).await,
            pod_deletion("a", "victim"),
            event("a", "berth.dev/controller", "n0"),
        ] {
            while self.send(&self.agent, &attempt).await.0.is_success() {
                assert!(boot_time() < limit, "no policy in force: {}", attempt.path);
            }
        }
    }

    async fn send(&self, user: &TokenUser, attempt: &Try) -> (StatusCode, String) {
        let (status, answer) = user
            .send(attempt.method.clone(), &attempt.path, attempt.body.as_ref())
            .await
            .unwrap();
        let message = answer["message"].as_str().unwrap_or_default();
        (status, message.to_owned())
    }

    /// An object with a change, as its replacement.
    async fn changed(
        &self,
        what: &'static str,
        path: &str,
        change: impl FnOnce(&mut Value),
    ) -> Try {
        let mut object = self.plane.must(Method::GET, path, None).await.unwrap();
        // Every write differs.
        object["spec"]["writer"] = json!(format!("n0/{what}"));
        change(&mut object);
        of(what, Method::PUT, path, Some(object))
    }

    async fn machine(
        &self,
        what: &'static str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Try {
        let path = format!("{ROOT}/berthnodes/{name}");
        self.changed(what, &path, change).await
    }

    async fn block(&self, what: &'static str, change: impl FnOnce(&mut Value)) -> Try {
        let path = format!("{ROOT}/addressblocks/p-0");
        self.changed(what, &path, change).await
    }

    async fn records(&self, what: &'static str, records: &str) -> Try {
        self.block(what, |object| object["spec"]["records"] = json!(records))
            .await
    }
}

async fn must(plane: &ControlPlane, method: Method, path: &str, body: &Value) {
    plane.must(method, path, Some(body)).await.unwrap();
}

fn machine(name: &str, node: &str, epoch: u64, state: &str) -> Value {
    let mut labels = json!({});
    if name.contains('.') {
        labels = json!({"berth.dev/name-states-node": "true"});
    }
    json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "BerthNode",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "nodeName": node, "nodeUid": "u", "bootId": "b", "epoch": epoch, "state": state,
            "former": [{"epoch": 0, "state": "Dying"}], "blocks": [], "writer": "w",
        },
    })
}

/// Like [`machine`], as an agent creates it.
fn fresh(name: &str, node: &str) -> Value {
    let mut object = machine(name, node, 1, "Live");
    object["spec"].as_object_mut().unwrap().remove("former");
    object
}

fn block(name: &str, records: &str) -> Value {
    let (pool, index) = name.rsplit_once('-').unwrap();
    let index: u64 = index.parse().unwrap();
    let mut finalizers = json!([]);
    if records.contains(" uid-") {
        finalizers = json!(["berth.dev/in-use"]);
    }
    json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "AddressBlock",
        "metadata": {
            "name": name, "finalizers": finalizers,
            "labels": {"berth.dev/pool": pool, "berth.dev/may-have-room": "true"},
        },
        "spec": {
            "schema": 1, "pool": pool, "poolUid": "u", "index": index, "size": 8,
            "first": ["10.0.0.0"], "writer": "w", "records": records,
        },
    })
}

fn creation(what: &'static str, plural: &str, object: Value) -> Try {
    of(
        what,
        Method::POST,
        &format!("{ROOT}/{plural}"),
        Some(object),
    )
}

fn pod_deletion(what: &'static str, name: &str) -> Try {
    let path = format!("/api/v1/namespaces/default/pods/{name}");
    of(what, Method::DELETE, &path, None)
}

fn event(what: &'static str, controller: &str, instance: &str) -> Try {
    let event = json!({
        "metadata": {"name": "e", "namespace": "default"},
        "eventTime": "2026-01-02T03:04:05.000006Z",
        "reportingController": controller, "reportingInstance": instance,
        "action": "ManageAddress", "reason": "AddressTaken", "type": "Warning", "note": "n",
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": "n0"},
    });
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    of(what, Method::POST, path, Some(event))
}

#[tokio::test]
async fn the_token_of_an_agent_serves_its_own_node_and_no_other() {
    let Some(world) = World::new().await else {
        return;
    };
    let mut wrong = Vec::new();
    for duty in duties::all(&world).await {
        let (status, message) = world.send(&world.agent, &duty).await;
        if !status.is_success() {
            wrong.push(format!("{} is refused: {message}", duty.what));
        }
    }
    let attacks = attacks::all(&world).await;
    let count = attacks.len();
    for attack in &attacks {
        let (status, message) = world.send(&world.agent, attack).await;
        let by_role = status == StatusCode::FORBIDDEN && message.contains("is forbidden: User");
        let by_policy =
            status == StatusCode::UNPROCESSABLE_ENTITY && message.contains("the agent of node n0");
        // A later layout is refused by the kind's schema, before a policy is asked.
        let by_schema = attack.what == "another layout" && message.contains("spec.schema in body");
        if !by_role && !by_policy && !by_schema {
            wrong.push(format!("{}: {status} {message}", attack.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 60, "{count} attacks");
}

#[tokio::test]
async fn a_token_that_names_no_node_writes_nothing() {
    let Some(world) = World::new().await else {
        return;
    };
    let nobody = world.plane.token_of_nobody("berth-agent").await.unwrap();
    for duty in duties::all(&world).await {
        let (status, message) = world.send(&nobody, &duty).await;
        assert_eq!(
            status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{}: {message}",
            duty.what
        );
    }
}

#[tokio::test]
async fn policies_for_agents_leave_everybody_else_alone() {
    let Some(world) = World::new().await else {
        return;
    };
    let block = world
        .records("a burial's end", "0 x;2 c 1;3 s kept;4 c ff")
        .await;
    let machine = world
        .machine("a burial", "m1.n1", |object| {
            object["spec"]["state"] = json!("Dying");
        })
        .await;
    let controller = world
        .plane
        .token_on("berth-controller", "n0")
        .await
        .unwrap();
    for attempt in [&block, &machine] {
        let (status, message) = world.send(&controller, attempt).await;
        assert_eq!(status, StatusCode::OK, "{}: {message}", attempt.what);
    }
    let order = world
        .machine("an administrator's order", "m1.n1", |object| {
            object["metadata"]["annotations"] = json!({"berth.dev/bury": "off"});
        })
        .await;
    let sent = world
        .plane
        .send(order.method, &order.path, order.body.as_ref())
        .await;
    assert_eq!(sent.unwrap().0, StatusCode::OK);
}
