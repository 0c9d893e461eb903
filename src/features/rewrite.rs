//! Redirects and rewrites from a file with one rule per line.
//!
//! Rules are tried from top to bottom. `redirect` and `gone` end the search. `rewrite` changes the
//! path, and the search continues with the rules *below* it, so rules cannot loop.
//!
//! Text that a client chose is encoded in a target. It is never part of the host and never becomes
//! a dot segment: a rule that would leave the folder that its line names does not match.
//!
//! Must not know which handler serves a rewritten path.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use percent_encoding::{AsciiSet, utf8_percent_encode};

use crate::config::{PATH_BYTES_MAX, RULES_FILE_BYTES_MAX};
use crate::docroot::pattern::{Pattern, Subject, WILDCARDS_MAX};
use crate::features::hosts::check_ascii;
use crate::handler::{Answer, Context, Handler};
use crate::http::kept_head::KeptHead;
use crate::http::target::{self, count_dot_segments, encode_path, normalize};
use crate::http::{Request, Response, Status};

/// Prefix of the server's own paths. Rules do not apply there, so a rule for `/**` cannot redirect
/// the health check.
const OWN: &[u8] = b"/_whirligig/";

struct Ruled {
    rules: Rules,
    /// Handles requests that no rule changed.
    inner: Arc<dyn Handler>,
    /// Handles rewritten requests.
    rewritten: Arc<dyn Handler>,
}

/// Wraps `inner` in these rules; `rewritten` handles rewritten requests.
pub(crate) fn wrap(rules: Rules, inner: Arc<dyn Handler>, rewritten: Arc<dyn Handler>) -> Arc<dyn Handler> {
    Arc::new(Ruled { rules, inner, rewritten })
}

impl Handler for Ruled {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let path = match normalize(request.path()) {
            Ok(path) if !path.starts_with(OWN) => path,
            Ok(_) | Err(_) => return self.inner.handle(request, cx),
        };
        match self.rules.judge(&path, request.query(), cx.limits().target_bytes_max) {
            Verdict::Same => self.inner.handle(request, cx),
            Verdict::Redirect(status, location) => {
                Response::problem(status, "the resource has moved").with_header("Location", location).into()
            }
            Verdict::Gone => Response::problem(Status::GONE, "the resource was removed permanently").into(),
            Verdict::TooLong => {
                Response::problem(Status::URI_TOO_LONG, "the rewritten path is too long").into()
            }
            Verdict::Rewritten(target) => {
                let limits = cx.limits().clone();
                KeptHead::with_target(request, &target)
                    .with(&limits, |request| {
                        cx.note_rewrite();
                        self.rewritten.handle(request, cx)
                    })
                    // The request was valid before, so only its length can be wrong now.
                    .unwrap_or_else(|| {
                        Response::problem(Status::URI_TOO_LONG, "the rewritten path is too long").into()
                    })
            }
        }
    }
}

/// Rules of a file, in file order.
#[derive(Clone, Debug)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Redirect(Status, Target),
    Rewrite(Target),
    Gone,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// No rule applies.
    Same,
    /// Redirect to this location.
    Redirect(Status, Vec<u8>),
    /// Handle the request with this target instead.
    Rewritten(Vec<u8>),
    Gone,
    /// The target exceeds the limit, because it repeats long captures.
    TooLong,
}

