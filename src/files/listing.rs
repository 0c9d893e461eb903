//! Directory listings: read and sorted by a worker thread, rendered while they are sent.
//!
//! The names of a large directory are kept in one run of bytes with a small row each, so a hundred thousand
//! entries are a few megabytes and not a hundred thousand allocations; all listings together have a limit. Rows are
//! rendered by the worker threads as well, piece by piece: eight clients' rows on the loop would hold it for 10 ms.

use std::borrow::Cow;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::disk::{Docroot, Reach, Trouble, file_type, stat};
use super::location::Location;
use super::own::Inode;
use crate::config::{KIB, MIB};
use crate::error_page::{ErrorForm, error, home_of};
use crate::handler::{Answer, Context};
use crate::http::date::iso8601;
use crate::http::negotiate::preferred;
use crate::http::target::{encode_path, query_pairs};
use crate::http::{Body, Filled, Request, Response, Status};
use crate::jobs::Then;
use crate::json::push_string;
use crate::offload::{Offloaded, Producer};
use crate::pages::{self, Home, Kind, ListingStyle, SortBy};
use crate::readme;
use crate::site::Password;
use crate::text::visible;
use crate::upload::{self, page};

/// Bytes that all listings in the making may hold together.
const LISTINGS_BYTES_MAX: usize = 64 * MIB;

/// Rendered at a time. Two pieces of a listing may be in memory.
const PIECE_BYTES: usize = 64 * KIB;

/// One entry: where its name stands, and what is shown of it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    name_at: u32,
    name_len: u16,
    kind: Kind,
    size: u64,
    modified_secs: u64,
}

/// In which form a listing is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Html,
    Json,
    Text,
}

