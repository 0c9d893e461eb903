//! Forest plot of all scenarios: a dot with its interval on the side of the better model.
//!
//! Knows results only as values. The README and the report show this picture.

use std::fmt::Write;

use super::chart::{escape, text};
use super::results::{Compared, GENERATOR_BOUND, Loop, Results, figure};
use super::stats::Verdict;
use super::words::ratio_words;

const WIDTH: f64 = 920.0;
const ROW: f64 = 25.0;
/// Right ends of the columns of figures; ends of the axis.
const FIRST_END: f64 = 446.0;
const SECOND_END: f64 = 526.0;
const AXIS_LEFT: f64 = 552.0;
const AXIS_RIGHT: f64 = 812.0;
const VERDICT_START: f64 = 824.0;
/// Larger ratios are drawn at the edge.
const RATIO_MAX: f64 = 12.0;
/// Smallest ratio at the end of the axis, even if no scenario differs that much.
const RATIO_SHOWN_MIN: f64 = 1.6;

/// Style of all pictures, for light and dark.
pub(crate) const STYLE: &str = include_str!("picture.css");

/// Draws the plot. `is_alone` adds the style for a picture in a file of its own.
pub(crate) fn picture(results: &Results, is_alone: bool) -> String {
    let reach = reach(results);
    let mut body = String::new();
    let mut y = 8.0;
    for (pace, heading, unit) in [
        (Loop::Closed, "Maximum throughput (closed loop)", "responses/s"),
        (Loop::Open, "Latency at a fixed rate (open loop)", "p99"),
    ] {
        let scenarios: Vec<&Compared> = results.scenarios.iter().filter(|s| s.pace == pace).collect();
        if scenarios.is_empty() {
            continue;
        }
        y += 22.0;
        body.push_str(&text(0.0, y, "head", "start", heading));
        body.push_str(&text(FIRST_END, y, "label", "end", &format!("reactor {unit}")));
        body.push_str(&text(SECOND_END, y, "label", "end", "threads"));
        body.push_str(&text(AXIS_LEFT, y, "label", "start", "◂ threads better"));
        body.push_str(&text(AXIS_RIGHT, y, "label", "end", "reactor better ▸"));
        y += 12.0;
        let noise = if pace == Loop::Open { results.noise.open } else { results.noise.closed };
        body.push_str(&axis(y, scenarios.len() as f64 * ROW, reach, noise));
        for scenario in scenarios {
            body.push_str(&row(scenario, y + ROW / 2.0, reach));
            y += ROW;
        }
        body.push_str(&ticks(y + 14.0, reach));
        y += 22.0;
    }
    if results.scenarios.iter().any(Compared::generator_was_limit) {
        y += 10.0;
        body.push_str(&text(0.0, y, "label", "start", &format!("† {GENERATOR_BOUND}")));
    }
    let height = y + 8.0;
    let style = if is_alone { format!("<style>{STYLE}</style>\n") } else { String::new() };
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">\n\
         <title>Reactor and threads compared in each scenario</title>\n{style}{body}</svg>\n"
    )
}

/// Ratio at the ends of the axis.
fn reach(results: &Results) -> f64 {
    let ratios = results.scenarios.iter().filter_map(Compared::main_ratio).map(|ratio| ratio.ratio);
    let furthest = ratios.flat_map(|ratio| [ratio.value, 1.0 / ratio.value.max(1e-9)]).fold(1.0, f64::max);
    (furthest * 1.15).clamp(RATIO_SHOWN_MIN, RATIO_MAX)
}

fn x_at(ratio: f64, reach: f64) -> f64 {
    let share = (ratio.clamp(1.0 / reach, reach).ln() / reach.ln() + 1.0) / 2.0;
    AXIS_LEFT + share * (AXIS_RIGHT - AXIS_LEFT)
}

fn axis(top: f64, height: f64, reach: f64, noise: f64) -> String {
    let mut svg = String::new();
    let (from, to) = (x_at(1.0 / (1.0 + noise), reach), x_at(1.0 + noise, reach));
    let _ = writeln!(
        svg,
        "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" class=\"noise\"><title>difference of a server from itself</title></rect>",
        to - from
    );
    for ratio in marks(reach) {
        let class = if (ratio - 1.0).abs() < 1e-9 { "axis" } else { "grid" };
        let _ =
            writeln!(svg, "<path d=\"M{:.1} {top:.1}v{height:.1}\" class=\"{class}\"/>", x_at(ratio, reach));
    }
    svg
}

/// Ratios that get a grid line. There are few of them, so that their labels stay readable.
fn marks(reach: f64) -> Vec<f64> {
    let steps: &[f64] = match reach {
        reach if reach < 1.9 => &[1.25, 1.5],
        reach if reach < 4.5 => &[1.5, 2.0, 3.0, 4.0],
        reach if reach < 9.0 => &[2.0, 4.0, 8.0],
        _ => &[2.0, 5.0, 10.0],
    };
    let above: Vec<f64> = steps.iter().copied().filter(|ratio| *ratio <= reach).collect();
    let below = above.iter().rev().map(|ratio| 1.0 / ratio);
    below.chain([1.0]).chain(above.iter().copied()).collect()
}

fn ticks(y: f64, reach: f64) -> String {
    let words = |ratio: f64| match ratio {
        ratio if ratio < 0.999 => format!("{}× ", trimmed(1.0 / ratio)).trim_end().to_owned(),
        ratio if ratio > 1.001 => format!("{}×", trimmed(ratio)),
        _ => "1".to_owned(),
    };
    marks(reach)
        .into_iter()
        .map(|ratio| text(x_at(ratio, reach), y, "tick", "middle", &words(ratio)))
        .collect()
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn row(scenario: &Compared, y: f64, reach: f64) -> String {
    let mut svg = text(0.0, y + 4.0, "name", "start", &scenario.title);
    for (side, end) in scenario.sides.iter().zip([FIRST_END, SECOND_END]) {
        let class = if side.errors.total() > 0 { "figure bad" } else { "figure" };
        let mark = if side.generator_was_limit() { " †" } else { "" };
        svg.push_str(&text(end, y + 4.0, class, "end", &format!("{}{mark}", figure(scenario.pace, side))));
    }
    let Some(ratio) = scenario.main_ratio() else { return svg };
    let times = |factor: f64| if factor < 10.0 { format!("{factor:.2}×") } else { format!("{factor:.0}×") };
    let (class, words) = match ratio.verdict {
        Verdict::Faster => ("0", format!("{} faster", times(ratio.ratio.value))),
        Verdict::Slower => ("1", format!("{} slower", times(1.0 / ratio.ratio.value.max(1e-9)))),
        Verdict::NoDifference => ("e", "no difference".to_owned()),
    };
    let at = |value: f64| x_at(value, reach);
    let tip = escape(&format!("{}: {}, {}", scenario.name, ratio_words(ratio.ratio), ratio.verdict));
    let _ = writeln!(
        svg,
        "<path d=\"M{:.1} {y:.1}H{:.1}\" class=\"span c{class}\"/>\n\
         <circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\" class=\"dot f{class}\"><title>{tip}</title></circle>",
        at(ratio.ratio.low),
        at(ratio.ratio.high),
        at(ratio.ratio.value)
    );
    svg.push_str(&text(VERDICT_START, y + 4.0, &format!("verdict t{class}"), "start", &words));
    svg
}
