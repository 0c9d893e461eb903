//! The HTML the server writes itself: error pages and directory listings.
//!
//! Functions append to a buffer; whoever calls them decides about status, fields and when to stop.
//! It must not touch the disk or know a request. Every name and reason that comes from outside is
//! escaped here. The pages are whole in themselves: no external resource, nothing that needs its
//! script, light and dark, from 320 pixels up.

pub(crate) mod error;
pub(crate) mod readme;
pub(crate) mod upload;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use crate::config::LIVE_TAG;
use crate::http::{date, target};
use crate::text::{has_bidi_control, visible};

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

/// How a page refers to the top of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    /// By an absolute path.
    Root,
    /// By a relative path, this many folders above that of the page. So it stays below a prefix
    /// that a proxy has taken from the path.
    Above(usize),
}

impl Home {
    /// The reference to the folder with the first `depth` names of the path `names`.
    fn folder(self, names: &[&[u8]], depth: usize) -> Vec<u8> {
        match self {
            Home::Above(folders) if depth < folders => b"../".repeat(folders - depth),
            Home::Above(_) => b"./".to_vec(),
            Home::Root => {
                let mut href = b"/".to_vec();
                for name in &names[..depth] {
                    target::encode_path(name, &mut href);
                    href.push(b'/');
                }
                href
            }
        }
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

/// What both kinds of page begin with. `data:,` keeps browsers from asking for a favicon that is
/// not there.
const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
"#;

/// Colours and type, shared. Contrast is at least 4.5 to 1 for all text, in both schemes.
const STYLE_COMMON: &str = r"<style>
:root{color-scheme:light dark;--bg:#faf9f6;--card:#fff;--ink:#1d2327;--dim:#5b6670;--line:#e6e3dc;--hover:#f2f6fc;--link:#0b57c4;--a:#e4572e;--b:#f0a818;--c:#2e86ab;--d:#4f9d69}
@media(prefers-color-scheme:dark){:root{--bg:#131619;--card:#1a1e22;--ink:#e6e9eb;--dim:#9aa5ae;--line:#2b3136;--hover:#22292f;--link:#84b8ff}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,Ubuntu,Cantarell,'Noto Sans',sans-serif}
a{color:var(--link);text-decoration:none}
a:hover{text-decoration:underline}
a:focus-visible{outline:2px solid var(--link);outline-offset:-2px;border-radius:4px}
footer{color:var(--dim);font-size:.8125rem}
.mark{display:block;flex:none;line-height:0}
@media(prefers-reduced-motion:no-preference){.mark svg{transition:transform .5s}.mark:hover svg{transform:rotate(90deg)}}
";

const STYLE_ERROR: &str = r"body{min-height:100vh;min-height:100svh;display:grid;place-items:center;padding:1.25rem}
main{width:100%;max-width:33rem;background:var(--card);border:1px solid var(--line);border-radius:14px;padding:2rem 2rem 1.25rem;box-shadow:0 12px 32px #0000000f}
h1{display:flex;flex-wrap:wrap;align-items:baseline;gap:0 .75rem;margin:1.25rem 0 .5rem;font-size:1.375rem;line-height:1.3;font-weight:600}
h1 b{font-size:3.5rem;line-height:1.1;letter-spacing:-.03em}
p{margin:0;color:var(--dim);overflow-wrap:anywhere}
footer{border-top:1px solid var(--line);margin-top:1.75rem;padding-top:.9rem;display:flex;justify-content:space-between;gap:1rem}
@media(max-width:400px){main{padding:1.5rem 1.25rem 1rem}h1 b{font-size:2.75rem}}
</style>
";

/// The folder and the sheet are drawn by clipping a box, so that a row of a long listing carries no
/// drawing. On a narrow screen size and date go below the name rather than away.
const STYLE_LISTING: &str = r"main{max-width:60rem;margin:0 auto;padding:1.75rem 1.25rem 1rem}
header{display:flex;gap:.75rem;align-items:flex-start;margin-bottom:1.25rem}
h1{margin:0;font-size:1.25rem;line-height:2rem;font-weight:600;overflow-wrap:anywhere;min-width:0}
h1 i{font-style:normal;font-weight:400;color:var(--dim);margin:0 .05em 0 .3em}
table{width:100%;table-layout:fixed;border-collapse:separate;border-spacing:0;background:var(--card);border:1px solid var(--line);border-radius:12px;overflow:hidden}
th,td{padding:.5rem 1rem;text-align:left;vertical-align:top;font-weight:400}
td{border-top:1px solid var(--line)}
th{padding:0;font-size:.8125rem}
th a{display:block;padding:.6rem 1rem;color:var(--dim)}
th[aria-sort] a{color:var(--ink);font-weight:600}
[aria-sort=ascending] a::after{content:' \2191'}
[aria-sort=descending] a::after{content:' \2193'}
.s{width:7.5rem;text-align:right}
.m{width:11.5rem;text-align:right}
td.s,td.m{color:var(--dim);font-size:.875rem;line-height:1.5rem;font-variant-numeric:tabular-nums;white-space:nowrap}
.n{position:relative;overflow-wrap:anywhere}
td.n{padding-left:2.9rem}
td.n>*{unicode-bidi:isolate}
td.n::before{content:'';position:absolute;left:1.05rem;top:.78rem;width:.8rem;height:1rem;background:var(--dim);opacity:.45;clip-path:polygon(0 0,60% 0,100% 32%,100% 100%,0 100%)}
.d td.n::before{left:1rem;top:.85rem;width:1.1rem;height:.85rem;background:var(--b);opacity:1;clip-path:polygon(0 0,40% 0,52% 18%,100% 18%,100% 100%,0 100%)}
.d a{font-weight:600}
.o td.n{color:var(--dim)}
tbody tr:nth-child(even){background:color-mix(in srgb,var(--hover) 45%,transparent)}
tbody tr:hover{background:var(--hover)}
tr[hidden]{display:none}
form{display:flex;flex-wrap:wrap;align-items:center;gap:.5rem 1rem;margin-bottom:.75rem;font-size:.875rem;color:var(--dim)}
input{flex:1 1 12rem;max-width:22rem;min-width:0;font:inherit;font-size:1rem;color:var(--ink);background:var(--card);border:1px solid color-mix(in srgb,var(--dim) 55%,var(--card));border-radius:8px;padding:.35rem .7rem}
input::placeholder{color:var(--dim);opacity:1}
input:focus{outline:2px solid var(--link);outline-offset:-1px;border-color:transparent}
output{font-variant-numeric:tabular-nums}
.get{margin-left:auto}
.get a{margin-left:.5rem}
.readme{background:var(--card);border:1px solid var(--line);border-radius:12px;margin-top:1rem;padding:.25rem 1.25rem .5rem;overflow-wrap:anywhere}
.readme>:first-child{font-size:.8125rem;color:var(--dim);margin:.6rem 0}
.readme h2,.readme h3{border-bottom:1px solid var(--line);padding-bottom:.3rem;line-height:1.3}
.readme div a{text-decoration:underline}
.readme pre,.readme code{font:.875rem/1.5 ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;background:var(--hover);border-radius:6px}
.readme code{padding:.1em .3em}
.readme pre{padding:.75rem 1rem;overflow-x:auto;overflow-wrap:normal}
.readme pre code{padding:0}
.readme img{max-width:100%}
.readme blockquote{margin:1rem 0;padding-left:1rem;border-left:3px solid var(--line);color:var(--dim)}
.readme table{display:block;width:auto;margin:1rem 0;border:0;border-collapse:collapse;border-radius:0;overflow-x:auto}
.readme tr{display:table-row!important}
.readme th,.readme td{overflow-wrap:normal;width:auto;padding:.3rem .8rem!important;border:1px solid var(--line)!important;font-size:.9375rem}
.readme th{font-weight:600}
footer{padding:.9rem .25rem;display:flex;flex-wrap:wrap;justify-content:space-between;gap:.25rem 1rem}
footer strong{color:var(--ink)}
@media(max-width:600px){main{padding:1rem .6rem}header{padding:0 .3rem}
tr{display:grid;grid-template-columns:1fr auto;padding:.5rem .8rem}
thead tr{grid-template-columns:1fr auto auto;padding:0}
tbody tr{border-top:1px solid var(--line)}
th,td{width:auto!important;border:0;padding:0}
th a{padding:.7rem .8rem}
td.n{grid-column:1/3;padding-left:1.9rem}
td.n::before{left:.05rem!important;top:.28rem}
.d td.n::before{left:0!important;top:.35rem}
td.m{order:1;text-align:left;padding-left:1.9rem}
td.s{order:2}}
</style>
";

/// The pinwheel: one blade, turned three times. It stands in a link to the top of the site.
const MARK: &str = r##"" aria-label="Start page"><svg width="32" height="32" viewBox="-16 -16 32 32" aria-hidden="true"><defs><path id="v" d="M0 0V-14.5C5.5-13.5 10-10 10-5z"/></defs><use href="#v" fill="var(--a)"/><use href="#v" fill="var(--b)" transform="rotate(90)"/><use href="#v" fill="var(--c)" transform="rotate(180)"/><use href="#v" fill="var(--d)" transform="rotate(270)"/><circle r="2.2" fill="var(--card)"/></svg></a>
"##;

/// Narrows the rows while one types, and has keys for hands that are on the keyboard: `/` to
/// search, arrows to go through the names, Escape to be done. Without it the box asks the server,
/// which finds the same.
const SCRIPT: &str = r#"(()=>{
const box=document.forms[0].q,said=document.querySelector('output'),first=said.textContent,asked=box.defaultValue.toLowerCase()
const rows=[...document.querySelectorAll('main>table tr.e')],names=rows.map(row=>row.cells[0].textContent.replace(/\/$/,'').toLowerCase())
const filter=()=>{
const text=box.value.toLowerCase(),wider=!text.includes(asked)
let shown=0
rows.forEach((row,at)=>{const hide=!wider&&!names[at].includes(text);if(row.hidden!==hide)row.hidden=hide;shown+=!hide})
said.textContent=text===asked?first:wider?'Enter searches all names':shown.toLocaleString('en')+' of '+said.dataset.of
}
const move=by=>{
const links=[...document.querySelectorAll('main>table tr:not([hidden]) td a')],at=links.indexOf(document.activeElement)
const to=links[at<0?(by>0?0:-1):at+by]
to?to.focus():by<0&&box.focus()
}
box.addEventListener('input',filter)
addEventListener('pageshow',filter)
addEventListener('keydown',event=>{
if(event.ctrlKey||event.metaKey||event.altKey)return
const here=document.activeElement===box,key=event.key
if(key==='/'&&!here){box.focus();box.select()}
else if(key==='Escape'&&here){if(box.value){box.value='';filter()}else box.blur()}
else if(key==='ArrowDown')move(1)
else if(key==='ArrowUp'&&!here)move(-1)
else return
event.preventDefault()
})
})()"#;

/// What the page of a listing may do, whatever is in it: be styled, run that one script, show
/// pictures of this site. The hash is SHA-256 of [`SCRIPT`]; a test computes it.
pub(crate) const LISTING_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    script-src 'sha256-NDImKiGba28lucAzrAqcyoEBJ4I3UgNkUtG1OkGNPZ0='; img-src 'self' data:; form-action 'self'; base-uri 'none'";

/// Appends a name, or a sentence with one, as text for HTML. Characters that change the direction
/// of text are shown as `\u{202e}`: a name must not look like another.
pub fn escape_name(name: &[u8], out: &mut Vec<u8>) {
    if !has_bidi_control(name) {
        return escape_html(name, out);
    }
    escape_html(visible(&String::from_utf8_lossy(name)).as_bytes(), out);
}

/// Extends a page's policy for the script of `--live-reload`, which is loaded from this site and
/// listens to events from it.
pub(crate) fn reloading_policy(policy: &str) -> String {
    let policy = policy.replacen("script-src ", "script-src 'self' ", 1);
    if policy.contains("connect-src ") { policy } else { policy + "; connect-src 'self'" }
}

/// Tells pages that were made here from others.
pub(crate) fn is_ours(page: &[u8]) -> bool {
    page.starts_with(HEAD.as_bytes())
}

/// Appends the bytes as text for HTML: what is not UTF-8 becomes U+FFFD, and the five characters
/// that could end text or a quoted attribute become references. Control characters become U+FFFD as
/// well; HTML forbids them.
pub fn escape_html(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'&' => push(out, "&amp;"),
                b'<' => push(out, "&lt;"),
                b'>' => push(out, "&gt;"),
                b'"' => push(out, "&quot;"),
                b'\'' => push(out, "&#39;"),
                b'\t' | b'\n' => out.push(byte),
                0..0x20 | 0x7f => push(out, "\u{fffd}"),
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            push(out, "\u{fffd}");
        }
    }
}

fn mark(home: Home, out: &mut Vec<u8>) {
    push(out, "<a class=\"mark\" href=\"");
    out.extend_from_slice(&home.folder(&[], 0));
    push(out, MARK);
}

/// Appends the page for an error status: the number, its reason phrase, and a sentence that may
/// help.
///
/// `detail` may be empty. Both texts are escaped.
pub fn error_html(status: u16, reason: &str, detail: &str, home: Home, out: &mut Vec<u8>) {
    push(out, HEAD);
    push(out, "<meta name=\"robots\" content=\"noindex\">\n<title>");
    push(out, &status.to_string());
    push(out, " ");
    escape_html(reason.as_bytes(), out);
    push(out, "</title>\n");
    push(out, STYLE_COMMON);
    push(out, STYLE_ERROR);
    push(out, "</head>\n<body>\n<main>\n");
    mark(home, out);
    push(out, "<h1><b>");
    push(out, &status.to_string());
    push(out, "</b> ");
    escape_html(reason.as_bytes(), out);
    push(out, "</h1>\n");
    if !detail.is_empty() {
        push(out, "<p>");
        escape_name(detail.as_bytes(), out);
        push(out, "</p>\n");
    }
    push(out, "<footer><a href=\"");
    out.extend_from_slice(&home.folder(&[], 0));
    push(out, "\">Start page</a><span>whirligig</span></footer>\n</main>\n</body>\n</html>\n");
}

/// The same for clients that did not ask for HTML: two lines of plain text, or one without a
/// detail.
pub fn error_text(status: u16, reason: &str, detail: &str, out: &mut Vec<u8>) {
    push(out, &status.to_string());
    push(out, " ");
    push(out, reason);
    push(out, "\n");
    if !detail.is_empty() {
        push(out, &visible(detail));
        push(out, "\n");
    }
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
    push(out, STYLE_COMMON);
    push(out, STYLE_LISTING);
    push(out, "</head>\n<body>\n<main>\n<header>\n");
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

/// A size for people, in powers of 1024: `17 B`, `1.5 KiB`, `250 MiB`. One decimal below 100,
/// rounded to nearest.
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let rounded = |scale: u128, shift: u32| (u128::from(bytes) * scale + (1 << shift >> 1)) >> shift;
    let mut shift = 10;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        // What would be shown as 1024 of one unit is 1.0 of the next.
        if rounded(1, shift) < 1024 {
            break;
        }
        shift += 10;
        unit = next;
    }
    match rounded(10, shift) {
        tenths @ ..1000 => format!("{}.{} {unit}", tenths / 10, tenths % 10),
        _ => format!("{} {unit}", rounded(1, shift)),
    }
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: ListingStyle = ListingStyle {
        sort: SortBy::Name,
        descending: false,
        truncated_at: None,
        entries: 2,
        total: 2,
        query: String::new(),
        archives: false,
        panel: String::new(),
        reloads: false,
        home: Home::Root,
    };

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("pages are UTF-8")
    }

