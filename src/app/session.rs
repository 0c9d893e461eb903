//! Signed tokens for session cookies, with an expiry time.
//!
//! Anyone who has a token can read it, but only the key can create one (HMAC-SHA-256, RFC 2104).
//! The application stores sessions and ends them. Must not know cookies or requests.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::random::random_bytes;

/// Creates and verifies tokens.
///
/// ```
/// use std::time::Duration;
/// use whirligig::session::Signer;
///
/// let signer = Signer::random()?;
/// let now = Duration::from_secs(1_000_000); // since 1970, as in Call::now().wall
/// let token = signer.seal("anna", now + Duration::from_secs(3600));
/// assert_eq!(signer.open(&token, now).as_deref(), Some("anna"));
/// assert_eq!(signer.open(&token, now + Duration::from_secs(3600)), None);
/// assert_eq!(Signer::random()?.open(&token, now), None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Signer {
    key: Hmac<Sha256>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// Signer with a random key, so tokens are valid as long as the process runs.
    ///
    /// # Errors
    /// When the kernel has no random numbers.
    pub fn random() -> std::io::Result<Signer> {
        Ok(Signer::from_key(&random_bytes::<32>()?))
    }

    /// Signer with a secret key of at least 32 random bytes. Tokens survive restarts and are valid
    /// on every server with the same key.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Signer {
        // Pads or hashes the key to one block as in RFC 2104. With a key of that length the
        // constructor cannot fail.
        let mut block = [0; 64];
        match key.len() {
            0..=64 => block[..key.len()].copy_from_slice(key),
            _ => block[..32].copy_from_slice(&Sha256::digest(key)),
        }
        Signer { key: Hmac::new(&block.into()) }
    }

    /// Creates a token with `payload` that is valid until `expires` (since 1970). It consists of
    /// letters, digits, `-`, `_` and `.`, so it fits in a cookie. Anyone who has it can read it.
    #[must_use]
    pub fn seal(&self, payload: &str, expires: Duration) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(payload), expires.as_secs());
        let mac = self.mac(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    /// Payload of a token, if this key created it and it has not expired at `now` (since 1970).
    #[must_use]
    pub fn open(&self, token: &str, now: Duration) -> Option<String> {
        let (signed, mac) = token.rsplit_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        // Verified in constant time, before any other part is used.
        self.mac(signed).verify_slice(&mac).ok()?;
        let (payload, expires) = signed.split_once('.')?;
        (now.as_secs() < expires.parse().ok()?).then_some(())?;
        String::from_utf8(URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(signed.as_bytes());
        mac
    }
}

/// Random ID for a session: 32 random bytes as 43 letters, digits, `-` and `_`.
///
/// # Errors
/// When the kernel has no random numbers.
pub fn random_id() -> std::io::Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(random_bytes::<32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_change_of_a_token_is_believed() {
        let signer = Signer::from_key(b"0123456789abcdef0123456789abcdef");
        let (now, expires) = (Duration::from_secs(99), Duration::from_secs(100));
        let token = signer.seal("anna.1", expires);
        assert_eq!(signer.open(&token, now).as_deref(), Some("anna.1"));
        assert_eq!(signer.open(&token, expires), None);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(signer.open(&changed, now), None, "{changed}");
        }
        for broken in ["", ".", "..", "a.b.c", &token[..token.len() - 1], &token[1..], "YW5uYQ.9999999999."] {
            assert_eq!(signer.open(broken, now), None, "{broken}");
        }
        assert_ne!(random_id().unwrap(), random_id().unwrap());
    }
}
