//! User name and password of a request, and their keyed hashes.
//!
//! Must not know which credentials are correct.

use base64::Engine as _;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::http::Request;
use crate::http::field_lines::trim_ows;

/// User name and password that a client sent.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: Vec<u8>,
    pub(super) password: Vec<u8>,
}

impl Credentials {
    /// Reads the Authorization header. Malformed credentials count as none: the 401 response then
    /// names the expected scheme.
    pub(super) fn of(request: &Request<'_>) -> Option<Credentials> {
        let mut lines = request.headers().all("authorization");
        let (Some(value), None) = (lines.next(), lines.next()) else { return None };
        let space = value.iter().position(|&byte| byte == b' ')?;
        let (scheme, coded) = (&value[..space], trim_ows(&value[space..]));
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let pair = base64::engine::general_purpose::STANDARD.decode(coded).ok()?;
        let colon = pair.iter().position(|&byte| byte == b':')?;
        // RFC 7617 section 2 forbids control characters in both.
        if pair.iter().any(u8::is_ascii_control) {
            return None;
        }
        Some(Credentials { user: pair[..colon].to_vec(), password: pair[colon + 1..].to_vec() })
    }
}

/// Keyed hash of a path, a user name and a password.
pub(super) type Digest = [u8; 32];

pub(super) fn mac_of(key: &Hmac<Sha256>, path: &[u8], credentials: &Credentials) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in [path, &credentials.user, &credentials.password] {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac
}

pub(super) fn finish(mac: Hmac<Sha256>) -> [u8; 32] {
    mac.finalize().into_bytes().into()
}

pub(super) fn digest_of(key: &Hmac<Sha256>, path: &[u8], credentials: &Credentials) -> [u8; 32] {
    finish(mac_of(key, path, credentials))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{FieldSlots, parse};

    fn with_request<T>(target: &str, headers: &str, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let mut slots = FieldSlots::new();
        look(&parse(head.as_bytes(), &mut slots, &crate::config::Limits::default()).unwrap())
    }

    #[test]
    fn credentials_are_read_strictly_and_never_an_error() {
        let read = |headers: &str| {
            with_request("/", headers, |request| {
                Credentials::of(request).map(|found| {
                    (String::from_utf8(found.user).unwrap(), String::from_utf8(found.password).unwrap())
                })
            })
        };
        let basic = |pair: &str| {
            format!("Authorization: bAsIc  {}\r\n", base64::engine::general_purpose::STANDARD.encode(pair))
        };
        assert_eq!(read(&basic("u:p:q")), Some(("u".into(), "p:q".into())));
        assert_eq!(read(&basic(":")), Some((String::new(), String::new())));
        for bad in ["", "Authorization:\r\n", "Authorization: Basic\r\n", "Authorization: Basic dTpw!\r\n"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        for bad in [basic("up"), basic("u\0:p"), basic("u:p\n"), basic("u:p").replace("bAsIc", "Bearer")] {
            assert_eq!(read(&bad), None, "{bad}");
        }
        assert_eq!(read(&(basic("u:p") + &basic("u:p"))), None, "two of them contradict each other");
    }
}
