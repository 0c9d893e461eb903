//! Storage for content that must be kept for a while: small content in memory, more in a temporary
//! file without a name.
//!
//! A [`Spool`] bounds the bytes and files that all connections use together. A `Spooled` is the
//! content of one connection, and returns its share when it is dropped. When the spool is full, the
//! slowest sender is cut off. Writing to the file may block, so it is for jobs. Must not know the
//! purpose of the content.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::clock::Instant;
use crate::config::{Config, KIB, Limits};
use crate::handler::temp_file::temporary_file;
use crate::handler::{Answer, Context, SinkStatus};
use crate::http::open_file::OpenFile;
use crate::http::{Body, Response, Status};
use crate::jobs::pace::LeastRate;
use crate::jobs::sender_permits::{Holder, SenderPermit, SenderPermits};
use crate::jobs::{Lane, Spawn};
use crate::shortage;
use crate::sync::{Permit, Semaphore};

/// Maximum content of one request kept in memory, in bytes. Longer content goes to a file.
const MEMORY_BYTES: usize = 64 * KIB;

/// Maximum number of contents kept at once. Bytes and files run out first: this only bounds the
/// list of senders.
const CONTENTS_MAX: usize = 1 << 20;

/// Bounded storage for content, in memory and temporary files, shared by all connections.
#[derive(Debug)]
pub struct Spool {
    bytes: Arc<Semaphore>,
    files: Arc<Semaphore>,
    /// The senders of all stored contents.
    contents: Arc<SenderPermits>,
}

impl Spool {
    /// Creates a spool with the limits of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let Limits { spool_bytes_max, spool_files_max, .. } = config.limits;
        let rate = LeastRate::of(&config.limits, &config.timeouts);
        Spool::new(spool_bytes_max, spool_files_max, rate)
    }

    /// Creates a spool of `bytes_max` bytes and `files_max` files. When it is full, senders slower
    /// than `rate` are cut off.
    #[must_use]
    pub fn new(bytes_max: u64, files_max: usize, rate: Option<LeastRate>) -> Self {
        Spool {
            bytes: Semaphore::new(bytes_max),
            files: Semaphore::new(files_max as u64),
            contents: SenderPermits::new(CONTENTS_MAX, rate),
        }
    }

    /// Returns the bytes in use.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.held()
    }
}

/// The permits of one content. They are dropped with the content, also if a response owns it.
#[derive(Debug)]
struct Permits {
    bytes: Permit,
    /// One file, or none yet.
    file: Permit,
}

impl Permits {
    fn none(spool: &Spool) -> Self {
        Permits { bytes: spool.bytes.empty(), file: spool.files.empty() }
    }

    /// Takes the permit for a file if there is none yet. Returns false if none is left.
    fn has_file(&mut self) -> bool {
        self.file.count() == 1 || self.file.try_grow(1)
    }
}

/// The result of [`Spooled::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The piece is stored.
    Kept,
    /// The piece is stored and the memory share is used up: call [`Spooled::spill`] from a job
    /// before the next piece.
    Spill,
    /// The spool is full and the piece was not stored.
    NoRoom,
}

/// The content of one request.
#[derive(Debug)]
pub(crate) struct Spooled {
    memory: Vec<u8>,
    file: Option<OwnedFd>,
    filed_bytes: u64,
    spool: Arc<Spool>,
    permits: Permits,
    /// The permit of the sender, while the content arrives.
    sender: Option<SenderPermit>,
}

impl Spooled {
    /// Creates empty storage for the content that the connection of `cx` sends.
    pub(crate) fn of(spool: &Arc<Spool>, cx: &Context<'_>) -> Self {
        let sender = spool.contents.acquire(cx.waker(), cx.now().mono);
        Spooled { sender, ..Spooled::new(spool) }
    }

    /// Creates empty storage without a sender.
    fn new(spool: &Arc<Spool>) -> Self {
        let (memory, permits) = (Vec::new(), Permits::none(spool));
        Spooled { memory, file: None, filed_bytes: 0, spool: Arc::clone(spool), permits, sender: None }
    }

