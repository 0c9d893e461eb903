//! Tokens in the query of a request that identify an unfinished upload.
//!
//! Both the password check and uploads need them. Must not know how uploads are stored.

use crate::http::target::query_pairs;
use crate::http::{Method, Request};

/// Query parameter that contains the token.
const TOKEN: &str = "resume";

/// Token in the query of a request, if any.
pub(crate) fn token_of(request: &Request<'_>) -> Option<String> {
    let query = request.query()?;
    query_pairs(query).find(|(name, _)| name == TOKEN).map(|(_, value)| value.into_owned())
}

/// Returns true for a HEAD request that changes state.
///
/// A client that queries the offset of its upload ends the request that still writes to it. So this
/// safe method (RFC 9110 section 9.2.1) requires the password for writing. Only a valid token
/// counts, because other pages can have a parameter of that name.
pub(crate) fn ends_a_request(request: &Request<'_>) -> bool {
    request.method() == Method::Head && token_of(request).is_some_and(|token| is_token(&token))
}

/// Returns true if the text has the form of a token, as [`crate::random::random_hex`] creates them.
pub(crate) fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Location at which the upload of the file at `location` can be resumed.
pub(crate) fn location(location: &[u8], token: &str) -> Vec<u8> {
    [location, b"?", TOKEN.as_bytes(), b"=", token.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{FieldSlots, parse};
    use crate::random::random_hex;

    /// Regression: HEAD ended the active request of an upload with the password for reading, or
    /// without one.
    #[test]
    fn a_head_request_with_a_token_counts_as_a_write() {
        let token = random_hex().unwrap();
        let cases = [
            ("HEAD", format!("/a?resume={token}"), true),
            ("HEAD", format!("/a?x=1&resume={token}&y"), true),
            ("HEAD", format!("/a?%72esume={token}"), true),
            ("HEAD", format!("/a?resume=%{:x}{}", token.as_bytes()[0], &token[1..]), true),
            ("GET", format!("/a?resume={token}"), false),
            ("OPTIONS", format!("/a?resume={token}"), false),
            ("HEAD", format!("/a?resume={token}0"), false),
            ("HEAD", "/a?resume=1".to_owned(), false),
            ("HEAD", "/a".to_owned(), false),
        ];
        for (method, target, expected) in cases {
            let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let mut slots = FieldSlots::new();
            let request = parse(head.as_bytes(), &mut slots, &crate::config::Limits::default()).unwrap();
            assert_eq!(ends_a_request(&request), expected, "{method} {target}");
            assert!(!expected || token_of(&request).as_deref() == Some(&token[..]), "{target}");
        }
    }
}
