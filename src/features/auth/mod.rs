//! Passwords for parts of the site: Basic authentication (RFC 7617) by path.
//!
//! bcrypt is slow on purpose, so it runs in a job, and a right password is remembered for a while
//! under a keyed hash: a busy client costs one hash a request. Wrong and unknown users get the same
//! answer after the same work. A password is never logged, and never kept in clear behind the
//! start.

pub(crate) mod guesses;

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::config::{
    AUTH_CHECK_REQUESTS_MAX, AUTH_CHECKS_MAX, AUTH_COST_MAX, AUTH_DELAY_MAX, AUTH_FILE_BYTES_MAX, AUTH_FRESH,
    AUTH_LOOK_REQUESTS_MAX, AUTH_REMEMBERED_FOR, AUTH_REMEMBERED_MAX, AuthRule, AuthUsers, Config,
};
use crate::docroot::own::OwnFiles;
use crate::features::api;
use crate::features::auth::guesses::{Guesses, Penalty};
use crate::features::upload;
use crate::handler::coalesce::{Coalesced, Unmade, Work};
use crate::handler::{Answer, Context, Handler, Now};
use crate::http::fields::trim_ows;
use crate::http::request::KeptHead;
use crate::http::target::{encode_path, normalize};
use crate::http::{Method, Request, Response, Status};
use crate::jobs::turns::{Origin, Task, Turns};
use crate::jobs::{Errands, Lane, lock};
use crate::pages::error::{ErrorForm, error, text_error};

/// What bcrypt looks at of a password. The rest would be ignored, so a longer one is refused.
const BCRYPT_BYTES_MAX: usize = 72;

/// Asks for a password where one is due, and passes the request on when it is right.
struct Auth {
    guard: Option<Arc<Guard>>,
    /// Where it takes a password, this one decides about requests that change something, in place
    /// of the other: a client has one name and password to give.
    write_guard: Option<Arc<Guard>>,
    inner: Arc<dyn Handler>,
}

/// `inner` behind the passwords of `guard`, and of `write_guard` for requests that change
/// something.
pub(crate) fn around(
    guard: Option<Arc<Guard>>,
    write_guard: Option<Arc<Guard>>,
    inner: Arc<dyn Handler>,
) -> Arc<dyn Handler> {
    Arc::new(Auth { guard, write_guard, inner })
}

/// True if the request changes nothing (RFC 9110 section 9.2.1).
fn is_safe(request: &Request<'_>) -> bool {
    let reads = matches!(request.method(), Method::Get | Method::Head | Method::Options | Method::Trace);
    reads && !upload::ends_a_request(request)
}

impl Handler for Auth {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let write_guard = self.write_guard.as_ref().filter(|_| !is_safe(request));
        let placed = [write_guard, self.guard.as_ref()].into_iter().flatten();
        let mut placed = placed.map(|guard| (guard, guard.place(request)));
        let decisive = placed.find(|(_, place)| !matches!(place, Place::Open));
        let Some((guard, place)) = decisive else { return self.inner.handle(request, cx) };
        let scope = match place {
            Place::Open => return self.inner.handle(request, cx),
            Place::Nowhere(why) => return error(Status::BAD_REQUEST, &why, ErrorForm::of(request)).into(),
            Place::Scope(scope) => scope,
        };
        let Some(credentials) = Credentials::of(request) else {
            return guard.refusal(scope, request).into();
        };
        judge(guard, &self.inner, Attempt { scope, credentials }, Looked::NotYet, request, cx)
    }
}

/// A name and a password for a part of the site.
struct Attempt {
    scope: usize,
    credentials: Credentials,
}

/// States whether the htpasswd files were looked at for the request in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    NotYet,
    Now,
}

/// Passes the request on, refuses it, or finds out what to do.
fn judge(
    guard: &Arc<Guard>,
    inner: &Arc<dyn Handler>,
    attempt: Attempt,
    looked: Looked,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    match guard.recall(&attempt, looked, cx.now()) {
        Recalled::Right => {
            welcome(&attempt.credentials, cx);
            inner.handle(request, cx)
        }
        Recalled::Wrong => guard.refuse_guess(attempt.scope, request, cx),
        Recalled::Stale => look_first(guard, inner, attempt, request, cx),
        Recalled::Unknown => check(guard, inner, attempt, request, cx),
    }
}

/// Has the htpasswd files looked at, then judges again. Needs no place among the password checks,
/// and is never refused.
fn look_first(
    guard: &Arc<Guard>,
    inner: &Arc<dyn Handler>,
    attempt: Attempt,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let (looker, now) = (Arc::clone(guard), cx.now());
    let begin = move |work: Work<(), ()>, errands: &Arc<dyn Errands>| {
        let look = move || {
            looker.refresh(now);
            work.finish(&());
        };
        errands.detach(Lane::Short, Box::new(look));
    };
    let (guard, inner) = (Arc::clone(guard), Arc::clone(inner));
    let (head, limits) = (KeptHead::of(request), cx.limits().clone());
    let looks = Arc::clone(&guard.looks);
    looks.answer(&(), cx, begin, move |_, cx| {
        head.with(&limits, |request| judge(&guard, &inner, attempt, Looked::Now, request, cx))
            .unwrap_or_else(lost)
    })
}

