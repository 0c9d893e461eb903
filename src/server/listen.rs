//! The listening sockets of a server: binds TCP addresses and creates the files of Unix sockets.
//!
//! This file must not know which code accepts connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::config::{Bind, Config};
use crate::server::addresses;
use crate::server::socket_file::SocketFile;

/// Number of ports after the default port that are tried if it is taken.
const PORTS_TRIED: u16 = 100;

/// A bound address.
#[derive(Debug)]
pub(super) enum Bound {
    /// One socket for each loop, all on one port.
    Tcp(Vec<std::net::TcpListener>, SocketAddr),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl Bound {
    pub(super) fn urls(&self) -> Vec<String> {
        match self {
            Bound::Tcp(_, addr) => addresses::urls(*addr),
            Bound::Unix(_, file) => vec![format!("unix:{}", file.path().display())],
        }
    }

    pub(super) fn addr(&self) -> Option<SocketAddr> {
        match self {
            Bound::Tcp(_, addr) => Some(*addr),
            Bound::Unix(..) => None,
        }
    }
}

/// Error that kept a server from starting.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// The docroot cannot be opened.
    Root(io::Error),
    /// The server cannot listen on this address.
    Address(String, io::Error),
    /// A file or setting of the site is missing or invalid.
    Site(String),
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BindError::Root(error) => write!(f, "cannot serve the docroot: {error}"),
            BindError::Site(why) => f.write_str(why),
            BindError::Address(address, error) => write!(f, "cannot listen on {address}: {error}"),
        }
    }
}

impl std::error::Error for BindError {}

pub(super) fn listen(bind: &Bind, config: &Config) -> Result<Bound, BindError> {
    match bind {
        Bind::Unix(path) => {
            let fail = |error| BindError::Address(format!("unix:{}", path.display()), error);
            let (listener, file) = SocketFile::listen(path).map_err(fail)?;
            listener.set_nonblocking(true).map_err(fail)?;
            Ok(Bound::Unix(listener, file))
        }
        Bind::Ip(ip, own_port) => {
            let first = own_port.unwrap_or(config.port);
            // Only the default port may give way to another one.
            let fixed = own_port.is_some() || config.port_is_explicit || first == 0;
            let mut port = first;
            loop {
                let addr = SocketAddr::new(*ip, port);
                let others = config.loops() - 1;
                let options = TcpOptions {
                    notsent_lowat_bytes: config.limits.notsent_lowat_bytes,
                    defer_accept: config.timeouts.defer_accept,
                };
                let bound = bind_tcp_shared(addr, options, others);
                let bound = bound.or_else(|error| match without_ipv6(addr, &error) {
                    Some(addr) => bind_tcp_shared(addr, options, others),
                    None => Err(error),
                });
                let bound = bound.and_then(|listeners| {
                    listeners[0].local_addr().map(|local| Bound::Tcp(listeners, local))
                });
                match bound {
                    Ok(bound) => return Ok(bound),
                    Err(error)
                        if !fixed
                            && error.kind() == io::ErrorKind::AddrInUse
                            && port < first.saturating_add(PORTS_TRIED) =>
                    {
                        port += 1;
                    }
                    Err(error) => return Err(BindError::Address(addr.to_string(), error)),
                }
            }
        }
    }
}

/// Returns the address of all IPv4 interfaces if `::` cannot be bound because the kernel has no
/// IPv6.
fn without_ipv6(addr: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let is_missing = error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    let is_all = addr.is_ipv6() && addr.ip().is_unspecified();
    (is_missing && is_all).then(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port()))
}

/// Options that [`bind_tcp_shared`] sets in addition to those it always sets.
#[derive(Clone, Copy, Debug)]
struct TcpOptions {
    /// [`Limits::notsent_lowat_bytes`](crate::config::Limits::notsent_lowat_bytes).
    notsent_lowat_bytes: u32,
    /// [`Timeouts::defer_accept`](crate::config::Timeouts::defer_accept).
    defer_accept: Duration,
}

/// Binds a TCP listener with all options that accepted sockets inherit.
///
/// An HTTP client sends first. With `TCP_DEFER_ACCEPT` (tcp(7)) the kernel keeps a connection until
/// its first bytes have arrived. So the first read follows the accept at once, and a connection
/// that is closed after its response is never registered with epoll. The kernel does not wait
/// without limit: after `defer_accept` it sends its SYN-ACK again, and hands over a connection
/// whose client replies to that.
///
/// Several loops can share the port (socket(7), SO_REUSEPORT). The first listener is bound without
/// sharing, so that a port in use is an error. It allows sharing before it listens, and the
/// `others` then join it.
fn bind_tcp_shared(
    addr: SocketAddr,
    options: TcpOptions,
    others: usize,
) -> io::Result<Vec<std::net::TcpListener>> {
    let first = bound_tcp(addr, options, false)?;
    if others > 0 {
        first.set_reuse_port(true)?;
    }
    first.listen(BACKLOG)?;
    let first: std::net::TcpListener = first.into();
    let addr = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 0..others {
        let other = bound_tcp(addr, options, true)?;
        other.listen(BACKLOG)?;
        listeners.push(other.into());
    }
    Ok(listeners)
}

/// The socket option `TCP_DEFER_ACCEPT` of tcp(7), which socket2 and rustix do not have.
#[derive(Clone, Copy, Debug)]
struct DeferAccept;

nix::setsockopt_impl!(
    DeferAccept,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    libc::c_int,
    nix::sys::socket::sockopt::SetStruct<libc::c_int>
);

/// Largest number of connections that may wait to be accepted. The default bound of the system
/// (net.core.somaxconn) is also 4096.
const BACKLOG: i32 = 4096;

/// Creates a TCP socket with all options and binds it. `joins` means that other sockets share its
/// port.
fn bound_tcp(addr: SocketAddr, options: TcpOptions, joins: bool) -> io::Result<socket2::Socket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // A restart must not wait for old connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        // Only `::` is dual-stack.
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_tcp_nodelay(true)?;
    if options.notsent_lowat_bytes > 0 {
        socket.set_tcp_notsent_lowat(options.notsent_lowat_bytes)?;
    }
    if let Ok(seconds @ 1..) = libc::c_int::try_from(options.defer_accept.as_secs()) {
        // A kernel without the option hands connections over earlier, which only costs a little
        // time.
        if let Err(error) = nix::sys::socket::setsockopt(&socket, DeferAccept, &seconds) {
            log::debug!("connections are accepted at once: {error}");
        }
    }
    socket.set_reuse_port(joins)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}
