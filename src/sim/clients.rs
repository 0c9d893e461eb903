//! Scripts of the simulated clients: what each client sends, how, and how it ends.
//!
//! This file only makes plans. It must not know what the server does with the requests.

use std::collections::VecDeque;

use crate::sim::kernel::KernelSocket;
use crate::sim::world::{Content, Expected, MANNERS, Manner, PIPE_BYTES, Rng, Shared, SimConn, pattern};
use crate::sync::lock;

/// Adds a client with its script to the world.
pub(super) fn add_client(world: &Shared, ids: &mut u64) {
    let mut world = lock(world);
    let rng = &mut world.rng;
    let manner = MANNERS[rng.below(MANNERS.len() as u64) as usize];
    let mut conn = SimConn {
        manner,
        to_send: VecDeque::new(),
        send_marks: VecDeque::new(),
        sent: 0,
        socket: KernelSocket::new(PIPE_BYTES),
        taken: Vec::new(),
        answers_taken: 0,
        expected: Vec::new(),
        answers_at_stop: usize::MAX,
        script: Vec::new(),
        next_action_ns: 0,
        reads: manner != Manner::Staller,
        fin_when_sent: matches!(manner, Manner::HalfCloser | Manner::Quitter | Manner::Plain),
        connected: false,
        accepted: false,
        has_left: false,
        resets_on_close: false,
        is_cut_off: false,
        shut_ns: None,
        id: None,
        file_bytes: 0,
        idle: None,
        closed_for_nothing: false,
        lost_last_response: false,
    };
    if manner == Manner::Plain && rng.chance(500) {
        // Half of these clients leave the close to the server.
        conn.fin_when_sent = false;
    }
    let requests = match manner {
        Manner::Mute => 0,
        Manner::Sleeper | Manner::Dripper | Manner::Miser | Manner::Quitter => rng.below(2),
        Manner::Staller => 40,
        Manner::Plain | Manner::HalfCloser | Manner::Vanisher | Manner::Babbler => 1 + rng.below(8),
    };
    let waits = rng.chance(400);
    for _ in 0..requests {
        *ids += 1;
        let last = add_request(rng, &mut conn, *ids);
        if waits {
            conn.send_marks.push_back((conn.to_send.len(), conn.expected.len()));
        }
        if last {
            break;
        }
    }
    if conn.expected.last().is_some_and(|expected| expected.status == 400) {
        world.coverage.note("fault", "framing_flood");
    }
    let rng = &mut world.rng;
    let over = conn.expected.last().is_some_and(|expected| expected.last);
    if !over {
        add_ending(rng, &mut conn);
    }
    let pause = rng.below(20_000_000);
    conn.next_action_ns = world.now_ns + 1 + pause;
    if let Some(record) = &mut world.record {
        let requests = match conn.script.is_empty() {
            true => "no requests".to_owned(),
            false => format!("requests {}", conn.script.join(", ")),
        };
        record.plans.push(format!("{:?}, {requests}", conn.manner));
    }
    world.conns.push(conn);
}

