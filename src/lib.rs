//! An event-driven HTTP/1.1 server: one thread and one mio poll loop serve all clients. The threads
//! model, with a thread for each connection, shares everything else.
//!
//! ```
//! use whirligig::{Refusal, Server};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::builder()
//!         .get("/hello/{name}", |call| format!("Hello, {}!\n", call.param("name")))
//!         .post("/double", |call| {
//!             let number: i64 = call.form()?.parsed("number")?; // a wrong form is a 4xx response
//!             Ok::<_, Refusal>(format!("{}\n", 2 * number))
//!         })
//!         .files("www")
//!         .bind("127.0.0.1:0")?; // port 0: any free port
//!     println!("http://{}/", server.local_addr()?);
//! #   let (addr, handle) = (server.local_addr()?, server.handle());
//! #   let visitor = std::thread::spawn(move || {
//! #       use std::io::{Read, Write};
//! #       let mut stream = std::net::TcpStream::connect(addr).unwrap();
//! #       stream.write_all(b"POST /double HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
//! #           Content-Length: 9\r\n\
//! #           Content-Type: application/x-www-form-urlencoded\r\n\r\nnumber=21").unwrap();
//! #       let mut response = String::new();
//! #       stream.read_to_string(&mut response).unwrap();
//! #       handle.shutdown();
//! #       assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
//! #       assert!(response.ends_with("\r\n42\n"), "{response}");
//! #   });
//!     server.run()?; // until Ctrl-C, or Handle::shutdown from another thread
//! #   visitor.join().unwrap();
//!     Ok(())
//! }
//! ```
//!
//! # Tasks
//!
//! | I want to | see |
//! |---|---|
//! | choose the model | [`Builder::model`]: [`Model::Reactor`] or [`Model::Threads`] |
//! | add routes and methods | [`Builder::get`], [`Builder::route`], [`Route`] |
//! | read the query or a form | [`Call::query`], [`Call::form`], [`Pairs`] |
//! | receive and send JSON | [`Call::json`], [`Response::json_of`] |
//! | receive an upload | [`Call::multipart`]; large files: [`multipart`] in a [`BodySink`] |
//! | send files | [`Builder::files`], [`Call::file`] |
//! | send content while it is made | [`Call::produce`], [`Response::stream`] |
//! | send events | [`Feed`], [`Response::events`] |
//! | keep cookies and sessions | [`Call::cookie`], [`Cookie`], [`session::Signer`] |
//! | protect paths with passwords | [`Builder::auth`], [`Builder::htpasswd`] |
//! | call code that blocks | [`Route::blocking`] |
//! | change limits and timeouts | [`Builder::limits`], [`Builder::timeouts`], [`config`] |
//! | wrap all handlers | [`Builder::wrap`], [`Handler`] |
//! | test a handler | port 0 and a thread: `docs/library.md`, "Test a handler" |
//! | stop the server | [`Server::handle`], [`Handle::shutdown`] |
//! | parse HTTP without a server | [the protocol](#the-protocol-without-a-server) |
//!
//! `docs/library.md` explains each of these with an example, and `examples/` has a complete program
//! for most.
//!
//! # How it works
//!
//! The rest of this page is a tour of [`inside`], which carries no promise: any version may change
//! it. Everything outside of it follows semantic versioning. `README.md` describes the program,
//! `ARCHITECTURE.md` the design. `examples/tiny_reactor` is a poll loop in one file, which prints
//! its steps.
//!
//! An HTTP [`Connection`](inside::http::Connection) is pure: it owns no socket, no clock and no
//! input bytes. A driver pumps it. One loop pumps many connections; in the threads model, each
//! thread pumps one.
//!
//! ## A turn
//!
//! [`Reactor::turn`](inside::reactor::Reactor::turn) is the whole loop. Each turn
//!
//! 1. waits for the first event or deadline, or not at all if work was carried over, and reads the
//!    clocks;
//! 2. takes signals and the results of jobs;
//! 3. pumps every connection that the kernel reported ready, each at most once;
//! 4. pumps connections that ran out of budget in the last turn, or received a result;
//! 5. acts on deadlines that have passed, after the reads, so that bytes that arrived in time
//!    count;
//! 6. accepts new clients, last, so that established ones go first;
//! 7. frees the slots of closed connections. Until then no new connection can reuse them.
//!
//! To *pump* a connection is to read into the driver's scratch buffer, parse the input, call the
//! [`Handler`], queue its [`Answer`] and write. This repeats until the socket would block, the
//! connection ends, or its budget of the turn is used up. [`pump`](inside::driver::pump::pump) is
//! that loop. The reactor, the threads model and the simulator all use it.
//!
//! ## The map, from the ground up
//!
//! | folder or file | contents |
//! |---|---|
//! | [`config`], [`conn_id`], [`clock`] | settings; ids that outlive their slots; clocks |
//! | [`http`], [`log`] | the protocol without I/O; access log and diagnostics, one writer thread |
//! | [`client`], `pages` | responses and cookies for clients; generated pages |
//! | [`jobs`], [`observe`] | work on worker threads and its results; counters and steps of a loop |
//! | [`handler`] | the contract between drivers and the code that makes responses |
//! | [`docroot`], [`driver`] | files on the disk and their cache; one connection and its stream |
//! | [`files`] | responses for files, listings and archives |
//! | `app` | parts of an application: routes, requests, events, sessions |
//! | [`reactor`], [`threads`] | the two models |
//! | `features`, [`sim`] | passwords, uploads, CGI and others; the simulator of the reactor |
//! | `server`, [`bench`] | a running server from a configuration; the comparison of both models |
//! | [`cli`] | a configuration from flags, and the tools of the program |
//!
//! A row uses only itself and the rows above it. `tests/it/layers.rs` checks this.
//!
//! ## The protocol without a server
//!
//! The protocol does no input or output, so it can be used without a server. This program does the
//! work of the pump for one client, with arrays in place of sockets:
//!
//! ```
//! use std::io::IoSlice;
//! use std::time::Instant;
//! use whirligig::inside::http::send_queue::{NextWrite, SendQueue, WRITE_SLICES};
//! use whirligig::config::Limits;
//! use whirligig::inside::http::connection::{Outside, RespondContext};
//! use whirligig::inside::http::date::fmt_http_date;
//! use whirligig::inside::http::head::FieldSlots;
//! use whirligig::inside::http::{Connection, Event, Phase};
//! use whirligig::Response;
//!
//! let (limits, now) = (Limits::default(), Instant::now());
//! let mut connection = Connection::new(now);
//! let mut out = SendQueue::new();
//!
//! // A read returned one request and the beginning of the next.
//! let input = b"GET /hello HTTP/1.1\r\nHost: example.org\r\n\r\nGET /ne";
//! let mut slots = FieldSlots::new();
//! let (used, event) = connection.next_event(input, &mut slots, &limits, now)?;
//! let Event::Request(request) = event else { panic!("a whole head is a request") };
//! assert_eq!(request.path(), b"/hello");
//! assert_eq!(connection.phase(Outside::Nothing), Phase::Handling);
//!
//! // The response is queued. A server would write the queue to a socket.
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
//! connection.note_sent(sent.len() as u64, &out, now);
//!
//! // Both messages are complete, so the next request may begin. Only part of it has arrived.
//! assert!(connection.start_next_cycle(now));
//! let mut slots = FieldSlots::new();
//! let (_, event) = connection.next_event(&input[used..], &mut slots, &limits, now)?;
//! assert!(matches!(event, Event::NeedMore));
//! assert_eq!(connection.phase(Outside::Nothing), Phase::ReceivingHead);
//! # Ok::<(), whirligig::ProtocolError>(())
//! ```
//!
//! [`bench`]: inside::bench
//! [`cli`]: inside::cli
//! [`clock`]: inside::clock
//! [`conn_id`]: inside::conn_id
//! [`docroot`]: inside::docroot
//! [`driver`]: inside::driver
//! [`files`]: inside::files
//! [`handler`]: inside::handler
//! [`http`]: inside::http
//! [`jobs`]: inside::jobs
//! [`log`]: inside::log
//! [`observe`]: inside::observe
//! [`reactor`]: inside::reactor
//! [`sim`]: inside::sim
//! [`threads`]: inside::threads

