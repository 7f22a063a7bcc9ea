//! `MemberConnector`: streams to the members of the cluster, as this node's transport has them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::connect::{ConnectError, Connector, Dialling, HANDSHAKE_TIMEOUT, IoStream};
use super::{plaintext, tcp};
use crate::identity::{Credentials, server_name};
use crate::membership::Member;
use crate::types::NodeId;
use crate::wire::Purpose;

/// How nodes speak with each other.
#[derive(Debug, Clone)]
pub enum Transport {
    /// TLS 1.3 with these credentials: the peer proves to be the node that was dialled, and this node
    /// proves who it is.
    Tls(Arc<Credentials>),
    /// No TLS: whoever answers is believed, and believes.
    Plaintext,
}

/// Streams from this node to the members: over TCP by its transport, to itself over the unix socket of
/// its mfsd. The transport is looked at for each connection, so a renewed certificate, or a newer list
/// of removed nodes, holds from the next connection on.
#[derive(Debug, Clone)]
pub struct MemberConnector {
    me: NodeId,
    socket: Option<PathBuf>,
    transport: watch::Receiver<Transport>,
}

// === impl MemberConnector ===

impl MemberConnector {
    /// Streams from the node `me`, whose own mfsd listens on `socket`; without one, it is dialled by TCP
    /// like any other.
    pub const fn new(
        me: NodeId,
        socket: Option<PathBuf>,
        transport: watch::Receiver<Transport>,
    ) -> Self {
        Self { me, socket, transport }
    }

    async fn secure(
        &self,
        mut stream: TcpStream,
        member: &Member,
    ) -> Result<Box<dyn IoStream>, ConnectError> {
        let transport = self.transport.borrow().clone();
        let unfinished = |e: io::Error| ConnectError::Unfinished(e.to_string());
        match transport {
            Transport::Plaintext => {
                plaintext::write_preface(&mut stream, self.me).await.map_err(unfinished)?;
                Ok(Box::new(stream))
            }
            Transport::Tls(credentials) => {
                let connector = TlsConnector::from(credentials.client_config());
                match connector.connect(server_name(member.id), stream).await {
                    Ok(stream) => Ok(Box::new(stream)),
                    Err(error) if is_distrust(&error) => {
                        Err(ConnectError::Untrusted(error.to_string()))
                    }
                    Err(error) => Err(unfinished(error)),
                }
            }
        }
    }
}

impl Connector for MemberConnector {
    fn connect<'a>(&'a self, member: &'a Member, _: Purpose) -> Dialling<'a> {
        Box::pin(async move {
            if let Some(socket) = self.socket.as_deref().filter(|_| member.id == self.me) {
                return dial_unix(socket).await;
            }
            let stream = tcp::dial(&member.addresses).await?;
            tokio::time::timeout(HANDSHAKE_TIMEOUT, self.secure(stream, member))
                .await
                .unwrap_or_else(|_| {
                    Err(ConnectError::Unfinished(format!("no handshake in {HANDSHAKE_TIMEOUT:?}")))
                })
        })
    }
}

/// Connects to the socket of the own node's mfsd. A missing socket is a daemon that is not running: the
/// host is certainly there.
async fn dial_unix(socket: &Path) -> Result<Box<dyn IoStream>, ConnectError> {
    match UnixStream::connect(socket).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(ConnectError::Refused(format!("{}: {error}", socket.display()))),
    }
}

