//! `Range`: the bytes of a representation that a request selects (RFC 9110 section 14).
//!
//! This file takes the value of the header and a length, and returns positions. It must not know
//! files, conditions (`conditional.rs` evaluates `If-Range` first), or how the parts are sent.

use crate::http::field_lines::{list_elements, trim_ows};

/// Part of the representation to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Send all of it as a 200. The header is ignored: another unit, malformed, or too costly.
    Whole,
    /// Send a 206 with `Content-Range`.
    One(ByteRange),
    /// Send a 206 with `multipart/byteranges`. These are at least two ranges that do not touch, in
    /// the requested order unless some were merged.
    Several(Vec<ByteRange>),
    /// Send a 416 with `Content-Range: bytes */len`: the syntax is valid, but there are no such
    /// bytes.
    Unsatisfiable,
}

/// A range of bytes, never empty. Both positions are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte, counted from 0.
    pub first: u64,
    /// Last byte, not before the first and below the length.
    pub last: u64,
}

impl ByteRange {
    /// Number of bytes, never 0. The range of all 2^64 bytes would overflow, but no length is that
    /// large.
    pub fn byte_count(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// Selects the bytes of a `Range` value for a representation of `len` bytes. Call this for GET
/// only, after the preconditions.
///
/// A server may always ignore the header (RFC 9110 section 14.2). This one ignores malformed
/// values, and requests that would send more than twice the length.
pub fn select(range_value: &[u8], len: u64) -> Selection {
    let Some(specs) = range_set(trim_ows(range_value)) else { return Selection::Whole };
    let mut ranges = Vec::new();
    let mut requested = 0;
    let mut bytes = 0u128;
    for element in list_elements(specs) {
        requested += 1;
        let Some(spec) = Spec::parse(element) else { return Selection::Whole };
        if requested > RANGES_MAX {
            return Selection::Whole;
        }
        match spec.resolve(len) {
            Resolved::Some(range) => {
                bytes += u128::from(range.byte_count());
                ranges.push(range);
            }
            Resolved::Nothing => {}
            Resolved::Everything => return Selection::Whole,
        }
    }
    if requested == 0 || bytes > 2 * u128::from(len) {
        return Selection::Whole;
    }
    coalesce(&mut ranges);
    match ranges[..] {
        [] => Selection::Unsatisfiable,
        [range] => Selection::One(range),
        _ => Selection::Several(ranges),
    }
}

/// Ranges that one request may contain. Each costs a part with its own head, and no normal client
/// needs more.
const RANGES_MAX: usize = 64;

/// Value after `bytes=`. `None` for another unit.
fn range_set(value: &[u8]) -> Option<&[u8]> {
    const UNIT: &[u8] = b"bytes=";
    let (unit, set) = value.split_at_checked(UNIT.len())?;
    unit.eq_ignore_ascii_case(UNIT).then_some(set)
}

/// One element of the list, before the length is known (RFC 9110 section 14.1.1).
enum Spec {
    /// `first-` and `first-last`. An open end is the largest number.
    From { first: u64, last: u64 },
    /// `-count`: the last bytes of the representation.
    Suffix { count: u64 },
}

enum Resolved {
    Some(ByteRange),
    /// Not satisfiable. Other elements may be.
    Nothing,
    /// Satisfiable, but the representation is empty, so there are no positions.
    Everything,
}

impl Spec {
    fn parse(element: &[u8]) -> Option<Spec> {
        let dash = element.iter().position(|&byte| byte == b'-')?;
        match (&element[..dash], &element[dash + 1..]) {
            (b"", count) => Some(Spec::Suffix { count: parse_saturating(count)? }),
            (first, b"") => Some(Spec::From { first: parse_saturating(first)?, last: u64::MAX }),
            (first, last) => {
                let (first, last) = (parse_saturating(first)?, parse_saturating(last)?);
                (first <= last).then_some(Spec::From { first, last })
            }
        }
    }

    fn resolve(self, len: u64) -> Resolved {
        match self {
            Spec::From { first, .. } if first >= len => Resolved::Nothing,
            Spec::From { first, last } => Resolved::Some(ByteRange { first, last: last.min(len - 1) }),
            Spec::Suffix { count: 0 } => Resolved::Nothing,
            // By RFC 9110 section 14.1.2 a suffix is satisfiable for each length. But
            // `Content-Range` cannot name zero bytes, so an empty file is sent as a 200.
            Spec::Suffix { .. } if len == 0 => Resolved::Everything,
            Spec::Suffix { count } => {
                Resolved::Some(ByteRange { first: len.saturating_sub(count), last: len - 1 })
            }
        }
    }
}

/// Value of digits. A number that is too large becomes the largest one, because an overflow would
/// send the wrong bytes.
fn parse_saturating(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

/// Merges ranges that overlap or touch (RFC 9110 section 15.3.7.2). If none do, the requested order
/// is kept: a client may need the index at the end of a file first.
fn coalesce(ranges: &mut Vec<ByteRange>) {
    if ranges.len() < 2 {
        return;
    }
    let mut merged = ranges.clone();
    merged.sort_unstable_by_key(|range| range.first);
    merged.dedup_by(|next, kept| {
        let touches = next.first <= kept.last.saturating_add(1);
        if touches {
            kept.last = kept.last.max(next.last);
        }
        touches
    });
    if merged.len() < ranges.len() {
        *ranges = merged;
    }
}

#[cfg(test)]
mod tests;
