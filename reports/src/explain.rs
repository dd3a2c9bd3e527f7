//! Where the time of a Pod's start went, in words: one start second by second, starts side by side
//! by cause, and how busy each resource was. It judges nothing.

use std::collections::BTreeMap;

use drydock_traces::run_record::{Attribution, PodPath, RunRecord, Stage, Which};

use crate::quantity::{duration, percent, ratio_ppm, seconds};
use crate::table::{Align, Table};

/// One start, second by second. Shape: a row for each segment, in order of time.
pub fn path(path: &PodPath) -> Table {
    let mut table = Table::new(&[
        ("from", Align::Right),
        ("to", Align::Right),
        ("took", Align::Right),
        ("waited for", Align::Left),
    ]);
    for segment in &path.segments {
        table.row([
            exact(segment.start_ns),
            exact(segment.end_ns),
            duration(segment.end_ns - segment.start_ns),
            segment.stage.text().to_owned(),
        ]);
    }
    table
}

/// Seconds with three decimals: neighbors of a path must not look equal.
fn exact(ns: u64) -> String {
    let ms = ns.saturating_add(500_000) / 1_000_000;
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

/// Causes of one run: the mean Pod, the median and the last. Shape: a row for each cause that
/// occurred, in the order of a start; the last row is the sum.
pub fn causes(attribution: &Attribution) -> Table {
    let mut table = Table::new(&[
        ("waited for", Align::Left),
        ("mean of all Pods", Align::Right),
        ("share", Align::Right),
        ("median Pod", Align::Right),
        ("last Pod", Align::Right),
    ]);
    let of = |which| {
        let path = attribution.paths.iter().find(|path| path.which == which);
        path.map(PodPath::totals_ns).unwrap_or_default()
    };
    let (median, last) = (of(Which::Median), of(Which::Last));
    let whole: u64 = attribution.total_ns.values().sum();
    let mean = |total: u64| total.checked_div(attribution.pod_count).unwrap_or_default();
    let sum = |path: &BTreeMap<Stage, u64>| path.values().sum::<u64>();
    let shown = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), duration);
    for stage in Stage::ALL {
        let total = attribution.total_ns.get(&stage).copied();
        let (median, last) = (median.get(&stage).copied(), last.get(&stage).copied());
        if total.is_none() && median.is_none() && last.is_none() {
            continue;
        }
        table.row([
            stage.text().to_owned(),
            shown(total.map(mean)),
            share(total.unwrap_or_default(), whole),
            shown(median),
            shown(last),
        ]);
    }
    table.row([
        "until Running".to_owned(),
        seconds(mean(whole)),
        share(whole, whole),
        seconds(sum(&median)),
        seconds(sum(&last)),
    ]);
    table
}

/// Mean seconds by cause of several runs side by side. Shape: a row for each cause that occurred
/// in one of them, a column for each run.
pub fn causes_side_by_side(runs: &[(&str, &Attribution)], which: Option<Which>) -> Table {
    let mut columns = vec![("waited for", Align::Left)];
    columns.extend(runs.iter().map(|(name, _)| (*name, Align::Right)));
    let mut table = Table::new(&columns);
    let totals: Vec<BTreeMap<Stage, u64>> = runs
        .iter()
        .map(|(_, attribution)| match which {
            None => attribution
                .total_ns
                .iter()
                .map(|(stage, ns)| (*stage, ns / attribution.pod_count.max(1)))
                .collect(),
            Some(which) => {
                let path = attribution.paths.iter().find(|path| path.which == which);
                path.map(PodPath::totals_ns).unwrap_or_default()
            }
        })
        .collect();
    for stage in Stage::ALL {
        if totals.iter().all(|total| !total.contains_key(&stage)) {
            continue;
        }
        let cells = totals.iter().map(|total| {
            total
                .get(&stage)
                .map_or_else(|| "-".to_owned(), |ns| duration(*ns))
        });
        table.row(std::iter::once(stage.text().to_owned()).chain(cells));
    }
    let sums = totals
        .iter()
        .map(|total| seconds(total.values().sum::<u64>()));
    table.row(std::iter::once("until Running".to_owned()).chain(sums));
    table
}

