//! Locks of jobs on files that are used directly: they are taken by mfsd, whose sessions they can leave when
//! the job moves to another node. A lock that this process took could not: its description is its own.
//!
//! Locks of other processes are taken here, which is as fast as a local file; both are on the real file and
//! exclude each other.
//!
//! Lock order: `ServerLocks::inner` is a leaf.

use std::collections::{HashMap, HashSet};

use mfs::export::Opens;
use mfs::sync::Mutex;
use mfs::types::op::{self, LockFamily, LockKind, Operation, Outcome};
use mfs::types::{Errno, FileId, LockOwner, OpenFlags, OpenId};

use super::backing::Origin;
use super::local::{Local, Whole};
use super::remote::Remote;

/// What is locked at mfsd.
#[derive(Debug, Default)]
pub(super) struct ServerLocks {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Who may hold range locks, and the open of mfsd through which it took the last.
    owners: HashMap<(FileId, LockOwner), OpenId>,
    /// Which opens may hold a lock of flock(2).
    flocked: HashSet<OpenId>,
}

/// The lock that a request is about, and whose it is.
enum Whose {
    Owner(LockOwner),
    Open,
}

// === impl Local ===

impl Local {
    /// Executes at mfsd what is about a lock that is held there, or is to be; gives all else back.
    pub(super) async fn lock_there(
        &self,
        server: &Remote,
        origin: &Origin<'_>,
        operation: Operation,
    ) -> Result<Result<Outcome, Errno>, Operation> {
        let (open, whose) = match &operation {
            Operation::SetLock(set) if set.family == LockFamily::Flock => (set.open, Whose::Open),
            Operation::SetLock(set) => (set.open, Whose::Owner(set.owner)),
            Operation::GetLock(get) => (get.open, Whose::Owner(get.owner)),
            _ => return Err(operation),
        };
        let Some(file) = self.opens.find(open).map(|open| open.file().clone()) else {
            return Err(operation);
        };
        if !self.locks.has(&file, open, &whose) && !origin.asker.is_apart() {
            return Err(operation);
        }
        let theirs = match self.open_there(server, origin, open).await {
            Ok(theirs) => theirs,
            Err(errno) => return Ok(Err(errno)),
        };
        Ok(match operation {
            Operation::SetLock(set) => {
                if set.kind != LockKind::Unlock {
                    self.locks.note(file, open, &whose, theirs);
                }
                let set = op::SetLock { open: theirs, ..set };
                server.call(origin, Whole(set.into())).await
            }
            Operation::GetLock(get) => {
                server.call(origin, Whole(op::GetLock { open: theirs, ..get }.into())).await
            }
            other => return Err(other),
        })
    }

    /// A process closes a descriptor, and its locks on the file go.
    pub(super) async fn unlock_there(
        &self,
        server: &Remote,
        origin: &Origin<'_>,
        open: OpenId,
        owner: LockOwner,
    ) -> Result<(), Errno> {
        let Some(file) = self.opens.find(open).map(|open| open.file().clone()) else {
            return Ok(());
        };
        match self.locks.forget_owner(file, owner) {
            Some(open) => server.call(origin, op::Flush { open, owner: Some(owner) }).await,
            None => Ok(()),
        }
    }

    /// The open of mfsd beside this one.
    async fn open_there(
        &self,
        server: &Remote,
        origin: &Origin<'_>,
        ours: OpenId,
    ) -> Result<OpenId, Errno> {
        if let Some(theirs) = self.noted.lock().get(&ours) {
            return Ok(*theirs);
        }
        let file = self.opens.find(ours).ok_or(Errno::BadF)?;
        let (open, access) = (server.new_open(), file.access());
        let flags = file.flags() - OpenFlags::TRUNCATE - OpenFlags::EXCLUSIVE;
        let file = file.file().clone();
        let again = op::Open { file, open, access, flags, proof: None };
        // The rights to the file may have changed since it was opened here.
        server.call(origin, again).await.map_err(|_| Errno::NoLck)?;
        let kept = *self.noted.lock().entry(ours).or_insert(open);
        if kept != open {
            self.release(server, origin, open).await;
        }
        Ok(kept)
    }
}

// === impl ServerLocks ===

impl ServerLocks {
    fn has(&self, file: &FileId, open: OpenId, whose: &Whose) -> bool {
        let inner = self.inner.lock();
        match whose {
            Whose::Owner(owner) => inner.owners.contains_key(&(file.clone(), *owner)),
            Whose::Open => inner.flocked.contains(&open),
        }
    }

    /// Before it is taken, so that it is given back whatever becomes of the answer.
    fn note(&self, file: FileId, open: OpenId, whose: &Whose, theirs: OpenId) {
        let mut inner = self.inner.lock();
        match whose {
            Whose::Owner(owner) => {
                inner.owners.insert((file, *owner), theirs);
            }
            Whose::Open => {
                inner.flocked.insert(open);
            }
        }
    }

    fn forget_owner(&self, file: FileId, owner: LockOwner) -> Option<OpenId> {
        self.inner.lock().owners.remove(&(file, owner))
    }

    /// An open has ended, and its part at mfsd.
    pub(super) fn forget(&self, open: OpenId, theirs: OpenId) {
        let mut inner = self.inner.lock();
        inner.flocked.remove(&open);
        inner.owners.retain(|_, through| *through != theirs);
    }
}
