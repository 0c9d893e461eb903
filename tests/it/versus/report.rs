//! Output of the benchmark: results that conform to their schema, a self-contained report, and
//! pages that agree with the stored results.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::bench::load::Errors;
use super::bench::machine::kernel_version;
use super::bench::results::{
    Activities, Compared, Loop, NotRun, Ratio, Results, Round, SCHEMA, SideResult, Turns,
};
use super::bench::run::whole;
use super::bench::stats::{Estimate, Verdict};
use super::bench::{forest_plot, home, page, readme, table};

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn side(name: &str, rate: f64) -> SideResult {
    let round = |place| Round {
        place,
        rate,
        p50_us: 100.0,
        p99_us: 1e8 / rate,
        p999_us: 2e8 / rate,
        cpu_us_each: 1e6 / rate,
        threads: 1,
        resident_bytes: 5_000_000,
        ..Round::default()
    };
    SideResult {
        name: name.to_owned(),
        rounds: vec![round(1), round(2)],
        spectrum_us: vec![(0.0, 10.0), (0.5, 100.0), (0.99, 900.0), (1.0, 1000.0)],
        ..SideResult::default()
    }
}

fn compared(name: &str, pace: Loop, rates: [f64; 2], verdict: Verdict) -> Compared {
    let value = rates[0] / rates[1];
    Compared {
        name: name.to_owned(),
        title: format!("the scenario {name}"),
        pace,
        connections: 64,
        offered: (pace == Loop::Open).then_some(1_000.0),
        on_ladder: true,
        sides: vec![side("reactor", rates[0]), side("threads", rates[1])],
        ratios: vec![Ratio {
            against: "threads".to_owned(),
            ratio: Estimate { value, low: value * 0.95, high: value * 1.05 },
            verdict,
        }],
    }
}

/// Results with some of everything: a win, a loss, errors, a peer with special characters in its
/// name, a scenario left out, a warning.
fn sample() -> Results {
    let mut hello = compared("hello", Loop::Closed, [130_000.0, 100_000.0], Verdict::Faster);
    hello.sides[0].turns = Some(Turns { turns: 10.0, events: 45.0, working: 0.1, wall: 1.0 });
    hello.sides[0].activities = Some(Activities { reading: 0.3, writing: 0.5, ..Activities::default() });
    hello.sides[0].syscalls_each = Some(2.02);
    hello.sides.push(side("a <b> & \"c\"", 90_000.0));
    let mut block = compared("block", Loop::Closed, [5_000.0, 50_000.0], Verdict::Slower);
    block.sides[1].errors = Errors { reset: 3, first: "a reset".to_owned(), ..Errors::default() };
    block.connections = 1_000;
    Results {
        schema: SCHEMA.to_owned(),
        mode: "quick".to_owned(),
        seed: 42,
        warnings: vec!["BUSY MACHINE: other programs".to_owned()],
        scenarios: vec![hello, block, compared("open-50", Loop::Open, [1e5, 1e5], Verdict::NoDifference)],
        not_run: vec![NotRun { name: "fan-out".to_owned(), why: "not with --quick".to_owned() }],
        ..Results::default()
    }
}

