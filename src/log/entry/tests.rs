//! Tests of log lines: forms, times, and text that peers choose.

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
    let entry = AccessEntry { peer: None, request_line: b"", user: Some(""), user_agent: None, ..entry() };
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
        ("日\u{202e}\u{9b}31m".as_bytes(), r"\xe6\x97\xa5\xe2\x80\xae\xc2\x9b31m", r"\u65e5\u202e\u009b31m"),
        ("🦀".as_bytes(), r"\xf0\x9f\xa6\x80", r"\ud83e\udd80"),
    ];
    for (value, plain, json) in table {
        let hostile = AccessEntry { user_agent: Some(value), ..entry() };
        let mut line = Vec::new();
        format_entry(LogFormat::Combined, &hostile, &mut line);
        assert!(line.ends_with(format!("\"{plain}\"\n").as_bytes()), "{}", String::from_utf8_lossy(&line));
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
