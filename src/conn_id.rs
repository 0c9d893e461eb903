//! The id of a connection, which stays unique after its slot is reused.
//!
//! slab gives the last freed slot to the next accepted connection. So a bare index in an event, a
//! deadline or a job result would soon refer to another connection. Anything that waits holds a
//! [`ConnId`], and an id without a connection is counted and ignored. Objects watched for a
//! connection, such as the pipes of a child process, have ids of another kind, [`WatchId`].
//!
//! [`Peer`] is the address of the other end of a connection. Must not know connections or sockets.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr};

/// Generation and slot of an object of one kind: [`ConnId`] or [`WatchId`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id<K> {
    generation: u32,
    slot: u32,
    kind: PhantomData<K>,
}

/// The id of a connection. Packs into the 64 bits of a poll token.
pub type ConnId = Id<ConnKind>;

/// The id of an object that a loop watches for a connection; see
/// [`crate::handler::watch::Watched`].
///
/// Both kinds of ids are poll tokens. The topmost bit of the slot distinguishes them, because no
/// process has 2^31 descriptors. The two bits below it are the number of the descriptor of the
/// watched object that an event belongs to.
pub type WatchId = Id<WatchKind>;

/// Marks the ids of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnKind {}

/// Marks the ids of watched objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WatchKind {}

impl<K: Copy> Id<K> {
    /// Creates an id. Generation 0 is reserved for tokens that belong to neither kind: listeners,
    /// the waker, signals.
    #[must_use]
    pub const fn new(generation: u32, slot: u32) -> Self {
        Id { generation, slot, kind: PhantomData }
    }

    /// Returns the slot that the object had when the id was made.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.slot as usize
    }

    /// Returns the generation; 0 for tokens that belong to neither kind.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

impl ConnId {
    /// Packs the id into a poll token.
    #[must_use]
    pub const fn to_token(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// Unpacks an id from a poll token.
    #[must_use]
    pub const fn from_token(token: u64) -> Self {
        Id::new((token >> 32) as u32, token as u32)
    }
}

/// Bit of a token's slot that marks a watched object.
const WATCHED: u32 = 1 << 31;

/// Position of the descriptor's number in a token's slot, and its mask.
const NUMBER_AT: u32 = 29;
const NUMBER_BITS: u32 = 0b11;

impl WatchId {
    /// Packs the id into a poll token for descriptor `number` of 0 to 3.
    #[must_use]
    pub const fn to_token(self, number: u8) -> u64 {
        let slot = WATCHED | (number as u32 & NUMBER_BITS) << NUMBER_AT | self.slot;
        ConnId::new(self.generation, slot).to_token()
    }

    /// Unpacks an id and the number of the descriptor from a poll token. `None` if the token is not
    /// that of a watched object.
    #[must_use]
    pub const fn from_token(token: u64) -> Option<(Self, u8)> {
        let Id { generation, slot, .. } = ConnId::from_token(token);
        if generation == 0 || slot & WATCHED == 0 {
            return None;
        }
        let number = (slot >> NUMBER_AT & NUMBER_BITS) as u8;
        Some((Id::new(generation, slot & ((1 << NUMBER_AT) - 1)), number))
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// An IPv4 address and port.
    V4([u8; 4], u16),
    /// An IPv6 address and port, boxed because they are rare and an idle connection must stay
    /// small.
    V6(Box<([u8; 16], u16)>),
    /// A process on this machine, over a Unix socket.
    Unix,
}

impl Peer {
    /// Converts a socket address.
    #[must_use]
    pub fn from_addr(addr: std::net::SocketAddr) -> Self {
        // An IPv4 client of a dual-stack socket has the address ::ffff:a.b.c.d, which is logged as
        // IPv4.
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => Peer::V4(ip.octets(), addr.port()),
            IpAddr::V6(ip) => Peer::V6(Box::new((ip.octets(), addr.port()))),
        }
    }

    /// Returns the port, if the peer has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Peer::V4(_, port) => Some(*port),
            Peer::V6(v6) => Some(v6.1),
            Peer::Unix => None,
        }
    }

    /// Returns the address of the network. An IPv6 client has the whole range of the last 64 bits,
    /// so these distinguish clients no better than ports do (RFC 4291 section 2.5.1). `None` for
    /// Unix sockets.
    pub(crate) fn network(&self) -> Option<IpAddr> {
        const HOST_BITS: u32 = 64;
        Some(match self.ip()? {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> HOST_BITS << HOST_BITS).into(),
        })
    }

    /// Returns the IP address, if the peer has one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::V4(octets, _) => Some(IpAddr::from(*octets)),
            Peer::V6(v6) => Some(IpAddr::from(v6.0)),
            Peer::Unix => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_the_name() {
        for id in [ConnId::new(1, 0), ConnId::new(u32::MAX, u32::MAX), ConnId::new(7, 12345)] {
            assert_eq!(ConnId::from_token(id.to_token()), id);
        }
    }

    #[test]
    fn names_of_both_kinds_are_told_apart() {
        for id in [WatchId::new(1, 0), WatchId::new(u32::MAX, (1 << 29) - 1), WatchId::new(7, 12345)] {
            for number in 0..4 {
                assert_eq!(WatchId::from_token(id.to_token(number)), Some((id, number)));
            }
        }
        for id in [ConnId::new(1, 0), ConnId::new(7, (1 << 31) - 1), ConnId::new(0, u32::MAX)] {
            assert_eq!(WatchId::from_token(id.to_token()), None);
        }
    }
}
