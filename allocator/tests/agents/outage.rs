//! The apiserver goes away and comes back.

use std::time::Duration;

use crate::figures::{Requests, print};
use crate::node::Run;
use crate::rig::{Pod, Rig, assert_distinct};

const SHORT: Duration = Duration::from_secs(4);
const LONG: Duration = Duration::from_secs(90);
const MARGIN: Duration = Duration::from_secs(10);

#[test]
fn without_an_apiserver_every_plugin_is_answered_in_time_and_nothing_is_lost() {
    let Some(mut rig) = Rig::start("10.20.0.0/26", 16) else {
        return;
    };
    let mut node = rig.node("n0");
    node.start();
    node.await_ready();
    let pods = |rig: &Rig, prefix: &str| -> Vec<Pod> {
        (0..10)
            .map(|i| rig.pod(&node, &format!("{prefix}{i}")))
            .collect()
    };
    let (old, reserved) = (pods(&rig, "old"), pods(&rig, "new"));
    let all: Vec<_> = old.iter().chain(&reserved).cloned().collect();
    rig.await_holders(&all, Duration::from_secs(60));
    let add = |pod: &Pod, within| {
        node.begin(pod);
        node.plugin("ADD", &pod.name, pod, within)
    };
    let first: Vec<_> = old.iter().map(|pod| add(pod, LONG).address()).collect();

    rig.plane.apiserver().kill();
    let during: Vec<Run> = reserved.iter().map(|pod| add(pod, SHORT)).collect();
    assert!(during.iter().all(|run| run.took < SHORT + MARGIN));
    let answered = during.iter().filter(|run| run.code == 0).count();
    println!("while the apiserver is away {answered} of 10 reserved ADDs are answered");
    assert!(answered > 0, "from memory: {during:?}");
    let unknown = Pod {
        name: "never-seen".into(),
        uid: "u".into(),
    };
    let refused = add(&unknown, SHORT);
    assert_eq!(refused.code, 1, "nobody promised it an address");
    assert!(refused.took < SHORT + MARGIN);
    node.tear_down(&unknown.name, &unknown);
    for pod in &old[..5] {
        node.tear_down(&pod.name, pod);
    }

    let Rig { plane, runtime, .. } = &mut rig;
    runtime.block_on(plane.start_apiserver()).unwrap();
    for pod in &old[..5] {
        rig.remove(pod);
    }
    let after: Vec<Run> = reserved
        .iter()
        .map(|pod| node.plugin("ADD", &pod.name, pod, LONG))
        .collect();
    let late = rig.pod(&node, "late");
    node.begin(&late);
    let late_run = node.plugin("ADD", &late.name, &late, LONG);
    let mut live: Vec<_> = first[5..].to_vec();
    live.extend(after.iter().map(Run::address));
    live.push(late_run.address());
    assert_distinct(&live);
    for (before, after) in during.iter().zip(&after).filter(|(run, _)| run.code == 0) {
        assert_eq!(before.address(), after.address(), "what was answered stays");
    }
    let mut holders: Vec<_> = old[5..].iter().chain(&reserved).cloned().collect();
    holders.push(late);
    rig.await_holders(&holders, Duration::from_secs(120));
    let times = after.iter().map(|run| run.took).collect();
    print("after an outage", times, Requests::of([&node]));
}
