//! `Pages`: the bytes of nodes' files that the kernel keeps in its page cache, where mappings reach them.
//!
//! The kernel fills a page by a READ that carries no lock owner (fs/fuse/file.c), and keeps it until it is
//! told to drop it. So such a READ asks its home for a data lease, and what came without one is dropped
//! right after the answer. When the home wants the lease back the file's pages are dropped, which writes
//! back those that were changed; then it is returned.
//!
//! Dropping waits for the READs of these pages that are under way, and for the writing back. It is done
//! by threads that hold no lock, and the READs are answered meanwhile: their home serves at once who has not
//! returned a lease. What such a READ brought is dropped, too. When the whole file was dropped once, new
//! READs wait here until the lease is returned, unless they are of pages that are yet to be dropped: else
//! a program that reads on and on would never let go.
//!
//! Lock order: `Pages::files` and `Pages::turns` are leaves, and held neither across an `.await` nor
//! while the kernel is told.

mod base;
mod file;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mfs::client::Returns;
use mfs::clock::since_boot;
use mfs::sync::Mutex;
use mfs::types::op::ReadData;
use mfs::types::{DataVersion, InodeNo, Leases, NodeId};
use tokio::sync::Semaphore;

pub use self::base::Stored;
use self::file::{FilePages, Fill, Range, Start, Step};

/// How many READs of one node's files wait for a lease at a time; those of files that are leased need not
/// wait, and must not find all of the session's room taken.
const MOST_WAITING: usize = 16;

/// How often it is looked whether leases have run out; less than what clients stop short of their term.
pub const LOOK: Duration = Duration::from_millis(250);

/// What an error brings.
static NOTHING: Bytes = Bytes::new();

/// How often it is looked whether all is written back.
const LEAST_WAIT: Duration = Duration::from_millis(2);

/// The kernel's page cache.
pub trait PageCache: Send + Sync + std::fmt::Debug {
    /// Drops the pages of a file from a byte on, so many bytes of them; 0: to the end. Pages that were
    /// changed through a mapping are written back first. Blocks while READs and WRITEs of them are under
    /// way.
    fn drop_pages(&self, ino: InodeNo, from: u64, length: u64);

    /// Has the kernel ask how long a file is. Blocks until it is answered.
    fn see_length(&self, ino: InodeNo);

    /// Whether unchanged pages of a file are kept on lease from now on.
    fn keeps(&self, ino: InodeNo, kept: bool);
}

/// A file by its home and its number there.
pub type Key = (NodeId, InodeNo);

/// All pages that are known to be kept, or read to be kept.
#[derive(Debug, Default)]
pub struct Pages {
    files: Mutex<HashMap<Key, FilePages>>,
    kernel: OnceLock<Box<dyn PageCache>>,
    turns: Mutex<HashMap<NodeId, Arc<Semaphore>>>,
}

/// An open through which a file was read to be kept.
#[derive(Debug)]
#[must_use = "the kernel is not told of its length any more when this is dropped"]
pub struct Kept {
    pages: Arc<Pages>,
    key: Key,
}

/// A READ that fills pages. Dropped without an end, it brought nothing under a lease.
#[derive(Debug)]
pub struct Filling {
    pages: Arc<Pages>,
    key: Key,
    fill: Fill,
    _turn: Option<tokio::sync::OwnedSemaphorePermit>,
    ended: bool,
}

// === impl Kept ===

impl Drop for Kept {
    fn drop(&mut self) {
        self.pages.closed(self.key);
    }
}

// === impl Pages ===

impl Pages {
    /// Says which kernel to tell.
    pub fn serve(&self, kernel: Box<dyn PageCache>) {
        let _ = self.kernel.set(kernel); // a mount has one
    }

    /// Begins to read bytes that the kernel keeps for its file `ino`; waits while the file is being let go.
    pub async fn begin(
        self: &Arc<Self>,
        key: Key,
        ino: InodeNo,
        offset: u64,
        size: u32,
    ) -> Filling {
        let range = offset..offset.saturating_add(u64::from(size));
        let leased = self.files.lock().get(&key).is_some_and(FilePages::is_leased);
        let turn = if leased { None } else { self.turn(key.0).acquire_owned().await.ok() };
        loop {
            let start = self.files.lock().entry(key).or_default().begin(ino, &range);
            match start {
                Start::Now(fill) => {
                    let pages = Arc::clone(self);
                    return Filling { pages, key, fill, _turn: turn, ended: false };
                }
                Start::After(returned) => {
                    let _ = returned.await; // dropped: it is over in another way
                }
            }
        }
    }

