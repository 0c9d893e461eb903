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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample;

    fn judged(rules: &str, path: &str, query: Option<&str>) -> String {
        let rules = Rules::parse(rules).unwrap_or_else(|why| panic!("{rules}: {why}"));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        match rules.judge(path.as_bytes(), query.map(str::as_bytes), 100) {
            Verdict::Same => "same".into(),
            Verdict::Gone => "gone".into(),
            Verdict::TooLong => "too long".into(),
            Verdict::Redirect(status, location) => format!("{} {}", status.code(), text(location)),
            Verdict::Rewritten(target) => text(target),
        }
    }

    #[test]
    fn the_first_redirect_ends_it_and_rewrites_go_on() {
        let rules = "
            # comment
            redirect 301 /old/** /new/$1
            redirect /two/*/* /$2/$1?fixed
            redirect 308 /out/** https://example.org/in/$1
            gone /gone/**
            rewrite /app/** /index.html?page=$1
            rewrite /a/* /b/$1
            rewrite /b/* /c/$1/
            redirect 307 /c/end/ /the-end
            redirect /loop/** /loop/$1
            redirect /login/** /in//?to=http://host//$1&also=//x
            redirect /part/* /new#$1
            redirect /parts/** /new//?b#//x$1
            redirect /café/** /bücher/$1?für#ö
            redirect /host https://a.example#top
            redirect /here /here#top
            redirect /hier/é /hier/%C3%A9#top
            rewrite /lesen/* /bücher/$1?für
        ";
        for (path, query, expected) in [
            ("/else", None, "same"),
            ("/old/x y/z", None, "301 /new/x%20y/z"),
            ("/old/x", Some("q=1"), "301 /new/x?q=1"),
            ("/two/a/b", Some("q=1"), "302 /b/a?fixed"),
            ("/out/p", Some(""), "308 https://example.org/in/p?"),
            ("/gone/", None, "gone"),
            ("/app/x/y", Some("q"), "/index.html?page=x/y"),
            ("/a/x", Some("q"), "/c/x/?q"),
            ("/b/x", None, "/c/x/"),
            ("/a/end", None, "307 /the-end"),
            ("/loop/x", Some("q"), "same"),
            ("/login/a/b", None, "302 /in/?to=http://host//a/b&also=//x"),
            ("/part/1", None, "302 /new#1"),
            ("/part/a#b%?", Some("q=1"), "302 /new?q=1#a%23b%25%3F"),
            ("/parts/a/b", Some("q=1"), "302 /new/?b#//xa/b"),
            ("/café/x", None, "302 /b%C3%BCcher/x?f%C3%BCr#%C3%B6"),
            ("/host", Some("q"), "302 https://a.example?q#top"),
            ("/here", None, "same"),
            ("/hier/é", Some("q"), "same"),
            ("/lesen/x", None, "/b%C3%BCcher/x?f%C3%BCr"),
        ] {
            assert_eq!(judged(rules, path, query), expected, "{path}");
        }
        let long = "rewrite /** /$1/$1/$1\nrewrite /** /$1/$1/$1\nrewrite /** /$1/$1/$1";
        assert_eq!(judged(long, "/aaaaaa", None), "too long");
    }

    #[test]
    fn no_wildcard_leads_to_another_host_or_line() {
        for (rules, path, expected) in [
            ("redirect /a** /$1", "/a/evil.example", "302 /evil.example"),
            ("redirect /a** $1x", "/a", "error"),
            ("redirect /** /$1", "/\\evil.example", "same"),
            ("redirect /x/** /$1", "/x/\\evil.example", "302 /%5Cevil.example"),
            ("redirect /x/** /$1", "/x/a\r\nSet-Cookie: b", "302 /a%0D%0ASet-Cookie:%20b"),
            ("redirect /x/** /y?z=$1", "/x/a&b#c?d", "302 /y?z=a%26b%23c%3Fd"),
            ("redirect /x/** https://a.example/$1", "/x/.../@evil", "302 https://a.example/.../@evil"),
            ("rewrite /x/** /y/$1", "/x/a?b", "/y/a%3Fb"),
        ] {
            match Rules::parse(rules) {
                Ok(_) => assert_eq!(judged(rules, path, None), expected, "{rules} {path}"),
                Err(_) => assert_eq!(expected, "error", "{rules}"),
            }
        }
    }

    /// A piece of a name may be a dot or two, and a target may put a slash on both sides of it.
    #[test]
    fn no_wildcard_makes_a_dot_segment() {
        for (rules, path, expected) in [
            ("rewrite /img-*/** /images/$1/$2", "/img-a/b", "/images/a/b"),
            ("rewrite /img-*/** /images/$1/$2", "/img-/b", "/images/b"),
            ("rewrite /img-*/** /images/$1/$2", "/img-.../b", "/images/.../b"),
            ("rewrite /img-*/** /images/$1/$2", "/img-..a/b", "/images/..a/b"),
            ("rewrite /img-*/** /images/$1/$2", "/img-%2e%2e/b", "/images/%252e%252e/b"),
            ("rewrite /img-*/** /images/$1/$2", "/img-../private/x", "same"),
            ("rewrite /img-*/** /images/$1/$2", "/img-./x", "same"),
            ("rewrite /img-** /images/$1", "/img-../private/x", "same"),
            ("rewrite *-x /images/$1/y", "/a/..-x", "same"),
            ("rewrite /*-*/x /a/$1$2/y", "/.-./x", "same"),
            ("rewrite /a*/x /b/.$1/y", "/a./x", "same"),
            ("rewrite /a*/x /b/.$1/y", "/a/x", "same"),
            ("rewrite /a*/x /b/.$1/y", "/ab/x", "/b/.b/y"),
            ("rewrite /a*/x /b/%2E$1/y", "/a./x", "same"),
            ("rewrite /a*/x /b/$1%2e", "/a./x", "same"),
            ("rewrite /a* /b/$1", "/a..", "same"),
            ("rewrite /a* /b/x.$1", "/a.", "/b/x.."),
            ("rewrite /a/** /b/../c/$1", "/a/x", "/c/x"),
            ("rewrite /a-** /b/../c/$1", "/a-..", "same"),
            ("redirect /a-*/** /b/$1/$2", "/a-../x", "same"),
            ("redirect /a-*/** https://b.example/c/$1/$2", "/a-../x", "same"),
            ("redirect /a-* /b?c=/$1/d", "/a-..", "302 /b?c=/../d"),
            // The rules below go on.
            ("rewrite /a-*/** /b/$1/$2\ngone /a-../**", "/a-../x", "gone"),
        ] {
            assert_eq!(judged(rules, path, None), expected, "{rules} {path}");
        }
    }

    proptest! {
        #[test]
        fn rewrites_stay_in_the_folder_of_their_target(
            path in "/[ab.]{0,3}-?([.%2e/-]|ab){0,12}",
            rule in sample::select(vec![
                "/*-* /in/$1/$2",
                "/** /in/$1",
                "/a** /in/$1",
                "/*-** /in/.$1/.$2",
                "/**-** /in/$1/$2./x",
                "*.* /in/x/$1$2",
                "/*.*/** /in/$1$2/$3",
            ]),
        ) {
            let rules = Rules::parse(&format!("rewrite {rule}")).unwrap();
            let Ok(asked) = normalize(path.as_bytes()) else { return Ok(()) };
            match rules.judge(&asked, None, 1000) {
                Verdict::Same => {}
                Verdict::Rewritten(target) => {
                    let normal = normalize(&target).unwrap();
                    prop_assert!(normal.starts_with(b"/in/"), "{path} {}", target.escape_ascii());
                    prop_assert_eq!(count_dot_segments(&target), 0);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn redirects_and_rewrites_take_no_longer_path_than_a_file_has() {
        let rules =
            Rules::parse("redirect /r/** /s\nrewrite /w/** /v\ngone /g/**\nrewrite /x/** /r/$1").unwrap();
        let path =
            |start: &str, bytes: usize| format!("{start}{}", "x".repeat(bytes - start.len())).into_bytes();
        let judge = |path: &[u8]| rules.judge(path, None, 16_384);
        assert_eq!(judge(&path("/r/", PATH_BYTES_MAX)), Verdict::Redirect(Status::FOUND, b"/s".to_vec()));
        assert_eq!(judge(&path("/w/", PATH_BYTES_MAX)), Verdict::Rewritten(b"/v".to_vec()));
        for start in ["/r/", "/w/", "/x/"] {
            assert_eq!(judge(&path(start, PATH_BYTES_MAX + 1)), Verdict::Same, "{start}");
        }
        // A way that was closed stays closed: a program's path may have anything behind its name.
        for bytes in [PATH_BYTES_MAX, PATH_BYTES_MAX + 1, 3 * PATH_BYTES_MAX] {
            assert_eq!(judge(&path("/g/", bytes)), Verdict::Gone);
        }
        // A target that stands for much, many times, is given up before it is much.
        let long = Rules::parse(&format!("rewrite /** /{}", "$1".repeat(10_000))).unwrap();
        assert_eq!(long.judge(&path("/", PATH_BYTES_MAX), None, 16_384), Verdict::TooLong);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line() {
        for (line, why) in [
            (
                "redirect /a",
                "not 'redirect [CODE] PATTERN TARGET', 'rewrite PATTERN TARGET' or 'gone PATTERN'",
            ),
            ("redirect 200 /a /b", "the code of a redirect is 301, 302, 303, 307 or 308"),
            ("redirect /a //evil.example/", "a target with two slashes is another host"),
            ("redirect /* https://$1/", "the host of a target is a name, without wildcards"),
            ("redirect /* https://a.example$1", "the host of a target is a name, without wildcards"),
            ("redirect /* https:///x", "the host of a target is a name, without wildcards"),
            ("redirect /* /$2", "$2: the pattern has 1 wildcards"),
            (
                "redirect /a b",
                "the target is no path and no http URL: the target does not begin with a slash",
            ),
            (
                "redirect /a javascript:x",
                "the target is no path and no http URL: the target does not begin with a slash",
            ),
            ("redirect /a /b\\c", "the target is no path and no http URL: the target has a backslash"),
            ("redirect /** /b/$1/../c", "the target has a dot segment behind a wildcard"),
            ("rewrite /** /b/.$1/%2E%2e", "the target has a dot segment behind a wildcard"),
            ("rewrite /** /b/../$1/.", "the target has a dot segment behind a wildcard"),
            ("redirect /a /b#c#d", "the fragment of the target has a character that must be percent-encoded"),
            ("redirect /** //evil.example#$1", "a target with two slashes is another host"),
            ("redirect /* https://a.example$1#b", "the host of a target is a name, without wildcards"),
            ("redirect /a https://#b", "the host of a target is a name, without wildcards"),
            (
                "redirect /a https://b\u{fc}cher.example/",
                "a name outside ASCII is written as browsers send it, with xn--: xn--mller-kva.example for \
                 m\u{fc}ller.example",
            ),
            ("rewrite /a /b#c", "a rewrite has no fragment: only clients use it"),
            ("rewrite /a https://b.example/", "a rewrite leads to a path of this server"),
            ("rewrite /a /b%2fc", "the path has an encoded slash"),
            ("gone a/b", "a pattern with a slash begins with one"),
        ] {
            let error = Rules::parse(&format!("# one\n\n{line}\n")).unwrap_err();
            assert_eq!(error, format!("line 3: {why}"), "{line}");
        }
    }
}
