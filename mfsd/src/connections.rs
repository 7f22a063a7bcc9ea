//! `Connections`: every connection from the network, so that they are bounded, and end when their node
//! is removed or the daemon stops.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use mfs::sync::Mutex;
use mfs::telemetry::instruments::Held;
use mfs::telemetry::metrics;
use mfs::types::NodeId;
use rustix::net::{Shutdown, shutdown};
use thiserror::Error;

/// Most connections at a time. A peer's mount has two.
const MAX_CONNECTIONS: usize = 8_192;

/// Most connections at a time of machines without a certificate, which can only join.
const MAX_STRANGERS: usize = 64;

/// The connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: HashMap<u64, Open>,
    strangers: usize,
}

#[derive(Debug)]
struct Open {
    node: Option<NodeId>,
    /// A second descriptor of the socket, to shut it down from outside.
    socket: OwnedFd,
}

/// The place of one connection; leaves the list when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    connections: Arc<Connections>,
    key: u64,
    _counted: Held,
}

/// There are too many connections.
#[derive(Debug, Error)]
pub(crate) enum Crowded {
    /// Of all kinds.
    #[error("there are {MAX_CONNECTIONS} connections already")]
    All,
    /// Without a certificate.
    #[error("there are {MAX_STRANGERS} connections without a certificate already")]
    Strangers,
    /// The system gives no further descriptor.
    #[error("no descriptor for another connection: {0}")]
    Descriptors(#[from] std::io::Error),
}

// === impl Connections ===

impl Connections {
    /// Enters a connection of this node, or of a machine without a certificate.
    pub(crate) fn admit(
        self: &Arc<Self>,
        node: Option<NodeId>,
        socket: &impl AsFd,
    ) -> Result<Admission, Crowded> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let mut inner = self.inner.lock();
        if inner.open.len() >= MAX_CONNECTIONS {
            return Err(Crowded::All);
        }
        if node.is_none() {
            if inner.strangers >= MAX_STRANGERS {
                return Err(Crowded::Strangers);
            }
            inner.strangers += 1;
        }
        let key = inner.next;
        inner.next += 1;
        inner.open.insert(key, Open { node, socket });
        drop(inner);
        let _counted = metrics::SERVER_CONNECTIONS.hold();
        Ok(Admission { connections: self.clone(), key, _counted })
    }

    fn leave(&self, key: u64) {
        let mut inner = self.inner.lock();
        if let Some(Open { node: None, .. }) = inner.open.remove(&key) {
            inner.strangers -= 1;
        }
    }

    /// Ends all connections for whose node `which` is true (`None`: machines without a certificate);
    /// says how many.
    pub(crate) fn close(&self, which: impl Fn(Option<NodeId>) -> bool) -> usize {
        let inner = self.inner.lock();
        let chosen = inner.open.values().filter(|open| which(open.node));
        chosen
            .map(|open| {
                // A socket that is not connected any more has ended already.
                let _ = shutdown(&open.socket, Shutdown::Both);
            })
            .count()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.connections.leave(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_removed_nodes_connections_end_and_no_others() {
        let connections = Arc::new(Connections::default());
        let (gone, stays) = (NodeId::from_digest([1; 32]), NodeId::from_digest([2; 32]));
        let (mut a, a_far) = UnixStream::pair().unwrap();
        let (b, _b_far) = UnixStream::pair().unwrap();
        let _a = connections.admit(Some(gone), &a_far).unwrap();
        let _b = connections.admit(Some(stays), &b).unwrap();
        assert_eq!(connections.close(|node| node == Some(gone)), 1);
        assert_eq!(a.read(&mut [0; 1]).unwrap(), 0, "the other end sees the end");
        b.set_nonblocking(true).unwrap();
        assert_eq!((&b).read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn strangers_are_few_and_give_their_place_back() {
        let connections = Arc::new(Connections::default());
        let (socket, _far) = UnixStream::pair().unwrap();
        let mut admitted: Vec<_> =
            (0..MAX_STRANGERS).map(|_| connections.admit(None, &socket).unwrap()).collect();
        assert!(matches!(connections.admit(None, &socket), Err(Crowded::Strangers)));
        assert!(connections.admit(Some(NodeId::from_digest([1; 32])), &socket).is_ok());
        admitted.pop();
        assert!(connections.admit(None, &socket).is_ok());
    }
}
