//! The load generator: one loop on mio, in a process and on a processor of its own.
//!
//! In a **closed** loop each connection asks again the moment its answer is complete. In an
//! **open** loop requests fall due at a fixed rate, and each latency counts from the moment its
//! request was *due*: while the server stalls, the requests that it kept from being sent are late,
//! too, and are counted so (no coordinated omission). Where it **listens**, the server speaks at a
//! fixed rate, and a line that was due counts so whether it comes or not. It must not know which
//! model it is asking, and it says how busy it was itself.

pub(crate) mod answer;
mod client;
mod job;

use std::io::{self, ErrorKind};
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use rustix::time::{ClockId, clock_gettime};

use super::Fallible;
use answer::{Fault, Wanted};
pub(crate) use client::{Backdrop, LISTEN_LINE_BYTES};
use client::{Client, Progress};
pub(crate) use job::*;

/// How often slow clients move and late answers are looked for.
const TICK_NS: u64 = 50_000_000;
/// How long answers are awaited that were due in the measured time.
const GRACE_NS: u64 = 1_000_000_000;
/// How long all connections may take to be made and answered once.
const SETUP_NS: u64 = 30_000_000_000;
/// Connections made before those made so far must have been answered: a listener's backlog is
/// finite.
const CONNECTS_AT_ONCE: usize = 256;
/// With more errors than this a run says nothing more.
const ERRORS_MAX: u64 = 10_000;
/// Answers from this length on count by the share of them that has come.
const LONG_BYTES_MIN: usize = 64 * 1024;
/// Longest latency that is told from others, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// The kernel's monotonic clock, which all processes share.
pub(crate) fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// An empty histogram of latencies in nanoseconds, three digits each.
pub(crate) fn histogram() -> Fallible<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?)
}

/// Requests that are written together, and what each of them must bring.
struct Batch {
    bytes: Vec<u8>,
    asks: Vec<usize>,
}

/// Runs the job to its end. `at` is called where the measured time begins and ends.
pub(crate) fn generate(job: &Job, at: &mut dyn FnMut(Mark) -> io::Result<()>) -> Fallible<Outcome> {
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
        // What comes after the end and was due before it counts, so the time is the time asked for.
        seconds: if job.arrival == Arrival::Closed { span as f64 / 1e9 } else { job.measure_ms as f64 / 1e3 },
        busy: 1.0 - idle_ns as f64 / span.max(1) as f64,
        latencies: run
            .latencies
            .iter_recorded()
            .map(|v| (v.value_iterated_to(), v.count_at_value()))
            .collect(),
        errors: run.errors,
    })
}

/// The moments of a run, in nanoseconds.
#[derive(Clone, Copy, Default)]
struct Window {
    start: u64,
    begin: u64,
    end: u64,
}

