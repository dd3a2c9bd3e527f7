//! `gap`: which values of which inferred constant would bring a published cell about, and whether
//! they are within its plausible range. Nothing that it finds goes into a parameter file.

use std::path::Path;

use anyhow::Context as _;
use drydock_models::parameters::{Kind, text_of};
use drydock_reports::compare::{CellKey, Figures, Spread};
use drydock_reports::gap::{Band, Gap, Lever, SCHEMA, Tried};
use drydock_reports::quantity::seconds;
use drydock_reports::reference;
use drydock_traces::run_record::ExitClass;

use super::ablate::base;
use super::sensitivity::{Range, ranges};
use crate::cli::{Addresses, Allocator, CellName, GapArgs};
use crate::command::{UsageError, interrupt_flag, print, write};
use crate::decimal::{Milli, decimal, milli};
use crate::parameters::RunParameters;
use crate::variants::{Base, run};

/// Constants that are searched: those that move the cell most.
const LEVERS_MAX: usize = 6;
/// Doublings (or halvings) beyond the end of a range before a constant is given up.
const STRETCHES_MAX: u32 = 6;
/// How far beyond the upper end of its range a constant is looked at, to find those that could
/// close a gap without being plausible.
const FAR_TIMES: Milli = 8;
/// Halvings towards the nearer edge of the band.
const NEAR_STEPS: u32 = 7;
/// Halvings towards its farther edge.
const FAR_STEPS: u32 = 4;
/// Values of [`probes`].
const PROBES: usize = 3;
/// A constant that moves the cell by less of the gap than one in so many parts is idle.
const IDLE_PARTS: u64 = 20;

/// Runs the command.
/// Errors: usage, files, or the testbed's own.
pub fn main(args: &GapArgs) -> anyhow::Result<ExitClass> {
    let varied = &args.varied;
    let spare = match varied.cell.addresses {
        Addresses::Equal => Some(reference::Spare::Equal),
        Addresses::Ample => Some(reference::Spare::Ample),
        Addresses::Count(_) => None,
    };
    let band = spare
        .and_then(|spare| reference::Cell::find(varied.allocator.name(), spare))
        .and_then(Band::of)
        .ok_or_else(|| {
            let name = varied.allocator.name();
            UsageError(format!("nothing was published for {name}, {}", varied.cell))
        })?;
    let (gap, interrupted) = find(&base(varied), band, args.filter.as_deref())?;
    if interrupted {
        // A file is a whole search; half of one is for the person who ended it.
        print(&gap.plain())?;
        eprintln!(
            "interrupted: constants and values beyond these were not tried, and no file written"
        );
        return Ok(ExitClass::Interrupted);
    }
    if let Some(path) = &varied.json {
        write(path, &gap.to_json())?;
    }
    if let Some(path) = &varied.markdown {
        write(path, &gap.markdown())?;
    }
    if varied.json.as_deref() != Some(Path::new("-")) {
        print(&gap.plain())?;
    }
    Ok(ExitClass::Ok)
}

