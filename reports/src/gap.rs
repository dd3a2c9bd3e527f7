//! What would close the distance between a run and a published cell: for each constant that nobody
//! measured, the values with which that cell comes out as published. It runs nothing, and it is no
//! fit: nothing of what it finds goes into a parameter file.

use drydock_traces::workload::Stack;
use serde::{Deserialize, Serialize};

use crate::compare::CellKey;
use crate::quantity::{deviation, deviation_ppm, seconds};
use crate::reference::{Cell, Published, Spare};
use crate::table::{Align, Table};

/// The schema of the JSON.
pub const SCHEMA: &str = "drydock.dev/gap/v1";

/// The times that count as the published one.
/// Units: simulated ns; `u64::MAX` is forever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// Shortest.
    pub least_ns: u64,
    /// Longest.
    pub most_ns: u64,
}

impl Band {
    /// The band of a published cell; none where nothing was published.
    pub fn of(cell: &Cell) -> Option<Self> {
        let per_million = |ns: u64, ppm: u32| ns / 1_000_000 * u64::from(ppm);
        match cell.published {
            Published::NotApplicable => None,
            Published::Failure => Some(Self {
                least_ns: u64::MAX,
                most_ns: u64::MAX,
            }),
            Published::Seconds(at_s) => {
                let at_ns = u64::from(at_s) * 1_000_000_000;
                let width = per_million(at_ns, cell.band_ppm);
                Some(Self {
                    least_ns: at_ns - width,
                    most_ns: at_ns + width,
                })
            }
        }
    }

    /// Whether a time, none of which is forever, is in it.
    pub fn holds(self, time_ns: Option<u64>) -> bool {
        (self.least_ns..=self.most_ns).contains(&time_ns.unwrap_or(u64::MAX))
    }
}

/// One value of a constant, and what it gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// As `--set` takes it.
    pub value: String,
    /// Median time until all Pods ran; null if they never did. Units: simulated ns.
    pub time_ns: Option<u64>,
}

impl Tried {
    fn text(&self) -> String {
        let time = self.time_ns.map_or("never".to_owned(), seconds);
        format!("{} ({time})", self.value)
    }
}

/// What one constant can do for the cell, all others being as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lever {
    /// The constant.
    pub key: String,
    /// Its unit.
    pub unit: String,
    /// Its value.
    pub value: String,
    /// Its plausible range.
    pub range: [String; 2],
    /// The end of the range that comes nearest to the published time.
    pub end: Tried,
    /// The least and the most extreme value found with which the cell is as published; null where
    /// none was found, however far outside the range.
    pub closes: Option<[Tried; 2]>,
    /// Whether a value that closes the gap is within the range.
    pub plausible: bool,
}

/// The gap of one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// [`SCHEMA`], always.
    pub schema: String,
    /// The cell.
    pub cell: CellKey,
    /// The parameter set.
    pub profile: String,
    /// Seeds whose median counts, from 1 on.
    pub seeds: u64,
    /// Median time as it is; null if the Pods never all ran. Units: simulated ns.
    pub base_ns: Option<u64>,
    /// Shape: those that close the gap first, plausible ones before others.
    pub levers: Vec<Lever>,
    /// Constants that were tried and are not levers: within their ranges they do less than each
    /// lever, or they only make the cell last forever.
    pub idle_count: u64,
}

