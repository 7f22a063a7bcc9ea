//! What is answered from memory, on the thread that read the request: nothing here waits, sends a message,
//! or reads `/proc`. `None` means that the request takes the usual way.
//!
//! Whether the asker may look, the kernel has decided before it asks, by the attributes and access control
//! lists that were answered to it in the same system call.

use std::time::Duration;

use bytes::Bytes;
use mfs::clock::since_boot;
use mfs::telemetry::metrics::{MOUNT_CACHE_HITS, MOUNT_CACHE_MISSES};
use mfs::types::{Attr, Errno, FileName, InodeNo, XattrName};

use super::MountedFs;
use super::cache::NodeCache;
use super::handle_map::{Fh, OpenedHere};
use super::inode_map::Subject;
use super::io::Page;
use super::process::Asker;
use super::selection::STATS_XATTR;

/// A kind of request that may be answered from memory; its position among the values of the metrics.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Lookup,
    GetAttr,
    ReadLink,
    GetXattr,
    ListXattr,
    OpenDir,
    Open,
    Read,
}

// === impl MountedFs ===

impl MountedFs {
    /// [`Self::lookup`] of what is remembered.
    pub fn known_entry(
        &self,
        asker: Asker,
        parent: InodeNo,
        name: &FileName,
    ) -> Option<Result<Attr, Errno>> {
        if let Some(point) = self.known_point(parent, name) {
            return Some(Ok(point));
        }
        let (node, home) = match self.inodes.find(parent)? {
            Subject::Top => return self.known_node(asker, name).map(Ok),
            Subject::Magic | Subject::Link { .. } => return None,
            Subject::NodeRoot(node) => (node, self.cache.node(node).root()?.1),
            Subject::File { node, home, .. } => (node, home),
        };
        let look = |cache: &NodeCache, now| cache.entry(now, asker.uid, home, name);
        let found = counted(Ask::Lookup, &self.cache.node(node), look)?;
        Some(found.map(|entry| self.admit_at(asker, (parent, name), node, entry)))
    }

    /// [`Self::getattr`] of what is remembered, and of what is the mount's own.
    pub fn known_attr(&self, asker: Asker, ino: InodeNo) -> Option<Attr> {
        let subject = self.inodes.find(ino)?;
        let (node, home) = match &subject {
            Subject::Top | Subject::Magic | Subject::Link { .. } => {
                return Some(self.synthetic_attr(&subject));
            }
            Subject::NodeRoot(node) => (*node, self.cache.node(*node).root()?.1),
            Subject::File { node, home, .. } => (*node, *home),
        };
        let look = |cache: &NodeCache, now| cache.attr(now, asker.uid, home);
        let attr = counted(Ask::GetAttr, &self.cache.node(node), look)?;
        Some(Attr { ino, ..attr })
    }

    /// [`Self::readlink`] of what is remembered.
    pub fn known_target(&self, asker: Asker, ino: InodeNo) -> Option<Bytes> {
        let Subject::File { node, home, .. } = self.inodes.find(ino)? else { return None };
        let look = |cache: &NodeCache, now| cache.target(now, asker.uid, home);
        counted(Ask::ReadLink, &self.cache.node(node), look)
    }

    /// [`Self::getxattr`] of what is remembered, and of what has none.
    pub fn known_xattr(
        &self,
        asker: Asker,
        ino: InodeNo,
        name: &XattrName,
    ) -> Option<Result<Bytes, Errno>> {
        let (node, home) = match self.inodes.find(ino)? {
            Subject::Top if &name.as_bytes()[..] == STATS_XATTR => return None,
            Subject::Top | Subject::Magic | Subject::Link { .. } => {
                return Some(Err(Errno::NoData));
            }
            Subject::NodeRoot(node) => (node, self.cache.node(node).root()?.1),
            Subject::File { node, home, .. } => (node, home),
        };
        let look = |cache: &NodeCache, now| cache.xattr(now, asker.uid, home, name);
        counted(Ask::GetXattr, &self.cache.node(node), look)
    }

    /// [`Self::listxattr`] of what is remembered.
    pub fn known_xattr_names(&self, asker: Asker, ino: InodeNo) -> Option<Bytes> {
        let Subject::File { node, home, .. } = self.inodes.find(ino)? else { return None };
        let look = |cache: &NodeCache, now| cache.xattr_names(now, asker.uid, home);
        counted(Ask::ListXattr, &self.cache.node(node), look)
    }

    /// [`Self::opendir`] of a directory all of whose names are remembered; its home is not told.
    pub fn known_directory(&self, asker: Asker, ino: InodeNo) -> Option<Fh> {
        let (node, home, file) = match self.inodes.find(ino)? {
            Subject::Top | Subject::Magic | Subject::Link { .. } => return None,
            Subject::NodeRoot(node) => {
                let (file, home) = self.cache.node(node).root()?;
                (node, home, file)
            }
            Subject::File { node, file, home } => (node, home, file),
        };
        let cache = self.cache.node(node);
        counted(Ask::OpenDir, &cache, |cache, now| cache.listing(now, asker.uid, home))?;
        let attr = cache.attr(since_boot(), asker.uid, home);
        self.open_here((node, home), ino, OpenedHere::new(file, asker, attr))
    }

    /// [`Self::readdir`] as far as it was fetched already, or is remembered.
    pub fn known_page(&self, asker: Asker, ino: InodeNo, fh: Fh, offset: u64) -> Option<Page> {
        let handle = self.handles.find(fh)?;
        let open = handle.as_open()?;
        let (mut page, from) = Page::begin(ino, offset);
        let mut listed = open.listing.try_lock().ok()?;
        self.go_on(open, asker, &mut listed, from?, &mut page).then_some(page)
    }

    /// A node's name at the top, which is the same for every asker.
    fn known_node(&self, asker: Asker, name: &FileName) -> Option<Attr> {
        let of_process = ["here", "home", "lastexec", "selected"];
        if of_process.iter().any(|other| name.as_bytes() == other.as_bytes()) {
            return None;
        }
        self.lookup_top(asker, name).ok()
    }
}

/// Looks at what is remembered of a node that grants leases, and counts whether it was there.
pub(super) fn counted<T>(
    ask: Ask,
    cache: &NodeCache,
    look: impl FnOnce(&NodeCache, Duration) -> Option<T>,
) -> Option<T> {
    if !cache.is_granting() {
        return None;
    }
    let found = look(cache, since_boot());
    let counter = if found.is_some() { &MOUNT_CACHE_HITS } else { &MOUNT_CACHE_MISSES };
    counter.add_one(ask as usize);
    found
}