/// Searches; whether it was interrupted, which leaves what was found until then.
fn find(base: &Base, band: Band, filter: Option<&str>) -> anyhow::Result<(Gap, bool)> {
    let interrupt = interrupt_flag();
    let unchanged = run(base, &[Vec::new()], &interrupt)?;
    let base_ns = median(&unchanged.runs[0]);
    let mut gap = Gap {
        schema: SCHEMA.to_owned(),
        cell: CellKey::new(
            base.allocator.name(),
            &base.cell.addresses.to_string(),
            base.cell.stack,
        ),
        profile: base.parameters.clone(),
        seeds: base.seeds,
        base_ns,
        levers: Vec::new(),
        idle_count: 0,
    };
    if unchanged.interrupted || band.holds(base_ns) {
        return Ok((gap, unchanged.interrupted));
    }
    // One seed tells which constants matter at all, unless it is as published by itself.
    let mut ranges = ranges(&base.parameters, base.allocator, filter)?;
    ranges.extend(fitted(&base.parameters, filter)?);
    let first = unchanged.runs[0].first();
    let told = first.is_some_and(|first| !band.holds(first.all_running_ns));
    let one = Base {
        seeds: if told { 1 } else { base.seeds },
        ..base.clone()
    };
    let mut variants = vec![Vec::new()];
    for range in &ranges {
        variants.extend(probes(range, &base.parameters).map(|value| vec![range.set(&value)]));
    }
    let ends = run(&one, &variants, &interrupt)?;
    if ends.interrupted {
        return Ok((gap, true));
    }
    let start = median(&ends.runs[0]);
    let mut searches: Vec<(Gain, Search)> = Vec::new();
    for (range, times) in ranges.iter().zip(ends.runs[1..].chunks(PROBES)) {
        let times = [0, 1, 2].map(|probe| median(&times[probe]));
        match Search::of(range, band, start, times) {
            Some(found) => searches.push(found),
            None => gap.idle_count += 1,
        }
    }
    searches.sort_by(|one, other| (other.0, &one.1.range.key).cmp(&(one.0, &other.1.range.key)));
    gap.idle_count += searches.len().saturating_sub(LEVERS_MAX) as u64;
    searches.truncate(LEVERS_MAX);
    let mut searches: Vec<Search> = searches.into_iter().map(|(_, search)| search).collect();
    let mut interrupted = false;
    while !interrupted {
        let asked: Vec<(usize, Milli)> = searches
            .iter()
            .enumerate()
            .filter_map(|(index, search)| Some((index, search.next()?)))
            .collect();
        if asked.is_empty() {
            break;
        }
        // A value that contradicts another constant ends the search: it is further than one may go.
        let (mut variants, mut indices) = (Vec::new(), Vec::new());
        for (index, value) in asked {
            let set = vec![searches[index].range.set(&decimal(value))];
            if RunParameters::load(&base.parameters, &set).is_ok() {
                variants.push(set);
                indices.push(index);
            } else {
                searches[index].step = Step::Done;
            }
        }
        let done = run(base, &variants, &interrupt)?;
        interrupted = done.interrupted;
        if interrupted {
            // A median of some of the seeds is another number.
            break;
        }
        for (index, runs) in indices.into_iter().zip(&done.runs) {
            searches[index].told(median(runs));
        }
    }
    let searched = searches.len();
    gap.levers = searches.into_iter().filter_map(Search::lever).collect();
    gap.idle_count += (searched - gap.levers.len()) as u64;
    gap.rank();
    Ok((gap, interrupted))
}

/// The number that a profile fits on another cell, with the range that it has where nothing is
/// fitted: what this cell would have chosen.
/// Errors: an unknown parameter set.
fn fitted(parameters: &str, filter: Option<&str>) -> anyhow::Result<Vec<Range>> {
    let own = RunParameters::load(parameters, &[])?.table;
    let plain = RunParameters::load("measured", &[])?.table;
    let fitted = own.entries.iter().filter(|(key, entry)| {
        entry.kind == Kind::Fitted && filter.is_none_or(|word| key.contains(word))
    });
    let ranges = fitted.filter_map(|(key, entry)| {
        let [low, high] = plain.entries.get(key)?.range.as_ref()?;
        Some(Range {
            key: key.clone(),
            unit: entry.unit.clone(),
            value: entry.text(),
            ends: [text_of(low), text_of(high)],
        })
    });
    Ok(ranges.collect())
}

/// Values that tell whether a constant matters: both ends of its range, and one far beyond, or the
/// upper end again where that contradicts another constant.
fn probes(range: &Range, parameters: &str) -> [String; PROBES] {
    let [low, high] = &range.ends;
    let far = milli(high).map(|high| decimal(high * FAR_TIMES));
    let far = far.filter(|far| RunParameters::load(parameters, &[range.set(far)]).is_ok());
    [
        low.clone(),
        high.clone(),
        far.unwrap_or_else(|| high.clone()),
    ]
}

fn median(runs: &[Figures]) -> Option<u64> {
    Spread::of(runs.iter().map(|run| run.all_running_ns)).median
}

/// How far a constant moves the cell towards the band: within its range, and far outside of it.
/// Units: simulated ns.
type Gain = (u64, u64);

