//! The access log and diagnostics: a bounded queue, one writer thread, and the loggers that send to
//! the queue.
//!
//! Nothing in this folder may know sockets, connections or HTTP.

#[cfg(feature = "os")]
mod buffer;
#[cfg(feature = "os")]
mod diagnostics;
mod entry;
#[cfg(feature = "os")]
mod file;
#[cfg(not(feature = "os"))]
mod no_buffer;
#[cfg(feature = "os")]
mod once;
#[cfg(feature = "os")]
mod panics;
#[cfg(feature = "os")]
mod terminal;
#[cfg(feature = "os")]
mod trace;
#[cfg(feature = "os")]
mod writer;

#[cfg(feature = "os")]
pub use buffer::AccessBuffer;
#[cfg(feature = "os")]
pub use diagnostics::install;
pub use entry::{AccessEntry, clf_time, format_entry};
#[cfg(feature = "os")]
pub use file::{AccessLog, open_access_log};
#[cfg(not(feature = "os"))]
pub use no_buffer::AccessBuffer;
#[cfg(feature = "os")]
pub(crate) use once::{Once, shorten};
#[cfg(feature = "os")]
pub use panics::install_panic_hook;
#[cfg(feature = "os")]
pub(crate) use panics::spare_this_thread;
#[cfg(feature = "os")]
pub use terminal::Colors;
#[cfg(feature = "cli")]
pub(crate) use terminal::escape_control;
#[cfg(feature = "os")]
pub use writer::{FlushGuard, LogQueue};
