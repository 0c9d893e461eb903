//! The rules of the simulated kernel, compared with the real one on loopback sockets.
//!
//! Each test does the same steps with a `KernelSocket` and with a pair of real sockets in an
//! edge-triggered poll. The simulated kernel may report less than the real one, because the loop
//! must not rely on more. What it reports, and each result of a read, must be true.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use whirligig::inside::observe::step::SocketReport;
use whirligig::inside::sim::kernel::{End, KernelSocket};

/// Capacity of the simulated socket in bytes.
const CAPACITY: usize = 1000;

/// A real connection whose server side is in a poll.
struct Real {
    poll: Poll,
    server: mio::net::TcpStream,
    client: TcpStream,
}

/// Longest wait for an event that must come, and for one that must not.
const COMES: Duration = Duration::from_secs(5);
const STAYS_AWAY: Duration = Duration::from_millis(30);

/// Longest wait of one poll.
const POLL_STEP: Duration = Duration::from_millis(10);

impl Real {
    fn connect() -> Real {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        Real { poll: Poll::new().unwrap(), server: mio::net::TcpStream::from_std(server), client }
    }

    fn register(&mut self) {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut self.server, Token(1), both).unwrap();
    }

    /// Collects events until `until` holds, or until the time is over.
    fn report(&mut self, wait: Duration, until: impl Fn(SocketReport) -> bool) -> Option<SocketReport> {
        let mut events = Events::with_capacity(8);
        let mut all: Option<SocketReport> = None;
        let mut left = wait;
        loop {
            let step = left.min(POLL_STEP);
            self.poll.poll(&mut events, Some(step)).unwrap();
            left -= step;
            for event in &events {
                let seen = all.get_or_insert_default();
                seen.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                seen.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
                seen.read_closed |= event.is_read_closed() || event.is_error();
                seen.hung_up |= event.is_write_closed();
            }
            if left.is_zero() || all.is_some_and(&until) {
                return all;
            }
        }
    }
}

/// A simulated and a real connection that take the same steps.
struct Both {
    sim: KernelSocket,
    real: Real,
}

impl Both {
    fn registered() -> Both {
        let mut both = Both { sim: KernelSocket::new(CAPACITY), real: Real::connect() };
        both.register();
        both.reports(|report| report.writable);
        both
    }

    fn register(&mut self) {
        self.sim.register();
        self.real.register();
    }

    fn client_sends(&mut self, bytes: &[u8]) {
        assert_eq!(self.sim.client_sends(bytes), bytes.len());
        self.real.client.write_all(bytes).unwrap();
    }

