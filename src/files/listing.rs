//! Directory listings: read and sorted by a worker thread, rendered by a pull source while they are sent.
//!
//! The names of a large directory are kept in one run of bytes with a small row each, so a hundred thousand
//! entries are a few megabytes and not a hundred thousand allocations; all listings together have a limit. The
//! loop renders a few rows whenever the client has taken the last ones.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags};

use super::disk::{Docroot, Reach, Trouble, file_type, is_hidden, stat};
use crate::config::MIB;
use crate::error_page::{error, wants_html};
use crate::handler::{Answer, Context};
use crate::http::date::iso8601;
use crate::http::negotiate::preferred;
use crate::http::target::{encode_path, query_pairs};
use crate::http::{Body, BodySource, Filled, Request, Response, Status};
use crate::json::push_string;
use crate::pages::{self, Kind, ListingStyle, SortBy};

/// Bytes that all listings in the making may hold together.
const LISTINGS_BYTES_MAX: usize = 64 * MIB;

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
    truncated: bool,
}

impl Entries {
    fn name(&self, entry: &Entry) -> &[u8] {
        let at = entry.name_at as usize;
        &self.names[at..at + usize::from(entry.name_len)]
    }

    fn bytes(&self) -> usize {
        self.names.capacity() + self.rows.capacity() * size_of::<Entry>()
    }
}

/// Answers with a listing of an open directory: the reading is a job's.
pub(super) fn later(
    docroot: &Arc<Docroot>,
    directory: OwnedFd,
    path: &[u8],
    request: &Request<'_>,
    cx: &mut Context<'_>,
) -> Answer {
    let (sort, descending) = order(request);
    let (html, form) = (wants_html(request), Form::asked_for(request));
    let entries_max = cx.limits().listing_entries_max;
    let (docroot, path) = (Arc::clone(docroot), path.to_vec());
    cx.job(move || match read(&docroot, &directory, &path, entries_max) {
        Ok(entries) => respond(docroot, entries, path, form, (sort, descending)),
        Err(trouble) => {
            log::warn!("cannot list {}: {trouble:?}", path.escape_ascii());
            error(Status::SERVICE_UNAVAILABLE, "the directory cannot be read now", html)
        }
    })
}

/// What `?sort=` and `&order=` ask for; by name where they say nothing.
fn order(request: &Request<'_>) -> (SortBy, bool) {
    let (mut sort, mut descending) = (SortBy::Name, false);
    for (name, value) in query_pairs(request.query().unwrap_or_default()) {
        match &*name {
            "sort" => sort = SortBy::from_keyword(&value).unwrap_or(SortBy::Name),
            "order" => descending = value == "desc",
            _ => {}
        }
    }
    (sort, descending)
}

fn read(docroot: &Docroot, directory: &OwnedFd, path: &[u8], entries_max: usize) -> Result<Entries, Trouble> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    let mut entries = Entries::default();
    for entry in Dir::new(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        // Dotfiles are not served, `.` and `..` are not entries.
        if name.starts_with(b".") {
            continue;
        }
        if entries.rows.len() == entries_max {
            entries.truncated = true;
            break;
        }
        let Some((kind, size, modified_secs)) = look(docroot, directory, path, name, entry.file_type())
        else {
            continue;
        };
        let (Ok(name_at), Ok(name_len)) = (u32::try_from(entries.names.len()), u16::try_from(name.len()))
        else {
            break;
        };
        entries.names.extend_from_slice(name);
        entries.rows.push(Entry { name_at, name_len, kind, size, modified_secs });
    }
    Ok(entries)
}

/// What is shown of one entry; `None` for what is not served anyway: links that lead out, and what went away.
fn look(
    docroot: &Docroot,
    directory: &OwnedFd,
    path: &[u8],
    name: &[u8],
    known: FileType,
) -> Option<(Kind, u64, u64)> {
    let stat = if known == FileType::Symlink {
        let full = [path.strip_prefix(b"/").unwrap_or(path), name].concat();
        let target = docroot.open_beneath(&full, Reach::OnDisk).ok()?;
        // A link to what is hidden is not served either.
        if docroot.resolved_name(&target).as_deref().is_some_and(is_hidden) {
            return None;
        }
        stat(target).ok()?
    } else {
        rustix::fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).ok()?
    };
    let kind = match file_type(&stat) {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File,
        _ => Kind::Other,
    };
    Some((kind, stat.stx_size, u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0)))
}

