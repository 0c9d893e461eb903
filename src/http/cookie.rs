//! Cookies, the server's side: reading `Cookie`, writing `Set-Cookie` (RFC 6265bis).
//!
//! Pure. A client's side, which stores them, is `jar.rs`. What a cookie's value means is nobody's
//! business here.

use std::fmt;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

use crate::http::fields::is_token;
use crate::http::fields::trim_ows;

/// A cookie to be set. Unless told otherwise it is sent back for every path of this host, is hidden
/// from scripts, goes with no request of another site's page but those that lead here by GET
/// ([`SameSite::Lax`]), and ends with the browser's session.
///
/// ```
/// use std::time::Duration;
/// use whirligig::http::cookie::Cookie;
///
/// let hour = Duration::from_secs(3600);
/// let cookie = Cookie::new("tea", "green, please").max_age(hour).path("/kitchen");
/// assert_eq!(
///     cookie.to_string(),
///     "tea=green%2C%20please; Path=/kitchen; Max-Age=3600; HttpOnly; SameSite=Lax"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    name: String,
    value: String,
    path: String,
    domain: Option<String>,
    max_age: Option<Duration>,
    secure: bool,
    http_only: bool,
    same_site: SameSite,
}

impl Cookie {
    /// A cookie of this name, which must be a token (RFC 9110 section 5.6.2; other bytes become
    /// `_`), and value, which may be any text: what a cookie cannot hold is percent-encoded, and
    /// `Call::cookie` decodes it again. Browsers ignore cookies whose name and value have more than
    /// 4096 bytes together.
    ///
    /// A name that begins with `__Host-` or `__Secure-` makes the cookie what browsers then insist
    /// on (RFC 6265bis section 4.1.3).
    #[must_use]
    pub fn new(name: &str, value: &str) -> Self {
        let name = name.chars().map(|char| match u8::try_from(char) {
            Ok(byte) if is_token(byte) => char,
            Ok(_) | Err(_) => '_',
        });
        Cookie {
            name: name.collect(),
            value: utf8_percent_encode(value, ENCODED).to_string(),
            path: "/".into(),
            domain: None,
            max_age: None,
            secure: false,
            http_only: true,
            same_site: SameSite::Lax,
        }
    }

    /// A cookie that takes one of this name away. Path and domain must be those it was set with.
    #[must_use]
    pub fn gone(name: &str) -> Self {
        Cookie::new(name, "").max_age(Duration::ZERO)
    }

    /// Sent back for this path and what is below it, instead of for all.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = attribute(path);
        self
    }

    /// Sent back to this host and to those below it, instead of to this host alone.
    #[must_use]
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(attribute(domain));
        self
    }

    /// Kept for this long, in whole seconds, even when the browser is closed. Zero takes it away.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sent back over TLS only (and, by browsers, to loopback addresses).
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// Scripts of the page may read it.
    #[must_use]
    pub fn readable_by_scripts(mut self) -> Self {
        self.http_only = false;
        self
    }

    /// Which requests from other sites it goes with.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }
}

/// The value of the `Set-Cookie` field.
impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_host = self.name.starts_with("__Host-");
        let path = if is_host { "/" } else { &self.path };
        write!(f, "{}={}; Path={path}", self.name, self.value)?;
        if let (Some(domain), false) = (&self.domain, is_host) {
            write!(f, "; Domain={domain}")?;
        }
        if let Some(age) = self.max_age {
            write!(f, "; Max-Age={}", age.as_secs())?;
        }
        if self.secure || is_host || self.name.starts_with("__Secure-") || self.same_site == SameSite::None {
            f.write_str("; Secure")?;
        }
        if self.http_only {
            f.write_str("; HttpOnly")?;
        }
        f.write_str(match self.same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        })
    }
}

/// Which requests from other sites a cookie goes with (RFC 6265bis section 5.6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// None.
    Strict,
    /// Those that lead the browser to this site by a method that only looks: following a link, a
    /// form sent by GET. The default here.
    Lax,
    /// All; such a cookie must be `Secure`, and this makes it so.
    None,
}

/// An attribute's value: nothing in it may end it.
fn attribute(value: &str) -> String {
    value.chars().map(|char| if char == ';' || char.is_control() { '_' } else { char }).collect()
}

/// Names and values of the `Cookie` lines of a request, as they came (RFC 6265bis section 4.2).
///
/// What is not UTF-8 or has no `=` is left out. A name may come twice: the first one has the longer
/// path.
pub fn pairs<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = (&'a str, &'a str)> {
    lines.flat_map(|line| line.split(|&byte| byte == b';')).filter_map(|piece| {
        let piece = std::str::from_utf8(trim_ows(piece)).ok()?;
        let (name, value) = piece.split_once('=')?;
        let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Some((name.trim_end(), quoted.unwrap_or(value)))
    })
}

/// The value of a cookie as [`Cookie::new`] was given it: percent-decoded.
#[must_use]
pub fn decode(value: &str) -> String {
    percent_decode(value.as_bytes()).decode_utf8_lossy().into_owned()
}

/// What a value may not hold as it is: everything but `cookie-octet` (RFC 6265bis section 4.1.1),
/// and `%`, which marks what was encoded.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\').add(b'%');

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_comes_is_taken_apart() {
        let cases: &[(&[u8], &str)] = &[
            (b"a=1; b=2", "a:1,b:2"),
            (b"a=1;b=2;", "a:1,b:2"),
            (b"a=\"x y\"; =z; nothing; c=d=e", "a:x y,:z,c:d=e"),
            (b"a=\xff; b=2", "b:2"),
            (b"", ""),
        ];
        for (line, expected) in cases {
            let found: Vec<_> =
                pairs(std::iter::once(*line)).map(|(name, value)| format!("{name}:{value}")).collect();
            assert_eq!(found.join(","), *expected);
        }
    }

    #[test]
    fn prefixes_are_kept_to() {
        let cookie = Cookie::new("__Host-id", "x").path("/a").domain("b.test").to_string();
        assert_eq!(cookie, "__Host-id=x; Path=/; Secure; HttpOnly; SameSite=Lax");
        let cookie = Cookie::new("id", "x").same_site(SameSite::None).readable_by_scripts().to_string();
        assert_eq!(cookie, "id=x; Path=/; Secure; SameSite=None");
        assert_eq!(Cookie::gone("a b").to_string(), "a_b=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
        assert_eq!(Cookie::new("a", "").path("/;x\n").to_string(), "a=; Path=/_x_; HttpOnly; SameSite=Lax");
    }

    proptest! {
        /// Whatever text goes into a cookie comes out of it, and starts no attribute of its own.
        #[test]
        fn comes_back_as_it_was(text in any::<String>()) {
            let written = Cookie::new("n", &text).to_string();
            let sent = written.split("; ").next().unwrap_or_default();
            prop_assert!(sent.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)));
            let back: Vec<_> = pairs(std::iter::once(sent.as_bytes())).map(|(n, v)| (n, decode(v))).collect();
            prop_assert_eq!(back, vec![("n", text)]);
        }
    }
}
