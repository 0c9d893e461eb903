//! Panics as lines of the log, or of standard error.
//!
//! Resolving a backtrace means reading debug information for a tenth of a second and more. Clients
//! on the loop of a panicking handler must not wait for that. So the panicking thread only collects
//! addresses, and the log's writer or a thread made for it turns them into names.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::log::{IS_WRITER, LogQueue, Message};
use log::Level;

/// Lines of one backtrace that are written.
const TRACE_LINES_MAX: usize = 100;

thread_local! {
    /// True on the thread of a loop.
    static IS_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// A trace waits to be resolved. Until that is done the standard library holds a lock that the next
/// one to collect addresses would wait for.
static IS_UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// Set when a hook of ours is in place.
static HOOK: Once = Once::new();

/// A backtrace without names. There is one at a time.
pub(super) struct Trace(Backtrace);

impl Trace {
    /// The calls that led here, if `RUST_BACKTRACE` asks for them and no other trace is under way.
    fn collect() -> Option<Trace> {
        if IS_UNDER_WAY.swap(true, Ordering::AcqRel) {
            return None;
        }
        let trace = Trace(Backtrace::capture());
        (trace.0.status() == BacktraceStatus::Captured).then_some(trace)
    }

    /// The lines of the trace, with names. Takes a tenth of a second and more.
    pub(super) fn lines(self) -> Vec<String> {
        self.0.to_string().lines().take(TRACE_LINES_MAX).map(str::to_owned).collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        IS_UNDER_WAY.store(false, Ordering::Release);
    }
}

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

pub(super) fn record(queue: &LogQueue, info: &PanicHookInfo<'_>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// A trace takes the lock of the standard library while it is resolved: nobody may wait for
    /// that.
    #[test]
    fn the_writer_resolves_traces_one_at_a_time() {
        let (sender, lines) = channel();
        let print = move |_: Level, _: &str, text: &str| sender.send(text.to_owned()).unwrap();
        let queue = LogQueue::with_print(None, Box::new(print));
        assert!(!IS_UNDER_WAY.swap(true, Ordering::AcqRel));
        let trace = Trace(Backtrace::force_capture());
        assert!(Trace::collect().is_none(), "another one is under way");
        assert!(queue.send(Message::Trace(trace)).is_ok());
        let mut all = String::new();
        while let Ok(line) = lines.recv_timeout(Duration::from_secs(10)) {
            all += &line;
            if line.contains("the_writer_resolves_traces_one_at_a_time") {
                break;
            }
        }
        assert!(all.contains("the_writer_resolves_traces_one_at_a_time"), "{all}");
        assert!(queue.flush(Duration::from_secs(10)));
        assert!(!IS_UNDER_WAY.load(Ordering::Acquire), "the next one may come");
    }
}
