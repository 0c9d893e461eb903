//! Media types by file name, and the parameters that depend on the first bytes of a file.
//!
//! Combines the operator's own types with a built-in list. `charset.rs` finds the charset that a
//! text declares. Must not know which files exist.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::config::{FileOptions, TypeRule};
use crate::docroot::charset;
use crate::http::field_lines::is_token;
use crate::http::negotiate::Coding;

/// The type of files that people read as plain text.
const TEXT: &str = "text/plain";
/// The type of unknown files: browsers offer to save them and do not guess.
const BYTES: &str = "application/octet-stream";

/// The list of types: one type a line, with its extensions. Parsed once, because a sorted table of
/// lines by extension would be three times as long and hard to check.
const LIST: &str = include_str!("mime.types");

/// Length of the longest extension in the list, in bytes. Longer ones are unknown.
const EXTENSION_BYTES_MAX: usize = 25;

/// The extension whose files are SVG in gzip (SVG 1.1 section 1.2).
const COMPRESSED_SVG: &[u8] = b"svgz";

/// The first bytes of gzip data (RFC 1952 section 2.3.1).
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

/// Names of text files without an extension, in lower case and sorted. The part after a hyphen is
/// ignored, so `LICENSE-MIT` matches.
const TEXT_NAMES: &[&str] = &[
    "authors",
    "changelog",
    "changes",
    "containerfile",
    "contributing",
    "contributors",
    "copying",
    "copyright",
    "dockerfile",
    "gemfile",
    "history",
    "install",
    "jenkinsfile",
    "licence",
    "license",
    "maintainers",
    "makefile",
    "news",
    "notice",
    "procfile",
    "rakefile",
    "readme",
    "security",
    "thanks",
    "todo",
    "vagrantfile",
    "version",
];

/// The types of files: those of the list, overridden by those of the operator.
#[derive(Clone, Debug)]
pub(crate) struct Types {
    /// The charset of texts that declare no other.
    charset: Option<String>,
    rules: Vec<TypeRule>,
}

impl Default for Types {
    fn default() -> Self {
        let FileOptions { charset, types, .. } = FileOptions::default();
        Types { charset, rules: types }
    }
}

/// The type of a file in its responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentType {
    /// The value of `Content-Type`.
    pub(crate) value: Arc<str>,
    /// The coding of the file itself, which its type does not include.
    pub(crate) coding: Option<Coding>,
}

impl Types {
    /// Creates the types that the options configure.
    ///
    /// # Errors
    ///
    /// The reason why one of them cannot be used.
    pub(crate) fn of(options: &FileOptions) -> Result<Self, String> {
        // Options set in code were not checked by the command line.
        let checked = |rule: &TypeRule| type_rule(&rule.extension, &rule.media_type);
        let rules = options.types.iter().map(checked).collect::<Result<_, _>>()?;
        let charset = options.charset.as_deref().map(check_charset).transpose()?;
        Ok(Types { charset, rules })
    }

    /// Returns the type for this name, which may be a path. Only the part after the last slash
    /// counts, and of that the extension after the last dot, without regard to case.
    ///
    /// Never fails: the type of unknown names is `application/octet-stream`.
    pub(crate) fn by_name(&self, name: &[u8]) -> &str {
        let name = crate::docroot::location::last_name(name);
        let extension = extension(name);
        let of_operator = |rule: &&TypeRule| rule.extension.as_bytes().eq_ignore_ascii_case(extension);
        match (self.rules.iter().rev().find(of_operator), extension) {
            (Some(rule), _) => &rule.media_type,
            // A name that begins with its only dot is hidden and has no extension.
            (None, b"") if name.contains(&b'.') => BYTES,
            (None, b"") => by_whole_name(name),
            (None, extension) => by_extension(extension),
        }
    }

    /// Returns how many bytes of a file of this type [`Types::of_file`] needs.
    pub(crate) fn looked_at_bytes(&self, media_type: &str, name: &[u8]) -> usize {
        let wants_charset = self.charset.is_some() && takes_charset(media_type);
        if wants_charset || is_compressed_svg(media_type, name) { charset::LOOKED_AT_BYTES } else { 0 }
    }

