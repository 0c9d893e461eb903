//! `whirligig sim`: runs the loop of the server over simulated clients, from seeds.
//!
//! This file must not know what a simulation checks.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{ArgAction, Parser, value_parser};

use crate::cli::args::Surroundings;
use crate::cli::exit::Exit;
use crate::cli::processors::on_all_processors;
use crate::cli::progress::Progress;
use crate::cli::tool::{Tool, parsed, print};
use crate::sim::{Coverage, Failure, Record, Simulation, Steps};
use crate::text::push_json_string;

/// The tool.
pub(super) const TOOL: Tool = Tool { word: WORD, noun: "the simulator", run };

const WORD: &str = "sim";

/// Seeds that run without --seed and --seeds.
const SEEDS_DEFAULT: u64 = 100;

/// Largest number of seeds of one call.
const SEEDS_MAX: u64 = 1_000_000_000;

const EXAMPLES: &str = "\
Examples:
  whirligig sim --seed 7
      run one seed and print what happened how often
  whirligig sim --seed 7 --steps
      print every step of the loop, with what clients and kernel do in between
  whirligig sim --seeds 2000 --from 5000
      run the seeds 5000 to 6999
Exit codes: 0 if every promise was kept; 1 if a seed failed; 2 for wrong usage.";

/// Runs the loop of the server over clients, sockets and a clock that a seed determines. After each
/// turn it checks the loop, and at the end that every client received its responses.
#[derive(Parser)]
#[command(name = "whirligig sim", disable_help_flag = true, args_override_self = true, max_term_width = 80)]
#[command(after_help = EXAMPLES)]
struct SimArgs {
    /// Run this seed only
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Number of seeds to run [default: 100]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=SEEDS_MAX))]
    seeds: Option<u64>,
    /// First of the seeds [default: 0]
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// Print every step of the run; needs --seed
    #[arg(long)]
    steps: bool,
    /// Print JSON: the steps, one object a line (docs/steps.md), or else the result
    #[arg(long)]
    json: bool,
    /// Print help
    #[arg(short, long, action = ArgAction::HelpLong)]
    help: Option<bool>,
}

fn run(args: &[OsString], surroundings: &Surroundings) -> Result<ExitCode, Exit> {
    let args: SimArgs = parsed(WORD, args, surroundings)?;
    let usage = |message: &str| Err(Exit::tool_usage(WORD, message));
    match (args.seed, args.seeds, args.from) {
        (Some(_), Some(_), _) => return usage("--seed with --seeds: leave one out"),
        (Some(_), _, Some(_)) => return usage("--seed with --from: leave one out"),
        (None, ..) if args.steps => return usage("--steps: the steps of which run? give --seed N"),
        _ => {}
    }
    let (from, count) = match args.seed {
        Some(seed) => (seed, 1),
        None => (args.from.unwrap_or(0), args.seeds.unwrap_or(SEEDS_DEFAULT)),
    };
    if from.checked_add(count - 1).is_none() {
        return usage("--from: the last seed would be too large");
    }
    keep_panics_quiet();
    let result = if args.steps {
        let (result, record) = with_steps(from)?;
        if let Some(record) = record {
            print(&if args.json { record.json() } else { record.text() })?;
        }
        result
    } else {
        let progress = Progress::new(count, "seeds", surroundings.stderr_is_terminal && count > 1);
        let result = run_seeds(from, count, progress)?;
        print(&if args.json { result.json() } else { result.text() })?;
        result
    };
    match result.failed {
        None => Ok(ExitCode::SUCCESS),
        Some((seed, what)) => Err(Exit::runtime(
            &format!("seed {seed} failed"),
            what,
            &format!("its steps: whirligig sim --seed {seed} --steps"),
        )),
    }
}

/// The result of a number of seeds.
struct Ran {
    from: u64,
    count: u64,
    /// Counts of the runs that kept every promise.
    coverage: Coverage,
    /// The first seed that failed, and the check that failed.
    failed: Option<(u64, String)>,
}

