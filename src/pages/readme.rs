//! Converts a README to HTML below a listing.
//!
//! A user who may add files to a folder must not be able to add a script to its page. So HTML in
//! Markdown appears as text, links lead to the web, to mail or to this site, and images come from
//! this site only. This file must not access the disk.

use std::fmt;

use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use crate::config::KIB;
use crate::pages::html::escape_html;

/// Largest rendered README, in bytes. Only malicious input becomes much longer than its source.
const HTML_BYTES_MAX: usize = 512 * KIB;

/// Format of a README.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Markup {
    /// `README.md`
    Markdown,
    /// `README.txt`, `README`
    Plain,
}

/// Returns the format and rank of a README with this name; `None` for other names. The lowest rank
/// is preferred.
pub(crate) fn markup_of(name: &[u8]) -> Option<(Markup, u8)> {
    let known: [(&[u8], Markup); 4] = [
        (b"readme.md", Markup::Markdown),
        (b"readme.markdown", Markup::Markdown),
        (b"readme.txt", Markup::Plain),
        (b"readme", Markup::Plain),
    ];
    let found = (0u8..).zip(known).find(|(_, (known, _))| name.eq_ignore_ascii_case(known));
    found.map(|(rank, (_, markup))| (markup, rank))
}

/// Renders the text as HTML; `None` if the result is too long.
pub(crate) fn render(text: &[u8], markup: Markup) -> Option<Vec<u8>> {
    match markup {
        Markup::Plain => {
            let mut out = b"<pre>".to_vec();
            escape_html(text, &mut out);
            out.extend_from_slice(b"</pre>\n");
            (out.len() <= HTML_BYTES_MAX).then_some(out)
        }
        Markup::Markdown => {
            let text = String::from_utf8_lossy(text);
            let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
            let mut out = Bounded(String::new());
            let events = Harmless { open: Vec::new() };
            let parser = Parser::new_ext(&text, options);
            html::write_html_fmt(
                &mut out,
                parser.scan(events, |events, event| Some(events.pass(event))).flatten(),
            )
            .ok()?;
            Some(out.0.into_bytes())
        }
    }
}

/// A string that refuses to grow beyond [`HTML_BYTES_MAX`].
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > HTML_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// Filter that removes elements that must not be on the page.
struct Harmless {
    /// For each open link and image, true if it is kept.
    open: Vec<bool>,
}

impl Harmless {
    /// Returns the event as it may be shown; `None` for a link or image of which only the text is
    /// kept.
    fn pass<'a>(&mut self, event: Event<'a>) -> Option<Event<'a>> {
        match event {
            Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
            // Without these events, the text of an HTML block would have no paragraph.
            Event::Start(Tag::HtmlBlock) => Some(Event::Start(Tag::Paragraph)),
            Event::End(TagEnd::HtmlBlock) => Some(Event::End(TagEnd::Paragraph)),
            Event::Start(Tag::Heading { level, .. }) => Some(Event::Start(Tag::Heading {
                level: below(level),
                id: None,
                classes: Vec::new(),
                attrs: Vec::new(),
            })),
            Event::End(TagEnd::Heading(level)) => Some(Event::End(TagEnd::Heading(below(level)))),
            Event::Start(Tag::Link { ref dest_url, .. }) => self.start(leads_to_the_web(dest_url), event),
            Event::Start(Tag::Image { ref dest_url, .. }) => self.start(is_of_this_site(dest_url), event),
            Event::End(TagEnd::Link | TagEnd::Image) => self.open.pop().unwrap_or(false).then_some(event),
            other => Some(other),
        }
    }

    fn start<'a>(&mut self, is_said: bool, event: Event<'a>) -> Option<Event<'a>> {
        self.open.push(is_said);
        is_said.then_some(event)
    }
}

/// Returns the next lower level, because the page has a heading above the README.
fn below(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H2,
        HeadingLevel::H2 => HeadingLevel::H3,
        HeadingLevel::H3 => HeadingLevel::H4,
        HeadingLevel::H4 => HeadingLevel::H5,
        HeadingLevel::H5 | HeadingLevel::H6 => HeadingLevel::H6,
    }
}

/// Returns the scheme of a link in lower case; `None` if it is relative. Browsers remove control
/// characters and spaces before they parse a link.
fn scheme(link: &CowStr<'_>) -> Option<String> {
    let seen: String = link.chars().filter(|&c| c > ' ' && !c.is_control()).collect();
    let end = seen.find([':', '/', '?', '#', '\\'])?;
    seen[end..].starts_with(':').then(|| seen[..end].to_ascii_lowercase())
}

fn leads_to_the_web(link: &CowStr<'_>) -> bool {
    scheme(link).is_none_or(|scheme| ["http", "https", "mailto"].contains(&scheme.as_str()))
}