    fn row(name: &[u8], kind: Kind) -> String {
        written(|out| listing_row(&Row { name, kind, size: 1536, modified_secs: 784_111_777 }, out))
    }

    #[test]
    fn text_cannot_leave_its_place() {
        let cases: &[(&[u8], &str)] = &[
            (b"", ""),
            (b"plain", "plain"),
            (b"<a href=\"x\">'&'</a>", "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;"),
            ("\u{e9}\u{1f300}".as_bytes(), "\u{e9}\u{1f300}"),
            (b"a\xffb\xc3", "a\u{fffd}b\u{fffd}"),
            (b"\xf0\x9f<", "\u{fffd}&lt;"),
            (b"a\0\x1b\x7fb", "a\u{fffd}\u{fffd}\u{fffd}b"),
            (b"a\tb\nc", "a\tb\nc"),
        ];
        for (text, expected) in cases {
            assert_eq!(written(|out| escape_html(text, out)), *expected);
        }
        for byte in 0..=255u8 {
            let escaped = written(|out| escape_html(&[byte], out));
            assert!(!escaped.contains(['<', '>', '"', '\'']), "{byte:#04x}");
        }
    }

    #[test]
    fn errors_say_what_happened_in_both_forms() {
        let page = written(|out| error_html(404, "Not Found", "No <such> file", Home::Root, out));
        assert!(page.starts_with("<!DOCTYPE html>"));
        assert!(page.contains("<title>404 Not Found</title>"));
        assert!(page.contains("<p>No &lt;such&gt; file</p>"));
        assert!(page.ends_with("</html>\n"));
        assert!(!written(|out| error_html(404, "Not Found", "", Home::Root, out)).contains("<p>"));
        assert_eq!(
            written(|out| error_text(404, "Not Found", "No such file", out)),
            "404 Not Found\nNo such file\n"
        );
        assert_eq!(written(|out| error_text(500, "Oops", "", out)), "500 Oops\n");
        let turned = "no \u{202e}eman\u{2069}";
        for page in [
            written(|out| error_html(404, "x", turned, Home::Root, out)),
            written(|out| error_text(404, "x", turned, out)),
        ] {
            assert!(page.contains("no \\u{202e}eman\\u{2069}"), "{page}");
        }
    }

