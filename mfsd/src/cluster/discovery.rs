//! What changes around a node: its interfaces and addresses, and the seeds' names.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::time::Duration;

use mfs::config::paths;
use mfs::net::interfaces;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::UnixDatagram;

/// Multicast groups of rtnetlink(7): links, IPv4 and IPv6 addresses (RTMGRP_LINK, RTMGRP_IPV4_IFADDR,
/// RTMGRP_IPV6_IFADDR).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// Addresses come and go in bursts: a new lease, then its IPv6 companions.
const SETTLE: Duration = Duration::from_millis(300);

/// How often it is looked even if the kernel says nothing.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Longest wait for the names of seeds.
const RESOLVE_WITHIN: Duration = Duration::from_secs(10);

/// Tells when the interfaces or their addresses may have changed.
#[derive(Debug)]
pub(super) struct Watch {
    /// The kernel's news; `None` where there are none to be had.
    netlink: Option<UnixDatagram>,
}

/// The addresses that this node tells of itself.
#[derive(Debug)]
pub(super) struct OwnAddresses {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) configured: Vec<IpAddr>,
    pub(super) interface: Option<String>,
}

// === impl Watch ===

impl Watch {
    pub(super) fn open() -> Self {
        let netlink = open_netlink().inspect_err(|error| {
            tracing::debug!(%error, "no news of interfaces; looking every half minute instead");
        });
        Self { netlink: netlink.ok() }
    }

    /// Waits until something may have changed, or it is time to look.
    pub(super) async fn changed(&mut self) {
        let Some(netlink) = &self.netlink else {
            return tokio::time::sleep(LOOK_EVERY).await;
        };
        let news = async {
            // What it says is of no interest: the whole list is looked at again.
            let mut nothing = [0; 8_192];
            if netlink.recv(&mut nothing).await.is_err() {
                // ENOBUFS: there was more news than room for it.
                tokio::time::sleep(SETTLE).await;
            }
            tokio::time::sleep(SETTLE).await;
            while netlink.try_recv(&mut nothing).is_ok() {}
        };
        // Ends either way: that nothing was said is as good a reason to look.
        tokio::time::timeout(LOOK_EVERY, news).await.ok();
    }
}

/// The kernel's news. Tokio knows no netlink sockets; one of datagrams, whose addresses are never asked for,
/// receives from any socket.
fn open_netlink() -> io::Result<UnixDatagram> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol is protocol 0, NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    UnixDatagram::from_std(StdDatagram::from(socket))
}

// === impl OwnAddresses ===

impl OwnAddresses {
    /// The addresses now, given those before: a node between two leases keeps the old ones, rather than
    /// telling others to look for it on their own loopback.
    pub(super) fn look(&self, before: &[SocketAddr]) -> Vec<SocketAddr> {
        let now = interfaces::advertised(&self.listen, &self.configured, self.interface.as_deref());
        let reachable = |addresses: &[SocketAddr]| addresses.iter().any(|a| !a.ip().is_loopback());
        if !reachable(&now) && reachable(before) { before.to_vec() } else { now }
    }
}

/// The addresses of seeds, given as `host` or `host:port`. Names that cannot be resolved are left out:
/// they are asked for again.
pub(super) async fn resolve(seeds: &[String]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for seed in seeds {
        let with_port = match seed.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, paths::PORT).to_string(),
            Err(_) if has_port(seed) => seed.clone(),
            Err(_) => format!("{seed}:{}", paths::PORT),
        };
        match tokio::time::timeout(RESOLVE_WITHIN, tokio::net::lookup_host(&with_port)).await {
            Ok(Ok(addresses)) => found.extend(addresses),
            Ok(Err(error)) => tracing::info!(seed, %error, "the seed's name has no address now"),
            Err(_) => tracing::info!(seed, "the seed's name was not resolved in time"),
        }
    }
    found
}

fn has_port(seed: &str) -> bool {
    seed.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn seeds_may_name_a_port_or_not() {
        let seeds = ["127.0.0.1", "127.0.0.1:99", "::1", "[::1]:99", "no.such.host.invalid"];
        let found = resolve(&seeds.map(str::to_owned)).await;
        let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["127.0.0.1:7230", "127.0.0.1:99", "[::1]:7230", "[::1]:99"]);
    }

    #[test]
    fn a_node_without_a_network_keeps_its_addresses() {
        let own = OwnAddresses {
            listen: vec!["127.0.0.1:7230".parse().unwrap()],
            configured: vec![],
            interface: None,
        };
        let before: Vec<SocketAddr> = vec!["10.0.0.1:7230".parse().unwrap()];
        assert_eq!(own.look(&before), before);
        assert_eq!(own.look(&[]), own.listen);
    }
}
