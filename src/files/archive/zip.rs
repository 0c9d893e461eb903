//! The zip format (APPNOTE 6.3.10), written as a stream: values that are known only after the
//! content follow it.
//!
//! Every file is deflated, so that a reader of the stream finds its end. Files that are already
//! compressed are deflated at level 0, which copies. Sizes beyond 4 GiB and more than 65,534
//! entries use the zip64 form. A long central directory is spilled to a file. Must not know where
//! the content comes from.

use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress};

use crate::config::{KIB, MIB};
use crate::files::archive::deflate;
use crate::files::archive::walk::Meta;
use crate::handler::temp_file::Spill;
use crate::http::date::dos;

/// Bytes of the central directory kept in memory; the rest is in a file.
const DIRECTORY_MEMORY_BYTES: usize = 256 * KIB;

/// Files from this size on use the 64-bit form: deflating may add a little, and the 32-bit form
/// ends at 4 GiB.
const LARGE_BYTES: u64 = u32::MAX as u64 - 64 * MIB as u64;

/// Marks a number or size whose value is in the zip64 field.
const ELSEWHERE: u32 = u32::MAX;

const DEFLATED: u16 = 8;
const STORED: u16 = 0;

/// Flags: sizes and checksum follow the content; the name is UTF-8.
const SIZES_FOLLOW: u16 = 1 << 3;
const NAME_IS_UTF8: u16 = 1 << 11;

/// Made on Unix, by the rules of version 4.5.
const MADE_BY: u16 = 3 << 8 | 45;

/// Extensions of file types that are already compressed.
const COMPRESSED_ALREADY: [&str; 44] = [
    "7z", "aac", "apk", "avif", "br", "bz2", "cab", "deb", "docx", "epub", "flac", "gif", "gz", "heic",
    "jar", "jpeg", "jpg", "jxl", "lz4", "m4a", "m4v", "mkv", "mov", "mp3", "mp4", "odp", "ods", "odt", "oga",
    "ogg", "ogv", "opus", "png", "pptx", "rar", "rpm", "tgz", "webm", "webp", "woff", "woff2", "xlsx", "xz",
    "zip",
];

/// The entry whose content is being written.
#[derive(Debug)]
struct Open {
    name: Vec<u8>,
    meta: Meta,
    at: u64,
    method: u16,
    crc: Crc,
    compressed: u64,
}

/// The state of a zip that is being made. Every call appends to `out`, and all of that must be sent
/// in order.
pub(super) struct Zip {
    deflate: Compress,
    copy: Compress,
    written: u64,
    open: Option<Open>,
    directory: Spill,
    entries: u64,
    /// Offset of the central directory, and its bytes written so far. `None` before it begins.
    end: Option<(u64, u64)>,
}

impl Zip {
    pub(super) fn new(level: Compression) -> Self {
        Zip {
            deflate: Compress::new(level, false),
            copy: Compress::new(Compression::none(), false),
            written: 0,
            open: None,
            directory: Spill::new(DIRECTORY_MEMORY_BYTES),
            entries: 0,
            end: None,
        }
    }

    /// Begins an entry. The name of a directory ends in a slash.
    pub(super) fn begin(&mut self, name: &[u8], meta: &Meta, out: &mut Vec<u8>) {
        // Some programs treat a backslash as a separator, so it could lead out of the folder when a
        // zip is unpacked.
        let name: Vec<u8> = name.iter().map(|&byte| if byte == b'\\' { b'_' } else { byte }).collect();
        let method = if meta.size > 0 { DEFLATED } else { STORED };
        self.open =
            Some(Open { name, meta: *meta, at: self.written, method, crc: Crc::new(), compressed: 0 });
        let before = out.len();
        if let Some(open) = &self.open {
            open.local_header(out);
            if open.method == DEFLATED {
                let compress = if open.is_compressed_already() { &mut self.copy } else { &mut self.deflate };
                compress.reset();
            }
        }
        self.written += (out.len() - before) as u64;
    }

    /// Appends content to the current entry.
    pub(super) fn content(&mut self, piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.pack(piece, FlushCompress::None, out)
    }