/// Has the password checked beside the loop, once for all equal attempts under way.
fn check(
    guard: &Arc<Guard>,
    inner: &Arc<dyn Handler>,
    attempt: Attempt,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let Attempt { scope, credentials } = attempt;
    let digest = digest_of(&guard.key, &guard.scopes[scope].path, &credentials);
    let (origin, asked) = (Origin::of(cx.peer()), cx.now());
    let (checker, own) = (Arc::clone(guard), credentials.clone());
    let begin = move |work: Work<Digest, bool>, errands: &Arc<dyn Errands>| {
        let checks = Arc::clone(&checker.attempts.checks);
        let check = Check { guard: checker, origin, scope, credentials: own, asked, work };
        checks.submit(origin, check, errands);
    };
    let (guard, inner) = (Arc::clone(guard), Arc::clone(inner));
    let (head, limits) = (KeptHead::of(request), cx.limits().clone());
    let verdicts = Arc::clone(&guard.attempts.verdicts);
    verdicts.answer(&digest, cx, begin, move |verdict, cx| {
        let answer = head.with(&limits, |request| match verdict {
            Ok(true) => {
                welcome(&credentials, cx);
                inner.handle(request, cx)
            }
            Ok(false) => guard.refuse_guess(scope, request, cx),
            Err(Unmade::Lost | Unmade::TooMany) => {
                let detail = "too many passwords are being checked";
                error(Status::SERVICE_UNAVAILABLE, detail, ErrorForm::of(request)).into()
            }
        });
        answer.unwrap_or_else(lost)
    })
}

/// The answer where a kept request cannot be read again.
fn lost() -> Answer {
    text_error(Status::INTERNAL_SERVER_ERROR, "the request was lost").into()
}

/// The client may come in. What it gets is for nobody else: a shared cache must not keep it.
fn welcome(credentials: &Credentials, cx: &mut Context<'_>) {
    // The path of the request has admitted it before the place it leads to does.
    if cx.user().is_some() {
        return;
    }
    cx.set_user(&String::from_utf8_lossy(&credentials.user));
    cx.keep_private();
}

/// A password check that waits for a worker.
struct Check {
    guard: Arc<Guard>,
    origin: Origin,
    scope: usize,
    credentials: Credentials,
    asked: Now,
    work: Work<Digest, bool>,
}

impl Task for Check {
    const LANE: Lane = Lane::Passwords;

    fn is_wanted(&self) -> bool {
        self.work.is_wanted()
    }

    fn run(self) {
        if self.work.is_wanted() {
            let is_right = self.guard.verify(self.scope, &self.credentials, self.asked);
            // A client that did not wait for its refusal has guessed all the same.
            if self.work.finish(&is_right) == 0 && !is_right {
                self.guard.attempts.guesses.note_gone(self.origin, self.asked.mono);
            }
        }
    }
}

/// Keyed hash of a name and a password for a part of the site.
type Digest = [u8; 32];

/// State that all guards of a server share: a client may try its passwords at each of them.
pub(crate) struct Attempts {
    guesses: Guesses,
    checks: Arc<Turns<Check>>,
    verdicts: Arc<Coalesced<Digest, bool>>,
}

impl Attempts {
    pub(crate) fn new() -> Arc<Self> {
        let verdicts = Coalesced::new(AUTH_CHECK_REQUESTS_MAX);
        let checks = Arc::new(Turns::new(AUTH_CHECKS_MAX));
        Arc::new(Attempts { guesses: Guesses::default(), checks, verdicts })
    }
}

/// Knows which paths take a password, and whose.
pub struct Guard {
    /// The longest path first.
    scopes: Vec<Scope>,
    /// Random for each process: whoever sees a hash, or measures how it is looked up, learns
    /// nothing by it.
    key: Hmac<Sha256>,
    state: Mutex<State>,
    /// Held while the htpasswd files are read: an older reading must not replace a newer one.
    reading: Mutex<()>,
    /// Looks at the htpasswd files under way.
    looks: Arc<Coalesced<(), ()>>,
    attempts: Arc<Attempts>,
    health: bool,
    clean_urls: bool,
    /// Contains the files of passwords, whichever have their names by now.
    own: Arc<OwnFiles>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.scopes.iter().map(|scope| scope.path.escape_ascii().to_string())).finish()
    }
}

/// The password of one part of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Password(usize);

/// Who decides about requests that change something.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteGuards {
    /// Where it takes a password, the first one decides.
    pub(crate) guards: [Option<Arc<Guard>>; 2],
}

impl WriteGuards {
    /// Whether a password is due to write at this normalised path.
    pub(crate) fn is_protected(&self, path: &[u8]) -> bool {
        self.decisive(path).is_some()
    }

