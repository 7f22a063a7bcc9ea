//! The opens of a session as they are remembered for a new one: by which file id, for whom, with which
//! locks, and whether writes were acknowledged that a reboot of the server may have lost.

use std::collections::HashMap;
use std::sync::Arc;

use super::locks::{Held, HeldLocks};
use crate::types::op::{Open, Opened, Operation, Outcome, SetLock};
use crate::types::{Access, Caller, Errno, FileId, LockOwner, OpenFlags, OpenId, OpenProof};

/// Whether an open can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenState {
    /// The server knows it.
    Live,
    /// The server has been, or will be, asked to open it again; nothing is sent for it meanwhile.
    Reopening,
    /// It could not be opened again, or lost a lock: everything on it fails with this.
    Lost(Errno),
}

/// One open.
#[derive(Debug)]
struct Remembered {
    file: FileId,
    /// Opens it again, whatever its permissions are then.
    proof: Option<OpenProof>,
    caller: Arc<Caller>,
    access: Access,
    flags: OpenFlags,
    state: OpenState,
    locks: HeldLocks,
    /// When the last write through it was acknowledged, by [`Opens::clock`]; 0 if all are on the disk.
    last_write: u64,
    /// The server may have lost writes, and nobody was told yet.
    writes_lost: bool,
}

/// All opens of a session.
#[derive(Debug, Default)]
pub(super) struct Opens {
    table: HashMap<OpenId, Remembered>,
    clock: u64,
}

// === impl Opens ===

impl Opens {
    /// The order of writes and syncs: what was acknowledged up to now.
    pub(super) const fn clock(&self) -> u64 {
        self.clock
    }

