//! `kubectl berth`: what an operator asks of a cluster's addresses, and the two orders that an
//! operator gives. What is said is decided by `berth::survey`; here are words, requests and tables.

mod cluster;
mod render;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use berth::core::objects::Kind;
use berth::survey::{self, HolderRow, ReleasePlan};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use cluster::{Cluster, ClusterArgs, writer};
use render::{Output, Table};

/// Exit code of `check` when something was found.
const FOUND: u8 = 3;

/// Ask Berth who holds which address, what looks lost, and why a Pod got its pool.
#[derive(Parser)]
#[command(
    name = "kubectl-berth",
    bin_name = "kubectl berth",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes: 0 done; 1 wrong usage, or the cluster refused; 3 `check` found something.

Examples:
  kubectl berth pools
  kubectl berth who 10.0.3.7
  kubectl berth explain web-5d4f -n shop
  kubectl berth check -o json
  kubectl berth release 10.0.3.7 --dry-run
  kubectl berth bury worker-4 --machine-is-off"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How to print: a table, a wider one, or everything for programs
    #[arg(short, long, value_enum, default_value = "table", global = true)]
    output: Output,
}

#[derive(Subcommand)]
enum Command {
    /// Pools, and how full they are
    Pools,
    /// Who holds an address, or which addresses a Pod holds
    Who {
        /// Addresses, Pods (`name` or `namespace/name`) or UIDs; without any, every holder
        words: Vec<String>,
    },
    /// What looks lost or wrong, why, and what ends it
    Check,
    /// Why a Pod draws from a pool, or from none
    Explain {
        /// The Pod
        pod: String,
        /// Its namespace
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// `name` of the CNI configuration that asks; empty for the node's default network
        #[arg(long, default_value = "")]
        network: String,
        /// Name of the interface, if `berth.dev/pools` tells several on that network apart
        #[arg(long, default_value = "")]
        interface: String,
        /// `name` of the node's default network, as the agents are told by --default-network
        #[arg(long, default_value = "")]
        default_network: String,
        /// A pool that the CNI configuration names in `pools`; may be repeated
        #[arg(long = "configured-pool", value_name = "POOL")]
        configured: Vec<String>,
    },
    /// Free an address whose interface is gone: asks the agent that holds it
    Release(ReleaseArgs),
    /// State that a machine is off for good, so that its addresses can be freed after a quarantine
    Bury {
        /// Name of the node
        node: String,
        /// Your word that the machine is powered off. Were it alive and merely unreachable, two
        /// Pods could get one address
        #[arg(long)]
        machine_is_off: bool,
        /// Show what would be written
        #[arg(long)]
        dry_run: bool,
    },
    /// Print a completion script
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Args)]
struct ReleaseArgs {
    /// An address, a Pod (`name` or `namespace/name`) or a UID
    word: String,
    /// Show what would be written
    #[arg(long)]
    dry_run: bool,
    /// Take the record out of its block. Only where no machine can ever answer for it again
    #[arg(long)]
    force: bool,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("kubectl berth: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    if let Command::Completions { shell } = cli.command {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "kubectl-berth", &mut text);
        return render::print_bytes(&text).map(|()| 0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cluster = Cluster::connect(&cli.cluster).await?;
        answer(cli.command, cli.output, &cluster).await
    })
}