#![cfg_attr(
    not(feature = "cli"),
    expect(dead_code, reason = "optional parts use it that this build leaves out")
)]

#[cfg(feature = "os")]
mod app;
#[cfg(feature = "bench")]
mod bench;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "client")]
pub mod client;
mod clock;
pub mod config;
mod conn_id;
#[cfg(feature = "os")]
mod docroot;
mod driver;
#[cfg(feature = "os")]
mod features;
#[cfg(feature = "os")]
mod files;
mod handler;
mod http;
mod jobs;
mod log;
mod observe;
mod pages;
#[cfg(feature = "os")]
mod random;
mod reactor;
#[cfg(feature = "os")]
mod server;
mod shortage;
#[cfg(feature = "sim")]
mod sim;
mod sync;
mod text;
#[cfg(feature = "os")]
mod threads;

// The server.
#[doc(inline)]
pub use crate::config::Model;
#[cfg(feature = "os")]
#[doc(inline)]
pub use crate::{
    driver::outcome::{Outcome, Signal},
    server::{BindError, Builder, Handle, Server},
};

// Routes, handlers and their results.
#[cfg(feature = "session")]
#[doc(inline)]
pub use crate::app::session;
#[cfg(feature = "os")]
#[doc(inline)]
pub use crate::app::{
    call::Call,
    feed::{Feed, FeedOptions, Listener},
    routes::Route,
};
#[doc(inline)]
pub use crate::handler::{
    Answer, BodySink, Context, Handler, Methods, Router, SinkStatus, When, WithContent,
    offload::{Offloaded, Producer},
};

