//! Content that has to be kept for a while: a little in memory, more in a temporary file without a
//! name.
//!
//! A [`Spool`] bounds what all connections keep together, in bytes and in files; a `Spooled` is the
//! content of one of them and gives its share back when it is gone. When the spool is full, the
//! slowest sender gives way. Writing to the file may block, so it is for jobs. Must not know whose
//! content it is.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::config::{Config, KIB, Limits};
use crate::handler::temp_file::temporary_file;
use crate::handler::{Answer, Context, Sunk};
use crate::http::send_queue::OpenFile;
use crate::http::{Body, Response, Status};
use crate::jobs::pace::LeastRate;
use crate::jobs::places::{Places, Seat, Taken};
use crate::jobs::{Lane, Spawn};
use crate::pages::error::text_error;
use crate::shortage;

/// Content of one request kept in memory, in bytes. More goes to a file.
const MEMORY_BYTES: usize = 64 * KIB;

/// Contents kept at once. Room and files run out first; this only keeps the list of senders finite.
const CONTENTS_MAX: usize = 1 << 20;

/// Room for content in memory and temporary files, shared by all connections.
#[derive(Debug)]
pub struct Spool {
    bytes_max: u64,
    bytes: AtomicU64,
    files: Arc<Places>,
    /// The senders of all that is kept.
    contents: Arc<Places>,
}

impl Spool {
    /// Room for as much as a configuration allows.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let Limits { spool_bytes_max, spool_files_max, .. } = config.limits;
        let rate = LeastRate::of(&config.limits, &config.timeouts);
        Spool::new(spool_bytes_max, spool_files_max, rate)
    }

    /// Room for so many bytes in so many files. Senders below `rate` give way when it is full.
    #[must_use]
    pub fn new(bytes_max: u64, files_max: usize, rate: Option<LeastRate>) -> Self {
        let (files, contents) = (Places::new(files_max), Places::for_senders(CONTENTS_MAX, rate));
        Spool { bytes_max, bytes: AtomicU64::new(0), files, contents }
    }

    /// Bytes in use.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A share of the spool, given back when it is dropped: with the content, wherever that has got to.
#[derive(Debug)]
struct Lease {
    spool: Arc<Spool>,
    bytes: u64,
    /// One of the files.
    file: Option<Taken>,
}

impl Lease {
    fn new(spool: &Arc<Spool>) -> Self {
        Lease { spool: Arc::clone(spool), bytes: 0, file: None }
    }

    /// Has one of the files. False if none is left.
    fn has_file(&mut self) -> bool {
        if self.file.is_none() {
            self.file = self.spool.files.take();
        }
        self.file.is_some()
    }

    fn extend(&mut self, bytes: u64) -> bool {
        let before = self.spool.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.spool.bytes_max {
            self.spool.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.spool.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What became of a piece of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is kept.
    Kept,
    /// It is kept, and memory has enough of it: call [`Spooled::spill`] from a job before the next
    /// one.
    Spill,
    /// The spool is full; it is not kept.
    NoRoom,
}

/// The content of one request.
#[derive(Debug)]
pub(crate) struct Spooled {
    memory: Vec<u8>,
    file: Option<OwnedFd>,
    filed_bytes: u64,
    lease: Lease,
    /// The place of its sender, while there is one.
    place: Option<Taken>,
}

impl Spooled {
    /// Nothing yet of the content that the connection in hand brings.
    pub(crate) fn of(spool: &Arc<Spool>, cx: &Context<'_>) -> Self {
        let place = spool.contents.take_for(cx.waker(), cx.now().mono);
        Spooled { place, ..Spooled::new(spool) }
    }

    /// Nothing yet, from nobody.
    fn new(spool: &Arc<Spool>) -> Self {
        Spooled { memory: Vec::new(), file: None, filed_bytes: 0, lease: Lease::new(spool), place: None }
    }

    /// Keeps a piece, in memory for the time being.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Pushed {
        if !self.lease.extend(piece.len() as u64) {
            return Pushed::NoRoom;
        }
        self.memory.extend_from_slice(piece);
        match self.memory.len() > MEMORY_BYTES {
            false => Pushed::Kept,
            true if self.lease.has_file() => Pushed::Spill,
            true => Pushed::NoRoom,
        }
    }

    /// Moves what is in memory to the file. Blocks: for jobs only.
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

    /// How much there is, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.filed_bytes + self.memory.len() as u64
    }

    /// Whether part of it is in the file.
    pub(crate) fn is_filed(&self) -> bool {
        self.file.is_some()
    }

    /// What is in memory, taken out: all of it, unless some is in the file.
    pub(crate) fn take_memory(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.memory)
    }

    /// The file to be sent, and how much is in it. Another descriptor stays here, so that the last
    /// one is closed by whoever drops this; where none can be had, by the sender.
    fn share_file(&mut self) -> Option<(OwnedFd, u64)> {
        let fd = self.file.take()?;
        self.file = fd.try_clone().ok();
        Some((fd, self.filed_bytes))
    }

    /// The file, and how much is in it, taken out.
    pub(crate) fn take_file(&mut self) -> Option<(OpenFile, u64)> {
        let fd = self.file.take()?;
        let none = Lease::new(&self.lease.spool);
        let lease = std::mem::replace(&mut self.lease, none);
        Some((OpenFile::leased(fd, Box::new(lease)), self.filed_bytes))
    }
}

