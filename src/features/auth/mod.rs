//! Passwords for parts of the site: Basic authentication (RFC 7617) by path.
//!
//! bcrypt is slow on purpose, so password checks run in a job. A correct password is remembered for
//! a while under a keyed hash, so a busy client costs one hash per request. Wrong passwords and
//! unknown users get the same response after the same work. Passwords are never logged, and are not
//! kept in clear after startup.
//!
//! Must not know which handler serves an admitted request.

mod credentials;
pub(crate) mod guard;
pub(crate) mod guesses;
mod htpasswd;
pub(crate) mod rule;

use std::sync::Arc;

use crate::features::auth::credentials::{Credentials, Digest, digest_of};
use crate::features::auth::guard::{Cached, Check, FilesChecked, Guard, LoginAttempt, Protection};
use crate::features::resume_token;
use crate::handler::coalesce::{NoResult, Work};
use crate::handler::kept_request::KeptRequest;
use crate::handler::passwords::{Password, Passwords};
use crate::handler::{Answer, Context, Handler};
use crate::http::{Method, Request, Response, Status};
use crate::jobs::fair_queue::Origin;
use crate::jobs::{Lane, Spawn};

/// Handler that requires a password for protected paths and passes admitted requests to `inner`.
struct Auth {
    guard: Option<Arc<Guard>>,
    /// Guard for requests that change something. Where this guard protects a path, it decides
    /// instead of `guard`, because a request carries only one name and password.
    write_guard: Option<Arc<Guard>>,
    inner: Arc<dyn Handler>,
}

/// Wraps `inner` in the passwords of `guard`, and of `write_guard` for requests that change
/// something.
pub(crate) fn wrap(
    guard: Option<Arc<Guard>>,
    write_guard: Option<Arc<Guard>>,
    inner: Arc<dyn Handler>,
) -> Arc<dyn Handler> {
    Arc::new(Auth { guard, write_guard, inner })
}

/// True if the request changes nothing (RFC 9110 section 9.2.1).
fn is_safe(request: &Request<'_>) -> bool {
    let reads = matches!(request.method(), Method::Get | Method::Head | Method::Options | Method::Trace);
    reads && !resume_token::ends_a_request(request)
}

impl Handler for Auth {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let write_guard = self.write_guard.as_ref().filter(|_| !is_safe(request));
        let protected = [write_guard, self.guard.as_ref()].into_iter().flatten();
        let mut protected = protected.map(|guard| (guard, guard.protection(request)));
        let deciding = protected.find(|(_, protection)| !matches!(protection, Protection::None));
        let Some((guard, protection)) = deciding else { return self.inner.handle(request, cx) };
        let realm = match protection {
            Protection::None => return self.inner.handle(request, cx),
            Protection::Invalid(why) => return Response::problem(Status::BAD_REQUEST, why).into(),
            Protection::Realm(realm) => realm,
        };
        let Some(credentials) = Credentials::of(request) else {
            return guard.refusal(realm).into();
        };
        judge(guard, &self.inner, LoginAttempt { realm, credentials }, FilesChecked::NotYet, request, cx)
    }
}

/// Passes the request to `inner`, refuses it, or starts the check that decides.
fn judge(
    guard: &Arc<Guard>,
    inner: &Arc<dyn Handler>,
    attempt: LoginAttempt,
    files_checked: FilesChecked,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    match guard.recall(&attempt, files_checked, cx.now()) {
        Cached::Right => {
            admit_user(&attempt.credentials, cx);
            inner.handle(request, cx)
        }
        Cached::Wrong => guard.refuse_guess(attempt.realm, cx),
        Cached::Stale => check_files_first(guard, inner, attempt, request, cx),
        Cached::Unknown => check(guard, inner, attempt, request, cx),
    }
}

/// Checks the htpasswd files for changes, then judges the attempt again.
///
/// The check takes no permit for password checks, so it is never refused.
fn check_files_first(
    guard: &Arc<Guard>,
    inner: &Arc<dyn Handler>,
    attempt: LoginAttempt,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let (checker, now) = (Arc::clone(guard), cx.now());
    let begin = move |work: Work<(), ()>, spawner: &Arc<dyn Spawn>| {
        let refresh = move || {
            checker.refresh(now);
            work.finish(&());
        };
        spawner.detach(Lane::Short, Box::new(refresh));
    };
    let (guard, inner) = (Arc::clone(guard), Arc::clone(inner));
    let request = KeptRequest::of(request, cx);
    let file_checks = Arc::clone(&guard.file_checks);
    file_checks.answer(&(), cx, begin, move |_, cx| {
        request.answer(|request| judge(&guard, &inner, attempt, FilesChecked::Now, request, cx))
    })
}

/// Checks the password in a job. Equal attempts that are pending share one check.
fn check(
    guard: &Arc<Guard>,
    inner: &Arc<dyn Handler>,
    attempt: LoginAttempt,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let LoginAttempt { realm, credentials } = attempt;
    let digest = digest_of(&guard.key, &guard.realms[realm].path, &credentials);
    let (origin, requested_at) = (Origin::of(cx.peer()), cx.now());
    let (checker, own) = (Arc::clone(guard), credentials.clone());
    let begin = move |work: Work<Digest, bool>, spawner: &Arc<dyn Spawn>| {
        let checks = Arc::clone(&checker.attempts.checks);
        let check = Check { guard: checker, origin, realm, credentials: own, requested_at, work };
        checks.submit(origin, check, spawner);
    };
    let (guard, inner) = (Arc::clone(guard), Arc::clone(inner));
    let request = KeptRequest::of(request, cx);
    let verdicts = Arc::clone(&guard.attempts.verdicts);
    verdicts.answer(&digest, cx, begin, move |verdict, cx| {
        request.answer(|request| match verdict {
            Ok(true) => {
                admit_user(&credentials, cx);
                inner.handle(request, cx)
            }
            Ok(false) => guard.refuse_guess(realm, cx),
            Err(NoResult::Lost | NoResult::TooMany) => {
                let detail = "too many passwords are being checked";
                Response::problem(Status::SERVICE_UNAVAILABLE, detail).into()
            }
        })
    })
}

/// Records the user of an admitted request, and forbids shared caches to store the response.
fn admit_user(credentials: &Credentials, cx: &mut Context<'_>) {
    // The guard for the request path runs first, so its user stays.
    if cx.user().is_some() {
        return;
    }
    cx.set_user(&String::from_utf8_lossy(&credentials.user));
    cx.keep_private();
}

impl Passwords for Guard {
    fn password_at(&self, path: &[u8]) -> Option<Password> {
        self.realm_of(path).map(Password)
    }

    /// Requires the password of the location that the request path leads to, if it differs from the
    /// password of the path itself. Passes the request to `inner` if the password is correct.
    ///
    /// If the path itself is open, a missing password is a 401 and the correct one admits the
    /// request. If the path has a password of its own, the response is 403, because a request
    /// carries only one name and password.
    fn admit(
        self: Arc<Self>,
        Password(realm): Password,
        inner: &Arc<dyn Handler>,
        request: &Request<'_>,
        cx: &mut Context<'_>,
    ) -> Answer {
        match (self.protection(request), Credentials::of(request)) {
            (Protection::None, Some(credentials)) => {
                judge(&self, inner, LoginAttempt { realm, credentials }, FilesChecked::NotYet, request, cx)
            }
            (Protection::None, None) => self.refusal(realm).into(),
            (Protection::Realm(_) | Protection::Invalid(_), _) => {
                let detail = "the path leads to a location that requires another password";
                Response::problem(Status::FORBIDDEN, detail).into()
            }
        }
    }
}
