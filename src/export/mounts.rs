//! The mounts that a tree spans: found when a lookup crosses into one, or by their key after a
//! restart.
//!
//! Not here: what is mounted (`mountinfo`). A mount that is not the export's own is held only while it
//! is in use, since a descriptor in it makes `umount(8)` fail.
//!
//! Lock order: `Mounts::known` is a leaf.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};

use super::abilities::Abilities;
use super::fd_budget::{FdBudget, FdSlot};
use super::mountinfo::{self, MountLine, PlaceKey};
use super::sys::{self, HandleUse};
use crate::sync::Mutex;
use crate::types::{Errno, FileKind, FileName};

/// Tells apart file systems, also after a restart: type and `f_fsid`, or the device number where a
/// file system has no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FsKey(pub(super) u64);

/// Tells apart mounts. The place belongs to it: the same file system mounted read-only elsewhere must
/// not be reached through a mount that is writable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MountKey {
    pub(super) fs: FsKey,
    pub(super) place: PlaceKey,
}

/// A mount that is in use.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) key: MountKey,
    /// The kernel's id of it, as `statx(2)` shows it.
    id: u64,
    /// For `open_by_handle_at(2)`, and so not O_PATH; `None` where files have no handles to open.
    handles: Option<OwnedFd>,
    /// When it was last needed, seconds since [`Mounts::began`].
    used: AtomicU64,
    _slot: Option<FdSlot>,
}

/// All mounts of a tree.
#[derive(Debug)]
pub(super) struct Mounts {
    root: Arc<Mount>,
    /// Path of the export's root in this process's view.
    place: PathBuf,
    abilities: Abilities,
    budget: FdBudget,
    began: Instant,
    known: Mutex<HashMap<MountKey, Arc<Mount>>>,
}

/// Where a lookup came out that crossed a mount.
pub(super) enum Crossing {
    /// In the root of a mount.
    Into(OwnedFd, Arc<Mount>),
    /// Before a mount that is not entered.
    Barred(PlaceKey),
}

// === impl Mount ===

impl Mount {
    /// A mount whose root (or any directory) is `fd`, an O_PATH descriptor.
    fn new(
        fd: BorrowedFd<'_>,
        id: u64,
        place: PlaceKey,
        abilities: Abilities,
        slot: Option<FdSlot>,
    ) -> Result<Self, Errno> {
        let stat = stat(fd)?;
        let key = MountKey { fs: FsKey::of(fd, &stat)?, place };
        let handles = if abilities.handles { handle_door(fd, &stat) } else { None };
        Ok(Self { key, id, handles, used: AtomicU64::new(0), _slot: slot })
    }

    /// The descriptor to open handles by; `None` where this file system has none.
    pub(super) fn handles(&self) -> Option<BorrowedFd<'_>> {
        self.handles.as_ref().map(AsFd::as_fd)
    }

    /// The kernel's id of the mount.
    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// Whether what the descriptor is open on lies in this mount, and not in one on top of it.
    pub(super) fn holds(&self, fd: BorrowedFd<'_>) -> Result<bool, Errno> {
        Ok(stat(fd)?.stx_mnt_id == self.id)
    }
}

