//! The real agent with the rights of its Pod and no more: all that the protocol has it write passes
//! the deployment's policies. What is refused to such a token is `tests/envtest`'s business.

use std::time::Duration;

use berth::core::holder::{Record, decode_records};
use http::Method;
use serde_json::{Value, json};

use crate::node::{Node, Run, await_that};
use crate::rig::{Pod, Rig, assert_distinct};

const DEADLINE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(60);
const MACHINES: &str = "/apis/berth.dev/v1alpha1/berthnodes";
const BLOCKS: &str = "/apis/berth.dev/v1alpha1/addressblocks";
const MACHINE: &str = "machine-n0.n0";

/// An administrator's edit; again, where somebody else was faster.
fn edit(rig: &Rig, path: &str, change: impl Fn(&mut Value)) {
    await_that(SOON, path, || {
        let mut object = rig.must(Method::GET, path, None);
        change(&mut object);
        object["spec"]["writer"] = json!("an administrator");
        let sent = rig.plane.send(Method::PUT, path, Some(&object));
        let (status, answer) = rig.runtime.block_on(sent).unwrap();
        if status.is_success() {
            return Ok(());
        }
        Err(answer.to_string())
    });
}

fn await_machine(rig: &Rig, node: &Node, what: &str, is_so: impl Fn(&Value) -> bool) {
    await_that(SOON, what, || {
        let machine = rig.must(Method::GET, &format!("{MACHINES}/{MACHINE}"), None);
        if is_so(&machine) {
            return Ok(());
        }
        Err(format!("{machine}\n{}", node.log_text()))
    });
}

fn add(node: &Node, pod: &Pod) -> Run {
    node.plugin("ADD", &pod.name, pod, DEADLINE)
}

/// All records, as (block, record).
fn records(rig: &Rig) -> Vec<(String, Record)> {
    let blocks = rig.must(Method::GET, BLOCKS, None);
    let mut found = Vec::new();
    for block in blocks["items"].as_array().unwrap() {
        let name = block["metadata"]["name"].as_str().unwrap();
        let text = block["spec"]["records"].as_str().unwrap();
        found.extend(decode_records(text).map(|entry| (name.to_owned(), entry.unwrap().1)));
    }
    found
}

/// The machine of the node as an earlier release named it, from before its last boot.
fn leave_a_former_name(rig: &Rig) {
    let former = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "BerthNode",
        "metadata": {"name": "machine-n0"},
        "spec": {"nodeName": "n0", "nodeUid": "u", "bootId": "before", "epoch": 1,
                 "state": "Live", "blocks": [], "writer": "w"},
    });
    rig.must(Method::POST, MACHINES, Some(&former));
}

