//! Decides which paths require a password, and which passwords are correct.
//!
//! Must not know which handler serves an admitted request.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::clock::Now;
use crate::config::{
    AUTH_CHECK_REQUESTS_MAX, AUTH_CHECKS_MAX, AUTH_DELAY_MAX, AUTH_FRESH, AUTH_LOOK_REQUESTS_MAX,
    AUTH_REMEMBERED_FOR, AUTH_REMEMBERED_MAX, AuthRule, AuthUsers, Config, Limits,
};
use crate::docroot::own::OwnFiles;
use crate::features::api;
use crate::features::auth::credentials::{Credentials, Digest, digest_of, finish, mac_of};
use crate::features::auth::guesses::{Guesses, Penalty};
use crate::features::auth::htpasswd::{PasswordFile, is_right, read_users, stamp_of};
use crate::handler::coalesce::{Coalesced, Work};
use crate::handler::{Answer, Context};
use crate::http::target::{encode_path, normalize};
use crate::http::{Request, Response, Status};
use crate::jobs::Lane;
use crate::jobs::fair_queue::{FairQueue, FairTask, Origin};
use crate::random::random_bytes;
use crate::sync::lock;

/// Passwords for a set of paths.
pub(crate) struct Guard {
    /// Sorted by path length, longest first.
    pub(super) realms: Vec<Realm>,
    /// Random for each process, so neither a leaked hash nor the time of a lookup reveals anything
    /// about a password.
    pub(super) key: Hmac<Sha256>,
    state: Mutex<State>,
    /// Held while htpasswd files are read, because an older reading must not replace a newer one.
    reading: Mutex<()>,
    /// Pending checks for changed htpasswd files.
    pub(super) file_checks: Arc<Coalesced<(), ()>>,
    pub(super) attempts: Arc<Attempts>,
    health: bool,
    clean_urls: bool,
    /// Names of files that are sent for a folder.
    index: Vec<Vec<u8>>,
    /// Files that must never be served. Refreshed when an htpasswd file is replaced.
    own: Arc<OwnFiles>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.realms.iter().map(|realm| realm.path.escape_ascii().to_string())).finish()
    }
}

/// Guards that decide about requests that change something.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteGuards {
    /// Guards in order of precedence: the first one that protects a path decides.
    pub(crate) guards: [Option<Arc<Guard>>; 2],
}

impl WriteGuards {
    /// Returns true if writing at this normalized path requires a password.
    pub(crate) fn is_protected(&self, path: &[u8]) -> bool {
        self.deciding(path).is_some()
    }

    /// Returns true if a client that may write at `path` may also write at `other`.
    ///
    /// That holds if `other` has the same password or none. A handler must check this before it
    /// writes outside the path that was judged. Both paths are normalized.
    pub(crate) fn is_same_for(&self, path: &[u8], other: &[u8]) -> bool {
        self.deciding(other).is_none_or(|deciding| self.deciding(path) == Some(deciding))
    }

    /// Returns true if both paths have the same passwords, for reading and for writing. Both are
    /// normalized.
    pub(crate) fn are_alike(&self, path: &[u8], other: &[u8]) -> bool {
        self.guards.iter().flatten().all(|guard| guard.realm_of(path) == guard.realm_of(other))
    }

    /// Returns true if a path below this folder has a password of its own.
    pub(crate) fn has_below(&self, folder: &[u8]) -> bool {
        let folder = [folder, b"/"].concat();
        let mut realms = self.guards.iter().flatten().flat_map(|guard| &guard.realms);
        realms.any(|realm| realm.path.starts_with(&folder))
    }

    /// Index of the guard that decides, and of its realm.
    fn deciding(&self, path: &[u8]) -> Option<(usize, usize)> {
        let realms = self.guards.iter().map(|guard| guard.as_ref()?.realm_of(path));
        realms.enumerate().find_map(|(at, realm)| Some((at, realm?)))
    }
}

/// Returns the names of files that are sent for a folder. A root that is a file is the index of its
/// folder.
fn index_names(config: &Config) -> Vec<Vec<u8>> {
    let of_file = |root: &Path| Some(root.file_name()?.as_bytes().to_vec()).filter(|_| root.is_file());
    let names = config.files.index.iter().map(|name| name.clone().into_bytes());
    names.chain(config.roots().filter_map(of_file)).collect()
}

/// A part of the site and its users.
pub(super) struct Realm {
    /// Decoded path without a trailing slash; empty for the root.
    pub(super) path: Vec<u8>,
    challenge: Vec<u8>,
    /// Keyed hashes of users whose passwords were configured in clear.
    known: Vec<[u8; 32]>,
    /// Indices of the htpasswd files in [`State::files`].
    files: Vec<usize>,
}

