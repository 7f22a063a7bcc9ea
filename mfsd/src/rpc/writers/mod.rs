//! `Writers`: whether the data of a file was changed by others since a client got the lease to store into pages
//! of it. What the client writes back may be that old, if it lost the lease without returning it.
//!
//! A client is known by its owner, not by its session: who was cut off comes back with another one. It is a
//! writer from the grant of the lease on; until it returns it, or for some time after it was lost.
//!
//! Whatever a session changes is told before it is done, so that it is certain. Of what is changed beside this
//! daemon only the file's version tells whether it was the data. Of clients that are not writers here (this
//! daemon was restarted, they were away for long) the version is all there is: it must be the latest that they
//! know.
//!
//! Not here: what is done about it (`write_back`).
//!
//! Lock order: `Turn`, which is held while a file is written; `Writers::files`, a leaf, also below those of
//! `Coherence`.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mfs::export::LocalChanges;
use mfs::sync::{Mutex, RwLock};
use mfs::types::{DataVersion, InodeNo, SessionId};

use super::session::Owner;

/// Most files that have writers here. Of more than that the version must tell.
const MOST_FILES: usize = 65_536;

/// How long a client that lost its lease is a writer.
const KEPT: Duration = Duration::from_secs(3_600);

/// Who stores into pages of files.
#[derive(Debug, Default)]
pub(super) struct Writers {
    files: Mutex<HashMap<InodeNo, File>>,
    /// How many those are.
    count: AtomicUsize,
}

/// Keeps others from changing a file's data while it is looked at and written: shared by those who may write,
/// as each is a writer that nobody was in the way of.
pub(super) type Turn = Arc<RwLock<()>>;

#[derive(Debug, Default)]
struct File {
    writers: Vec<Writer>,
    turn: Turn,
}

#[derive(Debug)]
struct Writer {
    owner: Owner,
    /// The session that the lease was granted to last.
    session: SessionId,
    /// What it was granted the lease on.
    since: DataVersion,
    /// The latest that it has made.
    latest: DataVersion,
    others: Others,
    /// Others had changed the file before this lease, and after an earlier one that was lost.
    renewed: bool,
    /// When it was last known to hold the lease.
    at: Duration,
    /// Where its bytes go that do not go into the file.
    copy: Option<PathBuf>,
}

