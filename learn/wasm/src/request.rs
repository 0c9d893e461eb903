//! Requests of a page: values with keys, each value with its length before it.
//!
//! A field is `KEY LENGTH`, a line end, and LENGTH bytes of UTF-8 text. The first field is `op`. A
//! key may occur several times. This file must not know the operations.

/// A request.
#[derive(Debug, Default)]
pub struct Request {
    fields: Vec<(String, String)>,
}

impl Request {
    /// Reads a request. An error is one line of text.
    pub fn parse(bytes: &[u8]) -> Result<Request, String> {
        let text = str::from_utf8(bytes).map_err(|_| "the request is not UTF-8 text")?;
        let mut request = Request::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (head, after) = rest.split_once('\n').ok_or("a field of the request has no line end")?;
            let (key, length) = head.split_once(' ').ok_or("a field of the request has no length")?;
            let length: usize = length.parse().map_err(|_| "a length in the request is not a number")?;
            let (value, more) = after.split_at_checked(length).ok_or("a field of the request is cut off")?;
            request.fields.push((key.to_owned(), value.to_owned()));
            rest = more;
        }
        Ok(request)
    }

    /// Returns the value with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    /// Returns all values with this key.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    /// Returns the value with this key as a number.
    pub fn number(&self, key: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let shown: String = value.chars().take(40).collect();
        value.parse().map(Some).map_err(|_| format!("{key} is '{shown}'; allowed: a whole number"))
    }

    /// Returns a number that must be there.
    pub fn needed(&self, key: &str) -> Result<usize, String> {
        let number = self.number(key)?.ok_or_else(|| format!("{key} is missing"))?;
        usize::try_from(number).map_err(|_| format!("{key} is too large"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_contain_anything() {
        let request = Request::parse("op 4\nopentext 6\na 1\n\u{e9}set 0\nset 1\nx".as_bytes()).unwrap();
        assert_eq!((request.get("op"), request.get("text")), (Some("open"), Some("a 1\n\u{e9}")));
        assert!(request.all("set").eq(["", "x"]));
        assert_eq!(request.number("seed"), Ok(None));
    }

    #[test]
    fn broken_requests_are_refused() {
        for bytes in [&b"op"[..], b"op\n", b"op x\n", b"op 9\nopen", b"op 1\n\xff", b"op 1\n\xc3\xa9"] {
            assert!(Request::parse(bytes).is_err());
        }
    }
}
