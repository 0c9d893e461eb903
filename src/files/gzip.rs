//! Gzip of a file while it is sent, made by worker threads piece by piece.
//!
//! Must not know which clients get it.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::docroot::file::CachedFile;
use crate::handler::offload::Producer;
use crate::http::FillStatus;
use crate::http::open_file::OpenFile;
use crate::sync::Permit;

/// Bytes that are read and compressed at a time, and the least bytes of a piece before it is sent.
const READ_BYTES: usize = 64 * 1024;

const PIECE_BYTES: usize = 16 * 1024;

/// The content that is compressed while it is sent.
pub(super) enum Input {
    /// A large file.
    File(Arc<OpenFile>),
    /// A small file, for a client that accepts no other form.
    Memory(Arc<CachedFile>),
}

/// A producer that compresses a file, one piece at a time.
pub(super) struct Gzip {
    input: Input,
    at: u64,
    size: u64,
    /// `None` after the end.
    encoder: Option<GzEncoder<Vec<u8>>>,
    buffer: Vec<u8>,
    _permit: Permit,
}

impl Gzip {
    pub(super) fn new(input: Input, size: u64, level: u32, permit: Permit) -> Self {
        let encoder = Some(GzEncoder::new(Vec::new(), Compression::new(level)));
        Gzip { input, at: 0, size, encoder, buffer: Vec::new(), _permit: permit }
    }

    /// Reads the next part. Fails if the file became shorter, because the validators in the head
    /// promise its size.
    fn read(&mut self) -> Option<usize> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX).min(READ_BYTES);
        self.buffer.resize(left, 0);
        let mut filled = 0;
        while filled < left {
            let at = self.at + filled as u64;
            filled += match &self.input {
                Input::File(file) => match rustix::io::pread(file.fd(), &mut self.buffer[filled..], at) {
                    Ok(0) => return None,
                    Ok(bytes) => bytes,
                    Err(rustix::io::Errno::INTR) => 0,
                    Err(_) => return None,
                },
                Input::Memory(file) => {
                    let start = usize::try_from(at).ok()?;
                    self.buffer.copy_from_slice(file.prepared.body().get(start..start + left)?);
                    left
                }
            };
        }
        self.at += left as u64;
        Some(left)
    }
}

impl Producer for Gzip {
    fn produce(&mut self, out: &mut Vec<u8>) -> FillStatus {
        while let Some(mut encoder) = self.encoder.take() {
            if self.at == self.size {
                return match encoder.finish() {
                    Ok(rest) => {
                        out.extend_from_slice(&rest);
                        FillStatus::End
                    }
                    Err(_) => FillStatus::Failed,
                };
            }
            if self.read().is_none() || encoder.write_all(&self.buffer).is_err() {
                return FillStatus::Failed;
            }
            let made = encoder.get_mut();
            out.append(made);
            self.encoder = Some(encoder);
            if out.len() >= PIECE_BYTES {
                return FillStatus::More;
            }
        }
        FillStatus::End
    }
}
