//! Signals as bytes on socket pairs, so that a poll or a blocking acceptor receives them like other
//! input.
//!
//! A signal handler may do almost nothing (signal-safety(7)). The handler of signal-hook only
//! writes one byte.

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

use crate::driver::outcome::Signal;

/// How often a write is repeated in a row if signals interrupt it.
const WRITE_TRIES: usize = 3;

/// The terminal that this process was started in, if closing it should end the process.
///
/// Read once, before any handler is installed. With a handler SIGHUP is no longer ignored, even
/// under nohup(1).
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

    /// Returns true if the process no longer has a controlling terminal. Only ENXIO means that; any
    /// other error does not concern the terminal.
    fn is_gone(self) -> bool {
        self.open().is_err_and(|error| error.raw_os_error() == Some(Errno::NXIO.raw_os_error()))
    }
}

/// The receiving end. Each signal has its own socket pair, and the poll watches all of them. The
/// byte that identifies the signal also wakes the loop, so nothing has to be read while no signal
/// comes.
#[derive(Debug)]
pub struct Signals {
    each: [(Signal, mio::net::UnixStream); 6],
    /// The other ends, which stay open because a socket whose peer is closed is always readable.
    _far_ends: [UnixStream; 5],
    /// The terminal that decides the meaning of SIGHUP. Without one, SIGHUP always means a rotated
    /// log.
    terminal: Option<Terminal>,
    remote: Remote,
    registered: Vec<SigId>,
}

/// Requests a stop of one server as SIGTERM would, without a signal: it writes into the same
/// socket.
#[derive(Clone, Debug)]
pub(crate) struct Remote(Arc<UnixStream>);

impl Remote {
    /// Requests a graceful stop. A second call requests an immediate one.
    pub(crate) fn terminate(&self) {
        // The write fails only if the server has ended, or has more bytes waiting than it needs.
        for _ in 0..WRITE_TRIES {
            match (&*self.0).write(b".") {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
    }
}

impl Signals {
    /// Installs handlers for SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1 and SIGUSR2. Prevents
    /// SIGXFSZ (a full log) from ending the process, and ensures that SIGCHLD is not ignored.
    pub fn install() -> io::Result<Self> {
        let terminal = *TERMINAL;
        let mut signals = Signals::open(true)?;
        signals.terminal = terminal;
        Ok(signals)
    }

    /// Installs handlers for a further loop of the same server. Only the first loop checks the
    /// terminal, because two loops that check at different times may get different results.
    pub(crate) fn install_another() -> io::Result<Self> {
        Signals::open(true)
    }

    /// Leaves the signals of this process alone. Only a [`Remote`] reaches this receiver.
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
        let (report, report_end) = pair(Signal::Report, SIGUSR2)?;
        if registers {
            registered.push(signal_hook::flag::register(SIGXFSZ, Arc::default())?);
            if is_ignored(SIGCHLD) {
                // The ignored state is inherited. With it the system reaps children by itself, and
                // their exit status is lost (waitpid(2)). A handler that does nothing prevents
                // that. Programs that the server starts have the default again.
                registered.push(signal_hook::flag::register(SIGCHLD, Arc::default())?);
            }
        }
        Ok(Signals {
            each: [interrupt, terminate, quit, hang_up, reopen, report],
            _far_ends: [interrupt_end, quit_end, hang_up_end, reopen_end, report_end],
            terminal: None,
            remote: Remote(Arc::new(by_hand)),
            registered,
        })
    }

    /// Returns a handle that can stop the server with this receiver.
    pub(crate) fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Returns the sockets that become readable when a signal comes, one for each kind of signal.
    pub fn sources(&mut self) -> impl Iterator<Item = &mut mio::net::UnixStream> {
        self.each.iter_mut().map(|(_, pair)| pair)
    }

    /// Returns the signals since the last call, one entry each. Call it when one of the
    /// [sources](Signals::sources) is readable; it reads all of them until would-block. If SIGHUP
    /// is among the signals, opens the terminal, which does not block.
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

/// Returns true if this process ignores a signal, as far as `/proc` shows it.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

impl Drop for Signals {
    /// Removes the handlers, so that the next server of this process receives the signals alone.
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

    /// Returns the number of sources that the poll reports within `time`.
    fn ready(signals: &mut Signals, time: Duration) -> usize {
        let mut fds: Vec<_> = signals.sources().map(|source| PollFd::new(&*source, PollFlags::IN)).collect();
        let time = Timespec::try_from(time).unwrap();
        poll(&mut fds, Some(&time)).unwrap()
    }

    /// A source whose other end is closed is always readable, and a loop that polls it would never
    /// sleep.
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
