//! `Writers`: whether the data of a file was changed by others since a client got the lease to store into pages
//! of it. What the client writes back may be that old, if it lost the lease without returning it.
//!
//! A client is known by its owner, not by its session: who was cut off comes back with another one. It is a
//! writer from the grant of the lease on; until it returns it, or for some time after it was lost.
//!
//! Whatever a session changes is told before it is done, so that it is certain. Of what is changed beside this
//! daemon only the file's version tells whether it was the data. Of clients that are not writers here (they were
//! away for long) the version is all there is: it must be the latest that they know.
//!
//! The next daemon is left all that is known (`store`). What was done while there was none it does not know: to
//! it each file may have been changed.
//!
//! Not here: what is done about it (`write_back`).
//!
//! Lock order: `Turn`, which is held while a file is written; `Writers::inner`, a leaf, also below those of
//! `Coherence`.

mod store;
mod writer;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, io};

use mfs::export::LocalChanges;
use mfs::sync::{Mutex, RwLock};
use mfs::types::{DataVersion, InodeNo, SessionId, Verifier};

use super::kept;
use super::session::Owner;
use super::tree::Anchor;
use store::{RECORDS, Store, WORDS};
use writer::{File, Known, Others, Writer};

/// Most files that have writers here. Of more than that the version must tell.
const MOST_FILES: usize = 65_536;

/// How long a client that lost its lease is a writer.
const KEPT: Duration = Duration::from_secs(3_600);

/// Who stores into pages of files.
#[derive(Debug, Default)]
pub(super) struct Writers {
    inner: Mutex<Inner>,
    /// How many files those are.
    count: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    files: HashMap<InodeNo, File>,
    /// `None`: nothing is written down, in tests of what does not restart, and where there is no room for it.
    store: Option<Store>,
    free: Vec<usize>,
}

/// Keeps others from changing a file's data while it is looked at and written: shared by those who may write,
/// as each is a writer that nobody was in the way of.
pub(super) type Turn = Arc<RwLock<()>>;

/// What is to be done with bytes that a client has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nobody has changed the file: they are written.
    Unchanged,
    /// Somebody has: they are kept apart.
    Changed,
    /// The file is unchanged if it has the data of one of these versions.
    Look([DataVersion; 2]),
}

// === impl Writers ===

impl Writers {
    /// Takes over what the daemon before has left in a file. Blocks.
    pub(super) fn open(path: Option<&Path>, boot: Verifier) -> Self {
        let inner = path.map(|path| {
            let inner = Inner::take_over(path, boot);
            inner.unwrap_or_else(|error| {
                tracing::warn!(
                    "cannot write {}: {error}; if mfsd is killed, what nodes that are away then had stored may \
                     overwrite what others have written since",
                    path.display()
                );
                let _ = fs::remove_file(path); // what is older than this daemon tells nothing
                Inner::default()
            })
        });
        let inner = inner.unwrap_or_default();
        let count = AtomicUsize::new(inner.files.len());
        Self { inner: Mutex::new(inner), count }
    }

    /// A client was granted the lease on a file that had this version, and is at `place`.
    pub(super) fn granted(
        &self,
        now: Duration,
        (owner, session): (Owner, SessionId),
        ino: InodeNo,
        version: DataVersion,
        place: Option<PathBuf>,
    ) {
        self.with(ino, |file| {
            let new = Known { place, ..Known::new((owner, session), version, now) };
            let Some(writer) = file.find(&owner) else {
                file.writers.push(Writer::new(new));
                return;
            };
            writer.anchor = None;
            let known = &mut writer.known;
            if known.others == Others::Changed {
                *known = Known { renewed: true, ..new };
            } else {
                (known.session, known.at) = (session, now);
            }
        });
    }

    /// A client has returned the lease: all that it had stored is written.
    pub(super) fn returned(&self, session: SessionId, ino: InodeNo) {
        self.change(ino, |file| file.writers.retain(|writer| writer.known.session != session));
    }