/// Returns true for a link to this site. Two slashes of either kind begin the name of another host.
fn is_of_this_site(link: &CowStr<'_>) -> bool {
    let mut seen = link.chars().filter(|&c| c > ' ' && !c.is_control());
    let slashes = seen.by_ref().take(2).filter(|c| matches!(c, '/' | '\\')).count();
    scheme(link).is_none() && slashes < 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(text: &str) -> String {
        String::from_utf8(render(text.as_bytes(), Markup::Markdown).expect("short enough")).unwrap()
    }

    #[test]
    fn nothing_in_a_readme_runs() {
        for text in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "<div onclick=x>\n\ntext\n\n</div>",
            "[a](javascript:alert(1))",
            "[a](JaVaScRiPt:alert(1))",
            "[a](<java\tscript:alert(1)>)",
            "[a](&#106;avascript:alert(1))",
            "[a](&#x01;javascript:alert(1))",
            "[a](data:text/html,<script>alert(1)</script>)",
            "[a](vbscript:x)",
            "[a](file:///etc/passwd)",
            "<javascript:alert(1)>",
            "[a]\n\n[a]: javascript:alert(1)",
            "![a](javascript:alert(1))",
            "![a](https://tracker.example/x.png)",
            "![a](//tracker.example/x.png)",
            "![a](/\\tracker.example/x.png)",
            "![a](data:image/svg+xml,x)",
            "[![a](https://tracker.example/x.png)](javascript:x)",
            "<!-- --><style>*{display:none}</style>",
            "`<script>` and ```<script>```",
            "[a](x \"\\\"><script>\")",
            "[a](\"><script>)",
        ] {
            let page = html(text);
            let tags = page.split('<').skip(1).map(|tag| tag.split('>').next().unwrap_or_default());
            for tag in tags {
                let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default();
                assert!(["p", "a", "code", "em", "pre"].contains(&name), "<{tag}> in {page} from {text}");
                for word in ["script:", "data:", "file:", "onerror=", "onclick=", "src="] {
                    assert!(!tag.to_ascii_lowercase().contains(word), "{page} from {text}");
                }
            }
        }
    }

    #[test]
    fn what_people_write_is_shown() {
        for (text, expected) in [
            ("# Top", "<h2>Top</h2>\n"),
            ("[a](b.txt)", "<p><a href=\"b.txt\">a</a></p>\n"),
            ("[a](../c:d/)", "<p><a href=\"../c:d/\">a</a></p>\n"),
            ("[a](https://example.org/)", "<p><a href=\"https://example.org/\">a</a></p>\n"),
            ("<me@example.org>", "<p><a href=\"mailto:me@example.org\">me@example.org</a></p>\n"),
            ("![alt](pic.png)", "<p><img src=\"pic.png\" alt=\"alt\" /></p>\n"),
            ("![alt](https://x/y.png)", "<p>alt</p>\n"),
            ("a *b*", "<p>a <em>b</em></p>\n"),
            ("`<b>`", "<p><code>&lt;b&gt;</code></p>\n"),
            ("<b>bold</b>", "<p>&lt;b&gt;bold&lt;/b&gt;</p>\n"),
        ] {
            assert_eq!(html(text), expected, "{text}");
        }
        let plain = render(b"a <b>\nc", Markup::Plain).unwrap();
        assert_eq!(plain, b"<pre>a &lt;b&gt;\nc</pre>\n");
    }

    #[test]
    fn the_best_name_wins() {
        let ranks: Vec<_> = [&b"README.md"[..], b"readme.markdown", b"ReadMe.TXT", b"README"]
            .map(|name| markup_of(name).map(|(_, rank)| rank))
            .into();
        assert_eq!(ranks, [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(markup_of(b"README.rst"), None);
    }

    /// On a stack as small as the twin's, with the input that grows or nests most.
    #[test]
    fn tricks_cost_neither_stack_nor_memory() {
        let of = |piece: &str| piece.repeat(64 * KIB / piece.len());
        let url = format!("[a]: /{}\n\n{}", "x".repeat(32 * KIB), "[a]".repeat(10_000));
        let tricks = [
            of("["),
            of("> "),
            of("- "),
            of("*a **b "),
            of("![a]("),
            of("<"),
            of("`a"),
            of("|a"),
            of("(("),
            of("~~a_"),
            of("[a](b "),
            of("* * "),
            of("&amp;"),
            of("1. "),
            of("<a "),
            of("\\"),
            of("[[a]]: "),
            of("    "),
            url,
            format!("{}\n{}", "|a".repeat(8_000), "|-".repeat(8_000)) + &"\n|".repeat(16_000),
        ];
        let thread = std::thread::Builder::new().stack_size(if cfg!(debug_assertions) {
            512 * KIB
        } else {
            128 * KIB
        });
        let longest = thread.spawn(move || {
            tricks
                .iter()
                .filter_map(|text| render(text.as_bytes(), Markup::Markdown))
                .map(|html| html.len())
                .max()
        });
        assert!(longest.unwrap().join().unwrap().unwrap() <= HTML_BYTES_MAX);
    }
}
