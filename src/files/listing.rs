//! Directory listings: made by worker threads, rendered while they are sent.
//!
//! A few workers read folders, in an order that is fair to clients. Equal requests that wait share
//! one reading. A listing that fits one piece is one response and holds nothing afterwards. The
//! entries of a longer one are kept, and workers render it piece by piece: the rows of eight
//! clients would block the loop for 10 ms. Must not know how workers are scheduled.

use std::borrow::Cow;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rustix::fs::FileType;

use crate::config::{
    KIB, LISTING_REQUESTS_MAX, LISTINGS_READ_BYTES_MAX, LISTINGS_SENT_BYTES_MAX, LISTINGS_WAITING_MAX,
};
use crate::docroot::own::Inode;
use crate::docroot::stamp::{file_type, stat};
use crate::docroot::{Disk, Docroot, area_of};
use crate::files::Scope;
use crate::files::budget::{Spent, grow};
use crate::files::collation::folded;
use crate::files::entries::{Entries, Entry, Unread};
use crate::handler::coalesce::{Coalesced, NoResult, Work};
use crate::handler::offload::{Offloaded, Producer};
use crate::handler::passwords::Password;
use crate::handler::{Answer, Context};
use crate::http::date::iso8601;
use crate::http::negotiate::preferred;
use crate::http::target::{encode_path, query_pairs};
use crate::http::{Body, FillStatus, Request, Response, Status};
use crate::jobs::fair_queue::{FairQueue, FairTask, Origin};
use crate::jobs::{Lane, Spawn};
use crate::pages::{self, Home, Kind, LastPart, ListingStyle, SortBy, readme, upload as page};
use crate::sync::{Permit, Semaphore, lock};
use crate::text::{push_json_string, visible};

/// Bytes rendered at a time. Two pieces of a listing may be in memory.
const PIECE_BYTES: usize = 64 * KIB;

/// The listings that a server is making.
pub(crate) struct Listings {
    /// Memory of entries while they are read, also those of small listings.
    reading: Arc<Semaphore>,
    /// Memory of long listings while they are sent. This is a separate budget, because a client
    /// that receives a listing slowly must not block small listings of others.
    sending: Arc<Semaphore>,
    waiting: Arc<FairQueue<Reading>>,
    made: Arc<Coalesced<Wanted, Outcome>>,
}

impl std::fmt::Debug for Listings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listings({:?}, {:?})", self.reading, self.sending)
    }
}

impl Listings {
    /// Creates the state of a server that makes no listings yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Listings {
            reading: Semaphore::new(LISTINGS_READ_BYTES_MAX as u64),
            sending: Semaphore::new(LISTINGS_SENT_BYTES_MAX as u64),
            waiting: Arc::new(FairQueue::new(LISTINGS_WAITING_MAX)),
            made: Coalesced::new(LISTING_REQUESTS_MAX),
        })
    }
}

/// The format of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    Html,
    Json,
    Text,
}

impl Form {
    /// Returns the format that the query (`?json` or `?text`) or else `Accept` requests. The
    /// default is HTML.
    fn asked_for(request: &Request<'_>) -> Self {
        for (name, _) in query_pairs(request.query().unwrap_or_default()) {
            match &*name {
                "json" => return Form::Json,
                "text" => return Form::Text,
                _ => {}
            }
        }
        let offers = ["text/html", "application/json", "text/plain"];
        match preferred(request.headers().all("accept"), &offers) {
            Some(1) => Form::Json,
            Some(2) => Form::Text,
            Some(_) | None => Form::Html,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Form::Html => "text/html; charset=utf-8",
            Form::Json => "application/json; charset=utf-8",
            Form::Text => "text/plain; charset=utf-8",
        }
    }
}

/// The form, order and filter that a request selects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ListingChoice {
    form: Form,
    sort: SortBy,
    descending: bool,
    /// The text as typed.
    query: String,
    home: Home,
}

