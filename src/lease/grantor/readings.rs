//! `Readings`: which answers that are being made are older than a change.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::InodeNo;

/// Most files that are remembered as changed for a reading that takes long. One that is older than all of
/// them is granted nothing.
const MAX_CHANGED: usize = 65_536;

/// The beginning of a reading, to be taken before the tree is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "a reading that is not ended is remembered for ever"]
pub struct Reading {
    began: u64,
}

/// The readings under way, and what was changed since the first of them began.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Readings {
    /// Counts changes.
    clock: u64,
    /// How many are under way, by when they began.
    under_way: BTreeMap<u64, usize>,
    /// When a file was changed last.
    changed: BTreeMap<InodeNo, u64>,
    /// The same by time.
    by_time: BTreeSet<(u64, InodeNo)>,
    /// Readings that began before this are granted nothing.
    forgotten_at: u64,
}

// === impl Readings ===

impl Readings {
    pub(super) fn new() -> Self {
        Self {
            clock: 0,
            under_way: BTreeMap::new(),
            changed: BTreeMap::new(),
            by_time: BTreeSet::new(),
            forgotten_at: 0,
        }
    }

    pub(super) fn begin(&mut self) -> Reading {
        *self.under_way.entry(self.clock).or_default() += 1;
        Reading { began: self.clock }
    }

    pub(super) fn end(&mut self, reading: Reading) {
        if let Some(count) = self.under_way.get_mut(&reading.began) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&reading.began);
            }
        }
        // What was changed before the oldest of them began matters to none.
        let oldest = self.under_way.keys().next().copied().unwrap_or(self.clock);
        while let Some((at, ino)) = self.by_time.first().copied().filter(|(at, _)| *at <= oldest) {
            self.by_time.remove(&(at, ino));
            self.changed.remove(&ino);
        }
    }

    /// Files were changed, just now.
    pub(super) fn change(&mut self, files: impl IntoIterator<Item = InodeNo>) {
        self.clock += 1;
        if self.under_way.is_empty() {
            return;
        }
        for ino in files {
            if let Some(before) = self.changed.insert(ino, self.clock) {
                self.by_time.remove(&(before, ino));
            }
            self.by_time.insert((self.clock, ino));
        }
        while self.changed.len() > MAX_CHANGED
            && let Some((at, ino)) = self.by_time.pop_first()
        {
            self.changed.remove(&ino);
            self.forgotten_at = self.forgotten_at.max(at);
        }
    }

    /// Nobody knows what was changed.
    pub(super) fn change_all(&mut self) {
        self.clock += 1;
        self.forgotten_at = self.clock;
        self.changed.clear();
        self.by_time.clear();
    }

    /// Whether a file is as it was when the reading began.
    pub(super) fn is_current(&self, reading: &Reading, ino: InodeNo) -> bool {
        reading.began >= self.forgotten_at
            && self.changed.get(&ino).is_none_or(|at| *at <= reading.began)
    }

    /// Whether none is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.changed.is_empty() && self.by_time.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ino(number: u64) -> InodeNo {
        InodeNo::new(number).expect("not 0")
    }

    #[test]
    fn a_change_is_remembered_as_long_as_a_reading_is_older() {
        let mut readings = Readings::new();
        readings.change([ino(1)]);
        assert!(readings.is_idle(), "there is nobody to whom it matters");
        let old = readings.begin();
        readings.change([ino(1)]);
        let young = readings.begin();
        assert!(!readings.is_current(&old, ino(1)) && readings.is_current(&old, ino(2)));
        assert!(readings.is_current(&young, ino(1)));
        readings.change([ino(1)]);
        readings.end(old);
        assert!(!readings.is_current(&young, ino(1)));
        readings.end(young);
        assert!(readings.is_idle());
    }

    #[test]
    fn when_anything_may_have_changed_no_reading_is_current() {
        let mut readings = Readings::new();
        let old = readings.begin();
        readings.change_all();
        let young = readings.begin();
        assert!(!readings.is_current(&old, ino(1)) && readings.is_current(&young, ino(1)));
    }

    #[test]
    fn a_reading_that_hangs_costs_bounded_memory() {
        let mut readings = Readings::new();
        let hangs = readings.begin();
        readings.change([ino(1)]);
        let later = readings.begin();
        for number in 2..MAX_CHANGED as u64 + 2 {
            readings.change([ino(number)]);
            readings.change([ino(2)]);
        }
        assert_eq!(readings.changed.len(), MAX_CHANGED);
        assert_eq!(readings.by_time.len(), MAX_CHANGED);
        assert!(!readings.is_current(&hangs, ino(1)), "it is forgotten when that was changed");
        assert!(!readings.is_current(&later, ino(3)) && readings.is_current(&later, ino(1)));
    }
}
