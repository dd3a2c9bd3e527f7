//! Hours in minutes: ten agents of one cluster under load, while agents are killed, the apiserver
//! is restarted, runtimes restart, fail and hang, and sandboxes end with and without a DEL. Nothing
//! may fail, double, grow or be left. `BERTH_SOAK_MINUTES` says for how long; without it, seconds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::core::hash::mix;
use berth::core::time::BootTime;

use crate::figures::{Requests, print};
use crate::node::{Hands, Node, Run, wait};
use crate::rig::{Pod, Rig};
use crate::runtime::Manner;

const SEED: u64 = 0x6265_7274_6802;
const NODES: u64 = 10;
/// Sandboxes at once on a node, beside the one that stays.
const ALIVE_MAX: usize = 6;
const DEADLINE: Duration = Duration::from_secs(90);
/// A plugin needs a moment to start and to print on a busy machine.
const MARGIN: Duration = Duration::from_secs(10);
/// What the README says of ends without a DEL, with the agent up.
const UNTOLD: Duration = Duration::from_secs(90);
/// Units: KiB. An agent that grows past this leaks; its limit in the chart is four times as much.
const RESIDENT_KIB_MAX: u64 = 64 << 10;
const SHORT: Duration = Duration::from_secs(20);

/// Draws by who, when and for what.
fn draw(who: u64, round: u64, purpose: u64, bound: u64) -> u64 {
    mix(mix(mix(SEED, who), round), purpose) % bound
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a test may take is told by its environment"
)]
fn length() -> Duration {
    std::env::var("BERTH_SOAK_MINUTES").map_or(SHORT, |minutes| {
        Duration::from_secs(60 * minutes.parse::<u64>().unwrap())
    })
}

/// What all nodes' workers share.
struct Field {
    /// Written to only while the apiserver is away.
    rig: RwLock<Rig>,
    /// Who has which address now.
    in_use: Mutex<BTreeMap<String, String>>,
    runs: Mutex<Tally>,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Tally {
    times: Vec<Duration>,
    failures: Vec<Run>,
    untold_count: u64,
}

/// What one node runs.
struct Worker<'f> {
    field: &'f Field,
    node: String,
    hands: Hands,
    who: u64,
    alive: Vec<(Pod, String)>,
}

impl Worker<'_> {
    /// A Pod's sandbox begins.
    fn begin(&mut self, name: &str) {
        let pod = self.field.rig.read().unwrap().pod_on(&self.node, name);
        self.hands.begin(&pod);
        let run = self.hands.plugin("ADD", name, &pod, DEADLINE);
        assert!(run.took < DEADLINE + MARGIN, "{run:?}");
        if run.code != 0 {
            self.field.runs.lock().unwrap().failures.push(run);
            self.end(&pod, None, true);
            return;
        }
        let address = run.address();
        let before = self
            .field
            .in_use
            .lock()
            .unwrap()
            .insert(address.clone(), pod.name.clone());
        assert_eq!(before, None, "{address} of {name} is in use");
        self.field.runs.lock().unwrap().times.push(run.took);
        self.alive.push((pod, address));
    }

    /// It ends, with a DEL or without.
    fn end(&self, pod: &Pod, address: Option<&str>, told: bool) {
        if told {
            let run = self
                .hands
                .plugin("DEL", &pod.name, pod, Duration::from_secs(60));
            assert_eq!((run.code, run.stdout.as_str()), (0, ""), "DEL never fails");
        } else {
            self.field.runs.lock().unwrap().untold_count += 1;
        }
        if let Some(address) = address {
            self.field.in_use.lock().unwrap().remove(address);
        }
        self.hands.end(&pod.name);
        self.field.rig.read().unwrap().remove(pod);
    }

    fn work(&mut self) {
        self.begin(&format!("n{}-stays", self.who));
        for round in 0.. {
            if self.field.is_over.load(Ordering::Relaxed) {
                return;
            }
            let begins = self.alive.len() <= 1
                || self.alive.len() <= ALIVE_MAX && draw(self.who, round, 0, 2) == 0;
            if begins {
                self.begin(&format!("n{}-p{round}", self.who));
            } else {
                // The first is the Pod that stays, as a DaemonSet's does.
                let which = 1 + draw(self.who, round, 1, self.alive.len() as u64 - 1) as usize;
                let (pod, address) = self.alive.remove(which);
                self.end(&pod, Some(&address), draw(self.who, round, 2, 3) != 0);
            }
            wait(Duration::from_millis(draw(self.who, round, 3, 300)));
        }
    }
}

/// What was done to them.
#[derive(Debug, Default)]
struct Chaos {
    agents_killed: u64,
    apiservers_killed: u64,
    runtimes_restarted: u64,
    runtimes_hung: u64,
}

