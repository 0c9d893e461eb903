//! Objects that a driver watches for a connection in addition to its socket, such as the pipes of a
//! child process.
//!
//! A [`Watched`] object owns some descriptors. The loop registers them once, edge-triggered like
//! its sockets. It calls [`advance`](Watched::advance) when one of them is ready, when the object
//! is due, and after the connection was pumped. The thread of the threads model does the same with
//! `poll`. The object never touches the connection: its result is returned as a [`Done`], like that
//! of a job. The connection may be closed at any time, and the object lives on until it has cleaned
//! up. Must not know what the object does, nor which driver watches it.

use std::sync::Arc;

use crate::clock::Instant;
use crate::conn_id::WatchId;
use crate::handler::continuation::Done;
use crate::http::open_file::Fd;

/// One descriptor of a watched object.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Number of the descriptor within the object, 0 to 3. It stays the same while others are
    /// closed.
    pub number: u8,
    /// The descriptor, non-blocking.
    pub fd: Arc<Fd>,
    /// Watched for writability; otherwise for readability.
    pub writes: bool,
    /// Already known to be ready: no call has returned would-block since.
    pub is_ready: bool,
}

/// The set of descriptors that the kernel reported ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready(u8);

impl Ready {
    /// The set with this descriptor only, 0 to 3.
    #[must_use]
    pub const fn of(number: u8) -> Self {
        Ready(1 << (number & 3))
    }

    /// Adds one descriptor to the set.
    #[must_use]
    pub const fn with(self, number: u8) -> Self {
        Ready(self.0 | Ready::of(number).0)
    }

    /// The union of both sets.
    #[must_use]
    pub const fn and(self, others: Ready) -> Self {
        Ready(self.0 | others.0)
    }

    /// Returns whether the set contains this descriptor.
    #[must_use]
    pub const fn has(self, number: u8) -> bool {
        self.0 & Ready::of(number).0 != 0
    }
}

/// The result of [`Watched::advance`].
#[derive(Debug, Default)]
pub struct Advanced {
    /// The result for the connection.
    pub done: Option<Done>,
    /// Latest time of the next advance.
    pub due: Option<Instant>,
    /// The object has used up its budget of this turn. It must advance again in the next turn,
    /// because no event will come.
    pub again: bool,
    /// The object is finished and must not be watched any more.
    pub is_over: bool,
}

/// An object with descriptors of its own that is watched for a connection.
pub trait Watched: Send + Sync {
    /// Returns the open descriptors. The loop calls this once, when it begins to watch; the threads
    /// model before every wait.
    fn descriptors(&self) -> Vec<Descriptor>;

    /// Makes progress as far as possible now. `ready` is the set of descriptors that have become
    /// ready since the last call. A descriptor that was ready before, and has not returned
    /// would-block, is still ready. May be called at any time, and must not block.
    fn advance(self: Arc<Self>, ready: Ready, now: Instant) -> Advanced;

    /// Returns false if the answer comes through the inbox of the driver and not from
    /// [`Watched::advance`]. Then the answer timeout of the connection applies.
    fn brings_answer(&self) -> bool {
        true
    }

    /// Notifies the object that its connection was closed or goes on without it. Later results are
    /// ignored, and the object should finish soon.
    fn abandon(&self);
}

/// A change of the object that a connection watches, requested by the handler.
#[derive(Default)]
pub(crate) enum Change {
    /// No change.
    #[default]
    Nothing,
    /// Watches this object instead.
    To(Arc<dyn Watched>),
    /// Abandons the object, because the answer comes from elsewhere.
    Abandon,
}

/// A connection's ownership of its watched object. Dropping it abandons the object.
pub(crate) struct Watch {
    pub(crate) watched: Arc<dyn Watched>,
    /// Id of the watch, once the driver has registered it.
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