impl ListingChoice {
    /// Reads `?sort=`, `&order=` and `&q=`. The default is all entries by name.
    fn of(request: &Request<'_>, home: Home) -> Self {
        let (mut sort, mut descending, mut query) = (SortBy::Name, false, String::new());
        for (name, value) in query_pairs(request.query().unwrap_or_default()) {
            match &*name {
                "sort" => sort = SortBy::from_keyword(&value).unwrap_or(SortBy::Name),
                "order" => descending = value == "desc",
                "q" => query = value.into_owned(),
                _ => {}
            }
        }
        ListingChoice { form: Form::asked_for(request), sort, descending, query, home }
    }
}

/// All inputs of a listing. Equal requests share one listing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wanted {
    /// The number of the docroot.
    docroot: usize,
    /// Part of the key because a link may lead to another folder since an earlier request.
    folder: Inode,
    path: Vec<u8>,
    /// A password that the client has given besides that of the path.
    also: Option<Password>,
    choice: ListingChoice,
}

/// Answers with a listing of an open directory, which workers make.
pub(super) fn later(
    scope: Scope<'_>,
    directory: OwnedFd,
    path: &[u8],
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let Scope { docroot, listings, also } = scope;
    if let Some(refusal) = docroot.refusal(request) {
        return refusal.into();
    }
    let unavailable = |why| Answer::from(Response::problem(Status::SERVICE_UNAVAILABLE, why));
    let Ok(stat) = stat(&directory) else { return unavailable(UNREADABLE) };
    let wanted = Wanted {
        docroot: docroot.number,
        folder: Inode::of(&stat),
        path: path.to_vec(),
        also,
        choice: ListingChoice::of(request, Home::of(request)),
    };
    let origin = Origin::of(cx.peer());
    let waiting = Arc::clone(&listings.waiting);
    waiting.hasten(origin, |reading| *reading.work.key() == wanted);
    let (entries_max, upload_bytes_max) = (cx.limits().listing_entries_max, cx.limits().upload_bytes_max);
    let (listings, docroot) = (Arc::clone(listings), Arc::clone(docroot));
    let (made, bounds) = (Arc::clone(&listings.made), Arc::clone(&listings));
    let begin = move |work: Work<Wanted, Outcome>, spawner: &Arc<dyn Spawn>| {
        let reading = Reading { docroot, listings: bounds, directory, entries_max, upload_bytes_max, work };
        waiting.submit(origin, reading, spawner);
    };
    made.answer(&wanted, cx, begin, move |outcome, cx| match outcome {
        Ok(Ok(made)) => match made.respond(&listings.sending, cx) {
            Ok(response) => response.into(),
            Err(Spent) => unavailable(TOO_MANY),
        },
        Ok(Err(why)) => unavailable(why),
        Err(NoResult::Lost | NoResult::TooMany) => unavailable(TOO_MANY),
    })
}

/// Reasons for a 503.
const UNREADABLE: &str = "the directory cannot be read now";
const TOO_MANY: &str = "too many listings are being made";

/// A listing that waits for a worker.
struct Reading {
    docroot: Arc<Docroot>,
    listings: Arc<Listings>,
    directory: OwnedFd,
    entries_max: usize,
    upload_bytes_max: u64,
    work: Work<Wanted, Outcome>,
}

/// The result that equal requests share, or the reason for a 503.
type Outcome = Result<Made, &'static str>;

impl FairTask for Reading {
    const LANE: Lane = Lane::Listings;

    fn is_wanted(&self) -> bool {
        self.work.is_wanted()
    }

    fn run(self) {
        // A later request may follow a change that this reading misses, so it starts new work.
        self.work.close();
        if self.work.is_wanted() {
            let outcome = self.make();
            self.work.finish(&outcome);
        }
    }
}

impl Reading {
    fn make(&self) -> Outcome {
        let Wanted { path, choice, .. } = self.work.key();
        let (docroot, query) = (&*self.docroot, folded(choice.query.as_bytes()));
        let held = self.listings.reading.empty();
        Entries::read(docroot, &self.directory, path, &query, self.entries_max, held)
            .and_then(|entries| Ok(Made::of(self.contents(entries)?, &self.listings.sending)?))
            .map_err(|why| match why {
                Unread::LookupError(error) => {
                    log::warn!("cannot list {}: {error:?}", path.escape_ascii());
                    UNREADABLE
                }
                Unread::Spent => TOO_MANY,
            })
    }

