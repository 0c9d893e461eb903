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
//! - `whirligig::inside::bench`, which `whirligig race` shares, has the scenarios, servers, load
//!   generator and statistics. `machine` describes where they run.
//! - `measure` decides the order of runs. `sut` (system under test) and `counts` record results.
//! - `results` holds all results as values. `table`, `page`, `readme`, `home` and `baseline`
//!   present them, with pictures drawn by `chart` and `forest_plot`.
//!
//! `tests/it/versus.rs` includes this file as a module and tests the load generator and the
//! statistics, because a wrong load generator is worse than none.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

pub(crate) mod baseline;
pub(crate) mod chart;
pub(crate) mod counts;
pub(crate) mod forest_plot;
pub(crate) mod home;
pub(crate) mod machine;
pub(crate) mod measure;
pub(crate) mod options;
pub(crate) mod page;
pub(crate) mod readme;
pub(crate) mod results;
pub(crate) mod run;
pub(crate) mod sut;
pub(crate) mod table;

pub(crate) use whirligig::inside::bench::{
    Fallible, MODELS, TIMEOUT_MS, check, cpu, histogram, load, process, program, round, scenario, server,
    stats, words,
};

fn main() -> ExitCode {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    if let Some(ended) = process::play_part(words) {
        return ended;
    }
    match run::run(&options::Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "versus: {error}");
            ExitCode::FAILURE
        }
    }
}
