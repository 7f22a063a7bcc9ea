//! `Tenant`: what one session owns in an export, as a value whose end gives everything back.
//!
//! Lock order: `Tenant::owners` is a leaf.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::fd_budget::{FdBudget, FdSlot};
use super::pinned::InodeKey;
use crate::sync::Mutex;
use crate::types::op::Taking;
use crate::types::{InodeNo, LockOwner, NodeId};

/// A session's share of the descriptors, and its lock owners: the same number of another session is
/// another owner. When it is dropped, all its range locks are released.
#[derive(Debug)]
pub struct Tenant {
    /// The peer whose session it is; `None` for the node itself.
    pub(super) holder: Option<NodeId>,
    pub(super) budget: FdBudget,
    pub(super) owners: Mutex<HashMap<(InodeKey, LockOwner), Arc<Description>>>,
}

/// The open description that carries all range locks of one owner on one file.
#[derive(Debug)]
pub(super) struct Description {
    /// Shared with a session to which its owner moves.
    pub(super) fd: Arc<OwnedFd>,
    /// Whether it is open for writing too, so that it can carry exclusive locks.
    pub(super) writes: bool,
    /// The serial of the one open that its owner has locked through.
    pub(super) through: u64,
    /// Its owner has locked through another open as well, and so is a process.
    pub(super) process: AtomicBool,
    /// The number of the file.
    pub(super) number: InodeNo,
    /// How something was locked last.
    pub(super) taken: Mutex<Taken>,
    /// Not fewer ranges than are locked on it.
    pub(super) ranges: AtomicUsize,
    pub(super) _slot: FdSlot,
}

/// Who took a lock, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) taking: Taking,
    pub(super) at: Instant,
}

// === impl Tenant ===

impl Tenant {
    /// A holder of at most `descriptors` of the budget: this peer, or the node itself.
    pub fn new(budget: &FdBudget, descriptors: usize, holder: Option<NodeId>) -> Arc<Self> {
        Arc::new(Self { holder, budget: budget.part(descriptors), owners: Mutex::default() })
    }

    /// Releases the range locks of owners that locked through this open alone, which is closed for good.
    ///
    /// An owner is a process or, with F_OFD_SETLK, an open description. The kernel does not say which, nor
    /// does it say that a description's locks end (locks_remove_posix leaves that to the file system). A
    /// process has lost its locks before, when it closed its descriptor (`OpenFile::release_owner`),
    /// unless it took them again through another open.
    pub(super) fn release_through(&self, serial: u64) {
        let mut ended = Vec::new();
        self.owners.lock().retain(|_, description| {
            let keep = description.through != serial || description.process.load(Ordering::Relaxed);
            if !keep {
                ended.push(Arc::clone(description));
            }
            keep
        });
        drop(ended); // closes them outside of the lock
    }

    /// How many descriptors it holds.
    pub fn descriptors(&self) -> usize {
        self.budget.taken()
    }
}
