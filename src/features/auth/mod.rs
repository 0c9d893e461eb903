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
use crate::features::auth::guard::{Attempt, Cached, Check, Guard, Looked, Place};
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
        let placed = [write_guard, self.guard.as_ref()].into_iter().flatten();
        let mut placed = placed.map(|guard| (guard, guard.place(request)));
        let decisive = placed.find(|(_, place)| !matches!(place, Place::Open));
        let Some((guard, place)) = decisive else { return self.inner.handle(request, cx) };
        let scope = match place {
            Place::Open => return self.inner.handle(request, cx),
            Place::Nowhere(why) => return Response::problem(Status::BAD_REQUEST, why).into(),
            Place::Realm(scope) => scope,
        };
        let Some(credentials) = Credentials::of(request) else {
            return guard.refusal(scope).into();
        };
        judge(guard, &self.inner, Attempt { scope, credentials }, Looked::NotYet, request, cx)
    }
}

/// Passes the request to `inner`, refuses it, or starts the check that decides.
fn judge(
    guard: &Arc<Guard>,
    inner: &Arc<dyn Handler>,
    attempt: Attempt,
    looked: Looked,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    match guard.recall(&attempt, looked, cx.now()) {
        Cached::Right => {
            welcome(&attempt.credentials, cx);
            inner.handle(request, cx)
        }
        Cached::Wrong => guard.refuse_guess(attempt.scope, cx),
        Cached::Stale => look_first(guard, inner, attempt, request, cx),
        Cached::Unknown => check(guard, inner, attempt, request, cx),
    }
}

/// Checks the htpasswd files for changes, then judges the attempt again.
///
/// The check takes no permit for password checks, so it is never refused.
fn look_first(
    guard: &Arc<Guard>,
    inner: &Arc<dyn Handler>,
    attempt: Attempt,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let (looker, now) = (Arc::clone(guard), cx.now());
    let begin = move |work: Work<(), ()>, spawner: &Arc<dyn Spawn>| {
        let look = move || {
            looker.refresh(now);
            work.finish(&());
        };
        spawner.detach(Lane::Short, Box::new(look));
    };
    let (guard, inner) = (Arc::clone(guard), Arc::clone(inner));
    let request = KeptRequest::of(request, cx);
    let looks = Arc::clone(&guard.looks);
    looks.answer(&(), cx, begin, move |_, cx| {
        request.answer(|request| judge(&guard, &inner, attempt, Looked::Now, request, cx))
    })
}

/// Checks the password in a job. Equal attempts that are pending share one check.
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
    let begin = move |work: Work<Digest, bool>, spawner: &Arc<dyn Spawn>| {
        let checks = Arc::clone(&checker.attempts.checks);
        let check = Check { guard: checker, origin, scope, credentials: own, asked, work };
        checks.submit(origin, check, spawner);
    };
    let (guard, inner) = (Arc::clone(guard), Arc::clone(inner));
    let request = KeptRequest::of(request, cx);
    let verdicts = Arc::clone(&guard.attempts.verdicts);
    verdicts.answer(&digest, cx, begin, move |verdict, cx| {
        request.answer(|request| match verdict {
            Ok(true) => {
                welcome(&credentials, cx);
                inner.handle(request, cx)
            }
            Ok(false) => guard.refuse_guess(scope, cx),
            Err(NoResult::Lost | NoResult::TooMany) => {
                let detail = "too many passwords are being checked";
                Response::problem(Status::SERVICE_UNAVAILABLE, detail).into()
            }
        })
    })
}

/// Records the user of an admitted request, and forbids shared caches to store the response.
fn welcome(credentials: &Credentials, cx: &mut Context<'_>) {
    // The guard for the request path runs first, so its user stays.
    if cx.user().is_some() {
        return;
    }
    cx.set_user(&String::from_utf8_lossy(&credentials.user));
    cx.keep_private();
}

impl Passwords for Guard {
    fn password_at(&self, path: &[u8]) -> Option<Password> {
        self.scope_of(path).map(Password)
    }

    /// Requires the password of the location that the request path leads to, if it differs from the
    /// password of the path itself. Passes the request to `inner` if the password is correct.
    ///
    /// If the path itself is open, a missing password is a 401 and the correct one admits the
    /// request. If the path has a password of its own, the response is 403, because a request
    /// carries only one name and password.
    fn admit(
        self: Arc<Self>,
        Password(scope): Password,
        inner: &Arc<dyn Handler>,
        request: &Request<'_>,
        cx: &mut Context<'_>,
    ) -> Answer {
        match (self.place(request), Credentials::of(request)) {
            (Place::Open, Some(credentials)) => {
                judge(&self, inner, Attempt { scope, credentials }, Looked::NotYet, request, cx)
            }
            (Place::Open, None) => self.refusal(scope).into(),
            (Place::Realm(_) | Place::Nowhere(_), _) => {
                let detail = "the path leads to a location that requires another password";
                Response::problem(Status::FORBIDDEN, detail).into()
            }
        }
    }
}
