//! `whirligig race`: a race of both models, in the terminal and in a page.
//!
//! This file reads the arguments and prints. It must not know how a race runs.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::{ArgAction, Parser, value_parser};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::bench::Fallible;
use crate::bench::process::play_part;
use crate::bench::program::Program;
use crate::bench::race::page::Page;
use crate::bench::race::report::{Compared, Report};
use crate::bench::race::{self, News, Plan};
use crate::bench::scenario::{self, Scenario};
use crate::bench::stats::ROUNDS_MIN;
use crate::bench::words::{grouped, time};
use crate::cli::args::Surroundings;
use crate::cli::browser;
use crate::cli::exit::Exit;
use crate::cli::hint;
use crate::cli::progress::Progress;
use crate::cli::tool::{Tool, parsed, print, print_more};
use crate::random::random_bytes;
use crate::server::BindError;

/// The tool.
pub(super) const TOOL: Tool = Tool { word: WORD, noun: "the race of both models", run };

const WORD: &str = "race";

/// Maximum wait for a browser before the race begins.
const VIEWER_MAX: Duration = Duration::from_secs(10);
/// Time between two checks whether a browser shows the page.
const VIEWER_CHECK: Duration = Duration::from_millis(50);
/// Time within which a signal that also ended a child reaches this process.
const SIGNAL_MAX: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  whirligig race
      race in seven scenarios; open the printed address to guess first
  whirligig race --quick --no-page
      race in four scenarios and print the verdicts, in half a minute
  whirligig race --scenario block --scenario block-jobs-64 --rounds 15
      race in these scenarios; --list prints all
  whirligig race --json --no-page > race.json
      write all figures, those of each run included
Both servers and the load generator are processes of their own, on loopback.
Only one server has requests at any time, in rounds of random order. With two or
more processors the server has one to itself. Each model first races against
itself: a difference counts only if it exceeds that noise. Latency is the
service time, from sending a request to its whole response.
The manual explains the figures: docs/manual.md.
Exit codes: 0 at the end; 1 if the race could not run; 2 for wrong usage; 129,
130 or 143 after a signal.";

/// Races the reactor against its twin, one thread for each connection, and prints which is faster.
#[derive(Parser)]
#[command(name = "whirligig race", disable_help_flag = true, args_override_self = true, max_term_width = 80)]
#[command(after_help = EXAMPLES)]
struct RaceArgs {
    /// Race in this scenario; repeatable
    #[arg(long = "scenario", value_name = "NAME", action = ArgAction::Append)]
    scenarios: Vec<String>,
    /// Print the names of all scenarios and exit
    #[arg(long)]
    list: bool,
    /// Race in fewer scenarios and in shorter rounds
    #[arg(long)]
    quick: bool,
    /// Number of rounds in each scenario [default: 7]; fewer than 5 give no interval
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(i64::from(ROUNDS_MIN)..=1000))]
    rounds: Option<u32>,
    /// Serve the page on this port of the loopback address [default: any free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Open the page in the browser
    #[arg(long, conflicts_with = "no_page")]
    open: bool,
    /// Serve no page
    #[arg(long, conflicts_with = "port")]
    no_page: bool,
    /// Print the results as JSON instead of text
    #[arg(long)]
    json: bool,
    /// Print help
    #[arg(short, long, action = ArgAction::HelpLong)]
    help: Option<bool>,
}

fn run(args: &[OsString], surroundings: &Surroundings) -> Result<ExitCode, Exit> {
    // A child of a race: a server or the load generator.
    if let Some(ended) = play_part(args.iter().skip(1).map(|word| word.to_string_lossy().into_owned())) {
        return Ok(ended);
    }
    let args: RaceArgs = parsed(WORD, args, surroundings)?;
    if args.list {
        print(&list())?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = plan(&args)?;
    let mut report = Report::new(&plan);
    let (stop, signal) = Stop::on_signals().map_err(|error| cannot("take over signals", error))?;
    let program = Program::new(&[WORD]).map_err(|error| cannot("find its own executable", error))?;
    let program = Arc::new(program.stopped_by(stop));
    let page = if args.no_page { None } else { Some(open_page(&args, &report)?) };
    let mut hall = Hall {
        page,
        is_json: args.json,
        progress: Progress::new(plan.runs(), "runs", surroundings.stderr_is_terminal),
        runs: 0,
    };
    let ended = hall
        .begin(&args, surroundings, &program, &report)
        .and_then(|()| race::run(&program, &plan, &mut report, &mut |report, news| hall.tell(report, news)))
        .and_then(|()| hall.results(&report));
    let is_interrupted = ended.is_err() && program.stops_within(SIGNAL_MAX);
    hall.end();
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(_) if is_interrupted => signal.interrupted(),
        Err(error) => match error.downcast::<Unread>() {
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Exit::runtime("race", error, "nothing is left running")),
        },
    }
}

fn cannot(what: &str, error: io::Error) -> Exit {
    Exit::runtime(&format!("race: cannot {what}"), error, "try again")
}

