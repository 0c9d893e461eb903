//! Cookies on the server: reading `Cookie`, writing `Set-Cookie` (RFC 6265bis).
//!
//! The client's store of cookies is `client/jar.rs`. This file must not know the meaning of a
//! value.

use std::fmt;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

use crate::http::field_lines::{is_token, trim_ows};

/// A cookie to set.
///
/// By default it is sent back for all paths of this host, is hidden from scripts, and ends with the
/// browser session. It is not sent with requests from pages of other sites, except those that lead
/// here by GET ([`SameSite::Lax`]).
///
/// ```
/// use std::time::Duration;
/// use whirligig::Cookie;
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
    /// A cookie with this name and value.
    ///
    /// The name must be a token (RFC 9110 section 5.6.2); other bytes become `_`. The value may be
    /// any text: bytes that a cookie cannot contain are percent-encoded, and `Call::cookie` decodes
    /// them. Browsers ignore cookies whose name and value together have more than 4096 bytes.
    ///
    /// A name that begins with `__Host-` or `__Secure-` also sets the attributes that browsers
    /// require for it (RFC 6265bis section 4.1.3).
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

    /// A cookie that deletes the one with this name. Path and domain must be those with which it
    /// was set.
    #[must_use]
    pub fn gone(name: &str) -> Self {
        Cookie::new(name, "").max_age(Duration::ZERO)
    }

    /// Sends the cookie back for this path and all paths below it, instead of for all paths.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = attribute(path);
        self
    }

    /// Sends the cookie back to this host and all hosts below it, instead of to this host alone.
    #[must_use]
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(attribute(domain));
        self
    }

    /// Keeps the cookie for this time, in whole seconds, even if the browser is closed. Zero
    /// deletes it.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sends the cookie back over TLS only. Browsers also send it to loopback addresses.
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// Makes the cookie readable by scripts of the page.
    #[must_use]
    pub fn readable_by_scripts(mut self) -> Self {
        self.http_only = false;
        self
    }

    /// Sets which requests from other sites contain the cookie.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }
}

/// Writes the value of the `Set-Cookie` header.
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

/// Requests from other sites that contain a cookie (RFC 6265bis section 5.6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SameSite {
    /// No such requests.
    Strict,
    /// Requests that lead the browser to this site by a safe method: a link, or a form sent by GET.
    /// This is the default.
    Lax,
    /// All such requests. The cookie must be `Secure`, and this makes it so.
    None,
}

/// Value of an attribute, without the bytes that could end it.
fn attribute(value: &str) -> String {
    value.chars().map(|char| if char == ';' || char.is_control() { '_' } else { char }).collect()
}

/// Names and values in the `Cookie` lines of a request, as received (RFC 6265bis section 4.2).
///
/// A pair that is not UTF-8 or has no `=` is left out. If a name occurs twice, the first one has
/// the longer path.
pub fn pairs<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = (&'a str, &'a str)> {
    lines.flat_map(|line| line.split(|&byte| byte == b';')).filter_map(|piece| {
        let piece = std::str::from_utf8(trim_ows(piece)).ok()?;
        let (name, value) = piece.split_once('=')?;
        let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Some((name.trim_end(), quoted.unwrap_or(value)))
    })
}

/// Value of a cookie as given to [`Cookie::new`]: percent-decoded.
#[must_use]
pub fn decode(value: &str) -> String {
    percent_decode(value.as_bytes()).decode_utf8_lossy().into_owned()
}

/// Bytes that are encoded in a value: all except `cookie-octet` (RFC 6265bis section 4.1.1), and
/// `%`, which marks an encoded byte.
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
        /// Any text in a cookie comes back unchanged, and starts no attribute.
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
