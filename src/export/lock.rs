//! Locks of applications, taken on the real file, so that they exclude local processes too.
//!
//! A range lock belongs to an owner: it is taken on an open description of that owner's own (OFD),
//! since a lock of the process (F_SETLK) would be the daemon's, one for all callers. flock(2) belongs to
//! the open, and is taken on the open's description. Nothing here waits.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::held::Flocked;
use super::hidden::inode_key;
use super::mounts::{reopen, stat};
use super::open_file::{Body, OpenFile};
use super::pinned::InodeKey;
use super::sys;
use super::tenant::{Description, Taken};
use crate::clock;
use crate::sync::Mutex;
use crate::types::op::{HeldLock, LockFamily, LockKind, LockRange, SetLock, Taking};
use crate::types::{Errno, LockOwner};

/// Most ranges that one owner may have locked on one file. The kernel keeps a list of them, which it
/// walks while it holds a spinlock; it sets no limit of its own.
const MOST_RANGES: usize = 4_096;

impl OpenFile {
    /// Which range lock stands in the way of this one.
    ///
    /// # Errors
    /// Those of fcntl(2) with F_OFD_GETLK.
    pub fn get_lock(
        &self,
        owner: LockOwner,
        kind: LockKind,
        range: LockRange,
    ) -> Result<HeldLock, Errno> {
        let free = HeldLock { kind: LockKind::Unlock, range, pid: 0 };
        if kind == LockKind::Unlock {
            return Err(Errno::Inval);
        }
        let description = self.0.tenant.owners.lock().get(&(self.inode()?, owner)).cloned();
        let conflict = match description {
            // Its own description, or it would be told of its own locks.
            Some(description) => sys::get_range_lock(&description.fd, kind, range)?,
            None => sys::get_range_lock(self.descriptor()?, kind, range)?,
        };
        Ok(conflict.map_or(free, |found| HeldLock {
            kind: found.kind,
            range: found.range,
            pid: found.pid,
        }))
    }

    /// Takes, changes or releases a lock for a process: the one that is named, or `opener`.
    ///
    /// # Errors
    /// EAGAIN if another holds one in its way; EBADF if the open does not permit it.
    pub fn set_lock(&self, lock: &SetLock, opener: u32) -> Result<(), Errno> {
        let SetLock { owner, family, kind, range, .. } = *lock;
        let pid = if lock.taking.pid == 0 { opener } else { lock.taking.pid };
        let taking = Taking { pid, parked: None, ..lock.taking };
        match family {
            LockFamily::Flock => self.flock(kind, taking),
            LockFamily::Range => self.set_range_lock(owner, kind, range, taking),
        }
    }

    /// Releases all range locks of an owner on this file: close(2) of any of its descriptors does.
    ///
    /// # Errors
    /// Those of looking at the file.
    pub fn release_owner(&self, owner: LockOwner) -> Result<(), Errno> {
        if matches!(self.0.body, Body::File(_)) {
            let description = self.0.tenant.owners.lock().remove(&(self.inode()?, owner));
            drop(description); // closes it, and with it go its locks
        }
        Ok(())
    }

    fn flock(&self, kind: LockKind, taking: Taking) -> Result<(), Errno> {
        // Held over the system call, which does not wait, so that what is noted is what is held.
        let mut held = self.0.flocked.lock();
        let (before, operation) = (
            held.take(),
            match kind {
                LockKind::Shared => FlockOperation::NonBlockingLockShared,
                LockKind::Exclusive => FlockOperation::NonBlockingLockExclusive,
                LockKind::Unlock => FlockOperation::NonBlockingUnlock,
            },
        );
        let carrier = match &before {
            Some(before) => Arc::clone(&before.carrier),
            None => self.flock_carrier()?,
        };
        // If it fails, the lock that was held is gone: the kernel gives it up before it tries for the new one
        // (flock(2)).
        flock(carrier.as_fd(), operation)?;
        *held = match before {
            _ if kind == LockKind::Unlock => None,
            Some(before) if before.kind == kind => Some(before),
            _ => Some(Flocked { kind, taking, since: clock::now(), carrier }),
        };
        Ok(())
    }