/// Whether a handshake failed because one side does not believe the other.
fn is_distrust(error: &io::Error) -> bool {
    use rustls::Error::{AlertReceived, InvalidCertificate, NoCertificatesPresented};
    matches!(
        error.get_ref().and_then(|e| e.downcast_ref()),
        Some(AlertReceived(_) | InvalidCertificate(_) | NoCertificatesPresented)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::clock;
    use crate::identity::{
        Authority, CERTIFICATE_LIFE, ClusterId, Digest, Identity, NodeKey, Register, Subject, Trust,
    };
    use crate::membership::MemberState;
    use crate::types::{NodeName, NodeNumber};

    /// Credentials of a new node of the authority's cluster, in which `removed` were removed.
    fn credentials(authority: &Authority, key: NodeKey, removed: &[NodeId]) -> Arc<Credentials> {
        let now = clock::unix_seconds();
        let cluster = ClusterId::of_authority(&authority.digest());
        let register = Register {
            cluster,
            epoch: 1,
            nodes: BTreeMap::new(),
            removed: removed.iter().map(|node| (*node, now)).collect(),
            gossip: Digest::from_bytes([0; 32]),
        };
        let anchors = vec![authority.certificate().clone()];
        let trust = Trust::new(cluster, anchors, authority.sign(&register).unwrap()).unwrap();
        let name = NodeName::parse("n1").unwrap();
        let subject = Subject { cluster, name, number: NodeNumber::new(1).unwrap() };
        let certificate =
            authority.issue(&key.request().unwrap(), &subject, now, CERTIFICATE_LIFE).unwrap();
        let chain = vec![certificate, authority.certificate().clone()];
        Arc::new(Credentials::new(Identity::new(key, chain, trust, now).unwrap()).unwrap())
    }

    fn member(id: NodeId, address: SocketAddr) -> Member {
        Member {
            id,
            name: NodeName::parse("n2").unwrap(),
            number: NodeNumber::new(2).unwrap(),
            addresses: vec![address],
            state: MemberState::Alive,
            since: 0,
            incarnation: 1,
            version: String::new(),
        }
    }

    fn connector(transport: Transport, me: NodeId) -> MemberConnector {
        MemberConnector::new(me, None, watch::channel(transport).1)
    }

    /// A listener that greets one peer with a byte over TLS, and its address.
    async fn greeter(credentials: Arc<Credentials>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(credentials.server_config());
            if let Ok(mut stream) = acceptor.accept(stream).await {
                drop(stream.write_all(b"!").await);
                drop(stream.shutdown().await);
            }
        });
        address
    }

    #[tokio::test]
    async fn the_peer_must_be_the_node_that_was_dialled_and_of_this_cluster() {
        let authority = Authority::found(clock::unix_seconds()).unwrap();
        let foreign = Authority::found(clock::unix_seconds()).unwrap();
        let (mine, theirs) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
        let (me, them) = (mine.node(), theirs.node());
        let theirs = credentials(&authority, theirs, &[]);
        let client = connector(Transport::Tls(credentials(&authority, mine, &[])), me);

        let right = member(them, greeter(Arc::clone(&theirs)).await);
        let mut stream = client.connect(&right, Purpose::Control).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'!');

        let wrong = member(NodeId::from_digest([9; 32]), greeter(theirs).await);
        let answer = client.connect(&wrong, Purpose::Control).await.map(drop);
        assert!(matches!(answer, Err(ConnectError::Untrusted(_))), "{answer:?}");

        let stranger = NodeKey::generate().unwrap();
        let id = stranger.node();
        let stranger = member(id, greeter(credentials(&foreign, stranger, &[])).await);
        let answer = client.connect(&stranger, Purpose::Control).await.map(drop);
        assert!(matches!(answer, Err(ConnectError::Untrusted(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn a_node_that_was_removed_is_not_believed_from_the_next_connection_on() {
        let authority = Authority::found(clock::unix_seconds()).unwrap();
        let (mine, theirs) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
        let (me, them) = (mine.node(), theirs.node());
        let theirs = credentials(&authority, theirs, &[]);
        let again = NodeKey::from_pem(&mine.to_pem()).unwrap();
        let transport = watch::Sender::new(Transport::Tls(credentials(&authority, mine, &[])));
        let client = MemberConnector::new(me, None, transport.subscribe());
        let peer = member(them, greeter(Arc::clone(&theirs)).await);
        assert!(client.connect(&peer, Purpose::Control).await.is_ok());
        transport.send_replace(Transport::Tls(credentials(&authority, again, &[them])));
        let peer = member(them, greeter(theirs).await);
        let answer = client.connect(&peer, Purpose::Control).await.map(drop);
        assert!(matches!(answer, Err(ConnectError::Untrusted(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn without_tls_this_node_says_who_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let me = NodeId::from_digest([3; 32]);
        let peer = member(NodeId::from_digest([4; 32]), listener.local_addr().unwrap());
        let client = connector(Transport::Plaintext, me);
        let (stream, accepted) =
            tokio::join!(client.connect(&peer, Purpose::Bulk), listener.accept());
        assert!(stream.is_ok());
        let (mut accepted, _) = accepted.unwrap();
        assert_eq!(plaintext::read_preface(&mut accepted).await.unwrap(), me);
    }

    #[tokio::test]
    async fn the_own_node_is_reached_over_its_socket_and_a_missing_one_is_a_daemon_that_is_off() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("mfsd.sock");
        let me = NodeId::from_digest([3; 32]);
        let transport = watch::channel(Transport::Plaintext).1;
        let client = MemberConnector::new(me, Some(socket.clone()), transport);
        let own = member(me, "127.0.0.1:1".parse().unwrap());
        let answer = client.connect(&own, Purpose::Control).await.map(drop);
        assert!(matches!(answer, Err(ConnectError::Refused(_))), "{answer:?}");
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        assert!(client.connect(&own, Purpose::Control).await.is_ok());
    }
}
