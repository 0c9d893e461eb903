//! The line for one request in the access log: common, combined, vhost-combined and JSON format.
//!
//! This file handles only values and bytes. It must not know where lines go or what time it is. The
//! peer chose nearly every value, so all are escaped: a log that can be forged is worse than none,
//! and a terminal that shows it interprets escape sequences.

use std::io::Write as _;
use std::net::IpAddr;

use crate::config::LogFormat;
use crate::text;

/// Values for the line of one completed request.
#[derive(Clone, Debug)]
pub struct AccessEntry<'a> {
    /// The peer's address; `None` on a Unix socket.
    pub peer: Option<IpAddr>,
    /// Authenticated user, if any.
    pub user: Option<&'a str>,
    /// Time of the request, as `10/Oct/2000:13:55:36 +0000`: see [`clf_time`].
    pub clf_time: &'a [u8],
    /// Method, target and version separated by single spaces, as received. For a refused request,
    /// the part of its first line that was read; empty if nothing was read.
    pub request_line: &'a [u8],
    /// The authority of the target, or the `Host` header, as received.
    pub host: Option<&'a [u8]>,
    /// The reason why the request was refused before a handler saw it.
    pub refused: Option<&'a str>,
    /// Status of the response.
    pub status: u16,
    /// Bytes of body sent, without head and chunk framing.
    pub body_bytes: u64,
    /// `Referer` header as received.
    pub referer: Option<&'a [u8]>,
    /// `User-Agent` header as received.
    pub user_agent: Option<&'a [u8]>,
    /// Microseconds from the turn that read the request to the last byte of the response. For a
    /// head that stayed incomplete, they count from its first byte.
    pub duration_us: u64,
}

/// Appends `entry` to `out` as exactly one line of printable ASCII, with its line feed.
pub fn format_entry(format: LogFormat, entry: &AccessEntry<'_>, out: &mut Vec<u8>) {
    match format {
        LogFormat::Common => common(entry, out),
        LogFormat::Combined => combined(entry, out),
        LogFormat::VhostCombined => {
            host_and_port(entry.host.unwrap_or_default(), out);
            out.push(b' ');
            combined(entry, out);
        }
        LogFormat::Json => json(entry, out),
    }
    out.push(b'\n');
}

/// Converts the `Date` header that a loop renders once a second to the date of the access log:
/// `Tue, 10 Oct 2000 13:55:36 GMT` becomes `10/Oct/2000:13:55:36 +0000`. Returns `None` for any
/// other form.
pub fn clf_time(http_date: &[u8]) -> Option<[u8; 26]> {
    let date: &[u8; 29] = http_date.try_into().ok()?;
    let mut out = *b"dd/mmm/yyyy:hh:mm:ss +0000";
    out[0..2].copy_from_slice(&date[5..7]);
    out[3..6].copy_from_slice(&date[8..11]);
    out[7..11].copy_from_slice(&date[12..16]);
    out[12..20].copy_from_slice(&date[17..25]);
    date.ends_with(b" GMT").then_some(out)
}

fn common(entry: &AccessEntry<'_>, out: &mut Vec<u8>) {
    peer(entry.peer, out);
    out.extend_from_slice(b" - ");
    match entry.user {
        None | Some("") => out.push(b'-'),
        Some(user) => escape_field(user.as_bytes(), b' ', out),
    }
    out.extend_from_slice(b" [");
    escape_field(entry.clf_time, b']', out);
    out.extend_from_slice(b"] ");
    quoted(Some(entry.request_line).filter(|line| !line.is_empty()), out);
    out.push(b' ');
    text::push_decimal(out, entry.status.into());
    out.push(b' ');
    text::push_decimal(out, entry.body_bytes);
}

fn combined(entry: &AccessEntry<'_>, out: &mut Vec<u8>) {
    common(entry, out);
    out.push(b' ');
    quoted(entry.referer, out);
    out.push(b' ');
    quoted(entry.user_agent, out);
}

/// Appends `host:port`, as in Apache's `vhost_combined`, because readers of that format expect both
/// parts. If no port is given, it is that of the scheme (RFC 9110 section 4.2.1).
fn host_and_port(authority: &[u8], out: &mut Vec<u8>) {
    if authority.is_empty() {
        out.extend_from_slice(b"-:-");
        return;
    }
    escape_field(authority, b' ', out);
    // In `[::1]` the last colon is part of the address.
    let behind = memchr::memrchr(b']', authority).map_or(authority, |end| &authority[end..]);
    match memchr::memrchr(b':', behind) {
        None => out.extend_from_slice(b":80"),
        Some(colon) if colon + 1 == behind.len() => out.extend_from_slice(b"80"),
        Some(_) => {}
    }
}

