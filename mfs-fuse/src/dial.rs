//! `NodeConnector`: streams from this node to others, under its own identity.
//!
//! TLS with the certificates of both sides; without TLS where the whole cluster is configured so; the unix
//! socket to the mfsd of this machine. Each connection takes the credentials as they are then, so that a
//! renewed certificate needs no restart.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mfs::identity::{Credentials, server_name};
use mfs::membership::Member;
use mfs::net::connect::{HANDSHAKE_TIMEOUT, dial_unix};
use mfs::net::{ConnectError, Connector, Dialling, IoStream, plaintext, tcp};
use mfs::types::NodeId;
use mfs::wire::Purpose;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Makes streams to members.
#[derive(Debug)]
pub(crate) struct NodeConnector {
    me: NodeId,
    socket: PathBuf,
    credentials: ArcSwap<Option<Arc<Credentials>>>,
}

// === impl NodeConnector ===

impl NodeConnector {
    /// Streams from the node `me`, whose mfsd listens on `socket`; without credentials without TLS.
    pub(crate) fn new(
        me: NodeId,
        socket: PathBuf,
        credentials: Option<Arc<Credentials>>,
    ) -> Arc<Self> {
        Arc::new(Self { me, socket, credentials: ArcSwap::from_pointee(credentials) })
    }

    /// Takes renewed credentials, for the connections to come.
    pub(crate) fn renew(&self, credentials: Option<Arc<Credentials>>) {
        self.credentials.store(Arc::new(credentials));
    }

    async fn dial(&self, member: &Member) -> Result<Box<dyn IoStream>, ConnectError> {
        if member.id == self.me {
            return dial_unix(&self.socket).await;
        }
        let stream = tcp::dial(&member.addresses).await?;
        let credentials = self.credentials.load_full();
        let greeted = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
            match &*credentials {
                Some(credentials) => handshake(credentials, member.id, stream).await,
                None => introduce(self.me, stream).await,
            }
        });
        greeted.await.unwrap_or_else(|_| {
            let silence = format!("{} did not finish its handshake", member.name);
            Err(ConnectError::Unfinished(silence))
        })
    }
}

impl Connector for NodeConnector {
    fn connect<'a>(&'a self, member: &'a Member, _: Purpose) -> Dialling<'a> {
        Box::pin(self.dial(member))
    }
}

async fn handshake(
    credentials: &Credentials,
    node: NodeId,
    stream: TcpStream,
) -> Result<Box<dyn IoStream>, ConnectError> {
    let connector = TlsConnector::from(credentials.client_config());
    match connector.connect(server_name(node), stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        // rustls' own verdicts come as this kind: the certificate is not that node's, or was refused.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(ConnectError::Untrusted(error.to_string()))
        }
        Err(error) => Err(ConnectError::Unfinished(error.to_string())),
    }
}

async fn introduce(me: NodeId, mut stream: TcpStream) -> Result<Box<dyn IoStream>, ConnectError> {
    match plaintext::write_preface(&mut stream, me).await {
        Ok(()) => Ok(Box::new(stream)),
        Err(error) => Err(ConnectError::Unfinished(error.to_string())),
    }
}