    /// As [`Self::begin`], of a file that is leased and not being let go; does not wait.
    pub fn begin_leased(
        self: &Arc<Self>,
        key: Key,
        ino: InodeNo,
        offset: u64,
        size: u32,
    ) -> Option<Filling> {
        let mut files = self.files.lock();
        let file = files.get_mut(&key).filter(|file| file.is_leased())?;
        match file.begin(ino, &(offset..offset.saturating_add(u64::from(size)))) {
            Start::Now(fill) => {
                let pages = Arc::clone(self);
                Some(Filling { pages, key, fill, _turn: None, ended: false })
            }
            Start::After(_) => None,
        }
    }

    /// The home wants leases back. Whether they can be given back at once; else it is done over `returns`.
    pub fn recall(
        self: &Arc<Self>,
        key: Key,
        recall: u64,
        leases: Leases,
        returns: &Returns,
    ) -> bool {
        let mut files = self.files.lock();
        let Some(file) = files.get_mut(&key) else { return true };
        let works = file.recall(recall, leases, returns);
        drop(files);
        if works {
            self.work(key);
        }
        false
    }

    /// A file is read to be kept through one more open, until that is dropped.
    pub fn keep(self: &Arc<Self>, key: Key) -> Kept {
        self.files.lock().entry(key).or_default().open();
        Kept { pages: Arc::clone(self), key }
    }

    fn closed(&self, key: Key) {
        let mut files = self.files.lock();
        let Entry::Occupied(mut file) = files.entry(key) else { return };
        file.get_mut().close();
        if file.get().is_idle() {
            file.remove();
        }
    }

    /// The home says that a file has become longer. The kernel would refuse a load beyond the end that it
    /// knows, so it is made to look. Whether that can be said at once; else it is over `returns`.
    pub fn grew(
        self: &Arc<Self>,
        key: Key,
        recall: u64,
        leases: Leases,
        returns: &Returns,
    ) -> bool {
        let Some(numbers) = self.files.lock().get(&key).map(FilePages::numbers) else {
            return true;
        };
        let (pages, returns) = (Arc::clone(self), returns.clone());
        apart(move || {
            pages.see_lengths(&numbers);
            returns.give_back(recall, vec![(key.1, leases)]);
        });
        false
    }

    /// Has the kernel look how long a node's files are of which it keeps pages: what it was not told while
    /// the node did not know that it must.
    pub fn look(self: &Arc<Self>, node: NodeId) {
        let files = self.files.lock();
        let of_node = files.iter().filter(|((home, _), _)| *home == node);
        let numbers: Vec<_> = of_node.flat_map(|(_, file)| file.numbers()).collect();
        drop(files);
        if !numbers.is_empty() {
            let pages = Arc::clone(self);
            apart(move || pages.see_lengths(&numbers));
        }
    }

