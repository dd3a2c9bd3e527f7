//! `bench`: the engine against bare madsim, and whole runs against real time. Wall-clock figures
//! depend on the machine; ratios travel better.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use drydock_engine::throughput::throughput;
use drydock_traces::run_record::{ExitClass, RunRecord};

use crate::cli::BenchArgs;
use crate::command::{print, this_program};
use crate::host::Stopwatch;

/// Least factor over real time that the benchmark with Berth must reach.
const SPEED_LEAST: u64 = 300;
/// Least share of bare madsim's timer rate that the engine must reach. Units: percent.
const ENGINE_LEAST_PERCENT: u64 = 50;

/// One whole run in a process of its own.
struct Timed {
    wall_ns: u64,
    simulated_ns: u64,
    events: u64,
    memory_peak_bytes: u64,
}

/// Runs the command.
/// Errors: a process that cannot be started, or that fails.
pub fn main(args: &BenchArgs) -> anyhow::Result<ExitClass> {
    let mut engine_percent = Vec::new();
    let mut rates = Vec::new();
    for _ in 0..args.runs {
        let measured = throughput();
        engine_percent.push(measured.engine.percent_of(&measured.madsim));
        rates.push((measured.engine.per_second(), measured.madsim.per_second()));
    }
    engine_percent.sort_unstable();
    rates.sort_unstable();
    let percent = engine_percent[engine_percent.len() / 2];
    let (engine, madsim) = rates[rates.len() / 2];
    print(&format!(
        "engine: {engine} timer events/s with log and hash; bare madsim: {madsim}/s; ratio \
         {percent} % (median of {}, at least {ENGINE_LEAST_PERCENT} %)\n",
        args.runs
    ))?;
    let small = median(
        args.runs,
        &["--allocator=berth", "--addresses=equal", "--seed=1"],
    )?;
    let speed = small.simulated_ns / small.wall_ns.max(1);
    print(&format!(
        "benchmark with berth, addresses = Pods, whole process: {}; {speed} times faster than \
         real time (median of {}, at least {SPEED_LEAST})\n",
        describe(&small),
        args.runs
    ))?;
    if args.scale {
        scale(&small)?;
    }
    let well = percent >= ENGINE_LEAST_PERCENT && speed >= SPEED_LEAST;
    Ok(if well {
        ExitClass::Ok
    } else {
        ExitClass::OutsideReference
    })
}

/// 10,000 Pods on 100 nodes, and how time and memory grew from a tenth of it.
fn scale(small: &Timed) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("cannot make a folder for the manifest")?;
    let file = folder.path().join("ten-thousand.yaml");
    std::fs::write(&file, deployments(1000)).context("cannot write the manifest")?;
    let path = file.display().to_string();
    let arguments = [
        path.as_str(),
        "--allocator=berth",
        "--nodes=100",
        "--seed=1",
    ];
    let large = median(1, &arguments)?;
    let wall = exponent_milli(small.wall_ns, large.wall_ns);
    let events = exponent_milli(small.events, large.events);
    print(&format!(
        "10,000 Pods on 100 nodes, whole process: {}; from 1,000 to 10,000 Pods wall time grows \
         with the exponent {}, events with {}\n",
        describe(&large),
        decimal_milli(wall),
        decimal_milli(events)
    ))
}

fn deployments(count: u32) -> String {
    let mut text = String::new();
    for index in 0..count {
        let _ = write!(
            text,
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d-{index}}}\nspec:\n  \
             replicas: 10\n  selector: {{matchLabels: {{app: d-{index}}}}}\n  template:\n    \
             metadata: {{labels: {{app: d-{index}}}}}\n    spec: {{containers: [{{name: c, image: \
             'pause:3.9'}}]}}\n"
        );
    }
    text
}

fn describe(timed: &Timed) -> String {
    format!(
        "{} s simulated in {} ms, {} events, {} MiB",
        timed.simulated_ns / 1_000_000_000,
        timed.wall_ns / 1_000_000,
        timed.events,
        timed.memory_peak_bytes >> 20
    )
}

/// The median run by wall time.
fn median(runs: u32, arguments: &[&str]) -> anyhow::Result<Timed> {
    let folder = tempfile::tempdir().context("cannot make a folder for records")?;
    let record = folder.path().join("record.json");
    let mut timed = (0..runs)
        .map(|_| once(arguments, &record))
        .collect::<Result<Vec<_>, _>>()?;
    timed.sort_by_key(|run| run.wall_ns);
    Ok(timed.remove(timed.len() / 2))
}

fn once(arguments: &[&str], record: &Path) -> anyhow::Result<Timed> {
    let mut command = this_program()?;
    command
        .arg("run")
        .arg("--quiet")
        .arg("--json")
        .arg(record)
        .args(arguments);
    command.stdout(Stdio::null());
    let stopwatch = Stopwatch::start();
    let status = command.status().context("cannot start a process")?;
    let wall_ns = stopwatch.elapsed().as_nanos() as u64;
    anyhow::ensure!(status.success(), "a run ended with {status}");
    let text = std::fs::read_to_string(record).context("cannot read the record")?;
    let record = RunRecord::from_json(&text)?;
    Ok(Timed {
        wall_ns,
        simulated_ns: record.outcome.ended_at_ns,
        events: record.certificate.event_count,
        memory_peak_bytes: record.host.memory_peak_bytes.unwrap_or_default(),
    })
}

/// Thousandths of the exponent e in large = small × 10^e, by bisection in integers.
fn exponent_milli(small: u64, large: u64) -> u64 {
    // large^1000 against small^1000 × 10^milli overflows; logarithms in fixed point do not.
    let log2_milli = |value: u64| -> u64 {
        let value = u128::from(value.max(1));
        let whole = 127 - value.leading_zeros() as u64;
        let mut rest = if whole >= 60 {
            value >> (whole - 60)
        } else {
            value << (60 - whole)
        };
        let mut fraction = 0_u64;
        for _ in 0..16 {
            rest = (rest * rest) >> 60;
            fraction <<= 1;
            if rest >= 2 << 60 {
                rest >>= 1;
                fraction |= 1;
            }
        }
        whole * 1000 + fraction * 1000 / 65_536
    };
    let log2_ten_milli = 3_322;
    log2_milli(large).saturating_sub(log2_milli(small)) * 1000 / log2_ten_milli
}

fn decimal_milli(milli: u64) -> String {
    format!("{}.{:02}", milli / 1000, milli % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_of_growth_is_exact_to_a_hundredth() {
        for (small, large, milli) in [(7, 70, 1000), (5, 500, 2000), (1000, 31_623, 1500)] {
            let found = exponent_milli(small, large);
            assert!(found.abs_diff(milli) <= 10, "{small} to {large}: {found}");
        }
    }
}
