//! Finding a cluster on the local network, for a machine that is not a member yet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::interfaces;
use super::multicast;
use crate::clock;
use crate::config::paths;
use crate::membership::{BEACON_LEN, Beacon, ClusterHash};

/// How often it is asked who is there.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// After the first answer, how much longer others are listened to.
const LINGER: Duration = Duration::from_millis(300);

/// Most addresses worth trying.
const ENOUGH: usize = 8;

/// The TCP addresses of nodes of the cluster whose CA's public key has this hash, as heard on the local
/// networks within `timeout`; none if nobody answered.
///
/// What is heard authorises nobody: the caller checks the CA at each address before it says anything
/// secret there. Blocks.
pub fn discover(timeout: Duration, ca_hash: [u8; 32]) -> io::Result<Vec<SocketAddr>> {
    let cluster = ClusterHash::of_ca(&ca_hash);
    let interfaces = multicast::usable(&interfaces::list()?, None);
    let socket = open()?;
    multicast::prepare(&socket)?;
    for interface in &interfaces {
        // One interface that cannot be listened at does not spoil the others; queries are answered
        // directly, so that even then something may be heard.
        if let Err(error) = multicast::join(&socket, interface) {
            tracing::debug!(interface = interface.name, %error, "cannot listen to beacons");
        }
    }
    let socket: std::net::UdpSocket = socket.into();
    let query = Beacon::encode_query(cluster);
    let mut deadline = clock::now() + timeout;
    let mut ask_at = clock::now();
    let mut found: Vec<SocketAddr> = Vec::new();
    while clock::now() < deadline && found.len() < ENOUGH {
        if clock::now() >= ask_at {
            ask_at = clock::now() + ASK_EVERY;
            for interface in &interfaces {
                if let Err(error) = multicast::send(&socket, interface, paths::PORT, &query) {
                    tracing::debug!(interface = interface.name, %error, "cannot ask for beacons");
                }
            }
        }
        let Some(address) = hear(&socket, cluster, ask_at.min(deadline))? else { continue };
        if !found.contains(&address) {
            found.push(address);
            deadline = deadline.min(clock::now() + LINGER);
        }
    }
    Ok(found)
}

/// The socket to ask and to listen with: at the cluster's port if that is free, to hear beacons also.
fn open() -> io::Result<Socket> {
    let attempts = [
        (Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, paths::PORT))),
        (Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        (Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, paths::PORT))),
        (Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
    ];
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for (domain, address) in attempts {
        result = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).and_then(|socket| {
            if domain == Domain::IPV6 {
                socket.set_only_v6(false)?;
            }
            socket.bind(&address.into())?;
            Ok(socket)
        });
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Waits until `until` for a beacon of the cluster; where it came from, with the port that it names.
///
/// The source and not the address inside: it is on this network for certain, and has the scope that a
/// link-local address needs.
fn hear(
    socket: &std::net::UdpSocket,
    cluster: ClusterHash,
    until: Instant,
) -> io::Result<Option<SocketAddr>> {
    let mut bytes = [0; BEACON_LEN + 1];
    let left = until.saturating_duration_since(clock::now());
    // A timeout of zero would mean none at all.
    socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
    match socket.recv_from(&mut bytes) {
        Ok((length, from)) => {
            let heard = bytes.get(..length).and_then(|bytes| Beacon::decode(bytes, cluster, None));
            Ok(match heard {
                Some(Beacon::Here { address, .. }) => Some(at_port(from, address.port())),
                Some(Beacon::Query) | None => None,
            })
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn at_port(mut source: SocketAddr, port: u16) -> SocketAddr {
    if let SocketAddr::V6(v6) = source
        && let IpAddr::V4(v4) = v6.ip().to_canonical()
    {
        return (v4, port).into();
    }
    source.set_port(port);
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_answers_for_an_unknown_cluster() {
        let found = discover(Duration::from_millis(50), [0x5a; 32]).unwrap();
        assert_eq!(found, []);
    }

    #[test]
    fn a_source_keeps_its_scope_and_loses_its_mapping() {
        let source = |text: &str| text.parse().unwrap();
        assert_eq!(at_port(source("[::ffff:10.0.0.1]:9"), 7230), source("10.0.0.1:7230"));
        let scoped = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 3);
        let SocketAddr::V6(found) = at_port(scoped.into(), 7230) else { panic!("still IPv6") };
        assert_eq!((found.scope_id(), found.port()), (3, 7230));
    }
}
