//! Uploads: folders of the docroot that may be written, by PUT, DELETE, MKCOL and forms with files.
//!
//! [`Uploads`] stands in front of the files of a docroot and answers what would change them. What
//! can be refused by the head alone is refused here, before content is read. All that touches the
//! disk is a job's; content reaches it through a [`sink::Sink`]. Passwords stand around this
//! module; it only asks whether two paths take the same one.

mod folders;
mod form;
mod origin;
mod owner;
mod partial;
mod partials;
mod place;
mod refusal;
mod resume;
mod sink;
mod staged;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::config::{Config, Limits};
#[cfg(test)]
use crate::docroot::Docroot;
use crate::docroot::root::Root;
use crate::docroot::{Reach, Stamp};
use crate::features::auth::guard::WriteGuards;
use crate::features::names::Names;
use crate::features::resume_token;
use crate::handler::{Answer, Context, Handler, Now, method_not_allowed};
use crate::http::conditional::{Precondition, Validators, evaluate, evaluate_absent, wants_new};
use crate::http::fields::list_elements;
use crate::http::request::{Content, KeptHead};
use crate::http::target;
use crate::http::target::{encode_path, normalize};
use crate::http::{Method, Request, Response, Status};
use crate::jobs::pace::LeastRate;
use crate::jobs::places::{Places, Taken};
use crate::jobs::{Then, lock};
use crate::log::Once;
use crate::pages::error::{ErrorForm, error, over};
use folders::Folders;
use owner::Owner;
use partial::Partial;
use partials::Partials;
use place::{Found, Place};
use refusal::Refusal;
use sink::Sink;

pub(crate) use origin::Partners;
pub(crate) use place::parse_upload_path;

/// What can be asked of a path that takes uploads.
const ALLOW: &str = "GET, HEAD, PUT, POST, DELETE, MKCOL, OPTIONS";

/// Folders whose scraps were looked for lately. Beyond, they are not: it is a courtesy.
const SWEPT_MAX: usize = 1024;

/// Finds the root that a request is about.
pub(crate) type RootOf = Box<dyn Fn(&Request<'_>) -> Arc<Root> + Send + Sync>;

/// Answers what would change files, and passes the rest on.
pub(crate) struct Uploads {
    desk: Arc<Desk>,
    root_of: RootOf,
    names: Arc<Names>,
    inner: Arc<dyn Handler>,
}

/// What all uploads share.
pub(crate) struct Desk {
    guards: WriteGuards,
    partners: Partners,
    /// Origins of pages that were refused and logged.
    foreign: Once,
    /// Bounds how many are under way.
    places: Arc<Places>,
    /// Held from the look at what is there to the change of it, so that of two writers with the
    /// same condition one is refused.
    publishing: Mutex<()>,
    partials: Arc<Partials>,
    folders: Folders,
    /// When scraps were looked for in a folder.
    swept: Mutex<HashMap<folders::Identity, Instant>>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl Desk {
    pub(crate) fn new(config: &Config, guards: WriteGuards) -> Desk {
        Desk {
            guards,
            partners: Partners::of(&config.site.cors),
            foreign: Once::default(),
            places: Places::for_senders(
                config.limits.uploads_max,
                LeastRate::of(&config.limits, &config.timeouts),
            ),
            publishing: Mutex::new(()),
            partials: Partials::registered(config),
            folders: Folders::default(),
            swept: Mutex::default(),
        }
    }

    /// Gives up what is kept to be gone on with: the server ends, and nobody can come back for it.
    pub(crate) fn give_all_up(&self) {
        self.partials.give_all_up();
    }
}

/// One request that would change something, kept for the jobs that do it.
struct Ask {
    desk: Arc<Desk>,
    root: Arc<Root>,
    /// The folder for uploads it is below.
    area: String,
    /// The normalised path.
    path: Vec<u8>,
    head: KeptHead,
    /// The path as the client sent it, where references in the response may be relative to it.
    base: Option<Vec<u8>>,
    limits: Limits,
    error_form: ErrorForm,
    now: Now,
    owner: Owner,
}

/// `inner`, and uploads to the roots that `root_of` finds.
pub(crate) fn around(
    desk: &Arc<Desk>,
    root_of: RootOf,
    names: &Arc<Names>,
    inner: Arc<dyn Handler>,
) -> Uploads {
    Uploads { desk: Arc::clone(desk), root_of, names: Arc::clone(names), inner }
}

/// The folder for uploads that this normalised path lies in: the longest, as others may lie within
/// it.
pub(crate) fn area_of<'a>(areas: &'a [String], path: &[u8]) -> Option<&'a str> {
    let covers = |area: &&String| {
        path.strip_prefix(area.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    };
    areas.iter().filter(covers).max_by_key(|area| area.len()).map(String::as_str)
}

impl Handler for Uploads {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let token = resume_token::token_of(request);
        if request.path() == b"*" || (request.is_get_or_head() && token.is_none()) {
            return self.inner.handle(request, cx);
        }
        let path = match normalize(request.path()) {
            Ok(path) => path,
            Err(trouble) => {
                return error(Status::BAD_REQUEST, &trouble.to_string(), ErrorForm::of(request)).into();
            }
        };
        let Some(ask) = self.ask(path.into_owned(), request, cx) else {
            return self.inner.handle(request, cx);
        };
        match (request.method(), token) {
            (Method::Get, _) => self.inner.handle(request, cx),
            (Method::Options, _) => options(request, &ask).into(),
            (_, token) => {
                if !self.lets_write(&ask, request, cx) {
                    return self.names.refuse(request, "nothing can be written").into();
                }
                if origin::is_foreign(request, &self.desk.partners) {
                    return origin::refuse(request, &self.desk.foreign).into();
                }
                match ask.check(request) {
                    Err(refusal) => ask.refuse(refusal).into(),
                    Ok(()) => change(ask, request, token, cx),
                }
            }
        }
    }
}

