//! Entity-tags, which distinguish versions of a file (RFC 9110 section 8.8.3).
//!
//! Equal files have equal tags on every node and after every copy, so that a cache in front of two
//! nodes stays valid, also after a redeploy. The tag of a small file is a digest of its bytes. A
//! large file is not read for this: its tag is a digest of size and modification time. A tag does
//! not reveal the inode (CVE-2003-1418), unless it is configured to be made of it, and then only in
//! a digest. Must not know requests or responses.

use std::os::fd::OwnedFd;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::config::{EtagFrom, KIB};
use crate::docroot::read::read_head;
use crate::docroot::stamp::Stamp;
use crate::docroot::{Disk, LookupError};

/// Files up to this size have a digest of their bytes as a tag. They are read anyway, because the
/// cache stores files of this size by default.
const DIGESTED_BYTES_MAX: u64 = 32 * KIB as u64;

/// Age from which on a modification time distinguishes versions. Two changes within one clock step
/// have equal times, and FAT has steps of 2 s.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Length of the digest in a tag: 96 bits, so that no two versions share one.
const DIGEST_BYTES: usize = 12;

/// An entity-tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The value of `ETag`.
    pub(crate) value: Vec<u8>,
    /// The time since 1970 from which on the tag is a strong one. `None` if it never changes.
    pub(crate) settles: Option<Duration>,
}

impl Tag {
    /// Computes the tag of an open file with this `stamp` at the time `wall`. `body` is its content
    /// if that was read.
    pub(crate) fn of(
        from: EtagFrom,
        (file, stamp): (&OwnedFd, &Stamp),
        body: Option<&[u8]>,
        disk: Disk,
        wall: Duration,
    ) -> Result<Tag, LookupError> {
        Ok(match (from, body) {
            (EtagFrom::ChangeTime, _) => Tag::of_change(stamp),
            (EtagFrom::Content, _) if stamp.size > DIGESTED_BYTES_MAX => Tag::of_time(stamp, wall),
            (EtagFrom::Content, Some(body)) => Tag::of_bytes(body),
            (EtagFrom::Content, None) => {
                let bytes = usize::try_from(stamp.size).unwrap_or(usize::MAX);
                Tag::of_bytes(&read_head(file, stamp.size, bytes, disk)?)
            }
        })
    }

    /// Computes a tag of bytes, which is strong, because other bytes have another digest.
    fn of_bytes(bytes: &[u8]) -> Tag {
        Tag { value: quoted(&Sha256::digest(bytes)), settles: None }
    }

    /// Computes a tag of size and modification time. It is weak until another change must have
    /// another time. So a client does not combine parts of two versions (`If-Range`), and does not
    /// overwrite a change (`If-Match`).
    fn of_time(stamp: &Stamp, wall: Duration) -> Tag {
        let (secs, nanoseconds) = stamp.modified;
        let value = digest([stamp.size, secs.cast_unsigned(), nanoseconds.into()]);
        let modified = Duration::new(u64::try_from(secs).unwrap_or(0), nanoseconds);
        match modified.saturating_add(SETTLED_AFTER) {
            settles if wall < settles => Tag { value: weakened(&value), settles: Some(settles) },
            _ => Tag { value, settles: None },
        }
    }

    /// Computes a tag of size, inode and change time, which programs cannot set back. It is strong
    /// at once, and differs after each copy and each change of permissions.
    fn of_change(stamp: &Stamp) -> Tag {
        let (secs, nanoseconds) = stamp.changed;
        let parts = [stamp.size, stamp.inode.number, secs.cast_unsigned(), nanoseconds.into()];
        Tag { value: digest(parts), settles: None }
    }
}

fn digest<const N: usize>(parts: [u64; N]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.to_le_bytes());
    }
    quoted(&digest.finalize())
}

fn quoted(digest: &[u8]) -> Vec<u8> {
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest[..DIGEST_BYTES])).into_bytes()
}

/// Returns the weak form of a tag.
pub(crate) fn weakened(value: &[u8]) -> Vec<u8> {
    [b"W/", value.strip_prefix(b"W/").unwrap_or(value)].concat()
}

