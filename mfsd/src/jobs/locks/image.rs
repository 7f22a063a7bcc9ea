//! `filelocks.img`: the image of locks, from which CRIU has each process take its own before its first step
//! (`criu restore --file-locks`). CRIU has written those of local file systems there.
//!
//! Two words, then messages of protocol buffers, each behind its length (4 bytes, little-endian).

use std::io::Write;
use std::path::Path;
use std::{fs, io};

use mfs::types::op::{LockFamily, LockHolder, LockKind, LockRange, TakenLock};
use prost::Message;

const FILE: &str = "filelocks.img";

/// The two words that the image begins with: that it is one, and of what (CRIU's criu/include/magic.h).
const HEAD: [u32; 2] = [0x5456_4319, 0x5432_3616];

/// In `file_lock_entry`: F_SETLK, flock(2), F_OFD_SETLK.
const POSIX: u32 = 1;
const FLOCK: u32 = 2;
const OFD: u32 = 4;

/// `file_lock_entry` (CRIU's images/file-lock.proto).
#[derive(Clone, PartialEq, Eq, Message)]
struct Entry {
    #[prost(uint32, required, tag = "1")]
    flag: u32,
    /// F_RDLCK or F_WRLCK; for flock(2), too.
    #[prost(uint32, required, tag = "2")]
    kind: u32,
    /// As it is numbered in its own namespace.
    #[prost(int32, required, tag = "3")]
    pid: i32,
    #[prost(int32, required, tag = "4")]
    fd: i32,
    #[prost(int64, required, tag = "5")]
    start: i64,
    /// 0: to the end.
    #[prost(int64, required, tag = "6")]
    len: i64,
}

/// A lock and whose it is: the process as its own namespace numbers it, and the descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Restored {
    pub(super) lock: TakenLock,
    pub(super) process: u32,
    pub(super) fd: i32,
}

/// Adds locks to the images of a job.
///
/// # Errors
/// The image cannot be written.
pub(super) fn add(images: &Path, locks: &[Restored]) -> io::Result<()> {
    let path = images.join(FILE);
    let mut bytes = Vec::new();
    if fs::metadata(&path).map_or(0, |image| image.len()) == 0 {
        bytes.extend(HEAD.iter().flat_map(|word| word.to_le_bytes()));
    }
    for lock in locks {
        let entry = entry(lock).encode_to_vec();
        bytes.extend(u32::try_from(entry.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(entry);
    }
    fs::File::options().create(true).append(true).open(path)?.write_all(&bytes)
}

fn entry(restored: &Restored) -> Entry {
    let Restored { lock, process, fd } = restored;
    let LockRange { start, end } = match lock.family {
        LockFamily::Range => lock.range,
        LockFamily::Flock => LockRange::ALL,
    };
    let length = if end == u64::MAX { 0 } else { end - start + 1 };
    // No kernel locks beyond what a signed number of 64 bits names.
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Entry {
        flag: match (lock.family, lock.taking.by) {
            (LockFamily::Flock, _) => FLOCK,
            (LockFamily::Range, LockHolder::Process) => POSIX,
            (LockFamily::Range, LockHolder::Description) => OFD,
        },
        kind: u32::from(lock.kind == LockKind::Exclusive),
        pid: i32::try_from(*process).unwrap_or(i32::MAX),
        fd: *fd,
        start: signed(start),
        len: signed(length),
    }
}

#[cfg(test)]
mod tests {
    use mfs::types::op::Taking;
    use mfs::types::{InodeNo, LockOwner};

    use super::*;

    fn lock(family: LockFamily, by: LockHolder, kind: LockKind, start: u64, end: u64) -> TakenLock {
        let taking = Taking { by, ..Taking::default() };
        let range = LockRange { start, end };
        TakenLock { ino: InodeNo::FIRST, family, owner: LockOwner(1), kind, range, taking }
    }

    /// What CRIU 4.2.1 writes of a program with these locks, process 30438.
    #[test]
    fn locks_are_written_as_criu_writes_them() {
        use LockHolder::{Description, Process};
        use LockKind::{Exclusive, Shared};
        const IMAGE: &[u8] = b"\x19\x43\x56\x54\x16\x36\x32\x54\
            \x0e\0\0\0\x08\x01\x10\x01\x18\xe6\xed\x01\x20\x03\x28\x05\x30\x0a\
            \x0e\0\0\0\x08\x01\x10\x00\x18\xe6\xed\x01\x20\x03\x28\x32\x30\x00\
            \x0e\0\0\0\x08\x02\x10\x01\x18\xe6\xed\x01\x20\x04\x28\x00\x30\x00\
            \x0e\0\0\0\x08\x04\x10\x01\x18\xe6\xed\x01\x20\x05\x28\x64\x30\x00";
        let of = |fd, lock| Restored { lock, process: 30_438, fd };
        let all = [
            of(3, lock(LockFamily::Range, Process, Exclusive, 5, 14)),
            of(3, lock(LockFamily::Range, Process, Shared, 50, u64::MAX)),
            of(4, lock(LockFamily::Flock, Description, Exclusive, 0, 0)),
            of(5, lock(LockFamily::Range, Description, Exclusive, 100, u64::MAX)),
        ];
        let images = tempfile::tempdir().unwrap();
        add(images.path(), &all[..2]).unwrap();
        add(images.path(), &all[2..]).unwrap();
        assert_eq!(fs::read(images.path().join(FILE)).unwrap(), IMAGE);
    }
}
