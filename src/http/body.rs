//! Decoding and encoding of message content: by length, and chunked (RFC 9112 sections 6 and 7).
//!
//! The chunked decoder is strict, because a lenient one allows request smuggling. Line ends are
//! CRLF and nothing else, sizes are plain hexadecimal digits, and extensions follow their grammar.
//! The size of the framing is bounded by the content that comes with it.
//!
//! The decoder keeps its position in a few small fields. So it never needs a byte twice, and it
//! takes input cut anywhere. This file must not know the source of the bytes.

use crate::http::error::ProtocolError;
use crate::http::field_lines::is_token;
use crate::http::status::Status;

/// Decoder that takes request content out of its framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyDecoder {
    /// `Content-Length`: content of a known length.
    Length {
        /// Bytes that are still to come.
        left: u64,
    },
    /// `Transfer-Encoding: chunked`.
    Chunked(Chunked),
}

impl BodyDecoder {
    /// A decoder for exactly `left` bytes.
    #[must_use]
    pub fn length(left: u64) -> Self {
        BodyDecoder::Length { left }
    }

    /// A decoder for chunked content.
    #[must_use]
    pub fn chunked() -> Self {
        BodyDecoder::Chunked(Chunked {
            state: State::Size,
            left: 0,
            total: 0,
            line: 0,
            framing_left: FRAMING_BYTES_MAX,
        })
    }

    /// Bytes that are known to be missing: exact for a length, a lower bound for chunked content.
    #[must_use]
    pub fn left(&self) -> u64 {
        match self {
            BodyDecoder::Length { left } => *left,
            BodyDecoder::Chunked(chunked) => match chunked.state {
                State::Data => chunked.left,
                _ => 0,
            },
        }
    }

    /// Decodes `input`, and returns the number of bytes used and their meaning.
    ///
    /// Call again with the rest until `NeedMore` or `End`. `line_max` is the limit of a size line
    /// and of the trailer section, in bytes; more than 65,534 count as that. `total_max` is the
    /// limit of the content, in bytes.
    pub fn decode<'b>(
        &mut self,
        input: &'b [u8],
        line_max: usize,
        total_max: u64,
    ) -> Result<(usize, Decoded<'b>), ProtocolError> {
        match self {
            BodyDecoder::Length { left: 0 } => Ok((0, Decoded::End)),
            BodyDecoder::Length { .. } if input.is_empty() => Ok((0, Decoded::NeedMore)),
            BodyDecoder::Length { left } => {
                let take = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= take as u64;
                Ok((take, Decoded::Data(&input[..take])))
            }
            BodyDecoder::Chunked(chunked) => chunked.decode(input, line_max, total_max),
        }
    }
}

/// Result of decoding some input.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'b> {
    /// Bytes of content. More may follow.
    Data(&'b [u8]),
    /// All input is used up, and the content is not complete: call again with more.
    NeedMore,
    /// The content is complete. Bytes not used belong to the next request.
    End,
}

/// Position inside chunked content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    /// Bytes left of the data of this chunk, or its size while the digits arrive.
    left: u64,
    /// Bytes of content so far, for the limit of the whole.
    total: u64,
    /// Bytes of this size line, or of the trailer section.
    line: u16,
    /// Bytes of framing that may still come. Each byte of content adds one. No useful client sends
    /// more framing than content, and without this limit framing could keep a server busy.
    framing_left: u32,
}

/// One state for each position in the grammar of RFC 9112 section 7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the first digit of a chunk size.
    Size,
    /// After at least one digit.
    SizeMore,
    /// White space (BWS) before `;`.
    BeforeExt,
    /// After `;`, before the name of the extension.
    ExtStart,
    /// In the name of the extension.
    ExtName,
    /// White space after the name.
    AfterExtName,
    /// After `=`.
    ExtValueStart,
    /// In a token value.
    ExtToken,
    /// In a quoted value.
    ExtQuoted,
    /// After a backslash in a quoted value.
    ExtEscaped,
    /// After a closing quote.
    AfterExtValue,
    /// After the CR of the size line.
    SizeLf,
    /// In chunk data.
    Data,
    /// After the data: its CR is due.
    DataCr,
    /// After the CR of the data: its LF is due.
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    /// In the name of a trailer field.
    TrailerName,
    /// In the value of a trailer field.
    TrailerValue,
    /// After the CR of a trailer line.
    TrailerLf,
    /// After the last CR.
    EndLf,
}