/// Checks that `value` conforms to `schema`, for the part of JSON Schema that ours uses.
fn judge_form(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    let complain = |what: &str| Err(format!("{at}: {what}, in {value}"));
    if let Some(name) = schema["$ref"].as_str() {
        return judge_form(value, &root["$defs"][name.trim_start_matches("#/$defs/")], root, at);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices.iter().any(|choice| judge_form(value, choice, root, at).is_ok());
        return if fits { Ok(()) } else { complain("none of the choices") };
    }
    if !schema["const"].is_null() && schema["const"] != *value {
        return complain("another constant");
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        return complain("not one of the allowed");
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => panic!("{at}: {kind} in the schema"),
    };
    let fits = match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    if !fits {
        return complain("another type");
    }
    if value.as_f64().zip(schema["minimum"].as_f64()).is_some_and(|(number, least)| number < least) {
        return complain("too small");
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        judge_form(item, &schema["items"], root, &format!("{at}[{number}]"))?;
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let Some(form) = schema["properties"].get(name) else {
            return complain(&format!("no {name} in the schema"));
        };
        judge_form(member, form, root, &format!("{at}.{name}"))?;
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match required.into_iter().find(|name| value.get(name).is_none()) {
        Some(name) => complain(&format!("{name} is missing")),
        None => Ok(()),
    }
}

fn schema() -> Value {
    let text = fs::read_to_string(home().join("benches/versus/results.schema.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn results_conform_to_the_schema() {
    let schema = schema();
    let results = serde_json::to_value(sample()).unwrap();
    judge_form(&results, &schema, &schema, "results").unwrap();
    // The check can fail: a missing member, an extra one, a wrong type, a wrong word.
    for (path, wrong) in [
        ("/seed", Value::from("42")),
        ("/mode", Value::from("slow")),
        ("/noise", serde_json::json!({})),
        ("/scenarios/0/sides/0/turns", Value::from(1)),
        ("/machine/more", Value::from(1)),
    ] {
        let mut broken = results.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        broken.pointer_mut(parent).unwrap()[name] = wrong;
        assert!(judge_form(&broken, &schema, &schema, "results").is_err(), "{path}");
    }
}

#[test]
fn results_are_read_back_from_their_file() {
    let text = serde_json::to_string(&sample()).unwrap();
    let back: Results = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
}

#[test]
fn the_report_is_self_contained_and_complete() {
    let html = page::html(&sample());
    for part in [
        "faster in 1</b>",
        "slower in 1</b>",
        "3 errors",
        "BUSY MACHINE",
        "not with --quick: <code>fan-out</code>",
        "prefers-color-scheme: dark",
        "Where a turn&#39;s time goes",
        "a &lt;b&gt; &amp; &quot;c&quot;",
        "Throughput against connections",
        "Memory against connections",
        "Latency spectrum",
    ] {
        assert!(html.contains(&part.replace("&#39;", "'")), "{part} is not in the report");
    }
    assert!(!html.contains("<b> &"), "a name that is not escaped");
    // The page loads nothing: no script, no style sheet, no external picture.
    for outside in ["<script", "<link", "src=", "url(", "@import"] {
        assert!(!html.contains(outside), "{outside} in the report");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
}

#[test]
fn closed_and_open_figures_never_share_a_column() {
    let markdown = sample().markdown();
    let (closed, open) = markdown.split_once("Open loop").unwrap();
    assert!(
        closed.contains("| the scenario block | 5,000 | 50,000 | 0.10 (0.10 to 0.11) | slower (3 errors) |"),
        "{closed}"
    );
    assert!(!closed.contains("open-50") && open.contains("open-50") && !open.contains("req/s"), "{open}");
    let text = table::text(&sample(), false);
    assert!(text.contains("ERRORS: 3 reset; first: a reset") && text.contains("NOT RUN"), "{text}");
    assert!(!text.contains('\x1b'), "colours without a terminal");
}

/// Every output must mark a ratio that the generator limited.
#[test]
fn every_output_marks_a_generator_that_was_the_limit() {
    let mut results = sample();
    assert!(!results.markdown().contains("enerator") && !forest_plot::picture(&results, true).contains('†'));
    for round in &mut results.scenarios[0].sides[1].rounds {
        round.busy = 0.97;
    }
    let markdown = results.markdown();
    assert!(markdown.contains("| faster (generator-bound) |"), "{markdown}");
    assert!(markdown.contains("Generator-bound: the generator was busy"), "{markdown}");
    let picture = forest_plot::picture(&results, true);
    assert!(picture.contains(">100,000 †<") && picture.contains(">† the generator was busy"), "{picture}");
    assert!(table::text(&results, false).contains("generator-bound"));
    assert!(page::html(&results).contains("generator-bound"));
}

#[test]
fn intervals_are_labelled_with_their_coverage() {
    let mut results = sample();
    for side in results.scenarios.iter_mut().flat_map(|scenario| &mut scenario.sides) {
        side.rounds = vec![side.rounds[0].clone(); 7];
    }
    assert!(results.markdown().contains("| ratio (98 %) |"), "{}", results.markdown());
    results.scenarios[1].sides[0].rounds.truncate(5);
    assert!(results.markdown().contains("| ratio (93 %) |"), "{}", results.markdown());
}

#[test]
fn a_run_with_failures_is_not_saved() {
    let mut results = sample();
    assert!(whole(&results).is_ok(), "a scenario that was left out has not failed");
    results.not_run.push(NotRun { name: "hello".to_owned(), why: "FAILED: it is gone".to_owned() });
    assert_eq!(whole(&results).unwrap_err().to_string(), "hello FAILED: it is gone");
}

#[test]
fn only_the_version_of_a_kernel_is_stored() {
    for (release, version) in [
        ("6.18.44-build-7", "6.18"),
        ("6.1.0-18-amd64", "6.1"),
        ("6.12.3+deb13", "6.12"),
        ("7.0", "7.0"),
        ("", ""),
    ] {
        assert_eq!(kernel_version(release), version);
    }
}

#[test]
fn the_csv_has_a_line_for_each_run() {
    let csv = sample().csv();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + 7 * 2);
    let columns = lines[0].split(',').count();
    assert!(lines.iter().all(|line| line.split(',').count() == columns), "{csv}");
    assert!(csv.contains("hello,closed,64,,\"a <b> & \"\"c\"\"\",1,1,90000.0,"), "{csv}");
}

#[test]
fn picture_table_and_home_page_show_the_results_that_are_kept() {
    let text = fs::read_to_string(readme::kept()).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let schema = schema();
    judge_form(&value, &schema, &schema, "results").unwrap();
    let results: Results = serde_json::from_str(&text).unwrap();
    let again = "`cargo bench --bench versus -- --readme` makes it again";
    assert_eq!(readme::page(&results), fs::read_to_string(readme::table()).unwrap(), "{again}");
    let picture = fs::read_to_string(readme::picture()).unwrap();
    assert_eq!(forest_plot::picture(&results, true), picture, "{again}");
    let front = fs::read_to_string(readme::front()).unwrap();
    assert_eq!(home::update(&front, &results).unwrap(), front, "{again}");
    assert!(home::update("<p>no place</p>", &results).is_err());
}
