//! Conditional requests: whether the client has it already, or has something else than it thinks
//! (RFC 9110 section 13).
//!
//! Compares validators with what the request says about them. It must not know how an entity-tag is
//! made, nor what is done with the verdict.

use crate::http::date::parse_http_date;
use crate::http::fields::{Fields, NameFilter, trim_ows};

/// What identifies the current state of a representation.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// The entity-tag as it stands in the `ETag` field: `"abc"` or `W/"abc"`. Empty if there is
    /// none.
    pub etag: &'a [u8],
    /// The time in `Last-Modified`, in seconds since 1970, if there is one.
    pub modified_secs: Option<u64>,
}

/// The verdict on a request's preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Carry on as if there were none; `Range` is looked at next.
    Proceed,
    /// The client has it: 304.
    NotModified,
    /// The client is mistaken about it: 412.
    Failed,
}

/// Judges the preconditions of a request for something that exists, in the order of RFC 9110
/// section 13.2.2.
///
/// Call it when the answer without conditions would be a 2xx, before `Range` is looked at. Requests
/// without any such field, which are nearly all, cost one look at the first letters of each name. A
/// date in the future cannot be one we gave out, so `If-Modified-Since` ignores it; the price of
/// being wrong is one full answer.
pub fn evaluate(
    fields: Fields<'_>,
    is_get_or_head: bool,
    validators: &Validators<'_>,
    now_secs: u64,
) -> Precondition {
    if !has_conditions(fields) {
        return Precondition::Proceed;
    }
    if fields.first("if-match").is_some() {
        if !any_tag_matches(fields, "if-match", |tag| matches_strongly(tag, validators.etag)) {
            return Precondition::Failed;
        }
    } else if let (Some(limit), Some(modified)) =
        (date(fields, "if-unmodified-since"), validators.modified_secs)
        && modified > limit
    {
        return Precondition::Failed;
    }
    if fields.first("if-none-match").is_some() {
        if any_tag_matches(fields, "if-none-match", |tag| matches_weakly(tag, validators.etag)) {
            return if is_get_or_head { Precondition::NotModified } else { Precondition::Failed };
        }
    } else if is_get_or_head
        && let (Some(since), Some(modified)) = (date(fields, "if-modified-since"), validators.modified_secs)
        && modified <= since
        && since <= now_secs
    {
        return Precondition::NotModified;
    }
    Precondition::Proceed
}

/// Judges the preconditions of a request that would create something: there is no representation
/// yet.
///
/// `If-Match` fails then whatever it says; `If-None-Match` holds, which makes `If-None-Match: *`
/// mean "only if it is new". Dates have nothing to be compared with.
pub fn evaluate_absent(fields: Fields<'_>) -> Precondition {
    match fields.first("if-match") {
        Some(_) => Precondition::Failed,
        None => Precondition::Proceed,
    }
}

/// True if a request is for a new name only: `*` in any line of `If-None-Match`.
pub fn wants_new(fields: Fields<'_>) -> bool {
    fields.all("if-none-match").any(|line| trim_ows(line) == b"*")
}

/// Whether `Range` is to be honoured, given the value of `If-Range` if there is one (RFC 9110
/// section 13.1.5).
///
/// Strong comparison only: parts of two versions must never be put together. A weak tag, another
/// date and anything unreadable are false, and the answer is then the whole representation.
pub fn range_applies(if_range: Option<&[u8]>, validators: &Validators<'_>) -> bool {
    let Some(value) = if_range.map(trim_ows) else { return true };
    match EntityTag::take(value) {
        Some((tag, [])) => matches_strongly(&tag, validators.etag),
        Some(_) => false,
        // A date is no better than the tag beside it: both are those of a moment ago (section
        // 8.8.2.2).
        None if validators.etag.starts_with(b"W/") => false,
        None => parse_http_date(value).is_some_and(|date| validators.modified_secs == Some(date)),
    }
}

/// `If-Range` among them does no harm.
const CONDITIONS: NameFilter =
    NameFilter::of(&["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"]);

fn has_conditions(fields: Fields<'_>) -> bool {
    !fields.lack(CONDITIONS)
        && fields.lines().iter().any(|line| matches!(line.name_bytes(), [b'i' | b'I', b'f' | b'F', b'-', ..]))
}