    #[test]
    fn pages_are_whole_in_themselves() {
        let error = written(|out| error_html(400, "Bad Request", "x", Home::Root, out));
        let listing = written(|out| {
            listing_head(b"/a/", &STYLE, out);
            listing_foot(&STYLE, false, out);
        });
        for page in [error, listing] {
            for foreign in ["http:", "https:", "<script ", "@import", "url(", "src="] {
                assert!(!page.contains(foreign), "{foreign}");
            }
            assert!(page.contains("href=\"data:,\""));
            assert!(page.len() < 10 * 1024, "{} bytes", page.len());
            for tag in ["main", "style", "head", "body", "html"] {
                let (opened, closed) = (format!("<{tag}>"), format!("</{tag}>"));
                assert_eq!(page.matches(&closed).count(), 1, "{tag}");
                assert!(tag == "html" || page.matches(&opened).count() == 1, "{tag}");
            }
        }
    }

    #[test]
    fn rows_link_below_their_directory_only() {
        let cases: &[(&[u8], Kind, &str)] = &[
            (b"a.txt", Kind::File, "<a href=\"./a.txt\">a.txt</a>"),
            (b"sub", Kind::Directory, "<a href=\"./sub/\">sub/</a>"),
            (b"javascript:alert(4).html", Kind::File, "<a href=\"./javascript:alert(4).html\">"),
            (b"a?b#c%d", Kind::File, "<a href=\"./a%3Fb%23c%25d\">a?b#c%d</a>"),
            (b"\"><script>", Kind::File, "<a href=\"./%22%3E%3Cscript%3E\">&quot;&gt;&lt;script&gt;</a>"),
            (b"it's", Kind::File, "<a href=\"./it%27s\">it&#39;s</a>"),
            (b"caf\xe9", Kind::File, "<a href=\"./caf%E9\">caf\u{fffd}</a>"),
            (b"a\\b c", Kind::File, "<a href=\"./a%5Cb%20c\">a\\b c</a>"),
            (b"&amp;", Kind::File, "<a href=\"./%26amp%3B\">&amp;amp;</a>"),
            (b"pipe<", Kind::Other, "<span title=\"not a regular file\">pipe&lt;</span>"),
            (b"gpj\xe2\x80\xae<exe", Kind::File, "<a href=\"./gpj%E2%80%AE%3Cexe\">gpj\\u{202e}&lt;exe</a>"),
            (b"\xe2\x81\xa6\xff", Kind::Directory, "<a href=\"./%E2%81%A6%FF/\">\\u{2066}\u{fffd}/</a>"),
        ];
        for (name, kind, expected) in cases {
            let row = row(name, *kind);
            assert!(row.contains(expected), "{row}");
            assert!(row.starts_with("<tr class=\"") && row.ends_with("</tr>\n"), "{row}");
            assert_eq!(row.matches("<td").count(), row.matches("</td>").count(), "{row}");
        }
    }

