//! Local changes: those made by processes of this node, which ask nobody.
//!
//! Says which files were changed, by their numbers; what is to be done about it, others decide. The kernel
//! tells of them by fanotify(7): of whole file systems, each from the first time that it matters.
//!
//! Not noticed: the time of the last access, which each read would change; and what is written through a
//! map, before the file is closed.

mod sys;
#[cfg(test)]
mod tests;
mod watcher;

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Export;
use super::file_id::{FileRef, Seal};
use super::mounts::{FsKey, reopen};
use super::numbers::Identity;
use super::tree::Node;
use crate::types::{FileId, FileName, InodeNo};
use watcher::Watcher;

/// `FS_CASEFOLD_FL` of `linux/fs.h`.
const FOLDS_CASE: u32 = 0x4000_0000;

/// A file that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Changed {
    /// Its number.
    pub ino: InodeNo,
    /// Not only its attributes: the names in it, too.
    pub names: bool,
}

/// What was changed locally since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LocalChanges {
    /// By other processes.
    pub others: Vec<Changed>,
    /// By this process.
    pub own: Vec<Changed>,
    /// Something was missed: anything may have been changed.
    pub anything: bool,
}

/// The file systems in which changes were noticed at some moment.
#[derive(Debug, Clone, Default)]
pub struct Watched(Arc<HashSet<FsKey>>);

/// The watch over a tree, if there is one.
#[derive(Debug, Default)]
pub(super) struct Watch(OnceLock<Arc<Watcher>>);

/// Whether file systems can be watched here: a kernel since 5.17, and the right to (CAP_SYS_ADMIN).
pub(super) fn is_possible(root: impl AsFd) -> bool {
    let marked = sys::group().and_then(|group| sys::mark(group.as_fd(), root.as_fd()));
    // That this file system cannot be watched says nothing about others.
    let nowhere = |errno| [libc::EPERM, libc::ENOSYS, libc::EINVAL].contains(&errno);
    !marked.is_err_and(|error| error.raw_os_error().is_none_or(nowhere))
}

// === impl Export ===

impl Export {
    /// The number of the file that an id names, a pure function of the id. `None` if it is not this
    /// export's, or means nothing beyond this process's life: such a file is never watched.
    pub fn number_of(&self, file: &FileId) -> Option<InodeNo> {
        let numbers = &self.tree.numbers;
        match self.tree.seal.unseal(file).ok()? {
            FileRef::Handle(mount, handle) => {
                Some(numbers.of(&Identity::Handle(mount.fs, &handle)))
            }
            FileRef::Barred(place) => Some(numbers.of(&Identity::Barred(place))),
            FileRef::Pinned { .. } | FileRef::Root => None,
        }
    }

    /// The number of the file that has a name at the moment; `None` if there is none, or its directory is
    /// not to be seen.
    pub fn number_of_name(&self, parent: &FileId, name: &FileName) -> Option<InodeNo> {
        match self.tree.find(parent).ok()? {
            Node::File(parent) => self.tree.number_of_name(&parent, name),
            Node::Barred(_) => None,
        }
    }

    /// Whether local changes can be noticed anywhere in the tree.
    pub fn is_watchable(&self) -> bool {
        self.tree.watch.0.get().is_some()
    }

    /// Begins to watch the file system that the file lies in, if that can be done, and says what is
    /// watched. From then on each change there is in [`Self::local_changes`].
    pub fn watch(&self, file: &FileId) -> Watched {
        let Some(watcher) = self.tree.watch.0.get() else { return Watched::default() };
        if let Ok(FileRef::Handle(key, _)) = self.tree.seal.unseal(file)
            && !watcher.is_decided(key.fs)
            && let Ok(mount) = self.tree.mounts.find(key)
            && let Some(door) = mount.handles()
            && watcher.mark(key.fs, door).is_ok()
        {
            tracing::debug!("local changes of another file system are noticed from now on");
        }
        Watched(watcher.watched())
    }

    /// Whether the names in a directory are what their bytes say; not where it folds case (`chattr +F`).
    pub fn has_exact_names(&self, directory: &FileId) -> bool {
        let Ok(Node::File(found)) = self.tree.find(directory) else { return false };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        let Ok(fd) = reopen(found.as_fd(), flags) else { return false };
        match rustix::fs::ioctl_getflags(&fd) {
            Ok(flags) => flags.bits() & FOLDS_CASE == 0,
            // Without the call a file system has no such directories.
            Err(error) => [Errno::NOTTY, Errno::OPNOTSUPP].contains(&error),
        }
    }

    /// What was changed locally since the last call. Does not wait.
    pub fn local_changes(&self) -> LocalChanges {
        let look = |watcher: &Arc<Watcher>| watcher.look(&self.tree.numbers);
        self.tree.watch.0.get().map(look).unwrap_or_default()
    }

    /// Begins to notice local changes, if this kernel lets it: has `wake` called whenever there are some to
    /// be read, until the export is gone. Called again, it is the new one that is called.
    pub fn on_local_changes(&self, wake: Box<dyn Fn() + Send>) {
        if !self.tree.abilities.fanotify {
            return;
        }
        if let Some(watcher) = self.tree.watch.0.get() {
            return watcher.set_wake(wake);
        }
        let place = self.tree.mounts.place().to_path_buf();
        match Watcher::start(place, wake) {
            // Called once at a time, by whoever composes the daemon.
            Ok(watcher) => drop(self.tree.watch.0.set(watcher)),
            Err(error) => tracing::warn!("local changes cannot be noticed: {error}"),
        }
    }
}

// === impl Watched ===

impl Watched {
    /// Whether the file, which an answer of this export names, lies in one of them.
    pub fn covers(&self, file: &FileId) -> bool {
        Seal::file_system(file).is_some_and(|fs| self.0.contains(&fs))
    }
}

// === impl Watch ===

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(watcher) = self.0.get() {
            watcher.stop();
        }
    }
}