// Requests, responses and their parts.
#[doc(inline)]
pub use crate::http::{
    Body, BodySource, CloseReason, Cookie, FillStatus, Method, Pairs, ProtocolError, ReceivedHeaders,
    Refusal, Request, Response, SameSite, Status,
    form::Part,
    multipart,
    negotiate::{Coding, Codings},
};

// Clients, time and wake-ups.
#[doc(inline)]
pub use crate::{clock::Now, conn_id::Peer, jobs::inbox::Waker};

/// Dates of HTTP and of pages.
pub mod date {
    #[doc(inline)]
    pub use crate::http::date::{fmt_http_date, iso8601, parse_http_date};
}

/// The inside of the server, public for study, tests and benchmarks: any version may change it.
///
/// The front page of this documentation is a tour of these modules.
pub mod inside {
    /// The comparison of both models: servers, a load generator, and statistics.
    #[cfg(feature = "bench")]
    pub mod bench {
        pub use crate::bench::*;
    }
    /// The command line: flags and files in, a configuration out.
    #[cfg(feature = "cli")]
    pub mod cli {
        pub use crate::cli::*;
    }
    /// Fixed bounds of buffers, queues and waits, which no option changes.
    pub mod bounds {
        pub use crate::config::fixed::*;
    }
    /// Clocks and instants.
    pub mod clock {
        pub use crate::clock::*;
    }
    /// Names of connections that outlive their slots.
    pub mod conn_id {
        pub use crate::conn_id::*;
    }
    /// Files on the disk and their cache.
    #[cfg(feature = "os")]
    pub mod docroot {
        pub use crate::docroot::*;
    }
    /// One connection and its stream: pump, deadlines and buffers.
    pub mod driver {
        pub use crate::driver::*;
    }
    /// Counters in the text format of Prometheus.
    #[cfg(feature = "os")]
    pub mod metrics {
        pub use crate::features::metrics::*;
    }
    /// Responses for files, listings and archives.
    #[cfg(feature = "os")]
    pub mod files {
        pub use crate::files::*;
    }
    /// The contract between drivers and the code that makes responses.
    pub mod handler {
        pub use crate::handler::*;
    }
    /// HTTP/1.1 without input or output.
    pub mod http {
        pub use crate::http::*;
    }
    /// Work on worker threads and the return of its results.
    pub mod jobs {
        pub use crate::jobs::*;
    }
    /// Access log and diagnostics.
    pub mod log {
        pub use crate::log::*;
    }
    /// Counters of the loop.
    pub mod observe {
        pub use crate::observe::*;
    }
    /// The event loop.
    pub mod reactor {
        pub use crate::reactor::*;
    }
    /// The simulator of the event loop.
    #[cfg(feature = "sim")]
    pub mod sim {
        pub use crate::sim::*;
    }
    /// The threads model.
    #[cfg(feature = "os")]
    pub mod threads {
        pub use crate::threads::*;
    }
}

/// Compiles the programs of the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct LibraryGuide;
