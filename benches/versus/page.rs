//! `report.html`: a self-contained page with a light and a dark theme.

use std::fmt::Write;

use super::MODELS;
use super::chart::{Axis, Bar, Line, PALE, Scale, bars, escape, lines};
use super::forest_plot;
use super::results::{Compared, Loop, Results, Round, SideResult};
use super::stats::Verdict;
use super::table::cost_cells;
use super::words::{grouped, ratio_words, time};

/// An offered rate is past the knee if its 99th percentile exceeds that of the lowest rate by this
/// factor.
const KNEE: f64 = 5.0;

const MIB: f64 = 1024.0 * 1024.0;

/// Renders the page.
pub(crate) fn html(results: &Results) -> String {
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Whirligig: reactor and threads compared</title>\n\
         <style>\n{}{}</style>\n</head>\n<body>\n<main>\n",
        forest_plot::STYLE,
        include_str!("page.css")
    );
    let _ = writeln!(
        page,
        "<h1>One event loop compared with a thread per connection</h1>\n<p class=\"lead\">{}</p>",
        summary(results)
    );
    let _ = writeln!(
        page,
        "<p class=\"soft\">{}. {}, {} run.</p>",
        escape(&results.conditions()),
        results.when,
        results.mode
    );
    for warning in &results.warnings {
        let _ = writeln!(page, "<p class=\"warning\">{}</p>", escape(warning));
    }
    let _ = writeln!(
        page,
        "<figure class=\"wide\">{}<figcaption>{}</figcaption></figure>",
        forest_plot::picture(results, false),
        reading(results)
    );
    page.push_str(&section(results, Loop::Closed));
    page.push_str(&section(results, Loop::Open));
    page.push_str(&pictures(results));
    page.push_str(&costs(results));
    page.push_str(&noise(results));
    page.push_str(&left_out(results));
    page.push_str(&machine(results));
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Counts the verdicts in one sentence.
fn summary(results: &Results) -> String {
    let of = |verdict: Verdict| {
        let all =
            results.scenarios.iter().filter(|s| s.main_ratio().is_some_and(|ratio| ratio.verdict == verdict));
        all.count()
    };
    format!(
        "Of {} scenarios the reactor is <b class=\"t0\">faster in {}</b> and <b class=\"t1\">slower in {}</b>; in {} there \
         is no difference beyond noise.",
        results.scenarios.len(),
        of(Verdict::Faster),
        of(Verdict::Slower),
        of(Verdict::NoDifference)
    )
}

fn reading(results: &Results) -> String {
    format!(
        "Each dot is the median ratio of {} paired rounds. The line is an interval that contains the true median with a \
         probability of at least {}. The band is the difference between two servers of the same kind on this machine. \
         Closed loops compare rates, open loops 99th percentiles; to the right of 1 the reactor is better. Both models are \
         the same executable on the same processor.",
        results.rounds,
        results.coverage_words()
    )
}

/// Names of all servers in these scenarios, in the order of the report.
fn names<'a>(scenarios: &[&'a Compared]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for side in scenarios.iter().flat_map(|scenario| &scenario.sides) {
        if !names.contains(&side.name.as_str()) {
            names.push(&side.name);
        }
    }
    names
}

/// Renders the table of one kind of loop. The two kinds measure different things and never share a
/// column.
fn section(results: &Results, pace: Loop) -> String {
    let scenarios: Vec<&Compared> = results.scenarios.iter().filter(|s| s.pace == pace).collect();
    if scenarios.is_empty() {
        return String::new();
    }
    let (heading, words, figures): (_, _, &[&str]) = match pace {
        Loop::Closed => (
            "Maximum throughput",
            "Closed loop: each connection sends its next request as soon as its response is complete. Does not show how \
             long users wait. If the generator was the limit, compare the processor time.",
            &["responses/s", "CPU µs each"],
        ),
        Loop::Open => (
            "Latency at a fixed rate",
            "Open loop: requests are due at a fixed rate, and latency counts from the time at which a request was due. So a \
             stalled server is charged for requests that could not be sent in time. 100 % load is the rate of the \
             slower model in a closed loop.",
            &["p50", "p99", "p99.9"],
        ),
    };
    let sides = names(&scenarios);
    let mut html =
        format!("<h2>{heading}</h2>\n<p>{words}</p>\n<div class=\"scroll\"><table>\n<thead><tr><th></th>");
    if pace == Loop::Open {
        html.push_str("<th>offered/s</th>");
    }
    for side in &sides {
        for figure in figures {
            let _ = write!(html, "<th>{}<br>{figure}</th>", escape(side));
        }
    }
    html.push_str("<th>ratio</th><th class=\"words\">the reactor is</th></tr></thead>\n<tbody>\n");
    for scenario in scenarios {
        html.push_str(&row(scenario, &sides));
    }
    html.push_str("</tbody></table></div>\n");
    html
}