    /// Has the kernel look how long one of its files is.
    pub async fn look_at(self: &Arc<Self>, ino: InodeNo) {
        let pages = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || pages.see_lengths(&[ino])).await;
    }

    fn see_lengths(&self, numbers: &[InodeNo]) {
        if let Some(kernel) = self.kernel.get() {
            numbers.iter().for_each(|ino| kernel.see_length(*ino));
        }
    }

    /// Nothing of a node is leased any more.
    pub fn lost(self: &Arc<Self>, node: NodeId) {
        let mut files = self.files.lock();
        let lost: Vec<_> = files
            .iter_mut()
            .filter(|((home, _), _)| *home == node)
            .filter_map(|(key, file)| file.lost().then_some(*key))
            .collect();
        drop(files);
        lost.into_iter().for_each(|key| self.work(key));
    }

    /// What of a piece of the file that the kernel writes back was stored here.
    pub fn stored(&self, key: Key, offset: u64, data: &Bytes) -> Vec<Stored> {
        match self.files.lock().get_mut(&key) {
            Some(file) => file.stored(offset, data),
            None => vec![Stored { piece: 0..data.len(), known: None }],
        }
    }

    /// A write of this client has made this version, and nobody else any since its lease.
    pub fn wrote(&self, key: Key, version: Option<DataVersion>) {
        if version.is_some()
            && let Some(file) = self.files.lock().get_mut(&key)
        {
            file.knows(version);
        }
    }

    /// Waits until what was read without a lease by now has been dropped, with what was stored there
    /// written back.
    pub async fn settle(&self, key: Key) {
        let settled = self.files.lock().get_mut(&key).and_then(FilePages::settle);
        if let Some(settled) = settled {
            let _ = settled.await; // dropped: it is
        }
    }

    /// Says over `returns` when all that was stored into pages of a node's files under lost leases has been
    /// written back.
    pub fn settle_before(self: &Arc<Self>, node: NodeId, returns: &Returns) {
        let (pages, returns) = (Arc::clone(self), returns.clone());
        let settled = async move {
            while pages.is_working(node) {
                tokio::time::sleep(LEAST_WAIT).await;
            }
            returns.settled();
        };
        tokio::spawn(settled);
    }

    fn is_working(&self, node: NodeId) -> bool {
        self.files.lock().iter().any(|((home, _), file)| *home == node && file.is_worked_on())
    }

    /// Whether pages of a file are leased.
    pub fn is_leased(&self, key: Key) -> bool {
        self.files.lock().get(&key).is_some_and(FilePages::is_leased)
    }

    /// Whether pages of a node's files are leased.
    pub fn is_holding(&self, node: NodeId) -> bool {
        self.files.lock().iter().any(|((home, _), file)| *home == node && file.is_leased())
    }

    /// Works on a file on a thread that may block, as long as there is something to do.
    fn work(self: &Arc<Self>, key: Key) {
        let pages = Arc::clone(self);
        apart(move || while pages.take_step(key) {});
    }

    /// Tells whoever drops pages when this process cannot.
    fn note_kept(&self, file: &mut FilePages) {
        if let (Some(kernel), Some((numbers, kept))) = (self.kernel.get(), file.newly_kept()) {
            numbers.iter().for_each(|ino| kernel.keeps(*ino, kept));
        }
    }

    /// One step on a file; `false` if there is nothing to do now.
    fn take_step(&self, key: Key) -> bool {
        let mut files = self.files.lock();
        let Entry::Occupied(mut file) = files.entry(key) else { return false };
        let step = file.get_mut().next(since_boot());
        self.note_kept(file.get_mut());
        match step {
            Step::Sleep(time) => {
                drop(files);
                #[allow(clippy::disallowed_methods)] // a thread of its own, for 2 ms at most
                std::thread::sleep(time);
                true
            }
            Step::Drop(numbers, ranges) => {
                drop(files);
                for ino in numbers {
                    for range in &ranges {
                        self.drop_pages(ino, range);
                    }
                }
                true
            }
            Step::Return(given_back) => {
                if file.get().is_idle() {
                    file.remove();
                }
                drop(files);
                for (recall, leases, returns) in given_back {
                    returns.give_back(recall, vec![(key.1, leases)]);
                }
                false
            }
            Step::Wait => false,
        }
    }

    fn turn(&self, node: NodeId) -> Arc<Semaphore> {
        let semaphore = || Arc::new(Semaphore::new(MOST_WAITING));
        Arc::clone(self.turns.lock().entry(node).or_insert_with(semaphore))
    }

    fn drop_pages(&self, ino: InodeNo, range: &Range) {
        if let Some(kernel) = self.kernel.get() {
            let length = if range.end == u64::MAX { 0 } else { range.end - range.start };
            kernel.drop_pages(ino, range.start, length);
        }
    }

    fn end(self: &Arc<Self>, filling: &Filling, leases: Leases, read: Option<&ReadData>) {
        let mut files = self.files.lock();
        let Entry::Occupied(mut file) = files.entry(filling.key) else { return };
        let data = read.map_or(&NOTHING, |read| &read.data);
        let works = file.get_mut().end(since_boot(), &filling.fill, leases, data);
        file.get_mut().knows(read.and_then(|read| read.version));
        self.note_kept(file.get_mut());
        if !works && file.get().is_idle() {
            file.remove();
        }
        drop(files);
        if works {
            self.work(filling.key);
        }
    }
}

/// Runs `work` on a thread that may block.
fn apart(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        // A thread that reads requests: it would wait for the READ that it has yet to answer.
        Err(_) => drop(std::thread::spawn(work)),
    }
}

// === impl Filling ===

impl Filling {
    /// Ends it with the leases that the answer granted and what came. To be called before the kernel is answered. Gives it
    /// back if its data must not be used: it was answered as under a lease that has been returned since.
    pub fn end(mut self, leases: Leases, read: Option<&ReadData>) -> Result<(), Self> {
        if !leases.intersects(Leases::DATA | Leases::DATA_ONCE) {
            let files = self.pages.files.lock();
            if files.get(&self.key).is_some_and(|file| file.is_unprotected(&self.fill)) {
                drop(files);
                return Err(self);
            }
        }
        self.ended = true;
        let pages = Arc::clone(&self.pages);
        pages.end(&self, leases & Leases::DATA, read);
        Ok(())
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if !self.ended {
            let pages = Arc::clone(&self.pages);
            pages.end(self, Leases::empty(), None);
        }
    }
}