    #[test]
    fn rows_show_date_and_size() {
        let file = row(b"a", Kind::File);
        assert!(file.contains("title=\"1536 bytes\">1.5 KiB</td>"), "{file}");
        assert!(file.contains("<td class=\"m\">1994-11-06 08:49</td>"), "{file}");
        assert!(!row(b"a", Kind::Directory).contains("bytes"));
    }

    #[test]
    fn headings_link_to_the_other_order() {
        let cases = [
            (SortBy::Name, false, "name&amp;order=desc", "name&amp;order=asc", "ascending"),
            (SortBy::Size, true, "size&amp;order=asc", "size&amp;order=desc", "descending"),
            (SortBy::Modified, false, "modified&amp;order=desc", "modified&amp;order=asc", "ascending"),
        ];
        for (sort, descending, linked, not_linked, state) in cases {
            let page = written(|out| listing_head(b"/", &ListingStyle { sort, descending, ..STYLE }, out));
            assert!(page.contains(&format!("\"?sort={linked}\"")), "{linked}");
            assert!(!page.contains(&format!("\"?sort={not_linked}\"")), "{not_linked}");
            assert_eq!(page.matches(" aria-sort=").count(), 1);
            assert!(page.contains(&format!("aria-sort=\"{state}\"><a href=\"?sort={}", sort.keyword())));
            assert_eq!(SortBy::from_keyword(sort.keyword()), Some(sort));
        }
        assert_eq!(SortBy::from_keyword("Name"), None);
        assert_eq!(SortBy::from_keyword(""), None);
    }

