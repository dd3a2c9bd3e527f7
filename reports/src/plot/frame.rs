//! The frame of a plot: title, axes with ticks and units, grid and legend.

use crate::svg::{Anchor, Svg, Tenths};

const WIDTH: Tenths = 9600;
const LEFT: Tenths = 880;
const RIGHT: Tenths = 9360;
const TOP: Tenths = 820;
const BOTTOM: Tenths = 4620;
const LEGEND_TOP: Tenths = 5360;
const LEGEND_STEP: Tenths = 210;

/// One axis: what it says, and where its ticks stand.
pub(super) struct Axis {
    pub title: String,
    /// The value at the end of the axis; it begins with 0.
    pub end: u64,
    /// Values with their labels.
    pub ticks: Vec<(u64, String)>,
}

/// What stands before a line of the legend.
pub(super) enum Key {
    /// A piece of a curve with these classes.
    Curve(String),
    /// A published point with its letter.
    Point(char),
}

/// A plot in the making.
pub(super) struct Frame {
    pub svg: Svg,
    x: Axis,
    y: Axis,
}

impl Axis {
    /// An axis from 0 to at least `max` with at most eleven round ticks, each labeled `tick /
    /// unit`.
    pub(super) fn linear(title: &str, max: u64, unit: u64) -> Self {
        let max = max.max(unit);
        let mut step = unit;
        'search: loop {
            for factor in [1, 2, 5] {
                if step.saturating_mul(factor * 10) >= max {
                    step = step.saturating_mul(factor);
                    break 'search;
                }
            }
            step = step.saturating_mul(10);
        }
        let count = max.div_ceil(step);
        let ticks = (0..=count).map(|index| (index * step, (index * step / unit).to_string()));
        Self {
            title: title.to_owned(),
            end: count * step,
            ticks: ticks.collect(),
        }
    }
}

fn scale(value: u64, end: u64, length: Tenths) -> Tenths {
    let length = length.unsigned_abs();
    let at = u128::from(value.min(end)) * u128::from(length) / u128::from(end.max(1));
    Tenths::try_from(at).expect("a place on an axis is not beyond its length")
}

impl Frame {
    /// Draws title, subtitle, grid and axes.
    pub(super) fn new(title: &str, subtitle: &str, x: Axis, y: Axis, legend_count: usize) -> Self {
        let lines = Tenths::try_from(legend_count).unwrap_or(100);
        let height = LEGEND_TOP + lines * LEGEND_STEP + 60;
        let mut svg = Svg::new(WIDTH, height, title);
        svg.text("h", (LEFT, 330), Anchor::Start, title);
        svg.text("t", (LEFT, 550), Anchor::Start, subtitle);
        let mut frame = Self { svg, x, y };
        for (value, label) in std::mem::take(&mut frame.y.ticks) {
            let (_, y) = frame.place(0, value);
            let class = if value == 0 { "axis" } else { "grid" };
            frame.svg.line(class, (LEFT, y), (RIGHT, y));
            frame
                .svg
                .text("t", (LEFT - 80, y + 40), Anchor::End, &label);
        }
        for (value, label) in std::mem::take(&mut frame.x.ticks) {
            let (x, _) = frame.place(value, 0);
            let class = if value == 0 { "axis" } else { "grid" };
            frame.svg.line(class, (x, TOP), (x, BOTTOM));
            frame
                .svg
                .text("t", (x, BOTTOM + 190), Anchor::Middle, &label);
        }
        frame.svg.text(
            "t",
            (LEFT.midpoint(RIGHT), BOTTOM + 420),
            Anchor::Middle,
            &frame.x.title,
        );
        frame
            .svg
            .text_upwards("t", (210, TOP.midpoint(BOTTOM)), &frame.y.title);
        frame
    }

    /// Where a pair of values is in the picture; values beyond an axis are at its end.
    pub(super) fn place(&self, x: u64, y: u64) -> (Tenths, Tenths) {
        (
            LEFT + scale(x, self.x.end, RIGHT - LEFT),
            BOTTOM - scale(y, self.y.end, BOTTOM - TOP),
        )
    }

    /// Draws the legend and ends the picture.
    pub(super) fn finish(mut self, legend: &[(Key, String)]) -> String {
        for (index, (key, text)) in legend.iter().enumerate() {
            let y = LEGEND_TOP + Tenths::try_from(index).unwrap_or(0) * LEGEND_STEP;
            match key {
                Key::Curve(class) => {
                    self.svg
                        .path(class, &[(LEFT, y - 40), (LEFT + 260, y - 40)]);
                }
                Key::Point(letter) => {
                    self.svg.diamond("mark", (LEFT + 60, y - 40), 55);
                    let at = (LEFT + 190, y);
                    self.svg
                        .text("note", at, Anchor::Middle, &letter.to_string());
                }
            }
            self.svg.text("t", (LEFT + 360, y), Anchor::Start, text);
        }
        self.svg.finish()
    }
}