fn row(scenario: &Compared, sides: &[&str]) -> String {
    let mut html =
        format!("<tr><th>{}<br><code>{}</code></th>", escape(&scenario.title), escape(&scenario.name));
    if scenario.pace == Loop::Open {
        let offered = scenario.offered.map(grouped);
        let _ = write!(html, "<td>{}</td>", offered.unwrap_or_default());
    }
    for name in sides {
        let cells = match (scenario.side(name), scenario.pace) {
            (None, Loop::Closed) => vec!["–".to_owned(); 2],
            (None, Loop::Open) => vec!["–".to_owned(); 3],
            (Some(side), Loop::Closed) => closed_cells(side),
            (Some(side), Loop::Open) => {
                let us = |figure: fn(&Round) -> f64| time(side.middle(figure));
                let p999 = us(|round| round.p999_us) + &errors(side);
                vec![us(|round| round.p50_us), us(|round| round.p99_us), p999]
            }
        };
        for cell in cells {
            let _ = write!(html, "<td>{cell}</td>");
        }
    }
    let (mut ratios, mut verdicts) = (Vec::new(), Vec::new());
    for ratio in &scenario.ratios {
        let against = if scenario.ratios.len() > 1 {
            format!(" than {}", escape(&ratio.against))
        } else {
            String::new()
        };
        let class = match ratio.verdict {
            Verdict::Faster => "t0",
            Verdict::Slower => "t1",
            Verdict::NoDifference => "soft",
        };
        ratios.push(ratio_words(ratio.ratio));
        verdicts.push(format!("<span class=\"{class}\">{}{against}</span>", ratio.verdict));
    }
    let _ = writeln!(
        html,
        "<td>{}</td><td class=\"words\">{}</td></tr>",
        ratios.join("<br>"),
        verdicts.join("<br>")
    );
    html
}

fn closed_cells(side: &SideResult) -> Vec<String> {
    let bound = if side.generator_was_limit() { "<br><i>generator-bound</i>" } else { "" };
    let rate = grouped(side.middle(|round| round.rate));
    vec![format!("{rate}{bound}{}", errors(side)), format!("{:.2}", side.middle(|round| round.cpu_us_each))]
}

/// Errors are always shown.
fn errors(side: &SideResult) -> String {
    match side.errors.total() {
        0 => String::new(),
        count => {
            format!("<br><b class=\"bad\" title=\"{}\">{count} errors</b>", escape(&side.errors.to_string()))
        }
    }
}

