//! Whether a page of another site sent the request: then it writes nothing here.
//!
//! A browser adds the user's passwords to whatever any page makes it send. It also says whose page
//! that was, which no page can prevent; programs that are no browsers say nothing, and have only
//! what their user gave them.
//!
//! A page whose own name leads to this machine (DNS rebinding) counts as a page of this site here.
//! The rule about names (`features/names.rs`) refuses its requests.

use crate::http::{Request, Response, Status};
use crate::log::{Once, shorten};
use crate::pages::error::{ErrorForm, error};

/// Origins of other sites whose pages may write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partners(Vec<String>);

impl Partners {
    /// The origins that the operator has named for CORS. Neither all of them nor `null` is a name:
    /// any page can have the origin `null`.
    pub(crate) fn of(cors: &[String]) -> Partners {
        Partners(cors.iter().filter(|origin| !matches!(&origin[..], "*" | "null")).cloned().collect())
    }

    /// True if pages of this origin may write.
    pub(crate) fn have(&self, origin: &[u8]) -> bool {
        self.0.iter().any(|named| named.as_bytes() == origin)
    }
}

/// True if a browser sent this for a page of some other site, which is none of the partners'.
pub(crate) fn is_foreign(request: &Request<'_>, partners: &Partners) -> bool {
    let mut origins = request.fields().all("origin");
    if let (Some(origin), None) = (origins.next(), origins.next())
        && partners.have(origin)
    {
        return false;
    }
    let mut sites = request.fields().all("sec-fetch-site");
    if let Some(site) = sites.next() {
        // `none` is the user's own doing.
        return sites.next().is_some() || !matches!(site, b"same-origin" | b"none");
    }
    let mut origins = request.fields().all("origin");
    match (origins.next(), origins.next()) {
        (None, _) => false,
        (Some(origin), None) => !is_origin_of(origin, request.authority().unwrap_or_default()),
        (Some(_), Some(_)) => true,
    }
}

/// Refuses what [`is_foreign`] recognised, and names both sides: if a proxy changes `Host`, a page
/// of this very site looks like one of another. Logs each origin once, with a remedy.
pub(crate) fn refuse(request: &Request<'_>, logged: &Once) -> Response {
    let mut origins = request.fields().all("origin");
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
    let site = request.field("sec-fetch-site").map(shown);
    let site = site.map_or_else(String::new, |site| format!(" (Sec-Fetch-Site: {site})"));
    let sentence = format!("{page}{site}, but {target}");
    let origin = request.fields().only("origin").ok().flatten();
    logged.log(origin.unwrap_or_default(), "pages of other sites", || match origin {
        Some(origin) if is_origin(origin) => log::warn!(
            "refused to write for a page (403): {sentence}; if a proxy changes Host, have it pass that on, \
             or allow the page with --cors {}",
            shown(origin)
        ),
        _ => log::warn!("refused to write for a page (403): {sentence}"),
    });
    error(
        Status::FORBIDDEN,
        &format!("{sentence}; a page may write to its own site only"),
        ErrorForm::of(request),
    )
    .with_field("X-Content-Type-Options", "nosniff")
}

/// A name or header value of the peer, cut and escaped: only what origins consist of is left.
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

/// True for an origin that `--cors` can name: a scheme and a host.
fn is_origin(origin: &[u8]) -> bool {
    let host = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    host.is_some_and(|host| !host.is_empty() && shown(host).as_bytes() == host)
}

/// Whether pages at this authority have that origin. The scheme is not known here: a proxy in front
/// may do TLS.
fn is_origin_of(origin: &[u8], authority: &[u8]) -> bool {
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
        for (fields, expected) in cases {
            let head = format!("PUT /a HTTP/1.1\r\nHost: a.test:81\r\n{fields}\r\n");
            let mut slots = FieldSlots::new();
            let request = parse(head.as_bytes(), &mut slots, &crate::config::Limits::default()).unwrap();
            let partners = Partners::of(&["https://c.test".into(), "*".into(), "null".into()]);
            assert_eq!(is_foreign(&request, &partners), *expected, "{fields:?}");
        }
        assert!(is_origin_of(b"http://a.test", b"a.test:80") && is_origin_of(b"https://a.test", b"a.test"));
        assert!(!is_origin_of(b"http://a.test:443", b"a.test"));
    }
}