/// The loop and what it counts.
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
    /// Open loop: requests a second.
    per_second: Option<f64>,
    /// Open loop: how many requests have been sent, or given up, and connections that wait for one
    /// to fall due.
    sent: u64,
    resting: Vec<usize>,
    /// While connections are made an answer is not followed by a request.
    setting_up: bool,
    /// Whether answers count.
    counting: bool,
    /// When slow clients move again.
    next_tick: u64,
    idle_ns: u64,
    answers: u64,
    /// Content of long answers that came in the measured time of a closed loop.
    content_bytes: u64,
    answers_in_all: u64,
    due_counted: u64,
    latencies: Histogram<u64>,
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
            return Err("nothing to ask, or nobody who asks".into());
        }
        // Every request is at the head of some batch, so that all of them are asked.
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
            latencies: histogram()?,
            errors: Errors::default(),
            scratch: vec![0; 256 * 1024],
        })
    }

    /// Makes all connections, and has each that is kept answer once.
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
            // A connection for one request is only made; the request is what is measured.
            client.has_been_answered = self.job.habit == Habit::Close;
            self.clients.push(client);
            if self.job.habit != Habit::Close {
                self.ask(number, now_ns())?;
            }
            let made = number + 1;
            if made % CONNECTS_AT_ONCE == 0 || made == self.job.connections as usize {
                while self.clients.iter().any(|client| !client.has_been_answered) {
                    if now_ns() > give_up {
                        return Err(
                            format!("{made} connections were not all answered; {}", self.errors).into()
                        );
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

    /// Takes what is due until the end and is not answered yet, for a while; then counts what is
    /// not.
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
        // The unanswered and the unsent: as late as they are by now, and an error each.
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

    /// The same for who listens: a client has heard all once it knows the last line that was due.
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

    /// Counts the lines between two moments, neither of them included, which will not be heard any
    /// more.
    fn miss_lines(&mut self, heard: u64, until: u64, every_ns: u64, now: u64) {
        let mut due = heard + every_ns.max(1);
        while due < until {
            if due >= self.phase.begin && due < self.phase.end {
                self.give_up_on(due, now);
            }
            due += every_ns.max(1);
        }
    }

    /// As late as it is by now, and an error.
    fn give_up_on(&mut self, due: u64, now: u64) {
        self.latencies.saturating_record(now.saturating_sub(due));
        self.errors.late += 1;
    }

    /// When the request of this number is due: the fixed rate, from the start.
    fn due_at(&self, number: u64) -> u64 {
        self.phase.start + (number as f64 * 1e9 / self.per_second.unwrap_or(1.0)) as u64
    }

    fn turn_until(&mut self, end: u64) -> Fallible<()> {
        while now_ns() < end {
            self.turn(end)?;
        }
        Ok(())
    }

    /// One turn: send what is due, wait, take what came. Ends at the latest at `end`.
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
        // The poll sleeps in whole milliseconds, so the last one before something is due is spent
        // looking.
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
        // A poll that found something at once was work; one that slept, or found nothing, was not.
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

    /// Sends what has fallen due as far as there are connections for it; says when the next one is.
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

    /// What happens twenty times a second: slow clients move, late answers are given up.
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
                self.replace(number, (Kind::Timeout, format!("no answer for {} ms", self.job.timeout_ms)))?;
            }
        }
        Ok(())
    }

    /// Has a connection send the next requests, which were due at `due`.
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

    /// Moves what an event announced.
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
                    // The new connection reports its own first event.
                    return self.next(number, now_ns());
                }
                Ok(Progress::Heard { stamps_ns }) => {
                    self.hear(number, &stamps_ns);
                }
                Err(fault) => return self.replace(number, fault),
            }
        }
    }

    /// Counts lines by when they were due. Those that a new connection in the place of a lost one
    /// was too late for are missed.
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

    /// After a complete batch; `false` if the connection has nothing to do now.
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

    /// Has a connection ask again: at once, or when a request falls due.
    fn next(&mut self, number: usize, now: u64) -> Fallible<()> {
        if self.per_second.is_some() {
            self.resting.push(number);
            return Ok(());
        }
        self.ask(number, now)
    }

    /// Whole answers, or their share where all are equally long and longer than what comes with one
    /// read.
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
        // What has its time counts if that was in the measured time, whenever it comes.
        let counts = match self.job.arrival {
            Arrival::Open { .. } | Arrival::Listen { .. } => (window.begin..window.end).contains(&due),
            Arrival::Closed => self.counting && now < window.end,
        };
        if counts && !self.setting_up {
            self.answers += 1;
            self.latencies.saturating_record(now.saturating_sub(due));
        }
    }

    /// Counts an error and goes on with a new connection in the place of the old one.
    fn replace(&mut self, number: usize, (kind, words): Fault) -> Fallible<()> {
        self.errors.count(kind, &words);
        if self.setting_up || self.errors.total() > ERRORS_MAX {
            return Err(format!("cannot go on: {}", self.errors).into());
        }
        let (listens, heard_due_ns) = (self.clients[number].listens, self.clients[number].heard_due_ns);
        let mut client = Client::connect(&self.poll, self.job.port, number, now_ns())?;
        (client.listens, client.heard_due_ns, client.has_been_answered) = (listens, heard_due_ns, true);
        self.clients[number] = client;
        if self.per_second.is_some() {
            self.resting.push(number);
            return Ok(());
        }
        // Asked by the first event of the new connection: asking here could fail again, without an
        // end.
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
    /// Longer content costs the generator more than counting it.
    const COMPARED_BYTES_MAX: usize = 64 * 1024;
    let bytes = ask.expected.bytes();
    let content = match &ask.expected {
        Expected::Text(text) => Some(text.clone().into_bytes()),
        Expected::Pattern(bytes) => (*bytes <= COMPARED_BYTES_MAX).then(|| pattern(*bytes)),
    };
    Wanted { bytes, content }
}
