//! Media types by file name.
//!
//! A table and a lookup. It must not look into files, nor know which of them exist: a name is all it gets.

/// For whatever people read as it stands.
const TEXT: &str = "text/plain; charset=utf-8";
/// For everything unknown: browsers offer to save it and do not guess.
const BYTES: &str = "application/octet-stream";

/// The longest extension in the table, in bytes; longer ones need no look.
const EXTENSION_BYTES_MAX: usize = 11;

/// Extensions in lower case, sorted by bytes for the binary search. Forms that are text say that they are UTF-8,
/// or browsers would guess by locale. `ts` is a video stream here, as HLS needs it, and not TypeScript.
const TYPES: &[(&str, &str)] = &[
    ("3gp", "video/3gpp"),
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("adoc", TEXT),
    ("ai", "application/postscript"),
    ("aif", "audio/aiff"),
    ("aiff", "audio/aiff"),
    ("apk", "application/vnd.android.package-archive"),
    ("apng", "image/apng"),
    ("asc", TEXT),
    ("atom", "application/atom+xml; charset=utf-8"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bash", TEXT),
    ("bib", TEXT),
    ("bin", BYTES),
    ("bmp", "image/bmp"),
    ("bz2", "application/x-bzip2"),
    ("c", TEXT),
    ("cc", TEXT),
    ("cfg", TEXT),
    ("cjs", "text/javascript; charset=utf-8"),
    ("conf", TEXT),
    ("cpp", TEXT),
    ("crt", "application/x-x509-ca-cert"),
    ("cs", TEXT),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("dat", BYTES),
    ("deb", "application/vnd.debian.binary-package"),
    ("diff", TEXT),
    ("dll", BYTES),
    ("dmg", "application/x-apple-diskimage"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("eml", "message/rfc822"),
    ("env", TEXT),
    ("eot", "application/vnd.ms-fontobject"),
    ("eps", "application/postscript"),
    ("epub", "application/epub+zip"),
    ("exe", BYTES),
    ("flac", "audio/flac"),
    ("flv", "video/x-flv"),
    ("geojson", "application/geo+json; charset=utf-8"),
    ("gif", "image/gif"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json; charset=utf-8"),
    ("go", TEXT),
    ("gpx", "application/gpx+xml; charset=utf-8"),
    ("gz", "application/gzip"),
    ("h", TEXT),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("hpp", TEXT),
    ("hs", TEXT),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("img", BYTES),
    ("ini", TEXT),
    ("iso", "application/x-iso9660-image"),
    ("jar", "application/java-archive"),
    ("java", TEXT),
    ("jpe", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json; charset=utf-8"),
    ("jsonl", "application/x-ndjson; charset=utf-8"),
    ("jsonld", "application/ld+json; charset=utf-8"),
    ("jsx", TEXT),
    ("jxl", "image/jxl"),
    ("kml", "application/vnd.google-earth.kml+xml; charset=utf-8"),
    ("kt", TEXT),
    ("lock", TEXT),
    ("log", TEXT),
    ("lua", TEXT),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4v", "video/mp4"),
    ("map", "application/json; charset=utf-8"),
    ("markdown", "text/markdown; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("mhtml", "multipart/related"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mkv", "video/matroska"),
    ("mml", "application/mathml+xml; charset=utf-8"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpd", "application/dash+xml; charset=utf-8"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("msi", BYTES),
    ("ndjson", "application/x-ndjson; charset=utf-8"),
    ("obj", "model/obj"),
    ("odg", "application/vnd.oasis.opendocument.graphics"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/opus"),
    ("otf", "font/otf"),
    ("parquet", "application/vnd.apache.parquet"),
    ("patch", TEXT),
    ("pdf", "application/pdf"),
    ("pem", TEXT),
    ("php", TEXT),
    ("pl", TEXT),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("proto", TEXT),
    ("ps", "application/postscript"),
    ("psd", "image/vnd.adobe.photoshop"),
    ("py", TEXT),
    ("rar", "application/vnd.rar"),
    ("rb", TEXT),
    ("rpm", "application/x-rpm"),
    ("rs", TEXT),
    ("rss", "application/rss+xml; charset=utf-8"),
    ("rst", TEXT),
    ("rtf", "application/rtf"),
    ("scss", TEXT),
    ("sh", TEXT),
    ("shtml", "text/html; charset=utf-8"),
    ("sig", "application/pgp-signature"),
    ("so", BYTES),
    ("sql", "application/sql"),
    ("sqlite", "application/vnd.sqlite3"),
    ("srt", TEXT),
    ("stl", "model/stl"),
    ("svg", "image/svg+xml; charset=utf-8"),
    ("swift", TEXT),
    ("tar", "application/x-tar"),
    ("tex", TEXT),
    ("text", TEXT),
    ("tgz", "application/gzip"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("toml", "application/toml"),
    ("torrent", "application/x-bittorrent"),
    ("ts", "video/mp2t"),
    ("tsv", "text/tab-separated-values; charset=utf-8"),
    ("tsx", TEXT),
    ("ttc", "font/collection"),
    ("ttf", "font/ttf"),
    ("txt", TEXT),
    ("vcf", "text/vcard; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json; charset=utf-8"),
    ("webp", "image/webp"),
    ("wmv", "video/x-ms-wmv"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xht", "application/xhtml+xml; charset=utf-8"),
    ("xhtml", "application/xhtml+xml; charset=utf-8"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "application/xml; charset=utf-8"),
    ("xsd", "application/xml; charset=utf-8"),
    ("xsl", "application/xml; charset=utf-8"),
    ("xslt", "application/xml; charset=utf-8"),
    ("xz", "application/x-xz"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zig", TEXT),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// Names that are text though they have no extension, in lower case and sorted. What follows a hyphen is ignored,
/// so `LICENSE-MIT` is one of them.
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

/// The value for `Content-Type` of a file of this name. A path will do as well: only what follows the last slash
/// counts, and of that what follows the last dot, whatever its case.
///
/// Never fails: what is not known is `application/octet-stream`.
pub fn content_type(name: &[u8]) -> &'static str {
    let start = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let name = &name[start..];
    match name.iter().rposition(|&byte| byte == b'.') {
        Some(dot) if dot > 0 => by_extension(&name[dot + 1..]),
        // A name that begins with its only dot has no extension; it is hidden.
        Some(_) => BYTES,
        None => by_whole_name(name),
    }
}

/// Whether coding the content of a type makes it smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressible {
    /// Yes, so it is done on the fly.
    Yes,
    /// Nobody knows; who put a coded file beside it will.
    Unknown,
    /// No: it is compressed already.
    No,
}

/// Types that are not text and yet become much smaller.
const SQUEEZED: &[&str] = &[
    "application/postscript",
    "application/rtf",
    "application/sql",
    "application/toml",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-x509-ca-cert",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/x-icon",
    "model/stl",
];

/// What coding would do to content of this type.
pub fn compressible(content_type: &str) -> Compressible {
    if content_type.ends_with("charset=utf-8") || SQUEEZED.contains(&content_type) {
        Compressible::Yes
    } else if matches!(content_type, BYTES | "application/x-tar") {
        Compressible::Unknown
    } else {
        Compressible::No
    }
}

fn by_extension(extension: &[u8]) -> &'static str {
    let mut lower = [0; EXTENSION_BYTES_MAX];
    let Some(lower) = lower.get_mut(..extension.len()) else { return BYTES };
    lower.copy_from_slice(extension);
    lower.make_ascii_lowercase();
    match TYPES.binary_search_by(|(known, _)| known.as_bytes().cmp(lower)) {
        Ok(index) => TYPES[index].1,
        Err(_) => BYTES,
    }
}

fn by_whole_name(name: &[u8]) -> &'static str {
    let stem = name.split(|&byte| byte == b'-').next().unwrap_or(name);
    // Few files come without an extension, so a plain walk will do.
    if TEXT_NAMES.iter().any(|known| stem.eq_ignore_ascii_case(known.as_bytes())) { TEXT } else { BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_lower_case_and_without_duplicates() {
        assert!(TYPES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(TEXT_NAMES.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(TYPES.len() >= 120);
        for extension in TYPES.iter().map(|(extension, _)| *extension).chain(TEXT_NAMES.iter().copied()) {
            assert!(
                extension.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
                "{extension}"
            );
        }
        assert_eq!(TYPES.iter().map(|(extension, _)| extension.len()).max(), Some(EXTENSION_BYTES_MAX));
    }

    #[test]
    fn every_type_is_well_formed_and_text_says_its_charset() {
        for (extension, media) in TYPES {
            let (bare, charset) = match media.split_once("; ") {
                Some((bare, parameter)) => (bare, Some(parameter)),
                None => (*media, None),
            };
            assert_eq!(bare.matches('/').count(), 1, "{extension}");
            assert!(
                bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.+-".contains(&byte)),
                "{extension}"
            );
            let is_text = bare.starts_with("text/") || bare.ends_with("json") || bare.ends_with("xml");
            assert_eq!(charset == Some("charset=utf-8"), is_text, "{extension}");
        }
    }

    #[test]
    fn every_extension_is_found_in_both_cases() {
        for (extension, media) in TYPES {
            assert_eq!(content_type(format!("a.{extension}").as_bytes()), *media);
            assert_eq!(content_type(format!("A.B.{}", extension.to_uppercase()).as_bytes()), *media);
        }
    }

    #[test]
    fn names_are_judged_by_their_last_part() {
        let cases: &[(&[u8], &str)] = &[
            (b"index.html", "text/html; charset=utf-8"),
            (b"/a.d/index.HTML", "text/html; charset=utf-8"),
            (b"app.js", "text/javascript; charset=utf-8"),
            (b"a.json", "application/json; charset=utf-8"),
            (b"a.svg", "image/svg+xml; charset=utf-8"),
            (b"a.xml", "application/xml; charset=utf-8"),
            (b"archive.tar.gz", "application/gzip"),
            (b"a.wasm", "application/wasm"),
            (b"README", TEXT),
            (b"/docs/readme", TEXT),
            (b"LICENSE", TEXT),
            (b"LICENSE-MIT", TEXT),
            (b"Makefile", TEXT),
            (b"whirligig", BYTES),
            (b"READMEx", BYTES),
            (b"a.b/c", BYTES),
            (b"html", BYTES),
            (b".html", BYTES),
            (b"a.", BYTES),
            (b"a.html/", BYTES),
            (b"a.unknown", BYTES),
            (b"a.webmanifestx", BYTES),
            (b"a.\xff", BYTES),
            (b".", BYTES),
            (b"", BYTES),
        ];
        for (name, expected) in cases {
            assert_eq!(content_type(name), *expected, "{:?}", String::from_utf8_lossy(name));
        }
    }
}
