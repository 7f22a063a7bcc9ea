//! `Guards`: what keeps local processes from writing a file while a session may open and read it without a
//! message, or its kernel keeps pages of it.
//!
//! A guard is taken for the first answer that grants such a lease, and given back with the last of them, or of
//! the answers that are being made. When somebody waits to write the file it is granted no more, and the guard
//! goes as soon as all have returned it. Pages are kept unguarded where there can be no guard; they are recalled
//! when a local process is seen to have written.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use mfs::clock::since_boot;
use mfs::lease::{Event, Grantor, Touch};
use mfs::sync::MutexGuard;
use mfs::telemetry::metrics as m;
use mfs::types::{InodeNo, Leases, SessionId};

use super::{Coherence, Inner};
use crate::rpc::tree::Guard;

/// How many of the oldest are asked back where there are too many.
const SOME: usize = 64;

/// How long a file is guarded at least, where there is no room for others.
const LEAST_KEPT: Duration = Duration::from_secs(10);

/// How long a file system below the tree is kept from being unmounted by files of it that nobody has open.
const MOUNT_KEPT: Duration = Duration::from_secs(10);

/// For whom there are guards.
const GUARDED: Leases = Leases::HANDLE.union(Leases::DATA_READ);

/// The guarded files.
pub(super) struct Guards {
    /// Most of them: each takes a descriptor.
    most: usize,
    files: HashMap<InodeNo, Guarded>,
    /// Roughly in the order in which they were used, as far as this is told here; some may be gone.
    order: VecDeque<InodeNo>,
    /// How many opens for writing are under way: the kernel would let them wait for a guard, and with them the
    /// threads that they are done on.
    writers: HashMap<InodeNo, usize>,
}

#[derive(Default)]
struct Guarded {
    guard: Option<Guard>,
    /// Answers that are being made under it.
    answers: usize,
    /// Somebody waits to write the file, or to unmount its file system perhaps.
    awaited: bool,
    /// It is not there for who only keeps pages any more.
    spared: bool,
    /// It was asked for again since it was looked at last.
    used: bool,
    /// When it was guarded, or looked at to make room.
    since: Duration,
}

/// An answer that is being made while a file is guarded; dropped, it is made.
#[must_use = "the guard may be given back when this is dropped"]
pub(in crate::rpc) struct GuardHold<'a> {
    coherence: &'a Coherence,
    ino: InodeNo,
}

// === impl Coherence ===

