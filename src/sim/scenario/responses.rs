//! The responses in the bytes that a client has received.
//!
//! This file must not know which responses are expected.

use memchr::memmem;

/// One complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Status code.
    pub status: u16,
    /// Content.
    pub body: Vec<u8>,
    /// When its last byte was received, in nanoseconds of the simulated clock.
    pub at_ns: u64,
}

/// Received bytes, and the complete responses in them.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    rest: Vec<u8>,
    pub(super) responses: Vec<Received>,
    /// Number of received bytes.
    pub(super) bytes: u64,
    /// True if the bytes are no response.
    pub(super) is_broken: bool,
}

impl Inbound {
    /// Adds received bytes.
    pub(super) fn receive(&mut self, bytes: &[u8], at_ns: u64) {
        self.bytes += bytes.len() as u64;
        self.rest.extend_from_slice(bytes);
        while !self.is_broken {
            match take_response(&self.rest) {
                Ok(Some((status, body, used))) => {
                    self.rest.drain(..used);
                    // Interim responses are not counted.
                    if status >= 200 {
                        self.responses.push(Received { status, body, at_ns });
                    }
                }
                Ok(None) => return,
                Err(()) => self.is_broken = true,
            }
        }
    }

    /// Returns the number of bytes that are no complete response.
    pub(super) fn incomplete(&self) -> usize {
        self.rest.len()
    }
}

/// Takes a complete response from the front: status, content and length of both. `None` if more
/// bytes are needed.
fn take_response(bytes: &[u8]) -> Result<Option<(u16, Vec<u8>, usize)>, ()> {
    if !b"HTTP/1.1 ".starts_with(&bytes[..bytes.len().min(9)]) {
        return Err(());
    }
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status: u16 = head.get(9..12).and_then(|code| code.parse().ok()).ok_or(())?;
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let body = &bytes[end + 4..];
    if matches!(status, 100..=199 | 204 | 304) {
        return Ok(Some((status, Vec::new(), end + 4)));
    }
    if header("transfer-encoding:").is_some() {
        return Ok(take_chunks(body)?.map(|(content, used)| (status, content, end + 4 + used)));
    }
    let len: usize = header("content-length:").and_then(|len| len.parse().ok()).ok_or(())?;
    Ok((body.len() >= len).then(|| (status, body[..len].to_vec(), end + 4 + len)))
}

/// Takes chunked content: the content and its length with framing.
fn take_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ()> {
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = memmem::find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[at..at + line]).map_err(drop)?;
        let size = usize::from_str_radix(size, 16).map_err(drop)?;
        let begin = at + line + 2;
        let Some(piece) = bytes.get(begin..begin + size + 2) else { return Ok(None) };
        content.extend_from_slice(&piece[..size]);
        at = begin + size + 2;
        if size == 0 {
            return Ok(Some((content, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_found_at_every_cut() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 404 No";
        for cut in 0..bytes.len() {
            let mut inbound = Inbound::default();
            inbound.receive(&bytes[..cut], 1);
            inbound.receive(&bytes[cut..], 2);
            let seen: Vec<_> =
                inbound.responses.iter().map(|one| (one.status, one.body.as_slice())).collect();
            assert_eq!(seen, [(200, &b"hi"[..]), (200, &b"abc"[..])], "cut at {cut}");
            assert_eq!(inbound.incomplete(), b"HTTP/1.1 404 No".len());
        }
        let mut inbound = Inbound::default();
        inbound.receive(b"HTTX", 0);
        assert!(inbound.is_broken);
    }
}