impl Form {
    /// `?json` and `?text` decide; else what the client prefers, HTML where it does not care.
    fn asked_for(request: &Request<'_>) -> Self {
        for (name, _) in query_pairs(request.query().unwrap_or_default()) {
            match &*name {
                "json" => return Form::Json,
                "text" => return Form::Text,
                _ => {}
            }
        }
        let offers = ["text/html", "application/json", "text/plain"];
        match preferred(request.fields().all("accept"), &offers) {
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

/// A directory's entries, compact.
#[derive(Debug, Default)]
struct Entries {
    names: Vec<u8>,
    rows: Vec<Entry>,
    /// Names looked at, found or not.
    looked: usize,
    truncated: bool,
    /// The name of the best README, and how good that is.
    readme: Option<(u8, Vec<u8>)>,
}

impl Entries {
    fn name(&self, entry: &Entry) -> &[u8] {
        let at = entry.name_at as usize;
        &self.names[at..at + usize::from(entry.name_len)]
    }

    fn note_readme(&mut self, name: &[u8], kind: Kind) {
        if let Some((_, rank)) = readme::markup_of(name).filter(|_| kind == Kind::File)
            && self.readme.as_ref().is_none_or(|(best, known)| (rank, name) < (*best, known))
        {
            self.readme = Some((rank, name.to_vec()));
        }
    }

    fn bytes(&self) -> usize {
        self.names.capacity() + self.rows.capacity() * size_of::<Entry>()
    }
}

/// What a listing is asked to show.
#[derive(Debug)]
struct Asked {
    form: Form,
    sort: SortBy,
    descending: bool,
    /// As it was typed.
    query: String,
    home: Home,
}

impl Asked {
    /// `?sort=`, `&order=` and `&q=`; all by name where they say nothing.
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
        Asked { form: Form::asked_for(request), sort, descending, query, home }
    }
}

/// Answers with a listing of an open directory: the reading is a job's. `also` is a password that
/// the client has given besides that of `path`.
pub(super) fn later(
    docroot: &Arc<Docroot>,
    directory: OwnedFd,
    path: &[u8],
    also: Option<Password>,
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    if let Some(refusal) = docroot.refusal(request) {
        return refusal.into();
    }
    let (error_form, asked) = (ErrorForm::of(request), Asked::of(request, home_of(request)));
    let (entries_max, upload_bytes_max) = (cx.limits().listing_entries_max, cx.limits().upload_bytes_max);
    let (docroot, path) = (Arc::clone(docroot), path.to_vec());
    cx.job_then(move || {
        let made = read(&docroot, &directory, &path, &asked.query.to_lowercase(), entries_max)
            .inspect_err(|trouble| log::warn!("cannot list {}: {trouble:?}", path.escape_ascii()))
            .map_err(|_| "the directory cannot be read now")
            .and_then(|entries| Listing::make(docroot, entries, path, also, asked, upload_bytes_max));
        let then: Then = match made {
            Ok(mut listing) => {
                let mut first = Vec::new();
                let said = listing.produce(&mut first);
                Box::new(move |cx| respond(listing, first, said, cx).into())
            }
            Err(why) => Box::new(move |_| error(Status::SERVICE_UNAVAILABLE, why, error_form).into()),
        };
        then
    })
}

/// The answer, whose first piece is made. Most listings have no other.
fn respond(listing: Listing, first: Vec<u8>, said: Filled, cx: &Context<'_>) -> Response {
    let form = listing.form;
    let policy = if listing.style.panel.is_empty() { pages::LISTING_POLICY } else { &page::POLICY };
    let policy = match listing.style.reloads {
        true => Cow::Owned(pages::reloading_policy(policy)),
        false => Cow::Borrowed(policy),
    };
    let body = match said {
        Filled::End => Body::Bytes(first),
        _ => Body::Source(Box::new(Offloaded::begun(listing, first, cx))),
    };
    let response = Response::new(Status::OK)
        .by_server()
        .with_field("Content-Type", form.content_type())
        .with_field("Vary", "Accept")
        // What a listing shows is never known to be fresh.
        .with_field("Cache-Control", "no-cache")
        .with_body(body);
    match form {
        Form::Html => response.with_field("Content-Security-Policy", &*policy),
        // Names in it may be markup.
        Form::Json | Form::Text => response.with_field("X-Content-Type-Options", "nosniff"),
    }
}

/// The folder that is listed.
struct Folder<'a> {
    fd: &'a OwnedFd,
    /// The path that was asked for.
    path: &'a [u8],
    location: Location,
}

/// Reads the entries whose names contain `query`, which is in lower case.
fn read(
    docroot: &Docroot,
    directory: &OwnedFd,
    path: &[u8],
    query: &str,
    entries_max: usize,
) -> Result<Entries, Trouble> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    let location = docroot.judge(directory, &stat(directory)?, path)?.location;
    let folder = Folder { fd: directory, path, location };
    let mut entries = Entries::default();
    for entry in Dir::new(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        // Dotfiles are not served, `.` and `..` are not entries.
        if name.starts_with(b".") {
            continue;
        }
        if entries.looked == entries_max {
            entries.truncated = true;
            break;
        }
        let is_found = contains(name, query);
        if !is_found && entry.file_type() != FileType::Symlink {
            entries.looked += 1;
            continue;
        }
        let Some((kind, size, modified_secs)) = look(docroot, &folder, name, entry.file_type()) else {
            continue;
        };
        entries.looked += 1;
        if is_found {
            let (Ok(name_at), Ok(name_len)) = (u32::try_from(entries.names.len()), u16::try_from(name.len()))
            else {
                break;
            };
            entries.note_readme(name, kind);
            entries.names.extend_from_slice(name);
            entries.rows.push(Entry { name_at, name_len, kind, size, modified_secs });
        }
    }
    Ok(entries)
}

/// Whether a name contains the text, upper and lower case being the same.
fn contains(name: &[u8], lower: &str) -> bool {
    lower.is_empty() || String::from_utf8_lossy(name).to_lowercase().contains(lower)
}

