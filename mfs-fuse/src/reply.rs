//! Answers to the kernel: errno, log line and figures in one place; and values between fuser and the mount.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{FileAttr, FileHandle, FileType, Generation, INodeNo, TimeOrNow};
use mfs::telemetry::metrics::MOUNT_REQUESTS_FAILED;
use mfs::types::op::{HeldLock, LockKind};
use mfs::types::{Attr, Errno, FileKind, InodeNo, LockOwner, SetTime, StatFs, Timestamp};

use crate::fs::Page;
use crate::fs::handle_map::Fh;
use crate::fs::process::Asker;

/// How long the kernel may believe an answer. Not at all: no lease says that it stays true.
pub(crate) const TTL: Duration = Duration::ZERO;

/// Numbers are made from handles with their generation, so a number is never used for another file.
pub(crate) const GENERATION: Generation = Generation(0);

/// A place for one answer of the kind `T`; if it is dropped unused, fuser answers EIO.
pub(crate) trait Reply<T>: Send + 'static {
    /// The operation succeeded.
    fn succeed(self, value: T);
    /// It failed.
    fn fail(self, errno: fuser::Errno);
}

/// The answer to getxattr(2) and listxattr(2), with the room that the caller has.
#[derive(Debug)]
pub(crate) struct XattrReply {
    pub(crate) reply: fuser::ReplyXattr,
    pub(crate) room: u32,
}

/// Sends the answer of the operation called `name`.
pub(crate) fn finish<T>(name: &'static str, reply: impl Reply<T>, result: Result<T, Errno>) {
    match result {
        Ok(value) => reply.succeed(value),
        Err(errno) => {
            match errno {
                // What a user must be told of is that something is wrong, not that a name is missing.
                Errno::Io | Errno::TimedOut | Errno::HostDown => {
                    MOUNT_REQUESTS_FAILED.add_one();
                    tracing::info!(operation = name, %errno, "the kernel's request failed");
                }
                _ => tracing::trace!(operation = name, %errno, "answered with an error"),
            }
            reply.fail(fuser::Errno::from_i32(errno.raw()));
        }
    }
}

macro_rules! replies {
    ($($reply:path, $value:ty, |$self:ident, $answer:ident| $succeed:expr;)+) => {$(
        impl Reply<$value> for $reply {
            fn succeed($self, $answer: $value) { $succeed }
            fn fail(self, errno: fuser::Errno) { self.error(errno) }
        }
    )+};
}

replies! {
    fuser::ReplyEmpty, (), |self, _done| self.ok();
    fuser::ReplyEntry, Attr, |self, attr| self.entry(&TTL, &file_attr(&attr), GENERATION);
    fuser::ReplyAttr, Attr, |self, attr| self.attr(&TTL, &file_attr(&attr));
    fuser::ReplyData, Bytes, |self, data| self.data(&data);
    fuser::ReplyWrite, u32, |self, size| self.written(size);
    fuser::ReplyStatfs, StatFs, |self, s| self.statfs(
        s.blocks, s.blocks_free, s.blocks_available, s.files, s.files_free, s.block_size,
        s.name_max, s.fragment_size,
    );
    fuser::ReplyLseek, u64, |self, offset| self.offset(i64::try_from(offset).unwrap_or(i64::MAX));
    fuser::ReplyLock, HeldLock, |self, lock| {
        let (start, end) = (lock.range.start, lock.range.end.min(i64::MAX as u64));
        self.locked(start, end, lock_type(lock.kind), lock.pid.cast_unsigned());
    };
    fuser::ReplyOpen, Fh, |self, fh| {
        self.opened(fuser::FileHandle(fh.0), fuser::FopenFlags::empty());
    };
}

impl Reply<Page> for fuser::ReplyDirectory {
    fn succeed(mut self, page: Page) {
        use std::os::unix::ffi::OsStrExt;
        for (name, ino, kind, offset) in page.entries {
            let name = std::ffi::OsStr::from_bytes(&name);
            if self.add(INodeNo(ino.get()), offset, file_type(kind), name) {
                break;
            }
        }
        self.ok();
    }

