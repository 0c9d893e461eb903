//! Signals as bytes on a socket pair, so that they reach the poll, or a blocking acceptor, like anything else.
//!
//! A signal handler may do next to nothing (signal-safety(7)); signal-hook's only writes one byte.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::low_level::pipe;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: a graceful stop; the second one at once.
    Interrupt,
    /// SIGTERM: the same.
    Terminate,
    /// SIGHUP: the terminal went, or a log was rotated. The access log is opened anew.
    HangUp,
}

impl Signal {
    /// The exit code of a process that this signal cut short: 128 and its number.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
            Signal::HangUp => 129,
        }
    }
}

/// The receiving end. The kind of a signal is in which pair its byte comes through, so there are three, and a
/// fourth that wakes the poll for all of them.
#[derive(Debug)]
pub struct Signals {
    wake: mio::net::UnixStream,
    each: [(Signal, UnixStream); 3],
}

impl Signals {
    /// Takes over SIGINT, SIGTERM and SIGHUP of this process, and keeps SIGXFSZ (a full log) from ending it.
    pub fn install() -> io::Result<Self> {
        let (wake, bell) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let mut each = Vec::new();
        for (signal, number) in
            [(Signal::Interrupt, SIGINT), (Signal::Terminate, SIGTERM), (Signal::HangUp, SIGHUP)]
        {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            // Registered in this order: when the bell rings the byte that says why is there.
            pipe::register(number, theirs)?;
            pipe::register(number, bell.try_clone()?)?;
            each.push((signal, ours));
        }
        signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default())?;
        let each = each.try_into().map_err(|_| io::Error::other("three signals make three pairs"))?;
        Ok(Signals { wake: mio::net::UnixStream::from_std(wake), each })
    }

    /// What becomes readable when a signal comes.
    pub fn source(&mut self) -> &mut mio::net::UnixStream {
        &mut self.wake
    }

    /// The signals that came since the last call, one entry each.
    pub fn take(&mut self) -> Vec<Signal> {
        let mut bytes = [0; 64];
        // The bell first: what rings after this rings again.
        while matches!(self.wake.read(&mut bytes), Ok(1..)) {}
        let mut came = Vec::new();
        for (signal, pair) in &mut self.each {
            while let Ok(count @ 1..) = pair.read(&mut bytes) {
                came.extend(std::iter::repeat_n(*signal, count));
            }
        }
        came
    }
}
