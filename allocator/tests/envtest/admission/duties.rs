//! All that the protocol has an agent write.

use serde_json::{Value, json};

use super::{RECORDS, Try, World, block, creation, event, fresh, pod_deletion};

/// The next incarnation of a machine, as an agent writes it.
pub(super) fn next_epoch(object: &mut Value) {
    let spec = &mut object["spec"];
    let (epoch, state) = (spec["epoch"].as_u64().unwrap(), spec["state"].clone());
    let left = if state == "Dead" { "Dead" } else { "Dying" };
    let former = spec["former"].as_array_mut().unwrap();
    former.push(json!({"epoch": epoch, "state": left}));
    spec["epoch"] = json!(epoch + 1);
    spec["state"] = json!("Live");
    spec["bootId"] = json!("another");
}

/// What is done to records: what stands there, and what stands there after.
const RECORDED: [(&str, &str, &str); 9] = [
    ("one that rests", "4 c ff", "4 u m0.n0 2 uid-c ns/c  "),
    (
        "one that is kept for its Pod",
        "3 s kept",
        "3 u m0.n0 2 uid-c ns/c  kept",
    ),
    (
        "an answered address",
        "2 u m0.n0 2 uid-a ns/a ",
        "2 b m0.n0 2 uid-a ns/a c2",
    ),
    ("a freed address", "2 u m0.n0 2 uid-a ns/a  ;", ""),
    (
        "a freed address that rests",
        "2 u m0.n0 2 uid-a ns/a  ",
        "2 c 1f",
    ),
    (
        "a freed address that is kept",
        "6 r m0.n0 2 uid-b ns/b c6 held",
        "6 s held",
    ),
    (
        "a record of the next incarnation",
        "6 r m0.n0 2",
        "6 b m0.n0 3",
    ),
    (
        "texts that had to be escaped",
        "2 u m0.n0 2 uid-a",
        "2 u m0.n0 2 uid%20a%3b%25",
    ),
    ("nothing but who wrote", "", ""),
];

pub(super) async fn all(world: &World) -> Vec<Try> {
    let mut all = vec![
        creation("a machine that is new", "berthnodes", fresh("m7.n0", "n0")),
        creation(
            "a block with masks",
            "addressblocks",
            block("p-1", "0 x;1 u m0.n0 2 uid-c ns/c  ;2 g"),
        ),
        creation(
            "a block of a pool with a dash",
            "addressblocks",
            block("p-q-12", ""),
        ),
        pod_deletion("a Pod that has another's address", "own"),
        event("a report", "berth.dev/agent", "n0"),
    ];
    let conditions = json!([{
        "type": "AddressTaken", "status": "True", "reason": "AddressTaken",
        "message": "1 Pods: ns/a", "lastTransitionTime": "2026-01-02T03:04:05Z",
    }]);
    for (what, name, field, value) in [
        ("the list of its blocks", "m0.n0", "blocks", json!(["p-0"])),
        (
            "that Pods have another's address",
            "m0.n0",
            "conditions",
            conditions,
        ),
        ("a contest of its burial", "m2.n0", "state", json!("Live")),
    ] {
        let change = |object: &mut Value| object["spec"][field] = value;
        all.push(world.machine(what, name, change).await);
    }
    for (what, name) in [
        ("a new boot", "m0.n0"),
        ("a new boot while its burial runs", "m2.n0"),
        ("a life after its burial", "m3.n0"),
    ] {
        all.push(world.machine(what, name, next_epoch).await);
    }
    let retired = |object: &mut Value| {
        object["metadata"]["annotations"] = json!({"berth.dev/bury": "m8.n0 took its place"});
    };
    all.push(
        world
            .machine("the end of a former name", "m8", retired)
            .await,
    );
    for (what, before, after) in RECORDED {
        all.push(world.records(what, &RECORDS.replace(before, after)).await);
    }
    for (what, record) in [
        ("a free address", "7 u m0.n0 2 uid-c ns/c  "),
        ("one under its own former name", "7 u m8 1 uid-c ns/c  "),
    ] {
        all.push(world.records(what, &format!("{RECORDS};{record}")).await);
    }
    let full = |object: &mut Value| {
        object["spec"]["records"] = json!(format!("{RECORDS};7 u m0.n0 2 uid-c ns/c  "));
        let labels = object["metadata"]["labels"].as_object_mut().unwrap();
        labels.remove("berth.dev/may-have-room");
    };
    all.push(world.block("the last free address", full).await);
    all
}