    #[test]
    fn a_search_keeps_the_order_and_the_order_keeps_the_search() {
        let query = "a&b \"<+%é".to_owned();
        let style = ListingStyle { sort: SortBy::Size, descending: true, query, ..STYLE };
        let page = written(|out| listing_head(b"/", &style, out));
        assert!(
            page.contains(
                "name=\"sort\" value=\"size\"><input type=\"hidden\" name=\"order\" value=\"desc\""
            )
        );
        assert!(page.contains("value=\"a&amp;b &quot;&lt;+%é\">"), "{page}");
        assert!(page.contains("?sort=name&amp;order=asc&amp;q=a%26b%20%22%3C%2B%25%C3%A9\""), "{page}");
        assert!(page.contains("2 of 2</output><a href=\"./\">Show all</a>"));
        let plain = written(|out| listing_head(b"/", &STYLE, out));
        assert!(
            !plain.contains("type=\"hidden\"") && !plain.contains("&amp;q=") && !plain.contains("archive=")
        );
        let style = ListingStyle { archives: true, ..STYLE };
        assert!(written(|out| listing_head(b"/", &style, out)).contains("href=\"?archive=tar.gz\""));
    }

    #[test]
    fn breadcrumbs_lead_home() {
        let root = written(|out| listing_head(b"/", &STYLE, out));
        assert!(root.contains("<title>Index of /</title>"));
        assert!(!root.contains("\"../\""));
        let expected = "<a href=\"/\">root</a><i>/</i> <a href=\"/a%20b/\">a b</a><i>/</i> <a href=\"/a%20b/%3C/\">\
            &lt;</a><i>/</i> <span aria-current=\"page\">c&amp;</span></h1>";
        for path in [&b"/a b/</c&/"[..], b"/a b/</c&", b"//a b//</c&//"] {
            let deep = written(|out| listing_head(path, &STYLE, out));
            assert!(deep.contains("<title>Index of /a b/&lt;/c&amp;/</title>"), "{deep}");
            assert!(deep.contains(expected), "{deep}");
            assert!(deep.contains("<a href=\"../\">../</a>"));
            assert!(!deep.contains("href=\"//"));
        }
        let style = ListingStyle { home: Home::Above(3), ..STYLE };
        let deep = written(|out| listing_head(b"/a b/</c&/", &style, out));
        let expected = "<a href=\"../../../\">root</a><i>/</i> <a href=\"../../\">a b</a><i>/</i> <a href=\"../\">\
            &lt;</a><i>/</i> <span aria-current=\"page\">c&amp;</span></h1>";
        assert!(deep.contains(expected) && !deep.contains("href=\"/"), "{deep}");
        assert!(deep.contains("<a class=\"mark\" href=\"../../../\" aria-label"), "{deep}");
        for (home, href) in [(Home::Root, "/"), (Home::Above(0), "./"), (Home::Above(2), "../../")] {
            let page = written(|out| error_html(404, "Not Found", "", home, out));
            assert_eq!(page.matches(&format!(" href=\"{href}\"")).count(), 2, "{page}");
        }
    }

