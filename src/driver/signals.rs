//! Signals as bytes on a socket pair, so that they reach the poll, or a blocking acceptor, like
//! anything else.
//!
//! A signal handler may do next to nothing (signal-safety(7)); signal-hook's only writes one byte.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};

use rustix::fs::OFlags;
use rustix::io::Errno;
use signal_hook::SigId;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::low_level::{pipe, unregister};

/// How often a byte is written in a row while signals interrupt that.
const WRITE_TRIES: usize = 3;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: a graceful stop; the second one at once.
    Interrupt,
    /// SIGTERM: a graceful stop; the second one at once.
    Terminate,
    /// SIGQUIT: a graceful stop; the second one at once.
    Quit,
    /// SIGHUP after the controlling terminal was closed: a graceful stop. Shell and kernel may both
    /// send it, so a second one means nothing.
    TerminalClosed,
    /// SIGUSR1, and SIGHUP otherwise: a log was rotated. The access log is opened anew.
    Reopen,
}

impl Signal {
    /// The exit code of a process that this signal cut short: 128 and its number.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
            Signal::Quit => 131,
            Signal::TerminalClosed | Signal::Reopen => 129,
        }
    }
}

/// The terminal that this process was started in, if closing it should end the process.
///
/// Read once, before any signal is taken over: later SIGHUP is no longer ignored, even with
/// nohup(1).
static TERMINAL: LazyLock<Option<Terminal>> = LazyLock::new(|| {
    let was_there = Terminal.open().is_ok();
    (was_there && !is_ignored(SIGHUP)).then_some(Terminal)
});

/// The controlling terminal of this process (tty(4)).
#[derive(Clone, Copy, Debug)]
struct Terminal;

impl Terminal {
    fn open(self) -> io::Result<std::fs::File> {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open("/dev/tty")
    }

    /// Only ENXIO means that there is none any more. Any other error says nothing about the
    /// terminal.
    fn is_gone(self) -> bool {
        self.open().is_err_and(|error| error.raw_os_error() == Some(Errno::NXIO.raw_os_error()))
    }
}

/// The receiving end. Each signal has a socket pair of its own, and the poll watches all of them.
/// So the byte that tells which signal came is also the one that wakes the loop, and nothing has to
/// be read while no signal comes.
#[derive(Debug)]
pub struct Signals {
    each: [(Signal, mio::net::UnixStream); 5],
    /// The other ends, which stay open: a socket whose peer is closed is readable for ever.
    _far_ends: [UnixStream; 4],
    /// The terminal that SIGHUP is judged by; without one SIGHUP always means a rotated log.
    terminal: Option<Terminal>,
    remote: Remote,
    registered: Vec<SigId>,
}

/// Asks one server to stop as SIGTERM would, without any signal: it writes into the same sockets.
#[derive(Clone, Debug)]
pub(crate) struct Remote(Arc<UnixStream>);

