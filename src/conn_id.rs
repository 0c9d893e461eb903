//! The name of a connection that outlives its slot.
//!
//! slab hands the last freed slot to the very next accept, so a bare index held by an event, a
//! deadline or a job result would soon point at a stranger. Whatever waits holds a [`ConnId`]; a
//! miss is counted and ignored. What is watched for a connection (the pipes of a child) has names
//! of the same make, [`WatchId`].
//!
//! [`Peer`] is the other end of a connection: its address, or none over a Unix socket.

use std::net::{IpAddr, Ipv6Addr};

/// Generation and slot of one connection. Packs into the 64 bits of a poll token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    generation: u32,
    slot: u32,
}

impl ConnId {
    /// A name. Generation 0 is kept for what is no connection: listeners, the waker, signals.
    #[must_use]
    pub const fn new(generation: u32, slot: u32) -> Self {
        ConnId { generation, slot }
    }

    /// The slot it stood in when it was named.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.slot as usize
    }

    /// The generation; 0 for what is no connection.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// As a poll token.
    #[must_use]
    pub const fn to_token(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// From a poll token.
    #[must_use]
    pub const fn from_token(token: u64) -> Self {
        ConnId { generation: (token >> 32) as u32, slot: token as u32 }
    }
}

/// The name of something a loop watches beside its connections; see
/// [`crate::handler::watch::Watched`].
///
/// Names of both kinds meet in poll tokens, so the topmost bit of the slot tells them apart: no
/// process has 2^31 descriptors. The two bits below it say which descriptor of the watched thing an
/// event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId {
    generation: u32,
    slot: u32,
}

/// In a token's slot: it names something watched.
const WATCHED: u32 = 1 << 31;

/// Where in a token's slot the number of a descriptor stands, and how wide it is.
const NUMBER_AT: u32 = 29;
const NUMBER_BITS: u32 = 0b11;

impl WatchId {
    /// A name. Generation 0 is for what is neither a connection nor watched for one.
    #[must_use]
    pub const fn new(generation: u32, slot: u32) -> Self {
        WatchId { generation, slot }
    }

    /// The slot it stood in when it was named.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.slot as usize
    }

    /// The generation.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// As a poll token, for descriptor `number` of 0 to 3.
    #[must_use]
    pub const fn to_token(self, number: u8) -> u64 {
        let slot = WATCHED | (number as u32 & NUMBER_BITS) << NUMBER_AT | self.slot;
        ConnId::new(self.generation, slot).to_token()
    }

    /// From a poll token, with the number of the descriptor; `None` if that names no watched thing.
    #[must_use]
    pub const fn from_token(token: u64) -> Option<(Self, u8)> {
        let ConnId { generation, slot } = ConnId::from_token(token);
        if generation == 0 || slot & WATCHED == 0 {
            return None;
        }
        let number = (slot >> NUMBER_AT & NUMBER_BITS) as u8;
        Some((WatchId { generation, slot: slot & ((1 << NUMBER_AT) - 1) }, number))
    }
}

impl std::fmt::Display for ConnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An IPv4 address and port.
    V4([u8; 4], u16),
    /// An IPv6 address and port, boxed: they are rare and an idle connection is to stay small.
    V6(Box<([u8; 16], u16)>),
    /// Someone on this machine, over a Unix socket.
    Unix,
}

impl Peer {
    /// From a socket address.
    #[must_use]
    pub fn from_addr(addr: std::net::SocketAddr) -> Self {
        // An IPv4 client of a dual-stack socket comes as ::ffff:a.b.c.d; it is logged as what it
        // is.
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => Peer::V4(ip.octets(), addr.port()),
            IpAddr::V6(ip) => Peer::V6(Box::new((ip.octets(), addr.port()))),
        }
    }

    /// Its port, if it has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Peer::V4(_, port) => Some(*port),
            Peer::V6(v6) => Some(v6.1),
            Peer::Unix => None,
        }
    }

    /// The address of its network: a client with an IPv6 address has all of the last 64 bits, so
    /// they tell clients apart no better than ports do (RFC 4291 section 2.5.1). `None` for Unix
    /// sockets.
    pub(crate) fn network(&self) -> Option<IpAddr> {
        const HOST_BITS: u32 = 64;
        Some(match self.ip()? {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> HOST_BITS << HOST_BITS).into(),
        })
    }

    /// Its IP address, if it has one.
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
