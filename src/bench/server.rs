//! Server under test: this executable, started again with the library's server inside.
//!
//! Both models are the same program with the same handlers. One word of the configuration differs.
//! The handlers complement plain files: a short response, one that computes, one that blocks, one
//! that discards an upload, and one that streams to many clients.

use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::Fallible;
use super::cpu;
use super::load::{self, LISTEN_LINE_BYTES};
use crate::config::{FileOptions, Model, TurnLines};
use crate::docroot::Docroot;
use crate::features::metrics;
use crate::files::StaticFiles;
use crate::handler::{Answer, BodySink, Context, Handler, Methods, Router, SinkStatus};
use crate::http::{Body, BodySource, FillStatus, Request, Response, Status};
use crate::jobs::inbox::Waker;
use crate::server::Server;

/// Response of `/hello`. As long as the file `hello`, so that a peer can take part.
pub const HELLO: &str = "Hello, World!";
/// Steps of the computing handler: about 0.1 ms.
const CPU_STEPS: u64 = 60_000;
/// Time for which the blocking handler blocks.
const BLOCK: Duration = Duration::from_millis(10);
/// Interval between two lines of the stream.
pub const FAN_OUT_EVERY: Duration = Duration::from_millis(50);
/// Number of lines kept for slow listeners. A listener that lags further is disconnected.
const FAN_OUT_LINES_MAX: usize = 256;

/// Start parameters of a server.
#[derive(Debug, Serialize, Deserialize)]
pub struct Role {
    /// True for the threads model.
    pub threads: bool,
    /// Folder whose files are served.
    pub root: PathBuf,
    /// Processors of the server. Empty means all.
    pub cpus: Vec<usize>,
    /// Microseconds of useless work before each response, to test that the benchmark detects it.
    pub slow_us: u64,
    /// Threads of the worker pool, if not the default.
    pub job_threads: Option<usize>,
    /// Makes the loop measure its time per activity, which costs time itself.
    pub stopwatch: bool,
}

/// Serves until standard input ends. Prints the port first. Then prints, for each line of input,
/// the processor time used so far in nanoseconds and the number of context switches.
pub fn serve(role: &Role) -> Fallible<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    cpu::pin(&role.cpus)?;
    let model = if role.threads { Model::Threads } else { Model::Reactor };
    let docroot = Arc::new(Docroot::open(&role.root, FileOptions::default())?);
    let slow = Duration::from_micros(role.slow_us);
    let server = Server::builder()
        .model(model)
        .reactors(role.cpus.len().max(1))
        .limits(|limits| {
            limits.threads_max = 20_000;
            limits.job_threads = role.job_threads.unwrap_or(limits.job_threads);
        })
        .turn_lines(if role.stopwatch { TurnLines::Turns } else { TurnLines::Off })
        .metrics()
        .wrap(move |inner| {
            // The same kind of router as in the program, with the server's page of counters in it.
            let counters = move |request: &Request<'_>, cx: &mut Context<'_>| inner.handle(request, cx);
            let files = StaticFiles::new(docroot);
            slowed(routes().route(metrics::PATH, GET, counters).fallback(files), slow)
        })
        .bind("127.0.0.1:0")?;
    writeln!(io::stdout(), "{}", server.local_addr()?.port())?;
    std::thread::Builder::new().name("versus-control".into()).spawn(control)?;
    server.run()?;
    Ok(())
}

/// Wraps the routes so that each response first takes the time `slow`.
fn slowed(routes: Router, slow: Duration) -> impl Handler {
    let slow_ns = u64::try_from(slow.as_nanos()).unwrap_or(0);
    move |request: &Request<'_>, cx: &mut Context<'_>| {
        if slow_ns > 0 {
            let end = load::now_ns() + slow_ns;
            while load::now_ns() < end {}
        }
        routes.handle(request, cx)
    }
}

/// Reports the usage on request of the parent process, and exits when its pipe closes.
fn control() {
    for line in io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let switches = getrusage(UsageWho::RUSAGE_SELF)
            .map_or(0, |usage| usage.voluntary_context_switches() + usage.involuntary_context_switches());
        let _ = writeln!(io::stdout(), "{} {switches}", time.tv_sec * 1_000_000_000 + time.tv_nsec);
    }
    std::process::exit(0);
}

const GET: Methods = Methods(&["GET"]);