impl Coherence {
    /// Guards a file, by `take` if it is not guarded yet, while an answer is made that may grant `HANDLE`.
    pub(in crate::rpc) fn guard(
        &self,
        ino: InodeNo,
        take: impl FnOnce() -> Option<Guard>,
    ) -> Option<GuardHold<'_>> {
        let mut inner = self.inner.lock();
        if inner.guards.writers.contains_key(&ino) {
            return None;
        }
        if inner.guards.is_full() && !inner.guards.files.contains_key(&ino) {
            let oldest = inner.guards.oldest(since_boot());
            for ino in &oldest {
                inner.guards.enter(*ino).spared = true;
            }
            let freed = inner.free_guards(Some(&oldest));
            drop(inner);
            drop(freed);
            self.step(Event::Noticed(oldest.iter().map(|ino| (*ino, Leases::HANDLE)).collect()));
            return None;
        }
        self.guard_in(inner, ino, take)
    }

    /// As [`Self::guard`], while a reading is answered whose client keeps pages of it.
    /// Nobody is asked for anything to make room.
    pub(in crate::rpc) fn guard_pages(
        &self,
        ino: InodeNo,
        take: impl FnOnce() -> Option<Guard>,
    ) -> Option<GuardHold<'_>> {
        let inner = self.inner.lock();
        let is_new = !inner.guards.files.contains_key(&ino);
        let is_busy = inner.guards.writers.contains_key(&ino) || inner.guards.is_full();
        if is_new && is_busy { None } else { self.guard_in(inner, ino, take) }
    }

    fn guard_in(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        ino: InodeNo,
        take: impl FnOnce() -> Option<Guard>,
    ) -> Option<GuardHold<'_>> {
        let guarded = inner.guards.enter(ino);
        if guarded.awaited {
            return None;
        }
        (guarded.answers, guarded.used) = (guarded.answers + 1, guarded.guard.is_some());
        let is_guarded = guarded.guard.is_some();
        drop(inner);
        // From here on it is let go of in any case.
        let hold = GuardHold { coherence: self, ino };
        if is_guarded {
            return Some(hold);
        }
        let taken = take()?;
        let mut inner = self.inner.lock();
        let guarded = inner.guards.enter(ino);
        // Another answer may have been faster; two are one too many, and the younger goes.
        let surplus = if guarded.guard.is_none() {
            guarded.guard = Some(taken);
            None
        } else {
            Some(taken)
        };
        drop(inner);
        drop(surplus);
        Some(hold)
    }

    /// A session is about to open a file for writing, until [`Self::forgo`].
    pub(in crate::rpc) fn intend(&self, ino: InodeNo) {
        *self.inner.lock().guards.writers.entry(ino).or_default() += 1;
    }

    /// Ends what [`Self::intend`] began.
    pub(in crate::rpc) fn forgo(&self, ino: InodeNo) {
        let writers = &mut self.inner.lock().guards.writers;
        if let Some(count) = writers.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                writers.remove(&ino);
            }
        }
    }

    /// Somebody waits to write these files.
    pub(in crate::rpc) fn writer_waits(&self, files: &[InodeNo]) {
        m::SERVER_WRITERS_AWAITED.add(files.len() as u64);
        self.step_with(|inner| {
            for ino in files {
                if let Some(guarded) = inner.guards.files.get_mut(ino) {
                    guarded.awaited = true;
                }
            }
            Event::Noticed(files.iter().map(|ino| (*ino, GUARDED)).collect())
        });
    }

    /// Gives back, when all have returned it, what has kept file systems from being unmounted for long; what is
    /// open then is known. To be called at intervals, with the time.
    pub(in crate::rpc) fn free_mounts(&self, now: Duration) {
        self.step_with(|inner| {
            let mut asked = Vec::new();
            for (ino, guarded) in &mut inner.guards.files {
                let keeps_mount = guarded.guard.as_ref().is_some_and(|guard| guard.keeps_mount);
                if keeps_mount && now.saturating_sub(guarded.since) >= MOUNT_KEPT {
                    (guarded.awaited, guarded.spared) = (true, true);
                    asked.push((*ino, Leases::HANDLE));
                }
            }
            Event::Noticed(asked)
        });
    }

    /// Whether a session may, or may until it has returned the lease.
    pub(in crate::rpc) fn holds_handle(&self, session: SessionId, ino: InodeNo) -> bool {
        let holders = self.inner.lock().grantor.holders_of(ino);
        holders.iter().any(|held| held.session == session && held.leases.contains(Leases::HANDLE))
    }

    /// What keeps the file guarded, if anything does: who writes it waits until all have returned that, the session
    /// that it is done for, too.
    pub(in crate::rpc) fn guarded_for(&self, ino: InodeNo) -> Option<Touch> {
        let inner = self.inner.lock();
        let held = [Leases::HANDLE, Leases::DATA_READ].into_iter();
        let held = held.filter(|leases| inner.grantor.is_held(ino, *leases)).collect::<Leases>();
        (!held.is_empty()).then_some((ino, held))
    }
}

// === impl Inner ===

impl Inner {
    /// Whether `HANDLE` may be granted on the file.
    pub(super) fn is_guarded(&self, ino: InodeNo) -> bool {
        let guarded = self.guards.files.get(&ino);
        guarded.is_some_and(|guarded| guarded.guard.is_some() && !guarded.awaited)
            && !self.guards.writers.contains_key(&ino)
    }

    /// After leases were returned or lost: the guards that nothing needs any more, to be dropped without the
    /// lock. `None`: of all files.
    pub(super) fn free_guards(&mut self, files: Option<&[InodeNo]>) -> Vec<Guard> {
        let all = || self.guards.files.keys().copied().collect();
        let files: Vec<InodeNo> = files.map_or_else(all, <[InodeNo]>::to_vec);
        let freed = files.into_iter().filter_map(|ino| self.guards.free(ino, &self.grantor));
        let freed: Vec<_> = freed.collect();
        m::SERVER_FILES_GUARDED.set(i64::try_from(self.guards.files.len()).unwrap_or(i64::MAX));
        freed
    }
}

// === impl Guards ===

impl Guards {
    pub(super) fn new(most: usize) -> Self {
        m::SERVER_FILES_GUARDED_LIMIT.set(i64::try_from(most).unwrap_or(i64::MAX));
        Self { most, files: HashMap::new(), order: VecDeque::new(), writers: HashMap::new() }
    }

    fn is_full(&self) -> bool {
        self.files.len() >= self.most
    }

    fn enter(&mut self, ino: InodeNo) -> &mut Guarded {
        let Self { files, order, .. } = self;
        files.entry(ino).or_insert_with(|| {
            order.push_back(ino);
            Guarded { since: since_boot(), ..Guarded::default() }
        })
    }

