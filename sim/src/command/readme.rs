//! `readme`: the result blocks of the README and of the peers' pages, made from runs. Nobody types
//! a number; a stale block is an error in CI.

mod pages;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser as _;
use drydock_models::parameters::RIVALS;
use drydock_reports::compare::{Comparison, tables};
use drydock_reports::summary::PairedRatios;
use drydock_reports::table::{Align, Table, block_names, stale_blocks, update_blocks};
use drydock_reports::{curve, quantity};
use drydock_traces::corpus;
use drydock_traces::run_record::{ExitClass, RunRecord};
use drydock_traces::seed::Seed;
use drydock_traces::workload::Stack;

use crate::adapters::{self, BERTH, INSTANT};
use crate::cli::{Cli, Command, ReadmeArgs};
use crate::command::{interrupt_flag, print, write};
use crate::comparison::{Request, run};
use crate::host::cores;
use crate::progress::bar;
use crate::scenario::{Scenario, Spec};
use crate::subject::{Addresses, Allocator};
use crate::sweep::run_all;

/// Seeds of each cell.
const SEEDS: std::ops::Range<u64> = 1..21;

/// Seeds of each cell under every profile.
const PEER_SEEDS: u64 = 5;

/// Runs the command.
/// Errors: a file, a run that failed, a block that is missing or that nobody makes.
pub fn main(args: &ReadmeArgs) -> anyhow::Result<ExitClass> {
    let paths = if args.files.is_empty() {
        let mut paths = vec![PathBuf::from("README.md")];
        paths.extend(pages::files()?);
        paths
    } else {
        args.files.clone()
    };
    let mut texts = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        texts.push(text);
    }
    let mut results = Results::default();
    let (mut stale, mut current) = (Vec::new(), 0);
    for (path, text) in paths.iter().zip(&texts) {
        let blocks = results.blocks(&block_names(text))?;
        if args.check {
            let names = stale_blocks(text, &blocks)?;
            current += blocks.len() - names.len();
            stale.extend(
                names
                    .iter()
                    .map(|name| format!("{}: {name}", path.display())),
            );
        } else {
            write(path, &update_blocks(text, &blocks)?)?;
        }
    }
    for (path, svg) in results.plots(&paths) {
        if !args.check {
            write(&path, &svg)?;
        } else if std::fs::read_to_string(&path).is_ok_and(|stored| stored == svg) {
            current += 1;
        } else {
            stale.push(path.display().to_string());
        }
    }
    if args.check {
        stale.append(&mut results.stale_gaps);
    }
    if stale.is_empty() {
        if args.check {
            print(&format!(
                "all {current} result blocks and plots are current\n"
            ))?;
        }
        return Ok(ExitClass::Ok);
    }
    print(&format!(
        "stale: {}; run `cargo sim readme`\n",
        stale.join(", ")
    ))?;
    Ok(ExitClass::OutsideReference)
}

/// What blocks are made of; what is costly is made once, and only if a block wants it.
#[derive(Default)]
struct Results {
    comparison: Option<Comparison>,
    /// Stored searches that a run contradicts.
    stale_gaps: Vec<String>,
}

impl Results {
    /// The blocks of these names.
    fn blocks(&mut self, names: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
        let mut blocks = BTreeMap::new();
        for name in names {
            let content = match &**name {
                "benchmark" => benchmark()?,
                "burst" => burst()?,
                "peers" => tables::readme(self.comparison()?),
                "real-node" => real_node()?,
                _ => pages::block(name, self)?,
            };
            blocks.insert(name.clone(), content);
        }
        Ok(blocks)
    }

    /// Every allocator beside the published table, under every profile: a few seeds of one stack,
    /// so that a check stays cheap.
    fn comparison(&mut self) -> anyhow::Result<&Comparison> {
        if self.comparison.is_none() {
            let request = Request {
                profiles: RIVALS.map(str::to_owned).to_vec(),
                allocators: adapters::allocators().collect(),
                stacks: vec![Stack::Dual],
                seeds: PEER_SEEDS,
                jobs: cores(),
            };
            let (comparison, _) = run(&request, &interrupt_flag())?;
            if let Some(error) = comparison.errors.first() {
                anyhow::bail!("{error}");
            }
            self.comparison = Some(comparison);
        }
        Ok(self.comparison.as_ref().expect("it was just made"))
    }

    /// The plots beside the pages among these files.
    fn plots(&self, paths: &[PathBuf]) -> Vec<(PathBuf, String)> {
        let Some(comparison) = &self.comparison else {
            return Vec::new();
        };
        pages::plots(comparison, paths)
    }
}

/// The scenario that a command line asks for, so that the README shows what people can type.
fn arguments(line: &str) -> Spec {
    let words = ["cargo-sim", "run"]
        .into_iter()
        .chain(line.split_whitespace());
    match Cli::parse_from(words).command {
        Command::Run(run) => run.scenario.spec(),
        other => unreachable!("`run` was parsed as {other:?}"),
    }
}

