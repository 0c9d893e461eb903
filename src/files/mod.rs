//! Files of a docroot: found beneath it, kept fresh in memory, sent.
//!
//! [`StaticFiles`] is the handler that serves them. The cache belongs to the driver, and a handler
//! borrows it for a request through its [`Context`], so handlers hold no lock. Work that might
//! block (a cold directory entry, a cold page, a listing) is a job. Uploads, CGI programs, logs and
//! spooled content touch the disk as well, elsewhere.

mod archive;
mod budget;
pub(crate) mod clean;
pub(crate) mod coding;
mod download;
mod entries;
mod listing;

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Now;
use crate::config::{FileOptions, PATH_BYTES_MAX};
use crate::docroot::cache::Files;
use crate::docroot::file::Coded;
use crate::docroot::file::Meta;
use crate::docroot::file::{CachedFile, Content};
use crate::docroot::siblings::Siblings;
use crate::handler::continuation::Continuation;
use crate::handler::offload::Offloaded;
use crate::handler::passwords::{Password, Passwords};
use crate::handler::router::method_not_allowed;
use crate::handler::{Answer, Context, Handler, When};
use crate::http::conditional::Precondition;
use crate::http::fields::NameFilter;
use crate::http::kept_head::KeptHead;
use crate::http::range::{ByteRange, Selection};
use crate::http::refusal::Refusal;
use crate::http::send_queue::OpenFile;
use crate::http::{Body, Method, Request, Response, Status, conditional, range, target};
use crate::jobs::places::Taken;
use crate::pages::error::{ErrorForm, error, takes_html, text_error, wants_html};

use crate::docroot::cache::{FileCache, Forms};
use crate::docroot::root::Root;
use crate::docroot::stamp::{Stamp, file_type, stat};
use crate::docroot::tag::Tag;
use crate::docroot::types::Types;
use crate::docroot::{Docroot, Found, Reach, Trouble, is_hidden};
use coding::Chosen;
pub(crate) use listing::Listings;

/// A handler that serves a folder, and the one that takes its name later.
#[derive(Debug, Clone)]
pub struct StaticFiles {
    root: Arc<Root>,
    listings: Arc<Listings>,
}

impl StaticFiles {
    /// Serves `docroot`, and follows the name by which it was opened.
    #[must_use]
    pub fn new(docroot: Arc<Docroot>) -> Self {
        StaticFiles::of(Arc::new(Root::of(docroot)), &Listings::new())
    }

    /// Serves the folder that a root leads to. Listings share the bounds of `listings`.
    pub(crate) fn of(root: Arc<Root>, listings: &Arc<Listings>) -> Self {
        StaticFiles { root, listings: Arc::clone(listings) }
    }

    /// Serves the folder that another root leads to, within the same bounds.
    pub(crate) fn at(&self, root: Arc<Root>) -> Self {
        StaticFiles::of(root, &self.listings)
    }

    /// The root that it serves.
    pub(crate) fn root(&self) -> &Arc<Root> {
        &self.root
    }

    /// A request for the present folder, without a password so far.
    fn visit<'a>(&'a self, docroot: &'a Arc<Docroot>) -> Visit<'a> {
        Visit { docroot, listings: &self.listings, also: None }
    }

    /// Serves a request for a root that leads to another folder now, which is opened first.
    fn follow(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let (files, head, limits) = (self.clone(), KeptHead::of(request), cx.limits().clone());
        cx.job_then(move || {
            files.root.follow();
            Box::new(move |cx| {
                if let Some(cache) = Files::of(cx) {
                    cache.with(FileCache::forget_old_roots);
                }
                let answer =
                    head.with(&limits, |request| serve(files.visit(&files.root.current()), request, cx));
                answer.unwrap_or_else(|| text_error(Status::INTERNAL_SERVER_ERROR, LOST).into())
            })
        })
    }
}

