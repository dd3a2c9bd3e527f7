//! How long the kernel took for some system calls: those that wait for the disk, for the network's
//! lock, for a namespace, for control groups. From its own trace events, in an instance of their
//! own, so that nobody is stopped as by `strace`; by the name of the caller's thread. Where the
//! kernel has no trace events, nothing is told.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::Micros;
use super::file::{milliseconds, spread};
use crate::enclosure::{PREFIX, Place};

/// Where a kernel lets trace events be mounted.
const TRACING: &str = "/sys/kernel/tracing";
/// Enough for two minutes of 100 Pods.
const BUFFER_KIB: u32 = 24 * 1024;
/// System calls, and the names of threads whose calls are told.
const CALLS: [(&str, &[&str]); 13] = [
    ("fdatasync", &["containerd", "etcd", "kubelet", "berthd"]),
    ("fsync", &["containerd*", "etcd", "kubelet", "berthd"]),
    ("unshare", &["containerd", "runc*"]),
    ("setns", &["containerd", "runc*", "macvlan*", "loopback*"]),
    ("mount", &["containerd*", "runc*", "kubelet"]),
    ("umount", &["containerd*", "runc*", "kubelet"]),
    ("pivot_root", &["runc*"]),
    ("mkdirat", &["runc*", "kubelet", "containerd*"]),
    ("unlinkat", &["runc*", "kubelet", "containerd*"]),
    ("write", &["runc*"]),
    ("sendto", &["macvlan*", "loopback*", "runc*", "berth*"]),
    ("flock", &["host-local*"]),
    ("clone", &["runc*", "containerd*"]),
];

/// How many threads' names the kernel keeps for all instances; 128 unless somebody says more.
const NAMES: &str = "saved_cmdlines_size";

/// The trace while it goes on. Dropped, the instance is gone.
pub(crate) struct Tracing {
    instance: PathBuf,
    /// The former [`NAMES`].
    names: String,
}