fn with_progress(scenarios: &[Scenario], what: &str) -> anyhow::Result<Vec<RunRecord>> {
    let bar = bar(scenarios.len() as u64, "{pos}/{len} {prefix}").with_prefix(what.to_owned());
    let records = run_all(scenarios, cores(), |done| bar.set_position(done))?;
    bar.finish_and_clear();
    Ok(records)
}

/// The published benchmark: Berth against a free answer, on the same seeds.
fn benchmark() -> anyhow::Result<String> {
    let mut table = Table::new(&[
        ("addresses", Align::Left),
        ("stack", Align::Left),
        ("free answer, all Running", Align::Right),
        ("Berth, all Running", Align::Right),
        ("ratio, median", Align::Right),
        ("ratio, worst", Align::Right),
        ("answered at once", Align::Right),
        ("requests per Pod", Align::Right),
        ("conflicts", Align::Right),
    ]);
    for addresses in [Addresses::Equal, Addresses::Ample] {
        for stack in [Stack::Ipv4, Stack::Dual] {
            let runs = |allocator: Allocator| -> anyhow::Result<Vec<RunRecord>> {
                let scenarios: Vec<Scenario> = SEEDS
                    .map(|seed| {
                        let mut args = arguments("");
                        args.allocator = allocator;
                        args.addresses = Some(addresses);
                        args.stack = Some(stack);
                        args.seed = Seed(seed);
                        Scenario::from_spec(&args)
                    })
                    .collect::<Result<_, _>>()?;
                with_progress(&scenarios, allocator.name())
            };
            let (berth, instant) = (runs(BERTH)?, runs(INSTANT)?);
            let pairs: Vec<_> = berth.iter().zip(&instant).collect();
            let ratios = PairedRatios::of(&pairs);
            let ratio = |ppm: Option<u64>| ppm.map_or("-".to_owned(), quantity::ratio);
            let least_at_once = berth
                .iter()
                .map(|record| record.answered_without_apiserver.ppm())
                .min();
            table.row([
                addresses.to_string(),
                stack.to_string(),
                median_running(&instant),
                median_running(&berth),
                ratio(ratios.median_ppm()),
                ratio(ratios.worst_ppm()),
                least_at_once.map_or("-".to_owned(), quantity::percent),
                most_requests(&berth),
                median(berth.iter().map(own_conflicts)).to_string(),
            ]);
        }
    }
    Ok(table.markdown())
}

/// The burst: 1000 bare Pods with their nodes given, all there before an agent's watch delivers.
fn burst() -> anyhow::Result<String> {
    let scenarios: Vec<Scenario> = SEEDS
        .map(|seed| {
            let mut args = arguments("--workload burst --set driver.preload_pods=true");
            args.seed = Seed(seed);
            Scenario::from_spec(&args)
        })
        .collect::<Result<_, _>>()?;
    let records = with_progress(&scenarios, "burst")?;
    let mut table = Table::new(&[
        ("case", Align::Left),
        ("all Running", Align::Right),
        ("requests per Pod, most", Align::Right),
        ("conflicts", Align::Right),
    ]);
    table.row([
        "1000 Pods with nodeName, addresses = Pods".to_owned(),
        median_running(&records),
        most_requests(&records),
        median(records.iter().map(own_conflicts)).to_string(),
    ]);
    Ok(table.markdown())
}

/// The measured node against the simulated one.
fn real_node() -> anyhow::Result<String> {
    let measured = corpus::real_node_curve()?;
    let line = "--workload real-node --allocator instant --nodes 1 --parameters real-node --stack \
                ipv4";
    let scenario = Scenario::from_spec(&arguments(line))?;
    let records = with_progress(&[scenario], "real node")?;
    let rows = curve::compare(&records[0].running_curve_ns, &measured);
    Ok(curve::table(&rows).markdown())
}

fn own_conflicts(record: &RunRecord) -> u64 {
    let own = |client: &str| client.starts_with("ipam");
    let conflicts = record.api.counts.iter().filter(|count| {
        own(&count.client) && count.result == drydock_traces::run_record::RequestResult::Conflict
    });
    conflicts.map(|count| count.count).sum()
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn median_running(records: &[RunRecord]) -> String {
    let times: Vec<u64> = records
        .iter()
        .filter_map(|record| record.outcome.all_running_s.map(|seconds| seconds.ns))
        .collect();
    if times.len() < records.len() {
        return "never".to_owned();
    }
    quantity::seconds(median(times.into_iter()))
}

fn most_requests(records: &[RunRecord]) -> String {
    let most = records
        .iter()
        .filter_map(|record| record.api.per_pod.per_pod_milli)
        .max();
    most.map_or("-".to_owned(), quantity::milli)
}
