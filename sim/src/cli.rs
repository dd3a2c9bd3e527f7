//! The command line: what can be asked, in words that teach. It decides nothing.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use drydock_reports::reference::FITTED_ON;
use drydock_traces::seed::Seed;
use drydock_traces::workload::Stack;

use crate::adapters::{self, BERTH};
use crate::scenario::{NODES, PARAMETERS, Spec, UNTIL_S};
use crate::seed_range::SeedRange;
use crate::subject::{Addresses, Allocator, CellName, Subject};

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
    /// Run every allocator beside the published table, under one profile or all of them.
    Compare(CompareArgs),
    /// Find the one number of a profile on the published cell that it may be fitted on.
    Fit(FitArgs),
    /// Switch one mechanism off at a time and rank what each of them costs.
    Ablate(AblateArgs),
    /// Take each inferred constant to the ends of its range and rank what that changes.
    Sensitivity(SensitivityArgs),
    /// Find which values of which inferred constants would give the published time of a cell.
    Gap(GapArgs),
    /// Run the stored runs again and compare their certificates: same seed, same bytes.
    ///
    /// The list in traces/corpus/certificates/runs.toml holds, for each stored run, how many events
    /// it has and the hash over them: the benchmark for every allocator, manifests with
    /// StatefulSets and Jobs, storms, the plans of regressions. The same sources give the same list
    /// on any machine and in any build. Whoever means to change a run rewrites its line with
    /// --write and says why; the reason stands in CHANGES.md beside the list. Run it in the
    /// project's root.
    ///
    /// Exit code 4: a certificate differs, a run is not listed, a line has no run, or the changelog
    /// does not tell of a change.
    Certify(CertifyArgs),
    /// Regenerate the result blocks and plots of the README and the peers' pages from runs.
    Readme(ReadmeArgs),
}

/// The allocators that can be asked for, each with what it is.
fn allocators() -> impl TypedValueParser<Value = Allocator> {
    let known = adapters::all()
        .map(|adapter| PossibleValue::new(adapter.allocator().name()).help(adapter.about()));
    PossibleValuesParser::new(known)
        .map(|name| adapters::named(&name).expect("clap admits none but the names above"))
}

/// What is run: shared by every command that runs a scenario.
#[derive(Clone, Debug, Args)]
pub struct ScenarioArgs {
    /// Kubernetes manifests (YAML): Deployments, ReplicaSets, StatefulSets, Jobs, Pods,
    /// AddressPools. Without a file: the published benchmark, 100 Deployments of 10 replicas.
    pub files: Vec<PathBuf>,
    /// Who decides addresses.
    #[arg(long, value_name = "ALLOCATOR", value_parser = allocators(), default_value = BERTH.name())]
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
    /// Nodes; the first three (`cluster.masters`) also carry the control plane.
    #[arg(long, default_value_t = NODES, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub nodes: u32,
    /// A parameter set: `measured`, `serial-pull`, `node-cpu`, `slow-api`, `master-cpu`,
    /// `event-model-check`, `real-node`, or a TOML file. Several are laid over each other, as the
    /// cluster of another report is in `measured,older-report`.
    #[arg(long, value_name = "FILE|NAME", default_value = PARAMETERS)]
    pub parameters: String,
    /// Override one parameter, e.g. `--set kubelet.qps=50`; `cargo sim params` lists all.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Stop after this much simulated time.
    #[arg(long, value_name = "SECONDS", default_value_t = UNTIL_S,
          value_parser = clap::value_parser!(u64).range(1..=864_000))]
    pub until: u64,
}

impl ScenarioArgs {
    /// The same as data.
    pub fn spec(&self) -> Spec {
        Spec {
            files: self.files.clone(),
            allocator: self.allocator,
            workload: self.workload.clone(),
            addresses: self.addresses,
            stack: self.stack,
            seed: self.seed,
            nodes: self.nodes,
            parameters: self.parameters.clone(),
            set: self.set.clone(),
            until_s: self.until,
        }
    }
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
    /// Print where the time of one Pod's start went, second by second: the median, the last, or
    /// the one of a name; and how busy each resource was.
    #[arg(long, value_name = "POD|median|last")]
    pub explain: Option<String>,
    /// Once all Pods run, delete all of them, and measure until all replacements run.
    #[arg(long)]
    pub recreate: bool,
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
    #[arg(long, value_name = "ALLOCATOR", value_parser = allocators(), default_value = BERTH.name())]
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
    /// Write the failing plan here (TOML, replays with `replay`); of one seed, in any case.
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Print the plan of each seed, and run nothing.
    #[arg(long)]
    pub list: bool,
    /// Write the summary (JSON) here.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl HuntArgs {
    /// What is hunted.
    pub fn subject(&self) -> Subject {
        Subject {
            allocator: self.allocator,
            mutant: self.mutant.clone(),
        }
    }
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

/// `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Seeds of each cell, from 1 on; every allocator gets the same ones.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// A profile, or `all`: measured, serial-pull, node-cpu, slow-api, master-cpu, slow-disk.
    #[arg(long, value_name = "NAME|all", default_value = "all")]
    pub profile: String,
    /// Only this allocator; may be given several times.
    #[arg(long = "allocator", value_parser = allocators(), value_name = "NAME")]
    pub allocators: Vec<Allocator>,
    /// Runs at a time. [default: the number of cores]
    #[arg(long)]
    pub jobs: Option<u32>,
    /// Write the numbers of every run (JSON) here; `-` for standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one HTML file with all tables and plots here; it loads nothing.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the tables (Markdown) here.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write the Running curves of each allocator (SVG) into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// Compare with an expectation, and fail (exit code 4) on any other number; published cells
    /// outside their bands are then known, and no failure.
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Write the expectation of these runs here.
    #[arg(long, value_name = "FILE")]
    pub write_expectation: Option<PathBuf>,
}