    /// Whether nothing is open.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// All opens, in the order in which they were opened.
    pub(super) fn ids(&self) -> Vec<OpenId> {
        let mut ids: Vec<_> = self.table.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The state of an open; `None` for one that this session does not know.
    pub(super) fn state(&self, open: OpenId) -> Option<OpenState> {
        self.table.get(&open).map(|o| o.state)
    }

    /// Sets the state of an open that is still open.
    pub(super) fn set_state(&mut self, open: OpenId, state: OpenState) {
        if let Some(remembered) = self.table.get_mut(&open) {
            remembered.state = state;
        }
    }

    /// Whether the open appends.
    pub(super) fn appends(&self, open: OpenId) -> bool {
        self.table.get(&open).is_some_and(|o| o.flags.contains(OpenFlags::APPEND))
    }

    /// Notes what a success means. `sent_at` is the clock when the request was sent.
    pub(super) fn note(
        &mut self,
        caller: &Arc<Caller>,
        operation: &Operation,
        outcome: &Outcome,
        sent_at: u64,
    ) {
        match (operation, outcome) {
            (Operation::Open(o), Outcome::Opened(opened)) => {
                self.remember(o.open, opened, caller, o.access, o.flags);
            }
            (Operation::Create(o), Outcome::Opened(opened)) => {
                self.remember(o.open, opened, caller, o.access, o.flags);
            }
            (Operation::Write(o), _) => self.note_write(o.open),
            (Operation::Fallocate(o), _) => self.note_write(o.open),
            (Operation::CopyRange(o), _) => self.note_write(o.target),
            (Operation::Sync(o), _) => self.note_sync(o.open, sent_at),
            (Operation::SetLock(o), _) => self.note_lock(o),
            _ => {}
        }
    }

    /// Notes what a request means by being made, whatever becomes of it: what it ends is not to be
    /// established again.
    pub(super) fn note_request(&mut self, operation: &Operation) {
        match operation {
            Operation::Release(o) => {
                self.table.remove(&o.open);
            }
            Operation::Flush(o) => {
                if let Some(owner) = o.owner {
                    self.release_owner(o.open, owner);
                }
            }
            Operation::SetLock(o) if o.kind == crate::types::op::LockKind::Unlock => {
                self.note_lock(o);
            }
            _ => {}
        }
    }

    /// The server may have lost what it had acknowledged: every open with writes that were not synced
    /// must say so once.
    pub(super) fn lose_writes(&mut self) {
        for open in self.table.values_mut().filter(|o| o.last_write > 0) {
            open.last_write = 0;
            open.writes_lost = true;
        }
    }

    /// Takes the news that writes through the open were lost; true at most once for each loss.
    pub(super) fn take_writes_lost(&mut self, open: OpenId) -> bool {
        self.table.get_mut(&open).is_some_and(|o| std::mem::take(&mut o.writes_lost))
    }

    /// The request that opens `open` again, and for whom; `None` if it is closed.
    ///
    /// Without TRUNCATE and EXCLUSIVE: what they did is done.
    pub(super) fn reopening(&self, open: OpenId) -> Option<(Arc<Caller>, Operation)> {
        let o = self.table.get(&open)?;
        let flags = o.flags - OpenFlags::TRUNCATE - OpenFlags::EXCLUSIVE;
        let (file, proof) = (o.file.clone(), o.proof.clone());
        let again = Open { file, open, access: o.access, flags, proof };
        Some((Arc::clone(&o.caller), again.into()))
    }

    /// The requests that take the locks of `open` again; they wait for `RELOCK_WAIT` (see there).
    pub(super) fn relocking(&self, open: OpenId) -> Vec<(Arc<Caller>, Operation)> {
        let Some(o) = self.table.get(&open) else { return Vec::new() };
        o.locks
            .iter()
            .map(|Held { owner, family, kind, range, taking }| {
                let again = SetLock { open, owner, family, kind, range, wait: true, taking };
                (Arc::clone(&o.caller), again.into())
            })
            .collect()
    }

    fn remember(
        &mut self,
        open: OpenId,
        opened: &Opened,
        caller: &Arc<Caller>,
        access: Access,
        flags: OpenFlags,
    ) {
        let remembered = Remembered {
            file: opened.entry.file.clone(),
            proof: opened.proof.clone(),
            caller: Arc::clone(caller),
            access,
            flags,
            state: OpenState::Live,
            locks: HeldLocks::default(),
            last_write: 0,
            writes_lost: false,
        };
        self.table.insert(open, remembered);
    }

    fn note_write(&mut self, open: OpenId) {
        self.clock += 1;
        if let Some(open) = self.table.get_mut(&open) {
            open.last_write = self.clock;
        }
    }

    /// A sync brings to the disk what was acknowledged before it was sent, through whichever open of the
    /// file it was written.
    fn note_sync(&mut self, open: OpenId, sent_at: u64) {
        let Some(file) = self.table.get(&open).map(|o| o.file.clone()) else { return };
        for other in self.table.values_mut().filter(|o| o.file == file) {
            if other.last_write <= sent_at {
                other.last_write = 0;
            }
        }
    }

    fn note_lock(&mut self, set: &SetLock) {
        let SetLock { open, owner, family, kind, range, wait: _, taking } = *set;
        let lock = Held { owner, family, kind, range, taking };
        let Some(file) = self.table.get(&open).map(|o| o.file.clone()) else { return };
        if family == crate::types::op::LockFamily::Range {
            // Range locks belong to the owner and the file, through whichever open they were taken.
            for (_, other) in self.table.iter_mut().filter(|(id, o)| **id != open && o.file == file)
            {
                other.locks.cut(&lock);
            }
        }
        if let Some(open) = self.table.get_mut(&open) {
            open.locks.apply(lock);
        }
    }

    fn release_owner(&mut self, open: OpenId, owner: LockOwner) {
        let Some(file) = self.table.get(&open).map(|o| o.file.clone()) else { return };
        for other in self.table.values_mut().filter(|o| o.file == file) {
            other.locks.release_owner(owner);
        }
    }
}
