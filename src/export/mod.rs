//! Serves one local tree to a named caller.
//!
//! Knows no network, no sessions, no leases: who asks and what is open comes with each operation. All
//! of it waits for disks and other processes, and belongs on the threads of a [`Pool`], never on those
//! of a runtime.
//!
//! A peer reaches a file by a sealed id or by one component from a directory, never by a path; no link
//! is followed, and nothing but regular files and directories is ever opened.
//!
//! Lock order: none of the locks here is held while another is taken, but for
//!   `Opened::position`
//!     `Awaited::kept` | `Hidden::known` | `Mounts::known` | `Pinned::table` | `OpenIndex::by_file` | `Tenant::owners` | `Programs::uses`
//!   `Tenant::owners`
//!     `Description::taken`

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::types::op::{Entry, MAX_IO};
use crate::types::{Caller, Capabilities, Errno, ExportId, FileId, NodeId};

mod abilities;
mod aftermath;
mod anchor;
mod apart;
mod attr;
mod awaited;
mod execute;
mod fd_budget;
mod file_id;
mod held;
mod hidden;
mod impersonate;
mod io;
mod kernel_lease;
mod local_use;
mod lock;
mod mountinfo;
mod mounts;
mod namespace;
mod numbers;
mod open_file;
mod open_index;
mod pinned;
mod pool;
mod programs;
mod proof;
mod read_only;
mod readdir;
mod shared_lock;
mod sys;
mod tenant;
mod tree;
mod watch;
mod xattr;

pub use abilities::Abilities;
pub use anchor::Anchor;
pub use execute::{OpenMap, Opens};
pub use fd_budget::{FdBudget, FdSlot};
pub use held::LockRecord;
pub use kernel_lease::{KernelLease, OnWriters};
pub use local_use::LocalUse;
pub use open_file::OpenFile;
pub use pool::Pool;
pub use shared_lock::SharedLock;
pub use tenant::Tenant;
pub use watch::{Changed, Interest, LocalChanges, Used, Watched};

use awaited::Awaited;
use file_id::{FileRef, Seal};
use hidden::{Hidden, Reached};
use kernel_lease::KernelLeases;
use mounts::Mounts;
use numbers::Numbers;
use open_index::OpenIndex;
use pinned::Pinned;
use tree::{Node, Tree};
use watch::Watch;

/// What is served, and what of it is not.
#[derive(Debug, Clone)]
pub struct ExportSettings {
    /// Its number at this node.
    pub id: ExportId,
    /// Root of the tree. A symbolic link is resolved once, now.
    pub path: PathBuf,
    /// Whether everything that changes something is refused with EROFS.
    pub read_only: bool,
    /// Whose identity is not taken as it is.
    pub squash: Squash,
    /// Directories hidden with all that is in them, however it is reached: the state directory. Each
    /// must exist.
    pub hidden_dirs: Vec<PathBuf>,
    /// Files and directories that are hidden themselves; they need not exist.
    pub hidden_paths: Vec<PathBuf>,
}

/// The keys of an export; both outlive a restart.
#[derive(Clone)]
pub struct ExportKeys {
    /// Seals file ids; the node's own secret.
    pub seal: [u8; 32],
    /// Makes inode numbers; the same in the whole cluster.
    pub inode_numbers: [u8; 32],
}

/// Whose identity is replaced by nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Squash {
    /// Root's, unless the root of the peer is trusted.
    #[default]
    UntrustedRoot,
    /// Root's, always.
    Root,
    /// Everybody's.
    All,
}

/// Why a tree cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The root cannot be opened.
    #[error(
        "cannot serve {path}: {errno}; make the directory, or name another as the path of the export"
    )]
    Root {
        /// The root as configured.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// The root is no directory.
    #[error("cannot serve {path}: it is not a directory; name one as the path of the export")]
    NotADirectory {
        /// The root as configured.
        path: PathBuf,
    },
    /// The root lies in a file system that is not served.
    #[error(
        "cannot serve {path}: it is a view of the kernel or a mount of mfs, which other nodes may not enter; serve a directory of a disk"
    )]
    NotServed {
        /// The root as configured.
        path: PathBuf,
    },
    /// The hidden directories could not be read, so that they could not be hidden.
    #[error("cannot hide {paths:?}: {errno}; without that nothing is served")]
    Hidden {
        /// The directories.
        paths: Vec<PathBuf>,
        /// What the kernel said.
        errno: Errno,
    },
}

/// A tree that is served. Clones share it.
#[derive(Debug, Clone)]
pub struct Export {
    tree: Arc<Tree>,
    read_only: bool,
    squash: Squash,
}

/// The user and group of nobody, whom nothing should belong to.
const NOBODY: u32 = 65_534;

// === impl Export ===

impl Export {
    /// Most bytes of one read or write.
    pub const MAX_IO: u32 = MAX_IO;

    /// Opens a tree for serving, with all that this kernel can do. Descriptors held for peers are taken
    /// from `budget`.
    ///
    /// # Errors
    /// A sentence for the log of the daemon, which should not go on without its export.
    pub fn open(
        settings: &ExportSettings,
        keys: &ExportKeys,
        home: NodeId,
        budget: FdBudget,
    ) -> Result<Self, ExportError> {
        Self::open_with(settings, keys, home, budget, Abilities::probe())
    }

