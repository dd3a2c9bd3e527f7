//! The published numbers that runs are compared with, each with its source and its band. This is
//! the only place where a band stands.

use drydock_traces::run_record::RunRecord;

use crate::quantity::{deviation, deviation_ppm, seconds};
use crate::table::{Align, Table};

/// Pods of the published benchmark: 100 Deployments of 10.
pub const BENCHMARK_POD_COUNT: u32 = 1000;
/// How far a run may lie from a published number. Units: parts per million, at most 150000.
pub const BAND_PPM: u32 = 150_000;

const _: () = assert!(BAND_PPM <= 150_000, "a wider band would judge nothing");

const TABLE: &str = "Spiderpool v0.8.0, docs/concepts/ipam-performance.md, table";
const TEXT: &str = "Spiderpool v0.8.0, docs/concepts/ipam-performance.md, text on Whereabouts";

/// How many addresses the benchmark had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spare {
    /// As many addresses as Pods.
    Equal,
    /// Addresses to spare.
    Ample,
}

impl Spare {
    /// The name of `--addresses`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Ample => "ample",
        }
    }
}

/// What was published for one cell of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// All Pods ran after this time. Units: s.
    Seconds(u32),
    /// The Pods never all ran.
    Failure,
    /// The allocator gives blocks to nodes: the case does not exist.
    NotApplicable,
}

/// One cell of the published table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Name of the allocator in run records.
    pub allocator: &'static str,
    /// The name that was published.
    pub title: &'static str,
    /// Released version.
    pub version: &'static str,
    /// How many addresses.
    pub spare: Spare,
    /// The number.
    pub published: Published,
    /// How far a run may lie from it. Units: parts per million.
    pub band_ppm: u32,
    /// Where it was published.
    pub source: &'static str,
}

const fn cell(
    (allocator, title, version): (&'static str, &'static str, &'static str),
    spare: Spare,
    published: Published,
) -> Cell {
    Cell {
        allocator,
        title,
        version,
        spare,
        published,
        band_ppm: BAND_PPM,
        source: TABLE,
    }
}

const SPIDERPOOL: (&str, &str, &str) = ("spiderpool", "Spiderpool on macvlan", "v0.8.0");
const WHEREABOUTS: (&str, &str, &str) = ("whereabouts", "Whereabouts on macvlan", "v0.6.2");
const KUBE_OVN: (&str, &str, &str) = ("kube-ovn", "Kube-OVN", "v1.12.2");
const CILIUM: (&str, &str, &str) = ("cilium", "Cilium", "v1.14.3");
const CALICO: (&str, &str, &str) = ("calico", "Calico", "v3.26.3");

/// The published table, row by row.
pub const CELLS: [Cell; 10] = [
    cell(SPIDERPOOL, Spare::Equal, Published::Seconds(207)),
    cell(SPIDERPOOL, Spare::Ample, Published::Seconds(182)),
    cell(WHEREABOUTS, Spare::Equal, Published::Failure),
    cell(WHEREABOUTS, Spare::Ample, Published::Seconds(2529)),
    cell(KUBE_OVN, Spare::Equal, Published::Seconds(405)),
    cell(KUBE_OVN, Spare::Ample, Published::Seconds(343)),
    cell(CILIUM, Spare::Equal, Published::NotApplicable),
    cell(CILIUM, Spare::Ample, Published::Seconds(215)),
    cell(CALICO, Spare::Equal, Published::NotApplicable),
    cell(CALICO, Spare::Ample, Published::Seconds(322)),
];

/// Times that the table gives to one allocator and a figure published later to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// Name of the allocator in run records.
    pub allocator: &'static str,
    /// Units: s.
    pub table_s: u32,
    /// Units: s.
    pub figure_s: u32,
}

/// Spiderpool v1.2.1, docs/images/ipam-performance.png (commit 2f5b0c661) exchanges the two numbers
/// of the table, which stays the reference.
pub const EXCHANGED: [Exchanged; 2] = [
    Exchanged {
        allocator: CILIUM.0,
        table_s: 215,
        figure_s: 322,
    },
    Exchanged {
        allocator: CALICO.0,
        table_s: 322,
        figure_s: 215,
    },
];

