//! The search for values of constants that would reproduce a published cell: which constants move
//! it at all, how far each must go, and whether that is within its range. It changes no constant.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use drydock_models::parameters::{Kind, ParameterError, text_of};
use drydock_reports::compare::{CellKey, Figures, Spread};
use drydock_reports::gap::{Band, Gap, Lever, SCHEMA, Tried};
use drydock_reports::quantity::seconds;

use crate::adapters;
use crate::decimal::{Milli, decimal, milli};
use crate::levers::{Range, ranges};
use crate::parameters::RunParameters;
use crate::runner::RunError;
use crate::subject::CellName;
use crate::variants::{Base, run};

/// How many constants are searched: those that move the cell most.
const LEVERS_MAX: usize = 6;
/// Doublings (or halvings) beyond the end of a range before a constant is given up.
const STRETCHES_MAX: u32 = 6;
/// How far beyond the upper end of its range a constant is tried, to find those that could close a
/// gap without being plausible.
const FAR_TIMES: Milli = 8;
/// Halvings toward the nearer edge of the band.
const NEAR_STEPS: u32 = 7;
/// Halvings toward its farther edge.
const FAR_STEPS: u32 = 4;
/// Values of [`probes`].
const PROBES: usize = 3;
/// A constant that moves the cell by less than one part in this many of the gap is idle.
const IDLE_PARTS: u64 = 20;

/// Searches; returns whether it was interrupted, which keeps what was found until then.
/// Errors: an unknown parameter set; a run that could not be carried out.
pub fn find(
    base: &Base,
    band: Band,
    filter: Option<&str>,
    interrupt: &Arc<AtomicBool>,
) -> Result<(Gap, bool), RunError> {
    let unchanged = run(base, &[Vec::new()], interrupt)?;
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
    let mut ranges = ranges(&base.parameters, base.allocator, filter)?;
    ranges.extend(fitted(&base.parameters, filter)?);
    // One seed shows which constants matter at all, unless it already matches what was published.
    let first = unchanged.runs[0].first();
    let told = first.is_some_and(|first| !band.holds(first.all_running_ns));
    let one = Base {
        seeds: if told { 1 } else { base.seeds },
        ..base.clone()
    };
    let Some(mut searches) = begun(&one, band, &ranges, interrupt)? else {
        return Ok((gap, true));
    };
    gap.idle_count += (ranges.len() - searches.len()) as u64;
    let mut interrupted = false;
    while !interrupted && searches.iter().any(|search| search.next().is_some()) {
        interrupted = !all_told(base, &mut searches, interrupt)?;
    }
    let searched = searches.len();
    gap.levers = searches.into_iter().filter_map(Search::lever).collect();
    gap.idle_count += (searched - gap.levers.len()) as u64;
    gap.rank();
    Ok((gap, interrupted))
}

/// A search over each constant that moves the cell toward the band, those that move it most first;
/// none after an interrupt.
fn begun(
    base: &Base,
    band: Band,
    ranges: &[Range],
    interrupt: &Arc<AtomicBool>,
) -> Result<Option<Vec<Search>>, RunError> {
    let mut variants = vec![Vec::new()];
    for range in ranges {
        variants.extend(probes(range, &base.parameters).map(|value| vec![range.set(&value)]));
    }
    let ends = run(base, &variants, interrupt)?;
    if ends.interrupted {
        return Ok(None);
    }
    let start = median(&ends.runs[0]);
    let probed = ranges.iter().zip(ends.runs[1..].chunks(PROBES));
    let mut searches: Vec<(Gain, Search)> = probed
        .filter_map(|(range, times)| {
            let times = [0, 1, 2].map(|probe| median(&times[probe]));
            Search::of(range, band, start, times)
        })
        .collect();
    searches.sort_by(|one, other| (other.0, &one.1.range.key).cmp(&(one.0, &other.1.range.key)));
    searches.truncate(LEVERS_MAX);
    Ok(Some(
        searches.into_iter().map(|(_, search)| search).collect(),
    ))
}

/// Tells every search the time that its requested value gives; `false` after an interrupt.
fn all_told(
    base: &Base,
    searches: &mut [Search],
    interrupt: &Arc<AtomicBool>,
) -> Result<bool, RunError> {
    let (mut variants, mut asking) = (Vec::new(), Vec::new());
    for search in searches {
        let Some(value) = search.next() else {
            continue;
        };
        let set = vec![search.range.set(&decimal(value))];
        if RunParameters::load(&base.parameters, &set).is_ok() {
            variants.push(set);
            asking.push(search);
        } else {
            // It contradicts another constant, so the search ends here.
            search.standing = Standing::Done;
        }
    }
    let done = run(base, &variants, interrupt)?;
    if done.interrupted {
        // A median of only some of the seeds would be a different number.
        return Ok(false);
    }
    for (search, runs) in asking.into_iter().zip(&done.runs) {
        search.told(median(runs));
    }
    Ok(true)
}

