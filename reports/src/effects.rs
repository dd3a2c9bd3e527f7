//! What a change of the world does to the time until all Pods run, on paired seeds: ranked tables
//! and a tornado plot, for ablation and sensitivity. It runs nothing.

use serde::Serialize;

use crate::compare::{Figures, Spread};
use crate::quantity::seconds;
use crate::svg::{Anchor, Svg, Tenths};
use crate::table::{Align, Table};

/// The schema of the JSON.
pub const SCHEMA: &str = "drydock.dev/effects/v1";

/// A difference of times that may be forever.
/// Units: simulated ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// So much longer, or shorter if negative.
    By(i64),
    /// All Pods ran before, and never do now.
    Never,
    /// The Pods never all ran before, and do now.
    Ends,
    /// They never do in either.
    None,
}

/// What one change does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// What was changed.
    pub name: String,
    /// How.
    pub how: String,
    /// Median of the paired differences; of a range, at its low end.
    pub low: Change,
    /// The same at the high end; absent where there is one variant.
    pub high: Option<Change>,
    /// Median time with the change (of a range: at the end that changes more). Units: simulated ns.
    pub time_ns: Option<u64>,
}

/// All effects on one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effects {
    /// [`SCHEMA`], always.
    pub schema: String,
    /// Allocator, cell, profile, seeds.
    pub title: String,
    /// Median time without any change. Units: simulated ns.
    pub base_ns: Option<u64>,
    /// Shape: largest first, equal ones by name.
    pub effects: Vec<Effect>,
}

/// Median of the differences seed by seed.
fn change(base: &[Figures], changed: &[Figures]) -> Change {
    let time = |runs: &[Figures]| Spread::of(runs.iter().map(|run| run.all_running_ns)).median;
    match (time(base), time(changed)) {
        (None, None) => return Change::None,
        (None, Some(_)) => return Change::Ends,
        (Some(_), None) => return Change::Never,
        (Some(_), Some(_)) => {}
    }
    let mut differences: Vec<i64> = changed
        .iter()
        .filter_map(|run| {
            let base = base.iter().find(|other| other.seed == run.seed)?;
            Some(run.all_running_ns?.cast_signed() - base.all_running_ns?.cast_signed())
        })
        .collect();
    differences.sort_unstable();
    let count = differences.len();
    if count == 0 {
        return Change::None;
    }
    let (low, high) = (differences[(count - 1) / 2], differences[count / 2]);
    Change::By(low.midpoint(high))
}

impl Change {
    /// Its size, for ranking.
    fn size(self) -> u64 {
        match self {
            Change::By(ns) => ns.unsigned_abs(),
            Change::Never | Change::Ends => u64::MAX,
            Change::None => 0,
        }
    }

    fn text(self) -> String {
        match self {
            Change::By(ns) => {
                let sign = if ns < 0 { '-' } else { '+' };
                format!("{sign}{}", seconds(ns.unsigned_abs()))
            }
            Change::Never => "never ends".to_owned(),
            Change::Ends => "ends now".to_owned(),
            Change::None => "never, as before".to_owned(),
        }
    }
}

impl Effect {
    /// The effect of one variant, seed by seed.
    pub fn paired(name: &str, how: &str, base: &[Figures], changed: &[Figures]) -> Self {
        Self {
            name: name.to_owned(),
            how: how.to_owned(),
            low: change(base, changed),
            high: None,
            time_ns: Spread::of(changed.iter().map(|run| run.all_running_ns)).median,
        }
    }

    /// The effect of both ends of a range, seed by seed.
    pub fn of_range(
        name: &str,
        how: &str,
        base: &[Figures],
        low: &[Figures],
        high: &[Figures],
    ) -> Self {
        let ends = [low, high].map(|runs| Self::paired(name, how, base, runs));
        let [low, high] = ends;
        let time_ns = if high.size() >= low.size() {
            high.time_ns
        } else {
            low.time_ns
        };
        Self {
            high: Some(high.low),
            time_ns,
            ..low
        }
    }

    fn size(&self) -> u64 {
        self.low.size().max(self.high.map_or(0, Change::size))
    }
}

impl Effects {
    /// Ranks effects, largest first.
    pub fn ranked(title: &str, base: &[Figures], mut effects: Vec<Effect>) -> Self {
        effects.sort_by(|one, other| (other.size(), &one.name).cmp(&(one.size(), &other.name)));
        Self {
            schema: SCHEMA.to_owned(),
            title: title.to_owned(),
            base_ns: Spread::of(base.iter().map(|run| run.all_running_ns)).median,
            effects,
        }
    }

    fn table(&self) -> Table {
        let ranges = self.effects.iter().any(|effect| effect.high.is_some());
        let mut columns = vec![("changed", Align::Left), ("how", Align::Left)];
        if ranges {
            columns.extend([
                ("at the low end", Align::Right),
                ("at the high end", Align::Right),
            ]);
        } else {
            columns.extend([("effect", Align::Right), ("time", Align::Right)]);
        }
        let mut table = Table::new(&columns);
        for effect in &self.effects {
            let last = match effect.high {
                Some(high) => high.text(),
                None => effect.time_ns.map_or("never".to_owned(), seconds),
            };
            table.row([
                effect.name.clone(),
                effect.how.clone(),
                effect.low.text(),
                last,
            ]);
        }
        table
    }

    fn heading(&self) -> String {
        let base = self.base_ns.map_or("never".to_owned(), seconds);
        format!(
            "{}: all Running after {base} (median) unchanged",
            self.title
        )
    }

    /// The effects as plain text.
    pub fn plain(&self) -> String {
        format!("{}\n\n{}", self.heading(), self.table().plain())
    }