fn list() -> String {
    let lines = race::possible().into_iter().map(|one| format!("{:<18} {}\n", one.name, one.title));
    lines.collect()
}

fn plan(args: &RaceArgs) -> Result<Plan, Exit> {
    let (warm_ms, measure_ms) = if args.quick { (30, 120) } else { (80, 400) };
    let seed = random_bytes::<8>().map_or(0, u64::from_le_bytes);
    Ok(Plan { scenarios: chosen(args)?, rounds: args.rounds.unwrap_or(7), warm_ms, measure_ms, seed })
}

fn chosen(args: &RaceArgs) -> Result<Vec<Scenario>, Exit> {
    if args.scenarios.is_empty() {
        return Ok(race::usual(args.quick));
    }
    let possible = race::possible();
    let mut chosen: Vec<Scenario> = Vec::new();
    for name in &args.scenarios {
        match possible.iter().find(|one| one.name == *name) {
            Some(_) if chosen.iter().any(|one| one.name == *name) => {}
            Some(one) => chosen.push(one.clone()),
            None => return Err(Exit::tool_usage(WORD, &unknown(name, &possible))),
        }
    }
    Ok(chosen)
}

fn unknown(name: &str, possible: &[Scenario]) -> String {
    if scenario::named(name).is_some() {
        return format!(
            "scenario '{name}' needs a rate that both models can hold; \
             cargo bench --bench versus -- --filter {name} finds one"
        );
    }
    let name: String = name.chars().take(40).collect();
    let known: Vec<&str> = possible.iter().map(|one| one.name.as_str()).collect();
    hint::unknown(&format!("unknown scenario '{name}'"), &name, &known)
}

fn open_page(args: &RaceArgs, report: &Report) -> Result<Page, Exit> {
    Page::open(args.port.unwrap_or(0), report).map_err(|error| match error {
        BindError::Address(address, error) => Exit::cannot_listen(&address, &error),
        other => Exit::cannot_bind(other, ""),
    })
}

/// Signals that end a race.
struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Takes over the signals. The first result becomes readable with the first signal.
    fn on_signals() -> io::Result<(UnixStream, Stop)> {
        let (read, write) = UnixStream::pair()?;
        let number = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let value = usize::try_from(signal).unwrap_or_default();
            signal_hook::flag::register_usize(signal, Arc::clone(&number), value)?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok((read, Stop(number)))
    }

    fn interrupted(&self) -> Result<ExitCode, Exit> {
        // The terminal may be gone.
        let _ = io::stderr().lock().write_all(b"whirligig race: interrupted\n");
        Ok(ExitCode::from(128 + u8::try_from(self.0.load(Ordering::Relaxed)).unwrap_or_default()))
    }
}

/// Nobody reads the output any more, so the race ends without an error.
#[derive(Debug)]
struct Unread;

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody reads the results")
    }
}

impl std::error::Error for Unread {}

/// The places at which a race is shown: a terminal or pipe, and a page.
struct Hall {
    page: Option<Page>,
    is_json: bool,
    progress: Progress,
    runs: u64,
}

impl Hall {
    /// Prints the beginning. At a terminal, or if the page was asked for, waits until a browser
    /// shows the page, for a limited time, so that its reader can guess before the first run.
    fn begin(
        &mut self,
        args: &RaceArgs,
        surroundings: &Surroundings,
        program: &Program,
        report: &Report,
    ) -> Fallible<()> {
        for warning in &report.warnings {
            self.note(&format!("whirligig race: {warning}\n"));
        }
        let Some(url) = self.page.as_ref().map(Page::url) else { return self.say(&heading(report)) };
        if self.is_json {
            self.note(&format!("{url}\n"));
        } else {
            self.say(&format!("{url}\n"))?;
        }
        if args.open {
            open_browser(&url).unwrap_or_else(|error| self.note(&format!("whirligig race: {error}\n")));
        }
        if surroundings.stdout_is_terminal || args.open || args.port.is_some() {
            let seconds = VIEWER_MAX.as_secs();
            self.note(&format!("The race begins when a browser shows that page, or in {seconds} s.\n"));
            let mut checks = VIEWER_MAX.as_millis() / VIEWER_CHECK.as_millis();
            while !self.page.as_ref().is_some_and(Page::has_viewer) && checks > 0 {
                if program.stops_within(VIEWER_CHECK) {
                    return Err(crate::bench::program::INTERRUPTED.into());
                }
                checks -= 1;
            }
        }
        self.say(&heading(report))
    }

    /// Shows news.
    fn tell(&mut self, report: &Report, news: &News<'_>) -> Fallible<()> {
        match news {
            News::Warming => self.count(),
            News::Noise => {
                self.show(report, None)?;
                let noise = report.noise.unwrap_or_default() * 100.0;
                self.say(&format!("Two servers of one model differ by up to {noise:.1} %: the noise.\n\n"))?;
                self.say(&format!("{:<18}{:>10}{:>10}  responses per second\n", "", "reactor", "threads"))?;
            }
            News::Run(compared) => {
                self.count();
                self.show(report, Some(compared))?;
            }
            News::Judged(compared) => {
                self.show(report, Some(compared))?;
                self.say(&verdict(compared))?;
            }
        }
        Ok(())
    }

