//! Keeps the harmless part of the HTML of a README.
//!
//! A user who may write a README must not be able to add a script, a form or a style to the page of
//! its folder. So nothing of the input is copied. A tokenizer reads it, and this file writes the
//! elements and attributes of its lists again, each text and value escaped. Other tags become text.
//! Elements are closed in the order in which they were opened, so that the rest of the page keeps
//! its place. This file must not know Markdown.

use std::borrow::Cow;

use html5gum::{DefaultEmitter, EndTag, Span, StartTag, Token, Tokenizer};

use crate::pages::html::{escape_html, push};
use crate::pages::readme::anchors::{Anchors, PREFIX, is_name};

/// Elements that may be on the page. None is `article`, which holds the README: no end tag of a
/// README can close it.
const ELEMENTS: [&str; 60] = [
    "a",
    "abbr",
    "b",
    "bdo",
    "blockquote",
    "caption",
    "center",
    "cite",
    "code",
    "dd",
    "del",
    "details",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "i",
    "ins",
    "kbd",
    "li",
    "mark",
    "ol",
    "p",
    "picture",
    "pre",
    "q",
    "rp",
    "rt",
    "ruby",
    "s",
    "samp",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "time",
    "tr",
    "tt",
    "u",
    "ul",
    "var",
    "bdi",
];

/// Elements without an end tag.
const VOID: [&str; 6] = ["br", "hr", "img", "input", "source", "wbr"];

/// Parts of a table. An end tag of another element does not reach out of a cell.
const CELLS: [&str; 3] = ["td", "th", "caption"];
const TABLE_PARTS: [&str; 8] = ["table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption"];

/// Elements that may be open at a time. Browsers stop at 512; deeper ones lose their tags.
const OPEN_MAX: usize = 200;

/// Returns the harmless part of some HTML, or `None` if that has more than `bytes_max` bytes.
pub(super) fn clean(html: &str, bytes_max: usize) -> Option<Vec<u8>> {
    let mut cleaner = Cleaner {
        source: html.as_bytes(),
        out: Vec::new(),
        heading: None,
        open: Vec::new(),
        anchors: Anchors::default(),
    };
    let emitter = DefaultEmitter::<usize>::new_with_span();
    for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
        match token {
            Token::StartTag(tag) => cleaner.start(&tag),
            Token::EndTag(tag) => cleaner.end(&tag),
            Token::String(text) => cleaner.text(&text),
            // Errors precede the token that a browser makes of the text.
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
        if cleaner.len() > bytes_max {
            return None;
        }
    }
    cleaner.close_from(0);
    (cleaner.out.len() <= bytes_max).then_some(cleaner.out)
}

struct Cleaner<'h> {
    source: &'h [u8],
    out: Vec<u8>,
    /// The heading that is open. Its text decides its `id`, so its start tag is written last.
    heading: Option<Heading>,
    open: Vec<&'static str>,
    anchors: Anchors,
}

struct Heading {
    attributes: Vec<u8>,
    html: Vec<u8>,
    text: String,
}