    /// Returns the type of a file that begins with `head`. `media_type` is the result of
    /// [`by_name`](Types::by_name).
    pub(crate) fn of_file(&self, media_type: &str, name: &[u8], head: &[u8]) -> ContentType {
        let coding =
            (is_compressed_svg(media_type, name) && head.starts_with(GZIP_MAGIC)).then_some(Coding::Gzip);
        let essence = essence(media_type);
        let charset = self.charset.as_ref().filter(|_| takes_charset(media_type));
        // JSON has no other charset (RFC 8259 section 8.1).
        let charset = charset.map(|charset| if is_json(essence) { "utf-8" } else { charset });
        let value = match charset.filter(|charset| !charset::is_contradicted(charset, essence, head)) {
            Some(charset) => format!("{media_type}; charset={charset}").into(),
            None => media_type.into(),
        };
        ContentType { value, coding }
    }
}

/// Returns the part of a name after its last dot, which must not be its first byte.
fn extension(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|&byte| byte == b'.') {
        Some(dot) if dot > 0 => &name[dot + 1..],
        Some(_) | None => b"",
    }
}

fn is_compressed_svg(media_type: &str, name: &[u8]) -> bool {
    essence(media_type) == "image/svg+xml" && extension(name).eq_ignore_ascii_case(COMPRESSED_SVG)
}

/// Returns a media type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim_ascii()
}

/// Returns true if the server must add a charset to the type: a text without one, but not XML,
/// which declares its own (RFC 7303 section 3).
fn takes_charset(media_type: &str) -> bool {
    let essence = essence(media_type);
    let mut parameters = media_type[essence.len()..].split(';').map(str::trim_ascii);
    let has_charset = parameters.any(|parameter| has_prefix(parameter, "charset="));
    !has_charset && !is_xml(essence) && (has_prefix(essence, "text/") || is_json(essence))
}

fn is_json(essence: &str) -> bool {
    ends_with_one_of(essence, &["/json", "+json", "/x-ndjson"])
}

fn is_xml(essence: &str) -> bool {
    ends_with_one_of(essence, &["/xml", "+xml", "/xml-dtd", "/xml-external-parsed-entity"])
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn ends_with_one_of(text: &str, ends: &[&str]) -> bool {
    let ends_with = |end: &&str| {
        let start = text.len().checked_sub(end.len());
        start.and_then(|start| text.get(start..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    };
    ends.iter().any(ends_with)
}

/// The effect of coding on content of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressible {
    /// Yes: compressed on the fly.
    Yes,
    /// Unknown: a coded file beside it is used, if there is one.
    Unknown,
    /// No: already compressed.
    No,
}

/// Types that are not text but become much smaller.
const SQUEEZED: &[&str] = &[
    "application/cql",
    "application/graphql",
    "application/javascript",
    "application/n-quads",
    "application/n-triples",
    "application/pgp-keys",
    "application/postscript",
    "application/rtf",
    "application/sparql-query",
    "application/sql",
    "application/toml",
    "application/trig",
    "application/vnd.apple.mpegurl",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ns-proxy-autoconfig",
    "application/x-plist",
    "application/x-sh",
    "application/x-tex",
    "application/x-x509-ca-cert",
    "application/xquery",
    "application/yaml",
    "font/collection",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/x-icon",
    "image/x-portable-anymap",
    "image/x-portable-bitmap",
    "image/x-portable-graymap",
    "image/x-portable-pixmap",
    "image/x-xbitmap",
    "image/x-xpixmap",
    "model/iges",
    "model/mtl",
    "model/obj",
    "model/step",
    "model/stl",
    "model/vnd.usda",
];

/// Returns whether coding makes content of this type smaller.
pub fn compressible(content_type: &str) -> Compressible {
    let essence = essence(content_type);
    let is_one_of = |types: &[&str]| types.iter().any(|known| known.eq_ignore_ascii_case(essence));
    if has_prefix(essence, "text/") || is_json(essence) || is_xml(essence) || is_one_of(SQUEEZED) {
        Compressible::Yes
    } else if is_one_of(&[BYTES, "application/x-tar"]) {
        Compressible::Unknown
    } else {
        Compressible::No
    }
}

fn by_extension(extension: &[u8]) -> &'static str {
    static TABLE: OnceLock<HashMap<&[u8], &str, foldhash::fast::RandomState>> = OnceLock::new();
    let table = TABLE
        .get_or_init(|| rows().map(|(media_type, extension)| (extension.as_bytes(), media_type)).collect());
    let mut lower = [0; EXTENSION_BYTES_MAX];
    let Some(lower) = lower.get_mut(..extension.len()) else { return BYTES };
    lower.copy_from_slice(extension);
    lower.make_ascii_lowercase();
    table.get(&*lower).copied().unwrap_or(BYTES)
}

/// Iterates over the list, with one extension per item.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = LIST.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).flat_map(|(media_type, extensions)| {
        extensions.split(' ').map(move |extension| (media_type, extension))
    })
}