    /// Whether whoever may write at `path` may write at `other` as well, by the same password or by
    /// none: what writes elsewhere than the path that was judged must ask. Both are normalised.
    pub(crate) fn is_same_for(&self, path: &[u8], other: &[u8]) -> bool {
        self.decisive(other).is_none_or(|decisive| self.decisive(path) == Some(decisive))
    }

    /// The guard that decides, and by which of its scopes.
    fn decisive(&self, path: &[u8]) -> Option<(usize, usize)> {
        let scopes = self.guards.iter().map(|guard| guard.as_ref()?.scope_of(path));
        scopes.enumerate().find_map(|(at, scope)| Some((at, scope?)))
    }
}

/// A part of the site, and who may see it.
struct Scope {
    /// Decoded, without a slash at its end: empty for the root.
    path: Vec<u8>,
    challenge: Vec<u8>,
    /// Keyed hashes of users whose passwords were given in clear.
    known: Vec<[u8; 32]>,
    /// Its htpasswd files, by their place in the state.
    books: Vec<usize>,
}

impl Scope {
    fn covers(&self, path: &[u8], clean_urls: bool) -> bool {
        let Some(rest) = path.strip_prefix(&self.path[..]) else { return self.serves(path) };
        // Where URLs are clean a page is called by its name without `.html`, and has that on the
        // disk.
        let rest = rest.strip_prefix(b".html").filter(|_| clean_urls).unwrap_or(rest);
        // The coded forms of a file lie beside it.
        matches!(rest, [] | [b'/', ..] | b".br" | b".gz" | b".zst")
    }

    /// Whether this is a page that is served at `path` under a shorter name: `/a/` for
    /// `/a/index.html`, and `/b` for `/b.html` where URLs are clean.
    fn serves(&self, path: &[u8]) -> bool {
        let Some(stem) = self.path.strip_suffix(b".html") else { return false };
        stem == path || stem.strip_suffix(b"index").is_some_and(|folder| folder == path)
    }
}

/// What changes while the server runs.
#[derive(Default)]
struct State {
    books: Vec<Book>,
    /// Keyed hashes of what was right, and until when that is remembered.
    right: HashMap<[u8; 32], Instant>,
    /// Counts the changes of the files: what was checked against an older one is not remembered.
    generation: u64,
    looked: Option<Instant>,
}

/// One htpasswd file as it was last read.
struct Book {
    file: PathBuf,
    stamp: Option<Stamp>,
    users: Arc<Users>,
}

/// Tells one state of a file from another: device, inode, size, modification and change time.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// Users with their bcrypt hashes.
#[derive(Default)]
struct Users {
    hashes: HashMap<Vec<u8>, String>,
    cost_max: u32,
    /// Users that no password fits, with the number of their line and the reason.
    disabled: HashMap<Vec<u8>, (usize, &'static str)>,
}

/// Disabled users of one file that are reported one by one.
const DISABLED_REPORTED_MAX: usize = 5;

impl Users {
    fn has(&self, user: &[u8]) -> bool {
        self.hashes.contains_key(user) || self.disabled.contains_key(user)
    }

