//! The load generator: a closed loop on mio. Each connection has one request on its way, and asks again the moment
//! its answer is complete. Every answer is checked to the last byte.
//!
//! It runs in a process of its own, on a processor of its own, so that it takes nothing from the server but the
//! requests. It must not know which model it is asking.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};

use crate::{Fallible, server};

/// Asked before the measurement begins, so that caches are warm and threads are there.
const WARM_UP: Duration = Duration::from_millis(150);
/// A server that says nothing for so long is stuck.
const STALL: Duration = Duration::from_secs(5);
/// Longer than any answer asked for here.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// What to ask, and whom.
pub(crate) struct Job {
    pub(crate) port: u16,
    /// Whose processor time is counted.
    pub(crate) pid: u32,
    pub(crate) path: String,
    /// Bytes of content that have to come.
    pub(crate) size: usize,
    pub(crate) connections: u32,
    pub(crate) measure: Duration,
}

impl Job {
    pub(crate) fn to_json(&self) -> String {
        let micros = u64::try_from(self.measure.as_micros()).unwrap_or(u64::MAX);
        json!({
            "port": self.port, "pid": self.pid, "path": self.path, "size": self.size,
            "connections": self.connections, "measure_us": micros,
        })
        .to_string()
    }

    pub(crate) fn from_json(text: &str) -> Fallible<Job> {
        let value: Value = serde_json::from_str(text)?;
        let number = |name: &str| value[name].as_u64().ok_or(format!("no {name}"));
        Ok(Job {
            port: number("port")?.try_into()?,
            pid: number("pid")?.try_into()?,
            path: value["path"].as_str().ok_or("no path")?.to_owned(),
            size: number("size")?.try_into()?,
            connections: number("connections")?.try_into()?,
            measure: Duration::from_micros(number("measure_us")?),
        })
    }
}

/// What came of one run.
pub(crate) struct Outcome {
    /// Right answers within the measured time.
    pub(crate) answers: u64,
    pub(crate) seconds: f64,
    /// Processor time of the server, in the same time.
    pub(crate) cpu_seconds: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Everything that was not a right answer, over the whole run, and the first of it in words.
    pub(crate) errors: u64,
    pub(crate) first_error: String,
}

impl Outcome {
    pub(crate) fn to_json(&self) -> String {
        json!({
            "answers": self.answers, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds,
            "p50_us": self.p50_us, "p99_us": self.p99_us, "errors": self.errors, "first_error": self.first_error,
        })
        .to_string()
    }

