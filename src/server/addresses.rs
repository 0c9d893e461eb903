//! The URLs of a listener. For an unspecified address they contain the addresses of this machine.
//!
//! A browser cannot open `http://0.0.0.0/`, and a phone in the same network cannot open
//! `http://127.0.0.1/`. This file must not know listeners.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// Largest number of addresses per listener that are printed besides the loopback one. A machine
/// with many addresses has them for its containers, and they would hide the useful ones.
const ADDRESSES_SHOWN_MAX: usize = 4;

/// Port that a URL with the scheme `http` leaves out (RFC 9110 section 4.2.1).
const HTTP_PORT: u16 = 80;

/// First letters of the names of interfaces to virtual machines and containers. Other machines
/// seldom reach their addresses, so these are listed after the others.
const VIRTUAL: [&str; 10] =
    ["docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "lxc", "lxd", "cni", "podman"];

/// An address of an interface that is up.
#[derive(Clone, Debug)]
struct Interface {
    name: String,
    ip: IpAddr,
}

/// Returns one URL for each address of a listener on `addr`. For an unspecified address these are
/// the URLs that other machines can use, that of the local network first, and then that of the
/// loopback address.
pub(super) fn urls(addr: SocketAddr) -> Vec<String> {
    if !addr.ip().is_unspecified() {
        return vec![url(addr.ip(), addr.port())];
    }
    let others = reachable(addr.ip(), interfaces(), &outward(addr.ip()));
    // `::` accepts IPv4 as well.
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    others.into_iter().chain([loopback]).map(|ip| url(ip, addr.port())).collect()
}

fn url(ip: IpAddr, port: u16) -> String {
    match (ip, port) {
        (IpAddr::V4(ip), HTTP_PORT) => format!("http://{ip}/"),
        (IpAddr::V6(ip), HTTP_PORT) => format!("http://[{ip}]/"),
        _ => format!("http://{}/", SocketAddr::new(ip, port)),
    }
}

/// Returns the addresses of all interfaces that are up and connected, in the order of the
/// interfaces. The bridge of Docker is not connected while no container runs. Returns none if the
/// system call fails; then only the loopback address is printed.
fn interfaces() -> Vec<Interface> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let is_up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    let up = interfaces.filter(|interface| {
        interface.flags.contains(is_up) && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
    });
    let with_ip = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))?;
        Some(Interface { name: interface.interface_name, ip })
    };
    up.filter_map(with_ip).collect()
}

/// Returns the addresses that packets to the Internet have as their source: those of the network
/// with the router, in which phones are.
fn outward(bound: IpAddr) -> Vec<IpAddr> {
    // Connecting a UDP socket sends nothing. The kernel only chooses the route and the source.
    // Both targets are reserved for documentation (RFC 5737, RFC 3849).
    let source = |own: IpAddr, target: IpAddr| -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect((target, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    let v4 = source(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into());
    let v6 = bound
        .is_ipv6()
        .then(|| source(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()));
    v4.into_iter().chain(v6.into_iter().flatten()).collect()
}

/// Returns the addresses that another machine can use to reach a listener on `bound`. IPv4 is
/// first, then the addresses in `outward`, then those of interfaces that are not virtual.
fn reachable(bound: IpAddr, interfaces: Vec<Interface>, outward: &[IpAddr]) -> Vec<IpAddr> {
    let is_usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        // Browsers accept no link-local address, because that needs the name of an interface.
        IpAddr::V6(ip) => bound.is_ipv6() && !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let rank = |Interface { name, ip }: &Interface| {
        let is_virtual = VIRTUAL.iter().any(|start| name.starts_with(start));
        (ip.is_ipv6(), !outward.contains(ip), is_virtual)
    };
    let mut usable: Vec<Interface> = interfaces.into_iter().filter(|one| is_usable(&one.ip)).collect();
    usable.sort_by_key(rank);
    // Two interfaces may have the same address.
    usable.dedup_by_key(|one| one.ip);
    usable.truncate(ADDRESSES_SHOWN_MAX);
    usable.into_iter().map(|one| one.ip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_one_address_has_one_url() {
        for (addr, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("[::1]:81", "http://[::1]:81/"),
            ("192.0.2.7:80", "http://192.0.2.7/"),
            ("[2001:db8::7]:80", "http://[2001:db8::7]/"),
        ] {
            assert_eq!(urls(addr.parse().unwrap()), [url]);
        }
    }

    #[test]
    fn an_unspecified_address_has_the_loopback_one_last() {
        for (addr, last) in [("0.0.0.0:8080", "http://127.0.0.1:8080/"), ("[::]:80", "http://127.0.0.1/")] {
            let urls = urls(addr.parse().unwrap());
            assert_eq!(urls.last().unwrap(), last);
            assert!(urls.len() <= 1 + ADDRESSES_SHOWN_MAX && !urls.concat().contains("0.0.0.0"), "{urls:?}");
        }
    }

    #[test]
    fn only_what_other_machines_can_use_is_shown() {
        let all = [
            ("docker0", "172.17.0.1"),
            ("wlan0", "fd00::7"),
            ("wlan0", "fe80::1"),
            ("lo", "127.0.0.2"),
            ("eth1", "169.254.3.4"),
            ("eth0", "10.0.0.1"),
            ("wlan0", "192.168.1.7"),
            ("lo", "::1"),
            ("eth0", "2001:db8::1"),
        ];
        let of = |(name, ip): &(&str, &str)| Interface { name: (*name).into(), ip: ip.parse().unwrap() };
        let all: Vec<Interface> = all.iter().map(of).collect();
        let shown = |bound: &str, outward: &[&str]| {
            let outward: Vec<IpAddr> = outward.iter().map(|ip| ip.parse().unwrap()).collect();
            let ips = reachable(bound.parse().unwrap(), all.clone(), &outward);
            ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("0.0.0.0", &[]), "10.0.0.1 192.168.1.7 172.17.0.1");
        assert_eq!(shown("0.0.0.0", &["192.168.1.7"]), "192.168.1.7 10.0.0.1 172.17.0.1");
        let both = ["192.168.1.7", "2001:db8::1"];
        assert_eq!(
            shown("::", &both),
            "192.168.1.7 10.0.0.1 172.17.0.1 2001:db8::1",
            "it takes IPv4 as well"
        );
        let many = (0..9).map(|last| Interface { name: "eth0".into(), ip: [10, 0, 0, last].into() });
        assert_eq!(reachable("::".parse().unwrap(), many.collect(), &[]).len(), ADDRESSES_SHOWN_MAX);
    }
}
