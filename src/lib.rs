//! An HTTP/1.1 server that spins in one place: one thread, one mio poll loop, and a threaded twin
//! beside it.
//!
//! # A server in a few lines
//!
//! ```
//! use whirligig::{Model, Refusal, Response, Route, Server};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::builder()
//!         .get("/", |_| Response::html("<h1>It turns.</h1>"))
//!         .get("/hello/{name}", |call| format!("Hello, {}!\n", call.param("name")))
//!         .post("/double", |call| {
//!             let number: i64 = call.form()?.parsed("number")?;
//!             Ok::<_, Refusal>(format!("{}\n", 2 * number))
//!         })
//!         .route("/report", Route::new().get(|_| "made where it may block\n").blocking())
//!         .files("www")
//!         .model(Model::Reactor) // or Model::Threads, and nothing else changes
//!         .bind("127.0.0.1:0")?;
//!     println!("http://{}/", server.local_addr()?);
//! #   let (addr, handle) = (server.local_addr()?, server.handle());
//! #   let visitor = std::thread::spawn(move || {
//! #       use std::io::{Read, Write};
//! #       let mut stream = std::net::TcpStream::connect(addr).unwrap();
//! #       stream.write_all(b"POST /double HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
//! #           Content-Length: 9\r\n\
//! #           Content-Type: application/x-www-form-urlencoded\r\n\r\nnumber=21").unwrap();
//! #       let mut answer = String::new();
//! #       stream.read_to_string(&mut answer).unwrap();
//! #       handle.shutdown();
//! #       assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
//! #       assert!(answer.ends_with("\r\n42\n"), "{answer}");
//! #   });
//!     server.run()?; // until Ctrl-C, or Handle::shutdown from another thread
//! #   visitor.join().unwrap();
//!     Ok(())
//! }
//! ```
//!
//! [`Server::builder`] puts it together, [`Route`] says what is done at a path, [`Call`] is one
//! request with all that came with it, [`Response`] what is answered. [`handler::Handler`] is the
//! layer below, for content that is taken while it comes. `examples/` has a program for each of
//! these.
//!
//! The rest of this page is the tour of the inside. `README.md` says how to run the program,
//! `ARCHITECTURE.md` why it is as it is; to see a poll loop in one short file first, read
//! `examples/tiny_reactor.rs`.
//!
//! # One sentence
//!
//! A pure HTTP [`Connection`](http::Connection) that owns no socket, no clock and no input bytes,
//! pumped by whoever has a stream: one loop pumps many, the twin's threads pump one each.
//!
//! # What a turn is
//!
//! [`Reactor::turn`](reactor::Reactor::turn) is the whole loop. Each turn
//!
//! 1. waits for the first event or deadline, or not at all if work was carried over, and reads the
//!    clocks;
//! 2. takes signals and the results of jobs;
//! 3. pumps every connection that the kernel called ready, each at most once;
//! 4. pumps those that ran out of their budget in the turn before;
//! 5. acts on deadlines that have passed, after the reading, so that bytes which came in time
//!    count;
//! 6. accepts new clients, last: established ones go first;
//! 7. frees the slots of closed connections; until then nobody could take their names.
//!
//! To *pump* a connection is to read into the driver's scratch buffer, parse there, ask the
//! [`Handler`], queue its [`Answer`], and write, again and again until the socket would block, the
//! connection is over, or its share of the turn is used up. [`driver::pump::pump`] is that loop,
//! and the reactor, the twin and the simulator all use it.
//!
//! # The map, from the ground up
//!
//! | folder or file | what it is |
//! |---|---|
//! | [`config`] | every limit and timeout with its unit, default and reason |
//! | [`conn_id`] | the name of a connection, which outlives its slot |
//! | [`http`] | the protocol without I/O: bytes, instants and values in, values out |
//! | [`jobs`], [`log`] | work on worker threads and its way back; the one writer thread |
//! | [`client`], [`pages`] | a client's side of messages; generated pages |
//! | [`docroot`], [`observe`] | files on the disk, kept fresh; counters |
//! | [`handler`] | the contract between the drivers and the code that makes responses |
//! | [`handler`] | the contract between drivers and the code that makes responses |
//! | [`app`] | parts of an application: routes, requests, events, sessions |
//! | [`reactor`], [`threads`] | the two models |
//! | [`features`] | optional parts: passwords, uploads, programs and others |
//! | [`sim`] | an operating system made of a seed, under the reactor's own turns |
//! | [`server`], [`cli`] | from configuration to running server; from flags to configuration |
//!
//! Each uses only its own line and those above it. A test holds them to it (`tests/it/tidy.rs`).
//!
//! # The protocol in your hand
//!
//! Because the core does no input or output, it can be tried without a server. This is what the
//! pump does for each client, with arrays in place of sockets:
//!
//! ```
//! use std::io::IoSlice;
//! use std::time::Instant;
//! use whirligig::http::send_queue::{NextWrite, SendQueue, WRITE_SLICES};
//! use whirligig::config::Limits;
//! use whirligig::http::connection::{Outside, RespondContext};
//! use whirligig::http::date::fmt_http_date;
//! use whirligig::http::head::FieldSlots;
//! use whirligig::http::{Connection, Event, Phase, Response};
//!
//! let (limits, now) = (Limits::default(), Instant::now());
//! let mut connection = Connection::new(now);
//! let mut out = SendQueue::new();
//!
//! // A read brought one request and the beginning of the next.
//! let input = b"GET /hello HTTP/1.1\r\nHost: example.org\r\n\r\nGET /ne";
//! let mut slots = FieldSlots::new();
//! let (used, event) = connection.next_event(input, &mut slots, &limits, now)?;
//! let Event::Request(request) = event else { panic!("a whole head is a request") };
//! assert_eq!(request.path(), b"/hello");
//! assert_eq!(connection.phase(Outside::Nothing), Phase::Handling);
//!
//! // The answer goes into a queue; a socket would take it from there.
//! let date = fmt_http_date(784_111_777);
//! let cx = RespondContext { now, date: &date, limits: &limits };
//! connection.respond(Response::text("Hello.\n"), cx, &mut out);
//! let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
//! let NextWrite::Bytes { slices, .. } = out.next_write(&mut slices) else {
//!     panic!("it is queued")
//! };
//! let sent: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
//! assert!(sent.starts_with(b"HTTP/1.1 200 OK\r\n") && sent.ends_with(b"\r\n\r\nHello.\n"));
//! out.sent(sent.len() as u64);
//! connection.note_sent(sent.len() as u64, out.is_empty(), now);
//!
//! // Request and response are complete, so the next request may begin. Only a part of it is here.
//! assert!(connection.start_next_cycle(now));
//! let mut slots = FieldSlots::new();
//! let (_, event) = connection.next_event(&input[used..], &mut slots, &limits, now)?;
//! assert!(matches!(event, Event::NeedMore));
//! assert_eq!(connection.phase(Outside::Nothing), Phase::ReceivingHead);
//! # Ok::<(), whirligig::http::ProtocolError>(())
//! ```
//!
//! [`Handler`]: handler::Handler
//! [`Answer`]: handler::Answer

pub mod app;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod conn_id;
pub mod docroot;
pub mod driver;
pub mod features;
pub mod files;
pub mod handler;
pub mod http;
pub mod jobs;
pub mod log;
pub mod observe;
pub mod pages;
mod random;
pub mod reactor;
pub mod server;
mod shortage;
pub mod sim;
mod sync;
mod text;
pub mod threads;

pub use app::call::Call;
pub use app::feed::Feed;
pub use app::routes::Route;
pub use config::Model;
pub use http::{Cookie, Pairs, Refusal, Response, SameSite, Status};
pub use server::{Handle, Server};

/// Compiles the programs of the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct LibraryGuide;