impl Ran {
    fn text(&self) -> String {
        let mut out = String::new();
        if self.failed.is_some() {
            return out;
        }
        for (name, count) in &self.coverage.counts {
            let _ = writeln!(out, "{count:>12}  {name}");
        }
        let _ = match self.count {
            1 => writeln!(out, "seed {}: every promise was kept", self.from),
            count => writeln!(
                out,
                "seeds {} to {}: every promise was kept",
                self.from,
                self.from.saturating_add(count - 1)
            ),
        };
        out
    }

    fn json(&self) -> String {
        let mut out = format!("{{\"from\":{},\"seeds\":{},\"failed\":", self.from, self.count);
        match &self.failed {
            None => out.push_str("null"),
            Some((seed, what)) => {
                let _ = write!(out, "{{\"seed\":{seed},\"what\":");
                push_json_string(what, &mut out);
                out.push('}');
            }
        }
        out.push_str(",\"counts\":{");
        for (number, (name, count)) in self.coverage.counts.iter().enumerate() {
            if number > 0 {
                out.push(',');
            }
            push_json_string(name, &mut out);
            let _ = write!(out, ":{count}");
        }
        out.push_str("}}\n");
        out
    }
}

/// Runs one seed and keeps its steps.
fn with_steps(seed: u64) -> Result<(Ran, Option<Record>), Exit> {
    let (coverage, record, failed) = match run_seed(seed, Steps::Kept)? {
        Ok(mut coverage) => {
            let record = coverage.record.take();
            (coverage, record, None)
        }
        Err(failure) => (Coverage::default(), failure.record, Some((seed, failure.what))),
    };
    Ok((Ran { from: seed, count: 1, coverage, failed }, record))
}

/// Runs seeds on all processors. After a failure, only the seeds before the failed one are run, so
/// that the first seed that fails is found.
fn run_seeds(from: u64, count: u64, progress: Progress) -> Result<Ran, Exit> {
    let failed_at = AtomicU64::new(u64::MAX);
    let mut ran = Ran { from, count, coverage: Coverage::default(), failed: None };
    let mut broken = None;
    let run_numbered = |number| {
        let result = run_seed(from + number, Steps::Dropped);
        if !matches!(result, Ok(Ok(_))) {
            failed_at.fetch_min(number, Ordering::Relaxed);
        }
        result
    };
    let is_needed = |number| number <= failed_at.load(Ordering::Relaxed);
    on_all_processors(count, is_needed, run_numbered, progress, |number, result| match result {
        Ok(Ok(coverage)) => ran.coverage.add(&coverage),
        Ok(Err(failure)) if ran.failed.as_ref().is_none_or(|(first, _)| from + number < *first) => {
            ran.failed = Some((from + number, failure.what));
        }
        Ok(Err(_)) => {}
        Err(exit) => broken = Some(exit),
    });
    broken.map_or(Ok(ran), Err)
}

/// Runs one seed. A panic of the loop is a failure like any other.
fn run_seed(seed: u64, steps: Steps) -> Result<Result<Coverage, Failure>, Exit> {
    let simulation = Simulation::new(seed, steps)
        .map_err(|error| Exit::runtime("cannot prepare a simulation", error, "try again"))?;
    let ran = catch_unwind(AssertUnwindSafe(|| simulation.run()));
    Ok(ran.unwrap_or_else(|_| Err(Failure { what: PANIC.take(), record: None })))
}

thread_local! {
    /// The last panic of this thread.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics off standard error: simulated handlers panic on purpose, and the loop catches them.
pub(super) fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|info| {
        let what = info.to_string();
        PANIC.set(what.replace('\n', " "));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_reported_with_its_seed() {
        let mut coverage = Coverage::default();
        coverage.counts.insert("fault \"x\"".into(), 3);
        let mut ran = Ran { from: 5, count: 2, coverage, failed: None };
        assert_eq!(ran.text(), "           3  fault \"x\"\nseeds 5 to 6: every promise was kept\n");
        assert_eq!(
            ran.json(),
            "{\"from\":5,\"seeds\":2,\"failed\":null,\"counts\":{\"fault \\\"x\\\"\":3}}\n"
        );
        ran.failed = Some((6, "turn 1: a \"b\"".into()));
        assert_eq!(ran.text(), "");
        assert!(ran.json().contains("\"failed\":{\"seed\":6,\"what\":\"turn 1: a \\\"b\\\"\"},"));
    }
}
