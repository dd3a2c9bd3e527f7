//! What whoever has one node's token may try on everybody else.

use berth::testing::control_plane::NAMESPACE;
use http::Method;
use serde_json::{Value, json};

use super::duties::next_epoch;
use super::{RECORDS, ROOT, Try, World, block, creation, event, fresh, machine, of, pod_deletion};

/// Attack, machine, field, and what is written there.
fn fields_of_machines() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    vec![
        (
            "another machine is dead",
            "m1.n1",
            "/spec/state",
            json!("Dead"),
        ),
        (
            "another machine is dying",
            "m1.n1",
            "/spec/state",
            json!("Dying"),
        ),
        (
            "another serves this node",
            "m1.n1",
            "/spec/nodeName",
            json!("n0"),
        ),
        ("another holds nothing", "m1.n1", "/spec/blocks", json!([])),
        (
            "another is buried",
            "m1.n1",
            "/metadata/annotations",
            json!({"berth.dev/bury": "x"}),
        ),
        (
            "another releases",
            "m1.n1",
            "/metadata/annotations",
            json!({"berth.dev/release": "x"}),
        ),
        (
            "another's former name ends",
            "m9",
            "/metadata/annotations",
            json!({"berth.dev/bury": "x"}),
        ),
        (
            "its own is dead, without quarantine",
            "m0.n0",
            "/spec/state",
            json!("Dead"),
        ),
        ("its own is dying", "m0.n0", "/spec/state", json!("Dying")),
        (
            "its own goes to another node",
            "m0.n0",
            "/spec/nodeName",
            json!("n1"),
        ),
        (
            "its own is in another boot",
            "m0.n0",
            "/spec/bootId",
            json!("z"),
        ),
        ("its past is forgotten", "m0.n0", "/spec/former", json!([])),
        (
            "its past is dead",
            "m0.n0",
            "/spec/former",
            json!([{"epoch": 0, "state": "Dead"}]),
        ),
        (
            "its own is buried",
            "m0.n0",
            "/metadata/annotations",
            json!({"berth.dev/bury": "x"}),
        ),
        (
            "its own releases",
            "m0.n0",
            "/metadata/annotations",
            json!({"berth.dev/release": "x"}),
        ),
        (
            "its own has a finalizer",
            "m0.n0",
            "/metadata/finalizers",
            json!(["x.y/z"]),
        ),
        (
            "its own has an owner, to be collected",
            "m0.n0",
            "/metadata/ownerReferences",
            owner(),
        ),
        (
            "its own loses its label",
            "m0.n0",
            "/metadata/labels",
            json!({}),
        ),
    ]
}

