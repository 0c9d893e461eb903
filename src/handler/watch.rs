//! What a driver watches for a connection beside its socket: the pipes of a child process, say.
//!
//! A [`Watched`] thing owns some descriptors. The loop registers them once, edge-triggered like its
//! sockets, and has the thing [advance](Watched::advance) when one of them is ready, when its time
//! has come, and after its connection was pumped. The twin's thread does the same with `poll`. It
//! never touches the connection: what it has to say goes back as a [`Done`], as from a job. Its
//! connection may go at any time, and it outlives the connection for as long as it has to clean up.
//! Must not know what is watched, nor who watches.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::conn_id::WatchId;
use crate::handler::continuation::Done;

/// One descriptor of something watched.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Tells it from the others, 0 to 3; it keeps its number while others close.
    pub number: u8,
    /// The descriptor, non-blocking.
    pub fd: Arc<OwnedFd>,
    /// Whether it is watched for room to write; else for something to read.
    pub writes: bool,
    /// It is known to be ready already, and nothing has denied it.
    pub is_ready: bool,
}

/// Which descriptors the kernel called ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready(u8);

impl Ready {
    /// The one of this number, 0 to 3.
    #[must_use]
    pub const fn of(number: u8) -> Self {
        Ready(1 << (number & 3))
    }

    /// The same with one more.
    #[must_use]
    pub const fn with(self, number: u8) -> Self {
        Ready(self.0 | Ready::of(number).0)
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, others: Ready) -> Self {
        Ready(self.0 | others.0)
    }

    /// Whether the one of this number is among them.
    #[must_use]
    pub const fn has(self, number: u8) -> bool {
        self.0 & Ready::of(number).0 != 0
    }
}

/// What came of an advance.
#[derive(Debug, Default)]
pub struct Advanced {
    /// For its connection.
    pub done: Option<Done>,
    /// When it wants to advance at the latest, whatever happens.
    pub due: Option<Instant>,
    /// It has used up its share of the turn: let it advance in the next one, no event will come.
    pub again: bool,
    /// It has nothing left to do and is not to be watched any more.
    pub is_over: bool,
}

/// Something with descriptors of its own that is watched for a connection.
pub trait Watched: Send + Sync {
    /// Its open descriptors. The loop asks once, when it begins to watch; the twin before every
    /// wait.
    fn descriptors(&self) -> Vec<Descriptor>;

    /// Does what can be done now. `ready` says what has become ready since; what was ready before,
    /// and was not denied by a would-block, still is. May be called at any time, and must not
    /// block.
    fn advance(self: Arc<Self>, ready: Ready, now: Instant) -> Advanced;

    /// Returns false if the answer comes through the inbox of the driver and not from
    /// [`Watched::advance`]. Then the answer timeout of the connection holds.
    fn brings_answer(&self) -> bool {
        true
    }

    /// Its connection has no further use for it: it is gone, or goes on without it. From now on
    /// nothing it says is heard, and it should be over soon.
    fn abandon(&self);
}

/// What is to become of what a connection has watched, as its answer's maker says.
#[derive(Default)]
pub(crate) enum Change {
    /// It stays.
    #[default]
    Nothing,
    /// This takes its place.
    To(Arc<dyn Watched>),
    /// It is let go of: the answer comes from elsewhere.
    LetGo,
}

/// A connection's hold on what is watched for it. Letting go abandons it.
pub(crate) struct Watch {
    pub(crate) watched: Arc<dyn Watched>,
    /// Its name, once it is watched.
    pub(crate) name: Option<WatchId>,
}

impl Watch {
    pub(crate) fn new(watched: Arc<dyn Watched>) -> Self {
        Watch { watched, name: None }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watched.abandon();
    }
}