    /// A session is about to change the data of a file, or nobody knows who. Returns when the writers that came
    /// before have written.
    pub(super) fn change_by(&self, owner: Option<&Owner>, ino: InodeNo) {
        if let Some(turn) = self.mark(owner, ino) {
            drop(turn.write());
        }
    }

    /// As [`Self::change_by`], by who has the file's turn alone. The turn of those that came before, if there are
    /// others.
    pub(super) fn mark(&self, owner: Option<&Owner>, ino: InodeNo) -> Option<Turn> {
        let mut turn = None;
        self.change(ino, |file| {
            let others = file.writers.iter_mut().map(|writer| &mut writer.known);
            for known in others.filter(|known| Some(&known.owner) != owner) {
                known.others = Others::Changed;
                turn = Some(Turn::clone(&file.turn));
            }
        });
        turn
    }

    /// Files were changed beside this daemon.
    pub(super) fn note(&self, changes: &LocalChanges) {
        if changes.anything {
            let mut inner = self.inner.lock();
            let all: Vec<_> = inner.files.keys().copied().collect();
            for ino in all {
                inner.work(ino, File::doubt);
            }
        }
        for changed in changes.others.iter().filter(|changed| !changed.names) {
            self.change(changed.ino, File::doubt);
        }
    }

    /// Whether the client is a writer of the file.
    pub(super) fn has(&self, owner: &Owner, ino: InodeNo) -> bool {
        !self.is_empty()
            && self.inner.lock().files.get_mut(&ino).is_some_and(|f| f.find(owner).is_some())
    }

    /// What keeps others from changing the file.
    pub(super) fn turn(&self, ino: InodeNo) -> Turn {
        let mut turn = Turn::default();
        self.with(ino, |file| turn = Turn::clone(&file.turn));
        turn
    }

    /// What is to be done with what a client has stored that knew `known`; to be asked in the file's turn.
    /// `holds` says whether a session holds the lease now: then what others do is done in order.
    pub(super) fn judge(
        &self,
        owner: &Owner,
        ino: InodeNo,
        known: DataVersion,
        holds: impl FnOnce(SessionId) -> bool,
    ) -> Judgement {
        let mut inner = self.inner.lock();
        let writer = inner.files.get_mut(&ino).and_then(|file| file.find(owner));
        let Some(writer) = writer.map(|writer| &writer.known) else {
            return Judgement::Look([known; 2]);
        };
        if known.ctime < writer.since.ctime {
            // It is of an earlier lease.
            return if writer.renewed { Judgement::Changed } else { Judgement::Look([known; 2]) };
        }
        let (session, others, latest) = (writer.session, writer.others, writer.latest);
        drop(inner);
        match others {
            Others::Nothing => Judgement::Unchanged,
            _ if holds(session) => Judgement::Unchanged,
            Others::Perhaps => Judgement::Look([known, latest]),
            Others::Changed => Judgement::Changed,
        }
    }

    /// It was looked, and nobody has changed the file: the client is a writer from `known` on.
    pub(super) fn found_unchanged(
        &self,
        now: Duration,
        (owner, session): (Owner, SessionId),
        ino: InodeNo,
        known: DataVersion,
    ) {
        self.with(ino, |file| match file.find(&owner) {
            Some(writer) if writer.known.others == Others::Perhaps => {
                writer.known.others = Others::Nothing;
            }
            Some(_) => {}
            None => file.writers.push(Writer::new(Known::new((owner, session), known, now))),
        });
    }

    /// A writer has made this version; whether nobody else has done anything since its lease.
    pub(super) fn wrote(&self, owner: &Owner, ino: InodeNo, version: DataVersion) -> bool {
        let note = |file: &mut File| {
            let Some(known) = file.find(owner).map(|writer| &mut writer.known) else {
                return false;
            };
            if version.ctime >= known.latest.ctime {
                known.latest = version;
            }
            known.others == Others::Nothing
        };
        self.inner.lock().work(ino, note).unwrap_or(false)
    }

