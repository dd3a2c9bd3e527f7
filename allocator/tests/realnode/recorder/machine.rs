//! The machine under a round: what it is, how busy everybody keeps it, and when others leave it be.

use std::fs;
use std::path::Path;
use std::time::Duration;

use berth::adapters::clock::boot_time;
use serde_json::{Value, json};

use crate::enclosure::{Place, variable};
use crate::node::{run, wait};

/// How the machine's processors were used, in seconds of all of them together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    pub at: Duration,
    pub busy: f64,
    pub stolen: f64,
    pub own: f64,
    pub disk: Disk,
}

/// What all disks of the machine did for everybody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub writes: u64,
    pub sectors: u64,
    pub flushes: u64,
    pub flush_ms: u64,
}

impl Disk {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/diskstats").unwrap_or_default();
        let mut disk = Self {
            writes: 0,
            sectors: 0,
            flushes: 0,
            flush_ms: 0,
        };
        for line in text.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_whole = |name: &&str| Path::new("/sys/block").join(name).exists();
            if !fields.get(2).is_some_and(is_whole) {
                continue;
            }
            let field = |index: usize| fields.get(index).and_then(|text| text.parse().ok());
            disk.writes += field(7).unwrap_or(0);
            disk.sectors += field(9).unwrap_or(0);
            disk.flushes += field(18).unwrap_or(0);
            disk.flush_ms += field(19).unwrap_or(0);
        }
        disk
    }
}

impl Machine {
    pub(super) fn now(place: &Place) -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap();
        let ticks: Vec<f64> = text
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap())
            .collect();
        // user, nice, system, idle, iowait, irq, softirq, steal: in hundredths of a second.
        Self {
            at: boot_time().since_boot(),
            busy: (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / 100.0,
            stolen: ticks[7] / 100.0,
            own: place.processor_time().as_secs_f64(),
            disk: Disk::now(),
        }
    }

    /// Processors that others had busy since `before`, on average.
    pub(super) fn others_since(self, before: Self) -> f64 {
        let wall = self.at.saturating_sub(before.at).as_secs_f64();
        ((self.busy - before.busy) - (self.own - before.own)).max(0.0) / wall
    }
}

/// Waits, not for ever, until nobody else is busy; how many processors others had busy at last.
pub(super) fn await_quiet(place: &Place) -> f64 {
    const LOOKS: usize = 4;
    let mut others = 0.0;
    for _ in 0..LOOKS {
        let before = Machine::now(place);
        wait(Duration::from_secs(3));
        others = Machine::now(place).others_since(before);
        if others < 0.1 {
            break;
        }
    }
    others
}

/// Of machine and programs, as they tell it themselves.
pub(super) fn description() -> Value {
    let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let assets = variable("KUBEBUILDER_ASSETS").unwrap_or_default();
    let of_assets = |name: &str| first_line(run(&format!("{assets}/{name}"), &["--version"]));
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "));
    json!({
        "kernel": run("uname", &["-r"]).trim(),
        "processors": cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        "processor": model,
        "kubelet": of_assets("kubelet"),
        "apiserver": of_assets("kube-apiserver"),
        "etcd": of_assets("etcd"),
        "containerd": first_line(run("containerd", &["--version"])),
        "runc": first_line(run("runc", &["--version"])),
        "cgroups": if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 },
    })
}