/// What others have done with the file meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    Nothing,
    /// Something beside this daemon, perhaps to its data.
    Perhaps,
    Changed,
}

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
    /// A client was granted the lease on a file that had this version.
    pub(super) fn granted(
        &self,
        now: Duration,
        (owner, session): (Owner, SessionId),
        ino: InodeNo,
        version: DataVersion,
    ) {
        self.with(ino, |file| {
            let Some(writer) = file.find(&owner) else {
                file.writers.push(Writer::new((owner, session), version, now));
                return;
            };
            (writer.session, writer.at) = (session, now);
            if writer.others == Others::Changed {
                *writer = Writer { renewed: true, ..Writer::new((owner, session), version, now) };
            }
        });
    }

    /// A client has returned the lease: all that it had stored is written.
    pub(super) fn returned(&self, session: SessionId, ino: InodeNo) {
        self.change(ino, |file| file.writers.retain(|writer| writer.session != session));
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
            for writer in file.writers.iter_mut().filter(|writer| Some(&writer.owner) != owner) {
                writer.others = Others::Changed;
                turn = Some(Turn::clone(&file.turn));
            }
        });
        turn
    }

    /// Files were changed beside this daemon.
    pub(super) fn note(&self, changes: &LocalChanges) {
        if changes.anything {
            self.files.lock().values_mut().for_each(File::doubt);
        }
        for changed in changes.others.iter().filter(|changed| !changed.names) {
            self.change(changed.ino, File::doubt);
        }
    }

    /// Whether the client is a writer of the file.
    pub(super) fn has(&self, owner: &Owner, ino: InodeNo) -> bool {
        !self.is_empty()
            && self.files.lock().get_mut(&ino).is_some_and(|file| file.find(owner).is_some())
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
        let mut files = self.files.lock();
        let writer = files.get_mut(&ino).and_then(|file| file.find(owner));
        let Some(writer) = writer else { return Judgement::Look([known; 2]) };
        if known.ctime < writer.since.ctime {
            // It is of an earlier lease.
            return if writer.renewed { Judgement::Changed } else { Judgement::Look([known; 2]) };
        }
        let (session, others, latest) = (writer.session, writer.others, writer.latest);
        drop(files);
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
            Some(writer) if writer.others == Others::Perhaps => writer.others = Others::Nothing,
            Some(_) => {}
            None => file.writers.push(Writer::new((owner, session), known, now)),
        });
    }

    /// A writer has made this version; whether nobody else has done anything since its lease.
    pub(super) fn wrote(&self, owner: &Owner, ino: InodeNo, version: DataVersion) -> bool {
        let mut files = self.files.lock();
        let writer = files.get_mut(&ino).and_then(|file| file.find(owner));
        let Some(writer) = writer else { return false };
        if version.ctime >= writer.latest.ctime {
            writer.latest = version;
        }
        writer.others == Others::Nothing
    }

    /// Where the bytes of a client go that do not go into the file.
    pub(super) fn copy(&self, owner: &Owner, ino: InodeNo) -> Option<PathBuf> {
        self.files.lock().get_mut(&ino)?.find(owner)?.copy.clone()
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
                let writer = Writer::new((owner, session), known, now);
                file.writers.push(Writer { others: Others::Changed, ..writer });
            }
            if let Some(writer) = file.find(&owner) {
                writer.copy = Some(copy);
            }
        });
    }

    /// Whether anybody stores into pages of the file.
    pub(super) fn concern(&self, ino: InodeNo) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.files.lock().contains_key(&ino)
    }

    /// Whether there is no writer at all.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// A client has ended by its own word: it writes nothing back.
    pub(super) fn left(&self, owner: &Owner) {
        self.retain(|_, writer| writer.owner != *owner);
    }

    /// Forgets those that do not come back; to be called at intervals.
    pub(super) fn rest(&self, now: Duration, holds: impl Fn(InodeNo, SessionId) -> bool) {
        let files = self.files.lock();
        let all = files
            .iter()
            .flat_map(|(ino, file)| file.writers.iter().map(|writer| (*ino, writer.session)));
        let all: Vec<_> = all.collect();
        drop(files);
        // Asked without the lock, which is a leaf.
        let held: HashSet<_> =
            all.into_iter().filter(|(ino, holder)| holds(*ino, *holder)).collect();
        self.retain(|ino, writer| {
            if held.contains(&(ino, writer.session)) {
                writer.at = now;
            }
            now.saturating_sub(writer.at) < KEPT
        });
    }

    fn retain(&self, mut keeps: impl FnMut(InodeNo, &mut Writer) -> bool) {
        let mut files = self.files.lock();
        files.retain(|ino, file| {
            file.writers.retain_mut(|writer| keeps(*ino, writer));
            !file.writers.is_empty()
        });
        self.count.store(files.len(), Ordering::Release);
    }

    /// Works on a file that has writers; one that has none any more is forgotten.
    fn change(&self, ino: InodeNo, work: impl FnOnce(&mut File)) {
        if self.is_empty() {
            return;
        }
        let mut files = self.files.lock();
        let Some(file) = files.get_mut(&ino) else { return };
        work(file);
        if file.writers.is_empty() {
            files.remove(&ino);
        }
        self.count.store(files.len(), Ordering::Release);
    }

    /// Works on a file that gets a writer.
    fn with(&self, ino: InodeNo, work: impl FnOnce(&mut File)) {
        let mut files = self.files.lock();
        if files.len() < MOST_FILES || files.contains_key(&ino) {
            work(files.entry(ino).or_default());
        }
        self.count.store(files.len(), Ordering::Release);
    }
}

// === impl File ===

impl File {
    fn find(&mut self, owner: &Owner) -> Option<&mut Writer> {
        self.writers.iter_mut().find(|writer| writer.owner == *owner)
    }

    fn doubt(&mut self) {
        let quiet = self.writers.iter_mut().filter(|writer| writer.others == Others::Nothing);
        quiet.for_each(|writer| writer.others = Others::Perhaps);
    }
}

// === impl Writer ===

impl Writer {
    const fn new(
        (owner, session): (Owner, SessionId),
        version: DataVersion,
        now: Duration,
    ) -> Self {
        Self {
            owner,
            session,
            since: version,
            latest: version,
            others: Others::Nothing,
            renewed: false,
            at: now,
            copy: None,
        }
    }
}

#[cfg(test)]
mod tests;
