//! Run records in words: one run in at most 24 lines, and several runs side by side.

use std::fmt::Write;

use drydock_traces::run_record::{RunRecord, Scenario};

use crate::quantity::{duration, mebibytes, milli, percent, ratio, ratio_ppm, seconds};
use crate::table::{Align, Table};

/// Lines that a summary may have: it fits a terminal of 24 lines.
pub const LINES_MAX: usize = 24;
/// Entries of a list that are shown before the rest is only counted.
const SHOWN_MAX: usize = 3;

/// One run for people. Shape: at most [`LINES_MAX`] lines, newline at end.
pub fn summary(record: &RunRecord) -> String {
    let mut lines = Lines(String::new());
    lines.add("run", &describe(&record.scenario));
    lines.add("workload", &workload(&record.scenario));
    lines.add("seed", &record.seed.to_string());
    lines.add("result", &result(record));
    lines.add("Pods", &pods(record));
    let waiting = record.outcome.waiting.iter();
    lines.first_of(waiting, |waiting| {
        let why = format!("{}/{}: {}", waiting.namespace, waiting.name, waiting.why);
        ("  waiting", why)
    });
    lines.add("ADD", &latency(record));
    let answered = record.answered_without_apiserver;
    lines.add(
        "answered",
        &format!(
            "{} of {} ADDs without waiting for the apiserver ({})",
            answered.count,
            answered.of,
            percent(answered.ppm())
        ),
    );
    lines.add("requests", &requests(record));
    if let Some(busiest) = record.resources.iter().max_by_key(|each| each.busy_ppm) {
        let share = percent(busiest.busy_ppm);
        let busy = format!("{}: {share}, queue {}", busiest.name, busiest.queue_peak);
        lines.add("busiest", &busy);
    }
    if !record.faults.is_empty() {
        let drawn: u64 = record.faults.values().map(|count| count.drawn).sum();
        let fired: u64 = record.faults.values().map(|count| count.fired).sum();
        let kinds = record.faults.len();
        let faults = format!("{fired} of {drawn} took place, {kinds} kinds");
        lines.add("faults", &faults);
    }
    lines.first_of(record.violations.iter(), |violation| {
        let (invariant, at) = (violation.invariant, seconds(violation.at_ns));
        let (text, event) = (&violation.text, violation.first_event);
        let broken = format!("{invariant:?} at {at}, event {event}: {text}");
        ("VIOLATION", broken)
    });
    lines.first_of(record.scenario.not_simulated.iter(), |group| {
        let space = if group.field.is_empty() { "" } else { " " };
        let subject = format!("{}{space}{}", group.kind, group.field);
        let why = format!("{subject} x {}: {}", group.document_count, group.reason);
        ("left out", why)
    });
    let certificate = &record.certificate;
    let (hash, count) = (certificate.event_log_hash, certificate.event_count);
    lines.add("certificate", &format!("{hash} over {count} events"));
    let memory = record.host.memory_peak_bytes;
    let memory = memory.map_or_else(|| "unknown".to_owned(), mebibytes);
    let wall = duration(record.host.wall_ns);
    lines.add("host", &format!("{wall} wall time, {memory} peak memory"));
    lines.0
}

/// Lines with a label each.
struct Lines(String);

impl Lines {
    fn add(&mut self, label: &str, value: &str) {
        writeln!(self.0, "{label:<12}{value}").expect("a string takes every text");
    }

