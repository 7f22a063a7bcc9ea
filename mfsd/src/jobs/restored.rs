//! `Restored`: the jobs that are being restored here, so that the mount can tell their processes from all others.
//!
//! Lock order: a leaf.

use std::collections::HashMap;
use std::sync::Arc;

use mfs::jobs::ImagesToken;
use mfs::sync::Mutex;
use mfs::types::ParkingToken;

use super::{Jobs, processes};

/// The keepers of these jobs, and the names of their moves.
#[derive(Debug, Default)]
pub(crate) struct Restored(Mutex<HashMap<u32, ParkingToken>>);

/// One of them.
#[derive(Debug)]
#[must_use = "the job counts as restored when this is dropped"]
pub(super) struct Restoring {
    jobs: Arc<Jobs>,
    keeper: u32,
}

// === impl Restored ===

impl Restored {
    /// The name under which the locks of a process are parked, if it is being restored.
    pub(crate) fn token_of(&self, process: u32) -> Option<ParkingToken> {
        if self.0.lock().is_empty() {
            return None;
        }
        let lineage: Vec<_> = processes::lineage(process).collect();
        let keepers = self.0.lock();
        lineage.iter().find_map(|process| keepers.get(process).copied())
    }
}

// === impl Jobs ===

impl Jobs {
    /// This keeper restores a job.
    pub(super) fn restore(
        self: &Arc<Self>,
        keeper: Option<u32>,
        token: ImagesToken,
    ) -> Option<Restoring> {
        let keeper = keeper?;
        self.restored.0.lock().insert(keeper, parking(token));
        Some(Restoring { jobs: Arc::clone(self), keeper })
    }
}

/// Images and locks of a move have one name.
pub(super) const fn parking(token: ImagesToken) -> ParkingToken {
    ParkingToken(token.0)
}

// === impl Restoring ===

impl Drop for Restoring {
    fn drop(&mut self) {
        self.jobs.restored.0.lock().remove(&self.keeper);
    }
}