    fn fail(self, errno: fuser::Errno) {
        self.error(errno);
    }
}

impl Reply<Bytes> for XattrReply {
    fn succeed(self, value: Bytes) {
        match u32::try_from(value.len()) {
            Ok(size) if self.room == 0 => self.reply.size(size),
            Ok(size) if size <= self.room => self.reply.data(&value),
            _ => self.reply.error(fuser::Errno::ERANGE),
        }
    }

    fn fail(self, errno: fuser::Errno) {
        self.reply.error(errno);
    }
}

/// The kernel's word for a kind of lock.
pub(crate) const fn lock_type(kind: LockKind) -> i32 {
    match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    }
}

/// Attributes as fuser wants them.
pub(crate) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.get()),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: attr.btime.map_or(SystemTime::UNIX_EPOCH, system_time),
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: encode_device(attr.rdev),
        blksize: attr.block_size,
        flags: 0,
    }
}

const fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Who asks.
pub(crate) fn asker(request: &fuser::Request) -> Asker {
    Asker { uid: request.uid(), gid: request.gid(), tid: request.pid() }
}

/// A number from the kernel.
pub(crate) fn ino(number: INodeNo) -> InodeNo {
    // The kernel names only numbers that it was given, which are never 0.
    InodeNo::new(number.0).unwrap_or(InodeNo::ROOT)
}

/// An open from the kernel.
pub(crate) const fn fh(handle: FileHandle) -> Fh {
    Fh(handle.0)
}

/// A lock's owner from the kernel.
pub(crate) const fn owner(owner: fuser::LockOwner) -> LockOwner {
    LockOwner(owner.0)
}

/// A time to set.
pub(crate) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::To(timestamp(time)),
    }
}

/// A time; one that this platform cannot hold is the epoch.
fn system_time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    };
    whole
        .and_then(|t| t.checked_add(Duration::from_nanos(time.nanos.into())))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A time as fuser hands it in. Before 1970 fuser 0.18 subtracts the nanoseconds that it should add, so the
/// distance to the epoch holds seconds and nanoseconds as the kernel sent them.
fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Timestamp {
            seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanos: after.subsec_nanos(),
        },
        Err(before) => {
            let distance = before.duration();
            Timestamp {
                seconds: i64::try_from(distance.as_secs()).map_or(i64::MIN, |s| -s),
                nanos: distance.subsec_nanos(),
            }
        }
    }
}

/// The kernel's 32-bit form of a device number (`new_encode_dev`).
pub(crate) const fn encode_device((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

/// A device number from the kernel's 32-bit form.
pub(crate) const fn decode_device(device: u32) -> (u32, u32) {
    ((device >> 8) & 0xfff, (device & 0xff) | (device >> 12) & 0xfff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_kernels_form() {
        for device in [(0, 0), (1, 3), (8, 1), (4095, 0xfffff), (259, 300)] {
            assert_eq!(decode_device(encode_device(device)), device);
        }
        assert_eq!(encode_device((1, 3)), 0x103);
    }

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        let time = Timestamp { seconds: -2, nanos: 500_000_000 };
        let distance = SystemTime::UNIX_EPOCH.duration_since(system_time(time)).unwrap();
        assert_eq!(distance, Duration::from_millis(1_500));
        // As fuser 0.18 decodes (-2 s, 500,000,000 ns).
        let decoded = SystemTime::UNIX_EPOCH - Duration::new(2, 500_000_000);
        assert_eq!(timestamp(decoded), time);
        let later = SystemTime::UNIX_EPOCH + Duration::new(7, 9);
        assert_eq!(timestamp(later), Timestamp { seconds: 7, nanos: 9 });
        let extreme = Timestamp { seconds: i64::MAX, nanos: 0 };
        let _does_not_panic = system_time(extreme);
    }
}
