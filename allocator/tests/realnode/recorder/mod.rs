//! Records a round: every phase of every Pod, who ran at once, and what processor time and waits
//! each daemon had; one JSON file for each round. It takes what daemons log, what the apiserver
//! audits, what `/proc` shows each [`processes::PERIOD`], what the kernel traces of some system
//! calls, and a witness in front of each short-lived program. Nothing is judged here, and no
//! daemon is held up.

pub(crate) mod audit;
mod file;
pub(crate) mod kernel;
pub(crate) mod logs;
mod machine;
mod phases;
mod processes;
pub(crate) mod witness;

use std::fs;
use std::path::{Path, PathBuf};

use berth::adapters::clock::wall_time;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Ipam};
use crate::enclosure::variable;
use crate::node::Rate;
use crate::rounds::Sightings;

use machine::{Machine, await_quiet};

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

/// What to record, from the environment.
pub(crate) struct Plan {
    pub rates: Vec<Rate>,
    ipams: Vec<Ipam>,
    deployments: Vec<usize>,
    attempts: usize,
    /// Where the files go; none are written without it.
    directory: Option<PathBuf>,
    /// What was wrong with Pods until now.
    pub disorders: Vec<String>,
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
            attempts: list("REALNODE_ATTEMPTS", "3")[0].parse().unwrap(),
            directory: variable("REALNODE_RECORD").map(PathBuf::from),
            disorders: Vec::new(),
        }
    }

    /// Each IPAM with each number of Deployments.
    pub(crate) fn rounds(&self) -> Vec<(Ipam, usize)> {
        let of = |ipam| self.deployments.iter().map(move |count| (ipam, *count));
        self.ipams.iter().flat_map(|ipam| of(*ipam)).collect()
    }

    /// Records one round, again when others were busy, at most `REALNODE_ATTEMPTS` times (3), and
    /// keeps the quietest. What is wrong with the Pods of any is kept too.
    pub(crate) fn record(
        &mut self,
        cluster: &mut Cluster,
        rate: Rate,
        ipam: Ipam,
        deployments: usize,
    ) {
        /// Processors that others may have busy before a round, and meanwhile on average.
        const QUIET: [f64; 2] = [1.0, 0.3];
        let mut quietest = f64::INFINITY;
        for attempt in 1..=self.attempts {
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
            self.disorders.extend(phases::disorder(&pods));
            if others < quietest {
                quietest = others;
                let head = json!({
                    "name": format!("real node, {rate}, {ipam}, {deployments} Deployments"),
                    "kind": "measured",
                    "qps": rate.qps, "burst": rate.burst, "ipam": ipam.to_string(),
                    "deployments": deployments, "attempt": attempt,
                    "command": format!(
                        "REQUIRE_REALNODE=1 REALNODE_RECORD=DIRECTORY REALNODE_RATES={}/{} \
                         cargo test -p berth --features envtest --test realnode -- --ignored \
                         --exact each_pod_passes_each_phase_once_and_in_order",
                        rate.qps, rate.burst
                    ),
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
            if before < QUIET[0] && others < QUIET[1] {
                return;
            }
        }
    }
}

fn scheduled(daemons: &[(&'static str, u32)]) -> Vec<processes::Scheduled> {
    let of = |daemon: &(&str, u32)| processes::Scheduled::of([daemon.1]);
    daemons.iter().map(of).collect()
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
            scheduled: scheduled(&daemons),
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
        let now = scheduled(&self.daemons);
        for (scheduled, now) in self.scheduled.iter_mut().zip(now) {
            *scheduled = now.since(scheduled);
        }
        self.shims = processes::Scheduled::of_shims();
    }

    fn pods(&self, seen: &Sightings) -> phases::Pods {
        let origin = seen.origin;
        let mut pods = phases::Pods::new(seen);
        let kubelet = logs::kubelet(&self.kubelet.text(), origin);
        let (sandboxes, phases) = logs::containerd(&self.containerd.text(), origin);
        pods.add(phases);
        pods.add(kubelet.seen_running(&sandboxes));
        pods.add(kubelet.phases);
        let calls = witness::calls(&self.witness.text(), origin);
        pods.add(witness::phases(&calls, &sandboxes));
        let requests = audit::requests(&self.audit.text(), origin);
        pods.add(audit::phases(&requests));
        pods
    }

    fn file(&self, head: Value, pods: &phases::Pods, seen: &Sightings) -> String {
        let origin = seen.origin;
        let wall = self.after.at.saturating_sub(self.before.at);
        let mut file = file::File::new(head);
        file.set("machine", &machine::description());
        file.set("loadavg-before", &json!(self.loadavg.trim()));
        file.set(
            "processors",
            &json!({
                "wall-s": file::rounded(wall.as_secs_f64()),
                "machine-busy-s": file::rounded(self.after.busy - self.before.busy),
                "stolen-s": file::rounded(self.after.stolen - self.before.stolen),
                "own-s": file::rounded(self.after.own - self.before.own),
            }),
        );
        let [disk, before] = [self.after.disk, self.before.disk];
        file.set(
            "disks-of-all",
            &json!({
                "writes": disk.writes - before.writes,
                "written-mib": (disk.sectors - before.sectors) / 2048,
                "flushes": disk.flushes - before.flushes,
                "flush-ms-sum": disk.flush_ms - before.flush_ms,
            }),
        );
        let daemons = self.daemons.iter().map(|daemon| daemon.0);
        let rows = daemons
            .zip(&self.scheduled)
            .map(|(name, counts)| counts.row(name));
        let rows = rows.chain([self.shims.row("shims")]);
        file.table(
            "daemons",
            &processes::Scheduled::COLUMNS,
            &rows.collect::<Vec<_>>(),
        );
        let calls = witness::calls(&self.witness.text(), origin);
        file.table("programs", &witness::COLUMNS, &witness::programs(&calls));
        if let Err(why) = &self.kernel {
            file.set("kernel-calls-missing", &json!(why));
        }
        file.table("kernel-calls", &kernel::COLUMNS, &kernel::rows(&self.calls));
        let waits = self.samples.waits();
        file.table("blocked-threads", &["who", "where", "times-seen"], &waits);
        let kubelet = logs::kubelet(&self.kubelet.text(), origin);
        file.set("kubelet-runnable-goroutines", &kubelet.runnable());
        file.table("phases", &phases::DURATION_COLUMNS, &pods.durations());
        file.table("pods", &pods.columns(), &pods.rows());
        file.table("seconds", &processes::COLUMNS, &self.samples.rows(origin));
        let requests = audit::requests(&self.audit.text(), origin);
        file.table("requests", &audit::COUNT_COLUMNS, &audit::counts(&requests));
        file.table(
            "kubelet-calls",
            &audit::CALL_COLUMNS,
            &audit::of_kubelet(&requests, pods),
        );
        file.table(
            "kubelet-throttled",
            &logs::THROTTLE_COLUMNS,
            &kubelet.throttled,
        );
        file.text()
    }
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
