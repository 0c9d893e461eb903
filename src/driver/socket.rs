//! Socket calls that both models make: write, sendfile, and whether a file is in memory.
//!
//! This file must not know what is sent.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};

use crate::driver::stream::{FilePart, SentFile};

/// One send for one slice, one sendmsg for several. With `more` the kernel waits for the file that
/// follows, so that head and first bytes share a packet.
pub(crate) fn write_slices(
    socket: impl AsFd,
    slices: &[IoSlice<'_>],
    more: bool,
    extra: rustix::net::SendFlags,
) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
    let mut flags = SendFlags::NOSIGNAL | extra;
    if more {
        flags |= SendFlags::MORE;
    }
    let sent = match slices {
        [only] => send(socket, only, flags)?,
        several => sendmsg(socket, several, &mut SendAncillaryBuffer::default(), flags)?,
    };
    Ok(sent)
}

/// Whether the disk would be asked for this part of a file. The first and the last page tell: what
/// lies between was read together with them (preadv2(2), RWF_NOWAIT). Where a file system cannot
/// say, nothing is cold.
pub(crate) fn is_cold(file: &OwnedFd, offset: u64, len: u64) -> bool {
    let is_away = |at: u64| {
        let mut byte = [0];
        let mut into = [IoSliceMut::new(&mut byte)];
        rustix::io::preadv2(file, &mut into, at, rustix::io::ReadWriteFlags::NOWAIT)
            == Err(rustix::io::Errno::AGAIN)
    };
    is_away(offset) || is_away(offset + len.saturating_sub(1))
}

/// One sendfile. Fewer bytes than asked for mean nothing by themselves: a full socket, a file that
/// became shorter, or a signal that came in between (sendfile(2) then returns what it has sent so
/// far).
pub(crate) fn send_file(socket: impl AsFd, file: &OwnedFd, part: FilePart) -> io::Result<SentFile> {
    let FilePart { offset, len, left } = part;
    if left >= CORKED_FILE_BYTES_MIN {
        cork(&socket, true);
    }
    let mut at = offset;
    let asked = usize::try_from(len).unwrap_or(usize::MAX);
    let sent = rustix::fs::sendfile(&socket, file, Some(&mut at), asked)? as u64;
    // Only a part that ends as far into a file can be the end of one that was begun corked.
    if sent == left && offset + left >= CORKED_FILE_BYTES_MIN {
        cork(&socket, false);
    }
    if sent == 0 {
        return Ok(SentFile::Ended);
    }
    Ok(SentFile::Bytes(sent))
}

/// While so much of a file is to be sent the kernel sends full packets only. Otherwise there are
/// others among them: of one long stream over loopback 42 segments a MiB in place of 27,
/// acknowledgements included.
const CORKED_FILE_BYTES_MIN: u64 = 1 << 20;

/// Keeps what does not fill a packet from being sent, or sends it (tcp(7), `TCP_CORK`). Sockets of
/// other kinds have no packets to fill, and the kernel says so.
fn cork(socket: impl AsFd, is_corked: bool) {
    let _ = rustix::net::sockopt::set_tcp_cork(socket, is_corked);
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::net::TcpStream;

    use super::*;

    /// A file left corked would keep its last bytes for 200 ms, and one that is not corked would be
    /// sent in scraps.
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
        // From where to where, and whether it is corked on the way.
        let cases = [
            (0, 2 * SLICE, true),
            (0, 2 * SLICE - 1, false),
            (0, 4 * SLICE + 1, true),
            // As a range is, whose end is beyond the least.
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