    fn client_shuts(&mut self) {
        self.sim.client_shuts();
        self.real.client.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Checks that both kernels report this, in one event or several.
    fn reports(&mut self, what: impl Fn(SocketReport) -> bool) -> SocketReport {
        let sim = self.sim.take_report(false).expect("the simulated kernel reports nothing");
        assert!(what(sim), "the simulated kernel reports {sim:?}");
        // The event is awaited that has everything the simulated one has.
        let covers = |real: SocketReport| {
            (real.readable || !sim.readable)
                && (real.writable || !sim.writable)
                && (real.read_closed || !sim.read_closed)
                && (real.hung_up || !sim.hung_up)
        };
        let real = self.real.report(COMES, covers).expect("the real kernel reports nothing");
        assert!(covers(real), "the simulated kernel reports {sim:?}, the real one {real:?}");
        sim
    }

    /// Checks that both kernels report nothing.
    fn is_silent(&mut self) {
        assert_eq!(self.sim.take_report(false), None);
        assert_eq!(self.real.report(STAYS_AWAY, |_| true), None);
    }

    /// Checks that a read returns this in both kernels.
    fn reads(&mut self, asked: usize, expected: Result<usize, ErrorKind>) {
        let mut room = vec![0; asked];
        assert_eq!(self.sim.read(&mut room).map_err(|error| error.kind()), expected, "simulated");
        assert_eq!(self.real.server.read(&mut room).map_err(|error| error.kind()), expected, "real");
    }
}

#[test]
fn readiness_before_the_registration_is_reported() {
    let mut both = Both { sim: KernelSocket::new(CAPACITY), real: Real::connect() };
    both.client_sends(b"abc");
    both.client_shuts();
    // The real bytes are in the socket when the call returns, because loopback delivers at once.
    both.register();
    both.reports(|report| report.readable && report.writable && report.read_closed);
    both.is_silent();
}

/// An edge comes once: a partial read leaves bytes that no event reports, until new ones arrive.
#[test]
fn a_partial_read_leaves_bytes_that_only_new_bytes_report() {
    let mut both = Both::registered();
    both.client_sends(b"0123456789");
    both.reports(|report| report.readable);
    both.reads(4, Ok(4));
    both.is_silent();
    both.client_sends(b"!");
    both.reports(|report| report.readable);
    both.reads(100, Ok(7));
    both.reads(100, Err(ErrorKind::WouldBlock));
    both.is_silent();
}

/// Bytes and FIN come as one event. The read is short, and nothing reports the end of input.
#[test]
fn bytes_and_fin_come_as_one_event() {
    let mut both = Both::registered();
    both.client_sends(b"abc");
    both.client_shuts();
    both.reports(|report| report.readable && report.read_closed && !report.hung_up);
    both.reads(100, Ok(3));
    both.is_silent();
    both.reads(100, Ok(0));
}

/// A short write is as good as would-block: an event follows when the client has read.
#[test]
fn a_short_write_is_followed_by_an_event() {
    let mut both = Both::registered();
    let big = vec![7; 64 << 20];
    assert_eq!(both.sim.write(&big).ok(), Some(CAPACITY));
    let sent = both.real.server.write(&big).unwrap();
    assert!(sent < big.len(), "the real socket took everything");
    both.is_silent();
    both.sim.client_takes(usize::MAX);
    let mut rest = vec![0; sent];
    both.real.client.read_exact(&mut rest).unwrap();
    both.reports(|report| report.writable);
}

#[test]
fn a_reset_is_an_error_first_and_the_end_of_input_then() {
    let mut both = Both::registered();
    both.sim.client_resets();
    let client = std::mem::replace(&mut both.real.client, Real::connect().client);
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    both.reports(|report| report.readable && report.read_closed && report.hung_up);
    both.reads(10, Err(ErrorKind::ConnectionReset));
    both.reads(10, Ok(0));
}

/// Closing with unread input resets the connection (RFC 2525 section 2.17).
#[test]
fn a_close_with_unread_input_is_a_reset() {
    let mut both = Both::registered();
    both.client_sends(b"unread");
    both.reports(|report| report.readable);
    both.sim.server_closes(false);
    assert_eq!(both.sim.server_end(), End::Reset);
    let Real { server, mut client, poll: _poll } = both.real;
    drop(server);
    client.set_read_timeout(Some(COMES)).unwrap();
    assert_eq!(client.read(&mut [0; 10]).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

/// The level-triggered kernel of the bug `level-trigger` reports unread input in each poll.
#[test]
fn a_level_triggered_poll_repeats_unread_input() {
    use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
    let mut both = Both::registered();
    let level = epoll::create(CreateFlags::CLOEXEC).unwrap();
    both.client_sends(b"abc");
    let server = std::os::fd::AsFd::as_fd(&both.real.server);
    epoll::add(&level, server, EventData::new_u64(1), EventFlags::IN).unwrap();
    for _ in 0..3 {
        let mut seen = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 1];
        let wait = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
        assert_eq!(epoll::wait(&level, &mut seen[..], Some(&wait)).unwrap(), 1);
        assert!(both.sim.take_report(true).is_some_and(|report| report.readable));
    }
}

/// Without a descriptor an accept fails and leaves the client in the queue, and the edge-triggered
/// listener reports nothing more. The limit applies to a process, so a child runs this test.
#[test]
fn a_failed_accept_leaves_the_client_in_the_queue() {
    const CHILD: &str = "WHIRLIGIG_KERNEL_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let name = "kernel::a_failed_accept_leaves_the_client_in_the_queue";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    let std_listener = TcpListener::bind("127.0.0.1:0").unwrap();
    std_listener.set_nonblocking(true).unwrap();
    let addr = std_listener.local_addr().unwrap();
    let mut listener = mio::net::TcpListener::from_std(std_listener);
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&mut listener, Token(0), Interest::READABLE).unwrap();
    let _client = TcpStream::connect(addr).unwrap();
    let mut events = Events::with_capacity(8);
    poll.poll(&mut events, Some(COMES)).unwrap();
    assert_eq!(events.iter().count(), 1, "the client is reported once");
    let spare = std::fs::File::open("/dev/null").unwrap();
    let limit = std::os::fd::AsRawFd::as_raw_fd(&spare) as u64 + 1;
    let old = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let tight = rustix::process::Rlimit { current: Some(limit), maximum: old.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, tight).unwrap();
    let error = listener.accept().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(24), "EMFILE");
    poll.poll(&mut events, Some(STAYS_AWAY)).unwrap();
    assert!(events.is_empty(), "no further event reports the client");
    drop(spare);
    assert!(listener.accept().is_ok(), "the client still waits");
}
