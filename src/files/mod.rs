//! File serving: files are found beneath a docroot, kept fresh in memory, and sent.
//!
//! [`StaticFiles`] is the handler. The cache belongs to the driver, and a handler borrows it for a
//! request through its [`Context`], so handlers hold no lock. Work that might block (a cold
//! directory entry, a cold page, a listing) is a job. Other code that uses the disk, such as
//! uploads, CGI programs and logs, is elsewhere. Must not know connections or drivers.

#[cfg(feature = "compress")]
mod archive;
mod budget;
mod candidate;
pub(crate) mod clean;
pub(crate) mod coding;
mod collation;
mod download;
mod entries;
#[cfg(feature = "compress")]
mod gzip;
mod listing;
pub(crate) mod respond;
mod search;

use std::borrow::Cow;
use std::sync::Arc;

use crate::clock::Now;
use crate::config::PATH_BYTES_MAX;
use crate::docroot::cache::{FileCache, Files, Representations};
use crate::docroot::coded_files::CodedFiles;
use crate::docroot::file::CachedFile;
use crate::docroot::hidden::is_hidden;
use crate::docroot::root::Root;
use crate::docroot::{Disk, Docroot, LookupError};
use crate::files::candidate::{Candidate, Purpose, Served};
use crate::files::respond::{DECIDING, file_answer, page_instead, whole_response};
use crate::files::search::{accepts_codings, look, page_for, search};
use crate::handler::passwords::{Password, Passwords};
use crate::handler::router::method_not_allowed;
use crate::handler::{Answer, Context, Handler, When};
use crate::http::{Request, Response, Status, target};

pub(crate) use crate::files::listing::Listings;

/// A handler that serves the folder with a given name, also after another folder has taken that
/// name.
#[derive(Debug, Clone)]
pub struct StaticFiles {
    root: Arc<Root>,
    listings: Arc<Listings>,
}

impl StaticFiles {
    /// Serves `docroot`, and follows the name by which it was opened. Each call makes limits for
    /// listings of its own. Clones share them.
    #[must_use]
    pub fn new(docroot: Arc<Docroot>) -> Self {
        StaticFiles::of(Arc::new(Root::of(docroot)), &Listings::new())
    }

    /// Serves the folder of `root`. Listings share the limits of `listings`.
    pub(crate) fn of(root: Arc<Root>, listings: &Arc<Listings>) -> Self {
        StaticFiles { root, listings: Arc::clone(listings) }
    }

    /// Serves the folder of another root within the same limits.
    pub(crate) fn at(&self, root: Arc<Root>) -> Self {
        StaticFiles::of(root, &self.listings)
    }

    /// Returns the root that is served.
    pub(crate) fn root(&self) -> &Arc<Root> {
        &self.root
    }

    /// Creates the state of a request that is served from `docroot`.
    fn scope<'a>(&'a self, docroot: &'a Arc<Docroot>) -> Scope<'a> {
        Scope { docroot, listings: &self.listings, also: None }
    }

    /// Serves a request whose root has been replaced by another folder, which is opened first.
    fn follow(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let (files, root) = (self.clone(), Arc::clone(&self.root));
        let follow = move |_: &Request<'_>| root.follow();
        cx.job_with(request, follow, move |(), request, cx| {
            if let Some(cache) = Files::of(cx) {
                cache.with(FileCache::forget_old_roots);
            }
            serve(files.scope(&files.root.current()), request, cx)
        })
    }
}

impl Handler for StaticFiles {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let (sent_before, now) = (cx.sent_before, cx.now().mono);
        let Some(Files::Own(cache)) = Files::of(cx) else {
            return match self.root.is_current(sent_before, now) {
                true => serve(self.scope(&self.root.current()), request, cx),
                false => self.follow(request, cx),
            };
        };
        let Some(docroot) = cache.take_root(&self.root, sent_before, now) else {
            return self.follow(request, cx);
        };
        let answer = serve(self.scope(&docroot), request, cx);
        if let Some(Files::Own(cache)) = Files::of(cx) {
            cache.put_back(&self.root, docroot);
        }
        answer
    }
}

/// The docroot that serves a request, and the password that the client has given.
#[derive(Clone, Copy)]
struct Scope<'a> {
    docroot: &'a Arc<Docroot>,
    listings: &'a Arc<Listings>,
    /// A password that the client has given besides that of the requested path.
    also: Option<Password>,
}

impl Scope<'_> {
    /// Returns an owned copy, for work that continues after the call.
    fn into_owned(self) -> OwnedScope {
        let Scope { docroot, listings, also } = self;
        OwnedScope { docroot: Arc::clone(docroot), listings: Arc::clone(listings), also }
    }

    /// Returns the password of a location, unless the client has given it with a request for
    /// `path`.
    fn password_due(
        &self,
        path: &[u8],
        password: Option<Password>,
    ) -> Option<(&Arc<dyn Passwords>, Password)> {
        self.docroot.password_due(path, self.also, password)
    }
}

