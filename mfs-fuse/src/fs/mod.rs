//! `MountedFs`: the operations of a mount, without FUSE types; it runs, and is tested, without a kernel.
//!
//! An operation takes the asker, inode numbers and names, and answers values or an `Errno`. Every answer
//! about a file comes from its home node, or from what is remembered while the home grants a lease on it.
//!
//! Lock order: `InodeMap::inner`, `HandleMap::inner`, `Nodes::roots`, the locks of `cache`, the tables of
//! `Selections`, `Misses::by_thread`, `Moves::found`, `Forgotten::files`, `Growing::open`, `Points::found`,
//! `Conflicts::untold` and `Backlog::inner` are leaves; no two of them are held together, and none across
//! an `.await`.

mod attributes;
pub mod backing;
mod backlog;
mod busy;
pub mod cache;
mod forgotten;
mod growing;
pub mod handle_map;
mod here;
pub mod inode_map;
mod io;
mod job;
mod known;
pub mod local;
mod lock;
mod missed;
mod moved;
mod namespace;
pub mod nodes;
pub mod pages;
mod points;
pub mod process;
pub mod remote;
mod removed;
pub mod restored;
mod root;
pub mod selection;
mod server_locks;
mod told;
mod write_back;

use std::sync::Arc;

use mfs::clock::since_boot;
use mfs::types::op::{self, Entry};
use mfs::types::{Attr, Caller, Errno, FileId, FileName, InodeNo, Leases, NodeId, Timestamp};

pub use self::backing::Terms;
pub use self::io::{Opened, Page};
pub use self::moved::NameCache;

use self::backing::{Backing, Origin};
use self::backlog::Backlog;
use self::cache::{Cache, Changing};
use self::forgotten::Forgotten;
use self::handle_map::{HandleMap, OpenFile};
use self::inode_map::{InodeMap, Subject};
use self::missed::Misses;
use self::moved::Moves;
use self::nodes::Nodes;
use self::points::Points;
use self::process::Asker;
use self::restored::Restored;
use self::selection::Selections;
use self::write_back::Conflicts;

/// A mounted cluster.
#[derive(Debug)]
pub struct MountedFs {
    /// Where the nodes are.
    pub nodes: Nodes,
    /// What is remembered of their files.
    pub cache: Arc<Cache>,
    inodes: InodeMap,
    handles: Arc<HandleMap>,
    conflicts: Conflicts,
    backlog: Backlog,
    selections: Selections,
    misses: Misses,
    forgotten: Forgotten,
    moves: Moves,
    points: Points,
    /// Who knows which processes are being restored.
    pub restored: Restored,
    terms: Terms,
    mounted_at: Timestamp,
}

/// Who asks, with what `/proc` says of it; made while the request is unanswered.
#[derive(Debug, Clone)]
pub struct Request {
    /// The thread in the kernel.
    pub asker: Asker,
    /// Its identity for the home node.
    pub caller: Caller,
}

/// A file of a node and the way to it.
#[derive(Debug, Clone)]
struct Place {
    node: NodeId,
    file: FileId,
    /// Its number at the node.
    home: InodeNo,
    backing: Backing,
    /// The root of the node's tree.
    is_root: bool,
}

// === impl Request ===

impl Request {
    /// Reads the asker's groups, umask and capabilities.
    pub fn of(asker: Asker) -> Self {
        Self { asker, caller: asker.caller() }
    }

    /// The same with the umask that the kernel sent along.
    #[must_use]
    pub fn with_umask(mut self, umask: u32) -> Self {
        self.caller.umask = umask;
        self
    }

    const fn origin(&self) -> Origin<'_> {
        Origin::of(self.asker, &self.caller)
    }
}

// === impl MountedFs ===

impl MountedFs {
    /// A mount that knows no node yet.
    pub fn new(terms: Terms) -> Arc<Self> {
        let (handles, cache) = (Arc::new(HandleMap::default()), Arc::new(Cache::default()));
        cache.serve_opens(Box::new(Arc::clone(&handles)));
        Arc::new(Self {
            nodes: Nodes::default(),
            cache,
            inodes: InodeMap::new(),
            handles,
            conflicts: Conflicts::default(),
            backlog: Backlog::default(),
            selections: Selections::default(),
            misses: Misses::default(),
            forgotten: Forgotten::default(),
            moves: Moves::default(),
            points: Points::default(),
            restored: Restored::default(),
            terms,
            mounted_at: Self::now(),
        })
    }