    /// Warns of users who cannot log in, by their line: hashes are not for logs.
    fn report_disabled(&self, file: &Path) {
        let file = file.display();
        let mut lines: Vec<_> = self.disabled.values().collect();
        lines.sort_unstable();
        for (line, why) in lines.into_iter().take(DISABLED_REPORTED_MAX) {
            log::warn!(
                "'{file}' line {line} {why}, so its user cannot log in; 'htpasswd -B' makes a new one"
            );
        }
        let more = self.disabled.len().saturating_sub(DISABLED_REPORTED_MAX);
        if more > 0 {
            log::warn!("'{file}': {more} more users cannot log in for such reasons");
        }
    }
}

/// Where a request leads.
enum Place {
    /// Everybody may go there.
    Open,
    /// A password is due.
    Scope(usize),
    /// Its path is none, or not the same to everybody.
    Nowhere(String),
}

/// What is known of credentials without bcrypt.
enum Recalled {
    Right,
    Wrong,
    /// They were right when the htpasswd files were last looked at, which is too long ago.
    Stale,
    Unknown,
}

impl Guard {
    /// Reads the htpasswd files, which `flag` names; `None` when no path takes a password.
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
        let mut secret = [0; 32];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| format!("no random numbers: {errno}"))?;
        let key = Hmac::new_from_slice(&secret).map_err(|_| "no key for passwords".to_owned())?;
        let mut guard = Guard {
            scopes: Vec::new(),
            key,
            state: Mutex::default(),
            reading: Mutex::default(),
            looks: Coalesced::new(AUTH_LOOK_REQUESTS_MAX),
            attempts: Arc::clone(attempts),
            health: config.health,
            clean_urls: config.files.clean_urls,
            own: Arc::clone(own),
        };
        for rule in rules {
            guard.add(rule, flag)?;
        }
        guard.scopes.sort_by_key(|scope| std::cmp::Reverse(scope.path.len()));
        Ok(Some(guard))
    }

    /// The same with other challenges: a browser must not take the password for reading for this
    /// one.
    pub(crate) fn for_writing(mut self) -> Guard {
        for scope in &mut self.scopes {
            let plain = std::mem::take(&mut scope.challenge);
            let prefix = b"Basic realm=\"";
            let rest = plain.strip_prefix(prefix).unwrap_or(&plain);
            scope.challenge = [prefix, &b"writing "[..], rest].concat();
        }
        self
    }

    fn add(&mut self, rule: &AuthRule, flag: &str) -> Result<(), String> {
        let path = rule.path.trim_end_matches('/').as_bytes();
        let mut realm = Vec::new();
        encode_path(path, &mut realm);
        // A configuration may be made by hand, and a path that no request has would leave
        // everything open.
        if !path.is_empty() && !normalize(&realm).is_ok_and(|normal| *normal == *path) {
            return Err(format!("a password at '{}': no request has such a path", rule.path));
        }
        let at = self.scopes.iter().position(|scope| scope.path == path).unwrap_or_else(|| {
            let slash: &[u8] = if realm.is_empty() { b"/" } else { b"" };
            let challenge = [b"Basic realm=\"", slash, &realm[..], b"\", charset=\"UTF-8\""].concat();
            self.scopes.push(Scope { path: path.to_vec(), challenge, known: Vec::new(), books: Vec::new() });
            self.scopes.len() - 1
        });
        match &rule.users {
            AuthUsers::One { user, password } => {
                let credentials =
                    Credentials { user: user.clone().into(), password: password.clone().into() };
                let digest = digest_of(&self.key, path, &credentials);
                self.scopes[at].known.push(digest);
            }
            AuthUsers::File(file) => {
                let users = read_users(file).map_err(|why| {
                    let is_rule = file.as_os_str().as_encoded_bytes().contains(&b'@') && !file.exists();
                    let hint = if is_rule { "; a path begins with a slash: FILE@/PATH" } else { "" };
                    format!("{flag} '{}': {why}{hint}", file.display())
                })?;
                users.report_disabled(file);
                let mut state = lock(&self.state);
                // Without a stamp: it is read once more with the first request, when there is a
                // clock to judge it by.
                state.books.push(Book { file: file.clone(), stamp: None, users: Arc::new(users) });
                self.scopes[at].books.push(state.books.len() - 1);
            }
        }
        Ok(())
    }

    /// Whether a password is due at this normalised path.
    #[must_use]
    pub fn is_protected(&self, path: &[u8]) -> bool {
        self.scope_of(path).is_some()
    }

    /// The password that is due at this normalised path, if any.
    pub(crate) fn password_at(&self, path: &[u8]) -> Option<Password> {
        self.scope_of(path).map(Password)
    }

    /// Asks for the password of the place that the path of a request leads to, which is not that of
    /// the path, and passes the request on to `inner` if it is right.
    ///
    /// Where the path takes no password the response is 401, and the right one opens the place. A
    /// client has one name and password to give, so a path with a password of its own is 403.
    pub(crate) fn admit(
        self: &Arc<Self>,
        Password(scope): Password,
        inner: &Arc<dyn Handler>,
        request: &Request<'_>,
        cx: &mut Context<'_>,
    ) -> Answer {
        match (self.place(request), Credentials::of(request)) {
            (Place::Open, Some(credentials)) => {
                judge(self, inner, Attempt { scope, credentials }, Looked::NotYet, request, cx)
            }
            (Place::Open, None) => self.refusal(scope, request).into(),
            (Place::Scope(_) | Place::Nowhere(_), _) => {
                let detail = "the path leads to a place that takes another password";
                error(Status::FORBIDDEN, detail, ErrorForm::of(request)).into()
            }
        }
    }

    fn scope_of(&self, path: &[u8]) -> Option<usize> {
        self.scopes.iter().position(|scope| scope.covers(path, self.clean_urls))
    }

    fn place(&self, request: &Request<'_>) -> Place {
        let raw = request.path();
        if raw == b"*" || (self.health && raw == api::HEALTH.as_bytes()) {
            return Place::Open;
        }
        let path = match normalize(raw) {
            Ok(path) => path,
            Err(trouble) => return Place::Nowhere(trouble.to_string()),
        };
        let scope = self.scope_of(&path);
        // Routes are found by the path as it was received. One that begins behind a password and
        // climbs out of there, or the other way round, would be judged as one thing and answered as
        // another.
        let covers = |scope: usize| self.scopes[scope].covers(&path, self.clean_urls);
        if self.scope_of(raw).is_some_and(|apparent| !covers(apparent)) {
            return Place::Nowhere("the path leads out of a part that takes a password".to_owned());
        }
        scope.map_or(Place::Open, Place::Scope)
    }

    fn refusal(&self, scope: usize, request: &Request<'_>) -> Response {
        error(Status::UNAUTHORIZED, "a name and a password are needed here", ErrorForm::of(request))
            .with_field("WWW-Authenticate", &self.scopes[scope].challenge)
    }

    /// Refuses a wrong password, and the later the more often this client was wrong before. Beyond
    /// the number of refusals that may wait it is 429 at once, and the connection ends: a further
    /// guess takes another.
    fn refuse_guess(&self, scope: usize, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        match self.attempts.guesses.note(Origin::of(cx.peer()), cx.now().mono, cx.limits()) {
            Penalty::Nothing => self.refusal(scope, request).into(),
            Penalty::Delay(delay) => delay.answer(self.refusal(scope, request), cx),
            Penalty::TooMany => {
                let detail = "too many wrong names or passwords";
                error(Status::TOO_MANY_REQUESTS, detail, ErrorForm::of(request))
                    .with_field("Retry-After", AUTH_DELAY_MAX.as_secs().to_string())
                    .closing()
                    .into()
            }
        }
    }

    /// Judges an attempt as far as that is possible without bcrypt.
    fn recall(&self, attempt: &Attempt, looked: Looked, now: Now) -> Recalled {
        let scope = &self.scopes[attempt.scope];
        let mac = mac_of(&self.key, &scope.path, &attempt.credentials);
        // All of them, whichever is right: how long it takes tells nothing.
        let known = scope.known.iter().filter(|known| mac.clone().verify_slice(&known[..]).is_ok()).count();
        if known > 0 {
            return Recalled::Right;
        }
        if scope.books.is_empty() {
            return Recalled::Wrong;
        }
        let state = lock(&self.state);
        let is_remembered = state.right.get(&finish(mac)).is_some_and(|until| *until > now.mono);
        let is_fresh = looked == Looked::Now
            || state.looked.is_some_and(|looked| now.mono.saturating_duration_since(looked) < AUTH_FRESH);
        match (is_remembered, is_fresh) {
            (false, _) => Recalled::Unknown,
            (true, false) => Recalled::Stale,
            (true, true) => Recalled::Right,
        }
    }

    /// Whether these credentials are right: on a worker thread, where it may take its time.
    fn verify(&self, scope: usize, credentials: &Credentials, asked: Now) -> bool {
        let scope = &self.scopes[scope];
        self.refresh(asked);
        let digest = digest_of(&self.key, &scope.path, credentials);
        let (users, generation) = {
            let state = lock(&self.state);
            if state.right.get(&digest).is_some_and(|until| *until > asked.mono) {
                return true;
            }
            let users: Vec<_> =
                scope.books.iter().map(|&book| Arc::clone(&state.books[book].users)).collect();
            (users, state.generation)
        };
        let is_right = is_right(&users, credentials);
        if is_right {
            self.remember(digest, generation, asked.mono);
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

    /// Reads again which htpasswd files have changed. One that cannot be read, or not understood,
    /// counts as it was.
    ///
    /// The look counts from `asked`, and only when it is over: one that is given up must not pass
    /// for one that was done.
    fn refresh(&self, asked: Now) {
        let _reading = lock(&self.reading);
        let books: Vec<_> =
            lock(&self.state).books.iter().map(|book| (book.file.clone(), book.stamp)).collect();
        for (at, (file, known)) in books.into_iter().enumerate() {
            let stamp = stamp_of(&file, asked.wall);
            if stamp.is_some() && stamp == known {
                continue;
            }
            match read_users(&file) {
                Ok(users) => {
                    // The file may be another one than at the start.
                    self.own.take_again();
                    let mut state = lock(&self.state);
                    if users.disabled != state.books[at].users.disabled {
                        users.report_disabled(&file);
                    }
                    if users.hashes != state.books[at].users.hashes
                        || users.disabled != state.books[at].users.disabled
                    {
                        state.right.clear();
                        state.generation += 1;
                        state.books[at].users = Arc::new(users);
                    }
                    state.books[at].stamp = stamp;
                }
                Err(why) => {
                    log::warn!("'{}' is left as it was: {why}", file.display());
                    lock(&self.state).books[at].stamp = stamp;
                }
            }
        }
        let mut state = lock(&self.state);
        state.looked = state.looked.max(Some(asked.mono));
    }
}

/// `None` when it is not there, or changed so lately that a further change might not show.
fn stamp_of(file: &Path, wall: Duration) -> Option<Stamp> {
    /// The kernel's clock for files moves in steps of some milliseconds.
    const SETTLED_AFTER: Duration = Duration::from_millis(20);
    let meta = std::fs::metadata(file).ok()?;
    let nanoseconds = u32::try_from(meta.ctime_nsec()).ok()?;
    let changed = Duration::new(u64::try_from(meta.ctime()).ok()?, nanoseconds);
    let stamp = (
        meta.dev(),
        meta.ino(),
        meta.size(),
        (meta.mtime(), meta.mtime_nsec()),
        (meta.ctime(), meta.ctime_nsec()),
    );
    (wall >= changed + SETTLED_AFTER).then_some(stamp)
}

/// bcrypt, once: for the user's own hash, or for one that nothing fits when there is no such user.
fn is_right(users: &[Arc<Users>], credentials: &Credentials) -> bool {
    let cost = users.iter().map(|users| users.cost_max).max().unwrap_or_default();
    let own = users.iter().find_map(|users| users.hashes.get(&credentials.user));
    let nobody = format!("$2b${cost:02}${}", ".".repeat(53));
    let looked_at = &credentials.password[..credentials.password.len().min(BCRYPT_BYTES_MAX)];
    let fits = bcrypt::verify(looked_at, own.unwrap_or(&nobody)).unwrap_or(false);
    fits && own.is_some() && looked_at.len() == credentials.password.len()
}

fn mac_of(key: &Hmac<Sha256>, path: &[u8], credentials: &Credentials) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in [path, &credentials.user, &credentials.password] {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac
}

fn finish(mac: Hmac<Sha256>) -> [u8; 32] {
    mac.finalize().into_bytes().into()
}

fn digest_of(key: &Hmac<Sha256>, path: &[u8], credentials: &Credentials) -> [u8; 32] {
    finish(mac_of(key, path, credentials))
}

/// What a client claims to be.
#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Credentials {
    /// From the Authorization field. What is malformed is nobody: that gets a 401, which says how
    /// to do better.
    fn of(request: &Request<'_>) -> Option<Credentials> {
        let mut lines = request.fields().all("authorization");
        let (Some(value), None) = (lines.next(), lines.next()) else { return None };
        let space = value.iter().position(|&byte| byte == b' ')?;
        let (scheme, coded) = (&value[..space], trim_ows(&value[space..]));
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let pair = base64::engine::general_purpose::STANDARD.decode(coded).ok()?;
        let colon = pair.iter().position(|&byte| byte == b':')?;
        // RFC 7617 section 2: no control characters in either.
        if pair.iter().any(u8::is_ascii_control) {
            return None;
        }
        Some(Credentials { user: pair[..colon].to_vec(), password: pair[colon + 1..].to_vec() })
    }
}

