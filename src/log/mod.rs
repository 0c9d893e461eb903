//! The writer thread for the access log and for diagnostics, and the bounded queue that leads to
//! it.
//!
//! Whoever logs hands over owned bytes and goes on: a full disk, a closed pipe or a reader that has
//! stopped reading costs lines, which are counted, and never time. Nobody but the writer thread
//! touches standard error once the server runs, and nobody waits for that thread without a bound.
//! This file must not know sockets, connections or HTTP; its callers pass the time, and only the
//! writer thread reads a clock of its own.

mod entry;
mod once;
mod panics;

pub use entry::{AccessEntry, clf_time, format_entry};
pub(crate) use once::{Once, shorten};
use panics::Trace;
pub use panics::install_panic_hook;
pub(crate) use panics::spare_this_thread;

use crate::config::{
    LOG_BUFFER_AGE, LOG_BUFFER_BYTES, LOG_MESSAGE_BYTES_MAX, LOG_QUEUE_BYTES_MAX, LOG_QUEUE_MAX,
    LOG_REPORT_INTERVAL, LOG_SPARE_BUFFERS_MAX, LOG_STALL_MAX, LogFormat, LogTarget, THREAD_REST,
};
use crate::jobs::lock;
use crate::text::is_bidi_control;
use log::{Level, LevelFilter, Log as _, Metadata, Record, SetLoggerError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simple_logger::SimpleLogger;
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// The way to the writer thread. Clones are cheap and lead to the same thread; no method but
/// [`LogQueue::flush`] ever waits.
///
/// The thread starts when there is something to write and ends when there has been nothing for
/// [`THREAD_REST`], which says why. What it owns waits for the next one.
#[derive(Clone)]
pub struct LogQueue {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
    desk: Arc<Mutex<Desk>>,
}

/// Where the writer is while no thread runs it.
struct Desk {
    writer: Option<Box<Writer>>,
    /// A thread was started for it and has not come yet: one is enough, however much is logged
    /// meanwhile.
    is_called: bool,
}

thread_local! {
    /// Whether this thread is a writer's.
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// What both ends of the queue look at.
struct Shared {
    /// Lines that did not reach their log, for whatever reason. A plain counter: `Relaxed` is
    /// enough.
    dropped: AtomicU64,
    /// Bytes of access lines between the loops and the file.
    queued_bytes: AtomicUsize,
    reopen: AtomicBool,
    /// Called when the access log was opened again.
    after_reopen: OnceLock<Box<dyn Fn() + Send + Sync>>,
    colored: AtomicBool,
    /// Written buffers on their way back. Only ever tried for, not waited for.
    spares: Mutex<Vec<Vec<u8>>>,
}

enum Message {
    /// Access lines that have waited for others.
    Access(Vec<u8>),
    /// Access lines that the writer keeps for [`LOG_BUFFER_AGE`], so that others join them.
    Gather(Vec<u8>),
    Record(Level, String, String),
    /// The backtrace of the panic in the line before.
    Trace(Trace),
    Flush(SyncSender<()>),
    /// Look at the flags.
    Wake,
}

impl LogQueue {
    /// A queue before this access log. Without one, access lines are dropped silently: do not make
    /// any.
    #[must_use]
    pub fn new(access: Option<AccessLog>) -> LogQueue {
        let logger = SimpleLogger::new().with_colors(false).with_utc_timestamps();
        LogQueue::with_print(access, Box::new(move |level, target, text| print(&logger, level, target, text)))
    }

    fn with_print(access: Option<AccessLog>, print: Print) -> LogQueue {
        let (sender, receiver) = sync_channel(LOG_QUEUE_MAX);
        let shared = Arc::new(Shared {
            dropped: AtomicU64::new(0),
            queued_bytes: AtomicUsize::new(0),
            reopen: AtomicBool::new(false),
            after_reopen: OnceLock::new(),
            colored: AtomicBool::new(false),
            spares: Mutex::new(Vec::new()),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            receiver,
            access,
            print,
            gathered: Vec::new(),
            gathered_due: None,
            reported: 0,
            last_report: None,
            failing: None,
        };
        let desk = Desk { writer: Some(Box::new(writer)), is_called: false };
        LogQueue { sender, shared, desk: Arc::new(Mutex::new(desk)) }
    }

    /// Leaves a message and sees to it that there is a thread to read it.
    fn send(&self, message: Message) -> Result<(), TrySendError<Message>> {
        let sent = self.sender.try_send(message);
        self.call_writer();
        sent
    }

    /// Starts a thread if the writer is on its desk. Where none can be had, what was sent waits for
    /// the next call.
    fn call_writer(&self) {
        {
            let mut desk = lock(&self.desk);
            if desk.writer.is_none() || desk.is_called {
                return;
            }
            desk.is_called = true;
        }
        let desk = Arc::clone(&self.desk);
        let run = move || {
            IS_WRITER.set(true);
            let writer = {
                let mut desk = lock(&desk);
                desk.is_called = false;
                desk.writer.take()
            };
            if let Some(writer) = writer {
                writer.run(&desk);
            }
        };
        if thread::Builder::new().name("log".into()).spawn(run).is_err() {
            lock(&self.desk).is_called = false;
        }
    }

    /// Hands over whole access lines. Gives back an empty buffer for the next ones if one is at
    /// hand. When the writer is too far behind, the lines are dropped and counted.
    pub fn access(&self, lines: Vec<u8>) -> Option<Vec<u8>> {
        self.hand_over(lines, Message::Access)
    }

    fn hand_over(&self, lines: Vec<u8>, message: fn(Vec<u8>) -> Message) -> Option<Vec<u8>> {
        let bytes = lines.len();
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let refused = if queued > LOG_QUEUE_BYTES_MAX {
            self.call_writer();
            Some(lines)
        } else {
            match self.send(message(lines)) {
                Ok(()) => None,
                Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => match message {
                    Message::Access(lines) | Message::Gather(lines) => Some(lines),
                    Message::Record(..) | Message::Trace(_) | Message::Flush(_) | Message::Wake => None,
                },
            }
        };
        let Some(mut lines) = refused else { return self.shared.take_spare() };
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.dropped.fetch_add(count_lines(&lines), Ordering::Relaxed);
        lines.clear();
        Some(lines)
    }

    /// Hands over one diagnostic line; dropped and counted when the queue is full.
    fn record(&self, level: Level, target: &str, text: String) {
        if self.send(Message::Record(level, target.to_owned(), text)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines lost so far: the queue was full, or the access log could not be written.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Asks the writer to open the access-log file again by its path. Call it on SIGHUP, after the
    /// old file was moved away. If that fails the old file is kept, and said so.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        // With the queue full the writer is awake anyway and finds the flag.
        let _ = self.send(Message::Wake);
    }

    /// Registers `call`, which runs each time that the access log was opened again. The first call
    /// counts.
    pub fn after_reopen(&self, call: Box<dyn Fn() + Send + Sync>) {
        drop(self.shared.after_reopen.set(call));
    }

    /// Waits until the writer has written what was handed over before, for `timeout` at most.
    /// `false` if it has not: a thread stuck on a full pipe must not hold the exit.
    pub fn flush(&self, timeout: Duration) -> bool {
        let step = Duration::from_millis(5);
        let (done, answer) = sync_channel(1);
        let mut left = timeout;
        loop {
            match self.send(Message::Flush(done.clone())) {
                Ok(()) => return answer.recv_timeout(left).is_ok(),
                Err(TrySendError::Disconnected(_)) => return false,
                // Full: nobody can answer yet, so this is a pause that needs no clock.
                Err(TrySendError::Full(_)) => {
                    let _ = answer.recv_timeout(step.min(left));
                }
            }
            left = left.saturating_sub(step);
            if left.is_zero() {
                return false;
            }
        }
    }

    /// A guard that flushes when it is dropped, so that a panic on its way out of `main` is still
    /// seen. `std::process::exit` does not run it.
    pub fn flush_at_end(&self, timeout: Duration) -> FlushGuard {
        FlushGuard { queue: self.clone(), timeout }
    }
}

impl Shared {
    fn take_spare(&self) -> Option<Vec<u8>> {
        self.spares.try_lock().ok()?.pop()
    }

    /// Keeps a written buffer for the next caller, unless one long line has blown it up.
    fn give_spare(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        if buffer.capacity() <= 4 * LOG_BUFFER_BYTES
            && let Ok(mut spares) = self.spares.try_lock()
            && spares.len() < LOG_SPARE_BUFFERS_MAX
        {
            spares.push(buffer);
        }
    }
}

/// Made by [`LogQueue::flush_at_end`].
pub struct FlushGuard {
    queue: LogQueue,
    timeout: Duration,
}

impl Drop for FlushGuard {
    fn drop(&mut self) {
        self.queue.flush(self.timeout);
    }
}

/// The access lines of one loop, or of one thread of the twin, on their way to the queue. The
/// buffer takes some 24 KiB with its first line and keeps them.
pub struct AccessBuffer {
    queue: LogQueue,
    format: LogFormat,
    lines: Vec<u8>,
    oldest: Option<Instant>,
}

impl AccessBuffer {
    /// An empty buffer before `queue`.
    pub fn new(queue: LogQueue, format: LogFormat) -> AccessBuffer {
        AccessBuffer { queue, format, lines: Vec::new(), oldest: None }
    }

    /// Adds one line; hands all of them over when they fill a buffer. Otherwise
    /// [`AccessBuffer::due`] says when to call [`AccessBuffer::flush`].
    pub fn append(&mut self, entry: &AccessEntry<'_>, now: Instant) {
        if self.lines.capacity() == 0 {
            // Half as much again, so that the line that crosses the mark seldom makes it grow.
            self.lines.reserve(LOG_BUFFER_BYTES + LOG_BUFFER_BYTES / 2);
        }
        self.oldest.get_or_insert(now);
        format_entry(self.format, entry, &mut self.lines);
        if self.lines.len() >= LOG_BUFFER_BYTES {
            self.flush();
        }
    }

    /// When the oldest line has waited long enough; `None` while there is none.
    pub fn due(&self) -> Option<Instant> {
        self.oldest.map(|oldest| oldest + LOG_BUFFER_AGE)
    }

    /// Hands over what there is. Call it when due, and once more when the loop ends.
    pub fn flush(&mut self) {
        self.hand_over(Message::Access);
    }

    /// Hands over what there is before it is due; the writer lets lines of other threads join it.
    /// For a thread that waits for its one client: nobody would call [`AccessBuffer::flush`] in
    /// time.
    pub fn flush_early(&mut self) {
        self.hand_over(Message::Gather);
    }

    fn hand_over(&mut self, message: fn(Vec<u8>) -> Message) {
        self.oldest = None;
        if !self.lines.is_empty() {
            let lines = std::mem::take(&mut self.lines);
            self.lines = self.queue.hand_over(lines, message).unwrap_or_default();
        }
    }
}

impl Drop for AccessBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

/// An access log that could be opened.
pub struct AccessLog {
    target: LogTarget,
    file: File,
    /// The last write ended inside a line.
    torn: bool,
    /// How long a log that takes nothing (a pipe nobody reads) may hold the writer thread.
    stall: Duration,
}

/// Opens the access log for appending. Call it before the server starts, so that a path that cannot
/// be written is an error the user sees at once.
pub fn open_access_log(target: &LogTarget) -> io::Result<AccessLog> {
    let file = match target {
        // A descriptor of our own: no line buffering, no lock to share with whoever else prints.
        LogTarget::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        LogTarget::File(path) => open_for_append(path)?,
    };
    Ok(AccessLog { target: target.clone(), file, torn: false, stall: LOG_STALL_MAX })
}

fn open_for_append(path: &Path) -> io::Result<File> {
    // Non-blocking matters for a named pipe only: without a reader, opening fails instead of
    // waiting for one.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().append(true).create(true).custom_flags(nonblocking).open(path)
}

impl AccessLog {
    fn name(&self) -> String {
        match &self.target {
            LogTarget::Stdout => "standard output".into(),
            LogTarget::File(path) => format!("'{}'", path.display()),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let LogTarget::File(path) = &self.target {
            self.file = open_for_append(path)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Writes whole lines; on failure says how many of them are lost. A line that was cut short by
    /// a full disk is ended before the next one, so that it spoils no other.
    fn write(&mut self, lines: &[u8]) -> Result<(), (io::Error, u64)> {
        if self.torn {
            self.write_all(&mut &b"\n"[..]).map_err(|error| (error, count_lines(lines)))?;
        }
        let mut left = lines;
        self.write_all(&mut left).map_err(|error| (error, count_lines(left)))
    }

    fn write_all(&mut self, left: &mut &[u8]) -> io::Result<()> {
        let mut stalled = false;
        while !left.is_empty() {
            match self.file.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = left[written - 1] != b'\n';
                    *left = &left[written..];
                    stalled = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Standard output may be a pipe that somebody else has made non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !stalled => {
                    self.wait_writable();
                    stalled = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait_writable(&self) {
        let timeout = Timespec {
            tv_sec: self.stall.as_secs().cast_signed(),
            tv_nsec: self.stall.subsec_nanos().into(),
        };
        // Whatever it says, the write that follows knows better.
        let _ = poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&timeout));
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Where diagnostics end up; a seam for the tests. It may panic.
type Print = Box<dyn Fn(Level, &str, &str) + Send>;

/// What the writer thread owns.
struct Writer {
    shared: Arc<Shared>,
    receiver: Receiver<Message>,
    access: Option<AccessLog>,
    print: Print,
    /// Lines that wait for others, which are written together with them.
    gathered: Vec<u8>,
    /// When the gathered lines are written at the latest; `None` while there are none.
    gathered_due: Option<Instant>,
    /// How many of the dropped lines were spoken of.
    reported: u64,
    last_report: Option<Instant>,
    /// Lines lost since the access log could not be written any more.
    failing: Option<u64>,
}

impl Writer {
    fn run(mut self: Box<Self>, desk: &Mutex<Desk>) {
        loop {
            match self.receiver.recv_timeout(self.span()) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) if self.unreported() > 0 || self.gathered_due.is_some() => {}
                Err(RecvTimeoutError::Timeout) => {
                    // Who sends looks here afterwards: either we find the message, or he finds us
                    // gone.
                    let mut desk = lock(desk);
                    match self.receiver.try_recv() {
                        Ok(message) => {
                            drop(desk);
                            self.take(message);
                        }
                        Err(TryRecvError::Empty) => {
                            desk.writer = Some(self);
                            return;
                        }
                        Err(TryRecvError::Disconnected) => break,
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.gathered_due.is_some_and(|due| now() >= due) {
                self.write_gathered();
            }
            if self.unreported() > 0 && self.may_report() {
                self.report_dropped();
            }
        }
        self.write_gathered();
        self.report_dropped();
    }

    /// How long to wait for a message.
    fn span(&self) -> Duration {
        let span = if self.unreported() > 0 { LOG_REPORT_INTERVAL } else { THREAD_REST };
        self.gathered_due.map_or(span, |due| due.saturating_duration_since(now()).min(span))
    }

    fn take(&mut self, message: Message) {
        if self.shared.reopen.swap(false, Ordering::Acquire) {
            self.write_gathered();
            self.reopen();
        }
        match message {
            Message::Access(lines) => {
                self.write_gathered();
                self.write_access(lines);
            }
            Message::Gather(lines) => self.gather(lines),
            Message::Record(level, target, text) => self.diagnose(level, &target, &text),
            Message::Trace(trace) => {
                for line in trace.lines() {
                    self.diagnose(Level::Error, "panic", &line);
                }
            }
            Message::Flush(done) => {
                self.write_gathered();
                self.report_dropped();
                // Whoever asked may have given up.
                let _ = done.try_send(());
            }
            Message::Wake => {}
        }
    }

    fn reopen(&mut self) {
        let Some(access) = &mut self.access else { return };
        if let Err(error) = access.reopen() {
            let name = access.name();
            self.say(
                Level::Error,
                &format!("cannot reopen the access log {name}: {error}; still writing to the old one"),
            );
        }
        if let Some(call) = self.shared.after_reopen.get() {
            call();
        }
    }

    /// Keeps lines until there are enough of them, or the first one has waited long enough.
    fn gather(&mut self, lines: Vec<u8>) {
        self.gathered.extend_from_slice(&lines);
        self.shared.give_spare(lines);
        if self.gathered.len() >= LOG_BUFFER_BYTES {
            self.write_gathered();
        } else if self.gathered_due.is_none() {
            self.gathered_due = Some(now() + LOG_BUFFER_AGE);
        }
    }

    fn write_gathered(&mut self) {
        self.gathered_due = None;
        if !self.gathered.is_empty() {
            let lines = std::mem::take(&mut self.gathered);
            self.write_access(lines);
        }
    }

    fn write_access(&mut self, lines: Vec<u8>) {
        if let Some(access) = &mut self.access {
            let (result, name) = (access.write(&lines), access.name());
            match result {
                Ok(()) => self.note_written(&name),
                Err((error, lost)) => self.note_lost(&name, &error, lost),
            }
        }
        self.shared.queued_bytes.fetch_sub(lines.len(), Ordering::Relaxed);
        self.shared.give_spare(lines);
    }

    /// A failing log is spoken of once, when it starts to fail, and once more when it works again.
    fn note_lost(&mut self, name: &str, error: &io::Error, lost: u64) {
        self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
        self.reported += lost;
        if self.failing.is_none() {
            self.last_report = Some(now());
            self.say(
                Level::Error,
                &format!("cannot write the access log {name}: {error}; serving goes on without it"),
            );
        }
        *self.failing.get_or_insert(0) += lost;
    }

    /// A log that works only now and then may not turn into two diagnostics a buffer.
    fn note_written(&mut self, name: &str) {
        if let Some(lost) = self.failing
            && self.may_report()
        {
            self.failing = None;
            self.last_report = Some(now());
            self.say(
                Level::Warn,
                &format!("the access log {name} can be written again; {lost} lines are lost"),
            );
        }
    }

    fn unreported(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed).saturating_sub(self.reported)
    }

    fn may_report(&self) -> bool {
        self.last_report.is_none_or(|last| now().duration_since(last) >= LOG_REPORT_INTERVAL)
    }

    fn report_dropped(&mut self) {
        let lines = self.unreported();
        if lines > 0 {
            self.reported += lines;
            self.last_report = Some(now());
            self.say(
                Level::Warn,
                &format!("{lines} log lines were dropped: they came faster than they could be written"),
            );
        }
    }

    /// The writer's own words.
    fn say(&mut self, level: Level, text: &str) {
        self.diagnose(level, "whirligig::log", text);
    }

    /// Prints one line of diagnostics. Standard error may be closed or full, and `eprintln` panics
    /// then. There is nobody left to tell (the access log has a format that others parse), so the
    /// line is counted, and to report it in its turn would only fail again, every second.
    fn diagnose(&mut self, level: Level, target: &str, text: &str) {
        let text = match self.shared.colored.load(Ordering::Relaxed) {
            true => paint(level, &escape_control(text)),
            false => escape_control(text),
        };
        let print = AssertUnwindSafe(|| (self.print)(level, &escape_control(target), &text));
        if catch_unwind(print).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            self.reported += 1;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the writer thread is no loop: it paces its own reports")]
fn now() -> Instant {
    Instant::now()
}

fn print(logger: &SimpleLogger, level: Level, target: &str, text: &str) {
    // The writer's own words did not pass through `log`, yet obey the same level.
    if level > log::max_level() {
        return;
    }
    logger.log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
}

/// Colours come from here: `SimpleLogger`, not being installed, would ask standard output whether
/// it is a terminal, while diagnostics go to standard error.
fn paint(level: Level, text: &str) -> String {
    let color = match level {
        Level::Error => "31",
        Level::Warn => "33",
        Level::Info => "36",
        Level::Debug | Level::Trace => "2",
    };
    format!("\x1b[{color}m{text}\x1b[0m")
}

/// Escapes what a terminal would obey or a reader would take for another line, and what turns text
/// around. Other letters stay: a path in Chinese is to be read.
pub(crate) fn escape_control(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\u{2028}' | '\u{2029}' => out.extend(letter.escape_default()),
            _ if letter.is_control() || is_bidi_control(letter) => out.extend(letter.escape_default()),
            _ => out.push(letter),
        }
    }
    out
}

/// The `log` crate's end of the queue.
struct QueueLogger {
    queue: LogQueue,
    level: LevelFilter,
}

/// Sends every `log` record of at least `level` to the writer thread, coloured if `color`. Call it
/// once, first thing after the queue is there. Crates we stand on are heard up to `info` only:
/// `-vv` is about our turns.
pub fn install(level: LevelFilter, color: bool, queue: LogQueue) -> Result<(), SetLoggerError> {
    queue.shared.colored.store(color, Ordering::Relaxed);
    log::set_boxed_logger(Box::new(QueueLogger { queue, level }))?;
    log::set_max_level(level);
    Ok(())
}

impl log::Log for QueueLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target() == "turn" || metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
        metadata.level() <= self.level && (ours || metadata.level() <= Level::Info)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut text = record.args().to_string();
            text.truncate(text.floor_char_boundary(LOG_MESSAGE_BYTES_MAX));
            self.queue.record(record.level(), record.target(), text);
        }
    }

    fn flush(&self) {
        self.queue.flush(LOG_REPORT_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MIB;
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn entry() -> AccessEntry<'static> {
        AccessEntry {
            peer: None,
            user: None,
            clf_time: b"-",
            request_line: b"GET / HTTP/1.1",
            host: None,
            refused: None,
            status: 200,
            body_bytes: 1,
            referer: None,
            user_agent: None,
            duration_us: 1,
        }
    }

    /// A queue whose diagnostics can be read.
    fn queue(access: Option<AccessLog>) -> (LogQueue, Receiver<String>) {
        let (sender, diagnostics) = mpsc::channel();
        let print: Print = Box::new(move |level, target, text| {
            sender.send(format!("{level} [{target}] {text}")).unwrap();
        });
        (LogQueue::with_print(access, print), diagnostics)
    }

    fn log_over(file: impl Into<std::os::fd::OwnedFd>) -> AccessLog {
        let stall = Duration::from_millis(1);
        AccessLog { target: LogTarget::Stdout, file: File::from(file.into()), torn: false, stall }
    }

    /// A writer that no thread runs and nothing is sent to.
    fn idle_writer(queue: &LogQueue, access: Option<AccessLog>) -> Writer {
        Writer {
            shared: Arc::clone(&queue.shared),
            receiver: sync_channel(1).1,
            access,
            print: Box::new(|_, _, _| {}),
            gathered: Vec::new(),
            gathered_due: None,
            reported: 0,
            last_report: None,
            failing: None,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn some_instant() -> Instant {
        Instant::now()
    }

    #[test]
    fn lines_reach_the_file_and_follow_it_when_it_is_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let target = LogTarget::File(path.clone());
        let (queue, diagnostics) = queue(Some(open_access_log(&target).unwrap()));
        queue.access(b"one\n".to_vec());
        assert!(queue.flush(PATIENCE));
        std::fs::rename(&path, &moved).unwrap();
        queue.access(b"two\n".to_vec());
        assert!(queue.flush(PATIENCE));
        queue.reopen();
        queue.access(b"three\n".to_vec());
        assert!(queue.flush(PATIENCE));
        assert_eq!(std::fs::read(&moved).unwrap(), b"one\ntwo\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");

        drop(folder);
        queue.reopen();
        assert!(queue.flush(PATIENCE));
        assert!(diagnostics.recv().unwrap().contains("cannot reopen the access log"));
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_an_error_at_once() {
        for path in ["/nonexistent/log", "/"] {
            assert!(open_access_log(&LogTarget::File(path.into())).is_err());
        }
    }

    #[test]
    fn a_named_pipe_without_a_reader_does_not_hold_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        assert!(open_access_log(&LogTarget::File(path)).is_err());
    }

    #[test]
    fn a_full_disk_costs_lines_and_is_reported_once() {
        let (queue, diagnostics) =
            queue(Some(open_access_log(&LogTarget::File("/dev/full".into())).unwrap()));
        for _ in 0..100 {
            queue.access(b"one\ntwo\n".to_vec());
            assert!(queue.flush(PATIENCE));
        }
        assert_eq!(queue.dropped(), 200);
        drop(queue);
        let said: Vec<String> = diagnostics.iter().collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("ERROR [whirligig::log] cannot write the access log"), "{said:?}");
    }

    #[test]
    fn a_closed_pipe_costs_lines_only() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        let (queue, _diagnostics) = queue(Some(log_over(writer)));
        queue.access(b"one\n".to_vec());
        assert!(queue.flush(PATIENCE));
        assert_eq!(queue.dropped(), 1);
    }

    /// Standard output into a pipe whose reader has stopped: the writer thread hangs in `write`,
    /// nobody else does.
    #[test]
    fn a_stuck_reader_holds_nobody() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (queue, diagnostics) = queue(Some(log_over(writer)));
        let buffer = [b"x".repeat(99), b"\n".to_vec()].concat().repeat(100);
        let mut sent = 0;
        while queue.dropped() == 0 {
            sent += 100;
            let spare = queue.access(buffer.clone());
            assert!(spare.is_none_or(|spare| spare.is_empty()));
        }
        assert!(sent * 100 < LOG_QUEUE_BYTES_MAX + MIB, "bounded by bytes, not by messages: {sent} lines");
        assert!(!queue.flush(Duration::from_millis(20)));
        drop(reader);
        assert!(queue.flush(PATIENCE));
        drop(queue);
        let said: Vec<String> = diagnostics.iter().collect();
        assert!(said.iter().any(|line| line.contains("100 log lines were dropped")), "{said:?}");
    }

    #[test]
    fn diagnostics_are_bounded_and_flush_gives_up_in_time() {
        let (release, gate) = mpsc::channel::<()>();
        let print: Print = Box::new(move |_, _, _| {
            let _ = gate.recv();
        });
        let queue = LogQueue::with_print(None, print);
        while queue.dropped() == 0 {
            queue.record(Level::Info, "t", "text".into());
        }
        assert!(!queue.flush(Duration::from_millis(20)), "the queue is full");
        drop(release);
        assert!(queue.flush(PATIENCE));
    }

    /// A disk that fills up inside a line: the next line that fits must start on a line of its own.
    #[test]
    fn a_torn_line_spoils_no_other() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let mut log = log_over(writer);
        let long = [b"x".repeat(200_000), b"\n".to_vec()].concat();
        let (error, lost) = log.write(&long).unwrap_err();
        assert_eq!((error.kind(), lost), (io::ErrorKind::WouldBlock, 1));
        let mut reader = File::from(reader);
        let mut drained = vec![0; 1 << 20];
        let taken = io::Read::read(&mut reader, &mut drained).unwrap();
        assert!(drained[..taken].iter().all(|byte| *byte == b'x'));
        log.write(b"next\n").unwrap();
        let taken = io::Read::read(&mut reader, &mut drained).unwrap();
        assert_eq!(&drained[..taken], b"\nnext\n");
    }

    #[test]
    fn a_log_that_works_again_says_what_is_lost() {
        let (queue, _diagnostics) = queue(None);
        let mut writer = idle_writer(&queue, None);
        writer.note_lost("'log'", &io::ErrorKind::StorageFull.into(), 3);
        writer.note_written("'log'");
        assert_eq!(writer.failing, Some(3), "not within a second of the last report");
        writer.last_report = None;
        writer.note_written("'log'");
        assert_eq!((writer.failing, writer.unreported(), queue.dropped()), (None, 0, 3));
    }

    #[test]
    fn standard_error_may_fail() {
        let print: Print =
            Box::new(|_, _, _| std::panic::resume_unwind(Box::new("failed printing to stderr")));
        let queue = LogQueue::with_print(None, print);
        for _ in 0..3 {
            queue.record(Level::Error, "t", "text".into());
        }
        assert!(queue.flush(PATIENCE));
        assert!(queue.flush(PATIENCE), "the thread lives on");
        assert_eq!(queue.dropped(), 3);
    }

    #[test]
    fn messages_cannot_reach_the_terminal() {
        let (queue, diagnostics) = queue(None);
        queue.record(Level::Warn, "t\x1b", "a\x1b[2Jb\nERROR forged\r\u{9b}1m\u{202e} 日本 \\x".into());
        let line = diagnostics.recv().unwrap();
        assert_eq!(line, "WARN [t\\u{1b}] a\\u{1b}[2Jb\\nERROR forged\\r\\u{9b}1m\\u{202e} 日本 \\x");
        queue.shared.colored.store(true, Ordering::Relaxed);
        queue.record(Level::Warn, "t", "\x1b".into());
        assert_eq!(diagnostics.recv().unwrap(), "WARN [t] \x1b[33m\\u{1b}\x1b[0m");
    }

    #[test]
    fn levels_pass_what_they_name() {
        let (queue, _diagnostics) = queue(None);
        let enabled = |level, target, asked| {
            let logger = QueueLogger { queue: queue.clone(), level };
            logger.enabled(&Metadata::builder().level(asked).target(target).build())
        };
        assert!(enabled(LevelFilter::Warn, "whirligig::reactor", Level::Warn));
        assert!(!enabled(LevelFilter::Warn, "whirligig::reactor", Level::Info));
        assert!(!enabled(LevelFilter::Error, "turn", Level::Warn));
        assert!(enabled(LevelFilter::Trace, "turn", Level::Trace));
        assert!(!enabled(LevelFilter::Trace, "mio::poll", Level::Trace), "one line a turn, not one an event");
        assert!(enabled(LevelFilter::Debug, "mio::poll", Level::Info));
    }

    #[test]
    fn long_messages_are_cut_between_letters() {
        let (queue, diagnostics) = queue(None);
        let logger = QueueLogger { queue, level: LevelFilter::Info };
        let text = "é".repeat(LOG_MESSAGE_BYTES_MAX);
        logger
            .log(&Record::builder().level(Level::Info).target("turn").args(format_args!("a{text}")).build());
        let line = diagnostics.recv().unwrap();
        assert_eq!(line.len(), "INFO [turn] ".len() + LOG_MESSAGE_BYTES_MAX - 1);
    }

    #[test]
    fn a_buffer_goes_when_it_is_full_or_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (queue, _diagnostics) = queue(Some(open_access_log(&LogTarget::File(path.clone())).unwrap()));
        let mut buffer = AccessBuffer::new(queue.clone(), LogFormat::Common);
        let start = some_instant();
        assert_eq!(buffer.due(), None);
        buffer.append(&entry(), start);
        buffer.append(&entry(), start + Duration::from_millis(50));
        assert_eq!(buffer.due(), Some(start + LOG_BUFFER_AGE), "the oldest line counts");
        buffer.flush();
        assert_eq!(buffer.due(), None);
        assert!(queue.flush(PATIENCE));
        assert_eq!(count_lines(&std::fs::read(&path).unwrap()), 2);

        let mut appended = 2;
        loop {
            buffer.append(&entry(), start);
            appended += 1;
            if buffer.due().is_none() {
                break;
            }
        }
        assert!(queue.flush(PATIENCE));
        let written = std::fs::read(&path).unwrap();
        assert_eq!(count_lines(&written), appended);
        assert!(written.len() > LOG_BUFFER_BYTES);

        buffer.append(&entry(), start);
        drop(buffer);
        assert!(queue.flush(PATIENCE));
        assert_eq!(count_lines(&std::fs::read(&path).unwrap()), appended + 1);
    }

    /// The twin's threads hand lines over one by one; a system call for each would slow them down.
    #[test]
    fn lines_of_several_threads_are_written_together() {
        let (reader, file) = UnixDatagram::pair().unwrap();
        let written = || {
            let mut piece = [0; 2 * LOG_BUFFER_BYTES];
            let bytes = reader.recv(&mut piece).unwrap_or(0);
            String::from_utf8(piece[..bytes].to_vec()).unwrap()
        };
        reader.set_nonblocking(true).unwrap();
        let (queue, _diagnostics) = queue(None);
        let mut writer = idle_writer(&queue, Some(log_over(file)));
        let gather = |writer: &mut Writer, text: &str| {
            queue.shared.queued_bytes.fetch_add(text.len(), Ordering::Relaxed);
            writer.take(Message::Gather(text.into()));
        };
        gather(&mut writer, "a\n");
        gather(&mut writer, "b\n");
        assert_eq!(written(), "", "they wait for others");
        assert!(writer.gathered_due.is_some());
        writer.take(Message::Wake);
        assert_eq!(written(), "");
        writer.take(Message::Flush(sync_channel(1).0));
        assert_eq!(written(), "a\nb\n", "one write, which is a message of its own here");
        assert_eq!((writer.gathered_due, queue.shared.queued_bytes.load(Ordering::Relaxed)), (None, 0));

        // Before the log is opened anew they go to the old file, and later lines do not pass them.
        gather(&mut writer, "c\n");
        queue.shared.reopen.store(true, Ordering::Relaxed);
        writer.take(Message::Gather("d\n".into()));
        assert_eq!((written(), written()), ("c\n".into(), String::new()));
        writer.take(Message::Access("e\n".into()));
        assert_eq!([written(), written()], ["d\n", "e\n"]);

        // A full buffer does not wait.
        let long = "x".repeat(LOG_BUFFER_BYTES - 3) + "\n";
        gather(&mut writer, &long);
        assert_eq!(written(), "");
        gather(&mut writer, "y\n");
        assert_eq!(written(), long + "y\n");
        gather(&mut writer, "z\n");
        drop(queue);
        writer.receiver = sync_channel(1).1;
        Box::new(writer).run(&Mutex::new(Desk { writer: None, is_called: false }));
        assert_eq!(written(), "z\n", "lost with the last handle");
    }

    #[test]
    fn a_line_that_no_other_joins_is_written_in_time() {
        let (reader, file) = UnixDatagram::pair().unwrap();
        reader.set_read_timeout(Some(PATIENCE)).unwrap();
        let (queue, _diagnostics) = queue(Some(log_over(file)));
        let mut buffer = AccessBuffer::new(queue, LogFormat::Common);
        for _ in 0..2 {
            buffer.append(&entry(), some_instant());
            buffer.flush_early();
            assert!(reader.recv(&mut [0; 1024]).unwrap() > 0);
        }
    }

    #[test]
    fn spent_buffers_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let target = LogTarget::File(folder.path().join("log"));
        let (queue, _diagnostics) = queue(Some(open_access_log(&target).unwrap()));
        let mut lines = Vec::with_capacity(12_345);
        lines.extend_from_slice(b"one\n");
        // The writer may be done with it before `access` looks for a spare one, or after.
        let at_once = queue.access(lines);
        assert!(queue.flush(PATIENCE));
        let spare = at_once.or_else(|| queue.shared.take_spare()).unwrap();
        assert_eq!((spare.len(), spare.capacity()), (0, 12_345));
        queue.shared.give_spare(spare);
        assert!(queue.access(b"two\n".to_vec()).is_some());
        queue.access(Vec::with_capacity(8 * LOG_BUFFER_BYTES));
        assert!(queue.flush(PATIENCE));
        while let Some(spare) = queue.shared.take_spare() {
            assert!(spare.capacity() < 8 * LOG_BUFFER_BYTES, "one long line does not stay for ever");
        }
    }

    #[test]
    fn the_thread_ends_when_nothing_is_written_and_comes_back() {
        let (queue, diagnostics) = queue(None);
        for _ in 0..2 {
            queue.record(Level::Info, "t", "text".into());
            assert_eq!(diagnostics.recv_timeout(PATIENCE).unwrap(), "INFO [t] text");
            let give_up = now() + PATIENCE;
            while lock(&queue.desk).writer.is_none() {
                assert!(now() < give_up, "the writer is back on its desk");
                thread::yield_now();
            }
        }
        drop(queue);
        assert!(diagnostics.recv().is_err(), "what lay on the desk goes with the last handle");
    }

    #[test]
    fn one_thread_is_called_however_much_is_logged_before_it_comes() {
        let (queue, diagnostics) = queue(None);
        lock(&queue.desk).is_called = true;
        queue.record(Level::Info, "t", "one".into());
        assert!(diagnostics.recv_timeout(Duration::from_millis(100)).is_err(), "a second thread came");
        lock(&queue.desk).is_called = false;
        queue.record(Level::Info, "t", "two".into());
        for text in ["one", "two"] {
            assert_eq!(diagnostics.recv_timeout(PATIENCE).unwrap(), format!("INFO [t] {text}"));
        }
    }

    /// No thread could be had until the queue was full of lines: the writer is called all the same.
    #[test]
    fn a_full_queue_calls_the_writer_too() {
        let (queue, diagnostics) = queue(None);
        queue.shared.queued_bytes.store(LOG_QUEUE_BYTES_MAX, Ordering::Relaxed);
        queue.access(b"one\n".to_vec());
        let line = diagnostics.recv_timeout(PATIENCE).expect("somebody says what was dropped");
        assert!(line.contains("1 log lines were dropped"), "{line}");
    }

    #[test]
    fn a_guard_flushes() {
        let (queue, diagnostics) = queue(None);
        let guard = queue.flush_at_end(PATIENCE);
        queue.record(Level::Error, "t", "last words".into());
        drop(guard);
        assert_eq!(diagnostics.try_recv().unwrap(), "ERROR [t] last words");
    }
}
