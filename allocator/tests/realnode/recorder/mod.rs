//! Records a round: every phase of every Pod, who ran at once, and what processor time and waits
//! each daemon had; one JSON file for each round. It takes what daemons log, what the apiserver
//! audits, what `/proc` shows each [`processes::PERIOD`], what the kernel traces of some system
//! calls, and a witness in front of each short-lived program. Nothing is judged here, and no
//! daemon is held up.

pub(crate) mod audit;
mod file;
pub(crate) mod kernel;
pub(crate) mod logs;
mod phases;
mod processes;
pub(crate) mod witness;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth::adapters::clock::{boot_time, wall_time};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Ipam};
use crate::enclosure::{Place, variable};
use crate::node::{Rate, run, wait};
use crate::rounds::Sightings;

/// Microseconds, of a moment since the first Deployment was asked for.
pub(crate) type Micros = i64;
const DAY: Micros = 86_400_000_000;

/// When the first Deployment was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// Since 1970.
    pub wall: Micros,
}

impl Origin {
    pub(crate) fn now() -> Self {
        Self {
            wall: wall_time().0 as Micros,
        }
    }

    /// The moment of a text that begins with a time of day, at most half a day away: `04:05:06`,
    /// then a fraction or not.
    fn of_time_of_day(self, text: &str) -> Option<Micros> {
        let number = |part: &str| part.parse::<Micros>().ok();
        let [hours, minutes, seconds] = [0..2, 3..5, 6..8].map(|range| text.get(range));
        let clock = (number(hours?)? * 60 + number(minutes?)?) * 60 + number(seconds?)?;
        let fraction = text.get(8..)?.strip_prefix('.').unwrap_or_default();
        let digits = fraction.bytes().take(6).take_while(u8::is_ascii_digit);
        let micros = digits.zip([100_000, 10_000, 1_000, 100, 10, 1]);
        let micros: Micros = micros
            .map(|(digit, weight)| Micros::from(digit - b'0') * weight)
            .sum();
        let since = clock * 1_000_000 + micros - self.wall % DAY;
        Some((since + DAY / 2).rem_euclid(DAY) - DAY / 2)
    }

    /// The moment of a text like `2026-12-01T04:05:06.7Z`.
    fn of_timestamp(self, text: &str) -> Option<Micros> {
        self.of_time_of_day(text.split_once('T')?.1)
    }
}

/// How far a log was written when a round began.
struct Mark {
    path: PathBuf,
    length: u64,
}

impl Mark {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            length: fs::metadata(path).map_or(0, |data| data.len()),
        }
    }

    /// What was written since.
    fn text(&self) -> String {
        let bytes = fs::read(&self.path).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.length as usize..).unwrap_or_default()).into_owned()
    }
}

/// How the machine's processors were used, in seconds of all of them together.
#[derive(Clone, Copy, Debug)]
struct Machine {
    at: Duration,
    busy: f64,
    stolen: f64,
    own: f64,
}

impl Machine {
    fn now(place: &Place) -> Self {
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
        }
    }

    /// Processors that others had busy since `before`, on average.
    fn others_since(self, before: Self) -> f64 {
        let wall = (self.at - before.at).as_secs_f64();
        ((self.busy - before.busy) - (self.own - before.own)).max(0.0) / wall
    }
}

/// What to record, from the environment.
pub(crate) struct Plan {
    pub rates: Vec<Rate>,
    ipams: Vec<Ipam>,
    deployments: Vec<usize>,
    /// Where the files go; none are written without it.
    directory: Option<PathBuf>,
}

impl Plan {
    /// `REALNODE_RATES` (50/100), `REALNODE_IPAMS` (host-local,berth), `REALNODE_DEPLOYMENTS`
    /// (1,4), `REALNODE_RECORD` (no directory).
    pub(crate) fn from_environment() -> Self {
        let list = |name: &str, default: &str| -> Vec<String> {
            let text = variable(name).unwrap_or_else(|| default.to_owned());
            text.split(',').map(str::to_owned).collect()
        };
        let rate = |text: &String| {
            let (qps, burst) = text.split_once('/').expect("REALNODE_RATES: 5/10,50/100");
            Rate {
                qps: qps.parse().unwrap(),
                burst: burst.parse().unwrap(),
            }
        };
        let ipam = |text: &String| match text.as_str() {
            "host-local" => Ipam::HostLocal,
            "berth" => Ipam::Berth,
            other => panic!("REALNODE_IPAMS: host-local or berth, not {other}"),
        };
        let deployments = list("REALNODE_DEPLOYMENTS", "1,4");
        Self {
            rates: list("REALNODE_RATES", "50/100").iter().map(rate).collect(),
            ipams: list("REALNODE_IPAMS", "host-local,berth")
                .iter()
                .map(ipam)
                .collect(),
            deployments: deployments
                .iter()
                .map(|text| text.parse().unwrap())
                .collect(),
            directory: variable("REALNODE_RECORD").map(PathBuf::from),
        }
    }

