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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> AccessEntry<'static> {
        AccessEntry {
            peer: Some("::ffff:192.0.2.7".parse().unwrap()),
            user: None,
            clf_time: b"10/Oct/2000:13:55:36 +0000",
            request_line: b"GET /a?b=c HTTP/1.1",
            host: Some(b"a.example"),
            refused: None,
            status: 200,
            body_bytes: 2326,
            referer: None,
            user_agent: Some(b"curl/8"),
            duration_us: 412,
        }
    }

    #[track_caller]
    fn check(format: LogFormat, entry: &AccessEntry<'_>, expected: &str) {
        let mut out = b"before\n".to_vec();
        format_entry(format, entry, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("before\n{expected}\n"));
    }

    #[test]
    fn a_plain_request_in_each_format() {
        let common = "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"GET /a?b=c HTTP/1.1\" 200 2326";
        check(LogFormat::Common, &entry(), common);
        check(LogFormat::Combined, &entry(), &format!("{common} \"-\" \"curl/8\""));
        let with_host = format!("a.example:80 {common} \"-\" \"curl/8\"");
        check(LogFormat::VhostCombined, &entry(), &with_host);
        let json = "{\"time\":\"2000-10-10T13:55:36Z\",\"peer\":\"192.0.2.7\",\"host\":\"a.example\",\"method\":\"GET\",\
                    \"target\":\"/a?b=c\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes\":2326,\"referer\":null,\
                    \"user_agent\":\"curl/8\",\"us\":412}";
        check(LogFormat::Json, &entry(), json);
        let refused = AccessEntry { host: None, refused: Some("a bad \"escape\""), status: 400, ..entry() };
        let mut line = Vec::new();
        format_entry(LogFormat::Json, &refused, &mut line);
        let line = String::from_utf8(line).unwrap();
        assert!(
            line.contains("\"host\":null,") && line.contains(",\"refused\":\"a bad \\\"escape\\\"\",\"us\":"),
            "{line}"
        );
    }

    #[test]
    fn a_host_in_front_has_a_port_and_no_space() {
        for (host, expected) in [
            (&b"a.example"[..], "a.example:80"),
            (b"a.example:8080", "a.example:8080"),
            (b"a.example:", "a.example:80"),
            (b"[::1]", "[::1]:80"),
            (b"[::1]:8080", "[::1]:8080"),
            (b"", "-:-"),
            (b"a b\"\x1b", r"a\x20b\x22\x1b:80"),
        ] {
            let mut out = Vec::new();
            host_and_port(host, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_missing_is_a_dash() {
        let entry =
            AccessEntry { peer: None, request_line: b"", user: Some(""), user_agent: None, ..entry() };
        check(LogFormat::Combined, &entry, "- - - [10/Oct/2000:13:55:36 +0000] \"-\" 200 2326 \"-\" \"-\"");
    }

    #[test]
    fn hostile_values_stay_inside_their_field() {
        let table: [(&[u8], &str, &str); 8] = [
            (b"a\" 200 5\n127.0.0.1 - - FORGED", r"a\x22 200 5\x0a127.0.0.1 - - FORGED", "\\\" 200 5\\u000a"),
            (b"\r\nGET / HTTP/1.1", r"\x0d\x0aGET / HTTP/1.1", r"\u000d\u000aGET"),
            (b"\x1b[2J\x07", r"\x1b[2J\x07", r"\u001b[2J\u0007"),
            (b"\\x41\\", r"\x5cx41\x5c", r"\\x41\\"),
            (b"\0\x7f\t", r"\x00\x7f\x09", r"\u0000\u007f\u0009"),
            (b"caf\xe9 \xff", r"caf\xe9 \xff", r"caf\u00e9 \u00ff"),
            (
                "日\u{202e}\u{9b}31m".as_bytes(),
                r"\xe6\x97\xa5\xe2\x80\xae\xc2\x9b31m",
                r"\u65e5\u202e\u009b31m",
            ),
            ("🦀".as_bytes(), r"\xf0\x9f\xa6\x80", r"\ud83e\udd80"),
        ];
        for (value, plain, json) in table {
            let hostile = AccessEntry { user_agent: Some(value), ..entry() };
            let mut line = Vec::new();
            format_entry(LogFormat::Combined, &hostile, &mut line);
            assert!(
                line.ends_with(format!("\"{plain}\"\n").as_bytes()),
                "{}",
                String::from_utf8_lossy(&line)
            );
            line.clear();
            format_entry(LogFormat::Json, &hostile, &mut line);
            assert!(String::from_utf8(line).unwrap().contains(json));
        }
    }

    #[test]
    fn a_user_name_cannot_shift_the_columns() {
        let entry = AccessEntry { user: Some("eve [x] \"y\""), ..entry() };
        check(
            LogFormat::Common,
            &entry,
            "192.0.2.7 - eve\\x20[x]\\x20\\x22y\\x22 [10/Oct/2000:13:55:36 +0000] \"GET /a?b=c HTTP/1.1\" 200 2326",
        );
    }

    #[test]
    fn request_lines_split_even_when_they_are_none() {
        let table: [(&str, [&str; 3]); 5] = [
            ("GET / HTTP/1.1", ["GET", "/", "HTTP/1.1"]),
            ("GET /a b HTTP/1.1", ["GET", "/a b", "HTTP/1.1"]),
            ("GET /", ["GET", "/", ""]),
            ("garbage", ["", "garbage", ""]),
            ("", ["", "", ""]),
        ];
        for (line, parts) in table {
            let split = split_request_line(line.as_bytes());
            assert_eq!(split, (parts[0].as_bytes(), parts[1].as_bytes(), parts[2].as_bytes()), "{line}");
        }
    }

    #[test]
    fn the_date_field_becomes_a_log_date() {
        let date = clf_time(b"Tue, 10 Oct 2000 13:55:36 GMT");
        assert_eq!(date, Some(*b"10/Oct/2000:13:55:36 +0000"));
        assert_eq!(clf_time(b"today"), None);
        assert_eq!(clf_time(b"Tue, 10 Oct 2000 13:55:36 CET"), None);
    }

    #[test]
    fn an_odd_time_is_escaped_too() {
        let entry = AccessEntry { clf_time: b"1]\n\"", ..entry() };
        let mut line = Vec::new();
        format_entry(LogFormat::Json, &entry, &mut line);
        assert!(line.starts_with(br#"{"time":"1]\u000a\"""#));
        line.clear();
        format_entry(LogFormat::Common, &entry, &mut line);
        assert!(line.starts_with(br#"192.0.2.7 - - [1\x5d\x0a\x22] "#));
    }

    proptest! {
        #[test]
        fn every_entry_is_one_harmless_line(
            request_line in prop::collection::vec(any::<u8>(), 0..80),
            time in prop::collection::vec(any::<u8>(), 0..30),
            referer in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
            agent in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
            host in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
            user in prop::option::of(any::<String>()),
        ) {
            let entry = AccessEntry {
                user: user.as_deref(), clf_time: &time, request_line: &request_line,
                referer: referer.as_deref(), user_agent: agent.as_deref(), host: host.as_deref(), ..entry()
            };
            for format in [LogFormat::Common, LogFormat::Combined, LogFormat::VhostCombined, LogFormat::Json] {
                let mut line = Vec::new();
                format_entry(format, &entry, &mut line);
                let inside = &line[..line.len() - 1];
                prop_assert_eq!(line.last(), Some(&b'\n'));
                prop_assert!(inside.iter().all(|byte| matches!(byte, 0x20..0x7f)));
                if format == LogFormat::Json {
                    let value: serde_json::Value = serde_json::from_slice(inside).unwrap();
                    prop_assert_eq!(value["status"].as_u64(), Some(200));
                    prop_assert_eq!(value["user"].as_str(), user.as_deref());
                    if let Some(agent) = agent.as_deref().and_then(|agent| str::from_utf8(agent).ok()) {
                        prop_assert_eq!(value["user_agent"].as_str(), Some(agent));
                    }
                } else {
                    let quotes = if format == LogFormat::Common { 2 } else { 6 };
                    let columns = if format == LogFormat::VhostCombined { 2 } else { 1 };
                    let before = String::from_utf8_lossy(inside);
                    prop_assert_eq!(before.split(" - ").next().map(|text| text.split(' ').count()), Some(columns));
                    prop_assert_eq!(inside.iter().filter(|byte| **byte == b'"').count(), quotes);
                }
            }
        }
    }
}
