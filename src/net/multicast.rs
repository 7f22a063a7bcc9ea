//! Speaking to everybody on a local network: the groups of the beacons, one interface at a time.
//!
//! Always by interface index: without a route (a fresh machine, a network of two) a multicast to "the
//! default interface" fails with ENETUNREACH, by index it works.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use socket2::{Domain, InterfaceIndexOrAddress, SockAddr, SockRef};

use super::interfaces::Interface;

/// The IPv4 group: of the block for use within one site (RFC 2365 section 6.1).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 72, 30);

/// The IPv6 group: transient, of one link (RFC 4291 section 2.7).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x7230);

/// Prepares a socket for sending to the groups: not beyond the local network, and heard on this machine.
pub fn prepare(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if socket.domain()? == Domain::IPV6 {
        socket.set_multicast_hops_v6(1)?;
        socket.set_multicast_loop_v6(true)?;
        if socket.only_v6()? {
            return Ok(());
        }
    }
    // Also of a socket for both families: Linux takes them there for IPv4 destinations.
    socket.set_multicast_ttl_v4(1)?;
    socket.set_multicast_loop_v4(true)
}

/// Hears the group of this interface's address family. Doing it twice is no error.
pub fn join(socket: &impl AsFd, interface: &Interface) -> io::Result<()> {
    let socket = SockRef::from(socket);
    let joined = if interface.address.is_ipv4() {
        let index = InterfaceIndexOrAddress::Index(interface.index);
        socket.join_multicast_v4_n(&GROUP_V4, &index)
    } else {
        socket.join_multicast_v6(&GROUP_V6, interface.index)
    };
    match joined {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        other => other,
    }
}

/// Sends to the group of this interface's address family on this interface, at this port.
pub fn send(socket: &impl AsFd, interface: &Interface, port: u16, bytes: &[u8]) -> io::Result<()> {
    let raw = SockRef::from(socket);
    let to: SocketAddr = if interface.address.is_ipv4() {
        let any = Ipv4Addr::UNSPECIFIED;
        rustix::net::sockopt::set_ip_multicast_if_with_ifindex(
            socket,
            &any,
            &any,
            interface.index,
        )?;
        match raw.domain()? {
            Domain::IPV6 => (GROUP_V4.to_ipv6_mapped(), port).into(),
            _ => (GROUP_V4, port).into(),
        }
    } else {
        SocketAddrV6::new(GROUP_V6, port, 0, interface.index).into()
    };
    raw.send_to(bytes, &SockAddr::from(to)).map(drop)
}

/// The interfaces at which the groups can be spoken to, once for each address family; the address that
/// others can use best comes first.
pub fn usable(interfaces: &[Interface], only: Option<&str>) -> Vec<Interface> {
    let mut found: Vec<Interface> = Vec::new();
    for interface in interfaces {
        let fits = interface.up
            && interface.index != 0
            // Linux multicasts on the loopback although that lacks the flag.
            && (interface.multicast || interface.loopback)
            && only.is_none_or(|only| only == interface.name);
        if !fits {
            continue;
        }
        let same = |other: &&mut Interface| {
            other.index == interface.index && other.address.is_ipv4() == interface.address.is_ipv4()
        };
        match found.iter_mut().find(same) {
            None => found.push(interface.clone()),
            Some(known) if is_link_local(known) && !is_link_local(interface) => {
                known.address = interface.address;
            }
            Some(_) => {}
        }
    }
    found
}

fn is_link_local(interface: &Interface) -> bool {
    match interface.address {
        std::net::IpAddr::V4(address) => address.is_link_local(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, index: u32, address: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            index,
            address: address.parse().unwrap(),
            up: true,
            loopback: name == "lo",
            multicast: name != "lo",
        }
    }

    #[test]
    fn each_family_of_each_interface_counts_once() {
        let all = [
            interface("lo", 1, "127.0.0.1"),
            interface("eth0", 2, "fe80::1"),
            interface("eth0", 2, "fd00::1"),
            interface("eth0", 2, "10.0.0.1"),
            interface("eth0", 2, "10.0.0.2"),
            Interface { multicast: false, ..interface("tun0", 3, "10.8.0.1") },
            Interface { up: false, ..interface("eth1", 4, "10.1.0.1") },
        ];
        let addresses =
            |only| usable(&all, only).iter().map(|i| i.address.to_string()).collect::<Vec<_>>();
        assert_eq!(addresses(None), ["127.0.0.1", "fd00::1", "10.0.0.1"]);
        assert_eq!(addresses(Some("eth0")), ["fd00::1", "10.0.0.1"]);
    }
}
