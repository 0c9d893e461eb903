//! Panics as lines of the log, or of standard error.
//!
//! Resolving a backtrace means reading debug information for a tenth of a second and more. Clients
//! on the loop of a panicking handler must not wait for that. So the panicking thread only collects
//! addresses, and the log's writer or a thread made for it turns them into names.

use std::cell::Cell;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::sync::Once;
use std::thread;

use crate::log::trace::Trace;
use crate::log::writer::{IS_WRITER, LogQueue, Message};
use log::Level;

thread_local! {
    /// True on the thread of a loop.
    static IS_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// Set when a hook of ours is in place.
static HOOK: Once = Once::new();

/// Makes panics errors in the log. The standard hook writes to standard error itself, and would
/// hold the loop when that is a full pipe. With `RUST_BACKTRACE` set the trace follows, a line
/// each.
pub fn install_panic_hook(queue: LogQueue) {
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(move |info| {
            // The writer's own panic is standard error failing: to log that would go round in a
            // circle.
            if !IS_WRITER.get() {
                record(&queue, info);
            }
        }));
    });
}

fn record(queue: &LogQueue, info: &PanicHookInfo<'_>) {
    queue.record(Level::Error, "panic", describe(info));
    if let Some(trace) = Trace::collect() {
        // Where the queue is full, the line above is lost as well.
        let _ = queue.send(Message::Trace(trace));
    }
}

/// Marks this thread as a loop's. If `RUST_BACKTRACE` is set, a panic there no longer goes to the
/// hook of the program, which by default would resolve a backtrace at once. Panics of other threads
/// do.
pub(crate) fn spare_this_thread() {
    IS_LOOP.set(true);
    if std::env::var_os("RUST_BACKTRACE").is_none_or(|value| value == "0") {
        return;
    }
    HOOK.call_once(|| {
        let of_program = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match IS_LOOP.get() {
            true => report(info),
            false => of_program(info),
        }));
    });
}

/// Writes to standard error as the standard hook does, from a thread of its own.
fn report(info: &PanicHookInfo<'_>) {
    let (text, trace) = (describe(info), Trace::collect());
    let write = move || {
        let lines = trace.map(Trace::lines).unwrap_or_default();
        // Nobody is left to tell of a closed standard error.
        let _ = writeln!(std::io::stderr().lock(), "{text}\n{}", lines.join("\n"));
    };
    let _ = thread::Builder::new().name("whirligig-panic".into()).spawn(write);
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let place = info.location().map_or_else(|| "an unknown place".into(), ToString::to_string);
    let what = info.payload_as_str().unwrap_or("a payload without text");
    format!("thread '{}' panicked at {place}: {what}", thread.name().unwrap_or("?"))
}
