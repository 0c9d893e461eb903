//! Checks that a server responds correctly, byte by byte, before anything is timed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::Fallible;
use super::load::{Ask, Expected, pattern};

/// Maximum number of different requests that are checked per scenario.
const ASKS_MAX: usize = 50;

/// Sends every request and compares every byte of the responses.
///
/// The first and the last request are sent twice. All requests use one connection, unless the
/// server `closes` it after each response.
pub fn check(port: u16, asks: &[Ask], closes: bool) -> Fallible<()> {
    let mut stream = None;
    for ask in asks.iter().take(ASKS_MAX).chain(asks.first()).chain(asks.last()) {
        let open = match stream.take() {
            Some(open) if !closes => open,
            _ => connect(port)?,
        };
        stream = Some(ask_once(open, ask)?);
    }
    Ok(())
}

fn connect(port: u16) -> Fallible<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn ask_once(mut stream: TcpStream, ask: &Ask) -> Fallible<TcpStream> {
    stream.write_all(ask.head.as_bytes())?;
    stream.write_all(&pattern(ask.content_bytes))?;
    let expected = match &ask.expected {
        Expected::Pattern(bytes) => pattern(*bytes),
        Expected::Text(text) => text.clone().into_bytes(),
    };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = format!("content-length: {}", expected.len());
    if !head.starts_with("http/1.1 200 ") || !head.lines().any(|line| line == length) {
        return Err(format!("expected a head with status 200 and {length}, received: {head}").into());
    }
    let mut content = vec![0; expected.len()];
    stream.read_exact(&mut content)?;
    if content == expected { Ok(stream) } else { Err("the body differs from the expected one".into()) }
}
