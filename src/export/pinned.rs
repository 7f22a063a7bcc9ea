//! Files that have no kernel handle are pinned by an O_PATH descriptor while peers may know them.
//!
//! Bounded: the file that was not asked for longest is forgotten first, and is stale from then on.
//!
//! Lock order: `Pinned::table` is a leaf.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::fd_budget::{FdBudget, FdSlot};
use super::file_id::FileRef;
use super::mounts::{Mount, MountKey};
use crate::sync::Mutex;
use crate::types::Errno;

/// The table of one lifetime of an export.
#[derive(Debug)]
pub(super) struct Pinned {
    life: u64,
    budget: FdBudget,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_index: HashMap<u64, Pin>,
    /// The mount belongs to it: one file may be reached through one that is read-only and one that is not.
    by_inode: HashMap<(MountKey, InodeKey), u64>,
    /// Last use to index, the oldest first.
    by_use: BTreeMap<u64, u64>,
    last_index: u64,
    last_use: u64,
}

/// Device (major, minor) and number: no other file has them while this one is pinned.
pub(super) type InodeKey = ((u32, u32), u64);

#[derive(Debug)]
struct Pin {
    fd: OwnedFd,
    mount: Arc<Mount>,
    inode: (MountKey, InodeKey),
    used: u64,
    _slot: FdSlot,
}

// === impl Pinned ===

impl Pinned {
    /// An empty table, which may use a quarter of the budget.
    pub(super) fn new(budget: &FdBudget) -> Self {
        let budget = budget.part((budget.limit() / 4).max(1));
        Self { life: rand::random(), budget, table: Mutex::default() }
    }

    /// Pins a file, and answers what names it from now on: the same as before if it is pinned already.
    ///
    /// # Errors
    /// ENFILE or EMFILE if there is no descriptor left even after forgetting others.
    pub(super) fn pin(
        &self,
        fd: impl AsFd,
        mount: &Arc<Mount>,
        inode: InodeKey,
    ) -> Result<FileRef, Errno> {
        let inode = (mount.key, inode);
        let mut table = self.table.lock();
        let index = match table.by_inode.get(&inode).copied() {
            Some(index) => index,
            None => {
                let slot = loop {
                    match self.budget.take() {
                        Ok(slot) => break slot,
                        Err(errno) if !table.forget_oldest() => return Err(errno),
                        Err(_) => {}
                    }
                };
                let fd = rustix::io::fcntl_dupfd_cloexec(fd, 0)?;
                table.insert(Pin { fd, mount: Arc::clone(mount), inode, used: 0, _slot: slot })
            }
        };
        table.touch(index);
        Ok(FileRef::Pinned { life: self.life, index })
    }

    /// The pinned file: a descriptor of its own, and its mount.
    ///
    /// # Errors
    /// ESTALE if it was forgotten, or belongs to another lifetime.
    pub(super) fn find(&self, life: u64, index: u64) -> Result<(OwnedFd, Arc<Mount>), Errno> {
        if life != self.life {
            return Err(Errno::Stale);
        }
        let mut table = self.table.lock();
        table.touch(index);
        let pin = table.by_index.get(&index).ok_or(Errno::Stale)?;
        Ok((rustix::io::fcntl_dupfd_cloexec(&pin.fd, 0)?, Arc::clone(&pin.mount)))
    }

    /// Lets a file go that has no name any more: the pin alone would keep its space.
    pub(super) fn forget(&self, index: u64) {
        self.table.lock().forget(index);
    }
}

// === impl Table ===

impl Table {
    fn insert(&mut self, pin: Pin) -> u64 {
        self.last_index += 1;
        self.by_inode.insert(pin.inode, self.last_index);
        self.by_index.insert(self.last_index, pin);
        self.last_index
    }

    fn touch(&mut self, index: u64) {
        if let Some(pin) = self.by_index.get_mut(&index) {
            self.by_use.remove(&pin.used);
            self.last_use += 1;
            pin.used = self.last_use;
            self.by_use.insert(self.last_use, index);
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(index) = self.by_use.first_key_value().map(|(_, index)| *index) else {
            return false;
        };
        self.forget(index);
        true
    }

    fn forget(&mut self, index: u64) {
        if let Some(pin) = self.by_index.remove(&index) {
            self.by_inode.remove(&pin.inode);
            self.by_use.remove(&pin.used);
        }
    }
}