/// Something with a file that may be long: whoever drops it, the loop as a rule, has that done by
/// a task, since to free the blocks of a file without a name takes the disk a while.
///
/// A job needs none: what it owns is dropped where it ran, and that may wait. Take out what is in
/// it and give that to the job.
pub(crate) struct Beside<T: Send + 'static> {
    /// `None` only while it is dropped.
    value: Option<T>,
    spawner: Arc<dyn Spawn>,
}

impl<T: Send + 'static> Beside<T> {
    /// `value`, to be dropped by a task.
    pub(crate) fn new(value: T, spawner: Arc<dyn Spawn>) -> Self {
        Beside { value: Some(value), spawner }
    }

    /// What it holds, if it holds it yet.
    pub(crate) fn get(&mut self) -> Option<&mut T> {
        self.value.as_mut()
    }

    /// What it holds, to be dropped like anything else, and the spawner.
    pub(crate) fn into_parts(mut self) -> (Option<T>, Arc<dyn Spawn>) {
        (self.value.take(), Arc::clone(&self.spawner))
    }
}

impl<T: Send + 'static> Drop for Beside<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            // For no connection: none is to be woken for it.
            self.spawner.detach(Lane::Short, Box::new(move || drop(value)));
        }
    }
}

/// Content on its way through a sink.
impl Beside<Spooled> {
    /// Keeps a piece. Where there is no room for it, the slowest sender gives way to those that
    /// follow.
    pub(crate) fn take(&mut self, piece: &[u8], now: Instant) -> Sunk {
        let Some(content) = self.get() else { return Sunk::Refuse(no_room()) };
        match content.push(piece) {
            Pushed::Kept => Sunk::More,
            Pushed::Spill => Sunk::Full,
            Pushed::NoRoom => {
                content.lease.spool.contents.make_way(now);
                Sunk::Refuse(no_room())
            }
        }
    }

    /// The seat of its sender.
    pub(crate) fn seat(&self) -> Option<&Arc<Seat>> {
        self.value.as_ref()?.place.as_ref()?.seat()
    }

    /// Has what is in memory written to the file, and goes on with it if it could be.
    pub(crate) fn spill(
        mut self,
        cx: &mut Context<'_>,
        then: impl FnOnce(Beside<Spooled>) -> Answer + Send + 'static,
    ) -> Answer {
        // It stays what it is: a job that is refused is dropped by the loop.
        cx.job_then(move || match self.get().map_or(Ok(()), Spooled::spill) {
            Ok(()) => Box::new(move |_| then(self)),
            Err(errno) => Box::new(move |_| cannot_spill(errno).into()),
        })
    }

    /// All of it, to be sent: what is in memory, or the file if there is one.
    pub(crate) fn into_body(mut self) -> Body {
        let Some((fd, len)) = self.get().and_then(Spooled::share_file) else {
            // Only a file needs a task.
            let (content, _) = self.into_parts();
            return Body::Bytes(content.map(|mut content| content.take_memory()).unwrap_or_default());
        };
        let file = Arc::new(OpenFile::leased(fd, Box::new(self)));
        Body::File { file, offset: 0, len }
    }
}

/// The answer where a spool is full.
pub(crate) fn no_room() -> Response {
    text_error(Status::SERVICE_UNAVAILABLE, "no room is left for content").closing()
}

/// The answer where content cannot be written to a file.
pub(crate) fn cannot_spill(errno: rustix::io::Errno) -> Response {
    log::warn!("cannot keep content in a temporary file: {errno}");
    if shortage::is_it(errno) {
        return text_error(Status::SERVICE_UNAVAILABLE, "the server is out of descriptors").closing();
    }
    text_error(Status::INSUFFICIENT_STORAGE, "the content cannot be kept").closing()
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

    /// The loop freed the blocks of every spooled file.
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
        let mut beside = Beside::new(content(), Arc::clone(&later) as Arc<_>);
        assert!(beside.get().is_some_and(|content| content.len() == 10));
        drop(beside);
        assert_eq!((spool.bytes(), lock(&later.0).len()), (10, 1), "it is still there");
        lock(&later.0).drain(..).for_each(|task| task());
        assert_eq!(spool.bytes(), 0);
        let (taken, _) = Beside::new(content(), Arc::clone(&later) as Arc<_>).into_parts();
        drop(taken);
        assert_eq!((spool.bytes(), lock(&later.0).len()), (0, 0));

        let body = Beside::new(content(), Arc::clone(&later) as Arc<_>).into_body();
        assert!(matches!(&body, Body::File { len: 10, .. }));
        drop(body);
        assert_eq!((spool.bytes(), lock(&later.0).len()), (10, 1), "the connection closed it");
        lock(&later.0).drain(..).for_each(|task| task());
        assert_eq!(spool.bytes(), 0);
        let mut content = Beside::new(Spooled::new(&spool), Arc::clone(&later) as Arc<_>);
        assert!(matches!(content.take(&[1; 3], crate::clock::read_clocks().mono), Sunk::More));
        assert!(matches!(content.into_body(), Body::Bytes(bytes) if bytes == [1; 3]));
        assert_eq!((spool.bytes(), lock(&later.0).len()), (0, 0), "a task for what is in memory");
    }
}