    /// Returns the entries in the requested order, and the page around them.
    fn contents(&self, mut entries: Entries) -> Result<Contents, Spent> {
        let Wanted { path, also, choice, .. } = self.work.key();
        let options = &self.docroot.options;
        // Where clients may write, a README would be a page of a stranger in the name of this site.
        let takes_uploads = area_of(&options.uploads, path).is_some();
        let shows_readme =
            options.readme && choice.form == Form::Html && choice.query.is_empty() && !takes_uploads;
        let readme = entries.readme.take().filter(|_| shows_readme);
        let readme = readme.and_then(|(_, name)| load_readme(&self.docroot, path, *also, name));
        grow(&mut entries.held, readme.as_ref().map_or(0, |readme| readme.html.len()))?;
        entries.sort(choice.sort, choice.descending);
        let style = ListingStyle {
            title: options.title.clone(),
            sort: choice.sort,
            descending: choice.descending,
            truncated_at: entries.truncated.then_some(entries.looked),
            entries: entries.rows.len(),
            total: entries.looked,
            query: choice.query.clone(),
            archives: options.archives,
            panel: match takes_uploads {
                true => page::panel(self.upload_bytes_max),
                false => String::new(),
            },
            reloads: options.live_reload,
            home: choice.home,
        };
        Ok(Contents { entries, path: path.clone(), form: choice.form, style, readme })
    }
}

/// A finished listing, shared by all requests that wait for it.
#[derive(Debug, Clone)]
struct Made {
    form: Form,
    policy: Cow<'static, str>,
    extent: Extent,
}

#[derive(Debug, Clone)]
enum Extent {
    /// A listing of one piece, as most are.
    Whole(Arc<Vec<u8>>),
    Long {
        contents: Arc<Contents>,
        /// The first piece is already made. One request gets it, because a copy would take as long
        /// as rendering it again.
        begun: Arc<Mutex<Begun>>,
    },
}

/// A listing with its first piece, until a request takes it.
type Begun = Option<(Listing, Vec<u8>)>;

impl Made {
    /// Renders the first piece of a listing.
    fn of(mut contents: Contents, sending: &Arc<Semaphore>) -> Result<Made, Spent> {
        let form = contents.form;
        let policy = if contents.style.panel.is_empty() { pages::LISTING_POLICY } else { &page::POLICY };
        let policy = match contents.style.reloads {
            true => Cow::Owned(pages::reloading_policy(policy)),
            false => Cow::Borrowed(policy),
        };
        let (mut next, mut first) = (Part::Head, Vec::new());
        let extent = match contents.produce(&mut next, &mut first) {
            FillStatus::End | FillStatus::Failed => Extent::Whole(Arc::new(first)),
            FillStatus::More | FillStatus::Later => {
                contents.entries.held = sending.try_acquire(contents.entries.held.count()).ok_or(Spent)?;
                let held = sending.try_acquire(2 * PIECE_BYTES as u64).ok_or(Spent)?;
                let contents = Arc::new(contents);
                let listing = Listing { contents: Arc::clone(&contents), next, _held: held };
                Extent::Long { contents, begun: Arc::new(Mutex::new(Some((listing, first)))) }
            }
        };
        Ok(Made { form, policy, extent })
    }

    fn respond(self, sending: &Arc<Semaphore>, cx: &Context<'_>) -> Result<Response, Spent> {
        let body = match self.extent {
            Extent::Whole(whole) => Body::Bytes(whole.to_vec()),
            Extent::Long { contents, begun } => {
                let begun = lock(&begun).take();
                let source = match begun {
                    Some((listing, first)) => Offloaded::begun(listing, first, cx),
                    None => Offloaded::new(Listing::begin(contents, sending)?, cx),
                };
                Body::Source(Box::new(source))
            }
        };
        let response = Response::new(Status::OK)
            .by_server()
            .with_header("Content-Type", self.form.content_type())
            .with_header("Vary", "Accept")
            // A cache cannot know whether a listing is fresh.
            .with_header("Cache-Control", "no-cache")
            .with_body(body);
        Ok(match self.form {
            Form::Html => response.with_header("Content-Security-Policy", &*self.policy),
            // The names may contain markup.
            Form::Json | Form::Text => response.with_header("X-Content-Type-Options", "nosniff"),
        })
    }
}