impl Handler for StaticFiles {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let (asked_by, now) = (cx.asked_by, cx.now().mono);
        let Some(Files::Own(cache)) = Files::of(cx) else {
            return match self.root.is_current(asked_by, now) {
                true => serve(self.visit(&self.root.current()), request, cx),
                false => self.follow(request, cx),
            };
        };
        let Some(docroot) = cache.take_root(&self.root, asked_by, now) else {
            return self.follow(request, cx);
        };
        let answer = serve(self.visit(&docroot), request, cx);
        if let Some(Files::Own(cache)) = Files::of(cx) {
            cache.put_back(&self.root, docroot);
        }
        answer
    }
}

/// What a request is served from, and with which password.
#[derive(Clone, Copy)]
struct Visit<'a> {
    docroot: &'a Arc<Docroot>,
    listings: &'a Arc<Listings>,
    /// A password that the client has given besides that of the request's path.
    also: Option<Password>,
}

impl Visit<'_> {
    /// This visit for work that goes on after the call.
    fn kept(self) -> KeptVisit {
        let Visit { docroot, listings, also } = self;
        KeptVisit { docroot: Arc::clone(docroot), listings: Arc::clone(listings), also }
    }

    /// The password of a location, if the client has not given it with a request for `path`.
    fn password_due(
        &self,
        path: &[u8],
        password: Option<Password>,
    ) -> Option<(&Arc<dyn Passwords>, Password)> {
        self.docroot.password_due(path, self.also, password)
    }
}

/// A visit that outlives the call in which it began. Also the handler that serves a client after
/// it has given a password.
struct KeptVisit {
    docroot: Arc<Docroot>,
    listings: Arc<Listings>,
    also: Option<Password>,
}

impl KeptVisit {
    fn visit(&self) -> Visit<'_> {
        Visit { docroot: &self.docroot, listings: &self.listings, also: self.also }
    }
}

impl Handler for KeptVisit {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        serve(self.visit(), request, cx)
    }
}

/// Asks for a password that is due at the place that a request leads to, then serves it from the
/// beginning.
fn ask_password(
    visit: Visit<'_>,
    (guard, password): (&Arc<dyn Passwords>, Password),
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    if visit.also.is_some() {
        // A link was turned meanwhile. The next request asks again.
        return not_found(request).into();
    }
    let again: Arc<dyn Handler> = Arc::new(Visit { also: Some(password), ..visit }.kept());
    Arc::clone(guard).admit(password, &again, request, cx)
}

/// Serves a request from the beginning.
fn serve(visit: Visit<'_>, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let docroot = visit.docroot;
    if !request.is_get_or_head() {
        return method_not_allowed(request, "GET, HEAD, OPTIONS").into();
    }
    let path = match request.is_plain_path() {
        true => Cow::Borrowed(request.path()),
        false => match target::normalize(request.path()) {
            Ok(path) if is_hidden(&path) => return not_found(request).into(),
            Ok(path) => path,
            Err(trouble) => {
                return error(Status::BAD_REQUEST, &trouble.to_string(), ErrorForm::of(request)).into();
            }
        },
    };
    if path.len() > PATH_BYTES_MAX {
        return find(visit, &path, request, cx);
    }
    if let Some(form) = archive::asked_for(docroot, &path, request) {
        return archive::answer(visit, &path, form, request, cx);
    }
    if request.headers().lack(DECIDING) && !docroot.options.clean_urls {
        // Nearly every request for the whole of a small file ends here.
        let whole = lookup(docroot, &path, false, cx, |file, _| {
            visit.password_due(&path, file.meta.password).is_none().then(|| whole_response(file))
        });
        if let Some(response) = whole.flatten() {
            download::mark(request, &path, cx);
            return response.into();
        }
    } else if !(docroot.options.clean_urls && clean::is_long(&path))
        && let Some(forms) = cached(docroot, &path, request, cx)
    {
        let attempt = Attempt { path: Cow::Borrowed(&path), role: Role::Asked };
        return answer(visit, Ok(Served::File(forms, attempt)), &path, request, cx);
    }
    find(visit, &path, request, cx)
}

fn lookup<T>(
    docroot: &Docroot,
    path: &[u8],
    with_coded: bool,
    cx: &mut Context<'_>,
    take: impl FnOnce(&Arc<CachedFile>, Option<&Arc<Siblings>>) -> T,
) -> Option<T> {
    let (asked_by, now) = (cx.asked_by, cx.now().mono);
    Files::of(cx)?.with(|cache| cache.lookup(docroot, path, with_coded, asked_by, now, take))
}