fn owner() -> Value {
    json!([{"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "gone"}])
}

/// Puts the value at a path of two words.
fn put(path: &str, value: Value) -> impl FnOnce(&mut Value) {
    let (outer, inner) = path[1..].split_once('/').unwrap();
    let (outer, inner) = (outer.to_owned(), inner.to_owned());
    move |object| object[outer][inner] = value
}

/// Attack, machine, and the past that its next incarnation states.
fn pasts() -> [(&'static str, &'static str, Value); 3] {
    let dying = |epoch| json!({"epoch": epoch, "state": "Dying"});
    let dead = |epoch| json!({"epoch": epoch, "state": "Dead"});
    [
        (
            "the present is left out of the past",
            "m0.n0",
            json!([dying(0), dying(1)]),
        ),
        (
            "the present is dead at once",
            "m0.n0",
            json!([dying(0), dead(2)]),
        ),
        (
            "what was buried lives in the past",
            "m3.n0",
            json!([dying(0), dying(5)]),
        ),
    ]
}

async fn on_machines(world: &World) -> Vec<Try> {
    let mut all = Vec::new();
    for (what, name, path, value) in fields_of_machines() {
        all.push(world.machine(what, name, put(path, value)).await);
    }
    for (what, name, past) in pasts() {
        let change = |object: &mut Value| {
            next_epoch(object);
            object["spec"]["former"] = past;
        };
        all.push(world.machine(what, name, change).await);
    }
    all.push(
        world
            .machine("another begins anew", "m1.n1", next_epoch)
            .await,
    );
    let far = |object: &mut Value| {
        next_epoch(object);
        object["spec"]["epoch"] = json!(9);
    };
    all.push(
        world
            .machine("an incarnation is passed over", "m0.n0", far)
            .await,
    );
    let mut unlabelled = fresh("m7.n0", "n0");
    unlabelled["metadata"]["labels"] = json!({});
    for (what, object) in [
        ("a machine of another node", fresh("m7.n1", "n1")),
        (
            "a machine whose name states another node",
            fresh("m7.n1", "n0"),
        ),
        ("a machine that states another node", fresh("m7.n0", "n1")),
        (
            "a machine of a node whose name ends alike",
            fresh("m7.x.n0", "n0"),
        ),
        ("a machine whose name states no node", fresh("m7", "n0")),
        ("a machine without the label of its name", unlabelled),
        ("a machine with a past", machine("m7.n0", "n0", 2, "Live")),
    ] {
        all.push(creation(what, "berthnodes", object));
    }
    let path = format!("{ROOT}/berthnodes/m1.n1");
    all.push(of("another's deletion", Method::DELETE, &path, None));
    all
}

/// Attack, what stands in the records, and what the attacker puts in its place.
const REPLACED: [(&str, &str, &str); 15] = [
    (
        "another's record is gone",
        "1 b m1.n1 3 uid-v ns/v c1 ;",
        "",
    ),
    (
        "another's record is this node's",
        "1 b m1.n1 3",
        "1 b m0.n0 2",
    ),
    (
        "another's record rests",
        "1 b m1.n1 3 uid-v ns/v c1 ;",
        "1 c ff;",
    ),
    ("another's Pod is another", "uid-v", "uid-w"),
    ("another's record is of the past", "m1.n1 3", "m1.n1 2"),
    ("another's record is unbound", "1 b", "1 u"),
    (
        "another's former record is gone",
        "5 b m9 1 uid-l ns/l c5 ;",
        "",
    ),
    (
        "another's former record is this node's",
        "5 b m9 1",
        "5 b m0.n0 2",
    ),
    ("a mask is gone", "0 x;", ""),
    (
        "a masked address is taken",
        "0 x;",
        "0 u m0.n0 2 uid-c ns/c  ;",
    ),
    ("a kept address is free", "3 s kept;", ""),
    (
        "a kept address is no longer kept",
        "3 s kept",
        "3 u m0.n0 2 uid-c ns/c  ",
    ),
    (
        "a kept address is for another",
        "3 s kept",
        "3 u m0.n0 2 uid-c ns/c  held",
    ),
    ("its Pod's address is no longer kept", "c6 held", "c6 "),
    (
        "records out of order",
        "0 x;1 b m1.n1 3 uid-v ns/v c1 ;",
        "1 b m1.n1 3 uid-v ns/v c1 ;0 x;",
    ),
];

/// Attack, and the record that is added.
const ADDED: [(&str, &str); 16] = [
    ("a record in another's name", "7 u m1.n1 3 uid-c ns/c  "),
    (
        "a record of a node that ends alike",
        "7 u m0.x.n0 1 uid-c ns/c  ",
    ),
    ("a record in another's former name", "7 u m9 1 uid-c ns/c  "),
    ("a mask made up", "7 x"),
    ("a gateway made up", "7 g"),
    ("a reservation made up", "7 s mine"),
    (
        "a record twice",
        "7 u m0.n0 2 uid-c ns/c  ;7 u m0.n0 2 uid-d ns/d  ",
    ),
    ("a record outside the block", "8 u m0.n0 2 uid-c ns/c  "),
    ("a record of no known letter", "7 z"),
    ("a record with a field more", "7 u m0.n0 2 uid-c ns/c   z"),
    ("a record with a field less", "7 u m0.n0 2 uid-c ns/c "),
    (
        "a text that others write otherwise",
        "7 u m0.n0 2 uid%2Dc ns/c  ",
    ),
    (
        "a number that others write otherwise",
        "7 u m0.n0 02 uid-c ns/c  ",
    ),
    (
        "a number that nobody reads",
        "7 u m0.n0 99999999999999999999 uid-c ns/c  ",
    ),
    ("an empty record", ""),
    ("a rest that others write otherwise", "7 c 0F"),
];

/// Attack, field of the block, and what is written there.
fn fields_of_blocks() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("another layout", "/spec/schema", json!(2)),
        (
            "an owner, to be collected",
            "/metadata/ownerReferences",
            owner(),
        ),
        ("no finalizer", "/metadata/finalizers", json!([])),
        (
            "one of its own",
            "/metadata/finalizers",
            json!(["berth.dev/in-use", "x.y/z"]),
        ),
        (
            "another pool's label",
            "/metadata/labels",
            json!({"berth.dev/pool": "q"}),
        ),
        ("no pool's label", "/metadata/labels", json!({})),
        (
            "a label of its own",
            "/metadata/labels",
            json!({"berth.dev/pool": "p", "x": "y"}),
        ),
        ("an annotation", "/metadata/annotations", json!({"x": "y"})),
    ]
}

async fn on_blocks(world: &World) -> Vec<Try> {
    let mut all = Vec::new();
    for (what, before, after) in REPLACED {
        assert!(RECORDS.contains(before), "{what}: nothing is replaced");
        all.push(world.records(what, &RECORDS.replace(before, after)).await);
    }
    for (what, record) in ADDED {
        all.push(world.records(what, &format!("{RECORDS};{record}")).await);
    }
    for (what, path, value) in fields_of_blocks() {
        all.push(world.block(what, put(path, value)).await);
    }
    let mut elsewhere = block("p-1", "");
    elsewhere["metadata"]["name"] = json!("p-2");
    for (what, object) in [
        (
            "a block with another's record",
            block("p-1", "1 b m1.n1 3 uid-v ns/v c1 "),
        ),
        ("a block with a reservation", block("p-1", "1 s mine")),
        ("a block under another's name", elsewhere),
    ] {
        all.push(creation(what, "addressblocks", object));
    }
    let path = format!("{ROOT}/addressblocks/p-0");
    all.push(of("a block's deletion", Method::DELETE, &path, None));
    all
}

fn elsewhere() -> Vec<Try> {
    let secrets = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    vec![
        pod_deletion("another node's Pod", "victim"),
        event("a report of the controller", "berth.dev/controller", "n0"),
        event("a report of another's agent", "berth.dev/agent", "n1"),
        of(
            "a pool's deletion",
            Method::DELETE,
            &format!("{ROOT}/addresspools/p"),
            None,
        ),
        of("secrets", Method::GET, &secrets, None),
    ]
}

pub(super) async fn all(world: &World) -> Vec<Try> {
    let mut all = on_machines(world).await;
    all.extend(on_blocks(world).await);
    all.extend(elsewhere());
    all
}
