//! Locks, taken on the real file at its home node.
//!
//! The kernel does not tell this process when a waiting caller is interrupted (fuser refuses
//! FUSE_INTERRUPT), so a lock is waited for in slices, and between two the caller's signals are looked at.

use std::time::Duration;

use mfs::types::op::{self, HeldLock, LockFamily, LockKind, LockRange};
use mfs::types::{Errno, InodeNo, LockOwner};

use super::MountedFs;
use super::backing::Origin;
use super::handle_map::{Fh, OpenFile};
use super::process::Asker;

/// Between two attempts: an interrupted caller waits this long at most, and a lock is found free as late.
const SLICE: Duration = Duration::from_millis(20);

/// How long a lock that was refused is given for the opens that were closed before: the kernel hands them
/// in first, but to another thread perhaps.
const OVERTAKEN: Duration = Duration::from_millis(1);

/// Longest wait for closed opens to be gone at their home.
const SETTLED: Duration = Duration::from_secs(2);

// === impl MountedFs ===

impl MountedFs {
    /// Which lock would stand in the way.
    pub async fn get_lock(
        &self,
        asker: Asker,
        fh: Fh,
        owner: LockOwner,
        kind: LockKind,
        range: LockRange,
    ) -> Result<HeldLock, Errno> {
        let handle = self.handle(fh)?;
        let open = handle.as_open().ok_or(Errno::BadF)?;
        let ask = op::GetLock { open: open.bring_home(asker).await?, owner, kind, range };
        open.backing.call(&open.origin(asker), ask).await
    }

    /// Takes, changes or releases a lock; with `wait` until it is granted or the caller is interrupted.
    pub async fn set_lock(
        &self,
        asker: Asker,
        fh: Fh,
        owner: LockOwner,
        kind: LockKind,
        range: LockRange,
        wait: bool,
    ) -> Result<(), Errno> {
        // Read while the caller still waits in its system call, before anything else can end the wait.
        let (family, taking) = asker.locks(kind);
        let handle = self.handle(fh)?;
        let open = handle.as_open().ok_or(Errno::BadF)?;
        let number = open.bring_home(asker).await?;
        if family == LockFamily::Range {
            self.handles.locks(open.ino, owner);
        }
        let origin = Origin { on_signal: true, ..open.origin(asker) };
        if kind != LockKind::Exclusive {
            // Whoever has it next sees what was stored under it.
            self.settle_pages(asker, open).await?;
        }
        let mut settled = false;
        // Who may be about to be restored does not wait before that is known.
        let (mut waits, mut taking) = (wait && !asker.is_apart(), taking);
        // A server waits by itself, the export never does.
        loop {
            let ask = op::SetLock { open: number, owner, family, kind, range, wait: waits, taking };
            let answer = open.backing.call(&origin, ask).await;
            if answer == Err(Errno::Again) && kind != LockKind::Unlock {
                if taking.parked.is_some() {
                    return Err(Errno::NoLck);
                }
                taking.parked = self.parked(asker).await;
                let knew = std::mem::replace(&mut waits, wait && taking.parked.is_none());
                if taking.parked.is_some() || waits && !knew {
                    continue;
                }
            }
            match answer {
                Err(Errno::Again) if !wait && !settled => {
                    settled = true;
                    self.settle(open.ino).await;
                }
                Err(Errno::Again) if wait && kind != LockKind::Unlock => {
                    if asker.is_interrupted() {
                        return Err(Errno::Intr);
                    }
                    tokio::time::sleep(SLICE).await;
                }
                Ok(()) if kind != LockKind::Unlock => {
                    // What was read before is not what the last holder has left.
                    return self.settle_pages(asker, open).await;
                }
                answer => return answer,
            }
        }
    }

    /// Waits until the kernel keeps nothing of the file that it may not keep: where programs of the home
    /// use the file directly and nothing is leased, locks are what orders stores and loads.
    async fn settle_pages(&self, asker: Asker, open: &OpenFile) -> Result<(), Errno> {
        let mut settled = std::pin::pin!(self.cache.pages.settle((open.node, open.home)));
        while tokio::time::timeout(SLICE, &mut settled).await.is_err() {
            if asker.is_killed() {
                return Err(Errno::Intr);
            }
        }
        Ok(())
    }

    /// Waits until opens of the file that are closed already are gone at their home, with their locks: on
    /// one machine close(2) has released them when it returns, here the kernel does not wait for that.
    async fn settle(&self, ino: InodeNo) {
        let gone = async {
            tokio::time::sleep(OVERTAKEN).await;
            while self.handles.is_any_leaving(ino) {
                tokio::time::sleep(OVERTAKEN).await;
            }
        };
        // If the home does not answer, its refusal stands.
        let _ = tokio::time::timeout(SETTLED, gone).await;
    }
}