impl Remote {
    /// Asks for a graceful stop; asked again, for an immediate one.
    pub(crate) fn terminate(&self) {
        // Fails only if the server is gone, or has more bytes waiting than it needs.
        for _ in 0..WRITE_TRIES {
            match (&*self.0).write(b".") {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
    }
}

impl Signals {
    /// Takes over SIGINT, SIGTERM, SIGQUIT, SIGHUP and SIGUSR1 of this process. Keeps SIGUSR2 and
    /// SIGXFSZ (a full log) from ending it, and sees to it that SIGCHLD is not ignored.
    pub fn install() -> io::Result<Self> {
        let terminal = *TERMINAL;
        let mut signals = Signals::open(true)?;
        signals.terminal = terminal;
        Ok(signals)
    }

    /// Takes them over for one more loop of the same server. The first loop alone decides whether
    /// the terminal was closed: two that look at different moments may differ.
    pub(crate) fn install_another() -> io::Result<Self> {
        Signals::open(true)
    }

    /// Leaves the signals of this process to others: only its [`Remote`] is heard.
    pub(crate) fn apart() -> io::Result<Self> {
        Signals::open(false)
    }

    fn open(registers: bool) -> io::Result<Self> {
        let mut registered = Vec::new();
        let mut pair = |signal, number| {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            if registers {
                registered.push(pipe::register(number, theirs.try_clone()?)?);
            }
            io::Result::Ok(((signal, mio::net::UnixStream::from_std(ours)), theirs))
        };
        let (interrupt, interrupt_end) = pair(Signal::Interrupt, SIGINT)?;
        let (terminate, by_hand) = pair(Signal::Terminate, SIGTERM)?;
        let (quit, quit_end) = pair(Signal::Quit, SIGQUIT)?;
        let (hang_up, hang_up_end) = pair(Signal::TerminalClosed, SIGHUP)?;
        let (reopen, reopen_end) = pair(Signal::Reopen, SIGUSR1)?;
        if registers {
            for number in [SIGUSR2, SIGXFSZ] {
                registered.push(signal_hook::flag::register(number, Arc::default())?);
            }
            if is_ignored(SIGCHLD) {
                // By inheritance. Then the system reaps children by itself, and nobody learns how
                // they ended (waitpid(2)). A handler that does nothing undoes that; a program that
                // is started has the default.
                registered.push(signal_hook::flag::register(SIGCHLD, Arc::default())?);
            }
        }
        Ok(Signals {
            each: [interrupt, terminate, quit, hang_up, reopen],
            _far_ends: [interrupt_end, quit_end, hang_up_end, reopen_end],
            terminal: None,
            remote: Remote(Arc::new(by_hand)),
            registered,
        })
    }

    /// A way to stop the server that holds these.
    pub(crate) fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// The sockets that become readable when a signal comes, one for each kind of signal.
    pub fn sources(&mut self) -> impl Iterator<Item = &mut mio::net::UnixStream> {
        self.each.iter_mut().map(|(_, pair)| pair)
    }

    /// The signals that came since the last call, one entry each. Call it when one of the
    /// [sources](Signals::sources) is readable; it reads all of them until they would block. Opens
    /// the terminal if SIGHUP is among the signals, which does not block.
    pub fn take(&mut self) -> Vec<Signal> {
        let mut bytes = [0; 64];
        let mut came = Vec::new();
        for (signal, pair) in &mut self.each {
            while let Ok(count @ 1..) = pair.read(&mut bytes) {
                came.extend(std::iter::repeat_n(*signal, count));
            }
        }
        if came.contains(&Signal::TerminalClosed) && !self.terminal.is_some_and(Terminal::is_gone) {
            let hang_ups = came.iter_mut().filter(|signal| **signal == Signal::TerminalClosed);
            hang_ups.for_each(|signal| *signal = Signal::Reopen);
        }
        came
    }
}

/// Whether this process ignores a signal, as far as that can be known.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

impl Drop for Signals {
    /// The next server of this process gets the signals; nobody gets them twice.
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            unregister(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::time::Duration;

    /// The number of sources that the poll reports, after `time` at the latest.
    fn ready(signals: &mut Signals, time: Duration) -> usize {
        let mut fds: Vec<_> = signals.sources().map(|source| PollFd::new(&*source, PollFlags::IN)).collect();
        let time = Timespec::try_from(time).unwrap();
        poll(&mut fds, Some(&time)).unwrap()
    }

    /// A source whose other end is closed is readable for ever, and a loop that polls it never
    /// rests.
    #[test]
    fn without_a_signal_no_source_is_ready_and_each_request_to_stop_is_one_signal() {
        let mut signals = Signals::apart().unwrap();
        assert_eq!(ready(&mut signals, Duration::ZERO), 0);
        let remote = signals.remote();
        remote.terminate();
        remote.terminate();
        assert_eq!(ready(&mut signals, Duration::from_secs(1)), 1);
        assert_eq!(signals.take(), [Signal::Terminate; 2]);
        assert_eq!((ready(&mut signals, Duration::ZERO), signals.take()), (0, Vec::new()));
    }
}