fn json(entry: &AccessEntry<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    iso_time(entry.clf_time, out);
    out.extend_from_slice(b"\",\"peer\":\"");
    peer(entry.peer, out);
    out.push(b'"');
    if entry.user.is_some() {
        json_member("user", entry.user.map(str::as_bytes), out);
    }
    let (method, target, protocol) = split_request_line(entry.request_line);
    json_member("host", entry.host, out);
    json_member("method", Some(method), out);
    json_member("target", Some(target), out);
    json_member("protocol", Some(protocol), out);
    put(out, format_args!(",\"status\":{},\"bytes\":{}", entry.status, entry.body_bytes));
    json_member("referer", entry.referer, out);
    json_member("user_agent", entry.user_agent, out);
    if let Some(why) = entry.refused {
        json_member("refused", Some(why.as_bytes()), out);
    }
    put(out, format_args!(",\"us\":{}}}", entry.duration_us));
}

/// Appends the address. An IPv4 peer on a dual-stack socket appears as IPv4.
fn peer(address: Option<IpAddr>, out: &mut Vec<u8>) {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                text::push_decimal(out, octet.into());
            }
        }
        Some(IpAddr::V6(address)) => put(out, format_args!("{address}")),
        None => out.push(b'-'),
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}

fn quoted(value: Option<&[u8]>, out: &mut Vec<u8>) {
    out.push(b'"');
    match value {
        None => out.push(b'-'),
        Some(value) => escape_field(value, b'"', out),
    }
    out.push(b'"');
}

/// Appends `value` so that it cannot end the field that contains it: every byte becomes `\xHH`
/// except printable ASCII other than the quote, the backslash and `stop`.
fn escape_field(value: &[u8], stop: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let is_plain = |byte| matches!(byte, 0x20..0x7f) && byte != b'"' && byte != b'\\' && byte != stop;
    let plain = |block| {
        let odd = text::equal(block, b'"') | text::equal(block, b'\\') | text::equal(block, stop);
        text::within(block, 0x20, 0x7e) & !odd
    };
    let mut rest = value;
    loop {
        let (run, odd) = rest.split_at(text::span(rest, plain, is_plain));
        out.extend_from_slice(run);
        let Some((byte, behind)) = odd.split_first() else { return };
        let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        out.extend_from_slice(b"\\x");
        out.extend_from_slice(&digits);
        rest = behind;
    }
}

fn json_member(name: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
    put(out, format_args!(",\"{name}\":"));
    match value {
        None => out.extend_from_slice(b"null"),
        Some(value) => {
            out.push(b'"');
            escape_json(value, out);
            out.push(b'"');
        }
    }
}

/// Appends `value` as the inside of a JSON string, in ASCII. Bytes that are not UTF-8 are read as
/// Latin-1, which was the encoding of header values before UTF-8.
fn escape_json(value: &[u8], out: &mut Vec<u8>) {
    for chunk in value.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                ' '..='~' => out.push(letter as u8),
                other => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        put(out, format_args!("\\u{unit:04x}"));
                    }
                }
            }
        }
        for byte in chunk.invalid() {
            put(out, format_args!("\\u{byte:04x}"));
        }
    }
}

/// Appends `10/Oct/2000:13:55:36 +0000` as `2000-10-10T13:55:36Z`, and any other text as it is.
fn iso_time(clf: &[u8], out: &mut Vec<u8>) {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let month = clf.get(3..6).and_then(|name| MONTHS.iter().position(|month| *month == name));
    let (Some(month), true) = (month, clf.len() == 26 && clf.ends_with(b" +0000")) else {
        escape_json(clf, out);
        return;
    };
    escape_json(&clf[7..11], out);
    put(out, format_args!("-{:02}-", month + 1));
    escape_json(&clf[0..2], out);
    out.push(b'T');
    escape_json(&clf[12..20], out);
    out.push(b'Z');
}

/// Returns method, target and version. A line without three parts belongs to a refused request; its
/// text becomes the target.
fn split_request_line(line: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let Some(first) = memchr::memchr(b' ', line) else { return (b"", line, b"") };
    let (method, rest) = (&line[..first], &line[first + 1..]);
    match memchr::memrchr(b' ', rest) {
        Some(last) => (method, &rest[..last], &rest[last + 1..]),
        None => (method, rest, b""),
    }
}

#[cfg(test)]
mod tests;
