//! Who holds the token of one node's agent, on a real apiserver with the deployment's own roles and
//! policies: what the protocol asks of it goes on, and what is another's is refused by name. Every
//! request is a dry run, which admission decides like any other, so each begins with the same world.

use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::testing::control_plane::{ControlPlane, NAMESPACE, TokenUser};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const ROOT: &str = "/apis/berth.dev/v1alpha1";
/// Of the block `p-0`: a mask, a Pod of each node, an address kept, one that rests, and one that a
/// machine of the other node holds under the form of name of an earlier release.
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
        let plane = super::cluster().await?;
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

    /// Until each policy has refused something: the apiserver takes them up one by one.
    async fn await_policies(&self) {
        let limit = boot_time() + Duration::from_secs(60);
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

/// As [`machine`], as an agent makes it.
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

/// The next incarnation of a machine, as an agent writes it.
fn next_epoch(object: &mut Value) {
    let spec = &mut object["spec"];
    let (epoch, state) = (spec["epoch"].as_u64().unwrap(), spec["state"].clone());
    let left = if state == "Dead" { "Dead" } else { "Dying" };
    let former = spec["former"].as_array_mut().unwrap();
    former.push(json!({"epoch": epoch, "state": left}));
    spec["epoch"] = json!(epoch + 1);
    spec["state"] = json!("Live");
    spec["bootId"] = json!("another");
}

/// All that the protocol has an agent write.
async fn duties(world: &World) -> Vec<Try> {
    let without = |record: &str| RECORDS.replace(record, "");
    let instead = |record: &str, other: &str| RECORDS.replace(record, other);
    vec![
        creation("a machine that is new", "berthnodes", fresh("m7.n0", "n0")),
        world
            .machine("the list of its blocks", "m0.n0", |object| {
                object["spec"]["blocks"] = json!(["p-0"])
            })
            .await,
        world
            .machine("that Pods have another's address", "m0.n0", |object| {
                object["spec"]["conditions"] = json!([{
                    "type": "AddressTaken", "status": "True", "reason": "AddressTaken",
                    "message": "1 Pods: ns/a", "lastTransitionTime": "2026-01-02T03:04:05Z",
                }]);
            })
            .await,
        world
            .machine("a contest of its burial", "m2.n0", |object| {
                object["spec"]["state"] = json!("Live")
            })
            .await,
        world.machine("a new boot", "m0.n0", next_epoch).await,
        world
            .machine("a new boot while its burial runs", "m2.n0", next_epoch)
            .await,
        world
            .machine("a life after its burial", "m3.n0", next_epoch)
            .await,
        world
            .machine("the end of a name of a release before", "m8", |object| {
                object["metadata"]["annotations"] =
                    json!({"berth.dev/bury": "m8.n0 took its place"});
            })
            .await,
        creation(
            "a block with a mask",
            "addressblocks",
            block("p-1", "0 x;1 u m0.n0 2 uid-c ns/c  ;2 g"),
        ),
        creation(
            "a block of a pool with a dash",
            "addressblocks",
            block("p-q-12", ""),
        ),
        world.records("nothing but who wrote", RECORDS).await,
        world
            .records(
                "a free address",
                &format!("{RECORDS};7 u m0.n0 2 uid-c ns/c  "),
            )
            .await,
        world
            .records(
                "one that rests",
                &instead("4 c ff", "4 u m0.n0 2 uid-c ns/c  "),
            )
            .await,
        world
            .records(
                "one that is kept for its Pod",
                &instead("3 s kept", "3 u m0.n0 2 uid-c ns/c  kept"),
            )
            .await,
        world
            .records(
                "an address that was answered",
                &instead("2 u m0.n0 2 uid-a ns/a ", "2 b m0.n0 2 uid-a ns/a c2"),
            )
            .await,
        world
            .records("a freed address", &without("2 u m0.n0 2 uid-a ns/a  ;"))
            .await,
        world
            .records(
                "a freed address that rests",
                &instead("2 u m0.n0 2 uid-a ns/a  ", "2 c 1f"),
            )
            .await,
        world
            .records(
                "a freed address that is kept",
                &instead("6 r m0.n0 2 uid-b ns/b c6 held", "6 s held"),
            )
            .await,
        world
            .records(
                "its record under the next incarnation",
                &instead("6 r m0.n0 2", "6 b m0.n0 3"),
            )
            .await,
        world
            .records(
                "its own under a name of a release before",
                &format!("{RECORDS};7 u m8 1 uid-c ns/c  "),
            )
            .await,
        world
            .block("the last of its records", |object| {
                object["spec"]["records"] = json!(RECORDS.replace(
                    "2 u m0.n0 2 uid-a ns/a  ;",
                    "2 b m0.n0 2 uid%20a ns/a c%3b ;"
                ));
                object["metadata"]["labels"]
                    .as_object_mut()
                    .unwrap()
                    .remove("berth.dev/may-have-room");
            })
            .await,
        pod_deletion("a Pod that has another's address", "own"),
        event("a report", "berth.dev/agent", "n0"),
    ]
}

/// What the holder of one node's token may not do to machines.
async fn attacks_on_machines(world: &World) -> Vec<Try> {
    let state =
        |state: &'static str| move |object: &mut Value| object["spec"]["state"] = json!(state);
    let note = |key: &'static str| {
        move |object: &mut Value| object["metadata"]["annotations"] = json!({key: "x"})
    };
    let spec =
        |key: &'static str, value: Value| move |object: &mut Value| object["spec"][key] = value;
    let former = |former: Value| {
        move |object: &mut Value| {
            next_epoch(object);
            object["spec"]["former"] = former;
        }
    };
    vec![
        world
            .machine("another machine is dead", "m1.n1", state("Dead"))
            .await,
        world
            .machine("another machine is dying", "m1.n1", state("Dying"))
            .await,
        world
            .machine("another machine begins anew", "m1.n1", next_epoch)
            .await,
        world
            .machine(
                "another machine is to be buried",
                "m1.n1",
                note("berth.dev/bury"),
            )
            .await,
        world
            .machine(
                "another machine is to release",
                "m1.n1",
                note("berth.dev/release"),
            )
            .await,
        world
            .machine(
                "another machine serves this node",
                "m1.n1",
                spec("nodeName", json!("n0")),
            )
            .await,
        world
            .machine(
                "another machine holds nothing",
                "m1.n1",
                spec("blocks", json!([])),
            )
            .await,
        world
            .machine(
                "a former name of another node is to be buried",
                "m9",
                note("berth.dev/bury"),
            )
            .await,
        creation(
            "a machine of another node",
            "berthnodes",
            fresh("m7.n1", "n1"),
        ),
        creation(
            "a machine whose name states another node",
            "berthnodes",
            fresh("m7.n1", "n0"),
        ),
        creation(
            "a machine that states another node",
            "berthnodes",
            fresh("m7.n0", "n1"),
        ),
        creation(
            "a machine of a node whose name ends alike",
            "berthnodes",
            fresh("m7.x.n0", "n0"),
        ),
        creation(
            "a machine whose name states no node",
            "berthnodes",
            fresh("m7", "n0"),
        ),
        creation("a machine without the label of its name", "berthnodes", {
            let mut object = fresh("m7.n0", "n0");
            object["metadata"]["labels"] = json!({});
            object
        }),
        creation(
            "a machine with a past",
            "berthnodes",
            machine("m7.n0", "n0", 2, "Live"),
        ),
        world
            .machine(
                "its own is dead, without quarantine",
                "m0.n0",
                state("Dead"),
            )
            .await,
        world
            .machine("its own is dying", "m0.n0", state("Dying"))
            .await,
        world
            .machine(
                "its own goes to another node",
                "m0.n0",
                spec("nodeName", json!("n1")),
            )
            .await,
        world
            .machine(
                "a former incarnation is forgotten",
                "m0.n0",
                spec("former", json!([])),
            )
            .await,
        world
            .machine(
                "a former incarnation is dead",
                "m0.n0",
                spec("former", json!([{"epoch": 0, "state": "Dead"}])),
            )
            .await,
        world
            .machine(
                "the present incarnation is left out of the past",
                "m0.n0",
                former(json!([{"epoch": 0, "state": "Dying"}, {"epoch": 1, "state": "Dying"}])),
            )
            .await,
        world
            .machine(
                "the present incarnation is dead at once",
                "m0.n0",
                former(json!([{"epoch": 0, "state": "Dying"}, {"epoch": 2, "state": "Dead"}])),
            )
            .await,
        world
            .machine(
                "one buried is alive in the past",
                "m3.n0",
                former(json!([{"epoch": 0, "state": "Dying"}, {"epoch": 5, "state": "Dying"}])),
            )
            .await,
        world
            .machine("an incarnation is passed over", "m0.n0", |object| {
                next_epoch(object);
                object["spec"]["epoch"] = json!(9);
            })
            .await,
        world
            .machine(
                "another boot of the same incarnation",
                "m0.n0",
                spec("bootId", json!("z")),
            )
            .await,
        world
            .machine("its own order to bury", "m0.n0", note("berth.dev/bury"))
            .await,
        world
            .machine(
                "its own order to release",
                "m0.n0",
                note("berth.dev/release"),
            )
            .await,
        world
            .machine("an owner, so that it is collected", "m0.n0", owner)
            .await,
        world
            .machine("a finalizer", "m0.n0", |object| {
                object["metadata"]["finalizers"] = json!(["x.y/z"])
            })
            .await,
        world
            .machine("the label of its name taken away", "m0.n0", |object| {
                object["metadata"]["labels"] = json!({})
            })
            .await,
        of(
            "another's deletion",
            Method::DELETE,
            &format!("{ROOT}/berthnodes/m1.n1"),
            None,
        ),
    ]
}

