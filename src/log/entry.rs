//! One request as one line: the common, combined, vhost-combined and JSON forms of the access log.
//!
//! Values and bytes only. It must not know where lines go nor what time it is. Nearly everything
//! here was chosen by the peer, so nothing of it reaches the line unescaped: a log that can be
//! forged is worse than none, and the terminal it is read on obeys escape sequences.

use crate::config::LogFormat;
use crate::text;
use std::io::Write as _;
use std::net::IpAddr;

/// What the access log says about one answered request.
#[derive(Clone, Debug)]
pub struct AccessEntry<'a> {
    /// The peer's address; `None` on a Unix socket.
    pub peer: Option<IpAddr>,
    /// Who the peer has proved to be, if anyone.
    pub user: Option<&'a str>,
    /// When the request came, as `10/Oct/2000:13:55:36 +0000`: see [`clf_time`].
    pub clf_time: &'a [u8],
    /// Method, target and version with single spaces between, as received. For a refused request,
    /// its first line as far as it was read; empty if nothing was.
    pub request_line: &'a [u8],
    /// The authority of the target, or the `Host` header, as received.
    pub host: Option<&'a [u8]>,
    /// The reason why the request was refused before a handler saw it.
    pub refused: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of content sent, without head and chunk framing.
    pub body_bytes: u64,
    /// The `Referer` field as received.
    pub referer: Option<&'a [u8]>,
    /// The `User-Agent` field as received.
    pub user_agent: Option<&'a [u8]>,
    /// Microseconds from the turn in which the request was read to the last byte of the answer. For
    /// a head that stayed incomplete they count from its first byte.
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

/// The access log's form of a date, made from the `Date` field a loop renders once a second anyway:
/// `Tue, 10 Oct 2000 13:55:36 GMT` becomes `10/Oct/2000:13:55:36 +0000`. `None` if it is not of
/// that form.
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

/// Appends `host:port`, as in Apache's `vhost_combined`: readers of that form expect both parts.
/// Without a port it is that of the scheme (RFC 9110 section 4.2.1).
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

/// A peer on a dual-stack socket is shown as the IPv4 address it has.
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
    // A Vec takes everything: there is no error to lose.
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

/// Writes `value` so that it cannot end the field it stands in: everything but printable ASCII, the
/// quote, the backslash and `stop` become `\xHH`.
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

/// Writes `value` as the inside of a JSON string, in ASCII. Bytes that are not UTF-8 are read as
/// Latin-1, which is what a field value was before it was UTF-8.
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

/// `10/Oct/2000:13:55:36 +0000` as `2000-10-10T13:55:36Z`; anything else is shown as it is.
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

/// Method, target and version. What does not have three parts was refused anyway: its text stays
/// readable.
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
