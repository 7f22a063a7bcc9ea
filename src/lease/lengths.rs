//! `Lengths`: whose kernels must see that a file has become longer.
//!
//! What is loaded through a mapping beyond the end that a kernel knows it refuses (SIGBUS), and asks nobody. So
//! who keeps pages of a file is told when it has become longer, and has its kernel look; who made it longer is
//! not answered before, unless that takes too long. A session is told of one file once at a time; what comes
//! meanwhile it is told together, afterwards.
//!
//! Not here: that it becomes shorter. Its pages are asked back for that, and the next reading of one says so.

use std::collections::BTreeMap;
use std::time::Duration;

use super::RecallId;
use crate::types::{InodeNo, SessionId};

/// Recalls of lengths have numbers of their own.
const FIRST_RECALL: RecallId = 1 << 63;

/// Names a growth; counts up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Growth(u64);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Tell a session of a file, by a recall of this number.
    Tell(SessionId, RecallId, InodeNo),
    /// All have seen it.
    Seen(Growth),
}

/// Who keeps pages of which file.
#[derive(Debug, Default)]
pub struct Lengths {
    patience: Duration,
    files: BTreeMap<InodeNo, BTreeMap<SessionId, Keeper>>,
    asked: BTreeMap<RecallId, (SessionId, InodeNo, Growth)>,
    waiting: BTreeMap<Growth, Wait>,
    last: Growth,
    recalls: u64,
}

/// A session that keeps pages of a file.
#[derive(Debug, Default)]
struct Keeper {
    /// Through so many opens.
    opens: usize,
    /// The last growth that it must see.
    wanted: Growth,
    /// The last that it has seen.
    seen: Growth,
    asked: Option<RecallId>,
}

/// A growth that not all have seen.
#[derive(Debug)]
struct Wait {
    ino: InodeNo,
    by: Option<SessionId>,
    until: Duration,
}

// === impl Lengths ===

impl Lengths {
    /// Nobody keeps anything; a growth is waited for no longer than `patience`.
    pub fn new(patience: Duration) -> Self {
        Self { patience, ..Self::default() }
    }

    /// Whether a recall is one of lengths.
    pub const fn is_recall(recall: RecallId) -> bool {
        recall >= FIRST_RECALL
    }

    /// A session keeps pages through one more open of a file.
    pub fn keep(&mut self, session: SessionId, ino: InodeNo) {
        let last = self.last;
        let new = || Keeper { wanted: last, seen: last, ..Keeper::default() };
        let file = self.files.entry(ino).or_default();
        file.entry(session).or_insert_with(new).opens += 1;
    }

    /// A session has closed an open through which it kept pages.
    pub fn let_go(&mut self, session: SessionId, ino: InodeNo) -> Vec<Told> {
        let Some(file) = self.files.get_mut(&ino) else { return vec![] };
        let Some(keeper) = file.get_mut(&session) else { return vec![] };
        keeper.opens -= 1;
        if keeper.opens > 0 {
            return vec![];
        }
        file.remove(&session);
        if file.is_empty() {
            self.files.remove(&ino);
        }
        self.asked.retain(|_, (asked, of, _)| *asked != session || *of != ino);
        self.settle()
    }

    /// A session is over.
    pub fn end(&mut self, session: SessionId) -> Vec<Told> {
        self.files.retain(|_, keepers| {
            keepers.remove(&session);
            !keepers.is_empty()
        });
        self.asked.retain(|_, (asked, ..)| *asked != session);
        self.settle()
    }

    /// What a session was told over the stream before may be lost: it is told again.
    pub fn attach(&mut self, session: SessionId) -> Vec<Told> {
        let lost: Vec<_> = self.asked.iter().filter(|(_, (asked, ..))| *asked == session).collect();
        let lost: Vec<_> = lost.into_iter().map(|(recall, (_, ino, _))| (*recall, *ino)).collect();
        let mut out = Vec::new();
        for (recall, ino) in lost {
            self.asked.remove(&recall);
            self.tell(session, ino, &mut out);
        }
        out
    }

