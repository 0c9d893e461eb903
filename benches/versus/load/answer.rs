//! Answers, as they arrive in pieces: status, framing and content are checked as far as they have
//! come.
//!
//! It is a second reader of HTTP beside the server's own, on purpose: a fault in a shared one would
//! not be seen.

use super::job::Kind;

/// Longer than any head asked for here.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The longest line before a chunk. No server here sends extensions.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// What has to come.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) bytes: usize,
    /// Compared byte by byte where it is kept: long content is compared before the timing begins,
    /// and then counted.
    pub(crate) content: Option<Vec<u8>>,
}

/// A fault and what it is in words.
pub(crate) type Fault = (Kind, String);

/// An answer under way.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    part: Part,
    head: Vec<u8>,
    /// Content so far.
    came: usize,
    /// The last head that was judged, if it announced a length: the same bytes are right again, and
    /// most heads are the same for a second. Without this the generator is slower than what it
    /// measures where requests are pipelined.
    judged: Vec<u8>,
    judged_length: usize,
}

#[derive(Debug, Default)]
enum Part {
    #[default]
    Head,
    Length {
        left: usize,
    },
    /// Within the line that says how long a chunk is.
    ChunkSize(Vec<u8>),
    /// Chunk content, and the line end behind it.
    Chunk {
        left: usize,
    },
    /// Behind the last chunk: its empty line.
    ChunkEnd {
        left: usize,
    },
}

/// What a piece of input did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// All of it, and more is to come.
    All,
    /// The answer is complete after so many bytes.
    Complete(usize),
}

impl Answer {
    fn clear(&mut self) {
        self.part = Part::Head;
        self.head.clear();
        self.came = 0;
    }

    /// Takes what has come, up to the end of this answer. `content` sees the content in pieces.
    pub(crate) fn take(
        &mut self,
        input: &[u8],
        wanted: Option<&Wanted>,
        content: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<Took, Fault> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let (used, is_complete) = match &mut self.part {
                Part::Head => match self.take_head(rest, wanted)? {
                    None => return Ok(Took::All),
                    Some(used) => (used, matches!(self.part, Part::Length { left: 0 })),
                },
                Part::Length { left } => {
                    let used = rest.len().min(*left);
                    *left -= used;
                    let is_complete = *left == 0;
                    self.take_content(&rest[..used], wanted, content)?;
                    (used, is_complete)
                }
                Part::ChunkSize(line) => {
                    let used = take_line(line, rest);
                    if line.len() > CHUNK_LINE_BYTES_MAX {
                        return Err((Kind::Framing, "a chunk line that is too long".to_owned()));
                    }
                    if line.ends_with(b"\n") {
                        let size = chunk_size(line)?;
                        self.part = if size == 0 {
                            Part::ChunkEnd { left: 2 }
                        } else {
                            Part::Chunk { left: size + 2 }
                        };
                    }
                    (used, false)
                }
                Part::Chunk { left } => {
                    // The last two bytes are the line end.
                    let used = rest.len().min(*left);
                    let data = used.min(left.saturating_sub(2));
                    *left -= used;
                    if *left == 0 {
                        self.part = Part::ChunkSize(Vec::new());
                    }
                    self.take_content(&rest[..data], wanted, content)?;
                    (used, false)
                }
                Part::ChunkEnd { left } => {
                    let used = rest.len().min(*left);
                    *left -= used;
                    (used, *left == 0)
                }
            };
            at += used;
            if is_complete {
                if wanted.is_some_and(|wanted| wanted.bytes != self.came) {
                    return Err((Kind::Content, format!("{} bytes of content", self.came)));
                }
                self.clear();
                return Ok(Took::Complete(at));
            }
            if at == input.len() {
                return Ok(Took::All);
            }
        }
    }

    /// Takes head bytes; `Some` with how many were the head's when it is whole.
    fn take_head(&mut self, input: &[u8], wanted: Option<&Wanted>) -> Result<Option<usize>, Fault> {
        if self.head.is_empty() && !self.judged.is_empty() && input.starts_with(&self.judged) {
            self.part = Part::Length { left: self.judged_length };
            self.check_length(wanted)?;
            return Ok(Some(self.judged.len()));
        }
        let known = self.head.len();
        self.head.extend_from_slice(&input[..input.len().min(HEAD_BYTES_MAX)]);
        // The end may lie across the seam of two pieces.
        let from = known.saturating_sub(3);
        let Some(end) = memchr::memmem::find(&self.head[from..], b"\r\n\r\n").map(|at| from + at + 4) else {
            if self.head.len() >= HEAD_BYTES_MAX {
                return Err((Kind::Framing, "a head without end".to_owned()));
            }
            return Ok(None);
        };
        self.head.truncate(end);
        if !self.head.starts_with(b"HTTP/1.1 200 ") {
            let line = &self.head[..self.head.len().min(40)];
            return Err((
                Kind::Status,
                String::from_utf8_lossy(line).lines().next().unwrap_or("").to_owned(),
            ));
        }
        self.part = framing(&self.head)?;
        self.check_length(wanted)?;
        if let Part::Length { left } = self.part {
            self.judged.clone_from(&self.head);
            self.judged_length = left;
        }
        Ok(Some(end - known))
    }

    /// Whether the length that a head announced is the right one.
    fn check_length(&self, wanted: Option<&Wanted>) -> Result<(), Fault> {
        if let (Part::Length { left }, Some(wanted)) = (&self.part, wanted)
            && *left != wanted.bytes
        {
            return Err((Kind::Content, format!("{left} bytes announced, not {}", wanted.bytes)));
        }
        Ok(())
    }

    fn take_content(
        &mut self,
        piece: &[u8],
        wanted: Option<&Wanted>,
        content: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if let Some(expected) = wanted.and_then(|wanted| wanted.content.as_ref())
            && expected.get(self.came..self.came + piece.len()) != Some(piece)
        {
            return Err((Kind::Content, "other bytes than the right ones".to_owned()));
        }
        self.came += piece.len();
        content(piece)
    }
}

/// How the content of a head is framed: one length, or chunks, and never both.
fn framing(head: &[u8]) -> Result<Part, Fault> {
    let fault = |words: &str| (Kind::Framing, words.to_owned());
    let (mut length, mut chunked) = (None, false);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            if length.replace(number.ok_or_else(|| fault("a length that is no number"))?).is_some() {
                return Err(fault("two lengths"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            chunked = value.eq_ignore_ascii_case(b"chunked");
        }
    }
    match (length, chunked) {
        (Some(left), false) => Ok(Part::Length { left }),
        (None, true) => Ok(Part::ChunkSize(Vec::new())),
        (Some(_), true) => Err(fault("a length and chunks")),
        (None, false) => Err(fault("neither a length nor chunks")),
    }
}

fn take_line(line: &mut Vec<u8>, input: &[u8]) -> usize {
    let used = memchr::memchr(b'\n', input).map_or(input.len(), |at| at + 1);
    line.extend_from_slice(&input[..used]);
    used
}

fn chunk_size(line: &[u8]) -> Result<usize, Fault> {
    let digits = line.split(|byte| matches!(byte, b';' | b'\r')).next().unwrap_or_default();
    let number = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    number.ok_or_else(|| (Kind::Framing, "a chunk size that is no number".to_owned()))
}
