//! The loop against the twin: `cargo bench --bench versus`.
//!
//! Both models serve the same folder at the same time, on one processor; a load generator on another asks one of
//! them at a time, in rounds whose order is drawn by lot, so that what changes on the machine meanwhile hits both
//! alike. Each is checked for right answers before it is timed. Options: `cargo bench --bench versus -- --help`.
//!
//! Read the processor time per request rather than the rate where the two disagree: the rate also depends on how
//! fast the generator can ask.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

#[path = "versus/load.rs"]
mod load;
#[path = "versus/server.rs"]
mod server;
#[path = "versus/table.rs"]
mod table;

use load::{Job, Outcome};
use server::Server;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const MODELS: [&str; 2] = ["reactor", "threads"];

/// What is asked for: a name, and a file of that many bytes.
const WORKLOADS: [(&str, usize); 2] = [("hello", 13), ("1k", 1024)];

/// Compares the poll loop with a thread per connection.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench versus --")]
struct Options {
    /// Three short rounds: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// Only what has this in its name, such as `hello` or `1k/threads`
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Shows the names and ends
    #[arg(long)]
    list: bool,
    /// Runs of each
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds each run is measured
    #[arg(long, value_name = "SECS", default_value_t = 0.8, value_parser = seconds)]
    secs: f64,
    /// Kept-alive connections, each with one request on its way
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Draws the same order again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Passed by cargo, means nothing here
    #[arg(long, hide = true)]
    bench: bool,
    /// How this program asks itself to be the load generator
    #[arg(long, hide = true, value_name = "JSON")]
    generate: Option<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "a number of seconds".to_owned())?;
    if (0.05..=600.0).contains(&value) { Ok(value) } else { Err("from 0.05 to 600".to_owned()) }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "versus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Fallible<()> {
    let mut out = io::stdout().lock();
    if let Some(job) = &options.generate {
        let outcome = load::generate(&Job::from_json(job)?)?;
        return Ok(writeln!(out, "{}", outcome.to_json())?);
    }
    let names = names(&options.filter);
    if options.list {
        for (workload, model) in names {
            writeln!(out, "{}/{model}", workload.0)?;
        }
        return Ok(());
    }
    if cfg!(debug_assertions) {
        return Err("a debug build says nothing about speed; run it with `cargo bench --bench versus`".into());
    }
    if names.is_empty() {
        return Err(format!("nothing has {:?} in its name; --list shows the names", options.filter).into());
    }
    let (rounds, secs) = if options.quick { (3, 0.3) } else { (options.rounds, options.secs) };
    let seed = options.seed.unwrap_or_else(lot);
    let docroot = server::docroot(&WORKLOADS)?;
    let servers = [Server::start(MODELS[0], docroot.path())?, Server::start(MODELS[1], docroot.path())?];
    for (workload, model) in &names {
        servers[model_index(model)].check(workload.0, &server::content(workload.1))?;
    }
    table::header(&mut out, options.connections, rounds, secs, seed)?;

    let measure = Duration::from_secs_f64(secs);
    let results = measure_all(&names, &servers, rounds, options.connections, measure, seed)?;
    table::results(&mut out, &results)?;
    Ok(())
}

/// A workload and a model.
type Name = ((&'static str, usize), &'static str);

/// What came of all rounds of one workload on one model, in the order of the rounds.
struct Results {
    workload: &'static str,
    model: &'static str,
    outcomes: Vec<Outcome>,
}

fn names(filter: &str) -> Vec<Name> {
    let all = WORKLOADS.into_iter().flat_map(|workload| MODELS.map(|model| (workload, model)));
    all.filter(|(workload, model)| format!("{}/{model}", workload.0).contains(filter)).collect()
}

fn model_index(model: &str) -> usize {
    if model == MODELS[0] { 0 } else { 1 }
}

fn measure_all(
    names: &[Name],
    servers: &[Server; 2],
    rounds: u32,
    connections: u32,
    measure: Duration,
    seed: u64,
) -> Fallible<Vec<Results>> {
    let mut results: Vec<Results> = names
        .iter()
        .map(|(workload, model)| Results { workload: workload.0, model, outcomes: Vec::new() })
        .collect();
    let progress = ProgressBar::new(u64::from(rounds) * names.len() as u64);
    let style = "{bar:30} {pos}/{len} {msg} ({eta} left)";
    progress.set_style(ProgressStyle::with_template(style)?);
    let mut lots = Lots(seed);
    for _ in 0..rounds {
        let mut order: Vec<usize> = (0..names.len()).collect();
        lots.shuffle(&mut order);
        for index in order {
            let ((path, size), model) = names[index];
            progress.set_message(format!("{path}/{model}"));
            let server = &servers[model_index(model)];
            let job = Job {
                port: server.port,
                pid: server.pid(),
                path: path.to_owned(),
                size,
                connections,
                measure,
            };
            results[index].outcomes.push(server::run_generator(&job)?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(results)
}

/// A seed from the clock.
#[expect(clippy::disallowed_methods, reason = "any number will do, and it is printed")]
fn lot() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos())
}

/// Numbers by lot, the same for the same seed (SplitMix64).
struct Lots(u64);

impl Lots {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for last in (1..items.len()).rev() {
            let other = (self.next() % (last as u64 + 1)) as usize;
            items.swap(last, other);
        }
    }
}