/// Kills and restarts until `until`.
fn rage(
    field: &Field,
    nodes: &[Mutex<Node>],
    hands: &[Hands],
    (begin, until): (BootTime, BootTime),
) -> Chaos {
    let mut chaos = Chaos::default();
    let length = until.since(begin);
    // One in the middle of a short soak, and one each ninety seconds of a long one.
    let each = Duration::from_secs(90).min(length / 2);
    let mut next = begin + each;
    for round in 0.. {
        wait(Duration::from_millis(1500 + draw(99, round, 0, 3500)));
        if boot_time() >= until {
            break;
        }
        let which = draw(99, round, 1, NODES) as usize;
        match draw(99, round, 2, 5) {
            0..=2 => {
                let mut node = nodes[which].lock().unwrap();
                node.kill();
                node.start();
                chaos.agents_killed += 1;
            }
            3 => {
                hands[which].runtime().stop();
                wait(Duration::from_millis(draw(99, round, 3, 3000)));
                hands[which].runtime().start();
                chaos.runtimes_restarted += 1;
            }
            _ => {
                let manner = [Manner::Hangs, Manner::Fails][draw(99, round, 4, 2) as usize];
                hands[which].runtime().set_manner(manner);
                wait(Duration::from_millis(draw(99, round, 3, 3000)));
                hands[which].runtime().set_manner(Manner::Lists);
                chaos.runtimes_hung += 1;
            }
        }
        if boot_time() >= next {
            next = next + each;
            let mut rig = field.rig.write().unwrap();
            rig.plane.apiserver().kill();
            wait(Duration::from_millis(draw(99, round, 5, 3000)));
            let Rig { plane, runtime, .. } = &mut *rig;
            runtime.block_on(plane.start_apiserver()).unwrap();
            chaos.apiservers_killed += 1;
        }
    }
    chaos
}

/// Units: seconds until exactly these Pods hold.
fn seconds_until(rig: &Rig, pods: &[Pod], within: Duration) -> f64 {
    let begin = boot_time();
    rig.await_holders(pods, within);
    boot_time().since(begin).as_secs_f64()
}

#[test]
fn a_soak_under_kills_and_restarts_fails_no_add_and_leaves_nothing() {
    let Some(rig) = Rig::start("10.30.0.0/23", 8) else {
        return;
    };
    let nodes: Vec<_> = (0..NODES)
        .map(|i| Mutex::new(rig.node(&format!("n{i}"))))
        .collect();
    let hands: Vec<_> = nodes
        .iter()
        .map(|node| node.lock().unwrap().hands())
        .collect();
    for node in &nodes {
        node.lock().unwrap().start();
    }
    for node in &nodes {
        node.lock().unwrap().await_ready();
    }
    let field = Field {
        rig: RwLock::new(rig),
        in_use: Mutex::default(),
        runs: Mutex::default(),
        is_over: AtomicBool::new(false),
    };
    let begin = boot_time();
    let (chaos, mut workers) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..NODES as usize)
            .map(|i| {
                let mut worker = Worker {
                    field: &field,
                    node: format!("n{i}"),
                    hands: hands[i].clone(),
                    who: i as u64,
                    alive: Vec::new(),
                };
                scope.spawn(move || {
                    worker.work();
                    worker
                })
            })
            .collect();
        let chaos = rage(&field, &nodes, &hands, (begin, begin + length()));
        field.is_over.store(true, Ordering::Relaxed);
        let workers: Vec<_> = workers.into_iter().map(|w| w.join().unwrap()).collect();
        (chaos, workers)
    });
    let resident: Vec<u64> = nodes
        .iter()
        .filter_map(|node| node.lock().unwrap().resident_kib())
        .collect();
    let mut alive: Vec<Pod> = Vec::new();
    for worker in &workers {
        alive.extend(worker.alive.iter().map(|(pod, _)| pod.clone()));
    }
    let untold_seconds = seconds_until(&field.rig.read().unwrap(), &alive, UNTOLD);
    for worker in &mut workers {
        for (pod, address) in std::mem::take(&mut worker.alive) {
            worker.end(&pod, Some(&address), true);
        }
    }
    let told_seconds = seconds_until(&field.rig.read().unwrap(), &[], UNTOLD);
    let tally = std::mem::take(&mut *field.runs.lock().unwrap());
    let mib = |kib: Option<&u64>| *kib.unwrap() as f64 / 1024.0;
    println!(
        "soak of {} s, {chaos:?}: {} ADDs, {} failed, {} ends without a DEL; nothing of these was \
         left after {untold_seconds:.1} s, of the rest after {told_seconds:.1} s; agents have \
         {:.1} to {:.1} MiB",
        length().as_secs(),
        tally.times.len(),
        tally.failures.len(),
        tally.untold_count,
        mib(resident.iter().min()),
        mib(resident.iter().max()),
    );
    print("soak", tally.times, Requests::default());
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    for hands in &hands {
        assert!(hands.runtime().asked_count() > 0);
    }
    assert_eq!(resident.len(), NODES as usize);
    assert!(
        resident.iter().all(|kib| *kib < RESIDENT_KIB_MAX),
        "{resident:?}"
    );
}
