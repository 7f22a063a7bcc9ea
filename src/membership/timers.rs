//! `Timers`: what is to be done later, in order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::{Endpoint, Tag};

/// What a timer wakes.
#[derive(Debug)]
pub(super) enum Alarm {
    /// The failure detector.
    Detector(foca::Timer<Endpoint>),
    /// The question whether this node can be reached from here.
    Doubt(Tag),
    /// What is done once a second.
    Housekeeping,
    /// The beacon.
    Beacon,
}

/// Alarms, the earliest first; those of one moment in the order in which they were set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    set: u64,
}

#[derive(Debug)]
struct Entry {
    at: Duration,
    order: u64,
    alarm: Alarm,
}

// === impl Timers ===

impl Timers {
    /// Sets an alarm.
    pub(super) fn set(&mut self, at: Duration, alarm: Alarm) {
        self.set += 1;
        self.heap.push(Reverse(Entry { at, order: self.set, alarm }));
    }

    /// When the next alarm is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next alarm that is due at `now`.
    pub(super) fn due(&mut self, now: Duration) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.alarm)
    }
}

// === impl Entry ===

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_come_in_order_of_time_and_then_of_setting() {
        let mut timers = Timers::default();
        let tag = |n| Tag::from_bytes([n; 8]);
        for (at, n) in [(2, 1), (1, 2), (1, 3)] {
            timers.set(Duration::from_secs(at), Alarm::Doubt(tag(n)));
        }
        let mut order = vec![];
        assert!(timers.due(Duration::ZERO).is_none());
        while let Some(Alarm::Doubt(tag)) = timers.due(Duration::from_secs(2)) {
            order.push(tag);
        }
        assert_eq!(order, [tag(2), tag(3), tag(1)]);
        assert_eq!(timers.next(), None);
    }
}
