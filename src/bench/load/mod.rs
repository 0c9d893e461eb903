//! Load generator: one loop on mio, in a process and on a processor of its own.
//!
//! In a **closed** loop, each connection sends its next request as soon as its response is
//! complete. In an **open** loop, requests are due at a fixed rate, and each latency counts from
//! the time at which its request was *due*. While a server stalls, the delayed requests count as
//! late, too, so there is no coordinated omission. When the generator **listens**, the server sends
//! lines at a fixed rate, and a line that was due counts even if it never arrives.
//!
//! The generator must not know which model it measures. It reports how busy it was.

pub mod answer;
mod client;
mod job;

use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::{Events, Poll, Token};
use rustix::time::{ClockId, clock_gettime};

use super::Fallible;
use super::histogram::Histogram;
use answer::{Fault, Wanted};
pub(crate) use client::LISTEN_LINE_BYTES;
use client::{Backdrop, Client, Progress};
pub use job::*;

/// Interval in which slow clients move and overdue responses are detected.
const TICK_NS: u64 = 50_000_000;
/// Maximum wait after the measured time for responses that were due in it.
const GRACE_NS: u64 = 1_000_000_000;
/// Maximum time until all connections are open and have received one response.
const SETUP_NS: u64 = 30_000_000_000;
/// Maximum number of open connections without a response during setup, because a listener's backlog
/// is finite.
const CONNECTS_AT_ONCE: usize = 256;
/// A run with more errors is aborted, because its figures mean nothing.
const ERRORS_MAX: u64 = 10_000;
/// Responses of at least this length count by the share of them that has arrived.
const LONG_BYTES_MIN: usize = 64 * 1024;
/// Largest latency of the histogram, in nanoseconds. Longer ones count as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Reads the kernel's monotonic clock, which is the same in all processes.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Creates an empty histogram of latencies in nanoseconds with three significant digits.
pub fn histogram() -> Histogram {
    Histogram::new(LATENCY_NS_MAX)
}

/// Requests that are written together, with the expected responses.
struct Batch {
    bytes: Vec<u8>,
    asks: Vec<usize>,
}

/// Runs a job to its end. Calls `at` when the measured time begins and when it ends.
pub fn generate(job: &Job, at: &mut dyn FnMut(Mark) -> io::Result<()>) -> Fallible<Outcome> {
    let mut run = Run::new(job)?;
    run.set_up()?;
    let start = now_ns();
    let begin = start + job.warm_ms * 1_000_000;
    run.phase = Window { start, begin, end: begin + job.measure_ms * 1_000_000 };
    run.start_asking()?;
    run.turn_until(begin)?;
    at(Mark::Begin)?;
    (run.idle_ns, run.counting) = (0, true);
    let began = now_ns();
    run.turn_until(run.phase.end)?;
    let ended = now_ns();
    let idle_ns = run.idle_ns;
    at(Mark::End)?;
    run.finish()?;
    let span = ended - began;
    Ok(Outcome {
        answers: run.answers,
        amount: run.amount(),
        answers_in_all: run.answers_in_all,
        due: run.due_counted,
        // Responses after the end count if they were due before it, so the span is the requested
        // time.
        seconds: if job.arrival == Arrival::Closed { span as f64 / 1e9 } else { job.measure_ms as f64 / 1e3 },
        busy: 1.0 - idle_ns as f64 / span.max(1) as f64,
        latencies: run.latencies.recorded().collect(),
        errors: run.errors,
    })
}

/// Start and end times of a run, in nanoseconds.
#[derive(Clone, Copy, Default)]
struct Window {
    start: u64,
    begin: u64,
    end: u64,
}