/// The file of this path from the cache, if it is there with all that the request needs.
fn cached(docroot: &Docroot, path: &[u8], request: &Request<'_>, cx: &mut Context<'_>) -> Option<Forms> {
    let with_coded = accepts_codings(request);
    let forms = lookup(docroot, path, with_coded, cx, |original, siblings| Forms {
        original: Arc::clone(original),
        siblings: siblings.map(Arc::clone),
    })?;
    (forms.siblings.is_some() || !with_coded).then_some(forms)
}

/// Looks for what is not in the cache: on the disk, under one name after the other.
fn find(visit: Visit<'_>, path: &[u8], request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let docroot = visit.docroot;
    let found = search(docroot, path, request, Reach::InMemory, |attempt| {
        match cached(docroot, &attempt.path, request, cx) {
            Some(forms) => Ok(Served::File(forms, attempt)),
            None => look(docroot, attempt, Reach::InMemory, request, cx.now().wall)
                .inspect(|found| keep(docroot, found, cx.now(), cx)),
        }
    });
    match &found {
        Err(Trouble::Cold) => serve_later(visit, path, request, cx),
        Err(Trouble::Forbidden) if page_for(docroot, Status::FORBIDDEN).is_some() => {
            serve_later(visit, path, request, cx)
        }
        Ok(_) | Err(_) => answer(visit, found, path, request, cx),
    }
}

/// Tries one path after the other with `get`, until something is there.
fn search<'a>(
    docroot: &'a Docroot,
    path: &'a [u8],
    request: &'a Request<'_>,
    reach: Reach,
    mut get: impl FnMut(Attempt<'a>) -> Result<Served<'a>, Trouble>,
) -> Result<Served<'a>, Trouble> {
    for attempt in attempts(docroot, path, request) {
        let mut found = get(attempt);
        if docroot.options.clean_urls {
            found = clean::settle(docroot, path, found, reach, &mut get);
        }
        match found {
            Err(Trouble::NotFound) => {}
            found => return found,
        }
    }
    Err(Trouble::NotFound)
}

/// One path under which an answer is looked for.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) path: Cow<'a, [u8]>,
    pub(crate) role: Role,
}

/// What a file is to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// What it asked for.
    Asked,
    /// A page that `--clean-urls` looked for. It is redirected unless this is its name.
    Page,
    /// What is said where there is nothing else, with this status.
    Instead(Status),
}

/// The paths that are tried for a request as long as nothing is there, in order: what it says; with
/// `.html` behind it; the application's one page; the page that says that nothing is there.
fn attempts<'a>(
    docroot: &'a Docroot,
    path: &'a [u8],
    request: &'a Request<'_>,
) -> impl Iterator<Item = Attempt<'a>> {
    let options = &docroot.options;
    // A path that is too long names no file, so the disk is not asked.
    let names_file = path.len() <= PATH_BYTES_MAX;
    let itself = names_file.then_some(Attempt { path: Cow::Borrowed(path), role: Role::Asked });
    let clean = move || clean::page_of(path).filter(|_| names_file && options.clean_urls);
    let spa = move || {
        let page = options.spa.as_deref().filter(|_| may_be_of_app(path, request))?;
        Some(Attempt { path: Cow::Borrowed(page.as_bytes()), role: Role::Asked })
    };
    let missing = move || page_for(docroot, Status::NOT_FOUND);
    // Nobody pays for the later ones before the earlier ones have failed.
    let later: [Box<dyn Fn() -> Option<Attempt<'a>> + 'a>; 3] =
        [Box::new(clean), Box::new(spa), Box::new(missing)];
    itself.into_iter().chain(later.into_iter().filter_map(|attempt| attempt()))
}

/// True if a path without a file may be a page that the application makes. A missing image or
/// script stays a 404: its request names other types, or its path has an extension.
fn may_be_of_app(path: &[u8], request: &Request<'_>) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let has_extension = memchr::memrchr(b'.', name).is_some_and(|dot| dot + 1 < name.len());
    wants_html(request) || (!has_extension && takes_html(request))
}

