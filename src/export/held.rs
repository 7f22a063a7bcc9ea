//! What is held through opens, told to people: which locks, for which process, since when.
//!
//! Decides nothing. Which ranges an owner has locked, the kernel says; the rest is noted when a lock is taken.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::open_file::OpenFile;
use super::shared_lock::FlockCarrier;
use super::tenant::{Taken, Tenant};
use crate::types::op::{LockFamily, LockHolder, LockKind, LockRange, Taking};
use crate::types::{InodeNo, LockOwner};

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRecord {
    /// The file.
    pub ino: InodeNo,
    /// Where it is now; `None` where that is not known, as of a file that was removed.
    pub path: Option<PathBuf>,
    /// fcntl or flock.
    pub family: LockFamily,
    /// Whose; `None` for flock, which belongs to the open.
    pub owner: Option<LockOwner>,
    /// What it excludes.
    pub kind: LockKind,
    /// Where.
    pub range: LockRange,
    /// Who took it, and how; the process is 0 where unknown.
    pub taking: Taking,
    /// When its owner last locked something of the file.
    pub since: Instant,
}

/// The flock(2) lock of an open.
#[derive(Debug, Clone)]
pub(super) struct Flocked {
    pub(super) kind: LockKind,
    pub(super) taking: Taking,
    pub(super) since: Instant,
    /// What has it in the kernel.
    pub(super) carrier: Arc<FlockCarrier>,
}

// === impl Tenant ===

impl Tenant {
    /// Its range locks. Blocks.
    pub fn range_locks(&self) -> Vec<LockRecord> {
        let owners = self.owners.lock();
        let descriptions: Vec<_> =
            owners.iter().map(|((_, owner), held)| (*owner, Arc::clone(held))).collect();
        drop(owners);
        let mut records = Vec::new();
        for (owner, held) in descriptions {
            let Taken { taking, at } = *held.taken.lock();
            let path = path_of(held.fd.as_fd());
            // One that cannot be looked at is one that is not told of.
            for (kind, range) in held.locked_ranges().unwrap_or_default() {
                records.push(LockRecord {
                    ino: held.number,
                    path: path.clone(),
                    family: LockFamily::Range,
                    owner: Some(owner),
                    kind,
                    range,
                    taking,
                    since: at,
                });
            }
        }
        records
    }
}

// === impl OpenFile ===

impl OpenFile {
    /// The flock(2) lock that it holds.
    pub fn flock_held(&self) -> Option<LockRecord> {
        let Flocked { kind, taking, since, .. } = self.0.flocked.lock().clone()?;
        Some(LockRecord {
            ino: self.number(),
            path: self.path(),
            family: LockFamily::Flock,
            owner: None,
            kind,
            range: LockRange::ALL,
            taking: Taking { by: LockHolder::Description, parked: None, ..taking },
            since,
        })
    }

    /// Where it is now.
    pub fn path(&self) -> Option<PathBuf> {
        path_of(self.as_fd()?)
    }

    /// Who opened it: user and process.
    pub fn opener(&self) -> (u32, u32) {
        (self.0.opener.uid, self.0.opener.pid)
    }
}

/// Where an open file is now; `None` if it was removed.
fn path_of(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    // What the link reads as ends in " (deleted)" then, which a name may do, too.
    let removed = rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_nlink == 0);
    if removed { None } else { fs::read_link(link).ok() }
}