    fn set_range_lock(
        &self,
        owner: LockOwner,
        kind: LockKind,
        range: LockRange,
        taking: Taking,
    ) -> Result<(), Errno> {
        let permitted = match kind {
            LockKind::Shared => self.access().reads(),
            LockKind::Exclusive => self.access().writes(),
            LockKind::Unlock => true,
        };
        if !permitted {
            return Err(Errno::BadF);
        }
        let key = (self.inode()?, owner);
        // Held over the system call, which does not wait, so that two requests of one owner do not make
        // two descriptions that exclude each other.
        let mut owners = self.0.tenant.owners.lock();
        let description = match owners.get(&key) {
            Some(held) if held.writes || kind != LockKind::Exclusive => {
                if held.through != self.0.serial {
                    held.process.store(true, Ordering::Relaxed);
                }
                Arc::clone(held)
            }
            Some(held) => {
                let wider = self.describe()?;
                // A description locks through itself alone, and this open permits what that one did not.
                wider.process.store(true, Ordering::Relaxed);
                held.move_locks_to(&wider)?;
                owners.insert(key, Arc::clone(&wider));
                wider
            }
            None if kind == LockKind::Unlock => return Ok(()),
            None => self.describe()?,
        };
        match kind {
            LockKind::Unlock if range == LockRange::ALL => {}
            // Who may lock no more can still unlock, though that may leave two ranges of one.
            LockKind::Unlock => description.count_range(2 * MOST_RANGES)?,
            LockKind::Shared | LockKind::Exclusive => description.count_range(MOST_RANGES)?,
        }
        sys::set_range_lock(&description.fd, kind, range)?;
        if kind != LockKind::Unlock {
            *description.taken.lock() = Taken { taking, at: clock::now() };
        }
        if kind == LockKind::Unlock && range == LockRange::ALL {
            owners.remove(&key);
        } else {
            owners.entry(key).or_insert(description);
        }
        Ok(())
    }

    /// A new description that can carry what this open may lock.
    fn describe(&self) -> Result<Arc<Description>, Errno> {
        let slot = self.0.tenant.budget.take()?;
        let writes = self.access().writes();
        // With the server's own rights: the open has established the caller's. For reading too, since
        // the owner may have a second open for reading and lock through that.
        let flags = if writes { OFlags::RDWR } else { OFlags::RDONLY };
        let fd = reopen(self.descriptor()?, flags)?;
        let ranges = AtomicUsize::new(0);
        Ok(Arc::new(Description {
            fd: Arc::new(fd),
            writes,
            through: self.0.serial,
            process: AtomicBool::new(false),
            number: self.0.number,
            taken: Mutex::new(Taken { taking: Taking::default(), at: clock::now() }),
            ranges,
            _slot: slot,
        }))
    }

    pub(super) fn inode(&self) -> Result<InodeKey, Errno> {
        Ok(inode_key(&stat(self.descriptor()?.as_fd())?))
    }
}

// === impl Description ===

impl Description {
    /// Takes on another description the locks that this one has and that one has not: shared ones, where this
    /// one is not open for writing; these do not exclude each other, so at no moment are they given up.
    pub(super) fn move_locks_to(&self, other: &Self) -> Result<(), Errno> {
        for (kind, range) in self.locked_ranges()? {
            other.count_range(2 * MOST_RANGES)?;
            sys::set_range_lock(&other.fd, kind, range)?;
        }
        Ok(())
    }

    /// Counts one range more, which a lock, or an unlock in the middle of one, may make.
    ///
    /// # Errors
    /// ENOLCK if there would be more than `most`.
    fn count_range(&self, most: usize) -> Result<(), Errno> {
        if self.ranges.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(());
        }
        let locked = self.locked_ranges()?.len();
        self.ranges.store(locked + 1, Ordering::Relaxed);
        if locked < most { Ok(()) } else { Err(Errno::NoLck) }
    }

    /// The ranges locked on this description, as the kernel lists them.
    pub(super) fn locked_ranges(&self) -> Result<Vec<(LockKind, LockRange)>, Errno> {
        locked_ranges(&self.fd)
    }
}

/// The ranges locked on an open description, as the kernel lists them.
pub(super) fn locked_ranges(fd: &OwnedFd) -> Result<Vec<(LockKind, LockRange)>, Errno> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    Ok(std::fs::read_to_string(path)?.lines().filter_map(locked_range).collect())
}

/// The lock in a line `lock: 1: OFDLCK ADVISORY READ -1 fd:00:1234 0 EOF` of fdinfo (proc(5)).
fn locked_range(line: &str) -> Option<(LockKind, LockRange)> {
    let mut words = line.strip_prefix("lock:")?.split_whitespace().skip(1);
    if words.next()? != "OFDLCK" {
        return None;
    }
    let kind = match words.nth(1)? {
        "WRITE" => LockKind::Exclusive,
        _ => LockKind::Shared,
    };
    let mut words = words.skip(2);
    let start = words.next()?.parse().ok()?;
    let end = match words.next()? {
        "EOF" => u64::MAX,
        end => end.parse().ok()?,
    };
    Some((kind, LockRange { start, end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_of_locks_is_read() {
        let range =
            |line: &str| locked_range(line).map(|(kind, range)| (kind, range.start, range.end));
        let line = "lock:\t1: OFDLCK  ADVISORY  READ -1 fe:00:131 10 19";
        assert_eq!(range(line), Some((LockKind::Shared, 10, 19)));
        let exclusive = line.replace("READ", "WRITE").replace("19", "EOF");
        assert_eq!(range(&exclusive), Some((LockKind::Exclusive, 10, u64::MAX)));
        assert_eq!(range(&line.replace("OFDLCK", "FLOCK")), None);
        assert_eq!(range("flags:\t0100000"), None);
    }
}
