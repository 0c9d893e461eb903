//! Notes about requests for the access log, kept until the responses are sent.
//!
//! This file must not know how a log line is formatted.

use std::time::Duration;

use crate::http::{Request, Status};

/// The parts of a request that its access log line needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Note {
    /// Request line, host, Referer and User-Agent, one after the other.
    pub(super) text: Vec<u8>,
    pub(super) line_len: usize,
    pub(super) host_len: Option<usize>,
    pub(super) referer_len: Option<usize>,
    pub(super) has_user_agent: bool,
    pub(super) user: Option<String>,
    /// Reason of a refusal that happened before any handler was called.
    pub(super) refused: Option<&'static str>,
    /// Time at which the request began, since 1970.
    pub(super) began: Duration,
}

impl Note {
    /// Replaces the note by that of another request.
    pub(super) fn take(&mut self, request: &Request<'_>, began: Duration) {
        let fields = [request.authority(), request.header("referer"), request.header("user-agent")];
        self.put(request.line(), fields, began);
    }

    /// Replaces the note by the readable parts of a head that is malformed or incomplete: its first
    /// line, and the headers whose lines are complete.
    pub(super) fn take_unparsed(&mut self, read: &[u8], began: Duration) {
        let start = read.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(read.len());
        let mut lines = read[start..].split_inclusive(|&byte| byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let first = first.strip_suffix(b"\n").unwrap_or(first);
        let first = first.strip_suffix(b"\r").unwrap_or(first);
        let mut fields = [None; 3];
        // A line without its end may contain half a value.
        for line in lines.map_while(|line| line.strip_suffix(b"\n")).map(<[u8]>::trim_ascii_end) {
            if line.is_empty() {
                break;
            }
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let name = &line[..colon];
            let at =
                [&b"host"[..], b"referer", b"user-agent"].iter().position(|of| name.eq_ignore_ascii_case(of));
            if let Some(field) = at.map(|at| &mut fields[at]) {
                field.get_or_insert(shortened(line[colon + 1..].trim_ascii_start()));
            }
        }
        self.put(shortened(first), fields, began);
    }

    pub(super) fn put(&mut self, line: &[u8], fields: [Option<&[u8]>; 3], began: Duration) {
        self.text.clear();
        self.text.extend_from_slice(line);
        for field in fields.into_iter().flatten() {
            self.text.extend_from_slice(field);
        }
        let [host, referer, user_agent] = fields;
        self.line_len = line.len();
        self.host_len = host.map(<[u8]>::len);
        self.referer_len = referer.map(<[u8]>::len);
        self.has_user_agent = user_agent.is_some();
        self.user = None;
        self.refused = None;
        self.began = began;
    }

    pub(super) fn request_line(&self) -> &[u8] {
        &self.text[..self.line_len]
    }

    pub(super) fn host(&self) -> Option<&[u8]> {
        self.host_len.map(|len| &self.text[self.line_len..self.line_len + len])
    }

    pub(super) fn referer(&self) -> Option<&[u8]> {
        let start = self.line_len + self.host_len.unwrap_or(0);
        self.referer_len.map(|len| &self.text[start..start + len])
    }

    pub(super) fn user_agent(&self) -> Option<&[u8]> {
        let start = self.line_len + self.host_len.unwrap_or(0) + self.referer_len.unwrap_or(0);
        self.has_user_agent.then(|| &self.text[start..])
    }
}

/// Largest number of bytes of one line of a refused head that are logged, which is enough to
/// recognise the client. Every byte may take four characters in the log.
const REFUSED_LINE_BYTES_MAX: usize = 1024;

fn shortened(line: &[u8]) -> &[u8] {
    &line[..line.len().min(REFUSED_LINE_BYTES_MAX)]
}

/// A log line that waits for the end of its response.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) note: Box<Note>,
    pub(super) status: Status,
    /// Size of the content that is queued so far, in bytes.
    pub(super) content_bytes: u64,
    /// Position in the output at which the response ends; `None` while its content is being made.
    pub(super) ends_at: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head may break off anywhere. The received part of its first line is noted; half a header
    /// is not.
    #[test]
    fn a_head_is_noted_as_far_as_it_came() {
        let head = b"\r\nGET /a%zz HTTP/1.1\r\nhost:  a.example \r\nno colon\r\nUser-Agent: x\r\nHOST: b\r\nReferer:\r\n\r\nHost: c\r\n";
        let line = b"GET /a%zz HTTP/1.1";
        let whole = |name: &[u8]| memchr::memmem::find(head, name).map(|at| at + name.len());
        for end in 0..=head.len() {
            let mut note = Note { user: Some("old".into()), refused: Some("old"), ..Note::default() };
            note.text.extend_from_slice(b"old");
            note.take_unparsed(&head[..end], Duration::ZERO);
            let read = head[2.min(end)..end].split(|&byte| byte == b'\r').next().unwrap_or_default();
            assert_eq!(note.request_line(), &read[..read.len().min(line.len())], "{end}");
            let is_whole = |name: &[u8]| whole(name).is_some_and(|at| at <= end);
            assert_eq!(note.host(), is_whole(b"a.example \r\n").then_some(&b"a.example"[..]), "{end}");
            assert_eq!(note.user_agent(), is_whole(b"Agent: x\r\n").then_some(&b"x"[..]), "{end}");
            assert_eq!(note.referer(), is_whole(b"Referer:\r\n").then_some(&b""[..]), "{end}");
            assert_eq!((note.user.as_deref(), note.refused), (None, None));
        }
    }

    #[test]
    fn long_lines_of_a_refused_head_are_cut() {
        let long = "x".repeat(3 * REFUSED_LINE_BYTES_MAX);
        let mut note = Note::default();
        note.take_unparsed(format!("{long}\nHost: {long}\nUser-Agent: u\n").as_bytes(), Duration::ZERO);
        assert_eq!(note.request_line().len(), REFUSED_LINE_BYTES_MAX);
        assert_eq!(note.host().map(<[u8]>::len), Some(REFUSED_LINE_BYTES_MAX));
        assert_eq!(note.user_agent(), Some(&b"u"[..]));
    }
}
