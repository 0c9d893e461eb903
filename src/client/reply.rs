//! Incremental parser for the responses of one connection (RFC 9112 section 6.3).
//!
//! Bytes in, events out: the parser owns no input. httparse parses the heads, and this file checks
//! their framing. Content goes through the decoder of request content. This file must not know
//! sockets.

use crate::http::body::{BodyDecoder, Decoded};
use crate::http::error::ProtocolError;
use crate::http::field_lines::{FieldLine, ReceivedHeaders, has_token, list_elements, trim_ows};
use crate::http::status::Status;

/// Parser for the responses of one connection, one after the other.
///
/// ```
/// use whirligig::client::reply::{ReplyEvent, ReplyReader};
///
/// let mut reader = ReplyReader::new();
/// reader.expect("GET");
/// let input = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
/// let (used, event) = reader.next(input)?;
/// assert!(matches!(event, ReplyEvent::Head(head) if head.status == 200));
/// assert_eq!(reader.next(&input[used..])?, (2, ReplyEvent::Content(b"hi")));
/// assert_eq!(reader.next(b"")?, (0, ReplyEvent::End));
/// # Ok::<(), whirligig::ProtocolError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReplyReader {
    state: State,
    /// Bytes of interim responses since the request.
    interim_bytes: usize,
}

impl ReplyReader {
    /// A reader for a new connection.
    #[must_use]
    pub fn new() -> Self {
        ReplyReader { state: State::Idle, interim_bytes: 0 }
    }

    /// Notes that a request with this method was sent, so its response is next. A response to HEAD
    /// has no content.
    pub fn expect(&mut self, method: &str) {
        self.state = State::Head { is_head: method == "HEAD" };
        self.interim_bytes = 0;
    }

    /// Parses `input`, and returns the number of bytes used and their meaning.
    ///
    /// Remove the used bytes, whatever the event is. Call again with the rest until `NeedMore` or
    /// `End`.
    ///
    /// # Errors
    /// A response that is malformed or too large. Close the connection, because its content cannot
    /// be separated from the next head.
    pub fn next<'b>(&mut self, input: &'b [u8]) -> Result<(usize, ReplyEvent<'b>), ProtocolError> {
        match &mut self.state {
            State::Idle if input.is_empty() => Ok((0, ReplyEvent::NeedMore)),
            State::Idle => Err(bad("a response without a request")),
            State::Head { is_head } => {
                let is_head = *is_head;
                self.head(input, is_head)
            }
            State::Body(decoder) => match decoder.decode(input, CHUNK_LINE_BYTES_MAX, u64::MAX)? {
                (used, Decoded::Data(piece)) => Ok((used, ReplyEvent::Content(piece))),
                (used, Decoded::NeedMore) => Ok((used, ReplyEvent::NeedMore)),
                (used, Decoded::End) => {
                    self.state = State::Idle;
                    Ok((used, ReplyEvent::End))
                }
            },
            State::UntilClose if input.is_empty() => Ok((0, ReplyEvent::NeedMore)),
            State::UntilClose => Ok((input.len(), ReplyEvent::Content(input))),
            State::Done => {
                self.state = State::Idle;
                Ok((0, ReplyEvent::End))
            }
        }
    }

    /// Notes that the connection has ended. Returns true if that completes a response, or if none
    /// was due.
    pub fn end_of_input(&mut self) -> bool {
        let ended = matches!(self.state, State::Idle | State::UntilClose | State::Done);
        self.state = State::Idle;
        ended
    }

    fn head<'b>(&mut self, input: &'b [u8], is_head: bool) -> Result<(usize, ReplyEvent<'b>), ProtocolError> {
        let mut slots = [httparse::EMPTY_HEADER; REPLY_FIELDS_MAX];
        let mut raw = httparse::Response::new(&mut slots);
        let used = match raw.parse(&input[..input.len().min(REPLY_HEAD_BYTES_MAX)]) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) if input.len() < REPLY_HEAD_BYTES_MAX => {
                return Ok((0, ReplyEvent::NeedMore));
            }
            Ok(httparse::Status::Partial) => return Err(bad("the response head is too large")),
            Err(_) => return Err(bad("the response head is malformed")),
        };
        let (Some(status), Some(minor)) = (raw.code, raw.version) else {
            return Err(bad("the response head is malformed"));
        };
        if (100..200).contains(&status) {
            self.interim_bytes += used;
            if self.interim_bytes > REPLY_INTERIM_BYTES_MAX {
                return Err(bad("too many interim responses"));
            }
            return Ok((used, ReplyEvent::Interim(status)));
        }
        let lines: Vec<FieldLine<'_>> = raw.headers.iter().map(|line| FieldLine::from(*line)).collect();
        let lines = ReceivedHeaders::new(&lines);
        self.state = framing(status, is_head, lines)?;
        let says = |option: &str| has_token(lines.all("connection"), option);
        let persists = if minor == 0 { says("keep-alive") } else { !says("close") };
        let keeps_alive = persists && !matches!(self.state, State::UntilClose);
        let headers = lines.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect();
        Ok((used, ReplyEvent::Head(ReplyHead { status, headers, keeps_alive })))
    }
}

