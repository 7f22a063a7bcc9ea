//! `fuser::Filesystem` for a mounted cluster: each operation is taken apart, handed to tokio and answered
//! there. A reader thread copies what it must and waits for nothing.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, INodeNo, InitFlags, IoctlFlags, KernelConfig,
    TimeOrNow, WriteFlags,
};
use mfs::types::{AccessMode, Errno, FileKind, RenameFlags, SetAttr, XattrName};

use crate::caps;
use crate::flags::{
    fallocate_mode, lock_kind, lock_range, open_flags, permissions, seek_whence, xattr_mode,
};
use crate::fs::{self, Request};
use crate::port::Port;
use crate::reply::{self, XattrReply, asker, fh, ino, owner, set_time};
use crate::request_size::MAX_WRITE;

/// A node that is away must not use up what the kernel allows to wait for all of them together.
const MAX_BACKGROUND: u16 = u16::MAX;

impl fuser::Filesystem for Port {
    fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        let offered = config.capabilities().bits();
        for missing in caps::missing_of(offered) {
            tracing::info!(
                capability = missing.name,
                "the kernel does not offer a capability: {}",
                missing.reason
            );
        }
        // Only offered ones are asked for, so none can be refused.
        let wanted = InitFlags::from_bits_retain(caps::wanted_of(offered));
        config.add_capabilities(wanted).map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
        // A limit that the kernel lowers further is no error.
        let _previous = config.set_max_write(MAX_WRITE);
        let _previous = config.set_max_background(MAX_BACKGROUND);
        // The kernel has PASSTHROUGH on only where a depth goes with it.
        let _previous = config.set_max_stack_depth(self.stack_depth);
        self.passthrough.offer(offered & caps::PASSTHROUGH != 0 && self.stack_depth > 0);
        Ok(())
    }

    fn lookup(&self, r: &fuser::Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEntry) {
        let (asker, parent, name) = (asker(r), ino(parent), fs::name(name));
        if let Some(first) = self.fs.before_lookup(asker, parent, name.as_ref().ok()) {
            return self.answer("lookup", reply, move |fs| async move {
                first.await;
                fs.lookup(&Request::of(asker), parent, name?).await
            });
        }
        let known = name.as_ref().ok().filter(|_| !self.fs.has_missed(asker));
        if let Some(known) = known.and_then(|name| self.fs.known_entry(asker, parent, name)) {
            return Self::answer_known("lookup", reply, known);
        }
        self.answer("lookup", reply, move |fs| async move {
            fs.lookup(&Request::of(asker), parent, name?).await
        });
    }

    fn forget(&self, _: &fuser::Request, number: INodeNo, lookups: u64) {
        if self.fs.forget(ino(number), lookups) {
            self.runtime.spawn(self.fs.clone().give_back_forgotten());
        }
    }

    fn getattr(
        &self,
        r: &fuser::Request,
        number: INodeNo,
        handle: Option<FileHandle>,
        reply: fuser::ReplyAttr,
    ) {
        let (asker, ino, handle) = (asker(r), ino(number), handle.map(fh));
        if let Some(attr) = self.fs.known_attr(asker, ino) {
            return Self::answer_known("getattr", reply, Ok(attr));
        }
        self.answer("getattr", reply, move |fs| async move {
            let request = Request::of(asker);
            fs.unless_missed(asker, fs.getattr(&request, ino, handle)).await
        });
    }

    fn setattr(
        &self,
        r: &fuser::Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: fuser::ReplyAttr,
    ) {
        let (asker, ino, handle) = (asker(r), ino(number), handle.map(fh));
        let mode = mode.map(permissions);
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let set = SetAttr { mode, uid, gid, size, atime, mtime };
        self.answer("setattr", reply, move |fs| async move {
            let request = Request::of(asker);
            let change = fs.when_settled(|| fs.setattr(&request, ino, handle, set.clone()));
            fs.unless_missed(asker, change).await
        });
    }

    fn readlink(&self, r: &fuser::Request, number: INodeNo, reply: fuser::ReplyData) {
        let (asker, ino) = (asker(r), ino(number));
        if let Some(target) = self.fs.known_target(asker, ino) {
            return Self::answer_known("readlink", reply, Ok(target));
        }
        self.answer("readlink", reply, move |fs| async move {
            fs.unless_missed(asker, fs.readlink(&Request::of(asker), ino)).await
        });
    }

    fn mknod(
        &self,
        r: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: fuser::ReplyEntry,
    ) {
        let (asker, parent, name) = (asker(r), ino(parent), fs::name(name));
        self.answer("mknod", reply, move |fs| async move {
            let request = Request::of(asker).with_umask(umask);
            let kind = FileKind::from_mode(mode).ok_or(Errno::Inval)?;
            let device = reply::decode_device(rdev);
            fs.mknod(&request, parent, name?, kind, permissions(mode), device).await
        });
    }

    fn mkdir(
        &self,
        r: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: fuser::ReplyEntry,
    ) {
        let (asker, parent, name) = (asker(r), ino(parent), fs::name(name));
        self.answer("mkdir", reply, move |fs| async move {
            let request = Request::of(asker).with_umask(umask);
            fs.mkdir(&request, parent, name?, permissions(mode)).await
        });
    }

    fn unlink(&self, r: &fuser::Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEmpty) {
        let (asker, parent, name) = (asker(r), ino(parent), fs::name(name));
        self.answer("unlink", reply, move |fs| async move {
            fs.unlink(&Request::of(asker), parent, name?).await
        });
    }

    fn rmdir(&self, r: &fuser::Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEmpty) {
        let (asker, parent, name) = (asker(r), ino(parent), fs::name(name));
        self.answer("rmdir", reply, move |fs| async move {
            fs.rmdir(&Request::of(asker), parent, name?).await
        });
    }

    fn symlink(
        &self,
        r: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: fuser::ReplyEntry,
    ) {
        let (asker, parent, name) = (asker(r), ino(parent), fs::name(name));
        let target = Bytes::copy_from_slice(target.as_os_str().as_bytes());
        self.answer("symlink", reply, move |fs| async move {
            fs.symlink(&Request::of(asker), parent, name?, target).await
        });
    }

    fn rename(
        &self,
        r: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: fuser::RenameFlags,
        reply: fuser::ReplyEmpty,
    ) {
        let asker = asker(r);
        let (from, to) = ((ino(parent), fs::name(name)), (ino(new_parent), fs::name(new_name)));
        self.answer("rename", reply, move |fs| async move {
            let flags = RenameFlags::from_bits(flags.bits()).ok_or(Errno::Inval)?;
            fs.rename(&Request::of(asker), (from.0, from.1?), (to.0, to.1?), flags).await
        });
    }

    fn link(
        &self,
        r: &fuser::Request,
        number: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: fuser::ReplyEntry,
    ) {
        let (asker, ino, parent, name) = (asker(r), ino(number), ino(parent), fs::name(name));
        self.answer("link", reply, move |fs| async move {
            fs.link(&Request::of(asker), ino, parent, name?).await
        });
    }

    fn open(
        &self,
        r: &fuser::Request,
        number: INodeNo,
        flags: fuser::OpenFlags,
        reply: fuser::ReplyOpen,
    ) {
        let (asker, ino) = (asker(r), ino(number));
        let (access, asked) = open_flags(flags.0);
        let flags = asked | self.always;
        if let Some(opened) = self.known_open(asker, ino, access, flags) {
            return Self::answer_known("open", self.open_reply(reply), Ok(opened));
        }
        self.answer("open", self.open_reply(reply), move |fs| async move {
            let request = Request::of(asker);
            let open = fs.when_settled(|| fs.open(&request, ino, access, flags));
            let opened = fs.unless_missed(asker, open).await;
            if opened.is_ok() {
                fs.has_opened(asker);
            }
            opened
        });
    }

    fn create(
        &self,
        r: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: fuser::ReplyCreate,
    ) {
        let (asker, parent, name) = (asker(r), ino(parent), fs::name(name));
        let (access, asked) = open_flags(flags);
        let flags = asked | self.always;
        self.answer("create", self.open_reply(reply), move |fs| async move {
            let (request, name) = (Request::of(asker).with_umask(umask), name?);
            let mode = permissions(mode);
            fs.when_settled(|| fs.create(&request, parent, name.clone(), mode, access, flags)).await
        });
    }

    fn read(
        &self,
        r: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: fuser::OpenFlags,
        owner: Option<fuser::LockOwner>,
        reply: fuser::ReplyData,
    ) {
        let (asker, fh) = (asker(r), fh(handle));
        // Only what a read(2) asks for names its owner (fs/fuse/file.c); the rest fills pages.
        let pages = owner.is_none();
        if let Some(data) = self.fs.known_read(asker, fh, (offset, size), pages) {
            return Self::answer_known("read", reply, Ok(data));
        }
        self.answer("read", reply, move |fs| async move {
            fs.read(asker, fh, (offset, size), pages).await
        });
    }

    fn write(
        &self,
        r: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: fuser::OpenFlags,
        _owner: Option<fuser::LockOwner>,
        reply: fuser::ReplyWrite,
    ) {
        let (asker, fh, data) = (asker(r), fh(handle), Bytes::copy_from_slice(data));
        let pages = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        self.answer("write", reply, move |fs| async move {
            fs.write(asker, fh, offset, data, pages).await
        });
    }

    fn flush(
        &self,
        r: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        lock_owner: fuser::LockOwner,
        reply: fuser::ReplyEmpty,
    ) {
        let (asker, fh, owner) = (asker(r), fh(handle), owner(lock_owner));
        self.answer("flush", reply, move |fs| async move { fs.flush(asker, fh, owner).await });
    }

    fn release(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        handle: FileHandle,
        _flags: fuser::OpenFlags,
        _owner: Option<fuser::LockOwner>,
        _flush: bool,
        reply: fuser::ReplyEmpty,
    ) {
        let fh = fh(handle);
        self.passthrough.detach(ino(number), fh);
        self.release_open("release", fh, reply);
    }

    fn fsync(
        &self,
        r: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: fuser::ReplyEmpty,
    ) {
        let (asker, fh) = (asker(r), fh(handle));
        self.answer("fsync", reply, move |fs| async move { fs.fsync(asker, fh, data_only).await });
    }

    fn opendir(
        &self,
        r: &fuser::Request,
        number: INodeNo,
        _flags: fuser::OpenFlags,
        reply: fuser::ReplyOpen,
    ) {
        let (asker, ino) = (asker(r), ino(number));
        if let Some(fh) = self.fs.known_directory(asker, ino) {
            return Self::answer_known("opendir", reply, Ok(fh));
        }
        self.answer("opendir", reply, move |fs| async move {
            fs.unless_missed(asker, fs.opendir(&Request::of(asker), ino)).await
        });
    }

    fn readdir(
        &self,
        r: &fuser::Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: fuser::ReplyDirectory,
    ) {
        let (asker, ino, fh) = (asker(r), ino(number), fh(handle));
        if let Some(page) = self.fs.known_page(asker, ino, fh, offset) {
            return Self::answer_known("readdir", reply, Ok(page));
        }
        self.answer(
            "readdir",
            reply,
            move |fs| async move { fs.readdir(asker, ino, fh, offset).await },
        );
    }

    fn releasedir(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        _flags: fuser::OpenFlags,
        reply: fuser::ReplyEmpty,
    ) {
        self.release_open("releasedir", fh(handle), reply);
    }

    fn fsyncdir(
        &self,
        r: &fuser::Request,
        number: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: fuser::ReplyEmpty,
    ) {
        self.fsync(r, number, handle, data_only, reply);
    }

    fn statfs(&self, r: &fuser::Request, number: INodeNo, reply: fuser::ReplyStatfs) {
        let (asker, ino) = (asker(r), ino(number));
        self.answer(
            "statfs",
            reply,
            move |fs| async move { fs.statfs(&Request::of(asker), ino).await },
        );
    }

    fn setxattr(
        &self,
        r: &fuser::Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: fuser::ReplyEmpty,
    ) {
        let (asker, ino, name) = (asker(r), ino(number), XattrName::from_os(name));
        let value = Bytes::copy_from_slice(value);
        self.answer("setxattr", reply, move |fs| async move {
            fs.setxattr(&Request::of(asker), ino, name?, value, xattr_mode(flags)?).await
        });
    }

    fn getxattr(
        &self,
        r: &fuser::Request,
        number: INodeNo,
        name: &OsStr,
        size: u32,
        reply: fuser::ReplyXattr,
    ) {
        let (asker, ino, name) = (asker(r), ino(number), XattrName::from_os(name));
        let reply = XattrReply { reply, room: size };
        let known = name.as_ref().ok();
        if let Some(known) = known.and_then(|name| self.fs.known_xattr(asker, ino, name)) {
            return Self::answer_known("getxattr", reply, known);
        }
        self.answer("getxattr", reply, move |fs| async move {
            fs.unless_missed(asker, fs.getxattr(&Request::of(asker), ino, name?)).await
        });
    }

    fn listxattr(&self, r: &fuser::Request, number: INodeNo, size: u32, reply: fuser::ReplyXattr) {
        let (asker, ino) = (asker(r), ino(number));
        let reply = XattrReply { reply, room: size };
        if let Some(names) = self.fs.known_xattr_names(asker, ino) {
            return Self::answer_known("listxattr", reply, Ok(names));
        }
        self.answer("listxattr", reply, move |fs| async move {
            fs.unless_missed(asker, fs.listxattr(&Request::of(asker), ino)).await
        });
    }

    fn removexattr(
        &self,
        r: &fuser::Request,
        number: INodeNo,
        name: &OsStr,
        reply: fuser::ReplyEmpty,
    ) {
        let (asker, ino, name) = (asker(r), ino(number), XattrName::from_os(name));
        self.answer("removexattr", reply, move |fs| async move {
            fs.removexattr(&Request::of(asker), ino, name?).await
        });
    }

    fn access(
        &self,
        r: &fuser::Request,
        number: INodeNo,
        mask: fuser::AccessFlags,
        reply: fuser::ReplyEmpty,
    ) {
        let (asker, ino) = (asker(r), ino(number));
        let mode = AccessMode::from_bits_truncate(mask.bits().cast_unsigned());
        self.answer("access", reply, move |fs| async move {
            fs.unless_missed(asker, fs.access(&Request::of(asker), ino, mode)).await
        });
    }

    fn getlk(
        &self,
        r: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        lock_owner: fuser::LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        _pid: u32,
        reply: fuser::ReplyLock,
    ) {
        let (asker, fh, owner) = (asker(r), fh(handle), owner(lock_owner));
        self.answer("getlk", reply, move |fs| async move {
            fs.get_lock(asker, fh, owner, lock_kind(kind)?, lock_range(start, end)).await
        });
    }

    fn setlk(
        &self,
        r: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        lock_owner: fuser::LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        _pid: u32,
        sleep: bool,
        reply: fuser::ReplyEmpty,
    ) {
        let (asker, fh, owner) = (asker(r), fh(handle), owner(lock_owner));
        self.answer("setlk", reply, move |fs| async move {
            fs.set_lock(asker, fh, owner, lock_kind(kind)?, lock_range(start, end), sleep).await
        });
    }

    fn ioctl(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: fuser::ReplyIoctl,
    ) {
        // A control of one node's file system says nothing on another's.
        reply.error(fuser::Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        r: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: fuser::ReplyEmpty,
    ) {
        let (asker, fh) = (asker(r), fh(handle));
        self.answer("fallocate", reply, move |fs| async move {
            fs.fallocate(asker, fh, fallocate_mode(mode)?, offset, length).await
        });
    }

    fn lseek(
        &self,
        r: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: fuser::ReplyLseek,
    ) {
        let (asker, fh) = (asker(r), fh(handle));
        self.answer("lseek", reply, move |fs| async move {
            // Before the first byte there is neither data nor a hole (lseek(2)).
            let offset = u64::try_from(offset).map_err(|_| Errno::NxIo)?;
            fs.seek(asker, fh, offset, seek_whence(whence)?).await
        });
    }

    fn copy_file_range(
        &self,
        r: &fuser::Request,
        _: INodeNo,
        source: FileHandle,
        source_offset: u64,
        _: INodeNo,
        target: FileHandle,
        target_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: fuser::ReplyWrite,
    ) {
        let (asker, source, target) = (asker(r), fh(source), fh(target));
        self.answer("copy_file_range", reply, move |fs| async move {
            // The answer has 32 bits; the caller asks again for the rest.
            let length = length.min(u64::from(u32::MAX) & !4_095);
            let (from, to) = ((source, source_offset), (target, target_offset));
            let copied = fs.copy_range(asker, from, to, length).await?;
            u32::try_from(copied).map_err(|_| Errno::Io)
        });
    }
}
