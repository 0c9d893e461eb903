//! The URLs of a listener. For an unspecified address they contain the addresses of this machine.
//!
//! A browser cannot open `http://0.0.0.0/`, and a phone in the same network cannot open
//! `http://127.0.0.1/`. This file must not know sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// Largest number of addresses per listener that are printed besides the loopback one. A machine
/// with many addresses has them for its containers, and they would hide the useful ones.
const ADDRESSES_SHOWN_MAX: usize = 4;

/// Returns one URL for each address of a listener on `addr`. For an unspecified address, the
/// loopback one is first, followed by those that other machines can use.
pub(super) fn urls(addr: SocketAddr) -> Vec<String> {
    let loopback: IpAddr = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => return vec![url(ip, addr.port())],
    };
    let others = reachable(addr.ip(), of_this_machine());
    [loopback].into_iter().chain(others).map(|ip| url(ip, addr.port())).collect()
}

fn url(ip: IpAddr, port: u16) -> String {
    format!("http://{}/", SocketAddr::new(ip, port))
}

/// Returns the addresses of all interfaces that are up, in the order of the interfaces. Returns
/// none if the system call fails; then only the loopback address is printed.
fn of_this_machine() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let is_up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    let up = interfaces.filter(|interface| {
        interface.flags.contains(is_up) && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
    });
    let addresses = up.filter_map(|interface| interface.address);
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    };
    addresses.filter_map(ip).collect()
}

/// Returns those of `addresses` that another machine can use to reach a listener on `bound`, IPv4
/// first.
fn reachable(bound: IpAddr, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let is_usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        // A link-local address needs the name of an interface, which differs on each machine.
        IpAddr::V6(ip) => bound.is_ipv6() && !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let mut usable: Vec<IpAddr> = addresses.into_iter().filter(is_usable).collect();
    usable.sort_by_key(IpAddr::is_ipv6);
    usable.truncate(ADDRESSES_SHOWN_MAX);
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_one_address_has_one_url() {
        for (addr, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("[::1]:81", "http://[::1]:81/"),
            ("192.0.2.7:80", "http://192.0.2.7:80/"),
        ] {
            assert_eq!(urls(addr.parse().unwrap()), [url]);
        }
    }

    #[test]
    fn an_unspecified_address_has_the_loopback_one_first() {
        for (addr, first) in [("0.0.0.0:8080", "http://127.0.0.1:8080/"), ("[::]:81", "http://[::1]:81/")] {
            let urls = urls(addr.parse().unwrap());
            assert_eq!(urls[0], first);
            assert!(urls.len() <= 1 + ADDRESSES_SHOWN_MAX && !urls.concat().contains("0.0.0.0"), "{urls:?}");
        }
    }

    #[test]
    fn only_what_other_machines_can_use_is_shown() {
        let all =
            ["fd00::7", "fe80::1", "127.0.0.2", "169.254.3.4", "192.0.2.7", "10.0.0.1", "::1", "2001:db8::1"];
        let all: Vec<IpAddr> = all.map(|ip| ip.parse().unwrap()).to_vec();
        let shown = |bound: &str| {
            let ips = reachable(bound.parse().unwrap(), all.clone());
            ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("0.0.0.0"), "192.0.2.7 10.0.0.1");
        assert_eq!(shown("::"), "192.0.2.7 10.0.0.1 fd00::7 2001:db8::1", "it takes IPv4 as well");
        assert_eq!(reachable("0.0.0.0".parse().unwrap(), vec![all[4]; 9]).len(), ADDRESSES_SHOWN_MAX);
    }
}
