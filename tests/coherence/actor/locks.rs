//! Locks of all families.

use rustix::io::Errno;

use mfs_tests::eventually;

use super::super::hand::{Blob, Word};
use super::{Actor, Fd, LIMIT, Result};

/// Who owns a lock, and by which call it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// fcntl(2): the process.
    Process,
    /// fcntl(2) with F_OFD_SETLK: the open file description.
    Description,
    /// flock(2): the open file description, the whole file.
    Flock,
}

/// A kind of lock, as fcntl(2) has it.
pub(crate) const SHARED: i32 = libc::F_RDLCK;
/// The same.
pub(crate) const EXCLUSIVE: i32 = libc::F_WRLCK;
/// No lock.
pub(crate) const FREE: i32 = libc::F_UNLCK;

// === impl Family ===

impl Family {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Process, Self::Description, Self::Flock];
}

// === impl Actor ===

impl Actor {
    /// Takes or gives back a lock of the whole file; waits for it.
    pub(crate) fn lock(&self, family: Family, fd: Fd, kind: i32) -> Result<()> {
        self.lock_range(family, fd, kind, (0, 0), true)
    }

    /// Takes a lock of the whole file if it is free.
    pub(crate) fn try_lock(&self, family: Family, fd: Fd, kind: i32) -> Result<()> {
        self.lock_range(family, fd, kind, (0, 0), false)
    }

    /// Takes or gives back a lock of a range, from and length; flock knows none.
    pub(crate) fn lock_range(
        &self,
        family: Family,
        fd: Fd,
        kind: i32,
        range: (i64, i64),
        wait: bool,
    ) -> Result<()> {
        let command = match (family, wait) {
            (Family::Process, false) => libc::F_SETLK,
            (Family::Process, true) => libc::F_SETLKW,
            (Family::Description, false) => libc::F_OFD_SETLK,
            (Family::Description, true) => libc::F_OFD_SETLKW,
            (Family::Flock, wait) => {
                let kind = match kind {
                    SHARED => libc::LOCK_SH,
                    EXCLUSIVE => libc::LOCK_EX,
                    _ => libc::LOCK_UN,
                };
                let kind = if wait { kind } else { kind | libc::LOCK_NB };
                return self.number(libc::SYS_flock, [fd.0, kind.into()]).map(drop);
            }
        };
        self.fcntl(fd, command, kind, range).map(drop)
    }

    /// Whether a lock of this kind by this family could be had now; it is not kept.
    pub(crate) fn is_free(&self, family: Family, fd: Fd, kind: i32) -> bool {
        match self.try_lock(family, fd, kind) {
            Ok(()) => self.lock(family, fd, FREE).map(|()| true).expect("a lock can be given back"),
            Err(Errno::AGAIN | Errno::ACCESS) => false,
            Err(error) => panic!("{self:?}: {family:?}: {error}"),
        }
    }

    /// F_GETLK for an exclusive lock of the whole file: kind and range of what is in its way.
    pub(crate) fn in_the_way(&self, fd: Fd) -> Result<Option<(i32, i64, i64)>> {
        let found = self.fcntl(fd, libc::F_GETLK, EXCLUSIVE, (0, 0))?;
        let kind = i32::from(i16::from_le_bytes([found[0], found[1]]));
        let long = |at: usize| i64::from_le_bytes(found[at..at + 8].try_into().expect("eight"));
        Ok((kind != FREE).then(|| (kind, long(8), long(16))))
    }

    fn fcntl(&self, fd: Fd, command: i32, kind: i32, range: (i64, i64)) -> Result<Vec<u8>> {
        // struct flock of a 64-bit system: type and whence as shorts, a gap, start, length, process, a gap.
        let mut lock = vec![0; 32];
        lock[..2].copy_from_slice(&i16::try_from(kind).expect("a kind").to_le_bytes());
        lock[8..16].copy_from_slice(&range.0.to_le_bytes());
        lock[16..24].copy_from_slice(&range.1.to_le_bytes());
        let words = vec![Word::Number(fd.0), Word::Number(command.into()), Word::Bytes(Blob(lock))];
        let (result, mut bytes) = self.system(libc::SYS_fcntl, words);
        result.map(|_| bytes.remove(0))
    }
}

/// Waits until a process of this actor's node waits in a call for a lock of the file behind `fd`.
///
/// `watcher` is another process of that node: the one that waits can answer nothing.
pub(crate) fn wait_until_asleep(watcher: &Actor, pid: i64) {
    let call = format!("/proc/{pid}/syscall");
    let numbers = [libc::SYS_fcntl, libc::SYS_flock].map(|number| format!("{number} "));
    eventually("it waits for the lock", LIMIT, || {
        let text = watcher.text(&call).unwrap_or_default();
        numbers.iter().any(|number| text.starts_with(number))
    });
}
