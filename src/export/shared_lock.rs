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
                let taking = Taking { pid, ..lock.taking };
                let flocked = Flocked { kind: *kind, taking, since: clock::now(), carrier };
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::export::{Export, ExportKeys, ExportSettings, FdBudget, OpenMap, Opens};
    use crate::types::op::{self, LockRange};
    use crate::types::{Access, Caller, FileName, NodeId, OpenFlags, OpenId};

    const OPEN: OpenId = OpenId::FIRST;
    const OLD: LockOwner = LockOwner(1);
    const NEW: LockOwner = LockOwner(2);

    /// A file that two sessions have open, and a process that wants its locks.
    struct Lab {
        dir: tempfile::TempDir,
        export: Export,
        old: OpenMap,
        new: OpenMap,
    }

    impl Lab {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("a"), b"text").unwrap();
            let (settings, keys) = (ExportSettings::of(dir.path()), keys());
            let node = NodeId::from_digest([3; 32]);
            let export = Export::open(&settings, &keys, node, FdBudget::new(100)).unwrap();
            let [old, new] = [(); 2].map(|()| OpenMap::new(export.budget(), 20));
            let parent = export.root().unwrap().file;
            let name = FileName::parse(b"a".to_vec()).unwrap();
            let lookup = op::Lookup { parent, name, keep: false };
            let file = export.call(&Caller::root(), lookup, &old).unwrap().file;
            for opens in [&old, &new] {
                let (file, access, flags) = (file.clone(), Access::ReadWrite, OpenFlags::empty());
                let open = op::Open { file, open: OPEN, access, flags, proof: None };
                export.call(&Caller::root(), open, opens).unwrap();
            }
            Self { dir, export, old, new }
        }

        fn set(&self, opens: &OpenMap, lock: SetLock) -> Result<(), Errno> {
            self.export.call(&Caller::root(), lock, opens)
        }

        fn adopt(&self, shared: &SharedLock, lock: &SetLock) -> Result<(), Errno> {
            self.new.find(OPEN).unwrap().adopt(shared, lock, 7)
        }

        fn end(&self, opens: &OpenMap, owner: LockOwner) {
            let flush = op::Flush { open: OPEN, owner: Some(owner) };
            self.export.call(&Caller::root(), flush, opens).unwrap();
            self.export.call(&Caller::root(), op::Release { open: OPEN }, opens).unwrap();
        }

        /// Whether a process of this machine could have the bytes, or the file.
        fn is_free(&self, family: LockFamily, range: LockRange) -> bool {
            let path = self.dir.path().join("a");
            let file = File::options().read(true).write(true).open(path).unwrap();
            match family {
                LockFamily::Flock => file.try_lock().is_ok(),
                LockFamily::Range => {
                    let held = super::super::sys::get_range_lock(&file, LockKind::Exclusive, range);
                    held.unwrap().is_none()
                }
            }
        }
    }

    fn keys() -> ExportKeys {
        ExportKeys { seal: [1; 32], inode_numbers: [2; 32] }
    }

    fn lock(owner: LockOwner, family: LockFamily, kind: LockKind, start: u64) -> SetLock {
        let (range, taking) = (LockRange { start, end: start + 9 }, Taking::default());
        SetLock { open: OPEN, owner, family, kind, range, wait: false, taking }
    }

    #[test]
    fn a_lock_of_two_holders_is_held_until_the_last_of_them_goes() {
        for (family, new_goes_first) in [
            (LockFamily::Range, false),
            (LockFamily::Range, true),
            (LockFamily::Flock, false),
            (LockFamily::Flock, true),
        ] {
            let lab = Lab::new();
            let (theirs, ours) = (
                lock(OLD, family, LockKind::Exclusive, 0),
                lock(NEW, family, LockKind::Exclusive, 0),
            );
            let range = theirs.range;
            lab.set(&lab.old, theirs).unwrap();
            assert_eq!(lab.set(&lab.new, ours.clone()), Err(Errno::Again));
            let open = lab.old.find(OPEN).unwrap();
            let shared = match family {
                LockFamily::Range => lab.old.tenant().share_range_locks(open.number(), OLD),
                LockFamily::Flock => open.share_flock(),
            };
            drop(open);
            let shared = shared.unwrap();
            lab.adopt(&shared, &ours).unwrap();
            drop(shared);
            let mut order = [(&lab.old, OLD), (&lab.new, NEW)];
            if new_goes_first {
                order.reverse();
            }
            assert!(!lab.is_free(family, range));
            lab.end(order[0].0, order[0].1);
            assert!(!lab.is_free(family, range), "{family:?} is given up by the first");
            lab.end(order[1].0, order[1].1);
            assert!(lab.is_free(family, range), "{family:?} is kept");
        }
    }

    #[test]
    fn what_the_new_holder_had_goes_with_the_rest() {
        let lab = Lab::new();
        let range = |owner, kind, start| lock(owner, LockFamily::Range, kind, start);
        for (kind, start) in [(LockKind::Shared, 0), (LockKind::Exclusive, 20)] {
            lab.set(&lab.old, range(OLD, kind, start)).unwrap();
        }
        // Shared ones it takes by itself, and one of which the old holder knows nothing.
        for start in [0, 100] {
            lab.set(&lab.new, range(NEW, LockKind::Shared, start)).unwrap();
        }
        let number = lab.old.find(OPEN).unwrap().number();
        let shared = lab.old.tenant().share_range_locks(number, OLD).unwrap();
        lab.adopt(&shared, &range(NEW, LockKind::Exclusive, 20)).unwrap();
        drop(shared);
        lab.end(&lab.old, OLD);
        for start in [0, 20, 100] {
            let range = LockRange { start, end: start };
            assert!(!lab.is_free(LockFamily::Range, range), "{start} is given up");
        }
        lab.set(&lab.new, range(NEW, LockKind::Unlock, 20)).unwrap();
        assert!(lab.is_free(LockFamily::Range, LockRange { start: 20, end: 29 }));
    }

    #[test]
    fn nothing_else_is_adopted() {
        let lab = Lab::new();
        lab.set(&lab.old, lock(OLD, LockFamily::Flock, LockKind::Exclusive, 0)).unwrap();
        let shared = lab.old.find(OPEN).unwrap().share_flock().unwrap();
        let other = lock(NEW, LockFamily::Range, LockKind::Exclusive, 0);
        assert_eq!(lab.adopt(&shared, &other), Err(Errno::Again));
        assert!(lab.new.find(OPEN).unwrap().share_flock().is_none());
    }
}
