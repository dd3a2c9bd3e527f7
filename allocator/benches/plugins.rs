//! Berth's plugin beside the distribution's host-local, in one run and in turn: ADD and DEL with
//! the store on disk, with as many holders as a node has Pods, and with the agent over an apiserver
//! in memory where the features `agent` and `testing` are on; the start of the process; its memory.
//!
//! `BERTH_BENCH_PLUGIN` names another build of the plugin than Cargo's, for instance the shipped
//! one: `cargo build --profile plugin -p berth --no-default-features --features plugin --bin
//! berth`. `BERTH_BENCH_ROUNDS` says how often. Neither side syncs its files to the disk.

#![expect(clippy::unwrap_used, reason = "a program for people who measure")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it measures this machine"
)]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[cfg(all(feature = "agent", feature = "testing"))]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
#[path = "../tests/host/cluster.rs"]
mod cluster;
#[cfg(all(feature = "agent", feature = "testing"))]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
#[path = "../tests/host/runtime.rs"]
mod runtime;

const HOST_LOCAL: &str = "/usr/lib/cni/host-local";
/// A Pod's reservation is there long before: beyond this the agent makes none. The longest that one
/// may wait is a full pool's release.
#[cfg(all(feature = "agent", feature = "testing"))]
const RESERVED_WITHIN: Duration = Duration::from_mins(1);

/// One plugin with its configuration.
struct Plugin {
    name: String,
    program: PathBuf,
    config: PathBuf,
    netns: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Plugin {
    fn command(&self, verb: &str, container: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", &self.netns)
            .env("CNI_PATH", "/usr/lib/cni")
            .envs(self.environment.iter().cloned())
            .stdin(File::open(&self.config).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn run(&self, verb: &str, container: &str) -> Duration {
        let mut command = self.command(verb, container);
        let begin = Instant::now();
        let status = command.status().unwrap();
        let took = begin.elapsed();
        assert!(status.success(), "{} {verb} {container}", self.name);
        took
    }

    /// The most memory that was resident until it waits for the end of its configuration.
    fn resident_kib(&self) -> u64 {
        let mut command = self.command("ADD", "waits");
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(&std::fs::read(&self.config).unwrap())
            .unwrap();
        let field = |name: &str| {
            let text = std::fs::read_to_string(&status).unwrap();
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1).map(str::to_owned)
        };
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let resident = field("VmHWM:").and_then(|text| text.parse().ok());
        let _ = child.kill();
        child.wait().unwrap();
        resident.unwrap_or(0)
    }
}

struct Figures {
    median: Duration,
    p99: Duration,
}

fn figures(mut times: Vec<Duration>) -> Figures {
    times.sort_unstable();
    let at = |per_cent: usize| times[(times.len() - 1) * per_cent / 100];
    Figures {
        median: at(50),
        p99: at(99),
    }
}

fn ratio(numerator: Duration, denominator: Duration) -> String {
    let thousandths = numerator.as_nanos() * 1000 / denominator.as_nanos().max(1);
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// Each plugin in turn, so that what else the machine does meets all alike.
fn compare(
    title: &str,
    plugins: &[&Plugin],
    rounds: usize,
    mut once: impl FnMut(&Plugin, usize) -> Duration,
) {
    let mut times = vec![Vec::with_capacity(rounds); plugins.len()];
    for round in 0..rounds + 10 {
        for (plugin, times) in plugins.iter().zip(&mut times) {
            let took = once(plugin, round);
            if round >= 10 {
                times.push(took);
            }
        }
    }
    println!("\n{title}, {rounds} rounds in turn");
    let all: Vec<Figures> = times.into_iter().map(figures).collect();
    for (plugin, own) in plugins.iter().zip(&all) {
        println!(
            "  {:<24} median {:>9.3?}  p99 {:>9.3?}  to {}: {} (median), {} (p99)",
            plugin.name,
            own.median,
            own.p99,
            plugins[0].name,
            ratio(own.median, all[0].median),
            ratio(own.p99, all[0].p99),
        );
    }
}

fn plugin(directory: &Path, name: &str, kind: &str, program: &Path) -> Plugin {
    let data = directory.join(format!("data-{name}"));
    let store = if kind == "berth" {
        r#""store":{"type":"disk"},"#
    } else {
        ""
    };
    let config = directory.join(format!("{name}.json"));
    let document = format!(
        r#"{{"cniVersion":"1.0.0","name":"net","type":"macvlan","ipam":{{"type":"{kind}",{store}
        "ranges":[[{{"subnet":"10.7.0.0/16"}}],[{{"subnet":"fd07::/64"}}]],
        "dataDir":"{}"}}}}"#,
        data.display()
    );
    std::fs::write(&config, document).unwrap();
    let netns = directory.join("ns");
    std::fs::write(&netns, b"").unwrap();
    Plugin {
        name: name.to_owned(),
        program: program.to_owned(),
        config,
        netns,
        environment: Vec::new(),
    }
}

