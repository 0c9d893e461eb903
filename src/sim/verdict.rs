//! The verdict on a client: whether it received each response once, complete, and in order.
//!
//! This file must not know how the server works.

use std::collections::BTreeSet;

use crate::sim::kernel::End;
use crate::sim::world::{Content, Expected, Manner, SimConn, pattern};

/// Compares the bytes that a client received with the responses it was owed.
pub(super) fn verdict(conn: &SimConn, made: &BTreeSet<u64>, tight: bool) -> Result<(), String> {
    if conn.lost_last_response {
        return Err("the server closed before the client had received the last response".into());
    }
    let is_reset =
        conn.socket.client_end() == End::Reset || conn.socket.server_end() == End::Reset || conn.is_cut_off;
    let is_closed = conn.socket.is_closed();
    let mut rest = conn.taken.as_slice();
    let mut expected = conn.expected.iter();
    let mut missing = None;
    let mut over = false;
    // Refused content may be too long to be discarded. Then that response was the last one.
    let mut refused = false;
    for (number, wanted) in expected.by_ref().enumerate() {
        match take_answer(&mut rest, wanted, number >= conn.answers_at_stop)? {
            Taken::Whole => {}
            Taken::Busy => refused = true,
            Taken::Over => {
                over = true;
                break;
            }
            Taken::Cut => {
                missing = Some(wanted);
                break;
            }
        }
    }
    if !rest.is_empty() && missing.is_none() && !over {
        // An error response at the end (408, or 400 for an incomplete request) is allowed. A
        // response without a request is not.
        let last = Expected { id: 0, status: 0, content: Content::Any, last: true, may_close: true };
        take_answer(&mut rest, &last, true)?;
        // A reset may have destroyed the end of it.
        if !rest.is_empty() && !is_reset {
            return Err(format!("{} bytes follow the last response", rest.len()));
        }
    }
    let Some(wanted) = missing else { return Ok(()) };
    let is_lossy = is_reset || conn.manner == Manner::Staller;
    if made.contains(&wanted.id) && !is_lossy {
        return Err(format!("the response to {} was made and is incomplete", wanted.id));
    }
    refused |= conn
        .expected
        .iter()
        .take_while(|expected| expected.id != wanted.id)
        .any(|expected| expected.may_close);
    let excused = is_reset
        || refused
        || !conn.accepted
        || wanted.last
        || conn.manner == Manner::Staller
        || conn.manner == Manner::Vanisher
        // If slots are short, a client that has sent no byte may be closed without a response.
        || (is_closed && conn.sent == 0)
        // A stop, an eviction or a timeout ends a connection between two responses, never inside
        // one. Without a buffer for the requests behind the current one, its response is the last.
        || (rest.is_empty() && is_closed && (tight || !conn.fin_when_sent || conn.answers_at_stop != usize::MAX));
    if excused { Ok(()) } else { Err(format!("no complete response to {}", wanted.id)) }
}

/// How one response was received.
pub(super) enum Taken {
    Whole,
    /// A 503 response came instead, and the connection continues.
    Busy,
    /// The response came, or a 4xx or 503 instead, and the connection ended with it.
    Over,
    Cut,
}

/// Takes one response from the front of `rest` and compares it.
fn take_answer(rest: &mut &[u8], wanted: &Expected, stopping: bool) -> Result<Taken, String> {
    let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else { return Ok(Taken::Cut) };
    let head = String::from_utf8_lossy(&rest[..end]).into_owned();
    let status: u16 = head.get(9..12).and_then(|code| code.parse().ok()).ok_or("no status line")?;
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim_start_matches(": ").to_owned())
    };
    // An incomplete error response that came instead has its own content.
    let cut = |part: &[u8]| match status == wanted.status {
        true => check_part(part, wanted).map(|()| Taken::Cut),
        false => Ok(Taken::Cut),
    };
    let mut body = &rest[end + 4..];
    let mut content = Vec::new();
    if !matches!(wanted.content, Content::Nothing) || status != 200 {
        if field("Transfer-Encoding").is_some() {
            if !take_chunks(&mut body, &mut content)? {
                return cut(&content);
            }
        } else {
            let len: usize = field("Content-Length").and_then(|len| len.parse().ok()).unwrap_or(0);
            if body.len() < len {
                return cut(body);
            }
            content.extend_from_slice(&body[..len]);
            body = &body[len..];
        }
    }
    *rest = body;
    let closes = field("Connection").is_some_and(|value| value == "close");
    if status != wanted.status {
        let refusal = closes && matches!(status, 400 | 408 | 413 | 431 | 500 | 503);
        // A refused job leads to a 503 response, and the connection continues.
        if refusal || status == 503 {
            return Ok(if closes { Taken::Over } else { Taken::Busy });
        }
        return Err(format!("status {status} for {}, not {}", wanted.id, wanted.status));
    }
    if status == 200 && field("X-Id") != Some(wanted.id.to_string()) {
        return Err(format!("response {:?} instead of {}", field("X-Id"), wanted.id));
    }
    if closes && !(wanted.last || wanted.may_close || stopping) {
        return Err(format!("the response to {} closes without a reason", wanted.id));
    }
    let end = if closes { Taken::Over } else { Taken::Whole };
    match &wanted.content {
        Content::Pattern(len) if content.len() as u64 != *len => {
            Err(format!("{} bytes of {len} for {}", content.len(), wanted.id))
        }
        Content::Broken => Err(format!("{} should have broken off", wanted.id)),
        Content::Pattern(_) | Content::Bytes(_) => check_part(&content, wanted).map(|()| end),
        Content::Any | Content::Nothing => Ok(end),
    }
}

/// Checks that `content` is the beginning of the expected content.
fn check_part(content: &[u8], wanted: &Expected) -> Result<(), String> {
    let right = match &wanted.content {
        Content::Bytes(bytes) => bytes.starts_with(content),
        Content::Pattern(_) => {
            content.iter().enumerate().all(|(at, &byte)| byte == pattern(wanted.id, at as u64))
        }
        Content::Any | Content::Broken | Content::Nothing => true,
    };
    if right { Ok(()) } else { Err(format!("wrong bytes in the response to {}", wanted.id)) }
}

/// Takes chunks from the front of `body`. Returns false if they are incomplete.
fn take_chunks(body: &mut &[u8], content: &mut Vec<u8>) -> Result<bool, String> {
    loop {
        let Some(end) = memchr::memmem::find(body, b"\r\n") else { return Ok(false) };
        let digits = String::from_utf8_lossy(&body[..end]);
        let size = usize::from_str_radix(&digits, 16).map_err(|_| format!("bad chunk size {digits:?}"))?;
        let after = &body[end + 2..];
        if after.len() < size + 2 {
            content.extend_from_slice(&after[..after.len().min(size)]);
            return Ok(false);
        }
        content.extend_from_slice(&after[..size]);
        *body = &after[size + 2..];
        if size == 0 {
            return Ok(true);
        }
    }
}
