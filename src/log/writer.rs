//! The writer thread for the access log and diagnostics, and the bounded queue in front of it.
//!
//! A thread that logs sends owned bytes and continues. A full disk, a closed pipe or a stalled
//! reader costs lines, which are counted, but no time. While the server runs, only the writer
//! thread writes to standard error, and every wait for that thread is bounded. This file must not
//! know sockets, connections or HTTP. Callers pass the time; only the writer thread reads a clock.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{io, thread};

use log::Level;

use crate::config::{
    LOG_BUFFER_AGE, LOG_BUFFER_BYTES, LOG_FLUSH_MAX, LOG_QUEUE_BYTES_MAX, LOG_QUEUE_MAX, LOG_REPORT_INTERVAL,
    LOG_SPARE_BUFFERS_MAX, THREAD_REST,
};
use crate::log::file::{AccessLog, count_lines};
use crate::log::terminal::{Colors, escape_control, paint, print};
use crate::log::trace::Trace;
use crate::sync::lock;

/// The sending end of the queue to the writer thread. Clones are cheap and share the thread. Only
/// [`LogQueue::flush`] waits.
///
/// The thread starts when there is something to write, and ends after [`THREAD_REST`] without work;
/// that constant gives the reason. The state of the writer is kept for the next thread.
#[derive(Clone)]
pub struct LogQueue {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
    slot: Arc<Mutex<WriterSlot>>,
}

/// Slot that holds the writer while no thread runs it.
struct WriterSlot {
    writer: Option<Box<Writer>>,
    /// True if a thread was started that has not taken the writer yet. One thread is enough,
    /// however much is logged meanwhile.
    is_called: bool,
}