impl Realm {
    fn covers(&self, path: &[u8], clean_urls: bool, index: &[Vec<u8>]) -> bool {
        let Some(rest) = path.strip_prefix(&self.path[..]) else { return self.serves(path, index) };
        // With clean URLs a page is requested without `.html`, but its file name ends in it.
        let rest = rest.strip_prefix(b".html").filter(|_| clean_urls).unwrap_or(rest);
        // Precompressed variants are stored beside the file.
        matches!(rest, [] | [b'/', ..] | b".br" | b".gz" | b".zst")
    }

    /// Returns true if `path` is a shorter URL of this page: `/a/` for `/a/index.html`, and with
    /// clean URLs `/b` for `/b.html`.
    fn serves(&self, path: &[u8], index: &[Vec<u8>]) -> bool {
        let is_index = |name: &Vec<u8>| self.path.strip_suffix(&name[..]) == Some(path);
        self.path.strip_suffix(b".html") == Some(path) || (path.ends_with(b"/") && index.iter().any(is_index))
    }
}

/// State that changes while the server runs.
#[derive(Default)]
struct State {
    files: Vec<PasswordFile>,
    /// Keyed hashes of correct credentials, with the instant at which each expires.
    right: HashMap<[u8; 32], Instant>,
    /// Number of changes of the files. A check that began under an older generation is not
    /// remembered.
    generation: u64,
    files_checked: Option<Instant>,
}

/// Protection of the path of a request.
pub(super) enum Protection {
    /// No password is required.
    None,
    /// The password of the realm with this index is required.
    Realm(usize),
    /// The path is invalid, or different handlers would read it differently.
    Invalid(String),
}

/// Result of a lookup of credentials without bcrypt.
pub(super) enum Cached {
    Right,
    Wrong,
    /// Correct at the last check of the htpasswd files, but that check is too old.
    Stale,
    Unknown,
}

impl Guard {
    /// Reads the htpasswd files. Returns `None` if no path requires a password.
    ///
    /// `flag` is the option that error messages quote.
    pub(crate) fn open(
        rules: &[AuthRule],
        flag: &str,
        config: &Config,
        attempts: &Arc<Attempts>,
        own: &Arc<OwnFiles>,
    ) -> Result<Option<Guard>, String> {
        if rules.is_empty() {
            return Ok(None);
        }
        let secret = random_bytes::<32>().map_err(|error| format!("no random numbers: {error}"))?;
        let key = Hmac::new_from_slice(&secret).map_err(|_| "no key for passwords".to_owned())?;
        let mut guard = Guard {
            realms: Vec::new(),
            key,
            state: Mutex::default(),
            reading: Mutex::default(),
            file_checks: Coalesced::new(AUTH_LOOK_REQUESTS_MAX),
            attempts: Arc::clone(attempts),
            health: config.health,
            clean_urls: config.files.clean_urls,
            index: index_names(config),
            own: Arc::clone(own),
        };
        for rule in rules {
            guard.add(rule, flag)?;
        }
        guard.realms.sort_by_key(|realm| std::cmp::Reverse(realm.path.len()));
        Ok(Some(guard))
    }

    /// Returns this guard with realms for writing, so a browser does not reuse the password for
    /// reading.
    pub(crate) fn for_writing(mut self) -> Guard {
        for realm in &mut self.realms {
            let plain = std::mem::take(&mut realm.challenge);
            let prefix = b"Basic realm=\"";
            let rest = plain.strip_prefix(prefix).unwrap_or(&plain);
            realm.challenge = [prefix, &b"writing "[..], rest].concat();
        }
        self
    }

    fn add(&mut self, rule: &AuthRule, flag: &str) -> Result<(), String> {
        let path = rule.path.trim_end_matches('/').as_bytes();
        let mut encoded = Vec::new();
        encode_path(path, &mut encoded);
        // A configuration can be built in code. A path that no request can have would leave the
        // site open.
        if !path.is_empty() && !normalize(&encoded).is_ok_and(|normal| *normal == *path) {
            return Err(format!("a password at '{}': no request has such a path", rule.path));
        }
        let at = self.realms.iter().position(|realm| realm.path == path).unwrap_or_else(|| {
            let slash: &[u8] = if encoded.is_empty() { b"/" } else { b"" };
            let challenge = [b"Basic realm=\"", slash, &encoded[..], b"\", charset=\"UTF-8\""].concat();
            self.realms.push(Realm { path: path.to_vec(), challenge, known: Vec::new(), files: Vec::new() });
            self.realms.len() - 1
        });
        match &rule.users {
            AuthUsers::One { user, password } => {
                let credentials =
                    Credentials { user: user.clone().into(), password: password.clone().into() };
                let digest = digest_of(&self.key, path, &credentials);
                self.realms[at].known.push(digest);
            }
            AuthUsers::File(file) => {
                let users = read_users(file).map_err(|why| {
                    let is_rule = file.as_os_str().as_encoded_bytes().contains(&b'@') && !file.exists();
                    let hint = if is_rule { "; a path begins with a slash: FILE@/PATH" } else { "" };
                    format!("{flag} '{}': {why}{hint}", file.display())
                })?;
                users.report_disabled(file);
                let mut state = lock(&self.state);
                // No stamp yet: the first request reads the file again and compares the stamp with
                // its clock.
                state.files.push(PasswordFile { file: file.clone(), stamp: None, users: Arc::new(users) });
                self.realms[at].files.push(state.files.len() - 1);
            }
        }
        Ok(())
    }