/// Where a search stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Is the band reached at this value?
    Stretch { at: Milli, left: u32 },
    /// Between a value that does not reach the band and one that does.
    Near {
        short: Milli,
        enough: Milli,
        left: u32,
    },
    /// Between a value in the band and one beyond it.
    Far {
        inside: Milli,
        beyond: Milli,
        left: u32,
    },
    /// Over.
    Done,
}

/// The search over one constant. It knows no runs: it asks for a value and is told a time.
#[derive(Clone, Debug)]
struct Search {
    range: Range,
    band: Band,
    /// The cell has to take longer, not shorter.
    longer: bool,
    start: Milli,
    end: Milli,
    step: Step,
    /// The nearest value known to be beyond the band.
    beyond: Option<Milli>,
    /// What is less than this is nothing. Units: simulated ns.
    least_gain: u64,
    /// The cell as it is; `u64::MAX` is for ever. Units: simulated ns.
    start_ns: u64,
    tried: Vec<(Milli, Option<u64>)>,
}

impl Search {
    /// A search if some probe moves the cell towards the band, with how far.
    fn of(
        range: &Range,
        band: Band,
        start_ns: Option<u64>,
        probes_ns: [Option<u64>; PROBES],
    ) -> Option<(Gain, Self)> {
        let ns = |time: Option<u64>| time.unwrap_or(u64::MAX);
        let start_ns = ns(start_ns);
        let longer = start_ns < band.least_ns;
        let distance = if !longer {
            start_ns - band.most_ns
        } else if band.least_ns < u64::MAX {
            band.least_ns - start_ns
        } else {
            // From a time to for ever there is no distance: the time itself stands for it.
            start_ns
        };
        // What goes past the band closes the gap no better than what ends in it.
        let gain = |probe: Option<u64>| {
            let moved = if longer {
                ns(probe).saturating_sub(start_ns)
            } else {
                start_ns.saturating_sub(ns(probe))
            };
            moved.min(distance)
        };
        let [low, high, far] = probes_ns.map(gain);
        let index = usize::from(high.max(far) >= low);
        let gained = if index == 1 { (high, far) } else { (low, low) };
        let least_gain = (distance / IDLE_PARTS).max(1);
        if gained.1.max(gained.0) < least_gain {
            return None;
        }
        let end = milli(&range.ends[index])?;
        let values: Vec<&str> = range.value.split("..").collect();
        let start = milli(if index == 1 {
            values.last()?
        } else {
            values.first()?
        })?;
        let search = Self {
            range: range.clone(),
            band,
            longer,
            start,
            end,
            step: Step::Stretch {
                at: end,
                left: STRETCHES_MAX,
            },
            beyond: None,
            least_gain,
            start_ns,
            tried: Vec::new(),
        };
        Some((gained, search))
    }

    /// The value to try next; none when it is over.
    fn next(&self) -> Option<Milli> {
        match self.step {
            Step::Stretch { at, .. } => Some(at),
            Step::Near { short, enough, .. } => Some(short.midpoint(enough)),
            Step::Far { inside, beyond, .. } => Some(inside.midpoint(beyond)),
            Step::Done => None,
        }
    }

    /// What the value that was asked for gave.
    fn told(&mut self, time_ns: Option<u64>) {
        let Some(value) = self.next() else { return };
        self.tried.push((value, time_ns));
        let ns = time_ns.unwrap_or(u64::MAX);
        let (reached, beyond) = if self.longer {
            (ns >= self.band.least_ns, ns > self.band.most_ns)
        } else {
            (ns <= self.band.most_ns, ns < self.band.least_ns)
        };
        if beyond {
            self.beyond = Some(value);
        }
        self.step = match self.step {
            Step::Stretch { at, left } if !reached => match self.further(at) {
                Some(next) if left > 0 => Step::Stretch {
                    at: next,
                    left: left - 1,
                },
                _ => Step::Done,
            },
            Step::Stretch { at, .. } => {
                let before = self.tried.iter().rev().nth(1);
                let short = before.map_or(self.start, |(value, _)| *value);
                self.near(short, at, NEAR_STEPS)
            }
            Step::Near { enough, left, .. } if !reached => self.near(value, enough, left - 1),
            Step::Near { short, left, .. } => self.near(short, value, left - 1),
            Step::Far { inside, left, .. } if beyond => Self::far(inside, value, left - 1),
            Step::Far { beyond, left, .. } => Self::far(value, beyond, left - 1),
            Step::Done => Step::Done,
        };
    }