impl Default for ReplyReader {
    fn default() -> Self {
        ReplyReader::new()
    }
}

/// Event in the bytes of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyEvent<'b> {
    /// The input contains no further event. Some bytes of it may have been used (the line before a
    /// chunk, for example). Call again with the unused bytes and more.
    NeedMore,
    /// An interim response (1xx). The final response is still to come.
    Interim(u16),
    /// The head. Content follows; it may be empty.
    Head(ReplyHead),
    /// A piece of the content, never empty.
    Content(&'b [u8]),
    /// The response is complete. Call [`ReplyReader::expect`] before the next one.
    End,
}

/// Head of a response, copied from the input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplyHead {
    /// Status code.
    pub status: u16,
    /// Headers in the order received, with names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// True if the connection can be used again after the content (RFC 9112 section 9.3).
    pub keeps_alive: bool,
}

impl ReplyHead {
    /// First value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_slice())
    }

    /// Values of all headers with this name.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.headers.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_slice())
    }
}

/// Position of the reader in the response.
#[derive(Clone, Debug)]
enum State {
    /// No response is due.
    Idle,
    Head {
        is_head: bool,
    },
    Body(BodyDecoder),
    /// Content that ends with the connection.
    UntilClose,
    /// The response is complete, but [`ReplyEvent::End`] was not returned yet.
    Done,
}

/// Bytes of a response head, at most.
pub const REPLY_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Headers of a response, at most.
pub const REPLY_FIELDS_MAX: usize = 128;

/// Bytes of all interim responses (1xx) before one final response, at most. A server that reports
/// progress sends some hundred bytes at a time. Without a limit, a server could keep its client by
/// sending nothing else.
pub const REPLY_INTERIM_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a line between two chunks, or of the trailer section, at most.
const CHUNK_LINE_BYTES_MAX: usize = 4 * 1024;

/// State for the framing of the content (RFC 9112 section 6.3). A case with more than one reading
/// is an error, as for requests.
fn framing(status: u16, is_head: bool, lines: ReceivedHeaders<'_>) -> Result<State, ProtocolError> {
    if is_head || status == 204 || status == 304 {
        return Ok(State::Done);
    }
    let length = lines.first("content-length").map(trim_ows);
    if lines.first("transfer-encoding").is_some() {
        let mut codings = lines.all("transfer-encoding").flat_map(list_elements);
        return match (codings.next(), codings.next(), length) {
            (Some(only), None, None) if only.eq_ignore_ascii_case(b"chunked") => {
                Ok(State::Body(BodyDecoder::chunked()))
            }
            _ => Err(bad("the framing of the response is ambiguous")),
        };
    }
    let Some(length) = length else { return Ok(State::UntilClose) };
    let digits =
        std::str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(length) if lines.all("content-length").count() == 1 => {
            Ok(State::Body(BodyDecoder::length(length)))
        }
        Some(_) | None => Err(bad("the length of the response is ambiguous")),
    }
}

