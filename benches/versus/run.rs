//! One run of the benchmark: from the options to the report.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use whirligig::inside::http::date::iso8601;

use super::MODELS;
use super::measure::{Bench, Plan};
use super::options::Options;
use super::results::{NotRun, Results, SCHEMA};
use super::scenario::{Depth, Scenario};
use super::{Fallible, baseline, cpu, machine, page, readme, scenario, table};

/// Allowed difference between the ratios of `varied` and `file-1k` before a warning.
const VARIED_SHIFT_MAX: f64 = 0.05;
/// Noise above which a warning is printed.
const NOISE_MAX: f64 = 0.15;

/// Runs the benchmark as the options define.
pub(crate) fn run(options: &Options) -> Fallible<()> {
    let mut out = io::stdout().lock();
    if options.list {
        for scenario in scenario::all() {
            writeln!(out, "{:<18} {}", scenario.name, scenario.title)?;
        }
        return Ok(());
    }
    if options.readme {
        return readme::regenerate();
    }
    if let Some(name) = &options.report {
        return tell(&mut out, options, &baseline::load(name)?);
    }
    let (chosen, left_out) = options.choose()?;
    if cfg!(debug_assertions) {
        return Err("a debug build is not representative; use `cargo bench --bench versus`".into());
    }
    if let Some(name) = &options.baseline {
        // Detects a missing baseline before measuring for minutes.
        baseline::load(name)?;
    }
    let now = since_1970();
    let plan = options.plan(u64::from(now.subsec_nanos()));
    writeln!(
        out,
        "seed {}, {} rounds, {} of {} scenarios",
        plan.seed,
        plan.rounds,
        chosen.len(),
        scenario::all().len()
    )?;
    out.flush()?;

    let mut results = measure(options, plan, &chosen)?;
    results.when = iso8601(now.as_secs(), 0).replace(".000Z", "Z");
    results.not_run.extend(
        left_out
            .iter()
            .map(|scenario| NotRun { name: scenario.name.clone(), why: options.why_left_out(scenario) }),
    );
    tell(&mut out, options, &results)?;
    // Incomplete results must not become a baseline or part of the README.
    whole(&results)?;
    if let Some(name) = &options.save {
        writeln!(out, "saved as {}", baseline::save(&results, name)?.display())?;
    }
    if options.publish {
        readme::publish(&results)?;
    }
    judge_run(options, &results)
}

/// Prints the results and writes the report.
fn tell(out: &mut impl Write, options: &Options, results: &Results) -> Fallible<()> {
    write!(out, "{}", table::text(results, io::stdout().is_terminal()))?;
    if let Some(name) = &options.baseline {
        write!(out, "\n{}", baseline::changes(results, &baseline::load(name)?))?;
    }
    let report = write_report(results)?;
    writeln!(out, "\n{report}")?;
    if options.open {
        let opener = Command::new("xdg-open").arg(report).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        opener.map_err(|error| format!("xdg-open: {error}"))?;
    }
    Ok(())
}

/// Runs all chosen scenarios. A scenario that fails is listed with its reason, and the others still
/// run.
fn measure(options: &Options, plan: Plan, chosen: &[Scenario]) -> Fallible<Results> {
    cpu::raise_descriptor_limit();
    let mut results = Results {
        schema: SCHEMA.to_owned(),
        command: command_line(),
        mode: match options.depth() {
            Depth::Quick => "quick",
            Depth::Usual => "usual",
            Depth::Full => "full",
        }
        .to_owned(),
        seed: plan.seed,
        rounds: plan.rounds,
        measured_ms: plan.measure_ms,
        machine: machine::Machine {
            server_processors: plan.server_cpus.clone(),
            generator_processors: plan.generator_cpus.clone(),
            generator_spins: plan.spin,
            ..machine::look()
        },
        ..Results::default()
    };
    if !plan.spin {
        results
            .warnings
            .push("ONE PROCESSOR: servers and generator share it. Do not quote these figures.".to_owned());
    }
    results.warnings.extend(machine::busy_warning(machine::idle_look(), "before the measurement"));
    let others = machine::Others::watch();
    let mut bench = Bench::new(plan)?;
    bench.check(chosen)?;
    bench.expect(chosen);
    let noise = bench.measure_noise();
    bench.go_on().and(noise)?;
    for scenario in chosen {
        let measured = bench.run(scenario);
        // The signal that stops the benchmark also reaches servers and generator. Their failures
        // are then not their fault.
        bench.go_on()?;
        match measured {
            Ok(compared) => results.scenarios.push(compared),
            Err(error) => {
                results.not_run.push(NotRun { name: scenario.name.clone(), why: format!("FAILED: {error}") });
            }
        }
    }
    bench.done();
    results.noise = bench.noise.clone();
    results.warnings.extend(machine::busy_warning(others.share(), "during the measurement"));
    results.warnings.extend(warnings(&results));
    Ok(results)
}

