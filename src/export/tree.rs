//! The tree itself: from a file id to a file, from a file to an entry, one component at a time.
//!
//! The one place that creates entries, and so the one place that decides what a peer may know of. A
//! file is held by an O_PATH descriptor, which gives no access to its data and wakes no FIFO, socket
//! or device.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, Statx};

use super::abilities::Abilities;
use super::awaited::Awaited;
use super::fd_budget::FdBudget;
use super::file_id::{FileRef, Seal};
use super::hidden::{Hidden, Reached, inode_key};
use super::impersonate::Impersonation;
use super::kernel_lease::KernelLeases;
use super::mountinfo::PlaceKey;
use super::mounts::{Crossing, Mount, Mounts, stat};
use super::numbers::{Identity, Numbers};
use super::open_index::OpenIndex;
use super::pinned::Pinned;
use super::programs::Programs;
use super::sys::{self, HandleUse, KernelHandle};
use super::watch::Watch;
use crate::types::op::Entry;
use crate::types::{Attr, Caller, Errno, FileId, FileKind, FileName, InodeNo, Timestamp};

/// What all operations of one export share.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) seal: Seal,
    pub(super) numbers: Numbers,
    pub(super) mounts: Mounts,
    pub(super) hidden: Hidden,
    pub(super) pinned: Pinned,
    pub(super) opens: OpenIndex,
    /// What is kept there, though it may be removed.
    pub(super) anchored: OpenIndex,
    pub(super) kernel_leases: KernelLeases,
    pub(super) awaited: Awaited,
    pub(super) programs: Arc<Programs>,
    pub(super) watch: Watch,
    pub(super) budget: FdBudget,
    pub(super) abilities: Abilities,
    pub(super) root: OwnedFd,
}

/// What a file id names.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // lives for one operation, on the stack, and is nearly always a file
pub(super) enum Node {
    /// A file.
    File(Found),
    /// The empty directory in place of a mount that is not entered.
    Barred(PlaceKey),
}

/// A file during one operation.
#[derive(Debug)]
pub(super) struct Found {
    /// O_PATH, or the descriptor of an open of it.
    pub(super) fd: OwnedFd,
    pub(super) mount: Arc<Mount>,
    /// Its attributes when it was found.
    pub(super) stat: Statx,
    handle: Option<KernelHandle>,
}

// === impl Node ===

impl Node {
    /// The file, for what changes something or needs more than a bare directory.
    ///
    /// # Errors
    /// EROFS for a mount that is not entered: its directory can only be looked at.
    pub(super) fn for_change(self) -> Result<Found, Errno> {
        match self {
            Self::File(found) => Ok(found),
            Self::Barred(_) => Err(Errno::RoFs),
        }
    }
}

// === impl Found ===

impl Found {
    /// What kind of file it is.
    ///
    /// # Errors
    /// EIO for a kind that Linux does not have.
    pub(super) fn kind(&self) -> Result<FileKind, Errno> {
        FileKind::from_mode(u32::from(self.stat.stx_mode)).ok_or(Errno::Io)
    }

    /// Takes the attributes anew, after a change.
    pub(super) fn look_again(&mut self) -> Result<(), Errno> {
        self.stat = stat(self.fd.as_fd())?;
        Ok(())
    }
}

impl AsFd for Found {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

// === impl Tree ===

impl Tree {
    /// The file that an id names.
    ///
    /// # Errors
    /// ESTALE if it is gone, or the id is not this export's; ENOENT if it is hidden.
    pub(super) fn find(&self, id: &FileId) -> Result<Node, Errno> {
        let (fd, mount, handle) = match self.seal.unseal(id)? {
            FileRef::Barred(place) => return Ok(Node::Barred(place)),
            FileRef::Root => {
                let fd = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?;
                (fd, Arc::clone(self.mounts.root()), None)
            }
            FileRef::Pinned { life, index } => {
                let (fd, mount) = self.pinned.find(life, index)?;
                if stat(fd.as_fd())?.stx_nlink == 0 && self.without_name(id).is_none() {
                    self.pinned.forget(index);
                    return Err(Errno::Stale);
                }
                (fd, mount, None)
            }
            FileRef::Handle(key, handle) => {
                let mount = self.mounts.find(key)?;
                let door = mount.handles().ok_or(Errno::Stale)?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = match open_by_handle(door, &handle, flags) {
                    Ok(fd) => fd,
                    // A file that was unlinked has no handle any more, but lives on while it is open.
                    Err(error) => match self.without_name(id) {
                        Some(fd) => fd,
                        None => return Err(error.into()),
                    },
                };
                (fd, mount, Some(handle))
            }
        };
        let stat = stat(fd.as_fd())?;
        if self.hidden.refuses(&stat, Reached::Id) {
            return Err(Errno::NoEnt);
        }
        Ok(Node::File(Found { fd, mount, stat, handle }))
    }