    #[test]
    fn the_foot_counts() {
        let cases = [
            (None, 0, "Nothing here yet."),
            (None, 1, "1 entry<"),
            (None, 7, "7 entries"),
            (Some(100), 100, "Only 100 names are shown"),
        ];
        for (truncated_at, entries, expected) in cases {
            let style = ListingStyle { truncated_at, entries, ..STYLE };
            assert!(written(|out| listing_foot(&style, false, out)).contains(expected), "{expected}");
        }
        let found = |truncated_at, entries| {
            let query = "x".to_owned();
            let style = ListingStyle { truncated_at, entries, total: 3400, query, ..STYLE };
            written(|out| listing_foot(&style, false, out))
        };
        assert!(found(None, 12).contains("12 of 3,400 entries"));
        assert!(found(None, 0).contains("No name contains that."));
        assert!(found(Some(3400), 12).contains("Only 3,400 names were searched"));
        for (count, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(count), expected);
        }
    }

    #[test]
    fn sizes_are_rounded_to_the_next_unit_in_time() {
        let cases: &[(u64, &str)] = &[
            (0, "0 B"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1075, "1.0 KiB"),
            (1076, "1.1 KiB"),
            (1536, "1.5 KiB"),
            (102_348, "99.9 KiB"),
            (102_400, "100 KiB"),
            (1_048_063, "1023 KiB"),
            (1_048_064, "1.0 MiB"),
            (1 << 20, "1.0 MiB"),
            (250 << 20, "250 MiB"),
            (1 << 30, "1.0 GiB"),
            (1 << 40, "1.0 TiB"),
            (1 << 50, "1.0 PiB"),
            (1 << 60, "1.0 EiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(human_size(*bytes), *expected, "{bytes}");
        }
    }
}