impl Cleaner<'_> {
    fn len(&self) -> usize {
        self.out.len() + self.heading.as_ref().map_or(0, |heading| heading.html.len())
    }

    /// Returns the buffer for what follows.
    fn sink(&mut self) -> &mut Vec<u8> {
        self.heading.as_mut().map_or(&mut self.out, |heading| &mut heading.html)
    }

    fn text(&mut self, text: &[u8]) {
        if let Some(heading) = &mut self.heading {
            heading.text.push_str(&String::from_utf8_lossy(text));
        }
        escape_html(text, self.sink());
    }

    /// Shows a tag as text, so that `Vec<T>` keeps its `<T>`.
    fn show(&mut self, span: Span) {
        let text = self.source.get(span.start..span.end).unwrap_or_default();
        self.text(text);
    }

    fn start(&mut self, tag: &StartTag<usize>) {
        let attributes = Attributes(tag);
        if let Some(name) = named(&VOID, &tag.name) {
            return self.void(name, &attributes);
        }
        let Some(name) = named(&ELEMENTS, &tag.name) else {
            return self.show(tag.span);
        };
        // Browsers would end the outer link here.
        let is_nested_link = name == "a" && self.open.contains(&"a");
        if is_heading(name) && self.heading.is_some() {
            let at = self.open.iter().rposition(|open| is_heading(open)).unwrap_or(0);
            self.close_from(at);
        }
        if self.open.len() >= OPEN_MAX || is_nested_link {
            return;
        }
        self.open.push(name);
        let written = attributes.written(name);
        if is_heading(name) {
            let mut heading = Heading { attributes: written, html: Vec::new(), text: String::new() };
            // The heading gets the name of its text. An author may have chosen another.
            if let Some(id) = attributes.get("id").filter(|id| is_name(id)) {
                push(&mut heading.html, "<a");
                attribute("id", &format!("{PREFIX}{id}"), &mut heading.html);
                push(&mut heading.html, "></a>");
            }
            self.heading = Some(heading);
            return;
        }
        let sink = self.sink();
        // A wide table scrolls in a box of its own.
        push(sink, if name == "table" { "<div class=\"wide\"><" } else { "<" });
        push(sink, name);
        sink.extend_from_slice(&written);
        sink.push(b'>');
    }

    fn void(&mut self, name: &'static str, attributes: &Attributes<'_>) {
        let written = attributes.written(name);
        match name {
            "img" if attributes.get("src").is_none_or(|src| !is_of_this_site(&src)) => {
                let alternative = attributes.get("alt").unwrap_or_default();
                self.text(alternative.as_bytes());
            }
            // Markdown makes these of `- [x]`. No other input may be on the page.
            "input" if attributes.get("type").as_deref() == Some("checkbox") => {
                let (state, label) = match attributes.get("checked") {
                    Some(_) => (" checked", "Done"),
                    None => ("", "To do"),
                };
                let input = format!("<input type=\"checkbox\" disabled aria-label=\"{label}\"{state}>");
                push(self.sink(), &input);
            }
            "input" => self.show(attributes.0.span),
            _ => {
                let sink = self.sink();
                sink.push(b'<');
                push(sink, name);
                sink.extend_from_slice(&written);
                sink.push(b'>');
            }
        }
    }

    fn end(&mut self, tag: &EndTag<usize>) {
        let Some(name) = named(&ELEMENTS, &tag.name) else {
            // `</br>`
            if named(&VOID, &tag.name).is_none() {
                self.show(tag.span);
            }
            return;
        };
        let Some(at) = self.open.iter().rposition(|open| *open == name) else { return };
        let leaves_cell = self.open[at + 1..].iter().any(|open| CELLS.contains(open));
        if !leaves_cell || TABLE_PARTS.contains(&name) {
            self.close_from(at);
        }
    }

    /// Closes the elements that were opened last, down to this number of open ones.
    fn close_from(&mut self, at: usize) {
        while self.open.len() > at {
            let Some(name) = self.open.pop() else { return };
            if is_heading(name)
                && let Some(heading) = self.heading.take()
            {
                self.write_heading(name, &heading);
                continue;
            }
            let sink = self.sink();
            push(sink, "</");
            push(sink, name);
            push(sink, if name == "table" { "></div>" } else { ">" });
        }
    }

    fn write_heading(&mut self, name: &str, heading: &Heading) {
        let tag = below(name);
        push(&mut self.out, "<");
        push(&mut self.out, tag);
        if let Some(anchor) = self.anchors.take(&heading.text) {
            attribute("id", &format!("{PREFIX}{anchor}"), &mut self.out);
        }
        self.out.extend_from_slice(&heading.attributes);
        self.out.push(b'>');
        self.out.extend_from_slice(&heading.html);
        push(&mut self.out, "</");
        push(&mut self.out, tag);
        push(&mut self.out, ">");
    }
}

fn named(list: &[&'static str], name: &[u8]) -> Option<&'static str> {
    list.iter().copied().find(|known| known.as_bytes() == name)
}

fn is_heading(name: &str) -> bool {
    matches!(name.as_bytes(), [b'h', b'1'..=b'6'])
}

/// Returns the next lower level, because the page has a heading above the README.
fn below(heading: &str) -> &'static str {
    match heading {
        "h1" => "h2",
        "h2" => "h3",
        "h3" => "h4",
        "h4" => "h5",
        _ => "h6",
    }
}

/// Appends an attribute.
fn attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    push(out, name);
    if !value.is_empty() {
        push(out, "=\"");
        escape_html(value.as_bytes(), out);
        out.push(b'"');
    }
}

/// Attributes of a tag.
struct Attributes<'t>(&'t StartTag<usize>);

