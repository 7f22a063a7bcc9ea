//! Local changes: those made by processes of this node, which ask nobody.
//!
//! Says which files were changed, by their numbers; what is to be done about it, others decide. The kernel
//! tells of them by fanotify(7): names and attributes of whole file systems, writes of single files, each
//! from the first time that it matters until it does not any more.
//!
//! Whoever reads what is to be remembered says so before (`Watched`): first there is a mark, then the file is
//! looked at.
//!
//! Not noticed: the time of the last access, which each read would change; what is written through a map,
//! before the file is closed; and what an overlay changes of a directory, or of a file that is opened for
//! writing, when it copies it up: its link count and the time of its last change.
//!
//! What it costs local processes: see docs/SEMANTICS.md, "What does not hold".

mod kinds;
mod marks;
mod sys;
#[cfg(test)]
mod tests;
mod watcher;

use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::OFlags;

use super::Export;
use super::file_id::FileRef;
use super::mounts::{MountKey, reopen};
use super::numbers::Identity;
use super::tree::Node;
use crate::types::op::Entry;
use crate::types::{Errno, FileId, FileKind, FileName, InodeNo};
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

/// A watched file that another process has opened or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Used {
    /// Its number.
    pub ino: InodeNo,
    /// Which process.
    pub pid: i32,
    /// It has opened it.
    pub opened: bool,
    /// It has closed it; if both, in the end, as far as is known.
    pub closed: bool,
}

/// What was changed locally since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LocalChanges {
    /// By other processes.
    pub others: Vec<Changed>,
    /// By this process.
    pub own: Vec<Changed>,
    /// By other processes opened or closed; only of files of which writes are noticed.
    pub used: Vec<Used>,
    /// Something was missed: anything may have been changed.
    pub anything: bool,
}

/// A reading that is under way: what it looks at is watched, and stays so until this is dropped and whoever
/// wants to hear of it has said so.
#[derive(Debug, Default)]
#[must_use = "what is read is watched until this is dropped"]
pub struct Watched {
    watcher: Option<Arc<Watcher>>,
    began: u64,
    /// The tree was not looked at before this moment.
    looked: u64,
    covered: Vec<InodeNo>,
}

/// What of the tree somebody wants to hear of, beside the readings under way.
pub trait Interest: Send + Sync {
    /// Whether changes of this file matter.
    fn in_file(&self, ino: InodeNo) -> bool;

    /// Whether changes of any file matter.
    fn in_anything(&self) -> bool;
}

/// The watch over a tree, if there is one.
#[derive(Debug, Default)]
pub(super) struct Watch(OnceLock<Arc<Watcher>>);