fn bad(reason: &'static str) -> ProtocolError {
    ProtocolError::new(Status::BAD_GATEWAY, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads all of `input`, given in these pieces, as the responses to `methods`.
    fn read(methods: &[&str], pieces: &[&[u8]], then_end: bool) -> Result<Vec<String>, ProtocolError> {
        let (mut reader, mut held, mut told) = (ReplyReader::new(), Vec::new(), Vec::new());
        let mut methods = methods.iter();
        reader.expect(methods.next().unwrap());
        for piece in pieces {
            held.extend_from_slice(piece);
            loop {
                let (used, event) = reader.next(&held)?;
                let more = match event {
                    ReplyEvent::NeedMore => false,
                    ReplyEvent::Interim(status) => {
                        told.push(format!("interim {status}"));
                        true
                    }
                    ReplyEvent::Head(head) => {
                        told.push(format!("{} {}", head.status, head.keeps_alive));
                        told.push(String::new());
                        true
                    }
                    ReplyEvent::Content(piece) => {
                        told.last_mut().unwrap().push_str(std::str::from_utf8(piece).unwrap());
                        true
                    }
                    ReplyEvent::End => {
                        told.push("end".into());
                        if let Some(method) = methods.next() {
                            reader.expect(method);
                        }
                        true
                    }
                };
                held.drain(..used);
                if !more {
                    break;
                }
            }
        }
        if then_end {
            told.push(format!("closed {}", reader.end_of_input()));
        }
        Ok(told)
    }

    #[test]
    fn responses_come_out_however_they_are_cut() {
        let input = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
            HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n\
            HTTP/1.0 404 Not Found\r\n\r\ngone";
        let methods = ["POST", "HEAD", "DELETE", "GET", "GET"];
        let expected = [
            "interim 100",
            "200 true",
            "hello",
            "end",
            "200 true",
            "",
            "end",
            "204 true",
            "",
            "end",
            "200 true",
            "abcde",
            "end",
            "404 false",
            "gone",
            "closed true",
        ];
        for cut in 0..=input.len() {
            let told = read(&methods, &[&input[..cut], &input[cut..]], true).unwrap();
            assert_eq!(told, expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(read(&methods, &bytes, true).unwrap(), expected);
    }

    /// A caller that kept the bytes used with `NeedMore` passed the line of a chunk twice.
    #[test]
    fn what_was_used_is_done_with_also_when_more_is_needed() {
        let input = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n";
        let mut used_by_need_more = 0;
        for cut in 0..=input.len() {
            let mut reader = ReplyReader::new();
            reader.expect("GET");
            let (mut at, mut content, mut ended) = (0, Vec::new(), false);
            for end in [cut, input.len()] {
                loop {
                    let (used, event) = reader.next(&input[at..end]).unwrap();
                    at += used;
                    match event {
                        ReplyEvent::NeedMore => {
                            used_by_need_more += used;
                            break;
                        }
                        ReplyEvent::Interim(_) | ReplyEvent::Head(_) => {}
                        ReplyEvent::Content(piece) => content.extend_from_slice(piece),
                        ReplyEvent::End => {
                            ended = true;
                            break;
                        }
                    }
                }
            }
            assert_eq!((at, &content[..], ended), (input.len(), &b"abcde"[..], true), "cut at {cut}");
        }
        assert!(used_by_need_more > 0, "the promise is about something");
    }

    /// A client that counts content counts neither chunk lines nor interim responses.
    #[test]
    fn what_comes_beside_the_content_is_bounded() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let flood = format!("{chunked}{}", format!("1;{}\r\nx\r\n", "e".repeat(200)).repeat(100));
        let progress = "HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Offset: 1\r\n\r\n";
        let interims = progress.repeat(REPLY_INTERIM_BYTES_MAX / progress.len());
        for (input, is_refused) in [
            (flood, true),
            (format!("{chunked}{}0\r\n\r\n", "1\r\nx\r\n".repeat(5000)), false),
            (format!("{interims}HTTP/1.1 204 No Content\r\n\r\n"), false),
            (format!("{interims}{progress}HTTP/1.1 204 No Content\r\n\r\n"), true),
        ] {
            for size in [13, 1000, input.len()] {
                let pieces: Vec<&[u8]> = input.as_bytes().chunks(size).collect();
                assert_eq!(read(&["GET"], &pieces, false).is_err(), is_refused, "by {size}: {input:.60}");
            }
        }
        let twice = format!("{interims}HTTP/1.1 204 No Content\r\n\r\n").repeat(2);
        assert!(read(&["GET", "GET"], &[twice.as_bytes()], false).is_ok(), "each response has its own bound");
    }

    #[test]
    fn what_is_in_doubt_is_refused() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTQ/1.1 200 OK\r\n\r\n",
        ] {
            assert!(read(&["GET"], &[head.as_bytes()], false).is_err(), "{head}");
        }
        let cut = read(&["GET"], &[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"], true).unwrap();
        assert_eq!(cut.last().unwrap(), "closed false");
    }
}
