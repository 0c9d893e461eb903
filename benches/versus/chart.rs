//! Line charts and bar charts as SVG. Colours are CSS variables, so the surrounding page decides
//! between light and dark.
//!
//! This module must not know what the data means. The caller passes points, names and a function
//! that formats numbers.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 622.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 268.0;
/// Largest number of ticks on an axis. More would overlap.
const TICKS_MAX: usize = 8;

/// Colour number of data that belongs to no server. Nothing is written on this colour.
pub(crate) const PALE: usize = 9;

/// Scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Starts at 0.
    Linear,
    Log,
}

/// One axis of a chart.
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) scale: Scale,
    /// Formats a number on this axis.
    pub(crate) show: fn(f64) -> String,
    /// Ticks to use instead of round numbers.
    pub(crate) ticks: Vec<f64>,
}

impl Axis {
    pub(crate) fn new(label: &'static str, scale: Scale, show: fn(f64) -> String) -> Axis {
        Axis { label, scale, show, ticks: Vec::new() }
    }
}

/// One server in a line chart.
pub(crate) struct Line {
    pub(crate) name: String,
    /// Number of the colour.
    pub(crate) colour: usize,
    pub(crate) points: Vec<(f64, f64)>,
    /// Index of the point that is marked with a ring.
    pub(crate) ringed: Option<usize>,
}

/// Escapes text for HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Formats an SVG text element. `class` selects the style, and `anchor` which end of the text is at
/// `x`.
pub(crate) fn text(x: f64, y: f64, class: &str, anchor: &str, words: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{}</text>\n",
        escape(words)
    )
}

/// Range of values on an axis. Maps a value to a position between 0 and 1.
struct Range {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Range {
    fn of(axis: &Axis, values: impl Iterator<Item = f64> + Clone) -> Range {
        let (low, high) = (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
        match axis.scale {
            Scale::Linear => Range { scale: axis.scale, low: 0.0, high: (high * 1.08).max(1e-9) },
            // Leaves some room on both sides, also around a single value.
            Scale::Log => Range { scale: axis.scale, low: low.max(1e-9) / 1.15, high: high.max(1e-9) * 1.15 },
        }
    }

    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(1e-9) / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    /// Returns round numbers within the range.
    fn ticks(&self) -> Vec<f64> {
        let steps = |factors: &[f64]| {
            let decades = self.low.max(1e-9).log10().floor() as i32..=self.high.log10().ceil() as i32;
            let all =
                decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10_f64.powi(decade)));
            all.filter(|tick| (self.low..=self.high).contains(tick)).collect::<Vec<f64>>()
        };
        match self.scale {
            Scale::Linear => {
                let rough = self.high / 5.0;
                let unit = 10_f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * unit);
                let step = step.into_iter().find(|step| *step >= rough).unwrap_or(unit * 10.0);
                (0..=6).map(|number| f64::from(number) * step).filter(|tick| *tick <= self.high).collect()
            }
            Scale::Log => {
                let choices = [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]].map(steps);
                let fitting = choices.into_iter().find(|ticks| ticks.len() <= TICKS_MAX);
                fitting.unwrap_or_else(|| steps(&[1.0]).into_iter().step_by(2).collect())
            }
        }
    }
}