    pub(crate) fn from_json(text: &str) -> Fallible<Outcome> {
        let value: Value = serde_json::from_str(text)?;
        let number = |name: &str| value[name].as_f64().ok_or(format!("no {name}"));
        let count = |name: &str| value[name].as_u64().ok_or(format!("no {name}"));
        Ok(Outcome {
            answers: count("answers")?,
            seconds: number("seconds")?,
            cpu_seconds: number("cpu_seconds")?,
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
            errors: count("errors")?,
            first_error: value["first_error"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Right answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    /// Processor time of the server for one of them.
    pub(crate) fn cpu_us_each(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.answers.max(1) as f64
    }
}

/// One connection with its request on the way.
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
    asked: Instant,
}

/// What every answer must look like.
struct Expected {
    request: Vec<u8>,
    content: Vec<u8>,
}

impl Expected {
    /// Whether `answer` is complete; an error when it can no longer become right.
    fn is_complete(&self, answer: &[u8]) -> Result<bool, String> {
        const STATUS: &[u8] = b"HTTP/1.1 200 ";
        let known = answer.len().min(STATUS.len());
        if answer[..known] != STATUS[..known] {
            return Err(format!(
                "another status: {}",
                String::from_utf8_lossy(&answer[..answer.len().min(40)])
            ));
        }
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
        let content = &answer[end + 4..];
        if content.len() < self.content.len() {
            return Ok(false);
        }
        if content == self.content { Ok(true) } else { Err("other content than the file's".to_owned()) }
    }
}

/// Runs the job to its end.
pub(crate) fn generate(job: &Job) -> Fallible<Outcome> {
    let request = format!("GET /{} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", job.path, job.port);
    let expected = Expected { request: request.into_bytes(), content: server::content(job.size) };
    let mut poll = Poll::new()?;
    let mut clients = Vec::new();
    for number in 0..job.connections {
        clients.push(connect(&poll, job.port, number as usize)?);
    }
    for client in &mut clients {
        client.ask(&expected)?;
    }
    let mut run = Run { expected, clients, errors: 0, first_error: String::new(), port: job.port };
    run.ask_for(&mut poll, WARM_UP)?;
    let cpu_before = server::cpu_seconds(job.pid)?;
    let began = now();
    let latencies_ns = run.ask_for(&mut poll, job.measure)?;
    let seconds = now().duration_since(began).as_secs_f64();
    Ok(Outcome {
        answers: latencies_ns.len(),
        seconds,
        cpu_seconds: server::cpu_seconds(job.pid)? - cpu_before,
        p50_us: latencies_ns.value_at_quantile(0.50) as f64 / 1e3,
        p99_us: latencies_ns.value_at_quantile(0.99) as f64 / 1e3,
        errors: run.errors,
        first_error: run.first_error,
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn connect(poll: &Poll, port: u16, number: usize) -> io::Result<Client> {
    // The handshake may block: nothing is measured yet, and a full backlog is waited out.
    let stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
    Ok(Client { stream, answer: Vec::with_capacity(ANSWER_BYTES_MAX), asked: now() })
}

impl Client {
    /// Sends the request, which is so short that an idle socket takes it whole.
    fn ask(&mut self, expected: &Expected) -> io::Result<()> {
        self.answer.clear();
        self.asked = now();
        self.stream.write_all(&expected.request)
    }

    /// Takes what is there; `Some` with what the answer took when it is complete and right.
    fn take(&mut self, expected: &Expected) -> Result<Option<Duration>, String> {
        let mut scratch = [0; ANSWER_BYTES_MAX];
        loop {
            match self.stream.read(&mut scratch) {
                Ok(0) => return Err("closed by the server".to_owned()),
                Ok(count) => {
                    self.answer.extend_from_slice(&scratch[..count]);
                    if expected.is_complete(&self.answer)? {
                        return Ok(Some(now().duration_since(self.asked)));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// The loop, and what went wrong in it.
struct Run {
    expected: Expected,
    clients: Vec<Client>,
    errors: u64,
    first_error: String,
    port: u16,
}

impl Run {
    /// Asks and takes answers for this long; returns how long each answer took.
    fn ask_for(&mut self, poll: &mut Poll, span: Duration) -> Fallible<Histogram<u64>> {
        let mut latencies_ns = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        let mut events = Events::with_capacity(1024);
        let end = now() + span;
        let mut last_answer = now();
        loop {
            let time = now();
            if time >= end {
                return Ok(latencies_ns);
            }
            if time.duration_since(last_answer) > STALL {
                return Err(format!(
                    "no answer for {STALL:?}; {} errors, first: {}",
                    self.errors, self.first_error
                )
                .into());
            }
            match poll.poll(&mut events, Some(end - time)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                let client = &mut self.clients[event.token().0];
                let outcome = client.take(&self.expected).and_then(|taken| {
                    let Some(latency) = taken else { return Ok(None) };
                    client.ask(&self.expected).map_err(|error| error.to_string())?;
                    Ok(Some(latency))
                });
                match outcome {
                    Ok(None) => {}
                    Ok(Some(latency)) => {
                        latencies_ns.saturating_record(u64::try_from(latency.as_nanos())?);
                        last_answer = client.asked;
                    }
                    Err(error) => self.replace(poll, event.token().0, error)?,
                }
            }
        }
    }

    /// Counts an error and goes on with a new connection in the place of the old one.
    fn replace(&mut self, poll: &Poll, number: usize, error: String) -> io::Result<()> {
        if self.errors == 0 {
            self.first_error = error;
        }
        self.errors += 1;
        self.clients[number] = connect(poll, self.port, number)?;
        self.clients[number].ask(&self.expected)
    }
}