    /// Stores a piece in memory.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Pushed {
        if !self.permits.bytes.try_grow(piece.len() as u64) {
            return Pushed::NoRoom;
        }
        self.memory.extend_from_slice(piece);
        match self.memory.len() > MEMORY_BYTES {
            false => Pushed::Kept,
            true if self.permits.has_file() => Pushed::Spill,
            true => Pushed::NoRoom,
        }
    }

    /// Moves the bytes in memory to the file. Blocks: for jobs only.
    pub(crate) fn spill(&mut self) -> Result<(), rustix::io::Errno> {
        let fd = match &self.file {
            Some(fd) => fd,
            None => self.file.insert(temporary_file()?),
        };
        let mut at = 0;
        while at < self.memory.len() {
            match rustix::io::pwrite(fd.as_fd(), &self.memory[at..], self.filed_bytes) {
                Ok(bytes) => {
                    at += bytes;
                    self.filed_bytes += bytes as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.memory.clear();
        Ok(())
    }

    /// Returns the length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.filed_bytes + self.memory.len() as u64
    }

    /// Returns whether part of the content is in the file.
    pub(crate) fn is_filed(&self) -> bool {
        self.file.is_some()
    }

    /// Takes the bytes in memory: the whole content, unless part of it is in the file.
    pub(crate) fn take_memory(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.memory)
    }

    /// Returns the file to send and its length in bytes. Keeps a duplicate descriptor, so that the
    /// file is closed when this value is dropped. If no descriptor is available, the sender closes
    /// it.
    fn share_file(&mut self) -> Option<(OwnedFd, u64)> {
        let fd = self.file.take()?;
        self.file = fd.try_clone().ok();
        Some((fd, self.filed_bytes))
    }

    /// Takes the file and its length in bytes.
    pub(crate) fn take_file(&mut self) -> Option<(OpenFile, u64)> {
        let fd = self.file.take()?;
        let permits = std::mem::replace(&mut self.permits, Permits::none(&self.spool));
        Some((OpenFile::leased(fd, Box::new(permits)), self.filed_bytes))
    }
}

/// A value with a file that may be long, which a task drops. Freeing the blocks of a nameless file
/// takes the disk a while, and the owner is usually on the loop.
///
/// A job does not need this: a value that it owns is dropped on the worker, where waiting is
/// harmless. Take the value out and pass it to the job.
pub(crate) struct DropOffLoop<T: Send + 'static> {
    /// `None` only during the drop.
    value: Option<T>,
    spawner: Arc<dyn Spawn>,
}

impl<T: Send + 'static> DropOffLoop<T> {
    /// Wraps `value`, to be dropped by a task.
    pub(crate) fn new(value: T, spawner: Arc<dyn Spawn>) -> Self {
        DropOffLoop { value: Some(value), spawner }
    }

    /// Returns the value, unless it is being dropped.
    pub(crate) fn get(&mut self) -> Option<&mut T> {
        self.value.as_mut()
    }

    /// Returns the value, to be dropped like any other, and the spawner.
    pub(crate) fn into_parts(mut self) -> (Option<T>, Arc<dyn Spawn>) {
        (self.value.take(), Arc::clone(&self.spawner))
    }
}

impl<T: Send + 'static> Drop for DropOffLoop<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            // Detached: the task belongs to no connection, so none is woken for it.
            self.spawner.detach(Lane::Short, Box::new(move || drop(value)));
        }
    }
}

/// Content that arrives through a sink.
impl DropOffLoop<Spooled> {
    /// Stores a piece. If there is no room for it, the slowest sender is cut off to make room for
    /// later ones.
    pub(crate) fn take(&mut self, piece: &[u8], now: Instant) -> SinkStatus {
        let Some(content) = self.get() else { return SinkStatus::Refuse(no_room()) };
        match content.push(piece) {
            Pushed::Kept => SinkStatus::More,
            Pushed::Spill => SinkStatus::Full,
            Pushed::NoRoom => {
                content.spool.contents.evict_slowest(now);
                SinkStatus::Refuse(no_room())
            }
        }
    }

    /// Returns the holder record of the sender.
    pub(crate) fn holder(&self) -> Option<&Arc<Holder>> {
        Some(self.value.as_ref()?.sender.as_ref()?.holder())
    }