/// Draws a line chart. Returns `None` if no line has two points.
pub(crate) fn lines(title: &str, x: &Axis, y: &Axis, lines: &[Line]) -> Option<String> {
    if !lines.iter().any(|line| line.points.len() > 1) {
        return None;
    }
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let across = Range::of(x, points().map(|point| point.0));
    let up = Range::of(y, points().map(|point| point.1));
    let x_at = |value: f64| LEFT + across.place(value) * (RIGHT - LEFT);
    let y_at = |value: f64| BOTTOM - up.place(value) * (BOTTOM - TOP);
    let mut svg = open(title, HEIGHT);
    for tick in up.ticks() {
        let at = y_at(tick);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" class=\"grid\"/>");
        svg.push_str(&text(LEFT - 8.0, at + 4.0, "tick", "end", &(y.show)(tick)));
    }
    let marks = if x.ticks.is_empty() { across.ticks() } else { x.ticks.clone() };
    for tick in marks {
        let at = x_at(tick);
        let _ = writeln!(svg, "<path d=\"M{at:.1} {BOTTOM}v5\" class=\"axis\"/>");
        svg.push_str(&text(at, BOTTOM + 19.0, "tick", "middle", &(x.show)(tick)));
    }
    let _ = writeln!(svg, "<path d=\"M{LEFT} {BOTTOM}H{RIGHT}\" class=\"axis\"/>");
    svg.push_str(&text(f64::midpoint(LEFT, RIGHT), HEIGHT - 10.0, "label", "middle", x.label));
    svg.push_str(&text(8.0, TOP - 20.0, "label", "start", y.label));
    let names: Vec<(&str, usize)> = lines.iter().map(|line| (line.name.as_str(), line.colour)).collect();
    svg.push_str(&legend(&names));
    for line in lines {
        svg.push_str(&one_line(line, x, y, &x_at, &y_at));
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn one_line(line: &Line, x: &Axis, y: &Axis, x_at: &dyn Fn(f64) -> f64, y_at: &dyn Fn(f64) -> f64) -> String {
    let mut svg = String::new();
    let colour = line.colour;
    let places: Vec<(f64, f64)> = line.points.iter().map(|(a, b)| (x_at(*a), y_at(*b))).collect();
    let path: Vec<String> = places.iter().map(|(a, b)| format!("{a:.1},{b:.1}")).collect();
    let _ = writeln!(svg, "<polyline points=\"{}\" class=\"line c{colour}\"/>", path.join(" "));
    for (number, ((at_x, at_y), (value_x, value_y))) in places.iter().zip(&line.points).enumerate() {
        let tip = format!("{}: {} at {}", line.name, (y.show)(*value_y), (x.show)(*value_x));
        let _ = writeln!(
            svg,
            "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"3.6\" class=\"dot f{colour}\"><title>{}</title></circle>",
            escape(&tip)
        );
        if line.ringed == Some(number) {
            let _ =
                writeln!(svg, "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"8\" class=\"line c{colour}\"/>");
        }
    }
    svg
}

/// Draws the legend in the upper right corner: names with their colours.
fn legend(names: &[(&str, usize)]) -> String {
    let mut svg = String::new();
    let mut right = RIGHT;
    for (name, colour) in names.iter().rev() {
        let width = name.chars().count() as f64 * 7.0 + 28.0;
        right -= width;
        let y = TOP - 24.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{right:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" rx=\"2\" class=\"f{colour}\"/>",
            y - 5.0
        );
        svg.push_str(&text(right + 15.0, y + 4.0, "name", "start", name));
    }
    svg
}

/// A bar that is divided into shares.
pub(crate) struct Bar {
    pub(crate) name: String,
    /// Shares in the order of the legend. They add up to 1.
    pub(crate) shares: Vec<f64>,
}

/// Draws a bar chart. All bars have the same length. Returns `None` if there are no bars.
pub(crate) fn bars(title: &str, names: &[(&str, usize)], bars: &[Bar]) -> Option<String> {
    const ROW: f64 = 27.0;
    if bars.is_empty() {
        return None;
    }
    let left = LEFT + 70.0;
    let height = TOP + bars.len() as f64 * ROW + 4.0;
    let mut svg = open(title, height);
    svg.push_str(&legend(names));
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + row as f64 * ROW;
        svg.push_str(&text(left - 10.0, y + 14.0, "name", "end", &bar.name));
        let mut at = left;
        for (share, (name, colour)) in bar.shares.iter().zip(names) {
            let width = share.clamp(0.0, 1.0) * (RIGHT - left);
            let tip = format!("{}: {name} {:.0} %", bar.name, share * 100.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{at:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"19\" class=\"f{colour}\"><title>{}</title></rect>",
                (width - 1.0).max(0.0),
                escape(&tip)
            );
            if *share >= 0.07 && *colour != PALE {
                let words = format!("{:.0} %", share * 100.0);
                svg.push_str(&text(at + width / 2.0, y + 13.5, "within", "middle", &words));
            }
            at += width;
        }
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">\n<title>{}</title>\n",
        escape(title)
    )
}
