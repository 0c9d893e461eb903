//! Header rules of the operator, by path, and the headers that a file gets from them.
//!
//! A rule replaces a header of the server. It does not change a header that a script or handler
//! set. Rules match the path of the served file (`/a/index.html` for a request of `/a/`) and then
//! the requested path; other responses match the requested path only.
//!
//! Must not know how responses are produced.

use std::sync::Arc;

use crate::config::{HeaderRule, HeaderScope};
use crate::docroot::area_of;
use crate::docroot::pattern::{Pattern, Subject};
use crate::docroot::types::check_media_type;
use crate::handler::extras::OnStatus;
use crate::http::field_lines::is_token;
use crate::http::headers::{Headers, How, is_framing, is_repeated};

/// Headers that the server derives from the content. A rule for one of them could contradict the
/// content.
const TAKEN: [&str; 6] =
    ["accept-ranges", "content-encoding", "content-range", "etag", "last-modified", "www-authenticate"];

/// Header with the media type of a file. A rule for it applies to files only, because a plain text
/// error must not become a page.
const TYPE: &str = "content-type";

/// Header that restricts pages. If a response has two policies, browsers enforce both.
const POLICY: &str = "content-security-policy";

/// Header rules of the operator, by path.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeaderRules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pattern: Pattern,
    pub(crate) name: String,
    pub(crate) value: String,
    scope: HeaderScope,
    pub(crate) how: How,
}

impl Rule {
    fn is_about_type(&self) -> bool {
        self.name.eq_ignore_ascii_case(TYPE)
    }
}

/// Headers of one file.
#[derive(Debug, Default)]
pub(crate) struct FileHeaders {
    /// Path-dependent headers of the server, and headers from rules.
    pub(crate) all: Headers,
    /// Headers from rules.
    pub(crate) ruled: Arc<Headers>,
}

impl HeaderRules {
    /// Compiles rules. If several rules set the same header for a path, the last one wins. `areas`
    /// are the folders that accept uploads, as normalized paths without a trailing slash.
    ///
    /// # Errors
    /// The reason why a rule cannot be used.
    pub(crate) fn new(rules: &[HeaderRule], areas: &[String]) -> Result<Self, String> {
        let read = |given: &HeaderRule| {
            // A configuration can be built in code, where rules are not checked.
            let HeaderRule { pattern, name, value, scope } =
                rule(&given.pattern, &given.name, &given.value, given.scope)
                    .map_err(|why| format!("header '{}': {why}", given.name.escape_debug()))?;
            let pattern = Pattern::parse(&pattern)?;
            let how = match scope {
                HeaderScope::Found => How::SetUnlessNoStore,
                HeaderScope::All if name.eq_ignore_ascii_case(POLICY) && !names_area(&pattern, areas) => {
                    How::BesideSandbox
                }
                HeaderScope::All => How::Set,
            };
            Ok(Rule { pattern, name, value, scope, how })
        };
        Ok(HeaderRules { rules: rules.iter().map(read).collect::<Result<_, String>>()? })
    }

    /// Headers for a file of this path: those from rules, and those of `defaults` that no rule
    /// replaces.
    pub(crate) fn headers_for(&self, path: &[u8], defaults: &[(&str, &str)]) -> FileHeaders {
        let (mut all, mut ruled) = (Headers::new(), Headers::new());
        for (name, value) in defaults {
            all.set(name, value.as_bytes());
        }
        for (rule, on) in self.counting(path) {
            if on != OnStatus::Failure {
                all.put(rule.how, rule.name.as_bytes(), rule.value.as_bytes());
                ruled.set(&rule.name, rule.value.as_bytes());
            }
        }
        FileHeaders { all, ruled: Arc::new(ruled) }
    }

    /// Media type that a rule sets for a file of this path.
    pub(crate) fn media_type_for(&self, path: &[u8]) -> Option<&str> {
        let subject = Subject::of(path);
        let mut rules = self.rules.iter().rev().filter(|rule| rule.is_about_type());
        rules.find(|rule| rule.pattern.matches(&subject)).map(|rule| &rule.value[..])
    }

    /// Rules that apply to this path, in order, each with the statuses it applies to.
    pub(crate) fn counting(&self, path: &[u8]) -> Vec<(&Rule, OnStatus)> {
        let subject = Subject::of(path);
        // Backwards, because the last rule wins.
        let mut counting: Vec<(&Rule, OnStatus)> = Vec::new();
        for rule in self.rules.iter().rev().filter(|rule| !rule.is_about_type()) {
            let has_later = |scope| {
                let is_same = |later: &Rule| later.name.eq_ignore_ascii_case(&rule.name);
                let is_later = |(later, _): &(&Rule, OnStatus)| later.scope == scope && is_same(later);
                !is_repeated(rule.name.as_bytes()) && counting.iter().any(is_later)
            };
            let on = match rule.scope {
                _ if has_later(HeaderScope::All) => continue,
                // Error responses keep the value for errors even if a later rule applies to files.
                HeaderScope::All if has_later(HeaderScope::Found) => OnStatus::Failure,
                HeaderScope::All => OnStatus::Any,
                HeaderScope::Found if has_later(HeaderScope::Found) => continue,
                HeaderScope::Found => OnStatus::Success,
            };
            if rule.pattern.matches(&subject) {
                counting.push((rule, on));
            }
        }
        counting.reverse();
        counting
    }
}