impl Uploads {
    /// What is asked, if it is about a path that takes uploads.
    fn ask(&self, path: Vec<u8>, request: &Request<'_>, cx: &Context<'_>) -> Option<Ask> {
        let root = (self.root_of)(request);
        let area = area_of(&root.current().options.uploads, &path)?.to_owned();
        Some(Ask {
            desk: Arc::clone(&self.desk),
            root,
            area,
            path,
            head: KeptHead::of(request),
            base: request.base().map(<[u8]>::to_vec),
            limits: cx.limits().clone(),
            error_form: ErrorForm::of(request),
            now: cx.now(),
            owner: Owner::of(cx),
        })
    }

    /// True if the request may write as far as its name goes. Where a password is due any name will
    /// do: a browser sends the password only to the name that it was typed in for.
    fn lets_write(&self, ask: &Ask, request: &Request<'_>, cx: &Context<'_>) -> bool {
        self.names.let_write(request, cx.peer()) || self.desk.guards.is_protected(&ask.path)
    }
}

/// A request that would change something, and may.
fn change(ask: Ask, request: &Request<'_>, token: Option<String>, cx: &mut Context<'_>) -> Answer {
    match (request.method(), token) {
        (Method::Put, None) => put(ask, request, cx),
        (Method::Post, None) => form::post(ask, request, cx),
        (Method::Delete, None) => in_job(ask, cx, delete),
        (Method::Other("MKCOL"), None) => make_folder(ask, request, cx),
        (Method::Head, Some(token)) => resume::state(ask, token, cx),
        (Method::Patch, Some(token)) => resume::append(ask, &token, request, cx),
        (Method::Delete, Some(token)) => resume::cancel(ask, token, cx),
        (_, None) => method_not_allowed(request, ALLOW).into(),
        (_, Some(_)) => method_not_allowed(request, "HEAD, PATCH, DELETE, OPTIONS").into(),
    }
}

fn options(request: &Request<'_>, ask: &Ask) -> Response {
    method_not_allowed(request, ALLOW)
        .with_field("Accept-Patch", resume::PARTIAL_TYPE)
        .with_field("Upload-Limit", resume::limits(ask))
}

/// Has `work` done where it may block; it makes the answer.
fn in_job(
    ask: Ask,
    cx: &mut Context<'_>,
    work: impl FnOnce(&Ask) -> Result<Response, Refusal> + Send + 'static,
) -> Answer {
    cx.job(move || work(&ask).unwrap_or_else(|refusal| ask.refuse(refusal)))
}

impl Ask {
    /// What the head alone forbids.
    fn check(&self, request: &Request<'_>) -> Result<(), Refusal> {
        place::check_path(&self.path)?;
        match request.method() {
            // A name that came here in another way can be removed.
            Method::Delete | Method::Head => Ok(()),
            _ => place::check_direction(&self.path),
        }
    }

