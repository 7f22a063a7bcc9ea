//! Descriptors held for peers are counted, so that no peer can use up the process's.
//!
//! Counts only what outlives an operation: opens, descriptions that carry locks, pinned files, mounts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Resource;

use crate::telemetry::instruments::Held;
use crate::telemetry::metrics as m;
use crate::types::Errno;

/// A number of descriptors, perhaps a part of a larger number. Clones share it.
#[derive(Debug, Clone)]
pub struct FdBudget(Arc<Share>);

#[derive(Debug)]
struct Share {
    limit: usize,
    taken: AtomicUsize,
    whole: Option<FdBudget>,
}

/// The right to hold one descriptor; given back when dropped.
#[must_use = "the right is given back when this is dropped"]
#[derive(Debug)]
pub struct FdSlot {
    budget: FdBudget,
    _counted: Held,
}

// === impl FdBudget ===

impl FdBudget {
    /// What is left to the process besides the descriptors held for peers: connections, logs, state,
    /// and those that live only for one operation.
    const RESERVED: usize = 256;

    /// At most `limit` descriptors.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Share { limit, taken: AtomicUsize::new(0), whole: None }))
    }

    /// Three quarters of what the process may open (RLIMIT_NOFILE), but for a reserve.
    pub fn of_process() -> Self {
        let most = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let most = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(Self::RESERVED);
        let budget = Self::new((most / 4 * 3).max(64));
        m::SERVER_DESCRIPTORS_LIMIT.set(i64::try_from(budget.limit()).unwrap_or(i64::MAX));
        budget
    }

    /// A part of this one for one holder: at most `limit`, all of which also count here.
    #[must_use]
    pub fn part(&self, limit: usize) -> Self {
        Self(Arc::new(Share {
            limit: limit.min(self.0.limit),
            taken: AtomicUsize::new(0),
            whole: Some(self.clone()),
        }))
    }

    /// The right to hold one more.
    ///
    /// # Errors
    /// EMFILE if the holder's part is used up, ENFILE if the whole is.
    pub fn take(&self) -> Result<FdSlot, Errno> {
        self.count_up()?;
        Ok(FdSlot { budget: self.clone(), _counted: m::SERVER_DESCRIPTORS.hold() })
    }

    /// How many are held.
    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// How many may be held.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// A third of it, and so about a quarter of what the process may open: for what is held only to save messages.
    pub fn quarter(&self) -> usize {
        self.limit() / 3
    }

    fn count_up(&self) -> Result<(), Errno> {
        let share = &*self.0;
        let more = |taken: usize| (taken < share.limit).then_some(taken + 1);
        if share.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            m::SERVER_DESCRIPTORS_REFUSED.add_one();
            return Err(if share.whole.is_some() { Errno::MFile } else { Errno::NFile });
        }
        if let Some(whole) = &share.whole
            && let Err(errno) = whole.count_up()
        {
            share.taken.fetch_sub(1, Ordering::Relaxed);
            return Err(errno);
        }
        Ok(())
    }

    fn count_down(&self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        if let Some(whole) = &self.0.whole {
            whole.count_down();
        }
    }
}

// === impl FdSlot ===

impl Drop for FdSlot {
    fn drop(&mut self) {
        self.budget.count_down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_given_back_can_be_taken_again() {
        let budget = FdBudget::new(1);
        let slot = budget.take().unwrap();
        assert_eq!(budget.take().unwrap_err(), Errno::NFile);
        drop(slot);
        assert!(budget.take().is_ok());
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn one_holder_cannot_use_up_the_whole() {
        let whole = FdBudget::new(3);
        let greedy = whole.part(2);
        let held = [greedy.take().unwrap(), greedy.take().unwrap()];
        assert_eq!(greedy.take().unwrap_err(), Errno::MFile);
        let other = whole.part(2);
        let last = other.take().unwrap();
        assert_eq!(other.take().unwrap_err(), Errno::NFile);
        assert_eq!((whole.taken(), other.taken()), (3, 1));
        drop((held, last));
        assert_eq!((whole.taken(), greedy.taken(), other.taken()), (0, 0, 0));
    }
}