    /// The effects as Markdown.
    pub fn markdown(&self) -> String {
        format!("{}\n\n{}", self.heading(), self.table().markdown())
    }

    /// The effects as JSON, newline at end.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("effects have string keys and finite numbers");
        text.push('\n');
        text
    }

    /// The effects as a tornado: a bar for each, from the unchanged time to both sides.
    pub fn svg(&self) -> String {
        tornado(&self.heading(), &self.effects)
    }
}

/// Bars that a tornado shows; the rest moves less than all of them.
const BARS_MAX: usize = 25;
const WIDTH: Tenths = 9600;
const LEFT: Tenths = 3300;
const RIGHT: Tenths = 9300;
const TOP: Tenths = 900;
const STEP: Tenths = 260;

fn tornado(heading: &str, effects: &[Effect]) -> String {
    let shown = &effects[..effects.len().min(BARS_MAX)];
    let rows = Tenths::try_from(shown.len()).expect("at most 25 bars");
    let mut svg = Svg::new(WIDTH, TOP + rows * STEP + 400, heading);
    svg.text("h", (200, 330), Anchor::Start, heading);
    let signed = |change: Change| match change {
        Change::By(ns) => ns,
        // What never ends is drawn to the end of the axis, and said in words.
        Change::Never => i64::MAX,
        Change::Ends => i64::MIN,
        Change::None => 0,
    };
    let finite = shown
        .iter()
        .flat_map(|effect| [Some(effect.low), effect.high]);
    let longest = finite
        .flatten()
        .filter_map(|change| match change {
            Change::By(ns) => Some(ns.unsigned_abs()),
            _ => None,
        })
        .max()
        .unwrap_or(0)
        .max(1_000_000_000);
    let middle = LEFT.midpoint(RIGHT);
    let half = (RIGHT - LEFT) / 2;
    let place = |ns: i64| {
        let length =
            i128::from(half) * i128::from(ns.unsigned_abs().min(longest)) / i128::from(longest);
        let length = Tenths::try_from(length).expect("no longer than half of the axis");
        if ns < 0 {
            middle - length
        } else {
            middle + length
        }
    };
    let limit = seconds(longest);
    svg.text("t", (LEFT, 650), Anchor::Middle, &format!("-{limit}"));
    svg.text("t", (middle, 650), Anchor::Middle, "unchanged");
    svg.text("t", (RIGHT, 650), Anchor::Middle, &format!("+{limit}"));
    for x in [LEFT, middle, RIGHT] {
        svg.line("grid", (x, TOP - 150), (x, TOP + rows * STEP));
    }
    for (effect, row) in shown.iter().zip(0..) {
        let y = TOP + row * STEP;
        svg.text("t", (LEFT - 120, y + 40), Anchor::End, &effect.name);
        for (change, series) in [(Some(effect.low), 0), (effect.high, 1)] {
            let Some(change) = change else { continue };
            let to = place(signed(change));
            svg.bar(
                &format!("d{series}"),
                (middle.min(to), y - 80),
                (to - middle).abs(),
                160,
            );
            if !matches!(change, Change::By(_) | Change::None) {
                svg.text("note", (RIGHT, y + 40), Anchor::End, &change.text());
            }
        }
    }
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    const S: u64 = 1_000_000_000;

    fn runs(times: &[u64]) -> Vec<Figures> {
        let runs = times.iter().zip(1..).map(|(s, seed)| {
            let mut figures = Figures::of(&sample::finished(seed, s.max(&1) * S));
            figures.all_running_ns = (*s > 0).then_some(s * S);
            figures
        });
        runs.collect()
    }

    fn effects() -> Effects {
        let base = runs(&[100, 110, 120]);
        let paired = |name, times: &[u64]| Effect::paired(name, "a=1", &base, &runs(times));
        let all = vec![
            paired("small", &[101, 111, 121]),
            paired("fatal", &[0, 0, 121]),
            paired("large", &[40, 60, 90]),
            paired("nothing", &[100, 110, 120]),
        ];
        Effects::ranked("mechanisms of x", &base, all)
    }

    #[test]
    fn effects_are_paired_and_ranked_by_size() {
        let ranked = effects();
        let shown: Vec<_> = ranked
            .effects
            .iter()
            .map(|effect| (&*effect.name, effect.low))
            .collect();
        let by = |s: i64| Change::By(s * 1_000_000_000);
        assert_eq!(
            shown,
            [
                ("fatal", Change::Never),
                ("large", by(-50)),
                ("small", by(1)),
                ("nothing", by(0))
            ]
        );
        let text = ranked.plain();
        assert!(
            text.starts_with("mechanisms of x: all Running after 110.0 s"),
            "{text}"
        );
        assert!(
            text.contains("-50.0 s") && text.contains("never ends"),
            "{text}"
        );
    }

    #[test]
    fn a_range_has_two_ends_and_counts_by_the_larger() {
        let base = runs(&[100, 100]);
        let effect = Effect::of_range("a", "", &base, &runs(&[90, 90]), &runs(&[130, 130]));
        assert_eq!(effect.low, Change::By(-10_000_000_000));
        assert_eq!(effect.high, Some(Change::By(30_000_000_000)));
        assert_eq!(effect.time_ns, Some(130 * S));
        assert_eq!(effect.size(), 30 * S);
    }

    #[test]
    fn a_tornado_shows_every_effect_and_repeats_byte_for_byte() {
        let svg = effects().svg();
        for name in [
            "fatal",
            "large",
            "small",
            "nothing",
            "never ends",
            "unchanged",
        ] {
            assert!(svg.contains(&format!(">{name}</text>")), "{name}");
        }
        assert_eq!(svg, effects().svg());
    }
}
