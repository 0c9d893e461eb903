//! Cookies on the client: which are stored, and which are sent with a request (RFC 6265bis sections
//! 5.6 to 5.8).
//!
//! Time is an argument, and a request is its host, path and whether it goes over TLS. There is no
//! list of public suffixes. So a cookie for a whole domain is accepted from the hosts in it only if
//! the domain contains a dot. This file must not know connections.

use std::time::Duration;

use crate::http::date::{month_of, unix_secs_of};

/// Store of cookies.
///
/// ```
/// use std::time::Duration;
/// use whirligig::client::jar::{Jar, RequestUri};
///
/// let mut jar = Jar::new();
/// let now = Duration::from_secs(100);
/// let uri = RequestUri { host: "a.test", path: "/in/x", secure: false };
/// jar.store(uri, b"id=1; Path=/; Max-Age=10; HttpOnly", now);
/// jar.store(uri, b"deep=2", now);
/// assert_eq!(jar.field(uri, now).as_deref(), Some("deep=2; id=1"));
/// assert_eq!(jar.field(RequestUri { path: "/", ..uri }, now).as_deref(), Some("id=1"));
/// assert_eq!(jar.field(RequestUri { host: "b.test", ..uri }, now), None);
/// assert_eq!(jar.field(RequestUri { path: "/", ..uri }, Duration::from_secs(110)), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Jar {
    kept: Vec<Kept>,
}

impl Jar {
    /// An empty jar.
    #[must_use]
    pub fn new() -> Self {
        Jar::default()
    }

    /// Number of cookies, expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Stores the cookie in the value of a `Set-Cookie` header that came from `uri` at `now`, the
    /// time since 1970. Cookies that a browser would ignore are ignored.
    pub fn store(&mut self, uri: RequestUri<'_>, set_cookie: &[u8], now: Duration) {
        let Some(kept) = std::str::from_utf8(set_cookie).ok().and_then(|text| Kept::parse(text, uri, now))
        else {
            return;
        };
        // An attacker who can change plain HTTP must not replace a cookie that came over TLS, or
        // add one beside it (section 5.7).
        let is_alive = |old: &Kept| old.expires.is_none_or(|expires| expires > now);
        if !uri.secure && self.kept.iter().any(|old| is_alive(old) && kept.would_shadow(old)) {
            return;
        }
        self.kept.retain(|old| {
            let same = old.name == kept.name && old.domain == kept.domain && old.path == kept.path;
            !same && is_alive(old)
        });
        if kept.expires.is_some_and(|expires| expires <= now) {
            return;
        }
        if self.kept.len() >= COOKIES_MAX
            && let Some((soonest, _)) =
                self.kept.iter().enumerate().min_by_key(|(_, old)| old.expires.unwrap_or(Duration::MAX))
        {
            self.kept.remove(soonest);
        }
        self.kept.push(kept);
    }

