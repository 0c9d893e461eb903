//! Results as text on a terminal.

use std::fmt::Write;

use super::results::{Compared, Loop, Results, SideResult};
use super::stats::Verdict;
use super::words::{bytes, grouped, ratio_words, time};

/// Formats all results. `is_coloured` adds terminal colours.
pub(crate) fn text(results: &Results, is_coloured: bool) -> String {
    let mut out = String::new();
    for warning in &results.warnings {
        let _ = writeln!(out, "{}", paint(&format!("! {warning}"), "1;33", is_coloured));
    }
    let noise = &results.noise;
    let _ = writeln!(
        out,
        "\nA against A: two equal servers differ by up to {:.1} % in rate, {:.1} % in latency.\n\
         A difference counts if it is greater and its {} interval does not contain 1. Above 1 the reactor is better.",
        noise.closed * 100.0,
        noise.open * 100.0,
        results.coverage_words()
    );
    for (pace, heading) in [
        (Loop::Closed, "CLOSED LOOP   responses per second (processor µs for each)"),
        (Loop::Open, "OPEN LOOP   p99, counted from the time at which a request was due (p50, p99.9)"),
    ] {
        let scenarios: Vec<&Compared> = results.scenarios.iter().filter(|s| s.pace == pace).collect();
        if scenarios.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n{}", paint(heading, "1", is_coloured));
        for scenario in scenarios {
            compared(&mut out, scenario, is_coloured);
        }
    }
    costs(&mut out, results, is_coloured);
    for (why, names) in results.left_out() {
        let _ = writeln!(out, "\n{}   {why}", paint("NOT RUN", "1", is_coloured));
        for line in names.chunks(6) {
            let _ = writeln!(out, "  {}", line.join("  "));
        }
    }
    let _ = writeln!(out, "\n{}", results.conditions());
    out
}

fn compared(out: &mut String, scenario: &Compared, is_coloured: bool) {
    for (number, side) in scenario.sides.iter().enumerate() {
        let name = if number == 0 { scenario.name.as_str() } else { "" };
        let figures = match scenario.pace {
            Loop::Closed => {
                let rate = grouped(side.middle(|round| round.rate));
                format!("{rate:>11} ({:.2})", side.middle(|round| round.cpu_us_each))
            }
            Loop::Open => {
                let us = |figure: fn(&super::results::Round) -> f64| time(side.middle(figure));
                let p99 = us(|round| round.p99_us);
                format!("{p99:>11} ({}, {})", us(|round| round.p50_us), us(|round| round.p999_us))
            }
        };
        // The ratios compare the first server with each of the others.
        let verdict = number.checked_sub(1).and_then(|at| scenario.ratios.get(at)).map(|ratio| {
            let colour = match ratio.verdict {
                Verdict::Faster => "32",
                Verdict::Slower => "31",
                Verdict::NoDifference => "2",
            };
            let words = format!(
                "{:<22} {}",
                ratio_words(ratio.ratio),
                paint(&ratio.verdict.to_string(), colour, is_coloured)
            );
            words
        });
        let _ = write!(out, "  {name:<18} {:<9} {figures:<32} {}", side.name, verdict.unwrap_or_default());
        let _ = writeln!(out, "{}", remarks(side, is_coloured));
    }
}

/// Formats reasons to doubt a figure: errors, or a generator that was the limit.
fn remarks(side: &SideResult, is_coloured: bool) -> String {
    let mut text = String::new();
    if side.errors.total() > 0 {
        let _ = write!(text, "  {}", paint(&format!("ERRORS: {}", side.errors), "1;31", is_coloured));
    }
    if side.generator_was_limit() {
        text.push_str("  generator-bound: compare processor time");
    }
    text
}

fn costs(out: &mut String, results: &Results, is_coloured: bool) {
    let heading = "COSTS   per response (- is unknown); threads and resident memory during the measurement";
    let _ = writeln!(out, "\n{}", paint(heading, "1", is_coloured));
    let _ = writeln!(
        out,
        "  {:<18} {:<9} {:>8} {:>8} {:>8} {:>8} {:>11} {:>12}",
        "", "", "cpu µs", "calls", "switches", "threads", "B/connection", "events/turn"
    );
    for scenario in &results.scenarios {
        for (number, side) in scenario.sides.iter().enumerate() {
            let name = if number == 0 { scenario.name.as_str() } else { "" };
            let cells = cost_cells(side, scenario.connections);
            let _ = writeln!(
                out,
                "  {name:<18} {:<9} {:>8} {:>8} {:>8} {:>8} {:>11} {:>12}",
                side.name, cells[0], cells[1], cells[2], cells[3], cells[4], cells[5]
            );
        }
    }
}

/// Formats the costs: processor time, system calls and context switches per response; threads;
/// bytes per connection; events per turn.
pub(crate) fn cost_cells(side: &SideResult, connections: u32) -> [String; 6] {
    let known = |figure: Option<String>| figure.unwrap_or_else(|| "-".to_owned());
    let turns = side.turns.filter(|turns| turns.turns > 0.0);
    [
        format!("{:.2}", side.middle(|round| round.cpu_us_each)),
        known(side.syscalls_each.map(|count| format!("{count:.2}"))),
        known(side.switches_each.map(|count| format!("{count:.3}"))),
        format!("{:.0}", side.middle(|round| round.threads as f64)),
        known(side.bytes_each(connections).map(bytes)),
        known(turns.map(|turns| format!("{:.1}", turns.events / turns.turns))),
    ]
}

fn paint(text: &str, code: &str, is_coloured: bool) -> String {
    if is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