/// What is shown of one entry; `None` for what is not served anyway: links that lead out, and what went away.
fn look(docroot: &Docroot, folder: &Folder<'_>, name: &[u8], known: FileType) -> Option<(Kind, u64, u64)> {
    let stat = if known == FileType::Symlink {
        let full = [folder.path, name].concat();
        let name = full.strip_prefix(b"/").unwrap_or(&full);
        let target = docroot.open_beneath(name, Reach::OnDisk).ok()?;
        let stat = stat(&target).ok()?;
        docroot.judge(&target, &stat, &full).ok()?;
        stat
    } else {
        let stat = rustix::fs::statx(folder.fd, name, AtFlags::SYMLINK_NOFOLLOW, Inode::MASK).ok()?;
        if docroot.is_own_entry(&folder.location, name, &stat) {
            return None;
        }
        stat
    };
    let kind = match file_type(&stat) {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File,
        _ => Kind::Other,
    };
    Some((kind, stat.stx_size, u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0)))
}

fn sort(entries: &mut Entries, by: SortBy, descending: bool) {
    let mut rows = std::mem::take(&mut entries.rows);
    rows.sort_unstable_by(|a, b| {
        // Directories stay in front whatever is asked for; equal ones go by name.
        let folders = (b.kind == Kind::Directory).cmp(&(a.kind == Kind::Directory));
        let by_name = || entries.name(a).cmp(entries.name(b));
        let asked = match by {
            SortBy::Name => by_name(),
            SortBy::Size => a.size.cmp(&b.size).then_with(by_name),
            SortBy::Modified => a.modified_secs.cmp(&b.modified_secs).then_with(by_name),
        };
        folders.then(if descending { asked.reverse() } else { asked })
    });
    entries.rows = rows;
}

/// A README that is shown.
#[derive(Debug)]
struct Readme {
    name: Vec<u8>,
    html: Vec<u8>,
}

/// Reads and renders it. Of a long one there is only the link; one that cannot be had is left out.
fn load_readme(docroot: &Docroot, path: &[u8], also: Option<Password>, name: Vec<u8>) -> Option<Readme> {
    let full = [path, &name].concat();
    let file = docroot.open_beneath(full.strip_prefix(b"/").unwrap_or(&full), Reach::OnDisk).ok()?;
    let stat = stat(&file).ok()?;
    let shown = docroot.judge(&file, &stat, &full).ok()?;
    let mut places = shown.location.possible_paths().chain([full]);
    if file_type(&stat) != FileType::RegularFile
        || places.any(|place| docroot.is_left_out(&place, path, also))
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
    let html = html.unwrap_or_else(|| b"<p>It is too long to be shown here.</p>\n".to_vec());
    Some(Readme { name, html })
}

#[derive(Debug)]
enum Part {
    Head,
    Row(usize),
    /// The README, from this byte of it on.
    Readme(usize),
}

/// Renders a listing while it is sent.
#[derive(Debug)]
struct Listing {
    docroot: Arc<Docroot>,
    entries: Entries,
    bytes: usize,
    path: Vec<u8>,
    form: Form,
    style: ListingStyle,
    readme: Option<Readme>,
    next: Part,
}

