//! The daemon: `agent` on each node, `controller` a few times per cluster, `crds` to install. Reads
//! its arguments once, wires the adapters to a core, runs until it is told to stop.

use core::time::Duration;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use berth::adapters::apiserver::Deadlines;
use berth::adapters::bucket::Rate;
use berth::adapters::crds;
use berth::adapters::cri::CriSandboxes;
use berth::adapters::daemon::{
    AgentPages, ControllerPages, DRAIN, Limits, LogFormat, Watched, listen, start_log,
};
use berth::adapters::events::{Regarding, Reporter};
use berth::adapters::install::{Item, Outcome};
use berth::adapters::metrics::Metrics;
use berth::adapters::naming::find_name;
use berth::adapters::node::{ClusterPorts, HostPaths, HostPorts};
use berth::core::agent::{Agent, AgentConfig};
use berth::core::controller::{Controller, ControllerConfig};
use berth::core::naming::Facts;
use berth::ports::AgentPorts as _;
use berth::shell::{run_agent, run_controller};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

/// Berth gives addresses to Pods: the daemon beside the CNI plugin `berth`.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "\
Install once:      berthd crds | kubectl apply -f -
On every node:     berthd agent          (a DaemonSet; hostNetwork; root)
In the cluster:    berthd controller     (a Deployment; any number, one leads)
Before the agent:  berthd install        (an init container; the plugin on the host)

Logs go to stderr; RUST_LOG sets what is logged (default: info)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the plugins of this node
    Agent(Box<AgentArgs>),
    /// Approve pools, keep their status, bury dead machines
    Controller(ControllerArgs),
    /// Print the CustomResourceDefinitions as YAML
    Crds,
    /// Copy the plugin, and then the network configuration, to the host
    Install(InstallArgs),
    /// Take away what install put there
    Uninstall(InstallArgs),
}

#[derive(Clone, Copy, ValueEnum)]
enum LogForm {
    Text,
    Json,
}

#[derive(Args)]
struct WatchArgs {
    /// Where /metrics, /healthz and /readyz are answered; none without it
    #[arg(long, value_name = "IP:PORT", env = "BERTH_METRICS_ADDRESS")]
    metrics_address: Option<SocketAddr>,
    /// The form of log lines
    #[arg(long, value_enum, default_value = "text", env = "BERTH_LOG_FORMAT")]
    log_format: LogForm,
}

#[derive(Args)]
struct InstallArgs {
    /// The plugin's binary
    #[arg(long, value_name = "FILE", default_value = "/usr/local/bin/berth")]
    plugin: PathBuf,
    /// Where the runtime looks for plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    plugin_directory: PathBuf,
    /// The network configuration; none is installed without it
    #[arg(long, value_name = "FILE")]
    conflist: Option<PathBuf>,
    /// Where the runtime looks for network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conflist_directory: PathBuf,
    /// The configuration's name there
    #[arg(long, value_name = "NAME", default_value = "10-berth.conflist")]
    conflist_name: String,
    /// Overwrite files that Berth did not put there; they are kept, and put back by uninstall
    #[arg(long)]
    force: bool,
    /// This host gets no agent: the plugin's store `disk` serves what any configuration names, not
    /// only what /etc/berth/disk-networks.json lists
    #[arg(long)]
    without_agent: bool,
}

#[derive(Args)]
#[expect(
    clippy::struct_field_names,
    reason = "the fields are the names of the options"
)]
struct ApiArgs {
    /// The longest wait for one object of the apiserver, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, env = "BERTH_API_TIMEOUT_MS",
          value_parser = clap::value_parser!(u64).range(500..=60_000))]
    api_timeout_ms: u64,
    /// Requests per second to the apiserver, at most
    #[arg(long, value_name = "N", default_value_t = 50, env = "BERTH_API_QPS",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    api_qps: u32,
    /// Requests at once after a quiet time, at most
    #[arg(long, value_name = "N", default_value_t = 100, env = "BERTH_API_BURST",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    api_burst: u32,
}