fn read_users(file: &Path) -> Result<Users, String> {
    use std::io::Read;
    let mut text = Vec::new();
    let open = std::fs::File::open(file).map_err(|error| error.to_string())?;
    open.take(AUTH_FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > AUTH_FILE_BYTES_MAX {
        return Err(format!("more than {AUTH_FILE_BYTES_MAX} bytes"));
    }
    parse_users(&text)
}

/// An htpasswd file: a line a user, `name:hash`. Empty lines and those that begin with `#` are
/// skipped. An error names the number of a line and never its text: hashes are not for logs. A hash
/// that is of no use concerns its user alone, because files that were made for other servers have
/// several kinds.
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
            return Err(format!("line {number}: this user is there already"));
        }
        let mut disable = |why| {
            users.disabled.insert(name.to_vec(), (number, why));
        };
        match bcrypt_cost(hash) {
            None => disable("has no bcrypt hash"),
            Some(cost) if cost > AUTH_COST_MAX => disable("has a bcrypt hash that takes too long"),
            Some(cost) => {
                users.hashes.insert(name.to_vec(), String::from_utf8_lossy(hash).into_owned());
                users.cost_max = users.cost_max.max(cost);
            }
        }
    }
    match users.hashes.is_empty() && users.disabled.is_empty() {
        true => Err("no user is in it; add one with 'htpasswd -B'".to_owned()),
        false => Ok(users),
    }
}

