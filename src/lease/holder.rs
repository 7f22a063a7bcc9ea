//! `Holder`: the client's half of leases on the files of one node.
//!
//! It says what may be remembered and used; the memory itself is the caller's. Whenever it takes a lease
//! away, all that was remembered under it must go: a new lease must not bring old values back. Everything is
//! kept in order, so that a run can be repeated.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use smallvec::SmallVec;

use super::Touch;
use crate::types::{InodeNo, Leases};

/// How many recalls and changes are remembered for answers that are still under way. An answer that is
/// older than all of them grants nothing.
const RECENT: usize = 4_096;

/// What the client stops short of its term: room for clocks that do not run equally fast.
const MARGIN: Duration = Duration::from_secs(1);

/// What may be remembered of one node's files. All times are [`crate::clock::since_boot`], taken after
/// that happened which they are the time of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Holder {
    /// How long leases last; `None`: there is no session.
    term: Option<Duration>,
    /// Until when what is held may be used; `None`: nothing was answered yet.
    valid_until: Option<Duration>,
    /// Counts recalls, own changes, and when everything was forgotten.
    clock: u64,
    /// Answers to requests of before this are not remembered.
    forgotten_at: u64,
    /// What was taken away by file: when last, and all of it; and the same by time.
    taken: BTreeMap<InodeNo, (u64, Leases)>,
    recent: VecDeque<(u64, InodeNo)>,
    held: BTreeMap<InodeNo, Leases>,
    /// Own changes under way.
    changing: BTreeMap<InodeNo, SmallVec<[Changing; 1]>>,
    last_change: u64,
}

/// An own change on one file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Changing {
    change: u64,
    leases: Leases,
    /// What was held when it began and was not taken away, nor touched by another one, since.
    intact: Leases,
}

/// When a request was sent, in recalls; to be taken before it is sent for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

/// An own change under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "what it touches is not used until it is ended"]
pub struct OwnChange {
    id: u64,
    stamp: Stamp,
    touches: SmallVec<[Touch; 4]>,
}

/// What is held after an own change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// What of its touches is still held, so that what is remembered can be corrected.
    pub kept: SmallVec<[Touch; 4]>,
    /// What of each of its answer's grants may be remembered.
    pub granted: SmallVec<[Leases; 4]>,
}

// === impl Holder ===

impl Holder {
    /// Holds nothing, and is granted nothing before [`Self::begin`].
    pub fn new() -> Self {
        Self::default()
    }

    /// The server's welcome on the control stream, whether the session is new or goes on: its leases last
    /// for `term`, those of before are gone. Everything that is remembered must be forgotten.
    pub fn begin(&mut self, term: Duration) {
        self.lapse();
        self.term = Some(term);
    }

    /// The control stream is gone, or the session is: nothing may be used any more, everything that is
    /// remembered must be forgotten, and nothing is granted before the next welcome.
    pub fn forget(&mut self) {
        self.lapse();
        self.term = None;
    }