    /// The answer that tells of a refusal.
    fn refuse(&self, refusal: Refusal) -> Response {
        let detail = match refusal {
            TOO_LARGE => over(self.limits.upload_bytes_max, "upload"),
            TOO_LARGE_TO_KEEP => over(self.desk.partials.bytes_max(), "upload") + ", and cannot be resumed",
            other => other.why.to_owned(),
        };
        let response = error(refusal.status, &detail, self.error_form);
        match refusal.status {
            Status::CONTENT_TOO_LARGE => response.with_field("Upload-Limit", resume::limits(self)),
            Status::METHOD_NOT_ALLOWED => response.with_field("Allow", ALLOW),
            _ => response,
        }
    }

    /// A reference to this path of the server, for `Location`.
    fn reference(&self, path: &[u8]) -> Vec<u8> {
        target::reference(self.base.as_deref(), path)
    }

    /// Whether content of this length may come.
    fn check_size(&self, bytes: Option<u64>) -> Result<(), Refusal> {
        match bytes.is_some_and(|bytes| bytes > self.limits.upload_bytes_max) {
            true => Err(TOO_LARGE),
            false => Ok(()),
        }
    }

    /// One of the places for uploads under way.
    fn take_place(&self, cx: &Context<'_>) -> Result<Taken, Refusal> {
        let busy = Refusal::new(Status::SERVICE_UNAVAILABLE, "too many uploads are under way");
        self.desk.places.take_for(cx.waker(), cx.now().mono).ok_or(busy)
    }

    /// Whether the conditions of the request hold for what is there. A name that only something
    /// else has than a file is refused.
    fn check_conditions(&self, place: &Place, found: Found) -> Result<(), Refusal> {
        if let Found::File(stamp) = found
            && self.root.current().is_own(&stamp)
        {
            return Err(place::OWN);
        }
        let verdict = self.head.with(&self.limits, |request| match found {
            Found::Nothing | Found::Folder | Found::Other => evaluate_absent(request.fields()),
            Found::File(stamp) => {
                let fields = request.fields();
                let asks = ["if-match", "if-none-match"].iter().any(|name| fields.first(name).is_some());
                // A file that cannot be read has no tag, so no condition on one holds.
                let etag = asks.then(|| self.tag_at(place)).flatten().unwrap_or_default();
                let validators = Validators { etag: &etag, modified_secs: stamp.last_modified() };
                evaluate(fields, false, &validators, self.now.unix_secs())
            }
        });
        match verdict {
            Some(Precondition::Proceed) => Ok(()),
            Some(Precondition::Failed | Precondition::NotModified) => Err(UNEXPECTED),
            None => Err(Refusal::new(Status::INTERNAL_SERVER_ERROR, "the request was lost")),
        }
    }

    /// The entity-tag of the file that is there.
    fn tag_at(&self, place: &Place) -> Option<Vec<u8>> {
        let (file, stamp) = place.open_file().ok()?;
        self.tag_of(&file, &stamp, self.now.wall)
    }

    /// The entity-tag of an open file at the time `wall`, as a GET sends it.
    fn tag_of(&self, file: &OwnedFd, stamp: &Stamp, wall: Duration) -> Option<Vec<u8>> {
        let tag = self.root.current().tag(file, stamp, None, Reach::OnDisk, wall);
        tag.ok().map(|tag| tag.value)
    }

    /// Whether the request is for a new name only.
    fn wants_new_name(&self) -> bool {
        self.head.with(&self.limits, |request| wants_new(request.fields())).unwrap_or(false)
    }

    /// The entry that `path` names in the folder that the root leads to now, if the client that was
    /// let in may write there.
    fn place(&self, path: &[u8]) -> Result<Place, Refusal> {
        self.root.follow();
        let (mut place, places) = Place::of(&self.root.docroot(), &self.area, path)?;
        self.check_passwords(path, &places)?;
        place.folder = self.desk.folders.share(place.folder);
        Ok(place)
    }

    /// Refuses an entry that takes another password than the path of the request. The entry is at
    /// `path`, and lies at `places`: a form names its files itself, and a link may lead into a
    /// folder with a password of its own.
    fn check_passwords(&self, path: &[u8], places: &[Vec<u8>]) -> Result<(), Refusal> {
        let is_same = |other: &[u8]| self.desk.guards.is_same_for(&self.path, other);
        match is_same(path) && places.iter().all(|place| is_same(place)) {
            true => Ok(()),
            false => Err(Refusal::new(Status::FORBIDDEN, "another password is needed there")),
        }
    }

