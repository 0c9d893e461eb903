//! Request methods, and the labels under which statistics count them (RFC 9110 section 9).
//!
//! This file must not know requests.

/// A request method (RFC 9110 section 9, RFC 5789).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method<'b> {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// PATCH
    Patch,
    /// TRACE
    Trace,
    /// CONNECT
    Connect,
    /// Any other token. Methods are case-sensitive: `get` is one of these.
    Other(&'b str),
}

impl<'b> Method<'b> {
    pub(crate) fn parse(name: &'b str) -> Self {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "PATCH" => Method::Patch,
            "TRACE" => Method::Trace,
            "CONNECT" => Method::Connect,
            other => Method::Other(other),
        }
    }

    /// Name of the method, as on the request line.
    #[must_use]
    pub fn name(&self) -> &'b str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Patch => "PATCH",
            Method::Trace => "TRACE",
            Method::Connect => "CONNECT",
            Method::Other(name) => name,
        }
    }

    /// Labels of the methods in statistics. Clients choose the names of other methods, so those
    /// share one label.
    pub const LABELS: [&'static str; 10] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "other"];

    /// Label of the method.
    #[must_use]
    pub fn label(&self) -> MethodLabel {
        MethodLabel(match self {
            Method::Get => 0,
            Method::Head => 1,
            Method::Post => 2,
            Method::Put => 3,
            Method::Delete => 4,
            Method::Options => 5,
            Method::Patch => 6,
            Method::Trace => 7,
            Method::Connect => 8,
            Method::Other(_) => 9,
        })
    }
}

/// A method in statistics: one of [`Method::LABELS`], in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MethodLabel(u8);

impl MethodLabel {
    /// Label of HEAD, whose response has no content.
    pub const HEAD: MethodLabel = MethodLabel(1);

    /// Index in [`Method::LABELS`].
    #[must_use]
    pub fn place(self) -> usize {
        usize::from(self.0)
    }

    /// Name of the method, or of all others.
    #[must_use]
    pub fn name(self) -> &'static str {
        Method::LABELS[self.place()]
    }
}