/// Appends one request to a script. Returns true if no request can follow it.
fn add_request(rng: &mut Rng, conn: &mut SimConn, id: u64) -> bool {
    let len = if rng.chance(200) { rng.below(60_000) } else { rng.below(2000) };
    let content: Vec<u8> = (0..rng.below(6000)).map(|at| pattern(id, at)).collect();
    let ok = |content| Expected { id, status: 200, content, last: false, may_close: false };
    let get = |how: &str| format!("GET /{how}/{id}/{len} HTTP/1.1\r\nHost: sim\r\n\r\n").into_bytes();
    let (bytes, expected) = match rng.below(21) {
        0..=4 => (get("now"), ok(Content::Pattern(len))),
        5 | 6 => (get("later"), ok(Content::Pattern(len))),
        7 => (get("file"), ok(Content::Pattern(len))),
        8 => (get(["source", "offloaded"][rng.below(2) as usize]), ok(Content::Pattern(len))),
        9 => (post(rng, "collect", id, &content), ok(Content::Bytes(content))),
        10 | 11 => (post(rng, "sink", id, &content), ok(Content::Bytes(content))),
        // Content that the handler does not take: the server discards it or closes.
        12 => {
            let expected = Expected { may_close: true, ..ok(Content::Pattern(0)) };
            (post(rng, "now", id, &content), expected)
        }
        13 => {
            let head = format!("HEAD /now/{id}/{len} HTTP/1.1\r\nHost: sim\r\n\r\n");
            (head.into_bytes(), ok(Content::Nothing))
        }
        14 => (get("bye"), Expected { last: true, ..ok(Content::Pattern(len)) }),
        15 => {
            let how = ["fail", "panic"][rng.below(2) as usize];
            (get(how), Expected { status: 500, last: true, ..ok(Content::Any) })
        }
        16 => match rng.below(4) {
            0 => {
                // A small response precedes the one that fails, and is usually still queued at that
                // time.
                let first = id + (1 << 18);
                let line = format!("GET /now/{first}/5");
                conn.to_send.extend(format!("{line} HTTP/1.1\r\nHost: sim\r\n\r\n").bytes());
                conn.script.push(line);
                conn.expected.push(Expected { id: first, ..ok(Content::Pattern(5)) });
                let torn = format!("GET /torn/{id}/{} HTTP/1.1\r\nHost: sim\r\n\r\n", len.min(300));
                (torn.into_bytes(), Expected { last: true, ..ok(Content::Broken) })
            }
            1 => {
                let id = id + (1 << 20);
                let path = format!("GET /broken/{id}/50000 HTTP/1.1\r\nHost: sim\r\n\r\n");
                (path.into_bytes(), Expected { id, last: true, ..ok(Content::Broken) })
            }
            2 => {
                let expected = Expected { status: 400, last: true, ..ok(Content::Any) };
                let how = ["collect", "sink"][rng.below(2) as usize];
                (flood(rng, how, id), expected)
            }
            _ => {
                let expected = Expected { status: 413, last: true, ..ok(Content::Any) };
                (post(rng, "small", id, &[b'x'; 4000]), expected)
            }
        },
        17 | 18 => (get("watched"), ok(Content::Pattern(len))),
        19 if rng.chance(200) => (get("hung"), Expected { status: 504, ..ok(Content::Any) }),
        _ => {
            let close = format!("GET /now/{id}/{len} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n");
            (close.into_bytes(), Expected { last: true, ..ok(Content::Pattern(len)) })
        }
    };
    let last = expected.last;
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    conn.script.push(String::from_utf8_lossy(line).trim_end_matches(" HTTP/1.1").to_owned());
    conn.to_send.extend(bytes);
    conn.expected.push(expected);
    last
}

/// Returns a request with content, either with a length or chunked.
fn post(rng: &mut Rng, how: &str, id: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = format!("POST /{how}/{id}/0 HTTP/1.1\r\nHost: sim\r\n").into_bytes();
    if rng.chance(500) {
        bytes.extend(format!("Content-Length: {}\r\n\r\n", content.len()).bytes());
        bytes.extend_from_slice(content);
        return bytes;
    }
    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    let extension = if rng.chance(200) { ";a=\"b\"" } else { "" };
    let mut rest = content;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rng.size(rest.len()));
        bytes.extend(format!("{:x}{extension}\r\n", piece.len()).bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
        rest = after;
    }
    bytes.extend_from_slice(if rng.chance(200) { b"0\r\nX-Sum: 1\r\n\r\n" } else { b"0\r\n\r\n" });
    bytes
}

/// Returns a request with much more framing than content. The server must not read it to its end.
fn flood(rng: &mut Rng, how: &str, id: u64) -> Vec<u8> {
    let head = format!("POST /{how}/{id}/0 HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n");
    let extension = 30 + rng.below(1000) as usize;
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(extension));
    format!("{head}{}0\r\n\r\n", chunk.repeat(60_000 / extension)).into_bytes()
}

/// Appends the end of a script, after its valid requests.
fn add_ending(rng: &mut Rng, conn: &mut SimConn) {
    match conn.manner {
        Manner::Babbler => {
            let words: [&[u8]; 4] = [
                b"\x16\x03\x01 no HTTP",
                b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                b"\r\n\n",
                b"GET /\x00 HTTP/1.1\r\n",
            ];
            conn.to_send.extend(words[rng.below(4) as usize]);
            conn.to_send.extend(std::iter::repeat_n(b'x', rng.below(9000) as usize));
            conn.expected.push(Expected {
                id: 0,
                status: 400,
                content: Content::Any,
                last: true,
                may_close: true,
            });
        }
        Manner::Dripper | Manner::Quitter if rng.chance(500) => {
            conn.to_send.extend(b"GET /now/1/1 HTTP/1.1\r\nHost: si");
        }
        Manner::Dripper => {
            // More than the small pools have.
            conn.to_send.extend(b"GET /now/1/1 HTTP/1.1\r\nX: ");
            conn.to_send.extend(std::iter::repeat_n(b'y', 1500));
        }
        Manner::Miser | Manner::Quitter => {
            conn.to_send
                .extend(b"POST /sink/1/0 HTTP/1.1\r\nHost: sim\r\nContent-Length: 500\r\n\r\nnot all of it");
        }
        Manner::Plain
        | Manner::HalfCloser
        | Manner::Vanisher
        | Manner::Staller
        | Manner::Mute
        | Manner::Sleeper => {}
    }
}
