//! Files that are gone between being looked up and being used, twice in a row.
//!
//! The kernel looks a name up and then opens what it has found. If the file was replaced in between, the home
//! answers ESTALE, and the kernel does both once more; a second ESTALE goes to the program. On one machine
//! what was looked up cannot vanish. So a thread that has missed once has its next lookups done by the home,
//! which keeps what it finds for a moment, whoever removes it: a local process can replace a name faster than
//! any message travels.
//!
//! Lock order: `Misses::by_thread` is a leaf.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mfs::clock::since_boot;
use mfs::sync::Mutex;
use mfs::types::Errno;

use super::MountedFs;
use super::process::Asker;

/// How long a thread takes at most from one request of a system call to the next.
const SOON: Duration = Duration::from_secs(1);

/// The threads that have missed a file, by their number in the kernel, and when.
#[derive(Debug, Default)]
pub(super) struct Misses {
    /// Most lookups are those of nobody who has missed anything.
    any: AtomicBool,
    by_thread: Mutex<HashMap<u32, Duration>>,
}

// === impl Misses ===

impl Misses {
    fn note(&self, thread: u32) {
        let now = since_boot();
        let mut by_thread = self.by_thread.lock();
        by_thread.retain(|_, at| now < *at + SOON);
        by_thread.insert(thread, now);
        self.any.store(true, Ordering::Relaxed);
    }

    fn has_missed(&self, thread: u32) -> bool {
        self.any.load(Ordering::Relaxed)
            && self.by_thread.lock().get(&thread).is_some_and(|at| since_boot() < *at + SOON)
    }

    fn end(&self, thread: u32) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut by_thread = self.by_thread.lock();
        by_thread.remove(&thread);
        self.any.store(!by_thread.is_empty(), Ordering::Relaxed);
    }
}

// === impl MountedFs ===

impl MountedFs {
    /// Whether the thread has just missed a file that it had looked up: what it looks up next is not answered
    /// from memory, and its home is to keep it.
    pub(crate) fn has_missed(&self, asker: Asker) -> bool {
        self.misses.has_missed(asker.tid)
    }

    /// Does what a name was looked up for, and notes it if the file is gone.
    pub(crate) async fn unless_missed<T>(
        &self,
        asker: Asker,
        work: impl Future<Output = Result<T, Errno>>,
    ) -> Result<T, Errno> {
        let answer = work.await;
        if matches!(answer, Err(Errno::Stale)) {
            self.misses.note(asker.tid);
        }
        answer
    }

    /// The thread has what it had missed.
    pub(crate) fn has_opened(&self, asker: Asker) {
        self.misses.end(asker.tid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_missed_is_known_until_it_has_opened() {
        let misses = Misses::default();
        assert!(!misses.has_missed(7));
        misses.note(7);
        misses.note(8);
        assert!(misses.has_missed(7) && misses.has_missed(8) && !misses.has_missed(9));
        misses.end(7);
        assert!(!misses.has_missed(7) && misses.has_missed(8));
    }
}
