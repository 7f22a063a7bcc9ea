//! Files that a peer has just looked up in order to use them, kept until it has had time to.
//!
//! On one machine what was looked up cannot vanish before it is opened; here a message lies between the two,
//! and a local process may replace the name meanwhile, as often as it likes. An O_PATH descriptor keeps the
//! file for that while without being an open of it: it delays no lease and makes no program busy.
//!
//! Not for every lookup: a peer asks for it when it has missed a file.
//!
//! Lock order: `Awaited::kept` is a leaf.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::fd_budget::{FdBudget, FdSlot};
use crate::clock::since_boot;
use crate::sync::Mutex;
use crate::types::FileId;

/// How long a peer has at most from its lookup to its open.
pub(super) const SOON: Duration = Duration::from_secs(2);

/// Most files kept at a time. Who misses a file by this is told so and asks again.
const MOST: usize = 512;

/// The files, the newest last.
#[derive(Debug)]
pub(super) struct Awaited {
    budget: FdBudget,
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    file: FileId,
    fd: OwnedFd,
    since: Duration,
    _slot: FdSlot,
}

// === impl Awaited ===

impl Awaited {
    /// Nothing is kept yet.
    pub(super) fn new(budget: &FdBudget) -> Self {
        let budget = budget.part(MOST.min(budget.limit() / 8).max(1));
        Self { budget, kept: Mutex::default() }
    }

    /// Keeps a file for a moment, in place of the one that is kept longest if there are too many.
    pub(super) fn keep(&self, file: &FileId, fd: impl AsFd) {
        // Without a descriptor it is as if nobody had asked.
        let Ok(fd) = rustix::io::fcntl_dupfd_cloexec(fd, 0) else { return };
        self.end(SOON);
        let slot = self.budget.take().or_else(|_| {
            let longest = self.kept.lock().pop_front();
            drop(longest); // closed without the lock
            self.budget.take()
        });
        let Ok(slot) = slot else { return };
        let kept = Kept { file: file.clone(), fd, since: since_boot(), _slot: slot };
        self.kept.lock().push_back(kept);
    }

    /// A descriptor of its own on a file that is kept.
    pub(super) fn find(&self, file: &FileId) -> Option<OwnedFd> {
        let kept = self.kept.lock();
        let found = kept.iter().rev().find(|kept| kept.file == *file)?;
        rustix::io::fcntl_dupfd_cloexec(&found.fd, 0).ok()
    }

    /// Lets go of what is kept for so long, so that its space is free and its file system can be unmounted.
    pub(super) fn end(&self, age: Duration) {
        let now = since_boot();
        let mut kept = self.kept.lock();
        let over = kept.iter().take_while(|kept| kept.since + age <= now).count();
        let over: Vec<_> = kept.drain(..over).collect();
        drop(kept);
        drop(over); // closed without the lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let budget = FdBudget::new(16);
        let awaited = Awaited::new(&budget);
        let id = |byte: u8| FileId::from_bytes(vec![byte].into()).unwrap();
        let fd = std::fs::File::open("/").unwrap();
        for byte in 1..=3 {
            awaited.keep(&id(byte), &fd);
        }
        assert!(awaited.find(&id(1)).is_none());
        assert!(awaited.find(&id(2)).is_some() && awaited.find(&id(3)).is_some());
        assert_eq!(budget.taken(), 2);
        awaited.end(Duration::from_secs(60));
        assert!(awaited.find(&id(3)).is_some());
        awaited.end(Duration::ZERO);
        assert!(awaited.find(&id(3)).is_none());
        assert_eq!(budget.taken(), 0);
    }
}
