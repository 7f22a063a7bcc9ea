//! Local files given to the kernel (FUSE_PASSTHROUGH): one backing id per inode, shared by its opens.
//!
//! The kernel wants all opens of an inode to use the same backing id, or none of them. So the decision is
//! made per file system: where the first file of one is refused (it is stacked too deep, or of no use), no
//! other is tried, and its files go through this process.
//!
//! Lock order: `Passthrough::inner` is a leaf; the ioctl under it does not sleep on I/O.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use fuser::{BackingId, FileHandle, FopenFlags};
use mfs::sync::Mutex;
use mfs::telemetry::metrics::MOUNT_PASSTHROUGH_OPENS;
use mfs::types::{Attr, InodeNo};
use rustix::fs::{AtFlags, StatxFlags};
use rustix::thread::CapabilitySet;

use crate::fs::Opened;
use crate::fs::handle_map::Fh;
use crate::reply::{GENERATION, Reply, TTL, file_attr};

/// The backing files of a mount.
#[derive(Debug, Default)]
pub(crate) struct Passthrough {
    /// The kernel offers it (Linux 6.9).
    offered: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    files: HashMap<InodeNo, Shared>,
    /// The opens that the kernel serves: an inode may have others, from before the direct access began.
    attached: HashSet<Fh>,
    /// Mounts whose files the kernel does not take.
    refused: HashSet<u64>,
}

/// The answer to open(2), with the backing files it may be answered from.
#[derive(Debug)]
pub(crate) struct OpenReply<R> {
    pub(crate) reply: R,
    pub(crate) passthrough: Arc<Passthrough>,
}

#[derive(Debug)]
struct Shared {
    id: Arc<BackingId>,
    opens: usize,
}

// === impl Passthrough ===

impl Passthrough {
    /// Says whether the kernel has it.
    pub(crate) fn offer(&self, offered: bool) {
        self.offered.store(offered, Relaxed);
    }

    /// The backing id for one more open of the inode, whose local file is `file`; `register` gives a file
    /// to the kernel. `None`: this open, and every other of its file system, goes through this process.
    pub(crate) fn attach(
        &self,
        ino: InodeNo,
        fh: Fh,
        file: BorrowedFd<'_>,
        register: impl FnOnce(BorrowedFd<'_>) -> io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        if !self.offered.load(Relaxed) {
            return None;
        }
        let mut inner = self.inner.lock();
        if let Some(shared) = inner.files.get_mut(&ino) {
            shared.opens += 1;
            let id = shared.id.clone();
            inner.attached.insert(fh);
            MOUNT_PASSTHROUGH_OPENS.add_one();
            return Some(id);
        }
        let mount = mount_id(file)?;
        if inner.refused.contains(&mount) {
            return None;
        }
        match without_privileges(|| register(file)) {
            Ok(id) => {
                let id = Arc::new(id);
                inner.files.insert(ino, Shared { id: id.clone(), opens: 1 });
                inner.attached.insert(fh);
                MOUNT_PASSTHROUGH_OPENS.add_one();
                Some(id)
            }
            Err(error) => {
                if inner.refused.insert(mount) {
                    tracing::info!(
                        mount,
                        %error,
                        "the kernel does not take files of this mount as backing files; \
                         they are read and written by mfs-fuse"
                    );
                }
                None
            }
        }
    }

    /// An open of the inode was released; does nothing if it was none of those attached.
    pub(crate) fn detach(&self, ino: InodeNo, fh: Fh) {
        let mut inner = self.inner.lock();
        if !inner.attached.remove(&fh) {
            return;
        }
        if let Some(shared) = inner.files.get_mut(&ino) {
            shared.opens -= 1;
            if shared.opens == 0 {
                inner.files.remove(&ino);
            }
        }
    }
}

// === impl OpenReply ===

impl Reply<Opened> for OpenReply<fuser::ReplyOpen> {
    fn succeed(self, opened: Opened) {
        let handle = FileHandle(opened.fh.0);
        let file = opened.file.as_ref().and_then(|file| file.as_fd());
        let id = file.and_then(|file| {
            self.passthrough
                .attach(opened.ino, opened.fh, file, |file| self.reply.open_backing(file))
        });
        match id {
            Some(id) => self.reply.opened_passthrough(handle, FopenFlags::empty(), &id),
            None if opened.keeps => {
                let keeping = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_KEEP_CACHE;
                self.reply.opened(handle, keeping);
            }
            None => self.reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO),
        }
    }

    fn fail(self, errno: fuser::Errno) {
        self.reply.error(errno);
    }
}

impl Reply<(Attr, Opened)> for OpenReply<fuser::ReplyCreate> {
    fn succeed(self, (attr, opened): (Attr, Opened)) {
        let (handle, attr) = (FileHandle(opened.fh.0), file_attr(&attr));
        let file = opened.file.as_ref().and_then(|file| file.as_fd());
        let id = file.and_then(|file| {
            self.passthrough
                .attach(opened.ino, opened.fh, file, |file| self.reply.open_backing(file))
        });
        let none = FopenFlags::empty();
        match id {
            Some(id) => {
                self.reply.created_passthrough(&TTL, &attr, GENERATION, handle, none, &id);
            }
            None => {
                let direct = FopenFlags::FOPEN_DIRECT_IO;
                self.reply.created(&TTL, &attr, GENERATION, handle, direct);
            }
        }
    }

    fn fail(self, errno: fuser::Errno) {
        self.reply.error(errno);
    }
}

/// Gives a file to the kernel while this thread lacks the privileges that the kernel would keep with it:
/// written with them, a file would keep its set-user-id bit, and reserved blocks would be used.
fn without_privileges<T>(register: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let all = rustix::thread::capabilities(None)?;
    let mut fewer = all;
    fewer.effective -= CapabilitySet::FSETID | CapabilitySet::SYS_RESOURCE;
    rustix::thread::set_capabilities(None, fewer)?;
    let registered = register();
    if let Err(error) = rustix::thread::set_capabilities(None, all) {
        // A thread that goes on without its privileges would fail at random later.
        tracing::error!(%error, "capabilities could not be restored");
        std::process::abort();
    }
    registered
}

/// The mount that a file was opened on.
fn mount_id(file: BorrowedFd<'_>) -> Option<u64> {
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}