async fn answer(command: Command, output: Output, cluster: &Cluster) -> anyhow::Result<u8> {
    match command {
        Command::Pools => {
            let rows = survey::pools(&cluster.survey().await?);
            output.print(&rows, || render::pools(&rows, output))?;
        }
        Command::Who { words } => {
            let mut rows = survey::holders(&cluster.survey().await?);
            if !words.is_empty() {
                rows.retain(|row| words.iter().any(|word| row.matches(word)));
            }
            output.print(&rows, || render::holders(&rows, output))?;
            if rows.is_empty() && !words.is_empty() {
                bail!("nobody holds {}", words.join(", "));
            }
        }
        Command::Check => {
            let found = survey::findings(&cluster.survey().await?);
            output.print(&found, || render::findings(&found))?;
            return Ok(if found.is_empty() { 0 } else { FOUND });
        }
        Command::Explain {
            pod,
            namespace,
            network,
            interface,
            default_network,
            configured,
        } => {
            let mut snapshot = cluster.survey().await?;
            let unread = snapshot.set_aside.iter().find(|object| {
                let metadata = &object.metadata;
                object.kind == Kind::Pod && metadata.name == pod && metadata.namespace == namespace
            });
            if let Some(unread) = unread {
                bail!("{unread}");
            }
            cluster.add_namespace(&namespace, &mut snapshot).await;
            let asked = survey::Asked {
                network: &network,
                interface: &interface,
                default_network: &default_network,
                configured: &configured,
            };
            let said = survey::explain(&snapshot, &namespace, &pod, asked)
                .with_context(|| format!("there is no Pod {namespace}/{pod}"))?;
            output.print(&said, || render::explanation(&said))?;
        }
        Command::Release(args) => release(&args, output, cluster).await?,
        Command::Bury {
            node,
            machine_is_off,
            dry_run,
        } => bury(&node, machine_is_off, dry_run, cluster).await?,
        Command::Completions { .. } => unreachable!("answered without a cluster"),
    }
    Ok(0)
}

async fn release(args: &ReleaseArgs, output: Output, cluster: &Cluster) -> anyhow::Result<()> {
    let snapshot = cluster.survey().await?;
    let rows: Vec<HolderRow> = survey::holders(&snapshot)
        .into_iter()
        .filter(|row| row.matches(&args.word))
        .collect();
    let row = match rows.as_slice() {
        [] => bail!("nobody holds {}", args.word),
        [row] => row,
        several => {
            render::holders(several, output).print()?;
            bail!(
                "{} means {} holders: give an address",
                args.word,
                several.len()
            );
        }
    };
    let plan = survey::plan_release(&snapshot, row, args.force, &writer())
        .with_context(|| format!("{} is not released", args.word))?;
    let what = match &plan {
        ReleasePlan::UnderWay => {
            println!("the controller is freeing it: nothing to do");
            return Ok(());
        }
        ReleasePlan::AskAgent(_) => format!(
            "the agent on {} is asked to release {} ({}); it refuses if the namespace is there or \
             the runtime has the sandbox, and answers with an Event within a minute",
            row.node, args.word, row.pod
        ),
        ReleasePlan::TakeOut(block) => format!(
            "the record of {} is taken out of {}",
            row.pod, block.metadata.name
        ),
    };
    if args.dry_run {
        println!("dry run: {what}");
        return Ok(());
    }
    if let Some(object) = plan.object() {
        cluster.write(object).await?;
    }
    println!("{what}");
    Ok(())
}

async fn bury(
    node: &str,
    machine_is_off: bool,
    dry_run: bool,
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let snapshot = cluster.survey().await?;
    let plan = survey::plan_burial(&snapshot, node, &writer())
        .with_context(|| format!("{node} is not buried"))?;
    let what = format!(
        "machine {} of node {node} (epoch {}) is given up: its {} addresses are free after the \
         quarantine of 11 min, unless its agent contests",
        plan.machine.metadata.name, plan.machine.spec.epoch, plan.held
    );
    if dry_run {
        println!("dry run: {what}");
        return Ok(());
    }
    if !machine_is_off {
        bail!(
            "{node} is not buried: power the machine off, then say so with --machine-is-off. A \
             machine that is merely unreachable keeps its Pods and their addresses"
        );
    }
    cluster.write(plan.machine.into()).await?;
    println!("{what}");
    Ok(())
}

/// A table with a header.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    Table::new(header.iter().map(ToString::to_string).collect())
}