    /// Takes out what is guarded for nobody.
    fn free(&mut self, ino: InodeNo, grantor: &Grantor) -> Option<Guard> {
        let guarded = self.files.get(&ino)?;
        let needed = if guarded.spared { Leases::HANDLE } else { GUARDED };
        if guarded.answers > 0 || grantor.is_held(ino, needed) {
            return None;
        }
        let freed = self.files.remove(&ino);
        // What is gone leaves its place behind.
        if self.order.len() > 2 * self.files.len() + SOME {
            let files = &self.files;
            self.order.retain(|ino| files.contains_key(ino));
        }
        freed?.guard
    }

    /// Some of those that were used longest ago, if that is long ago: who looks at more files than there is room for,
    /// again and again, shall find some of them guarded. Each that was used since it was looked at last is left out
    /// once.
    fn oldest(&mut self, now: Duration) -> Vec<InodeNo> {
        let mut oldest = Vec::with_capacity(SOME);
        let is_young = |guarded: &Guarded| now.saturating_sub(guarded.since) < LEAST_KEPT;
        while oldest.len() < SOME
            && let Some(ino) = self.order.pop_front()
        {
            if self.files.get(&ino).is_some_and(is_young) {
                self.order.push_front(ino);
                break;
            }
            let was_used =
                self.files.get_mut(&ino).map(|guarded| std::mem::take(&mut guarded.used));
            match was_used {
                Some(true) => self.renew(ino, now),
                Some(false) if !oldest.contains(&ino) => oldest.push(ino),
                Some(false) | None => {}
            }
        }
        // They are the youngest now, should they stay.
        oldest.iter().for_each(|ino| self.renew(*ino, now));
        oldest
    }

    fn renew(&mut self, ino: InodeNo, now: Duration) {
        self.order.push_back(ino);
        if let Some(guarded) = self.files.get_mut(&ino) {
            guarded.since = now;
        }
    }
}

// === impl GuardHold ===