    /// Whether anybody but `by` keeps pages of a file.
    pub fn concern(&self, ino: InodeNo, by: Option<SessionId>) -> bool {
        let others = |keepers: &BTreeMap<SessionId, Keeper>| {
            keepers.keys().any(|session| Some(*session) != by)
        };
        self.files.get(&ino).is_some_and(others)
    }

    /// Whether nobody keeps anything.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// All files of which somebody keeps pages.
    pub fn files(&self) -> Vec<InodeNo> {
        self.files.keys().copied().collect()
    }

    /// A file has become longer, by a session's doing, whose kernel knows. [`Told::Seen`] follows.
    pub fn grow(
        &mut self,
        now: Duration,
        ino: InodeNo,
        by: Option<SessionId>,
        out: &mut Vec<Told>,
    ) -> Growth {
        self.last.0 += 1;
        let growth = self.last;
        let keepers = self.files.get_mut(&ino).into_iter().flatten();
        let others = keepers.filter(|(session, _)| Some(**session) != by);
        let idle: Vec<_> = others
            .filter_map(|(session, keeper)| {
                keeper.wanted = growth;
                keeper.asked.is_none().then_some(*session)
            })
            .collect();
        for session in idle {
            self.tell(session, ino, out);
        }
        self.waiting.insert(growth, Wait { ino, by, until: now + self.patience });
        out.append(&mut self.settle());
        growth
    }

    /// A session's kernel has looked, as the recall asked for.
    pub fn seen(&mut self, session: SessionId, recall: RecallId) -> Vec<Told> {
        let mut out = Vec::new();
        let Some((asked, ino, growth)) = self.asked.get(&recall).copied() else { return out };
        if asked != session {
            return out;
        }
        self.asked.remove(&recall);
        if let Some(keeper) = self.files.get_mut(&ino).and_then(|file| file.get_mut(&session)) {
            keeper.seen = growth;
            keeper.asked = None;
            if keeper.wanted > growth {
                self.tell(session, ino, &mut out);
            }
        }
        out.append(&mut self.settle());
        out
    }

    /// Time has passed: what has been waited for too long is waited for no more.
    pub fn tick(&mut self, now: Duration) -> Vec<Told> {
        let overdue = |(growth, wait): (&Growth, &Wait)| (wait.until <= now).then_some(*growth);
        let overdue: Vec<_> = self.waiting.iter().filter_map(overdue).collect();
        for growth in &overdue {
            self.waiting.remove(growth);
        }
        overdue.into_iter().map(Told::Seen).collect()
    }

    fn tell(&mut self, session: SessionId, ino: InodeNo, out: &mut Vec<Told>) {
        let Some(keeper) = self.files.get_mut(&ino).and_then(|file| file.get_mut(&session)) else {
            return;
        };
        let recall = FIRST_RECALL + self.recalls;
        self.recalls += 1;
        keeper.asked = Some(recall);
        self.asked.insert(recall, (session, ino, keeper.wanted));
        out.push(Told::Tell(session, recall, ino));
    }

