//! ADD latency by percentile, both axes logarithmic, as HDR histograms are usually drawn. The
//! logarithm is computed in integers, so that every machine draws the same line.

use drydock_traces::run_record::RunRecord;

use super::frame::{Axis, Frame, Key};
use super::legend;
use crate::quantity::duration;
use crate::svg::SERIES_COUNT;

/// Fraction bits of [`log2`].
const FRACTION_BITS: u32 = 16;

/// The binary logarithm with [`FRACTION_BITS`] fraction bits, rounded down; that of 0 is 0.
fn log2(value: u64) -> u64 {
    let value = value.max(1);
    let whole = value.ilog2();
    // 1 <= mantissa < 2, with 63 fraction bits.
    let mut mantissa = u128::from(value) << (63 - whole);
    let mut log = u64::from(whole);
    for _ in 0..FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> 63;
        log <<= 1;
        if mantissa >= 1 << 64 {
            mantissa >>= 1;
            log += 1;
        }
    }
    log
}

/// Latencies from the start of a Pod's first ADD to the end of the one that succeeded, ascending.
fn latencies_ns(record: &RunRecord) -> Vec<u64> {
    let latency = |pod: &drydock_traces::run_record::PodTimes| {
        Some(pod.add_end_ns?.saturating_sub(pod.add_start_ns?))
    };
    let mut latencies: Vec<u64> = record.pods.iter().filter_map(latency).collect();
    latencies.sort_unstable();
    latencies
}

/// The time from a Pod's first ADD to its answered one, by percentile, a curve for each run.
pub fn add_latency(title: &str, records: &[&RunRecord]) -> String {
    let curves: Vec<Vec<u64>> = records.iter().map(|record| latencies_ns(record)).collect();
    let all = || curves.iter().flatten().copied();
    let low_ns = decade_below(all().min().unwrap_or(1_000_000).max(1));
    let high_ns = decade_below(all().max().unwrap_or(low_ns).max(low_ns)).saturating_mul(10);
    let base = log2(low_ns);
    let samples_max = curves.iter().map(Vec::len).max().unwrap_or(0).max(1) as u64;
    let y = Axis {
        title: "from first ADD to answered ADD".to_owned(),
        end: log2(high_ns) - base,
        ticks: decades(low_ns, high_ns)
            .map(|ns| (log2(ns) - base, tick(ns)))
            .collect(),
    };
    let percentiles = [
        ("0 %", 1),
        ("90 %", 10),
        ("99 %", 100),
        ("99.9 %", 1000),
        ("99.99 %", 10_000),
    ];
    let x_end = log2(samples_max * 2);
    let ticks = percentiles
        .into_iter()
        .chain([("50 %", 2)])
        .map(|(label, tail)| (log2(tail), label));
    let x = Axis {
        title: "percentile of Pods".to_owned(),
        end: x_end,
        ticks: ticks
            .filter(|(at, _)| *at <= x_end)
            .map(|(at, label)| (at, label.to_owned()))
            .collect(),
    };
    let pods: usize = curves.iter().map(Vec::len).sum();
    let subtitle = format!(
        "{pods} Pods with an answered ADD in {} run(s)",
        records.len()
    );
    let mut frame = Frame::new(title, &subtitle, x, y, records.len());
    let mut entries = Vec::new();
    for (index, (record, curve)) in records.iter().zip(&curves).enumerate() {
        let class = format!("curve s{}", index % SERIES_COUNT);
        let count = curve.len() as u64;
        let points = curve.iter().zip(0..).map(|(ns, rank)| {
            // The k-th of n is at (k - 1/2)/n, so that the largest has a place too.
            let at = log2(2 * count) - log2(2 * (count - rank) - 1);
            frame.place(at, log2(*ns).saturating_sub(base))
        });
        let points: Vec<_> = points.collect();
        frame.svg.path(&class, &points);
        let end = curve
            .last()
            .map_or_else(|| "none".to_owned(), |max| duration(*max));
        entries.push((
            Key::Curve(class),
            format!("{}; longest {end}", legend(record)),
        ));
    }
    frame.finish(&entries)
}

/// The largest power of ten that is not above a number.
fn decade_below(ns: u64) -> u64 {
    10_u64.pow(ns.max(1).ilog10())
}

/// The powers of ten between two of them, both included.
fn decades(low_ns: u64, high_ns: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(low_ns), move |ns| {
        ns.checked_mul(10).filter(|ns| *ns <= high_ns)
    })
}

fn tick(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} us", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{} s", ns / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_exact_at_powers_and_close_between() {
        for power in 0..64 {
            assert_eq!(log2(1 << power), power << FRACTION_BITS);
        }
        // log2(10) = 3.321928..., times 65536.
        assert_eq!(log2(10), 217_705);
        assert!((1..10_000).is_sorted_by_key(log2));
    }
}
