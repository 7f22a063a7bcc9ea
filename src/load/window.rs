//! `Window`: the freshest records that a node holds. No sockets, no clock: time is an argument.

use std::time::Duration;

use super::message::{Heard, RECORDS_IN_MESSAGE, decode, encode};
use super::{Load, LoadRecord, Stamp};
use crate::membership::Tag;

/// Most records that are held. A cluster of up to so many nodes is held whole; in a larger one the window is a
/// fresh sample of it, and the best of 128 is nearly the best of all.
pub const MOST_RECORDS: usize = 128;

/// Older records are forgotten: nothing of them need be true any more.
pub const TOO_OLD: Duration = Duration::from_secs(30);

/// Jobs are placed and moved by records of this age at most. In a cluster of up to 128 nodes nearly all are
/// younger (docs/BALANCING.md).
pub const FRESH: Duration = Duration::from_secs(15);

/// The records that a node holds: its own, and the freshest that it heard of others.
#[derive(Debug, Clone)]
pub struct Window {
    me: Tag,
    own: Option<Held>,
    /// Ordered by node; not this one.
    others: Vec<Held>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    record: LoadRecord,
    /// When it was said, as this node's clock was then.
    made: Duration,
}

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub node: Tag,
    /// What it said last, as far as was heard.
    pub load: Load,
    /// How long ago.
    pub age: Duration,
}

// === impl Window ===

impl Window {
    /// The window of this node; empty.
    pub const fn new(me: Tag) -> Self {
        Self { me, own: None, others: Vec::new() }
    }

    /// This node is so busy now. `incarnation`: its present one.
    pub fn note_own(&mut self, now: Duration, incarnation: u64, load: Load) {
        let sequence = match self.own {
            Some(own) if own.record.stamp.incarnation == incarnation => {
                own.record.stamp.sequence.saturating_add(1)
            }
            _ => 1,
        };
        let stamp = Stamp { incarnation, sequence };
        let record = LoadRecord { node: self.me, stamp, load };
        self.own = Some(Held { record, made: now });
    }

    /// Takes a message; how many of its records were news. `None`: it is no message.
    pub fn hear(&mut self, now: Duration, message: &[u8]) -> Option<usize> {
        let records = decode(message)?;
        Some(records.iter().filter(|heard| self.take(now, heard)).count())
    }

    /// Takes a record; whether it was news.
    fn take(&mut self, now: Duration, heard: &Heard) -> bool {
        let node = heard.record.node;
        if node == self.me || heard.age > TOO_OLD {
            return false;
        }
        let held = Held { record: heard.record, made: now.saturating_sub(heard.age) };
        let at = match self.others.binary_search_by_key(&node, |held| held.record.node) {
            Ok(at) => {
                let Some(known) = self.others.get_mut(at) else { return false };
                let news = known.record.stamp < held.record.stamp;
                if news {
                    *known = held;
                }
                return news;
            }
            Err(at) => at,
        };
        if self.others.len() < MOST_RECORDS {
            self.others.insert(at, held);
            return true;
        }
        // The oldest makes room, if this one is fresher.
        let oldest = self.others.iter().enumerate().min_by_key(|(_, held)| held.made);
        let Some((oldest, made)) = oldest.map(|(at, held)| (at, held.made)) else { return false };
        if made >= held.made {
            return false;
        }
        self.others.remove(oldest);
        self.others.insert(if oldest < at { at - 1 } else { at }, held);
        true
    }

    /// Forgets what is too old, and who is a member no longer.
    pub fn forget(&mut self, now: Duration, is_member: impl Fn(Tag) -> bool) {
        self.others
            .retain(|held| now.saturating_sub(held.made) <= TOO_OLD && is_member(held.record.node));
    }

    /// What is to be told to another now: the own record, unless `quiet`, and the freshest of the others'.
    pub fn message(&self, now: Duration, quiet: bool) -> Vec<u8> {
        let mut told: Vec<Held> = self.others.clone();
        let most = RECORDS_IN_MESSAGE - 1;
        if told.len() > most {
            told.select_nth_unstable_by_key(most, |held| std::cmp::Reverse(held.made));
            told.truncate(most);
        }
        let own = self.own.filter(|_| !quiet);
        encode(
            own.into_iter()
                .chain(told)
                .map(|held| Heard { record: held.record, age: now.saturating_sub(held.made) }),
        )
    }

    /// What is known now, this node first.
    pub fn known(&self, now: Duration) -> impl Iterator<Item = Known> {
        self.own.iter().chain(&self.others).map(move |held| Known {
            node: held.record.node,
            load: held.record.load,
            age: now.saturating_sub(held.made),
        })
    }

