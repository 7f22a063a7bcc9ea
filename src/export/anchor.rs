//! `Anchor`: keeps a file of which nobody knows yet what is to be done with it. It may be removed meanwhile, and is
//! found by its id still, but it is there until this is dropped. Nobody is kept from anything by it, but from
//! unmounting its file system.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::fd_budget::FdSlot;
use super::mounts::reopen;
use super::open_file::OpenFile;
use super::tree::Tree;
use crate::types::FileId;

/// Dropped, it lets go.
#[derive(Debug)]
pub struct Anchor {
    tree: Arc<Tree>,
    file: FileId,
    fd: Arc<OwnedFd>,
    _slot: FdSlot,
}

// === impl OpenFile ===

impl OpenFile {
    /// Keeps the file there; `None` if there is no descriptor to be had.
    pub fn anchor(&self) -> Option<Anchor> {
        let (tree, file) = (Arc::clone(&self.0.tree), self.0.file.clone());
        let slot = tree.budget.take().ok()?;
        let fd = Arc::new(reopen(self.as_fd()?.as_fd(), OFlags::PATH | OFlags::CLOEXEC).ok()?);
        tree.anchored.note(&file, &fd);
        Some(Anchor { tree, file, fd, _slot: slot })
    }

    /// Whether it has no name any more.
    pub fn is_removed(&self) -> bool {
        self.as_fd().is_some_and(|fd| rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_nlink == 0))
    }
}

// === impl Anchor ===

impl Drop for Anchor {
    fn drop(&mut self) {
        self.tree.anchored.forget(&self.file, &self.fd);
    }
}
