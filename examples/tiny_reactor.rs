//! The event loop in about a hundred lines. Read it before the real one in `src/reactor/`.
//!
//! One thread serves all clients. It asks the kernel which sockets can move bytes now (`poll`),
//! moves the bytes that can be moved without waiting, and polls again. The loop never waits for a
//! single client, so a slow client costs a slot and not a thread. Three ideas carry this design:
//!
//! 1. **Readiness is an edge.** mio reports once that a socket *became* ready. A program that stops
//!    reading before the socket returns `WouldBlock` gets no second event, and its client hangs. So
//!    every loop here drains.
//! 2. **Unfinished work is in the client's own struct.** Half a request is in `input`, and half a
//!    response is in `output`. A thread would keep both on its stack. No other state exists that
//!    could contradict them.
//! 3. **A token can outlive its connection.** Events carry a token, here a slab index, and slab
//!    reuses a freed index for the next client. `turn` explains the order that makes this safe.
//!
//! Run `cargo run --release --example tiny_reactor`, then open the URL or run `wrk -c64 -d2 URL`.
//! The real loop adds timeouts, budgets per turn, shared buffers, files and request bodies. It also
//! lingers before a close, so that a client that is still sending can read the error response.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// Token of the listener. Slab indexes count from zero and never reach it.
const LISTENER: Token = Token(usize::MAX);
/// Maximum length of a request head, because the peer decides how much it sends and we decide how
/// much we keep.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The page that every request gets.
const PAGE: &str = "<!doctype html><title>Tiny reactor</title><p>It turns.</p>\n";

/// One connection: its socket, and its unfinished input and output.
struct Client {
    socket: TcpStream,
    /// Received bytes without a response: at most one incomplete head and the bytes after it.
    input: Vec<u8>,
    /// Response bytes that the socket has not accepted yet.
    output: Vec<u8>,
    /// Stops reading further requests. The connection closes once `output` is empty.
    closing: bool,
}

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    writeln!(io::stdout(), "http://{}/", listener.local_addr()?)?;
    let mut events = Events::with_capacity(256);
    let mut clients = Slab::new();
    loop {
        turn(&mut poll, &mut events, &listener, &mut clients)?;
    }
}

/// Runs one pass of the loop: waits, serves all ready clients, then accepts new ones.
///
/// New clients come last for fairness and for safety, because the events of this batch are older
/// than the batch's effects. If client 7 is closed here and a new client took slot 7 at once, a
/// later event of the same batch, meant for the old client 7, would reach the new one. After the
/// batch this cannot happen, because the kernel drops the events of a closed socket.
fn turn(
    poll: &mut Poll,
    events: &mut Events,
    listener: &TcpListener,
    clients: &mut Slab<Client>,
) -> io::Result<()> {
    match poll.poll(events, None) {
        // A signal interrupted the poll. This is no error.
        Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
        result => result?,
    }
    let mut has_new_clients = false;
    for event in events.iter() {
        let slot = event.token().0;
        // The kind of event does not matter: `pump` tries everything, and `WouldBlock` costs
        // little. Events can even be spurious, so no code may rely on one.
        match clients.get_mut(slot).map(pump) {
            Some(Ok(true)) => {}
            Some(Ok(false) | Err(_)) => drop(clients.remove(slot)), // dropping the socket closes it
            None => has_new_clients |= event.token() == LISTENER,
        }
    }
    if has_new_clients { accept(poll, listener, clients) } else { Ok(()) }
}

/// Accepts all waiting connections, because the listener's edge comes only once, too.
fn accept(poll: &Poll, listener: &TcpListener, clients: &mut Slab<Client>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut socket, _)) => {
                // Register both directions once. Edge-triggered interest costs nothing while
                // nothing happens. So there is no need to switch interest on and off, which is a
                // common source of bugs in event loops.
                let slot = clients.vacant_entry();
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut socket, Token(slot.key()), interest)?;
                // Do not read now: registering a ready socket produces an event, and the next turn
                // handles it.
                slot.insert(Client { socket, input: Vec::new(), output: Vec::new(), closing: false });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // The peer left while it was queued, or a signal arrived. Other connections still wait.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            // Usually there are no descriptors left. The real loop pauses and retries. This program
            // ends with the error.
            Err(error) => return Err(error),
        }
    }
}

/// Moves bytes until the socket would block. Returns `Ok(false)` if the connection is finished.
///
/// Called for every event. Returns only when nothing more can be done before the next event.
fn pump(client: &mut Client) -> io::Result<bool> {
    let mut scratch = [0; 4096];
    loop {
        // Write first: while output is pending, no more requests are read. A client that sends
        // requests without reading responses stops itself. Its requests stay in the kernel's
        // buffer, and TCP flow control makes the client wait.
        while !client.output.is_empty() {
            match client.socket.write(&client.output) {
                // A short write is normal. The rest goes out in the next iteration or after a
                // writable edge.
                Ok(taken) => drop(client.output.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if client.closing {
            return Ok(false);
        }
        match client.socket.read(&mut scratch) {
            Ok(0) => return Ok(false), // end of input: every complete request has its response
            Ok(count) => {
                client.input.extend_from_slice(&scratch[..count]);
                answer(client);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Turns complete requests in `input` into responses in `output`. This is a pure function of bytes
/// without a socket, so a read may contain half a request or ten requests.
fn answer(client: &mut Client) {
    let mut used = 0;
    while !client.closing {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        let status = match request.parse(&client.input[used..]) {
            Ok(httparse::Status::Partial) if client.input.len() - used <= HEAD_BYTES_MAX => break,
            Ok(httparse::Status::Partial) => "431 Request Header Fields Too Large",
            Err(_) => "400 Bad Request",
            Ok(httparse::Status::Complete(head)) => {
                used += head;
                match request.method {
                    Some("GET" | "HEAD") => "200 OK",
                    _ => "405 Method Not Allowed\r\nAllow: GET, HEAD",
                }
            }
        };
        // We cannot skip a body without reading it, so a request with a body is the last one on its
        // connection. Guessing where the next request begins would permit request smuggling.
        // HTTP/1.0 closes by default.
        let is_last = |field: &httparse::Header<'_>| match field.name.to_ascii_lowercase().as_str() {
            "content-length" | "transfer-encoding" => true,
            "connection" => field.value.eq_ignore_ascii_case(b"close"),
            _ => false,
        };
        client.closing =
            status != "200 OK" || request.version == Some(0) || request.headers.iter().any(is_last);
        let connection = if client.closing { "close" } else { "keep-alive" };
        let length = PAGE.len();
        let content = if request.method == Some("HEAD") { "" } else { PAGE };
        client.output.extend_from_slice(
            format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n\
                 Connection: {connection}\r\n\r\n{content}"
            )
            .as_bytes(),
        );
    }
    client.input.drain(..used);
}
