//! Calls: requests with typed access to their parts, as routes receive them.
//!
//! The head is borrowed, and the content is complete and in memory. Everything that can be wrong
//! with either is a [`Refusal`], which `?` turns into the response. Must not know how the route was
//! found, or which thread runs it.

use std::borrow::Cow;
use std::ops::Deref;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::clock::Now;
use crate::conn_id::{ConnId, Peer};
use crate::files;
use crate::handler::Context;
use crate::handler::offload::{Offloaded, Producer};
use crate::http::form::{self, Pairs, Part};
use crate::http::refusal::Refusal;
use crate::http::{Request, Response, Status, cookie};
use crate::jobs::Spawn;
use crate::jobs::inbox::Waker;

/// Context of a call: the loop, or a worker thread.
pub(crate) trait Place {
    fn waker(&self) -> Waker;
    fn spawner(&self) -> Arc<dyn Spawn>;
}

impl Place for Context<'_> {
    fn waker(&self) -> Waker {
        Context::waker(self)
    }

    fn spawner(&self) -> Arc<dyn Spawn> {
        Context::spawner(self)
    }
}

/// Context of a call on a worker thread.
pub(crate) struct Away {
    waker: Waker,
    spawner: Arc<dyn Spawn>,
}

impl Away {
    pub(crate) fn of(cx: &Context<'_>) -> Self {
        Away { waker: cx.waker(), spawner: cx.spawner() }
    }
}

impl Place for Away {
    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn spawner(&self) -> Arc<dyn Spawn> {
        Arc::clone(&self.spawner)
    }
}

/// Values of the parameters in a path, with their names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Params<'a> {
    pub(crate) names: &'a [String],
    pub(crate) values: &'a [String],
}

/// A request with its content, as a route receives it. Methods of the head ([`Request`]) can be
/// called directly: `call.method()`, `call.header("accept")`, `call.target()`.
pub struct Call<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) params: Params<'a>,
    pub(crate) content: &'a [u8],
    pub(crate) now: Now,
    pub(crate) id: ConnId,
    pub(crate) peer: &'a Peer,
    pub(crate) place: &'a (dyn Place + 'a),
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Call({} {})", self.request.method().name(), self.request.target())
    }
}

impl<'a> Deref for Call<'a> {
    type Target = Request<'a>;

    fn deref(&self) -> &Request<'a> {
        self.request
    }
}