    /// Twice as far from zero, or half.
    fn further(&self, at: Milli) -> Option<Milli> {
        if self.end >= self.start {
            Some(at * 2).filter(|next| *next > at)
        } else {
            Some(at / 2).filter(|next| *next < at)
        }
    }

    fn near(&self, short: Milli, enough: Milli, left: u32) -> Step {
        if left > 0 && short.abs_diff(enough) > 1 {
            return Step::Near {
                short,
                enough,
                left,
            };
        }
        match (self.inside().last(), self.beyond) {
            (Some(inside), Some(beyond)) => Self::far(*inside, beyond, FAR_STEPS),
            _ => Step::Done,
        }
    }

    fn far(inside: Milli, beyond: Milli, left: u32) -> Step {
        if left > 0 && inside.abs_diff(beyond) > 1 {
            Step::Far {
                inside,
                beyond,
                left,
            }
        } else {
            Step::Done
        }
    }

    /// Values in the band, from the constant's own value outwards.
    fn inside(&self) -> Vec<Milli> {
        let in_band = self.tried.iter().filter(|(_, time)| self.band.holds(*time));
        let mut values: Vec<Milli> = in_band.map(|(value, _)| *value).collect();
        values.sort_unstable_by_key(|value| value.abs_diff(self.start));
        values.dedup();
        values
    }

    /// What was found; none if nothing closes the gap and the range itself hardly matters.
    fn lever(self) -> Option<Lever> {
        let tried = |value: Milli| {
            let (_, time_ns) = self.tried.iter().find(|(tried, _)| *tried == value)?;
            Some(Tried {
                value: decimal(value),
                time_ns: *time_ns,
            })
        };
        let inside = self.inside();
        let within = |value: &Milli| value.abs_diff(self.start) <= self.end.abs_diff(self.start);
        let closes = match (inside.first(), inside.last()) {
            (Some(first), Some(last)) => Some([tried(*first)?, tried(*last)?]),
            _ => None,
        };
        let end = tried(self.end)?;
        let moved = end.time_ns.unwrap_or(u64::MAX).abs_diff(self.start_ns);
        // From a time that is too short straight to for ever: that is another matter than the gap.
        let jumps = end.time_ns.is_none() && self.band.most_ns < u64::MAX;
        if closes.is_none() && (moved < self.least_gain || jumps) {
            return None;
        }
        Some(Lever {
            plausible: inside.first().is_some_and(within),
            end,
            closes,
            key: self.range.key,
            unit: self.range.unit,
            value: self.range.value,
            range: self.range.ends,
        })
    }
}

/// Runs again what a stored search claims: the cell as it is, and its first lever. What differs, in
/// words.
/// Errors: no such cell, or a run that could not be made.
pub fn check(gap: &Gap, jobs: u32) -> anyhow::Result<Vec<String>> {
    let base = base_of(gap, jobs).with_context(|| format!("no cell {}", gap.cell))?;
    let mut claims = vec![(Vec::new(), gap.base_ns)];
    if let Some(lever) = gap.levers.first() {
        let first = lever.closes.as_ref().map_or(&lever.end, |[first, _]| first);
        claims.push((
            vec![format!("{}={}", lever.key, first.value)],
            first.time_ns,
        ));
    }
    let sets: Vec<Vec<String>> = claims.iter().map(|(set, _)| set.clone()).collect();
    let done = run(&base, &sets, &interrupt_flag())?;
    let pairs = claims.iter().zip(&done.runs);
    let differ = pairs.filter_map(|((set, claimed), runs)| {
        let found = median(runs);
        let text = |ns: Option<u64>| ns.map_or("never".to_owned(), seconds);
        (found != *claimed).then(|| {
            let (found, claimed) = (text(found), text(*claimed));
            format!(
                "{} [{}]: {found}, stored {claimed}",
                gap.cell,
                set.join(" ")
            )
        })
    });
    Ok(differ.collect())
}