/// The cell that a profile's one number is fitted on; every other cell is a prediction.
pub const FITTED_ON: (&str, Spare) = (SPIDERPOOL.0, Spare::Ample);

/// What a published point counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Pods that run.
    PodsRunning,
    /// Addresses that are allocated.
    AddressesAllocated,
}

/// A published point on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waypoint {
    /// Name of the allocator in run records.
    pub allocator: &'static str,
    /// How many addresses.
    pub spare: Spare,
    /// What is counted.
    pub counted: Counted,
    /// How many.
    pub count: u32,
    /// When. Units: s.
    pub at_s: u32,
    /// How far a run's count may lie from it. Units: parts per million.
    pub band_ppm: u32,
    /// Where it was published.
    pub source: &'static str,
}

const fn waypoint(counted: Counted, count: u32, at_s: u32) -> Waypoint {
    Waypoint {
        allocator: WHEREABOUTS.0,
        spare: Spare::Equal,
        counted,
        count,
        at_s,
        band_ppm: BAND_PPM,
        source: TEXT,
    }
}

/// How Whereabouts came along with as many addresses as Pods, before it stopped.
pub const WAYPOINTS: [Waypoint; 3] = [
    waypoint(Counted::PodsRunning, 261, 300),
    waypoint(Counted::AddressesAllocated, 768, 1080),
    waypoint(Counted::PodsRunning, 845, 2280),
];

/// How a run stands to a published number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Inside the band. Units: parts per million; none where a failure was published and found.
    Within(Option<i64>),
    /// Outside the band. Units: parts per million; none where only one of the two failed.
    Outside(Option<i64>),
    /// Nothing was published that could be compared.
    NotJudged,
}

impl Verdict {
    fn of(found: u64, wanted: u64, band_ppm: u32) -> Self {
        match deviation_ppm(found, wanted) {
            Some(ppm) if ppm.unsigned_abs() <= u64::from(band_ppm) => Self::Within(Some(ppm)),
            ppm => Self::Outside(ppm),
        }
    }
}

impl Cell {
    /// The cell of an allocator, if one was published.
    pub fn find(allocator: &str, spare: Spare) -> Option<&'static Self> {
        CELLS
            .iter()
            .find(|cell| cell.allocator == allocator && cell.spare == spare)
    }

    /// Judges the time until all Pods ran; none means that they never did.
    pub fn judge(&self, all_running_ns: Option<u64>) -> Verdict {
        match (self.published, all_running_ns) {
            (Published::NotApplicable, _) => Verdict::NotJudged,
            (Published::Failure, None) => Verdict::Within(None),
            (Published::Failure, Some(_)) | (Published::Seconds(_), None) => Verdict::Outside(None),
            (Published::Seconds(seconds), Some(found_ns)) => {
                Verdict::of(found_ns, u64::from(seconds) * 1_000_000_000, self.band_ppm)
            }
        }
    }
}

impl Waypoint {
    /// How many a run has at the time of the point.
    pub fn count(&self, record: &RunRecord) -> u64 {
        let at_ns = u64::from(self.at_s) * 1_000_000_000;
        let until = |time_ns: Option<u64>| time_ns.is_some_and(|time_ns| time_ns <= at_ns);
        let found = record.pods.iter().filter(|pod| match self.counted {
            Counted::PodsRunning => until(pod.running_ns),
            Counted::AddressesAllocated => until(pod.add_end_ns),
        });
        found.count() as u64
    }

    /// Judges a count at the time of the point.
    pub fn judge(&self, found: u64) -> Verdict {
        Verdict::of(found, self.count.into(), self.band_ppm)
    }
}