/// The docroot's own page for this status, if it is to have one.
fn page_for(docroot: &Docroot, status: Status) -> Option<Attempt<'_>> {
    let (_, page) = docroot.options.error_pages.iter().find(|(code, _)| *code == status.code())?;
    Some(Attempt { path: Cow::Borrowed(page.as_bytes()), role: Role::Instead(status) })
}

/// What was found for an attempt.
#[derive(Debug)]
pub(crate) enum Served<'a> {
    File(Forms, Attempt<'a>),
    Directory(OwnedFd, Option<Password>),
    WithoutSlash(Option<Password>),
}

fn accepts_codings(request: &Request<'_>) -> bool {
    request.header("accept-encoding").is_some()
}

/// Looks on the disk, coded forms included where the request may want one.
fn look<'a>(
    docroot: &Docroot,
    attempt: Attempt<'a>,
    reach: Reach,
    request: &Request<'_>,
    wall: Duration,
) -> Result<Served<'a>, Trouble> {
    Ok(match docroot.find(&attempt.path, reach, wall)? {
        Found::File(original) => {
            let siblings = match accepts_codings(request) {
                true => Some(Arc::new(Siblings::load(docroot, &attempt.path, &original, reach, wall)?)),
                false => None,
            };
            Served::File(Forms { original, siblings }, attempt)
        }
        Found::Directory(directory, password) => Served::Directory(directory, password),
        Found::WithoutSlash(password) => Served::WithoutSlash(password),
    })
}

/// Keeps a file that was looked up at `now` or later.
fn keep(docroot: &Docroot, found: &Served<'_>, now: Now, cx: &mut Context<'_>) {
    if let Served::File(forms, attempt) = found
        && let Some(cache) = Files::of(cx)
    {
        cache.with(|cache| cache.insert(docroot, &attempt.path, forms, now));
    }
}

/// The same from a worker thread, where the disk may take its time.
fn serve_later(visit: Visit<'_>, path: &[u8], request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let (kept, path, head) = (visit.kept(), path.to_vec(), KeptHead::of(request));
    let (limits, asked) = (cx.limits().clone(), cx.now());
    cx.job_then(move || {
        let docroot = &kept.docroot;
        let found = head.with(&limits, |request| {
            let reach = |attempt| look(docroot, attempt, Reach::OnDisk, request, asked.wall);
            let found = search(docroot, &path, request, Reach::OnDisk, reach);
            match (&found, page_for(docroot, Status::FORBIDDEN)) {
                (Err(Trouble::Forbidden), Some(page)) => reach(page).or(Err(Trouble::Forbidden)),
                _ => found,
            }
            .map(Served::into_owned)
        });
        let then: Continuation = Box::new(move |cx| {
            let answer = found.and_then(|found| {
                if let Ok(found) = &found {
                    keep(&kept.docroot, found, asked, cx);
                }
                head.with(&limits, |request| answer(kept.visit(), found, &path, request, cx))
            });
            answer.unwrap_or_else(|| text_error(Status::INTERNAL_SERVER_ERROR, LOST).into())
        });
        then
    })
}

impl Served<'_> {
    /// The same without borrowing from the request.
    fn into_owned(self) -> Served<'static> {
        match self {
            Served::File(forms, attempt) => {
                let path = Cow::Owned(attempt.path.into_owned());
                Served::File(forms, Attempt { path, role: attempt.role })
            }
            Served::Directory(directory, password) => Served::Directory(directory, password),
            Served::WithoutSlash(password) => Served::WithoutSlash(password),
        }
    }

    /// The password that is due at the place of it.
    fn password(&self) -> Option<Password> {
        match self {
            Served::File(forms, _) => forms.original.meta.password,
            Served::Directory(_, password) | Served::WithoutSlash(password) => *password,
        }
    }
}

/// Where a kept request cannot be read again.
const LOST: &str = "the request was lost";