#[derive(Args)]
struct AgentArgs {
    /// Name of this node's Node object; in a DaemonSet from the field spec.nodeName
    #[arg(long, env = "NODE_NAME")]
    node_name: String,
    /// The network (`name` in its CNI configuration) that Pods get by default: its addresses are
    /// reserved before the runtime asks
    #[arg(long, env = "BERTH_DEFAULT_NETWORK", default_value = "")]
    default_network: String,
    /// Where plugins ask. The plugin looks at the same place unless its BERTH_SOCKET says otherwise
    #[arg(long, value_name = "PATH", default_value = "/run/berth/agent.sock")]
    socket: PathBuf,
    /// Journal and spool; on the host's own disk, never an emptyDir
    #[arg(long, value_name = "DIR", default_value = "/var/lib/berth")]
    state_directory: PathBuf,
    /// Where the runtime keeps network namespaces; may be repeated. Must be the host's own
    /// directory, mounted with HostToContainer propagation
    #[arg(long, value_name = "DIR", default_value = "/run/netns")]
    netns_directory: Vec<PathBuf>,
    /// The machine's ID; mount the host's file
    #[arg(long, value_name = "FILE", default_value = "/etc/machine-id")]
    machine_id_file: PathBuf,
    /// The container runtime's CRI socket
    #[arg(
        long,
        value_name = "PATH",
        env = "BERTH_RUNTIME_SOCKET",
        default_value = "/run/containerd/containerd.sock"
    )]
    runtime_socket: PathBuf,
    /// Where the runtime looks for plugins: the plugin is put back there when it is removed, and it
    /// is said when another stands in its place. Not looked at without it
    #[arg(long, value_name = "DIR", env = "BERTH_PLUGIN_DIRECTORY")]
    plugin_directory: Option<PathBuf>,
    /// The plugin's binary to put back
    #[arg(long, value_name = "FILE", default_value = "/usr/local/bin/berth")]
    plugin: PathBuf,
    /// The network configuration to put back; none is looked at without it
    #[arg(long, value_name = "FILE")]
    conflist: Option<PathBuf>,
    /// Where the runtime looks for network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conflist_directory: PathBuf,
    /// The configuration's name there
    #[arg(long, value_name = "NAME", default_value = "10-berth.conflist")]
    conflist_name: String,
    /// How often is looked at what the agent depends on, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(100..=600_000))]
    look_pause_ms: u64,
    /// Leave a Pod alone whose address was given to another after this machine was buried alive:
    /// two Pods then have one address until somebody acts
    #[arg(long)]
    keep_displaced_pods: bool,
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    watch: WatchArgs,
}

#[derive(Args)]
struct ControllerArgs {
    /// This process among its replicas; in a Deployment the Pod's name
    #[arg(long, env = "POD_NAME")]
    identity: String,
    /// Where the leader's Lease is
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "berth-system"
    )]
    lease_namespace: String,
    /// Bury a machine whose Node object is gone. Off: only `berth.dev/bury` on a BerthNode and the
    /// out-of-service taint bury
    #[arg(long)]
    bury_when_node_is_gone: bool,
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    watch: WatchArgs,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berthd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Crds => Ok(std::io::stdout().write_all(crds::yaml().as_bytes())?),
        Command::Install(args) => install(&args),
        Command::Uninstall(args) => uninstall(&args),
        Command::Agent(args) => run_role(args.watch.log_format, agent(*args)),
        Command::Controller(args) => run_role(args.watch.log_format, controller(args)),
    }
}