/// A README that is shown below the entries.
#[derive(Debug)]
struct Readme {
    name: Vec<u8>,
    html: Vec<u8>,
}

/// Reads and renders a README. A long one is replaced by a link, and one that cannot be read is
/// left out.
fn load_readme(docroot: &Docroot, path: &[u8], also: Option<Password>, name: Vec<u8>) -> Option<Readme> {
    let full = [path, &name].concat();
    let file = docroot.open_beneath(full.strip_prefix(b"/").unwrap_or(&full), Disk::MayBlock).ok()?;
    let stat = stat(&file).ok()?;
    let shown = docroot.judge(&file, &stat, &full).ok()?;
    let mut places = shown.location.possible_paths().chain([full]);
    if file_type(&stat) != FileType::RegularFile
        || places.any(|place| {
            docroot.is_left_out(&place, path, also) || area_of(&docroot.options.uploads, &place).is_some()
        })
    {
        return None;
    }
    let mut text = Vec::new();
    let bytes_max = docroot.options.readme_bytes_max;
    std::fs::File::from(file).take(bytes_max + 1).read_to_end(&mut text).ok()?;
    let html = match text.len() as u64 <= bytes_max {
        true => readme::markup_of(&name).and_then(|(markup, _)| readme::render(&text, markup)),
        false => None,
    };
    let html = html.unwrap_or_else(|| b"<p>This file is too long to display here.</p>\n".to_vec());
    Some(Readme { name, html })
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Head,
    Row(usize),
    /// The README, from this byte on.
    Readme(usize),
}

/// The contents of a listing.
#[derive(Debug)]
struct Contents {
    entries: Entries,
    path: Vec<u8>,
    form: Form,
    style: ListingStyle,
    readme: Option<Readme>,
}

impl Contents {
    /// Renders the next piece, beginning at `next`.
    fn produce(&self, next: &mut Part, out: &mut Vec<u8>) -> FillStatus {
        if matches!(*next, Part::Head) {
            self.head(out);
            *next = Part::Row(0);
        }
        while let Part::Row(row) = *next {
            if out.len() >= PIECE_BYTES {
                return FillStatus::More;
            }
            match self.entries.rows.get(row) {
                Some(entry) => self.row(entry, row == 0, out),
                None => break,
            }
            *next = Part::Row(row + 1);
        }
        if let Some(readme) = &self.readme {
            let at = match *next {
                Part::Readme(at) => at,
                Part::Head | Part::Row(_) => {
                    pages::readme_head(&readme.name, out);
                    0
                }
            };
            let end = readme.html.len().min(at + PIECE_BYTES.saturating_sub(out.len()).max(1));
            out.extend_from_slice(&readme.html[at..end]);
            if end < readme.html.len() {
                *next = Part::Readme(end);
                return FillStatus::More;
            }
        }
        self.foot(out);
        FillStatus::End
    }

    fn head(&self, out: &mut Vec<u8>) {
        match self.form {
            Form::Html => pages::listing_head(&self.path, &self.style, out),
            Form::Json => {
                let mut head = String::from("{\"path\":");
                push_json_string(&String::from_utf8_lossy(&self.path), &mut head);
                if !self.style.query.is_empty() {
                    head.push_str(",\"query\":");
                    push_json_string(&self.style.query, &mut head);
                }
                head.push_str(&format!(",\"total\":{},\"entries\":[", self.style.total));
                out.extend_from_slice(head.as_bytes());
            }
            Form::Text => {}
        }
    }

    fn foot(&self, out: &mut Vec<u8>) {
        let truncated = self.style.truncated_at.is_some();
        match self.form {
            Form::Html => {
                let last = self.readme.as_ref().map_or(LastPart::Rows, |_| LastPart::Readme);
                pages::listing_foot(&self.style, last, out);
            }
            Form::Json => out.extend_from_slice(format!("],\"truncated\":{truncated}}}\n").as_bytes()),
            Form::Text if truncated => out.extend_from_slice(b"... and more\n"),
            Form::Text => {}
        }
    }