    /// A request that was sent at `sent` has been answered. Whether everything that is remembered must be
    /// forgotten: the term was over in between, and the server may have given the leases to others.
    #[must_use]
    pub fn extend(&mut self, now: Duration, sent: Duration) -> bool {
        let Some(term) = self.term else { return false };
        let until = (sent + term).saturating_sub(MARGIN);
        let lapsed = self.valid_until.is_some_and(|valid| valid <= now);
        if lapsed {
            self.lapse();
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
        let granted = self.grantable(now, stamp, (ino, leases));
        self.hold((ino, granted));
        granted
    }

    /// The server takes leases back. What they covered must be forgotten before they are returned.
    pub fn recall(&mut self, ino: InodeNo, leases: Leases) {
        self.take((ino, leases));
    }

    /// What is remembered under these leases was evicted; they are to be returned when there is time.
    pub fn release(&mut self, ino: InodeNo, leases: Leases) {
        self.take((ino, leases));
    }

    /// This client is about to ask for a change of this: it is not used, and nothing is granted on it, until
    /// the change is ended. Others may see the change before this client does.
    pub fn begin_change(&mut self, touches: &[Touch]) -> OwnChange {
        self.last_change += 1;
        let change = self.last_change;
        for (ino, leases) in touches.iter().copied() {
            let held = self.held.get(&ino).copied().unwrap_or(Leases::empty());
            let others = self.changing.entry(ino).or_default();
            let mut intact = held & leases;
            for other in others.iter_mut().filter(|other| other.change != change) {
                other.intact -= leases;
                intact -= other.leases;
            }
            others.push(Changing { change, leases, intact });
        }
        OwnChange { id: change, stamp: self.stamp(), touches: touches.into() }
    }

    /// An own change was answered (with an error, too), or its session is over. To be called before anybody
    /// is told. `corrects` are the kinds of lease under which the caller corrects its memory by what it
    /// knows the change did; what is remembered under others, and where [`Ended::kept`] does not name it,
    /// must be forgotten. `grants` came with the answer.
    pub fn end_change(
        &mut self,
        now: Duration,
        own: OwnChange,
        corrects: Leases,
        grants: &[Touch],
    ) -> Ended {
        let mut ended = Ended::default();
        for (ino, leases) in &own.touches {
            let Some(changing) = self.changing.get_mut(ino) else { continue };
            let intact = changing
                .iter()
                .filter(|changing| changing.change == own.id)
                .fold(Leases::all(), |intact, changing| intact & changing.intact);
            changing.retain(|changing| changing.change != own.id);
            if changing.is_empty() {
                self.changing.remove(ino);
            }
            let kept = intact & corrects & *leases;
            if !kept.is_empty() {
                ended.kept.push((*ino, kept));
            }
        }
        let grantable = |touch: &Touch| self.grantable(now, own.stamp, *touch);
        ended.granted = grants.iter().map(grantable).collect();
        // What was asked for while it was under way is not remembered, whatever is kept.
        for touch in own.touches {
            self.take(touch);
        }
        let granted = grants.iter().map(|(ino, _)| *ino).zip(ended.granted.iter().copied());
        for touch in granted.chain(ended.kept.iter().copied()).collect::<SmallVec<[_; 4]>>() {
            self.hold(touch);
        }
        ended
    }

    /// Whether all of `leases` on the file are held now.
    pub fn holds(&self, now: Duration, ino: InodeNo, leases: Leases) -> bool {
        let held = self.held.get(&ino).copied().unwrap_or(Leases::empty());
        self.is_valid(now) && held.contains(leases) && !self.is_changing((ino, leases))
    }

    /// Whether what is held now was held without a break since `stamp`, given that it was then.
    pub fn has_kept(&self, now: Duration, stamp: Stamp, ino: InodeNo, leases: Leases) -> bool {
        self.holds(now, ino, leases) && self.grantable(now, stamp, (ino, leases)) == leases
    }

    /// Whether anything is held, so that the term is worth extending.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether what is held may be used at this moment.
    pub fn is_valid(&self, now: Duration) -> bool {
        self.valid_until.is_some_and(|until| now < until)
    }

    fn lapse(&mut self) {
        self.valid_until = None;
        self.held.clear();
        self.taken.clear();
        self.recent.clear();
        for changing in self.changing.values_mut().flatten() {
            changing.intact = Leases::empty();
        }
        self.clock += 1;
        self.forgotten_at = self.clock;
    }

    fn is_changing(&self, (ino, leases): Touch) -> bool {
        let changing = self.changing.get(&ino).into_iter().flatten();
        changing.fold(Leases::empty(), |all, own| all | own.leases).intersects(leases)
    }

    fn grantable(&self, now: Duration, stamp: Stamp, (ino, leases): Touch) -> Leases {
        if stamp.0 < self.forgotten_at || !self.is_valid(now) {
            return Leases::empty();
        }
        let taken = self.taken.get(&ino).filter(|(at, _)| *at > stamp.0);
        let changing = self.changing.get(&ino).into_iter().flatten();
        let left = leases - taken.map_or(Leases::empty(), |(_, taken)| *taken);
        changing.fold(left, |left, own| left - own.leases)
    }

    fn hold(&mut self, (ino, leases): Touch) {
        if !leases.is_empty() {
            *self.held.entry(ino).or_insert(Leases::empty()) |= leases;
        }
    }

    fn take(&mut self, (ino, leases): Touch) {
        self.clock += 1;
        let (at, taken) = self.taken.entry(ino).or_insert((0, Leases::empty()));
        (*at, *taken) = (self.clock, *taken | leases);
        self.recent.push_back((self.clock, ino));
        if self.recent.len() > RECENT
            && let Some((at, ino)) = self.recent.pop_front()
        {
            self.forgotten_at = self.forgotten_at.max(at);
            if self.taken.get(&ino).is_some_and(|(last, _)| *last == at) {
                self.taken.remove(&ino);
            }
        }
        for changing in self.changing.get_mut(&ino).into_iter().flatten() {
            changing.intact -= leases;
        }
        if let Some(held) = self.held.get_mut(&ino) {
            *held -= leases;
            if held.is_empty() {
                self.held.remove(&ino);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Leases = Leases::ATTRIBUTES;
    const D: Leases = Leases::DIRECTORY;

    fn ino(number: u64) -> InodeNo {
        InodeNo::new(number).expect("not 0")
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn holder() -> Holder {
        let mut holder = Holder::new();
        holder.begin(at(10));
        assert!(!holder.extend(at(0), at(0)));
        holder
    }

    #[test]
    fn an_answer_that_is_older_than_a_recall_is_not_remembered() {
        let mut holder = holder();
        let stamp = holder.stamp();
        holder.recall(ino(1), A);
        assert_eq!(holder.grant(at(0), stamp, ino(1), A | D), D);
        assert_eq!(holder.grant(at(0), stamp, ino(2), A), A);
        assert_eq!(holder.grant(at(0), holder.stamp(), ino(1), A), A);
        assert!(holder.holds(at(0), ino(1), A | D));
    }

    #[test]
    fn only_so_many_recalls_are_remembered_and_older_answers_grant_nothing() {
        let mut holder = holder();
        let [old, mut young] = [holder.stamp(); 2];
        for number in 0..=RECENT as u64 {
            holder.recall(ino(1 + number % 7), A);
            if number == 0 {
                young = holder.stamp();
            }
        }
        assert_eq!(holder.recent.len(), RECENT);
        assert_eq!(holder.taken.len(), 7);
        assert_eq!(holder.grant(at(0), old, ino(100), A), Leases::empty());
        assert_eq!(holder.grant(at(0), young, ino(100), A), A);
    }

    #[test]
    fn a_term_that_was_over_ends_everything() {
        let mut holder = holder();
        let early = holder.stamp();
        assert_eq!(holder.grant(at(0), early, ino(1), A), A);
        assert!(holder.holds(at(8), ino(1), A) && !holder.holds(at(9), ino(1), A));
        assert!(holder.extend(at(9), at(8)));
        assert!(holder.is_valid(at(16)) && !holder.is_holding());
        assert_eq!(holder.grant(at(9), early, ino(1), A), Leases::empty());
    }

    #[test]
    fn without_a_control_stream_nothing_is_granted() {
        let mut holder = holder();
        assert_eq!(holder.grant(at(0), holder.stamp(), ino(1), A), A);
        holder.forget();
        assert!(!holder.extend(at(1), at(1)) && !holder.is_valid(at(1)));
        let early = holder.stamp();
        holder.begin(at(10));
        assert!(!holder.extend(at(1), at(1)) && !holder.holds(at(1), ino(1), A));
        assert_eq!(holder.grant(at(1), early, ino(1), A), Leases::empty());
    }

    #[test]
    fn what_was_taken_and_granted_again_was_not_kept() {
        let mut holder = holder();
        assert_eq!(holder.grant(at(0), holder.stamp(), ino(1), A | D), A | D);
        let stamp = holder.stamp();
        assert!(holder.has_kept(at(0), stamp, ino(1), A));
        holder.recall(ino(1), A);
        assert_eq!(holder.grant(at(0), holder.stamp(), ino(1), A), A);
        assert!(holder.holds(at(0), ino(1), A) && !holder.has_kept(at(0), stamp, ino(1), A));
        assert!(holder.has_kept(at(0), stamp, ino(1), D));
        let own = holder.begin_change(&[(ino(1), D)]);
        assert!(!holder.has_kept(at(0), stamp, ino(1), D));
        let _ended = holder.end_change(at(0), own, Leases::empty(), &[]);
        assert!(!holder.has_kept(at(0), stamp, ino(1), D));
    }

    #[test]
    fn what_is_being_changed_is_neither_used_nor_remembered() {
        let mut holder = holder();
        assert_eq!(holder.grant(at(0), holder.stamp(), ino(1), A | D), A | D);
        let own = holder.begin_change(&[(ino(1), A)]);
        assert!(!holder.holds(at(0), ino(1), A) && holder.holds(at(0), ino(1), D));
        let stamp = holder.stamp();
        assert_eq!(holder.grant(at(0), stamp, ino(1), A), Leases::empty());
        let ended = holder.end_change(at(0), own, Leases::empty(), &[(ino(1), A), (ino(2), A)]);
        assert_eq!((&ended.kept[..], &ended.granted[..]), (&[][..], &[A, A][..]));
        assert!(holder.holds(at(0), ino(1), A | D));
        assert_eq!(holder.grant(at(0), stamp, ino(1), A), Leases::empty(), "it may be older");
    }

    #[test]
    fn names_are_kept_through_a_change_that_nobody_met() {
        let mut holder = holder();
        let parent = [(ino(1), A | D)];
        for met in [false, true] {
            assert_eq!(holder.grant(at(0), holder.stamp(), ino(1), A | D), A | D);
            let own = holder.begin_change(&parent);
            if met {
                holder.recall(ino(1), D);
            }
            let kept = holder.end_change(at(0), own, D, &[]).kept;
            assert_eq!(kept.is_empty(), met);
            assert_eq!(holder.holds(at(0), ino(1), D), !met);
            assert!(!holder.holds(at(0), ino(1), A), "nobody knows what they are now");
        }
    }

    #[test]
    fn of_two_own_changes_at_once_neither_keeps_nor_is_granted_anything() {
        let mut holder = holder();
        assert_eq!(holder.grant(at(0), holder.stamp(), ino(1), D), D);
        let first = holder.begin_change(&[(ino(1), D)]);
        let second = holder.begin_change(&[(ino(1), D)]);
        for own in [first, second] {
            let ended = holder.end_change(at(0), own, D, &[(ino(1), D)]);
            assert_eq!((ended.kept.len(), ended.granted[0]), (0, Leases::empty()));
        }
        assert!(!holder.is_holding() && holder.changing.is_empty());
    }
}
