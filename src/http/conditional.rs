//! Conditional requests (RFC 9110 section 13).
//!
//! The client may have the current representation already, or may assume another one. This file
//! compares validators with those of the request. It must not know how an entity-tag is made, or
//! which response follows.

use crate::http::date::parse_http_date;
use crate::http::field_lines::{NameFilter, ReceivedHeaders, trim_ows};
use crate::http::method::Method;

/// Validators of the current state of a representation.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// Entity-tag as in the `ETag` header: `"abc"` or `W/"abc"`. Empty if there is none.
    pub etag: &'a [u8],
    /// Time in `Last-Modified`, in seconds since 1970. `None` if there is none.
    pub modified_secs: Option<u64>,
}

/// Result of the preconditions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Continue as without preconditions; `Range` is next.
    Proceed,
    /// The client has the representation: 304.
    NotModified,
    /// The client assumes another state: 412.
    Failed,
}

/// Evaluates the preconditions of a request for an existing representation, in the order of RFC
/// 9110 section 13.2.2.
///
/// Call this if the response without conditions would be a 2xx, and before `Range` is evaluated.
/// For the many requests without conditions, this costs one test of a filter. A date in the future
/// cannot come from this server, so `If-Modified-Since` ignores it. An error there costs one full
/// response.
pub fn evaluate(
    headers: ReceivedHeaders<'_>,
    method: Method<'_>,
    validators: &Validators<'_>,
    now_secs: u64,
) -> Precondition {
    if !has_conditions(headers) {
        return Precondition::Proceed;
    }
    let is_get_or_head = matches!(method, Method::Get | Method::Head);
    if headers.first("if-match").is_some() {
        if !any_tag_matches(headers, "if-match", |tag| matches_strongly(tag, validators.etag)) {
            return Precondition::Failed;
        }
    } else if let (Some(limit), Some(modified)) =
        (date(headers, "if-unmodified-since"), validators.modified_secs)
        && modified > limit
    {
        return Precondition::Failed;
    }
    if headers.first("if-none-match").is_some() {
        if any_tag_matches(headers, "if-none-match", |tag| matches_weakly(tag, validators.etag)) {
            return if is_get_or_head { Precondition::NotModified } else { Precondition::Failed };
        }
    } else if is_get_or_head
        && let (Some(since), Some(modified)) = (date(headers, "if-modified-since"), validators.modified_secs)
        && modified <= since
        && since <= now_secs
    {
        return Precondition::NotModified;
    }
    Precondition::Proceed
}

/// Evaluates the preconditions of a request that would create a representation.
///
/// `If-Match` always fails. `If-None-Match` always holds, so `If-None-Match: *` means "only if it
/// is new". Dates are ignored, because there is no date to compare them with.
pub fn evaluate_absent(headers: ReceivedHeaders<'_>) -> Precondition {
    match headers.first("if-match") {
        Some(_) => Precondition::Failed,
        None => Precondition::Proceed,
    }
}

/// True if a request is for a new name only: `*` in any line of `If-None-Match`.
pub fn wants_new(headers: ReceivedHeaders<'_>) -> bool {
    headers.all("if-none-match").any(|line| trim_ows(line) == b"*")
}

/// True if `Range` applies, given the value of `If-Range` (RFC 9110 section 13.1.5).
///
/// The comparison is strong, because parts of two versions must never be put together. For a weak
/// tag, another date or a malformed value, the response is the whole representation.
pub fn range_applies(if_range: Option<&[u8]>, validators: &Validators<'_>) -> bool {
    let Some(value) = if_range.map(trim_ows) else { return true };
    match EntityTag::take(value) {
        Some((tag, [])) => matches_strongly(&tag, validators.etag),
        Some(_) => false,
        // With a weak tag, the date is weak as well, because both describe a change of a moment ago
        // (section 8.8.2.2).
        None if validators.etag.starts_with(b"W/") => false,
        None => parse_http_date(value).is_some_and(|date| validators.modified_secs == Some(date)),
    }
}

/// Names of the conditional headers. A request with `If-Range` alone is evaluated for nothing,
/// which does no harm.
const CONDITIONS: NameFilter =
    NameFilter::of(&["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"]);

fn has_conditions(headers: ReceivedHeaders<'_>) -> bool {
    !headers.lack(CONDITIONS)
        && headers
            .lines()
            .iter()
            .any(|line| matches!(line.name_bytes(), [b'i' | b'I', b'f' | b'F', b'-', ..]))
}

/// Date of a header that occurs once. A list of dates is not a date (RFC 9110 section 13.1.3).
fn date(headers: ReceivedHeaders<'_>, name: &str) -> Option<u64> {
    let mut lines = headers.all(name);
    let value = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    parse_http_date(trim_ows(value))
}

/// True if a line with this name is `*` or contains a tag for which `matches` holds.
fn any_tag_matches(
    headers: ReceivedHeaders<'_>,
    name: &str,
    matches: impl Fn(&EntityTag<'_>) -> bool,
) -> bool {
    headers.all(name).any(|line| trim_ows(line) == b"*" || entity_tags(line).any(|tag| matches(&tag)))
}

/// One entity-tag (RFC 9110 section 8.8.3).
struct EntityTag<'a> {
    is_weak: bool,
    /// Tag with its quotes.
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Parses the tag at the start of `value`, and returns it with the rest. A backslash does not
    /// escape anything in a tag.
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

/// Tags of one line. A comma inside quotes does not separate. An element that is not a tag (not
/// quoted, or with more bytes after the quote) is skipped, because it cannot match.
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

/// True if both tags are strong and equal (RFC 9110 section 8.8.3.2).
fn matches_strongly(tag: &EntityTag<'_>, etag: &[u8]) -> bool {
    !tag.is_weak && tag.opaque == etag
}

/// True if the tags are equal apart from weakness.
fn matches_weakly(tag: &EntityTag<'_>, etag: &[u8]) -> bool {
    tag.opaque == etag.strip_prefix(b"W/").unwrap_or(etag)
}

#[cfg(test)]
mod tests;