    /// Has what crashes have left in this folder swept, as often as something there can have become
    /// old enough.
    fn sweep(&self, folder: &OwnedFd) {
        let Some(identity) = folders::identity(folder) else { return };
        // What is kept to be gone on with has such a name, too, where there are no nameless files.
        let keep = self.desk.partials.keep();
        let age = staged::SCRAP_AGE + keep.unwrap_or_default();
        let is_due = {
            let mut swept = lock(&self.desk.swept);
            let since = |at: Instant| self.now.mono.saturating_duration_since(at);
            swept.retain(|_, at| keep.is_none() || since(*at) < age);
            swept.len() < SWEPT_MAX && swept.insert(identity, self.now.mono).is_none()
        };
        if is_due {
            staged::sweep_scraps(folder, self.now.wall, age);
        }
    }
}

const UNEXPECTED: Refusal =
    Refusal::new(Status::PRECONDITION_FAILED, "the file is not as the request expects");
const TOO_LARGE: Refusal = Refusal::new(Status::CONTENT_TOO_LARGE, "the upload is too large");
const TOO_LARGE_TO_KEEP: Refusal =
    Refusal::new(Status::CONTENT_TOO_LARGE, "the upload is too large to be kept for a later request");

/// What a PUT may replace.
fn replaceable(found: Found) -> Result<(), Refusal> {
    match found {
        Found::Nothing | Found::File(_) => Ok(()),
        Found::Folder => Err(Errno::ISDIR.into()),
        Found::Other => Err(Refusal::new(Status::CONFLICT, "a link or device has that name")),
    }
}

/// `PUT`: the content becomes the file of this name.
fn put(ask: Ask, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let wish = resume::Wish::of(request);
    let bytes = match request.content() {
        Content::None => Some(0),
        Content::Length(bytes) => Some(bytes),
        Content::Chunked => None,
    };
    let checked = check_put(&ask, request, &wish, bytes).and_then(|()| ask.take_place(cx));
    let taken = match checked {
        Ok(taken) => taken,
        Err(refusal) => return ask.refuse(refusal).into(),
    };
    let errands = cx.errands();
    cx.job_then(move || {
        let ask = Arc::new(ask);
        let begun = Partial::begin(&ask, &wish, bytes);
        let then: Then = Box::new(move |_| match begun {
            Ok(writer) => {
                Answer::Sink(Box::new(Sink::of_file(writer, ask, taken, errands, wish.takes_interim())))
            }
            Err(refusal) => ask.refuse(refusal).into(),
        });
        then
    })
}

fn check_put(
    ask: &Ask,
    request: &Request<'_>,
    wish: &resume::Wish,
    bytes: Option<u64>,
) -> Result<(), Refusal> {
    // RFC 9110 section 9.3.4 and 14.5: a part must not be taken for the whole.
    if request.field("content-range").is_some() {
        return Err(Refusal::new(Status::BAD_REQUEST, "a PUT of a part is not taken; see Upload-Complete"));
    }
    let mut codings = request.fields().all("content-encoding").flat_map(list_elements);
    if codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::new(Status::UNSUPPORTED_MEDIA_TYPE, "content codings are not undone here"));
    }
    if ask.path.ends_with(b"/") || ask.path == ask.area.as_bytes() {
        return Err(Refusal::new(Status::CONFLICT, "that is a folder; a file is put at its own name"));
    }
    wish.check(bytes)?;
    ask.check_size(wish.length_with(0, bytes).max(bytes))
}

/// `DELETE`: a file, or an empty folder.
fn delete(ask: &Ask) -> Result<Response, Refusal> {
    if ask.path.strip_suffix(b"/").unwrap_or(&ask.path) == ask.area.as_bytes() {
        return Err(Refusal::new(Status::FORBIDDEN, "the folder for uploads itself stays"));
    }
    let missing = Refusal::new(Status::NOT_FOUND, "the file does not exist");
    let place = match ask.place(&ask.path) {
        Err(refusal) if refusal == Errno::NOENT.into() => return Err(missing),
        place => place?,
    };
    let _publishing = lock(&ask.desk.publishing);
    let found = place.look()?;
    let flags = match found {
        Found::Nothing => return Err(missing),
        Found::File(_) if ask.path.ends_with(b"/") => return Err(missing),
        Found::File(_) => AtFlags::empty(),
        Found::Folder => AtFlags::REMOVEDIR,
        Found::Other => return Err(Refusal::new(Status::CONFLICT, "that is a link or device")),
    };
    ask.check_conditions(&place, found)?;
    rustix::fs::unlinkat(&place.folder, place.name.as_slice(), flags)?;
    ask.root.current().note_write();
    Ok(Response::new(Status::NO_CONTENT).by_server())
}