fn respond(
    docroot: Arc<Docroot>,
    mut entries: Entries,
    path: Vec<u8>,
    form: Form,
    (sort, descending): (SortBy, bool),
) -> Response {
    let bytes = entries.bytes();
    if docroot.listing_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes > LISTINGS_BYTES_MAX {
        docroot.listing_bytes.fetch_sub(bytes, Ordering::AcqRel);
        return error(Status::SERVICE_UNAVAILABLE, "too many listings are being made", false);
    }
    let mut rows = std::mem::take(&mut entries.rows);
    rows.sort_unstable_by(|a, b| {
        // Directories stay in front whatever is asked for; equal ones go by name.
        let folders = (b.kind == Kind::Directory).cmp(&(a.kind == Kind::Directory));
        let by_name = || entries.name(a).cmp(entries.name(b));
        let asked = match sort {
            SortBy::Name => by_name(),
            SortBy::Size => a.size.cmp(&b.size).then_with(by_name),
            SortBy::Modified => a.modified_secs.cmp(&b.modified_secs).then_with(by_name),
        };
        folders.then(if descending { asked.reverse() } else { asked })
    });
    entries.rows = rows;
    let style = ListingStyle {
        sort,
        descending,
        truncated_at: entries.truncated.then_some(entries.rows.len()),
        entries: entries.rows.len(),
    };
    let source = Listing { docroot, entries, bytes, path, form, style, next: Part::Head };
    Response::new(Status::OK)
        .with_field("Content-Type", form.content_type())
        .with_field("Vary", "Accept")
        // What a listing shows is never known to be fresh.
        .with_field("Cache-Control", "no-cache")
        .with_body(Body::Source(Box::new(source)))
}

#[derive(Debug)]
enum Part {
    Head,
    Row(usize),
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
    next: Part,
}

impl Listing {
    fn head(&self, out: &mut Vec<u8>) {
        match self.form {
            Form::Html => pages::listing_head(&self.path, &self.style, out),
            Form::Json => {
                let mut head = String::from("{\"path\":");
                push_string(&String::from_utf8_lossy(&self.path), &mut head);
                head.push_str(",\"entries\":[");
                out.extend_from_slice(head.as_bytes());
            }
            Form::Text => {}
        }
    }

    fn foot(&self, out: &mut Vec<u8>) {
        let truncated = self.style.truncated_at.is_some();
        match self.form {
            Form::Html => pages::listing_foot(&self.style, out),
            Form::Json => out.extend_from_slice(format!("],\"truncated\":{truncated}}}\n").as_bytes()),
            Form::Text if truncated => out.extend_from_slice(b"... and more\n"),
            Form::Text => {}
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

/// One entry as a line: its name, with a slash if it is a directory. Control characters cannot break the line.
fn text_row(row: &pages::Row<'_>, out: &mut Vec<u8>) {
    let name = String::from_utf8_lossy(row.name).replace(|c: char| c.is_control(), "?");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(if row.kind == Kind::Directory { b"/\n" } else { b"\n" });
}

impl BodySource for Listing {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> Filled {
        let full = out.len() + room;
        let mut row = match self.next {
            Part::Head => {
                self.head(out);
                0
            }
            Part::Row(row) => row,
        };
        while let Some(entry) = self.entries.rows.get(row) {
            if out.len() >= full {
                self.next = Part::Row(row);
                return Filled::More;
            }
            let shown = pages::Row {
                name: self.entries.name(entry),
                kind: entry.kind,
                size: entry.size,
                modified_secs: entry.modified_secs,
            };
            match self.form {
                Form::Html => pages::listing_row(&shown, out),
                Form::Json => json_row(&shown, row == 0, out),
                Form::Text => text_row(&shown, out),
            }
            row += 1;
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
