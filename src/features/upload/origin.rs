//! Detection of requests that a page of another site sent. Such requests must not write.
//!
//! A browser adds the passwords of its user to requests of any page. It also sends the origin of
//! the page, which no page can prevent. Other clients send no origin, and have only the passwords
//! that their user gave them.
//!
//! A page whose own host name resolves to this machine (DNS rebinding) counts as a page of this
//! site here. The host name check (`features/names.rs`) refuses its requests. Must not know what a
//! request would write.

use crate::http::{Request, Response, Status};
use crate::log::{Once, shorten};

/// Origins of other sites whose pages may write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partners(Vec<String>);

impl Partners {
    /// Origins that the operator named for CORS. `*` and `null` do not count, because any page can
    /// have the origin `null`.
    pub(crate) fn of(cors: &[String]) -> Partners {
        Partners(cors.iter().filter(|origin| !matches!(&origin[..], "*" | "null")).cloned().collect())
    }

    /// Returns true if pages of this origin may write.
    pub(crate) fn have(&self, origin: &[u8]) -> bool {
        self.0.iter().any(|named| named.as_bytes() == origin)
    }
}

/// Returns true if a browser sent this request for a page of another site that is not a partner.
pub(crate) fn is_foreign(request: &Request<'_>, partners: &Partners) -> bool {
    let mut origins = request.headers().all("origin");
    if let (Some(origin), None) = (origins.next(), origins.next())
        && partners.have(origin)
    {
        return false;
    }
    let mut sites = request.headers().all("sec-fetch-site");
    if let Some(site) = sites.next() {
        // `none`: the user started the request.
        return sites.next().is_some() || !matches!(site, b"same-origin" | b"none");
    }
    let mut origins = request.headers().all("origin");
    match (origins.next(), origins.next()) {
        (None, _) => false,
        (Some(origin), None) => !is_origin_of(origin, request.authority().unwrap_or_default()),
        (Some(_), Some(_)) => true,
    }
}

/// Refuses a request of a foreign page. The response names both sides, because a proxy that changes
/// `Host` makes pages of this site look foreign. Logs each origin once, with a remedy.
pub(crate) fn refuse(request: &Request<'_>, logged: &Once) -> Response {
    let mut origins = request.headers().all("origin");
    let host = shown(request.authority().unwrap_or_default());
    let target = match host.is_empty() {
        true => "the request names no host".to_owned(),
        false => format!("the request is for {host}"),
    };
    let page = match (origins.next(), origins.next()) {
        (None, _) => "the page is from another site".to_owned(),
        (Some(b"null"), None) => "the page has no origin (Origin: null)".to_owned(),
        (Some(origin), None) => format!("the page is from {}", shown(origin)),
        (Some(_), Some(_)) => "the request has several Origin headers".to_owned(),
    };
    let site = request.header("sec-fetch-site").map(shown);
    let site = site.map_or_else(String::new, |site| format!(" (Sec-Fetch-Site: {site})"));
    let sentence = format!("{page}{site}, but {target}");
    let origin = request.headers().only("origin").ok().flatten();
    logged.log(origin.unwrap_or_default(), "pages of other sites", || match origin {
        Some(origin) if is_origin(origin) => log::warn!(
            "refused to write for a page (403): {sentence}; if a proxy changes Host, make it pass Host on, \
             or allow the page with --cors {}",
            shown(origin)
        ),
        _ => log::warn!("refused to write for a page (403): {sentence}"),
    });
    Response::problem(Status::FORBIDDEN, format!("{sentence}; a page may write to its own site only"))
        .with_header("X-Content-Type-Options", "nosniff")
}

/// Shortens and escapes a name or header value of the peer: only characters of origins remain.
fn shown(value: &[u8]) -> String {
    let mut text = String::new();
    for byte in shorten(value) {
        match byte {
            b':' | b'/' | b'.' | b'-' | b'_' | b'[' | b']' => text.push(char::from(*byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// Returns true for an origin that `--cors` can name: a scheme and a host.
fn is_origin(origin: &[u8]) -> bool {
    let host = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    host.is_some_and(|host| !host.is_empty() && shown(host).as_bytes() == host)
}

/// Returns true if pages at this authority can have that origin. The scheme is unknown, because a
/// proxy in front can terminate TLS.
pub(super) fn is_origin_of(origin: &[u8], authority: &[u8]) -> bool {
    let (host, port): (&[u8], &[u8]) =
        match (origin.strip_prefix(b"http://"), origin.strip_prefix(b"https://")) {
            (Some(host), _) => (host, b":80"),
            (None, Some(host)) => (host, b":443"),
            (None, None) => return false,
        };
    let bare = |name: &'_ [u8]| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    !host.is_empty() && bare(host) == bare(authority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{FieldSlots, parse};

    #[test]
    fn a_page_of_another_site_is_known_by_what_the_browser_says() {
        let cases: &[(&str, bool)] = &[
            ("", false),
            ("Sec-Fetch-Site: same-origin\r\n", false),
            ("Sec-Fetch-Site: none\r\n", false),
            ("Sec-Fetch-Site: same-site\r\n", true),
            ("Sec-Fetch-Site: cross-site\r\n", true),
            ("Sec-Fetch-Site: cross-site\r\nOrigin: http://a.test:81\r\n", true),
            ("Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n", true),
            ("Origin: http://a.test:81\r\n", false),
            ("Origin: https://A.test:81\r\n", false),
            ("Origin: http://a.test\r\n", true),
            ("Origin: http://b.test:81\r\n", true),
            ("Origin: http://xa.test:81\r\n", true),
            ("Origin: null\r\n", true),
            ("Origin: \r\n", true),
            ("Origin: http://\r\n", true),
            ("Origin: http://a.test:81\r\nOrigin: http://b.test\r\n", true),
            ("Origin: https://c.test\r\n", false),
            ("Origin: https://c.test\r\nSec-Fetch-Site: cross-site\r\n", false),
            ("Origin: https://c.test\r\nOrigin: https://c.test\r\n", true),
            ("Origin: https://c.test.evil.test\r\nSec-Fetch-Site: cross-site\r\n", true),
            ("Origin: http://c.test\r\n", true),
            ("Origin: *\r\n", true),
        ];
        for (headers, expected) in cases {
            let head = format!("PUT /a HTTP/1.1\r\nHost: a.test:81\r\n{headers}\r\n");
            let mut slots = FieldSlots::new();
            let request = parse(head.as_bytes(), &mut slots, &crate::config::Limits::default()).unwrap();
            let partners = Partners::of(&["https://c.test".into(), "*".into(), "null".into()]);
            assert_eq!(is_foreign(&request, &partners), *expected, "{headers:?}");
        }
        assert!(is_origin_of(b"http://a.test", b"a.test:80") && is_origin_of(b"https://a.test", b"a.test"));
        assert!(!is_origin_of(b"http://a.test:443", b"a.test"));
    }
}
