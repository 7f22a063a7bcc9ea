//! `Remote`: a node's files through the node's mfsd.

use std::fmt;
use std::sync::Arc;

use mfs::client::{Answered, Patience, Peers};
use mfs::types::op::{Call, Entry};
use mfs::types::{Errno, NodeId, OpenId};

use super::backing::{Origin, Terms};

/// The sessions with all nodes, and one of them.
#[derive(Clone)]
pub struct Remote {
    peers: Arc<Peers>,
    node: NodeId,
    terms: Terms,
}

// === impl Remote ===

impl Remote {
    /// The way to `node`.
    pub const fn new(peers: Arc<Peers>, node: NodeId, terms: Terms) -> Self {
        Self { peers, node, terms }
    }

    /// The way to another node of the same cluster.
    #[must_use]
    pub fn to(&self, node: NodeId) -> Self {
        Self { node, ..self.clone() }
    }

    /// The node.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Asks the node for one operation.
    ///
    /// # Errors
    /// Those of [`Peers::call`].
    pub async fn call<C: Call>(&self, origin: &Origin<'_>, call: C) -> Result<C::Output, Errno> {
        self.peers.call(self.node, origin.caller, call, &self.patience(origin)).await
    }

    /// As [`Self::call`], with the leases that came with the answer.
    pub async fn call_leased<C: Call>(&self, origin: &Origin<'_>, call: C) -> Answered<C::Output> {
        self.peers.call_leased(self.node, origin.caller, call, &self.patience(origin)).await
    }

    /// The root of the node's tree.
    ///
    /// # Errors
    /// Those of [`Peers::root`].
    pub async fn root(&self, origin: &Origin<'_>) -> Result<Entry, Errno> {
        self.peers.root(self.node, &self.patience(origin)).await
    }

    /// A name for an open that is to be made.
    pub fn new_open(&self) -> OpenId {
        self.peers.new_open(self.node)
    }

    /// Ends the sessions with all nodes: locks and opens end there at once.
    pub async fn end(&self) {
        self.peers.end().await;
    }

    /// The terms of the mount, and an end when the caller wants no more.
    fn patience(&self, origin: &Origin<'_>) -> Patience {
        let (asker, on_signal) = (origin.asker, origin.on_signal);
        Patience {
            timeout: self.terms.timeo,
            hard: self.terms.hard,
            interrupted: Some(Arc::new(move || {
                if on_signal { asker.is_interrupted() } else { asker.is_killed() }
            })),
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.node).finish()
    }
}
