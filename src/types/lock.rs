//! Locks of applications: what is asked of one, and what is known of one that was taken.

use std::fmt;

use super::{InodeNo, LockOwner};

/// Kinds of lock; they do not see each other, as on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockFamily {
    /// fcntl(2) F_SETLK and F_OFD_SETLK: byte ranges, by owner.
    Range,
    /// flock(2): the whole file, by open.
    Flock,
}

/// What a lock excludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// Others' exclusive locks.
    Shared,
    /// All others' locks.
    Exclusive,
    /// Nothing: releases the range.
    Unlock,
}

/// A stretch of bytes from `start`; `end` is the last byte, `u64::MAX` the end of any file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockRange {
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive.
    pub end: u64,
}

/// Who takes a lock, and how; nothing of it changes what the lock excludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Taking {
    /// The process, as its node numbers it; 0: the one that opened the file.
    pub pid: u32,
    /// Its pid namespace, as its node numbers it: what tells the processes of a job from all others, also when
    /// they have ended; 0: unknown.
    pub namespace: u64,
    /// Whose the lock is.
    pub by: LockHolder,
    /// It is one that the process had where it was before, and that was parked there under this name.
    pub parked: Option<ParkingToken>,
}

/// Names locks that are parked while their processes move; chosen by the home of the job, and not to be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParkingToken(pub [u8; 16]);

/// Whose a range lock is; one of flock(2) is always the open description's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LockHolder {
    /// The process: F_SETLK.
    #[default]
    Process,
    /// The open description: F_OFD_SETLK, flock(2).
    Description,
}

/// A lock that somebody has taken, as its home knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TakenLock {
    /// The file.
    pub ino: InodeNo,
    /// fcntl or flock.
    pub family: LockFamily,
    /// Whose, in its session; 0 for flock, which belongs to the open.
    pub owner: LockOwner,
    /// What it excludes.
    pub kind: LockKind,
    /// Where.
    pub range: LockRange,
    /// Who took it, and how.
    pub taking: Taking,
}

/// A lock that stands in the way, or the `Unlock` that nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLock {
    /// What it excludes.
    pub kind: LockKind,
    /// What it covers.
    pub range: LockRange,
    /// Its process on the home node; -1 where it is held by a remote process or an open description.
    pub pid: i32,
}

// === impl ParkingToken ===

impl fmt::Debug for ParkingToken {
    /// Whoever has it may have the locks, so it is not written out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParkingToken(..)")
    }
}

// === impl LockRange ===

impl LockRange {
    /// The whole file.
    pub const ALL: Self = Self { start: 0, end: u64::MAX };
}