    /// A file that may have no name any more: what is open, or is about to be.
    fn without_name(&self, id: &FileId) -> Option<OwnedFd> {
        let awaited = || self.awaited.find(id).or_else(|| self.anchored.find(id));
        self.opens.find(id).or_else(awaited)
    }

    /// The directory that an id names, for an operation that changes something in it.
    ///
    /// # Errors
    /// As [`Self::find`]; ENOTDIR; EROFS for a mount that is not entered.
    pub(super) fn find_dir(&self, id: &FileId) -> Result<Found, Errno> {
        let found = self.find(id)?.for_change()?;
        if found.kind()? == FileKind::Directory { Ok(found) } else { Err(Errno::NotDir) }
    }

    /// One component further, with the caller's right to search the directory. No link is followed.
    ///
    /// # Errors
    /// Those of open(2) with O_PATH; ENOENT for what is hidden.
    pub(super) fn step(
        &self,
        caller: &Caller,
        parent: &Found,
        name: &FileName,
    ) -> Result<Node, Errno> {
        let opened = {
            let _as_caller = Impersonation::begin(caller)?;
            self.open_child(parent, name)
        };
        self.admit_child(parent, name, opened)
    }

    /// As [`Self::step`], where the right to search the directory has been established.
    pub(super) fn step_permitted(&self, parent: &Found, name: &FileName) -> Result<Node, Errno> {
        self.admit_child(parent, name, self.open_child(parent, name))
    }

    fn admit_child(
        &self,
        parent: &Found,
        name: &FileName,
        opened: Result<OwnedFd, Errno>,
    ) -> Result<Node, Errno> {
        // Judged after the caller's right to look at all, so that hidden looks like absent to everybody.
        match opened {
            Ok(_) | Err(Errno::XDev) if self.hides(parent, name) => Err(Errno::NoEnt),
            // Without openat2 the kernel could not be asked to stop before a mount.
            Ok(fd) if !self.abilities.openat2 && !parent.mount.holds(fd.as_fd())? => {
                self.cross(parent, name)
            }
            Ok(fd) => Ok(Node::File(self.admit(fd, &parent.mount, Reached::Name)?)),
            Err(Errno::XDev) => self.cross(parent, name),
            Err(errno) => Err(errno),
        }
    }

    fn cross(&self, parent: &Found, name: &FileName) -> Result<Node, Errno> {
        match self.mounts.cross(parent.as_fd(), name)? {
            Crossing::Barred(place) => Ok(Node::Barred(place)),
            Crossing::Into(fd, mount) => Ok(Node::File(self.admit(fd, &mount, Reached::Mount)?)),
        }
    }

    /// Whether a name in a directory is hidden.
    pub(super) fn hides(&self, parent: &Found, name: &FileName) -> bool {
        self.hidden.refuses_name(&parent.stat, name.as_os())
    }

    /// Whether a name in a directory is hidden or leads to something hidden. For changes, which do not
    /// look the name up: in a directory that folds case, another name leads there too.
    pub(super) fn protects(&self, parent: &Found, name: &FileName) -> bool {
        self.hides(parent, name)
            || (self.hidden.is_beside_hidden(&parent.stat)
                && self
                    .open_child(parent, name)
                    .and_then(|fd| stat(fd.as_fd()))
                    .is_ok_and(|stat| self.hidden.refuses(&stat, Reached::Mount)))
    }

    /// Opens a name with O_PATH, without crossing a mount where the kernel can be asked not to.
    fn open_child(&self, parent: &Found, name: &FileName) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(if self.abilities.openat2 {
            rustix::fs::openat2(&parent.fd, name.as_os(), flags, Mode::empty(), CONFINED)?
        } else {
            rustix::fs::openat(&parent.fd, name.as_os(), flags, Mode::empty())?
        })
    }

    /// Takes a file just reached into the tree, unless it is hidden.
    ///
    /// # Errors
    /// ENOENT if it is hidden.
    pub(super) fn admit(
        &self,
        fd: OwnedFd,
        mount: &Arc<Mount>,
        reached: Reached,
    ) -> Result<Found, Errno> {
        let stat = stat(fd.as_fd())?;
        if self.hidden.refuses(&stat, reached) {
            return Err(Errno::NoEnt);
        }
        let handle = match mount.handles() {
            None => None,
            Some(_) => match sys::name_to_handle(fd.as_fd(), c"", HandleUse::Open) {
                Ok((handle, _)) => Some(handle),
                // Some file systems have handles for some of their files.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => None,
                Err(error) => return Err(error.into()),
            },
        };
        Ok(Found { fd, mount: Arc::clone(mount), stat, handle })
    }

    /// Id and attributes of what was found.
    pub(super) fn entry(&self, node: &Node) -> Result<Entry, Errno> {
        Ok(Entry { file: self.file_id(node)?, attr: self.attr(node)? })
    }