    /// Returns true if this normalized path requires a password.
    #[must_use]
    pub(crate) fn is_protected(&self, path: &[u8]) -> bool {
        self.realm_of(path).is_some()
    }

    pub(super) fn realm_of(&self, path: &[u8]) -> Option<usize> {
        self.realms.iter().position(|realm| realm.covers(path, self.clean_urls, &self.index))
    }

    pub(super) fn protection(&self, request: &Request<'_>) -> Protection {
        let raw = request.path();
        if raw == b"*" || (self.health && raw == api::HEALTH.as_bytes()) {
            return Protection::None;
        }
        let path = match normalize(raw) {
            Ok(path) => path,
            Err(error) => return Protection::Invalid(error.to_string()),
        };
        let realm = self.realm_of(&path);
        // Routes match the path as received. A path that enters or leaves a protected part with dot
        // segments would be judged as one path and served as another.
        let covers = |realm: usize| self.realms[realm].covers(&path, self.clean_urls, &self.index);
        if self.realm_of(raw).is_some_and(|apparent| !covers(apparent)) {
            return Protection::Invalid("the path leads out of a part that requires a password".to_owned());
        }
        realm.map_or(Protection::None, Protection::Realm)
    }

    pub(super) fn refusal(&self, realm: usize) -> Response {
        Response::problem(Status::UNAUTHORIZED, "a user name and a password are required")
            .with_header("WWW-Authenticate", &self.realms[realm].challenge)
    }

    /// Refuses a wrong password, with a delay that grows with the number of wrong passwords of this
    /// client.
    ///
    /// If too many refusals are waiting, the response is an immediate 429 that closes the
    /// connection. The next guess then needs a new connection.
    pub(super) fn refuse_guess(&self, realm: usize, cx: &mut Context<'_>) -> Answer {
        match self.attempts.guesses.note(Origin::of(cx.peer()), cx.now().mono) {
            Penalty::Nothing => self.refusal(realm).into(),
            Penalty::Delay(delay) => delay.answer(self.refusal(realm), cx),
            Penalty::TooMany => {
                let detail = "too many wrong user names or passwords";
                Response::problem(Status::TOO_MANY_REQUESTS, detail)
                    .with_header("Retry-After", AUTH_DELAY_MAX.as_secs().to_string())
                    .closing()
                    .into()
            }
        }
    }

    /// Judges an attempt without bcrypt, if possible.
    pub(super) fn recall(&self, attempt: &LoginAttempt, files_checked: FilesChecked, now: Now) -> Cached {
        let realm = &self.realms[attempt.realm];
        let mac = mac_of(&self.key, &realm.path, &attempt.credentials);
        // Compares with every hash, so the time does not depend on the one that matches.
        let known = realm.known.iter().filter(|known| mac.clone().verify_slice(&known[..]).is_ok()).count();
        if known > 0 {
            return Cached::Right;
        }
        if realm.files.is_empty() {
            return Cached::Wrong;
        }
        let state = lock(&self.state);
        let is_remembered = state.right.get(&finish(mac)).is_some_and(|until| *until > now.mono);
        let is_fresh = files_checked == FilesChecked::Now
            || state.files_checked.is_some_and(|at| now.mono.saturating_duration_since(at) < AUTH_FRESH);
        match (is_remembered, is_fresh) {
            (false, _) => Cached::Unknown,
            (true, false) => Cached::Stale,
            (true, true) => Cached::Right,
        }
    }

    /// Returns true if these credentials are correct. Slow: for worker threads.
    fn verify(&self, realm: usize, credentials: &Credentials, requested_at: Now) -> bool {
        let realm = &self.realms[realm];
        self.refresh(requested_at);
        let digest = digest_of(&self.key, &realm.path, credentials);
        let (users, generation) = {
            let state = lock(&self.state);
            if state.right.get(&digest).is_some_and(|until| *until > requested_at.mono) {
                return true;
            }
            let users: Vec<_> =
                realm.files.iter().map(|&file| Arc::clone(&state.files[file].users)).collect();
            (users, state.generation)
        };
        let is_right = is_right(&users, credentials);
        if is_right {
            self.remember(digest, generation, requested_at.mono);
        }
        is_right
    }

