//! The witness in front of runc, the shim's starter and the CNI plugins: put in place, and what it
//! noted.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::file::{milliseconds, spread};
use super::logs::Sandboxes;
use super::phases::Found;
use super::{Micros, Origin};
use crate::node::{run, text};

/// In the node's directory.
pub(crate) const LOG: &str = "witness.log";
const SHIM: &str = "containerd-shim-runc-v2";
/// The network plugin of this rig; its IPAM plugin is a child of it.
const NETWORK: &str = "macvlan";

/// Puts the witness before every program; the `PATH` of containerd.
pub(crate) fn install(directory: &Path) -> String {
    let source = directory.join("witness.c");
    fs::write(&source, include_str!("witness.c")).unwrap();
    let program = directory.join("witness");
    let define = format!("-DLOG=\"{}\"", text(&directory.join(LOG)));
    run(
        "cc",
        &[
            "-static",
            "-O2",
            &define,
            "-o",
            &text(&program),
            &text(&source),
        ],
    );
    let before = |path: &Path, real: &Path| {
        symlink(real, path.with_extension("real")).unwrap();
        fs::copy(&program, path).unwrap();
    };
    let bin = directory.join("bin");
    for plugin in [NETWORK, "host-local", "loopback", "berth"] {
        let real = directory.join("plugins").join(plugin);
        fs::create_dir_all(directory.join("plugins")).unwrap();
        fs::rename(bin.join(plugin), &real).unwrap();
        before(&bin.join(plugin), &real);
    }
    let programs = directory.join("programs");
    fs::create_dir_all(&programs).unwrap();
    for name in ["runc", SHIM] {
        let real = ["/usr/sbin", "/usr/bin"].map(|place| Path::new(place).join(name));
        let real = real.iter().find(|path| path.exists());
        before(
            &programs.join(name),
            real.expect("Debian's containerd has it"),
        );
    }
    format!(
        "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        text(&programs)
    )
}

/// One run of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    begin: Micros,
    end: Micros,
    /// Processor time, of it and of the children that it waited for.
    cpu: Micros,
    /// How often it gave the processor up, and how often it was taken away.
    switches: [u64; 2],
    program: String,
    verb: String,
    /// The sandbox or container.
    id: String,
}

fn call(line: &str, origin: Origin) -> Option<Call> {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |index: usize| words.get(index)?.parse::<Micros>().ok();
    let [program, command, sandbox] = [5, 6, 7].map(|index| words.get(index).copied());
    let arguments = words.get(8..)?;
    let program = program?;
    let after = |flag: &str| {
        let at = arguments.iter().position(|word| *word == flag)?;
        arguments.get(at + 1).copied()
    };
    let (verb, id) = match program {
        "runc" => {
            const VERBS: [&str; 6] = ["create", "start", "state", "kill", "delete", "features"];
            let verb = arguments.iter().find(|word| VERBS.contains(word));
            (verb.copied().unwrap_or("other"), *arguments.last()?)
        }
        SHIM => (*arguments.last()?, after("-id")?),
        _ => (command?, sandbox?),
    };
    Some(Call {
        begin: number(0)? - origin.wall,
        end: number(1)? - origin.wall,
        cpu: number(2)?,
        switches: [number(3)? as u64, number(4)? as u64],
        program: program.to_owned(),
        verb: verb.to_owned(),
        id: id.to_owned(),
    })
}

pub(crate) fn calls(log: &str, origin: Origin) -> Vec<Call> {
    log.lines().filter_map(|line| call(line, origin)).collect()
}

/// The phases of each Pod that a program ran in.
pub(crate) fn phases(calls: &[Call], sandboxes: &Sandboxes) -> Vec<Found> {
    let mut found = Vec::new();
    for call in calls {
        let Some((pod, is_sandbox)) = sandboxes.pod(&call.id) else {
            continue;
        };
        let names = match (call.program.as_str(), call.verb.as_str()) {
            ("loopback", "ADD") => ["loopback-begin", "loopback-end", "loopback-cpu"],
            (NETWORK, "ADD") => ["network-begin", "network-end", "network-cpu"],
            ("host-local" | "berth", "ADD") => ["ipam-begin", "ipam-end", "ipam-cpu"],
            (SHIM, "start") if is_sandbox => ["shim-begin", "shim-end", "shim-cpu"],
            ("runc", "create") if is_sandbox => [
                "sandbox-create-begin",
                "sandbox-create-end",
                "sandbox-create-cpu",
            ],
            ("runc", "start") if is_sandbox => [
                "sandbox-start-begin",
                "sandbox-start-end",
                "sandbox-start-cpu",
            ],
            (SHIM, "start") => ["second-shim-begin", "second-shim-end", "second-shim-cpu"],
            ("runc", "create") => [
                "container-create-begin",
                "container-create-end",
                "container-create-cpu",
            ],
            ("runc", "start") => [
                "container-start-begin",
                "container-start-end",
                "container-start-cpu",
            ],
            _ => continue,
        };
        for (name, value) in names.into_iter().zip([call.begin, call.end, call.cpu]) {
            found.push(Found::new(pod, name, value));
        }
    }
    found
}

