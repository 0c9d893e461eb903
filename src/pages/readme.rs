//! Converts a README to HTML below a listing.
//!
//! A user who may add files to a folder must not be able to add a script to its page. So the HTML
//! passes a list of harmless elements, links lead to the web, to mail or to this site, and images
//! come from this site only. This file must not access the disk.

use std::fmt;

use pulldown_cmark::{Options, Parser, html};

use crate::config::KIB;
use crate::pages::html::escape_html;

mod anchors;
mod clean;

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
            html::write_html_fmt(&mut out, Parser::new_ext(&text, options)).ok()?;
            clean::clean(&out.0, HTML_BYTES_MAX)
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
            "a <img src=http://x onerror=alert(1)> b",
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
                assert!(
                    ["p", "a", "code", "em", "pre", "div"].contains(&name),
                    "<{tag}> in {page} from {text}"
                );
                for word in ["script:", "data:", "file:", "onerror=", "onclick=", "src="] {
                    assert!(!tag.to_ascii_lowercase().contains(word), "{page} from {text}");
                }
            }
        }
    }

    #[test]
    fn what_people_write_is_shown() {
        for (text, expected) in [
            ("# Top", "<h2 id=\"user-content-top\">Top</h2>\n"),
            ("[a](b.txt)", "<p><a href=\"b.txt\">a</a></p>\n"),
            ("[a](../c:d/)", "<p><a href=\"../c:d/\">a</a></p>\n"),
            ("[a](https://example.org/)", "<p><a href=\"https://example.org/\">a</a></p>\n"),
            ("<me@example.org>", "<p><a href=\"mailto:me@example.org\">me@example.org</a></p>\n"),
            ("![alt](pic.png)", "<p><img alt=\"alt\" src=\"pic.png\"></p>\n"),
            // The backslash is part of a name on this site.
            ("![alt](/\\x/y.png)", "<p><img alt=\"alt\" src=\"/%5Cx/y.png\"></p>\n"),
            ("![alt](https://x/y.png)", "<p>alt</p>\n"),
            ("a *b*", "<p>a <em>b</em></p>\n"),
            ("`<b>`", "<p><code>&lt;b&gt;</code></p>\n"),
            ("<b>bold</b>", "<p><b>bold</b></p>\n"),
            ("a <!-- hidden -->b", "<p>a b</p>\n"),
            ("<!-- hidden\n\n# also -->\n\nb", "\n<p>b</p>\n"),
            ("Vec<T>", "<p>Vec&lt;T&gt;</p>\n"),
            ("<p align=\"center\">\n\n*a*\n\n</p>", "<p align=\"center\">\n<p><em>a</em></p>\n</p>"),
            (
                "<details>\n<summary>S</summary>\n\n- a\n\n</details>",
                "<details>\n<summary>S</summary>\n<ul>\n<li>a</li>\n</ul>\n</details>\n",
            ),
            (
                "|a|\n|-:|\n|b <b>|",
                "<div class=\"wide\"><table><thead><tr><th align=\"right\">a</th></tr></thead><tbody>\n\
                <tr><td align=\"right\">b <b></b></td></tr>\n</tbody></table></div>\n",
            ),
            (
                "- [x] a\n- [ ] b",
                "<ul>\n<li><input type=\"checkbox\" disabled aria-label=\"Done\" checked>\na</li>\n\
                <li><input type=\"checkbox\" disabled aria-label=\"To do\">\nb</li>\n</ul>\n",
            ),
            (
                "[x](#a-b)\n## `A` *b*",
                "<p><a href=\"#user-content-a-b\">x</a></p>\n\
                <h3 id=\"user-content-a-b\"><code>A</code> <em>b</em></h3>\n",
            ),
        ] {
            assert_eq!(html(text).trim_end(), expected.trim_end(), "{text}");
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
