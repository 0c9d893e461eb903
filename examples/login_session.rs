//! Login and logout with sessions on the server and a signed cookie that contains a session id.
//!
//! Run `cargo run --example login_session -- [SECONDS]` and open the printed address. `--model
//! threads` selects the twin. `anna` has the password `secret`, and `bert` has `hidden`. Without a
//! session `/members` returns 401, and for `bert` `/admin` returns 403. A login always starts a new
//! session, so an id planted before the login is worthless. A logout ends the session on the
//! server, so a copied cookie is worthless, too. A session lasts SECONDS (default 1800).

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use whirligig::session::{Signer, random_id};
use whirligig::{Call, Cookie, Refusal, Response, Server, Status};

/// Passwords in the source are only for examples. For real ones, use `whirligig --htpasswd` or the
/// crate bcrypt.
const USERS: [(&str, &str); 2] = [("anna", "secret"), ("bert", "hidden")];
const COOKIE: &str = "session";
const SESSIONS_MAX: usize = 10_000;

struct Session {
    user: &'static str,
    expires: Duration,
}

struct Sessions {
    signer: Signer,
    lasts: Duration,
    open: Mutex<HashMap<String, Session>>,
}

fn unknown(why: &'static str) -> Response {
    let response: Response = Refusal::new(Status::UNAUTHORIZED, why).into();
    response.with_header("WWW-Authenticate", "Session realm=\"members\"")
}

impl Sessions {
    /// Returns the session id in the request's cookie if its signature is valid.
    fn id(&self, call: &Call<'_>) -> Option<String> {
        self.signer.open(&call.cookie(COOKIE)?, call.now().wall)
    }

    /// Returns the user of the session, or a response with status 401. A 401 must name an
    /// authentication scheme (RFC 9110 section 15.5.2). Browsers do not know the scheme `Session`,
    /// so they show the page and no login dialog.
    fn user(&self, call: &Call<'_>) -> Result<&'static str, Response> {
        let open =
            self.open.lock().map_err(|_| Refusal::failed("a handler panicked while it held the sessions"))?;
        let session =
            self.id(call).and_then(|id| open.get(&id).filter(|session| session.expires > call.now().wall));
        session.map(|session| session.user).ok_or_else(|| unknown("log in first, at /"))
    }

    fn begin(&self, call: &Call<'_>, user: &'static str) -> Result<Cookie, Refusal> {
        let now = call.now().wall;
        let id = random_id().map_err(|_| Refusal::failed("no random numbers are available"))?;
        let mut open =
            self.open.lock().map_err(|_| Refusal::failed("a handler panicked while it held the sessions"))?;
        open.retain(|_, session| session.expires > now);
        if let Some(old) = self.id(call) {
            open.remove(&old);
        }
        if open.len() >= SESSIONS_MAX {
            return Err(Refusal::new(Status::SERVICE_UNAVAILABLE, "too many users are logged in"));
        }
        let expires = now + self.lasts;
        let token = self.signer.seal(&id, expires);
        open.insert(id, Session { user, expires });
        // HttpOnly and SameSite=Lax are the defaults. Behind TLS, add `.secure()`.
        Ok(Cookie::new(COOKIE, &token).max_age(self.lasts))
    }
}

const PAGE: &str =
    "<!doctype html><title>Log in</title><form method=post action=/login><input name=user placeholder=User>
<input name=password type=password placeholder=Password> <button id=login>Log in</button></form>";

fn login(call: &Call<'_>, sessions: &Sessions) -> Result<Response, Response> {
    let form = call.form()?;
    let (user, password) = (form.need("user")?, form.need("password")?);
    let known = USERS.iter().find(|(name, right)| *name == user && *right == password);
    let (user, _) = known.ok_or_else(|| unknown("wrong user name or password"))?;
    Ok(Response::redirect(Status::SEE_OTHER, "/members").with_cookie(&sessions.begin(call, user)?))
}

fn members(call: &Call<'_>, sessions: &Sessions) -> Result<Response, Response> {
    let user = sessions.user(call)?;
    Ok(Response::html(format!(
        "<!doctype html><title>Members</title><h1>Welcome, {user}</h1><a href=/admin>admin</a>\
         <form method=post action=/logout><button id=logout>Log out</button></form>"
    ))
    .with_header("Cache-Control", "no-store"))
}

/// Returns 403 if the user is known but not allowed (RFC 9110 section 15.5.4).
fn admin(call: &Call<'_>, sessions: &Sessions) -> Result<Response, Response> {
    match sessions.user(call)? {
        "anna" => Ok(Response::text("only anna sees this\n")),
        user => Err(Refusal::forbidden(format!("this is not for {user}")).into()),
    }
}

fn logout(call: &Call<'_>, sessions: &Sessions) -> Result<Response, Response> {
    if let Some(id) = sessions.id(call) {
        sessions
            .open
            .lock()
            .map_err(|_| Refusal::failed("a handler panicked while it held the sessions"))?
            .remove(&id);
    }
    Ok(Response::redirect(Status::SEE_OTHER, "/").with_cookie(&Cookie::gone(COOKIE)))
}

fn main() -> common::Outcome {
    let lasts = Duration::from_secs(common::words().next().map_or(Ok(1800), |word| word.parse())?);
    let sessions = Arc::new(Sessions { signer: Signer::random()?, lasts, open: Mutex::default() });
    // Gives each handler a reference to the sessions.
    let with = |answer: fn(&Call<'_>, &Sessions) -> Result<Response, Response>| {
        let sessions = Arc::clone(&sessions);
        move |call: &Call<'_>| answer(call, &sessions)
    };
    let server = Server::builder()
        .get("/", |_| Response::html(PAGE))
        .post("/login", with(login))
        .get("/members", with(members))
        .get("/admin", with(admin))
        .post("/logout", with(logout))
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
