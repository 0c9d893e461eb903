//! Owners of unfinished uploads.
//!
//! All clients share the room for unfinished uploads. It is divided by owner, so that one client
//! cannot evict the uploads of another. Must not know what is kept.

use core::net::IpAddr;

use crate::conn_id::Peer;
use crate::handler::Context;

/// Owner of an upload: the authenticated user and the network of the client.
///
/// Both count, because many clients can share a password, and many users the address of a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    user: Option<String>,
    network: Option<IpAddr>,
}

impl Owner {
    /// Owner of an upload that the current request begins.
    pub(crate) fn of(cx: &Context<'_>) -> Owner {
        Owner::new(cx.user(), cx.peer())
    }

    fn new(user: Option<&str>, peer: &Peer) -> Owner {
        Owner { user: user.map(str::to_owned), network: peer.network() }
    }
}

#[cfg(test)]
impl Owner {
    /// Owner for tests: a user at an address.
    pub(crate) fn named(user: &str, address: &str) -> Owner {
        Owner::new(Some(user), &Peer::from_addr(address.parse().unwrap()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_differ_by_user_and_by_network() {
        let [one, same, other_host, other_net, mapped] = [
            "[2001:db8::1]:1",
            "[2001:db8::ffff:1]:2",
            "192.0.2.1:3",
            "[2001:db8:0:1::1]:1",
            "[::ffff:192.0.2.1]:9",
        ]
        .map(|address| Owner::named("u", address));
        assert_eq!(one, same, "addresses of one /64");
        assert!(one != other_net && one != other_host);
        assert_eq!(other_host, mapped);
        assert_ne!(Owner::named("u", "192.0.2.1:3"), Owner::named("v", "192.0.2.1:3"));
        let unknown = Owner::new(None, &Peer::Unix);
        assert!(unknown == Owner::default() && unknown != Owner::new(Some("u"), &Peer::Unix));
    }
}