/// Returns the tag of another form of the same file: `form` is inserted before the last quote.
pub(crate) fn of_form(value: &[u8], form: &str) -> Vec<u8> {
    [value.strip_suffix(b"\"").unwrap_or(value), b"-", form.as_bytes(), b"\""].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write as _;

    fn stamp() -> Stamp {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let stamp = Stamp::of(&crate::docroot::stamp::stat(&file).unwrap());
        Stamp { size: 100_000, modified: (1_700_000_000, 5), changed: (1_700_000_100, 7), ..stamp }
    }

    #[test]
    fn small_files_have_the_tag_of_their_bytes() {
        let tag = |bytes: &[u8], body: Option<&[u8]>| {
            let mut file: File = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            let file = OwnedFd::from(file);
            let stamp = Stamp::of(&crate::docroot::stamp::stat(&file).unwrap());
            Tag::of(EtagFrom::Content, (&file, &stamp), body, Disk::MayBlock, Duration::ZERO).unwrap()
        };
        let most = vec![b'x'; usize::try_from(DIGESTED_BYTES_MAX).unwrap()];
        for bytes in [&b""[..], b"x", &most] {
            let read = tag(bytes, None);
            assert_eq!((&read, read.settles), (&tag(bytes, Some(bytes)), None));
            assert!(read.value.starts_with(b"\"") && read.value.len() == 18, "a strong one of 96 bits");
        }
        assert_ne!(tag(b"x", None), tag(b"y", None));
        // Entries of a cache stay valid after a restart and on another machine.
        assert_eq!(tag(b"abc", None).value, b"\"ungWv48Bz-pBQUDe\"");
        let more = [&most[..], b"x"].concat();
        assert!(tag(&more, Some(&more)).value.starts_with(b"W/"), "by its time, at the beginning of time");
    }

    #[test]
    fn large_files_have_a_weak_tag_while_they_are_young() {
        let (stamp, at) = (stamp(), |secs: u64| Duration::new(1_700_000_000 + secs, 5));
        let old = Tag::of_time(&stamp, at(2));
        assert_eq!((old.value.starts_with(b"\""), old.settles), (true, None));
        for young in [0, 1] {
            let tag = Tag::of_time(&stamp, at(young));
            assert_eq!((tag.value, tag.settles), (weakened(&old.value), Some(at(2))));
        }
        assert_eq!(Tag::of_time(&stamp, Duration::ZERO).settles, Some(at(2)), "a date in the future");
        // Neither the node nor permissions are part of the tag.
        let changed = (stamp.changed.0 + 1, 0);
        assert_eq!(Tag::of_time(&Stamp { changed, ..stamp }, at(2)), old);
        for other in [
            Stamp { size: 100_001, ..stamp },
            Stamp { modified: (1_700_000_000, 6), ..stamp },
            Stamp { modified: (1_600_000_000, 5), ..stamp },
        ] {
            assert_ne!(Tag::of_time(&other, at(2)), old, "{other:?}");
        }
        let ancient = Stamp { modified: (-5, 0), ..stamp };
        assert_eq!(Tag::of_time(&ancient, at(0)).settles, None);
        let last = Stamp { modified: (i64::MAX, 0), ..stamp };
        assert!(Tag::of_time(&last, at(0)).settles.is_some());
    }

    #[test]
    fn by_change_time_each_change_has_another_tag() {
        let stamp = stamp();
        let tag = Tag::of_change(&stamp);
        assert!(tag.value.starts_with(b"\"") && tag.settles.is_none());
        assert_eq!(Tag::of_change(&Stamp { modified: (1, 1), ..stamp }), tag);
        let mut inode = stamp.inode;
        inode.number += 1;
        for other in [
            Stamp { inode, ..stamp },
            Stamp { size: 6, ..stamp },
            Stamp { changed: (1_700_000_101, 7), ..stamp },
            Stamp { changed: (1_700_000_100, 8), ..stamp },
        ] {
            assert_ne!(Tag::of_change(&other), tag, "{other:?}");
        }
    }

    #[test]
    fn forms_have_tags_of_their_own() {
        assert_eq!(of_form(b"\"abc\"", "br"), b"\"abc-br\"");
        assert_eq!(of_form(b"W/\"abc\"", "live"), b"W/\"abc-live\"");
        assert_eq!(weakened(&of_form(b"\"abc\"", "gz")), b"W/\"abc-gz\"");
        assert_eq!(weakened(b"W/\"abc\""), b"W/\"abc\"");
    }
}
