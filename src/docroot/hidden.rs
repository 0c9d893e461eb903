//! Hidden names: those that begin with a dot.
//!
//! Must not touch the disk.

/// Returns whether a file or folder with this name is hidden.
pub(crate) fn is_hidden_name(name: &[u8]) -> bool {
    name.starts_with(b".") && name != b".well-known"
}

/// Returns whether a component of a normalized path begins with a dot. The folder `/.well-known` is
/// public (RFC 8615).
pub(crate) fn is_hidden(path: &[u8]) -> bool {
    let rest = path.strip_prefix(b"/.well-known").filter(|rest| matches!(rest, [] | [b'/', ..]));
    let path = rest.unwrap_or(path);
    path.starts_with(b".") || memchr::memmem::find(path, b"/.").is_some()
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_a_dot_is_hidden() {
        let cases: &[(&[u8], bool)] = &[
            (b"/", false),
            (b"/a.b/c", false),
            (b"/.a", true),
            (b"/a/.b/c", true),
            (b"/.well-known/security.txt", false),
            (b"/.well-known/.secret", true),
            (b"/.well-known", false),
            (b"/.well-known/", false),
            (b"/.well-knowns/a", true),
            (b"/a/.well-known/b", true),
            (b".a", true),
        ];
        for (path, expected) in cases {
            assert_eq!(is_hidden(path), *expected, "{}", path.escape_ascii());
        }
    }
}
