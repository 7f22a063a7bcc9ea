//! `Cache`: what this mount remembers of the nodes' files while it holds leases on it.
//!
//! The kernel is told nothing of it: it asks each time, and is answered from here without a message. What
//! is remembered is kept by the file's number at its home, which is one whatever way it is reached.
//!
//! Not here: which requests are answered from it (`fs::known`), and file data.
//!
//! Lock order: `Cache::nodes` before `NodeCache::inner`; both are leaves for everything else, and neither is
//! held across an `.await`.

mod change;
mod memory;
mod node;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mfs::client::{LeaseKeeper, SessionLeases};
use mfs::sync::RwLock;
use mfs::types::NodeId;
use mfs::wire::Leased;

pub use self::change::Changing;
pub use self::node::{Collecting, NodeCache};

/// Most bytes that are remembered of all nodes together.
const LIMIT: usize = 64 << 20;

/// What is remembered of all nodes.
#[derive(Debug, Default)]
pub struct Cache {
    nodes: RwLock<HashMap<NodeId, Arc<NodeCache>>>,
    /// The node whose files are used directly: there is nothing to remember.
    direct: RwLock<Option<NodeId>>,
}

// === impl Cache ===

impl Cache {
    /// What is remembered of a node.
    pub fn node(&self, node: NodeId) -> Arc<NodeCache> {
        if let Some(found) = self.nodes.read().get(&node) {
            return found.clone();
        }
        self.nodes.write().entry(node).or_default().clone()
    }

    /// No leases are wanted on the files of this node.
    pub fn leave_out(&self, node: Option<NodeId>) {
        *self.direct.write() = node;
    }

    /// Forgets the oldest where too much is remembered. To be called after something was added.
    pub fn trim(&self) {
        let nodes = self.nodes.read();
        let bytes = |node: &Arc<NodeCache>| node.bytes.load(Relaxed);
        while nodes.values().map(bytes).sum::<usize>() > LIMIT {
            let Some(largest) = nodes.values().max_by_key(|node| bytes(node)) else { return };
            if !largest.evict() {
                return;
            }
        }
    }
}

impl LeaseKeeper for Cache {
    fn wants(&self, node: NodeId) -> bool {
        *self.direct.read() != Some(node)
    }

    fn began(&self, node: NodeId, session: &SessionLeases) {
        self.node(node).began(session);
    }

    fn extended(&self, node: NodeId, now: Duration, sent: Duration) {
        self.node(node).extended(now, sent);
    }

    fn recall(&self, node: NodeId, files: &[Leased]) {
        self.node(node).recall(files);
    }

    fn lost(&self, node: NodeId) {
        self.node(node).lost();
    }

    fn is_holding(&self, node: NodeId) -> bool {
        self.node(node).is_holding()
    }

    fn was_used(&self, node: NodeId) -> bool {
        self.node(node).used.swap(false, Relaxed)
    }
}
