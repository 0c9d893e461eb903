//! Field lines by path: what the operator wants said beside what the server says.
//!
//! For a file the path that counts is the file's own (`/a/index.html` where `/a/` was asked for), for all else the
//! one that was asked for. Only this file knows the rules; it must not know how answers are made.

use std::sync::Arc;

use super::pattern::{Pattern, Subject};
use crate::config::FieldRule;
use crate::handler::{Answer, Context, Handler, When};
use crate::http::body::is_token;
use crate::http::headers::{Headers, is_framing, is_repeated};
use crate::http::{Request, target};

/// Headers that the server derives from the content. A rule for one of them would contradict the
/// content.
const TAKEN: [&str; 7] = [
    "accept-ranges",
    "content-encoding",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
    "www-authenticate",
];

/// Rules that say which field lines go with which paths.
#[derive(Clone, Debug, Default)]
pub struct FieldRules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    name: String,
    value: String,
}

impl FieldRules {
    /// Reads rules; where several say the same field for one path, the last of them counts.
    ///
    /// # Errors
    /// The reason why a rule cannot be used.
    pub fn new(rules: &[FieldRule]) -> Result<Self, String> {
        let read = |given: &FieldRule| {
            // A configuration need not come from the command line, where rules are checked.
            let FieldRule { pattern, name, value } = rule(&given.pattern, &given.name, &given.value)
                .map_err(|why| format!("header '{}': {why}", given.name.escape_debug()))?;
            Ok(Rule { pattern: Pattern::parse(&pattern)?, name, value })
        };
        Ok(FieldRules { rules: rules.iter().map(read).collect::<Result<_, String>>()? })
    }

    /// The field lines for a file of this path, each with its CRLF.
    #[must_use]
    pub fn lines_for(&self, path: &[u8]) -> Vec<u8> {
        self.lines_with(path, &[])
    }

    /// The header lines for a file of this path, with those of `defaults` that no rule replaces.
    pub(crate) fn lines_with(&self, path: &[u8], defaults: &[(&str, &str)]) -> Vec<u8> {
        let mut headers = Headers::new();
        for (name, value) in defaults {
            headers.set(name, value.as_bytes());
        }
        for rule in self.counting(path) {
            headers.set(&rule.name, rule.value.as_bytes());
        }
        headers.as_bytes().to_vec()
    }

    /// The rules that count for this path, in their order.
    fn counting(&self, path: &[u8]) -> Vec<&Rule> {
        let subject = Subject::of(path);
        // From the end, as the last one counts.
        let mut counting: Vec<&Rule> = Vec::new();
        for rule in self.rules.iter().rev() {
            let is_said = counting.iter().any(|later| later.name.eq_ignore_ascii_case(&rule.name));
            if (!is_said || is_repeated(rule.name.as_bytes())) && rule.pattern.matches(&subject) {
                counting.push(rule);
            }
        }
        counting.reverse();
        counting
    }
}

impl Rule {
    /// Which responses have the header.
    fn when(&self) -> When {
        // An error must not be kept for as long as the file that is missing.
        if self.name.eq_ignore_ascii_case("cache-control") { When::Success } else { When::Always }
    }
}

struct Fields {
    rules: FieldRules,
    inner: Arc<dyn Handler>,
}

/// `inner`, with the fields of these rules on its answers.
pub(super) fn around(rules: FieldRules, inner: Arc<dyn Handler>) -> Arc<dyn Handler> {
    Arc::new(Fields { rules, inner })
}

impl Handler for Fields {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        // What cannot be normalised gets an error, which may have its fields, too.
        let path = target::normalize(request.path()).unwrap_or(request.path().into());
        for rule in self.rules.counting(&path) {
            cx.set_path_field(rule.when(), rule.name.as_bytes(), rule.value.as_bytes());
        }
        self.inner.handle(request, cx)
    }
}

/// `PATTERN: Name: value`.
pub(crate) fn parse_field_rule(text: &str) -> Result<FieldRule, String> {
    let form = || "not of the form 'PATTERN: Name: value'".to_owned();
    let (pattern, field) = text.split_once(": ").ok_or_else(form)?;
    let (name, value) = field.split_once(':').ok_or_else(form)?;
    rule(pattern, name, value)
}

/// `PATTERN: value`, for `Cache-Control`.
pub(crate) fn parse_cache_rule(text: &str) -> Result<FieldRule, String> {
    let (pattern, value) =
        text.split_once(": ").ok_or_else(|| "not of the form 'PATTERN: value'".to_owned())?;
    rule(pattern, "Cache-Control", value)
}

pub(crate) fn rule(pattern: &str, name: &str, value: &str) -> Result<FieldRule, String> {
    let (pattern, name, value) = (pattern.trim(), name.trim(), value.trim());
    Pattern::parse(pattern)?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("the field name is not a token".to_owned());
    }
    if is_framing(name.as_bytes()) || TAKEN.iter().any(|taken| name.eq_ignore_ascii_case(taken)) {
        return Err(format!("{name} is for the server to say"));
    }
    // Also when a name is forgotten: an empty value is nearly always a mistake.
    if value.is_empty() || value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err("the value is empty or has control characters".to_owned());
    }
    Ok(FieldRule { pattern: pattern.into(), name: name.into(), value: value.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rules: &[&str], path: &str) -> String {
        let rules: Vec<_> = rules.iter().map(|text| parse_field_rule(text).unwrap()).collect();
        String::from_utf8(FieldRules::new(&rules).unwrap().lines_for(path.as_bytes())).unwrap()
    }

    #[test]
    fn the_last_rule_that_fits_counts_for_each_field() {
        let rules = [
            "/**: X-A: all",
            "/**: cache-control: no-cache",
            "*.css: Cache-Control: max-age=60",
            "/x/**: x-a:x",
            "/**: Vary: A",
            "/x/**: Vary: B",
        ];
        assert_eq!(lines(&rules, "/a"), "X-A: all\r\ncache-control: no-cache\r\nVary: A\r\n");
        assert_eq!(lines(&rules, "/x/a.css"), "Cache-Control: max-age=60\r\nx-a: x\r\nVary: A, B\r\n");
        assert_eq!(lines(&[], "/"), "");
    }

    #[test]
    fn rules_are_read_strictly() {
        let field = |pattern: &str, name: &str, value: &str| {
            Ok(FieldRule { pattern: pattern.into(), name: name.into(), value: value.into() })
        };
        assert_eq!(parse_field_rule("/a: X-B:  c: d "), field("/a", "X-B", "c: d"));
        assert_eq!(parse_cache_rule("*.css: max-age=1"), field("*.css", "Cache-Control", "max-age=1"));
        for bad in [
            "",
            "/a",
            "/a: X-B",
            "/a: X B: c",
            "/a: X-B:",
            "/a: X-B: c\r\nX-C: d",
            "/a: X-B: \u{7f}",
            "/a: : c",
            "a/b: X-B: c",
            "/a: Content-Length: 3",
            "/a: transfer-encoding: chunked",
            "/a: Connection: close",
            "/a: Date: now",
        ] {
            assert!(parse_field_rule(bad).is_err(), "{bad}");
        }
        assert!(parse_cache_rule("max-age=1").is_err());
    }
}
