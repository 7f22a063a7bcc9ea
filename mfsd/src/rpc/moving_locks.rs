//! The locks of a peer's processes on files of this node, for a job of theirs that is to move: which there are, how
//! they are parked, and how the node where the job is restored gets them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mfs::clock;
use mfs::export::LockRecord;
use mfs::types::op::{Outcome, SetLock, TakenLock};
use mfs::types::{Caller, Errno, InodeNo, LockOwner, NodeId, ParkingToken};
use mfs::wire::Failure;

use super::dispatch::Dispatch;
use super::files::FilesService;
use super::opens_of::OpensOf;
use super::parked::Move;
use super::run::Answer;
use super::session::Session;
use super::tree::Tree;

/// Longest time for which locks are parked: two phases of a move, which each end in time or undo it.
pub(crate) const LONGEST: Duration = Duration::from_secs(2_000);

impl<T: Tree> FilesService<T> {
    /// The locks on these files that sessions of this node hold.
    pub(crate) async fn locks_held_by(
        self: &Arc<Self>,
        peer: NodeId,
        files: HashSet<InodeNo>,
    ) -> Vec<TakenLock> {
        let found = self.blocking(move |service| {
            let of = |record: &LockRecord| files.contains(&record.ino);
            let theirs = service.sessions_of(peer).into_iter();
            theirs.flat_map(|session| session.locks()).filter(of).map(taken).collect()
        });
        found.await.unwrap_or_default()
    }

    /// Parks locks of `source` for `target`: all of them, or none.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) async fn park_locks(
        self: &Arc<Self>,
        token: ParkingToken,
        (source, target): (NodeId, NodeId),
        life: Duration,
        locks: Vec<TakenLock>,
    ) -> Result<(), String> {
        let parked = self.blocking(move |service| {
            let sessions = service.sessions_of(source);
            let shared = locks.into_iter().map(|lock| {
                let found = sessions.iter().find_map(|session| session.share_lock(&lock));
                found.map(|shared| (lock, shared)).ok_or("a lock is not held any more")
            });
            let shared: Vec<_> = shared.collect::<Result<_, _>>()?;
            let until = clock::now() + life.min(LONGEST);
            let whose = Move { token, source, target, until };
            let parked = service.dispatch.parked.lock().park(whose, shared);
            parked.map_err(|refused| refused.to_string())
        });
        parked.await.unwrap_or_else(|| Err("its file service is about to end".to_owned()))
    }

    /// A move of `source` is over.
    pub(crate) async fn unpark_locks(self: &Arc<Self>, token: ParkingToken, source: NodeId) {
        let unparked = self.blocking(move |service| {
            let left = service.dispatch.parked.lock().unpark(token, source);
            drop(left);
            service.dispatch.sweep_all();
        });
        unparked.await;
    }

    /// Lets go of what was parked for too long.
    pub(super) fn forget_parked(self: &Arc<Self>) {
        let late = self.dispatch.parked.lock().expire(clock::now());
        if !late.is_empty() {
            self.dispatch.tree.spawn(Box::new(move || drop(late)));
        }
    }

    fn sessions_of(&self, peer: NodeId) -> Vec<Arc<Session<T>>> {
        let all = self.sessions.all().into_iter().map(|(session, _)| session);
        all.filter(|session| session.owner.node == peer).collect()
    }
}

impl<T: Tree> Dispatch<T> {
    /// Tries a lock, without waiting for it. If another is in its way, it may be one that was parked for it.
    pub(super) fn attempt_lock(
        &self,
        session: &Session<T>,
        caller: &Caller,
        lock: &SetLock,
        opens: &OpensOf<'_, T>,
    ) -> Answer {
        let attempt = SetLock { wait: false, ..lock.clone() };
        let answer = self.execute(caller, attempt.into(), opens);
        match (&answer, lock.taking.parked) {
            (Err(Failure::File(Errno::Again)), Some(token)) => {
                let claimed = self.claim(session, lock, token, caller.pid);
                claimed.map(Outcome::Done).map_err(|errno| opens.failure(errno))
            }
            _ => answer,
        }
    }

    /// Has an open of `session` hold a lock that was parked for its node.
    ///
    /// # Errors
    /// ENOLCK if there is none: whoever asks is not to wait for it.
    fn claim(
        &self,
        session: &Session<T>,
        lock: &SetLock,
        token: ParkingToken,
        opener: u32,
    ) -> Result<(), Errno> {
        let open = session.opens.lock().find(lock.open).ok_or(Errno::BadF)?;
        let SetLock { owner, family, kind, range, taking, .. } = *lock;
        let wanted = TakenLock { ino: T::file_of(&open).1, family, owner, kind, range, taking };
        let node = session.owner.node;
        let shared = self.parked.lock().claim(token, node, &wanted, clock::now());
        T::adopt_lock(&open, &shared.ok_or(Errno::NoLck)?, lock, opener)
    }
}

impl<T: Tree> Session<T> {
    fn share_lock(&self, lock: &TakenLock) -> Option<T::SharedLock> {
        let opens: Vec<_> = self.opens.lock().all().into_iter().map(|(open, _)| open).collect();
        let tenant = self.tenant.lock().clone()?;
        T::share_lock(&tenant, &opens, lock)
    }
}

fn taken(record: LockRecord) -> TakenLock {
    TakenLock {
        ino: record.ino,
        family: record.family,
        owner: record.owner.unwrap_or(LockOwner(0)),
        kind: record.kind,
        range: record.range,
        taking: record.taking,
    }
}
