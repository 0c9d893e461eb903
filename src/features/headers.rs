//! Headers by path: rules of the operator.
//!
//! A rule replaces the server's own header, and leaves a header of a script or a handler alone. For
//! a file the path that counts is the file's own (`/a/index.html` where `/a/` was asked for), and
//! behind it the one that was asked for, which counts for all else. Only this file knows the rules;
//! it must not know how responses are made.

use std::sync::Arc;

use crate::config::{FieldRule, FieldScope};
use crate::docroot::pattern::{Pattern, Subject};
use crate::docroot::types::check_media_type;
use crate::features::upload::area_of;
use crate::handler::{Answer, Context, Handler, On};
use crate::http::fields::is_token;
use crate::http::headers::{Headers, How, is_framing, is_repeated};
use crate::http::{Request, target};

/// Headers that the server derives from the content. A rule for one of them would contradict the
/// content.
const TAKEN: [&str; 6] =
    ["accept-ranges", "content-encoding", "content-range", "etag", "last-modified", "www-authenticate"];

/// The type of a file's content. A rule for it applies to files alone: an error in plain text
/// must not become a page.
const TYPE: &str = "content-type";

/// A policy that forbids what a page may do. Of two of them both count.
const POLICY: &str = "content-security-policy";

/// Rules of the operator for headers, by path.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldRules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    name: String,
    value: String,
    scope: FieldScope,
    how: How,
}

impl Rule {
    fn is_about_type(&self) -> bool {
        self.name.eq_ignore_ascii_case(TYPE)
    }
}

/// Headers of a file.
#[derive(Debug, Default)]
pub(crate) struct FileHeaders {
    /// Those of the server that depend on the path, and those of the rules.
    pub(crate) all: Headers,
    /// Those of the rules.
    pub(crate) ruled: Arc<Headers>,
}

impl FieldRules {
    /// Reads rules. If several rules give the same header to one path, the last of them counts.
    /// `areas` are the folders that take uploads, as normalised paths without a slash at the end.
    ///
    /// # Errors
    /// The reason why a rule cannot be used.
    pub(crate) fn new(rules: &[FieldRule], areas: &[String]) -> Result<Self, String> {
        let read = |given: &FieldRule| {
            // A configuration need not come from the command line, where rules are checked.
            let FieldRule { pattern, name, value, scope } =
                rule(&given.pattern, &given.name, &given.value, given.scope)
                    .map_err(|why| format!("header '{}': {why}", given.name.escape_debug()))?;
            let pattern = Pattern::parse(&pattern)?;
            let how = match scope {
                FieldScope::Found => How::SetUnlessNoStore,
                FieldScope::All if name.eq_ignore_ascii_case(POLICY) && !names_area(&pattern, areas) => {
                    How::BesideSandbox
                }
                FieldScope::All => How::Set,
            };
            Ok(Rule { pattern, name, value, scope, how })
        };
        Ok(FieldRules { rules: rules.iter().map(read).collect::<Result<_, String>>()? })
    }

    /// The headers for a file of this path, and those of `defaults` that no rule replaces.
    pub(crate) fn headers_for(&self, path: &[u8], defaults: &[(&str, &str)]) -> FileHeaders {
        let (mut all, mut ruled) = (Headers::new(), Headers::new());
        for (name, value) in defaults {
            all.set(name, value.as_bytes());
        }
        for (rule, on) in self.counting(path) {
            if on != On::Failure {
                all.put(rule.how, rule.name.as_bytes(), rule.value.as_bytes());
                ruled.set(&rule.name, rule.value.as_bytes());
            }
        }
        FileHeaders { all, ruled: Arc::new(ruled) }
    }

    /// The media type of a file of this path, if a rule gives it one.
    pub(crate) fn media_type_for(&self, path: &[u8]) -> Option<&str> {
        let subject = Subject::of(path);
        let mut rules = self.rules.iter().rev().filter(|rule| rule.is_about_type());
        rules.find(|rule| rule.pattern.matches(&subject)).map(|rule| &rule.value[..])
    }

