//! Job and report of the load generator. Both cross a pipe as one line of JSON.

use serde::{Deserialize, Serialize};

/// Job of the generator for one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Port of the server on the loopback address.
    pub port: u16,
    /// Time at which requests are sent.
    pub arrival: Arrival,
    /// Number of connections that send requests.
    pub connections: u32,
    /// Use of each connection between responses.
    pub habit: Habit,
    /// Requests, sent in rotation over all connections.
    pub asks: Vec<Ask>,
    /// Background connections and their behaviour.
    pub crowd: Option<Crowd>,
    /// Time before the measurement, in which requests warm caches and start threads.
    pub warm_ms: u64,
    /// Measured time.
    pub measure_ms: u64,
    /// A response that takes longer counts as an error.
    pub timeout_ms: u64,
    /// Polls in a busy loop instead of sleeping, so that no response waits until the generator
    /// wakes up. Needs a processor of its own.
    pub spin: bool,
    /// Processors of the generator. Empty means all.
    pub cpus: Vec<usize>,
}

/// Time at which a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrival {
    /// Sends a request as soon as the previous response is complete. Finds the maximum throughput.
    /// Its latencies mean little, because a slow server receives fewer requests.
    Closed,
    /// Sends at a fixed rate, independent of the server. Latency counts from the time at which the
    /// request was due.
    Open {
        /// Requests per second over all connections.
        per_second: f64,
    },
    /// Sends no requests. The server sends lines at a fixed rate, each stamped with the time at
    /// which it was due.
    Listen {
        /// Nanoseconds between two lines. Reveals lines that are missing.
        every_ns: u64,
    },
}

/// Use of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Habit {
    /// Keeps the connection open and sends a number of requests in one write. More than one is
    /// pipelining.
    Keep {
        /// Number of requests in one write.
        depth: usize,
    },
    /// Sends one request, then opens a new connection.
    Close,
}

/// A request and its expected response.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// The complete request head.
    pub head: String,
    /// Number of content bytes after the head.
    pub content_bytes: usize,
    /// Expected content of the response.
    pub expected: Expected,
}

/// Expected content.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// The first bytes of [`pattern`], as many as given.
    Pattern(usize),
    /// This text.
    Text(String),
}

impl Expected {
    /// Length of the content in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Expected::Pattern(bytes) => *bytes,
            Expected::Text(text) => text.len(),
        }
    }
}

/// Background connections.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crowd {
    /// Idle connections.
    Idle(u32),
    /// Connections that request the file of 10 MiB and read 4 KiB of it twenty times per second.
    SlowReaders(u32),
    /// Connections that announce content and send 64 bytes of it twenty times per second.
    SlowSenders(u32),
}

impl Crowd {
    /// Number of background connections.
    pub fn count(self) -> u32 {
        match self {
            Crowd::Idle(count) | Crowd::SlowReaders(count) | Crowd::SlowSenders(count) => count,
        }
    }
}

/// Returns the content of all files and uploads.
pub fn pattern(bytes: usize) -> Vec<u8> {
    b"Hello, World!".iter().copied().cycle().take(bytes).collect()
}

/// A time that the generator reports to its parent process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The measured time begins.
    Begin,
    /// The measured time is over. The connections stay open until the parent process has read
    /// `/proc`.
    End,
}

/// Result of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Number of correct responses. Closed loop: completed within the measured time. Open loop: due
    /// within it.
    pub answers: u64,
    /// Amount of correct responses, with fractions. A long response that crosses the beginning or
    /// end of the measured time counts by the share of its content received within it. Otherwise
    /// the results of short runs would be multiples of the number of connections.
    pub amount: f64,
    /// Number of responses in the whole run, including those before the measured time.
    pub answers_in_all: u64,
    /// Open loop: number of requests that were due.
    pub due: u64,
    /// Length of the measured time.
    pub seconds: f64,
    /// Share of the measured time in which the generator was busy. Near 1, the generator is the
    /// limit.
    pub busy: f64,
    /// Latencies in nanoseconds with their counts.
    pub latencies: Vec<(u64, u64)>,
    /// Errors of the whole run.
    pub errors: Errors,
}

/// Counts of everything other than a correct response, over the whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// The connection was refused.
    pub connect: u64,
    /// The connection was closed or reset between responses.
    pub reset: u64,
    /// No response came in time.
    pub timeout: u64,
    /// The status was not 200.
    pub status: u64,
    /// The connection ended before the response was complete.
    pub short: u64,
    /// The framing of the response was wrong.
    pub framing: u64,
    /// The content was not the expected one.
    pub content: u64,
    /// Open loop or stream: due in the measured time, but not received within one second after it.
    /// The latencies include these with their age at that time.
    pub late: u64,
    /// Description of the first error.
    pub first: String,
}

/// Kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The connection was refused.
    Connect,
    /// The connection was closed or reset between responses.
    Reset,
    /// No response came in time.
    Timeout,
    /// The status was not 200.
    Status,
    /// The connection ended before the response was complete.
    Short,
    /// The framing of the response was wrong.
    Framing,
    /// The content was not the expected one.
    Content,
}

impl Errors {
    /// Counts an error. The description of the first one is kept.
    pub fn count(&mut self, kind: Kind, words: &str) {
        if self.first.is_empty() {
            self.first = words.to_owned();
        }
        *match kind {
            Kind::Connect => &mut self.connect,
            Kind::Reset => &mut self.reset,
            Kind::Timeout => &mut self.timeout,
            Kind::Status => &mut self.status,
            Kind::Short => &mut self.short,
            Kind::Framing => &mut self.framing,
            Kind::Content => &mut self.content,
        } += 1;
    }

    fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("connect", self.connect),
            ("reset", self.reset),
            ("timeout", self.timeout),
            ("status", self.status),
            ("short", self.short),
            ("framing", self.framing),
            ("content", self.content),
            ("late", self.late),
        ]
    }

    /// Returns the number of all errors.
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, count)| count).sum()
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Errors) {
        for (own, others) in [
            (&mut self.connect, other.connect),
            (&mut self.reset, other.reset),
            (&mut self.timeout, other.timeout),
            (&mut self.status, other.status),
            (&mut self.short, other.short),
            (&mut self.framing, other.framing),
            (&mut self.content, other.content),
            (&mut self.late, other.late),
        ] {
            *own += others;
        }
        if self.first.is_empty() {
            self.first.clone_from(&other.first);
        }
    }
}

impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counted = self.named().into_iter().filter(|(_, count)| *count > 0);
        let words: Vec<String> = counted.map(|(name, count)| format!("{count} {name}")).collect();
        f.write_str(&words.join(", "))?;
        if self.first.is_empty() { Ok(()) } else { write!(f, "; first: {}", self.first) }
    }
}
