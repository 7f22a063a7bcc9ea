//! Attributes: looking at them, changing them, figures of the file system, and the right to access.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, chmod, chownat,
    ftruncate, utimensat,
};

use super::Export;
use super::impersonate::Impersonation;
use super::mounts::{proc_path, stat};
use super::open_file::{Body, OpenFile};
use super::programs::Purpose;
use super::sys;
use super::tree::{Node, attr_of};
use crate::types::{
    AccessMode, Attr, Caller, Errno, FileId, FileKind, SetAttr, SetTime, StatFs, Timestamp,
};

impl Export {
    pub(super) fn get_attr(&self, file: &FileId) -> Result<Attr, Errno> {
        self.tree.attr(&self.tree.find(file)?)
    }

    pub(super) fn set_attr(
        &self,
        caller: &Caller,
        file: &FileId,
        set: &SetAttr,
    ) -> Result<Attr, Errno> {
        let node = self.tree.find(file)?;
        // For as long as it is truncated it is written.
        let _writing = match set.size {
            Some(_) => Some(self.tree.programs.begin(self.tree.number(&node), Purpose::Write)?),
            None => None,
        };
        let mut found = node.for_change()?;
        {
            let _as_caller = Impersonation::begin(caller)?;
            if let Some(size) = set.size {
                truncate(found.as_fd(), size)?;
            }
            set_others(found.as_fd(), found.kind()?, set)?;
        }
        found.look_again()?;
        self.tree.attr(&Node::File(found))
    }

    pub(super) fn stat_fs(&self, file: &FileId) -> Result<StatFs, Errno> {
        let found = match self.tree.find(file)? {
            Node::File(found) => found,
            Node::Barred(_) => return Ok(StatFs { name_max: 255, ..StatFs::default() }),
        };
        let figures = rustix::fs::fstatvfs(&found.fd)?;
        let narrow = |figure: u64| u32::try_from(figure).unwrap_or(u32::MAX);
        Ok(StatFs {
            fragment_size: narrow(figures.f_frsize),
            block_size: narrow(figures.f_bsize),
            blocks: figures.f_blocks,
            blocks_free: figures.f_bfree,
            blocks_available: figures.f_bavail,
            files: figures.f_files,
            files_free: figures.f_ffree,
            name_max: narrow(figures.f_namemax),
        })
    }

    pub(super) fn check_access(
        &self,
        caller: &Caller,
        file: &FileId,
        mode: AccessMode,
    ) -> Result<(), Errno> {
        match self.tree.find(file)? {
            Node::Barred(_) if mode.contains(AccessMode::WRITE) => Err(Errno::RoFs),
            Node::Barred(_) => Ok(()),
            Node::File(found) => {
                let _as_caller = Impersonation::begin(caller)?;
                Ok(sys::check_access(&found.fd, mode)?)
            }
        }
    }
}

impl OpenFile {
    /// Its attributes, also after it was unlinked.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn attr(&self) -> Result<Attr, Errno> {
        match &self.0.body {
            Body::Barred(attr) => Ok(attr.clone()),
            Body::File(fd) | Body::Directory(fd, _) => attr_of(&stat(fd.as_fd())?, self.0.number),
        }
    }

    /// Changes attributes, also after it was unlinked. For a new size it is enough that it was opened
    /// for writing (ftruncate(2)).
    ///
    /// # Errors
    /// Those of the system calls; EINVAL for a size if it was not opened for writing.
    pub(super) fn set_attr(&self, caller: &Caller, set: &SetAttr) -> Result<Attr, Errno> {
        let fd = self.as_fd().ok_or(Errno::RoFs)?;
        if let Some(size) = set.size {
            let _as_opener = Impersonation::begin(&self.0.opener)?;
            ftruncate(fd, size)?;
        }
        let kind = self.attr()?.kind;
        {
            let _as_caller = Impersonation::begin(caller)?;
            set_others(fd, kind, set)?;
        }
        self.attr()
    }
}

/// truncate(2) through the descriptor, which may be O_PATH: with the right to write to the file.
fn truncate(fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
    if i64::try_from(size).is_err() {
        return Err(Errno::Inval);
    }
    Ok(sys::truncate(&proc_path(fd), size)?)
}

/// Owner, mode and times, in this order: a change of owner takes set-id bits away, which a new mode
/// that came with it may set again; and both change the times.
fn set_others(fd: BorrowedFd<'_>, kind: FileKind, set: &SetAttr) -> Result<(), Errno> {
    if set.uid.is_some() || set.gid.is_some() {
        // -1 means to the kernel what `None` means here.
        if set.uid == Some(u32::MAX) || set.gid == Some(u32::MAX) {
            return Err(Errno::Inval);
        }
        let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
        chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH)?;
    }
    if let Some(mode) = set.mode {
        // Kernels before 6.6 change the mode of a link on some file systems and report an error.
        if kind == FileKind::Symlink {
            return Err(Errno::OpNotSupp);
        }
        chmod(proc_path(fd), Mode::from_raw_mode(u32::from(mode & 0o7777)))?;
    }
    if set.atime.is_some() || set.mtime.is_some() {
        let times =
            Timestamps { last_access: timespec(set.atime), last_modification: timespec(set.mtime) };
        utimensat(fd, "", &times, AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

/// utimensat(2)'s form of a time, with its two special values.
fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::To(Timestamp { seconds, nanos })) => {
            // A number of nanoseconds that is none must not become one of the special values.
            Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos.min(1_000_000_000)) }
        }
    }
}
