//! What is never served, whatever is exported: the daemon's own state, and paths of the
//! configuration. Known by identity (device and number), not by path, so that neither a bind mount
//! nor a hard link nor a file id leads there.
//!
//! Lock order: `Hidden::known` is a leaf.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Dir, Mode, OFlags, Statx};

use super::mounts::{path_of, stat};
use super::pinned::InodeKey;
use crate::sync::RwLock;
use crate::types::Errno;

/// The hidden files of an export.
#[derive(Debug)]
pub(super) struct Hidden {
    /// Directories hidden with all that lies in them.
    trees: Vec<PathBuf>,
    /// Files and directories hidden themselves; what lies in such a directory has no path any more.
    paths: Vec<PathBuf>,
    known: RwLock<Known>,
}

#[derive(Debug)]
struct Known {
    files: HashSet<InodeKey>,
    /// Names that lead to hidden files, by directory: they stay hidden while the file is replaced.
    names: HashMap<InodeKey, HashSet<OsString>>,
    /// What to look at to see that something has changed.
    watched: Vec<(OwnedFd, Stamp)>,
    /// Keeps hidden files in memory: some file systems number a file anew when it comes back into it.
    #[allow(dead_code)] // held for what it keeps alive
    held: Vec<OwnedFd>,
    checked: Instant,
}

/// How a file was reached: which ways into a hidden directory are possible at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// By a name in a directory that is not hidden: only a hard link can lead in.
    Name,
    /// As the root of a mount: a bind mount may lead in.
    Mount,
    /// By a file id: it may have been moved in since.
    Id,
}

/// Identity and time of the last change.
type Stamp = (InodeKey, i64, u32);

// === impl Hidden ===

impl Hidden {
    /// How old the picture of the hidden directories may be where nothing but a file moved into them
    /// by a local process, and known to a peer from before, depends on it.
    const FRESH: Duration = Duration::from_millis(50);

    /// Most files of hidden directories that are known one by one. The state directory has some dozens.
    const MOST_FILES: usize = 16_384;

    /// Hides the directories `trees` with all that is in them, and the files and directories `paths`.
    ///
    /// # Errors
    /// That of the first of `trees` that cannot be read; `paths` need not exist.
    pub(super) fn new(trees: Vec<PathBuf>, paths: Vec<PathBuf>) -> Result<Self, Errno> {
        let known = RwLock::new(Known::scan(&trees, &paths)?);
        Ok(Self { trees, paths, known })
    }

    /// Whether a file with these attributes is hidden.
    pub(super) fn refuses(&self, stat: &Statx, reached: Reached) -> bool {
        if self.trees.is_empty() && self.paths.is_empty() {
            return false;
        }
        let directory = u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFDIR;
        let lately = match reached {
            // A directory has one name; a file with one link cannot be in two places.
            Reached::Name => directory || stat.stx_nlink < 2,
            Reached::Mount => false,
            Reached::Id => true,
        };
        self.refresh(lately);
        let hidden = || self.known.read().files.contains(&inode_key(stat));
        // A new file may have got the number of one that was hidden and has been removed.
        hidden() && {
            self.refresh(false);
            hidden()
        }
    }

    /// Whether `name` in the directory with these attributes is hidden.
    pub(super) fn refuses_name(&self, parent: &Statx, name: &OsStr) -> bool {
        let known = self.known.read();
        known.names.get(&inode_key(parent)).is_some_and(|names| names.contains(name))
    }

    /// Whether the directory with these attributes holds something hidden.
    pub(super) fn is_beside_hidden(&self, parent: &Statx) -> bool {
        self.known.read().names.contains_key(&inode_key(parent))
    }

    /// Brings the picture up to date if something changed. With `lately`, a picture checked a moment
    /// ago will do.
    fn refresh(&self, lately: bool) {
        {
            let known = self.known.read();
            if lately && crate::clock::now().duration_since(known.checked) < Self::FRESH {
                return;
            }
            let same = |(fd, stamp): &(OwnedFd, Stamp)| {
                stat(fd.as_fd()).is_ok_and(|now| stamp_of(&now) == *stamp)
            };
            if known.watched.iter().all(same) {
                drop(known);
                self.known.write().checked = crate::clock::now();
                return;
            }
        }
        match Known::scan(&self.trees, &self.paths) {
            Ok(new) => *self.known.write() = new,
            Err(errno) => {
                tracing::warn!("cannot look at the hidden directories again: {errno}");
                self.known.write().checked = crate::clock::now();
            }
        }
    }
}

// === impl Known ===

impl Known {
    fn scan(trees: &[PathBuf], paths: &[PathBuf]) -> Result<Self, Errno> {
        let mut known = Self {
            files: HashSet::new(),
            names: HashMap::new(),
            watched: Vec::new(),
            held: Vec::new(),
            checked: crate::clock::now(),
        };
        for tree in trees {
            let fd = open_path(tree)?;
            known.hide_name_of(tree, fd.as_fd())?;
            known.hide_all(&fd)?;
        }
        for path in paths {
            known.watch_parent(path);
            if let Ok(fd) = open_path(path) {
                known.hide_name_of(path, fd.as_fd())?;
                known.files.insert(inode_key(&stat(fd.as_fd())?));
                known.held.push(fd);
            }
        }
        Ok(known)
    }

    /// Hides the name by which the path leads to `fd`, and the name that `fd` itself has.
    fn hide_name_of(&mut self, path: &Path, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        for path in [path.to_path_buf(), path_of(fd)?] {
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
                && let Ok(parent) = open_path(parent)
            {
                let parent = inode_key(&stat(parent.as_fd())?);
                self.names.entry(parent).or_default().insert(name.to_owned());
            }
        }
        Ok(())
    }

    /// A path that may not exist yet is hidden by name, and its directory is watched.
    fn watch_parent(&mut self, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if let Ok(fd) = open_path(parent)
            && let Ok(stat) = stat(fd.as_fd())
        {
            self.names.entry(inode_key(&stat)).or_default().insert(name.to_owned());
            self.watched.push((fd, stamp_of(&stat)));
        }
    }

    /// Hides the directory and all that is in it, on whatever file system.
    fn hide_all(&mut self, fd: &OwnedFd) -> Result<(), Errno> {
        let found = stat(fd.as_fd())?;
        self.files.insert(inode_key(&found));
        if u32::from(found.stx_mode) & libc::S_IFMT != libc::S_IFDIR {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listing = rustix::fs::openat(fd, ".", flags, Mode::empty())?;
        for entry in Dir::new(listing)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if self.files.len() >= Hidden::MOST_FILES {
                tracing::warn!("a hidden directory holds too many files to know each of them");
                break;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(fd, name, flags, Mode::empty()) {
                Ok(child) => self.hide_all(&child)?,
                Err(rustix::io::Errno::NOENT) => {} // removed meanwhile
                Err(error) => return Err(error.into()),
            }
        }
        self.watched.push((rustix::io::fcntl_dupfd_cloexec(fd, 0)?, stamp_of(&found)));
        Ok(())
    }
}

/// Device and number of a file.
pub(super) fn inode_key(stat: &Statx) -> InodeKey {
    ((stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino)
}

fn stamp_of(stat: &Statx) -> Stamp {
    (inode_key(stat), stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec)
}

fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}
