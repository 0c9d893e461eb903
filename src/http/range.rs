//! `Range`: which bytes of a representation a request asks for (RFC 9110 section 14).
//!
//! Takes the value of the field and a length, and returns positions. It must not know about files,
//! conditions (`If-Range` is judged in `conditional.rs`, before this) or how the parts are put on
//! the wire.

use crate::http::fields::{list_elements, trim_ows};

/// Ranges one request may ask for. Each costs a part with a head of its own; nobody honest needs
/// more.
const RANGES_MAX: usize = 64;

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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(first: u64, last: u64) -> Selection {
        Selection::One(ByteRange { first, last })
    }

    fn several(ranges: &[(u64, u64)]) -> Selection {
        Selection::Several(ranges.iter().map(|&(first, last)| ByteRange { first, last }).collect())
    }

    fn check(len: u64, cases: &[(&str, Selection)]) {
        for (value, expected) in cases {
            assert_eq!(select(value.as_bytes(), len), *expected, "{value:?} of {len}");
        }
    }

    #[test]
    fn single_ranges() {
        check(
            1000,
            &[
                ("bytes=0-4", one(0, 4)),
                ("bytes=0-0", one(0, 0)),
                ("bytes=100-", one(100, 999)),
                ("bytes=0-", one(0, 999)),
                ("bytes=999-", one(999, 999)),
                ("bytes=10-99999999", one(10, 999)),
                ("bytes=10-99999999999999999999999", one(10, 999)),
                ("bytes=-1", one(999, 999)),
                ("bytes=-1000", one(0, 999)),
                ("bytes=-99999999999999999999999", one(0, 999)),
                ("BYTES=0-4", one(0, 4)),
                ("bytes=0000000000000000000000001-2", one(1, 2)),
                (" bytes=0-4\t", one(0, 4)),
                ("bytes= 0-4", one(0, 4)),
                ("bytes=,,0-4, ,", one(0, 4)),
            ],
        );
    }

    #[test]
    fn what_is_not_there_is_unsatisfiable() {
        check(
            1000,
            &[
                ("bytes=1000-", Selection::Unsatisfiable),
                ("bytes=1000-1001", Selection::Unsatisfiable),
                ("bytes=-0", Selection::Unsatisfiable),
                ("bytes=-00", Selection::Unsatisfiable),
                ("bytes=-0,5000-", Selection::Unsatisfiable),
                ("bytes=18446744073709551616-18446744073709551620", Selection::Unsatisfiable),
                ("bytes=18446744073709551615-", Selection::Unsatisfiable),
            ],
        );
    }

    #[test]
    fn bad_syntax_and_other_units_are_ignored() {
        let values = "bytes= bytes=, bytes bytes=abc bytes=10-abc bytes=5 bytes=- bytes=-- bytes=--5 bytes=4-3 \
            bytes=0-4,junk bytes=junk,0-4 bytes=0-4,4-3 bytes=0.0-4.0 bytes=+0-4 bytes=0-+4 bytes=0x0-4 bytes=1-2-3 \
            items=0-4 byte=0-4 bytess=0-4 =0-4 0-4 bytes=0-4;5-6 bytes:0-4 bytes==0-4 bytes=5000-,x";
        for value in values.split(' ') {
            assert_eq!(select(value.as_bytes(), 1000), Selection::Whole, "{value}");
        }
        let others: [&[u8]; 8] = [
            b"",
            b"bytes 0-4",
            b"bytes =0-4",
            b"bytes=0 -4",
            b"bytes=0- 4",
            b"bytes=0-4 5-6",
            b"bytes=\xff",
            b"\xff",
        ];
        for value in others {
            assert_eq!(select(value, 1000), Selection::Whole, "{value:?}");
        }
    }

    #[test]
    fn lists_keep_their_order_unless_they_overlap() {
        check(
            1000,
            &[
                ("bytes=0-4,10-14", several(&[(0, 4), (10, 14)])),
                ("bytes=10-14 ,\t0-4", several(&[(10, 14), (0, 4)])),
                ("bytes=0-0,-1", several(&[(0, 0), (999, 999)])),
                ("bytes=-1,0-0,500-501", several(&[(999, 999), (0, 0), (500, 501)])),
                ("bytes=0-4,6-9", several(&[(0, 4), (6, 9)])),
                ("bytes=0-4,5-9", one(0, 9)),
                ("bytes=5-9,0-4", one(0, 9)),
                ("bytes=0-9,5-14", one(0, 14)),
                ("bytes=0-99,5-14", one(0, 99)),
                ("bytes=50-59,0-9,5-14", several(&[(0, 14), (50, 59)])),
                ("bytes=0-,0-", one(0, 999)),
                ("bytes=0-4,99999999-", one(0, 4)),
                ("bytes=-0,0-4,2000-3000,10-", several(&[(0, 4), (10, 999)])),
            ],
        );
    }

    #[test]
    fn greed_is_answered_with_the_whole() {
        check(10, &[("bytes=0-,0-", one(0, 9)), ("bytes=0-,0-,0-0", Selection::Whole)]);
        let list = |count: usize| {
            let specs: Vec<String> = (0..count).map(|n| format!("{}-{}", 2 * n, 2 * n)).collect();
            format!("bytes={}", specs.join(","))
        };
        assert!(
            matches!(select(list(64).as_bytes(), 1000), Selection::Several(ranges) if ranges.len() == 64)
        );
        assert_eq!(select(list(65).as_bytes(), 1000), Selection::Whole);
        // Those that are not there count as well: reading them is work.
        assert_eq!(select(list(65).as_bytes(), 10), Selection::Whole);
        assert_eq!(select(format!("bytes={}0-", "0-,".repeat(49)).as_bytes(), 1000), Selection::Whole);
    }

    #[test]
    fn the_edges_of_length() {
        check(
            0,
            &[
                ("bytes=0-", Selection::Unsatisfiable),
                ("bytes=0-0", Selection::Unsatisfiable),
                ("bytes=-0", Selection::Unsatisfiable),
                ("bytes=-1", Selection::Whole),
                ("bytes=0-,-1", Selection::Whole),
            ],
        );
        check(1, &[("bytes=0-", one(0, 0)), ("bytes=-5", one(0, 0)), ("bytes=1-", Selection::Unsatisfiable)]);
        check(
            u64::MAX,
            &[
                ("bytes=0-", one(0, u64::MAX - 1)),
                ("bytes=-18446744073709551616", one(0, u64::MAX - 1)),
                ("bytes=0-,0-", one(0, u64::MAX - 1)),
                ("bytes=18446744073709551614-", one(u64::MAX - 1, u64::MAX - 1)),
                ("bytes=18446744073709551615-", Selection::Unsatisfiable),
            ],
        );
    }

    /// What was asked for, byte by byte; `None` if it goes beyond twice the length.
    fn naive(specs: &[(Option<u64>, Option<u64>)], len: u64) -> Option<Vec<bool>> {
        let mut wanted = vec![false; len as usize];
        let mut total = 0;
        for &(first, last) in specs {
            for at in 0..len {
                let hit = match (first, last) {
                    (Some(first), last) => at >= first && last.is_none_or(|last| at <= last),
                    (None, Some(count)) => at + count >= len,
                    (None, None) => false,
                };
                wanted[at as usize] |= hit;
                total += u64::from(hit);
            }
        }
        (total <= 2 * len).then_some(wanted)
    }

    fn specs() -> impl Strategy<Value = Vec<(Option<u64>, Option<u64>)>> {
        let spec = prop_oneof![
            (0..40u64, 0..40u64).prop_map(|(a, b)| (Some(a.min(b)), Some(a.max(b)))),
            (0..40u64).prop_map(|first| (Some(first), None)),
            (0..40u64).prop_map(|count| (None, Some(count))),
        ];
        proptest::collection::vec(spec, 1..6)
    }

    /// Any byte, but often one that means something in a range.
    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![proptest::sample::select(b"0123456789,- ".to_vec()), any::<u8>()]
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_model(specs in specs(), len in 1..30u64) {
            let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
            let texts: Vec<_> = specs.iter().map(|&(a, b)| format!("{}-{}", number(a), number(b))).collect();
            let selection = select(format!("bytes={}", texts.join(", ")).as_bytes(), len);
            let ranges = match (naive(&specs, len), selection) {
                (None, selection) => {
                    prop_assert_eq!(selection, Selection::Whole);
                    return Ok(());
                }
                (Some(wanted), Selection::Unsatisfiable) => {
                    prop_assert!(!wanted.contains(&true));
                    return Ok(());
                }
                (Some(_), Selection::One(range)) => vec![range],
                (Some(_), Selection::Several(ranges)) => {
                    prop_assert!(ranges.len() > 1);
                    ranges
                }
                (Some(_), Selection::Whole) => return Err(TestCaseError::fail("whole without need")),
            };
            let mut given = vec![false; len as usize];
            for range in &ranges {
                prop_assert!(range.first <= range.last && range.last < len);
                for at in range.first..=range.last {
                    prop_assert!(!given[at as usize], "sent twice");
                    given[at as usize] = true;
                }
                let touching = ranges.iter().any(|other| other.first == range.last + 1);
                prop_assert!(!touching, "should have been merged");
            }
            prop_assert_eq!(Some(given), naive(&specs, len));
        }

        #[test]
        fn any_bytes_are_survived(value in proptest::collection::vec(byte(), 0..40), len: u64) {
            let mut line = b"bytes=".to_vec();
            line.extend(value);
            if let Selection::One(range) = select(&line, len) {
                prop_assert!(range.first <= range.last && range.last < len);
            }
        }
    }
}
