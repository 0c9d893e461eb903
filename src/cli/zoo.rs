//! `whirligig zoo`: runs the loop with one decision made wrongly, over all scenarios and seeds.
//!
//! This file must not know how a scenario runs.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand, value_parser};

use crate::cli::args::Surroundings;
use crate::cli::exit::Exit;
use crate::cli::fate::{FateArgs, fate};
use crate::cli::processors::on_all_processors;
use crate::cli::progress::Progress;
use crate::cli::sim::keep_panics_quiet;
use crate::cli::tool::{Tool, WIDTH, parsed, print, unknown_bug, wrapped};
use crate::observe::Object;
use crate::sim::bugs::{BUGS, Bug};
use crate::sim::scenario::{Scenario, all};
use crate::sim::zoo::{
    Effect, check_script, check_seeds, check_simulator, effect, found_by_simulator, hash_line,
};

/// The tool.
pub(super) const TOOL: Tool = Tool { word: WORD, noun: "the zoo of bugs", run };

const WORD: &str = "zoo";

/// Largest number of seeds of one call.
const SEEDS_MAX: u64 = 1_000_000;

/// Seeds of one piece of work of a check. Smaller pieces share the processors better.
const SEEDS_OF_A_PIECE: u64 = 250;

const EXAMPLES: &str = "\
Examples:
  whirligig zoo list
      list the bugs, with a public report of each
  whirligig zoo run no-generations
      run every scenario with this bug, as written and with 500 seeds
  whirligig zoo check
      check that the loop of the server fails in no scenario and no seed, and
      that each bug does what the scenarios claim
  whirligig zoo check own.txt
      check a scenario of your own
  whirligig zoo fate two-results --bug lost-wake-up
      find the step of a failing run in which failure became certain
  whirligig zoo hashes --seeds 20
      print a hash of each run, to compare this build with another one
Exit codes: 0 if everything is as claimed; 1 if not; 2 for wrong usage.";

/// Runs the loop of the server with one decision made wrongly. Each bug is a mistake that happened
/// in a public project.
#[derive(Parser)]
#[command(name = "whirligig zoo", disable_help_flag = true, max_term_width = 80)]
#[command(after_help = EXAMPLES, disable_help_subcommand = true, arg_required_else_help = false)]
struct ZooArgs {
    #[command(subcommand)]
    command: Command,
    /// Print help
    #[arg(short, long, action = ArgAction::HelpLong, global = true)]
    help: Option<bool>,
}

#[derive(Subcommand)]
enum Command {
    /// List the bugs
    List,
    /// Run every scenario with a bug
    Run {
        /// Name of the bug, or all
        name: String,
        /// Number of seeds for each scenario and for the simulator
        #[arg(long, value_name = "N", default_value_t = 500, value_parser = value_parser!(u64).range(1..=SEEDS_MAX))]
        seeds: u64,
        /// Print one JSON object for each bug
        #[arg(long)]
        json: bool,
    },
    /// Find the step of a failing run from which nearly all futures fail
    Fate(FateArgs),
    /// Print the hash of every scenario with every bug and seed, to compare two builds
    Hashes {
        /// Number of seeds for each scenario and bug
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = value_parser!(u64).range(..=SEEDS_MAX))]
        seeds: u64,
    },
    /// Check the loop of the server and the claims about the bugs
    Check {
        /// Scenarios to check instead of those of the program (docs/scenarios.md)
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Number of seeds for each scenario and for the simulator
        #[arg(long, value_name = "N", default_value_t = 5000, value_parser = value_parser!(u64).range(1..=SEEDS_MAX))]
        seeds: u64,
    },
}

fn run(args: &[OsString], surroundings: &Surroundings) -> Result<ExitCode, Exit> {
    let args: ZooArgs = parsed(WORD, args, surroundings)?;
    keep_panics_quiet();
    let is_terminal = surroundings.stderr_is_terminal;
    match args.command {
        Command::List => print(&list())?,
        Command::Run { name, seeds, json } => {
            for bug in bugs_named(&name)? {
                let found = run_bug(bug, seeds, is_terminal)?;
                print(&if json { object(bug, seeds, found) } else { table(bug, seeds, found) })?;
            }
        }
        Command::Fate(args) => return fate(WORD, &args, surroundings),
        Command::Hashes { seeds } => return hashes(seeds, is_terminal),
        Command::Check { files, seeds } => return check(&files, seeds, is_terminal),
    }
    Ok(ExitCode::SUCCESS)
}

fn list() -> String {
    BUGS.iter().map(|bug| format!("{}\n{}", bug.name, about(bug))).collect()
}