fn main() {
    // Cargo passes `--bench`, a test runner `--test`: then there is nothing to measure.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let rounds = std::env::var("BERTH_BENCH_ROUNDS").map_or(500, |text| text.parse().unwrap());
    let program = std::env::var_os("BERTH_BENCH_PLUGIN");
    let program = program.map_or_else(|| env!("CARGO_BIN_EXE_berth").into(), PathBuf::from);
    if !Path::new(HOST_LOCAL).exists() {
        println!("skipped: {HOST_LOCAL} is missing (Debian: containernetworking-plugins)");
        return;
    }
    println!("plugin: {}", program.display());
    let directory = tempfile::tempdir().unwrap();
    let theirs = plugin(
        directory.path(),
        "host-local",
        "host-local",
        HOST_LOCAL.as_ref(),
    );
    let ours = plugin(directory.path(), "berth (disk)", "berth", &program);
    let both = [&theirs, &ours];
    compare("process start (VERSION)", &both, rounds, |plugin, _| {
        plugin.run("VERSION", "")
    });
    for holders in [0, 100] {
        for plugin in both {
            for holder in 0..holders {
                plugin.run("ADD", &format!("holder-{holder}"));
            }
        }
        let title = format!("ADD and DEL, dual stack, {holders} holders");
        compare(&title, &both, rounds, |plugin, round| {
            let container = format!("c{holders}-{round}");
            plugin.run("ADD", &container) + plugin.run("DEL", &container)
        });
    }
    println!("\nresident memory at start");
    for plugin in both {
        println!("  {:<24} {} KiB", plugin.name, plugin.resident_kib());
    }
    #[cfg(all(feature = "agent", feature = "testing"))]
    with_the_agent(directory.path(), &program, &theirs, rounds);
}

/// The agent holds a reservation before ADD comes, as in a cluster, where the Pod is bound long
/// before its sandbox.
#[cfg(all(feature = "agent", feature = "testing"))]
fn with_the_agent(directory: &Path, program: &Path, theirs: &Plugin, rounds: usize) {
    let mut host = cluster::Host::new();
    "net".clone_into(&mut host.default_network);
    host.start_agent();
    let config = directory.join("agent.json");
    std::fs::write(
        &config,
        r#"{"cniVersion":"1.0.0","name":"net","ipam":{"type":"berth"}}"#,
    )
    .unwrap();
    let socket = host.path("run/agent.sock").display().to_string();
    let spool = host.path("spool").display().to_string();
    let ours = |netns: PathBuf, pod: &str, uid: &str| Plugin {
        name: "berth (agent)".to_owned(),
        program: program.to_owned(),
        config: config.clone(),
        netns,
        environment: vec![
            (
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME={pod};K8S_POD_UID={uid}"
                ),
            ),
            ("BERTH_SOCKET", socket.clone()),
            ("BERTH_SPOOL", spool.clone()),
        ],
    };
    let named = ours(PathBuf::new(), "", "");
    compare(
        "ADD and DEL, the agent over memory",
        &[theirs, &named],
        rounds,
        |plugin, round| {
            let container = format!("agent-{round}");
            if plugin.name != "berth (agent)" {
                return plugin.run("ADD", &container) + plugin.run("DEL", &container);
            }
            let uid = host.api.add_pod(&container);
            let begin = Instant::now();
            while !host.api.records().contains(&uid) {
                let waited = begin.elapsed();
                assert!(waited < RESERVED_WITHIN, "nothing is reserved for {uid}");
                std::thread::sleep(Duration::from_millis(1));
            }
            let netns = host.path("netns").join(&container);
            std::fs::write(&netns, b"").unwrap();
            let plugin = ours(netns.clone(), &container, &uid);
            let took = plugin.run("ADD", &container) + plugin.run("DEL", &container);
            std::fs::remove_file(netns).unwrap();
            host.api.remove_pod(&container);
            took
        },
    );
    host.stop_agent();
}