    /// Where the bytes of a client go that do not go into the file.
    pub(super) fn copy(&self, owner: &Owner, ino: InodeNo) -> Option<PathBuf> {
        self.inner.lock().files.get_mut(&ino)?.find(owner)?.known.copy.clone()
    }

    /// Where they went. Of a client that is no writer it is remembered, too, so that there is one copy.
    pub(super) fn copied(
        &self,
        now: Duration,
        (owner, session): (Owner, SessionId),
        ino: InodeNo,
        known: DataVersion,
        copy: PathBuf,
    ) {
        self.with(ino, |file| {
            if file.find(&owner).is_none() {
                let known = Known::new((owner, session), known, now);
                file.writers.push(Writer::new(Known { others: Others::Changed, ..known }));
            }
            if let Some(writer) = file.find(&owner) {
                writer.known.copy = Some(copy);
            }
        });
    }

    /// A client has taken a name of the file away itself: it knows that it is gone.
    pub(super) fn removed_by(&self, owner: &Owner, ino: InodeNo) {
        self.change(ino, |file| {
            if let Some(writer) = file.find(owner) {
                writer.known.removed = true;
            }
        });
    }

    /// Whether somebody else than this client, a writer, has removed the file, which has no name any more.
    pub(super) fn removed_by_others(
        &self,
        owner: &Owner,
        ino: InodeNo,
        holds: impl FnOnce(SessionId) -> bool,
    ) -> bool {
        let mut inner = self.inner.lock();
        let writer = inner.files.get_mut(&ino).and_then(|file| file.find(owner));
        let Some(known) = writer.map(|writer| &writer.known) else { return false };
        let (removed, session) = (known.removed, known.session);
        drop(inner);
        // As on one machine, where it is asked first.
        !removed && !holds(session)
    }

    /// A client has lost its session: the file stays, should it be removed.
    pub(super) fn anchor(&self, owner: &Owner, ino: InodeNo, anchor: Anchor) {
        self.change(ino, |file| {
            if let Some(writer) = file.find(owner) {
                writer.anchor = Some(anchor);
            }
        });
    }

    /// The file is not there any more; where it was, if the client was a writer of it. It is none from now on.
    pub(super) fn lost(&self, owner: &Owner, ino: InodeNo) -> Option<Option<PathBuf>> {
        let mut place = None;
        self.change(ino, |file| {
            let at = file.writers.iter().position(|writer| writer.known.owner == *owner);
            let lost = at.map(|at| file.writers.swap_remove(at).known);
            place = lost.filter(|known| !known.removed).map(|known| known.place);
        });
        place
    }