impl Drop for GuardHold<'_> {
    fn drop(&mut self) {
        let mut inner = self.coherence.inner.lock();
        if let Some(guarded) = inner.guards.files.get_mut(&self.ino) {
            guarded.answers -= 1;
        }
        let freed = inner.free_guards(Some(&[self.ino]));
        drop(inner);
        drop(freed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use mfs::lease::Terms;
    use mfs::wire::ReturnLease;
    use tokio::sync::mpsc;

    use super::super::super::writers::Writers;
    use super::*;

    const FILE: InodeNo = InodeNo::FIRST;
    const HANDLE: (InodeNo, Leases) = (FILE, Leases::HANDLE);

    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn take(count: &Arc<AtomicUsize>) -> Option<Guard> {
        take_of(count, false)
    }

    fn take_of(count: &Arc<AtomicUsize>, keeps_mount: bool) -> Option<Guard> {
        count.fetch_add(1, Ordering::Relaxed);
        Some(Guard::new(Counted(Arc::clone(count)), keeps_mount))
    }

    fn coherence() -> Arc<Coherence> {
        let patience = Duration::from_secs(1);
        let terms = Terms { term: patience, patience, files_per_session: 100 };
        Coherence::new(terms, None, 4, Writers::default())
    }

    #[test]
    fn a_file_is_guarded_as_long_as_somebody_may_read_it_unasked() {
        let (coherence, count) = (coherence(), Arc::new(AtomicUsize::new(0)));
        let (outbox, mut inbox) = mpsc::unbounded_channel();
        let sessions: Vec<_> = (1..=2).map(|n| SessionId::new(n).expect("not 0")).collect();
        for session in &sessions {
            coherence.attach(*session, 1, &outbox);
            let reading = coherence.begin_reading();
            let held = coherence.guard(FILE, || take(&count)).expect("nobody waits");
            assert_eq!(reading.grant(*session, None, &[HANDLE])[..], [Leases::HANDLE]);
            drop(held);
        }
        assert_eq!(count.load(Ordering::Relaxed), 1, "once for both");
        coherence.writer_waits(&[FILE]);
        assert!(coherence.guard(FILE, || take(&count)).is_none(), "somebody waits");
        for (session, recall) in sessions.into_iter().zip(1..) {
            assert_eq!(count.load(Ordering::Relaxed), 1);
            assert!(inbox.try_recv().is_ok(), "it is asked back");
            coherence.returned(session, ReturnLease { recall, files: vec![HANDLE] });
        }
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(coherence.guard(FILE, || take(&count)).is_some(), "the writer is through");
        assert_eq!(count.load(Ordering::Relaxed), 0, "what was not granted is not guarded");
    }

    #[test]
    fn a_file_system_that_can_be_unmounted_is_not_kept_for_long() {
        let (coherence, count) = (coherence(), Arc::new(AtomicUsize::new(0)));
        let session = SessionId::new(1).expect("not 0");
        let (outbox, mut inbox) = mpsc::unbounded_channel();
        coherence.attach(session, 1, &outbox);
        let other = FILE.next();
        for (ino, keeps_mount) in [(FILE, true), (other, false)] {
            let reading = coherence.begin_reading();
            let held = coherence.guard(ino, || take_of(&count, keeps_mount)).expect("nobody waits");
            assert_eq!(
                reading.grant(session, None, &[(ino, Leases::HANDLE)])[..],
                [Leases::HANDLE]
            );
            drop(held);
        }
        let now = since_boot();
        coherence.free_mounts(now);
        assert!(inbox.try_recv().is_err(), "it was used just now");
        coherence.free_mounts(now + 2 * MOUNT_KEPT);
        assert!(inbox.try_recv().is_ok(), "it is asked back");
        assert!(coherence.guard(FILE, || take(&count)).is_none(), "it is given back first");
        coherence.returned(session, ReturnLease { recall: 1, files: vec![HANDLE] });
        assert_eq!(count.load(Ordering::Relaxed), 1, "that of the tree's own file system stays");
        assert!(coherence.guard(FILE, || take(&count)).is_some());
    }

    #[test]
    fn who_is_about_to_write_waits_for_no_guard() {
        let (coherence, count) = (coherence(), Arc::new(AtomicUsize::new(0)));
        let session = SessionId::new(1).expect("not 0");
        let (outbox, _inbox) = mpsc::unbounded_channel();
        coherence.attach(session, 1, &outbox);
        let reading = coherence.begin_reading();
        let held = coherence.guard(FILE, || take(&count)).expect("nobody waits");
        coherence.intend(FILE);
        assert_eq!(reading.grant(session, None, &[HANDLE])[..], [Leases::empty()]);
        drop(held);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(coherence.guard(FILE, || take(&count)).is_none());
        coherence.forgo(FILE);
        assert!(coherence.guard(FILE, || take(&count)).is_some());
    }

    #[test]
    fn what_was_used_longest_ago_is_asked_back_where_there_are_too_many() {
        let (coherence, count) = (coherence(), Arc::new(AtomicUsize::new(0)));
        let session = SessionId::new(1).expect("not 0");
        let (outbox, mut inbox) = mpsc::unbounded_channel();
        coherence.attach(session, 1, &outbox);
        let files = std::iter::successors(Some(FILE), |ino| Some(ino.next())).take(SOME + 3);
        let files: Vec<_> = files.collect();
        let (last, files) = files.split_last().expect("there are some");
        coherence.inner.lock().guards.most = files.len();
        let open = |ino: InodeNo| {
            let reading = coherence.begin_reading();
            let held = coherence.guard(ino, || take(&count));
            let granted = reading.grant(session, None, &[(ino, Leases::HANDLE)]);
            drop(held);
            granted[0]
        };
        for ino in files.iter().chain(&files[..2]) {
            assert_eq!(open(*ino), Leases::HANDLE);
        }
        assert_eq!(open(*last), Leases::empty(), "there is no room");
        assert!(inbox.try_recv().is_err(), "nor is any of them old");
        for guarded in coherence.inner.lock().guards.files.values_mut() {
            guarded.since = guarded.since.saturating_sub(LEAST_KEPT);
        }
        assert_eq!(open(*last), Leases::empty());
        assert!(inbox.try_recv().is_ok(), "they are asked back");
        let handles = files[2..].iter().map(|ino| (*ino, Leases::HANDLE)).collect();
        coherence.returned(session, ReturnLease { recall: 1, files: handles });
        assert_eq!(count.load(Ordering::Relaxed), 2, "the first two were used again");
        assert_eq!(open(*last), Leases::HANDLE);
    }

    #[test]
    fn without_a_guard_nothing_is_granted() {
        let (coherence, count) = (coherence(), Arc::new(AtomicUsize::new(0)));
        let session = SessionId::new(1).expect("not 0");
        let (outbox, _inbox) = mpsc::unbounded_channel();
        coherence.attach(session, 1, &outbox);
        let grant =
            |reading: super::super::ReadingHold<'_>| reading.grant(session, None, &[HANDLE]);
        assert!(coherence.guard(FILE, || None).is_none());
        assert_eq!(grant(coherence.begin_reading())[..], [Leases::empty()]);
        let reading = coherence.begin_reading();
        let held = coherence.guard(FILE, || take(&count)).expect("nobody waits");
        coherence.writer_waits(&[FILE]);
        assert_eq!(grant(reading)[..], [Leases::empty()], "somebody has come between");
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(held);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