/// A scope that outlives the call in which it began. Also the handler that serves the request after
/// the client has given another password.
struct OwnedScope {
    docroot: Arc<Docroot>,
    listings: Arc<Listings>,
    also: Option<Password>,
}

impl OwnedScope {
    fn scope(&self) -> Scope<'_> {
        Scope { docroot: &self.docroot, listings: &self.listings, also: self.also }
    }
}

impl Handler for OwnedScope {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        serve(self.scope(), request, cx)
    }
}

/// Requests the password of the location that a request leads to, then serves the request from the
/// beginning.
fn ask_password(
    scope: Scope<'_>,
    (guard, password): (&Arc<dyn Passwords>, Password),
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    if scope.also.is_some() {
        // The link was changed meanwhile. The next request starts again.
        return not_found().into();
    }
    let again: Arc<dyn Handler> = Arc::new(Scope { also: Some(password), ..scope }.into_owned());
    Arc::clone(guard).admit(password, &again, request, cx)
}

/// Serves a request from the beginning.
fn serve(scope: Scope<'_>, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let docroot = scope.docroot;
    if !request.is_get_or_head() {
        return method_not_allowed(request, "GET, HEAD, OPTIONS").into();
    }
    let path = match request.is_plain_path() {
        true => Cow::Borrowed(request.path()),
        false => match target::normalize(request.path()) {
            Ok(path) if is_hidden(&path) => return not_found().into(),
            Ok(path) => path,
            Err(error) => {
                return Response::problem(Status::BAD_REQUEST, error.to_string()).into();
            }
        },
    };
    if path.len() > PATH_BYTES_MAX {
        return find(scope, &path, request, cx);
    }
    #[cfg(feature = "compress")]
    if let Some(form) = archive::asked_for(docroot, &path, request) {
        return archive::answer(scope, &path, form, request, cx);
    }
    if request.headers().lack(DECIDING) && !docroot.options.clean_urls {
        // Nearly every request for the whole of a small file ends here.
        let whole = lookup(docroot, &path, false, cx, |file, _| {
            let due = scope.password_due(&path, file.meta.password);
            due.is_none().then(|| (whole_response(file), docroot.index_name(&file.meta)))
        });
        if let Some((response, index)) = whole.flatten() {
            download::mark(request, &path, index, cx);
            return response.into();
        }
    } else if !(docroot.options.clean_urls && clean::is_long(&path))
        && let Some(representations) = cached(docroot, &path, request, cx)
    {
        let candidate = Candidate { path: Cow::Borrowed(&path), purpose: Purpose::Asked };
        return answer(scope, Ok(Served::File(representations, candidate)), &path, request, cx);
    }
    find(scope, &path, request, cx)
}

fn lookup<T>(
    docroot: &Docroot,
    path: &[u8],
    with_coded: bool,
    cx: &mut Context<'_>,
    take: impl FnOnce(&Arc<CachedFile>, Option<&Arc<CodedFiles>>) -> T,
) -> Option<T> {
    let (sent_before, now) = (cx.sent_before, cx.now().mono);
    Files::of(cx)?.with(|cache| cache.lookup(docroot, path, with_coded, sent_before, now, take))
}

/// Returns the file at this path from the cache, if the cache has every form that the request
/// needs.
fn cached(
    docroot: &Docroot,
    path: &[u8],
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Option<Representations> {
    let with_coded = accepts_codings(request);
    let representations = lookup(docroot, path, with_coded, cx, |original, coded_files| Representations {
        original: Arc::clone(original),
        coded_files: coded_files.map(Arc::clone),
    })?;
    (representations.coded_files.is_some() || !with_coded).then_some(representations)
}

/// Finds a file that is not in the cache: looks on the disk, at one path after the other.
fn find(scope: Scope<'_>, path: &[u8], request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let docroot = scope.docroot;
    let found = search(docroot, path, request, Disk::CachedOnly, |candidate| {
        match cached(docroot, &candidate.path, request, cx) {
            Some(representations) => Ok(Served::File(representations, candidate)),
            None => look(docroot, candidate, Disk::CachedOnly, request, cx.now().wall)
                .inspect(|found| keep(docroot, found, cx.now(), cx)),
        }
    });
    match &found {
        Err(LookupError::Cold) => serve_later(scope, path, request, cx),
        Err(LookupError::Forbidden) if page_for(docroot, Status::FORBIDDEN).is_some() => {
            serve_later(scope, path, request, cx)
        }
        Ok(_) | Err(_) => answer(scope, found, path, request, cx),
    }
}

/// Puts a file that was looked up at `now` or later into the cache.
fn keep(docroot: &Docroot, found: &Served<'_>, now: Now, cx: &mut Context<'_>) {
    if let Served::File(representations, candidate) = found
        && let Some(cache) = Files::of(cx)
    {
        cache.with(|cache| cache.insert(docroot, &candidate.path, representations, now));
    }
}

/// Finds a file like [`find`], but on a worker thread, which may wait for the disk.
fn serve_later(scope: Scope<'_>, path: &[u8], request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let (kept, path, asked) = (scope.into_owned(), path.to_vec(), cx.now());
    let search_disk = move |request: &Request<'_>| {
        let docroot = &kept.docroot;
        let disk = |candidate| look(docroot, candidate, Disk::MayBlock, request, asked.wall);
        let found = search(docroot, &path, request, Disk::MayBlock, disk);
        let found = match (&found, page_for(docroot, Status::FORBIDDEN)) {
            (Err(LookupError::Forbidden), Some(page)) => disk(page).or(Err(LookupError::Forbidden)),
            _ => found,
        };
        let found = found.map(Served::into_owned);
        (kept, path, found)
    };
    cx.job_with(request, search_disk, move |(kept, path, found), request, cx| {
        if let Ok(found) = &found {
            keep(&kept.docroot, found, asked, cx);
        }
        answer(kept.scope(), found, &path, request, cx)
    })
}