    /// Each IPAM with each number of Deployments.
    pub(crate) fn rounds(&self) -> Vec<(Ipam, usize)> {
        let of = |ipam| self.deployments.iter().map(move |count| (ipam, *count));
        self.ipams.iter().flat_map(|ipam| of(*ipam)).collect()
    }

    /// Records one round, again while others were busy meanwhile, and keeps the quietest.
    pub(crate) fn record(&self, cluster: &mut Cluster, rate: Rate, ipam: Ipam, deployments: usize) {
        const ATTEMPTS: usize = 3;
        /// Processors of others, on average, that a round may have had beside it.
        const QUIET: f64 = 0.25;
        let mut quietest = f64::INFINITY;
        for attempt in 1..=ATTEMPTS {
            cluster.switch_to(ipam);
            let before = await_quiet(&cluster.place);
            cluster.node.await_phase();
            let mut round = Round::begin(cluster);
            let mut seen = Sightings::new();
            let curve = cluster.create_now(deployments, &mut seen);
            round.end(cluster);
            cluster.assert_all_addresses_in_use();
            let others = round.after.others_since(round.before);
            println!(
                "{rate}, {ipam}, {deployments} Deployments, attempt {attempt}: {curve}; others had \
                 {before:.2} processors busy before, {others:.2} meanwhile"
            );
            let pods = round.pods(&seen);
            phases::assert_whole(&pods);
            if others < quietest {
                quietest = others;
                let head = json!({
                    "name": format!("real node, {rate}, {ipam}, {deployments} Deployments"),
                    "kind": "measured",
                    "qps": rate.qps, "burst": rate.burst, "ipam": ipam.to_string(),
                    "deployments": deployments, "attempt": attempt,
                    "others-busy-processors-before": file::rounded(before),
                    "others-busy-processors-meanwhile": file::rounded(others),
                });
                let text = round.file(head, &pods, &seen);
                if let Some(directory) = &self.directory {
                    fs::create_dir_all(directory).unwrap();
                    let name = format!(
                        "{:02}-{}-{deployments}.json",
                        rate.qps,
                        ipam.to_string().to_lowercase()
                    );
                    fs::write(directory.join(name), text).unwrap();
                }
            }
            cluster.delete();
            cluster.assert_nothing_left();
            if others < QUIET {
                return;
            }
        }
    }
}

