//! Benchmark that compares the reactor with the threads twin: `cargo bench --bench versus`.
//!
//! Both models are this executable, started again with one word of the configuration changed. Each
//! server is pinned to the same processor. A load generator on another processor sends requests to
//! them one after the other, in rounds of random order. Every response is checked before anything
//! is timed, and a server is compared with itself before it is compared with the other model.
//! Options: `cargo bench --bench versus -- --help`. How to read the figures: docs/performance.md.
//!
//! The modules in the order in which a run uses them:
//!
//! - `options` parses the command line, and `run` executes it.
//! - `scenario` defines the requests, and `server` the handlers that respond to them.
//! - `process` starts servers and generators; `cpu` and `machine` describe where they run.
//! - `check` verifies the responses, and `load` generates the load. `histogram` counts latencies.
//! - `measure` decides the order of runs. `sut` (system under test) and `counts` record results.
//! - `stats` decides which model was faster.
//! - `results` holds all results as values. `table`, `page`, `readme` and `baseline` present them,
//!   with pictures drawn by `chart` and `forest_plot`.
//!
//! `tests/it/versus.rs` includes this file as a module and tests the load generator and the
//! statistics, because a wrong load generator is worse than none.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

pub(crate) mod baseline;
pub(crate) mod chart;
pub(crate) mod check;
pub(crate) mod counts;
pub(crate) mod cpu;
pub(crate) mod forest_plot;
pub(crate) mod histogram;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod measure;
pub(crate) mod options;
pub(crate) mod page;
pub(crate) mod process;
pub(crate) mod readme;
pub(crate) mod results;
pub(crate) mod run;
pub(crate) mod scenario;
pub(crate) mod server;
pub(crate) mod stats;
pub(crate) mod sut;
pub(crate) mod table;

/// Result of a benchmark step. The error text is printed and ends the benchmark.
pub(crate) type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let ended = process::play_part().unwrap_or_else(|| run::run(&options::Options::parse()));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "versus: {error}");
            ExitCode::FAILURE
        }
    }
}