/// Bytes of framing that any chunked content may have: chunk lines, extensions and trailers. That
/// is a trailer section of the default limit (4 KiB), and three times as much for extensions.
const FRAMING_BYTES_MAX: u32 = 16 * 1024;

/// Bytes of framing that each chunk adds to that. A client that sends each typed character needs 5
/// for a chunk of one byte. A client that writes sizes with eight digits needs 12, as the encoder
/// of this file does.
const FRAMING_BYTES_PER_CHUNK: u32 = 16;

impl Chunked {
    fn decode<'b>(
        &mut self,
        input: &'b [u8],
        line_max: usize,
        total_max: u64,
    ) -> Result<(usize, Decoded<'b>), ProtocolError> {
        let mut at = 0;
        while at < input.len() {
            if self.state == State::Data {
                let room = input.len() - at;
                let take = room.min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= take as u64;
                self.framing_left = self.framing_left.saturating_add(u32::try_from(take).unwrap_or(u32::MAX));
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok((at + take, Decoded::Data(&input[at..at + take])));
            }
            let byte = input[at];
            at += 1;
            if self.state == State::EndLf {
                return match byte {
                    b'\n' => Ok((at, Decoded::End)),
                    _ => Err(bad("the chunked content does not end in CRLF")),
                };
            }
            self.line = self.line.saturating_add(1);
            if usize::from(self.line) > line_max.min(usize::from(u16::MAX - 1)) {
                return Err(ProtocolError::new(
                    Status::FIELDS_TOO_LARGE,
                    "a chunk size line or the trailer section is too long",
                ));
            }
            self.framing_left = self
                .framing_left
                .checked_sub(1)
                .ok_or(bad("the chunk lines and trailers are far longer than the content"))?;
            self.state = self.step(byte)?;
            if self.state == State::Data {
                self.total = self.total.saturating_add(self.left);
                if self.total > total_max {
                    return Err(ProtocolError::new(Status::CONTENT_TOO_LARGE, "the content is too large"));
                }
            }
        }
        Ok((at, Decoded::NeedMore))
    }

    /// Consumes one byte of framing, and returns the next state.
    fn step(&mut self, byte: u8) -> Result<State, ProtocolError> {
        match self.state {
            State::Size | State::SizeMore => self.size(byte),
            State::BeforeExt
            | State::ExtStart
            | State::ExtName
            | State::AfterExtName
            | State::ExtValueStart
            | State::ExtToken
            | State::ExtQuoted
            | State::ExtEscaped
            | State::AfterExtValue => self.extension(byte),
            State::SizeLf => self.end_of_size(byte),
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => {
                self.line = 0;
                Ok(State::Size)
            }
            State::DataCr | State::DataLf => Err(bad("chunk data is not followed by CRLF")),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                self.trailer(byte)
            }
            State::Data | State::EndLf => Err(bad("a chunk ended where none was open")),
        }
    }

    fn size(&mut self, byte: u8) -> Result<State, ProtocolError> {
        let first = self.state == State::Size;
        if let Some(digit) = (byte as char).to_digit(16) {
            // A checked shift: 2^64 must not wrap to a small chunk. Servers with that bug allowed
            // request smuggling.
            if self.left >> 60 != 0 {
                return Err(bad("a chunk size does not fit 64 bits"));
            }
            self.left = self.left << 4 | u64::from(digit);
            return Ok(State::SizeMore);
        }
        match byte {
            b'\r' if !first => Ok(State::SizeLf),
            b';' if !first => Ok(State::ExtStart),
            b' ' | b'\t' if !first => Ok(State::BeforeExt),
            _ => Err(bad("a chunk size is not a hexadecimal number")),
        }
    }

    fn extension(&self, byte: u8) -> Result<State, ProtocolError> {
        let next = match (self.state, byte) {
            (State::BeforeExt | State::AfterExtName | State::AfterExtValue, b' ' | b'\t') => self.state,
            (State::ExtStart | State::ExtValueStart, b' ' | b'\t') => self.state,
            (State::BeforeExt, b';') => State::ExtStart,
            (State::ExtStart | State::ExtName, byte) if is_token(byte) => State::ExtName,
            (State::ExtName | State::AfterExtName, b'=') => State::ExtValueStart,
            (State::ExtName | State::ExtToken, b' ' | b'\t') => match self.state {
                State::ExtName => State::AfterExtName,
                _ => State::AfterExtValue,
            },
            (State::ExtName | State::AfterExtName | State::ExtToken | State::AfterExtValue, b';') => {
                State::ExtStart
            }
            (State::ExtName | State::ExtToken | State::AfterExtValue, b'\r') => State::SizeLf,
            (State::ExtValueStart, b'"') => State::ExtQuoted,
            (State::ExtValueStart | State::ExtToken, byte) if is_token(byte) => State::ExtToken,
            (State::ExtQuoted, b'"') => State::AfterExtValue,
            (State::ExtQuoted, b'\\') => State::ExtEscaped,
            (State::ExtQuoted | State::ExtEscaped, byte) if is_text(byte) => State::ExtQuoted,
            _ => return Err(bad("a chunk extension breaks the grammar of RFC 9112 section 7.1.1")),
        };
        Ok(next)
    }

    fn end_of_size(&mut self, byte: u8) -> Result<State, ProtocolError> {
        if byte != b'\n' {
            return Err(bad("a chunk size line does not end in CRLF"));
        }
        self.line = 0;
        if self.left == 0 {
            return Ok(State::TrailerStart);
        }
        self.framing_left = self.framing_left.saturating_add(FRAMING_BYTES_PER_CHUNK);
        Ok(State::Data)
    }

    /// Checks trailer fields, which are dropped (RFC 9112 section 7.1.2).
    fn trailer(&self, byte: u8) -> Result<State, ProtocolError> {
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart | State::TrailerName, byte) if is_token(byte) => Ok(State::TrailerName),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, byte) if is_text(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            _ => Err(bad("a trailer field is malformed")),
        }
    }
}