/// Waits, not for ever, until nobody else is busy; how many processors others had busy at last.
fn await_quiet(place: &Place) -> f64 {
    const LOOKS: usize = 12;
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

/// A round while it is recorded.
struct Round {
    before: Machine,
    after: Machine,
    loadavg: String,
    kubelet: Mark,
    containerd: Mark,
    witness: Mark,
    audit: Mark,
    daemons: Vec<(&'static str, u32)>,
    scheduled: Vec<processes::Scheduled>,
    shims: processes::Scheduled,
    kernel: Result<kernel::Tracing, String>,
    calls: Vec<kernel::Call>,
    sampler: Option<processes::Sampler>,
    samples: processes::Samples,
}

impl Round {
    fn begin(cluster: &mut Cluster) -> Self {
        let node = &cluster.node;
        let mut daemons = vec![
            ("kubelet", node.kubelet.pid()),
            ("containerd", node.containerd.pid()),
            ("scheduler", cluster.scheduler.pid()),
            ("controllers", cluster.controllers.pid()),
            ("berth agent", cluster.agent.pid()),
            ("berth controller", cluster.controller.pid()),
        ];
        let marks = [
            node.path("kubelet.log"),
            node.path("containerd.log"),
            node.path(witness::LOG),
            audit::log(&cluster.place),
        ];
        daemons.push(("apiserver", cluster.plane.apiserver().pid()));
        daemons.push(("etcd", cluster.plane.etcd().pid()));
        let daemons: Vec<_> = daemons
            .into_iter()
            .filter_map(|(name, pid)| Some((name, pid?)))
            .collect();
        let [kubelet, containerd, witness, audit] = marks.map(|path| Mark::new(&path));
        let machine = Machine::now(&cluster.place);
        Self {
            loadavg: fs::read_to_string("/proc/loadavg").unwrap_or_default(),
            kubelet,
            containerd,
            witness,
            audit,
            scheduled: processes::scheduled(&daemons),
            shims: processes::Scheduled::default(),
            daemons,
            kernel: kernel::Tracing::start(&cluster.place),
            calls: Vec::new(),
            sampler: Some(processes::Sampler::start()),
            samples: processes::Samples::default(),
            before: machine,
            after: machine,
        }
    }

    /// All Pods run.
    fn end(&mut self, cluster: &Cluster) {
        self.after = Machine::now(&cluster.place);
        self.samples = self.sampler.take().expect("a round ends once").stop();
        if let Ok(tracing) = &mut self.kernel {
            self.calls = tracing.stop();
        }
        let now = processes::scheduled(&self.daemons);
        for (scheduled, now) in self.scheduled.iter_mut().zip(now) {
            *scheduled = now.since(*scheduled);
        }
        self.shims = processes::scheduled_of_shims();
    }

    fn pods(&self, seen: &Sightings) -> phases::Pods {
        let origin = seen.origin;
        let mut pods = phases::Pods::new(seen);
        let kubelet = logs::kubelet(&self.kubelet.text(), origin);
        pods.add(kubelet.phases);
        let (sandboxes, phases) = logs::containerd(&self.containerd.text(), origin);
        pods.add(phases);
        let calls = witness::calls(&self.witness.text(), origin);
        pods.add(witness::phases(&calls, &sandboxes));
        let requests = audit::requests(&self.audit.text(), origin);
        pods.add(audit::phases(&requests));
        pods
    }

    fn file(&self, head: Value, pods: &phases::Pods, seen: &Sightings) -> String {
        let origin = seen.origin;
        let wall = self.after.at - self.before.at;
        let mut file = file::File::new(head);
        file.set("machine", machine());
        file.set("loadavg-before", json!(self.loadavg.trim()));
        file.set(
            "processors",
            json!({
                "wall-s": file::rounded(wall.as_secs_f64()),
                "machine-busy-s": file::rounded(self.after.busy - self.before.busy),
                "stolen-s": file::rounded(self.after.stolen - self.before.stolen),
                "own-s": file::rounded(self.after.own - self.before.own),
            }),
        );
        let mut scheduled: Vec<_> = self
            .daemons
            .iter()
            .map(|daemon| daemon.0)
            .zip(self.scheduled.iter().copied())
            .collect();
        scheduled.push(("shims", self.shims));
        let rows = scheduled
            .iter()
            .map(|(name, scheduled)| scheduled.row(name));
        file.table("daemons", &processes::Scheduled::COLUMNS, rows.collect());
        let calls = witness::calls(&self.witness.text(), origin);
        file.table("programs", &witness::COLUMNS, witness::programs(&calls));
        if let Err(why) = &self.kernel {
            file.set("kernel-calls-missing", json!(why));
        }
        file.table("kernel-calls", &kernel::COLUMNS, kernel::rows(&self.calls));
        let waits = self.samples.waits();
        file.table("blocked-threads", &["who", "where", "times-seen"], waits);
        let kubelet = logs::kubelet(&self.kubelet.text(), origin);
        file.set("kubelet-runnable-goroutines", kubelet.runnable());
        file.table("phases", &phases::DURATION_COLUMNS, pods.durations());
        file.table("pods", &pods.columns(), pods.rows());
        file.table("seconds", &processes::COLUMNS, self.samples.rows(origin));
        let requests = audit::requests(&self.audit.text(), origin);
        file.table("requests", &audit::COUNT_COLUMNS, audit::counts(&requests));
        file.table(
            "kubelet-calls",
            &audit::CALL_COLUMNS,
            audit::of_kubelet(&requests),
        );
        file.table(
            "kubelet-throttled",
            &logs::THROTTLE_COLUMNS,
            kubelet.throttled,
        );
        file.text()
    }
}

fn machine() -> Value {
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

#[test]
fn a_time_of_day_counts_from_the_origin_across_midnight() {
    // 23:59:59.5 of some day.
    let origin = Origin {
        wall: 20_000 * DAY + DAY - 500_000,
    };
    assert_eq!(origin.of_time_of_day("23:59:59.750001 x"), Some(250_001));
    assert_eq!(origin.of_time_of_day("00:00:01"), Some(1_500_000));
    let stamp = "2026-12-01T00:00:00.123456789Z";
    assert_eq!(origin.of_timestamp(stamp), Some(623_456));
    assert_eq!(origin.of_time_of_day("no time"), None);
}
