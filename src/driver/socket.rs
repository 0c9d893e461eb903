//! Socket calls that both models make: read, write, sendfile, and the check whether a file is in
//! memory. Also the read-ahead of files, which blocks and runs on worker threads.
//!
//! Bytes leave for a TCP socket here, in `write_slices` and `send_file`. Two other places write:
//! `reactor/mio_os.rs` to Unix sockets, and `threads/acceptor.rs` a 503 to clients beyond the
//! limit. This file must not know the content that is sent.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::driver::stream::{FilePart, SentFile};
use crate::http::open_file::OpenFile;
use crate::http::send_queue::More;

/// Reads from a socket with one `recv` call. rustix makes the system call directly. With threads,
/// the function of the C library would also prepare for cancellation on each call.
pub(crate) fn receive<B: rustix::buffer::Buffer<u8>>(
    socket: impl AsFd,
    into: B,
    flags: rustix::net::RecvFlags,
) -> io::Result<(B::Output, usize)> {
    Ok(rustix::net::recv(socket, into, flags)?)
}

/// Writes slices to a socket: `send` for one slice, `sendmsg` for several. If more is coming, the
/// kernel waits for the file that follows, so that head and first bytes share a packet.
pub(crate) fn write_slices(
    socket: impl AsFd,
    slices: &[IoSlice<'_>],
    more: More,
    extra: rustix::net::SendFlags,
) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
    let mut flags = SendFlags::NOSIGNAL | extra;
    if more == More::Coming {
        flags |= SendFlags::MORE;
    }
    let sent = match slices {
        [only] => send(socket, only, flags)?,
        several => sendmsg(socket, several, &mut SendAncillaryBuffer::default(), flags)?,
    };
    Ok(sent)
}

/// Returns true if sending this part of a file would wait for the disk. Only the first and the last
/// page are checked, because the pages between were read together with them (preadv2(2),
/// RWF_NOWAIT). If the file system does not support the check, the result is false.
pub(crate) fn is_cold(file: &OwnedFd, offset: u64, len: u64) -> bool {
    let is_away = |at: u64| {
        let mut byte = [0];
        let mut into = [IoSliceMut::new(&mut byte)];
        rustix::io::preadv2(file, &mut into, at, rustix::io::ReadWriteFlags::NOWAIT) == Err(Errno::AGAIN)
    };
    is_away(offset) || is_away(offset + len.saturating_sub(1))
}

/// Sends a part of a file with one `sendfile` call. Fewer bytes than requested can mean a full
/// socket, a file that became shorter, or a signal in between (sendfile(2) then returns the bytes
/// sent so far).
pub(crate) fn send_file(socket: impl AsFd, file: &OwnedFd, part: FilePart) -> io::Result<SentFile> {
    let FilePart { offset, len, left } = part;
    if left >= CORKED_FILE_BYTES_MIN {
        cork(&socket, true);
    }
    let mut at = offset;
    let asked = usize::try_from(len).unwrap_or(usize::MAX);
    let sent = rustix::fs::sendfile(&socket, file, Some(&mut at), asked)? as u64;
    // Only a part that ends this far into a file can be the end of a file that was corked.
    if sent == left && offset + left >= CORKED_FILE_BYTES_MIN {
        cork(&socket, false);
    }
    if sent == 0 {
        return Ok(SentFile::Ended);
    }
    Ok(SentFile::Bytes(sent))
}

/// Smallest rest of a file, in bytes, that is sent corked. With a cork the kernel sends full
/// packets only. Measured for one long stream over loopback: 27 segments per MiB with a cork and 42
/// without, acknowledgements included.
const CORKED_FILE_BYTES_MIN: u64 = 1 << 20;

/// Holds back partial packets, or sends them (tcp(7), `TCP_CORK`). Unix sockets have no packets to
/// fill; the kernel returns an error, which is ignored.
fn cork(socket: impl AsFd, is_corked: bool) {
    let _ = rustix::net::sockopt::set_tcp_cork(socket, is_corked);
}

/// Bytes of one read ahead of a download. Long reads suit the disk; longer ones would let many
/// downloads evict each other from memory.
const READ_AHEAD_BYTES: u64 = 1024 * 1024;

/// Reads the next part of a download, so that the kernel has it in memory. Blocks, so call it on
/// worker threads only.
pub(crate) fn read_ahead(file: &OpenFile, offset: u64, len: u64) {
    let end = offset.saturating_add(len.min(READ_AHEAD_BYTES));
    let mut piece = vec![0; 128 * 1024];
    let mut at = offset;
    while at < end {
        let bytes = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
        match rustix::io::pread(file.fd(), &mut piece[..bytes], at) {
            // It shrank, or cannot be read: the sending will find out, and says so to the client.
            Ok(0) => return,
            Ok(bytes) => at += bytes as u64,
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::net::TcpStream;

    use super::*;

    /// A file that stays corked would delay its last bytes by 200 ms. A file without a cork would
    /// be sent in partial packets.
    #[test]
    fn a_long_file_is_corked_until_its_last_byte() {
        const SLICE: u64 = CORKED_FILE_BYTES_MIN / 2;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let reader = std::thread::spawn(move || client.read_to_end(&mut Vec::new()).unwrap());
        let file = File::from(crate::handler::temp_file::temporary_file().unwrap());
        file.set_len(10 * SLICE).unwrap();
        let file = OwnedFd::from(file);
        let is_corked = || rustix::net::sockopt::tcp_cork(&server).unwrap();
        // Start, end, and whether the file is corked in between.
        let cases = [
            (0, 2 * SLICE, true),
            (0, 2 * SLICE - 1, false),
            (0, 4 * SLICE + 1, true),
            // A range near the end of a file: it ends beyond the minimum.
            (9 * SLICE, 10 * SLICE, false),
        ];
        for (start, end, corks) in cases {
            let mut offset = start;
            while offset < end {
                let part = FilePart { offset, len: SLICE.min(end - offset), left: end - offset };
                let sent = send_file(&server, &file, part).unwrap();
                assert_eq!(sent, SentFile::Bytes(part.len), "{start} to {end}, at {offset}");
                offset += part.len;
                assert_eq!(is_corked(), corks && offset < end, "{start} to {end}, at {offset}");
            }
        }
        drop(server);
        let all: u64 = cases.iter().map(|(start, end, _)| end - start).sum();
        assert_eq!(reader.join().unwrap() as u64, all);
    }

    #[test]
    fn a_socket_without_packets_takes_long_files_too() {
        let (server, mut client) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = File::from(crate::handler::temp_file::temporary_file().unwrap());
        file.set_len(CORKED_FILE_BYTES_MIN).unwrap();
        let reader = std::thread::spawn(move || client.read_to_end(&mut Vec::new()).unwrap());
        let part = FilePart { offset: 0, len: CORKED_FILE_BYTES_MIN, left: CORKED_FILE_BYTES_MIN };
        let sent = send_file(&server, &OwnedFd::from(file), part).unwrap();
        drop(server);
        assert_eq!(sent, SentFile::Bytes(reader.join().unwrap() as u64));
    }
}
