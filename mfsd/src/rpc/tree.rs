//! What the file service needs of the tree it serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mfs::export::{Interest, LocalChanges, LocalUse, LockRecord, OnWriters};
use mfs::types::op::{Create, Entry, Open, Opened, Operation, Outcome, SetLock, TakenLock};
use mfs::types::{
    Access, Attr, Caller, DataVersion, Errno, FileId, FileKind, FileName, InodeNo, NodeId, OpenId,
    OpenProof,
};

/// Keeps local processes from writing a file until it is dropped, which does not block.
pub(crate) struct Guard {
    /// Its file lies on a file system that is mounted below the tree, and cannot be unmounted meanwhile.
    pub(crate) keeps_mount: bool,
    _kept: Box<dyn Send>,
}

/// Keeps a file there until it is dropped, which does not block, though it may be removed.
pub(crate) struct Anchor(#[expect(dead_code, reason = "it is dropped")] Box<dyn Send>);

// === impl Anchor ===

impl Anchor {
    /// One that is `kept`.
    pub(crate) fn new(kept: impl Send + 'static) -> Self {
        Self(Box::new(kept))
    }
}

impl std::fmt::Debug for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Anchor")
    }
}

// === impl Guard ===

impl Guard {
    /// One that is `kept`.
    pub(crate) fn new(kept: impl Send + 'static, keeps_mount: bool) -> Self {
        Self { keeps_mount, _kept: Box::new(kept) }
    }
}