impl Listing {
    /// What is to be rendered, in order, with its README; or why it is not.
    fn make(
        docroot: Arc<Docroot>,
        mut entries: Entries,
        path: Vec<u8>,
        also: Option<Password>,
        asked: Asked,
        upload_bytes_max: u64,
    ) -> Result<Self, &'static str> {
        let form = asked.form;
        let shows_readme = docroot.options.readme && form == Form::Html && asked.query.is_empty();
        let readme = entries.readme.take().filter(|_| shows_readme);
        let readme = readme.and_then(|(_, name)| load_readme(&docroot, &path, also, name));
        let bytes = entries.bytes() + readme.as_ref().map_or(0, |readme| readme.html.len()) + 2 * PIECE_BYTES;
        let held = docroot.listing_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        sort(&mut entries, asked.sort, asked.descending);
        let style = ListingStyle {
            sort: asked.sort,
            descending: asked.descending,
            truncated_at: entries.truncated.then_some(entries.looked),
            entries: entries.rows.len(),
            total: entries.looked,
            query: asked.query,
            archives: docroot.options.archives,
            panel: match upload::area_of(&docroot.options.uploads, &path) {
                Some(_) => page::panel(upload_bytes_max),
                None => String::new(),
            },
            reloads: docroot.options.live_reload,
            home: asked.home,
        };
        // Made in any case: it gives back what it holds when it is dropped.
        let listing = Listing { docroot, entries, bytes, path, form, style, readme, next: Part::Head };
        if held <= LISTINGS_BYTES_MAX { Ok(listing) } else { Err("too many listings are being made") }
    }

    fn head(&self, out: &mut Vec<u8>) {
        match self.form {
            Form::Html => pages::listing_head(&self.path, &self.style, out),
            Form::Json => {
                let mut head = String::from("{\"path\":");
                push_string(&String::from_utf8_lossy(&self.path), &mut head);
                if !self.style.query.is_empty() {
                    head.push_str(",\"query\":");
                    push_string(&self.style.query, &mut head);
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
            Form::Html => pages::listing_foot(&self.style, self.readme.is_some(), out),
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

/// One entry as JSON. `href` is exact whatever bytes the name has; `name` is for people.
fn json_row(row: &pages::Row<'_>, is_first: bool, out: &mut Vec<u8>) {
    let mut json = String::from(if is_first { "\n{\"name\":" } else { ",\n{\"name\":" });
    push_string(&String::from_utf8_lossy(row.name), &mut json);
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

/// One entry as a line: its name, with a slash if it is a directory. Control characters cannot
/// break the line, and characters that change its direction are escaped.
fn text_row(row: &pages::Row<'_>, out: &mut Vec<u8>) {
    let name = String::from_utf8_lossy(row.name).replace(|c: char| c.is_control(), "?");
    out.extend_from_slice(visible(&name).as_bytes());
    out.extend_from_slice(if row.kind == Kind::Directory { b"/\n" } else { b"\n" });
}

impl Producer for Listing {
    fn produce(&mut self, out: &mut Vec<u8>) -> Filled {
        if matches!(self.next, Part::Head) {
            self.head(out);
            self.next = Part::Row(0);
        }
        while let Part::Row(row) = self.next {
            if out.len() >= PIECE_BYTES {
                return Filled::More;
            }
            match self.entries.rows.get(row) {
                Some(entry) => self.row(entry, row == 0, out),
                None => break,
            }
            self.next = Part::Row(row + 1);
        }
        if let Some(readme) = &self.readme {
            let at = match self.next {
                Part::Readme(at) => at,
                Part::Head | Part::Row(_) => {
                    pages::readme_head(&readme.name, out);
                    0
                }
            };
            let end = readme.html.len().min(at + PIECE_BYTES.saturating_sub(out.len()).max(1));
            out.extend_from_slice(&readme.html[at..end]);
            if end < readme.html.len() {
                self.next = Part::Readme(end);
                return Filled::More;
            }
        }
        self.foot(out);
        Filled::End
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.docroot.listing_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileOptions;
    use crate::site::Guard;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// The listing would show the content without its password.
    #[test]
    fn a_readme_with_a_protection_of_its_own_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/private")).unwrap();
        fs::write(folder.path().join("a/README.md"), "shown").unwrap();
        fs::write(folder.path().join("a/private/README.md"), "kept back").unwrap();
        symlink("private/README.md", folder.path().join("a/README.txt")).unwrap();
        let shows = |rule: &str, path: &[u8], name: &[u8]| {
            let docroot = Docroot::open(folder.path(), FileOptions::default()).unwrap();
            let docroot = docroot.guarded(Some(&Guard::of(&[rule], false)));
            load_readme(&docroot, path, None, name.to_vec()).is_some()
        };
        assert!(shows("u:p@/b", b"/a/", b"README.md") && shows("u:p", b"/a/", b"README.md"));
        assert!(!shows("u:p@/a/README.md", b"/a/", b"README.md"));
        assert!(shows("u:p@/a", b"/a/", b"README.md"), "who sees the folder has passed it");
        assert!(shows("u:p@/b", b"/a/", b"README.txt") && !shows("u:p@/a/private", b"/a/", b"README.txt"));
        assert!(shows("u:p@/a/private", b"/a/private/", b"README.md"));
    }
}
