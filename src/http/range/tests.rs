//! Tests of single and several ranges.

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
    assert!(matches!(select(list(64).as_bytes(), 1000), Selection::Several(ranges) if ranges.len() == 64));
    assert_eq!(select(list(65).as_bytes(), 1000), Selection::Whole);
    // Unsatisfiable ranges count as well, because reading them costs time.
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

/// Bytes requested, one flag for each. `None` if they are more than twice the length.
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

/// Any byte, but often one with a meaning in a range.
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