/// The cost of a bcrypt hash; `None` if it is none.
fn bcrypt_cost(hash: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(hash).ok()?;
    let known = ["$2y$", "$2b$", "$2a$"].iter().any(|version| text.starts_with(version));
    let parts: bcrypt::HashParts = text.parse().ok().filter(|_| known && text.len() == 60)?;
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    let cost = parts.get_cost();
    (hash[7..].iter().all(is_letter) && (4..=31).contains(&cost)).then_some(cost)
}

/// `USER:PASSWORD[@URLPATH]`. A password may hold an at sign; the last one before a slash begins
/// the path.
pub(crate) fn parse_user_rule(text: &str) -> Result<AuthRule, String> {
    let (pair, path) = split_path(text)?;
    let Some((user, password)) = pair.split_once(':').filter(|(user, _)| !user.is_empty()) else {
        return Err("not of the form USER:PASSWORD or USER:PASSWORD@/PATH".to_owned());
    };
    if pair.chars().any(char::is_control) {
        return Err("a name or password has no control characters".to_owned());
    }
    Ok(AuthRule { path, users: AuthUsers::One { user: user.into(), password: password.into() } })
}

/// `FILE[@URLPATH]`.
pub(crate) fn parse_file_rule(text: &str) -> Result<AuthRule, String> {
    let (file, path) = split_path(text)?;
    match file.is_empty() {
        true => Err("no file is named".to_owned()),
        false => Ok(AuthRule { path, users: AuthUsers::File(file.into()) }),
    }
}

