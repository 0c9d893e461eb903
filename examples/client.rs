//! HTTP client on the same kind of loop. It logs in to the `login_session` example over one
//! persistent connection and keeps cookies in a jar.
//!
//! Start `cargo run --example login_session`, then `cargo run --example client -- ADDRESS`, for
//! example with the address `127.0.0.1:12345`. `--clients N` runs that number of clients on one
//! thread. Each client is a socket, its unsent bytes and a `ReplyReader`, and the loop moves bytes
//! when the poll reports readiness. The library parses messages and cookies without any I/O. The
//! loop is in this file.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use whirligig::client::jar::{Jar, RequestUri};
use whirligig::client::reply::{ReplyEvent, ReplyHead, ReplyReader};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Requests in order: method, path, form. The client follows redirects in between.
const STEPS: [(&str, &str, &str); 5] = [
    ("GET", "/members", ""),
    ("POST", "/login", "user=anna&password=secret"),
    ("GET", "/admin", ""),
    ("POST", "/logout", ""),
    ("GET", "/members", ""),
];

const CONTENT_BYTES_MAX: usize = 1 << 20;
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// One client: its connection, and its unfinished input and output.
struct Client {
    socket: TcpStream,
    host: String,
    reader: ReplyReader,
    output: Vec<u8>,
    /// Received bytes that are not used yet.
    input: Vec<u8>,
    head: Option<ReplyHead>,
    content: Vec<u8>,
    jar: Jar,
    asked: (String, String),
    steps: VecDeque<(&'static str, String, &'static str)>,
    log: Vec<String>,
}

#[expect(clippy::disallowed_methods, reason = "a separate program with its own clock")]
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl Client {
    fn connect(addr: SocketAddr) -> Outcome<Client> {
        let mut client = Client {
            socket: TcpStream::connect(addr)?,
            host: addr.to_string(),
            reader: ReplyReader::new(),
            output: Vec::new(),
            input: Vec::new(),
            head: None,
            content: Vec::new(),
            jar: Jar::new(),
            asked: Default::default(),
            steps: STEPS.iter().map(|(method, path, form)| (*method, (*path).to_owned(), *form)).collect(),
            log: Vec::new(),
        };
        client.ask_next();
        Ok(client)
    }

    fn uri<'a>(host: &'a str, path: &'a str) -> RequestUri<'a> {
        RequestUri { host: host.rsplit_once(':').map_or(host, |(host, _)| host), path, secure: false }
    }

    /// Appends the next request to the output. Returns false if there is none.
    fn ask_next(&mut self) -> bool {
        let Some((method, path, form)) = self.steps.pop_front() else { return false };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        if let Some(cookies) = self.jar.field(Client::uri(&self.host, &path), now()) {
            head += &format!("Cookie: {cookies}\r\n");
        }
        if method == "POST" {
            let length = form.len();
            head +=
                &format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n");
        }
        self.output.extend_from_slice(format!("{head}\r\n{form}").as_bytes());
        self.reader.expect(method);
        self.asked = (method.to_owned(), path);
        true
    }

    /// Moves bytes until the socket would block. Returns true once all requests have their
    /// responses.
    fn pump(&mut self) -> Outcome<bool> {
        let mut piece = [0; 4096];
        loop {
            while !self.output.is_empty() {
                match self.socket.write(&self.output) {
                    Ok(taken) => drop(self.output.drain(..taken)),
                    // A socket that is still connecting returns NotConnected. An event will follow.
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                        return Ok(false);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            match self.socket.read(&mut piece) {
                Ok(0) if self.reader.end_of_input() => {
                    return Err("the server closed a kept-alive connection".into());
                }
                Ok(0) => return Err("the connection ended within a response".into()),
                Ok(count) => {
                    self.input.extend_from_slice(&piece[..count]);
                    if self.take_input()? {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Parses received bytes. Returns true once the last response is complete.
    fn take_input(&mut self) -> Outcome<bool> {
        loop {
            let (used, event) = self.reader.next(&self.input)?;
            let (mut complete, mut needs_more) = (false, false);
            match event {
                ReplyEvent::NeedMore => needs_more = true,
                ReplyEvent::Interim(_) => {}
                ReplyEvent::Head(head) => self.head = Some(head),
                ReplyEvent::Content(piece) if self.content.len() + piece.len() > CONTENT_BYTES_MAX => {
                    return Err("the response is too large".into());
                }
                ReplyEvent::Content(piece) => self.content.extend_from_slice(piece),
                ReplyEvent::End => complete = true,
            }
            // Removes the used bytes, whichever event they produced.
            self.input.drain(..used);
            if needs_more {
                return Ok(false);
            }
            if complete && !self.answered()? {
                return Ok(true);
            }
        }
    }

    /// Stores the cookies of a complete response, then follows its redirect or sends the next
    /// request. Returns false if nothing is left to send.
    fn answered(&mut self) -> Outcome<bool> {
        let head = self.head.take().ok_or("content without a head")?;
        let (method, path) = std::mem::take(&mut self.asked);
        for set_cookie in head.all("set-cookie") {
            self.jar.store(Client::uri(&self.host, &path), set_cookie, now());
        }
        let content = std::mem::take(&mut self.content);
        let first = String::from_utf8_lossy(&content).lines().next().unwrap_or_default().to_owned();
        self.log.push(format!("{method} {path} -> {} {first}", head.status));
        if !head.keeps_alive {
            return Err("the server closes the connection".into());
        }
        if let (302 | 303, Some(location)) = (head.status, head.header("location")) {
            // Follows only redirects to a path on the same server.
            let location = String::from_utf8_lossy(location).into_owned();
            if location.starts_with('/') && !location.starts_with("//") {
                self.steps.push_front(("GET", location, ""));
            }
        }
        Ok(self.ask_next())
    }
}

fn main() -> Outcome {
    let mut words = std::env::args().skip(1);
    let (mut addr, mut count) = (None, 1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--clients" => count = words.next().ok_or("--clients N")?.parse()?,
            word => addr = Some(word.trim_start_matches("http://").trim_end_matches('/').parse()?),
        }
    }
    let addr = addr.ok_or("missing the address of login_session, e.g. 127.0.0.1:12345")?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(256));
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = Client::connect(addr)?;
        poll.registry().register(
            &mut client.socket,
            Token(number),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        clients.push(Some(client));
    }
    let mut out = std::io::stdout();
    while clients.iter().any(Option::is_some) {
        match poll.poll(&mut events, Some(SILENCE_MAX)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        if events.is_empty() {
            return Err("timeout: the server sends nothing".into());
        }
        for event in &events {
            let place = &mut clients[event.token().0];
            if let Some(client) = place
                && client.pump()?
            {
                writeln!(out, "{}\n", client.log.join("\n"))?;
                *place = None;
            }
        }
    }
    Ok(())
}
