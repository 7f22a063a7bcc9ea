//! Files that the kernel has forgotten, and with them the pages it kept: their data leases are given back, so
//! that nobody has to ask for them when it writes there.
//!
//! Many together: the kernel forgets whole trees at a time. What is given back of the own motion the home asks
//! for first (`lease`, rule 6), since a newer lease may be under way; so a file that is read again meanwhile
//! loses nothing but its pages.
//!
//! Lock order: `Forgotten::files` is a leaf.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mfs::sync::Mutex;
use mfs::types::{InodeNo, Leases, NodeId};

use super::MountedFs;
use super::inode_map::Subject;

/// How long files are gathered that are given back together.
const GATHER: Duration = Duration::from_millis(100);

/// Most files of one message.
const MOST: usize = 1_024;

/// The files whose leases are about to be given back.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    files: Mutex<HashMap<NodeId, Vec<InodeNo>>>,
}

// === impl Forgotten ===

impl Forgotten {
    /// Adds a file; whether it is the first one of those that are gathered now.
    fn add(&self, node: NodeId, home: InodeNo) -> bool {
        let mut files = self.files.lock();
        let first = files.is_empty();
        files.entry(node).or_default().push(home);
        first
    }

    fn take(&self) -> HashMap<NodeId, Vec<InodeNo>> {
        std::mem::take(&mut *self.files.lock())
    }
}

// === impl MountedFs ===

impl MountedFs {
    /// The kernel forgets `lookups` lookups of a number. Whether leases are to be given back from now on,
    /// by [`Self::give_back_forgotten`].
    pub(crate) fn forget(&self, ino: InodeNo, lookups: u64) -> bool {
        match self.inodes.forget(ino, lookups) {
            Some(Subject::File { node, home, .. }) if self.cache.pages.is_leased((node, home)) => {
                self.forgotten.add(node, home)
            }
            _ => false,
        }
    }

    /// Gives back the data leases of what the kernel forgets in the next moment.
    pub(crate) async fn give_back_forgotten(self: Arc<Self>) {
        tokio::time::sleep(GATHER).await;
        for (node, files) in self.forgotten.take() {
            let Some(returns) = self.cache.returns_of(node) else { continue };
            for files in files.chunks(MOST) {
                returns.give_back(0, files.iter().map(|home| (*home, Leases::DATA)).collect());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_many_begins() {
        let forgotten = Forgotten::default();
        let (node, other) = (NodeId::from_digest([1; 32]), NodeId::from_digest([2; 32]));
        let ino = |number| InodeNo::new(number).unwrap();
        assert!(forgotten.add(node, ino(5)));
        assert!(!forgotten.add(node, ino(6)));
        assert!(!forgotten.add(other, ino(5)));
        let taken = forgotten.take();
        assert_eq!(taken[&node], [ino(5), ino(6)]);
        assert_eq!(taken[&other], [ino(5)]);
        assert!(forgotten.add(node, ino(7)));
    }
}