    /// As [`Self::open`], using only these abilities.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        settings: &ExportSettings,
        keys: &ExportKeys,
        home: NodeId,
        budget: FdBudget,
        abilities: Abilities,
    ) -> Result<Self, ExportError> {
        let path = &settings.path;
        let failed = |errno| ExportError::Root { path: path.clone(), errno };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let found = mounts::stat(root.as_fd()).map_err(failed)?;
        if u32::from(found.stx_mode) & libc::S_IFMT != libc::S_IFDIR {
            return Err(ExportError::NotADirectory { path: path.clone() });
        }
        let lines = mountinfo::read().map_err(|error| failed(error.into()))?;
        if lines.iter().any(|line| line.id == found.stx_mnt_id && !line.may_be_entered()) {
            return Err(ExportError::NotServed { path: path.clone() });
        }
        let mounts = Mounts::new(root.as_fd(), abilities, budget.clone()).map_err(failed)?;
        let hidden = Hidden::new(settings.hidden_dirs.clone(), settings.hidden_paths.clone())
            .map_err(|errno| ExportError::Hidden { paths: settings.hidden_dirs.clone(), errno })?;
        let tree = Tree {
            seal: settings.seal(&keys.seal),
            numbers: Numbers::new(&keys.inode_numbers, home),
            pinned: Pinned::new(&budget),
            opens: OpenIndex::default(),
            anchored: OpenIndex::default(),
            kernel_leases: KernelLeases::default(),
            awaited: Awaited::new(&budget),
            programs: Arc::default(),
            watch: Watch::default(),
            mounts,
            hidden,
            budget,
            abilities,
            root,
        };
        Ok(Self { tree: Arc::new(tree), read_only: settings.read_only, squash: settings.squash })
    }

    /// The root of the tree.
    ///
    /// # Errors
    /// Those of looking at it; ENOENT if the configuration hides it.
    pub fn root(&self) -> Result<Entry, Errno> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.tree.root, 0)?;
        let root = self.tree.admit(fd, self.tree.mounts.root(), Reached::Mount)?;
        self.tree.entry(&Node::File(root))
    }

    /// The caller as this export takes it: squashed unless trusted. To be applied to everything that a
    /// peer says of a caller, once.
    pub fn vouch(&self, mut caller: Caller, trust_root: bool) -> Caller {
        let squash_root = self.squash == Squash::Root || !trust_root;
        if self.squash == Squash::All || (caller.uid == 0 && squash_root) {
            caller.uid = NOBODY;
            caller.gid = NOBODY;
            caller.groups.clear();
        }
        if squash_root {
            // Root's group opens much as well.
            caller.groups.retain(|gid| *gid != 0);
            if caller.gid == 0 {
                caller.gid = NOBODY;
            }
        }
        if caller.uid != 0 {
            caller.capabilities = Capabilities::empty();
        }
        caller
    }

    /// Whether another process that serves the same tree with the same keys means the same file by this
    /// id. Not so where a file system has no handles: such a file is known by this process's table alone.
    pub fn is_known_elsewhere(&self, file: &FileId) -> bool {
        matches!(self.tree.seal.unseal(file), Ok(FileRef::Handle(..) | FileRef::Barred(_)))
    }

    /// Whether a file lies on a file system that is mounted below the tree, which can be unmounted while
    /// nothing of it is open. Where that is not known, it does.
    pub fn is_mounted_below(&self, file: &FileId) -> bool {
        let root = self.tree.mounts.root().key;
        !matches!(self.tree.seal.unseal(file), Ok(FileRef::Handle(key, _)) if key == root)
    }

    /// What this kernel offers.
    pub fn abilities(&self) -> Abilities {
        self.tree.abilities
    }

    /// The budget that descriptors held for peers are taken from.
    pub fn budget(&self) -> &FdBudget {
        &self.tree.budget
    }

    /// Lets go of mounts that nothing used for so long, so that `umount(8)` works, and of what was looked up to be
    /// used and was not. To be called every few seconds.
    pub fn release_idle(&self, idle: Duration) {
        self.tree.awaited.end(awaited::SOON);
        self.tree.mounts.release_idle(idle);
    }
}

// === impl ExportSettings ===

impl ExportSettings {
    /// The settings of a writable tree that hides nothing.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Self {
            id: ExportId::FIRST,
            path: path.into(),
            read_only: false,
            squash: Squash::default(),
            hidden_dirs: Vec::new(),
            hidden_paths: Vec::new(),
        }
    }

    fn seal(&self, key: &[u8; 32]) -> Seal {
        let hidden = self.hidden_dirs.iter().chain(&self.hidden_paths);
        let paths: Vec<&[u8]> = std::iter::once(&self.path)
            .chain(hidden)
            .map(|path| path.as_os_str().as_encoded_bytes())
            .collect();
        Seal::new(key, self.id, &paths)
    }
}

// === impl ExportKeys ===

impl std::fmt::Debug for ExportKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExportKeys")
    }
}

#[cfg(test)]
mod tests;
