//! Panics end where they happen: the request that met one is answered with EIO, and the mount goes on.
//!
//! A request is handled in two halves, and each is held here by construction: [`Contained`] stands between
//! the threads that read requests and every operation of the port, and `operation` around the work that
//! goes on in the mount's runtime. Without the first a panic would end its thread, and the mount with it.
//!
//! What a panic said, and where, is logged by the hook of `serve`; here, which operation met it.

use std::ffi::OsStr;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use mfs::types::Errno;

/// A file system whose panics concern one request each.
#[derive(Debug)]
pub(crate) struct Contained<F>(pub(crate) F);

/// The half of an operation that waits; EIO if it panics.
pub(crate) async fn operation<T>(
    name: &'static str,
    work: impl Future<Output = Result<T, Errno>>,
) -> Result<T, Errno> {
    let mut work = pin!(work);
    poll_fn(|context| {
        // What the operation held has been given back by its guards, and it is not polled again.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(polled) => polled,
            Err(_) => {
                report(name);
                Poll::Ready(Err(Errno::Io))
            }
        }
    })
    .await
}

/// The half of an operation that a reader thread does. Its reply is dropped by the panic, which answers EIO.
fn at_the_reader(name: &'static str, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        report(name);
    }
}

fn report(name: &'static str) {
    tracing::error!(
        operation = name,
        "a request met a fault of mfs-fuse and is answered with an input/output error"
    );
}

// === impl Contained ===

/// Every operation by its arguments. All of fuser's are here (but `batch_forget`, which calls `forget`): one
/// that is left out would be answered with ENOSYS, whatever the file system inside can do.
macro_rules! contained {
    ($($name:ident($($argument:ident: $kind:ty),*);)+) => {$(
        fn $name(&self, request: &Request, $($argument: $kind),*) {
            at_the_reader(stringify!($name), || self.0.$name(request, $($argument),*));
        }
    )+};
}

impl<F: fuser::Filesystem> fuser::Filesystem for Contained<F> {
    fn init(&mut self, request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.0.init(request, config)
    }

    fn destroy(&mut self) {
        self.0.destroy();
    }

    contained! {
        lookup(parent: INodeNo, name: &OsStr, reply: ReplyEntry);
        forget(ino: INodeNo, lookups: u64);
        getattr(ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr);
        setattr(
            ino: INodeNo, mode: Option<u32>, uid: Option<u32>, gid: Option<u32>, size: Option<u64>,
            atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>, ctime: Option<SystemTime>,
            fh: Option<FileHandle>, crtime: Option<SystemTime>, chgtime: Option<SystemTime>,
            bkuptime: Option<SystemTime>, flags: Option<BsdFileFlags>, reply: ReplyAttr
        );
        readlink(ino: INodeNo, reply: ReplyData);
        mknod(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry);
        mkdir(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry);
        unlink(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        rmdir(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        symlink(parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry);
        rename(
            parent: INodeNo, name: &OsStr, new_parent: INodeNo, new_name: &OsStr,
            flags: RenameFlags, reply: ReplyEmpty
        );
        link(ino: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry);
        open(ino: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        read(
            ino: INodeNo, fh: FileHandle, offset: u64, size: u32, flags: OpenFlags,
            owner: Option<LockOwner>, reply: ReplyData
        );
        write(
            ino: INodeNo, fh: FileHandle, offset: u64, data: &[u8], write_flags: WriteFlags,
            flags: OpenFlags, owner: Option<LockOwner>, reply: ReplyWrite
        );
        flush(ino: INodeNo, fh: FileHandle, owner: LockOwner, reply: ReplyEmpty);
        release(
            ino: INodeNo, fh: FileHandle, flags: OpenFlags, owner: Option<LockOwner>, flush: bool,
            reply: ReplyEmpty
        );
        fsync(ino: INodeNo, fh: FileHandle, data_only: bool, reply: ReplyEmpty);
        opendir(ino: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        readdir(ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory);
        readdirplus(ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus);
        releasedir(ino: INodeNo, fh: FileHandle, flags: OpenFlags, reply: ReplyEmpty);
        fsyncdir(ino: INodeNo, fh: FileHandle, data_only: bool, reply: ReplyEmpty);
        statfs(ino: INodeNo, reply: ReplyStatfs);
        setxattr(
            ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, position: u32, reply: ReplyEmpty
        );
        getxattr(ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr);
        listxattr(ino: INodeNo, size: u32, reply: ReplyXattr);
        removexattr(ino: INodeNo, name: &OsStr, reply: ReplyEmpty);
        access(ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty);
        create(
            parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32, reply: ReplyCreate
        );
        getlk(
            ino: INodeNo, fh: FileHandle, owner: LockOwner, start: u64, end: u64, kind: i32,
            pid: u32, reply: ReplyLock
        );
        setlk(
            ino: INodeNo, fh: FileHandle, owner: LockOwner, start: u64, end: u64, kind: i32,
            pid: u32, sleep: bool, reply: ReplyEmpty
        );
        bmap(ino: INodeNo, block_size: u32, index: u64, reply: ReplyBmap);
        ioctl(
            ino: INodeNo, fh: FileHandle, flags: IoctlFlags, command: u32, input: &[u8],
            output_size: u32, reply: ReplyIoctl
        );
        poll(
            ino: INodeNo, fh: FileHandle, notifier: PollNotifier, events: PollEvents,
            flags: PollFlags, reply: ReplyPoll
        );
        fallocate(
            ino: INodeNo, fh: FileHandle, offset: u64, length: u64, mode: i32, reply: ReplyEmpty
        );
        lseek(ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek);
        copy_file_range(
            source_ino: INodeNo, source: FileHandle, source_offset: u64, target_ino: INodeNo,
            target: FileHandle, target_offset: u64, length: u64, flags: CopyFileRangeFlags,
            reply: ReplyWrite
        );
    }
}

#[cfg(test)]
mod tests;