    /// Writes the bytes in memory to the file in a job, and calls `then` if that succeeds.
    pub(crate) fn spill(
        mut self,
        cx: &mut Context<'_>,
        then: impl FnOnce(DropOffLoop<Spooled>) -> Answer + Send + 'static,
    ) -> Answer {
        // The job owns the whole value, because a job that is refused is dropped on the loop.
        cx.job_then(move || match self.get().map_or(Ok(()), Spooled::spill) {
            Ok(()) => Box::new(move |_| then(self)),
            Err(errno) => Box::new(move |_| cannot_spill(errno).into()),
        })
    }

    /// Returns the whole content as a response body: the bytes in memory, or the file if there is
    /// one.
    pub(crate) fn into_body(mut self) -> Body {
        let Some((fd, len)) = self.get().and_then(Spooled::share_file) else {
            // Only a file has to be dropped by a task.
            let (content, _) = self.into_parts();
            return Body::Bytes(content.map(|mut content| content.take_memory()).unwrap_or_default());
        };
        let file = Arc::new(OpenFile::leased(fd, Box::new(self)));
        Body::File { file, offset: 0, len }
    }
}

/// The response when the spool is full.
pub(crate) fn no_room() -> Response {
    Response::plain_problem(Status::SERVICE_UNAVAILABLE, "no space is left for request content").closing()
}

/// The response when content cannot be written to a file.
pub(crate) fn cannot_spill(errno: rustix::io::Errno) -> Response {
    log::warn!("cannot store content in a temporary file: {errno}");
    if shortage::is_it(errno) {
        return Response::plain_problem(Status::SERVICE_UNAVAILABLE, "the server is out of descriptors")
            .closing();
    }
    Response::plain_problem(Status::INSUFFICIENT_STORAGE, "the request content cannot be stored").closing()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn_id::ConnId;
    use crate::jobs::{Ran, Task};
    use crate::sync::lock;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Later(Mutex<Vec<Task>>);

    impl Spawn for Later {
        fn run(&self, _: ConnId, lane: Lane, task: Task) -> Ran {
            self.detach(lane, task);
            Ran::Queued
        }

        fn detach(&self, _: Lane, task: Task) {
            lock(&self.0).push(task);
        }
    }

    /// Regression: the loop freed the blocks of every spooled file.
    #[test]
    fn what_is_dropped_beside_is_dropped_by_a_task_unless_it_was_taken_out() {
        let later = Arc::new(Later::default());
        let spool = Arc::new(Spool::new(100, 10, None));
        let content = || {
            let mut content = Spooled::new(&spool);
            assert_eq!(content.push(&[0; 10]), Pushed::Kept);
            content.spill().unwrap();
            content
        };
        let mut beside = DropOffLoop::new(content(), Arc::clone(&later) as Arc<_>);
        assert!(beside.get().is_some_and(|content| content.len() == 10));
        drop(beside);
        assert_eq!((spool.bytes(), lock(&later.0).len()), (10, 1), "it is not dropped yet");
        lock(&later.0).drain(..).for_each(|task| task());
        assert_eq!(spool.bytes(), 0);
        let (taken, _) = DropOffLoop::new(content(), Arc::clone(&later) as Arc<_>).into_parts();
        drop(taken);
        assert_eq!((spool.bytes(), lock(&later.0).len()), (0, 0));

        let body = DropOffLoop::new(content(), Arc::clone(&later) as Arc<_>).into_body();
        assert!(matches!(&body, Body::File { len: 10, .. }));
        drop(body);
        assert_eq!((spool.bytes(), lock(&later.0).len()), (10, 1), "the connection closed it");
        lock(&later.0).drain(..).for_each(|task| task());
        assert_eq!(spool.bytes(), 0);
        let mut content = DropOffLoop::new(Spooled::new(&spool), Arc::clone(&later) as Arc<_>);
        assert!(matches!(content.take(&[1; 3], crate::clock::read_clocks().mono), SinkStatus::More));
        assert!(matches!(content.into_body(), Body::Bytes(bytes) if bytes == [1; 3]));
        assert_eq!((spool.bytes(), lock(&later.0).len()), (0, 0), "a task for what is in memory");
    }
}
