//! Request targets and `Host`: checking, splitting, normalising, decoding and encoding (RFC 3986,
//! RFC 9112 section 3.2).
//!
//! This file checks and rewrites bytes. It must not know which paths exist, what a docroot is, or
//! which status an error becomes.

use core::net::Ipv6Addr;
use std::borrow::Cow;
use std::fmt;

use memchr::memchr;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

use crate::text::{self, Block};

/// A target in origin-form (RFC 9112 section 3.2.1), checked and parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginForm<'b> {
    /// Path as received.
    pub path: &'b [u8],
    /// Query without its `?`. An empty query differs from none.
    pub query: Option<&'b [u8]>,
    /// True if the path is its own normal form and no component of it begins with a dot. That holds
    /// for nearly all paths, which need no further check.
    pub is_plain: bool,
}

/// Parses a target in origin-form: an absolute path, then an optional query. Visits each byte once.
///
/// The path is that of RFC 3986, plus the few bytes that browsers send unescaped. The query may
/// also contain a backslash and malformed escapes, because browsers send them.
///
/// # Errors
/// A short reason for people, for the detail of a 400.
pub fn read_origin_form(target: &[u8]) -> Result<OriginForm<'_>, &'static str> {
    match take_origin_form(target)? {
        (form, end) if end == target.len() => Ok(form),
        (_, end) => Err(refusal(target[end])),
    }
}

/// Parses a target in origin-form that ends at a space or at the end of `bytes`. Returns its
/// length, too.
///
/// # Errors
/// Those of [`read_origin_form`].
#[inline(always)]
pub(crate) fn take_origin_form(bytes: &[u8]) -> Result<(OriginForm<'_>, usize), &'static str> {
    if bytes.first() != Some(&b'/') {
        return Err("the target does not begin with a slash");
    }
    let (mut at, mut is_plain) = (0, true);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'/' => {
                is_plain &= !matches!(bytes.get(at + 1), Some(b'/' | b'.'));
                at += 1;
                at += text::span(&bytes[at..], plain, |byte| is_class(byte, WORD));
                continue;
            }
            b'.' => {}
            _ if is_class(byte, WORD) => {}
            b'%' => match bytes.get(at + 1..at + 3) {
                Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    is_plain = false;
                    at += 2;
                }
                _ => return Err("the path has a percent sign without two hexadecimal digits"),
            },
            b'?' => {
                let (path, query) = (&bytes[..at], take_query(&bytes[at + 1..])?);
                return Ok((OriginForm { path, query: Some(query), is_plain }, at + 1 + query.len()));
            }
            b' ' => break,
            other => return Err(refusal(other)),
        }
        at += 1;
    }
    Ok((OriginForm { path: &bytes[..at], query: None, is_plain }, at))
}

/// Query up to the next space or the end of `bytes`.
fn take_query(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let end = bytes.iter().position(|&byte| !is_class(byte, QUERY)).unwrap_or(bytes.len());
    match bytes.get(end) {
        None | Some(b' ') => Ok(&bytes[..end]),
        Some(&other) => Err(refusal(other)),
    }
}

/// Reason why a target cannot contain this byte.
fn refusal(byte: u8) -> &'static str {
    match byte {
        b' ' => "the target has a space",
        b'#' => "the target has a fragment",
        b'\\' => "the target has a backslash",
        0x80.. => "the target has a byte outside ASCII that is not percent-encoded",
        0..0x20 | 0x7f => "the target has a control character",
        _ => "the target has a character that must be percent-encoded",
    }
}

