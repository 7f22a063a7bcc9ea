//! The nodes behind a mount: the view, the way to each, and what was last seen of their roots.
//!
//! A mount begins without any of it (mfsd may not run yet) and is told later; a changed view or another way
//! concerns the requests that come after.
//!
//! Lock order: `Nodes::roots` is a leaf.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use mfs::membership::View;
use mfs::sync::Mutex;
use mfs::types::op::Entry;
use mfs::types::{Attr, Errno, FileId, InodeNo, NodeId};

use super::backing::{Backing, Origin};

/// The ways to the nodes of the view.
#[derive(Debug, Default)]
pub struct Nodes {
    view: ArcSwapOption<View>,
    ways: ArcSwapOption<Ways>,
    roots: Mutex<HashMap<NodeId, Root>>,
}

/// What was last seen of a node's root.
#[derive(Debug, Clone, Default)]
struct Root {
    attr: Option<Attr>,
    /// When it was last asked for.
    asked: Option<Instant>,
}

/// How often the attributes of a node's root are asked for at most, since each path that leads into the
/// node comes by them.
const ROOT_REFRESH: Duration = Duration::from_millis(500);

/// How nodes are reached.
#[derive(Debug)]
pub struct Ways {
    /// Every node, through its mfsd; without it only this node is reached.
    pub remote: Option<super::remote::Remote>,
    /// This node's files directly (dfsa=1).
    pub local: Option<(NodeId, Arc<super::local::Local>)>,
}

// === impl Nodes ===

impl Nodes {
    /// The members as last heard; `None` before anything was heard of them.
    pub fn view(&self) -> Option<View> {
        self.view.load().as_deref().cloned()
    }

    /// Takes a new view.
    pub fn set_view(&self, view: View) {
        self.view.store(Some(Arc::new(view)));
    }

    /// Takes other ways to the nodes; opens made the old way stay with it.
    pub fn set_ways(&self, ways: Ways) {
        self.ways.store(Some(Arc::new(ways)));
    }

    /// Says goodbye to all nodes.
    pub async fn end(&self) {
        let remote = self.ways.load().as_ref().and_then(|ways| ways.remote.clone());
        if let Some(remote) = remote {
            remote.end().await;
        }
    }

    /// Forgets all nodes.
    pub fn clear(&self) {
        self.view.store(None);
        self.ways.store(None);
        self.roots.lock().clear();
    }

    /// The way to a node. Not whether it answers.
    pub fn backing(&self, node: NodeId) -> Result<Backing, Errno> {
        let ways = self.ways.load();
        let ways = ways.as_deref().ok_or(Errno::HostDown)?;
        match (&ways.local, &ways.remote) {
            (Some((me, local)), _) if *me == node => Ok(Backing::Local(local.clone())),
            (_, Some(remote)) => Ok(Backing::Remote(remote.to(node))),
            _ => Err(Errno::HostDown),
        }
    }

    /// The way to a file of a node.
    pub fn backing_of(&self, node: NodeId, file: &FileId) -> Result<Backing, Errno> {
        let backing = self.backing(node)?;
        Ok(match &backing {
            Backing::Local(local) if !local.serves(file) => match local.server() {
                Some(server) => Backing::Remote(server.clone()),
                None => backing,
            },
            Backing::Local(_) | Backing::Remote(_) => backing,
        })
    }

    /// The root of a node's tree, asked of the node's session, which knows it once it is connected.
    pub async fn root(
        &self,
        node: NodeId,
        origin: &Origin<'_>,
    ) -> Result<(Backing, FileId, InodeNo), Errno> {
        let backing = self.backing(node)?;
        let Entry { file, attr } = backing.root(origin).await?;
        let ino = attr.ino;
        self.roots.lock().entry(node).or_default().attr.get_or_insert(attr);
        Ok((self.backing_of(node, &file)?, file, ino))
    }

    /// Attributes of a node's root when they were last seen.
    pub fn root_seen(&self, node: NodeId) -> Option<Attr> {
        self.roots.lock().get(&node)?.attr.clone()
    }

    /// Keeps attributes of a node's root.
    pub fn saw_root(&self, node: NodeId, attr: Attr) {
        self.roots.lock().entry(node).or_default().attr = Some(attr);
    }

    /// Whether it is time to ask for a root's attributes again; if so, they count as asked for.
    pub fn is_root_due(&self, node: NodeId) -> bool {
        let mut roots = self.roots.lock();
        let asked = &mut roots.entry(node).or_default().asked;
        let now = mfs::clock::now();
        let due = asked.is_none_or(|asked| now.duration_since(asked) >= ROOT_REFRESH);
        if due {
            *asked = Some(now);
        }
        due
    }
}