/// The date of a field that came once. A list of dates is no date (RFC 9110 section 13.1.3).
fn date(fields: Fields<'_>, name: &str) -> Option<u64> {
    let mut lines = fields.all(name);
    let value = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    parse_http_date(trim_ows(value))
}

/// Whether the lines of this name are `*` or have a tag for which the comparison holds.
fn any_tag_matches(fields: Fields<'_>, name: &str, matches: impl Fn(&EntityTag<'_>) -> bool) -> bool {
    fields.all(name).any(|line| trim_ows(line) == b"*" || entity_tags(line).any(|tag| matches(&tag)))
}

/// One entity-tag (RFC 9110 section 8.8.3).
struct EntityTag<'a> {
    is_weak: bool,
    /// With its quotes.
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Takes a tag off the front of the bytes; the rest comes with it. Backslashes escape nothing
    /// in a tag.
    fn take(value: &'a [u8]) -> Option<(EntityTag<'a>, &'a [u8])> {
        let (is_weak, quoted) = match value {
            [b'W', b'/', quoted @ ..] => (true, quoted),
            quoted => (false, quoted),
        };
        let [b'"', inner @ ..] = quoted else { return None };
        let end = memchr::memchr(b'"', inner)?;
        let (opaque, rest) = quoted.split_at(end + 2);
        Some((EntityTag { is_weak, opaque }, rest))
    }
}

/// The tags of one line. A comma inside quotes separates nothing; an element that is no tag (not
/// quoted, or with something behind it) is passed over, since it can match nothing.
fn entity_tags(line: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        loop {
            while let [b' ' | b'\t' | b',', tail @ ..] = rest {
                rest = tail;
            }
            if rest.is_empty() {
                return None;
            }
            let tag = EntityTag::take(rest);
            let behind = tag.as_ref().map_or(rest, |(_, behind)| *behind);
            let end = memchr::memchr(b',', behind).unwrap_or(behind.len());
            let (junk, next) = behind.split_at(end);
            rest = next;
            if let Some((tag, _)) = tag
                && trim_ows(junk).is_empty()
            {
                return Some(tag);
            }
        }
    })
}

/// Both strong and equal (RFC 9110 section 8.8.3.2).
fn matches_strongly(tag: &EntityTag<'_>, etag: &[u8]) -> bool {
    !tag.is_weak && tag.opaque == etag
}

