//! The beacon at work: says on every local network that this node is there, and hears others.
//!
//! What a beacon holds and when one is due is decided in `mfs::membership`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mfs::membership::{Beacon, ClusterHash, Keyring};
use mfs::net::interfaces::{self, Interface};
use mfs::net::multicast;
use mfs::telemetry::metrics;
use mfs::types::NodeId;
use tokio::net::UdpSocket;

use super::sockets::Sockets;

/// The beacon of one node.
#[derive(Debug)]
pub(super) struct Beacons {
    me: NodeId,
    cluster: ClusterHash,
    /// Keeps to the interface of this name.
    only: Option<String>,
    /// The interfaces whose groups are heard.
    interfaces: Vec<Interface>,
}

// === impl Beacons ===

impl Beacons {
    pub(super) fn new(me: NodeId, cluster: ClusterHash, only: Option<String>) -> Self {
        Self { me, cluster, only, interfaces: vec![] }
    }

    /// Which cluster's beacons these are.
    pub(super) const fn cluster(&self) -> ClusterHash {
        self.cluster
    }

    /// Listens on the interfaces that are there now.
    pub(super) fn follow_interfaces(&mut self, sockets: &Sockets) {
        let interfaces = match interfaces::list() {
            Ok(interfaces) => multicast::usable(&interfaces, self.only.as_deref()),
            Err(error) => {
                tracing::warn!(%error, "cannot list the network interfaces; beacons stay as they are");
                return;
            }
        };
        for interface in &interfaces {
            let Some(socket) = sockets.for_beacons(interface.address.is_ipv4()) else { continue };
            if let Err(error) = multicast::join(socket, interface) {
                tracing::debug!(interface = interface.name, %error, "cannot listen to beacons");
            }
        }
        self.interfaces = interfaces;
    }

    /// Sends a beacon on every interface. `addresses` are those of this node, the best first.
    pub(super) fn send(&self, sockets: &Sockets, addresses: &[SocketAddr], keys: &Keyring) {
        let Some(port) = addresses.first().map(SocketAddr::port) else { return };
        for interface in &self.interfaces {
            let Some(socket) = sockets.for_beacons(interface.address.is_ipv4()) else { continue };
            // Others may know this node by an address of another network than the one they hear it on.
            let here = SocketAddr::new(interface.address, port);
            let address = if addresses.contains(&here) { here } else { addresses[0] };
            let beacon = Beacon::encode_here(self.cluster, self.me, address, keys);
            match multicast::send(socket, interface, port, &beacon) {
                Ok(()) => metrics::BEACONS_SENT.add_one(),
                // Ordinary on an interface that is just coming or going.
                Err(error) => {
                    tracing::debug!(interface = interface.name, %error, "cannot send a beacon");
                }
            }
        }
    }

    /// Sends a beacon to one that asked.
    pub(super) fn answer(
        &self,
        sockets: &Sockets,
        to: SocketAddr,
        addresses: &[SocketAddr],
        keys: &Keyring,
    ) {
        let same_family = addresses.iter().find(|own| own.is_ipv4() == to.is_ipv4());
        let Some(address) = same_family.or(addresses.first()) else { return };
        let beacon = Beacon::encode_here(self.cluster, self.me, *address, keys);
        if sockets.send(to, &beacon) {
            metrics::BEACONS_SENT.add_one();
        }
    }
}

/// A socket that hears the group, for a node that listens at one address only: such a socket hears
/// nothing that is sent to a group.
pub(super) fn group_socket(ipv4: bool, port: u16, only: Option<&str>) -> io::Result<UdpSocket> {
    let group: SocketAddr =
        if ipv4 { (multicast::GROUP_V4, port).into() } else { (multicast::GROUP_V6, port).into() };
    super::sockets::bind(group, only)
}

/// Whether a socket at this address hears what is sent to groups, of IPv4 and of IPv6.
pub(super) fn hears_groups(address: SocketAddr, dual: bool) -> (bool, bool) {
    let wild = address.ip() == Ipv4Addr::UNSPECIFIED || address.ip() == Ipv6Addr::UNSPECIFIED;
    (wild && (address.is_ipv4() || dual), wild && address.is_ipv6())
}