/// Returns the lines below the name of a bug: its wrong decision and its public report.
fn about(bug: &Bug) -> String {
    let report = &bug.report;
    let gloss = report.gloss.map(|gloss| format!(" ({gloss})")).unwrap_or_default();
    let lines = [bug.does.to_owned(), format!("as in \"{}\"{gloss}", report.title), report.url.to_owned()];
    let lines = lines.iter().flat_map(|line| wrapped(&format!("    {line}"), 4, WIDTH));
    lines.map(|line| line + "\n").collect()
}

/// Returns the bug with this name, or each bug if the name is `all`.
fn bugs_named(name: &str) -> Result<&'static [Bug], Exit> {
    if name == "all" {
        return Ok(&BUGS);
    }
    let bug = Bug::named(name).map(std::slice::from_ref);
    bug.ok_or_else(|| Exit::tool_usage(WORD, &unknown_bug(name, "all")))
}

/// Effect of a bug on one scenario, or on the simulator.
struct Found {
    /// Name of the scenario; `None` for the simulator.
    scenario: Option<String>,
    /// Number of seeds that failed.
    failed: u64,
    /// First symptom of the scenario as written, or first finding of the simulator.
    symptom: Option<String>,
}

/// Runs every scenario with a bug, and last the simulator.
fn run_bug(bug: &'static Bug, seeds: u64, is_terminal: bool) -> Result<Vec<Found>, Exit> {
    let scenarios = all();
    let pieces: Vec<Piece<'_, Found>> = scenarios
        .iter()
        .map(|scenario| -> Piece<'_, Found> {
            Box::new(move || {
                let Effect { scenario, failed, symptom, .. } = effect(bug, scenario, seeds);
                let symptom = symptom.map(|symptom| symptom.to_string());
                Ok(Found { scenario: Some(scenario), failed, symptom })
            })
        })
        .chain([Box::new(move || {
            let (failed, symptom) = found_by_simulator(bug, seeds)?;
            Ok(Found { scenario: None, failed, symptom })
        }) as Piece<'_, Found>])
        .collect();
    run_pieces(&pieces, "scenarios", is_terminal)
}

/// Returns the scenarios in which a bug fails as a table.
fn table(bug: &Bug, seeds: u64, found: Vec<Found>) -> String {
    let mut out = format!("{}\n{}", bug.name, about(bug));
    let _ = writeln!(out, "{:<24} {:>6}  first symptom", "scenario", format!("of {seeds}"));
    let mut green = 0;
    for Found { scenario, failed, symptom } in found {
        if scenario.is_some() && failed == 0 && symptom.is_none() {
            green += 1;
            continue;
        }
        let name = scenario.as_deref().unwrap_or("(the simulator)");
        let symptom = symptom.as_deref().unwrap_or("none as written");
        for line in wrapped(&format!("{name:<24} {failed:>6}  {symptom}"), 33, WIDTH) {
            let _ = writeln!(out, "{line}");
        }
    }
    let _ = writeln!(out, "{green} other scenarios stay green.\n");
    out
}

/// Returns the effects of a bug as one line of JSON.
fn object(bug: &Bug, seeds: u64, found: Vec<Found>) -> String {
    let mut scenarios = Object::new();
    let mut simulator = None;
    for Found { scenario, failed, symptom } in found {
        let mut effect = Object::new();
        effect.number("failed", failed);
        match symptom {
            Some(symptom) => effect.text("symptom", &symptom),
            None => effect.raw("symptom", "null"),
        };
        match scenario {
            Some(name) => _ = scenarios.raw(&name, &effect.end()),
            None => simulator = Some(effect.end()),
        }
    }
    let mut whole = Object::new();
    whole.text("bug", bug.name).number("seeds", seeds).raw("scenarios", &scenarios.end());
    whole.raw("simulator", simulator.as_deref().unwrap_or("null"));
    whole.end() + "\n"
}

/// Prints one line for each scenario, bug and seed, and for each run without a seed.
fn hashes(seeds: u64, is_terminal: bool) -> Result<ExitCode, Exit> {
    let scenarios = all();
    let mut pieces: Vec<Piece<'_, String>> = Vec::new();
    for scenario in &scenarios {
        for bug in std::iter::once(None).chain(BUGS.iter().map(Some)) {
            pieces.push(Box::new(move || {
                let setups = std::iter::once(None).chain((1..=seeds).map(Some));
                Ok(setups.map(|seed| hash_line(scenario, bug, seed) + "\n").collect())
            }));
        }
    }
    print(&run_pieces(&pieces, "tasks", is_terminal)?.concat())?;
    Ok(ExitCode::SUCCESS)
}

/// Checks the loop of the server and the claims of the scenarios.
fn check(files: &[PathBuf], seeds: u64, is_terminal: bool) -> Result<ExitCode, Exit> {
    let own = files.iter().map(|file| Scenario::read(file));
    let own: Vec<Scenario> =
        own.collect::<Result<_, _>>().map_err(|error| Exit::tool_usage(WORD, &error.to_string()))?;
    let is_own = !own.is_empty();
    let scenarios = if is_own { own } else { all() };
    let mut pieces: Vec<Piece<'_, Vec<String>>> = Vec::new();
    for scenario in &scenarios {
        pieces.push(Box::new(move || Ok(check_script(scenario))));
    }
    for from in (1..=seeds).step_by(SEEDS_OF_A_PIECE as usize) {
        let range = from..(from + SEEDS_OF_A_PIECE).min(seeds + 1);
        for scenario in &scenarios {
            let range = range.clone();
            pieces.push(Box::new(move || Ok(check_seeds(scenario, range.clone()).into_iter().collect())));
        }
        if !is_own {
            pieces.push(Box::new(move || Ok(check_simulator(range.clone())?.into_iter().collect())));
        }
    }
    let errors: Vec<String> = run_pieces(&pieces, "tasks", is_terminal)?.into_iter().flatten().collect();
    if errors.is_empty() {
        let and_simulator = if is_own { "" } else { " and the simulator" };
        print(&format!(
            "{} scenarios{and_simulator}: the loop fails in none of {seeds} seeds\n\
             {} bugs: each does what the scenarios claim\n",
            scenarios.len(),
            BUGS.len()
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&(errors.join("\n") + "\n"))?;
    Err(Exit::runtime("the zoo", format!("{} claims are false", errors.len()), "see the lines above"))
}

/// A piece of work for one processor.
type Piece<'a, T> = Box<dyn Fn() -> std::io::Result<T> + Send + Sync + 'a>;

/// Runs pieces on all processors. Returns the results in the order of the pieces.
fn run_pieces<T: Send>(
    pieces: &[Piece<'_, T>],
    unit: &'static str,
    is_terminal: bool,
) -> Result<Vec<T>, Exit> {
    let progress = Progress::new(pieces.len() as u64, unit, is_terminal);
    let mut results: Vec<(u64, std::io::Result<T>)> = Vec::with_capacity(pieces.len());
    let run = |number: u64| pieces[number as usize]();
    on_all_processors(
        pieces.len() as u64,
        |_| true,
        run,
        progress,
        |number, result| {
            results.push((number, result));
        },
    );
    results.sort_by_key(|(at, _)| *at);
    let results: std::io::Result<Vec<T>> = results.into_iter().map(|(_, result)| result).collect();
    results.map_err(|error| Exit::runtime("cannot prepare a simulation", error, "try again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_each_bug_with_its_report_in_80_columns() {
        let list = list();
        assert!(list.lines().all(|line| line.chars().count() <= WIDTH), "{list}");
        let words = list.split_whitespace().collect::<Vec<_>>().join(" ");
        for bug in &BUGS {
            assert!(
                list.contains(&format!("{}\n    ", bug.name)) && words.contains(bug.does),
                "{}",
                bug.name
            );
            assert!(words.contains(bug.report.title) && words.contains(bug.report.url), "{}", bug.name);
            assert!(bug.report.title.is_ascii() || bug.report.gloss.is_some(), "{}", bug.report.title);
        }
    }

    #[test]
    fn a_hash_line_names_its_run() {
        let scenario = crate::sim::scenario::embedded("stale-answer").unwrap();
        let line = hash_line(&scenario, Bug::named("no-generations"), Some(7));
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[..3], ["stale-answer", "no-generations", "7"]);
        assert_eq!((words.len(), words[4].len()), (5, 64), "{line}");
        let as_written = hash_line(&scenario, None, None);
        assert!(as_written.starts_with("stale-answer none - "), "{as_written}");
    }

    #[test]
    fn a_table_has_the_scenarios_that_fail() {
        let bug = Bug::named("accept-once").unwrap();
        let table = table(bug, 2, run_bug(bug, 2, false).unwrap());
        assert!(table.contains("\nlisten-queue ") && table.contains("bob waits to be accepted"), "{table}");
        assert!(table.ends_with("15 other scenarios stay green.\n\n"), "{table}");
    }

    #[test]
    fn an_object_has_every_scenario_and_the_simulator() {
        let bug = Bug::named("no-generations").unwrap();
        let line = object(bug, 2, run_bug(bug, 2, false).unwrap());
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["bug"], &value["seeds"]), (&"no-generations".into(), &2.into()));
        assert_eq!(value["scenarios"].as_object().unwrap().len(), all().len());
        assert_eq!(value["scenarios"]["stale-answer"]["failed"], 2);
        assert!(value["scenarios"]["pipelining"]["symptom"].is_null(), "{line}");
        assert!(value["simulator"]["failed"].is_number() && line.ends_with("}\n"), "{line}");
    }
}