/// Splits a target in origin-form at the first `?`. An empty query differs from none.
pub fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b'?', target) {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// Turns the path of a target into a name below the root: percent-decoded once, without dot
/// segments and repeated slashes (RFC 3986 section 5.2.4). Encoded dot segments are removed, too.
///
/// The result begins with a slash and never climbs above the root. It ends in a slash if the path
/// named a directory (`/a/`, `/a/.`, `/a/b/..`). It is borrowed if nothing had to change, as for
/// nearly all paths. All other bytes are kept: on Linux a backslash is an ordinary character.
///
/// # Errors
/// [`PathError`], if no file can have this path.
pub fn normalize(path: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    if path.first() != Some(&b'/') {
        return Err(PathError::Relative);
    }
    if is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    // An encoded slash is an error, so decoding cannot create a new segment.
    let decoded = decode_path(path)?;
    Ok(Cow::Owned(remove_dot_segments(&decoded)))
}

/// True if normalising would change nothing. False if in doubt: the slow way then finds the errors.
fn is_normal(path: &[u8]) -> bool {
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        match (byte, tail) {
            (0 | b'%', _) => return false,
            (b'/', [b'/', ..] | [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..]) => {
                return false;
            }
            _ => rest = tail,
        }
    }
    true
}

fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut ends_in_directory = true;
    for segment in path.split(|&byte| byte == b'/') {
        ends_in_directory = true;
        match segment {
            b"" | b"." => {}
            // At the root there is no segment to remove, so the path cannot climb above it.
            b".." => out.truncate(out.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
                ends_in_directory = false;
            }
        }
    }
    if ends_in_directory {
        out.push(b'/');
    }
    out
}

/// Decodes percent escapes once; see [`normalize`].
pub(crate) fn decode_path(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        let (byte, tail) = match (*byte, tail) {
            (b'%', [high, low, tail @ ..]) => match (hex_value(*high), hex_value(*low)) {
                (Some(high), Some(low)) => match high << 4 | low {
                    b'/' => return Err(PathError::EncodedSlash),
                    byte => (byte, tail),
                },
                _ => return Err(PathError::BadEscape),
            },
            (b'%', _) => return Err(PathError::BadEscape),
            (byte, tail) => (byte, tail),
        };
        if byte == 0 {
            return Err(PathError::Nul);
        }
        decoded.push(byte);
        rest = tail;
    }
    Ok(decoded)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Reason why a path cannot be normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// The path does not begin with a slash.
    Relative,
    /// The path contains a NUL byte, encoded or not, which no file name can contain.
    Nul,
    /// The path contains `%2F`. Decoded it could reach files that a proxy in front of this server
    /// has forbidden, and no file name can contain a slash.
    EncodedSlash,
    /// A percent sign is not followed by two hexadecimal digits.
    BadEscape,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::Relative => "the path does not begin with a slash",
            PathError::Nul => "the path has a NUL byte",
            PathError::EncodedSlash => "the path has an encoded slash",
            PathError::BadEscape => "the path has a percent sign without two hexadecimal digits",
        })
    }
}

impl std::error::Error for PathError {}

/// True for a valid `Host` value or authority without user information: `uri-host [ ":" port ]`
/// (RFC 9110 section 7.2, RFC 3986 section 3.2.2).
///
/// An empty host is valid here, and so is an empty port. A caller that needs a host must check
/// that. A port has at most five digits.
#[inline]
pub fn check_host(value: &[u8]) -> bool {
    is_short_host(value) || check_any_host(value)
}

/// Checks hosts that are long or have unusual bytes.
#[inline(never)]
fn check_any_host(value: &[u8]) -> bool {
    // IPv4 addresses need no rule of their own, because each is a valid `reg-name`.
    if let [b'[', literal @ ..] = value {
        let Some(end) = memchr(b']', literal) else { return false };
        return is_ip_literal(&literal[..end]) && is_port_suffix(&literal[end + 1..]);
    }
    // Nearly all names are plain. The few with escapes are checked again.
    let end = text::span(value, plain, |byte| is_class(byte, NAME));
    match &value[end..] {
        [b'%', ..] => {
            let (name, port) = value.split_at(memchr(b':', value).unwrap_or(value.len()));
            is_reg_name(name) && is_port_suffix(port)
        }
        port => is_port_suffix(port),
    }
}

/// True if sixteen bytes in one step show a valid host: a plain name, then an optional port. False
/// is uncertain.
fn is_short_host(value: &[u8]) -> bool {
    let (block, len) = text::first_block(value);
    let name_len = plain(block).to_bitmask().trailing_ones() as usize;
    if len < value.len() || name_len == len {
        return name_len == value.len();
    }
    let port_len = len - name_len - 1;
    let digits = digits(block).to_bitmask() >> (name_len + 1);
    value[name_len] == b':' && port_len <= PORT_DIGITS_MAX && digits.trailing_ones() as usize == port_len
}