    /// Value of the `Cookie` header for a request to `uri` at `now`. Longer paths come first (RFC
    /// 6265bis section 5.8.3).
    #[must_use]
    pub fn field(&self, uri: RequestUri<'_>, now: Duration) -> Option<String> {
        let mut fitting: Vec<&Kept> = self.kept.iter().filter(|kept| kept.fits(uri, now)).collect();
        fitting.sort_by_key(|kept| std::cmp::Reverse(kept.path.len()));
        let pairs: Vec<String> = fitting.iter().map(|kept| format!("{}={}", kept.name, kept.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

/// Properties of a request that decide which cookies are sent with it.
#[derive(Clone, Copy, Debug)]
pub struct RequestUri<'a> {
    /// Host, in lower case, without a port.
    pub host: &'a str,
    /// Path, without the query.
    pub path: &'a str,
    /// True if the request goes over TLS.
    pub secure: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    name: String,
    value: String,
    domain: String,
    /// True for a cookie of that host alone, not of the hosts below it.
    host_only: bool,
    path: String,
    secure: bool,
    /// Time since 1970. `None` for a cookie that lasts as long as the jar.
    expires: Option<Duration>,
}

impl Kept {
    fn parse(text: &str, uri: RequestUri<'_>, now: Duration) -> Option<Kept> {
        if text.chars().any(|char| char.is_control() && char != '\t') {
            return None;
        }
        let mut pieces = text.split(';').map(str::trim);
        let (name, value) = pieces.next()?.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.len() + value.len() > COOKIE_BYTES_MAX {
            return None;
        }
        let mut kept = Kept {
            name: name.to_owned(),
            value: value.to_owned(),
            domain: uri.host.to_owned(),
            host_only: true,
            path: default_path(uri.path).to_owned(),
            secure: false,
            expires: None,
        };
        // `Max-Age` overrides `Expires`, in any order (section 5.6.3).
        let (mut max_age, mut names_path) = (None, false);
        for piece in pieces {
            let (attribute, value) = piece.split_once('=').unwrap_or((piece, ""));
            let (attribute, value) = (attribute.trim(), value.trim());
            if attribute.eq_ignore_ascii_case("expires") {
                kept.expires = parse_date(value.as_bytes()).map(Duration::from_secs).or(kept.expires);
            } else if attribute.eq_ignore_ascii_case("max-age") {
                max_age = value.parse::<i64>().ok().or(max_age);
            } else if attribute.eq_ignore_ascii_case("domain") {
                let domain = value.strip_prefix('.').unwrap_or(value).to_ascii_lowercase();
                if domain.is_empty() {
                    continue;
                }
                if !is_within(uri.host, &domain) || (domain != uri.host && !domain.contains('.')) {
                    return None;
                }
                (kept.host_only, kept.domain) = (false, domain);
            } else if attribute.eq_ignore_ascii_case("path") && value.starts_with('/') {
                names_path = true;
                kept.path = value.to_owned();
            } else if attribute.eq_ignore_ascii_case("secure") {
                kept.secure = true;
            }
        }
        if let Some(seconds) = max_age {
            kept.expires = Some(
                u64::try_from(seconds)
                    .map_or(Duration::ZERO, |seconds| now.saturating_add(Duration::from_secs(seconds))),
            );
        }
        let is_promised = !kept.name.starts_with("__Secure-") || kept.secure;
        let is_hosts = !kept.name.starts_with("__Host-")
            || (kept.secure && kept.host_only && names_path && kept.path == "/");
        // Plain HTTP, which others can read and change, must not set a cookie that is sent over TLS
        // only (section 5.7, steps 8, 20 and 21).
        (is_promised && is_hosts && (uri.secure || !kept.secure)).then_some(kept)
    }

    /// True if requests that contain `old`, which is sent over TLS only, would contain this cookie
    /// instead of it or beside it.
    fn would_shadow(&self, old: &Kept) -> bool {
        let is_near = is_within(&old.domain, &self.domain) || is_within(&self.domain, &old.domain);
        old.secure && old.name == self.name && is_near && is_path_within(&self.path, &old.path)
    }

    fn fits(&self, uri: RequestUri<'_>, now: Duration) -> bool {
        let is_host =
            if self.host_only { uri.host == self.domain } else { is_within(uri.host, &self.domain) };
        is_host
            && is_path_within(uri.path, &self.path)
            && (uri.secure || !self.secure)
            && self.expires.is_none_or(|expires| expires > now)
    }
}

/// Cookies in the jar, at most; the one that expires first is removed. RFC 6265bis section 5.7
/// requires 3000, and 50 per domain.
const COOKIES_MAX: usize = 3000;

/// Bytes of name and value together, at most. Longer cookies are ignored (RFC 6265bis section 5.6).
const COOKIE_BYTES_MAX: usize = 4096;

/// Parses a date of a cookie, in nearly any form (section 5.1.1). Most servers send `Thu,
/// 01-Jan-1970 00:00:00 GMT` to delete a cookie. Returns seconds since 1970, 0 for earlier dates.
fn parse_date(text: &[u8]) -> Option<u64> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    let is_delimiter =
        |byte: &u8| matches!(byte, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e);
    // Each word is the first of these that it can be and that was not found before.
    for word in text.split(is_delimiter).filter(|word| !word.is_empty()) {
        if let (None, Some(found)) = (time, parse_time(word)) {
            time = Some(found);
        } else if let (None, Some((found, _))) = (day, digits(word, 1, 2)) {
            day = Some(found);
        } else if let (None, Some(found)) = (month, month_of(word)) {
            month = Some(found);
        } else if let (None, Some((found, _))) = (year, digits(word, 2, 4)) {
            year = Some(found);
        }
    }
    let year = match year? {
        short @ 70..=99 => short + 1900,
        short @ 0..=69 => short + 2000,
        year => year,
    };
    let (hour, minute, second) = time?;
    let is_moment = hour <= 23 && minute <= 59 && second <= 59 && year >= 1601;
    let midnight = unix_secs_of(year, month?, day?).filter(|_| is_moment)?;
    Some(midnight + if year < 1970 { 0 } else { hour * 3600 + minute * 60 + second })
}

/// Hour, minute and second, without a check of their range.
fn parse_time(word: &[u8]) -> Option<(u64, u64, u64)> {
    let (hour, rest) = digits(word, 1, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(b":")?, 1, 2)?;
    let (second, _) = digits(rest.strip_prefix(b":")?, 1, 2)?;
    Some((hour, minute, second))
}

/// Number at the start of a word with `least` to `most` digits, and the bytes after it.
fn digits(word: &[u8], least: usize, most: usize) -> Option<(u64, &[u8])> {
    let count = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = word.split_at(count);
    let number = std::str::from_utf8(number).ok()?;
    (least..=most).contains(&count).then(|| number.parse().ok()).flatten().map(|number| (number, rest))
}

/// True if a host is this domain or below it. An address is below no domain (section 5.1.3).
fn is_within(host: &str, domain: &str) -> bool {
    let is_below = || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    host == domain || (host.parse::<core::net::IpAddr>().is_err() && is_below())
}

/// True if a path is this folder or below it (section 5.1.4).
fn is_path_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || folder.ends_with('/'))
}