/// The answer for a thing that was found, if the client has given the password that is due there.
fn answer(
    visit: Visit<'_>,
    found: Result<Served<'_>, Trouble>,
    path: &[u8],
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let docroot = visit.docroot;
    if docroot.options.spa.is_some() {
        let is_found = match &found {
            Ok(Served::File(_, attempt)) => attempt.role == Role::Page || *attempt.path == *path,
            Ok(Served::Directory(..) | Served::WithoutSlash(_)) => true,
            Err(trouble) => *trouble != Trouble::NotFound,
        };
        // Who is not given the application's page is told that nothing is there.
        if !is_found {
            cx.set_own_header(When::Always, "Vary", "Accept");
        }
    }
    let password = found.as_ref().ok().and_then(Served::password);
    if let Some(due) = visit.password_due(path, password) {
        return match &found {
            // It is not worth a password, and must not be shown without.
            Ok(Served::File(_, Attempt { role: Role::Instead(Status::FORBIDDEN), .. })) => {
                failure(Trouble::Forbidden, path, request).into()
            }
            Ok(Served::File(_, Attempt { role: Role::Instead(_), .. })) => not_found(request).into(),
            _ => ask_password(visit, due, request, cx),
        };
    }
    match found {
        Ok(Served::File(forms, attempt)) => match attempt.role {
            Role::Instead(status) => page_instead(&forms.original, status).into(),
            Role::Asked | Role::Page => asked_for(docroot, &forms, path, &attempt, request, cx),
        },
        Ok(Served::Directory(directory, _)) => listing::later(visit, directory, path, request, cx),
        Ok(Served::WithoutSlash(_)) => {
            redirect(&[path, b"/"].concat(), request, "the directory is at its path with a slash").into()
        }
        Err(trouble) => failure(trouble, path, request).into(),
    }
}

/// The answer for the file that was asked for by `path`, and was found by `attempt`.
fn asked_for(
    docroot: &Arc<Docroot>,
    forms: &Forms,
    path: &[u8],
    attempt: &Attempt<'_>,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    if attempt.role == Role::Page {
        let name = clean::short_name(&attempt.path);
        if name != path {
            return redirect(name, request, "the page is at its short name").into();
        }
    }
    download::mark(request, &attempt.path, cx);
    file_answer(docroot, forms, request, cx)
}

/// The form of the file that the client gets.
fn file_answer(docroot: &Arc<Docroot>, forms: &Forms, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let original = &forms.original;
    if request.headers().lack(DECIDING) {
        return whole_response(original).into();
    }
    match coding::choose(docroot, original, forms.siblings.as_deref(), request) {
        Chosen::File(file) => file_response(&file, request, cx.now()).into(),
        Chosen::Nothing => {
            error(Status::NOT_ACCEPTABLE, "there is no coding that both sides know", ErrorForm::of(request))
                .with_header("Vary", "Accept-Encoding")
                .into()
        }
        Chosen::Compressed => {
            let (Some(place), Some(level)) = (docroot.compressors.take(), docroot.options.compress_level)
            else {
                return file_response(original, request, cx.now()).into();
            };
            compressed_response(original, level, place, request, cx).into()
        }
    }
}