/// A tree that executes operations; `mfs::export` in the daemon, something simpler in tests. All but
/// `vouch`, `spawn`, `number_of`, `covers` and `is_watchable` may block.
pub(crate) trait Tree: Send + Sync + Sized + 'static {
    /// An open file. A clone is the same one; with the last one dropped it is closed.
    type Open: Clone + Send + Sync + 'static;

    /// What a session owns in the tree besides its open files: its locks. Dropped, they are released.
    type Tenant: Send + Sync + 'static;

    /// A lock of one session that another may hold with it. Dropped, it is held once less, which may block.
    type SharedLock: Clone + Send + Sync + 'static;

    /// What of the tree is watched for one reading, until it is dropped.
    type Watched: Send;

    /// The root, for the greeting.
    fn root(&self) -> Result<Entry, Errno>;

    /// A place for a new session of `peer`.
    fn tenant(&self, peer: NodeId) -> Arc<Self::Tenant>;

    /// The identity with which an operation is executed for `caller`: squashed, unless the peer's root is
    /// trusted.
    fn vouch(&self, caller: Caller, trust_root: bool) -> Caller;

    /// Executes an operation. A lock is never waited for; an open that `opens` does not find is EBADF.
    fn execute(
        &self,
        caller: &Caller,
        operation: Operation,
        opens: &dyn Opens<Self>,
    ) -> Result<Outcome, Errno>;

    /// The number of the file that an id names, a pure function of the id; `None` if it is not this tree's,
    /// or names a file that is never watched.
    fn number_of(&self, file: &FileId) -> Option<InodeNo>;

    /// The number of the file that has a name at the moment, if there is one.
    fn number_of_name(&self, parent: &FileId, name: &FileName) -> Option<InodeNo>;

    /// Which file is open, and its number.
    fn file_of(open: &Self::Open) -> (&FileId, InodeNo);

    /// What it was opened for, by which user and process.
    fn opened_for(open: &Self::Open) -> (Access, u32, u32);

    /// Where the file of an open is now, as far as that is known. May block.
    fn path_of(open: &Self::Open) -> Option<PathBuf>;

    /// How long the file is, if it is one that has a length. May block.
    fn length_of(open: &Self::Open) -> Option<u64>;

    /// The locks that a session holds, through itself and through its opens.
    fn locks(tenant: &Self::Tenant, opens: &[Self::Open]) -> Vec<LockRecord>;

    /// A lock that a session holds, through itself or one of its opens.
    fn share_lock(
        tenant: &Self::Tenant,
        opens: &[Self::Open],
        lock: &TakenLock,
    ) -> Option<Self::SharedLock>;

    /// Has an open hold a lock that was shared, as if it had taken it.
    fn adopt_lock(
        open: &Self::Open,
        shared: &Self::SharedLock,
        lock: &SetLock,
        opener: u32,
    ) -> Result<(), Errno>;

    /// What the open of this file was answered with, once more.
    fn opened(&self, file: &Self::Open) -> Result<Opened, Errno>;

    /// Whether local changes can be noticed anywhere.
    fn is_watchable(&self) -> bool;

    /// Begins a reading of these files, each with its kind if that is known. As far as they can be watched,
    /// each local change of them is in [`Self::local_changes`] from then on, or something that stands for it.
    fn watch(&self, files: &[(&FileId, Option<FileKind>)]) -> Self::Watched;

    /// Whether the reading began with this file, and local changes of it are noticed.
    fn covers(watched: &Self::Watched, ino: InodeNo) -> bool;

    /// Watches a file, too, that an answer of this tree names; its attributes are read anew if it was not
    /// watched before. Whether local changes of it are noticed.
    fn watch_found(&self, watched: &Self::Watched, found: &mut Entry) -> bool;

    /// Whether the names in a directory are what their bytes say, and not the same in capitals: only then
    /// can be remembered which there are.
    fn has_exact_names(&self, directory: &FileId) -> bool;

    /// The local changes that were noticed since the last call.
    fn local_changes(&self) -> LocalChanges;

    /// What other processes of this machine have a file open for, which this tree has open.
    /// It is looked so often before somebody is believed to have. May block.
    fn local_use(&self, _file: &FileId, _looks: usize) -> LocalUse {
        LocalUse::Unknown
    }

    /// What shows that `peer` was let open a file so for this caller, though it was not asked. To be given only
    /// for what it was allowed.
    fn prove(&self, _peer: NodeId, _caller: &Caller, _open: &Open) -> Option<OpenProof> {
        None
    }

    /// Guards the file of an open that is for reading alone, and says who else has it open. `None`: it is
    /// being written, or cannot be guarded.
    fn guard(&self, _open: &Self::Open) -> Option<(Guard, LocalUse)> {
        None
    }

    /// Has `wake` called with the guarded files that somebody waits to write, until the tree is gone. `longest`:
    /// how long that may have to wait.
    fn on_writers(&self, _longest: Duration, _wake: OnWriters) {}

    /// Has `wake` called whenever there are local changes, until the tree is gone.
    fn on_local_changes(&self, wake: Box<dyn Fn() + Send>);

    /// Lets go of what nothing uses, and watches no more than there is interest in; called every few seconds.
    /// Does not block.
    fn rest(&self, _interest: Arc<dyn Interest>) {}

    /// Whether every write through an open goes to the end of the file.
    fn appends(open: &Self::Open) -> bool;

    /// How long an open file is.
    fn size_of(open: &Self::Open) -> Result<u64, Errno>;

    /// Which data an open file has.
    fn version_of(open: &Self::Open) -> Result<DataVersion, Errno>;

    /// Keeps the file of an open there when it is removed; `None` where that is not wanted or not possible.
    fn anchor(&self, _open: &Self::Open) -> Option<Anchor> {
        None
    }

    /// Whether the file of an open has no name any more. May block.
    fn is_removed(_open: &Self::Open) -> bool {
        false
    }

    /// Writes bytes that are not to go into an open file into its conflict copy: into `copy`, if it is still
    /// there, else into a new one named after `by`. Says where that is.
    fn write_apart(
        open: &Self::Open,
        by: &str,
        copy: Option<&Path>,
        offset: u64,
        data: &[u8],
    ) -> Result<PathBuf, Errno>;

    /// The file that has a name, if there is one. Whoever asks: as all that follows, it is for finding out
    /// what the daemon before this one did.
    fn entry_of_name(&self, parent: &FileId, name: &FileName) -> Result<Option<Entry>, Errno>;

    /// The attributes of a file.
    fn attr_of(&self, file: &FileId) -> Result<Attr, Errno>;

    /// What a symbolic link says.
    fn target_of(&self, file: &FileId) -> Result<Bytes, Errno>;

    /// The bytes of a file from `offset` on, `limit` at most.
    fn bytes_of(&self, file: &FileId, offset: u64, limit: usize) -> Result<Vec<u8>, Errno>;

    /// Cuts a file off.
    fn cut_off(&self, file: &FileId, size: u64) -> Result<(), Errno>;

    /// Opens, under the number that `create` wants, the file that it has made before.
    fn take_up(
        &self,
        caller: &Caller,
        create: &Create,
        file: &FileId,
        opens: &dyn Opens<Self>,
    ) -> Result<Opened, Errno>;

    /// Runs `job` on a thread that may block. Does not wait.
    fn spawn(&self, job: Box<dyn FnOnce() + Send>);
}

/// A session's open files, as the execution of an operation sees them.
pub(crate) trait Opens<T: Tree>: Send + Sync {
    /// The open file of that number.
    fn find(&self, id: OpenId) -> Option<T::Open>;

    /// Keeps a file that was just opened.
    ///
    /// # Errors
    /// `Stale` if the session ended meanwhile, or the client released it; the file is then closed.
    fn keep(&self, id: OpenId, file: T::Open) -> Result<(), Errno>;

    /// Gives the file of that number up; an unknown one is gone already.
    fn forget(&self, id: OpenId);

    /// Whose files and locks they are.
    fn tenant(&self) -> &Arc<T::Tenant>;
}
