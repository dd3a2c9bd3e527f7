//! Who runs: a look at all of `/proc` each [`PERIOD`], and what the kernel's scheduler says of each
//! daemon in all.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use berth::adapters::clock::wall_time;
use serde_json::{Value, json};

use super::file::rounded;
use super::{Micros, Origin};
use crate::node::wait;

/// Between two looks.
pub(crate) const PERIOD: Duration = Duration::from_millis(100);
/// One look of so many goes through the threads of programs that come in hundreds.
const THREADS_EACH: usize = 10;
/// Who is told apart.
const KINDS: [&str; 11] = [
    "kubelet",
    "containerd",
    "apiserver",
    "etcd",
    "managers",
    "shim",
    "runc",
    "plugin",
    "witness",
    "berth",
    "recorder",
];
/// Those whose threads are looked at: the others have too many, or none that matter.
const WITH_THREADS: [&str; 6] = [
    "kubelet",
    "containerd",
    "apiserver",
    "etcd",
    "runc",
    "plugin",
];

fn kind(name: &str) -> Option<usize> {
    let kind = match name {
        "kubelet" | "containerd" | "etcd" => name,
        "kube-apiserver" => "apiserver",
        "kube-controller" | "kube-scheduler" => "managers",
        "macvlan.real" | "host-local.real" | "loopback.real" | "berth.real" => "plugin",
        "macvlan" | "host-local" | "loopback" | "berth" | "runc" => "witness",
        "berthd" => "berth",
        _ if name.starts_with("containerd-shim") => "shim",
        _ if name.starts_with("runc") || name == "exe" => "runc",
        _ if name.starts_with("realnode") => "recorder",
        _ => return None,
    };
    KINDS.iter().position(|known| *known == kind)
}

/// Of `/proc/PID/stat`: the name, the state, processor time in hundredths of a second.
fn stat(text: &str) -> Option<(&str, char, u64)> {
    let (before, after) = text.rsplit_once(") ")?;
    let (_, name) = before.split_once(" (")?;
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some((name, fields[0].chars().next()?, ticks))
}

fn numbers(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .collect()
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// Since 1970.
    at: Micros,
    processes: [u64; KINDS.len()],
    /// Threads that run or could.
    running: [u64; KINDS.len()],
    ticks: [u64; KINDS.len()],
    is_deep: bool,
    /// Of the whole machine: threads that run or could, and that wait for a disk or the like.
    machine: [u64; 2],
}

/// The looks of a round.
#[derive(Default)]
pub(crate) struct Samples {
    looks: Vec<Sample>,
    /// How often a thread of whom was seen blocked where in the kernel.
    waits: BTreeMap<(&'static str, String), u64>,
    seen: BTreeMap<u32, (usize, u64)>,
}

impl Samples {
    fn look(&mut self) {
        let mut sample = Sample {
            at: wall_time().0 as Micros,
            ..Sample::default()
        };
        let is_first = self.looks.is_empty();
        let is_deep = self.looks.len().is_multiple_of(THREADS_EACH);
        sample.is_deep = is_deep;
        for process in numbers("/proc") {
            let Ok(text) = fs::read_to_string(format!("/proc/{process}/stat")) else {
                continue;
            };
            let Some((name, state, ticks)) = stat(&text) else {
                continue;
            };
            let Some(kind) = kind(name) else { continue };
            sample.processes[kind] += 1;
            // What a process had before the first look is not the round's.
            let known = if is_first { ticks } else { 0 };
            let (_, last) = self
                .seen
                .insert(process, (kind, ticks))
                .unwrap_or((kind, known));
            // A number of a process that ended may come again.
            sample.ticks[kind] += ticks.saturating_sub(last);
            let are_many = ["runc", "plugin"].contains(&KINDS[kind]);
            if WITH_THREADS.contains(&KINDS[kind]) && (is_deep || !are_many) {
                self.look_at_threads(process, kind, &mut sample);
            } else if state == 'R' {
                sample.running[kind] += 1;
            }
        }
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        for (index, name) in ["procs_running ", "procs_blocked "].iter().enumerate() {
            let count = machine.lines().find_map(|line| line.strip_prefix(name));
            sample.machine[index] = count.and_then(|text| text.parse().ok()).unwrap_or_default();
        }
        self.looks.push(sample);
    }