    /// The id of what was found.
    pub(super) fn file_id(&self, node: &Node) -> Result<FileId, Errno> {
        let file = match node {
            Node::Barred(place) => FileRef::Barred(*place),
            Node::File(Found { handle: Some(handle), mount, .. }) => {
                FileRef::Handle(mount.key, handle.clone())
            }
            Node::File(found) if self.is_root(found)? => FileRef::Root,
            Node::File(found) => {
                self.pinned.pin(&found.fd, &found.mount, inode_key(&found.stat))?
            }
        };
        self.seal.seal(&file)
    }

    fn is_root(&self, found: &Found) -> Result<bool, Errno> {
        Ok(found.mount.key == self.mounts.root().key
            && inode_key(&found.stat) == inode_key(&stat(self.root.as_fd())?))
    }

    /// The attributes of what was found.
    pub(super) fn attr(&self, node: &Node) -> Result<Attr, Errno> {
        match node {
            Node::File(found) => attr_of(&found.stat, self.number(node)),
            Node::Barred(_) => Ok(Attr {
                ino: self.number(node),
                kind: FileKind::Directory,
                mode: 0o555,
                nlink: 2,
                uid: 0,
                gid: 0,
                size: 0,
                blocks: 0,
                block_size: 4096,
                rdev: (0, 0),
                atime: Timestamp::default(),
                mtime: Timestamp::default(),
                ctime: Timestamp::default(),
                btime: None,
            }),
        }
    }

    /// The number of what was found.
    pub(super) fn number(&self, node: &Node) -> InodeNo {
        match node {
            Node::Barred(place) => self.numbers.of(&Identity::Barred(*place)),
            Node::File(Found { handle: Some(handle), mount, .. }) => {
                self.numbers.of(&Identity::Handle(mount.key.fs, handle))
            }
            Node::File(found) => {
                // A handle that cannot be opened still tells the file from a later one of its number.
                let fs = found.mount.key.fs;
                match sys::name_to_handle(found.as_fd(), c"", HandleUse::Identify) {
                    Ok((handle, _)) => self.numbers.of(&Identity::Handle(fs, &handle)),
                    Err(_) => {
                        let birth = (found.stat.stx_btime.tv_sec, found.stat.stx_btime.tv_nsec);
                        self.numbers.of(&Identity::Inode(fs, found.stat.stx_ino, birth))
                    }
                }
            }
        }
    }

    /// The number of a name in a directory, for a listing without attributes; `None` if it vanished.
    pub(super) fn number_of_name(&self, parent: &Found, name: &FileName) -> Option<InodeNo> {
        let has_handles = parent.mount.handles().is_some();
        let purpose = if has_handles { HandleUse::Open } else { HandleUse::Identify };
        let path = CString::new(name.as_bytes().to_vec()).ok()?;
        match sys::name_to_handle(parent.as_fd(), &path, purpose) {
            Ok((handle, id)) if u64::try_from(id) == Ok(parent.mount.id()) => {
                Some(self.numbers.of(&Identity::Handle(parent.mount.key.fs, &handle)))
            }
            // A mount, or a file system without any handles: it takes a closer look.
            _ => self.step_permitted(parent, name).ok().map(|node| self.number(&node)),
        }
    }
}

/// How often a handle is asked for. The window that says ENOMEM lasts for microseconds, but a machine that
/// makes and removes files without pause shows it several times in a row (3 attempts failed once in
/// 10,000); a machine that is out of memory says it every time.
const HANDLE_ATTEMPTS: usize = 64;

/// Opens a file by its handle. Asks again after ENOMEM, which is also what ext4 says while the number of
/// a file that is gone is just being given to a new one (`iget_locked` meets I_CREATING, Linux 6.18).
fn open_by_handle(
    door: BorrowedFd<'_>,
    handle: &KernelHandle,
    flags: OFlags,
) -> std::io::Result<OwnedFd> {
    let no_memory = |error: &std::io::Error| error.raw_os_error() == Some(libc::ENOMEM);
    for _ in 0..HANDLE_ATTEMPTS {
        match sys::open_by_handle(door, handle, flags) {
            Err(error) if no_memory(&error) => std::thread::yield_now(),
            result => return result,
        }
    }
    sys::open_by_handle(door, handle, flags)
}

/// Confines the resolution of one component to the directory it is in.
pub(super) const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// The protocol's form of what `statx(2)` said.
///
/// # Errors
/// EIO for a kind of file that Linux does not have.
pub(super) fn attr_of(stat: &Statx, ino: InodeNo) -> Result<Attr, Errno> {
    let time =
        |time: rustix::fs::StatxTimestamp| Timestamp { seconds: time.tv_sec, nanos: time.tv_nsec };
    let has_birth = stat.stx_mask & rustix::fs::StatxFlags::BTIME.bits() != 0;
    Ok(Attr {
        ino,
        kind: FileKind::from_mode(u32::from(stat.stx_mode)).ok_or(Errno::Io)?,
        mode: stat.stx_mode & 0o7777,
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        block_size: stat.stx_blksize,
        rdev: (stat.stx_rdev_major, stat.stx_rdev_minor),
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        btime: has_birth.then(|| time(stat.stx_btime)),
    })
}