fn by_whole_name(name: &[u8]) -> &'static str {
    let stem = name.split(|&byte| byte == b'-').next().unwrap_or(name);
    // Few files have no extension, so a linear search is fast enough.
    if TEXT_NAMES.iter().any(|known| stem.eq_ignore_ascii_case(known.as_bytes())) { TEXT } else { BYTES }
}

/// Parses `EXT=TYPE`, as in `log=text/plain; charset=iso-8859-1`.
pub(crate) fn parse_type_rule(text: &str) -> Result<TypeRule, String> {
    let form = || "not of the form EXT=TYPE, such as log=text/plain".to_owned();
    let (extension, media_type) = text.split_once('=').ok_or_else(form)?;
    type_rule(extension, media_type)
}

pub(crate) fn type_rule(extension: &str, media_type: &str) -> Result<TypeRule, String> {
    let extension = extension.trim_ascii();
    let extension = extension.strip_prefix('.').unwrap_or(extension).to_ascii_lowercase();
    if extension.is_empty() || extension.contains(['.', '/', '*']) || extension.contains(char::is_control) {
        return Err("an extension is the part after the last dot of a name, such as log".to_owned());
    }
    Ok(TypeRule { extension, media_type: check_media_type(media_type)?.to_owned() })
}

/// Checks a media type with its parameters (RFC 9110 section 8.3.1). Returns it without the space
/// around it.
pub(crate) fn check_media_type(text: &str) -> Result<&str, String> {
    let form = || format!("'{}' is not a media type, such as text/plain; charset=utf-8", text.escape_debug());
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(is_token);
    let text = text.trim_ascii();
    let (kind, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
    let (top, sub) = kind.trim_ascii_end().split_once('/').ok_or_else(form)?;
    if !is_name(top) || !is_name(sub) {
        return Err(form());
    }
    while let Some(parameter) = rest.strip_prefix(';') {
        let (name, value) = parameter.trim_ascii_start().split_once('=').ok_or_else(form)?;
        let len = match value.strip_prefix('"') {
            Some(quoted) => 1 + quoted_len(quoted).ok_or_else(form)?,
            None => value.bytes().take_while(|byte| is_token(*byte)).count(),
        };
        if !is_name(name) || len == 0 {
            return Err(form());
        }
        rest = value[len..].trim_ascii_start();
    }
    if rest.is_empty() { Ok(text) } else { Err(form()) }
}

/// Returns the length of a quoted string after its first quote, including the last one.
fn quoted_len(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !is_escaped => return Some(at + 1),
            _ if byte.is_ascii_control() && byte != b'\t' => return None,
            _ => is_escaped = byte == b'\\' && !is_escaped,
        }
    }
    None
}

/// Checks the name of a charset.
pub(crate) fn check_charset(text: &str) -> Result<String, String> {
    let is_name = text.len() <= CHARSET_BYTES_MAX && !text.is_empty() && text.bytes().all(is_token);
    if is_name { Ok(text.to_owned()) } else { Err("not the name of a charset, such as utf-8".to_owned()) }
}

/// Maximum length of a charset name, in bytes (RFC 2978 section 2.3).
const CHARSET_BYTES_MAX: usize = 40;

#[cfg(test)]
mod tests;
