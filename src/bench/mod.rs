//! Comparison of the two models: servers in processes of their own, a load generator, and verdicts.
//!
//! - `scenario` defines the requests, and `server` the handlers that respond to them.
//! - `program` is this executable, which `process` starts again as servers and generators, reading
//!   their usage; `cpu` pins them.
//! - `check` verifies the responses, and `load` generates the load. `histogram` counts latencies.
//! - `round` runs one job against one server.
//! - `stats` decides which model was faster, and `words` formats figures.
//! - `race` is a race in a few scenarios with a page, in a `folder` that it removes.
//!
//! `cargo bench --bench versus` makes its report from these parts, and `whirligig race` its race.
//! This folder must not know flags, and no server may know this folder.

pub mod check;
pub mod cpu;
mod folder;
pub mod histogram;
pub mod load;
pub mod process;
pub mod program;
pub mod race;
pub mod round;
pub mod scenario;
pub mod server;
pub mod stats;
pub mod words;

/// Result of a benchmark step. The error text is printed and ends the benchmark.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Names of both models. Ratios are those of the first one over the second one.
pub const MODELS: [&str; 2] = ["reactor", "threads"];

/// A response that takes longer, in milliseconds, counts as an error.
pub const TIMEOUT_MS: u64 = 10_000;