/// Returns true if the pattern text names a folder that accepts uploads, or a folder below one.
/// `/**` names none: a policy for all pages is not meant for files that clients wrote.
fn names_area(pattern: &Pattern, areas: &[String]) -> bool {
    pattern.folder().is_some_and(|folder| !folder.is_empty() && area_of(areas, folder).is_some())
}

/// Parses `PATTERN: Name: value`.
pub(crate) fn parse_header_rule(text: &str) -> Result<HeaderRule, String> {
    let form = || "not of the form 'PATTERN: Name: value'".to_owned();
    let (pattern, field) = text.split_once(": ").ok_or_else(form)?;
    let (name, value) = field.split_once(':').ok_or_else(form)?;
    rule(pattern, name, value, HeaderScope::All)
}

/// Parses `PATTERN: value`, a rule for `Cache-Control`.
pub(crate) fn parse_cache_rule(text: &str) -> Result<HeaderRule, String> {
    let (pattern, value) =
        text.split_once(": ").ok_or_else(|| "not of the form 'PATTERN: value'".to_owned())?;
    rule(pattern, "Cache-Control", value, HeaderScope::Found)
}

pub(crate) fn rule(pattern: &str, name: &str, value: &str, scope: HeaderScope) -> Result<HeaderRule, String> {
    let (pattern, name, value) = (pattern.trim(), name.trim(), value.trim());
    Pattern::parse(pattern)?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("the header name is not a token".to_owned());
    }
    if is_framing(name.as_bytes()) || TAKEN.iter().any(|taken| name.eq_ignore_ascii_case(taken)) {
        return Err(format!("{name} is set by the server"));
    }
    // An empty value is nearly always a mistake, for example a missing name.
    if value.is_empty() || value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err("the value is empty or has control characters".to_owned());
    }
    if name.eq_ignore_ascii_case(TYPE) {
        check_media_type(value)?;
    }
    Ok(HeaderRule { pattern: pattern.into(), name: name.into(), value: value.into(), scope })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rules: &[&str], path: &str) -> String {
        let rules: Vec<_> = rules.iter().map(|text| parse_header_rule(text).unwrap()).collect();
        String::from_utf8(
            HeaderRules::new(&rules, &[]).unwrap().headers_for(path.as_bytes(), &[]).all.as_bytes().to_vec(),
        )
        .unwrap()
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
    fn a_pattern_names_a_folder_for_uploads_by_its_text() {
        let areas = |list: &[&str]| list.iter().map(|area| (*area).to_owned()).collect::<Vec<_>>();
        for (pattern, list, names) in [
            ("/in/**", &["/in"][..], true),
            ("/in/", &["/in"], true),
            ("/in", &["/in"], true),
            ("/in/a/*.html", &["/in"], true),
            ("/in/page.html", &["/other", "/in"], true),
            ("/in%20x/**", &["/in x"], true),
            ("/in*", &["/in"], false),
            ("/in*/**", &["/in"], false),
            ("/inner/**", &["/in"], false),
            ("/**", &["/in"], false),
            ("/**/in/**", &["/in"], false),
            ("*.html", &["/in"], false),
            ("*/in/**", &["/in"], false),
            ("/**", &[""], false),
            ("/*", &[""], false),
            ("/sub/**", &[""], true),
            ("/in/**", &[], false),
        ] {
            assert_eq!(
                names_area(&Pattern::parse(pattern).unwrap(), &areas(list)),
                names,
                "{pattern} {list:?}"
            );
        }
    }

    #[test]
    fn rules_are_read_strictly() {
        let field = |pattern: &str, name: &str, value: &str, scope| {
            Ok(HeaderRule { pattern: pattern.into(), name: name.into(), value: value.into(), scope })
        };
        assert_eq!(parse_header_rule("/a: X-B:  c: d "), field("/a", "X-B", "c: d", HeaderScope::All));
        let cached = field("*.css", "Cache-Control", "max-age=1", HeaderScope::Found);
        assert_eq!(parse_cache_rule("*.css: max-age=1"), cached);
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
            "/a: Content-Type: text",
            "/a: content-type: a/b\tc",
            "/a: Content-Encoding: gzip",
        ] {
            assert!(parse_header_rule(bad).is_err(), "{bad}");
        }
        assert!(parse_cache_rule("max-age=1").is_err());
    }
}