/// Whether file systems can be watched here: a kernel since 5.17, and the right to (CAP_SYS_ADMIN).
pub(super) fn is_possible(root: impl AsFd) -> bool {
    let marked = sys::group().and_then(|group| sys::mark_file_system(group.as_fd(), root.as_fd()));
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

    /// Begins a reading of these files, which it watches as far as that can be done, each with its kind if
    /// that is known. From then on each change of them is in [`Self::local_changes`].
    pub fn watch(&self, files: &[(&FileId, Option<FileKind>)]) -> Watched {
        let Some(watcher) = self.tree.watch.0.get() else { return Watched::default() };
        let began = watcher.marks().lock().begin();
        let watcher = Some(Arc::clone(watcher));
        let mut watched = Watched { watcher, began, looked: began, covered: Vec::new() };
        for (file, kind) in files {
            if self.cover(&watched, file, *kind).is_some()
                && let Some(ino) = self.number_of(file)
            {
                watched.covered.push(ino);
            }
        }
        watched.looked = watched.now();
        watched
    }

    /// Watches a file, too, that was found out by looking. If it was not watched before, what was seen of it
    /// may be old, and is read anew. `false`: it cannot be watched, or is gone.
    pub fn watch_found(&self, watched: &Watched, found: &mut Entry) -> bool {
        let Entry { file, attr } = found;
        match self.cover(watched, file, Some(attr.kind)) {
            None => false,
            Some(since) if since <= watched.looked => true,
            Some(_) => match self.get_attr(file) {
                Ok(again) if again.ino == attr.ino => {
                    *attr = again;
                    true
                }
                Ok(_) | Err(_) => false,
            },
        }
    }

    /// Stops watching files in which there is no interest any more, and everything if there is none in
    /// anything and nothing was read for so long. How many files are watched now.
    pub fn watch_less(&self, interest: &dyn Interest, idle: Duration) -> usize {
        let Some(watcher) = self.tree.watch.0.get() else { return 0 };
        if watcher.unmark_all(idle, || !interest.in_anything()) {
            return 0;
        }
        let idle_files = watcher.marks().lock().idle_files();
        for idle in idle_files.iter().filter(|idle| !interest.in_file(idle.ino)) {
            match self.tree.find(&idle.file) {
                Ok(Node::File(found)) => watcher.unmark_file(idle, Some(found.as_fd())),
                Ok(Node::Barred(_)) | Err(Errno::Stale | Errno::NoEnt) => {
                    watcher.unmark_file(idle, None);
                }
                Err(_) => {} // it is tried again
            }
        }
        watcher.marks().lock().len()
    }

    /// Since when all changes of a file are noticed; `None` if they are not.
    fn cover(&self, watched: &Watched, file: &FileId, kind: Option<FileKind>) -> Option<u64> {
        let watcher = watched.watcher.as_ref()?;
        let FileRef::Handle(mount, handle) = self.tree.seal.unseal(file).ok()? else {
            return None;
        };
        let since = self.cover_file_system(watcher, mount)?;
        if kind.is_some_and(|kind| !changes_by_writing(kind)) {
            return Some(since);
        }
        let ino = self.tree.numbers.of(&Identity::Handle(mount.fs, &handle));
        let marked = watcher.marks().lock().use_file(ino, watched.began);
        if let Some(marked) = marked {
            return Some(since.max(marked));
        }
        let Node::File(found) = self.tree.find(file).ok()? else { return None };
        if !changes_by_writing(found.kind().ok()?) {
            return Some(since);
        }
        let marked = watcher.mark_file(ino, file, found.as_fd(), watched.began)?;
        Some(since.max(marked))
    }

    fn cover_file_system(&self, watcher: &Watcher, key: MountKey) -> Option<u64> {
        let decided = watcher.marks().lock().file_system(key.fs);
        decided.unwrap_or_else(|| {
            let mount = self.tree.mounts.find(key).ok()?;
            watcher.mark_file_system(key.fs, mount.handles()?)
        })
    }

    /// Whether the names in a directory are what their bytes say; not where it folds case (`chattr +F`).
    pub fn has_exact_names(&self, directory: &FileId) -> bool {
        let Ok(Node::File(found)) = self.tree.find(directory) else { return false };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        let Ok(fd) = reopen(found.as_fd(), flags) else { return false };
        match rustix::fs::ioctl_getflags(&fd) {
            Ok(flags) => flags.bits() & FOLDS_CASE == 0,
            // Without the call a file system has no such directories.
            Err(error) => [rustix::io::Errno::NOTTY, rustix::io::Errno::OPNOTSUPP].contains(&error),
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

/// Whether its size and times change when somebody writes to it, and no name and nothing else does.
const fn changes_by_writing(kind: FileKind) -> bool {
    !matches!(kind, FileKind::Directory | FileKind::Symlink)
}

// === impl Watched ===

impl Watched {
    /// Whether the file is among those that were watched before anything was looked at.
    pub fn covers(&self, ino: InodeNo) -> bool {
        self.covered.contains(&ino)
    }

    fn now(&self) -> u64 {
        self.watcher.as_ref().map_or(0, |watcher| watcher.marks().lock().now())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.marks().lock().end(self.began);
        }
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
