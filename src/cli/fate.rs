//! `whirligig zoo fate`: the step of a failing run in which failure became certain.
//!
//! This file must not know how a step is chosen or how a run goes on.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args};

use crate::cli::args::Surroundings;
use crate::cli::exit::Exit;
use crate::cli::progress::Progress;
use crate::cli::step::{Paint, choice, opened};
use crate::cli::tool::{WIDTH, print};
use crate::clock::read_clocks;
use crate::sim::fate::{FUTURES, FateLine, Point, failing_futures};
use crate::sim::scenario::{Run, Setup, Symptom};
use crate::sim::stepper::{Command, Line, Session};

/// Longest search.
const SEARCH_MAX: Duration = Duration::from_secs(30);

/// Seeds among which a failing one is looked for if the run of the command does not fail.
const SEEDS_TRIED: u64 = 500;

/// Arguments of the command.
#[derive(Args)]
pub(super) struct FateArgs {
    /// Name of a scenario, file with a scenario, or link to a step ('#s=NAME&bug=NAME&seed=N')
    #[arg(value_name = "SCENARIO")]
    scenario: OsString,
    /// Make one decision wrongly
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Seed of the run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Change a limit, as in batch=1; repeatable
    #[arg(long, value_name = "NAME=N", action = ArgAction::Append)]
    set: Vec<String>,
    /// Print one JSON object (docs/stepper.md)
    #[arg(long)]
    json: bool,
}

pub(super) fn fate(word: &str, args: &FateArgs, surroundings: &Surroundings) -> Result<ExitCode, Exit> {
    let usage = |message: String| Exit::tool_usage(word, &message);
    let choice = choice(word, args.bug.as_deref(), args.seed, &args.set)?;
    let mut session = opened(word, &args.scenario, choice)?;
    let Some(symptom) = session.run().report.symptom.clone() else {
        return Err(usage(does_not_fail(&session)));
    };
    let line = search(&session, surroundings.stderr_is_terminal);
    if args.json {
        print(&(session.fate_json(&line) + "\n"))?;
    } else {
        let paint = Paint { is_colored: false, width: WIDTH };
        print(&report(&mut session, &symptom, &line, paint))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the sentence about a run that does not fail, with a seed that does.
fn does_not_fail(session: &Session) -> String {
    let setup = session.setup();
    let fails = |seed: &u64| {
        Run::of(session.scenario(), Setup { seed: Some(*seed), ..setup }).first_symptom().is_some()
    };
    let hint = match (1..=SEEDS_TRIED).find(fails) {
        Some(seed) => format!("seed {seed} is the first that fails"),
        None => format!("nor do the seeds from 1 to {SEEDS_TRIED}; choose a bug"),
    };
    format!("{} does not fail; {hint}", named(session))
}

/// Returns scenario, bug and seed.
fn named(session: &Session) -> String {
    let choice = session.choice();
    let mut out = session.scenario().name.clone();
    if let Some(bug) = choice.bug {
        let _ = write!(out, " with {}", bug.name);
    }
    match choice.seed {
        Some(seed) => out + &format!(", seed {seed}"),
        None => out + ", as written",
    }
}

/// Examines steps until the search or its time ends.
fn search(session: &Session, is_terminal: bool) -> FateLine {
    let mut line = FateLine::of(&session.run().report.steps);
    let mut progress = Progress::new(100, "per cent of the search", is_terminal);
    let until = read_clocks().mono + SEARCH_MAX;
    while let Some(step) = line.next_step() {
        let mut failed = 0;
        for future in 0..FUTURES {
            if read_clocks().mono > until {
                progress.end();
                return line;
            }
            failed += failing_futures(session.scenario(), session.setup(), step, future..future + 1);
        }
        line.add(Point { step, failed });
        progress.show(100 * line.points().len() as u64 / line.expected().max(1) as u64);
    }
    progress.end();
    line
}

/// Writes the table of examined steps, and the deciding one as the stepper shows it.
fn report(session: &mut Session, symptom: &Symptom, line: &FateLine, paint: Paint) -> String {
    let mut out = format!("{}: {} steps\n", named(session), session.run().len());
    let _ = writeln!(out, "went wrong first: {symptom}\n");
    let _ = writeln!(out, "{:>6}  failing futures of {FUTURES}", "step");
    for point in line.points() {
        let bar = "#".repeat(point.failed as usize);
        let _ = writeln!(out, "{}", format!("{:>6}  {:>2} {bar}", point.step, point.failed).trim_end());
    }
    let _ = writeln!(out);
    let mut lines = vec![Line::plain(line.sentence())];
    if let Some(step) = line.decided_at().filter(|step| *step > 0) {
        lines.extend(session.obey(&Command::At(step)).unwrap_or_default());
        lines.extend(session.link().ok().map(Line::plain));
    }
    out + &paint.text(&lines)
}