    /// The first few of a list, and how many more there are.
    fn first_of<T>(
        &mut self,
        all: impl ExactSizeIterator<Item = T>,
        line: impl Fn(T) -> (&'static str, String),
    ) {
        let count = all.len();
        for one in all.take(SHOWN_MAX) {
            let (label, value) = line(one);
            self.add(label, &value);
        }
        if count > SHOWN_MAX {
            self.add("", &format!("and {} more", count - SHOWN_MAX));
        }
    }
}

fn requests(record: &RunRecord) -> String {
    let per_pod = &record.api.per_pod;
    format!(
        "{} per Pod (beside: {} watches, {} start-up lists, {} Lease renewals); {} conflicts",
        per_pod.per_pod_milli.map_or_else(|| "-".to_owned(), milli),
        per_pod.watch_count,
        per_pod.start_up_list_count,
        per_pod.lease_renewal_count,
        record.api.conflict_count
    )
}

/// The scenario in one line: allocator, addresses, stack, nodes, profile.
pub fn describe(scenario: &Scenario) -> String {
    let mut text = format!(
        "{}, {} addresses ({}), {}, {} nodes ({} masters), profile {}",
        scenario.allocator,
        scenario.addresses,
        scenario.address_count,
        scenario.stack,
        scenario.node_count,
        scenario.master_count,
        scenario.profile
    );
    if !scenario.overrides.is_empty() {
        let count = scenario.overrides.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(text, " with {count} override{plural}").expect("a string takes every text");
    }
    text
}

fn workload(scenario: &Scenario) -> String {
    let workload = &scenario.workload;
    let documents = workload
        .documents
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"));
    format!(
        "{} Pods by {} from {}",
        workload.pod_count,
        documents.collect::<Vec<_>>().join(", "),
        workload.sources.join(", ")
    )
}

fn result(record: &RunRecord) -> String {
    let mut text = match record.outcome.all_running_s {
        Some(all) => format!("all Pods run after {}", seconds(all.ns)),
        None => format!(
            "NOT all Pods run: {} at {}",
            record.outcome.reason.text(),
            seconds(record.outcome.ended_at_ns)
        ),
    };
    if let Some(again) = &record.recreation {
        let others = again.all_running_s.map_or_else(
            || format!("{} others run", again.running_curve_ns.len()),
            |all| format!("all others ran {} later", seconds(all.ns)),
        );
        let at = seconds(again.started_ns);
        write!(text, "; all deleted at {at}, {others}").expect("a string takes every text");
    }
    text
}

fn pods(record: &RunRecord) -> String {
    let outcome = &record.outcome;
    let curve = &record.running_curve_ns;
    let mut text = format!("{} of {} run", outcome.pods_running, outcome.pods_total);
    if let (Some(first), Some(last)) = (curve.first(), curve.last()) {
        let middle = curve[(curve.len() - 1) / 2];
        write!(
            text,
            "; first {}, half {}, last {}",
            seconds(*first),
            seconds(middle),
            seconds(*last)
        )
        .expect("a string takes every text");
    }
    text
}

fn latency(record: &RunRecord) -> String {
    let Some(latency) = record.add_latency else {
        return "none was answered".to_owned();
    };
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, max {} ({} ADDs)",
        duration(latency.p50_ns),
        duration(latency.p90_ns),
        duration(latency.p99_ns),
        duration(latency.p99_9_ns),
        duration(latency.max_ns),
        latency.count
    )
}

/// Several runs side by side. Shape: a row for each record, in the order given.
pub fn comparison(records: &[&RunRecord]) -> Table {
    let mut table = Table::new(&[
        ("allocator", Align::Left),
        ("addresses", Align::Left),
        ("stack", Align::Left),
        ("seed", Align::Left),
        ("all Running", Align::Right),
        ("Pods", Align::Right),
        ("ADD p50", Align::Right),
        ("ADD p99", Align::Right),
        ("requests per Pod", Align::Right),
        ("conflicts", Align::Right),
        ("violations", Align::Right),
    ]);
    for record in records {
        let (scenario, outcome) = (&record.scenario, &record.outcome);
        let none = || "-".to_owned();
        table.row([
            scenario.allocator.clone(),
            scenario.addresses.clone(),
            scenario.stack.to_string(),
            record.seed.to_string(),
            outcome
                .all_running_s
                .map_or_else(|| "never".to_owned(), |all| seconds(all.ns)),
            format!("{}/{}", outcome.pods_running, outcome.pods_total),
            record
                .add_latency
                .map_or_else(none, |latency| duration(latency.p50_ns)),
            record
                .add_latency
                .map_or_else(none, |latency| duration(latency.p99_ns)),
            record.api.per_pod.per_pod_milli.map_or_else(none, milli),
            record.api.conflict_count.to_string(),
            record.violations.len().to_string(),
        ]);
    }
    table
}

/// How much longer one allocator took than another on the same seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairedRatios {
    /// Units: parts per million. Shape: ascending.
    pub ratios_ppm: Vec<u64>,
    /// Pairs in which one of the two never had all Pods running, or whose seeds differ.
    pub unpaired_count: usize,
}

impl PairedRatios {
    /// The ratios of pairs (subject, baseline) of the time until all Pods ran.
    pub fn of(pairs: &[(&RunRecord, &RunRecord)]) -> Self {
        let ratio = |(subject, baseline): &(&RunRecord, &RunRecord)| {
            let same_seed = subject.seed == baseline.seed;
            let subject = subject.outcome.all_running_s?;
            let baseline = baseline.outcome.all_running_s?;
            ratio_ppm(subject.ns, baseline.ns).filter(|_| same_seed)
        };
        let mut ratios_ppm: Vec<u64> = pairs.iter().filter_map(ratio).collect();
        ratios_ppm.sort_unstable();
        let unpaired_count = pairs.len() - ratios_ppm.len();
        Self {
            ratios_ppm,
            unpaired_count,
        }
    }

