//! What the load generator is told to do and what it reports: both cross a pipe as one line of
//! JSON.

use serde::{Deserialize, Serialize};

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) port: u16,
    pub(crate) arrival: Arrival,
    /// Connections that ask.
    pub(crate) connections: u32,
    /// What each connection does between its answers.
    pub(crate) habit: Habit,
    /// Asked in turn, over all connections.
    pub(crate) asks: Vec<Ask>,
    /// Connections that are only there, and what they do.
    pub(crate) crowd: Option<Crowd>,
    /// Asked before the measurement begins, so that caches are warm and threads are there.
    pub(crate) warm_ms: u64,
    pub(crate) measure_ms: u64,
    /// An answer that takes longer is an error.
    pub(crate) timeout_ms: u64,
    /// Looks again at once instead of sleeping in the poll, so that no answer waits for the
    /// generator to wake. Takes a processor of its own.
    pub(crate) spin: bool,
    /// The processors it may run on; all of them if empty.
    pub(crate) cpus: Vec<usize>,
}

/// When a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrival {
    /// The moment the answer before it is complete: finds the greatest throughput, and says nothing
    /// about how long people wait, since a slow server is asked less.
    Closed,
    /// At a fixed rate, whatever the server does. Latency counts from the moment a request was due.
    Open {
        /// Requests a second, over all connections.
        per_second: f64,
    },
    /// Never: the server speaks at a fixed rate, and stamps what it says with the moment it was
    /// due.
    Listen {
        /// Nanoseconds between two lines, so that one that does not come is known to be missing.
        every_ns: u64,
    },
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Habit {
    /// So many requests in one write, kept alive for ever. More than one is pipelining.
    Keep {
        /// Requests in one write.
        depth: usize,
    },
    /// One request, then a new connection.
    Close,
}

/// One request and what has to come back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// The request head, whole.
    pub(crate) head: String,
    /// So many bytes of content behind it.
    pub(crate) content_bytes: usize,
    /// What the answer holds.
    pub(crate) expected: Expected,
}

/// Content of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expected {
    /// So many bytes of [`pattern`].
    Pattern(usize),
    /// This.
    Text(String),
}

impl Expected {
    /// How many bytes it is.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Expected::Pattern(bytes) => *bytes,
            Expected::Text(text) => text.len(),
        }
    }
}

/// Connections in the background.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Crowd {
    /// Connected, silent.
    Idle(u32),
    /// Ask for the file of 10 MiB and take 4 KiB of it twenty times a second.
    SlowReaders(u32),
    /// Announce content and send 64 bytes of it twenty times a second.
    SlowSenders(u32),
}

impl Crowd {
    pub(crate) fn count(self) -> u32 {
        match self {
            Crowd::Idle(count) | Crowd::SlowReaders(count) | Crowd::SlowSenders(count) => count,
        }
    }
}

/// The content of every file and of everything sent.
pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    b"Hello, World!".iter().copied().cycle().take(bytes).collect()
}

/// A moment the generator tells its parent about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The measured time begins.
    Begin,
    /// It is over. The connections stay until the parent has looked.
    End,
}

/// What came of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Right answers. Closed: those complete within the measured time. Open: those due within it.
    pub(crate) answers: u64,
    /// The same as a share of whole answers: long ones under way when the measured time begins or
    /// ends count by what of them has come, or a short run would be told in steps of all
    /// connections.
    pub(crate) amount: f64,
    /// Answers over the whole run, those before the measured time included.
    pub(crate) answers_in_all: u64,
    /// Open: requests that were due.
    pub(crate) due: u64,
    pub(crate) seconds: f64,
    /// The share of the measured time in which the generator had something to do. Near 1 it
    /// measures itself.
    pub(crate) busy: f64,
    /// Latencies in nanoseconds, and how often each.
    pub(crate) latencies: Vec<(u64, u64)>,
    pub(crate) errors: Errors,
}

/// Everything that was not a right answer, over the whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errors {
    pub(crate) connect: u64,
    pub(crate) reset: u64,
    pub(crate) timeout: u64,
    pub(crate) status: u64,
    /// The connection ended before the answer did.
    pub(crate) short: u64,
    pub(crate) framing: u64,
    pub(crate) content: u64,
    /// Open, or a stream that is listened to: due in the measured time and not there a second after
    /// it. They are in the latencies, as old as they were then.
    pub(crate) late: u64,
    /// The first of them in words.
    pub(crate) first: String,
}

/// What can be wrong with an answer.
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
