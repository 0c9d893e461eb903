//! One run from its options to its report.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use whirligig::http::date::iso8601;

use super::measure::{Bench, MODELS, Plan};
use super::options::Options;
use super::results::{NotRun, Results, SCHEMA};
use super::scenario::{Depth, Scenario};
use super::{Fallible, baseline, cpu, machine, page, readme, scenario, table};

/// The ratio where every request is another one may differ so much from that where all are alike.
const VARIED_SHIFT_MAX: f64 = 0.05;
/// A server that differs from itself by more is on a machine that nothing can be said about.
const NOISE_MAX: f64 = 0.15;

/// Does what the options say.
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
        return Err("a debug build says nothing about speed; run it with `cargo bench --bench versus`".into());
    }
    if let Some(name) = &options.baseline {
        // Better now than after minutes of measuring.
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
    // Neither a baseline nor the README should be made of a part.
    whole(&results)?;
    if let Some(name) = &options.save {
        writeln!(out, "kept as {}", baseline::save(&results, name)?.display())?;
    }
    if options.publish {
        readme::publish(&results)?;
    }
    judge_run(options, &results)
}

/// Tells the results in all their forms.
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

/// Measures all that was chosen. A scenario that fails is listed with its reason, and the others go
/// on.
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
        // The signal that stops us reaches servers and generator, too, so what it looks like is a
        // failure of theirs.
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

/// What a reader must know before the figures.
fn warnings(results: &Results) -> Vec<String> {
    let mut warnings = Vec::new();
    let (closed, open) = (results.noise.closed, results.noise.open);
    if closed.max(open) > NOISE_MAX {
        warnings.push(format!(
            "NOISY MACHINE: a server differs from itself by up to {:.0} % in the closed loop and {:.0} % in the open \
             one. Smaller differences cannot be seen here.",
            closed * 100.0,
            open * 100.0
        ));
    }
    let sides = results.scenarios.iter().flat_map(|scenario| &scenario.sides);
    let rounds = sides.map(|side| side.rounds.len()).min().unwrap_or(0);
    if !results.scenarios.is_empty() && rounds < results.rounds as usize {
        warnings.push(format!(
            "Short of time: there are scenarios with only {rounds} of {} rounds.",
            results.rounds
        ));
    }
    let told_apart = VARIED_SHIFT_MAX.max(results.noise.closed);
    if let Some(shift) = results.varied_shift().filter(|shift| shift.abs() > told_apart) {
        warnings.push(format!(
            "Where path and fields vary from request to request, reactor over threads is {:+.0} % of what it is \
             where they do not.",
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
                    "{} on {} answered nothing in {silent} rounds: its ratio means nothing.",
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

/// Writes report.html, results.json, results.csv and summary.md; says where the report is.
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

/// An error if something that was chosen could not be measured.
pub(crate) fn whole(results: &Results) -> Fallible<()> {
    match results.not_run.iter().find(|left_out| left_out.why.starts_with("FAILED")) {
        Some(failed) => Err(format!("{} {}", failed.name, failed.why).into()),
        None => Ok(()),
    }
}

/// Whether it came out as expected.
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

/// How to run this again.
fn command_line() -> String {
    let own = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let quoted = own.map(|word| if word.contains([' ', '{', '\'']) { format!("{word:?}") } else { word });
    ["cargo bench --bench versus --".to_owned()].into_iter().chain(quoted).collect::<Vec<String>>().join(" ")
}

#[expect(clippy::disallowed_methods, reason = "the date of a report, and a seed that is printed")]
fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
