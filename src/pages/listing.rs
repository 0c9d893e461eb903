//! The page of a directory listing.
//!
//! Functions append to a buffer; the caller decides about status, headers and when to stop. This
//! file must not touch the disk or know a request.

use crate::config::LIVE_TAG;
use crate::http::{date, target};
use crate::pages::html::{HEAD, Home, STYLE_COMMON, escape_name, human_size, mark, push};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

/// What a directory entry is, as far as a listing cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Links to it end in a slash.
    Directory,
    /// A regular file: its size is shown.
    File,
    /// A device, socket, pipe or broken link: shown without a link, since it is not served.
    Other,
}

/// One entry of a listing.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The bare name as the disk has it, any bytes.
    pub name: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// In bytes; shown for files only.
    pub size: u64,
    /// Seconds since 1970.
    pub modified_secs: u64,
}

/// The column a listing is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SortBy {
    /// `?sort=name`
    Name,
    /// `?sort=size`
    Size,
    /// `?sort=modified`
    Modified,
}

impl SortBy {
    /// The word for it in a query.
    pub fn keyword(self) -> &'static str {
        match self {
            SortBy::Name => "name",
            SortBy::Size => "size",
            SortBy::Modified => "modified",
        }
    }

    /// The column of this word, `None` for any other.
    pub fn from_keyword(word: &str) -> Option<SortBy> {
        [SortBy::Name, SortBy::Size, SortBy::Modified].into_iter().find(|sort| sort.keyword() == word)
    }
}

/// How a listing is presented. The rows must come in this order already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingStyle {
    /// By which column.
    pub sort: SortBy,
    /// Whether the greatest comes first.
    pub descending: bool,
    /// If names were left out: how many were looked at.
    pub truncated_at: Option<usize>,
    /// How many rows there are.
    pub entries: usize,
    /// How many there would be without a search.
    pub total: usize,
    /// What names were searched for; empty if for nothing.
    pub query: String,
    /// Whether the folder can be had as an archive.
    pub archives: bool,
    /// HTML above the rows, of our own making.
    pub panel: String,
    /// The page contains the script of `--live-reload`.
    pub reloads: bool,
    /// The top of the site, as seen from the page.
    pub home: Home,
}

/// The folder and the sheet are drawn by clipping a box, so that a row of a long listing carries no
/// drawing. On a narrow screen size and date go below the name rather than away.
const STYLE: &str = include_str!("listing.css");

/// Narrows the rows while one types, and has keys for hands that are on the keyboard: `/` to
/// search, arrows to go through the names, Escape to be done. Without it the box asks the server,
/// which finds the same.
const SCRIPT: &str = include_str!("listing.js").trim_ascii_end();

/// What the page of a listing may do, whatever is in it: be styled, run that one script, show
/// pictures of this site. The hash is SHA-256 of [`SCRIPT`]; a test computes it.
pub(crate) const LISTING_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    script-src 'sha256-NDImKiGba28lucAzrAqcyoEBJ4I3UgNkUtG1OkGNPZ0='; img-src 'self' data:; form-action 'self'; base-uri 'none'";

/// Extends a page's policy for the script of `--live-reload`, which is loaded from this site and
/// listens to events from it.
pub(crate) fn reloading_policy(policy: &str) -> String {
    let policy = policy.replacen("script-src ", "script-src 'self' ", 1);
    if policy.contains("connect-src ") { policy } else { policy + "; connect-src 'self'" }
}

/// Appends everything before the rows. `path` is the directory's decoded path, from the root; the
/// page must be served at it with a slash at the end, because its links are relative.
///
/// Then call [`listing_row`] for each entry, in the order `style` promises, and [`listing_foot`]
/// once.
pub fn listing_head(path: &[u8], style: &ListingStyle, out: &mut Vec<u8>) {
    push(out, HEAD);
    push(out, "<title>Index of /");
    for segment in segments(path) {
        escape_name(segment, out);
        push(out, "/");
    }
    push(out, "</title>\n");
    push(out, "<style>\n");
    push(out, STYLE_COMMON);
    push(out, STYLE);
    push(out, "</style>\n</head>\n<body>\n<main>\n<header>\n");
    mark(style.home, out);
    breadcrumbs(path, style.home, out);
    push(out, "</header>\n");
    search_box(style, out);
    push(out, &style.panel);
    push(out, "<table>\n<thead>\n<tr>");
    heading(SortBy::Name, "n", "Name", style, out);
    heading(SortBy::Size, "s", "Size", style, out);
    heading(SortBy::Modified, "m", "Modified", style, out);
    push(out, "</tr>\n</thead>\n<tbody>\n");
    if segments(path).next().is_some() {
        push(out, "<tr class=\"d\"><td class=\"n\" colspan=\"3\"><a href=\"../\">../</a></td></tr>\n");
    }
}

/// The box, what it has found, and the folder as a download. A search keeps the order.
fn search_box(style: &ListingStyle, out: &mut Vec<u8>) {
    push(out, "<form role=\"search\">");
    if (style.sort, style.descending) != (SortBy::Name, false) {
        let (sort, order) = (style.sort.keyword(), if style.descending { "desc" } else { "asc" });
        let hidden = format!(
            "<input type=\"hidden\" name=\"sort\" value=\"{sort}\"><input type=\"hidden\" name=\"order\" value=\"{order}\">"
        );
        push(out, &hidden);
    }
    push(
        out,
        "<input type=\"search\" name=\"q\" placeholder=\"Search this folder\" aria-label=\"Search this folder\" title=\"Press / to search\" autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\" enterkeyhint=\"search\" value=\"",
    );
    escape_name(style.query.as_bytes(), out);
    push(out, &format!("\"><output aria-live=\"polite\" data-of=\"{}\">", grouped(style.total)));
    if !style.query.is_empty() {
        push(out, &format!("{} of {}", grouped(style.entries), grouped(style.total)));
    }
    push(out, "</output>");
    if !style.query.is_empty() {
        push(out, "<a href=\"./\">Show all</a>");
    }
    if style.archives {
        push(out, "<span class=\"get\">Download folder:");
        for form in ["zip", "tar.gz"] {
            push(out, &format!("<a href=\"?archive={form}\" rel=\"nofollow\" download>{form}</a>"));
        }
        push(out, "</span>");
    }
    push(out, "</form>\n");
}