fn share(part: u64, whole: u64) -> String {
    ratio_ppm(part, whole).map_or_else(|| "-".to_owned(), percent)
}

/// How busy each resource was. Shape: a row for each resource, in the order of the record.
pub fn resources(record: &RunRecord) -> Table {
    let mut table = Table::new(&[
        ("resource", Align::Left),
        ("busy", Align::Right),
        ("longest queue", Align::Right),
    ]);
    for resource in &record.resources {
        table.row([
            resource.name.clone(),
            percent(resource.busy_ppm),
            resource.queue_peak.to_string(),
        ]);
    }
    table
}

/// The resources that were busy for the largest part of the run. Shape: busiest first, then by
/// name.
pub fn busiest(record: &RunRecord, count: usize) -> Table {
    let mut sorted = record.clone();
    sorted
        .resources
        .sort_by(|one, other| (other.busy_ppm, &one.name).cmp(&(one.busy_ppm, &other.name)));
    sorted.resources.truncate(count);
    resources(&sorted)
}

/// The start of one Pod of a run, the causes of all, and the resources: what `--explain` prints.
/// None when the record has no such start.
pub fn explain(record: &RunRecord, which: Which) -> Option<String> {
    let attribution = &record.attribution;
    let chosen = attribution.paths.iter().find(|path| path.which == which)?;
    let running = chosen.segments.last().map_or(0, |segment| segment.end_ns);
    Some(format!(
        "start of {}/{}, {}\n\n{}\ncauses\n\n{}\nresources\n\n{}",
        chosen.namespace,
        chosen.name,
        seconds(running),
        path(chosen).plain(),
        causes(attribution).plain(),
        resources(record).plain(),
    ))
}

#[cfg(test)]
#[allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::sample;

    #[test]
    fn a_start_is_told_second_by_second_and_adds_up() {
        let record = sample::record();
        expect![[r#"
            start of default/web-1, 11.5 s

               from        to     took  waited for
            0.000 s   0.025 s  25.0 ms  creation
            0.025 s   0.080 s  55.0 ms  scheduling
            0.080 s   1.250 s   1.17 s  volumes
            1.250 s   9.400 s   8.15 s  IPAM: lock
            9.400 s   9.600 s   200 ms  sandbox and container: CPU
            9.600 s  11.500 s   1.90 s  status: queue

            causes

            waited for                  mean of all Pods    share  median Pod  last Pod
            creation                             22.5 ms    0.3 %     20.0 ms   25.0 ms
            scheduling                           52.5 ms    0.7 %     50.0 ms   55.0 ms
            kubelet: bucket                       465 ms    6.4 %      930 ms         -
            volumes                               685 ms    9.4 %      200 ms    1.17 s
            wait for a core                      95.0 ms    1.3 %      190 ms         -
            sandbox and container: CPU            100 ms    1.4 %           -    200 ms
            IPAM: API                            55.0 ms    0.8 %      110 ms         -
            IPAM: lock                            4.08 s   56.2 %           -    8.15 s
            status: queue                         1.70 s   23.4 %      1.50 s    1.90 s
            until Running                          7.3 s  100.0 %       3.0 s    11.5 s

            resources

            resource            busy  longest queue
            apiserver/0/cpu    8.1 %             12
            node/worker4/cpu  64.0 %              3
        "#]]
        .assert_eq(&explain(&record, Which::Last).unwrap());
        assert_eq!(explain(&record, Which::Asked), None);
        let last = &record.attribution.paths[1];
        let sum: u64 = last.totals_ns().values().sum();
        assert_eq!(Some(sum), record.pods[1].running_ns);
    }

    #[test]
    fn runs_stand_side_by_side_by_cause() {
        let record = sample::record();
        let runs = [("one", &record.attribution), ("two", &record.attribution)];
        expect![[r#"
            waited for                      one      two
            creation                    25.0 ms  25.0 ms
            scheduling                  55.0 ms  55.0 ms
            volumes                      1.17 s   1.17 s
            sandbox and container: CPU   200 ms   200 ms
            IPAM: lock                   8.15 s   8.15 s
            status: queue                1.90 s   1.90 s
            until Running                11.5 s   11.5 s
        "#]]
        .assert_eq(&causes_side_by_side(&runs, Some(Which::Last)).plain());
    }
}
