//! What the file service needs of the tree it serves.

use std::sync::Arc;

use mfs::types::op::{Entry, Opened, Operation, Outcome};
use mfs::types::{Caller, Errno, NodeId, OpenId};

/// A tree that executes operations; `mfs::export` in the daemon, something simpler in tests. All but
/// `vouch` and `spawn` may block.
pub(crate) trait Tree: Send + Sync + Sized + 'static {
    /// An open file. A clone is the same one; with the last one dropped it is closed.
    type Open: Clone + Send + Sync + 'static;

    /// What a session owns in the tree besides its open files: its locks. Dropped, they are released.
    type Tenant: Send + Sync + 'static;

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

    /// What the open of this file was answered with, once more.
    fn opened(&self, file: &Self::Open) -> Result<Opened, Errno>;

    /// Lets go of what nothing uses; called every few seconds. Does not block.
    fn rest(&self) {}

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