    /// Whether anybody stores into pages of the file.
    pub(super) fn concern(&self, ino: InodeNo) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.inner.lock().files.contains_key(&ino)
    }

    /// Whether there is no writer at all.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// A client has ended by its own word: it writes nothing back.
    pub(super) fn left(&self, owner: &Owner) {
        self.retain(|_, writer| writer.known.owner != *owner);
    }

    /// Forgets those that do not come back; to be called at intervals.
    pub(super) fn rest(&self, now: Duration, holds: impl Fn(InodeNo, SessionId) -> bool) {
        let inner = self.inner.lock();
        let all = inner
            .files
            .iter()
            .flat_map(|(ino, file)| file.writers.iter().map(|w| (*ino, w.known.session)));
        let all: Vec<_> = all.collect();
        drop(inner);
        // Asked without the lock, which is a leaf.
        let held: HashSet<_> =
            all.into_iter().filter(|(ino, holder)| holds(*ino, *holder)).collect();
        self.retain(|ino, writer| {
            let known = &mut writer.known;
            if held.contains(&(ino, known.session)) {
                known.at = now;
            }
            now.saturating_sub(known.at) < KEPT
        });
    }

    fn retain(&self, mut keeps: impl FnMut(InodeNo, &mut Writer) -> bool) {
        let mut inner = self.inner.lock();
        let all: Vec<_> = inner.files.keys().copied().collect();
        for ino in all {
            inner.work(ino, |file| file.writers.retain_mut(|writer| keeps(ino, writer)));
            inner.forget_if_empty(ino);
        }
        self.count.store(inner.files.len(), Ordering::Release);
    }

    /// Works on a file that has writers; one that has none any more is forgotten.
    fn change(&self, ino: InodeNo, work: impl FnOnce(&mut File)) {
        if self.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        inner.work(ino, work);
        inner.forget_if_empty(ino);
        self.count.store(inner.files.len(), Ordering::Release);
    }

    /// Works on a file that gets a writer.
    fn with(&self, ino: InodeNo, work: impl FnOnce(&mut File)) {
        let mut inner = self.inner.lock();
        if inner.files.len() < MOST_FILES || inner.files.contains_key(&ino) {
            inner.files.entry(ino).or_default();
            inner.work(ino, work);
        }
        self.count.store(inner.files.len(), Ordering::Release);
    }
}

// === impl Inner ===

impl Inner {
    fn take_over(path: &Path, boot: Verifier) -> io::Result<Self> {
        let left = kept::Left::read(path, WORDS);
        let left = left.and_then(|left| Store::open(Box::new(left), boot.0));
        let inner = Self::inherit(left, Store::create(kept::make(path, WORDS)?, boot.0));
        kept::put(path)?;
        Ok(inner)
    }

    /// Takes over what is `left`, and writes it down in `store`.
    fn inherit(left: Option<Store>, store: Store) -> Self {
        let free = (0..RECORDS).rev().collect();
        let mut inner = Self { files: HashMap::new(), store: Some(store), free };
        let records = left.iter().flat_map(|left| (0..RECORDS).filter_map(|at| left.record(at)));
        for (ino, mut known) in records {
            known.doubt();
            let file = inner.files.entry(ino).or_default();
            file.writers.push(Writer::new(known));
            file.note(ino, inner.store.as_ref(), &mut inner.free, &[]);
        }
        inner
    }

    /// Works on a file, and writes down what has changed.
    fn work<R>(&mut self, ino: InodeNo, work: impl FnOnce(&mut File) -> R) -> Option<R> {
        let Self { files, store, free } = self;
        let file = files.get_mut(&ino)?;
        let before: Vec<_> = file.writers.iter().map(|w| (w.noted, w.known.clone())).collect();
        let result = work(file);
        file.note(ino, store.as_ref(), free, &before);
        Some(result)
    }

    fn forget_if_empty(&mut self, ino: InodeNo) {
        if self.files.get(&ino).is_some_and(|file| file.writers.is_empty()) {
            self.files.remove(&ino);
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Writers").field(&self.files.len()).finish()
    }
}

// === impl File: what the next daemon is left ===

impl File {
    /// Writes down what was not so `before`.
    fn note(
        &mut self,
        ino: InodeNo,
        store: Option<&Store>,
        free: &mut Vec<usize>,
        before: &[(Option<usize>, Known)],
    ) {
        let Some(store) = store else { return };
        for (at, known) in before.iter().filter_map(|(at, known)| Some(((*at)?, known))) {
            match self.writers.iter().find(|writer| writer.noted == Some(at)) {
                Some(writer) if writer.known != *known => store.change(at, known, &writer.known),
                Some(_) => {}
                None => {
                    store.remove(at);
                    free.push(at);
                }
            }
        }
        for writer in self.writers.iter_mut().filter(|writer| writer.noted.is_none()) {
            writer.noted = free.pop();
            if let Some(at) = writer.noted {
                store.add(at, ino, &writer.known);
            }
        }
    }
}

#[cfg(test)]
mod tests;