    fn look_at_threads(&mut self, process: u32, kind: usize, sample: &mut Sample) {
        let directory = format!("/proc/{process}/task");
        // Per look of PERIOD: who is looked at less often counts for more.
        let weight = match KINDS[kind] {
            "runc" | "plugin" => THREADS_EACH as u64,
            _ => 1,
        };
        for thread in numbers(&directory) {
            let Ok(text) = fs::read_to_string(format!("{directory}/{thread}/stat")) else {
                continue;
            };
            match stat(&text) {
                Some((_, 'R', _)) => sample.running[kind] += 1,
                Some((_, 'D', _)) => {
                    let place = fs::read_to_string(format!("{directory}/{thread}/wchan"));
                    let place = place.unwrap_or_default();
                    let place = (KINDS[kind], place);
                    *self.waits.entry(place).or_default() += weight;
                }
                _ => (),
            }
        }
    }

    /// How often, by frequency.
    pub(crate) fn waits(&self) -> Vec<Vec<Value>> {
        let mut waits: Vec<_> = self.waits.iter().collect();
        waits.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let row = |((who, place), count): (&(&str, String), &u64)| {
            vec![json!(who), json!(place), json!(count)]
        };
        waits.into_iter().map(row).collect()
    }

    /// A row for each second.
    pub(crate) fn rows(&self, origin: Origin) -> Vec<Vec<Value>> {
        let mut seconds: BTreeMap<Micros, Vec<&Sample>> = BTreeMap::new();
        for sample in &self.looks {
            let second = (sample.at - origin.wall).div_euclid(1_000_000);
            seconds.entry(second).or_default().push(sample);
        }
        let index = |name: &str| {
            KINDS
                .iter()
                .position(|kind| *kind == name)
                .expect("it is one")
        };
        let row = |(second, samples): (Micros, Vec<&Sample>)| {
            let mean = |of: &dyn Fn(&Sample) -> u64| {
                let sum: u64 = samples.iter().map(|sample| of(sample)).sum();
                json!(rounded(sum as f64 / samples.len() as f64))
            };
            let most =
                |of: &dyn Fn(&Sample) -> u64| json!(samples.iter().map(|sample| of(sample)).max());
            let mut row = vec![json!(second), json!(samples.len())];
            for name in ["runc", "plugin"] {
                let kind = index(name);
                row.push(mean(&|sample| sample.processes[kind]));
                row.push(most(&|sample| sample.processes[kind]));
            }
            row.push(most(&|sample| sample.processes[index("shim")]));
            for name in WITH_THREADS {
                let kind = index(name);
                match name {
                    // At most one look in a second is deep.
                    "runc" | "plugin" => {
                        let deep = samples.iter().find(|sample| sample.is_deep);
                        row.push(json!(deep.map(|sample| sample.running[kind])));
                    }
                    _ => row.push(mean(&|sample| sample.running[kind])),
                }
            }
            row.push(mean(&|sample| sample.machine[0]));
            row.push(most(&|sample| sample.machine[0]));
            row.push(mean(&|sample| sample.machine[1]));
            for (kind, _) in KINDS.iter().enumerate() {
                let ticks: u64 = samples.iter().map(|sample| sample.ticks[kind]).sum();
                row.push(json!(ticks * 10));
            }
            row
        };
        seconds.into_iter().map(row).collect()
    }
}

/// Of [`Samples::rows`]. `runs` is the mean of threads that run or could (of runc and plugins those
/// of one look), `cpu` in milliseconds.
pub(crate) const COLUMNS: [&str; 27] = [
    "second",
    "looks",
    "runc-mean",
    "runc-most",
    "plugin-mean",
    "plugin-most",
    "shims",
    "kubelet-runs",
    "containerd-runs",
    "apiserver-runs",
    "etcd-runs",
    "runc-runs",
    "plugin-runs",
    "machine-runs",
    "machine-runs-most",
    "machine-blocked",
    "kubelet-cpu",
    "containerd-cpu",
    "apiserver-cpu",
    "etcd-cpu",
    "managers-cpu",
    "shim-cpu",
    "runc-cpu",
    "plugin-cpu",
    "witness-cpu",
    "berth-cpu",
    "recorder-cpu",
];

/// A thread that looks.
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Samples>,
}

