//! The record of one connection in the table of the loop.
//!
//! The table, [`Slots`](crate::driver::slots::Slots), gives connections their ids. A closed
//! connection is retired: it keeps its slot until the end of the turn, and no lookup finds it.
//! This file must not know what a connection does.

use crate::driver::client::Client;

/// One connection in its slot.
#[derive(Debug)]
pub struct Slot<S> {
    pub(crate) client: Client,
    pub(crate) stream: S,
    /// Number of the turn in which the connection was last pumped.
    pub(crate) pumped_in: u32,
    pub(crate) stage: Stage,
}

/// Stage of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Accepted and not registered with the poll.
    New,
    /// Registered with the poll.
    Registered,
}

impl<S> Slot<S> {
    /// Creates the record of a connection that was just accepted.
    #[must_use]
    pub fn new(client: Client, stream: S) -> Self {
        Slot { client, stream, pumped_in: 0, stage: Stage::New }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn_id::Peer;
    use crate::driver::slots::Entry;

    #[test]
    fn an_idle_connection_is_small() {
        // The sockets of mio contain an additional check in debug builds. In release builds a
        // socket is one descriptor, as here.
        #[expect(dead_code, reason = "only its size is of interest")]
        enum Socket {
            Tcp(std::os::fd::OwnedFd),
            Unix(std::os::fd::OwnedFd),
        }
        let bytes = size_of::<Entry<Slot<Socket>>>();
        let parts = [size_of::<Client>(), size_of::<crate::http::Connection>(), size_of::<Peer>()];
        assert!(bytes <= 120, "{bytes} bytes; client, connection, peer: {parts:?}");
    }
}
