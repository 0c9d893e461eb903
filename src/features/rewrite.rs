//! Redirects and rewrites from a file, a rule a line.
//!
//! Rules are tried from the top. `redirect` and `gone` end it; `rewrite` changes the path, and the
//! rules *below* it go on with that, so nothing here can go round in circles. What a client chose
//! goes into a target encoded, never into its host, and never as a dot segment: a rule that would
//! lead out of the folder that its line names does not match.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use percent_encoding::{AsciiSet, utf8_percent_encode};

use crate::config::{PATH_BYTES_MAX, RULES_FILE_BYTES_MAX};
use crate::docroot::pattern::{Pattern, Subject, WILDCARDS_MAX};
use crate::features::hosts::check_ascii;
use crate::handler::{Answer, Context, Handler};
use crate::http::kept_head::KeptHead;
use crate::http::target::{count_dot_segments, encode_path, normalize};
use crate::http::{Request, Status, target};
use crate::pages::error::{ErrorForm, error};

/// What is ours is not the file's to redirect: a rule for `/**` must not take the health check
/// along.
const OWN: &[u8] = b"/_whirligig/";

struct Ruled {
    rules: Rules,
    /// Answers what no rule changed.
    inner: Arc<dyn Handler>,
    /// Answers what was rewritten.
    rewritten: Arc<dyn Handler>,
}

/// `inner` behind these rules; `rewritten` answers for the paths they lead to.
pub(crate) fn around(rules: Rules, inner: Arc<dyn Handler>, rewritten: Arc<dyn Handler>) -> Arc<dyn Handler> {
    Arc::new(Ruled { rules, inner, rewritten })
}

impl Handler for Ruled {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let error_form = ErrorForm::of(request);
        let path = match normalize(request.path()) {
            Ok(path) if !path.starts_with(OWN) => path,
            Ok(_) | Err(_) => return self.inner.handle(request, cx),
        };
        match self.rules.judge(&path, request.query(), cx.limits().target_bytes_max) {
            Verdict::Same => self.inner.handle(request, cx),
            Verdict::Redirect(status, location) => {
                error(status, "this is elsewhere now", error_form).with_field("Location", location).into()
            }
            Verdict::Gone => error(Status::GONE, "this is gone and will not come back", error_form).into(),
            Verdict::TooLong => error(Status::URI_TOO_LONG, "the path became too long", error_form).into(),
            Verdict::Rewritten(target) => {
                let limits = cx.limits().clone();
                KeptHead::with_target(request, &target)
                    .with(&limits, |request| self.rewritten.handle(request, cx))
                    // It was sound before; only its length may not be any more.
                    .unwrap_or_else(|| {
                        error(Status::URI_TOO_LONG, "the path became too long", error_form).into()
                    })
            }
        }
    }
}

/// The rules of a file, in its order.
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
    /// As it was asked for.
    Same,
    /// Look there.
    Redirect(Status, Vec<u8>),
    /// Answer this target in its place.
    Rewritten(Vec<u8>),
    Gone,
    /// Wildcards that stand for much, several times.
    TooLong,
}

impl Rules {
    /// Reads the file at `path`.
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

    /// What becomes of a request for this normalised path.
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
                // To where the client is already it would be sent for ever. A fragment changes
                // nothing: clients do not send it.
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
                (true, _) => Err("a rewrite leads to a path of this server".to_owned()),
                (false, true) => Err("a rewrite has no fragment: only clients use it".to_owned()),
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
        _ => return Err("the code of a redirect is 301, 302, 303, 307 or 308".to_owned()),
    };
    let pattern = Pattern::parse(pattern)?;
    let target = Target::parse(target, pattern.wildcards())?;
    Ok(Rule { pattern, action: Action::Redirect(status, target) })
}

/// Where a rule leads: a path, or a URL elsewhere.
#[derive(Clone, Debug)]
struct Target {
    pieces: Vec<Piece>,
    is_url: bool,
    has_query: bool,
    has_fragment: bool,
    /// Dot segments that the operator wrote. More of them come from a client.
    dot_segments: usize,
}

/// Why a target cannot be used with the pieces for which its wildcards stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unfit {
    /// A wildcard would make a dot segment, and the path would lead elsewhere than the target says.
    DotSegment,
    /// Wildcards stand for much, several times.
    TooLong,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    /// What this wildcard stands for, counted from 0.
    Capture(usize),
}

impl Target {
    fn parse(text: &str, wildcards: usize) -> Result<Target, String> {
        let host_end = check_authority(text)?;
        // What is not ASCII stands for its escaped bytes, as in browsers. The host is ASCII.
        let text = &*utf8_percent_encode(text, &AsciiSet::EMPTY).to_string();
        let mut pieces = Vec::new();
        // What it comes to when every wildcard stands for one letter: judged in place of all that
        // can come of it.
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
            .map_err(|why| format!("the target is no path and no http URL: {why}"))?;
        // A fragment has the bytes of a query (RFC 3986 section 3.5).
        target::read_origin_form(format!("/?{fragment}").as_bytes())
            .map_err(|_| "the fragment of the target has a character that must be percent-encoded")?;
        normalize(target::split(path.as_bytes()).0).map_err(|trouble| trouble.to_string())?;
        let dot_segments = count_dot_segments(path.as_bytes());
        // What `/$1/..` leads to is for the wildcard to decide: with nothing in it, out of the
        // folder before it.
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

    /// The target for what the wildcards stand for; the query is kept unless the target has its
    /// own.
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
            // Behind the fragment it would be a part of that. Wildcards stand for no bare `#`.
            let end = memchr::memchr(b'#', &out).unwrap_or(out.len());
            out.splice(end..end, [b"?", query].concat());
        }
        match out.len() > bytes_max {
            true => Err(Unfit::TooLong),
            false => Ok(out),
        }
    }

    /// In a path two slashes become one: at its beginning they would lead to another host. In a
    /// query or fragment they stay.
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

/// Checks the host of a target, and returns where it ends; `None` for a path of this server.
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
    // A client must not choose the host: no wildcard in it, nor right behind it.
    if host.is_empty() || host.contains('$') || !target::check_host(host.as_bytes()) {
        return Err("the host of a target is a name, without wildcards".to_owned());
    }
    Ok(Some(scheme.len() + host.len()))
}

/// The next `$1` to `$9`, with what is before and behind it.
fn next_capture(text: &str) -> Option<(&str, usize, &str)> {
    text.match_indices('$').find_map(|(at, _)| {
        let digit = text[at + 1..].chars().next()?.to_digit(10)?;
        let number = usize::try_from(digit).ok().filter(|number| (1..=WILDCARDS_MAX).contains(number))?;
        Some((&text[..at], number, &text[at + 2..]))
    })
}

#[cfg(test)]
mod tests;
