//! The chart and the ratio of the home page, generated from the results in the repository.
//!
//! They stand in `www/index.html` between two comments. Must not know how results are measured.

use std::fmt::Write as _;

use super::results::{Compared, Results};
use super::words::grouped;
use super::{Fallible, MODELS};

/// Scenarios of the chart and their labels. The last one is won by threads.
const ROWS: [(&str, &str); 3] = [
    ("connections-1000", "1,000 connections"),
    ("hello", "64 connections"),
    ("block", "64 connections, 2 % of requests block 10 ms"),
];
/// Name of a model on the page and class of its bars, in the order of [`MODELS`].
const SIDES: [(&str, &str); 2] = [("the loop", "loop"), ("threads", "twin")];
/// Length of the longest bar, and distance between two rows, in units of the chart.
const BAR_WIDTH: f64 = 300.0;
const ROW_HEIGHT: usize = 88;

const BEGIN: &str = "<!-- Made by `cargo bench --bench versus -- --readme`: -->\n";
const END: &str = "          <!-- end -->\n";

/// Returns `page` with the chart of these results.
pub(crate) fn update(page: &str, results: &Results) -> Fallible<String> {
    let missing = "www/index.html has no place for the chart";
    let (before, rest) = page.split_once(BEGIN).ok_or(missing)?;
    let (_, after) = rest.split_once(END).ok_or(missing)?;
    Ok([before, BEGIN, &chart(results)?, &sentence(results)?, END, after].concat())
}

fn scenario<'a>(results: &'a Results, name: &str) -> Fallible<&'a Compared> {
    Ok(results.scenario(name).ok_or_else(|| format!("no scenario {name} in the results"))?)
}

/// Responses per second of both models.
fn rates(compared: &Compared) -> Fallible<[f64; 2]> {
    let rate = |model: &str| compared.side(model).map(|side| side.middle(|round| round.rate));
    Ok([rate(MODELS[0]).ok_or("no reactor")?, rate(MODELS[1]).ok_or("no threads")?])
}

fn chart(results: &Results) -> Fallible<String> {
    let mut rows = Vec::new();
    for (name, label) in ROWS {
        rows.push((label, rates(scenario(results, name)?)?));
    }
    let most = rows.iter().flat_map(|(_, rates)| *rates).fold(1.0, f64::max);
    let spoken = |(label, [first, other]): &(&str, [f64; 2])| {
        format!("{label}: {} with the loop, {} with threads.", grouped(*first), grouped(*other))
    };
    let description: Vec<String> = rows.iter().map(spoken).collect();
    let mut out = format!(
        "          <svg class=\"picture bars\" viewBox=\"0 0 380 290\" role=\"img\" aria-labelledby=\"race-title race-desc\">
            <title id=\"race-title\">Responses per second of both models</title>
            <desc id=\"race-desc\">{}</desc>\n",
        description.join(" ")
    );
    for (at, (label, rates)) in rows.iter().enumerate() {
        let top = 16 + at * ROW_HEIGHT;
        writeln!(out, "            <text class=\"soft\" x=\"0\" y=\"{top}\">{label}</text>")?;
        for (side, (rate, (_, class))) in rates.iter().zip(SIDES).enumerate() {
            let (y, width) = (top + 8 + side * 25, (rate / most * BAR_WIDTH).max(1.0));
            writeln!(
                out,
                "            <rect class=\"{class}\" x=\"1\" y=\"{y}\" width=\"{width:.0}\" height=\"20\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{}</text>",
                width + 8.0,
                y + 15,
                grouped(*rate)
            )?;
        }
    }
    for (side, (name, class)) in SIDES.into_iter().enumerate() {
        let x = 1 + side * 110;
        writeln!(
            out,
            "            <rect class=\"{class}\" x=\"{x}\" y=\"270\" width=\"14\" height=\"14\"/>\
             <text x=\"{}\" y=\"282\">{name}</text>",
            x + 21
        )?;
    }
    out.push_str(
        "            <text class=\"soft\" x=\"379\" y=\"282\" text-anchor=\"end\">responses/s</text>\n",
    );
    out.push_str("          </svg>\n");
    Ok(out)
}

/// The ratio of the first row, with its interval and the noise of the machine.
fn sentence(results: &Results) -> Fallible<String> {
    let ratio = scenario(results, ROWS[0].0)?.main_ratio().ok_or("no ratio")?.ratio;
    Ok(format!(
        "          <p>Both models are one program with a different option, and share everything except the loop. The \
         benchmark runs them in interleaved rounds. With {} the loop sends <b>{:.2} times</b> as many responses \
         ({} interval: {:.2} to {:.2}), on a machine on which two equal servers differ by up to {:.0} %. If a handler \
         blocks, threads win.</p>\n",
        ROWS[0].1,
        ratio.value,
        results.coverage_words(),
        ratio.low,
        ratio.high,
        results.noise.closed * 100.0
    ))
}
