//! Output on its way to one client.
//!
//! Small pieces are gathered into one run of bytes. Shared bodies are queued by reference, files by
//! descriptor. This file must not read, write or look at a clock, and a file is an opaque value.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::config::KIB;
use crate::http::open_file::OpenFile;
use crate::http::prepared::Prepared;

/// Output for one client, in order.
#[derive(Debug, Default)]
pub struct SendQueue {
    gathered: Vec<u8>,
    /// Bytes of `gathered` that were sent.
    cursor: usize,
    /// Gathered bytes that precede all segments. Most responses consist of these and need no
    /// segment.
    lead: usize,
    segments: VecDeque<Segment>,
    queued: u64,
    /// Bytes queued since the last reset: the stream position of the next byte. For logs and
    /// progress.
    total: u64,
}

impl SendQueue {
    /// An empty queue. Allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        SendQueue::default()
    }

    /// Bytes in the queue, files included.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.queued
    }

    /// True if nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Bytes queued since the last reset.
    #[must_use]
    pub fn total_queued(&self) -> u64 {
        self.total
    }

    /// Bytes that the socket took since the last reset.
    #[must_use]
    pub fn total_sent(&self) -> u64 {
        self.total - self.queued
    }

    /// Appends bytes through `write`, which may only push to the vector it receives. Returns the
    /// result of `write`.
    pub fn gather<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.is_empty() {
            // No segment refers to the run: start it again at the front, so that it cannot grow for
            // ever.
            self.gathered.clear();
            self.cursor = 0;
        } else if self.cursor >= RUN_COMPACT_BYTES && 2 * self.cursor >= self.gathered.len() {
            // A slow but steady reader may never let the queue run empty. At least as many bytes
            // were sent as are moved, so each byte is moved once on average.
            self.gathered.drain(..self.cursor);
            self.cursor = 0;
        }
        let before = self.gathered.len();
        let result = write(&mut self.gathered);
        let len = self.gathered.len() - before;
        self.note(len as u64);
        match self.segments.back_mut() {
            None => self.lead += len,
            Some(Segment::Gathered { len: last }) => *last += len,
            Some(_) if len == 0 => {}
            Some(_) => self.segments.push_back(Segment::Gathered { len }),
        }
        result
    }

    /// Appends static bytes.
    pub fn push_static(&mut self, bytes: &'static [u8]) {
        self.push(Segment::Static { bytes }, bytes.len() as u64);
    }

    /// Appends bytes without copying them.
    pub fn push_owned(&mut self, bytes: Vec<u8>) {
        let len = bytes.len() as u64;
        self.push(Segment::Owned { bytes, at: 0 }, len);
    }

    /// Appends `start..end` of a whole prepared response by reference.
    pub fn push_shared(&mut self, data: Arc<Prepared>, start: usize, end: usize) {
        debug_assert!(start <= end && end <= data.bytes().len());
        self.push(Segment::Shared { data, at: start, end }, (end - start) as u64);
    }

    /// Appends a range of a file.
    pub fn push_file(&mut self, file: Arc<OpenFile>, offset: u64, len: u64) {
        self.push(Segment::File { file, offset, len }, len);
    }

    fn push(&mut self, segment: Segment, len: u64) {
        if len > 0 {
            self.note(len);
            self.segments.push_back(segment);
        }
    }

    fn note(&mut self, len: u64) {
        self.queued += len;
        self.total += len;
    }

    /// All queued bytes, if they lie in one piece: short responses to the requests of one read, or
    /// one cached file.
    #[must_use]
    pub fn only_run(&self) -> Option<&[u8]> {
        match self.segments.front() {
            None => (self.lead > 0).then(|| &self.gathered[self.cursor..self.cursor + self.lead]),
            Some(_) if self.lead > 0 || self.segments.len() > 1 => None,
            Some(Segment::Gathered { len }) => Some(&self.gathered[self.cursor..self.cursor + len]),
            Some(Segment::Shared { data, at, end }) => Some(&data.bytes()[*at..*end]),
            Some(Segment::Static { .. } | Segment::Owned { .. } | Segment::File { .. }) => None,
        }
    }

    /// Next output to write. Report the bytes that the socket took with [`SendQueue::sent`], then
    /// call again.
    pub fn next_write<'a>(&'a self, slices: &'a mut [IoSlice<'a>; WRITE_SLICES]) -> NextWrite<'a> {
        if self.lead == 0
            && let Some(Segment::File { file, offset, len }) = self.segments.front()
        {
            return NextWrite::File { file, offset: *offset, len: *len };
        }
        let (lead, mut gathered) = self.gathered[self.cursor..].split_at(self.lead);
        slices[0] = IoSlice::new(lead);
        let mut count = usize::from(!lead.is_empty());
        let mut more = More::None;
        for segment in &self.segments {
            if matches!(segment, Segment::File { .. }) {
                more = More::Coming;
                break;
            }
            if count == WRITE_SLICES {
                break;
            }
            let bytes = segment.bytes(gathered);
            if matches!(segment, Segment::Gathered { .. }) {
                gathered = &gathered[bytes.len()..];
            }
            slices[count] = IoSlice::new(bytes);
            count += 1;
        }
        if count == 0 {
            return NextWrite::Nothing;
        }
        NextWrite::Bytes { slices: &slices[..count], more }
    }

    /// Removes `bytes` from the front of the queue, because the socket took them.
    pub fn sent(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.queued, "more was sent than was queued");
        self.queued -= bytes;
        if self.queued == 0 {
            self.cursor = self.gathered.len();
            self.lead = 0;
            // As a rule there are none, and clearing an empty queue costs time, too.
            if !self.segments.is_empty() {
                self.segments.clear();
            }
            return;
        }
        let of_lead = bytes.min(self.lead as u64) as usize;
        self.lead -= of_lead;
        self.cursor += of_lead;
        let mut left = bytes - of_lead as u64;
        while left > 0 {
            let Some(segment) = self.segments.front_mut() else { break };
            let done = match segment {
                Segment::Gathered { len } => {
                    let take = left.min(*len as u64) as usize;
                    *len -= take;
                    self.cursor += take;
                    left -= take as u64;
                    *len == 0
                }
                Segment::Static { bytes } => {
                    let take = left.min(bytes.len() as u64) as usize;
                    *bytes = &bytes[take..];
                    left -= take as u64;
                    bytes.is_empty()
                }
                Segment::Owned { bytes, at } => {
                    let take = left.min((bytes.len() - *at) as u64) as usize;
                    *at += take;
                    left -= take as u64;
                    *at == bytes.len()
                }
                Segment::Shared { at, end, .. } => {
                    let take = left.min((*end - *at) as u64) as usize;
                    *at += take;
                    left -= take as u64;
                    at == end
                }
                Segment::File { offset, len, .. } => {
                    let take = left.min(*len);
                    *offset += take;
                    *len -= take;
                    left -= take;
                    *len == 0
                }
            };
            if done {
                self.segments.pop_front();
            }
        }
    }

    /// Empties the queue, and keeps at most `keep_bytes` of capacity for the next client.
    pub fn reset(&mut self, keep_bytes: usize) {
        if !self.segments.is_empty() {
            self.segments.clear();
        }
        self.gathered.clear();
        if self.gathered.capacity() > keep_bytes {
            self.gathered = Vec::new();
        }
        (self.cursor, self.lead, self.queued, self.total) = (0, 0, 0, 0);
    }
}