fn run_role(format: LogForm, role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    start_log(match format {
        LogForm::Text => LogFormat::Text,
        LogForm::Json => LogFormat::Json,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(role)
}

fn limits(args: &ApiArgs) -> Limits {
    Limits {
        deadlines: Deadlines {
            object: Duration::from_millis(args.api_timeout_ms),
            ..Deadlines::STANDARD
        },
        rate: Rate {
            per_second: args.api_qps,
            burst: args.api_burst,
        },
    }
}

fn read_machine_id(file: &Path) -> anyhow::Result<String> {
    let id = read_id("--machine-id-file", file)?;
    if id.contains('.') {
        let file = file.display();
        bail!("--machine-id-file={file}: {id:?} is no ID: it has a dot");
    }
    Ok(id)
}

async fn agent(args: AgentArgs) -> anyhow::Result<()> {
    let machine_id = read_machine_id(&args.machine_id_file)?;
    let installed = kept(&args);
    let boot_id = read_id("boot ID", Path::new("/proc/sys/kernel/random/boot_id"))?;
    let paths = HostPaths {
        socket: args.socket,
        journal: args.state_directory.join("journal"),
        spool: args.state_directory.join("spool"),
        namespaces: args.netns_directory,
        allowed_uid: 0,
    };
    let sandboxes = CriSandboxes::new(&args.runtime_socket)
        .with_context(|| format!("--runtime-socket={}", args.runtime_socket.display()))?;
    let look_pause = Duration::from_millis(args.look_pause_ms);
    let reporter = Reporter {
        controller: "berth.dev/agent",
        instance: args.node_name.clone(),
    };
    let node = Regarding {
        api_version: "v1",
        kind: "Node",
        namespace: String::new(),
        name: args.node_name.clone(),
        uid: String::new(),
    };
    let watched = Watched::connect(Metrics::for_agent(), limits(&args.api), reporter, node).await?;
    let pages = AgentPages::new(watched.metrics.clone(), &paths)
        .over(args.runtime_socket.parent().map(Path::to_owned))
        .over(installed.iter().map(|item| item.directory.clone()));
    let pages = Arc::new(pages);
    let _http = listen(args.watch.metrics_address, pages.clone()).await?;
    let mut stop = core::pin::pin!(stopped());
    let waits = || {
        pages.set_waits(true);
        tracing::warn!("another agent of this host has the journal: waiting for its end");
    };
    let taking_over =
        HostPorts::take_over(&paths, (watched.api, sandboxes), watched.observer, waits);
    let ports = tokio::select! {
        ports = taking_over => ports?.keeping(installed, look_pause),
        stopped = &mut stop => return stopped,
    };
    pages.set_waits(false);
    let facts = Facts {
        machine_id: &machine_id,
        node_name: &args.node_name,
        boot_id: &boot_id,
    };
    let machine = tokio::select! {
        name = find_name(ports.api(), &args.state_directory, facts) => name?,
        stopped = &mut stop => return stopped,
    };
    let mut config = AgentConfig::new(&args.node_name, &machine, &boot_id);
    config.default_network.clone_from(&args.default_network);
    config.removes_displaced_pods = !args.keep_displaced_pods;
    tracing::info!(node = args.node_name, machine, "the agent starts");
    let drain = async {
        stop.await?;
        tracing::info!("the agent stops");
        ports.socket().drain(DRAIN).await;
        anyhow::Ok(())
    };
    let ((), drained) = tokio::join!(run_agent(Agent::new(config), &ports), drain);
    drained
}

async fn controller(args: ControllerArgs) -> anyhow::Result<()> {
    let mut config = ControllerConfig::new(&args.identity);
    config.lease_namespace = args.lease_namespace;
    config.bury_when_node_is_gone = args.bury_when_node_is_gone;
    let reporter = Reporter {
        controller: "berth.dev/controller",
        instance: args.identity.clone(),
    };
    let lease = Regarding {
        api_version: "coordination.k8s.io/v1",
        kind: "Lease",
        namespace: config.lease_namespace.clone(),
        name: config.lease_name.clone(),
        uid: String::new(),
    };
    let metrics = Metrics::for_controller();
    let watched = Watched::connect(metrics, limits(&args.api), reporter, lease).await?;
    let metrics = watched.metrics.clone();
    let _http = listen(
        args.watch.metrics_address,
        Arc::new(ControllerPages { metrics }),
    )
    .await?;
    let ports = ClusterPorts {
        api: watched.api,
        observer: watched.observer,
    };
    tracing::info!(identity = args.identity, "the controller starts");
    tokio::select! {
        () = run_controller(Controller::new(config), &ports) => bail!("the controller ended"),
        // Another replica takes the Lease when it runs out.
        stopped = stopped() => stopped,
    }
}

/// The plugin's name among the runtime's.
const PLUGIN: &str = "berth";

fn plugin_item(source: &Path, directory: &Path) -> Item {
    Item {
        source: source.to_owned(),
        directory: directory.to_owned(),
        name: PLUGIN.to_owned(),
        mode: 0o755,
    }
}

/// What the agent sees to that it stays installed.
fn kept(args: &AgentArgs) -> Vec<Item> {
    let directory = args.plugin_directory.as_ref();
    let plugin = directory.map(|directory| plugin_item(&args.plugin, directory));
    let conflist = args.conflist.clone().map(|source| Item {
        source,
        directory: args.conflist_directory.clone(),
        name: args.conflist_name.clone(),
        mode: 0o644,
    });
    plugin.into_iter().chain(conflist).collect()
}

/// The plugin, and last the configuration, which has the runtime use it.
fn items(args: &InstallArgs) -> Vec<Item> {
    let plugin = plugin_item(&args.plugin, &args.plugin_directory);
    let conflist = args.conflist.clone().map(|source| Item {
        source,
        directory: args.conflist_directory.clone(),
        name: args.conflist_name.clone(),
        mode: 0o644,
    });
    [plugin].into_iter().chain(conflist).collect()
}

/// The sign of an agent first: the plugin must not run without it.
fn install(args: &InstallArgs) -> anyhow::Result<()> {
    for item in items(args) {
        if item.name == PLUGIN {
            item.mark_agent(!args.without_agent)?;
        }
        say(&item, item.install(args.force)?)?;
    }
    Ok(())
}

/// The configuration first: nothing must name a plugin that is gone.
fn uninstall(args: &InstallArgs) -> anyhow::Result<()> {
    for item in items(args).into_iter().rev() {
        say(&item, item.uninstall(args.force)?)?;
        if item.name == PLUGIN {
            item.mark_agent(false)?;
        }
    }
    Ok(())
}

fn say(item: &Item, outcome: Outcome) -> anyhow::Result<()> {
    let done = match outcome {
        Outcome::Installed => "installed",
        Outcome::Replaced => "replaced; the one before is kept",
        Outcome::Unchanged => "is up to date",
        Outcome::Removed => "removed",
        Outcome::Restored => "removed; the one before is back",
        Outcome::Absent => "was not there",
    };
    let path = item.directory.join(&item.name);
    Ok(writeln!(std::io::stdout(), "{}: {done}", path.display())?)
}

/// Completes at SIGTERM or SIGINT.
async fn stopped() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// One line that becomes an object's name.
fn read_id(key: &str, path: &Path) -> anyhow::Result<String> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("{key}={}", path.display()))?;
    let id = text.trim();
    // What systemd writes into an image for the first boot to replace.
    let is_none = id == "uninitialized" || id.bytes().all(|byte| byte == b'0');
    if is_none || !berth::core::names::is_object_name(id) {
        bail!(
            "{key}={}: {id:?} is no ID; allowed are lower-case letters, digits and '-'",
            path.display()
        );
    }
    Ok(id.to_owned())
}
