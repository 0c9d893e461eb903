//! htpasswd files: users with their bcrypt hashes.
//!
//! Must not know which paths require a password.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{AUTH_COST_MAX, AUTH_FILE_BYTES_MAX};
use crate::docroot::stamp::Stamp;
use crate::features::auth::credentials::Credentials;
use crate::http::field_lines::trim_ows;

/// Longest password that bcrypt reads completely, in bytes. bcrypt ignores the rest, so longer
/// passwords are refused.
const BCRYPT_BYTES_MAX: usize = 72;

/// An htpasswd file as last read.
pub(super) struct PasswordFile {
    pub(super) file: PathBuf,
    pub(super) stamp: Option<Stamp>,
    pub(super) users: Arc<Users>,
}

/// Users with their bcrypt hashes.
#[derive(Default)]
pub(super) struct Users {
    pub(super) hashes: HashMap<Vec<u8>, String>,
    cost_max: u32,
    /// Users that cannot log in, with line number and reason.
    pub(super) disabled: HashMap<Vec<u8>, (usize, &'static str)>,
}

/// Number of disabled users of one file that are logged individually.
const DISABLED_REPORTED_MAX: usize = 5;

impl Users {
    fn has(&self, user: &[u8]) -> bool {
        self.hashes.contains_key(user) || self.disabled.contains_key(user)
    }