/// Makes one line per server from these scenarios.
fn curves(scenarios: &[&Compared], point: impl Fn(&Compared, &SideResult) -> (f64, f64)) -> Vec<Line> {
    let curve = |(colour, name): (usize, &str)| {
        let sides = scenarios.iter().filter_map(|scenario| scenario.side(name).map(|side| (*scenario, side)));
        let mut points: Vec<(f64, f64)> = sides.map(|(scenario, side)| point(scenario, side)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { name: name.to_owned(), colour: colour % 5, points, ringed: None }
    };
    names(scenarios).into_iter().enumerate().map(curve).collect()
}

fn whole(number: f64) -> String {
    grouped(number)
}

/// Formats a number with at most one decimal.
fn trimmed(number: f64) -> String {
    if number >= 10.0 { grouped(number) } else { format!("{number:.1}").trim_end_matches(".0").to_owned() }
}

/// Formats a time on an axis: `2 ms` instead of `2.00 ms`.
fn round_time(us: f64) -> String {
    time(us).replace(".00 ", " ").replace(".0 ", " ")
}

fn thousands(number: f64) -> String {
    if number >= 1_000.0 { format!("{}k", grouped(number / 1_000.0)) } else { grouped(number) }
}

fn pictures(results: &Results) -> String {
    let mut html = String::from("<h2>Pictures</h2>\n<div class=\"pictures\">\n");
    let ladder: Vec<&Compared> = results.scenarios.iter().filter(|s| s.on_ladder).collect();
    let mut put = |svg: Option<String>, title: &str, words: &str| {
        if let Some(svg) = svg {
            let _ = writeln!(html, "<figure><h3>{title}</h3>{svg}<figcaption>{words}</figcaption></figure>");
        }
    };
    let connections = || Axis {
        ticks: ladder.iter().map(|scenario| f64::from(scenario.connections)).collect(),
        ..Axis::new("connections", Scale::Log, whole)
    };
    let rates =
        curves(&ladder, |scenario, side| (f64::from(scenario.connections), side.middle(|round| round.rate)));
    let up = Axis::new("responses per second", Scale::Linear, thousands);
    put(
        lines("Throughput against connections", &connections(), &up, &rates),
        "Throughput against connections",
        "Closed loop, a 13-byte response.",
    );
    let memory = curves(&ladder, |scenario, side| {
        (f64::from(scenario.connections), side.middle(|round| round.resident_bytes as f64) / MIB)
    });
    let up = Axis::new("resident memory, MiB", Scale::Log, trimmed);
    put(
        lines("Memory against connections", &connections(), &up, &memory),
        "Memory against connections",
        "The whole process while all connections are busy. Kernel memory for sockets and stacks is not included.",
    );
    let (svg, words) = knee(results);
    put(svg, "Latency against offered rate", &words);
    for scenario in results.scenarios.iter().filter(|s| s.pace == Loop::Open) {
        let words = format!(
            "{}: all rounds, counted from the time at which a request was due.",
            escape(&scenario.title)
        );
        put(spectrum(scenario), &format!("Latency spectrum, {}", escape(&scenario.name)), &words);
    }
    put(
        turn_bars(results),
        "Where a turn's time goes",
        "Times that the reactor measures itself, in a separate run, because this reads the clock about ten times per turn. \
         Reading and writing are mostly time in the kernel; waiting is idle time.",
    );
    html.push_str("</div>\n");
    html
}

/// Draws latency over percentiles, on a scale that spreads the high percentiles.
fn spectrum(scenario: &Compared) -> Option<String> {
    let curve = |(colour, side): (usize, &SideResult)| Line {
        name: side.name.clone(),
        colour: colour % 5,
        // 100 % would be at infinity.
        points: side
            .spectrum_us
            .iter()
            .filter(|(q, _)| *q < 1.0)
            .map(|(q, us)| (1.0 / (1.0 - q), *us))
            .collect(),
        ringed: None,
    };
    let curves: Vec<Line> = scenario.sides.iter().enumerate().map(curve).collect();
    let show = |rarity: f64| {
        let percent = format!("{:.2}", 100.0 - 100.0 / rarity.max(1.0));
        format!("{} %", percent.trim_end_matches('0').trim_end_matches('.'))
    };
    let across = Axis {
        ticks: vec![1.0, 2.0, 10.0, 100.0, 1_000.0, 10_000.0],
        ..Axis::new("of all responses took at most this long", Scale::Log, show)
    };
    lines(&scenario.title, &across, &Axis::new("latency", Scale::Log, round_time), &curves)
}

/// Draws the 99th percentile over the offered rate and marks the knee of each curve.
fn knee(results: &Results) -> (Option<String>, String) {
    let steps: Vec<&Compared> = results.scenarios.iter().filter(|s| s.name.starts_with("open-")).collect();
    let mut curves =
        curves(&steps, |scenario, side| (scenario.offered.unwrap_or(0.0), side.middle(|round| round.p99_us)));
    let mut words = String::from("Open loop, 99th percentile.");
    for curve in curves.iter_mut().filter(|curve| curve.points.len() > 2) {
        let ground = curve.points[0].1;
        let before = curve.points.iter().take_while(|(_, us)| *us <= ground * KNEE).count();
        if before < curve.points.len() {
            curve.ringed = Some(before - 1);
            let rate = grouped(curve.points[before - 1].0);
            let _ = write!(words, " Knee of {}: {rate}/s.", escape(&curve.name));
        } else {
            let _ = write!(words, " {} has no knee up to the highest rate.", escape(&curve.name));
        }
    }
    let _ =
        write!(words, " The knee (ringed) is the last rate before p99 is {KNEE} times that of the lowest.");
    if steps.iter().all(|scenario| scenario.sides.len() < 2) || steps.len() < 3 {
        "Open loop, 99th percentile. Too few rates for a knee; a full run has seven.".clone_into(&mut words);
    }
    let across = Axis::new("offered requests per second", Scale::Linear, thousands);
    (
        lines("Latency against offered rate", &across, &Axis::new("p99", Scale::Log, round_time), &curves),
        words,
    )
}

fn turn_bars(results: &Results) -> Option<String> {
    const NAMES: [(&str, usize); 5] =
        [("reading", 0), ("handling", 1), ("writing", 3), ("keeping", 2), ("waiting", PALE)];
    let bar = |scenario: &Compared| {
        let spent = scenario.side(MODELS[0])?.activities?;
        let parts = [spent.reading, spent.handling, spent.writing, spent.keeping, spent.waiting];
        let sum: f64 = parts.iter().sum();
        (sum > 0.0).then(|| Bar {
            name: scenario.name.clone(),
            shares: parts.iter().map(|part| part / sum).collect(),
        })
    };
    let all: Vec<Bar> = results.scenarios.iter().filter_map(bar).collect();
    bars("Where a turn's time goes", &NAMES, &all)
}

fn costs(results: &Results) -> String {
    let mut html = String::from(
        "<h2>Costs</h2>\n<p>Per response: processor time, system calls and context switches (counted in runs that are not \
         timed; – is unknown). Then threads, resident bytes added by each connection, events per wait of the loop, and the \
         share of processor time in user mode.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th></th>\
         <th class=\"words\">server</th><th>CPU µs</th><th>calls</th><th>switches</th><th>threads</th>\
         <th>bytes per connection</th><th>events per turn</th><th>user time</th></tr></thead>\n<tbody>\n",
    );
    for scenario in &results.scenarios {
        for (number, side) in scenario.sides.iter().enumerate() {
            let name = if number == 0 { escape(&scenario.title) } else { String::new() };
            let _ = write!(html, "<tr><th>{name}</th><td class=\"words\">{}</td>", escape(&side.name));
            for cell in cost_cells(side, scenario.connections) {
                let _ = write!(html, "<td>{}</td>", if cell == "-" { "–" } else { &cell });
            }
            let user = side.user_share().map_or("–".to_owned(), |share| format!("{:.0} %", share * 100.0));
            let _ = writeln!(html, "<td>{user}</td></tr>");
        }
    }
    html.push_str("</tbody></table></div>\n");
    html
}

fn noise(results: &Results) -> String {
    let mut html = format!(
        "<h2>A against A</h2>\n<p>Each model was first compared with itself. A difference counts if it exceeds {:.1} % in rate or \
         {:.1} % in latency, and if its interval does not contain 1.</p>\n<ul>\n",
        results.noise.closed * 100.0,
        results.noise.open * 100.0
    );
    for check in &results.noise.checks {
        let _ = writeln!(html, "<li>{}: {}</li>", escape(&check.name), ratio_words(check.ratio));
    }
    html.push_str("</ul>\n");
    html
}

fn left_out(results: &Results) -> String {
    if results.not_run.is_empty() {
        return String::new();
    }
    let mut html = "<h2>Not run</h2>\n<ul>\n".to_owned();
    for (why, names) in results.left_out() {
        let names: Vec<String> =
            names.into_iter().map(|name| format!("<code>{}</code>", escape(name))).collect();
        let _ = writeln!(html, "<li>{}: {}</li>", escape(why), names.join(", "));
    }
    html.push_str("</ul>\n");
    html
}

fn machine(results: &Results) -> String {
    let machine = &results.machine;
    let list = |cpus: &[usize]| {
        let words: Vec<String> = cpus.iter().map(usize::to_string).collect();
        if words.is_empty() { "any".to_owned() } else { words.join(", ") }
    };
    let pairs = [
        ("Processor", machine.cpu.clone()),
        ("Processors", machine.processors.to_string()),
        (
            "Governor",
            if machine.governor.is_empty() { "unknown".to_owned() } else { machine.governor.clone() },
        ),
        ("Memory", format!("{} MiB", grouped(machine.memory_mib as f64))),
        ("Kernel", machine.kernel.clone()),
        ("Descriptors", grouped(machine.descriptors_max as f64)),
        ("Listen backlog", grouped(machine.backlog_max as f64)),
        ("Compiler", machine.rustc.clone()),
        ("Revision", machine.revision.clone()),
        ("Servers on", list(&machine.server_processors)),
        ("Generator on", list(&machine.generator_processors)),
        (
            "Generator",
            if machine.generator_spins { "polls in a busy loop" } else { "sleeps while it polls" }.to_owned(),
        ),
        ("Rounds", format!("{} of {} ms", results.rounds, results.measured_ms)),
        ("Seed", results.seed.to_string()),
        ("Command", results.command.clone()),
    ];
    let rows: String = pairs
        .into_iter()
        .map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(&value)))
        .collect();
    format!(
        "<h2>Machine</h2>\n<dl>\n{rows}</dl>\n<p class=\"soft\"><code>results.json</code> and <code>results.csv</code> next to \
         this page contain every run of every round. <code>summary.md</code> contains the tables for a pull request.</p>\n"
    )
}