/// The loop with its counters.
struct Run<'a> {
    job: &'a Job,
    poll: Poll,
    events: Events,
    batches: Vec<Batch>,
    wanted: Vec<Wanted>,
    clients: Vec<Client>,
    backdrop: Vec<Backdrop>,
    next_batch: usize,
    phase: Window,
    /// Open loop: requests per second.
    per_second: Option<f64>,
    /// Open loop: number of requests that were sent or given up, and connections that wait until a
    /// request is due.
    sent: u64,
    resting: Vec<usize>,
    /// During setup, no request follows a response.
    setting_up: bool,
    /// True while responses count.
    counting: bool,
    /// Time at which slow clients move again.
    next_tick: u64,
    idle_ns: u64,
    answers: u64,
    /// Closed loop: content bytes of long responses that arrived in the measured time.
    content_bytes: u64,
    answers_in_all: u64,
    due_counted: u64,
    latencies: Histogram,
    errors: Errors,
    scratch: Vec<u8>,
}

impl<'a> Run<'a> {
    fn new(job: &'a Job) -> Fallible<Run<'a>> {
        let depth = match job.habit {
            Habit::Keep { depth } => depth.max(1),
            Habit::Close => 1,
        };
        if job.asks.is_empty() || job.connections == 0 {
            return Err("the job has no requests or no connections".into());
        }
        // Each request is the first of one batch, so that every request gets sent.
        let batches = (0..job.asks.len()).map(|first| {
            let asks: Vec<usize> = (first..first + depth).map(|ask| ask % job.asks.len()).collect();
            let bytes = asks.iter().flat_map(|ask| wire(&job.asks[*ask])).collect();
            Batch { bytes, asks }
        });
        Ok(Run {
            job,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            batches: batches.collect(),
            wanted: job.asks.iter().map(wanted).collect(),
            clients: Vec::new(),
            backdrop: Vec::new(),
            next_batch: 0,
            phase: Window::default(),
            per_second: match job.arrival {
                Arrival::Open { per_second } => Some(per_second),
                Arrival::Closed | Arrival::Listen { .. } => None,
            },
            sent: 0,
            resting: Vec::new(),
            setting_up: true,
            counting: false,
            next_tick: 0,
            idle_ns: 0,
            answers: 0,
            content_bytes: 0,
            answers_in_all: 0,
            due_counted: 0,
            latencies: histogram(),
            errors: Errors::default(),
            scratch: vec![0; 256 * 1024],
        })
    }

    /// Opens all connections. Each persistent connection receives one response.
    fn set_up(&mut self) -> Fallible<()> {
        let give_up = now_ns() + SETUP_NS;
        if let Some(crowd) = self.job.crowd {
            let count = crowd.count() as usize;
            while self.backdrop.len() < count {
                let made = self.backdrop.len();
                for _ in made..count.min(made + CONNECTS_AT_ONCE) {
                    self.backdrop.push(Backdrop::connect(self.job.port, crowd)?);
                }
                for member in &mut self.backdrop[made..] {
                    member.settle()?;
                }
            }
        }
        for number in 0..self.job.connections as usize {
            let mut client = Client::connect(&self.poll, self.job.port, number, now_ns())?;
            client.listens = matches!(self.job.arrival, Arrival::Listen { .. });
            // A connection for a single request is only opened. Its request belongs to the
            // measurement.
            client.has_been_answered = self.job.habit == Habit::Close;
            self.clients.push(client);
            if self.job.habit != Habit::Close {
                self.ask(number, now_ns())?;
            }
            let made = number + 1;
            if made % CONNECTS_AT_ONCE == 0 || made == self.job.connections as usize {
                while self.clients.iter().any(|client| !client.has_been_answered) {
                    if now_ns() > give_up {
                        return Err(format!(
                            "not all of {made} connections received a response; {}",
                            self.errors
                        )
                        .into());
                    }
                    self.turn(now_ns() + TICK_NS)?;
                }
            }
        }
        if self.errors.total() > 0 {
            return Err(format!("errors before the measurement: {}", self.errors).into());
        }
        self.setting_up = false;
        Ok(())
    }

    fn start_asking(&mut self) -> Fallible<()> {
        match self.job.arrival {
            Arrival::Open { .. } => self.resting = (0..self.clients.len()).rev().collect(),
            Arrival::Closed => {
                for number in 0..self.clients.len() {
                    self.ask(number, now_ns())?;
                }
            }
            Arrival::Listen { .. } => {}
        }
        Ok(())
    }

    /// Waits a limited time for outstanding responses that were due in the measured time. Then
    /// counts the rest as late.
    fn finish(&mut self) -> Fallible<()> {
        for member in &mut self.backdrop {
            if let Err((kind, words)) = member.look() {
                self.errors.count(kind, &words);
            }
        }
        let rate = match self.job.arrival {
            Arrival::Closed => return Ok(()),
            Arrival::Listen { every_ns } => return self.hear_out(every_ns),
            Arrival::Open { per_second } => per_second,
        };
        let window = self.phase;
        let nth = |at: u64| ((at - window.start) as f64 / 1e9 * rate).ceil() as u64;
        let (first, behind) = (nth(window.begin), nth(window.end));
        self.due_counted = behind - first;
        let give_up = now_ns() + GRACE_NS;
        while self.answers < self.due_counted && now_ns() < give_up && self.errors.total() == 0 {
            self.turn(now_ns() + 1_000_000)?;
        }
        // Outstanding and unsent requests count with their current age, and as one error each.
        let now = now_ns();
        let asked = self.clients.iter().filter(|client| client.is_waiting()).map(|client| client.asked_ns);
        let unsent = (self.sent..behind).map(|number| self.due_at(number));
        let overdue: Vec<u64> =
            asked.chain(unsent).filter(|due| (window.begin..window.end).contains(due)).collect();
        for due in overdue {
            self.give_up_on(due, now);
        }
        Ok(())
    }

    /// Waits in the same way for streams. A client is done once it has received the last line that
    /// was due.
    fn hear_out(&mut self, every_ns: u64) -> Fallible<()> {
        let end = self.phase.end;
        let is_behind = |client: &Client| client.heard_due_ns.is_some_and(|due| due + every_ns < end);
        let give_up = now_ns() + GRACE_NS;
        while self.clients.iter().any(is_behind) && now_ns() < give_up {
            self.turn(now_ns() + 1_000_000)?;
        }
        let now = now_ns();
        for number in 0..self.clients.len() {
            if let Some(heard) = self.clients[number].heard_due_ns {
                self.miss_lines(heard, end, every_ns, now);
            }
        }
        self.due_counted = self.answers + self.errors.late;
        Ok(())
    }

    /// Counts the lines between two times, exclusive, as missing.
    fn miss_lines(&mut self, heard: u64, until: u64, every_ns: u64, now: u64) {
        let mut due = heard + every_ns.max(1);
        while due < until {
            if due >= self.phase.begin && due < self.phase.end {
                self.give_up_on(due, now);
            }
            due += every_ns.max(1);
        }
    }

    /// Records a request with its current age and as an error.
    fn give_up_on(&mut self, due: u64, now: u64) {
        self.latencies.record(now.saturating_sub(due));
        self.errors.late += 1;
    }

    /// Returns the time at which a request is due, at the fixed rate from the start.
    fn due_at(&self, number: u64) -> u64 {
        self.phase.start + (number as f64 * 1e9 / self.per_second.unwrap_or(1.0)) as u64
    }

    fn turn_until(&mut self, end: u64) -> Fallible<()> {
        while now_ns() < end {
            self.turn(end)?;
        }
        Ok(())
    }

    /// Runs one turn: sends requests that are due, waits, and processes events. Returns at `end` at
    /// the latest.
    fn turn(&mut self, end: u64) -> Fallible<()> {
        let began = now_ns();
        let mut did = false;
        let mut wake = end.min(began + TICK_NS);
        if let Some(due) = self.send_due(began, &mut did)? {
            wake = wake.min(due);
        }
        if began >= self.next_tick {
            self.next_tick = began + TICK_NS;
            self.tick(began)?;
        }
        // The poll sleeps in whole milliseconds. So the last millisecond before something is due is
        // spent polling without sleep.
        let room = Duration::from_nanos(wake.saturating_sub(began)).as_millis().saturating_sub(1);
        let wait = if self.job.spin { 0 } else { u64::try_from(room)? };
        let before = now_ns();
        match self.poll.poll(&mut self.events, Some(Duration::from_millis(wait))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => result?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let waited_ns = now_ns() - before;
        for event in &events {
            did = true;
            self.pump(event.token())?;
        }
        self.events = events;
        // Counts a poll that returned events at once as work. A poll that slept or returned nothing
        // is idle time.
        if wait > 0 {
            self.idle_ns += waited_ns;
        } else if !did {
            self.idle_ns += now_ns() - began;
        }
        if self.errors.total() > ERRORS_MAX {
            return Err(format!("too many errors: {}", self.errors).into());
        }
        Ok(())
    }

    /// Sends requests that are due, as far as connections are free. Returns the time at which the
    /// next one is due.
    fn send_due(&mut self, now: u64, did: &mut bool) -> Fallible<Option<u64>> {
        if self.per_second.is_none() || self.setting_up {
            return Ok(None);
        }
        loop {
            let due = self.due_at(self.sent);
            if due > now {
                return Ok((due < self.phase.end).then_some(due));
            }
            if due >= self.phase.end {
                return Ok(None);
            }
            let Some(number) = self.resting.pop() else { return Ok(None) };
            self.sent += 1;
            *did = true;
            self.ask(number, due)?;
        }
    }

    /// Runs twenty times per second: moves slow clients and gives up on overdue responses.
    fn tick(&mut self, now: u64) -> Fallible<()> {
        for member in &mut self.backdrop {
            if let Err((kind, words)) = member.step(&mut self.scratch) {
                self.errors.count(kind, &words);
            }
        }
        let limit = self.job.timeout_ms * 1_000_000;
        for number in 0..self.clients.len() {
            let client = &self.clients[number];
            if client.is_waiting() && now.saturating_sub(client.asked_ns.max(self.phase.start)) > limit {
                self.replace(number, (Kind::Timeout, format!("no response for {} ms", self.job.timeout_ms)))?;
            }
        }
        Ok(())
    }

    /// Starts the next batch, due at `due`, on a connection.
    fn ask(&mut self, number: usize, due: u64) -> Fallible<()> {
        let batch = self.next_batch;
        self.next_batch = (batch + 1) % self.batches.len();
        let client = &mut self.clients[number];
        client.ask(batch, due);
        match client.send(&self.batches) {
            Ok(()) => Ok(()),
            Err(fault) => self.replace(number, fault),
        }
    }

    /// Moves bytes of the connection that an event reported as ready.
    fn pump(&mut self, token: Token) -> Fallible<()> {
        let number = token.0;
        self.clients[number].is_drained = false;
        loop {
            let client = &mut self.clients[number];
            let stepped = client
                .send(&self.batches)
                .and_then(|()| client.take(&self.batches, &self.wanted, &mut self.scratch));
            let came = std::mem::take(&mut client.came_bytes);
            if self.counting {
                self.content_bytes += came;
            }
            match stepped {
                Ok(Progress::Waits) => return Ok(()),
                Ok(Progress::Answered { batch_is_complete }) => {
                    let (due, now) = (client.asked_ns, now_ns());
                    self.count(due, now);
                    if batch_is_complete && !self.go_on(number, now)? {
                        return Ok(());
                    }
                }
                Ok(Progress::Ended) => {
                    self.clients[number] = Client::connect(&self.poll, self.job.port, number, now_ns())?;
                    self.clients[number].has_been_answered = true;
                    // The new connection will report its own first event.
                    return self.next(number, now_ns());
                }
                Ok(Progress::Heard { stamps_ns }) => {
                    self.hear(number, &stamps_ns);
                }
                Err(fault) => return self.replace(number, fault),
            }
        }
    }

    /// Counts lines by the time at which they were due. Lines missed between the loss of a
    /// connection and its replacement count as missing.
    fn hear(&mut self, number: usize, stamps_ns: &[u64]) {
        let now = now_ns();
        for &stamp in stamps_ns {
            let before = self.clients[number].heard_due_ns.replace(stamp);
            if let (Some(before), Arrival::Listen { every_ns }) = (before, self.job.arrival) {
                self.miss_lines(before, stamp, every_ns, now);
            }
            self.count(stamp, now);
        }
    }

    /// Continues after a complete batch. Returns `false` if the connection has nothing to do now.
    fn go_on(&mut self, number: usize, now: u64) -> Fallible<bool> {
        if self.setting_up {
            return Ok(false);
        }
        if self.job.habit == Habit::Close {
            self.clients[number].awaits_end = true;
            return Ok(true);
        }
        self.next(number, now)?;
        Ok(self.per_second.is_none())
    }

    /// Starts the next request of a connection: at once, or when one is due.
    fn next(&mut self, number: usize, now: u64) -> Fallible<()> {
        if self.per_second.is_some() {
            self.resting.push(number);
            return Ok(());
        }
        self.ask(number, now)
    }

    /// Returns the number of complete responses. If all are of equal, large length, returns their
    /// amount with fractions.
    fn amount(&self) -> f64 {
        let bytes = self.job.asks.first().map_or(0, |ask| ask.expected.bytes());
        let are_alike = self.job.asks.iter().all(|ask| ask.expected.bytes() == bytes);
        if self.job.arrival == Arrival::Closed && are_alike && bytes >= LONG_BYTES_MIN {
            self.content_bytes as f64 / bytes as f64
        } else {
            self.answers as f64
        }
    }

    fn count(&mut self, due: u64, now: u64) {
        let window = self.phase;
        self.answers_in_all += 1;
        // Open loop: a response counts if it was due in the measured time, whenever it arrives.
        let counts = match self.job.arrival {
            Arrival::Open { .. } | Arrival::Listen { .. } => (window.begin..window.end).contains(&due),
            Arrival::Closed => self.counting && now < window.end,
        };
        if counts && !self.setting_up {
            self.answers += 1;
            self.latencies.record(now.saturating_sub(due));
        }
    }

    /// Counts an error and replaces the connection with a new one.
    fn replace(&mut self, number: usize, (kind, words): Fault) -> Fallible<()> {
        self.errors.count(kind, &words);
        if self.setting_up || self.errors.total() > ERRORS_MAX {
            return Err(format!("cannot continue: {}", self.errors).into());
        }
        let (listens, heard_due_ns) = (self.clients[number].listens, self.clients[number].heard_due_ns);
        let mut client = Client::connect(&self.poll, self.job.port, number, now_ns())?;
        (client.listens, client.heard_due_ns, client.has_been_answered) = (listens, heard_due_ns, true);
        self.clients[number] = client;
        if self.per_second.is_some() {
            self.resting.push(number);
            return Ok(());
        }
        // The request is sent at the first event of the new connection. Sending it here could fail
        // again and recurse without end.
        let batch = self.next_batch;
        self.clients[number].ask(batch, now_ns());
        Ok(())
    }
}

fn wire(ask: &Ask) -> Vec<u8> {
    let mut bytes = ask.head.clone().into_bytes();
    bytes.extend(pattern(ask.content_bytes));
    bytes
}

fn wanted(ask: &Ask) -> Wanted {
    /// Longer content is only counted, because comparing it would slow the generator down.
    const COMPARED_BYTES_MAX: usize = 64 * 1024;
    let bytes = ask.expected.bytes();
    let content = match &ask.expected {
        Expected::Text(text) => Some(text.clone().into_bytes()),
        Expected::Pattern(bytes) => (*bytes <= COMPARED_BYTES_MAX).then(|| pattern(*bytes)),
    };
    Wanted { bytes, content }
}