/// True for valid bytes between brackets: an IPv6 address, or `IPvFuture`.
fn is_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = literal {
        let Some(dot) = memchr(b'.', future) else { return false };
        let (version, address) = (&future[..dot], &future[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| byte == b':' || is_class(byte, NAME));
    }
    std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// True for a valid name with escapes.
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        rest = match (*byte, tail) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
            (byte, tail) if is_class(byte, NAME) => tail,
            _ => return false,
        };
    }
    true
}

fn is_port_suffix(suffix: &[u8]) -> bool {
    match suffix {
        [] => true,
        [b':', port @ ..] => {
            port.len() <= PORT_DIGITS_MAX && text::span(port, digits, |_| false) == port.len()
        }
        _ => false,
    }
}

/// Digits that a port may have. Its value does not matter here.
const PORT_DIGITS_MAX: usize = 5;

/// Names and values of a query or form in `application/x-www-form-urlencoded` (WHATWG URL section
/// 5.1). `+` is a space. Malformed escapes are kept. Bytes that are not UTF-8 become U+FFFD.
///
/// A name without `=` has an empty value; empty pieces are skipped. The iterator is lazy, so the
/// caller sets the limit.
pub fn query_pairs(query: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split(|&byte| byte == b'&').filter(|piece| !piece.is_empty()).map(|piece| {
        let (name, value) = match memchr(b'=', piece) {
            Some(at) => (&piece[..at], &piece[at + 1..]),
            None => (piece, &piece[piece.len()..]),
        };
        (decode_form(name), decode_form(value))
    })
}

fn decode_form(piece: &[u8]) -> Cow<'_, str> {
    if memchr(b'+', piece).is_none() {
        return percent_decode(piece).decode_utf8_lossy();
    }
    let spaced: Vec<u8> = piece.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    Cow::Owned(percent_decode(&spaced).decode_utf8_lossy().into_owned())
}