fn owner(object: &mut Value) {
    object["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "gone"}]);
}

/// The same to records and blocks.
async fn attacks_on_records(world: &World) -> Vec<Try> {
    let instead = |record: &str, other: &str| {
        assert!(RECORDS.contains(record), "{record}");
        RECORDS.replace(record, other)
    };
    let also = |record: &str| format!("{RECORDS};{record}");
    let victim = "1 b m1.n1 3 uid-v ns/v c1 ;";
    vec![
        world
            .records("another's record is gone", &instead(victim, ""))
            .await,
        world
            .records(
                "another's record is this node's",
                &instead("1 b m1.n1 3", "1 b m0.n0 2"),
            )
            .await,
        world
            .records("another's record rests", &instead(victim, "1 c ff;"))
            .await,
        world
            .records("another's Pod is another", &instead("uid-v", "uid-w"))
            .await,
        world
            .records(
                "another's record is of an earlier incarnation",
                &instead("m1.n1 3", "m1.n1 2"),
            )
            .await,
        world
            .records("another's record is unbound", &instead("1 b", "1 u"))
            .await,
        world
            .records(
                "a record in another's name",
                &also("7 u m1.n1 3 uid-c ns/c  "),
            )
            .await,
        world
            .records(
                "a record in the name of a node that ends alike",
                &also("7 u m0.x.n0 1 uid-c ns/c  "),
            )
            .await,
        world
            .records(
                "another's record under a former name is gone",
                &instead("5 b m9 1 uid-l ns/l c5 ;", ""),
            )
            .await,
        world
            .records(
                "another's record under a former name is this node's",
                &instead("5 b m9 1", "5 b m0.n0 2"),
            )
            .await,
        world
            .records(
                "a record in another's former name",
                &also("7 u m9 1 uid-c ns/c  "),
            )
            .await,
        world.records("a mask is gone", &instead("0 x;", "")).await,
        world
            .records(
                "a masked address",
                &instead("0 x;", "0 u m0.n0 2 uid-c ns/c  ;"),
            )
            .await,
        world.records("a mask made up", &also("7 x")).await,
        world.records("a gateway made up", &also("7 g")).await,
        world
            .records("a kept address is free", &instead("3 s kept;", ""))
            .await,
        world
            .records(
                "a kept address for no Pod of it",
                &instead("3 s kept", "3 u m0.n0 2 uid-c ns/c  "),
            )
            .await,
        world
            .records(
                "a kept address for another reservation",
                &instead("3 s kept", "3 u m0.n0 2 uid-c ns/c  held"),
            )
            .await,
        world
            .records("a reservation made up", &also("7 s mine"))
            .await,
        world
            .records(
                "its Pod's reservation is dropped",
                &instead("c6 held", "c6 "),
            )
            .await,
        world
            .records(
                "a record twice",
                &also("7 u m0.n0 2 uid-c ns/c  ;7 u m0.n0 2 uid-d ns/d  "),
            )
            .await,
        world
            .records(
                "a record outside the block",
                &also("8 u m0.n0 2 uid-c ns/c  "),
            )
            .await,
        world
            .records(
                "records out of order",
                &format!("7 u m0.n0 2 uid-c ns/c  ;{RECORDS}"),
            )
            .await,
        world
            .records("a record of no known letter", &also("7 z"))
            .await,
        world
            .records(
                "a record with a field more",
                &also("7 u m0.n0 2 uid-c ns/c   z"),
            )
            .await,
        world
            .records(
                "a record with a field less",
                &also("7 u m0.n0 2 uid-c ns/c "),
            )
            .await,
        world
            .records(
                "a record that others would write otherwise",
                &also("7 u m0.n0 2 uid%2Dc ns/c  "),
            )
            .await,
        world
            .records(
                "a number that others would write otherwise",
                &also("7 u m0.n0 02 uid-c ns/c  "),
            )
            .await,
        world
            .records(
                "a number that nobody can read",
                &also("7 u m0.n0 99999999999999999999 uid-c ns/c  "),
            )
            .await,
        world.records("an empty record", &also("")).await,
        world
            .block("another layout", |object| {
                object["spec"]["schema"] = json!(2)
            })
            .await,
        world
            .block("an owner, so that it is collected", owner)
            .await,
        world
            .block("no finalizer", |object| {
                object["metadata"]["finalizers"] = json!([])
            })
            .await,
        world
            .block("a finalizer of its own", |object| {
                object["metadata"]["finalizers"] = json!(["berth.dev/in-use", "x.y/z"])
            })
            .await,
        world
            .block("the label of another pool", |object| {
                object["metadata"]["labels"]["berth.dev/pool"] = json!("q")
            })
            .await,
        world
            .block("a label of its own", |object| {
                object["metadata"]["labels"]["x"] = json!("y")
            })
            .await,
        world
            .block("an annotation", |object| {
                object["metadata"]["annotations"] = json!({"x": "y"})
            })
            .await,
        creation(
            "a block with another's record",
            "addressblocks",
            block("p-1", "1 b m1.n1 3 uid-v ns/v c1 "),
        ),
        creation(
            "a block with a reservation",
            "addressblocks",
            block("p-1", "1 s mine"),
        ),
        creation("a block under another's name", "addressblocks", {
            let mut object = block("p-1", "");
            object["metadata"]["name"] = json!("p-2");
            object
        }),
        of(
            "a block's deletion",
            Method::DELETE,
            &format!("{ROOT}/addressblocks/p-0"),
            None,
        ),
    ]
}

/// The rest of the cluster.
fn attacks_elsewhere() -> Vec<Try> {
    let secrets = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    vec![
        pod_deletion("another node's Pod", "victim"),
        event("a report of the controller", "berth.dev/controller", "n0"),
        event("a report of another node's agent", "berth.dev/agent", "n1"),
        of(
            "a pool",
            Method::DELETE,
            &format!("{ROOT}/addresspools/p"),
            None,
        ),
        of("secrets", Method::GET, &secrets, None),
    ]
}

#[tokio::test]
async fn the_token_of_an_agent_serves_its_own_node_and_no_other() {
    let Some(world) = World::new().await else {
        return;
    };
    let mut wrong = Vec::new();
    for duty in duties(&world).await {
        let (status, message) = world.send(&world.agent, &duty).await;
        if !status.is_success() {
            wrong.push(format!("{} is refused: {message}", duty.what));
        }
    }
    let mut attacks = attacks_on_machines(&world).await;
    attacks.extend(attacks_on_records(&world).await);
    attacks.extend(attacks_elsewhere());
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
    for duty in duties(&world).await {
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
            object["spec"]["state"] = json!("Dying")
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
