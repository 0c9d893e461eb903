//! Panic hooks that write to the log or to standard error.
//!
//! Resolving a backtrace reads debug information, which takes a tenth of a second or more. Clients
//! on the loop of a panicking handler must not wait for that. So the panicking thread only collects
//! addresses. The writer of the log, or a thread for this purpose, resolves their names.

use std::cell::Cell;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::sync::Once;
use std::thread;

use log::Level;

use crate::log::trace::Trace;
use crate::log::writer::{IS_WRITER, LogQueue, Message};

thread_local! {
    /// True on a thread that runs a loop.
    static IS_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// Done when one of the hooks of this file is installed.
static HOOK: Once = Once::new();

/// Installs a hook that logs panics as errors. The standard hook would write to standard error
/// itself, and block the loop if that is a full pipe. If `RUST_BACKTRACE` is set, the backtrace
/// follows, one line per frame.
pub fn install_panic_hook(queue: LogQueue) {
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(move |info| {
            // The writer panics if standard error fails. Logging that would repeat the failure.
            if !IS_WRITER.get() {
                record(&queue, info);
            }
        }));
    });
}

fn record(queue: &LogQueue, info: &PanicHookInfo<'_>) {
    queue.record(Level::Error, "panic", describe(info));
    if let Some(trace) = Trace::collect() {
        // If the queue is full, the line above is lost as well.
        let _ = queue.send(Message::Trace(trace));
    }
}

/// Marks this thread as one that runs a loop. If `RUST_BACKTRACE` is set, a panic on it no longer
/// reaches the hook of the program, which by default would resolve a backtrace at once. Panics of
/// other threads still reach that hook.
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

/// Writes the panic to standard error as the standard hook does, but from another thread.
fn report(info: &PanicHookInfo<'_>) {
    let (text, trace) = (describe(info), Trace::collect());
    let write = move || {
        let lines = trace.map(Trace::lines).unwrap_or_default();
        // If standard error is closed, the message is lost.
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
