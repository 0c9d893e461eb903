//! Job and report of the load generator. Both cross a pipe as one line of JSON.

use serde::{Deserialize, Serialize};

/// Job of the generator for one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) port: u16,
    pub(crate) arrival: Arrival,
    /// Number of connections that send requests.
    pub(crate) connections: u32,
    /// Use of each connection between responses.
    pub(crate) habit: Habit,
    /// Requests, sent in rotation over all connections.
    pub(crate) asks: Vec<Ask>,
    /// Background connections and their behaviour.
    pub(crate) crowd: Option<Crowd>,
    /// Time before the measurement, in which requests warm caches and start threads.
    pub(crate) warm_ms: u64,
    pub(crate) measure_ms: u64,
    /// A response that takes longer counts as an error.
    pub(crate) timeout_ms: u64,
    /// Polls in a busy loop instead of sleeping, so that no response waits until the generator
    /// wakes up. Needs a processor of its own.
    pub(crate) spin: bool,
    /// Processors of the generator. Empty means all.
    pub(crate) cpus: Vec<usize>,
}

/// Time at which a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrival {
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
pub(crate) enum Habit {
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
pub(crate) struct Ask {
    /// The complete request head.
    pub(crate) head: String,
    /// Number of content bytes after the head.
    pub(crate) content_bytes: usize,
    /// Expected content of the response.
    pub(crate) expected: Expected,
}

/// Expected content.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expected {
    /// The first bytes of [`pattern`], as many as given.
    Pattern(usize),
    /// This text.
    Text(String),
}

impl Expected {
    /// Length of the content in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Expected::Pattern(bytes) => *bytes,
            Expected::Text(text) => text.len(),
        }
    }
}

/// Background connections.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Crowd {
    /// Idle connections.
    Idle(u32),
    /// Connections that request the file of 10 MiB and read 4 KiB of it twenty times per second.
    SlowReaders(u32),
    /// Connections that announce content and send 64 bytes of it twenty times per second.
    SlowSenders(u32),
}

impl Crowd {
    pub(crate) fn count(self) -> u32 {
        match self {
            Crowd::Idle(count) | Crowd::SlowReaders(count) | Crowd::SlowSenders(count) => count,
        }
    }
}

/// Returns the content of all files and uploads.
pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    b"Hello, World!".iter().copied().cycle().take(bytes).collect()
}

/// A time that the generator reports to its parent process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The measured time begins.
    Begin,
    /// The measured time is over. The connections stay open until the parent process has read
    /// `/proc`.
    End,
}

/// Result of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Number of correct responses. Closed loop: completed within the measured time. Open loop: due
    /// within it.
    pub(crate) answers: u64,
    /// Amount of correct responses, with fractions. A long response that crosses the beginning or
    /// end of the measured time counts by the share of its content received within it. Otherwise
    /// the results of short runs would be multiples of the number of connections.
    pub(crate) amount: f64,
    /// Number of responses in the whole run, including those before the measured time.
    pub(crate) answers_in_all: u64,
    /// Open loop: number of requests that were due.
    pub(crate) due: u64,
    pub(crate) seconds: f64,
    /// Share of the measured time in which the generator was busy. Near 1, the generator is the
    /// limit.
    pub(crate) busy: f64,
    /// Latencies in nanoseconds with their counts.
    pub(crate) latencies: Vec<(u64, u64)>,
    pub(crate) errors: Errors,
}

/// Counts of everything other than a correct response, over the whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errors {
    pub(crate) connect: u64,
    pub(crate) reset: u64,
    pub(crate) timeout: u64,
    pub(crate) status: u64,
    /// The connection ended before the response was complete.
    pub(crate) short: u64,
    pub(crate) framing: u64,
    pub(crate) content: u64,
    /// Open loop or stream: due in the measured time, but not received within one second after it.
    /// The latencies include these with their age at that time.
    pub(crate) late: u64,
    /// Description of the first error.
    pub(crate) first: String,
}

/// Kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Connect,
    Reset,
    Timeout,
    Status,
    Short,
    Framing,
    Content,
}

impl Errors {
    pub(crate) fn count(&mut self, kind: Kind, words: &str) {
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

    pub(crate) fn total(&self) -> u64 {
        self.named().iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn add(&mut self, other: &Errors) {
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
