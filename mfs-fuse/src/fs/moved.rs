//! Directories that were moved behind the kernel's back, and are found at their new place.
//!
//! A directory has one place in the kernel. When a LOOKUP finds it elsewhere, the kernel moves it there, and
//! may not wait for a lock while it does: if another rename between directories is under way in the mount, or
//! a change in the directory where it was, the LOOKUP ends with ESTALE (fs/dcache.c, `__d_unalias`). Two
//! ways out:
//!
//! * The thread tries again after ESTALE, once. When it comes back for the beginning of the path, the mount
//!   looks the directory up by itself, as often as it takes, and only then goes on. Meanwhile who has renamed
//!   something begins nothing new: else, of several who rename without pause, one always has the lock.
//! * A LOOKUP within rename(2) has the lock that the kernel would need, and would never succeed. It gets the
//!   directory under a second number, which nobody sees and the kernel soon forgets.
//!
//! Lock order: `Moves::found` and `Moves::renamed` are leaves.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mfs::clock::since_boot;
use mfs::sync::Mutex;
use mfs::types::op::Entry;
use mfs::types::{Attr, FileKind, FileName, InodeNo, NodeId};
use tokio::sync::watch;

use super::MountedFs;
use super::inode_map::Subject;
use super::process::Asker;

/// How long a thread takes at most to come back after ESTALE.
const SOON: Duration = Duration::from_secs(1);

/// How long a thread waits at most for what the mount does for it: if its request holds a directory that is
/// needed for that, it would be for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long who renames is held up at most. A thread that begins its next rename(2) without a path to be
/// walked has the lock already, and is in the way of what it waits for.
const PAUSE: Duration = Duration::from_millis(50);

/// The kernel's names.
pub trait NameCache: Send + Sync + std::fmt::Debug {
    /// Has the kernel look up a name in a directory until that does not fail with ESTALE, but not for ever.
    /// Blocks until it is answered.
    fn find(&self, parent: InodeNo, name: &FileName);
}

/// Which threads have found a directory at a new place just now.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Most threads have not.
    any: AtomicBool,
    found: Mutex<HashMap<u32, Found>>,
    kernel: OnceLock<Arc<dyn NameCache>>,
    /// How many directories the mount looks up by itself.
    looking: watch::Sender<usize>,
    /// The threads that have renamed something since.
    renamed: Mutex<HashSet<u32>>,
}

/// One more directory that is looked up.
struct Looking<'a>(&'a watch::Sender<usize>);

/// A directory that was found, and where.
#[derive(Debug)]
struct Found {
    ino: InodeNo,
    parent: InodeNo,
    name: FileName,
    at: Duration,
}

// === impl Moves ===

impl Moves {
    fn note(&self, thread: u32, ino: InodeNo, parent: InodeNo, name: FileName) {
        let at = since_boot();
        let mut found = self.found.lock();
        found.retain(|_, other| at < other.at + SOON);
        found.insert(thread, Found { ino, parent, name, at });
        self.any.store(true, Ordering::Relaxed);
    }

    /// What the thread has found and may have been refused: it looks up something that is not below it.
    fn take(&self, thread: u32, parent: InodeNo, name: Option<&FileName>) -> Option<Found> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut all = self.found.lock();
        let found = all.get(&thread)?;
        // The name itself is being looked up: another look would wait for that. The kernel does so twice if
        // it knew something else by that name.
        if parent == found.parent && name == Some(&found.name) {
            return None;
        }
        let found = all.remove(&thread);
        self.any.store(!all.is_empty(), Ordering::Relaxed);
        found.filter(|found| parent != found.ino && since_boot() < found.at + SOON)
    }
}

// === impl Looking ===

impl<'a> Looking<'a> {
    fn begin(moves: &'a Moves) -> Self {
        moves.looking.send_modify(|count| *count += 1);
        Self(&moves.looking)
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

// === impl MountedFs ===

impl MountedFs {
    /// Says which kernel to ask.
    pub fn serve_names(&self, kernel: Arc<dyn NameCache>) {
        let _ = self.moves.kernel.set(kernel); // a mount has one
    }

    /// What is to be waited for before a thread's LOOKUP: if it was refused a directory, that this is found, and
    /// if it renames, that others have found theirs.
    pub(crate) fn before_lookup(
        self: &Arc<Self>,
        asker: Asker,
        parent: InodeNo,
        name: Option<&FileName>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let found = self.moves.take(asker.tid, parent, name);
        let renames =
            *self.moves.looking.borrow() > 0 && self.moves.renamed.lock().remove(&asker.tid);
        if found.is_none() && !renames {
            return None;
        }
        let fs = Arc::clone(self);
        Some(async move {
            if let (Some(found), Some(kernel)) = (found, fs.moves.kernel.get().cloned()) {
                let _looking = Looking::begin(&fs.moves);
                let find = move || kernel.find(found.parent, &found.name);
                // Without it the thread takes its chance.
                let _ = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(find)).await;
            } else {
                let mut looking = fs.moves.looking.subscribe();
                let _ = tokio::time::timeout(PAUSE, looking.wait_for(|count| *count == 0)).await;
            }
        })
    }

    /// A thread's RENAME is about to be answered.
    pub(super) fn has_renamed(&self, asker: Asker) {
        let mut renamed = self.moves.renamed.lock();
        if *self.moves.looking.borrow() > 0 {
            renamed.insert(asker.tid);
        } else if !renamed.is_empty() {
            renamed.clear();
        }
    }

    /// Counts a lookup of what a name leads to and gives it its number here.
    pub(super) fn admit_at(
        &self,
        asker: Asker,
        (parent, name): (InodeNo, &FileName),
        node: NodeId,
        entry: Entry,
    ) -> Attr {
        if entry.attr.kind != FileKind::Directory {
            return self.admit(node, entry);
        }
        let home = entry.attr.ino;
        let subject = Subject::File { node, file: entry.file.clone(), home };
        let is_moved = self.inodes.is_moved(&subject, parent);
        if is_moved && asker.is_in_rename() {
            let ino = self.inodes.admit_beside(&subject, home);
            return Attr { ino, ..entry.attr };
        }
        let attr = self.admit(node, entry);
        self.inodes.place(attr.ino, parent, name);
        if is_moved {
            self.moves.note(asker.tid, attr.ino, parent, name.clone());
        }
        attr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_for_another_name_may_have_been_refused() {
        let moves = Moves::default();
        let ino = |number| InodeNo::new(number).unwrap();
        let name = |name: &'static str| FileName::parse(name.as_bytes()).unwrap();
        let find = || moves.note(7, ino(10), ino(20), name("d"));
        assert!(moves.take(7, ino(5), None).is_none());
        find();
        assert!(moves.take(8, ino(5), None).is_none(), "another thread");
        assert!(moves.take(7, ino(5), Some(&name("e"))).is_some());
        assert!(moves.take(7, ino(5), Some(&name("e"))).is_none(), "once");
        find();
        assert!(moves.take(7, ino(10), Some(&name("below"))).is_none());
        find();
        assert!(moves.take(7, ino(20), Some(&name("d"))).is_none(), "on the way");
        assert!(moves.take(7, ino(5), Some(&name("e"))).is_some(), "and back again");
    }
}