    /// How long an operation may take.
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// Gives every open back, at the end of the mount.
    pub async fn release_all(self: &Arc<Self>) {
        let lost = self.backlog.end();
        if lost > 0 {
            tracing::error!(
                "{lost} bytes that were stored through mappings are lost: the mount ends before their nodes \
                 are back"
            );
        }
        for fh in self.handles.all() {
            if let Some(leaving) = self.let_go(fh) {
                self.release(leaving).await;
            }
        }
        self.nodes.end().await;
    }

    /// Counts a lookup of a file and gives it its number here.
    fn admit(&self, node: NodeId, entry: Entry) -> Attr {
        let home = entry.attr.ino;
        let ino = self.inodes.admit(&Subject::File { node, file: entry.file, home }, home);
        self.inodes.saw(ino, &entry.attr);
        Attr { ino, ..entry.attr }
    }

    fn subject(&self, ino: InodeNo) -> Result<Subject, Errno> {
        // The kernel names only what it was told of: an unknown number is a file that it has forgotten.
        self.inodes.find(ino).ok_or(Errno::Stale)
    }

    /// The node's file behind a number; `synthetic` if the number is one of the mount's own.
    async fn place(
        &self,
        origin: &Origin<'_>,
        ino: InodeNo,
        synthetic: Errno,
    ) -> Result<Place, Errno> {
        match self.subject(ino)? {
            Subject::File { node, file, home } => {
                let backing = self.nodes.backing_of(node, &file)?;
                Ok(Place { node, file, home, backing, is_root: false })
            }
            Subject::NodeRoot(node) => self.node_root(origin, node).await,
            Subject::Top | Subject::Magic | Subject::Link { .. } => Err(synthetic),
        }
    }

    async fn node_root(&self, origin: &Origin<'_>, node: NodeId) -> Result<Place, Errno> {
        let (backing, file, home) = self.nodes.root(node, origin).await?;
        Ok(Place { node, file, home, backing, is_root: true })
    }

    /// Any open of the file at the same backing, through which an unlinked file can still be reached.
    fn open_of(&self, ino: InodeNo, writing: bool) -> Option<mfs::types::OpenId> {
        let handle = self.handles.any_of(ino, writing)?;
        handle.as_open().and_then(OpenFile::number)
    }

    /// Begins a change of a file's attributes and data by this mount.
    fn change(&self, node: NodeId, home: InodeNo) -> Changing {
        let touched = Leases::ATTRIBUTES | Leases::HANDLE;
        Changing::begin(self.cache.node(node), &[(home, touched)])
    }

    /// Begins a change of a name by this mount.
    fn change_name(&self, place: &Place, name: &FileName) -> Changing {
        Changing::begin_name(self.cache.node(place.node), place.home, name)
    }

    /// After a change below the root of a node, what is known of the root is looked at anew.
    fn touch_root(self: &Arc<Self>, request: &Request, place: &Place) {
        if place.is_root {
            self.refresh_root(request.clone(), place.node);
        }
    }

    /// Asks for the attributes of a node's root, for the next `stat`; nobody waits for it.
    fn refresh_root(self: &Arc<Self>, request: Request, node: NodeId) {
        let fs = self.clone();
        tokio::spawn(async move {
            // A node that does not answer keeps the attributes that were last seen.
            let origin = request.origin();
            let Ok((backing, file, _)) = fs.nodes.root(node, &origin).await else { return };
            let cache = fs.cache.node(node);
            let stamp = cache.stamp();
            let answer = backing.call_leased(&origin, op::GetAttr { file, open: None }).await;
            cache.note_attr(since_boot(), stamp, &answer);
            if let Ok(attr) = answer.result {
                fs.nodes.saw_root(node, attr);
            }
        });
    }
}

/// A name as the kernel gave it.
pub fn name(name: &std::ffi::OsStr) -> Result<FileName, Errno> {
    FileName::from_os(name).map_err(Errno::from)
}

#[cfg(test)]
mod tests;
