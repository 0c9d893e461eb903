//! A loaded file: content or descriptor, metadata, and a prepared response head.
//!
//! Must not know how files are found, or which form of a file a client prefers.

#[cfg(feature = "compress")]
use std::io::Write as _;
use std::sync::Arc;

use crate::docroot::Docroot;
use crate::docroot::header_rules::FileHeaders;
use crate::docroot::location::Location;
use crate::docroot::stamp::Stamp;
use crate::docroot::tag::Tag;
use crate::docroot::types::{Compressible, ContentType};
use crate::handler::passwords::Password;
use crate::http::conditional::Validators;
use crate::http::date::fmt_http_date;
use crate::http::headers::{Headers, How};
use crate::http::negotiate::Coding;
use crate::http::open_file::OpenFile;
use crate::http::prepared::Prepared;
use crate::http::response::Body;

/// The metadata of a representation.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) stamp: Stamp,
    pub(crate) tag: Tag,
    pub(crate) content_type: Arc<str>,
    pub(crate) coded: Coded,
    /// Headers that depend on the path, mainly by rules of the operator.
    pub(crate) headers: Arc<FileHeaders>,
    /// The password of the location of the file.
    pub(crate) password: Option<Password>,
    /// Position in [`FileOptions::index`](crate::config::FileOptions::index) of the name by which
    /// it was found as the index of a folder. `None` if the file itself was requested.
    pub(crate) index: Option<usize>,
    /// Location of the file, if it was found through a link.
    pub(crate) link_target: Option<Box<Location>>,
}

/// The coding of the content, and its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coded {
    /// No coding.
    No,
    /// The requested file has this coding, as its name shows. It has no other form.
    Itself(Coding),
    /// The coding of a file beside the requested one.
    Beside(Coding),
    /// A coding that this server made.
    Here(Coding),
}

impl Coded {
    fn coding(self) -> Option<Coding> {
        match self {
            Coded::No => None,
            Coded::Itself(coding) | Coded::Beside(coding) | Coded::Here(coding) => Some(coding),
        }
    }
}

/// A file as it was when it was last loaded.
#[derive(Debug)]
pub(crate) struct CachedFile {
    pub(crate) meta: Meta,
    pub(crate) compressible: Compressible,
    pub(crate) content: Content,
    /// The 200 response, without its content if that is on the disk. A 206 has the same headers.
    pub(crate) prepared: Arc<Prepared>,
    /// Range of the headers that a 304 repeats among the prepared ones: `Last-Modified`, `ETag`,
    /// `Vary` and the operator's (RFC 9110 section 15.4.5).
    pub(crate) validator_lines: std::ops::Range<usize>,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// The content is in the prepared response.
    InMemory,
    /// The content is sent from this file.
    OnDisk(Arc<OpenFile>),
}

impl CachedFile {
    /// Creates a file and prepares its head. `body` is the content if that is in memory.
    pub(crate) fn new(meta: Meta, content: Content, body: &[u8]) -> Self {
        let compressible = match meta.coded {
            Coded::Itself(_) => Compressible::No,
            Coded::No | Coded::Beside(_) | Coded::Here(_) => {
                crate::docroot::types::compressible(&meta.content_type)
            }
        };
        let mut headers = Headers::with_capacity(256);
        headers.set("Content-Type", meta.content_type.as_bytes());
        if let Some(coding) = meta.coded.coding() {
            headers.set("Content-Encoding", coding.name().as_bytes());
        }
        if meta.has_parts() {
            headers.set("Accept-Ranges", b"bytes");
        }
        let validators = headers.as_bytes().len();
        if let Some(modified) = meta.stamp.last_modified() {
            headers.set("Last-Modified", &fmt_http_date(modified));
        }
        headers.set("ETag", &meta.tag.value);
        if compressible != Compressible::No {
            headers.set("Vary", b"Accept-Encoding");
        }
        for line in meta.headers.all.lines() {
            headers.put(How::Set, line.name(), line.value());
        }
        let prepared = Prepared::new(&headers, body).ruled(&meta.headers.ruled);
        CachedFile {
            meta,
            compressible,
            content,
            prepared: Arc::new(prepared),
            validator_lines: validators..headers.as_bytes().len(),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match &self.content {
            Content::InMemory => self.prepared.body().len() as u64,
            Content::OnDisk(_) => self.meta.stamp.size,
        }
    }

    pub(crate) fn validators(&self) -> Validators<'_> {
        Validators { etag: &self.meta.tag.value, modified_secs: self.meta.stamp.last_modified() }
    }

    /// Returns the cost for the cache, in bytes.
    pub(crate) fn cost(&self) -> usize {
        size_of::<Self>() + self.prepared.cost() + self.meta.tag.value.len()
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.content, Content::InMemory)
    }

    /// Returns whether compressing the file on the fly is worth the time.
    pub(crate) fn pays_to_compress(&self, docroot: &Docroot) -> bool {
        let options = &docroot.options;
        options.compress_level.is_some()
            && self.compressible == Compressible::Yes
            && self.len() >= options.compress_bytes_min
    }

    /// Returns the compressed form, if the file is in memory and that makes it smaller.
    pub(crate) fn gzipped(&self, level: Option<u32>) -> Option<CachedFile> {
        if !self.is_in_memory() {
            return None;
        }
        let body = gzip(self.prepared.body(), level?)?;
        (body.len() < self.prepared.body().len())
            .then(|| CachedFile::new(self.meta.compressed(), Content::InMemory, &body))
    }

    pub(crate) fn part(&self, first: u64, bytes: u64) -> Body {
        match &self.content {
            Content::InMemory => {
                // A file in memory is far smaller than 4 GiB.
                let start = usize::try_from(first).unwrap_or(usize::MAX);
                let end = start.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
                Body::Shared {
                    data: Arc::clone(&self.prepared),
                    start,
                    end: end.min(self.prepared.body().len()),
                }
            }
            Content::OnDisk(file) => Body::File { file: Arc::clone(file), offset: first, len: bytes },
        }
    }
}

impl Meta {
    /// Creates the metadata of a file in its own coding.
    pub(crate) fn of(stamp: Stamp, tag: Tag, content_type: ContentType) -> Meta {
        let ContentType { value: content_type, coding } = content_type;
        let coded = coding.map_or(Coded::No, Coded::Itself);
        let (headers, password, link_target) = (Arc::default(), None, None);
        Meta { stamp, tag, content_type, coded, headers, password, index: None, link_target }
    }

    /// Returns the metadata of the same content, compressed on the fly. The entity-tag is another
    /// one, and weak, because the bytes depend on the compressor.
    pub(crate) fn compressed(&self) -> Meta {
        let tag = Tag {
            value: crate::docroot::tag::weakened(&crate::docroot::tag::of_form(&self.tag.value, "gz")),
            settles: None,
        };
        Meta { tag, coded: Coded::Here(Coding::Gzip), ..self.clone() }
    }

    /// Returns whether parts of it can be sent. Content that is compressed on the fly has none.
    pub(crate) fn has_parts(&self) -> bool {
        !matches!(self.coded, Coded::Here(_))
    }
}

/// Compresses all of `content`.
#[cfg(feature = "compress")]
fn gzip(content: &[u8], level: u32) -> Option<Vec<u8>> {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    let mut encoder = GzEncoder::new(Vec::with_capacity(content.len() / 2), Compression::new(level));
    encoder.write_all(content).and_then(|()| encoder.finish()).ok()
}

/// Without the feature `compress` nothing is compressed.
#[cfg(not(feature = "compress"))]
fn gzip(_content: &[u8], _level: u32) -> Option<Vec<u8>> {
    None
}
