//! What the file service needs of the tree it serves.

use mfs::types::op::{Entry, Operation, Outcome};
use mfs::types::{Caller, Errno, LockOwner, OpenId};

/// A tree that executes operations; `mfs::export` in the daemon, something simpler in tests. All but
/// `vouch` and `spawn` may block.
pub(crate) trait Tree: Send + Sync + 'static {
    /// An open file. A clone is the same one; with the last one dropped it is closed.
    type Open: Clone + Send + Sync + 'static;

    /// The root, for the greeting.
    fn root(&self) -> Result<Entry, Errno>;

    /// The identity with which an operation is executed for `caller`: squashed, unless the peer's root is
    /// trusted.
    fn vouch(&self, caller: Caller, trust_root: bool) -> Caller;

    /// Executes an operation. Owners of locks are unique among all sessions; locks are never waited for.
    fn execute(
        &self,
        caller: &Caller,
        operation: Operation,
        opens: &dyn Opens<Self::Open>,
    ) -> Result<Outcome, Errno>;

    /// Releases the locks that `owner` holds on the file.
    fn release_owner(&self, open: &Self::Open, owner: LockOwner);

    /// Runs `job` on a thread that may block. Does not wait.
    fn spawn(&self, job: Box<dyn FnOnce() + Send>);
}

/// A session's open files, as the execution of an operation sees them.
pub(crate) trait Opens<O> {
    /// The open file of that number.
    fn find(&self, id: OpenId) -> Option<O>;

    /// Takes a file that was just opened.
    ///
    /// # Errors
    /// `Stale` if the session ended meanwhile; the file is to be closed.
    fn add(&self, id: OpenId, file: O) -> Result<(), Errno>;

    /// Gives the file of that number up, to be closed.
    fn remove(&self, id: OpenId) -> Option<O>;
}