    /// Logs a warning for each disabled user, with its line number. Hashes never appear in the log.
    pub(super) fn report_disabled(&self, file: &Path) {
        let file = file.display();
        let mut lines: Vec<_> = self.disabled.values().collect();
        lines.sort_unstable();
        for (line, why) in lines.into_iter().take(DISABLED_REPORTED_MAX) {
            log::warn!(
                "'{file}' line {line} {why}, so its user cannot log in; 'htpasswd -B' creates a supported hash"
            );
        }
        let more = self.disabled.len().saturating_sub(DISABLED_REPORTED_MAX);
        if more > 0 {
            log::warn!("'{file}': {more} more users cannot log in for similar reasons");
        }
    }
}

/// Stamp of a file. `None` if the file does not exist, or if it changed so recently that another
/// change could leave the stamp equal.
pub(super) fn stamp_of(file: &Path, wall: Duration) -> Option<Stamp> {
    Stamp::at(file).ok().filter(|stamp| !stamp.is_too_young(wall))
}

/// Returns true if the credentials are correct. Runs bcrypt exactly once: for an unknown user
/// against a hash that no password matches.
pub(super) fn is_right(users: &[Arc<Users>], credentials: &Credentials) -> bool {
    let cost = users.iter().map(|users| users.cost_max).max().unwrap_or_default();
    let own = users.iter().find_map(|users| users.hashes.get(&credentials.user));
    let nobody = format!("$2b${cost:02}${}", ".".repeat(53));
    let looked_at = &credentials.password[..credentials.password.len().min(BCRYPT_BYTES_MAX)];
    let fits = bcrypt::verify(looked_at, own.unwrap_or(&nobody)).unwrap_or(false);
    fits && own.is_some() && looked_at.len() == credentials.password.len()
}

pub(super) fn read_users(file: &Path) -> Result<Users, String> {
    use std::io::Read;
    let mut text = Vec::new();
    let open = std::fs::File::open(file).map_err(|error| error.to_string())?;
    open.take(AUTH_FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > AUTH_FILE_BYTES_MAX {
        return Err(format!("more than {AUTH_FILE_BYTES_MAX} bytes"));
    }
    parse_users(&text)
}

/// Parses an htpasswd file with one `name:hash` per line. Empty lines and lines that begin with `#`
/// are skipped.
///
/// Errors contain the line number, never the line, because hashes must not be logged. An
/// unsupported hash disables only its user, because files made for other servers mix several kinds.
fn parse_users(text: &[u8]) -> Result<Users, String> {
    let mut users = Users::default();
    for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = trim_ows(line.strip_suffix(b"\r").unwrap_or(line));
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let number = at + 1;
        let colon = line.iter().position(|&byte| byte == b':').filter(|&colon| colon > 0);
        let colon = colon.ok_or_else(|| format!("line {number}: not of the form name:hash"))?;
        let (name, hash) = (&line[..colon], &line[colon + 1..]);
        if users.has(name) {
            return Err(format!("line {number}: this user already exists"));
        }
        let mut disable = |why| {
            users.disabled.insert(name.to_vec(), (number, why));
        };
        match bcrypt_cost(hash) {
            None => disable("has no bcrypt hash"),
            Some(cost) if cost > AUTH_COST_MAX => disable("has a bcrypt hash whose cost is too high"),
            Some(cost) => {
                users.hashes.insert(name.to_vec(), String::from_utf8_lossy(hash).into_owned());
                users.cost_max = users.cost_max.max(cost);
            }
        }
    }
    match users.hashes.is_empty() && users.disabled.is_empty() {
        true => Err("the file has no users; add one with 'htpasswd -B'".to_owned()),
        false => Ok(users),
    }
}

/// Cost of a bcrypt hash; `None` if the text is not one.
fn bcrypt_cost(hash: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(hash).ok()?;
    let known = ["$2y$", "$2b$", "$2a$"].iter().any(|version| text.starts_with(version));
    let parts: bcrypt::HashParts = text.parse().ok().filter(|_| known && text.len() == 60)?;
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    let cost = parts.get_cost();
    (hash[7..].iter().all(is_letter) && (4..=31).contains(&cost)).then_some(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// bcrypt hash of `open sesame` with the lowest cost.
    const HASH: &str = "$2y$04$J25P14iGRWYRBQZ85PXm9OS69IW/qjgPJDpQHgmD8SA8yGz3sQvc2";

    #[test]
    fn htpasswd_files_hold_bcrypt_only_and_errors_name_the_line() {
        let users = parse_users(format!("# people\n\nu:{HASH}\r\n  v:{HASH}\n").as_bytes()).unwrap();
        assert_eq!((users.hashes.len(), users.cost_max), (2, 4));
        let cases = [
            (format!("u:{HASH}\n:{HASH}\n"), "line 2: not of the form name:hash"),
            (format!("u:{HASH}\n\nuser\n"), "line 3: not of the form name:hash"),
            (format!("u:{HASH}\nu:{HASH}"), "line 2: this user already exists"),
            ("u:$apr1$abc$def\nu:$1$x$y".to_owned(), "line 2: this user already exists"),
            ("# nobody\n".to_owned(), "the file has no users; add one with 'htpasswd -B'"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_users(text.as_bytes()).err().as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_hash_of_another_kind_disables_its_user_alone() {
        let costly = HASH.replace("$04$", "$17$");
        let unknown = HASH.replace("$04$", "$99$");
        for hash in [
            "$apr1$abc$def",
            "{SHA}abc=",
            "$6$salt$hash",
            "plain",
            "*",
            "",
            &format!("{HASH}x"),
            &costly,
            &unknown,
        ] {
            let users = parse_users(format!("u:{HASH}\nold:{hash}\n").as_bytes()).unwrap();
            let (line, why) = users.disabled[&b"old"[..]];
            assert_eq!((line, users.disabled.len()), (2, 1), "{hash}");
            assert_eq!(why.contains("too high"), hash == costly, "{hash}: {why}");
            assert_eq!((users.hashes.len(), users.cost_max), (1, 4), "{hash}");
            let users = [Arc::new(users)];
            for password in ["", hash, "open sesame"] {
                let credentials = Credentials { user: b"old".into(), password: password.into() };
                assert!(!is_right(&users, &credentials), "{hash} with {password}");
            }
        }
        let nobody = parse_users(b"old:$apr1$abc$def\n").unwrap();
        assert!(nobody.hashes.is_empty() && nobody.disabled.len() == 1, "a file of such users locks all out");
    }

    #[test]
    fn bcrypt_is_asked_once_and_longer_passwords_are_not_cut() {
        let long = "x".repeat(BCRYPT_BYTES_MAX);
        let long_hash = bcrypt::hash(&long, 4).unwrap();
        let users = parse_users(format!("u:{HASH}\nlong:{long_hash}\n").as_bytes()).unwrap();
        let users = [Arc::new(users)];
        let check = |user: &str, password: &str| {
            is_right(&users, &Credentials { user: user.into(), password: password.into() })
        };
        assert!(check("u", "open sesame"));
        assert!(!check("u", "open") && !check("nobody", "open sesame") && !check("u", ""));
        assert!(check("long", &long));
        assert!(!check("long", &format!("{long}y")), "bcrypt would not have looked at the last letter");
    }
}
