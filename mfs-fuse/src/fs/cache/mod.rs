//! `Cache`: what this mount remembers of the nodes' files while it holds leases on it.
//!
//! The kernel is told nothing of it: it asks each time, and is answered from here without a message. What
//! is remembered is kept by the file's number at its home, which is one whatever way it is reached.
//!
//! Not here: which requests are answered from it (`fs::known`), and file data, which the kernel keeps
//! (`fs::pages`).
//!
//! Lock order: `Cache::nodes`, then `Cache::returns`, before `NodeCache::inner`; both are leaves for everything else, and neither is
//! held across an `.await`.

mod change;
mod contents;
mod memory;
mod node;
mod proofs;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mfs::client::{LeaseKeeper, Returns, SessionLeases};
use mfs::sync::RwLock;
use mfs::types::{InodeNo, Leases, NodeId};
use mfs::wire::{Leased, Recall};

pub use self::change::Changing;
pub use self::node::{Collecting, NodeCache};
pub use self::proofs::Proven;
use super::growing::Growing;
use super::pages::Pages;

/// Most bytes that are remembered of all nodes together.
const LIMIT: usize = 64 << 20;

/// What is remembered of all nodes.
#[derive(Debug, Default)]
pub struct Cache {
    nodes: RwLock<HashMap<NodeId, Arc<NodeCache>>>,
    /// The node whose files are used directly: there is nothing to remember.
    direct: RwLock<Option<NodeId>>,
    /// Those of them that are open for reading.
    pub growing: Growing,
    /// What the kernel keeps of their data.
    pub pages: Arc<Pages>,
    /// The way back for leases on that, of each node.
    returns: RwLock<HashMap<NodeId, Returns>>,
    opens: OnceLock<Box<dyn Openings>>,
}

/// The opens that their homes do not know, which was granted.
pub trait Openings: Send + Sync + std::fmt::Debug {
    /// The home wants to know of those of a file. Whether there are none; else it is given back over `returns`
    /// when all are known there.
    fn give_back(&self, node: NodeId, home: InodeNo, recall: u64, returns: &Returns) -> bool;

    /// What a node granted is over: all are told to it, as soon as that can be done. Does not wait.
    fn bring_home(&self, node: NodeId);
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

    /// Says whose opens may be unknown.
    pub fn serve_opens(&self, opens: Box<dyn Openings>) {
        let _ = self.opens.set(opens); // a mount has one table
    }

    fn bring_home(&self, node: NodeId) {
        if let Some(opens) = self.opens.get() {
            opens.bring_home(node);
        }
    }

    /// No leases are wanted on the files of this node.
    pub fn leave_out(&self, node: Option<NodeId>) {
        *self.direct.write() = node;
    }

    /// The way to give something back to a node; `None` while it grants nothing.
    pub fn returns_of(&self, node: NodeId) -> Option<Returns> {
        self.returns.read().get(&node).cloned()
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

impl Cache {
    /// Lets go of data whose leases have run out; to be called every [`pages::LOOK`](super::pages::LOOK).
    pub fn look(&self, now: Duration) {
        let nodes: Vec<_> = self.nodes.read().iter().map(|(id, n)| (*id, n.clone())).collect();
        for (id, node) in nodes {
            if self.pages.is_holding(id) && !node.is_valid(now) {
                self.pages.lost(id);
            }
        }
    }
}

impl LeaseKeeper for Cache {
    fn wants(&self, node: NodeId) -> bool {
        *self.direct.read() != Some(node)
    }

    fn began(&self, node: NodeId, session: &SessionLeases) {
        self.pages.lost(node);
        self.returns.write().insert(node, session.returns.clone());
        self.node(node).began(session);
        if !session.is_resumed {
            self.pages.look(node);
        }
        self.bring_home(node);
        self.growing.follow_all(node);
        if session.settles {
            self.pages.settle_before(node, &session.returns);
        }
    }

    fn extended(&self, node: NodeId, now: Duration, sent: Duration) {
        if self.node(node).extended(now, sent) {
            self.pages.lost(node);
            self.bring_home(node);
        }
    }

    fn recall(&self, node: NodeId, recall: &Recall) -> Vec<Leased> {
        self.node(node).recall(&recall.files);
        let changed = recall.files.iter().filter(|(_, leases)| leases.contains(Leases::ATTRIBUTES));
        changed.for_each(|(home, _)| self.growing.follow((node, *home)));
        let returns = self.returns.read().get(&node).cloned();
        let given_back = recall.files.iter().filter_map(|(ino, leases)| {
            let key = (node, *ino);
            // Without a way back there is no session that anything could be held in.
            let later = returns.as_ref().map_or(Leases::empty(), |returns| {
                let pages = *leases & (Leases::DATA | Leases::LENGTH);
                let pages_at_once = if pages.contains(Leases::LENGTH) {
                    self.pages.grew(key, recall.id, pages, returns)
                } else {
                    pages.is_empty() || self.pages.recall(key, recall.id, pages, returns)
                };
                let opens = *leases & Leases::HANDLE;
                let opens_at_once = opens.is_empty()
                    || self.opens.get().is_none_or(|o| o.give_back(node, *ino, recall.id, returns));
                let later = |at_once, what| if at_once { Leases::empty() } else { what };
                later(pages_at_once, pages) | later(opens_at_once, opens)
            });
            let at_once = *leases - later;
            (!at_once.is_empty()).then_some((*ino, at_once))
        });
        given_back.collect()
    }

    fn lost(&self, node: NodeId) {
        self.returns.write().remove(&node);
        self.node(node).lost();
        self.pages.lost(node);
    }

    fn is_holding(&self, node: NodeId) -> bool {
        self.node(node).is_holding() || self.pages.is_holding(node)
    }

    fn was_used(&self, node: NodeId) -> bool {
        self.node(node).used.swap(false, Relaxed)
    }
}
