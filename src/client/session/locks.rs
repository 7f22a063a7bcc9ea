//! The locks that an open file holds, remembered to be taken again in a new session.

use crate::types::LockOwner;
use crate::types::op::{LockFamily, LockKind, LockRange, Taking};

/// One lock that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) owner: LockOwner,
    pub(super) family: LockFamily,
    /// Shared or exclusive.
    pub(super) kind: LockKind,
    pub(super) range: LockRange,
    pub(super) taking: Taking,
}

/// The locks of one open. As in the kernel, an owner has at most one lock on a byte: a new one takes the
/// place of what it covers, and splits what it covers in part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HeldLocks(Vec<Held>);

// === impl HeldLocks ===

impl HeldLocks {
    /// Notes that a lock was granted, or with `Unlock` that it ended.
    pub(super) fn apply(&mut self, lock: Held) {
        self.cut(&lock);
        if lock.kind != LockKind::Unlock {
            self.0.push(lock);
        }
    }

    /// Takes the range of `lock` out of what its owner holds.
    pub(super) fn cut(&mut self, lock: &Held) {
        let mut rest = Vec::with_capacity(self.0.len() + 1);
        for held in self.0.drain(..) {
            // flock(2) locks belong to the open and cover the file, whatever owner and range say.
            let same = held.family == lock.family
                && (held.family == LockFamily::Flock || held.owner == lock.owner);
            if !same {
                rest.push(held);
            } else if held.family == LockFamily::Range {
                rest.extend(without(held.range, lock.range).map(|range| Held { range, ..held }));
            }
        }
        self.0 = rest;
    }

    /// Forgets the range locks of `owner`, as close(2) does.
    pub(super) fn release_owner(&mut self, owner: LockOwner) {
        self.0.retain(|held| held.family != LockFamily::Range || held.owner != owner);
    }

    /// All that are held.
    pub(super) fn iter(&self) -> impl Iterator<Item = Held> {
        self.0.iter().copied()
    }
}

/// What is left of `range` without `hole`: nothing, one piece or two.
fn without(range: LockRange, hole: LockRange) -> impl Iterator<Item = LockRange> {
    let before = (range.start < hole.start)
        .then(|| LockRange { start: range.start, end: range.end.min(hole.start - 1) });
    let after = (range.end > hole.end)
        .then(|| LockRange { start: range.start.max(hole.end + 1), end: range.end });
    before.into_iter().chain(after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(owner: u64, kind: LockKind, start: u64, end: u64) -> Held {
        let range = LockRange { start, end };
        let taking = Taking::default();
        Held { owner: LockOwner(owner), family: LockFamily::Range, kind, range, taking }
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let mut locks = HeldLocks::default();
        locks.apply(held(1, LockKind::Exclusive, 0, u64::MAX));
        locks.apply(held(1, LockKind::Unlock, 10, 19));
        let left: Vec<_> = locks.iter().map(|l| (l.range.start, l.range.end)).collect();
        assert_eq!(left, [(0, 9), (20, u64::MAX)]);
        locks.release_owner(LockOwner(2));
        assert_eq!(locks.iter().count(), 2);
        locks.release_owner(LockOwner(1));
        assert_eq!(locks.iter().count(), 0);
    }

    #[test]
    fn an_open_has_one_flock_and_the_families_do_not_see_each_other() {
        let mut locks = HeldLocks::default();
        let flock = |owner, kind| Held { family: LockFamily::Flock, ..held(owner, kind, 0, 9) };
        locks.apply(held(1, LockKind::Shared, 0, 9));
        locks.apply(flock(1, LockKind::Shared));
        locks.apply(flock(2, LockKind::Exclusive));
        assert_eq!(locks.iter().count(), 2);
        locks.apply(flock(3, LockKind::Unlock));
        assert_eq!(locks.iter().collect::<Vec<_>>(), [held(1, LockKind::Shared, 0, 9)]);
    }

    fn kind() -> impl Strategy<Value = LockKind> {
        prop_oneof![Just(LockKind::Shared), Just(LockKind::Exclusive), Just(LockKind::Unlock)]
    }

    proptest! {
        /// Against the plainest model: for each owner and byte, what was said last.
        #[test]
        fn every_byte_is_held_as_was_said_last(
            calls in prop::collection::vec((0..2_u64, kind(), 0..12_u64, 0..12_u64), 0..24)
        ) {
            let mut locks = HeldLocks::default();
            let mut model = [[LockKind::Unlock; 24]; 2];
            for (owner, kind, start, length) in calls {
                locks.apply(held(owner, kind, start, start + length));
                model[owner as usize][start as usize..=(start + length) as usize].fill(kind);
            }
            for (owner, bytes) in model.iter().enumerate() {
                for (at, kind) in bytes.iter().enumerate() {
                    let holding: Vec<_> = locks
                        .iter()
                        .filter(|l| l.owner == LockOwner(owner as u64))
                        .filter(|l| (l.range.start..=l.range.end).contains(&(at as u64)))
                        .map(|l| l.kind)
                        .collect();
                    let wanted = if *kind == LockKind::Unlock { vec![] } else { vec![*kind] };
                    prop_assert_eq!(holding, wanted);
                }
            }
        }
    }
}