/// The number that a profile fits on another cell, with its range in the profile without a fit:
/// what this cell would have chosen.
/// Errors: an unknown parameter set.
fn fitted(parameters: &str, filter: Option<&str>) -> Result<Vec<Range>, ParameterError> {
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

/// How far a constant moves the cell toward the band: within its range, and far outside of it.
/// Units: simulated ns.
type Gain = (u64, u64);

/// The state of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
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
    /// The cell must take longer, not shorter.
    longer: bool,
    start: Milli,
    end: Milli,
    standing: Standing,
    /// The nearest value known to be beyond the band.
    beyond: Option<Milli>,
    /// A smaller gain counts as none.
    /// Units: simulated ns.
    least_gain: u64,
    /// The cell as it is; `u64::MAX` means never.
    /// Units: simulated ns.
    start_ns: u64,
    tried: Vec<(Milli, Option<u64>)>,
}

impl Search {
    /// A search, and how far the best probe moves the cell toward the band, if any does.
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
            // There is no distance from a time to never: the time itself stands for it.
            start_ns
        };
        // Going past the band closes the gap no better than ending in it.
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
            standing: Standing::Stretch {
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
        match self.standing {
            Standing::Stretch { at, .. } => Some(at),
            Standing::Near { short, enough, .. } => Some(short.midpoint(enough)),
            Standing::Far { inside, beyond, .. } => Some(inside.midpoint(beyond)),
            Standing::Done => None,
        }
    }

    /// Takes the time that the requested value gave.
    fn told(&mut self, time_ns: Option<u64>) {
        let value = self
            .next()
            .expect("a time is told for a value that was asked for");
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
        self.standing = match self.standing {
            Standing::Stretch { at, left } if !reached => match self.further(at) {
                Some(next) if left > 0 => Standing::Stretch {
                    at: next,
                    left: left - 1,
                },
                _ => Standing::Done,
            },
            Standing::Stretch { at, .. } => {
                let before = self.tried.iter().rev().nth(1);
                let short = before.map_or(self.start, |(value, _)| *value);
                self.near(short, at, NEAR_STEPS)
            }
            Standing::Near { enough, left, .. } if !reached => self.near(value, enough, left - 1),
            Standing::Near { short, left, .. } => self.near(short, value, left - 1),
            Standing::Far { inside, left, .. } if beyond => Self::far(inside, value, left - 1),
            Standing::Far { beyond, left, .. } => Self::far(value, beyond, left - 1),
            Standing::Done => Standing::Done,
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

    fn near(&self, short: Milli, enough: Milli, left: u32) -> Standing {
        if left > 0 && short.abs_diff(enough) > 1 {
            return Standing::Near {
                short,
                enough,
                left,
            };
        }
        match (self.inside().last(), self.beyond) {
            (Some(inside), Some(beyond)) => Self::far(*inside, beyond, FAR_STEPS),
            _ => Standing::Done,
        }
    }

    fn far(inside: Milli, beyond: Milli, left: u32) -> Standing {
        if left > 0 && inside.abs_diff(beyond) > 1 {
            Standing::Far {
                inside,
                beyond,
                left,
            }
        } else {
            Standing::Done
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
        // A jump from a time that is too short straight to never does not explain the gap.
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

/// Reruns what a stored search claims: the cell as it is, and its first lever. Returns what
/// differs, in words.
/// Errors: no such cell, or a run that could not be carried out.
pub fn check(gap: &Gap, jobs: u32, interrupt: &Arc<AtomicBool>) -> Result<Vec<String>, RunError> {
    let unknown = || RunError::Internal(format!("no cell {}", gap.cell));
    let base = base_of(gap, jobs).ok_or_else(unknown)?;
    let mut claims = vec![(Vec::new(), gap.base_ns)];
    if let Some(lever) = gap.levers.first() {
        let first = lever.closes.as_ref().map_or(&lever.end, |[first, _]| first);
        claims.push((
            vec![format!("{}={}", lever.key, first.value)],
            first.time_ns,
        ));
    }
    let sets: Vec<Vec<String>> = claims.iter().map(|(set, _)| set.clone()).collect();
    let done = run(&base, &sets, interrupt)?;
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
    Some(Base {
        allocator: adapters::named(&gap.cell.allocator)?,
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
        // One second per unit: 10 at the start, 100 to 120 wanted.
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
        // For a published failure, the same cliff is the goal.
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
