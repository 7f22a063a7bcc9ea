//! `Peer`: the authenticated other end of a connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use mfs::telemetry::metrics;
use mfs::types::NodeId;
use tonic::{Request, Status};

/// Who asks, as the connection proves it; in the extensions of each request. No peer: refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The node: from its certificate, or this node for its own mount.
    pub(crate) node: NodeId,
    /// How it came.
    pub(crate) origin: Origin,
    /// Its connection: later ones have greater numbers.
    pub(crate) connection: u64,
}

/// A number for a connection that was accepted just now. Its bytes may be read long after those of a later
/// one, when its sender has given it up: the numbers tell which was the last.
pub(crate) fn number_connection() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Over the network, with a certificate.
    Remote,
    /// From a root process of this machine, over the unix socket.
    LocalMount,
}

/// What is known of a connection from the network; in the extensions of each of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// Whose it is; `None` without a certificate.
    pub(crate) peer: Option<Peer>,
    /// Where it comes from.
    pub(crate) remote: SocketAddr,
}

/// Lets a request of an authenticated connection pass, its [`Peer`] in the extensions; refuses others.
pub(crate) fn require(mut request: Request<()>) -> Result<Request<()>, Status> {
    let connection = request.extensions().get::<Connection>();
    let Some(peer) = connection.and_then(|connection| connection.peer.clone()) else {
        metrics::SERVER_CONNECTIONS_REFUSED.add_one();
        return Err(Status::unauthenticated(
            "only nodes of the cluster are answered: this connection has no certificate",
        ));
    };
    request.extensions_mut().insert(peer);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_certificate_is_refused() {
        let mut request = Request::new(());
        assert!(require(Request::new(())).is_err());
        let remote = SocketAddr::from(([127, 0, 0, 1], 1));
        request.extensions_mut().insert(Connection { peer: None, remote });
        assert_eq!(require(request).unwrap_err().code(), tonic::Code::Unauthenticated);
    }

    #[test]
    fn the_peer_is_who_the_connection_proves() {
        let node = NodeId::from_digest([1; 32]);
        let peer = Peer { node, origin: Origin::Remote, connection: 1 };
        let remote = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut request = Request::new(());
        request.extensions_mut().insert(Connection { peer: Some(peer.clone()), remote });
        // What a sender could have put there does not count.
        request
            .extensions_mut()
            .insert(Peer { node: NodeId::from_digest([2; 32]), ..peer.clone() });
        assert_eq!(require(request).unwrap().extensions().get::<Peer>(), Some(&peer));
    }
}