#[test]
fn an_agent_does_all_that_the_protocol_asks_with_the_rights_of_its_own_node() {
    let Some(rig) = Rig::start("10.20.0.0/27", 4) else {
        return;
    };
    leave_a_former_name(&rig);
    let kept = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "AddressReservation",
        "metadata": {"name": "kept"},
        "spec": {"pool": "pool", "address": "10.20.0.9", "podNamespace": "default",
                 "podName": "p0"},
    });
    let reservations = "/apis/berth.dev/v1alpha1/addressreservations";
    rig.must(Method::POST, reservations, Some(&kept));
    await_that(SOON, "the reservation is placed", || {
        let is_placed = |(_, record): &(_, Record)| *record == Record::Reserved("kept".into());
        if records(&rig).iter().any(is_placed) {
            return Ok(());
        }
        Err("it is not".into())
    });
    let mut node = rig.node("n0");
    node.start();
    node.await_ready();
    let mut logs = Vec::new();
    let former = rig.must(Method::GET, &format!("{MACHINES}/machine-n0"), None);
    assert!(
        former["metadata"]["annotations"]["berth.dev/bury"].is_string(),
        "the former name is given up: {former}"
    );

    let pods: Vec<_> = (0..6).map(|i| rig.pod(&node, &format!("p{i}"))).collect();
    for pod in &pods {
        node.begin(pod);
    }
    let before: Vec<String> = pods.iter().map(|pod| add(&node, pod).address()).collect();
    assert_distinct(&before);
    assert!(
        before[0].starts_with("10.20.0.9/"),
        "kept for it: {before:?}"
    );
    let answers_as_before = |node: &Node| {
        for (pod, address) in pods.iter().zip(&before) {
            assert_eq!(add(node, pod).address(), *address, "{}", node.log_text());
        }
    };

    // A process ends, and another comes.
    logs.push(node.log_text());
    node.kill();
    node.start();
    node.await_ready();
    answers_as_before(&node);

    // An administrator gives the word too early: the machine lives, and says so.
    let path = format!("{MACHINES}/{MACHINE}");
    edit(&rig, &path, |machine| {
        machine["metadata"]["annotations"] = json!({"berth.dev/bury": "off"});
    });
    await_machine(&rig, &node, "the burial is contested", |machine| {
        let annotations = &machine["metadata"]["annotations"];
        annotations["berth.dev/bury"].is_null() && machine["spec"]["state"] == "Live"
    });
    answers_as_before(&node);

    // A new boot, as far as the object tells.
    logs.push(node.log_text());
    node.kill();
    edit(&rig, &path, |machine| {
        machine["spec"]["bootId"] = json!("before");
    });
    node.start();
    node.await_ready();
    await_machine(&rig, &node, "the next incarnation", |machine| {
        machine["spec"]["epoch"] == 2
            && machine["spec"]["former"] == json!([{"epoch": 1, "state": "Dying"}])
    });
    answers_as_before(&node);
    await_that(SOON, "all records are adopted", || {
        let old: Vec<_> = records(&rig)
            .into_iter()
            .filter(|(_, record)| record.holder().is_some_and(|h| h.epoch.number() != 2))
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        Err(format!("{old:?}\n{}", node.log_text()))
    });

    // An order to look at an interface is obeyed and taken away.
    edit(&rig, &path, |machine| {
        machine["metadata"]["annotations"] = json!({"berth.dev/release": pods[1].uid});
    });
    await_machine(&rig, &node, "the order is taken away", |machine| {
        machine["metadata"]["annotations"]["berth.dev/release"].is_null()
    });

    buried_alive(&rig, &node, &path, &pods[5]);

    for pod in &pods {
        node.tear_down(&pod.name, pod);
        rig.remove(pod);
    }
    await_that(Duration::from_secs(120), "all is given back", || {
        let held: Vec<_> = records(&rig)
            .into_iter()
            .filter(|(_, record)| {
                let machine = record.holder().map(|holder| holder.epoch.machine());
                machine.is_some_and(|machine| machine != "other.n9")
            })
            .collect();
        if held.is_empty() {
            return Ok(());
        }
        Err(format!("{held:?}\n{}", node.log_text()))
    });
    let is_kept = |(_, record): &(_, Record)| *record == Record::Reserved("kept".into());
    assert!(
        records(&rig).iter().any(is_kept),
        "it returns to its reservation"
    );
    logs.push(node.log_text());
    for log in logs {
        let refused: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("denied request") || line.contains("is forbidden"))
            .collect();
        assert_eq!(refused, [""; 0], "nothing that it asks for is refused");
    }
}

/// The machine is dead in the cluster's eyes, and one of its addresses another's: the agent begins
/// anew and has the Pod go that lost its address.
fn buried_alive(rig: &Rig, node: &Node, path: &str, victim: &Pod) {
    let (block, _) = records(rig)
        .into_iter()
        .find(|(_, record)| {
            record
                .holder()
                .is_some_and(|holder| holder.pod_uid.as_str() == victim.uid)
        })
        .unwrap();
    edit(rig, path, |machine| {
        machine["spec"]["state"] = json!("Dead");
    });
    edit(rig, &format!("{BLOCKS}/{block}"), |block| {
        let records = block["spec"]["records"].as_str().unwrap();
        let records: Vec<String> = records
            .split(';')
            .map(|record| {
                if record.contains(&victim.uid) {
                    let ordinal = record.split(' ').next().unwrap();
                    return format!("{ordinal} b other.n9 1 other-uid default/other c ");
                }
                record.to_owned()
            })
            .collect();
        block["spec"]["records"] = json!(records.join(";"));
    });
    await_machine(rig, node, "a life after the burial", |machine| {
        machine["spec"]["epoch"] == 3 && machine["spec"]["state"] == "Live"
    });
    await_that(SOON, "the Pod without its address goes", || {
        let path = format!("/api/v1/namespaces/default/pods/{}", victim.name);
        let pod = rig
            .runtime
            .block_on(rig.plane.send(Method::GET, &path, None));
        let (status, pod) = pod.unwrap();
        let goes = !status.is_success() || pod["metadata"]["deletionTimestamp"].is_string();
        if goes {
            return Ok(());
        }
        Err(node.log_text())
    });
}
