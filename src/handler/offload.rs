//! Content that is made off the loop while it is sent, such as compression, archives and listings.
//!
//! A [`Producer`] is resumed piece by piece on a worker thread. [`Offloaded`] is the body source in
//! front of it. It hands out the last piece while the next is being made. So at most two pieces are
//! in memory, however slow the client and however long the content. In the threads model, pieces
//! are made on the connection's own thread. Must not know what the content is.

use std::sync::{Arc, Mutex};

use crate::conn_id::ConnId;
use crate::handler::Context;
use crate::http::{BodySource, FillStatus};
use crate::jobs::{Lane, Ran, Spawn};
use crate::sync::lock;

/// A producer of content, one piece after the other. May block, and may be dropped between any two
/// pieces.
pub trait Producer: Send + 'static {
    /// Appends the next piece to `out`: some tens of KiB, or whatever is available. `More` requests
    /// another call. `Later` has no meaning here and is treated as `More`.
    fn produce(&mut self, out: &mut Vec<u8>) -> FillStatus;
}

/// The state of the producer.
enum ProducerState<P> {
    /// Idle, with a piece that was not taken yet and the result of the call that made it.
    Here(P, Vec<u8>, FillStatus),
    /// Working on a worker thread.
    Away,
    /// Lost in a panic.
    Lost,
}

/// Sets the state to `Lost` unless another was set, because a panic on the worker must not leave a
/// client waiting.
struct Return<P> {
    state: Arc<Mutex<ProducerState<P>>>,
    with: Option<ProducerState<P>>,
}

impl<P> Drop for Return<P> {
    fn drop(&mut self) {
        *lock(&self.state) = self.with.take().unwrap_or(ProducerState::Lost);
    }
}

/// A body source whose content a [`Producer`] makes off the loop.
pub struct Offloaded<P> {
    id: ConnId,
    spawner: Arc<dyn Spawn>,
    state: Arc<Mutex<ProducerState<P>>>,
    /// The piece that is being handed out, and the bytes of it handed out so far.
    piece: Vec<u8>,
    at: usize,
    /// The result of the call that made that piece.
    status: FillStatus,
}

impl<P> std::fmt::Debug for Offloaded<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Offloaded({} of {} bytes, {:?})", self.at, self.piece.len(), self.status)
    }
}

impl<P: Producer> Offloaded<P> {
    /// Creates a source of content made by `producer` for the connection of `cx`.
    pub fn new(producer: P, cx: &Context<'_>) -> Self {
        Offloaded::with(producer, Vec::new(), cx.id(), cx.spawner())
    }

    /// Creates a source whose first piece is made already.
    pub fn begun(producer: P, first: Vec<u8>, cx: &Context<'_>) -> Self {
        Offloaded::with(producer, first, cx.id(), cx.spawner())
    }

    pub(crate) fn with(producer: P, first: Vec<u8>, id: ConnId, spawner: Arc<dyn Spawn>) -> Self {
        Offloaded {
            id,
            spawner,
            state: Arc::new(Mutex::new(ProducerState::Here(producer, Vec::new(), FillStatus::More))),
            piece: first,
            at: 0,
            status: FillStatus::More,
        }
    }

    /// Takes the next piece if it is made, and starts the one after it. Returns false while it is
    /// being made.
    fn next_piece(&mut self) -> bool {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, ProducerState::Away) {
            ProducerState::Away => return false,
            ProducerState::Lost => {
                *state = ProducerState::Lost;
                drop(state);
                self.piece.clear();
                (self.at, self.status) = (0, FillStatus::Failed);
            }
            ProducerState::Here(producer, piece, status) => {
                drop(state);
                let mut empty = std::mem::replace(&mut self.piece, piece);
                empty.clear();
                (self.at, self.status) = (0, status);
                if matches!(status, FillStatus::More | FillStatus::Later) {
                    self.begin(producer, empty);
                }
            }
        }
        true
    }

    fn begin(&self, mut producer: P, mut piece: Vec<u8>) {
        let mut back = Return { state: Arc::clone(&self.state), with: None };
        let task = Box::new(move || {
            let status = producer.produce(&mut piece);
            back.with = Some(ProducerState::Here(producer, piece, status));
            drop(back);
        });
        // The task ran inline or was queued: `state` shows which.
        let (Ran::Inline | Ran::Queued) = self.spawner.run(self.id, Lane::Long, task);
    }
}

