//! Temporary files without a name, for data that does not fit in memory. They leave nothing behind,
//! even after a crash.
//!
//! Blocks: for worker threads only. Must not know what the data is.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::config::KIB;
use crate::shortage;

/// Opens a file without a name in the folder for temporary files.
pub(crate) fn temporary_file() -> Result<OwnedFd, Errno> {
    open_nameless().inspect_err(|errno| {
        if shortage::is_it(*errno) {
            shortage::report();
        }
    })
}

fn open_nameless() -> Result<OwnedFd, Errno> {
    let folder = std::env::temp_dir();
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(&folder, flags | OFlags::TMPFILE, mode) {
        // Not every file system has nameless files. There, a named file is created and unlinked at
        // once.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            static NUMBER: AtomicU64 = AtomicU64::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("whirligig-{}-{number}", std::process::id()));
            let fd = rustix::fs::open(&path, flags | OFlags::CREATE, mode)?;
            rustix::fs::unlink(&path)?;
            Ok(fd)
        }
        opened => opened,
    }
}

/// Bytes that are written once and read once, in order. The last of them are in memory, the earlier
/// ones in a file.
#[derive(Debug)]
pub(crate) struct Spill {
    memory: Vec<u8>,
    memory_bytes: usize,
    file: Option<OwnedFd>,
    file_bytes: u64,
}

/// Bytes read from the file at a time.
const PIECE_BYTES: usize = 64 * KIB;

impl Spill {
    /// Creates an empty spill that keeps up to `memory_bytes` in memory.
    pub(crate) fn new(memory_bytes: usize) -> Self {
        Spill { memory: Vec::new(), memory_bytes, file: None, file_bytes: 0 }
    }

    /// Adds bytes at the end.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.memory.len() + bytes.len() > self.memory_bytes && !self.memory.is_empty() {
            let file = match self.file.take() {
                Some(file) => file,
                None => temporary_file()?,
            };
            let file = self.file.insert(file);
            let mut rest = &self.memory[..];
            while !rest.is_empty() {
                match rustix::io::pwrite(&*file, rest, self.file_bytes) {
                    Ok(written) => {
                        rest = &rest[written..];
                        self.file_bytes += written as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            self.memory.clear();
        }
        self.memory.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a piece that begins at offset `at` to `out`. Returns its length in bytes, 0 at the
    /// end.
    pub(crate) fn read(&self, at: u64, out: &mut Vec<u8>) -> io::Result<u64> {
        let Some(file) = self.file.as_ref().filter(|_| at < self.file_bytes) else {
            let start = usize::try_from(at - self.file_bytes.min(at)).unwrap_or(usize::MAX);
            let rest = self.memory.get(start..).unwrap_or_default();
            let piece = &rest[..rest.len().min(PIECE_BYTES)];
            out.extend_from_slice(piece);
            return Ok(piece.len() as u64);
        };
        let left = usize::try_from(self.file_bytes - at).unwrap_or(usize::MAX);
        let start = out.len();
        out.resize(start + left.min(PIECE_BYTES), 0);
        let read = loop {
            match rustix::io::pread(file, &mut out[start..], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => break read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        out.truncate(start + read);
        Ok(read as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spilled_comes_back_in_order() {
        for memory_bytes in [0, 10, 1000, 1 << 20] {
            let mut spill = Spill::new(memory_bytes);
            let mut expected = Vec::new();
            for number in 0..20_000u32 {
                let bytes = number.to_string().into_bytes();
                spill.push(&bytes).unwrap();
                expected.extend_from_slice(&bytes);
            }
            assert_eq!(spill.file.is_some(), memory_bytes < expected.len());
            let mut read = Vec::new();
            while spill.read(read.len() as u64, &mut read).unwrap() > 0 {}
            assert!(read == expected, "with {memory_bytes} in memory");
        }
    }
}
