//! `Holder`: the client's half of leases on the files of one node.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::types::{InodeNo, Leases};

/// How many recalls and changes are remembered for answers that are still under way. An answer that is
/// older than all of them grants nothing.
const RECENT: usize = 4_096;

/// What the client stops short of its term: room for clocks that do not run equally fast.
const MARGIN: Duration = Duration::from_secs(1);

/// What may be remembered of one node's files. All times are [`crate::clock::since_boot`].
#[derive(Debug)]
pub struct Holder {
    term: Duration,
    /// Until when what is held may be used; `None`: nothing is held.
    valid_until: Option<Duration>,
    /// Counts recalls and own changes.
    clock: u64,
    recent: VecDeque<(u64, InodeNo, Leases)>,
    /// Answers to requests of before this are not remembered.
    forgotten_at: u64,
    held: HashMap<InodeNo, Leases>,
}

/// When a request was sent, in recalls; to be taken before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

// === impl Holder ===

impl Holder {
    /// Holds nothing yet.
    pub fn new() -> Self {
        Self {
            term: Duration::ZERO,
            valid_until: None,
            clock: 0,
            recent: VecDeque::new(),
            forgotten_at: 0,
            held: HashMap::new(),
        }
    }

    /// A session begins whose leases last for `term`; those of an earlier one are gone. Everything that is
    /// remembered must be forgotten.
    pub fn begin(&mut self, term: Duration) {
        self.term = term;
        self.forget();
    }

    /// The session's connection is gone, or the session is: nothing may be used any more, and everything
    /// that is remembered must be forgotten.
    pub fn forget(&mut self) {
        self.valid_until = None;
        self.held.clear();
        self.recent.clear();
        self.clock += 1;
        self.forgotten_at = self.clock;
    }

    /// A request that was sent at `sent` has been answered. Whether everything that is remembered must be
    /// forgotten: the term was over in between, and the server may have given the leases to others.
    #[must_use]
    pub fn extend(&mut self, now: Duration, sent: Duration) -> bool {
        let until = (sent + self.term).saturating_sub(MARGIN);
        let lapsed = self.valid_until.is_some_and(|valid| valid <= now);
        if lapsed {
            self.forget();
        }
        if until > now {
            self.valid_until = self.valid_until.max(Some(until));
        }
        lapsed
    }

    /// To be taken before a request is sent whose answer may grant something.
    pub const fn stamp(&self) -> Stamp {
        Stamp(self.clock)
    }

    /// An answer to a request of `stamp` granted `leases` on a file: what of it may be remembered.
    pub fn grant(&mut self, now: Duration, stamp: Stamp, ino: InodeNo, leases: Leases) -> Leases {
        if stamp.0 < self.forgotten_at || !self.is_valid(now) {
            return Leases::empty();
        }
        let since = self.recent.iter().rev().take_while(|(at, ..)| *at > stamp.0);
        let gone = since
            .filter(|(_, touched, _)| *touched == ino)
            .fold(Leases::empty(), |all, (.., leases)| all | *leases);
        let granted = leases - gone;
        if !granted.is_empty() {
            *self.held.entry(ino).or_insert(Leases::empty()) |= granted;
        }
        granted
    }

    /// The server takes leases back. What they covered must be forgotten before they are returned.
    pub fn recall(&mut self, ino: InodeNo, leases: Leases) {
        self.take(ino, leases);
    }

    /// This client changes what the leases cover; to be called when it asks for the change, and again when
    /// that is answered, before anybody is told.
    pub fn change(&mut self, ino: InodeNo, leases: Leases) {
        self.take(ino, leases);
    }

    /// Whether all of `leases` on the file are held now.
    pub fn holds(&self, now: Duration, ino: InodeNo, leases: Leases) -> bool {
        self.is_valid(now) && self.held.get(&ino).is_some_and(|held| held.contains(leases))
    }

    /// Whether anything is held, so that the term is worth extending.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether what is held may be used at this moment.
    pub fn is_valid(&self, now: Duration) -> bool {
        self.valid_until.is_some_and(|until| now < until)
    }

    fn take(&mut self, ino: InodeNo, leases: Leases) {
        self.clock += 1;
        self.recent.push_back((self.clock, ino, leases));
        if self.recent.len() > RECENT
            && let Some((at, ..)) = self.recent.pop_front()
        {
            self.forgotten_at = self.forgotten_at.max(at);
        }
        if let Some(held) = self.held.get_mut(&ino) {
            *held -= leases;
            if held.is_empty() {
                self.held.remove(&ino);
            }
        }
    }
}

impl Default for Holder {
    fn default() -> Self {
        Self::new()
    }
}
