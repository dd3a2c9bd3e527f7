//! Percentiles of a set of latencies, read from an HDR histogram.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The percentiles that a record keeps, in parts per million.
pub const PERCENTILES_PPM: [u32; 4] = [500_000, 900_000, 990_000, 999_000];

/// Count and percentiles of a set of latencies. Units: simulated ns, three significant digits but
/// for the exact `min_ns` and `max_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencySummary {
    /// Latencies.
    pub count: u64,
    /// The shortest.
    pub min_ns: u64,
    /// Half of them are not longer.
    pub p50_ns: u64,
    /// 90 % of them are not longer.
    pub p90_ns: u64,
    /// 99 % of them are not longer.
    pub p99_ns: u64,
    /// 99.9 % of them are not longer.
    pub p99_9_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl LatencySummary {
    /// The summary of some latencies; none for no latencies. Independent of their order.
    pub fn of(latencies_ns: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut histogram =
            Histogram::<u64>::new(3).expect("three significant digits are within the allowed five");
        histogram.auto(true);
        let (mut min_ns, mut max_ns) = (u64::MAX, 0);
        for latency_ns in latencies_ns {
            histogram
                .record(latency_ns)
                .expect("the histogram grows with its values");
            min_ns = min_ns.min(latency_ns);
            max_ns = max_ns.max(latency_ns);
        }
        if histogram.is_empty() {
            return None;
        }
        // A bucket is named after its upper edge, which may lie beyond the largest value.
        let [p50_ns, p90_ns, p99_ns, p99_9_ns] = PERCENTILES_PPM.map(|ppm| {
            let bucket_ns = histogram.value_at_quantile(f64::from(ppm) / 1e6);
            bucket_ns.clamp(min_ns, max_ns)
        });
        Some(Self {
            count: histogram.len(),
            min_ns,
            p50_ns,
            p90_ns,
            p99_ns,
            p99_9_ns,
            max_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_thousandth_and_ends_are_exact() {
        let summary = LatencySummary::of((1..=1000).map(|step| step * 1_000_003)).unwrap();
        assert_eq!(
            (summary.count, summary.min_ns, summary.max_ns),
            (1000, 1_000_003, 1_000_003_000)
        );
        for (found, exact) in [
            (summary.p50_ns, 500),
            (summary.p90_ns, 900),
            (summary.p99_ns, 990),
            (summary.p99_9_ns, 999),
        ] {
            let exact_ns: u64 = exact * 1_000_003;
            assert!(
                found.abs_diff(exact_ns) <= exact_ns / 1000,
                "{found} for {exact_ns}"
            );
        }
    }

    #[test]
    fn nothing_measured_has_no_summary() {
        assert_eq!(LatencySummary::of([]), None);
    }

    #[test]
    fn one_latency_is_every_percentile() {
        let summary = LatencySummary::of([123_456_789]).unwrap();
        assert_eq!(
            (summary.p50_ns, summary.p99_9_ns),
            (123_456_789, 123_456_789)
        );
    }
}
