//! `Connector`: how a stream to a member is made, so that tests can make other streams.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::tcp;
use crate::membership::Member;
use crate::types::NodeId;
use crate::wire::Purpose;

/// How long the peer may take after its host has answered: the TLS handshake and the greeting.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(4);

/// A stream in both directions.
pub trait IoStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> IoStream for S {}

/// A stream to a peer, being made.
pub type Dialling<'a> =
    Pin<Box<dyn Future<Output = Result<Box<dyn IoStream>, ConnectError>> + Send + 'a>>;

/// Makes streams to members. Each says by its type what it promises about the other end's identity.
pub trait Connector: Send + Sync {
    /// Connects to `member`. Ends by itself within a few seconds.
    fn connect<'a>(&'a self, member: &'a Member, purpose: Purpose) -> Dialling<'a>;
}

/// Why there is no connection, sorted by what a waiting caller is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The host answers, its mfsd does not listen: it restarts, or is not running.
    #[error("its mfsd does not listen: {0}")]
    Refused(String),
    /// Nothing came back from the host.
    #[error("its host does not answer: {0}")]
    Silent(String),
    /// The host answered, but the peer did not finish the handshake in time or broke it off.
    #[error("its mfsd does not answer: {0}")]
    Unfinished(String),
    /// The peer is not who was dialled, or refuses this node. Trying again does not help until one of
    /// the two has another certificate.
    #[error("the certificate is refused: {0}")]
    Untrusted(String),
}

/// Streams without TLS: to peers over TCP, to the own node over its unix socket. For the transport
/// `plaintext`, for the own node, and for tests. It promises nothing about who the peer is.
#[derive(Debug, Clone)]
pub struct PlainConnector {
    me: NodeId,
    socket: Option<PathBuf>,
}

// === impl ConnectError ===

impl ConnectError {
    /// Of two failures the one that says more: that the host is there is known once any address refused.
    #[must_use]
    pub fn or(self, later: Self) -> Self {
        match (&self, &later) {
            (Self::Refused(_) | Self::Unfinished(_) | Self::Untrusted(_), Self::Silent(_)) => self,
            _ => later,
        }
    }
}

// === impl PlainConnector ===

impl PlainConnector {
    /// Streams from the node `me`, whose own mfsd listens on `socket`; without one it is dialled by TCP
    /// like any other.
    pub const fn new(me: NodeId, socket: Option<PathBuf>) -> Self {
        Self { me, socket }
    }
}

impl Connector for PlainConnector {
    fn connect<'a>(&'a self, member: &'a Member, _: Purpose) -> Dialling<'a> {
        Box::pin(async move {
            match &self.socket {
                Some(socket) if member.id == self.me => dial_unix(socket).await,
                _ => Ok(Box::new(tcp::dial(&member.addresses).await?) as Box<dyn IoStream>),
            }
        })
    }
}

/// Connects to the socket of the own node's mfsd. A missing socket is a daemon that is not running: the
/// host is certainly there.
pub async fn dial_unix(socket: &std::path::Path) -> Result<Box<dyn IoStream>, ConnectError> {
    match UnixStream::connect(socket).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(ConnectError::Refused(format!("{}: {error}", socket.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_the_host_answered_is_not_forgotten() {
        let refused = || ConnectError::Refused("a".to_owned());
        let silent = || ConnectError::Silent("b".to_owned());
        assert_eq!(refused().or(silent()), refused());
        assert_eq!(silent().or(refused()), refused());
        assert_eq!(silent().or(silent()), silent());
    }

    #[tokio::test]
    async fn a_missing_socket_is_a_daemon_that_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dial_unix(&dir.path().join("mfsd.sock")).await;
        assert!(matches!(missing, Err(ConnectError::Refused(_))));
    }
}
