//! The tar format: ustar headers (POSIX 1003.1), preceded by a pax header if an entry does not fit.
//!
//! Bytes only: this file must not know where the content comes from. A header declares the size, so
//! the caller must deliver that many bytes or abort the archive.

use crate::files::archive::walk::Meta;

/// Size of a block. A tar consists of blocks.
const BLOCK_BYTES: usize = 512;

/// The largest number of eleven octal digits: a size of 8 GiB less one.
const OCTAL_MAX: u64 = 0o777_7777_7777;

/// Length of a name in a header, in bytes.
const NAME_BYTES: usize = 100;

/// Appends the header of an entry. The name of a directory ends in a slash.
pub(super) fn header(name: &[u8], meta: &Meta, out: &mut Vec<u8>) {
    let records = pax_records(name, meta);
    if !records.is_empty() {
        let len = records.len() as u64;
        block(b"pax", b'x', &Meta { size: len, ..*meta }, out);
        out.extend_from_slice(&records);
        padding(len, out);
    }
    block(name, if meta.is_directory { b'5' } else { b'0' }, meta, out);
}

/// Appends the zeros that fill the last block of a content of `len` bytes.
pub(super) fn padding(len: u64, out: &mut Vec<u8>) {
    let over = (len % BLOCK_BYTES as u64) as usize;
    if over > 0 {
        out.resize(out.len() + BLOCK_BYTES - over, 0);
    }
}

/// Appends the end of the archive: two empty blocks.
pub(super) fn end(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK_BYTES, 0);
}

/// Returns the records for values that do not fit the ustar header: long names, names that are not
/// ASCII, numbers of more than eleven octal digits.
fn pax_records(name: &[u8], meta: &Meta) -> Vec<u8> {
    let mut records = Vec::new();
    if name.len() > NAME_BYTES || !name.is_ascii() {
        // Names that are not UTF-8 are written as they are, because GNU tar warns about the record
        // that would mark them.
        record("path", name, &mut records);
    }
    if meta.size > OCTAL_MAX {
        record("size", meta.size.to_string().as_bytes(), &mut records);
    }
    if meta.modified_secs > OCTAL_MAX {
        record("mtime", meta.modified_secs.to_string().as_bytes(), &mut records);
    }
    records
}

/// Appends one record: its length in decimal, including the length itself, then `key=value` and a
/// line feed.
fn record(key: &str, value: &[u8], records: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    records.extend_from_slice(format!("{len} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn block(name: &[u8], kind: u8, meta: &Meta, out: &mut Vec<u8>) {
    let mut block = [0; BLOCK_BYTES];
    // A longer name is cut off here, because the pax header contains all of it.
    let shown = &name[..name.len().min(NAME_BYTES)];
    block[..shown.len()].copy_from_slice(shown);
    octal(u64::from(meta.mode()), &mut block[100..108]);
    // Owner and group stay private: 0 (root) is always valid, and only root would apply it.
    octal(0, &mut block[108..116]);
    octal(0, &mut block[116..124]);
    octal(meta.size.min(OCTAL_MAX), &mut block[124..136]);
    octal(meta.modified_secs.min(OCTAL_MAX), &mut block[136..148]);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    // The checksum is computed with spaces in its own field.
    block[148..156].fill(b' ');
    let sum = block.iter().map(|&byte| u64::from(byte)).sum();
    octal(sum, &mut block[148..155]);
    out.extend_from_slice(&block);
}

/// Writes octal digits that fill the field up to the NUL at its end.
fn octal(mut number: u64, field: &mut [u8]) {
    let Some((last, digits)) = field.split_last_mut() else { return };
    *last = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 8) as u8;
        number /= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for len in 0..2000 {
            let mut records = Vec::new();
            record("path", &vec![b'x'; len], &mut records);
            let text = String::from_utf8(records).unwrap();
            let (said, _) = text.split_once(' ').unwrap();
            assert_eq!(said.parse(), Ok(text.len()), "{len}");
        }
    }

    #[test]
    fn numbers_beyond_the_header_are_said_in_front_of_it() {
        let meta = Meta { is_directory: false, executable: false, size: 9 << 30, modified_secs: 1 << 34 };
        let mut out = Vec::new();
        header(b"big", &meta, &mut out);
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains("19 size=9663676416\n") && text.contains("21 mtime=17179869184\n"), "{text}");
        assert_eq!(out.len(), 3 * BLOCK_BYTES);
        out.clear();
        header(b"small", &Meta { size: OCTAL_MAX, modified_secs: 0, ..meta }, &mut out);
        assert_eq!(out.len(), BLOCK_BYTES);
    }
}