impl Rules {
    /// Reads the rules file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Rules, String> {
        use std::io::Read;
        let named = |why: String| format!("--rules '{}': {why}", path.display());
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|error| named(error.to_string()))?;
        let read = file.take(RULES_FILE_BYTES_MAX + 1).read_to_string(&mut text);
        read.map_err(|error| named(error.to_string()))?;
        if text.len() as u64 > RULES_FILE_BYTES_MAX {
            return Err(named(format!("more than {RULES_FILE_BYTES_MAX} bytes")));
        }
        Rules::parse(&text).map_err(named)
    }

    fn parse(text: &str) -> Result<Rules, String> {
        let mut rules = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.first().is_none_or(|first| first.starts_with('#')) {
                continue;
            }
            rules.push(parse_rule(&words).map_err(|why| format!("line {}: {why}", at + 1))?);
        }
        Ok(Rules(rules))
    }

    /// Applies the rules to a request for this normalized path.
    fn judge(&self, asked: &[u8], query: Option<&[u8]>, bytes_max: usize) -> Verdict {
        let mut subject = Subject::of(asked);
        let mut query = query.map(Cow::Borrowed);
        let mut is_rewritten = false;
        for rule in &self.0 {
            let target = match &rule.action {
                Action::Gone if rule.pattern.matches(&subject) => return Verdict::Gone,
                Action::Redirect(_, target) | Action::Rewrite(target)
                    if subject.path().len() <= PATH_BYTES_MAX =>
                {
                    target
                }
                Action::Gone | Action::Redirect(..) | Action::Rewrite(_) => continue,
            };
            let Some(captures) = rule.pattern.captures(&subject) else { continue };
            let expanded = match target.expand(&captures, query.as_deref(), bytes_max) {
                Ok(expanded) => expanded,
                Err(Unfit::DotSegment) => continue,
                Err(Unfit::TooLong) => return Verdict::TooLong,
            };
            if let Action::Redirect(status, _) = rule.action {
                // A redirect to the requested path itself would loop. The fragment does not matter,
                // because clients do not send it.
                let end = memchr::memchr2(b'?', b'#', &expanded).unwrap_or(expanded.len());
                if normalize(&expanded[..end]).is_ok_and(|path| path == asked) {
                    continue;
                }
                return Verdict::Redirect(status, expanded);
            }
            let (next_path, next_query) = target::split(&expanded);
            let Ok(next_path) = normalize(next_path) else { continue };
            query = next_query.map(|query| query.to_vec().into());
            subject = Subject::of(next_path.into_owned());
            is_rewritten = true;
        }
        if !is_rewritten {
            return Verdict::Same;
        }
        let mut target = encoded(subject.path());
        if let Some(query) = query {
            target.push(b'?');
            target.extend_from_slice(&query);
        }
        Verdict::Rewritten(target)
    }
}

fn encoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    encode_path(path, &mut out);
    out
}

fn parse_rule(words: &[&str]) -> Result<Rule, String> {
    match *words {
        ["redirect", pattern, target] => redirect("302", pattern, target),
        ["redirect", code, pattern, target] => redirect(code, pattern, target),
        ["rewrite", pattern, target] => {
            let pattern = Pattern::parse(pattern)?;
            let target = Target::parse(target, pattern.wildcards())?;
            match (target.is_url, target.has_fragment) {
                (true, _) => Err("the target of a rewrite must be a path of this server".to_owned()),
                (false, true) => {
                    Err("the target of a rewrite must not have a fragment: only clients use it".to_owned())
                }
                (false, false) => Ok(Rule { pattern, action: Action::Rewrite(target) }),
            }
        }
        ["gone", pattern] => Ok(Rule { pattern: Pattern::parse(pattern)?, action: Action::Gone }),
        _ => {
            Err("not 'redirect [CODE] PATTERN TARGET', 'rewrite PATTERN TARGET' or 'gone PATTERN'".to_owned())
        }
    }
}

fn redirect(code: &str, pattern: &str, target: &str) -> Result<Rule, String> {
    let status = match code {
        "301" => Status::MOVED_PERMANENTLY,
        "302" => Status::FOUND,
        "303" => Status::SEE_OTHER,
        "307" => Status::TEMPORARY_REDIRECT,
        "308" => Status::PERMANENT_REDIRECT,
        _ => return Err("the code of a redirect must be 301, 302, 303, 307 or 308".to_owned()),
    };
    let pattern = Pattern::parse(pattern)?;
    let target = Target::parse(target, pattern.wildcards())?;
    Ok(Rule { pattern, action: Action::Redirect(status, target) })
}

/// Target of a rule: a path, or a URL of another site.
#[derive(Clone, Debug)]
struct Target {
    pieces: Vec<Piece>,
    is_url: bool,
    has_query: bool,
    has_fragment: bool,
    /// Number of dot segments that the operator wrote. Additional ones come from a client.
    dot_segments: usize,
}

/// Reasons why a target cannot be used with the given captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unfit {
    /// A capture would create a dot segment, so the path would leave the folder of the target.
    DotSegment,
    /// The target exceeds the limit, because it repeats long captures.
    TooLong,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    /// Text that this wildcard captured, counted from 0.
    Capture(usize),
}

