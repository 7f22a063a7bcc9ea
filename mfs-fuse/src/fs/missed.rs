//! Files that are gone between being looked up and being used, twice in a row.
//!
//! The kernel looks a name up and then opens what it has found. If the file was replaced in between, the home
//! answers ESTALE, and the kernel does both once more; a second ESTALE goes to the program. On one machine
//! what was looked up cannot vanish. So for a thread that has missed once, the file of its last lookup is
//! held open here until it is used, or until the thread has had time to.
//!
//! Lock order: `Misses::by_thread` is a leaf.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mfs::clock::since_boot;
use mfs::sync::Mutex;
use mfs::types::{Access, Attr, Errno, FileKind, FileName, InodeNo, OpenFlags};

use super::handle_map::Fh;
use super::process::Asker;
use super::{MountedFs, Request};

/// How long a thread takes at most from one request of a system call to the next.
const SOON: Duration = Duration::from_secs(1);

/// How often a name is looked up to find what is still there when it is opened.
const TRIES: usize = 32;

/// The threads that have missed a file, by their number in the kernel.
#[derive(Debug, Default)]
pub(super) struct Misses {
    /// Most lookups are those of nobody who has missed anything.
    any: AtomicBool,
    by_thread: Mutex<HashMap<u32, Missed>>,
}

#[derive(Debug)]
struct Missed {
    at: Duration,
    /// What the file was to be opened for.
    access: Access,
    /// What was found last, held open.
    held: Option<(InodeNo, Fh)>,
}

// === impl Misses ===

impl Misses {
    fn note(&self, thread: u32, access: Access) {
        let mut by_thread = self.by_thread.lock();
        let at = since_boot();
        by_thread.retain(|_, missed| missed.held.is_some() || at < missed.at + SOON);
        let held = by_thread.get(&thread).and_then(|missed| missed.held);
        by_thread.insert(thread, Missed { at, access, held });
        self.any.store(true, Ordering::Relaxed);
    }

    /// What for the thread wanted the file that it has missed just now, and what is held for it since.
    fn missed(&self, thread: u32) -> Option<(Access, Option<InodeNo>)> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let by_thread = self.by_thread.lock();
        let missed = by_thread.get(&thread)?;
        let held = missed.held.map(|(ino, _)| ino);
        (since_boot() < missed.at + SOON).then_some((missed.access, held))
    }

    /// Holds a file for the thread; what was held before is to be released.
    fn hold(&self, thread: u32, access: Access, ino: InodeNo, held: Fh) -> Option<Fh> {
        let missed = Missed { at: since_boot(), access, held: Some((ino, held)) };
        let before = self.by_thread.lock().insert(thread, missed);
        before?.held.map(|(_, held)| held)
    }

    /// Ends the hold on this file, or on any; what is to be released.
    fn end(&self, thread: u32, only: Option<Fh>) -> Option<Fh> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut by_thread = self.by_thread.lock();
        let (_, held) = by_thread.get(&thread)?.held?;
        if only.is_some_and(|only| only != held) {
            return None;
        }
        by_thread.remove(&thread);
        self.any.store(!by_thread.is_empty(), Ordering::Relaxed);
        Some(held)
    }
}

// === impl MountedFs ===

impl MountedFs {
    /// Whether the thread has just missed a file that it had looked up: its next lookup is
    /// [`Self::lookup_held`].
    pub(crate) fn has_missed(&self, asker: Asker) -> bool {
        self.misses.missed(asker.tid).is_some()
    }

    /// Does what a name was looked up for, and notes it if the file is gone.
    pub(crate) async fn unless_missed<T>(
        &self,
        asker: Asker,
        access: Access,
        work: impl Future<Output = Result<T, Errno>>,
    ) -> Result<T, Errno> {
        let answer = work.await;
        if matches!(answer, Err(Errno::Stale)) {
            self.misses.note(asker.tid, access);
        }
        answer
    }

    /// Lets go of what was held open for the thread.
    pub(crate) async fn has_opened(&self, asker: Asker) {
        self.end_hold(asker.tid, None).await;
    }

    /// Finds a name in a directory, as [`Self::lookup`] does; what is found stays there for a moment.
    pub(crate) async fn lookup_held(
        self: &Arc<Self>,
        request: &Request,
        parent: InodeNo,
        name: FileName,
    ) -> Result<Attr, Errno> {
        let thread = request.asker.tid;
        for _ in 0..TRIES {
            let attr = self.lookup(request, parent, name.clone()).await?;
            let Some((access, held)) = self.misses.missed(thread) else { return Ok(attr) };
            // The kernel may look up twice, to see whether what it knows is true, and if not what is.
            if attr.kind != FileKind::Regular || held == Some(attr.ino) {
                return Ok(attr);
            }
            match self.open(request, attr.ino, access, OpenFlags::empty()).await {
                Ok(opened) => {
                    self.hold(thread, access, attr.ino, opened.fh).await;
                    return Ok(attr);
                }
                // The kernel is not told of this one.
                Err(Errno::Stale) => self.forget(attr.ino, 1),
                // Whatever is wrong, the kernel finds out by itself.
                Err(_) => return Ok(attr),
            }
        }
        self.lookup(request, parent, name).await
    }

    async fn hold(self: &Arc<Self>, thread: u32, access: Access, ino: InodeNo, held: Fh) {
        let before = self.misses.hold(thread, access, ino, held);
        let fs = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(SOON).await;
            fs.end_hold(thread, Some(held)).await;
        });
        self.let_go_of(before).await;
    }

    async fn end_hold(&self, thread: u32, only: Option<Fh>) {
        self.let_go_of(self.misses.end(thread, only)).await;
    }

    async fn let_go_of(&self, held: Option<Fh>) {
        if let Some(leaving) = held.and_then(|held| self.let_go(held)) {
            self.release(leaving).await;
        }
    }
}
