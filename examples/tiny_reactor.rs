//! The loop in about a hundred lines, to be read before the real one in `src/reactor/`.
//!
//! One thread serves everybody: it asks the kernel which sockets can move bytes now (`poll`), moves
//! what can be moved without waiting, and asks again. Nobody is waited *for*, so a slow client
//! costs a slot, not a thread. Three ideas carry all of it:
//!
//! 1. **Readiness is an edge.** mio reports that a socket *became* ready, once. Whoever stops
//!    reading before the socket says `WouldBlock` will not be told again and has a hung client. So
//!    every loop here drains.
//! 2. **What is unfinished stands in the client's own struct.** Half a request waits in `input`,
//!    half an answer in `output`; a thread would have kept both on its stack. There is no other
//!    state to get out of step.
//! 3. **A name may outlive what it named.** Events carry a token, here a slab index, and slab gives
//!    a freed index to the next client. See `turn` for the order that makes this safe.
//!
//! `cargo run --release --example tiny_reactor`, then open the URL, or `wrk -c64 -d2 URL`. Left
//! out, and found in the real one: timeouts, budgets per turn, shared buffers, files, request
//! content, and the lingering close that lets a client which is still sending read why it was
//! refused.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// The listener's token. Slab indexes count from zero, so they never get here.
const LISTENER: Token = Token(usize::MAX);
/// A request head longer than this is refused: the peer decides how much it sends, we decide how
/// much we keep.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The page everybody gets.
const PAGE: &str = "<!doctype html><title>Tiny reactor</title><p>It turns.</p>\n";

/// One connection: its socket, and what is unfinished in either direction.
struct Client {
    socket: TcpStream,
    /// Received, not yet answered: at most one incomplete head and what came behind it.
    input: Vec<u8>,
    /// Answered, not yet taken by the socket.
    output: Vec<u8>,
    /// No further request will be read; close once `output` is empty.
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

/// One pass of the loop: wait, serve everyone who is ready, then let newcomers in.
///
/// Newcomers come last for fairness, and for safety: this batch of events was written before the
/// batch was served. If client 7 is closed here and a newcomer took slot 7 at once, an event
/// further down, meant for the old 7, would reach the new one. Once the batch is used up the danger
/// is over: the kernel drops a closed socket's events.
fn turn(
    poll: &mut Poll,
    events: &mut Events,
    listener: &TcpListener,
    clients: &mut Slab<Client>,
) -> io::Result<()> {
    match poll.poll(events, None) {
        // A signal is no event and no fault.
        Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
        result => result?,
    }
    let mut newcomers = false;
    for event in events.iter() {
        let slot = event.token().0;
        // What kind of event it was does not matter: `pump` tries whatever it wants to do, and
        // `WouldBlock` is a cheap answer. Events may even be false alarms, so nothing here may rely
        // on one.
        match clients.get_mut(slot).map(pump) {
            Some(Ok(true)) => {}
            Some(Ok(false) | Err(_)) => drop(clients.remove(slot)), // dropping the socket closes it
            None => newcomers |= event.token() == LISTENER,
        }
    }
    if newcomers { accept(poll, listener, clients) } else { Ok(()) }
}

/// Takes every waiting connection: the listener's edge, too, comes once.
fn accept(poll: &Poll, listener: &TcpListener, clients: &mut Slab<Client>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut socket, _)) => {
                // Both directions, once and for life. Edge-triggered interest costs nothing while
                // nothing happens, so there is no need to switch it on and off, which is where many
                // a hand-written loop goes wrong.
                let slot = clients.vacant_entry();
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut socket, Token(slot.key()), interest)?;
                // No read now: registering reports what is already there, so the next turn has the
                // event.
                slot.insert(Client { socket, input: Vec::new(), output: Vec::new(), closing: false });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // The peer left while it was queued, or a signal came: the others still wait.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            // Out of descriptors, mostly. The real loop pauses and comes back; here the program
            // ends and says why.
            Err(error) => return Err(error),
        }
    }
}

/// Moves bytes until the socket would block; `Ok(false)` when the connection is done with.
///
/// Called for every event. It returns only when nothing can be done before the kernel reports
/// again.
fn pump(client: &mut Client) -> io::Result<bool> {
    let mut scratch = [0; 4096];
    loop {
        // Debts first: while an answer is not taken, no more requests are read. A client that asks
        // without ever reading stops itself: its requests stay in the kernel's buffer, and TCP
        // tells it to wait.
        while !client.output.is_empty() {
            match client.socket.write(&client.output) {
                // A short write is normal: the rest goes in the next round, or after the writable
                // edge.
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
            Ok(0) => return Ok(false), // the end of input: every whole request has its answer by now
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

/// Turns whole requests in `input` into answers in `output`. No socket in here: this half is a pure
/// function of bytes, and so one read may bring half a request or ten of them.
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
        // We cannot step over content we do not read, so a request that has some is the last on its
        // connection: to guess where the next one begins is how servers get smuggled into. HTTP/1.0
        // closes unless asked.
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