/// Opens the root of a mount in a way that `open_by_handle_at(2)` takes, if handles work there.
/// Neither FIFO nor device is opened: one may be the root of a bind mount.
fn handle_door(fd: BorrowedFd<'_>, stat: &Statx) -> Option<OwnedFd> {
    let kind = FileKind::from_mode(u32::from(stat.stx_mode))?;
    if !matches!(kind, FileKind::Directory | FileKind::Regular) {
        return None;
    }
    let (handle, _) = sys::name_to_handle(fd, c"", HandleUse::Open).ok()?;
    let door = reopen(fd, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    sys::open_by_handle(door.as_fd(), &handle, OFlags::PATH | OFlags::CLOEXEC).ok()?;
    Some(door)
}

// === impl Mounts ===

impl Mounts {
    /// The mounts of the tree whose root is `root` (O_PATH).
    ///
    /// # Errors
    /// Those of looking at the root.
    pub(super) fn new(
        root: BorrowedFd<'_>,
        abilities: Abilities,
        budget: FdBudget,
    ) -> Result<Self, Errno> {
        let place = path_of(root)?;
        let id = stat(root)?.stx_mnt_id;
        let lines = mountinfo::read()?;
        // In a chroot that is not itself a mount, the kernel does not list what holds it.
        let key = lines.iter().find(|line| line.id == id).map_or(PlaceKey(0), MountLine::key);
        let root = Arc::new(Mount::new(root, id, key, abilities, None)?);
        let known = Mutex::new(HashMap::new());
        Ok(Self { root, place, abilities, budget, began: crate::clock::now(), known })
    }

    /// The mount of the export's root.
    pub(super) const fn root(&self) -> &Arc<Mount> {
        &self.root
    }

    /// Path of the export's root in this process's view.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Where `name` in the directory `parent` leads, on which the kernel says that something is
    /// mounted. Decided from the kernel's list, before anything mounted is touched.
    ///
    /// # Errors
    /// ENOENT if nothing is mounted there any more.
    pub(super) fn cross(&self, parent: BorrowedFd<'_>, name: &FileName) -> Result<Crossing, Errno> {
        let place = path_of(parent)?.join(name.as_os());
        let lines = mountinfo::read()?;
        let line = mountinfo::at(&lines, &place).ok_or(Errno::NoEnt)?;
        if !line.may_be_entered() {
            return Ok(Crossing::Barred(line.key()));
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name.as_os(), flags, Mode::empty())?;
        if stat(fd.as_fd())?.stx_mnt_id != line.id {
            return Err(Errno::NoEnt); // mounts changed meanwhile: as if the lookup came in between
        }
        let mount = self.take_in(fd.as_fd(), line)?;
        Ok(Crossing::Into(fd, mount))
    }

    /// The mount with this key, as a file id names it.
    ///
    /// # Errors
    /// ESTALE if there is none below the export.
    pub(super) fn find(&self, key: MountKey) -> Result<Arc<Mount>, Errno> {
        if key == self.root.key {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(mount) = self.known.lock().get(&key) {
            mount.used.store(self.now(), Ordering::Relaxed);
            return Ok(Arc::clone(mount));
        }
        let lines = mountinfo::read()?;
        let line = lines
            .iter()
            .find(|line| line.key() == key.place)
            .filter(|line| line.may_be_entered() && line.place.starts_with(&self.place))
            .ok_or(Errno::Stale)?;
        let fd = self.open_place(&line.place).map_err(|_| Errno::Stale)?;
        if stat(fd.as_fd())?.stx_mnt_id != line.id {
            return Err(Errno::Stale);
        }
        let mount = self.take_in(fd.as_fd(), line)?;
        if mount.key == key { Ok(mount) } else { Err(Errno::Stale) }
    }

    /// Lets go of the mounts that nothing used for so long.
    pub(super) fn release_idle(&self, idle: Duration) {
        let now = self.now();
        self.known.lock().retain(|_, mount| {
            Arc::strong_count(mount) > 1
                || mount.used.load(Ordering::Relaxed) + idle.as_secs() > now
        });
    }

    fn take_in(&self, fd: BorrowedFd<'_>, line: &MountLine) -> Result<Arc<Mount>, Errno> {
        let place = line.key();
        let known = self.known.lock().values().find(|mount| mount.id == line.id).cloned();
        if let Some(mount) = known.filter(|mount| mount.key.place == place) {
            mount.used.store(self.now(), Ordering::Relaxed);
            return Ok(mount);
        }
        let slot = Some(self.budget.take()?);
        let mount = Arc::new(Mount::new(fd, line.id, place, self.abilities, slot)?);
        mount.used.store(self.now(), Ordering::Relaxed);
        self.known.lock().insert(mount.key, Arc::clone(&mount));
        Ok(mount)
    }

    fn open_place(&self, place: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = if self.abilities.openat2 {
            let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            rustix::fs::openat2(rustix::fs::CWD, place, flags, Mode::empty(), resolve)?
        } else {
            rustix::fs::open(place, flags, Mode::empty())?
        };
        Ok(fd)
    }

    fn now(&self) -> u64 {
        crate::clock::now().duration_since(self.began).as_secs()
    }
}

// === impl FsKey ===

impl FsKey {
    fn of(fd: BorrowedFd<'_>, stat: &Statx) -> Result<Self, Errno> {
        let figures = rustix::fs::fstatfs(fd)?;
        let mut digest = digest::Context::new(&digest::SHA256);
        digest.update(&(figures.f_type as u64).to_le_bytes());
        match rustix::fs::fstatvfs(fd)?.f_fsid {
            0 => {
                digest.update(b"device");
                digest.update(&stat.stx_dev_major.to_le_bytes());
                digest.update(&stat.stx_dev_minor.to_le_bytes());
            }
            id => digest.update(&id.to_le_bytes()),
        }
        Ok(Self(mountinfo::first_u64(digest.finish().as_ref())))
    }
}

/// The attributes of what a descriptor is open on. No automount is triggered.
pub(super) fn stat(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    Ok(rustix::fs::statx(fd, "", flags, wanted)?)
}

/// Opens again what an O_PATH descriptor is open on, with the thread's present identity. The caller
/// has made sure that it is a regular file or a directory.
pub(super) fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(proc_path(fd), flags, Mode::empty())?)
}

/// A path to what the descriptor is open on, for system calls that take only paths. It leads there
/// directly, whatever the file's own path is now, and is for following.
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Where the descriptor leads to, as a path in this process's view.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> Result<PathBuf, Errno> {
    let path = rustix::fs::readlink(proc_path(fd), Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}
