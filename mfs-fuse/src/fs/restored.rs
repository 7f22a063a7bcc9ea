//! Processes of jobs that are being restored on this node: their locks are parked where they were before, and they
//! are to get those, and to lose none of them before they run.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use mfs::types::{InodeNo, LockOwner, ParkingToken};

use super::MountedFs;
use super::process::Asker;

/// An answer that is still to come.
pub type Answer = Pin<Box<dyn Future<Output = Option<ParkingToken>> + Send>>;

/// Knows which processes are being restored.
pub trait Restorer: Send + Sync {
    /// The name under which the locks of a process are parked, if it is being restored.
    fn token_of(&self, process: u32) -> Answer;
}

/// Who knows; nobody restores where there is none.
#[derive(Default)]
pub struct Restored(OnceLock<Arc<dyn Restorer>>);

// === impl Restored ===

impl Restored {
    /// From now on this one is asked; once.
    pub fn ask(&self, restorer: Arc<dyn Restorer>) {
        // A mount has one.
        let _ = self.0.set(restorer);
    }
}

impl fmt::Debug for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Restored").field(&self.0.get().is_some()).finish()
    }
}

// === impl MountedFs ===

impl MountedFs {
    /// The name under which the asker's locks are parked, if it is being restored.
    pub(super) async fn parked(&self, asker: Asker) -> Option<ParkingToken> {
        let restorer = self.restored.0.get().filter(|_| asker.is_apart())?;
        restorer.token_of(asker.tid).await
    }

    /// Whether a descriptor is closed by who restores its process. CRIU takes the locks, and then opens and closes
    /// files again that are mapped; in a program, that would release the locks of the process.
    pub(super) async fn keeps_locks(&self, asker: Asker, ino: InodeNo, owner: LockOwner) -> bool {
        self.handles.may_lock(ino, owner) && self.parked(asker).await.is_some()
    }
}
