//! `hunt`: storms over small worlds until an invariant breaks, and then one line that shows it
//! again.

use std::fmt::Write as _;

use drydock_reports::summary;
use drydock_traces::plan::Plan;
use drydock_traces::run_record::ExitClass;
use drydock_traces::seed::Seed;

use crate::adapters::{self, BERTH, mutants};
use crate::cli::HuntArgs;
use crate::command::{UsageError, interrupt_flag, print, this_program, write};
use crate::faults::storm::storm;
use crate::host::{Stopwatch, cores};
use crate::progress::bar;
use crate::subject::Subject;
use crate::sweep::{Swept, Tally, sweep};

/// Runs the command.
/// Errors: usage, files, or the testbed's own.
pub fn main(args: &HuntArgs) -> anyhow::Result<ExitClass> {
    let subject = args.subject();
    check(&subject)?;
    if args.list {
        for seed in args.seeds.first..args.seeds.end {
            print(&format!("{}\n", storm(Seed(seed), &subject)))?;
        }
        return Ok(ExitClass::Ok);
    }
    let interrupt = interrupt_flag();
    let bar = bar(
        args.seeds.count(),
        "{pos}/{len} seeds, {per_sec}, {eta} left",
    );
    let stopwatch = Stopwatch::start();
    let jobs = args.jobs.unwrap_or_else(cores).max(1);
    let swept = sweep(&subject, args.seeds, jobs, &interrupt, |done| {
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let wall_ms = stopwatch.elapsed().as_millis().max(1) as u64;
    print(&tally_text(&subject, &swept.tally, wall_ms))?;
    if let Some(path) = &args.json {
        write(path, &tally_json(&subject, &swept.tally))?;
    }
    report(&subject, &swept, args)
}

/// Refuses a mutant that does not exist, or of an allocator that has none.
fn check(subject: &Subject) -> anyhow::Result<()> {
    let Some(name) = &subject.mutant else {
        return Ok(());
    };
    let mutants = mutants();
    let known = mutants.join(", ");
    if subject.allocator != BERTH {
        return Err(UsageError(format!("--mutant is for berth; its mutants are {known}")).into());
    }
    if !mutants.contains(name) {
        let unknown = format!("unknown mutant `{name}`: known ones are {known}");
        return Err(UsageError(unknown).into());
    }
    Ok(())
}

/// Says what was found; the failing seed first runs once more in another process.
fn report(subject: &Subject, swept: &Swept, args: &HuntArgs) -> anyhow::Result<ExitClass> {
    if let Some((seed, error)) = &swept.broken {
        anyhow::bail!(
            "seed {seed}: {error}\nreproduce: {}",
            command_line(subject, *seed)
        );
    }
    let Some((seed, record)) = &swept.failure else {
        let class = if swept.interrupted {
            ExitClass::Interrupted
        } else {
            ExitClass::Ok
        };
        if let Some(record) = &swept.only {
            let certificate = &record.certificate;
            print(&format!(
                "certificate {} over {} events\n",
                certificate.event_log_hash, certificate.event_count
            ))?;
        }
        // The one seed that was asked for may be that of a finding.
        if args.seeds.count() == 1 {
            write_plan(subject, Seed(args.seeds.first), args)?;
        }
        return Ok(class);
    };
    let plan = write_plan(subject, *seed, args)?;
    print(&format!("{plan}\n{}", summary::summary(record)))?;
    if let Some(first) = record.violations.first() {
        print(&format!(
            "{:?} fell first at seed {seed}\n",
            first.invariant
        ))?;
    }
    if args.seeds.count() > 1 && !repeats(subject, *seed, record.certificate.event_log_hash)? {
        print("NOT DETERMINISTIC: the failing seed gave another run in another process\n")?;
        return Ok(ExitClass::NotDeterministic);
    }
    print(&format!("reproduce: {}\n", command_line(subject, *seed)))?;
    Ok(ExitClass::Violation)
}

/// The plan of a seed, written where it was asked for.
fn write_plan(subject: &Subject, seed: Seed, args: &HuntArgs) -> anyhow::Result<Plan> {
    let plan = storm(seed, subject);
    if let Some(path) = &args.plan {
        write(path, &plan.to_toml().expect("a drawn plan is valid"))?;
    }
    Ok(plan)
}

/// Whether a seed gives the same run in a process of its own.
fn repeats(
    subject: &Subject,
    seed: Seed,
    hash: drydock_traces::run_record::Digest,
) -> anyhow::Result<bool> {
    let mut command = this_program()?;
    command.args(["hunt", &format!("--allocator={}", subject.allocator.name())]);
    command.args(
        subject
            .mutant
            .iter()
            .map(|mutant| format!("--mutant={mutant}")),
    );
    let output = command.arg(format!("--seeds={seed}")).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).contains(&hash.to_string()))
}

fn command_line(subject: &Subject, seed: Seed) -> String {
    let mutant = subject
        .mutant
        .as_ref()
        .map(|m| format!(" --mutant {m}"))
        .unwrap_or_default();
    format!(
        "cargo sim hunt --allocator {}{mutant} --seeds {seed}",
        subject.allocator.name()
    )
}

fn tally_text(subject: &Subject, tally: &Tally, wall_ms: u64) -> String {
    let per_second = tally.seeds * 1000 / wall_ms;
    let mut text = format!(
        "{subject}: {} seeds without a violation, {per_second} seeds/s, {} events; a fault inside \
         an ADD or DEL in {} of them; longest release {} ms\n",
        tally.seeds,
        tally.events,
        tally.struck_inside_cni,
        tally.longest_release_ns / 1_000_000
    );
    if let Some(told) = adapters::of(subject.allocator).told() {
        let _ = writeln!(text, "  judged by U, B and A; {told}");
    }
    for (name, finding) in &tally.findings {
        let _ = writeln!(
            text,
            "  finding: {name}: {} in {} seeds, first {}",
            finding.total,
            finding.seeds,
            command_line(subject, finding.first)
        );
    }
    for (kind, count) in &tally.faults {
        let _ = writeln!(
            text,
            "  {kind:<20} drawn {:>8}  fired {:>8}",
            count.drawn, count.fired
        );
    }
    for (probe, count) in &tally.probes {
        let _ = writeln!(text, "  probe {probe:<34} {count:>10}");
    }
    text
}

fn tally_json(subject: &Subject, tally: &Tally) -> String {
    let findings = tally.findings.iter().map(|(name, finding)| {
        let first = finding.first.to_string();
        let value = serde_json::json!({
            "total": finding.total,
            "seeds": finding.seeds,
            "first": first,
        });
        ((*name).to_owned(), value)
    });
    let findings: serde_json::Map<_, _> = findings.collect();
    let value = serde_json::json!({
        "subject": subject.to_string(),
        "seeds": tally.seeds,
        "events": tally.events,
        "struck_inside_cni": tally.struck_inside_cni,
        "longest_release_ns": tally.longest_release_ns,
        "findings": findings,
        "faults": tally.faults,
        "probes": tally.probes,
    });
    format!("{value:#}\n")
}
