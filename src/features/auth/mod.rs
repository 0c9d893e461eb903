//! Passwords for parts of the site: Basic authentication (RFC 7617) by path.
//!
//! bcrypt is slow on purpose, so it runs in a job, and a right password is remembered for a while
//! under a keyed hash: a busy client costs one hash a request. Wrong and unknown users get the same
//! answer after the same work. A password is never logged, and never kept in clear behind the
//! start.

mod credentials;
pub(crate) mod guard;
pub(crate) mod guesses;
mod htpasswd;
pub(crate) mod rule;

use std::sync::Arc;

use crate::features::auth::credentials::{Credentials, Digest, digest_of};
use crate::features::auth::guard::{Attempt, Check, Guard, Looked, Password, Place, Recalled};
use crate::features::resume_token;
use crate::handler::coalesce::{Unmade, Work};
use crate::handler::{Answer, Context, Handler};
use crate::http::kept_head::KeptHead;
use crate::http::{Method, Request, Status};
use crate::jobs::turns::Origin;
use crate::jobs::{Errands, Lane};
use crate::pages::error::{ErrorForm, error, text_error};

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
            Place::Nowhere(why) => return error(Status::BAD_REQUEST, &why, ErrorForm::of(request)).into(),
            Place::Scope(scope) => scope,
        };
        let Some(credentials) = Credentials::of(request) else {
            return guard.refusal(scope, request).into();
        };
        judge(guard, &self.inner, Attempt { scope, credentials }, Looked::NotYet, request, cx)
    }
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

impl Guard {
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
}
