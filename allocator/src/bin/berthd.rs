//! The daemon: `agent` on each node, `controller` a few times per cluster, `crds` to install. Reads
//! its arguments once, wires the adapters to a core, runs until it is told to stop.

use core::time::Duration;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use berth::adapters::apiserver::{Deadlines, KubeApi};
use berth::adapters::crds;
use berth::adapters::cri::CriSandboxes;
use berth::adapters::node::{ClusterPorts, HostPaths, HostPorts};
use berth::core::agent::{Agent, AgentConfig};
use berth::core::controller::{Controller, ControllerConfig};
use berth::shell::{run_agent, run_controller};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Plugins that are being served when SIGTERM comes get so long to hear their answer. The others
/// come again to the next agent.
const DRAIN: Duration = Duration::from_secs(5);

/// Berth gives addresses to Pods: the daemon beside the CNI plugin `berth`.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "\
Install once:      berthd crds | kubectl apply -f -
On every node:     berthd agent          (a DaemonSet; hostNetwork; root)
In the cluster:    berthd controller     (a Deployment; any number, one leads)

Logs go to stderr; RUST_LOG sets what is logged (default: info)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the plugins of this node
    Agent(AgentArgs),
    /// Approve pools, keep their status, bury dead machines
    Controller(ControllerArgs),
    /// Print the CustomResourceDefinitions as YAML
    Crds,
}

#[derive(Args)]
struct ApiArgs {
    /// The longest wait for one object of the apiserver, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, env = "BERTH_API_TIMEOUT_MS",
          value_parser = clap::value_parser!(u64).range(500..=60_000))]
    api_timeout_ms: u64,
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
    #[command(flatten)]
    api: ApiArgs,
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
    if let Command::Crds = command {
        return Ok(std::io::stdout().write_all(crds::yaml().as_bytes())?);
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            Command::Agent(args) => agent(args).await,
            Command::Controller(args) => controller(args).await,
            Command::Crds => Ok(()),
        }
    })
}

async fn connect(args: &ApiArgs) -> anyhow::Result<KubeApi> {
    let deadlines = Deadlines {
        object: Duration::from_millis(args.api_timeout_ms),
        ..Deadlines::STANDARD
    };
    KubeApi::connect(deadlines)
        .await
        .context("no cluster: neither a service account nor a kubeconfig can be used")
}

async fn agent(args: AgentArgs) -> anyhow::Result<()> {
    let machine_id = read_id("--machine-id-file", &args.machine_id_file)?;
    let boot_id = read_id("boot ID", Path::new("/proc/sys/kernel/random/boot_id"))?;
    let mut config = AgentConfig::new(&args.node_name, &machine_id, &boot_id);
    config.default_network.clone_from(&args.default_network);
    let paths = HostPaths {
        socket: args.socket,
        journal: args.state_directory.join("journal"),
        spool: args.state_directory.join("spool"),
        namespaces: args.netns_directory,
        allowed_uid: 0,
    };
    let sandboxes = CriSandboxes::new(&args.runtime_socket)
        .with_context(|| format!("--runtime-socket={}", args.runtime_socket.display()))?;
    let ports = HostPorts::open(&paths, connect(&args.api).await?, sandboxes)?;
    tracing::info!(node = args.node_name, machine_id, "the agent starts");
    let stop = async {
        stopped().await?;
        tracing::info!("the agent stops");
        ports.socket().drain(DRAIN).await;
        anyhow::Ok(())
    };
    let ((), stopped) = tokio::join!(run_agent(Agent::new(config), &ports), stop);
    stopped
}

async fn controller(args: ControllerArgs) -> anyhow::Result<()> {
    let mut config = ControllerConfig::new(&args.identity);
    config.lease_namespace = args.lease_namespace;
    config.bury_when_node_is_gone = args.bury_when_node_is_gone;
    let api = connect(&args.api).await?;
    let ports = ClusterPorts { api };
    tracing::info!(identity = args.identity, "the controller starts");
    tokio::select! {
        () = run_controller(Controller::new(config), &ports) => bail!("the controller ended"),
        // Another replica takes the Lease when it runs out.
        stopped = stopped() => stopped,
    }
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
    if !berth::cni::names::is_object_name(id) {
        bail!(
            "{key}={}: {id:?} is no ID; allowed are lower-case letters, digits and '-'",
            path.display()
        );
    }
    Ok(id.to_owned())
}