thread_local! {
    /// True on a writer thread.
    pub(super) static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// State that both ends of the queue share.
struct Shared {
    /// Lines that were lost for any reason. This is a plain counter, so `Relaxed` is enough.
    dropped: AtomicU64,
    /// Bytes of access lines that were sent and not yet written.
    queued_bytes: AtomicUsize,
    reopen: AtomicBool,
    /// Called after the access log was reopened.
    after_reopen: OnceLock<Box<dyn Fn() + Send + Sync>>,
    colored: AtomicBool,
    /// Buffers for reuse. Threads use `try_lock` and never wait for this lock.
    spares: Mutex<Vec<Vec<u8>>>,
}

pub(super) enum Message {
    /// Access lines to write at once.
    Access(Vec<u8>),
    /// Access lines that the writer may keep for [`LOG_BUFFER_AGE`], to write them together with
    /// others.
    Gather(Vec<u8>),
    Record(Level, String, String),
    /// Backtrace of the panic in the line before.
    Trace(Trace),
    Flush(SyncSender<()>),
    /// Makes the writer check its flags.
    Wake,
}

impl LogQueue {
    /// Creates a queue for this access log. With `None`, access lines are dropped without a count,
    /// so do not create any.
    #[must_use]
    pub fn new(access: Option<AccessLog>) -> LogQueue {
        LogQueue::with_print(access, Box::new(print))
    }

    pub(super) fn with_print(access: Option<AccessLog>, print: Print) -> LogQueue {
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
        let slot = WriterSlot { writer: Some(Box::new(writer)), is_called: false };
        LogQueue { sender, shared, slot: Arc::new(Mutex::new(slot)) }
    }

    /// Sends a message and starts a thread if none runs.
    pub(super) fn send(&self, message: Message) -> Result<(), TrySendError<Message>> {
        let sent = self.sender.try_send(message);
        self.call_writer();
        sent
    }

    /// Starts a thread if none runs the writer. If that fails, messages wait for the next call.
    fn call_writer(&self) {
        {
            let mut slot = lock(&self.slot);
            if slot.writer.is_none() || slot.is_called {
                return;
            }
            slot.is_called = true;
        }
        let slot = Arc::clone(&self.slot);
        let run = move || {
            IS_WRITER.set(true);
            let writer = {
                let mut slot = lock(&slot);
                slot.is_called = false;
                slot.writer.take()
            };
            if let Some(writer) = writer {
                writer.run(&slot);
            }
        };
        if thread::Builder::new().name("log".into()).spawn(run).is_err() {
            lock(&self.slot).is_called = false;
        }
    }

    /// Sends whole access lines. Returns an empty buffer for the next lines if one is available. If
    /// the writer is too far behind, the lines are dropped and counted.
    pub fn access(&self, lines: Vec<u8>) -> Option<Vec<u8>> {
        self.hand_over(lines, Message::Access)
    }

    pub(super) fn hand_over(&self, lines: Vec<u8>, message: fn(Vec<u8>) -> Message) -> Option<Vec<u8>> {
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

    /// Sends one diagnostic line. If the queue is full, the line is dropped and counted.
    pub(super) fn record(&self, level: Level, target: &str, text: String) {
        if self.send(Message::Record(level, target.to_owned(), text)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets the colours of diagnostics.
    pub(super) fn set_colors(&self, colors: Colors) {
        self.shared.colored.store(colors == Colors::On, Ordering::Relaxed);
    }

    /// Returns the number of lost lines. A line is lost if the queue is full or the access log
    /// cannot be written.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Makes the writer reopen the access log by its path. Call it on SIGHUP, after the old file
    /// was moved away. If reopening fails, the writer logs an error and keeps the old file.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        // If the queue is full, the writer is running and finds the flag.
        let _ = self.send(Message::Wake);
    }

    /// Registers `call` to run each time the access log is reopened. Only the first registration
    /// has an effect.
    pub fn after_reopen(&self, call: Box<dyn Fn() + Send + Sync>) {
        drop(self.shared.after_reopen.set(call));
    }

    /// Waits until the writer has written everything sent before, for at most `timeout`. Returns
    /// `false` on timeout, because a thread blocked by a full pipe must not block the exit.
    pub fn flush(&self, timeout: Duration) -> bool {
        let step = Duration::from_millis(5);
        let (done, answer) = sync_channel(1);
        let mut left = timeout;
        loop {
            match self.send(Message::Flush(done.clone())) {
                Ok(()) => return answer.recv_timeout(left).is_ok(),
                Err(TrySendError::Disconnected(_)) => return false,
                // The queue is full, so no reply can come yet: this is a pause that needs no clock.
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

    /// Returns a guard that flushes when it is dropped, for at most [`LOG_FLUSH_MAX`], so that a
    /// panic that leaves `main` is still logged. `std::process::exit` does not drop it.
    pub fn flush_at_end(&self) -> FlushGuard {
        FlushGuard { queue: self.clone(), timeout: LOG_FLUSH_MAX }
    }
}

impl Shared {
    fn take_spare(&self) -> Option<Vec<u8>> {
        self.spares.try_lock().ok()?.pop()
    }

    /// Keeps a written buffer for reuse, unless a long line has made it too large.
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

/// Guard that flushes the queue when it is dropped. Created by [`LogQueue::flush_at_end`].
pub struct FlushGuard {
    queue: LogQueue,
    timeout: Duration,
}

impl Drop for FlushGuard {
    fn drop(&mut self) {
        self.queue.flush(self.timeout);
    }
}

/// Function that prints diagnostics; tests replace it. It may panic.
pub(super) type Print = Box<dyn Fn(Level, &str, &str) -> io::Result<()> + Send>;

/// State of the writer thread.
struct Writer {
    shared: Arc<Shared>,
    receiver: Receiver<Message>,
    access: Option<AccessLog>,
    print: Print,
    /// Lines that wait to be written together with others.
    gathered: Vec<u8>,
    /// Time at which the gathered lines must be written; `None` if there are none.
    gathered_due: Option<Instant>,
    /// Number of lost lines that were reported.
    reported: u64,
    last_report: Option<Instant>,
    /// Lines lost since the access log became unwritable; `None` while it is writable.
    failing: Option<u64>,
}

impl Writer {
    fn run(mut self: Box<Self>, slot: &Mutex<WriterSlot>) {
        loop {
            match self.receiver.recv_timeout(self.span()) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) if self.unreported() > 0 || self.gathered_due.is_some() => {}
                Err(RecvTimeoutError::Timeout) => {
                    // A sender checks this slot after sending. So either the writer sees the
                    // message now, or the sender sees the writer in the slot and starts a thread.
                    let mut slot = lock(slot);
                    match self.receiver.try_recv() {
                        Ok(message) => {
                            drop(slot);
                            self.take(message);
                        }
                        Err(TryRecvError::Empty) => {
                            slot.writer = Some(self);
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

    /// Returns the longest wait for a message.
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
                // The thread that waits for the flush may have timed out.
                let _ = done.try_send(());
            }
            Message::Wake => {}
        }
    }

    fn reopen(&mut self) {
        let Some(access) = &mut self.access else { return };
        if let Err(error) = access.reopen() {
            let name = access.name();
            self.log_own_message(
                Level::Error,
                &format!("cannot reopen the access log {name}: {error}; still writing to the old one"),
            );
        }
        if let Some(call) = self.shared.after_reopen.get() {
            call();
        }
    }

    /// Keeps lines until there are enough of them or the first one is due.
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

    /// Reports a failing log once when it starts to fail. [`Writer::note_written`] reports when it
    /// works again.
    fn note_lost(&mut self, name: &str, error: &io::Error, lost: u64) {
        self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
        self.reported += lost;
        if self.failing.is_none() {
            self.last_report = Some(now());
            self.log_own_message(
                Level::Error,
                &format!("cannot write the access log {name}: {error}; requests are served without it"),
            );
        }
        *self.failing.get_or_insert(0) += lost;
    }

    /// Reports that the log works again, at most once per interval. A log that fails intermittently
    /// must not cause two diagnostics per buffer.
    fn note_written(&mut self, name: &str) {
        if let Some(lost) = self.failing
            && self.may_report()
        {
            self.failing = None;
            self.last_report = Some(now());
            self.log_own_message(
                Level::Warn,
                &format!("the access log {name} can be written again; {lost} lines were lost"),
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
            self.log_own_message(
                Level::Warn,
                &format!("{lines} log lines were dropped: they came faster than they could be written"),
            );
        }
    }

    /// Logs a message of the writer itself.
    fn log_own_message(&mut self, level: Level, text: &str) {
        self.diagnose(level, "whirligig::log", text);
    }

    /// Prints one line of diagnostics. If standard error is closed or full, that fails or panics.
    /// The failure cannot be reported anywhere, because other programs parse the access log. So the
    /// line is counted as lost and already reported: a report would only fail again, every second.
    fn diagnose(&mut self, level: Level, target: &str, text: &str) {
        let text = match self.shared.colored.load(Ordering::Relaxed) {
            true => paint(level, &escape_control(text)),
            false => escape_control(text),
        };
        let print = AssertUnwindSafe(|| (self.print)(level, &escape_control(target), &text));
        if !matches!(catch_unwind(print), Ok(Ok(()))) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            self.reported += 1;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the writer thread is no loop: it paces its own reports")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