/// Path of a cookie that names none: the folder in which it was set (section 5.1.4).
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(last) => &path[..last],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000_000);

    fn kept(host: &str, path: &str, secure: bool, set: &str) -> Option<Kept> {
        Kept::parse(set, RequestUri { host, path, secure }, NOW)
    }

    #[test]
    fn who_gets_a_cookie() {
        let cases = [
            ("a.test", "/", "x=1", "a.test", "/any", true),
            ("a.test", "/", "x=1", "b.a.test", "/", false),
            ("a.test", "/", "x=1; Domain=a.test", "b.a.test", "/", true),
            ("b.a.test", "/", "x=1; Domain=.A.test", "c.a.test", "/", true),
            ("a.test", "/", "x=1; Domain=a.test", "ba.test", "/", false),
            ("a.test", "/in/x", "x=1", "a.test", "/in/y", true),
            ("a.test", "/in/x", "x=1", "a.test", "/into", false),
            ("a.test", "/", "x=1; Path=/in", "a.test", "/in", true),
            ("a.test", "/", "x=1; Path=/in", "a.test", "/inner", false),
            ("a.test", "/", "x=1; Path=/in/", "a.test", "/in/a", true),
            ("a.test", "/", "x=1; Path=nonsense", "a.test", "/a", true),
            ("127.0.0.1", "/", "x=1", "127.0.0.1", "/", true),
        ];
        for (host, path, set, to, at, expected) in cases {
            let kept = kept(host, path, false, set).unwrap();
            let fits = kept.fits(RequestUri { host: to, path: at, secure: false }, NOW);
            assert_eq!(fits, expected, "{set} from {host}{path} to {to}{at}");
        }
    }

    #[test]
    fn what_is_not_taken() {
        for set in [
            "",
            "x",
            "=1",
            "x=1; Domain=b.test",
            "x=1; Domain=test",
            "x=1; Secure",
            "__Secure-x=1",
            "__Host-x=1",
            "x=\u{1}",
        ] {
            assert!(kept("a.test", "/", false, set).is_none(), "{set}");
        }
        assert!(kept("0.0.1", "/", false, "x=1; Domain=0.1").is_some(), "a name made of numbers is a name");
        assert!(kept("127.0.0.1", "/", false, "x=1; Domain=0.0.1").is_none());
        assert!(kept("a.test", "/", true, "__Host-x=1; Secure; Path=/").is_some());
        assert!(kept("a.test", "/", true, "__Host-x=1; Secure; Path=/; Domain=a.test").is_none());
        assert!(kept("a.test", "/", true, "__Host-x=1; Secure; Path=/in").is_none());
    }

    #[test]
    fn cookies_end_and_are_replaced() {
        let uri = RequestUri { host: "a.test", path: "/", secure: false };
        let mut jar = Jar::new();
        jar.store(uri, b"x=1", NOW);
        jar.store(uri, b"x=2; Max-Age=5", NOW);
        assert_eq!(jar.field(uri, NOW).as_deref(), Some("x=2"));
        assert_eq!(jar.field(uri, NOW + Duration::from_secs(5)), None);
        jar.store(uri, b"x=; Max-Age=0", NOW);
        assert!(jar.is_empty());
        jar.store(uri, b"x=3; Expires=Sun, 09 Sep 2001 01:46:41 GMT", NOW);
        assert_eq!(jar.field(uri, NOW).as_deref(), Some("x=3"));
        jar.store(uri, b"x=4; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", NOW);
        assert_eq!(jar.field(uri, NOW).as_deref(), Some("x=4"));
        jar.store(uri, b"y=1; Max-Age=-1", NOW);
        assert_eq!(jar.len(), 1);
    }

    #[test]
    fn plain_http_does_not_touch_what_came_over_tls() {
        let (safe, plain) = (
            RequestUri { host: "a.test", path: "/", secure: true },
            RequestUri { host: "a.test", path: "/", secure: false },
        );
        let mut jar = Jar::new();
        jar.store(safe, b"id=right; Secure; Path=/in", NOW);
        for (host, set) in [
            ("a.test", &b"id=wrong; Path=/in"[..]),
            ("a.test", b"id=wrong; Path=/in/deeper"),
            ("a.test", b"id=; Path=/in; Max-Age=0"),
            ("b.a.test", b"id=wrong; Path=/in; Domain=a.test"),
        ] {
            jar.store(RequestUri { host, ..plain }, set, NOW);
            assert_eq!(jar.len(), 1, "{}", set.escape_ascii());
        }
        let there = RequestUri { path: "/in/deeper", ..safe };
        assert_eq!(jar.field(there, NOW).as_deref(), Some("id=right"));
        jar.store(plain, b"id=other; Path=/", NOW);
        jar.store(plain, b"name=other; Path=/in", NOW);
        assert_eq!(jar.len(), 3, "another path, another name");
        jar.store(safe, b"id=new; Path=/in", NOW);
        jar.store(plain, b"id=newer; Path=/in", NOW);
        assert_eq!(jar.field(there, NOW).as_deref(), Some("name=other; id=newer; id=other"));
    }

    #[test]
    fn dates_are_read_in_any_form_that_servers_send() {
        const EXPECTED: u64 = 784_111_777;
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Mon, 6-nov-1994 8:49:37",
            "1994 november 06 08:49:37 nonsense",
        ] {
            assert_eq!(parse_date(text.as_bytes()), Some(EXPECTED), "{text}");
        }
        for text in ["Thu, 01-Jan-1970 00:00:00 GMT", "Mon, 01 Jan 1601 00:00:00 GMT"] {
            assert_eq!(parse_date(text.as_bytes()), Some(0), "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "Sun, 06 Nov 1994",
            "06 Nov 1600 08:49:37",
            "31 Feb 1994 08:49:37",
            "06 Nov 1994 24:00:00",
            "06 Nov 1994 08:60:00",
            "06 Nov 19945 08:49:37",
        ] {
            assert_eq!(parse_date(text.as_bytes()), None, "{text}");
        }
        let uri = RequestUri { host: "a.test", path: "/", secure: false };
        let mut jar = Jar::new();
        jar.store(uri, b"x=1", NOW);
        jar.store(uri, b"x=; Expires=Thu, 01-Jan-1970 00:00:00 GMT", NOW);
        assert!(jar.is_empty());
    }
}