pub(crate) const COLUMNS: [&str; 13] = [
    "program",
    "verb",
    "count",
    "cpu-ms-sum",
    "cpu-ms-p50",
    "cpu-ms-p90",
    "wall-ms-p50",
    "wall-ms-p90",
    "wall-ms-max",
    "gave-up-mean",
    "taken-away-mean",
    "at-once-mean",
    "at-once-most",
];

/// One row for each program and verb.
pub(crate) fn programs(calls: &[Call]) -> Vec<Vec<Value>> {
    let mut groups: BTreeMap<(&str, &str), Vec<&Call>> = BTreeMap::new();
    for call in calls {
        let key = (call.program.as_str(), call.verb.as_str());
        groups.entry(key).or_default().push(call);
    }
    let row = |((program, verb), calls): (_, Vec<&Call>)| {
        let count = calls.len();
        let cpu: Vec<_> = calls.iter().map(|call| call.cpu).collect();
        let wall: Vec<_> = calls.iter().map(|call| call.end - call.begin).collect();
        let switches = [0, 1].map(|index| {
            let sum: u64 = calls.iter().map(|call| call.switches[index]).sum();
            json!(sum / count as u64)
        });
        let [cpu_p50, cpu_p90, _] = spread(&cpu);
        let [wall_p50, wall_p90, wall_max] = spread(&wall);
        let (mean, most) = at_once(&calls);
        let [gave_up, taken_away] = switches;
        vec![
            json!(program),
            json!(verb),
            json!(count),
            milliseconds(cpu.iter().sum()),
            cpu_p50,
            cpu_p90,
            wall_p50,
            wall_p90,
            wall_max,
            gave_up,
            taken_away,
            mean,
            json!(most),
        ]
    };
    groups.into_iter().map(row).collect()
}

/// How many ran at once: on average from the first begin to the last end, and at most.
fn at_once(calls: &[&Call]) -> (Value, i64) {
    let mut steps: Vec<(Micros, i64)> = Vec::new();
    for call in calls {
        steps.extend([(call.begin, 1), (call.end, -1)]);
    }
    steps.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, step) in &steps {
        now += step;
        most = most.max(now);
    }
    let span = steps[steps.len() - 1].0 - steps[0].0;
    let sum: Micros = calls.iter().map(|call| call.end - call.begin).sum();
    let mean = sum as f64 / span.max(1) as f64;
    (json!(super::file::rounded(mean)), most)
}

#[test]
fn a_line_of_the_witness_tells_program_verb_and_container() {
    let origin = Origin { wall: 1000 };
    let line = "1500 2500 700 3 1 runc - - --root /r --log /l create --bundle /b --pid-file /p abc";
    let created = call(line, origin).unwrap();
    assert_eq!((created.begin, created.end, created.cpu), (500, 1500, 700));
    assert_eq!(
        (created.verb.as_str(), created.id.as_str()),
        ("create", "abc")
    );
    let shim = "1 2 3 0 0 containerd-shim-runc-v2 - - -namespace k8s.io -id def start";
    let shim = call(shim, origin).unwrap();
    assert_eq!((shim.verb.as_str(), shim.id.as_str()), ("start", "def"));
    let plugin = call("1 2 3 0 0 macvlan ADD 123", origin).unwrap();
    assert_eq!((plugin.verb.as_str(), plugin.id.as_str()), ("ADD", "123"));
}

#[test]
fn calls_that_touch_do_not_count_as_two_at_once() {
    let line = |begin: i64, end: i64| format!("{begin} {end} 1 0 0 macvlan ADD 1\n");
    let log = [line(0, 10), line(10, 20), line(5, 15)].concat();
    let calls = calls(&log, Origin { wall: 0 });
    let calls: Vec<&Call> = calls.iter().collect();
    assert_eq!(at_once(&calls), (json!(1.5), 2));
}
