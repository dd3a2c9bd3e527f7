//! The command line: what can be asked, in words that teach. It decides nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use drydock_traces::seed::Seed;
use drydock_traces::workload::Stack;

use crate::seed_range::SeedRange;

/// Drydock: a deterministic simulation testbed for Kubernetes IPAM contention.
///
/// One seed gives one run, byte for byte, on any machine. Exit codes: 0 all well; 1 usage or
/// configuration; 2 an invariant was violated; 3 not deterministic; 4 outside the tolerance of a
/// reference; 5 the testbed's own error; 130 interrupted (what was done is kept).
#[derive(Debug, Parser)]
#[command(
    name = "cargo sim",
    bin_name = "cargo sim",
    version,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one scenario and say how long until all Pods run.
    Run(RunArgs),
    /// Run one scenario in two fresh processes and compare every event.
    Verify(VerifyArgs),
    /// Run storms of faults over small worlds, one per seed, until an invariant breaks.
    Hunt(HuntArgs),
    /// Run a fault plan from a TOML file.
    Replay(ReplayArgs),
    /// List every constant of the world with unit, kind, range and source.
    Params(ParamsArgs),
    /// Measure the engine and the simulation against real time.
    Bench(BenchArgs),
    /// Regenerate the result blocks of a README from runs.
    Readme(ReadmeArgs),
}

/// Who decides addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Allocator {
    /// Berth, the production allocator, its own code unchanged.
    Berth,
    /// Calico v3.26.3 with its own IPAM.
    Calico,
    /// Cilium v1.14.3 with cluster-pool IPAM.
    Cilium,
    /// A free answer at zero cost: the floor.
    Instant,
}

impl Allocator {
    /// Name in records.
    pub fn name(self) -> &'static str {
        match self {
            Allocator::Berth => "berth",
            Allocator::Calico => "calico",
            Allocator::Cilium => "cilium",
            Allocator::Instant => "instant",
        }
    }
}

/// How many addresses there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Exactly as many as Pods.
    Equal,
    /// Twice as many as Pods.
    Ample,
    /// This many ordinals (pairs, in dual stack).
    Count(u32),
}

impl std::str::FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "equal" => Ok(Addresses::Equal),
            "ample" => Ok(Addresses::Ample),
            number => number
                .parse()
                .ok()
                .filter(|count| (1..=1_000_000).contains(count))
                .map(Addresses::Count)
                .ok_or_else(|| {
                    "allowed: equal (as many as Pods), ample (twice as many), or a number from 1 \
                     to 1000000"
                        .to_owned()
                }),
        }
    }
}

impl std::fmt::Display for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Addresses::Equal => f.write_str("equal"),
            Addresses::Ample => f.write_str("ample"),
            Addresses::Count(count) => write!(f, "{count}"),
        }
    }
}

/// What is run: shared by every command that runs a scenario.
#[derive(Clone, Debug, Args)]
pub struct ScenarioArgs {
    /// Kubernetes manifests (YAML): Deployments, ReplicaSets, StatefulSets, Jobs, Pods,
    /// AddressPools. Without a file: the published benchmark, 100 Deployments of 10 replicas.
    pub files: Vec<PathBuf>,
    /// Who decides addresses.
    #[arg(long, value_enum, default_value = "berth")]
    pub allocator: Allocator,
    /// A stored workload instead of a file: benchmark, burst, real-node.
    #[arg(long, conflicts_with = "files", value_name = "NAME")]
    pub workload: Option<String>,
    /// Addresses: equal (as many as Pods), ample (twice as many), or a number. Not together with
    /// an AddressPool in a file. [default: equal]
    #[arg(long, value_name = "equal|ample|N")]
    pub addresses: Option<Addresses>,
    /// Address families: ipv4, ipv6 or dual. [default: dual]
    #[arg(long, value_name = "STACK")]
    pub stack: Option<Stack>,
    /// Seed: decimal, 0x hexadecimal, or 40 digits of a commit.
    #[arg(long, default_value = "1")]
    pub seed: Seed,
    /// Nodes; the first three also carry the control plane.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub nodes: u32,
    /// A parameter set: `measured`, `event-model-check`, `real-node`, or a TOML file.
    #[arg(long, value_name = "FILE|NAME", default_value = "measured")]
    pub parameters: String,
    /// Override one parameter, e.g. `--set kubelet.qps=50`; `cargo sim params` lists all.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Stop after this much simulated time.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600,
          value_parser = clap::value_parser!(u64).range(1..=864_000))]
    pub until: u64,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What is run.
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    /// Write the run record (JSON) here; `-` for standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write every event here, one JSON line each.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Draw Pods Running over time here.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print nothing but the result line.
    #[arg(long)]
    pub quiet: bool,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// What is run.
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    /// Compare with a trace written by `run --trace`, perhaps on another machine, instead of with
    /// a second process.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
}

/// `hunt`.
#[derive(Debug, Args)]
pub struct HuntArgs {
    /// Who decides addresses.
    #[arg(long, value_enum, default_value = "berth")]
    pub allocator: Allocator,
    /// A mutant of Berth: one known mistake built in.
    #[arg(long, value_name = "NAME")]
    pub mutant: Option<String>,
    /// Seeds, `A..B` (B excluded), or one.
    #[arg(long, value_name = "A..B")]
    pub seeds: SeedRange,
    /// Worlds at a time. [default: the number of cores]
    #[arg(long)]
    pub jobs: Option<u32>,
    /// Write the failing plan here (TOML, replays with `replay`).
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Print the plan of each seed, and run nothing.
    #[arg(long)]
    pub list: bool,
    /// Write the summary (JSON) here.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The plan.
    pub plan: PathBuf,
    /// Write every event here, one JSON line each.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// `params`.
#[derive(Debug, Args)]
pub struct ParamsArgs {
    /// A parameter set: a built-in name or a TOML file.
    #[arg(long, value_name = "FILE|NAME", default_value = "measured")]
    pub parameters: String,
    /// Override one parameter.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Only parameters whose name contains this.
    pub filter: Option<String>,
}

/// `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Runs of the benchmark scenario; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=101))]
    pub runs: u32,
    /// Also run 10,000 Pods on 100 nodes and report the growth as an exponent.
    #[arg(long)]
    pub scale: bool,
}

/// `readme`.
#[derive(Debug, Args)]
pub struct ReadmeArgs {
    /// The file.
    #[arg(default_value = "README.md")]
    pub file: PathBuf,
    /// Only compare; exit code 4 when a block is stale.
    #[arg(long)]
    pub check: bool,
}
