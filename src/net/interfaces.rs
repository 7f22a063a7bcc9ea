//! The network interfaces of this machine, and which of their addresses to tell others.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::sys;

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name, as `ip link` shows it.
    pub name: String,
    /// The kernel's number of it; 0 if it went away meanwhile.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Whether it is up.
    pub up: bool,
    /// Whether it reaches only this machine.
    pub loopback: bool,
    /// Whether it can multicast.
    pub multicast: bool,
}

/// Most addresses that a node tells of itself.
const MAX_ADDRESSES: usize = 8;

/// The interfaces that have an IP address, once for each address.
pub fn list() -> io::Result<Vec<Interface>> {
    sys::interfaces()
}

/// Where others find a node that listens at `listen`: at the configured addresses if there are any, at
/// the addresses it listens on, or, where these are wildcards, at those of its interfaces: IPv4 first,
/// never link-local ones, loopback only if there is nothing else. `interface` keeps to one interface.
pub fn advertised(
    listen: &[SocketAddr],
    configured: &[IpAddr],
    interface: Option<&str>,
) -> Vec<SocketAddr> {
    choose(listen, configured, interface, &list().unwrap_or_default())
}

fn choose(
    listen: &[SocketAddr],
    configured: &[IpAddr],
    interface: Option<&str>,
    interfaces: &[Interface],
) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    let mut add = |address: SocketAddr| {
        if !found.contains(&address) && found.len() < MAX_ADDRESSES {
            found.push(address);
        }
    };
    let port = listen.first().map_or(crate::config::paths::PORT, SocketAddr::port);
    for address in configured {
        add(SocketAddr::from((*address, port)));
    }
    if !configured.is_empty() {
        return found;
    }
    for address in listen {
        if !address.ip().is_unspecified() {
            add(*address);
            continue;
        }
        let mut own: Vec<&Interface> = interfaces
            .iter()
            .filter(|i| i.up && interface.is_none_or(|name| name == i.name))
            // [::] takes IPv4 too; 0.0.0.0 takes nothing else.
            .filter(|i| address.is_ipv6() || i.address.is_ipv4())
            .filter(|i| !is_link_local(i.address))
            .collect();
        if own.iter().any(|i| !i.loopback) {
            own.retain(|i| !i.loopback);
        }
        own.sort_by_key(|i| i.address.is_ipv6());
        own.into_iter().for_each(|i| add(SocketAddr::from((i.address, address.port()))));
    }
    found
}

/// Addresses that mean something only together with an interface.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str) -> Interface {
        let address: IpAddr = address.parse().unwrap();
        Interface {
            name: name.to_owned(),
            index: 1,
            address,
            up: true,
            loopback: address.is_loopback(),
            multicast: true,
        }
    }

    fn chosen(listen: &str, configured: &[&str], name: Option<&str>, own: &[Interface]) -> String {
        let configured: Vec<_> = configured.iter().map(|a| a.parse().unwrap()).collect();
        let found = choose(&[listen.parse().unwrap()], &configured, name, own);
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn others_are_told_what_reaches_this_node() {
        let own = [
            interface("lo", "127.0.0.1"),
            interface("lo", "::1"),
            interface("eth0", "fe80::1"),
            interface("eth0", "fd00::1"),
            interface("eth0", "10.0.0.1"),
            interface("wg0", "10.9.0.1"),
        ];
        let all = "10.0.0.1:7230 10.9.0.1:7230 [fd00::1]:7230";
        assert_eq!(chosen("[::]:7230", &[], None, &own), all);
        assert_eq!(chosen("0.0.0.0:7230", &[], None, &own), "10.0.0.1:7230 10.9.0.1:7230");
        assert_eq!(chosen("[::]:7231", &[], Some("wg0"), &own), "10.9.0.1:7231");
        assert_eq!(chosen("10.0.0.1:7230", &[], None, &own), "10.0.0.1:7230");
        assert_eq!(chosen("[::]:7230", &["192.0.2.1"], None, &own), "192.0.2.1:7230");
        assert_eq!(chosen("[::]:7230", &[], None, &own[..3]), "127.0.0.1:7230 [::1]:7230");
    }

    #[test]
    fn this_machine_has_a_loopback() {
        assert!(list().unwrap().iter().any(|i| i.loopback && i.index != 0));
    }
}