    /// What this node said last.
    pub fn own(&self) -> Option<Load> {
        self.own.map(|own| own.record.load)
    }

    /// How many nodes are known, this one not counted.
    pub fn others(&self) -> usize {
        self.others.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::record;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn load() -> Load {
        record(1, 1).load
    }

    fn window(me: u8) -> Window {
        let mut window = Window::new(Tag::from_bytes([me; 8]));
        window.note_own(SECOND, 7, load());
        window
    }

    fn ages(window: &Window, now: Duration) -> Vec<(u8, Duration)> {
        window.known(now).map(|known| (known.node.as_bytes()[0], known.age)).collect()
    }

    fn heard(node: u8, sequence: u32, age: Duration) -> Vec<u8> {
        encode([Heard { record: record(node, sequence), age }])
    }

    #[test]
    fn what_one_tells_the_other_knows_with_its_age() {
        let (one, mut two, mut three) = (window(1), window(2), window(3));
        assert_eq!(two.hear(SECOND * 3, &one.message(SECOND * 3, false)), Some(1));
        assert_eq!(ages(&two, SECOND * 3), [(2, SECOND * 2), (1, SECOND * 2)]);
        // By way of the second, whose clock is another: only ages travel.
        assert_eq!(three.hear(SECOND * 100, &two.message(SECOND * 4, false)), Some(2));
        assert_eq!(ages(&three, SECOND * 101)[1], (1, SECOND * 4));
        // Told again it is no news, and to the first it never is.
        assert_eq!(three.hear(SECOND * 100, &two.message(SECOND * 4, false)), Some(0));
        let mut one = one;
        assert_eq!(one.hear(SECOND * 4, &two.message(SECOND * 4, false)), Some(1));
    }

    #[test]
    fn the_later_of_two_records_counts() {
        let mut window = window(1);
        assert_eq!(window.hear(SECOND * 9, &heard(2, 5, SECOND * 3)), Some(1));
        assert_eq!(window.hear(SECOND * 9, &heard(2, 4, SECOND)), Some(0), "an older one");
        assert_eq!(window.hear(SECOND * 9, &heard(2, 6, SECOND * 2)), Some(1));
        assert_eq!(ages(&window, SECOND * 9)[1], (2, SECOND * 2));
        assert_eq!(window.hear(SECOND, &[1]), None);
    }

    #[test]
    fn the_old_and_the_removed_are_forgotten() {
        let mut window = window(1);
        assert_eq!(window.hear(SECOND, &heard(2, 1, TOO_OLD + SECOND)), Some(0));
        window.hear(SECOND * 40, &heard(2, 2, Duration::ZERO));
        window.hear(SECOND * 40, &heard(3, 2, SECOND * 10));
        window.hear(SECOND * 40, &heard(4, 2, Duration::ZERO));
        window.forget(SECOND * 65, |node| node != Tag::from_bytes([4; 8]));
        assert_eq!(ages(&window, SECOND * 65)[1..], [(2, SECOND * 25)]);
    }

    #[test]
    fn a_full_window_keeps_the_freshest_and_tells_them() {
        let mut window = window(255);
        for node in 0..200_u8 {
            let age = Duration::from_millis(100 * u64::from(node));
            window.hear(SECOND * 60, &heard(node, 1, age));
        }
        assert_eq!(window.others(), MOST_RECORDS);
        assert!(ages(&window, SECOND * 60)[1..].iter().all(|(node, _)| *node < 128));
        window.hear(SECOND * 60, &heard(201, 1, Duration::ZERO));
        assert_eq!(window.others(), MOST_RECORDS);
        window.note_own(SECOND * 60, 7, load());
        let mut other = Window::new(Tag::from_bytes([254; 8]));
        assert_eq!(other.hear(SECOND * 60, &window.message(SECOND * 60, false)), Some(24));
        let told: Vec<_> = ages(&other, SECOND * 60).iter().map(|(node, _)| *node).collect();
        assert_eq!(told, (0..22).chain([201, 255]).collect::<Vec<_>>());
        let quiet = window.message(SECOND * 60, true);
        assert!(decode(&quiet).unwrap().iter().all(|heard| heard.record.node != window.me));
    }

    #[test]
    fn a_node_that_starts_again_counts_anew() {
        let mut window = window(1);
        window.note_own(SECOND, 7, load());
        assert_eq!(window.own.unwrap().record.stamp, Stamp { incarnation: 7, sequence: 2 });
        window.note_own(SECOND, 9, load());
        assert_eq!(window.own.unwrap().record.stamp, Stamp { incarnation: 9, sequence: 1 });
    }
}
