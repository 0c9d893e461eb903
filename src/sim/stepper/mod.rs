//! The stepper: moves through the record of a scenario's run, forward and back.
//!
//! A run is recorded whole, so a step back costs as much as a step forward. [`Session`] obeys
//! [`Command`]s and returns lines of text or one JSON object. `recording` has the run, `condition`
//! finds a step, `state` has both sides at a step, `explain` has a sentence for each step, and
//! `link` the address of a step. This folder must not know terminals or pages.
//!
//! ```
//! use whirligig::inside::sim::scenario::embedded;
//! use whirligig::inside::sim::stepper::{Choice, Session};
//!
//! let mut session = Session::open(embedded("stale-answer").unwrap(), Choice::default()).unwrap();
//! let reply = session.obey_all("u stale").unwrap();
//! assert!(reply.text().contains("stale 0.1: result dropped"));
//! ```

mod command;
mod condition;
mod explain;
mod holders;
mod json;
mod link;
mod recording;
mod session;
mod source;
mod state;
mod text;

pub use crate::sim::stepper::command::{Command, Way};
pub use crate::sim::stepper::condition::Condition;
pub use crate::sim::stepper::json::{bugs_json, lines_json, scenario_json, scenario_with_answer_json};
pub use crate::sim::stepper::link::{LINK_CHARS_MAX, Link};
pub use crate::sim::stepper::recording::{Choice, Recording};
pub use crate::sim::stepper::session::{Reply, Session};
pub use crate::sim::stepper::source::{Place, place_of};
pub use crate::sim::stepper::state::{Connection, Socket, State};
pub use crate::sim::stepper::text::{Kind, Line, scenario_lines};

#[cfg(test)]
mod tests;
