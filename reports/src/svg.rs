//! A small writer of SVG: the same calls give the same bytes, because coordinates are integers
//! (tenths of a pixel) and nothing is drawn from an installed font or a locale.

use std::fmt::Write;

/// A length or position. Units: tenths of a pixel.
pub(crate) type Tenths = i64;

/// Colors of lines on light and on dark ground, distinct also to color-blind eyes.
const SERIES: [(&str, &str); 8] = [
    ("#0b6bcb", "#5aa9ff"),
    ("#d1570a", "#ff9d57"),
    ("#12805c", "#3fcf9b"),
    ("#a4339b", "#e58ade"),
    ("#8a6a00", "#e0bf3f"),
    ("#b3261e", "#ff8a80"),
    ("#3d4fb8", "#a3b0ff"),
    ("#4a5560", "#b6c2cd"),
];

/// Number of colors before they repeat.
pub(crate) const SERIES_COUNT: usize = SERIES.len();

/// Where a text hangs on its position.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture in the making.
pub(crate) struct Svg {
    body: String,
    width: Tenths,
    height: Tenths,
    title: String,
}

fn px(tenths: Tenths) -> String {
    let sign = if tenths < 0 { "-" } else { "" };
    let tenths = tenths.unsigned_abs();
    match tenths % 10 {
        0 => format!("{sign}{}", tenths / 10),
        rest => format!("{sign}{}.{rest}", tenths / 10),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

impl Svg {
    /// An empty picture; the title is for readers that do not see it.
    pub(crate) fn new(width: Tenths, height: Tenths, title: &str) -> Self {
        Self {
            body: String::new(),
            width,
            height,
            title: escape(title),
        }
    }

    fn element(&mut self, element: &str) {
        self.body += element;
        self.body.push('\n');
    }

    /// A straight line.
    pub(crate) fn line(&mut self, class: &str, from: (Tenths, Tenths), to: (Tenths, Tenths)) {
        let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
        self.element(&format!(
            r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#
        ));
    }

    /// A text.
    pub(crate) fn text(&mut self, class: &str, at: (Tenths, Tenths), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y, text) = (px(at.0), px(at.1), escape(text));
        self.element(&format!(
            r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// A text that reads upwards.
    pub(crate) fn text_upwards(&mut self, class: &str, at: (Tenths, Tenths), text: &str) {
        let (x, y, text) = (px(at.0), px(at.1), escape(text));
        self.element(&format!(
            r#"<text class="{class}" transform="translate({x} {y}) rotate(-90)" text-anchor="middle">{text}</text>"#
        ));
    }

    /// A line through points; points on the same spot are drawn once.
    pub(crate) fn path(&mut self, class: &str, points: &[(Tenths, Tenths)]) {
        let mut data = String::new();
        let mut last = None;
        for point in points {
            if last == Some(*point) {
                continue;
            }
            let command = if last.is_none() { 'M' } else { 'L' };
            write!(data, "{command}{} {}", px(point.0), px(point.1))
                .expect("a string takes every text");
            last = Some(*point);
        }
        if last.is_some() {
            self.element(&format!(r#"<path class="{class}" d="{data}"/>"#));
        }
    }

    /// A square that stands on its corner.
    pub(crate) fn diamond(&mut self, class: &str, (x, y): (Tenths, Tenths), radius: Tenths) {
        let corners = [
            (x, y - radius),
            (x + radius, y),
            (x, y + radius),
            (x - radius, y),
        ];
        let text = corners
            .map(|(x, y)| format!("{},{}", px(x), px(y)))
            .join(" ");
        self.element(&format!(r#"<polygon class="{class}" points="{text}"/>"#));
    }

    /// A filled bar with its corner at a position.
    pub(crate) fn bar(
        &mut self,
        class: &str,
        (x, y): (Tenths, Tenths),
        width: Tenths,
        height: Tenths,
    ) {
        let (x, y, width, height) = (px(x), px(y), px(width), px(height));
        self.element(&format!(
            r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}"/>"#
        ));
    }

    /// A dot.
    pub(crate) fn dot(&mut self, class: &str, (x, y): (Tenths, Tenths), radius: Tenths) {
        let (x, y, radius) = (px(x), px(y), px(radius));
        self.element(&format!(
            r#"<circle class="{class}" cx="{x}" cy="{y}" r="{radius}"/>"#
        ));
    }

    /// The picture as a file of its own, readable on light and on dark ground.
    pub(crate) fn finish(self) -> String {
        let (width, height, title, body) = (px(self.width), px(self.height), self.title, self.body);
        let (mut light, mut dark) = (String::new(), String::new());
        for (index, (on_light, on_dark)) in SERIES.iter().enumerate() {
            write!(
                light,
                ".s{index}{{stroke:{on_light}}}.d{index}{{fill:{on_light}}}"
            )
            .expect("a string takes every text");
            write!(
                dark,
                ".s{index}{{stroke:{on_dark}}}.d{index}{{fill:{on_dark}}}"
            )
            .expect("a string takes every text");
        }
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">
<title>{title}</title>
<style>
text{{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif;font-size:12px;fill:#454c55}}
.h{{font-size:17px;font-weight:600;fill:#14181d}}
.ground{{fill:#ffffff}}
.grid{{stroke:#e6e9ed;stroke-width:1}}
.axis{{stroke:#9aa3ad;stroke-width:1}}
.curve{{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}}
.measured{{stroke-dasharray:5 4;stroke-width:1.6}}
.mark{{fill:#14181d;stroke:#ffffff;stroke-width:1.2}}
.note{{font-weight:600;fill:#14181d}}
{light}
@media (prefers-color-scheme:dark){{
text{{fill:#b9c1ca}}
.h,.note{{fill:#f2f5f8}}
.ground{{fill:#14181d}}
.grid{{stroke:#2a3038}}
.axis{{stroke:#6b7580}}
.mark{{fill:#f2f5f8;stroke:#14181d}}
{dark}
}}
</style>
<rect class="ground" width="{width}" height="{height}"/>
{body}</svg>
"#
        )
    }
}
