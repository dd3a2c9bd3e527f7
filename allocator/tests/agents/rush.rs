//! Many at once: plugins on one agent, agents on one pool.

use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::core::exchange::Response;
use berth::core::plugin::PluginInput;

use crate::figures::{Requests, print};
use crate::node::{Node, Run};
use crate::rig::{Pod, Rig, assert_distinct};

/// What each plugin is given; a runtime's own limit is four minutes.
const DEADLINE: Duration = Duration::from_secs(90);

/// All ADDs at once, each a process of its own.
fn add_all(work: &[(&Node, &Pod)]) -> Vec<Run> {
    for (node, pod) in work {
        node.begin(pod);
    }
    std::thread::scope(|scope| {
        let plugins: Vec<_> = work
            .iter()
            .map(|(node, pod)| scope.spawn(|| node.plugin("ADD", &pod.name, pod, DEADLINE)))
            .collect();
        plugins.into_iter().map(|p| p.join().unwrap()).collect()
    })
}

fn tear_down_all(rig: &Rig, work: &[(&Node, &Pod)]) {
    std::thread::scope(|scope| {
        for (node, pod) in work {
            scope.spawn(|| node.tear_down(&pod.name, pod));
        }
    });
    for (_, pod) in work {
        rig.remove(pod);
    }
}

fn check(runs: &[Run]) -> Vec<Duration> {
    let addresses: Vec<_> = runs.iter().map(Run::address).collect();
    assert_distinct(&addresses);
    assert!(runs.iter().all(|run| run.took < DEADLINE));
    runs.iter().map(|run| run.took).collect()
}

#[test]
fn four_hundred_plugins_at_once_on_one_agent_get_four_hundred_addresses() {
    let Some(rig) = Rig::start("10.20.0.0/23", 32) else {
        return;
    };
    let mut node = rig.node("n0");
    node.start();
    node.await_ready();
    // Addresses are reserved as Pods are bound: that is part of the price.
    let before = Requests::of([&node]);
    let pods: Vec<_> = (0..400).map(|i| rig.pod(&node, &format!("p{i}"))).collect();
    let work: Vec<_> = pods.iter().map(|pod| (&node, pod)).collect();
    let runs = add_all(&work);
    let times = check(&runs);
    print(
        "400 plugins, one agent",
        times,
        Requests::of([&node]) - before,
    );
    rig.await_holders(&pods, Duration::from_secs(60));
    tear_down_all(&rig, &work);
    rig.await_holders(&[], Duration::from_secs(120));
}

#[test]
fn ten_agents_share_a_pool_of_exactly_as_many_addresses_as_pods() {
    let Some(rig) = Rig::start("10.20.0.0-10.20.0.99", 4) else {
        return;
    };
    let mut nodes: Vec<_> = (0..10).map(|i| rig.node(&format!("n{i}"))).collect();
    nodes.iter_mut().for_each(Node::start);
    nodes.iter().for_each(Node::await_ready);
    for round in 0..2 {
        let before = Requests::of(&nodes);
        let pods: Vec<_> = (0..100)
            .map(|i| rig.pod(&nodes[i % 10], &format!("r{round}-p{i}")))
            .collect();
        let work: Vec<_> = (0..100).map(|i| (&nodes[i % 10], &pods[i])).collect();
        let runs = add_all(&work);
        let times = check(&runs);
        let cost = Requests::of(&nodes) - before;
        print("10 agents, 100 Pods, 100 addresses", times, cost);
        rig.await_holders(&pods, Duration::from_secs(60));
        tear_down_all(&rig, &work);
        rig.await_holders(&[], Duration::from_secs(120));
    }
}

/// All ADDs at once, without a process around each; when each was answered, and with what.
fn rush(work: &[(&Node, &Pod)]) -> (Vec<Duration>, Vec<String>) {
    for (node, pod) in work {
        node.begin(pod);
    }
    let began = boot_time();
    let ask = |node: &Node, pod: &Pod| match node.ask(pod, DEADLINE) {
        PluginInput::Answered(Response::Added(added)) => {
            let address = added.addresses[0].address.to_string();
            (boot_time().since(began), address)
        }
        other => panic!("{other:?}"),
    };
    std::thread::scope(|scope| {
        let asks: Vec<_> = work
            .iter()
            .map(|(node, pod)| scope.spawn(|| ask(node, pod)))
            .collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).unzip()
    })
}

#[test]
fn a_thousand_adds_at_once_over_ten_agents_get_exactly_a_thousand_addresses() {
    for reserved in [true, false] {
        let Some(rig) = Rig::start("10.20.0.0-10.20.3.231", 32) else {
            return;
        };
        let mut nodes: Vec<_> = (0..10).map(|i| rig.node(&format!("n{i}"))).collect();
        for node in &mut nodes {
            if !reserved {
                node.claim_at_add();
            }
            node.start();
        }
        nodes.iter().for_each(Node::await_ready);
        let pods: Vec<_> = (0..1000)
            .map(|i| rig.pod(&nodes[i % 10], &format!("p{i}")))
            .collect();
        if reserved {
            rig.await_holders(&pods, Duration::from_secs(120));
        }
        let before = Requests::of(&nodes);
        let work: Vec<_> = (0..1000).map(|i| (&nodes[i % 10], &pods[i])).collect();
        let (times, addresses) = rush(&work);
        assert_distinct(&addresses);
        let what = if reserved {
            "reserved"
        } else {
            "claimed at ADD"
        };
        let name = format!("10 agents, 1000 ADDs at once, 1000 addresses, {what}");
        print(&name, times, Requests::of(&nodes) - before);
        rig.await_holders(&pods, Duration::from_secs(60));
    }
}

#[test]
fn four_hundred_asks_at_once_of_one_agent_are_answered_with_four_hundred_addresses() {
    let Some(rig) = Rig::start("10.20.0.0/23", 32) else {
        return;
    };
    let mut node = rig.node("n0");
    node.start();
    node.await_ready();
    let pods: Vec<_> = (0..400).map(|i| rig.pod(&node, &format!("p{i}"))).collect();
    rig.await_holders(&pods, Duration::from_secs(60));
    let before = Requests::of([&node]);
    let work: Vec<_> = pods.iter().map(|pod| (&node, pod)).collect();
    let (times, addresses) = rush(&work);
    assert_distinct(&addresses);
    print(
        "one agent, 400 ADDs at once",
        times,
        Requests::of([&node]) - before,
    );
}