    fn count(&mut self) {
        self.runs += 1;
        self.progress.show(self.runs);
    }

    fn show(&self, report: &Report, changed: Option<&Compared>) -> Fallible<()> {
        self.page.as_ref().map_or(Ok(()), |page| page.show(report, changed))
    }

    fn results(&mut self, report: &Report) -> Fallible<()> {
        self.progress.clear();
        if self.is_json {
            print(&(report.json()? + "\n")).map_err(|exit| exit.text().trim().to_owned())?;
        }
        self.say(&costs(report))
    }

    /// Prints text for people, above the progress bar.
    fn say(&mut self, text: &str) -> Fallible<()> {
        if self.is_json {
            return Ok(());
        }
        self.progress.clear();
        match print_more(text) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unread.into()),
            Err(exit) => Err(exit.text().trim().to_owned().into()),
        }
    }

    /// Prints a note beside the results. It does not matter if nobody reads it.
    fn note(&self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    fn end(mut self) {
        self.progress.clear();
        if let Some(page) = self.page {
            page.end();
        }
    }
}

/// Opens an address in the browser. Does not wait for it.
fn open_browser(url: &str) -> Result<(), String> {
    let commands = std::env::var("BROWSER").unwrap_or_default();
    let started = browser::start(&commands, url);
    started.map(drop).map_err(|(command, error)| format!("--open: cannot start '{command}': {error}"))
}

fn heading(report: &Report) -> String {
    let count = report.scenarios.len();
    let plural = if count == 1 { "" } else { "s" };
    format!(
        "Reactor against threads in {count} scenario{plural}, {} rounds of {} ms each.\n\
         The servers run one at a time. First each model races against itself.\n",
        report.rounds, report.measured_ms
    )
}

/// Returns the line of a scenario that has ended.
fn verdict(compared: &Compared) -> String {
    let [first, other] = &compared.sides;
    let mut line = format!(
        "{:<18}{:>10}{:>10}  {}",
        compared.name,
        grouped(first.rate),
        grouped(other.rate),
        compared.words.as_deref().unwrap_or("no verdict")
    );
    if compared.is_generator_bound {
        line.push_str(" *");
    }
    if compared.errors() > 0 {
        let _ = write!(line, ", {} ERRORS", compared.errors());
    }
    line + "\n"
}

/// Returns the table of latencies and costs.
fn costs(report: &Report) -> String {
    let mut out = format!(
        "\n{:<18}{:<9}{:>9}{:>10}{:>9}{:>11}{:>11}\n",
        "each response", "", "cpu µs", "switches", "threads", "p50", "p99"
    );
    for compared in &report.scenarios {
        for (at, side) in compared.sides.iter().enumerate() {
            let name = if at == 0 { compared.name.as_str() } else { "" };
            let _ = writeln!(
                out,
                "{name:<18}{:<9}{:>9.2}{:>10.3}{:>9.0}{:>11}{:>11}",
                side.model,
                side.cpu_us_each,
                side.switches_each,
                side.threads,
                time(side.p50_us),
                time(side.p99_us)
            );
        }
    }
    out.push_str(
        "Medians of the rounds: processor time and context switches of the server for\n\
         each response, its threads, and the service time of requests.\n",
    );
    if report.scenarios.iter().any(|compared| compared.is_generator_bound) {
        out.push_str("* The load generator was the limit: compare processor time, not rates.\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tool::WIDTH;

    #[test]
    fn lines_fit_a_terminal() {
        let plan = Plan { scenarios: race::possible(), rounds: 5, warm_ms: 1, measure_ms: 1, seed: 1 };
        let report = Report::new(&plan);
        let verdicts = report.scenarios.iter().map(verdict).collect::<String>();
        for line in [list(), heading(&report), verdicts, costs(&report), EXAMPLES.to_owned()].concat().lines()
        {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn a_misspelt_scenario_gets_a_name() {
        let possible = race::possible();
        assert_eq!(unknown("helo", &possible), "unknown scenario 'helo': did you mean 'hello'?");
        assert!(unknown("x", &possible).contains("allowed: hello, file-1k, "));
        assert!(unknown("open-50", &possible).contains("cargo bench --bench versus -- --filter open-50"));
    }

    #[test]
    fn usual_scenarios_exist_and_the_quick_ones_are_some_of_them() {
        let (all, quick) = (race::usual(false), race::usual(true));
        assert_eq!((all.len(), quick.len()), (7, 4));
        let possible = race::possible();
        assert!(all.iter().chain(&quick).all(|one| possible.iter().any(|other| other.name == one.name)));
    }
}
