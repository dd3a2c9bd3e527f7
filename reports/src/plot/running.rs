//! Pods Running over time: a curve for each run, measured curves dashed, published points drawn in.

use drydock_traces::corpus::MeasuredCurve;
use drydock_traces::run_record::RunRecord;

use super::frame::{Axis, Frame, Key};
use super::legend;
use crate::quantity::seconds;
use crate::reference::{BENCHMARK_POD_COUNT, Cell, Counted, Published, Waypoint};
use crate::svg::{Anchor, SERIES_COUNT, Tenths};

const SECOND_NS: u64 = 1_000_000_000;

/// A published point: this many Pods ran at this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What the legend says, with the source.
    pub text: String,
    /// Units: ns since the creation.
    pub at_ns: u64,
    /// Pods that ran.
    pub running: u64,
}

impl Mark {
    /// The point of a published cell; none where no time was published.
    pub fn of_cell(cell: &Cell) -> Option<Self> {
        let Published::Seconds(at_s) = cell.published else {
            return None;
        };
        let (title, version, spare) = (cell.title, cell.version, cell.spare.as_str());
        Some(Self {
            text: format!(
                "published: {title} {version}, {spare}: {at_s} s ({})",
                cell.source
            ),
            at_ns: u64::from(at_s) * SECOND_NS,
            running: BENCHMARK_POD_COUNT.into(),
        })
    }

    /// A published point on the way; none where it does not count Pods that run.
    pub fn of_waypoint(waypoint: &Waypoint) -> Option<Self> {
        if waypoint.counted != Counted::PodsRunning {
            return None;
        }
        let Waypoint {
            allocator,
            spare,
            count,
            at_s,
            source,
            ..
        } = waypoint;
        let spare = spare.as_str();
        Some(Self {
            text: format!("published: {allocator}, {spare}: {count} Pods at {at_s} s ({source})"),
            at_ns: u64::from(*at_s) * SECOND_NS,
            running: u64::from(*count),
        })
    }
}

/// A plot of Pods Running over time.
#[derive(Clone, Debug)]
pub struct RunningPlot<'a> {
    /// The headline; the legend has the seed and scenario of each run.
    pub title: &'a str,
    /// Runs. Shape: drawn in the order given.
    pub records: &'a [&'a RunRecord],
    /// Measured curves.
    pub measured: &'a [&'a MeasuredCurve],
    /// Published points.
    pub marks: &'a [Mark],
}

impl RunningPlot<'_> {
    /// The plot as an SVG file.
    pub fn svg(&self) -> String {
        let mut frame = self.frame();
        let mut entries = Vec::new();
        for (index, record) in self.records.iter().enumerate() {
            let series = index % SERIES_COUNT;
            let class = format!("curve s{series}");
            frame.svg.path(&class, &steps(&frame, record));
            if let Some(last) = record.running_curve_ns.last() {
                let end = frame.place(*last, record.running_curve_ns.len() as u64);
                frame.svg.dot(&format!("d{series}"), end, 35);
            }
            entries.push((Key::Curve(class), legend(record)));
        }
        for (index, curve) in self.measured.iter().enumerate() {
            let series = (self.records.len() + index) % SERIES_COUNT;
            let class = format!("curve measured s{series}");
            let place = |point: &drydock_traces::corpus::CurvePoint| {
                frame.place(point.at_ms.saturating_mul(1_000_000), point.running.into())
            };
            let points: Vec<_> = curve.points.iter().map(place).collect();
            frame.svg.path(&class, &points);
            for point in points {
                frame.svg.dot(&format!("d{series}"), point, 25);
            }
            entries.push((Key::Curve(class), format!("{}: {}", curve.kind, curve.name)));
        }
        self.draw_marks(&mut frame, &mut entries);
        frame.finish(&entries)
    }

    fn frame(&self) -> Frame {
        let times = self
            .records
            .iter()
            .filter_map(|record| record.running_curve_ns.last().copied());
        let measured = self.measured.iter().filter_map(|curve| curve.points.last());
        let times = times
            .chain(measured.map(|point| point.at_ms.saturating_mul(1_000_000)))
            .chain(self.marks.iter().map(|mark| mark.at_ns));
        let pods = self.records.iter().map(|record| record.outcome.pods_total);
        let pods = pods
            .chain(self.measured.iter().map(|curve| curve.pod_count.into()))
            .chain(self.marks.iter().map(|mark| mark.running));
        let x = Axis::linear(
            "time since the first creation (s)",
            times.max().unwrap_or(0),
            SECOND_NS,
        );
        let y = Axis::linear("Pods Running", pods.max().unwrap_or(0), 1);
        let legend_count = self.records.len() + self.measured.len() + self.marks.len();
        Frame::new(self.title, &self.subtitle(), x, y, legend_count)
    }

    fn subtitle(&self) -> String {
        let Some(record) = self.records.first() else {
            return "no runs".to_owned();
        };
        let scenario = &record.scenario;
        let last = self
            .records
            .iter()
            .filter_map(|each| each.running_curve_ns.last())
            .max();
        format!(
            "{} Pods on {} nodes, profile {}, {} run(s); last Running at {}",
            scenario.workload.pod_count,
            scenario.node_count,
            scenario.profile,
            self.records.len(),
            last.map_or_else(|| "no time".to_owned(), |last| seconds(*last))
        )
    }

    /// Draws the published points with letters; letters that would touch go one line higher.
    fn draw_marks(&self, frame: &mut Frame, entries: &mut Vec<(Key, String)>) {
        let mut order: Vec<usize> = (0..self.marks.len()).collect();
        order.sort_by_key(|&index| (self.marks[index].at_ns, index));
        let mut taken: Vec<(Tenths, Tenths)> = Vec::new();
        for (letter, index) in ('a'..='z').cycle().zip(order) {
            let mark = &self.marks[index];
            let (x, y) = frame.place(mark.at_ns, mark.running);
            let mut label = (x, y - 100);
            while taken
                .iter()
                .any(|(x, y)| (x - label.0).abs() < 110 && (y - label.1).abs() < 110)
            {
                label.1 -= 120;
            }
            taken.push(label);
            frame.svg.diamond("mark", (x, y), 55);
            frame
                .svg
                .text("note", label, Anchor::Middle, &letter.to_string());
            entries.push((Key::Point(letter), mark.text.clone()));
        }
    }
}

/// The curve of a run as stairs: it rises when a Pod runs and stays in between.
fn steps(frame: &Frame, record: &RunRecord) -> Vec<(Tenths, Tenths)> {
    let mut points = vec![frame.place(0, 0)];
    for (before, at_ns) in record.running_curve_ns.iter().enumerate() {
        points.push(frame.place(*at_ns, before as u64));
        points.push(frame.place(*at_ns, before as u64 + 1));
    }
    points
}