/// Routes of both models in addition to files.
pub fn routes() -> Router {
    let hub = Arc::new(Hub::default());
    let fan_out = move |_: &Request<'_>, cx: &mut Context<'_>| listen(&hub, cx);
    Router::new()
        .route("/hello", GET, hello)
        .route("/cpu", GET, |_: &Request<'_>, _: &mut Context<'_>| {
            plain(format!("{:020}\n", computed())).into()
        })
        .route("/block", GET, |_: &Request<'_>, _: &mut Context<'_>| block().into())
        .route("/block-job", GET, |_: &Request<'_>, cx: &mut Context<'_>| cx.job(block))
        .route("/drain", Methods(&["POST"]), drain)
        .route("/fan-out", GET, fan_out)
}

fn plain(text: impl Into<Vec<u8>>) -> Response {
    let response = Response::new(Status::OK).with_header("Content-Type", "text/plain; charset=utf-8");
    response.with_body(Body::Bytes(text.into()))
}

fn hello(_: &Request<'_>, _: &mut Context<'_>) -> Answer {
    let response = Response::new(Status::OK).with_header("Content-Type", "text/plain; charset=utf-8");
    response.with_body(Body::Static(HELLO.as_bytes())).into()
}

/// Computes the same number each time.
pub fn computed() -> u64 {
    (0..black_box(CPU_STEPS))
        .fold(1_u64, |sum, step| black_box(sum.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step)))
}

/// Blocks the calling thread, which may be the loop.
#[expect(clippy::disallowed_methods, reason = "the benchmark measures a handler that blocks")]
fn block() -> Response {
    std::thread::sleep(BLOCK);
    plain(HELLO)
}

/// Counts content and discards it.
struct Drain(u64);

fn drain(_: &Request<'_>, _: &mut Context<'_>) -> Answer {
    Answer::Sink(Box::new(Drain(0)))
}

impl BodySink for Drain {
    fn write(&mut self, piece: &[u8], _: &mut Context<'_>) -> SinkStatus {
        self.0 += piece.len() as u64;
        SinkStatus::More
    }

    fn drain(self: Box<Self>, _: &mut Context<'_>) -> Answer {
        Answer::Sink(self)
    }

    fn finish(self: Box<Self>, _: &mut Context<'_>) -> Answer {
        plain(format!("{}\n", self.0)).into()
    }
}

/// Sends the same lines to all listeners.
#[derive(Default)]
struct Hub(Mutex<Channel>);

#[derive(Default)]
struct Channel {
    /// Lines beginning with number `first`.
    lines: std::collections::VecDeque<Vec<u8>>,
    first: u64,
    wakers: slab::Slab<Waker>,
    is_speaking: bool,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Channel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a line at fixed times, stamped with the time at which it was due.
    #[expect(clippy::disallowed_methods, reason = "a separate thread that sends at fixed times")]
    fn speak(&self) {
        let mut due_ns = load::now_ns();
        loop {
            due_ns += u64::try_from(FAN_OUT_EVERY.as_nanos()).unwrap_or(u64::MAX);
            std::thread::sleep(Duration::from_nanos(due_ns.saturating_sub(load::now_ns())));
            let mut channel = self.lock();
            let number = channel.first + channel.lines.len() as u64;
            channel.lines.push_back(format!("{number:011} {due_ns:019}\n").into_bytes());
            if channel.lines.len() > FAN_OUT_LINES_MAX {
                channel.lines.pop_front();
                channel.first += 1;
            }
            let wakers: Vec<Waker> = channel.wakers.iter().map(|(_, waker)| waker.clone()).collect();
            drop(channel);
            for waker in wakers {
                waker.wake();
            }
        }
    }
}

fn listen(hub: &Arc<Hub>, cx: &Context<'_>) -> Answer {
    let mut channel = hub.lock();
    if !channel.is_speaking {
        channel.is_speaking = true;
        let speaker = Arc::clone(hub);
        drop(std::thread::Builder::new().name("versus-hub".into()).spawn(move || speaker.speak()));
    }
    let key = channel.wakers.insert(cx.waker());
    let next = channel.first + channel.lines.len() as u64;
    drop(channel);
    let source = Listener { hub: Arc::clone(hub), key, next };
    plain("").with_body(Body::Source(Box::new(source))).into()
}

/// Stream to one listener.
struct Listener {
    hub: Arc<Hub>,
    key: usize,
    /// Number of the next line.
    next: u64,
}

impl BodySource for Listener {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> FillStatus {
        let channel = self.hub.lock();
        if self.next < channel.first {
            return FillStatus::Failed;
        }
        let skip = usize::try_from(self.next - channel.first).unwrap_or(usize::MAX);
        for line in channel.lines.iter().skip(skip).take(room / LISTEN_LINE_BYTES) {
            out.extend_from_slice(line);
            self.next += 1;
        }
        let is_behind = self.next < channel.first + channel.lines.len() as u64;
        if is_behind { FillStatus::More } else { FillStatus::Later }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.hub.lock().wakers.try_remove(self.key);
    }
}
