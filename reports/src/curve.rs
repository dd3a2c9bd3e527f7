//! A simulated Running curve next to a measured one, point by point.

use drydock_traces::corpus::MeasuredCurve;

use crate::quantity::{deviation, deviation_ppm, seconds};
use crate::table::{Align, Table};

/// How far a simulated time may lie from a measured one, beside the poll of the measurement.
/// Units: parts per million.
pub const TOLERANCE_PPM: u64 = 60_000;

/// One measured point and the simulated time of the same number of Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurveRow {
    /// Pods that ran.
    pub running: u32,
    /// When they ran on the real cluster.
    pub measured_ns: u64,
    /// When they ran in the simulation; none if they never did.
    pub simulated_ns: Option<u64>,
    /// The deviation in parts per million of the measured time.
    pub deviation_ppm: Option<i64>,
    /// The distance that is allowed.
    pub allowed_ns: u64,
    /// Whether the simulated time lies within it.
    pub within: bool,
}

/// Compares the n-th Running times of a run with a measured curve. Shape: a row for each measured
/// point.
pub fn compare(running_curve_ns: &[u64], measured: &MeasuredCurve) -> Vec<CurveRow> {
    let row = |point: &drydock_traces::corpus::CurvePoint| {
        let measured_ns = point.at_ms.saturating_mul(1_000_000);
        let nth = usize::try_from(point.running)
            .ok()
            .and_then(|nth| nth.checked_sub(1));
        let simulated_ns = nth.and_then(|index| running_curve_ns.get(index)).copied();
        let share_ns = u128::from(measured_ns) * u128::from(TOLERANCE_PPM) / 1_000_000;
        let allowed_ns = u64::try_from(share_ns)
            .unwrap_or(u64::MAX)
            .saturating_add(measured.poll_ms.saturating_mul(1_000_000));
        CurveRow {
            running: point.running,
            measured_ns,
            simulated_ns,
            deviation_ppm: simulated_ns.and_then(|ns| deviation_ppm(ns, measured_ns)),
            allowed_ns,
            within: simulated_ns.is_some_and(|ns| ns.abs_diff(measured_ns) <= allowed_ns),
        }
    };
    measured.points.iter().map(row).collect()
}

/// The rows as a table.
pub fn table(rows: &[CurveRow]) -> Table {
    let mut table = Table::new(&[
        ("Pods Running", Align::Right),
        ("measured", Align::Right),
        ("simulated", Align::Right),
        ("deviation", Align::Right),
        ("allowed", Align::Right),
        ("within", Align::Left),
    ]);
    for row in rows {
        table.row([
            row.running.to_string(),
            seconds(row.measured_ns),
            row.simulated_ns.map_or_else(|| "never".to_owned(), seconds),
            row.deviation_ppm.map_or_else(|| "-".to_owned(), deviation),
            seconds(row.allowed_ns),
            if row.within { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
#[allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]
mod tests {
    use drydock_traces::corpus::real_node_curve;
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_tolerance_is_six_percent_and_one_poll() {
        let measured = real_node_curve().unwrap();
        let mut curve_ns = vec![23_366_000_000; 14];
        curve_ns.resize(99, 40_000_000_000);
        let rows = compare(&curve_ns, &measured);
        assert!(rows[0].within, "21.1 s and 6 % and 1 s are 23.366 s");
        curve_ns[0] += 1;
        assert!(!compare(&curve_ns, &measured)[0].within);
        expect![[r"
            Pods Running  measured  simulated  deviation  allowed  within
                       1    21.1 s     23.4 s    +10.7 %    2.3 s  yes
                      14    26.1 s     23.4 s    -10.5 %    2.6 s  NO
                      26    31.2 s     40.0 s    +28.2 %    2.9 s  NO
        "]]
        .assert_eq(&table(&rows[..3]).plain());
        assert_eq!(rows[8].simulated_ns, None);
        assert!(!rows[8].within);
    }
}
