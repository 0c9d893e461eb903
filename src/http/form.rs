//! Names and values of a query, or of a form sent as `application/x-www-form-urlencoded`.
//!
//! `target::query_pairs` decodes the pairs. This file stores them, limits their number and finds
//! them by name. It must not know if they came in a target or as content.

use std::str::FromStr;

use crate::http::multipart::{Multipart, MultipartEvent};
use crate::http::refusal::Refusal;
use crate::http::target::query_pairs;

/// Decoded names and values, in the order received. A name may occur several times (WHATWG URL
/// section 5.1, HTML section 4.10.21).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    pairs: Vec<(String, String)>,
}

impl Pairs {
    /// Decodes a query, without its `?`, or a form.
    ///
    /// # Errors
    /// 400 for more than [`PAIRS_MAX`] pairs. Malformed escapes are kept and are no error.
    pub fn parse(text: &[u8]) -> Result<Pairs, Refusal> {
        let mut pairs = Vec::new();
        for (name, value) in query_pairs(text) {
            if pairs.len() == PAIRS_MAX {
                return Err(Refusal::bad_request("too many names and values"));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Pairs { pairs })
    }

    /// First value with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// All values with this name, in order: check boxes, lists.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value)
    }

    /// First value with this name, which is required but may be empty.
    ///
    /// # Errors
    /// 422 if there is none.
    pub fn need(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::unprocessable(format!("'{name}' is missing")))
    }

    /// First value with this name, which is required, as a number or another type that can be
    /// parsed from text.
    ///
    /// # Errors
    /// 422 if there is none, or if it cannot be parsed.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<T, Refusal> {
        let value = self.need(name)?;
        value.parse().map_err(|_| Refusal::unprocessable(format!("'{name}' has an invalid value")))
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// Pairs of one query or form, at most. Each costs two allocations, and the client decides how many
/// it sends.
pub const PAIRS_MAX: usize = 1000;

/// One whole part of a form that was sent as `multipart/form-data` (RFC 7578).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// Name of the form field.
    pub name: String,
    /// Name of the file, as sent by the client: it may contain slashes and dots, so do not use it
    /// as a path. `None` for an ordinary form field.
    pub filename: Option<String>,
    /// Media type, if there is one.
    pub content_type: Option<String>,
    /// Content of the part.
    pub content: Vec<u8>,
}

impl Part {
    /// Content as text, with U+FFFD for bytes that are not UTF-8.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.content)
    }
}

/// Parts of a whole form. Use [`Multipart`] for a form that arrives in pieces and should not be
/// stored.
///
/// # Errors
/// 415 for another media type. 400 if the form is malformed or has more than [`PAIRS_MAX`] parts.
pub fn parts(content_type: &[u8], content: &[u8]) -> Result<Vec<Part>, Refusal> {
    let mut form = Multipart::new(content_type, PAIRS_MAX)?;
    let mut parts: Vec<Part> = Vec::new();
    form.push::<Refusal>(content, |event| {
        match event {
            MultipartEvent::PartBegin(head) => parts.push(Part {
                name: head.name,
                filename: head.filename,
                content_type: head.content_type,
                content: Vec::new(),
            }),
            MultipartEvent::PartData(piece) => {
                if let Some(part) = parts.last_mut() {
                    part.content.extend_from_slice(piece);
                }
            }
            MultipartEvent::PartEnd | MultipartEvent::End => {}
        }
        Ok(())
    })?;
    form.finish()?;
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_kept_in_order_and_found() {
        let pairs = Pairs::parse(b"a=1&b=%E7%81%AF+x&a=2&c&&=d").unwrap();
        let all: Vec<_> = pairs.iter().collect();
        assert_eq!(all, [("a", "1"), ("b", "灯 x"), ("a", "2"), ("c", ""), ("", "d")]);
        assert_eq!(pairs.get("a"), Some("1"));
        assert_eq!(pairs.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(pairs.parsed::<u8>("a"), Ok(1));
        assert_eq!(pairs.need("c"), Ok(""));
        assert_eq!(pairs.need("z").unwrap_err().status().code(), 422);
        assert_eq!(pairs.parsed::<u8>("b").unwrap_err().status().code(), 422);
    }

    #[test]
    fn parts_come_whole() {
        let form = b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; \
            name=\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain\r\n\r\nline\r\n--\r\n--b--\r\n";
        let taken = parts(b"multipart/form-data; boundary=b", form).unwrap();
        assert_eq!((taken[0].name.as_str(), taken[0].text().as_ref()), ("a", "1"));
        assert_eq!(
            (taken[1].filename.as_deref(), &taken[1].content[..]),
            (Some("x.txt"), &b"line\r\n--"[..])
        );
        let cut = parts(b"multipart/form-data; boundary=b", &form[..form.len() - 4]);
        assert_eq!(cut.unwrap_err().status().code(), 400);
        assert_eq!(parts(b"text/plain", form).unwrap_err().status().code(), 415);
    }

    #[test]
    fn they_are_bounded() {
        assert_eq!(Pairs::parse("a=1&".repeat(PAIRS_MAX).as_bytes()).unwrap().len(), PAIRS_MAX);
        assert!(Pairs::parse("a=1&".repeat(PAIRS_MAX + 1).as_bytes()).is_err());
    }
}