/// Pieces that one vectored write takes at most. More than 16 bring no gain; `IOV_MAX` is 1024.
pub const WRITE_SLICES: usize = 16;

/// Sent bytes at the front of the gathered run, from which on the queued bytes may be moved to its
/// front.
const RUN_COMPACT_BYTES: usize = 16 * KIB;

/// Next output for the socket.
#[derive(Debug)]
pub enum NextWrite<'a> {
    /// Nothing is queued.
    Nothing,
    /// Bytes to write.
    Bytes {
        /// Pieces to write, in order.
        slices: &'a [IoSlice<'a>],
        /// Output that follows these bytes at once.
        more: More,
    },
    /// A range of a file.
    File {
        /// The open file.
        file: &'a Arc<OpenFile>,
        /// First byte to send.
        offset: u64,
        /// Bytes left to send.
        len: u64,
    },
}

/// Output that follows a write at once, for the flag `MSG_MORE` of send(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// Nothing is known to follow.
    None,
    /// A range of a file follows, so the kernel may wait and fill the packet.
    Coming,
}

/// One piece of output.
#[derive(Debug)]
enum Segment {
    /// Next `len` bytes of the gathered run.
    Gathered { len: usize },
    /// Static bytes.
    Static { bytes: &'static [u8] },
    /// Bytes that the queue owns, sent from `at` on.
    Owned { bytes: Vec<u8>, at: usize },
    /// Bytes shared with other queues.
    Shared { data: Arc<Prepared>, at: usize, end: usize },
    /// A range of a file.
    File { file: Arc<OpenFile>, offset: u64, len: u64 },
}

impl Segment {
    fn bytes<'a>(&'a self, gathered: &'a [u8]) -> &'a [u8] {
        match self {
            Segment::Gathered { len } => &gathered[..*len],
            Segment::Static { bytes } => bytes,
            Segment::Owned { bytes, at } => &bytes[*at..],
            Segment::Shared { data, at, end } => &data.bytes()[*at..*end],
            Segment::File { .. } => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn prepared(body: &[u8]) -> Arc<Prepared> {
        Arc::new(Prepared::new(&crate::http::headers::Headers::new(), body))
    }

    /// Takes the bytes of the queue in writes of `sizes`, which are repeated.
    fn take_all(queue: &mut SendQueue, sizes: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        for &size in sizes.iter().cycle() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let chunk = match queue.next_write(&mut slices) {
                NextWrite::Nothing => return out,
                NextWrite::Bytes { slices, .. } => slices.iter().flat_map(|slice| slice.to_vec()).collect(),
                NextWrite::File { offset, len, .. } => vec![b'F'; (len.min(offset + len)) as usize],
            };
            assert!(queue.only_run().is_none_or(|run| run == chunk), "two ways to say what comes next");
            let take = size.min(chunk.len());
            out.extend_from_slice(&chunk[..take]);
            queue.sent(take as u64);
        }
        out
    }

    proptest! {
        /// All queued bytes come out in order, however short the writes are.
        #[test]
        fn comes_out_as_it_went_in(
            pieces in prop::collection::vec((0u8..4, 0usize..40), 1..30),
            sizes in prop::collection::vec(1usize..50, 1..8),
        ) {
            let mut queue = SendQueue::new();
            let mut expected = Vec::new();
            for (at, (kind, len)) in pieces.into_iter().enumerate() {
                let bytes = vec![b'a' + (at % 26) as u8; len];
                match kind {
                    0 => queue.gather(|out| out.extend_from_slice(&bytes)),
                    1 => queue.push_owned(bytes.clone()),
                    2 => {
                        let data = prepared(&bytes);
                        let at = data.body_at();
                        queue.push_shared(data, at, at + len);
                    }
                    _ => queue.push_static(&b"static"[..len.min(6)]),
                }
                expected.extend_from_slice(if kind == 3 { &b"static"[..len.min(6)] } else { &bytes });
            }
            prop_assert_eq!(queue.len(), expected.len() as u64);
            prop_assert_eq!(take_all(&mut queue, &sizes), expected);
            prop_assert!(queue.is_empty());
            prop_assert_eq!(queue.total_sent(), queue.total_queued());
        }
    }

    /// A client that always left a few bytes made the queue keep all bytes ever sent, because the
    /// run was only restarted when nothing was queued.
    #[test]
    fn a_queue_that_is_never_empty_does_not_grow() {
        let mut queue = SendQueue::new();
        queue.gather(|out| out.extend_from_slice(b"first"));
        let mut expected = b"first".to_vec();
        for turn in 0..20_000_u32 {
            let piece = turn.to_be_bytes().repeat(25);
            queue.gather(|out| out.extend_from_slice(&piece));
            expected.extend_from_slice(&piece);
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let NextWrite::Bytes { slices, .. } = queue.next_write(&mut slices) else {
                panic!("bytes are queued")
            };
            let taken = &slices[0][..piece.len()];
            assert_eq!(taken, &expected[..piece.len()]);
            expected.drain(..piece.len());
            queue.sent(piece.len() as u64);
            assert!(queue.gathered.len() <= 4 * RUN_COMPACT_BYTES, "{} bytes are kept", queue.gathered.len());
        }
    }

    /// A file that no test reads.
    fn file() -> OpenFile {
        #[cfg(feature = "os")]
        return OpenFile::new(std::fs::File::open("/dev/null").unwrap().into());
        #[cfg(not(feature = "os"))]
        OpenFile::new(crate::http::open_file::Fd)
    }

    #[test]
    fn a_head_says_when_a_file_follows() {
        let mut queue = SendQueue::new();
        queue.gather(|out| out.extend_from_slice(b"head"));
        queue.push_file(Arc::new(file()), 7, 3);
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        assert!(matches!(queue.next_write(&mut slices), NextWrite::Bytes { more: More::Coming, .. }));
        queue.sent(4);
        queue.sent(1);
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        assert!(matches!(queue.next_write(&mut slices), NextWrite::File { offset: 8, len: 2, .. }));
    }

    #[test]
    fn what_was_in_memory_is_taken_to_be_there_for_a_moment() {
        let file = file();
        let (origin, us) = (crate::clock::origin(), Duration::from_micros);
        assert!(!file.was_in_memory(&(0..1), origin));
        file.note_in_memory(100..200, origin);
        for (part, after_us, was) in [
            (100..200, 0, true),
            (120..130, 999, true),
            (120..130, 1000, false),
            (99..130, 0, false),
            (120..201, 0, false),
        ] {
            assert_eq!(file.was_in_memory(&part, origin + us(after_us)), was, "{part:?} after {after_us} us");
        }
        file.note_in_memory(0..50, origin + us(2000));
        assert!(file.was_in_memory(&(0..50), origin + us(2500)) && !file.was_in_memory(&(100..200), origin));
    }
}