/// A file that is compressed while it is sent. Its head is that of the compressed form, its length
/// is not known.
///
/// Out of line, so that its frame is not on the stack of every request.
#[inline(never)]
fn compressed_response(
    original: &Arc<CachedFile>,
    level: u32,
    place: Taken,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Response {
    let form = CachedFile::new(original.meta.compressed(), Content::InMemory, b"");
    if let Some(decided) = precondition(&form, request, cx.now()) {
        return decided;
    }
    let input = match &original.content {
        Content::OnDisk(file) => coding::Input::File(Arc::clone(file)),
        Content::InMemory => coding::Input::Memory(Arc::clone(original)),
    };
    let gzip = coding::Gzip::new(input, original.len(), level, place);
    Response::new(Status::OK)
        .by_server()
        .with_headers(form.prepared.headers())
        .ruled(&form.meta.headers.ruled)
        .with_body(Body::Source(Box::new(Offloaded::new(gzip, cx))))
}

/// A page of the docroot that is sent in place of one of ours. It is not what was asked for, so
/// nothing is said about its age, and conditions do not apply to it.
fn page_instead(page: &CachedFile, status: Status) -> Response {
    Response::new(status)
        .by_server()
        .with_header("Content-Type", page.meta.content_type.as_bytes())
        .with_body(page.part(0, page.len()))
}

fn failure(trouble: Trouble, path: &[u8], request: &Request<'_>) -> Response {
    match trouble {
        Trouble::NotFound | Trouble::Unknown => not_found(request),
        Trouble::Forbidden => error(Status::FORBIDDEN, "this file may not be read", ErrorForm::of(request)),
        Trouble::Cold => {
            error(Status::SERVICE_UNAVAILABLE, "the file is in use, try again", ErrorForm::of(request))
        }
        Trouble::Exhausted => {
            error(Status::SERVICE_UNAVAILABLE, "the server is out of descriptors", ErrorForm::of(request))
        }
        Trouble::Io(code) => {
            log::warn!("cannot read {}: {}", path.escape_ascii(), std::io::Error::from_raw_os_error(code));
            error(Status::INTERNAL_SERVER_ERROR, "this file cannot be read", ErrorForm::of(request))
        }
    }
}

pub(crate) fn not_found(request: &Request<'_>) -> Response {
    error(Status::NOT_FOUND, "the file does not exist", ErrorForm::of(request))
}

/// A redirect to another path of this server, query kept. Without its slash a directory would make
/// every relative link in it wrong. Built from the collapsed path, so `//host` cannot lead to
/// another host.
fn redirect(path: &[u8], request: &Request<'_>, why: &str) -> Response {
    let mut location = target::reference(request.base(), path);
    if let Some(query) = request.query() {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    error(Status::MOVED_PERMANENTLY, why, ErrorForm::of(request)).with_header("Location", location)
}

/// The answer that the request's conditions decide, if they do (RFC 9110 section 13.2).
fn precondition(file: &CachedFile, request: &Request<'_>, now: Now) -> Option<Response> {
    match conditional::evaluate(request.headers(), true, &file.validators(), now.unix_secs()) {
        Precondition::Proceed => None,
        Precondition::NotModified => Some(
            Response::new(Status::NOT_MODIFIED)
                .by_server()
                .with_headers(&file.prepared.headers()[file.validator_lines.clone()])
                .ruled(&file.meta.headers.ruled),
        ),
        Precondition::Failed => Some(error(
            Status::PRECONDITION_FAILED,
            "the file is not as the request expects",
            ErrorForm::of(request),
        )),
    }
}

/// One file of the program's own choice, wherever it lies, judged like those of a docroot:
/// conditions, ranges, type by name. Opens it, which may block.
pub(crate) fn named(path: &Path, request: &Request<'_>, now: Now) -> Result<Response, Refusal> {
    use rustix::fs::{Mode, OFlags};
    let refusal = |trouble| match trouble {
        Trouble::NotFound | Trouble::Unknown => Refusal::not_found("the file does not exist"),
        Trouble::Forbidden => Refusal::forbidden("this file may not be read"),
        Trouble::Cold | Trouble::Exhausted => {
            Refusal::new(Status::SERVICE_UNAVAILABLE, "the file cannot be opened now")
        }
        Trouble::Io(_) => Refusal::failed("this file cannot be read"),
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| refusal(errno.into()))?;
    let stat = stat(&fd).map_err(refusal)?;
    if file_type(&stat) != rustix::fs::FileType::RegularFile {
        return Err(refusal(Trouble::NotFound));
    }
    let (types, name) = (Types::default(), path.as_os_str().as_encoded_bytes());
    let media_type = types.by_name(name);
    let looked_at = types.looked_at_bytes(media_type, name);
    let head =
        crate::docroot::read::read_head(&fd, stat.stx_size, looked_at, Reach::OnDisk).map_err(refusal)?;
    let stamp = Stamp::of(&stat);
    let tag = Tag::of(FileOptions::default().etag, (&fd, &stamp), None, Reach::OnDisk, now.wall);
    let meta = Meta::of(stamp, tag.map_err(refusal)?, types.of_file(media_type, name, &head));
    let file = CachedFile::new(meta, Content::OnDisk(Arc::new(OpenFile::new(fd))), b"");
    Ok(file_response(&file, request, now))
}

/// The answer for a file that is there: conditions first, then ranges, then the whole (RFC 9110
/// section 13.2).
fn file_response(file: &CachedFile, request: &Request<'_>, now: Now) -> Response {
    if let Some(decided) = precondition(file, request, now) {
        return decided;
    }
    let fields = request.headers();
    let validators = file.validators();
    // Range means something for GET only (RFC 9110 section 14.2); two Range lines are a
    // contradiction.
    if request.method() == Method::Get
        && file.meta.has_parts()
        && let Ok(Some(asked)) = fields.only("range")
        // Of two conditions one may not hold: then the whole is right.
        && let Ok(condition) = fields.only("if-range")
        && conditional::range_applies(condition, &validators)
    {
        match range::select(asked, file.len()) {
            Selection::One(part) => return part_response(file, part),
            Selection::Unsatisfiable => {
                return error(Status::RANGE_NOT_SATISFIABLE, "no such part", ErrorForm::of(request))
                    .with_header("Content-Range", format!("bytes */{}", file.len()));
            }
            // What the parts of a coded whole would be, nobody has said: it goes in one piece.
            Selection::Several(parts) if file.meta.coded == Coded::No => return parts_response(file, &parts),
            Selection::Several(_) | Selection::Whole => {}
        }
    }
    whole_response(file)
}

/// The fields by which a request decides what it gets of a file.
const DECIDING: NameFilter = NameFilter::of(&[
    "accept-encoding",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
]);

fn whole_response(file: &CachedFile) -> Response {
    match &file.content {
        Content::InMemory => Response::prepared(Arc::clone(&file.prepared)).by_server(),
        Content::OnDisk(_) => Response::new(Status::OK)
            .by_server()
            .with_headers(file.prepared.headers())
            .ruled(&file.meta.headers.ruled)
            .with_body(file.part(0, file.len())),
    }
}

fn part_response(file: &CachedFile, part: ByteRange) -> Response {
    Response::new(Status::PARTIAL_CONTENT)
        .by_server()
        .with_headers(file.prepared.headers())
        .ruled(&file.meta.headers.ruled)
        .with_header("Content-Range", format!("bytes {}-{}/{}", part.first, part.last, file.len()))
        .with_body(file.part(part.first, part.byte_count()))
}

/// Several parts as multipart/byteranges (RFC 9110 section 14.6). The content is sent by reference
/// like any other; only the few lines between the parts are made.
fn parts_response(file: &CachedFile, parts: &[ByteRange]) -> Response {
    let boundary = boundary();
    let mut bodies = Vec::with_capacity(2 * parts.len() + 1);
    for (number, part) in parts.iter().enumerate() {
        let start = if number == 0 { "" } else { "\r\n" };
        let head = format!(
            "{start}--{boundary}\r\nContent-Type: {}\r\nContent-Range: bytes {}-{}/{}\r\n\r\n",
            file.meta.content_type,
            part.first,
            part.last,
            file.len()
        );
        bodies.push(Body::Bytes(head.into_bytes()));
        bodies.push(file.part(part.first, part.byte_count()));
    }
    bodies.push(Body::Bytes(format!("\r\n--{boundary}--\r\n").into_bytes()));
    Response::new(Status::PARTIAL_CONTENT)
        .with_header("Content-Type", format!("multipart/byteranges; boundary={boundary}"))
        .by_server()
        .with_headers(&file.prepared.headers()[file.validator_lines.clone()])
        .ruled(&file.meta.headers.ruled)
        .with_body(Body::Sequence(bodies))
}

/// A line that must not stand in the content. Nobody can search a large file for it, so it is long,
/// and never the same twice; that it is guessed by who wrote the file harms only who asks for parts
/// of it.
fn boundary() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    // A hasher with the process's own random keys is at hand; that makes the line hard to foresee.
    let keys = std::hash::RandomState::new();
    let random = std::hash::BuildHasher::hash_one(&keys, NUMBER.fetch_add(1, Ordering::Relaxed));
    format!("whirligig-{random:016x}")
}
