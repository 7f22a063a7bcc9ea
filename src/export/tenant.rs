//! `Tenant`: what one session owns in an export, as a value whose end gives everything back.
//!
//! Lock order: `Tenant::owners` is a leaf.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::fd_budget::{FdBudget, FdSlot};
use super::pinned::InodeKey;
use crate::sync::Mutex;
use crate::types::LockOwner;

/// A session's share of the descriptors, and its lock owners: the same number of another session is
/// another owner. When it is dropped, all its range locks are released.
#[derive(Debug)]
pub struct Tenant {
    pub(super) budget: FdBudget,
    pub(super) owners: Mutex<HashMap<(InodeKey, LockOwner), Arc<Description>>>,
}

/// The open description that carries all range locks of one owner on one file.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) fd: OwnedFd,
    /// Whether it is open for writing too, so that it can carry exclusive locks.
    pub(super) writes: bool,
    /// Not fewer ranges than are locked on it.
    pub(super) ranges: AtomicUsize,
    pub(super) _slot: FdSlot,
}

// === impl Tenant ===

impl Tenant {
    /// A holder of at most `descriptors` of the budget.
    pub fn new(budget: &FdBudget, descriptors: usize) -> Arc<Self> {
        Arc::new(Self { budget: budget.part(descriptors), owners: Mutex::default() })
    }

    /// How many descriptors it holds.
    pub fn descriptors(&self) -> usize {
        self.budget.taken()
    }
}
