//! The UDP sockets of a node: gossip and beacons, both families.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mfs::net::multicast;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::beacon;

/// Room for what arrives while the thread is busy: a burst of a thousand datagrams.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The sockets of a node.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Where gossip goes in and out.
    gossip: Vec<Bound>,
    /// Where beacons are heard that the others do not hear.
    groups: Vec<Bound>,
}

#[derive(Debug)]
struct Bound {
    socket: UdpSocket,
    address: SocketAddr,
    /// Takes IPv4 too although it is an IPv6 socket.
    dual: bool,
}

// === impl Sockets ===

impl Sockets {
    /// Listens at these addresses, on the interface of this name only if there is one.
    pub(super) fn open(
        listen: &[SocketAddr],
        only: Option<&str>,
        beacon: bool,
    ) -> io::Result<Self> {
        let mut gossip = Vec::new();
        for address in listen {
            gossip.push(open_one(*address, only).map_err(|error| {
                let hint = "is another mfsd running, or another program at this UDP port?";
                io::Error::new(
                    error.kind(),
                    format!("cannot listen at UDP {address}: {error}; {hint}"),
                )
            })?);
        }
        let mut sockets = Self { gossip, groups: vec![] };
        if beacon {
            sockets.add_groups(only);
        }
        Ok(sockets)
    }

    /// Opens sockets for the groups of the families that are spoken and not heard so far.
    fn add_groups(&mut self, only: Option<&str>) {
        for ipv4 in [true, false] {
            let Some(port) = self.port(ipv4) else { continue };
            if self.for_beacons(ipv4).is_some() {
                continue;
            }
            match beacon::group_socket(ipv4, port, only) {
                Ok(socket) => {
                    let group = if ipv4 {
                        multicast::GROUP_V4.into()
                    } else {
                        IpAddr::from(multicast::GROUP_V6)
                    };
                    self.groups.push(Bound { socket, address: (group, port).into(), dual: false });
                }
                Err(error) => tracing::warn!(%error, ipv4, "beacons of others are not heard"),
            }
        }
        for bound in self.all() {
            if let Err(error) = multicast::prepare(&bound.socket) {
                tracing::debug!(address = %bound.address, %error, "cannot prepare for beacons");
            }
        }
    }

    /// The port that this node listens at, of this family.
    pub(super) fn port(&self, ipv4: bool) -> Option<u16> {
        self.gossip.iter().find(|bound| bound.speaks(ipv4)).map(|bound| bound.address.port())
    }

    /// The addresses that are listened at, with the ports that they got.
    pub(super) fn listening(&self) -> Vec<SocketAddr> {
        self.gossip.iter().map(|bound| bound.address).collect()
    }

    /// The socket that hears the group of this family.
    pub(super) fn for_beacons(&self, ipv4: bool) -> Option<&UdpSocket> {
        let hears = |bound: &&Bound| {
            let (v4, v6) = beacon::hears_groups(bound.address, bound.dual);
            let is_group = bound.address.ip().is_multicast() && bound.address.is_ipv4() == ipv4;
            is_group || if ipv4 { v4 } else { v6 }
        };
        self.all().find(hears).map(|bound| &bound.socket)
    }

    /// Sends a datagram; whether it went out. What does not is as if it were lost on the way.
    pub(super) fn send(&self, to: SocketAddr, bytes: &[u8]) -> bool {
        let Some(bound) = self.gossip.iter().find(|bound| bound.speaks(to.is_ipv4())) else {
            return false;
        };
        let to = match (to.ip(), bound.address) {
            (IpAddr::V4(v4), SocketAddr::V6(_)) => (v4.to_ipv6_mapped(), to.port()).into(),
            _ => to,
        };
        match bound.socket.try_send_to(bytes, to) {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(%to, %error, "a datagram was not sent");
                false
            }
        }
    }

    /// Waits until something can be received.
    pub(super) async fn readable(&self) {
        let mut waits: Vec<_> = self.all().map(|bound| Box::pin(bound.socket.readable())).collect();
        std::future::poll_fn(|context| {
            let ready = waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready());
            if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    /// Takes a datagram that has arrived: its length and its source.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        self.all().find_map(|bound| {
            let (length, from) = bound.socket.try_recv_from(buffer).ok()?;
            Some((length, canonical(from)))
        })
    }

    fn all(&self) -> impl Iterator<Item = &Bound> {
        self.gossip.iter().chain(&self.groups)
    }
}

// === impl Bound ===

impl Bound {
    fn speaks(&self, ipv4: bool) -> bool {
        self.address.is_ipv4() == ipv4 || (ipv4 && self.dual)
    }
}

/// Opens a socket at an address; at all IPv4 addresses where IPv6 is switched off.
fn open_one(address: SocketAddr, only: Option<&str>) -> io::Result<Bound> {
    match bind(address, only) {
        Ok(socket) => {
            let address = socket.local_addr()?;
            let dual = address.ip() == Ipv6Addr::UNSPECIFIED;
            Ok(Bound { socket, address, dual })
        }
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && matches!(
                    error.raw_os_error(),
                    Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                ) =>
        {
            open_one((Ipv4Addr::UNSPECIFIED, address.port()).into(), only)
        }
        Err(error) => Err(error),
    }
}

/// A socket bound there. Never shared (SO_REUSEADDR): any local user could then take the node's gossip.
pub(super) fn bind(address: SocketAddr, only: Option<&str>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    if let Some(only) = only {
        socket.bind_device(Some(only.as_bytes()))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    // Less is given where the system allows less (net.core.rmem_max); it is only for bursts.
    SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    Ok(socket)
}

/// An IPv4 source as such, also from a socket for both families.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_canonical() {
            IpAddr::V4(v4) => (v4, v6.port()).into(),
            IpAddr::V6(_) => address,
        },
        SocketAddr::V4(_) => address,
    }
}