impl Target {
    fn parse(text: &str, wildcards: usize) -> Result<Target, String> {
        let host_end = check_authority(text)?;
        // Characters outside ASCII are percent-encoded, as in browsers. The host is ASCII.
        let text = &*utf8_percent_encode(text, &AsciiSet::EMPTY).to_string();
        let mut pieces = Vec::new();
        // The target with one letter for each wildcard. It is validated on behalf of all possible
        // targets.
        let mut sample = String::new();
        let mut rest = text;
        while let Some((before, number, behind)) = next_capture(rest) {
            if number > wildcards {
                return Err(format!("${number}: the pattern has {wildcards} wildcards"));
            }
            sample.extend([before, "x"]);
            pieces.extend([Piece::Text(before.into()), Piece::Capture(number - 1)]);
            rest = behind;
        }
        sample.push_str(rest);
        pieces.push(Piece::Text(rest.into()));
        let tail = &sample[host_end.unwrap_or(0)..];
        let (path, fragment) = tail.split_once('#').unwrap_or((tail, ""));
        let path = match host_end {
            Some(_) if !path.starts_with('/') => format!("/{path}"),
            Some(_) | None => path.to_owned(),
        };
        target::read_origin_form(path.as_bytes())
            .map_err(|why| format!("the target must be a path or an http URL: {why}"))?;
        // A fragment has the bytes of a query (RFC 3986 section 3.5).
        target::read_origin_form(format!("/?{fragment}").as_bytes())
            .map_err(|_| "the fragment of the target has a character that must be percent-encoded")?;
        normalize(target::split(path.as_bytes()).0).map_err(|error| error.to_string())?;
        let dot_segments = count_dot_segments(path.as_bytes());
        // An empty capture in `/$1/..` would leave the folder before it.
        let before = next_capture(text).map_or(text, |(before, _, _)| before);
        let before = before.rfind('/').map_or("", |slash| &before[..slash]);
        if pieces.len() > 1 && count_dot_segments(before.as_bytes()) < dot_segments {
            return Err("the target has a dot segment behind a wildcard".to_owned());
        }
        let has_query = path.contains('?');
        Ok(Target {
            pieces,
            is_url: host_end.is_some(),
            has_query,
            has_fragment: text.contains('#'),
            dot_segments,
        })
    }

    /// Inserts the captures. The query of the request is kept unless the target has its own.
    fn expand(&self, captures: &[&[u8]], query: Option<&[u8]>, bytes_max: usize) -> Result<Vec<u8>, Unfit> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => self.push(text.as_bytes(), &mut out),
                Piece::Capture(number) => {
                    self.push(&encoded(captures.get(*number).copied().unwrap_or_default()), &mut out);
                }
            }
            if out.len() > bytes_max {
                return Err(Unfit::TooLong);
            }
        }
        if count_dot_segments(&out) > self.dot_segments {
            return Err(Unfit::DotSegment);
        }
        if let Some(query) = query.filter(|_| !self.has_query) {
            // The query must precede the fragment. Captures never contain a bare `#`.
            let end = memchr::memchr(b'#', &out).unwrap_or(out.len());
            out.splice(end..end, [b"?", query].concat());
        }
        match out.len() > bytes_max {
            true => Err(Unfit::TooLong),
            false => Ok(out),
        }
    }

    /// Appends bytes and merges repeated slashes of a path: at its start, two slashes would name
    /// another host. In a query or fragment they are kept.
    fn push(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut is_path = !self.is_url && memchr::memchr2(b'?', b'#', out).is_none();
        for &byte in bytes {
            is_path &= !matches!(byte, b'?' | b'#');
            if !is_path || byte != b'/' || out.last() != Some(&b'/') {
                out.push(byte);
            }
        }
    }
}

/// Validates the host of a target and returns the offset of its end; `None` for a path of this
/// server.
fn check_authority(text: &str) -> Result<Option<usize>, String> {
    let Some(scheme) = ["http://", "https://"].iter().find(|scheme| text.starts_with(**scheme)) else {
        return match text.starts_with("//") {
            true => Err("a target with two slashes is another host".to_owned()),
            false => Ok(None),
        };
    };
    let url = &text[scheme.len()..];
    let host = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    check_ascii(host)?;
    // A client must not choose the host, so neither the host nor the first byte after it may be a
    // wildcard.
    if host.is_empty() || host.contains('$') || !target::check_host(host.as_bytes()) {
        return Err("the host of a target must be a name without wildcards".to_owned());
    }
    Ok(Some(scheme.len() + host.len()))
}

/// Finds the next `$1` to `$9` and returns the text before it, its number, and the text after it.
fn next_capture(text: &str) -> Option<(&str, usize, &str)> {
    text.match_indices('$').find_map(|(at, _)| {
        let digit = text[at + 1..].chars().next()?.to_digit(10)?;
        let number = usize::try_from(digit).ok().filter(|number| (1..=WILDCARDS_MAX).contains(number))?;
        Some((&text[..at], number, &text[at + 2..]))
    })
}

#[cfg(test)]
mod tests;