    /// Ends the current entry.
    pub(super) fn end_entry(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| open.method == DEFLATED) {
            self.pack(&[], FlushCompress::Finish, out)?;
        }
        let Some(open) = self.open.take() else { return Ok(()) };
        let before = out.len();
        if open.method == DEFLATED {
            open.descriptor(out);
        }
        self.written += (out.len() - before) as u64;
        self.entries += 1;
        let mut record = Vec::with_capacity(128);
        open.central_record(&mut record);
        self.directory.push(&record)
    }

    /// Appends a piece of the central directory and the end records. Returns true after the last
    /// piece.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let (start, given) = *self.end.get_or_insert((self.written, 0));
        let bytes = self.directory.read(given, out)?;
        self.end = Some((start, given + bytes));
        if bytes > 0 {
            return Ok(false);
        }
        self.end_records(start, given, out);
        Ok(true)
    }

    fn pack(&mut self, piece: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.crc.update(piece);
        let compress = if open.is_compressed_already() { &mut self.copy } else { &mut self.deflate };
        let before = out.len();
        deflate(compress, piece, flush, out)?;
        open.compressed += (out.len() - before) as u64;
        self.written += (out.len() - before) as u64;
        Ok(())
    }

    fn end_records(&self, start: u64, len: u64, out: &mut Vec<u8>) {
        let end = start + len;
        if self.entries >= u64::from(u16::MAX) || start >= u64::from(ELSEWHERE) || len >= u64::from(ELSEWHERE)
        {
            out.extend_from_slice(b"PK\x06\x06");
            put(out, 44u64.to_le_bytes());
            put(out, MADE_BY.to_le_bytes());
            put(out, 45u16.to_le_bytes());
            put(out, [0; 8]);
            for number in [self.entries, self.entries, len, start] {
                put(out, number.to_le_bytes());
            }
            out.extend_from_slice(b"PK\x06\x07\0\0\0\0");
            put(out, end.to_le_bytes());
            put(out, 1u32.to_le_bytes());
        }
        out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        let entries = u16::try_from(self.entries).unwrap_or(u16::MAX);
        put(out, entries.to_le_bytes());
        put(out, entries.to_le_bytes());
        put(out, narrow(len).to_le_bytes());
        put(out, narrow(start).to_le_bytes());
        put(out, [0; 2]);
    }
}

impl Open {
    fn is_large(&self) -> bool {
        self.meta.size >= LARGE_BYTES
    }

    fn is_compressed_already(&self) -> bool {
        let name = self.name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
        COMPRESSED_ALREADY.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Appends the fields that both headers have after their version fields.
    fn common(&self, crc: u32, compressed: u32, size: u32, extra: &[u8], out: &mut Vec<u8>) {
        let version: u16 = if self.is_large() { 45 } else { 20 };
        put(out, version.to_le_bytes());
        let follow = if self.method == DEFLATED { SIZES_FOLLOW } else { 0 };
        let utf8 = if std::str::from_utf8(&self.name).is_ok() { NAME_IS_UTF8 } else { 0 };
        put(out, (follow | utf8).to_le_bytes());
        put(out, self.method.to_le_bytes());
        let (date, time) = dos(self.meta.modified_secs);
        put(out, time.to_le_bytes());
        put(out, date.to_le_bytes());
        for number in [crc, compressed, size] {
            put(out, number.to_le_bytes());
        }
        // A path that was opened is shorter than 4 KiB.
        put(out, u16::try_from(self.name.len()).unwrap_or(0).to_le_bytes());
        put(out, u16::try_from(extra.len()).unwrap_or(0).to_le_bytes());
    }

    fn local_header(&self, out: &mut Vec<u8>) {
        let mut extra = self.time_field();
        let mut size = 0;
        if self.is_large() {
            // Present but empty: it means that the sizes after the content have 64 bits (4.3.9.2).
            put(&mut extra, [1, 0, 16, 0]);
            put(&mut extra, [0; 16]);
            size = ELSEWHERE;
        }
        out.extend_from_slice(b"PK\x03\x04");
        self.common(0, size, size, &extra, out);
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&extra);
    }

    /// Returns the field with the modification time in UTC to the second. The time in the header
    /// has two-second steps and no time zone.
    fn time_field(&self) -> Vec<u8> {
        let mut extra = vec![b'U', b'T', 5, 0, 1];
        put(&mut extra, u32::try_from(self.meta.modified_secs).unwrap_or(u32::MAX).to_le_bytes());
        extra
    }

    /// Appends the checksum and sizes that follow the content.
    fn descriptor(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PK\x07\x08");
        put(out, self.crc.sum().to_le_bytes());
        for number in [self.compressed, self.meta.size] {
            match self.is_large() {
                true => put(out, number.to_le_bytes()),
                false => put(out, narrow(number).to_le_bytes()),
            }
        }
    }