impl<'t> Attributes<'t> {
    fn get(&self, name: &str) -> Option<Cow<'t, str>> {
        self.0.attributes.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value))
    }

    /// Returns the attributes that may be on the page, as they are written there.
    fn written(&self, tag: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.0.attributes {
            let value = String::from_utf8_lossy(value);
            match (tag, name.as_slice()) {
                ("a", b"href") if leads_to_the_web(&value) => attribute("href", &target(&value), &mut out),
                ("a", b"name") if is_name(&value) && self.get("id").is_none() => {
                    attribute("id", &format!("{PREFIX}{value}"), &mut out);
                }
                // Markdown aligns the cells of a table in this way.
                ("td" | "th", b"style") => {
                    if let Some(side) = value.strip_prefix("text-align: ").filter(|side| is_side(side)) {
                        attribute("align", side, &mut out);
                    }
                }
                (_, b"id") if is_name(&value) && !is_heading(tag) => {
                    attribute("id", &format!("{PREFIX}{value}"), &mut out);
                }
                (_, name) => {
                    if let Some(name) = plain(tag, name, &value) {
                        attribute(name, &value, &mut out);
                    }
                }
            }
        }
        out
    }
}

/// Returns the name of an attribute that is kept as it is.
fn plain(tag: &str, name: &[u8], value: &str) -> Option<&'static str> {
    let is_cell = matches!(tag, "td" | "th");
    Some(match name {
        b"alt" if tag == "img" => "alt",
        b"src" if tag == "img" && is_of_this_site(value) => "src",
        b"srcset" if matches!(tag, "img" | "source") && are_of_this_site(value) => "srcset",
        b"media" if tag == "source" => "media",
        b"type" if tag == "source" => "type",
        b"width" if (is_cell || matches!(tag, "img" | "table")) && is_length(value) => "width",
        b"height" if tag == "img" && is_length(value) => "height",
        b"align" if is_side(value) => "align",
        b"valign" if is_cell && matches!(value, "top" | "middle" | "bottom" | "baseline") => "valign",
        b"colspan" if is_cell && is_number(value, 3) => "colspan",
        b"rowspan" if is_cell && is_number(value, 3) => "rowspan",
        b"scope" if tag == "th" && matches!(value, "row" | "col") => "scope",
        b"start" if tag == "ol" && is_number(value, 9) => "start",
        b"type" if tag == "ol" && matches!(value, "1" | "a" | "A" | "i" | "I") => "type",
        b"value" if tag == "li" && is_number(value, 9) => "value",
        b"open" if tag == "details" => "open",
        b"datetime" if tag == "time" => "datetime",
        b"dir" if matches!(value, "ltr" | "rtl" | "auto") => "dir",
        b"lang" => "lang",
        b"title" => "title",
        _ => return None,
    })
}

fn is_number(value: &str, digits_max: usize) -> bool {
    (1..=digits_max).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true for a width or height: `300`, `300px`, `50%`.
fn is_length(value: &str) -> bool {
    is_number(value.trim_end_matches("px").trim_end_matches('%'), 4)
}

fn is_side(value: &str) -> bool {
    let sides = ["left", "center", "right", "justify", "top", "middle", "bottom"];
    sides.iter().any(|side| value.eq_ignore_ascii_case(side))
}

/// Returns a link with the name that its target has on the page.
fn target(link: &str) -> Cow<'_, str> {
    match link.strip_prefix('#') {
        Some(name) if !name.is_empty() && !name.starts_with(PREFIX) => format!("#{PREFIX}{name}").into(),
        _ => link.into(),
    }
}

/// Returns the scheme of a link in lower case; `None` if it is relative. Browsers remove control
/// characters and spaces before they parse a link.
fn scheme(link: &str) -> Option<String> {
    let seen: String = link.chars().filter(|&c| c > ' ' && !c.is_control()).collect();
    let end = seen.find([':', '/', '?', '#', '\\'])?;
    seen[end..].starts_with(':').then(|| seen[..end].to_ascii_lowercase())
}

fn leads_to_the_web(link: &str) -> bool {
    scheme(link).is_none_or(|scheme| ["http", "https", "mailto"].contains(&scheme.as_str()))
}

/// Returns true for a link to this site. Two slashes of either kind begin the name of another host.
fn is_of_this_site(link: &str) -> bool {
    let mut seen = link.chars().filter(|&c| c > ' ' && !c.is_control());
    let slashes = seen.by_ref().take(2).filter(|c| matches!(c, '/' | '\\')).count();
    scheme(link).is_none() && slashes < 2
}

/// Returns true for a list of pictures of this site: `a.png, b.png 2x`.
fn are_of_this_site(list: &str) -> bool {
    list.split(',').all(|candidate| {
        let mut words = candidate.split_ascii_whitespace();
        let is_ours = words.next().is_some_and(is_of_this_site);
        let is_density = |word: &str| {
            let number = word.strip_suffix(['x', 'w']).unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        };
        is_ours && words.next().is_none_or(is_density) && words.next().is_none()
    })
}

#[cfg(test)]
mod tests;
