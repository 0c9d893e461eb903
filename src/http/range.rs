//! `Range`: which bytes of a representation a request asks for (RFC 9110 section 14).
//!
//! Takes the value of the field and a length, and returns positions. It must not know about files,
//! conditions (`If-Range` is judged in `conditional.rs`, before this) or how the parts are put on
//! the wire.

use crate::http::fields::{list_elements, trim_ows};

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Everything, as a 200: the field is to be ignored (another unit, bad syntax, or too costly).
    Whole,
    /// A 206 with `Content-Range`.
    One(ByteRange),
    /// A 206 with `multipart/byteranges`: at least two, none touching another, in the order asked
    /// for unless some had to be merged.
    Several(Vec<ByteRange>),
    /// A 416 with `Content-Range: bytes */len`: the syntax is right and nothing of it is there.
    Unsatisfiable,
}

/// Positions of some bytes, both inclusive, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte, counted from 0.
    pub first: u64,
    /// The last byte, not before the first and below the length.
    pub last: u64,
}

impl ByteRange {
    /// How many bytes these are; never 0. (2^64 of them would be one too many for the type; no
    /// length is that big.)
    pub fn byte_count(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// Judges a `Range` value for a representation of `len` bytes. Call it for GET only, after the
/// preconditions.
///
/// A server may ignore the field whenever it likes (RFC 9110 section 14.2), which is the answer to
/// whatever is malformed, and to requests that would have us send more than twice what is there.
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

/// Ranges one request may ask for. Each costs a part with a head of its own; nobody honest needs
/// more.
const RANGES_MAX: usize = 64;

/// What follows `bytes=`, if that is what the value begins with.
fn range_set(value: &[u8]) -> Option<&[u8]> {
    const UNIT: &[u8] = b"bytes=";
    let (unit, set) = value.split_at_checked(UNIT.len())?;
    unit.eq_ignore_ascii_case(UNIT).then_some(set)
}

/// One element of the list, before the length is known (RFC 9110 section 14.1.1).
enum Spec {
    /// `first-` and `first-last`; an open end is the greatest number there is.
    From { first: u64, last: u64 },
    /// `-count`: the end of the representation.
    Suffix { count: u64 },
}

enum Resolved {
    Some(ByteRange),
    /// Not satisfiable; other elements may be.
    Nothing,
    /// Satisfiable, but of an empty representation: there are no positions to speak of.
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
            // RFC 9110 section 14.1.2 calls a suffix satisfiable whatever the length, but
            // Content-Range cannot name zero bytes, so an empty file is sent as a 200.
            Spec::Suffix { .. } if len == 0 => Resolved::Everything,
            Spec::Suffix { count } => {
                Resolved::Some(ByteRange { first: len.saturating_sub(count), last: len - 1 })
            }
        }
    }
}

/// Digits only. A number too big for us is as good as the biggest: wrapping round would send the
/// wrong bytes.
fn parse_saturating(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

/// Merges ranges that overlap or touch (RFC 9110 section 15.3.7.2). Where none does, the order
/// asked for stays: a client may want the index at the end of a file before the rest.
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
