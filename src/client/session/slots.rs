//! The slots of a session: each carries one request at a time that may be executed only once.

use crate::types::{Sequence, Slot};

/// Most slots that are used, however many a server offers.
const MAX: u32 = 1_024;

/// Which slots are free, and the next sequence number of each.
#[derive(Debug, Default)]
pub(super) struct Slots {
    next: Vec<Sequence>,
    free: Vec<Slot>,
}

// === impl Slots ===

impl Slots {
    /// Begins anew with `count` slots, as in a new session. What was taken is not to be given back.
    pub(super) fn reset(&mut self, count: u32) {
        let count = count.min(MAX);
        self.next = vec![Sequence::FIRST; count as usize];
        // The lowest is taken first: a server need keep replies only for slots that are used.
        self.free = (0..count).rev().map(Slot).collect();
    }

    /// Takes a free slot, with the sequence number for one request.
    pub(super) fn take(&mut self) -> Option<(Slot, Sequence)> {
        let slot = self.free.pop()?;
        let next = self.next.get_mut(slot.0 as usize)?;
        let sequence = *next;
        *next = sequence.next();
        Some((slot, sequence))
    }

    /// Gives a slot back whose request was answered, or was given up and its connection cut: then the
    /// next request leaves a gap in the sequence, which a server allows.
    pub(super) fn give_back(&mut self, slot: Slot) {
        debug_assert!(!self.free.contains(&slot), "slot {slot:?} is given back twice");
        self.free.push(slot);
    }

    /// How many there are, free or not.
    pub(super) const fn count(&self) -> usize {
        self.next.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_counts_its_requests() {
        let mut slots = Slots::default();
        assert_eq!(slots.take(), None);
        slots.reset(2);
        let (a, first) = slots.take().unwrap();
        let (b, _) = slots.take().unwrap();
        assert_ne!(a, b);
        assert_eq!(first, Sequence::FIRST);
        assert_eq!(slots.take(), None);
        slots.give_back(a);
        assert_eq!(slots.take(), Some((a, Sequence::FIRST.next())));
        slots.reset(1);
        assert_eq!(slots.take(), Some((Slot(0), Sequence::FIRST)));
        assert_eq!(slots.count(), 1);
        slots.reset(u32::MAX);
        assert_eq!(slots.count(), MAX as usize);
    }
}