    /// The median; of an even number the mean of the two in the middle. Units: parts per million.
    pub fn median_ppm(&self) -> Option<u64> {
        let upper = self.ratios_ppm.get(self.ratios_ppm.len() / 2)?;
        let lower = self.ratios_ppm.get((self.ratios_ppm.len() - 1) / 2)?;
        Some(lower.midpoint(*upper))
    }

    /// The largest. Units: parts per million.
    pub fn worst_ppm(&self) -> Option<u64> {
        self.ratios_ppm.last().copied()
    }

    /// Median, worst and number of pairs in one line.
    pub fn text(&self) -> String {
        let (Some(median), Some(worst)) = (self.median_ppm(), self.worst_ppm()) else {
            return format!("no pair of {} can be compared", self.unpaired_count);
        };
        format!(
            "median {}, worst {} of {} pairs ({} not comparable)",
            ratio(median),
            ratio(worst),
            self.ratios_ppm.len(),
            self.unpaired_count
        )
    }
}

#[cfg(test)]
#[allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]
mod tests {
    use drydock_traces::run_record::{NotSimulatedGroup, Seconds, WaitingPod};
    use expect_test::expect;

    use super::*;
    use crate::sample;

    #[test]
    fn a_summary_says_what_ran_and_how_it_ended() {
        expect![[r#"
            run         berth, equal addresses (3), dual, 4 nodes (3 masters), profile measured with 1 override
            workload    3 Pods by 1 Deployment from web.yaml
            seed        0xffffffffffffffff
            result      NOT all Pods run: the simulated time limit was reached at 3600.0 s; all deleted at 12.0 s, 1 others run
            Pods        2 of 3 run; first 3.0 s, half 3.0 s, last 11.5 s
              waiting   default/web-2: no node has room
            ADD         p50 110 ms, p90 8.15 s, p99 8.15 s, p99.9 8.15 s, max 8.15 s (2 ADDs)
            answered    1 of 2 ADDs without waiting for the apiserver (50.0 %)
            requests    1.33 per Pod (beside: 8 watches, 4 start-up lists, 6 Lease renewals); 1 conflicts
            busiest     node/worker4/cpu: 64.0 %, queue 3
            faults      1 of 2 took place, 1 kinds
            VIOLATION   U at 9.4 s, event 31007: 10.6.0.7 is on default/web-0 and on default/web-1
            left out    Service x 1: not simulated: Pods send no traffic here
            certificate 9f86d081884c7d659a2feaa0c55ad015 over 48213 events
            host        1.23 s wall time, 70.0 MiB peak memory
        "#]].assert_eq(&summary(&sample::record()));
    }

    #[test]
    fn a_summary_fits_a_terminal_however_much_there_is_to_say() {
        let mut record = sample::record();
        let waiting = WaitingPod {
            namespace: "n".into(),
            name: "p".into(),
            why: "w".into(),
        };
        record.outcome.waiting = vec![waiting; 50];
        record.violations = vec![record.violations[0].clone(); 50];
        let group: NotSimulatedGroup = record.scenario.not_simulated[0].clone();
        record.scenario.not_simulated = vec![group; 50];
        let text = summary(&record);
        assert!(text.lines().count() <= LINES_MAX, "{text}");
        assert_eq!(text.matches("and 47 more").count(), 3);
    }

    #[test]
    fn runs_stand_side_by_side() {
        let records = [sample::record(), sample::finished(2, 42_000_000_000)];
        expect![[r"
            allocator  addresses  stack  seed                all Running       Pods  ADD p50  ADD p99  requests per Pod  conflicts  violations
            berth      equal      dual   0xffffffffffffffff        never        2/3   110 ms   8.15 s              1.33          1           1
            berth      equal      dual   0x2                      42.0 s  1000/1000   110 ms   8.15 s              1.33          1           0
        "]].assert_eq(&comparison(&[&records[0], &records[1]]).plain());
    }

    #[test]
    fn ratios_pair_equal_seeds_and_count_what_cannot_be_paired() {
        let run = |seed, s: u64| sample::finished(seed, s * 1_000_000_000);
        let (subjects, baselines) = (
            [run(1, 102), run(2, 99), run(3, 110), run(4, 101), run(5, 1)],
            [
                run(1, 100),
                run(2, 100),
                run(3, 100),
                run(4, 100),
                run(6, 1),
            ],
        );
        let pairs: Vec<_> = subjects.iter().zip(&baselines).collect();
        let ratios = PairedRatios::of(&pairs);
        assert_eq!(ratios.median_ppm(), Some(1_015_000));
        assert_eq!(
            ratios.text(),
            "median 1.015, worst 1.100 of 4 pairs (1 not comparable)"
        );
        let mut never = run(1, 1);
        never.outcome.all_running_s = None::<Seconds>;
        let none = PairedRatios::of(&[(&never, &baselines[0])]);
        assert_eq!(none.text(), "no pair of 1 can be compared");
    }
}
