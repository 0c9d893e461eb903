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
mod tests;