    fn row(&self, entry: &Entry, is_first: bool, out: &mut Vec<u8>) {
        let shown = pages::Row {
            name: self.entries.name(entry),
            kind: entry.kind,
            size: entry.size,
            modified_secs: entry.modified_secs,
        };
        match self.form {
            Form::Html => pages::listing_row(&shown, out),
            Form::Json => json_row(&shown, is_first, out),
            Form::Text => text_row(&shown, out),
        }
    }
}

/// A long listing that is being sent to one client.
#[derive(Debug)]
struct Listing {
    contents: Arc<Contents>,
    next: Part,
    _held: Permit,
}

impl Listing {
    fn begin(contents: Arc<Contents>, sending: &Arc<Semaphore>) -> Result<Self, Spent> {
        let held = sending.try_acquire(2 * PIECE_BYTES as u64).ok_or(Spent)?;
        Ok(Listing { contents, next: Part::Head, _held: held })
    }
}

impl Producer for Listing {
    fn produce(&mut self, out: &mut Vec<u8>) -> FillStatus {
        self.contents.produce(&mut self.next, out)
    }
}

/// Appends one entry as JSON. `href` is exact for any bytes in the name; `name` is for display.
fn json_row(row: &pages::Row<'_>, is_first: bool, out: &mut Vec<u8>) {
    let mut json = String::from(if is_first { "\n{\"name\":" } else { ",\n{\"name\":" });
    push_json_string(&String::from_utf8_lossy(row.name), &mut json);
    let kind = match row.kind {
        Kind::Directory => "directory",
        Kind::File => "file",
        Kind::Other => "other",
    };
    let mut href = Vec::new();
    encode_path(row.name, &mut href);
    let slash = if row.kind == Kind::Directory { "/" } else { "" };
    json.push_str(&format!(
        ",\"href\":\"./{}{slash}\",\"type\":\"{kind}\",\"size\":{},\"modified\":\"{}\"}}",
        String::from_utf8_lossy(&href),
        row.size,
        iso8601(row.modified_secs, 0)
    ));
    out.extend_from_slice(json.as_bytes());
}

/// Appends one entry as a line: its name, with a slash if it is a directory. Control characters are
/// replaced, and characters that change the text direction are escaped.
fn text_row(row: &pages::Row<'_>, out: &mut Vec<u8>) {
    let name = String::from_utf8_lossy(row.name).replace(|c: char| c.is_control(), "?");
    out.extend_from_slice(visible(&name).as_bytes());
    out.extend_from_slice(if row.kind == Kind::Directory { b"/\n" } else { b"\n" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileOptions;
    use crate::features::auth::guard::Guard;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Otherwise the listing would show the content without its password.
    #[test]
    fn a_readme_with_a_protection_of_its_own_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/private")).unwrap();
        fs::write(folder.path().join("a/README.md"), "shown").unwrap();
        fs::write(folder.path().join("a/private/README.md"), "kept back").unwrap();
        symlink("private/README.md", folder.path().join("a/README.txt")).unwrap();
        let shows = |rule: &str, path: &[u8], name: &[u8]| {
            let docroot = Docroot::open(folder.path(), FileOptions::default()).unwrap();
            let docroot = docroot.guarded(Some(Guard::of(&[rule], false)));
            load_readme(&docroot, path, None, name.to_vec()).is_some()
        };
        assert!(shows("u:p@/b", b"/a/", b"README.md") && shows("u:p", b"/a/", b"README.md"));
        assert!(!shows("u:p@/a/README.md", b"/a/", b"README.md"));
        assert!(shows("u:p@/a", b"/a/", b"README.md"), "who sees the folder has passed it");
        assert!(shows("u:p@/b", b"/a/", b"README.txt") && !shows("u:p@/a/private", b"/a/", b"README.txt"));
        assert!(shows("u:p@/a/private", b"/a/private/", b"README.md"));
    }
}
