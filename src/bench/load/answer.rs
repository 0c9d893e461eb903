//! Parser of responses that arrive in pieces. Checks status, framing and content as far as
//! received.
//!
//! This is deliberately a second HTTP parser next to that of the server, because a fault in a
//! shared parser would go unnoticed.

use super::job::Kind;

/// Maximum length of a response head. Longer than every head in this benchmark.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Maximum length of a chunk size line. No server in this benchmark sends chunk extensions.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// The expected response.
#[derive(Debug)]
pub struct Wanted {
    /// Length of the content.
    pub bytes: usize,
    /// Expected content, compared byte by byte. `None` for long content, which `check` compares
    /// before the timing begins; then only its length is checked.
    pub content: Option<Vec<u8>>,
}

/// Kind of an error with its description.
pub type Fault = (Kind, String);

/// A response that is being received.
#[derive(Debug, Default)]
pub struct Answer {
    part: Part,
    head: Vec<u8>,
    /// Content bytes received so far.
    came: usize,
    /// The last valid head with a length. Equal bytes need no second check, and most heads are
    /// equal within one second. Without this shortcut the generator would be slower than the
    /// servers in pipelined scenarios.
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
    /// Within a chunk size line.
    ChunkSize(Vec<u8>),
    /// Within chunk content or the line end after it.
    Chunk {
        left: usize,
    },
    /// After the last chunk: its empty line.
    ChunkEnd {
        left: usize,
    },
}

/// Outcome of parsing a piece of input.
#[derive(Debug, PartialEq, Eq)]
pub enum Took {
    /// Used all input. The response is incomplete.
    All,
    /// The response is complete after this many bytes of the input.
    Complete(usize),
}

impl Answer {
    fn clear(&mut self) {
        self.part = Part::Head;
        self.head.clear();
        self.came = 0;
    }

    /// Parses input up to the end of this response. Passes content pieces to `content`.
    pub fn take(
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
                        return Err((Kind::Framing, "a chunk size line is too long".to_owned()));
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

    /// Parses bytes of the head. Returns the number of head bytes in `input` once the head is
    /// complete.
    fn take_head(&mut self, input: &[u8], wanted: Option<&Wanted>) -> Result<Option<usize>, Fault> {
        if self.head.is_empty() && !self.judged.is_empty() && input.starts_with(&self.judged) {
            self.part = Part::Length { left: self.judged_length };
            self.check_length(wanted)?;
            return Ok(Some(self.judged.len()));
        }
        let known = self.head.len();
        self.head.extend_from_slice(&input[..input.len().min(HEAD_BYTES_MAX)]);
        // The end of the head can be split between two pieces.
        let from = known.saturating_sub(3);
        let Some(end) = memchr::memmem::find(&self.head[from..], b"\r\n\r\n").map(|at| from + at + 4) else {
            if self.head.len() >= HEAD_BYTES_MAX {
                return Err((Kind::Framing, "the head is too long".to_owned()));
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

    /// Checks that a Content-Length is the expected one.
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
            return Err((Kind::Content, "the content differs from the expected content".to_owned()));
        }
        self.came += piece.len();
        content(piece)
    }
}

/// Determines the framing of the content: either one length, or chunks. Both together are an error.
fn framing(head: &[u8]) -> Result<Part, Fault> {
    let fault = |words: &str| (Kind::Framing, words.to_owned());
    let (mut length, mut chunked) = (None, false);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            if length.replace(number.ok_or_else(|| fault("the Content-Length is not a number"))?).is_some() {
                return Err(fault("two lengths"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            chunked = value.eq_ignore_ascii_case(b"chunked");
        }
    }
    match (length, chunked) {
        (Some(left), false) => Ok(Part::Length { left }),
        (None, true) => Ok(Part::ChunkSize(Vec::new())),
        (Some(_), true) => Err(fault("both Content-Length and chunks")),
        (None, false) => Err(fault("neither Content-Length nor chunks")),
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
    number.ok_or_else(|| (Kind::Framing, "a chunk size is not a number".to_owned()))
}