/// A count with commas: `3,400`.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The names along a path. Empty ones are dropped, so that no link made of the rest can begin with
/// `//` and lead to another host.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty())
}

fn breadcrumbs(path: &[u8], home: Home, out: &mut Vec<u8>) {
    let names: Vec<&[u8]> = segments(path).collect();
    let link = |depth: usize, name: &[u8], out: &mut Vec<u8>| {
        push(out, "<a href=\"");
        out.extend_from_slice(&home.folder(&names, depth));
        push(out, "\">");
        escape_name(name, out);
        push(out, "</a>");
    };
    push(out, "<h1>Index of ");
    match names.is_empty() {
        true => push(out, "/"),
        false => link(0, b"root", out),
    }
    for (number, &name) in names.iter().enumerate() {
        // The space is where a long path may break.
        push(out, "<i>/</i> ");
        if number + 1 == names.len() {
            push(out, "<span aria-current=\"page\">");
            escape_name(name, out);
            push(out, "</span>");
        } else {
            link(number + 1, name, out);
        }
    }
    push(out, "</h1>\n");
}

/// A column heading. It links to its own order; the one in use links to the reverse.
fn heading(column: SortBy, class: &str, label: &str, style: &ListingStyle, out: &mut Vec<u8>) {
    let is_current = style.sort == column;
    let order = if is_current && !style.descending { "desc" } else { "asc" };
    let state = match (is_current, style.descending) {
        (false, _) => "",
        (true, false) => " aria-sort=\"ascending\"",
        (true, true) => " aria-sort=\"descending\"",
    };
    let sort = column.keyword();
    let query = match &*style.query {
        "" => String::new(),
        query => format!("&amp;q={}", percent_encode(query.as_bytes(), NON_ALPHANUMERIC)),
    };
    let cell = format!(
        "<th scope=\"col\" class=\"{class}\"{state}><a href=\"?sort={sort}&amp;order={order}{query}\" rel=\"nofollow\">{label}</a></th>"
    );
    push(out, &cell);
}

/// Appends one row. The link begins with `./`: a file may be called `javascript:alert(4).html`, and
/// without it that would be a scheme.
pub fn listing_row(row: &Row<'_>, out: &mut Vec<u8>) {
    let (class, slash) = match row.kind {
        Kind::Directory => ("d", "/"),
        Kind::File => ("f", ""),
        Kind::Other => ("o", ""),
    };
    push(out, "<tr class=\"e ");
    push(out, class);
    push(out, "\"><td class=\"n\">");
    if row.kind == Kind::Other {
        push(out, "<span title=\"not a regular file\">");
        escape_name(row.name, out);
        push(out, "</span>");
    } else {
        push(out, "<a href=\"./");
        target::encode_path(row.name, out);
        push(out, slash);
        push(out, "\">");
        escape_name(row.name, out);
        push(out, slash);
        push(out, "</a>");
    }
    if row.kind == Kind::File {
        let size = format!("</td><td class=\"s\" title=\"{} bytes\">{}</td>", row.size, human_size(row.size));
        push(out, &size);
    } else {
        push(out, "</td><td class=\"s\"></td>");
    }
    push(out, "<td class=\"m\">");
    push(out, &date::short(row.modified_secs));
    push(out, "</td></tr>\n");
}

/// Appends what stands between the rows and a README of this name, whose HTML comes next.
pub(crate) fn readme_head(name: &[u8], out: &mut Vec<u8>) {
    push(out, "</tbody>\n</table>\n<section class=\"readme\"><h2><a href=\"./");
    target::encode_path(name, out);
    push(out, "\">");
    escape_name(name, out);
    push(out, "</a></h2>\n<div>");
}

/// Appends everything after the rows, or after a README.
pub fn listing_foot(style: &ListingStyle, has_readme: bool, out: &mut Vec<u8>) {
    push(out, if has_readme { "</div></section>\n" } else { "</tbody>\n</table>\n" });
    push(out, "<footer><span>");
    let is_search = !style.query.is_empty();
    let count = match (style.truncated_at, style.entries) {
        (Some(looked), _) if is_search => {
            format!("<strong>Only {} names were searched; there are more.</strong>", grouped(looked))
        }
        (Some(looked), _) => {
            format!("<strong>Only {} names are shown; there are more.</strong>", grouped(looked))
        }
        (None, 0) if is_search => "No name contains that.".to_owned(),
        (None, found) if is_search => format!("{} of {} entries", grouped(found), grouped(style.total)),
        (None, 0) => "Nothing here yet.".to_owned(),
        (None, 1) => "1 entry".to_owned(),
        (None, entries) => format!("{} entries", grouped(entries)),
    };
    push(out, &count);
    push(out, "</span><span>Times are UTC. Served by whirligig</span></footer>\n</main>\n<script>");
    push(out, SCRIPT);
    push(out, "</script>\n</body>\n</html>\n");
    if style.reloads {
        out.extend_from_slice(LIVE_TAG);
    }
}

#[cfg(test)]
mod tests;
