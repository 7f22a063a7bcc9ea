//! The kernel's numbers for flags and modes, as the vocabulary has them.

use mfs::types::op::{LockKind, LockRange};
use mfs::types::{Access, Errno, FallocateMode, OpenFlags, SeekWhence, SetXattrMode};

/// `__FMODE_EXEC` in the flags of an open: the kernel opens the file to execute it.
const FMODE_EXEC: i32 = 0o40;

/// The permission bits of a mode, set-id and sticky bits included.
pub(crate) const fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

/// What open(2) asks for.
pub(crate) fn open_flags(flags: i32) -> (Access, OpenFlags) {
    let access = match flags & libc::O_ACCMODE {
        libc::O_WRONLY => Access::Write,
        libc::O_RDWR => Access::ReadWrite,
        _ => Access::Read,
    };
    let known = [
        (libc::O_APPEND, OpenFlags::APPEND),
        (libc::O_TRUNC, OpenFlags::TRUNCATE),
        (libc::O_EXCL, OpenFlags::EXCLUSIVE),
        (libc::O_DIRECT, OpenFlags::DIRECT),
        (libc::O_SYNC, OpenFlags::SYNC),
        (libc::O_DSYNC, OpenFlags::DSYNC),
        (libc::O_NOATIME, OpenFlags::NOATIME),
        (FMODE_EXEC, OpenFlags::EXECUTE),
        (libc::O_NONBLOCK, OpenFlags::NONBLOCK),
    ];
    let set = known.into_iter().filter(|(bits, _)| flags & bits == *bits).map(|(_, flag)| flag);
    (access, set.collect())
}

/// What a lock excludes.
pub(crate) const fn lock_kind(kind: i32) -> Result<LockKind, Errno> {
    match kind {
        libc::F_RDLCK => Ok(LockKind::Shared),
        libc::F_WRLCK => Ok(LockKind::Exclusive),
        libc::F_UNLCK => Ok(LockKind::Unlock),
        _ => Err(Errno::Inval),
    }
}

/// The kernel's last offset means the end of any file.
pub(crate) const fn lock_range(start: u64, end: u64) -> LockRange {
    LockRange { start, end: if end >= i64::MAX as u64 { u64::MAX } else { end } }
}

/// The mode of fallocate(2); one that is not known is not supported.
pub(crate) fn fallocate_mode(mode: i32) -> Result<FallocateMode, Errno> {
    let known = [
        (libc::FALLOC_FL_KEEP_SIZE, FallocateMode::KEEP_SIZE),
        (libc::FALLOC_FL_PUNCH_HOLE, FallocateMode::PUNCH_HOLE),
        (libc::FALLOC_FL_COLLAPSE_RANGE, FallocateMode::COLLAPSE_RANGE),
        (libc::FALLOC_FL_ZERO_RANGE, FallocateMode::ZERO_RANGE),
        (libc::FALLOC_FL_INSERT_RANGE, FallocateMode::INSERT_RANGE),
        (libc::FALLOC_FL_UNSHARE_RANGE, FallocateMode::UNSHARE_RANGE),
    ];
    let all = known.iter().fold(0, |bits, (bit, _)| bits | bit);
    if mode & !all != 0 {
        return Err(Errno::OpNotSupp);
    }
    Ok(known.into_iter().filter(|(bit, _)| mode & bit != 0).map(|(_, flag)| flag).collect())
}

/// The flags of setxattr(2).
pub(crate) const fn xattr_mode(flags: i32) -> Result<SetXattrMode, Errno> {
    match flags {
        0 => Ok(SetXattrMode::Any),
        libc::XATTR_CREATE => Ok(SetXattrMode::Create),
        libc::XATTR_REPLACE => Ok(SetXattrMode::Replace),
        _ => Err(Errno::Inval),
    }
}

/// What lseek(2) looks for; the kernel answers all else by itself.
pub(crate) const fn seek_whence(whence: i32) -> Result<SeekWhence, Errno> {
    match whence {
        libc::SEEK_DATA => Ok(SeekWhence::Data),
        libc::SEEK_HOLE => Ok(SeekWhence::Hole),
        _ => Err(Errno::Inval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_flags_are_the_kernels() {
        assert_eq!(open_flags(libc::O_RDONLY), (Access::Read, OpenFlags::empty()));
        let (access, flags) = open_flags(libc::O_RDWR | libc::O_APPEND | libc::O_SYNC);
        assert_eq!(access, Access::ReadWrite);
        // O_SYNC holds the bit of O_DSYNC.
        assert_eq!(flags, OpenFlags::APPEND | OpenFlags::SYNC | OpenFlags::DSYNC);
        let (_, flags) = open_flags(libc::O_WRONLY | libc::O_DSYNC);
        assert_eq!(flags, OpenFlags::DSYNC);
        assert_eq!(open_flags(0o100_040).1, OpenFlags::EXECUTE);
    }

    #[test]
    fn an_unknown_mode_of_fallocate_is_not_supported() {
        assert_eq!(fallocate_mode(0), Ok(FallocateMode::empty()));
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let both = FallocateMode::PUNCH_HOLE | FallocateMode::KEEP_SIZE;
        assert_eq!(fallocate_mode(punch), Ok(both));
        assert_eq!(fallocate_mode(1 << 20), Err(Errno::OpNotSupp));
    }

    #[test]
    fn a_lock_to_the_end_has_no_end() {
        assert_eq!(lock_range(5, i64::MAX as u64), LockRange { start: 5, end: u64::MAX });
        assert_eq!(lock_range(5, 9), LockRange { start: 5, end: 9 });
        assert_eq!(lock_kind(77), Err(Errno::Inval));
    }
}