impl Call<'_> {
    /// The request head, for methods that the call hides: `call.request().query()` returns the
    /// query as received.
    #[must_use]
    pub fn request(&self) -> &Request<'_> {
        self.request
    }

    /// Value of a parameter: the segment at `{name}`, or the rest of the path at `{name*}`. The
    /// value is decoded, with U+FFFD for bytes that are not UTF-8. Empty if the pattern has no such
    /// name.
    ///
    /// Dot segments are removed before patterns are tried, so the value is never `..` and never
    /// leads out of a folder.
    #[must_use]
    pub fn param(&self, name: &str) -> &str {
        let at = self.params.names.iter().position(|own| own == name);
        debug_assert!(at.is_some(), "this route has no parameter {name}");
        at.and_then(|at| self.params.values.get(at)).map_or("", String::as_str)
    }

    /// Value of a parameter, parsed as a number or any other type.
    ///
    /// 404 if the value cannot be parsed, because nothing has such a name.
    pub fn parsed_param<T: FromStr>(&self, name: &str) -> Result<T, Refusal> {
        self.param(name).parse().map_err(|_| Refusal::not_found("nothing has that name"))
    }

    /// Names and values of the query, decoded. Empty if there is no query (WHATWG URL section 5.1).
    ///
    /// # Errors
    /// 400 for more than [`PAIRS_MAX`](crate::http::form::PAIRS_MAX) pairs.
    pub fn query(&self) -> Result<Pairs, Refusal> {
        Pairs::parse(self.request.query().unwrap_or_default())
    }

    /// Content as received, without its transfer coding. At most [`Route::content_max`] bytes.
    ///
    /// [`Route::content_max`]: crate::app::routes::Route::content_max
    #[must_use]
    pub fn content(&self) -> &[u8] {
        self.content
    }

    /// The content as text.
    ///
    /// # Errors
    /// 400 if it is not UTF-8.
    pub fn text(&self) -> Result<&str, Refusal> {
        std::str::from_utf8(self.content).map_err(|_| Refusal::bad_request("the content is not UTF-8"))
    }

    /// Names and values of an HTML form in the content (HTML section 4.10.21.7).
    ///
    /// # Errors
    /// 415 if it is not `application/x-www-form-urlencoded`, 400 for more than
    /// [`PAIRS_MAX`](crate::http::form::PAIRS_MAX) pairs.
    pub fn form(&self) -> Result<Pairs, Refusal> {
        self.expect_type(&["application/x-www-form-urlencoded"])?;
        Pairs::parse(self.content)
    }

    /// Parts of a form with files in the content (RFC 7578). They are kept in memory, up to the
    /// limit of the route: [`Route::content_max`](crate::app::routes::Route::content_max).
    ///
    /// # Errors
    /// 415 if it is not `multipart/form-data`, 400 if it is malformed or has more than
    /// [`PAIRS_MAX`](crate::http::form::PAIRS_MAX) parts.
    pub fn multipart(&self) -> Result<Vec<Part>, Refusal> {
        form::parts(self.request.headers().only("content-type")?.unwrap_or_default(), self.content)
    }

    /// Content as JSON, deserialized to `T` (RFC 8259).
    ///
    /// 415 if the type is not `application/json` or `application/*+json`, 400 if the content is not
    /// JSON, 422 if it is JSON that does not match `T`.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Refusal> {
        let essence = self.content_type();
        if !(essence.starts_with("application/") && essence.ends_with("+json")) {
            self.expect_type(&["application/json"])?;
        }
        serde_json::from_slice(self.content).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Refusal::unprocessable(error.to_string()),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => Refusal::bad_request(error.to_string()),
        })
    }

    /// Value of a cookie, decoded as [`Cookie::new`](cookie::Cookie::new) encodes it (RFC 6265bis
    /// section 4.2).
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies().find(|(own, _)| *own == name).map(|(_, value)| cookie::decode(value))
    }

    /// Names and values of all cookies, as received.
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        cookie::pairs(self.request.headers().all("cookie"))
    }

    /// Media type of the content in lower case, without parameters. Empty if there is none, or if
    /// repeated headers contradict each other.
    #[must_use]
    pub fn content_type(&self) -> String {
        let value = self.request.headers().only("content-type").ok().flatten().unwrap_or_default();
        let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
        String::from_utf8_lossy(essence).trim().to_ascii_lowercase()
    }

    fn expect_type(&self, types: &[&str]) -> Result<(), Refusal> {
        if types.contains(&self.content_type().as_str()) {
            return Ok(());
        }
        let reason = Cow::Owned(format!("the content must be {}", types.join(" or ")));
        Err(Refusal::new(Status::UNSUPPORTED_MEDIA_TYPE, reason))
    }

    /// Current time: the start of the turn of the loop, or the moment at which a thread received
    /// the request.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// Address of the client.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.peer
    }

    /// Waker for a body source that returned `Later`. Waking causes another call of the source; any
    /// thread may do it.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.place.waker()
    }

    /// Body whose pieces a worker thread produces while it is sent, for [`Response::stream`]. At
    /// most two pieces are in memory, however slow the client is.
    pub fn produce<P: Producer>(&self, producer: P) -> Offloaded<P> {
        Offloaded::with(producer, Vec::new(), self.id, self.place.spawner())
    }

    /// Response with a file: media type by name, 304 and 412, ranges with 206 and 416 (RFC 9110
    /// sections 13 and 14).
    ///
    /// The application chooses `path`. A path with parts from the client must be checked, or better
    /// be served by [`Builder::files`](crate::server::Builder::files). Opens the file, so it may
    /// block.
    ///
    /// 404 if there is no regular file, 403 if it is not readable, 500 or 503 if the system fails.
    pub fn file(&self, path: impl AsRef<Path>) -> Result<Response, Refusal> {
        files::respond::named(path.as_ref(), self.request, self.now).map(Response::by_program)
    }
}