    fn central_record(&self, out: &mut Vec<u8>) {
        let mut extra = self.time_field();
        let mut wide = Vec::new();
        for number in [self.meta.size, self.compressed, self.at] {
            if number >= u64::from(ELSEWHERE) {
                put(&mut wide, number.to_le_bytes());
            }
        }
        if !wide.is_empty() {
            put(&mut extra, [1, 0, u8::try_from(wide.len()).unwrap_or(0), 0]);
            extra.extend_from_slice(&wide);
        }
        out.extend_from_slice(b"PK\x01\x02");
        put(out, MADE_BY.to_le_bytes());
        self.common(self.crc.sum(), narrow(self.compressed), narrow(self.meta.size), &extra, out);
        // No comment, the first and only disk, no internal attributes.
        put(out, [0; 6]);
        let (kind, dos_directory) = if self.meta.is_directory { (0o040_000, 0x10) } else { (0o100_000, 0) };
        let attributes: u32 = (kind | self.meta.mode()) << 16 | dos_directory;
        put(out, attributes.to_le_bytes());
        put(out, narrow(self.at).to_le_bytes());
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&extra);
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(ELSEWHERE)
}

fn put<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N]) {
    out.extend_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    const FILE: Meta = Meta { is_directory: false, executable: false, size: 0, modified_secs: 784_111_777 };

    /// Returns the output of Python's zip reader for an archive that begins at offset `start` of a
    /// file, or `None` without Python.
    fn read(archive: &[u8], start: u64) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        File::create(&path).unwrap().write_all_at(archive, start).unwrap();
        let program = "import sys, zipfile\n\
            z = zipfile.ZipFile(sys.argv[1])\n\
            i = z.infolist()\n\
            print(len(i), z.testzip(), i[-1].filename, i[-1].file_size, i[-1].header_offset)";
        let ended = Command::new("python3").args(["-c", program]).arg(&path).output().ok()?;
        let text = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        Some(text)
    }

    fn finished(mut zip: Zip, mut out: Vec<u8>) -> Vec<u8> {
        while !zip.finish(&mut out).unwrap() {}
        out
    }

    #[test]
    fn more_entries_than_sixteen_bits_count_are_all_there() {
        for count in [0xfffe, 0xffff, 70_000u32] {
            let mut zip = Zip::new(Compression::fast());
            let mut out = Vec::new();
            for number in 0..count {
                zip.begin(format!("e{number}").as_bytes(), &FILE, &mut out);
                zip.end_entry(&mut out).unwrap();
            }
            let out = finished(zip, out);
            let is_wide = out.windows(4).any(|four| four == b"PK\x06\x06");
            assert_eq!(is_wide, count >= 0xffff, "{count}");
            if let Some(said) = read(&out, 0) {
                assert!(said.starts_with(&format!("{count} None e{} 0 ", count - 1)), "{said}");
            }
        }
    }

    /// Pretends that 5 GiB were written before.
    #[test]
    fn an_entry_beyond_four_gib_is_found() {
        const START: u64 = 5 << 30;
        for name in [&b"text.txt"[..], b"copied.zip"] {
            let mut zip = Zip::new(Compression::fast());
            zip.written = START;
            let mut out = Vec::new();
            let content = b"round and round ".repeat(10_000);
            zip.begin(name, &Meta { size: content.len() as u64, ..FILE }, &mut out);
            for piece in content.chunks(7_000) {
                zip.content(piece, &mut out).unwrap();
            }
            zip.end_entry(&mut out).unwrap();
            assert_eq!(out.len() > content.len(), name.ends_with(b"zip"), "{}", out.len());
            let out = finished(zip, out);
            if let Some(said) = read(&out, START) {
                let name = String::from_utf8_lossy(name);
                assert_eq!(said, format!("1 None {name} {} {START}\n", content.len()));
            }
        }
    }

    /// Declares a large size, so that the test need not write as much.
    #[test]
    fn an_entry_of_more_than_four_gib_says_its_sizes_in_the_wide_form() {
        let mut zip = Zip::new(Compression::fast());
        let mut out = Vec::new();
        let size = (4 << 30) + 1;
        zip.begin(b"huge", &Meta { size, ..FILE }, &mut out);
        assert_eq!(&out[18..26], [0xff; 8], "both sizes are in the wide field");
        assert!(out.ends_with(&[[1, 0, 16, 0].as_slice(), &[0; 16]].concat()), "which is there, and empty");
        zip.content(b"the beginning of it", &mut out).unwrap();
        zip.end_entry(&mut out).unwrap();
        assert!(out.ends_with(&size.to_le_bytes()), "after the content they have 64 bits");
        zip.begin(b"next", &FILE, &mut out);
        zip.end_entry(&mut out).unwrap();
        let out = finished(zip, out);
        let central = out.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
        assert_eq!(&out[central + 24..central + 28], [0xff; 4]);
        assert!(out.windows(12).any(|field| *field == *[&[1, 0, 8, 0][..], &size.to_le_bytes()].concat()));
    }
}