    /// The rules that count for this path, in their order, and the statuses for which they do.
    fn counting(&self, path: &[u8]) -> Vec<(&Rule, On)> {
        let subject = Subject::of(path);
        // From the end, as the last one counts.
        let mut counting: Vec<(&Rule, On)> = Vec::new();
        for rule in self.rules.iter().rev().filter(|rule| !rule.is_about_type()) {
            let has_later = |scope| {
                let is_same = |later: &Rule| later.name.eq_ignore_ascii_case(&rule.name);
                let is_later = |(later, _): &(&Rule, On)| later.scope == scope && is_same(later);
                !is_repeated(rule.name.as_bytes()) && counting.iter().any(is_later)
            };
            let on = match rule.scope {
                _ if has_later(FieldScope::All) => continue,
                // An error has the value for errors, whatever counts for files.
                FieldScope::All if has_later(FieldScope::Found) => On::Failure,
                FieldScope::All => On::Always,
                FieldScope::Found if has_later(FieldScope::Found) => continue,
                FieldScope::Found => On::Success,
            };
            if rule.pattern.matches(&subject) {
                counting.push((rule, on));
            }
        }
        counting.reverse();
        counting
    }
}

/// True if the text of the pattern names a folder that takes uploads, or one below it. `/**` names
/// none: a policy for all pages is not meant for files that clients wrote.
fn names_area(pattern: &Pattern, areas: &[String]) -> bool {
    pattern.folder().is_some_and(|folder| !folder.is_empty() && area_of(areas, folder).is_some())
}

struct Fields {
    rules: FieldRules,
    inner: Arc<dyn Handler>,
}

/// `inner`, with the fields of these rules on its answers.
pub(crate) fn around(rules: FieldRules, inner: Arc<dyn Handler>) -> Arc<dyn Handler> {
    Arc::new(Fields { rules, inner })
}

impl Handler for Fields {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        // What cannot be normalised gets an error, which may have its fields, too.
        let path = target::normalize(request.path()).unwrap_or(request.path().into());
        for (rule, on) in self.rules.counting(&path) {
            cx.set_path_field(rule.how, on, &rule.name, &rule.value);
        }
        self.inner.handle(request, cx)
    }
}

/// `PATTERN: Name: value`.
pub(crate) fn parse_field_rule(text: &str) -> Result<FieldRule, String> {
    let form = || "not of the form 'PATTERN: Name: value'".to_owned();
    let (pattern, field) = text.split_once(": ").ok_or_else(form)?;
    let (name, value) = field.split_once(':').ok_or_else(form)?;
    rule(pattern, name, value, FieldScope::All)
}

/// `PATTERN: value`, for `Cache-Control`.
pub(crate) fn parse_cache_rule(text: &str) -> Result<FieldRule, String> {
    let (pattern, value) =
        text.split_once(": ").ok_or_else(|| "not of the form 'PATTERN: value'".to_owned())?;
    rule(pattern, "Cache-Control", value, FieldScope::Found)
}

pub(crate) fn rule(pattern: &str, name: &str, value: &str, scope: FieldScope) -> Result<FieldRule, String> {
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
    if name.eq_ignore_ascii_case(TYPE) {
        check_media_type(value)?;
    }
    Ok(FieldRule { pattern: pattern.into(), name: name.into(), value: value.into(), scope })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rules: &[&str], path: &str) -> String {
        let rules: Vec<_> = rules.iter().map(|text| parse_field_rule(text).unwrap()).collect();
        String::from_utf8(
            FieldRules::new(&rules, &[]).unwrap().headers_for(path.as_bytes(), &[]).all.as_bytes().to_vec(),
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
            Ok(FieldRule { pattern: pattern.into(), name: name.into(), value: value.into(), scope })
        };
        assert_eq!(parse_field_rule("/a: X-B:  c: d "), field("/a", "X-B", "c: d", FieldScope::All));
        let cached = field("*.css", "Cache-Control", "max-age=1", FieldScope::Found);
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
            assert!(parse_field_rule(bad).is_err(), "{bad}");
        }
        assert!(parse_cache_rule("max-age=1").is_err());
    }
}