/// Runs next to the published table. Shape: a row for each cell, in the order of the table; of
/// several runs of one cell the first counts, and a cell without a run says so.
pub fn table(records: &[&RunRecord]) -> Table {
    let mut table = Table::new(&[
        ("test object", Align::Left),
        ("version", Align::Left),
        ("addresses", Align::Left),
        ("published", Align::Right),
        ("simulated", Align::Right),
        ("deviation", Align::Right),
        ("within the band", Align::Left),
    ]);
    for cell in &CELLS {
        let published = match cell.published {
            Published::Seconds(at_s) => format!("{at_s} s"),
            Published::Failure => "failure".to_owned(),
            Published::NotApplicable => "not applicable".to_owned(),
        };
        let of_cell = |record: &&&RunRecord| {
            record.scenario.allocator == cell.allocator
                && record.scenario.addresses == cell.spare.as_str()
        };
        let [simulated, distance, within] = match records.iter().find(of_cell) {
            None => ["no run".to_owned(), "-".to_owned(), "-".to_owned()],
            Some(record) => judged(cell, record),
        };
        table.row([
            cell.title.to_owned(),
            cell.version.to_owned(),
            cell.spare.as_str().to_owned(),
            published,
            simulated,
            distance,
            within,
        ]);
    }
    table
}

fn judged(cell: &Cell, record: &RunRecord) -> [String; 3] {
    let all_running_ns = record.outcome.all_running_s.map(|all| all.ns);
    let outcome = &record.outcome;
    let simulated = all_running_ns.map_or_else(
        || format!("{} of {} Pods", outcome.pods_running, outcome.pods_total),
        seconds,
    );
    let (ppm, within) = match cell.judge(all_running_ns) {
        Verdict::Within(ppm) => (ppm, "yes"),
        Verdict::Outside(ppm) => (ppm, "NO"),
        Verdict::NotJudged => (None, "-"),
    };
    [
        simulated,
        ppm.map_or_else(|| "-".to_owned(), deviation),
        within.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_allocator_has_both_cells_with_source_and_band() {
        for cell in CELLS {
            assert!(cell.band_ppm <= 150_000 && !cell.source.is_empty());
            for spare in [Spare::Equal, Spare::Ample] {
                let title = Cell::find(cell.allocator, spare).unwrap().title;
                assert_eq!(title, cell.title);
            }
        }
        assert_eq!(Cell::find("berth", Spare::Equal), None);
    }

    #[test]
    fn the_exchanged_numbers_are_those_of_the_table() {
        for cell in EXCHANGED {
            let published = Cell::find(cell.allocator, Spare::Ample).unwrap().published;
            assert_eq!(published, Published::Seconds(cell.table_s));
            let other = EXCHANGED
                .iter()
                .find(|other| other.table_s == cell.figure_s);
            assert_eq!(other.unwrap().figure_s, cell.table_s);
        }
    }

    #[test]
    fn the_band_includes_its_edge_and_nothing_beyond() {
        let cell = Cell::find("spiderpool", Spare::Ample).unwrap();
        let edge_ns = 209_300_000_000;
        assert_eq!(cell.judge(Some(edge_ns)), Verdict::Within(Some(150_000)));
        assert_eq!(
            cell.judge(Some(edge_ns + 1_000_000)),
            Verdict::Outside(Some(150_005))
        );
        assert_eq!(cell.judge(None), Verdict::Outside(None));
    }

    #[test]
    fn a_published_failure_is_met_by_a_failure_only() {
        let cell = Cell::find("whereabouts", Spare::Equal).unwrap();
        assert_eq!(cell.judge(None), Verdict::Within(None));
        assert_eq!(cell.judge(Some(1)), Verdict::Outside(None));
        let cell = Cell::find("calico", Spare::Equal).unwrap();
        assert_eq!(cell.judge(Some(1)), Verdict::NotJudged);
    }

    #[test]
    fn runs_stand_next_to_what_was_published() {
        let mut spiderpool = crate::sample::finished(1, 230_000_000_000);
        spiderpool.scenario.allocator = "spiderpool".to_owned();
        let mut whereabouts = crate::sample::record();
        whereabouts.scenario.allocator = "whereabouts".to_owned();
        let text = table(&[&spiderpool, &whereabouts]).plain();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1 + CELLS.len());
        assert!(
            lines[1].ends_with("equal               207 s      230.0 s    +11.1 %  yes"),
            "{text}"
        );
        assert!(lines[2].contains("no run"), "{text}");
        assert!(
            lines[3].ends_with("failure  2 of 3 Pods          -  yes"),
            "{text}"
        );
    }
}
