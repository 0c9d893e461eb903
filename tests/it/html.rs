//! Tags and texts of a page that was written by hand: a reader of HTML for tests.
//!
//! Knows no error of HTML but a missing bracket. Must not know what the pages are about.

use std::collections::HashMap;

/// A piece of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Open { name: String, attributes: HashMap<String, String> },
    Close { name: String },
    Text(String),
}

impl Token {
    /// Returns the value of an attribute of an opening tag.
    pub(crate) fn attribute(&self, key: &str) -> Option<&str> {
        match self {
            Token::Open { attributes, .. } => attributes.get(key).map(String::as_str),
            Token::Close { .. } | Token::Text(_) => None,
        }
    }

    /// Returns true for an opening tag with this name and, unless it is empty, this class.
    pub(crate) fn opens(&self, wanted: &str, class: &str) -> bool {
        matches!(self, Token::Open { name, .. } if name == wanted)
            && (class.is_empty() || self.attribute("class").unwrap_or("").split(' ').any(|one| one == class))
    }
}

/// Elements without a closing tag.
const VOID: [&str; 5] = ["br", "img", "input", "link", "meta"];

/// Splits a page. Comments and the doctype are left out, and the text of scripts is a text.
pub(crate) fn tokens(page: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        if at > 0 {
            found.push(Token::Text(decoded(&rest[..at])));
        }
        rest = &rest[at..];
        let is_comment = rest.starts_with("<!--");
        let end = if is_comment { rest.find("-->").map(|at| at + 2) } else { rest.find('>') };
        let end = end.unwrap_or_else(|| panic!("a bracket is missing: {rest:.80}"));
        let inner = &rest[1..end];
        rest = &rest[end + 1..];
        if is_comment || inner.starts_with('!') {
            continue;
        }
        if let Some(name) = inner.strip_prefix('/') {
            found.push(Token::Close { name: name.trim().to_owned() });
            continue;
        }
        let (name, attributes) = tag(inner.trim_end_matches('/'));
        if name == "script" {
            let until = rest.find("</script>").expect("the end of a script");
            found.push(Token::Open { name, attributes });
            found.push(Token::Text(rest[..until].to_owned()));
            rest = &rest[until..];
            continue;
        }
        found.push(Token::Open { name, attributes });
    }
    found
}

/// Returns the name and the attributes of a tag.
fn tag(inner: &str) -> (String, HashMap<String, String>) {
    let (name, mut rest) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
    let mut attributes = HashMap::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return (name.to_owned(), attributes);
        }
        let end = rest.find(|char: char| char == '=' || char.is_whitespace()).unwrap_or(rest.len());
        let key = rest[..end].to_owned();
        rest = &rest[end..];
        let mut value = String::new();
        if let Some(quoted) = rest.strip_prefix("=\"") {
            let until = quoted.find('"').unwrap_or_else(|| panic!("a quote is missing: {inner}"));
            value = decoded(&quoted[..until]);
            rest = &quoted[until + 1..];
        } else {
            assert!(!rest.starts_with('='), "a value without quotes: {inner}");
        }
        attributes.insert(key, value);
    }
}

fn decoded(text: &str) -> String {
    let mut text = text.to_owned();
    for (entity, char) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&nbsp;", " "), ("&amp;", "&")] {
        text = text.replace(entity, char);
    }
    text
}

/// Returns the tokens between the opening tag at `at` and its closing tag.
pub(crate) fn inside(tokens: &[Token], at: usize) -> &[Token] {
    let Token::Open { name: outer, .. } = &tokens[at] else { return &[] };
    let mut depth = 0;
    for (offset, token) in tokens[at..].iter().enumerate() {
        match token {
            Token::Open { name, .. } if name == outer => depth += 1,
            Token::Close { name } if name == outer => depth -= 1,
            Token::Open { .. } | Token::Close { .. } | Token::Text(_) => {}
        }
        if depth == 0 || VOID.contains(&outer.as_str()) {
            return &tokens[(at + 1).min(at + offset)..at + offset];
        }
    }
    panic!("<{outer}> is not closed");
}

/// Returns the text of tokens.
pub(crate) fn text(tokens: &[Token]) -> String {
    let texts = tokens.iter().filter_map(|token| match token {
        Token::Text(text) => Some(text.as_str()),
        Token::Open { .. } | Token::Close { .. } => None,
    });
    texts.collect()
}

#[test]
fn a_page_is_split_into_tags_and_texts() {
    let page =
        "<!doctype html><!-- <p> --><p class=\"a b\" hidden>x &amp; <i>y</i><br>z</p><script>1 < 2</script>";
    let found = tokens(page);
    assert!(
        found[0].opens("p", "b") && !found[0].opens("p", "c") && found[0].attribute("hidden") == Some("")
    );
    assert_eq!(text(inside(&found, 0)), "x & yz");
    assert_eq!(text(inside(&found, found.len() - 3)), "1 < 2");
    assert!(inside(&found, 5).is_empty(), "{found:?}");
}
