//! The parts of `cargo bench --bench versus`, in the order in which they are used.
//!
//! `options` says what is wanted and `run` has it done: `scenario` says what is asked of the
//! servers, `process` starts them, `check` looks whether they answer rightly, `load` asks,
//! `measure` decides who is asked when, `lane` and `counts` keep what came of it, `stats` says who
//! was faster. `results` is all of that as values; `table`, `page`, `readme` and `baseline` tell it
//! to people, with pictures by `chart` and `forest`. The tests of the project use these files, too
//! (`tests/it/versus.rs`): a load generator that lies is worse than none.

pub(crate) mod baseline;
pub(crate) mod chart;
pub(crate) mod check;
pub(crate) mod counts;
pub(crate) mod forest;
pub(crate) mod lane;
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
pub(crate) mod table;

/// A benchmark that cannot go on says why in words and stops.
pub(crate) type Fallible<T> = Result<T, Box<dyn std::error::Error>>;