/// Collects warnings that readers need before the figures.
fn warnings(results: &Results) -> Vec<String> {
    let mut warnings = Vec::new();
    let (closed, open) = (results.noise.closed, results.noise.open);
    if closed.max(open) > NOISE_MAX {
        warnings.push(format!(
            "NOISY MACHINE: two equal servers differ by up to {:.0} % in the closed loop and {:.0} % in the open loop. \
             Smaller differences cannot be measured here.",
            closed * 100.0,
            open * 100.0
        ));
    }
    let sides = results.scenarios.iter().flat_map(|scenario| &scenario.sides);
    let rounds = sides.map(|side| side.rounds.len()).min().unwrap_or(0);
    if !results.scenarios.is_empty() && rounds < results.rounds as usize {
        warnings.push(format!(
            "Time limit reached: some scenarios have only {rounds} of {} rounds.",
            results.rounds
        ));
    }
    let told_apart = VARIED_SHIFT_MAX.max(results.noise.closed);
    if let Some(shift) = results.varied_shift().filter(|shift| shift.abs() > told_apart) {
        warnings.push(format!(
            "If path and headers vary between requests, the ratio of reactor to threads changes by {:+.0} %.",
            shift * 100.0
        ));
    }
    for scenario in &results.scenarios {
        for side in scenario.sides.iter().filter(|side| side.errors.total() > 0) {
            warnings.push(format!("Errors in {} on {}: {}.", scenario.name, side.name, side.errors));
        }
    }
    for scenario in &results.scenarios {
        for side in &scenario.sides {
            let silent = side.rounds.iter().filter(|round| round.rate == 0.0).count();
            if silent > 0 {
                warnings.push(format!(
                    "{} on {} sent no response in {silent} rounds: its ratio means nothing.",
                    scenario.name, side.name
                ));
            }
        }
    }
    for failed in results.not_run.iter().filter(|left_out| left_out.why.starts_with("FAILED")) {
        warnings.push(format!("{} {}", failed.name, failed.why));
    }
    warnings
}

/// Writes report.html, results.json, results.csv and summary.md. Returns the URL of the report.
fn write_report(results: &Results) -> Fallible<String> {
    let folder = baseline::folder();
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("results.json"), serde_json::to_string_pretty(results)?)?;
    fs::write(folder.join("results.csv"), results.csv())?;
    fs::write(folder.join("summary.md"), results.markdown())?;
    let report = folder.join("report.html");
    fs::write(&report, page::html(results))?;
    Ok(format!("file://{}", report.display()))
}

/// Returns an error if one of the chosen scenarios failed.
pub(crate) fn whole(results: &Results) -> Fallible<()> {
    match results.not_run.iter().find(|left_out| left_out.why.starts_with("FAILED")) {
        Some(failed) => Err(format!("{} {}", failed.name, failed.why).into()),
        None => Ok(()),
    }
}

/// Returns an error if a verdict differs from the expected one.
fn judge_run(options: &Options, results: &Results) -> Fallible<()> {
    let Some(expected) = options.expect else { return Ok(()) };
    for scenario in &results.scenarios {
        let verdict = scenario.main_ratio().map(|ratio| ratio.verdict);
        if verdict != Some(expected) {
            let found = verdict.map_or("not judged".to_owned(), |verdict| verdict.to_string());
            return Err(format!(
                "{}: the verdict on {} is {found:?}, not {:?}",
                scenario.name,
                MODELS[0],
                expected.to_string()
            )
            .into());
        }
    }
    Ok(())
}

/// Returns the command line that repeats this run.
fn command_line() -> String {
    let own = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let quoted = own.map(|word| if word.contains([' ', '{', '\'']) { format!("{word:?}") } else { word });
    ["cargo bench --bench versus --".to_owned()].into_iter().chain(quoted).collect::<Vec<String>>().join(" ")
}

#[expect(clippy::disallowed_methods, reason = "the date of a report, and a seed that is printed")]
fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