    fn remember(&self, digest: Digest, generation: u64, now: Instant) {
        let mut state = lock(&self.state);
        if state.generation != generation {
            return;
        }
        if state.right.len() >= AUTH_REMEMBERED_MAX {
            state.right.retain(|_, until| *until > now);
            let oldest = state.right.iter().min_by_key(|(_, until)| **until).map(|(digest, _)| *digest);
            if let Some(oldest) = oldest.filter(|_| state.right.len() >= AUTH_REMEMBERED_MAX) {
                state.right.remove(&oldest);
            }
        }
        state.right.insert(digest, now + AUTH_REMEMBERED_FOR);
    }

    /// Reads changed htpasswd files again. A file that cannot be read or parsed keeps its previous
    /// users.
    ///
    /// The check is dated `requested_at` and recorded only at its end. A check that is abandoned
    /// must not count as done.
    pub(super) fn refresh(&self, requested_at: Now) {
        let _reading = lock(&self.reading);
        let files: Vec<_> =
            lock(&self.state).files.iter().map(|file| (file.file.clone(), file.stamp)).collect();
        for (at, (file, known)) in files.into_iter().enumerate() {
            let stamp = stamp_of(&file, requested_at.wall);
            if stamp.is_some() && stamp == known {
                continue;
            }
            match read_users(&file) {
                Ok(users) => {
                    // The file can have been replaced since startup.
                    self.own.take_again();
                    let mut state = lock(&self.state);
                    if users.disabled != state.files[at].users.disabled {
                        users.report_disabled(&file);
                    }
                    if users.hashes != state.files[at].users.hashes
                        || users.disabled != state.files[at].users.disabled
                    {
                        state.right.clear();
                        state.generation += 1;
                        state.files[at].users = Arc::new(users);
                    }
                    state.files[at].stamp = stamp;
                }
                Err(why) => {
                    log::warn!("'{}' is left as it was: {why}", file.display());
                    lock(&self.state).files[at].stamp = stamp;
                }
            }
        }
        let mut state = lock(&self.state);
        state.files_checked = state.files_checked.max(Some(requested_at.mono));
    }
}

/// Credentials for one realm.
pub(super) struct LoginAttempt {
    pub(super) realm: usize,
    pub(super) credentials: Credentials,
}

/// State of the check for changed htpasswd files during the current request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilesChecked {
    NotYet,
    Now,
}

/// Password check that waits for a worker thread.
pub(super) struct Check {
    pub(super) guard: Arc<Guard>,
    pub(super) origin: Origin,
    pub(super) realm: usize,
    pub(super) credentials: Credentials,
    pub(super) requested_at: Now,
    pub(super) work: Work<Digest, bool>,
}

impl FairTask for Check {
    const LANE: Lane = Lane::Passwords;

    fn is_wanted(&self) -> bool {
        self.work.is_wanted()
    }

    fn run(self) {
        if self.work.is_wanted() {
            let is_right = self.guard.verify(self.realm, &self.credentials, self.requested_at);
            // A guess counts even if the client did not wait for the refusal.
            if self.work.finish(&is_right) == 0 && !is_right {
                self.guard.attempts.guesses.note_gone(self.origin, self.requested_at.mono);
            }
        }
    }
}

/// State that all guards of a server share, because a client can try passwords at each of them.
pub(crate) struct Attempts {
    guesses: Guesses,
    pub(super) checks: Arc<FairQueue<Check>>,
    pub(super) verdicts: Arc<Coalesced<Digest, bool>>,
}

impl Attempts {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let verdicts = Coalesced::new(AUTH_CHECK_REQUESTS_MAX);
        let checks = Arc::new(FairQueue::new(AUTH_CHECKS_MAX));
        Arc::new(Attempts { guesses: Guesses::new(limits), checks, verdicts })
    }
}

#[cfg(test)]
impl Guard {
    /// Guard for tests, with rules in the form of `--auth`.
    pub(crate) fn of(rules: &[&str], clean_urls: bool) -> Arc<Guard> {
        let mut config = Config::default();
        config.files.clean_urls = clean_urls;
        config.site.auth =
            rules.iter().map(|text| crate::features::auth::rule::parse_user_rule(text).unwrap()).collect();
        Arc::new(
            Guard::open(
                &config.site.auth,
                "--htpasswd",
                &config,
                &Attempts::new(&config.limits),
                &Arc::default(),
            )
            .unwrap()
            .unwrap(),
        )
    }
}

#[cfg(test)]
mod tests;
