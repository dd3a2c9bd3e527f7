//! Agents that end: killed at any point, and replaced in good order.

use std::collections::BTreeMap;
use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::core::hash::mix;

use crate::figures::{Requests, print};
use crate::node::{Node, Run, await_that, wait};
use crate::rig::{Pod, Rig, assert_distinct};

const SEED: u64 = 0x6265_7274_6801;
const ROUNDS: u64 = 200;
const ALIVE_MAX: usize = 24;
const DEADLINE: Duration = Duration::from_secs(60);
/// A plugin needs a moment to start and to print on a busy machine.
const MARGIN: Duration = Duration::from_secs(10);

/// Draws by round and purpose: a changed round leaves the others as they were.
fn draw(round: u64, purpose: u64, bound: u64) -> u64 {
    mix(mix(SEED, round), purpose) % bound
}

/// Live attachments: Pod, container, address.
#[derive(Default)]
struct Ledger {
    alive: BTreeMap<String, (Pod, String)>,
    times: Vec<Duration>,
    failed_count: u32,
}

impl Ledger {
    /// Takes in what the ADDs of a round were told; what failed is torn down, as a runtime does.
    fn take_in(&mut self, rig: &Rig, node: &Node, runs: Vec<(Pod, Run)>) {
        for (pod, run) in runs {
            assert!(run.took < DEADLINE + MARGIN, "{run:?}");
            self.times.push(run.took);
            if run.code == 0 {
                let address = run.address();
                self.alive.insert(pod.name.clone(), (pod, address));
            } else {
                self.failed_count += 1;
                node.tear_down(&pod.name, &pod);
                rig.remove(&pod);
            }
        }
        assert_distinct(self.alive.values().map(|(_, address)| address));
    }
}

#[test]
fn an_agent_killed_at_two_hundred_random_points_neither_loses_nor_doubles_an_address() {
    let Some(rig) = Rig::start("10.20.0.0/27", 4) else {
        return;
    };
    let mut node = rig.node("n0");
    node.start();
    node.await_ready();
    let mut ledger = Ledger::default();
    for round in 0..ROUNDS {
        let count = draw(round, 0, 4).min((ALIVE_MAX - ledger.alive.len()) as u64);
        let new: Vec<_> = (0..count)
            .map(|i| rig.pod(&node, &format!("r{round}-p{i}")))
            .collect();
        let leave_count = draw(round, 1, 4) as usize;
        let leaving: Vec<_> = ledger.alive.keys().take(leave_count).cloned().collect();
        let leaving: Vec<_> = leaving
            .iter()
            .filter_map(|name| ledger.alive.remove(name))
            .map(|(pod, _)| pod)
            .collect();
        for pod in &new {
            node.begin(pod);
        }
        // An ADD takes some milliseconds, a start and what follows it a few hundred.
        let latest_us = if round % 2 == 0 { 12_000 } else { 120_000 };
        let moment = Duration::from_micros(draw(round, 2, latest_us));
        let runs = run_and_kill(&mut node, &new, &leaving, moment);
        for pod in &leaving {
            rig.remove(pod);
        }
        ledger.take_in(&rig, &node, runs);
        // The same ADD again gets the same answer, from the agent that came after.
        if let Some((pod, address)) = ledger.alive.values().next() {
            let again = node.plugin("ADD", &pod.name, pod, DEADLINE);
            assert_eq!(again.address(), *address, "round {round}");
        }
    }
    println!("{ROUNDS} kills: {} ADDs failed", ledger.failed_count);
    let alive: Vec<_> = ledger.alive.values().map(|(pod, _)| pod.clone()).collect();
    rig.await_holders(&alive, Duration::from_secs(120));
    for pod in &alive {
        node.tear_down(&pod.name, pod);
        rig.remove(pod);
    }
    rig.await_holders(&[], Duration::from_secs(120));
    print("while killed", ledger.times, Requests::default());
}

/// ADDs and DELs at once; the agent is killed `moment` after they began, and started again.
fn run_and_kill(
    node: &mut Node,
    new: &[Pod],
    leaving: &[Pod],
    moment: Duration,
) -> Vec<(Pod, Run)> {
    std::thread::scope(|scope| {
        let mut plugins = Vec::new();
        // The plugins need the node's paths only; the agent is this thread's.
        let hands = node.hands();
        for pod in new {
            let hands = hands.clone();
            plugins.push(scope.spawn(move || {
                let run = hands.plugin("ADD", &pod.name, pod, DEADLINE);
                (pod.clone(), run)
            }));
        }
        let mut ends = Vec::new();
        for pod in leaving {
            let hands = hands.clone();
            ends.push(scope.spawn(move || hands.tear_down(&pod.name, pod)));
        }
        wait(moment);
        node.kill();
        node.start();
        for end in ends {
            end.join().unwrap();
        }
        plugins.into_iter().map(|p| p.join().unwrap()).collect()
    })
}

#[test]
fn a_successor_waits_for_its_predecessor_and_no_plugin_notices() {
    let Some(rig) = Rig::start("10.20.0.0/26", 16) else {
        return;
    };
    let mut node = rig.node("n0");
    node.start();
    node.await_ready();
    let pods: Vec<_> = (0..30).map(|i| rig.pod(&node, &format!("p{i}"))).collect();
    let hands = node.hands();
    let mut predecessor = node.start_successor();
    await_that(Duration::from_secs(60), "the second says it waits", || {
        let (code, why) = node.try_page("/readyz").unwrap_or_default();
        match (code, why.contains("another agent")) {
            (503, true) => Ok(()),
            _ => Err(format!("{code} {why}\n{}", node.log_text())),
        }
    });
    let runs: Vec<Run> = std::thread::scope(|scope| {
        let plugins: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(index, pod)| {
                let hands = hands.clone();
                scope.spawn(move || {
                    wait(Duration::from_millis(index as u64 * 20));
                    hands.begin(pod);
                    hands.plugin("ADD", &pod.name, pod, DEADLINE)
                })
            })
            .collect();
        let pid = rustix::process::Pid::from_child(&predecessor);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let begin = boot_time();
        assert!(predecessor.wait().unwrap().success());
        assert!(boot_time().since(begin) < Duration::from_secs(30));
        plugins.into_iter().map(|p| p.join().unwrap()).collect()
    });
    let addresses: Vec<_> = runs.iter().map(Run::address).collect();
    assert_distinct(&addresses);
    node.await_ready();
    let times = runs.iter().map(|run| run.took).collect();
    print("across a hand-over", times, Requests::of([&node]));
}
