//! A lock that two sessions hold as one, while its process moves from one to the other.
//!
//! A lock of the kernel's belongs to an open description (F_OFD_SETLK, flock). It cannot be handed from one
//! description to another without a gap, but the description itself can have two holders: as long as one of
//! them is there, nobody else gets the lock. Which of both goes, and when, is not decided here.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::held::Flocked;
use super::lock::locked_ranges;
use super::open_file::{Body, OpenFile};
use super::tenant::{Description, Taken, Tenant};
use crate::clock;
use crate::sync::Mutex;
use crate::types::op::{LockFamily, LockKind, SetLock, Taking};
use crate::types::{Errno, InodeNo, LockOwner};

/// A lock, or all range locks of one owner on one file, held once more.
#[derive(Debug, Clone)]
pub struct SharedLock {
    number: InodeNo,
    carrier: Carrier,
}

#[derive(Debug, Clone)]
enum Carrier {
    Ranges(Arc<OwnedFd>),
    Flock(Arc<FlockCarrier>, LockKind),
}

/// The description that has a lock of flock(2). With the last holder the lock is released: a lease of the
/// kernel's own may keep the description itself.
#[derive(Debug)]
pub(super) struct FlockCarrier(Arc<OwnedFd>);

// === impl Tenant ===

impl Tenant {
    /// The range locks of an owner on a file, held once more.
    pub fn share_range_locks(&self, number: InodeNo, owner: LockOwner) -> Option<SharedLock> {
        let owners = self.owners.lock();
        let mut all = owners.iter();
        let (_, held) = all.find(|((_, of), held)| *of == owner && held.number == number)?;
        Some(SharedLock { number, carrier: Carrier::Ranges(Arc::clone(&held.fd)) })
    }
}

// === impl OpenFile ===

impl OpenFile {
    /// Its lock of flock(2), held once more.
    pub fn share_flock(&self) -> Option<SharedLock> {
        let flocked = self.0.flocked.lock();
        let Flocked { kind, carrier, .. } = flocked.as_ref()?;
        let carrier = Carrier::Flock(Arc::clone(carrier), *kind);
        Some(SharedLock { number: self.number(), carrier })
    }

    /// Holds a lock that another has shared, as if it had been taken through this open.
    ///
    /// # Errors
    /// EBADF if the open does not permit it; EAGAIN if it is the lock of another file, or none of this kind.
    pub fn adopt(&self, shared: &SharedLock, lock: &SetLock, opener: u32) -> Result<(), Errno> {
        if shared.number != self.number() {
            return Err(Errno::Again);
        }
        match (&shared.carrier, lock.family) {
            (Carrier::Ranges(fd), LockFamily::Range) => self.adopt_ranges(fd, lock)?,
            (Carrier::Flock(carrier, kind), LockFamily::Flock) => {
                let pid = if lock.taking.pid == 0 { opener } else { lock.taking.pid };
                let carrier = Arc::clone(carrier);
                let flocked = Flocked { kind: *kind, pid, since: clock::now(), carrier };
                *self.0.flocked.lock() = Some(flocked);
            }
            _ => return Err(Errno::Again),
        }
        // What is held already is granted.
        self.set_lock(lock, opener)
    }

    fn adopt_ranges(&self, fd: &Arc<OwnedFd>, lock: &SetLock) -> Result<(), Errno> {
        if lock.kind == LockKind::Exclusive && !self.access().writes() {
            return Err(Errno::BadF);
        }
        let _slot = self.0.tenant.budget.take()?;
        let key = (self.inode()?, lock.owner);
        let mut owners = self.0.tenant.owners.lock();
        let before = owners.get(&key).cloned();
        let through_others = before.as_ref().is_some_and(|held| {
            held.through != self.0.serial || held.process.load(Ordering::Relaxed)
        });
        let taken = Taken { taking: Taking { parked: None, ..lock.taking }, at: clock::now() };
        let adopted = Description {
            fd: Arc::clone(fd),
            // It has been locked exclusively through it.
            writes: true,
            through: self.0.serial,
            process: AtomicBool::new(through_others),
            number: self.number(),
            taken: Mutex::new(taken),
            ranges: AtomicUsize::new(locked_ranges(fd)?.len()),
            _slot,
        };
        if let Some(before) = before {
            before.move_locks_to(&adopted)?;
        }
        owners.insert(key, Arc::new(adopted));
        Ok(())
    }

    /// A carrier of this open's own.
    pub(super) fn flock_carrier(&self) -> Result<Arc<FlockCarrier>, Errno> {
        match &self.0.body {
            Body::File(fd) | Body::Directory(fd, _) => Ok(Arc::new(FlockCarrier(Arc::clone(fd)))),
            Body::Barred(_) => Err(Errno::OpNotSupp),
        }
    }
}

// === impl FlockCarrier ===

impl AsFd for FlockCarrier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for FlockCarrier {
    fn drop(&mut self) {
        if let Err(error) = flock(&self.0, FlockOperation::NonBlockingUnlock) {
            tracing::debug!("descriptor {} stays locked: {error}", self.0.as_raw_fd());
        }
    }
}