    /// Takes out what all have seen.
    fn settle(&mut self) -> Vec<Told> {
        let files = &self.files;
        let is_seen = |growth: Growth, wait: &Wait| {
            let mut keepers = files.get(&wait.ino).into_iter().flatten();
            keepers.all(|(session, keeper)| Some(*session) == wait.by || keeper.seen >= growth)
        };
        let seen = |(growth, wait): (&Growth, &Wait)| is_seen(*growth, wait).then_some(*growth);
        let seen: Vec<_> = self.waiting.iter().filter_map(seen).collect();
        for growth in &seen {
            self.waiting.remove(growth);
        }
        seen.into_iter().map(Told::Seen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F: InodeNo = InodeNo::FIRST;
    const PATIENCE: Duration = Duration::from_secs(4);

    fn session(number: u64) -> SessionId {
        SessionId::new(number).expect("not 0")
    }

    /// Two sessions keep pages of a file.
    fn kept() -> Lengths {
        let mut lengths = Lengths::new(PATIENCE);
        lengths.keep(session(1), F);
        lengths.keep(session(2), F);
        lengths
    }

    fn grow(lengths: &mut Lengths, by: u64) -> (Growth, Vec<Told>) {
        let mut out = Vec::new();
        let growth = lengths.grow(Duration::ZERO, F, SessionId::new(by), &mut out);
        (growth, out)
    }

    #[test]
    fn all_but_who_did_it_must_see_it() {
        let mut lengths = kept();
        let (growth, told) = grow(&mut lengths, 3);
        let [Told::Tell(first, one, F), Told::Tell(second, two, F)] = told[..] else { panic!() };
        assert_eq!((first, second), (session(1), session(2)));
        assert_eq!(lengths.seen(session(2), one), [], "it was not asked that");
        assert_eq!(lengths.seen(session(1), one), []);
        assert_eq!(lengths.seen(session(2), two), [Told::Seen(growth)]);
        let (growth, told) = grow(&mut lengths, 1);
        let [Told::Tell(_, recall, F)] = told[..] else { panic!("{told:?}") };
        assert_eq!(lengths.seen(session(2), recall), [Told::Seen(growth)]);
    }

    #[test]
    fn what_comes_while_one_looks_is_told_afterwards_and_together() {
        let mut lengths = kept();
        let (first, told) = grow(&mut lengths, 1);
        let [Told::Tell(_, recall, _)] = told[..] else { panic!() };
        let (second, told) = grow(&mut lengths, 1);
        assert_eq!(told, []);
        let (third, _) = grow(&mut lengths, 1);
        let told = lengths.seen(session(2), recall);
        let [Told::Tell(_, again, _), Told::Seen(seen)] = told[..] else { panic!("{told:?}") };
        assert_eq!(seen, first);
        assert_eq!(lengths.seen(session(2), again), [Told::Seen(second), Told::Seen(third)]);
    }

    #[test]
    fn who_lets_go_or_ends_or_takes_too_long_is_not_waited_for() {
        let mut lengths = kept();
        lengths.keep(session(2), F);
        let (growth, _) = grow(&mut lengths, 3);
        assert_eq!(lengths.let_go(session(2), F), [], "it has another open");
        assert_eq!(lengths.let_go(session(2), F), []);
        assert_eq!(lengths.end(session(1)), [Told::Seen(growth)]);
        assert!(lengths.is_empty() && !lengths.concern(F, None));
        let mut lengths = kept();
        let (growth, _) = grow(&mut lengths, 3);
        assert_eq!(lengths.tick(PATIENCE / 2), []);
        assert_eq!(lengths.tick(PATIENCE), [Told::Seen(growth)]);
    }

    #[test]
    fn what_was_lost_with_a_stream_is_told_again() {
        let mut lengths = kept();
        let (growth, told) = grow(&mut lengths, 1);
        let [Told::Tell(_, lost, _)] = told[..] else { panic!() };
        let told = lengths.attach(session(2));
        let [Told::Tell(_, recall, _)] = told[..] else { panic!() };
        assert_eq!(lengths.seen(session(2), lost), []);
        assert_eq!(lengths.seen(session(2), recall), [Told::Seen(growth)]);
    }

    #[test]
    fn who_comes_later_has_seen_it() {
        let mut lengths = Lengths::new(PATIENCE);
        let (growth, told) = grow(&mut lengths, 1);
        assert_eq!(told, [Told::Seen(growth)]);
        lengths.keep(session(2), F);
        assert!(lengths.concern(F, Some(session(1))) && !lengths.concern(F, Some(session(2))));
    }
}