/// `fit`.
#[derive(Debug, Args)]
pub struct FitArgs {
    /// The profile; it says which number is fitted, and in which range.
    #[arg(long, value_name = "NAME|FILE")]
    pub profile: String,
    /// Whose cell is fitted; the committed profiles take the default, which is not to be changed.
    #[arg(long, value_name = "ALLOCATOR", value_parser = allocators(), default_value = FITTED_ON.0)]
    pub allocator: Allocator,
    /// Addresses of the cell.
    #[arg(long, value_name = "equal|ample|N", default_value = "ample")]
    pub addresses: Addresses,
    /// Address families of the cell.
    #[arg(long, value_name = "STACK", default_value = "dual")]
    pub stack: Stack,
    /// The published time. Units: s.
    #[arg(long, value_name = "SECONDS", default_value_t = 182,
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub target: u64,
    /// Seeds of which the median counts, from 1 on.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// Runs at a time. [default: the number of cores]
    #[arg(long)]
    pub jobs: Option<u32>,
    /// Write the profile with the number found here; without it the profile is printed.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A cell whose runs are varied: shared by `ablate` and `sensitivity`.
#[derive(Debug, Args)]
pub struct VariedArgs {
    /// Whose runs.
    #[arg(long, value_name = "ALLOCATOR", value_parser = allocators())]
    pub allocator: Allocator,
    /// The cell: addresses and stack.
    #[arg(long, value_name = "ADDRESSES-STACK", default_value = "ample-dual")]
    pub cell: CellName,
    /// Seeds, from 1 on; each variant gets the same ones.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// A parameter set to start from.
    #[arg(long, value_name = "FILE|NAME", default_value = "measured")]
    pub parameters: String,
    /// Runs at a time. [default: the number of cores]
    #[arg(long)]
    pub jobs: Option<u32>,
    /// Write the effects (JSON) here; `-` for standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the effects (Markdown) here.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Draw the effects (SVG) here.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// `ablate`.
#[derive(Debug, Args)]
pub struct AblateArgs {
    /// What is varied.
    #[command(flatten)]
    pub varied: VariedArgs,
    /// Print the mechanisms that would be switched off, with the reasons, and run nothing.
    #[arg(long)]
    pub list: bool,
}

/// `sensitivity`.
#[derive(Debug, Args)]
pub struct SensitivityArgs {
    /// What is varied.
    #[command(flatten)]
    pub varied: VariedArgs,
    /// Only constants whose name contains this.
    pub filter: Option<String>,
}

/// `gap`.
#[derive(Debug, Args)]
pub struct GapArgs {
    /// What is varied.
    #[command(flatten)]
    pub varied: VariedArgs,
    /// Only constants whose name contains this.
    pub filter: Option<String>,
}

/// `certify`.
#[derive(Debug, Args)]
pub struct CertifyArgs {
    /// Only runs whose name contains one of these, such as `spiderpool` or `storm-berth`.
    #[arg(value_name = "WORD")]
    pub words: Vec<String>,
    /// Rewrite the lines that differ, and add an entry to the changelog.
    #[arg(long, requires = "commit", requires = "why")]
    pub write: bool,
    /// With --write: the subject of the commit that changes these runs.
    #[arg(long, value_name = "SUBJECT", requires = "write")]
    pub commit: Option<String>,
    /// With --write: why the runs changed, in a sentence or two.
    #[arg(long, value_name = "REASON", requires = "write")]
    pub why: Option<String>,
    /// Runs at a time. [default: the number of cores]
    #[arg(long)]
    pub jobs: Option<u32>,
}

/// `readme`.
#[derive(Debug, Args)]
pub struct ReadmeArgs {
    /// The files. [default: README.md and the pages in reports/peers]
    pub files: Vec<PathBuf>,
    /// Only compare; exit code 4 when a block or a plot is stale.
    #[arg(long)]
    pub check: bool,
}