/// True for a byte of a field value or quoted string: no control character except tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Encoder that puts response content into its framing while it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEncoder {
    /// Chunks, for HTTP/1.1.
    Chunked,
    /// Plain bytes that end with the connection, because HTTP/1.0 does not know chunks.
    UntilClose,
    /// Plain bytes whose length is in the head.
    Sized,
}

/// Bytes before the data of a chunk: eight hexadecimal digits and CRLF.
const CHUNK_HEAD_BYTES: usize = 10;

impl BodyEncoder {
    /// Starts a piece of content at the end of `out`. Append the bytes, then call `finish_piece`
    /// with the mark that this returns.
    pub fn start_piece(self, out: &mut Vec<u8>) -> usize {
        if self == BodyEncoder::Chunked {
            // The size is filled in later. It always has eight digits, because leading zeros are
            // allowed.
            out.extend_from_slice(b"00000000\r\n");
        }
        out.len()
    }

    /// Ends the piece that began at `mark`. An empty piece is removed, because an empty chunk would
    /// end the message.
    pub fn finish_piece(self, mark: usize, out: &mut Vec<u8>) {
        if self != BodyEncoder::Chunked {
            return;
        }
        let bytes = out.len() - mark;
        if bytes == 0 {
            out.truncate(mark - CHUNK_HEAD_BYTES);
            return;
        }
        debug_assert!(u32::try_from(bytes).is_ok(), "a piece is bounded by the low-water mark");
        for digit in 0..8 {
            let nibble = bytes >> (4 * (7 - digit)) & 0xf;
            out[mark - CHUNK_HEAD_BYTES + digit] = b"0123456789abcdef"[nibble];
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Ends the content.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self == BodyEncoder::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

const fn bad(reason: &'static str) -> ProtocolError {
    ProtocolError::bad_request(reason)
}

#[cfg(test)]
mod tests;
