//! `whirligig step`: steps through the recorded run of a scenario, in a terminal or from a pipe.
//!
//! At a terminal it asks the question of the scenario, then prompts for commands. From a pipe it
//! obeys the commands and prints no prompts. This file must not know what a step means.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgAction, Parser};

use crate::cli::args::Surroundings;
use crate::cli::exit::Exit;
use crate::cli::hint;
use crate::cli::sim::keep_panics_quiet;
use crate::cli::tool::{Tool, WIDTH, parsed, print, print_more, unknown_bug, wrapped};
use crate::cli::value::Color;
use crate::log::escape_control;
use crate::sim::bugs::Bug;
use crate::sim::scenario::{Scenario, all, embedded};
use crate::sim::stepper::{Choice, Kind, Line, Session, scenario_json, scenario_lines};

/// The tool.
pub(super) const TOOL: Tool = Tool { word: WORD, noun: "the stepper", run };

const WORD: &str = "step";

/// Largest line of commands, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;

const EXAMPLES: &str = "\
Examples:
  whirligig step
      list the scenarios and their questions
  whirligig step stale-answer
      step through a scenario; ? lists the commands
  echo 'u stale w 0.1' | whirligig step stale-answer
      obey commands from a pipe
  whirligig step stale-answer --bug no-generations --print
      print the whole run with one decision of the loop made wrongly
  whirligig step '#s=stale-answer&n=46'
      open a step by its address, which the command link prints; quote it
  whirligig step my-own.txt --seed 7 --set batch=1
      step through a scenario of your own, with other pieces and times
A first walk and the words: docs/stepper.md. The language of scenarios:
docs/scenarios.md. The steps of the log: docs/steps.md.
Exit codes: 0; 2 for wrong usage, also for a wrong command from a pipe.";

/// Steps through the event loop of the server. The loop is real, and clients, kernel and clock
/// follow a scenario. The whole run is recorded, so a step back is as quick as a step forward.
#[derive(Parser)]
#[command(name = "whirligig step", disable_help_flag = true, args_override_self = true, max_term_width = 80)]
#[command(after_help = EXAMPLES)]
struct StepArgs {
    /// Name of a scenario, file with a scenario, or link to a step ('#s=NAME&n=STEP')
    #[arg(value_name = "SCENARIO")]
    scenario: Option<OsString>,
    /// Make one decision wrongly; 'whirligig zoo list' describes the bugs
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Let bytes come in other pieces, and actions at other times, as this seed decides
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Change a limit, as in batch=1, budget=4, events=1 or accepts=1; repeatable
    #[arg(long, value_name = "NAME=N", action = ArgAction::Append)]
    set: Vec<String>,
    /// Print the whole run and do not step
    #[arg(long, conflicts_with = "hash")]
    print: bool,
    /// Print the number of turns and operations, and the SHA-256 hash of the run
    #[arg(long)]
    hash: bool,
    /// Print JSON: with --print the run (docs/steps.md), else one object for each line of commands
    #[arg(long)]
    json: bool,
    /// Use colours: auto, always or never; auto respects NO_COLOR
    #[arg(long, value_name = "WHEN", hide_possible_values = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// Print help
    #[arg(short, long, action = ArgAction::HelpLong)]
    help: Option<bool>,
}