impl<P: Producer> BodySource for Offloaded<P> {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> FillStatus {
        loop {
            let bytes = room.max(1).min(self.piece.len() - self.at);
            out.extend_from_slice(&self.piece[self.at..self.at + bytes]);
            self.at += bytes;
            if self.at < self.piece.len() {
                return FillStatus::More;
            }
            match self.status {
                FillStatus::End => return FillStatus::End,
                FillStatus::Failed => return FillStatus::Failed,
                FillStatus::More | FillStatus::Later if bytes > 0 => return FillStatus::More,
                FillStatus::More | FillStatus::Later => {
                    if !self.next_piece() {
                        return FillStatus::Later;
                    }
                }
            }
        }
    }
}

#[cfg(feature = "os")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::continuation::{Inbox, Pool};
    use crate::jobs::{JobQueue as _, Task};
    use std::sync::mpsc;

    /// Produces the numbers from 0 in three pieces, then `last_word`; `None` panics.
    struct Counting {
        next: u8,
        last_word: Option<FillStatus>,
    }

    impl Producer for Counting {
        fn produce(&mut self, out: &mut Vec<u8>) -> FillStatus {
            if self.next == 6 {
                return self.last_word.unwrap_or_else(|| std::panic::resume_unwind(Box::new("gone")));
            }
            out.extend([self.next, self.next + 1]);
            self.next += 2;
            FillStatus::More
        }
    }

    fn source(spawner: Arc<dyn Spawn>, last_word: Option<FillStatus>) -> Offloaded<Counting> {
        Offloaded {
            id: ConnId::new(1, 0),
            spawner,
            state: Arc::new(Mutex::new(ProducerState::Here(
                Counting { next: 0, last_word },
                Vec::new(),
                FillStatus::More,
            ))),
            piece: Vec::new(),
            at: 0,
            status: FillStatus::More,
        }
    }

    /// Fills until the end. Waits for a wake-up whenever the source returns `Later`.
    fn run(mut source: Offloaded<Counting>, wait: impl Fn()) -> (Vec<u8>, FillStatus) {
        let mut out = Vec::new();
        loop {
            match source.fill(&mut out, 1) {
                FillStatus::More => {}
                FillStatus::Later => wait(),
                status @ (FillStatus::End | FillStatus::Failed) => return (out, status),
            }
        }
    }

    struct Here;

    impl Spawn for Here {
        fn run(&self, _: ConnId, _: Lane, task: Task) -> Ran {
            drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(task)));
            Ran::Inline
        }

        fn detach(&self, _: Lane, task: Task) {
            task();
        }
    }

    #[test]
    fn pieces_come_in_order_here_and_elsewhere_and_the_last_word_counts() {
        for last_word in [Some(FillStatus::End), Some(FillStatus::Failed), None] {
            let expected = (vec![0, 1, 2, 3, 4, 5], last_word.unwrap_or(FillStatus::Failed));
            assert_eq!(run(source(Arc::new(Here), last_word), || panic!("never rests")), expected);
            let (woken, wake_ups) = mpsc::channel();
            let inbox = Arc::new(Inbox::new(Box::new(move || woken.send(()).map_err(std::io::Error::other))));
            let pool = Pool::new(2, 1);
            let jobs = pool.job_queue(Arc::clone(&inbox));
            let wait = || {
                wake_ups.recv().unwrap();
                inbox.take(&mut Vec::new());
            };
            assert_eq!(run(source(jobs.spawner(), last_word), wait), expected);
        }
    }
}