impl Sampler {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let look = move || {
            let mut samples = Samples::default();
            while !is_over.load(Ordering::Relaxed) {
                samples.look();
                wait(PERIOD);
            }
            samples.look();
            samples
        };
        let thread = std::thread::Builder::new().name("sampler".to_owned());
        Self {
            stop,
            thread: thread.spawn(look).unwrap(),
        }
    }

    pub(crate) fn stop(self) -> Samples {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sampler does not panic")
    }
}

/// What the kernel's scheduler counts for the threads of a process that live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Thread {
    run_ns: u64,
    /// Ready, while others ran.
    wait_ns: u64,
    slices: u64,
}

impl Thread {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().map(|word| word.parse::<u64>().ok());
        Some(Self {
            run_ns: numbers.next()??,
            wait_ns: numbers.next()??,
            slices: numbers.next()??,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            run_ns: self.run_ns - before.run_ns,
            wait_ns: self.wait_ns - before.wait_ns,
            slices: self.slices - before.slices,
        }
    }
}

/// Of a process, or of several, by thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scheduled(BTreeMap<u32, Thread>);

impl Scheduled {
    pub(crate) const COLUMNS: [&str; 7] = [
        "who",
        "threads",
        "cpu-ms",
        "ready-ms",
        "slices",
        "slice-us",
        "ready-us-per-slice",
    ];

    pub(crate) fn of(processes: impl IntoIterator<Item = u32>) -> Self {
        let mut threads = BTreeMap::new();
        for process in processes {
            let directory = format!("/proc/{process}/task");
            for thread in numbers(&directory) {
                let text = fs::read_to_string(format!("{directory}/{thread}/schedstat"));
                let counted = Thread::parse(&text.unwrap_or_default());
                threads.insert(thread, counted.unwrap_or_default());
            }
        }
        Self(threads)
    }

    /// Of all shims together, since each began.
    pub(crate) fn of_shims() -> Self {
        let is_shim = |process: &u32| {
            let name = fs::read_to_string(format!("/proc/{process}/comm"));
            name.is_ok_and(|name| name.starts_with("containerd-shim"))
        };
        Self::of(numbers("/proc").into_iter().filter(is_shim))
    }

    /// What was added since `before`. What threads did that ended meanwhile is not known.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let since = |(id, now): (&u32, &Thread)| match before.0.get(id) {
            Some(before) if before.run_ns <= now.run_ns => (*id, now.since(*before)),
            _ => (*id, *now),
        };
        Self(self.0.iter().map(since).collect())
    }

    pub(crate) fn row(&self, who: &str) -> Vec<Value> {
        let sum = |of: &dyn Fn(&Thread) -> u64| self.0.values().map(of).sum::<u64>();
        let [run, wait] = [sum(&|thread| thread.run_ns), sum(&|thread| thread.wait_ns)];
        let slices = sum(&|thread| thread.slices);
        vec![
            json!(who),
            json!(self.0.len()),
            json!(run / 1_000_000),
            json!(wait / 1_000_000),
            json!(slices),
            json!(run / slices.max(1) / 1000),
            json!(wait / slices.max(1) / 1000),
        ]
    }
}

#[test]
fn names_with_brackets_and_spaces_are_read() {
    let line = "7 (runc:[2:INIT] )x) R 1 7 7 0 -1 4194304 1 2 3 4 50 6 7 8 20 0 1 0 99";
    assert_eq!(stat(line), Some(("runc:[2:INIT] )x", 'R', 56)));
    assert_eq!(kind("runc:[2:INIT]"), kind("runc.real"));
    assert_ne!(kind("runc"), kind("runc.real"));
    assert_eq!(kind("bash"), None);
}

#[test]
fn this_process_is_scheduled() {
    let now = Scheduled::of([std::process::id()]);
    assert!(now.0.values().any(|thread| thread.run_ns > 0), "{now:?}");
    let of = |text: &str| Scheduled(BTreeMap::from([(7, Thread::parse(text).unwrap())]));
    let row = of("5000000 3000000 7")
        .since(&of("1000000 1000000 3"))
        .row("x");
    let expected = [
        json!("x"),
        json!(1),
        json!(4),
        json!(2),
        json!(4),
        json!(1000),
        json!(500),
    ];
    assert_eq!(row, expected);
}