impl Gap {
    /// The published cell that this is the gap of.
    pub fn published(&self) -> Option<&'static Cell> {
        let spare = [Spare::Equal, Spare::Ample]
            .into_iter()
            .find(|spare| spare.as_str() == self.cell.addresses)?;
        Cell::find(&self.cell.allocator, spare)
    }

    /// Whether the cell is as published without any change.
    pub fn is_closed(&self) -> bool {
        let band = self.published().and_then(Band::of);
        band.is_some_and(|band| band.holds(self.base_ns))
    }

    /// Sorts the levers: plausible ones, then ones that close it, then by name.
    pub fn rank(&mut self) {
        self.levers.sort_by(|one, other| {
            let key = |lever: &Lever| (!lever.plausible, lever.closes.is_none());
            (key(one), &one.key).cmp(&(key(other), &other.key))
        });
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            ("constant", Align::Left),
            ("value", Align::Left),
            ("plausible range", Align::Left),
            ("at its better end", Align::Left),
            ("as published with", Align::Left),
            ("within its range", Align::Left),
        ]);
        for lever in &self.levers {
            let Lever { unit, range, .. } = lever;
            let closes = lever.closes.as_ref().map(|[first, last]| {
                if first.value == last.value {
                    first.text()
                } else {
                    format!("{} to {}", first.text(), last.text())
                }
            });
            table.row([
                lever.key.clone(),
                format!("{} {unit}", lever.value),
                format!("{} to {}", range[0], range[1]),
                lever.end.text(),
                closes.unwrap_or_else(|| "nothing".to_owned()),
                match (&lever.closes, lever.plausible) {
                    (None, _) => "-",
                    (_, true) => "yes",
                    (_, false) => "NO",
                }
                .to_owned(),
            ]);
        }
        table
    }

    /// What is compared, in a line.
    pub fn heading(&self) -> String {
        let found = self.base_ns.map_or("never".to_owned(), seconds);
        let published = match self.published().map(|cell| cell.published) {
            Some(Published::Seconds(at_s)) => {
                let wanted = u64::from(at_s) * 1_000_000_000;
                let distance = self.base_ns.and_then(|ns| deviation_ppm(ns, wanted));
                let distance = distance.map_or_else(|| "never".to_owned(), deviation);
                format!("published {at_s} s, {distance}")
            }
            Some(Published::Failure) => "published: failure".to_owned(),
            Some(Published::NotApplicable) | None => "nothing published".to_owned(),
        };
        format!(
            "{}, profile `{}`, {} seeds: {found} ({published})",
            self.cell, self.profile, self.seeds
        )
    }

    fn footer(&self) -> String {
        let idle = self.idle_count;
        if self.levers.is_empty() {
            format!("None of {idle} inferred constants moves it towards the published time.")
        } else {
            format!(
                "{idle} more constants do less within their ranges, or only make it last for ever."
            )
        }
    }

    /// As plain text.
    pub fn plain(&self) -> String {
        format!(
            "{}\n\n{}\n{}\n",
            self.heading(),
            self.table().plain(),
            self.footer()
        )
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        if self.levers.is_empty() {
            return format!("{}\n\n{}\n", self.heading(), self.footer());
        }
        format!(
            "{}\n\n{}\n{}\n",
            self.heading(),
            self.table().markdown(),
            self.footer()
        )
    }

    /// As JSON, newline at end.
    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("a gap has string keys and finite numbers");
        text.push('\n');
        text
    }

    /// Reads what [`Gap::to_json`] wrote.
    /// Errors: not this schema; the cell was not published.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let gap: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if gap.schema != SCHEMA {
            return Err(format!("schema {}, allowed: {SCHEMA}", gap.schema));
        }
        if gap.published().and_then(Band::of).is_none() || gap.stack().is_none() {
            return Err(format!("no published cell is called {}", gap.cell));
        }
        Ok(gap)
    }

    /// Address families of the cell.
    pub fn stack(&self) -> Option<Stack> {
        self.cell.stack.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn tried(value: &str, s: u64) -> Tried {
        Tried {
            value: value.to_owned(),
            time_ns: (s > 0).then_some(s * S),
        }
    }

    fn lever(key: &str, closes: Option<[Tried; 2]>, plausible: bool) -> Lever {
        Lever {
            key: key.to_owned(),
            unit: "ms".to_owned(),
            value: "2".to_owned(),
            range: ["1".to_owned(), "9".to_owned()],
            end: tried("9", 140),
            closes,
            plausible,
        }
    }

    fn gap(levers: Vec<Lever>) -> Gap {
        Gap {
            schema: SCHEMA.to_owned(),
            cell: CellKey::new("calico", "ample", Stack::Dual),
            profile: "measured".to_owned(),
            seeds: 3,
            base_ns: Some(130 * S),
            levers,
            idle_count: 40,
        }
    }

    #[test]
    fn a_failure_is_matched_by_for_ever_alone() {
        let failure = Cell::find("whereabouts", Spare::Equal).unwrap();
        let band = Band::of(failure).unwrap();
        assert!(band.holds(None) && !band.holds(Some(3600 * S)));
        let timed = Band::of(Cell::find("calico", Spare::Ample).unwrap()).unwrap();
        assert!(timed.holds(Some(322 * S)) && !timed.holds(Some(273 * S)) && !timed.holds(None));
        assert_eq!(Band::of(Cell::find("cilium", Spare::Equal).unwrap()), None);
    }

    #[test]
    fn what_is_plausible_stands_before_what_is_not() {
        let found = Some([tried("20", 280), tried("31", 365)]);
        let mut gap = gap(vec![
            lever("a.far", found.clone(), false),
            lever("b.never", None, false),
            lever("c.near", found, true),
        ]);
        gap.rank();
        let keys: Vec<&str> = gap.levers.iter().map(|lever| &*lever.key).collect();
        assert_eq!(keys, ["c.near", "a.far", "b.never"]);
        let text = gap.plain();
        assert!(
            text.contains("130.0 s (published 322 s, -59.6 %)"),
            "{text}"
        );
        assert!(text.contains("20 (280.0 s) to 31 (365.0 s)"), "{text}");
        assert!(text.contains("40 more constants do less"), "{text}");
    }

    #[test]
    fn a_gap_reads_back_and_a_cell_that_was_not_published_is_refused() {
        let one = gap(vec![lever("a.b", None, false)]);
        assert_eq!(Gap::from_json(&one.to_json()), Ok(one.clone()));
        let mut other = one;
        other.cell = CellKey::new("berth", "ample", Stack::Dual);
        assert!(Gap::from_json(&other.to_json()).is_err());
    }
}