/// `MKCOL`: a new folder (RFC 4918 section 9.3).
fn make_folder(ask: Ask, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    if request.content() != Content::None {
        let refusal = Refusal::new(Status::UNSUPPORTED_MEDIA_TYPE, "MKCOL is taken without content");
        return ask.refuse(refusal).into();
    }
    in_job(ask, cx, |ask| {
        let there = Refusal::new(Status::METHOD_NOT_ALLOWED, "something of that name is there already");
        let path = ask.path.strip_suffix(b"/").unwrap_or(&ask.path);
        if path == ask.area.as_bytes() {
            return Err(there);
        }
        let place = ask.place(path)?;
        let _publishing = lock(&ask.desk.publishing);
        match rustix::fs::mkdirat(&place.folder, place.name.as_slice(), Mode::from_raw_mode(0o777)) {
            Err(Errno::EXIST) => return Err(there),
            made => made?,
        }
        ask.root.current().note_write();
        let location = ask.reference(&[path, b"/"].concat());
        Ok(Response::new(Status::CREATED).by_server().with_field("Location", location))
    })
}

/// A path as it stands in a URL.
fn encoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    encode_path(path, &mut out);
    out
}

/// The answer for a file that was written: 201 with its place, 204 where it replaced another.
fn written(location: &[u8], is_new: bool, etag: Option<Vec<u8>>) -> Response {
    let response = match is_new {
        true => Response::new(Status::CREATED).with_field("Location", location),
        false => Response::new(Status::NO_CONTENT),
    };
    match etag {
        Some(etag) => response.by_server().with_field("ETag", etag),
        None => response.by_server(),
    }
}

#[cfg(test)]
impl Ask {
    /// For tests: a request to a docroot that may be written everywhere.
    fn of(root: &std::path::Path, head: &str) -> Ask {
        use crate::http::request::{FieldSlots, parse};
        let mut config = Config::default();
        config.limits.upload_bytes_max = u64::MAX;
        config.files.uploads = vec![String::new()];
        let guards = WriteGuards::default();
        let mut slots = FieldSlots::new();
        let request = parse(head.as_bytes(), &mut slots, &config.limits).unwrap();
        Ask {
            desk: Arc::new(Desk::new(&config, guards)),
            root: Arc::new(Root::of(Arc::new(Docroot::open(root, config.files.clone()).unwrap()))),
            area: String::new(),
            path: request.path().to_vec(),
            head: KeptHead::of(&request),
            base: request.base().map(<[u8]>::to_vec),
            limits: config.limits,
            error_form: ErrorForm::Text,
            owner: Owner::default(),
            now: Now { mono: partial::read_clock(), wall: Duration::from_secs(1 << 31) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder was swept once in the life of a process: what the next crash of another one left
    /// stayed.
    #[test]
    fn a_folder_is_swept_again_a_day_later() {
        let scratch = tempfile::tempdir().unwrap();
        let mut ask = Ask::of(scratch.path(), "PUT /a HTTP/1.1\r\nHost: a\r\n\r\n");
        let scrap = scratch.path().join(".whirligig-0123456789abcdef");
        let folder = ask.place(b"/a").unwrap().folder;
        let mut is_swept = |later: u32| {
            std::fs::write(&scrap, "").unwrap();
            ask.now.mono += staged::SCRAP_AGE * later;
            ask.sweep(&folder);
            !scrap.exists()
        };
        assert_eq!([0, 0, 2, 0].map(&mut is_swept), [true, false, true, false]);
    }

    #[test]
    fn the_longest_folder_for_uploads_counts_and_names_are_whole() {
        let areas = ["/up".to_owned(), "/up/in".to_owned()];
        let cases: &[(&[u8], Option<&str>)] = &[
            (b"/up", Some("/up")),
            (b"/up/", Some("/up")),
            (b"/up/a", Some("/up")),
            (b"/up/in", Some("/up/in")),
            (b"/up/in/a", Some("/up/in")),
            (b"/up/inn", Some("/up")),
            (b"/upp", None),
            (b"/", None),
            (b"/a/up", None),
        ];
        for (path, expected) in cases {
            assert_eq!(area_of(&areas, path), *expected, "{}", path.escape_ascii());
        }
        assert_eq!(area_of(&[String::new()], b"/any"), Some(""));
        assert_eq!(area_of(&[], b"/any"), None);
    }
}