/// Makes the answer for a search result, if the client has given the password of its location.
fn answer(
    scope: Scope<'_>,
    found: Result<Served<'_>, LookupError>,
    path: &[u8],
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let docroot = scope.docroot;
    if docroot.options.spa.is_some() {
        let is_found = match &found {
            Ok(Served::File(_, candidate)) => candidate.purpose == Purpose::Page || *candidate.path == *path,
            Ok(Served::Directory(..) | Served::WithoutSlash(_)) => true,
            Err(error) => *error != LookupError::NotFound,
        };
        // The response depends on Accept: a client that does not accept HTML receives 404 and not
        // the page of the application.
        if !is_found {
            cx.set_own_header(When::Always, "Vary", "Accept");
        }
    }
    let password = found.as_ref().ok().and_then(Served::password);
    if let Some(due) = scope.password_due(path, password) {
        return match &found {
            // The error page itself has a password. It is not worth a login, and must not be shown
            // without one.
            Ok(Served::File(_, Candidate { purpose: Purpose::Instead(Status::FORBIDDEN), .. })) => {
                failure(LookupError::Forbidden, path).into()
            }
            Ok(Served::File(_, Candidate { purpose: Purpose::Instead(_), .. })) => not_found().into(),
            _ => ask_password(scope, due, request, cx),
        };
    }
    match found {
        Ok(Served::File(representations, candidate)) => match candidate.purpose {
            Purpose::Instead(status) => page_instead(&representations.original, status).into(),
            Purpose::Asked | Purpose::Page => {
                asked_for(docroot, &representations, path, &candidate, request, cx)
            }
        },
        Ok(Served::Directory(directory, _)) => listing::later(scope, directory, path, request, cx),
        Ok(Served::WithoutSlash(_)) => {
            redirect(&[path, b"/"].concat(), request, "the path of a directory ends in a slash").into()
        }
        Err(error) => failure(error, path).into(),
    }
}

/// Makes the answer for the file that `candidate` found for a request for `path`.
fn asked_for(
    docroot: &Arc<Docroot>,
    representations: &Representations,
    path: &[u8],
    candidate: &Candidate<'_>,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    if candidate.purpose == Purpose::Page {
        let name = clean::short_name(docroot, &candidate.path);
        if name != path {
            return redirect(name, request, "the page has a shorter path").into();
        }
    }
    let index = docroot.index_name(&representations.original.meta);
    download::mark(request, &candidate.path, index, cx);
    file_answer(docroot, representations, request, cx)
}

fn failure(error: LookupError, path: &[u8]) -> Response {
    match error {
        LookupError::NotFound | LookupError::Unknown => not_found(),
        LookupError::Forbidden => Response::problem(Status::FORBIDDEN, "this file may not be read"),
        LookupError::Cold => Response::problem(Status::SERVICE_UNAVAILABLE, "the file is in use, try again"),
        LookupError::Exhausted => {
            Response::problem(Status::SERVICE_UNAVAILABLE, "the server is out of descriptors")
        }
        LookupError::Io(code) => {
            log::warn!("cannot read {}: {}", path.escape_ascii(), std::io::Error::from_raw_os_error(code));
            Response::problem(Status::INTERNAL_SERVER_ERROR, "this file cannot be read")
        }
    }
}

pub(crate) fn not_found() -> Response {
    Response::problem(Status::NOT_FOUND, "the file does not exist")
}

/// A redirect to another path of this server, which keeps the query. Relative links in an index
/// would be wrong if the path of the directory had no slash at its end. The path is normalized, so
/// `//host` cannot lead to another host.
fn redirect(path: &[u8], request: &Request<'_>, why: &'static str) -> Response {
    let mut location = target::reference(request.base(), path);
    if let Some(query) = request.query() {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    Response::problem(Status::MOVED_PERMANENTLY, why).with_header("Location", location)
}