fn split_path(text: &str) -> Result<(&str, String), String> {
    let (rest, path) = text.rfind("@/").map_or((text, "/"), |at| (&text[..at], &text[at + 1..]));
    Ok((rest, parse_auth_path(path)?))
}

/// A path that takes a password, as it is written in a URL: the form in which requests are judged.
pub(crate) fn parse_auth_path(text: &str) -> Result<String, String> {
    let path = normalize(text.as_bytes()).map_err(|trouble| trouble.to_string())?;
    String::from_utf8(path.into_owned()).map_err(|_| "the path is not UTF-8".to_owned())
}

#[cfg(test)]
impl Guard {
    /// For tests: users with their passwords, as `--auth` takes them.
    pub(crate) fn of(rules: &[&str], clean_urls: bool) -> Arc<Guard> {
        let mut config = Config::default();
        config.files.clean_urls = clean_urls;
        config.site.auth = rules.iter().map(|text| parse_user_rule(text).unwrap()).collect();
        Arc::new(
            Guard::open(&config.site.auth, "--htpasswd", &config, &Attempts::new(), &Arc::default())
                .unwrap()
                .unwrap(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::{FieldSlots, parse};

    /// `open sesame` with the least cost.
    const HASH: &str = "$2y$04$J25P14iGRWYRBQZ85PXm9OS69IW/qjgPJDpQHgmD8SA8yGz3sQvc2";

    fn rule(text: &str) -> AuthRule {
        parse_user_rule(text).unwrap()
    }

    fn guard(rules: &[&str]) -> Guard {
        let mut config = Config::default();
        config.site.auth = rules.iter().map(|text| rule(text)).collect();
        Guard::open(&config.site.auth, "--htpasswd", &config, &Attempts::new(), &Arc::default())
            .unwrap()
            .unwrap()
    }

    fn with_request<T>(target: &str, fields: &str, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut slots = FieldSlots::new();
        look(&parse(head.as_bytes(), &mut slots, &crate::config::Limits::default()).unwrap())
    }

    #[test]
    fn every_spelling_of_a_protected_path_is_protected() {
        let guard = guard(&["u:p@/private", "u:p@/a/b/"]);
        for target in [
            "/private",
            "/private/",
            "/private/x",
            "/%70rivate/x",
            "/p%72ivate",
            "//private/x",
            "/./private/x",
            "/a/../private/x",
            "/a/%2e%2E/private/x",
            "/../private/x",
            "/private/./x",
            "/private//x",
            "/private/y/../x",
            "/private?x",
            "http://other.example/private/x",
            "/a/b",
            "/a//b/",
            "/a/b/c",
        ] {
            let scope = with_request(target, "", |request| match guard.place(request) {
                Place::Scope(_) => true,
                Place::Open | Place::Nowhere(_) => false,
            });
            assert!(scope, "{target}");
        }
        for target in ["/", "/privately", "/Private", "/a", "/a/c/b", "/public/private", "/_whirligig/health"]
        {
            assert!(
                with_request(target, "", |request| matches!(guard.place(request), Place::Open)),
                "{target}"
            );
        }
        for target in ["/private/../x", "/private/..", "/private/%2e%2e/a", "/private%2fx", "/%00"] {
            let nowhere =
                with_request(target, "", |request| matches!(guard.place(request), Place::Nowhere(_)));
            assert!(nowhere, "{target}");
        }
    }

    #[test]
    fn a_file_takes_its_password_under_all_its_names() {
        let guard = guard(&["u:p@/a/index.html", "u:p@/b.html", "u:p@/c.txt", "u:p@/index.html"]);
        for path in
            ["/a/index.html", "/a/", "/b.html", "/b", "/c.txt", "/c.txt.gz", "/c.txt.br", "/c.txt.zst", "/"]
        {
            assert!(guard.is_protected(path.as_bytes()), "{path}");
        }
        for path in ["/a", "/a/b", "/bb", "/b/", "/c", "/c.txt.bz2", "/x"] {
            assert!(!guard.is_protected(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn the_longest_path_decides_and_health_stays_open() {
        let guard = guard(&["a:p", "b:p@/x/y", "c:p@/x"]);
        let path = |target: &str| {
            with_request(target, "", |request| match guard.place(request) {
                Place::Scope(scope) => Some(String::from_utf8(guard.scopes[scope].path.clone()).unwrap()),
                Place::Open | Place::Nowhere(_) => None,
            })
        };
        assert_eq!(path("/x/y/z").as_deref(), Some("/x/y"));
        assert_eq!(path("/x/yy").as_deref(), Some("/x"));
        assert_eq!(path("/z").as_deref(), Some(""));
        assert_eq!(path("/_whirligig/metrics").as_deref(), Some(""));
        assert_eq!(
            path("//_whirligig/health").as_deref(),
            Some(""),
            "what the route does not match is a file"
        );
        assert_eq!(path("/_whirligig/health"), None);
        assert!(guard.is_protected(b"/z"));
        let password = |path: &str| guard.password_at(path.as_bytes()).unwrap();
        assert!(password("/") == password("/z") && password("/x/") == password("/x/z"));
        assert!(password("/") != password("/x/z") && password("/x") != password("/x/y"));
    }

    #[test]
    fn credentials_are_read_strictly_and_never_an_error() {
        let read = |fields: &str| {
            with_request("/", fields, |request| {
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

    #[test]
    fn passwords_given_in_clear_are_compared_whole() {
        let guard = guard(&["u:p@/x", "v:q@/x", "w:r@/y"]);
        let now = crate::reactor::os::read_clocks();
        let scope = guard.scope_of(b"/x").unwrap();
        let recall = |user: &str, password: &str| {
            let credentials = Credentials { user: user.into(), password: password.into() };
            matches!(guard.recall(&Attempt { scope, credentials }, Looked::NotYet, now), Recalled::Right)
        };
        assert!(recall("u", "p") && recall("v", "q"));
        for (user, password) in
            [("u", "q"), ("u", ""), ("", "p"), ("up", ""), ("u", "pp"), ("w", "r"), ("U", "p")]
        {
            assert!(!recall(user, password), "{user}:{password}");
        }
    }

    /// A look was noted when it was asked for. A client that broke that request off kept the others
    /// from looking, and so a user who had been removed could go on.
    #[test]
    fn a_look_at_the_users_counts_when_it_is_over() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, format!("u:{HASH}\n")).unwrap();
        let config = Config::default();
        let users = AuthUsers::File(file.path().to_owned());
        let rules = [AuthRule { path: "/x".into(), users }];
        let guard =
            Guard::open(&rules, "--htpasswd", &config, &Attempts::new(), &Arc::default()).unwrap().unwrap();
        let credentials = Credentials { user: b"u".to_vec(), password: b"open sesame".to_vec() };
        let attempt = Attempt { scope: 0, credentials };
        let start = crate::reactor::os::read_clocks();
        let at = |secs| {
            let passed = Duration::from_secs(secs);
            Now { mono: start.mono + passed, wall: start.wall + passed }
        };
        let recall = |secs, looked| guard.recall(&attempt, looked, at(secs));
        assert!(matches!(recall(0, Looked::NotYet), Recalled::Unknown));
        assert!(guard.verify(0, &attempt.credentials, at(0)));
        assert!(matches!(recall(0, Looked::NotYet), Recalled::Right));
        for _ in 0..3 {
            assert!(matches!(recall(2, Looked::NotYet), Recalled::Stale), "until somebody has looked");
        }
        guard.refresh(at(2));
        assert!(matches!(recall(2, Looked::NotYet), Recalled::Right));
        std::fs::write(&file, format!("v:{HASH}\n")).unwrap();
        assert!(matches!(recall(4, Looked::NotYet), Recalled::Stale));
        guard.refresh(at(4));
        assert!(matches!(recall(4, Looked::Now), Recalled::Unknown));
        assert!(!guard.verify(0, &attempt.credentials, at(4)));
    }

    #[test]
    fn htpasswd_files_hold_bcrypt_only_and_errors_name_the_line() {
        let users = parse_users(format!("# people\n\nu:{HASH}\r\n  v:{HASH}\n").as_bytes()).unwrap();
        assert_eq!((users.hashes.len(), users.cost_max), (2, 4));
        let cases = [
            (format!("u:{HASH}\n:{HASH}\n"), "line 2: not of the form name:hash"),
            (format!("u:{HASH}\n\nuser\n"), "line 3: not of the form name:hash"),
            (format!("u:{HASH}\nu:{HASH}"), "line 2: this user is there already"),
            ("u:$apr1$abc$def\nu:$1$x$y".to_owned(), "line 2: this user is there already"),
            ("# nobody\n".to_owned(), "no user is in it; add one with 'htpasswd -B'"),
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
            assert_eq!(why.contains("too long"), hash == costly, "{hash}: {why}");
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

    #[test]
    fn rules_are_read_from_their_flags() {
        let one = |user: &str, password: &str, path: &str| AuthRule {
            path: path.into(),
            users: AuthUsers::One { user: user.into(), password: password.into() },
        };
        assert_eq!(parse_user_rule("u:p"), Ok(one("u", "p", "/")));
        assert_eq!(parse_user_rule("u:p@q:r@/a%20b//c/"), Ok(one("u", "p@q:r", "/a b/c/")));
        assert_eq!(parse_user_rule("u:"), Ok(one("u", "", "/")));
        for bad in ["", "u", ":p", "u:p\n", "u:p@/%zz", "u:p@/a%2fb", "u@/x"] {
            assert!(parse_user_rule(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_file_rule("a@b/users@/x").unwrap().users, AuthUsers::File("a@b/users".into()));
        assert!(parse_file_rule("@/x").is_err());
        assert!(!format!("{:?}", rule("u:secret")).contains("secret"));
    }
}