/// The cell of a file.
fn base_of(gap: &Gap, jobs: u32) -> Option<Base> {
    use clap::ValueEnum as _;
    let mut known = Allocator::value_variants().iter();
    Some(Base {
        allocator: *known.find(|known| known.name() == gap.cell.allocator)?,
        cell: CellName {
            addresses: gap.cell.addresses.parse().ok()?,
            stack: gap.stack()?,
        },
        parameters: gap.profile.clone(),
        seeds: gap.seeds,
        jobs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn range(value: &str, ends: [&str; 2]) -> Range {
        Range {
            key: "a.constant".to_owned(),
            unit: "ms".to_owned(),
            value: value.to_owned(),
            ends: ends.map(str::to_owned),
        }
    }

    /// Runs a search over a world that is a function of the value.
    fn searched(
        range: &Range,
        band: Band,
        start: Option<u64>,
        world: impl Fn(Milli) -> Option<u64>,
    ) -> Option<(Lever, usize)> {
        let [low, high] = [0, 1].map(|end| milli(&range.ends[end]).unwrap());
        let probes = [low, high, high * FAR_TIMES].map(&world);
        let (_, mut search) = Search::of(range, band, start, probes)?;
        while let Some(value) = search.next() {
            search.told(world(value));
            assert!(search.tried.len() < 100, "it never ends");
        }
        let tries = search.tried.len();
        Some((search.lever()?, tries))
    }

    fn band(least: u64, most: u64) -> Band {
        Band {
            least_ns: least * S,
            most_ns: most * S,
        }
    }

    #[test]
    fn values_in_the_range_that_close_a_gap_are_found_from_edge_to_edge() {
        // One second for each unit: 10 at the start, 100 to 120 are wanted.
        let world = |value: Milli| Some(value * S / 1000);
        let range = range("10", ["1", "200"]);
        let (lever, _) = searched(&range, band(100, 120), Some(10 * S), world).unwrap();
        assert!(lever.plausible);
        let [first, last] = lever
            .closes
            .unwrap()
            .map(|tried| milli(&tried.value).unwrap());
        assert!((100_000..103_000).contains(&first), "{first}");
        assert!((110_000..=120_000).contains(&last), "{last}");
        assert_eq!(lever.end.value, "200");
    }

    #[test]
    fn a_value_far_outside_the_range_is_found_and_called_implausible() {
        let world = |value: Milli| Some(value * S / 1000);
        let range = range("1..2", ["1", "20"]);
        let (lever, _) = searched(&range, band(100, 120), Some(2 * S), world).unwrap();
        assert!(!lever.plausible && lever.closes.is_some());
    }

    #[test]
    fn a_shorter_time_is_searched_downwards() {
        let world = |value: Milli| Some((1_000_000_u64.saturating_sub(value)) * S / 1000);
        let range = range("10", ["1", "700"]);
        let (lever, _) = searched(&range, band(400, 500), Some(990 * S), world).unwrap();
        let [first, _] = lever.closes.unwrap();
        assert!(lever.plausible && first.time_ns.unwrap() <= 500 * S);
    }

    #[test]
    fn a_cliff_that_jumps_over_the_band_closes_nothing() {
        let world = |value: Milli| (value < 50_000).then_some(10 * S + value);
        let range = range("10", ["1", "100"]);
        assert!(searched(&range, band(100, 120), Some(10 * S), world).is_none());
        // For a published failure the same cliff is what was asked for.
        let for_ever = Band {
            least_ns: u64::MAX,
            most_ns: u64::MAX,
        };
        let (lever, tries) = searched(&range, for_ever, Some(10 * S), world).unwrap();
        assert!(lever.plausible && lever.closes.is_some() && tries < 20);
    }

    #[test]
    fn what_hardly_moves_the_cell_is_not_searched() {
        let idle = |value: Milli| Some(10 * S + value);
        assert!(
            searched(
                &range("10", ["1", "90"]),
                band(100, 120),
                Some(10 * S),
                idle
            )
            .is_none()
        );
        let away = |value: Milli| Some((20_000 - value.min(20_000)) * S / 1000);
        assert!(
            searched(
                &range("10", ["10", "20"]),
                band(100, 120),
                Some(10 * S),
                away
            )
            .is_none()
        );
    }
}
