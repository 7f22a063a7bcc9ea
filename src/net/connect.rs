//! `Connector`: how a stream to a member is made, so that tests can make other streams.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::membership::Member;
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
}