/// Appends a decoded path, percent-encoded for a `Location` header or a quoted `href`.
///
/// Slashes are kept, and so are colons. A relative reference must therefore begin with `./` or `/`,
/// or `javascript:x` would be a scheme.
pub fn encode_path(path: &[u8], out: &mut Vec<u8>) {
    for piece in percent_encode(path, ENCODED) {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// Bytes that [`encode_path`] encodes besides controls and bytes outside ASCII. They could end the
/// path, the attribute or the header that contains it. `;` and `&` are legal in a path but have a
/// meaning for other programs.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b';')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Largest number of `../` in a relative reference. A path from a client may have thousands of
/// folders.
pub(crate) const CLIMB_MAX: usize = 64;

/// Number of `.` and `..` segments in the path of a target, escaped or not (RFC 3986 section
/// 5.2.4). A browser takes `%2e` for a dot as well.
pub(crate) fn count_dot_segments(target: &[u8]) -> usize {
    let end = memchr::memchr2(b'?', b'#', target).unwrap_or(target.len());
    let is_dots = |segment: &&[u8]| {
        let mut rest = *segment;
        let mut dots = 0;
        while let [b'.', behind @ ..] | [b'%', b'2', b'e' | b'E', behind @ ..] = rest {
            rest = behind;
            dots += 1;
        }
        rest.is_empty() && (1..=2).contains(&dots)
    };
    target[..end].split(|&byte| byte == b'/').filter(is_dots).count()
}

/// True if a reference in the response may be relative to `path`, which must be as the client sent
/// it. If a path contains dot segments or empty segments, client and server may count its folders
/// differently.
pub(crate) fn is_base(path: &[u8]) -> bool {
    path.starts_with(b"/") && memchr::memmem::find(path, b"//").is_none() && count_dot_segments(path) == 0
}

/// Reference to another path of this server, for `Location` (RFC 9110 section 10.2.2). `path` is
/// normalised.
///
/// With a base, for which [`is_base`] must hold, the reference is relative. So it stays below a
/// prefix that a proxy has removed from the path. Without a base it is an absolute path. A relative
/// reference never begins with a slash or a scheme, whatever names it contains.
pub(crate) fn reference(base: Option<&[u8]>, path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 8);
    let folder = base.and_then(|base| decode_path(base).ok());
    let Some(shared) = folder.as_deref().and_then(|base| shared_folders(base, path)) else {
        encode_path(path, &mut out);
        return out;
    };
    let (climb, shared) = shared;
    let rest = &path[shared..];
    let first = rest.split(|&byte| byte == b'/').next().unwrap_or_default();
    if climb == 0 && (rest.is_empty() || first.contains(&b':')) {
        out.extend_from_slice(b"./");
    }
    out.extend_from_slice(&b"../".repeat(climb));
    encode_path(rest, &mut out);
    out
}

/// Number of folders between `base` and the last folder that it shares with `path`, and the end of
/// that folder in `path`. `None` if that is too far.
fn shared_folders(base: &[u8], path: &[u8]) -> Option<(usize, usize)> {
    let folder = &base[..=memchr::memrchr(b'/', base)?];
    let same = folder.iter().zip(path).take_while(|(one, other)| one == other).count();
    let shared = memchr::memrchr(b'/', &path[..same])? + 1;
    let climb = memchr::memchr_iter(b'/', &folder[shared..]).count();
    (climb <= CLIMB_MAX).then_some((climb, shared))
}

/// Bytes of a path that need no escape. These are `pchar` (RFC 3986 section 3.3) without `%`, the
/// slash, and bytes that browsers send unescaped: `[`, `]` and `|` (WHATWG URL, path percent-encode
/// set), and `^`, `{`, `}` and the backtick from older versions. Each of the latter means its
/// escaped form. A backslash has two readings and is no part of a path: browsers turn it into a
/// slash.
const PATH: u8 = 1;

/// Bytes of a query: those of a path, `?`, `%`, and the backslash, which browsers leave unescaped
/// there (WHATWG URL, query percent-encode set). A query names no file, so a backslash has one
/// reading.
const QUERY: u8 = 2;

/// Bytes of a `reg-name` (RFC 3986 section 3.2.2) without `%`: unreserved and sub-delims.
const NAME: u8 = 4;

/// Bytes of a path without a special meaning at any position: not slash and dot.
const WORD: u8 = 8;

/// Bytes of a token (RFC 9110 section 5.6.2).
const TOKEN: u8 = 16;

/// Classes of each byte. One lookup per byte keeps the check of a target to a few nanoseconds.
const CLASS: [u8; 256] = class_table();

const fn class_table() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let c = byte as u8;
        let unreserved = c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~');
        let sub_delim =
            matches!(c, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        if c == b'.' {
            table[byte] = PATH | QUERY | NAME;
        } else if unreserved || sub_delim {
            table[byte] = PATH | QUERY | NAME | WORD;
        } else if matches!(c, b':' | b'@') {
            table[byte] = PATH | QUERY | WORD;
        } else if c == b'/' {
            table[byte] = PATH | QUERY;
        } else if matches!(c, b'[' | b']' | b'{' | b'}' | b'|' | b'^' | b'`') {
            table[byte] = PATH | QUERY | WORD;
        } else if matches!(c, b'?' | b'%' | b'\\') {
            table[byte] = QUERY;
        }
        let marks =
            matches!(c, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        if c.is_ascii_alphanumeric() || marks {
            table[byte] |= TOKEN;
        }
        byte += 1;
    }
    table
}

fn is_class(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// True for a byte of a token.
pub(super) fn is_token_byte(byte: u8) -> bool {
    is_class(byte, TOKEN)
}

/// Letters, digits, dots and hyphens: the bytes of nearly all names.
fn plain(block: Block) -> Block {
    text::letters(block) | text::within(block, b'-', b'.') | digits(block)
}

fn digits(block: Block) -> Block {
    text::within(block, b'0', b'9')
}

#[cfg(test)]
mod tests;
