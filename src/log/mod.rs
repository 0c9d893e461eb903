//! The access log and diagnostics: a bounded queue, one writer thread, and the loggers that send to
//! the queue.
//!
//! Nothing in this folder may know sockets, connections or HTTP.

mod buffer;
mod diagnostics;
mod entry;
mod file;
mod once;
mod panics;
mod terminal;
mod trace;
mod writer;

pub use buffer::AccessBuffer;
pub use diagnostics::install;
pub use entry::{AccessEntry, clf_time, format_entry};
pub use file::{AccessLog, open_access_log};
pub(crate) use once::{Once, shorten};
pub use panics::install_panic_hook;
pub(crate) use panics::spare_this_thread;
pub(crate) use terminal::escape_control;
pub use writer::{FlushGuard, LogQueue};