impl Tracing {
    pub(crate) fn start(place: &Place) -> Result<Self, String> {
        let root = Path::new(TRACING);
        if !root.join("instances").exists() {
            let mount = ["-t", "tracefs", "tracefs", TRACING];
            let output = Command::new("mount").args(mount).output();
            let output = output.map_err(|error| error.to_string())?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
        let name = place.cgroup.trim_start_matches('/');
        let tracing = Self {
            instance: root.join("instances").join(name),
            names: fs::read_to_string(root.join(NAMES)).unwrap_or_default(),
        };
        let _ = fs::write(root.join(NAMES), "16384");
        let _ = fs::remove_dir(&tracing.instance);
        fs::create_dir(&tracing.instance).map_err(|error| format!("an instance: {error}"))?;
        tracing.set("buffer_size_kb", &BUFFER_KIB.to_string())?;
        tracing.set("trace_clock", "mono")?;
        for (call, names) in CALLS {
            let filter = names.iter().map(|name| {
                let is = if name.contains('*') { "~" } else { "==" };
                format!("comm {is} \"{name}\"")
            });
            let filter = filter.collect::<Vec<_>>().join(" || ");
            for side in ["enter", "exit"] {
                let event = format!("events/syscalls/sys_{side}_{call}");
                tracing.set(&format!("{event}/filter"), &filter)?;
                tracing.set(&format!("{event}/enable"), "1")?;
            }
        }
        tracing.set("tracing_on", "1")?;
        Ok(tracing)
    }

    fn set(&self, file: &str, value: &str) -> Result<(), String> {
        let set = fs::write(self.instance.join(file), value);
        set.map_err(|error| format!("{file}: {error}"))
    }

    /// The calls that ended.
    pub(crate) fn stop(&mut self) -> Vec<Call> {
        let _ = self.set("tracing_on", "0");
        calls(&fs::read_to_string(self.instance.join("trace")).unwrap_or_default())
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let _ = self.set("events/enable", "0");
        let _ = fs::remove_dir(&self.instance);
        if !self.names.is_empty() {
            let _ = fs::write(Path::new(TRACING).join(NAMES), &self.names);
        }
    }
}

/// Removes the instance that a killed run of this name has left.
pub(crate) fn remove(name: &str) {
    assert!(name.starts_with(PREFIX), "{name} is not ours");
    let script = format!(
        "mount -t tracefs tracefs {TRACING} && cd {TRACING}/instances && [ -d {name} ] && \
         echo 0 > {name}/events/enable && rmdir {name}"
    );
    // A mount namespace of its own takes the mount with it. Fails when there is nothing to remove.
    let arguments = ["--mount", "--propagation", "private", "sh", "-c", &script];
    let _ = Command::new("unshare").args(arguments).output();
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    who: String,
    name: String,
    begin: Micros,
    end: Micros,
}

fn calls(trace: &str) -> Vec<Call> {
    let mut open: BTreeMap<(&str, String), Micros> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines().filter(|line| !line.starts_with('#')) {
        // `          runc-123     [001] ..... 42.000001: sys_fsync(fd: 3)`, and `sys_fsync -> 0x0`.
        let Some((before, event)) = line.split_once(": sys_") else {
            continue;
        };
        let Some((task, rest)) = before.split_once(" [") else {
            continue;
        };
        let Some((name, thread)) = task.trim().rsplit_once('-') else {
            continue;
        };
        let Some(at) = rest.split_whitespace().last().and_then(timestamp) else {
            continue;
        };
        match event.split_once(" -> ") {
            None => {
                let call = event.split('(').next().unwrap_or_default();
                open.insert((thread, call.to_owned()), at);
            }
            Some((call, _)) => {
                if let Some(begin) = open.remove(&(thread, call.to_owned())) {
                    calls.push(Call {
                        who: who(name),
                        name: call.to_owned(),
                        begin,
                        end: at,
                    });
                }
            }
        }
    }
    calls
}

fn timestamp(text: &str) -> Option<Micros> {
    let (seconds, micros) = text.split_once('.')?;
    Some(seconds.parse::<Micros>().ok()? * 1_000_000 + micros.parse::<Micros>().ok()?)
}

/// A program's threads under one name.
fn who(name: &str) -> String {
    if name.starts_with("runc:") {
        return "runc init".to_owned();
    }
    name.trim_end_matches(".real").to_owned()
}

pub(crate) const COLUMNS: [&str; 10] = [
    "who",
    "call",
    "count",
    "ms-sum",
    "ms-any",
    "ms-p50",
    "ms-p90",
    "ms-max",
    "longer-than-1-ms",
    "their-ms-sum",
];

/// One row for each caller and call. `ms-any` is for how long at least one was going on.
pub(crate) fn rows(calls: &[Call]) -> Vec<Vec<Value>> {
    let mut groups: BTreeMap<(&str, &str), Vec<&Call>> = BTreeMap::new();
    for call in calls {
        groups
            .entry((&call.who, &call.name))
            .or_default()
            .push(call);
    }
    let row = |((who, name), mut calls): ((&str, &str), Vec<&Call>)| {
        calls.sort_by_key(|call| call.begin);
        let times: Vec<_> = calls.iter().map(|call| call.end - call.begin).collect();
        let (mut any, mut until) = (0, Micros::MIN);
        for call in &calls {
            any += (call.end - call.begin.max(until)).max(0);
            until = until.max(call.end);
        }
        let [p50, p90, max] = spread(&times);
        let long: Vec<_> = times.iter().copied().filter(|time| *time > 1000).collect();
        vec![
            json!(who),
            json!(name),
            json!(times.len()),
            milliseconds(times.iter().sum()),
            milliseconds(any),
            p50,
            p90,
            max,
            json!(long.len()),
            milliseconds(long.iter().sum()),
        ]
    };
    groups.into_iter().map(row).collect()
}

#[test]
fn calls_are_paired_by_thread_and_their_union_counts_once() {
    let trace = "\
# tracer: nop
      containerd-12      [000] ..... 1.000000: sys_fdatasync(fd: 9)
      containerd-13      [001] ..... 1.001000: sys_fdatasync(fd: 9)
      containerd-12      [000] ..... 1.004000: sys_fdatasync -> 0x0
      containerd-13      [001] ..... 1.005000: sys_fdatasync -> 0x0
   runc:[2:INIT]-14      [001] ..... 1.006000: sys_mount -> 0x0
";
    let calls = calls(trace);
    let expected = [
        json!("containerd"),
        json!("fdatasync"),
        json!(2),
        json!(8.0),
        json!(5.0),
        json!(4.0),
        json!(4.0),
        json!(4.0),
        json!(2),
        json!(8.0),
    ];
    assert_eq!(rows(&calls), [expected]);
    assert_eq!(who("runc:[2:INIT]"), "runc init");
}