fn run(args: &[OsString], surroundings: &Surroundings) -> Result<ExitCode, Exit> {
    let args: StepArgs = parsed(WORD, args, surroundings)?;
    let is_colored = args.color.resolve(surroundings.stdout_is_terminal, surroundings.no_color);
    let paint = Paint { is_colored, width: WIDTH };
    let usage = |message: String| Exit::tool_usage(WORD, &message);
    let Some(name) = &args.scenario else {
        if args.print || args.hash || args.bug.is_some() || args.seed.is_some() || !args.set.is_empty() {
            return Err(usage(format!("of which scenario? allowed: {}, or a file", names())));
        }
        print(&match args.json {
            true => all().iter().map(|scenario| scenario_json(scenario) + "\n").collect(),
            false => paint.text(&scenario_lines()),
        })?;
        return Ok(ExitCode::SUCCESS);
    };
    keep_panics_quiet();
    let choice = choice(WORD, args.bug.as_deref(), args.seed, &args.set)?;
    let session = opened(WORD, name, choice)?;
    if args.hash {
        print(&(if args.json { session.hash_json() } else { session.hash_line() } + "\n"))?;
    } else if args.print {
        // One line for each step, for grep and diff.
        let width = if surroundings.stdout_is_terminal { WIDTH } else { usize::MAX };
        print_run(&session, args.json, Paint { width, ..paint })?;
    } else {
        let is_interactive = io::stdin().is_terminal() && surroundings.stdout_is_terminal && !args.json;
        match step(session, &args, is_interactive, paint) {
            Ok(()) | Err(End::NobodyReads) => {}
            Err(End::Failed(exit)) => return Err(exit),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the choices for a run.
pub(super) fn choice(
    word: &str,
    bug: Option<&str>,
    seed: Option<u64>,
    sets: &[String],
) -> Result<Choice, Exit> {
    if let Some(name) = bug.filter(|name| *name != "none" && Bug::named(name).is_none()) {
        return Err(Exit::tool_usage(word, &unknown_bug(name, "none")));
    }
    Choice::new(bug, seed, sets.to_vec()).map_err(|message| Exit::tool_usage(word, &message))
}

/// Runs the scenario of the program with this name, or else the one in this file, or opens a link.
/// `word` is the tool, for messages.
pub(super) fn opened(word: &str, name: &OsString, choice: Choice) -> Result<Session, Exit> {
    let session = match name.to_str().filter(|name| name.contains('#')) {
        Some(link) if choice != Choice::default() => {
            Err(format!("{link}: a link has its own bug, seed and limits; leave the options out"))
        }
        Some(link) => Session::open_link(link),
        None => Session::open(scenario(word, name)?, choice),
    };
    session.map_err(|message| Exit::tool_usage(word, &message))
}

fn scenario(word: &str, name: &OsString) -> Result<Scenario, Exit> {
    if let Some(scenario) = name.to_str().and_then(embedded) {
        return Ok(scenario);
    }
    let path = Path::new(name);
    if !path.exists() {
        let name: String = name.to_string_lossy().chars().take(80).collect();
        let (scenarios, what) = (all(), format!("no scenario and no file '{name}'"));
        let known: Vec<&str> =
            scenarios.iter().map(|scenario| &*scenario.name).chain(["or a file"]).collect();
        return Err(Exit::tool_usage(word, &hint::unknown(&what, &name, &known)));
    }
    Scenario::read(path).map_err(|error| Exit::tool_usage(word, &error.to_string()))
}

fn names() -> String {
    let names: Vec<String> = all().into_iter().map(|scenario| scenario.name).collect();
    names.join(", ")
}

fn print_run(session: &Session, is_json: bool, paint: Paint) -> Result<(), Exit> {
    if is_json {
        return print(&session.log_json());
    }
    let lines: Vec<Line> = session.log().collect();
    print(&paint.text(&lines))
}

/// Why stepping ends before the commands do.
enum End {
    Failed(Exit),
    NobodyReads,
}

impl From<Exit> for End {
    fn from(exit: Exit) -> Self {
        End::Failed(exit)
    }
}

fn show(text: &str) -> Result<(), End> {
    if print_more(text)? { Ok(()) } else { Err(End::NobodyReads) }
}

/// Obeys commands until their end.
fn step(mut session: Session, args: &StepArgs, is_interactive: bool, paint: Paint) -> Result<(), End> {
    let mut input = io::stdin().lock();
    if args.json {
        show(&(session.json() + "\n"))?;
    } else {
        show(&paint.text(&session.question()))?;
        if session.position() > 0 {
            show(&paint.text(&session.here()))?;
        }
    }
    let mut is_asking = is_interactive && session.guess().is_none() && !session.scenario().guesses.is_empty();
    if is_interactive && !is_asking {
        show(HINT)?;
    }
    loop {
        if is_interactive {
            show(&prompt(&session, is_asking))?;
        }
        let Some(line) = read_line(&mut input)? else {
            // The shell's prompt begins on a line of its own.
            return if is_interactive { show("\n") } else { Ok(()) };
        };
        let text = line.trim();
        if text.starts_with('#') || text.is_empty() && !is_interactive {
            continue;
        }
        let was_asking = std::mem::take(&mut is_asking);
        let commands = match text {
            "" if was_asking => {
                show(HINT)?;
                continue;
            }
            "?" | "help" if was_asking => {
                show(GUESS_HELP)?;
                is_asking = true;
                continue;
            }
            number if was_asking && number.bytes().all(|byte| byte.is_ascii_digit()) => format!("g {number}"),
            commands => commands.to_owned(),
        };
        match session.obey_all(&commands) {
            Ok(reply) => {
                let answer = if args.json { session.json() + "\n" } else { paint.text(&reply.lines) };
                if reply.quits && args.json {
                    return Ok(());
                }
                show(&answer)?;
                if reply.quits {
                    return Ok(());
                }
                if was_asking {
                    show(HINT)?;
                }
            }
            Err(message) if is_interactive => {
                is_asking = was_asking;
                show(&paint.text(&[Line { kind: Kind::Alarm, text: message, indent: 2 }]))?;
            }
            Err(message) => return Err(Exit::tool_usage(WORD, &message).into()),
        }
    }
}

/// Shown once, after the question.
const HINT: &str = "\
t: next turn   n: next step   b: back   s: state   u stale: to a stale name
w 0.1: holders of a name   l: source   bug: break it   ?: all commands   q: quit
";

/// The answer to `?` where a guess is due.
const GUESS_HELP: &str = "\
A number is your guess. The end of the run compares it with the answer.
Enter skips the guess; any command skips it too; q quits.
";

fn prompt(session: &Session, is_asking: bool) -> String {
    match is_asking {
        true => format!("Your guess, 1 to {}, or Enter to skip: ", session.scenario().guesses.len()),
        false => {
            let turn = match session.turn() {
                0 => String::new(),
                turn => format!(", turn {turn}"),
            };
            format!("step {} of {}{turn}> ", session.position(), session.run().len())
        }
    }
}

/// Reads a line of commands; `None` at the end of the input.
fn read_line(input: &mut impl BufRead) -> Result<Option<String>, Exit> {
    let mut bytes = Vec::new();
    let count = input
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut bytes)
        .map_err(|error| Exit::runtime("cannot read commands", error, "give another input"))?;
    if count as u64 == LINE_BYTES_MAX {
        let message = format!("the line of commands is too long; allowed: {LINE_BYTES_MAX} bytes");
        return Err(Exit::tool_usage(WORD, &message));
    }
    Ok((count > 0).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Writes lines for a terminal: escaped, wrapped, and in colour if that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    pub(super) is_colored: bool,
    /// Columns of a line, or no limit.
    pub(super) width: usize,
}

impl Paint {
    pub(super) fn text(self, lines: &[Line]) -> String {
        let mut out = String::new();
        for line in lines {
            let color = match line.kind {
                _ if !self.is_colored => "",
                Kind::Plain | Kind::Operation => "",
                Kind::Heading => "\x1b[1m",
                Kind::Turn => "\x1b[1;34m",
                Kind::Phase => "\x1b[36m",
                Kind::Fact => "\x1b[33m",
                Kind::Alarm => "\x1b[31m",
                Kind::Note => "\x1b[2m",
                Kind::Good => "\x1b[32m",
            };
            let end = if color.is_empty() { "" } else { "\x1b[0m" };
            for part in wrapped(&escape_control(&line.text), line.indent, self.width) {
                let _ = writeln!(out, "{color}{part}{end}");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_colours_are_optional() {
        let lines = [Line { kind: Kind::Alarm, text: "a\x1b[2Jb".to_owned(), indent: 0 }];
        assert_eq!(Paint { is_colored: false, width: WIDTH }.text(&lines), "a\\u{1b}[2Jb\n");
        assert_eq!(Paint { is_colored: true, width: WIDTH }.text(&lines), "\x1b[31ma\\u{1b}[2Jb\x1b[0m\n");
    }
}