/// Equal apart from weakness.
fn matches_weakly(tag: &EntityTag<'_>, etag: &[u8]) -> bool {
    tag.opaque == etag.strip_prefix(b"W/").unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use super::Precondition::{Failed, NotModified, Proceed};
    use super::*;
    use crate::http::fields::FieldLine;
    use httparse::Header;

    const MODIFIED: u64 = 784_111_777;
    const NOW: u64 = MODIFIED + 86_400;
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const FUTURE: &str = "Tue, 08 Nov 1994 08:49:38 GMT";
    const STRONG: Validators<'static> = Validators { etag: b"\"abc\"", modified_secs: Some(MODIFIED) };
    const WEAK: Validators<'static> = Validators { etag: b"W/\"abc\"", modified_secs: Some(MODIFIED) };
    const NONE: Validators<'static> = Validators { etag: b"", modified_secs: None };

    /// Evaluates lines written as `name: value`.
    fn verdict(lines: &[&str], is_get_or_head: bool, validators: &Validators<'_>) -> Precondition {
        let headers: Vec<FieldLine<'_>> = lines
            .iter()
            .map(|line| line.split_once(": ").expect("a line has a colon"))
            .map(|(name, value)| Header { name, value: value.as_bytes() }.into())
            .collect();
        evaluate(Fields::new(&headers), is_get_or_head, validators, NOW)
    }

    fn check(is_get_or_head: bool, validators: &Validators<'_>, cases: &[(&[&str], Precondition)]) {
        for (lines, expected) in cases {
            assert_eq!(verdict(lines, is_get_or_head, validators), *expected, "{lines:?} {validators:?}");
        }
    }

    /// What the filter says of itself: a browser's request for a file is not taken for a
    /// conditional one.
    #[test]
    fn what_browsers_send_is_not_taken_for_a_condition() {
        let range = NameFilter::of(&["range"]);
        let sent = "Host User-Agent Accept Accept-Language Accept-Encoding Connection Upgrade-Insecure-Requests \
                    Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Priority Cookie Cache-Control Referer \
                    DNT TE Pragma sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform Sec-GPC Origin";
        let line = |name| Header { name, value: b"x" }.into();
        for name in sent.split_whitespace() {
            assert!(!CONDITIONS.may_have(&line(name)) && !range.may_have(&line(name)), "{name}");
        }
        assert!(CONDITIONS.may_have(&line("IF-RANGE")) && range.may_have(&line("Range")));
    }

    #[test]
    fn requests_without_conditions_proceed() {
        let cases: &[(&[&str], Precondition)] = &[
            (&[], Proceed),
            (&["Host: a", "If: x", "I: x", "Range: bytes=0-4"], Proceed),
            (&["If-Range: \"other\""], Proceed),
            (&["If-None-Matches: *", "If-Matc: \"x\""], Proceed),
        ];
        check(true, &STRONG, cases);
        check(false, &NONE, cases);
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let cases: &[(&[&str], Precondition)] = &[
            (&["If-None-Match: \"abc\""], NotModified),
            (&["if-NONE-match: W/\"abc\""], NotModified),
            (&["If-None-Match: *"], NotModified),
            (&["If-None-Match:  * "], NotModified),
            (&["If-None-Match: \"a\",\"abc\",\"b\""], NotModified),
            (&["If-None-Match: \"a\" ,\t\"abc\" , \"b\""], NotModified),
            (&["If-None-Match: ,, \"abc\""], NotModified),
            (&["If-None-Match: \"a,b\", \"abc\""], NotModified),
            (&["If-None-Match: \"a\\\", \"abc\""], NotModified),
            (&["If-None-Match: \"a\"", "If-None-Match: \"abc\""], NotModified),
            (&["If-None-Match: junk, \"abc\""], NotModified),
            (&["If-None-Match: \"a\"junk, \"abc\""], NotModified),
            (&["If-None-Match: \"\""], Proceed),
            (&["If-None-Match: "], Proceed),
            (&["If-None-Match: \"ABC\""], Proceed),
            (&["If-None-Match: \"abcd\""], Proceed),
            (&["If-None-Match: abc"], Proceed),
            (&["If-None-Match: 'abc'"], Proceed),
            (&["If-None-Match: \"abc"], Proceed),
            (&["If-None-Match: abc\""], Proceed),
            (&["If-None-Match: w/\"abc\""], Proceed),
            (&["If-None-Match: W/ \"abc\""], Proceed),
            (&["If-None-Match: \"abc\"x"], Proceed),
            (&["If-None-Match: x\"abc\""], Proceed),
            (&["If-None-Match: \"x,\"abc\",y\""], Proceed),
            (&["If-None-Match: \"a, \"abc\""], Proceed),
            (&["If-None-Match: **"], Proceed),
        ];
        check(true, &STRONG, cases);
        check(true, &WEAK, cases);
    }

    #[test]
    fn if_none_match_on_other_methods_fails() {
        let cases: &[(&[&str], Precondition)] = &[
            (&["If-None-Match: \"abc\""], Failed),
            (&["If-None-Match: *"], Failed),
            (&["If-None-Match: \"other\""], Proceed),
        ];
        check(false, &STRONG, cases);
    }

    #[test]
    fn if_match_compares_strongly() {
        let cases: &[(&[&str], Precondition)] = &[
            (&["If-Match: \"abc\""], Proceed),
            (&["If-Match: *"], Proceed),
            (&["If-Match: \"a\", \"abc\""], Proceed),
            (&["If-Match: \"a\"", "If-Match: \"abc\""], Proceed),
            (&["If-Match: W/\"abc\""], Failed),
            (&["If-Match: \"other\""], Failed),
            (&["If-Match: abc"], Failed),
            (&["If-Match: "], Failed),
        ];
        check(true, &STRONG, cases);
        check(false, &STRONG, cases);
        let weak: &[(&[&str], Precondition)] = &[
            (&["If-Match: \"abc\""], Failed),
            (&["If-Match: W/\"abc\""], Failed),
            (&["If-Match: *"], Proceed),
        ];
        check(true, &WEAK, weak);
        check(true, &NONE, &[(&["If-Match: \"\""], Failed), (&["If-None-Match: \"\""], Proceed)]);
    }

    #[test]
    fn dates_are_compared_to_the_second() {
        let ims = |date: &str| format!("If-Modified-Since: {date}");
        let ius = |date: &str| format!("If-Unmodified-Since: {date}");
        let cases: &[(String, Precondition)] = &[
            (ims(SAME), NotModified),
            (ims(AFTER), NotModified),
            (ims(BEFORE), Proceed),
            (ims("Sunday, 06-Nov-94 08:49:37 GMT"), NotModified),
            (ims("Sun Nov  6 08:49:37 1994"), NotModified),
            (ims(" Sun, 06 Nov 1994 08:49:37 GMT\t"), NotModified),
            (ims(FUTURE), Proceed),
            (ims("yesterday"), Proceed),
            (ims(""), Proceed),
            (ims(&format!("{SAME}, {SAME}")), Proceed),
            (ius(SAME), Proceed),
            (ius(AFTER), Proceed),
            (ius(FUTURE), Proceed),
            (ius(BEFORE), Failed),
            (ius("yesterday"), Proceed),
        ];
        for (line, expected) in cases {
            assert_eq!(verdict(&[line], true, &STRONG), *expected, "{line}");
            assert_eq!(verdict(&[line], true, &NONE), Proceed, "{line}");
            let other_method = if *expected == NotModified { Proceed } else { *expected };
            assert_eq!(verdict(&[line], false, &STRONG), other_method, "{line}");
        }
        assert_eq!(verdict(&[&ims(SAME), &ims(SAME)], true, &STRONG), Proceed);
        assert_eq!(verdict(&[&ius(BEFORE), &ius(BEFORE)], true, &STRONG), Proceed);
    }

    #[test]
    fn tags_beat_dates_and_if_match_comes_first() {
        let ims_same = format!("If-Modified-Since: {SAME}");
        let ius_before = format!("If-Unmodified-Since: {BEFORE}");
        let cases: &[(&[&str], Precondition)] = &[
            (&["If-None-Match: \"other\"", &ims_same], Proceed),
            (&[&ims_same, "If-None-Match: \"other\""], Proceed),
            (&["If-None-Match: junk", &ims_same], Proceed),
            (&["If-Match: \"abc\"", &ius_before], Proceed),
            (&["If-Match: \"other\"", "If-None-Match: \"abc\""], Failed),
            (&["If-None-Match: \"abc\"", "If-Match: \"abc\""], NotModified),
            (&["If-Match: \"abc\"", &ims_same], NotModified),
            (&[&ius_before, "If-None-Match: \"abc\""], Failed),
            (&[&ius_before, &ims_same], Failed),
        ];
        check(true, &STRONG, cases);
    }

    #[test]
    fn nothing_there_yet_fails_if_match_only() {
        let cases = [("If-Match", Failed), ("If-None-Match", Proceed), ("If-Unmodified-Since", Proceed)];
        for (name, expected) in cases {
            let headers = [Header { name, value: b"*" }.into()];
            assert_eq!(evaluate_absent(Fields::new(&headers)), expected, "{name}");
        }
        assert_eq!(evaluate_absent(Fields::new(&[])), Proceed);
    }

    #[test]
    fn if_range_is_strong_and_exact() {
        let cases: &[(Option<&str>, bool)] = &[
            (None, true),
            (Some("\"abc\""), true),
            (Some(" \"abc\" "), true),
            (Some(SAME), true),
            (Some("Sun Nov  6 08:49:37 1994"), true),
            (Some(BEFORE), false),
            (Some(AFTER), false),
            (Some("W/\"abc\""), false),
            (Some("\"other\""), false),
            (Some("\"abc\", \"other\""), false),
            (Some("\"abc\"x"), false),
            (Some("\"abc"), false),
            (Some("abc"), false),
            (Some("*"), false),
            (Some("what"), false),
            (Some(""), false),
        ];
        for (value, expected) in cases {
            let value = value.map(str::as_bytes);
            assert_eq!(range_applies(value, &STRONG), *expected, "{value:?}");
            assert_eq!(range_applies(value, &NONE), value.is_none(), "{value:?}");
        }
        assert!(!range_applies(Some(b"\"abc\""), &WEAK));
        assert!(!range_applies(Some(b"W/\"abc\""), &WEAK));
        assert!(!range_applies(Some(SAME.as_bytes()), &WEAK));
        assert!(range_applies(None, &WEAK));
    }
}
